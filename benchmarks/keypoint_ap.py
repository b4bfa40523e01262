"""How much processor time do the ten COCO figures of 60,000 detections take, beside pycocotools?

Both start from the same parsed json, both in this process, one after the other; figures must be equal.
"""

from __future__ import annotations

import contextlib
import copy
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.row import Row, ratio

IMAGES, DETECTIONS = 5000, 60_000
TARGET = 20.0
RUNS = 3  # ours is short, so the best of a few is taken; the peer runs once


def drawn(categories: int, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations and detections: 1 to 8 people an image, every detection near one of them, some far off."""
    rng = np.random.default_rng(seed)
    people, found = [], []
    counts = rng.geometric(0.4, IMAGES).clip(max=8)
    shares = rng.multinomial(DETECTIONS, counts / counts.sum())
    for image, (count, share) in enumerate(zip(counts.tolist(), shares.tolist(), strict=True), 1):
        # Sides of 30 to 300 px, so that both area ranges are filled.
        size, corner = rng.uniform(30, 300, (count, 1, 2)), rng.uniform(0, 340, (count, 1, 2))
        points = corner + rng.random((count, 17, 2)) * size
        visible = (rng.random((count, 17)) < 0.7) * 2 * (rng.random((count, 1)) < 0.9)
        kinds = rng.integers(1, categories + 1, count)
        for n in range(count):
            triplets = np.concatenate([points[n], visible[n, :, None]], 1).round(2) * (
                visible[n, :, None] > 0
            )
            people.append(
                {
                    "id": len(people) + 1,
                    "image_id": image,
                    "category_id": int(kinds[n]),
                    "keypoints": triplets.ravel().tolist(),
                    "num_keypoints": int((visible[n] > 0).sum()),
                    "bbox": [*corner[n, 0].tolist(), *size[n, 0].tolist()],
                    "area": float(size[n].prod() * 0.6),
                    "iscrowd": int(rng.random() < 0.01),
                }
            )
        near = rng.integers(0, count, share)
        spread = rng.choice([0.01, 0.03, 0.1, 0.4], share)[:, None, None] * size[near]
        guessed = points[near] + rng.normal(0, 1, (share, 17, 2)) * spread
        scores = rng.random(share).round(4)
        for n in range(share):
            triplets = np.concatenate([guessed[n].round(2), np.ones((17, 1))], 1)
            found.append(
                {
                    "image_id": image,
                    "category_id": int(kinds[near[n]]),
                    "keypoints": triplets.ravel().tolist(),
                    "score": float(scores[n]),
                }
            )
    sets = [{"id": c, "name": f"kind {c}"} for c in range(1, categories + 1)]
    return {
        "images": [{"id": i + 1} for i in range(IMAGES)],
        "annotations": people,
        "categories": sets,
    }, found


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time of all threads, and the result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def peer(data: dict[str, Any], results: list[dict[str, Any]]) -> tuple[float, float, np.ndarray]:
    """pycocotools: seconds of loadRes, seconds of evaluate and accumulate, the ten figures."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = copy.deepcopy(results)  # loadRes writes into them
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(data)
        truth.createIndex()
        reading, found = seconds(lambda: truth.loadRes(results))
        judge = COCOeval(truth, found, "keypoints")
        judging, _ = seconds(lambda: (judge.evaluate(), judge.accumulate()))
        judge.summarize()
    return reading, judging, judge.stats


def ours(data: dict[str, Any], results: list[dict[str, Any]]) -> tuple[float, float, np.ndarray]:
    """The workbench: the same three, the best of a few runs."""
    from pycocotools.cocoeval import Params

    from workbench.evaluation import Detections, GroundTruth, keypoint_ap

    truth, sigmas = GroundTruth.from_coco(data), Params("keypoints").kpt_oks_sigmas
    reading, judging = [], []
    for _ in range(RUNS):
        took, found = seconds(lambda: Detections.from_coco(results))
        reading.append(took)
        took, result = seconds(lambda found=found: keypoint_ap(truth, found, sigmas))
        judging.append(took)
    return min(reading), min(judging), result.stats


def rows() -> list[Row]:
    """Evaluating alone, and reading the results too; one category, and 54 as AP-10K has."""
    table: list[Row] = []
    for categories in (1, 54):
        data, results = drawn(categories)
        read, judged, stats = ours(data, results)
        peer_read, peer_judged, peer_stats = peer(data, results)
        difference = float(np.abs(stats - peer_stats).max())
        for what, mine, theirs in (
            ("evaluate and accumulate", judged, peer_judged),
            ("the same, and reading the parsed results", read + judged, peer_read + peer_judged),
        ):
            table.append(
                {
                    "what": f"COCO keypoint figures, {what}: {IMAGES:,} images, {DETECTIONS:,} detections, "
                    f"{categories} categories, processor time; largest difference {difference:g}",
                    "ours": f"{mine:.3f} s",
                    "peer": f"pycocotools {theirs:.2f} s",
                    "ratio": ratio(theirs, mine),
                    "target": f">= {TARGET:g}x, difference 0",
                    "met": theirs >= TARGET * mine and difference == 0,
                }
            )
    return table


if __name__ == "__main__":
    from benchmarks.run import as_line

    print("| benchmark | what | ours | peer | ratio | target | met |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for line in rows():
        print(as_line("keypoint_ap", line))
