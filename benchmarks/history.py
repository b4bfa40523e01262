"""What do questions to 300 epochs of 5,000 images cost: AP of all, one image, the worst, what got worse?

The predictions are drawn: poses around drawn annotations, nearer to them from epoch to epoch; 6,352 labelled
people, as COCO val2017 has. pycocotools judges a few of the epochs in the same run, and its time for all is
extrapolated. Questions are asked of a folder that is open; each figure is the median of many.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import keypoint_ap
from benchmarks.row import Row, ratio

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import GroundTruth, History, Predictions

EPOCHS, PEOPLE = 300, 6352
PEER_EPOCHS = 2
ASKED = 21
TARGET_AP, TARGET_IMAGE, TARGET_WORST, TARGET_WORSE = 120.0, 0.050, 0.020, 0.050


def rows() -> list[Row]:
    """AP of all epochs, the copy sorted by image, and three questions."""
    with tempfile.TemporaryDirectory(prefix="workbench-history-") as folder:
        return _measured(Path(folder), EPOCHS)


def _measured(folder: Path, epochs: int) -> list[Row]:
    from workbench.evaluation import query_epochs

    data, pose_set, writing, bytes_of_files = made(folder, epochs)
    run = folder / "predictions"
    opening, history = _timed(lambda: query_epochs(run))
    seconds, processor = _judged(history, pose_set)
    peer, difference = _peer(history, data)
    size = f"{epochs} epochs, {len(pose_set.images):,} images, {len(pose_set.labelled):,} poses each (drawn)"
    table: list[Row] = [
        {
            "what": f"AP of {size}, read, judged and kept by two processes; largest difference from "
            f"pycocotools in {PEER_EPOCHS} epochs {difference:g}",
            "ours": f"{seconds:.1f} s ({processor:.1f} s of processor)",
            "peer": f"pycocotools {peer * epochs:.0f} s of processor ({PEER_EPOCHS} epochs measured)",
            "ratio": ratio(peer * epochs, processor),
            "target": f"< {TARGET_AP:g} s, difference 0",
            "met": seconds < TARGET_AP and difference == 0,
        }
    ]
    rng = np.random.default_rng(1)
    images = rng.choice(sorted({i.image_id for i in pose_set.instances}), ASKED).tolist()
    pairs = [sorted(rng.choice(list(history.files), 2, replace=False).tolist()) for _ in range(ASKED)]
    without, _ = _timed(lambda: history.poses_of_image(images[0]))
    indexing, index = _timed(history.index_images)
    assert index is not None
    first, _ = _timed(lambda: query_epochs(run).poses_of_image(images[0]))
    image = _median([lambda n=n: history.poses_of_image(n) for n in images])
    as_rows = _median([lambda n=n: history.image(n) for n in images])
    fresh = _timed(lambda: query_epochs(run).worst(pairs[0][0], 50))[0]
    worst = _median([lambda a=a: history.worst(a, 50) for a, _ in pairs])
    worse = _median([lambda a=a, b=b: history.regressions(a, b, 50) for a, b in pairs])
    lost = _median([lambda a=a, b=b: (history.gained(a, b), history.lost(a, b)) for a, b in pairs])
    table += [
        _question(
            f"one image over {size}, as arrays; as rows {_ms(as_rows)}, first question with opening the "
            f"folder {_ms(first)}",
            image, f"DuckDB, the {epochs} files {_ms(without)}", ratio(without, image), TARGET_IMAGE,
        ),
        _question(
            f"worst 50 instances of an epoch; first question with opening the folder {_ms(fresh)}",
            worst, "-", "-", TARGET_WORST,
        ),
        _question(
            f"50 keypoints that got worse between two epochs; all instances gained and lost {_ms(lost)}",
            worse, "-", "-", TARGET_WORSE,
        ),
        {
            "what": f"disk and memory of {size}: written in {writing:.0f} s, sorted by image in "
            f"{indexing:.0f} s, opened in {_ms(opening)}",
            "ours": f"{bytes_of_files / 1e6:.0f} MB, index {_bytes(run / 'index') / 1e6:.0f} MB; peak memory "
            f"{_peak():.0f} MB",
            "peer": f"as COCO result files {_bytes_as_json(history) / 1e6:.0f} MB (one epoch measured)",
            "ratio": ratio(_bytes_as_json(history), bytes_of_files),
            "target": "-",
            "met": None,
        },
    ]  # fmt: skip
    return table


def made(folder: Path, epochs: int) -> tuple[dict[str, Any], PoseSet, float, int]:
    """Draw the set and write the predictions of each epoch.

    Returns:
        the annotations as json, as a data set, seconds of processor for the files, and their bytes.
    """
    from workbench.data.opening import open_data
    from workbench.evaluation import truth_of

    data = drawn()
    annotations = folder / "people.json"
    annotations.write_text(json.dumps(data))
    pose_set = open_data(annotations)
    truth = truth_of(pose_set)
    started = time.process_time()
    for epoch in range(1, epochs + 1):
        found, oks, terms = predicted(pose_set, truth, epoch)
        path = folder / "predictions" / f"epoch_{epoch:03d}.parquet"
        found.to_parquet(path, epoch=epoch, oks=oks, terms=terms)
    return data, pose_set, time.process_time() - started, _bytes(folder / "predictions")


def drawn() -> dict[str, Any]:
    """The annotations of benchmarks.keypoint_ap, cut after the labelled person of that number."""
    data, _ = keypoint_ap.drawn(1)
    labelled = np.array([a["num_keypoints"] > 0 and not a["iscrowd"] for a in data["annotations"]])
    last = int(np.flatnonzero(labelled)[PEOPLE - 1])
    images = [{**i, "file_name": f"{i['id']}.jpg", "width": 640, "height": 640} for i in data["images"]]
    names = [f"point {k}" for k in range(17)]
    categories = [{**kind, "keypoints": names, "skeleton": []} for kind in data["categories"]]
    return {"images": images, "annotations": data["annotations"][: last + 1], "categories": categories}


def predicted(
    pose_set: PoseSet, truth: GroundTruth, epoch: int
) -> tuple[Predictions, np.ndarray, np.ndarray]:
    """The poses of one epoch, their OKS and its terms."""
    from workbench.evaluation import Predictions
    from workbench.evaluation.evaluate import own_annotations
    from workbench.evaluation.oks import keypoint_terms, paired_oks

    rng = np.random.default_rng(epoch)
    own = [pose_set.instances[i] for i in pose_set.labelled]
    points = np.array([one.truth[:, :2] for one in own])
    side = np.sqrt([one.area for one in own])[:, None, None]
    # Errors fall with the epochs, and are not the same for all: some people are hard.
    spread = (0.02 + 0.2 * np.exp(-epoch / 60)) * rng.gamma(2.0, 0.5, (len(own), 1, 1))
    found = Predictions(
        np.array([one.image_id for one in own]), np.array([one.category_id for one in own]),
        np.array([one.box for one in own], float), points + rng.normal(0, 1, points.shape) * spread * side,
        rng.random(points.shape[:2], np.float32).astype(float), rng.random(len(own)),
        np.array([one.annotation_id for one in own]),
    )  # fmt: skip
    rows, target = own_annotations(found, truth)
    pairs = (found.keypoints[rows], truth.keypoints[target], truth.area[target], _sigmas())
    return found, paired_oks(*pairs), keypoint_terms(*pairs)


def _judged(history: History, pose_set: PoseSet) -> tuple[float, float]:
    """Seconds, and seconds of processor of all processes."""

    def used() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    before = used()
    seconds, _ = _timed(lambda: history.score(pose_set, sigmas=_sigmas().tolist(), workers=2))
    return seconds, used() - before


def _peer(history: History, data: dict[str, Any]) -> tuple[float, float]:
    """pycocotools: seconds of processor for an epoch, and the largest difference of a figure."""
    from workbench.evaluation import Predictions
    from workbench.evaluation.keypoint_ap import FIGURES

    seconds, differences = [], []
    for row in history.epochs()[:: max(len(history.files) // PEER_EPOCHS, 1)][:PEER_EPOCHS]:
        results = Predictions.from_parquet(history.files[row["epoch"]])[0].to_coco()
        reading, judging, stats = keypoint_ap.peer(data, results)
        seconds.append(reading + judging)
        differences.append(np.abs(np.array([row[name] for name in FIGURES]) - stats).max())
    return float(np.mean(seconds)), float(max(differences))


def _sigmas() -> np.ndarray:
    from pycocotools.cocoeval import Params

    return Params("keypoints").kpt_oks_sigmas


def _question(what: str, seconds: float, peer: str, faster: str, target: float) -> Row:
    return {
        "what": what, "ours": _ms(seconds), "peer": peer, "ratio": faster,
        "target": f"< {_ms(target)}", "met": seconds < target,
    }  # fmt: skip


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def _median(questions: list[Callable[[], Any]]) -> float:
    return statistics.median(_timed(question)[0] for question in questions)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _bytes_as_json(history: History) -> float:
    from workbench.evaluation import Predictions

    path = next(iter(history.files.values()))
    return len(json.dumps(Predictions.from_parquet(path)[0].to_coco())) * len(history.files)


def _peak() -> float:
    """Megabytes: of this process, or of a worker if one needed more."""
    most = max(resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    from benchmarks.run import as_line

    for line in rows():
        print(as_line("history", line))
