"""How long after the slider moved is the new epoch painted, maps included?

A real Chromium opens Compare on the built-in run; the page itself times from the input event to the frame
that drew everything (`window.workbenchTimings`). Every epoch is computed before, and none was shown before:
what is measured is the way from the server's store to the screen. The peer is what a script does instead:
open that epoch's checkpoint and run the sample.

The second row is a folder of predictions, 300 epochs of 5,000 images: every step of the slider is drawn from
what the browser has, and no step may ask the server. What the page fetches ahead when it opens (the chosen
sample and its two neighbours, the interval of AP) belongs to no step: the steps begin when it is there, and
the row names every request that begins after that. Its peer is a question to the files per step.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.row import Row, ratio

TARGET = 300.0  # milliseconds
PATIENCE = 600.0  # seconds for the server to compute all epochs on a slow machine
LIMIT = 60  # samples of the set; the slider's way does not depend on it
EPOCHS, IMAGES, STEPS = 300, 5000, 120  # of the folder of predictions; steps of the slider that are timed
STEP_TARGET = 50.0  # milliseconds, 95 of 100 steps
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def rows() -> list[Row]:
    """The slowest and the median first sight of an epoch."""
    from workbench.checkpoints.demo import demo_checkpoints

    epochs = [int(path.stem.removeprefix("epoch_")) for path in demo_checkpoints()]
    with serving() as address:
        compare = computed(address)
        places = range(len(epochs) - 1)  # the last one is shown when the page opens
        taken = slid(f"{address}?run={compare['run']}&data={compare['data']}", list(places))
    anew = [opened_and_run(place) for place in places]
    worst, middle, peer = max(taken), statistics.median(taken), statistics.median(anew) * 1e3
    return [
        of_predictions(),
        {
            "what": f"slider to a computed epoch not shown before, {len(taken)} epochs, slowest (median)",
            "ours": f"{worst:.0f} ms ({middle:.0f} ms)",
            "peer": f"open_model and run on that sample, median {peer:.0f} ms",
            "ratio": ratio(peer, middle),
            "target": f"< {TARGET:.0f} ms",
            "met": worst < TARGET,
        },
    ]


def of_predictions() -> Row:
    """A step of the slider over 300 epochs of 5,000 images, no checkpoint and no request."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_epochs(Path(folder), EPOCHS, IMAGES)
        with serving(str(folder), "--data", str(data)) as address:
            query = f"run=predictions:epochs&data={data.name}"
            answer = _json(f"{address}workbench/api/compare?{query}", post=True)
            end = time.monotonic() + PATIENCE
            while answer is None or answer["job"] is not None:
                if time.monotonic() > end:
                    raise OSError(f"the figures were not computed within {PATIENCE:.0f} s")
                time.sleep(2)
                answer = _json(
                    f"{address}workbench/api/compare?{query}&known={(answer or {}).get('version', '')}"
                )
            places = [(37 * step) % EPOCHS for step in range(STEPS)]  # far jumps, as a hand drags
            requests: list[str] = []
            taken = sorted(slid(f"{address}?{query}", places, requests))
        peer = statistics.median(one_question(Path(folder) / "epochs", place) for place in places[:10]) * 1e3
    high = taken[int(0.95 * len(taken))]
    middle, load = statistics.median(taken), os.getloadavg()[0]
    return {
        "what": f"a step of the slider, {EPOCHS} epochs of {IMAGES:,} images, {len(taken)} steps, "
        f"{_named(requests)} in them, load {load:.1f}: 95 of 100 steps (median)",
        "ours": f"{high:.0f} ms ({middle:.0f} ms)",
        "peer": f"one image of one epoch's Parquet file by DuckDB, median {peer:.0f} ms",
        "ratio": ratio(peer, middle),
        "target": f"< {STEP_TARGET:.0f} ms, no request",
        "met": high < STEP_TARGET and not requests,
    }


def _named(requests: list[str]) -> str:
    """How many requests, and to which calls: ``3 requests (2 image, 1 compare/track)``."""
    calls = [urllib.parse.urlsplit(url).path.partition("/api/")[2] or url for url in requests]
    counts = ", ".join(f"{calls.count(call)} {call}" for call in dict.fromkeys(calls))
    return f"{len(calls)} requests{f' ({counts})' if counts else ''}"


def write_epochs(folder: Path, epochs: int, images: int) -> Path:
    """A data set of one person an image, and predictions that come nearer; the annotation file.

    All images are one file under many names: the slider's way does not depend on what they show.
    """
    import numpy as np

    from workbench.data.images import write_image
    from workbench.evaluation import Predictions
    from workbench.skeletons import SKELETONS

    skeleton, rng = SKELETONS["coco-17"], np.random.default_rng(0)
    K = len(skeleton.keypoints)
    (folder / "images").mkdir(parents=True)
    first = folder / "images" / "000001.jpg"
    write_image(first, rng.integers(0, 255, (240, 320, 3), np.uint8))
    for number in range(2, images + 1):
        os.link(first, first.with_name(f"{number:06d}.jpg"))
    truth = rng.uniform((60, 40), (260, 200), (images, K, 2)).round(2)
    ids = np.arange(1, images + 1)
    records = {
        "images": [
            {"id": i, "file_name": f"{i:06d}.jpg", "width": 320, "height": 240} for i in ids.tolist()
        ],
        "annotations": [
            {
                "id": i, "image_id": i, "category_id": 1, "bbox": [50, 30, 220, 180], "area": 20000.0,
                "iscrowd": 0, "num_keypoints": K,
                "keypoints": np.concatenate([points, np.full((K, 1), 2)], 1).ravel().tolist(),
            }
            for i, points in zip(ids.tolist(), truth, strict=True)
        ],
        "categories": [
            {"id": 1, "name": "person", "keypoints": list(skeleton.keypoints),
             "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs]}
        ],
    }  # fmt: skip
    data = folder / "people.json"
    data.write_text(json.dumps(records))
    sigmas = 2 * np.asarray(skeleton.sigmas)
    box = np.tile([50.0, 30.0, 270.0, 210.0], (images, 1))
    ease = rng.uniform(0.3, 1.7, (images, 1, 1))
    for epoch in range(1, epochs + 1):
        # Noise on a grid of 1/8 px: files are then written and read as fast as real ones of float32.
        error = (rng.normal(0, 1, truth.shape) * ease * (2 + 60 / epoch**0.5) * 8).round() / 8
        terms = np.exp(-(error**2).sum(2) / (2 * 20000.0 * sigmas**2))
        scores = terms.round(3)
        found = Predictions(ids, np.ones(images, int), box, truth + error, scores, scores.mean(1), ids)
        found.to_parquet(
            folder / "epochs" / f"epoch_{epoch}.parquet", epoch=epoch, oks=terms.mean(1), terms=terms
        )
    return data


def one_question(folder: Path, place: int) -> float:
    """Seconds to ask one epoch's file for one image, as a page without a copy in the browser would."""
    import duckdb

    file = sorted(folder.glob("*.parquet"))[place]
    started = time.perf_counter()
    duckdb.sql(f"SELECT keypoint, x, y, score FROM '{file}' WHERE image_id = 2500").fetchall()
    return time.perf_counter() - started


@contextmanager
def serving(*more: str) -> Iterator[str]:
    """The app in a process of its own with an empty store; its address.

    Args:
        more: words of its command line; without any the built-in checkpoints are served.
    """
    with tempfile.TemporaryDirectory() as cache:
        words = [sys.executable, "-m", "workbench", "app", "--port", "0", "--limit", str(LIMIT), *more]
        environment = {**os.environ, "WORKBENCH_CACHE": cache, "PYTHONUNBUFFERED": "1"}
        server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            assert server.stderr is not None  # asked for above
            for line in server.stderr:
                if "http://" in line:
                    yield "http://" + line.partition("http://")[2].split()[0]
                    return
            raise OSError(f"the app did not start: exit code {server.wait()}")
        finally:
            server.terminate()
            server.wait(20)


def computed(address: str) -> dict[str, Any]:
    """The answer of `compare` for the first run once every epoch is ready."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        run = _json(f"{address}workbench/api/runs")
        if run:
            query = f"run={run[0]['id']}&data={run[0]['data'][0]}"
            answer = _json(f"{address}workbench/api/compare?{query}", post=True)
            if answer and all(epoch["ready"] for epoch in answer.get("epochs", [{"ready": False}])):
                return answer
        time.sleep(1)
    raise OSError(f"the epochs were not computed within {PATIENCE:.0f} s")


def slid(address: str, places: list[int], requests: list[str] | None = None) -> list[float]:
    """Milliseconds until each place of the slider was painted, in that order, each for the first time.

    Args:
        address: of the page.
        places: of the slider.
        requests: the page's requests while it moves are added; the slider is then dragged, and never rests.
    """
    events = ["input", "change"] if requests is None else ["input"]
    from playwright.sync_api import sync_playwright

    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise OSError(f"slider: expected one of {', '.join(BROWSERS)} on the path, found none")
    taken = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        going: list[str] = []
        page.on(
            "request", lambda request: going.append(request.url) if "/workbench/api/" in request.url else None
        )
        for over in ("requestfinished", "requestfailed"):
            page.on(over, lambda request: going.remove(request.url) if request.url in going else None)
        page.goto(address)
        page.get_by_test_id("sample").first.wait_for(timeout=120_000)
        page.get_by_test_id("job").wait_for(state="hidden", timeout=120_000)
        page.wait_for_function("!document.querySelector('.cmp-pane.loading')")
        quiet, end = 0, time.monotonic() + PATIENCE
        # What is fetched ahead is there, and no job is asked for any more: the page looks every 2.5 s.
        while quiet < 7:
            page.wait_for_timeout(500)
            quiet = 0 if going else quiet + 1
            if time.monotonic() > end:
                raise OSError(f"slider: still asking after {PATIENCE:.0f} s: {', '.join(going)}")
        slider = page.get_by_test_id("epoch-slider")
        if requests is not None:
            page.on("request", lambda request: requests.append(request.url))
        for place in places:
            before = page.evaluate("window.workbenchTimings.length")
            slider.evaluate(
                "(e, [v, names]) => { e.value = v; names.forEach(n => e.dispatchEvent(new Event(n))); }",
                [place, events],
            )
            page.wait_for_function(
                "n => window.workbenchTimings.slice(n).some(t => t.what === 'epoch')", arg=before
            )
            timings = page.evaluate("n => window.workbenchTimings.slice(n)", before)
            taken += [t["ms"] for t in timings if t["what"] == "epoch"][:1]
        browser.close()
    return taken


def opened_and_run(place: int) -> float:
    """Seconds to open one epoch and run one sample; imports and drawing are done before."""
    from workbench.checkpoints.demo import demo_checkpoints, demo_data
    from workbench.core.run import run
    from workbench.data import builtin
    from workbench.models import mmpose_compat, open_model

    mmpose_compat.install()
    scenes = builtin(demo_data())
    sample = scenes.sample(scenes.labelled[0])
    started = time.perf_counter()
    run(open_model(demo_checkpoints()[place]).model, [sample])
    return time.perf_counter() - started


def _json(address: str, post: bool = False) -> Any:
    try:
        request = urllib.request.Request(address, method="POST" if post else "GET")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())
    except (urllib.error.URLError, ConnectionError):
        return None
