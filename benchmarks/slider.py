"""How long after the slider moved is the new epoch painted, maps included?

A real Chromium opens Compare on the built-in run; the page itself times from the input event to the frame
that drew everything (`window.workbenchTimings`). Every epoch is computed before, and none was shown before:
what is measured is the way from the server's store to the screen. The peer is what a script does instead:
open that epoch's checkpoint and run the sample.
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
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.row import Row, ratio

TARGET = 300.0  # milliseconds
PATIENCE = 600.0  # seconds for the server to compute all epochs on a slow machine
LIMIT = 60  # samples of the set; the slider's way does not depend on it
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
        {
            "what": f"slider to a computed epoch not shown before, {len(taken)} epochs, slowest (median)",
            "ours": f"{worst:.0f} ms ({middle:.0f} ms)",
            "peer": f"open_model and run on that sample, median {peer:.0f} ms",
            "ratio": ratio(peer, middle),
            "target": f"< {TARGET:.0f} ms",
            "met": worst < TARGET,
        }
    ]


@contextmanager
def serving() -> Iterator[str]:
    """The app on the built-in checkpoints, in a process of its own with an empty store; its address."""
    with tempfile.TemporaryDirectory() as cache:
        words = [sys.executable, "-m", "workbench", "app", "--port", "0", "--limit", str(LIMIT)]
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


def slid(address: str, places: list[int]) -> list[float]:
    """Milliseconds until each place of the slider was painted, in that order, each for the first time."""
    from playwright.sync_api import sync_playwright

    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise OSError(f"slider: expected one of {', '.join(BROWSERS)} on the path, found none")
    taken = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        page.get_by_test_id("sample").first.wait_for(timeout=120_000)
        page.get_by_test_id("job").wait_for(state="hidden", timeout=120_000)
        page.wait_for_function("!document.querySelector('.cmp-pane.loading')")
        page.wait_for_timeout(1500)
        slider = page.get_by_test_id("epoch-slider")
        for place in places:
            before = page.evaluate("window.workbenchTimings.length")
            slider.evaluate(
                "(e, v) => { e.value = v; ['input', 'change'].forEach(n => e.dispatchEvent(new Event(n))); }",
                place,
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
