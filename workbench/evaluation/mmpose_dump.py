"""The file of mmpose's ``tools/test.py --dump results.pkl`` as predictions; nothing in it is executed.

It is a pickle of a list with one dict for each data sample: ``pred_instances`` with keypoints,
keypoint_scores, bboxes and bbox_scores as numpy arrays, and the sample's ``img_id`` and ``category_id``.
Poses are scored as mmpose's CocoMetric does: box score times the mean of the keypoint scores above .2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.checkpoints.budget import Budget, Limits
from workbench.checkpoints.pickled_objects import Array
from workbench.checkpoints.torch_files import read_bare_pickle
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import DEFAULT, pose_scores

# A dump of 100,000 detections holds some six million values.
_LIMITS = Limits(opcodes=200_000_000, objects=20_000_000, text=1 << 30)
_BUDGET = {"steps": 200_000_000, "objects": 20_000_000, "nbytes": 2 << 30}


def is_dump(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.suffix.lower() in (".pkl", ".pickle")


def read_dump(path: Path) -> Predictions:
    """The poses of a dump, in its order.

    Raises:
        ValueError: it is no pickle, no such list, or a sample lacks what is needed.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such result file")
    samples = read_bare_pickle(path, _LIMITS, Budget(path.name, "result dump", **_BUDGET)).value
    if not isinstance(samples, list) or not samples:
        raise ValueError(
            f"{path.name}: expected a list of data samples as `tools/test.py --dump` writes it, got "
            f"{type(samples).__name__}"
        )
    parts = [_sample(path, number, sample) for number, sample in enumerate(samples)]
    K = {part[2].shape[1] for part in parts}
    if len(K) > 1:
        raise ValueError(
            f"{path.name}: samples with {' and '.join(map(str, sorted(K)))} keypoints in one file"
        )
    images, categories, points, scores, boxes, box_scores = (
        np.concatenate(c) for c in zip(*parts, strict=True)
    )
    scored = pose_scores(DEFAULT, scores, box_scores)
    return Predictions(images, categories, boxes, points, scores, scored)


def _sample(path: Path, number: int, sample: Any) -> tuple[np.ndarray, ...]:
    """Image, category, keypoints, scores, boxes and box scores of one sample's poses."""
    where = f"{path.name}, sample {number}"
    if not isinstance(sample, Mapping) or not isinstance(sample.get("pred_instances"), Mapping):
        raise ValueError(f"{where}: expected a dict with pred_instances")
    found = sample["pred_instances"]
    points = _array(found, "keypoints", where)
    if points.ndim != 3 or points.shape[2] < 2:
        raise ValueError(f"{where}: expected keypoints of shape [n, K, 2], got {list(points.shape)}")
    n, K = points.shape[:2]
    scores = _array(found, "keypoint_scores", where, (n, K))
    boxes = _array(found, "bboxes", where, (n, 4)) if "bboxes" in found else np.full((n, 4), np.nan)
    rated = _array(found, "bbox_scores", where, (n,)) if "bbox_scores" in found else np.ones(n)
    image, category = _whole(sample, "img_id", where), sample.get("category_id", 1)
    category = category[0] if isinstance(category, list) and category else category
    ids = np.full(n, image, np.int64), np.full(n, _number(category, f"{where}: category_id"), np.int64)
    return (*ids, points[..., :2], scores, boxes, rated)


def _array(
    found: Mapping[str, Any], name: str, where: str, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    value = found.get(name)
    if not isinstance(value, Array):
        raise ValueError(f"{where}: expected {name} as a numpy array")
    array = value.array()
    if array.dtype.kind not in "fiu" or (shape is not None and array.size != int(np.prod(shape))):
        raise ValueError(f"{where}: expected numbers in {name}, {shape} of them, got {list(array.shape)}")
    return np.asarray(array, float).reshape(shape or array.shape)


def _whole(sample: Mapping[str, Any], name: str, where: str) -> int:
    return _number(sample.get(name), f"{where}: {name}")


def _number(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 62:
        raise ValueError(f"{where}: expected a whole number, got {str(value)[:40]}")
    return value
