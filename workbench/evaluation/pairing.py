"""Which pose belongs to which annotation, where OKS cannot say it? And how large is its head?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from workbench.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from workbench.data.pose_set import Instance, PoseSet

# Head sizes of MPII: this part of the diagonal of the head's box. Source: mpii_human_pose evalMPII, SC_BIAS.
_HEAD_BOX_PART = 0.6


def partners(
    chosen: Sequence[Instance], truth: Float[np.ndarray, "N K 3"], predictions: Predictions
) -> Int[np.ndarray, " N"]:
    """For each instance the row of its pose, -1 where there is none.

    Poses made from annotated boxes belong to them. Others are given to the instances of their image and
    category one to one, so that the sum of mean distances is least.
    """
    rows = np.full(len(chosen), -1)
    if predictions.annotation_id is not None:
        by_id = {int(number): row for row, number in enumerate(predictions.annotation_id)}
        return np.array([by_id.get(a.annotation_id, -1) for a in chosen], int)
    from scipy.optimize import linear_sum_assignment

    poses, instances = defaultdict(list), defaultdict(list)
    places = zip(predictions.image_id.tolist(), predictions.category_id.tolist(), strict=True)
    for row, place in enumerate(places):
        poses[place].append(row)
    for i, a in enumerate(chosen):
        instances[a.image_id, a.category_id].append(i)
    for place, here in instances.items():
        found = poses.get(place)
        if not found:
            continue
        off = predictions.keypoints[found][None] - truth[here][:, None, :, :2]
        with np.errstate(over="ignore"):
            away = np.linalg.norm(off, axis=-1)
        seen = (truth[here][..., 2] > 0)[:, None]
        # A keypoint that was not given is no reason to prefer another pose: it is left out of the mean.
        given = seen & np.isfinite(away)
        cost = np.where(given, away, 0).sum(-1) / np.maximum(given.sum(-1), 1)
        cost = np.where(given.any(-1), cost, 1e9)
        for i, j in zip(*linear_sum_assignment(np.minimum(cost, 1e9)), strict=True):
            rows[here[i]] = found[j]
    return rows


def head_sizes(pose_set: PoseSet, chosen: Sequence[Instance]) -> Float[np.ndarray, " N"]:
    """As annotated; nan where an annotation does not say."""
    entries = {
        e["id"]: head_size(e)
        for e in pose_set.raw.get("annotations", ())
        if isinstance(e, Mapping) and isinstance(e.get("id"), (int, float))
    }
    return np.array([entries.get(a.annotation_id, np.nan) for a in chosen], float)


def head_size(entry: Mapping[str, Any]) -> float:
    """As annotated: ``head_size``, or .6 of the diagonal of ``head_box`` (x0, y0, x1, y1)."""
    size, box = entry.get("head_size"), entry.get("head_box", entry.get("headbox"))
    if is_length(size):
        return float(size)
    if isinstance(box, list) and len(box) == 4 and all(map(is_length, box)):
        return _HEAD_BOX_PART * math.hypot(box[2] - box[0], box[3] - box[1])
    return math.nan


def is_length(value: Any) -> TypeGuard[float]:
    """A number of pixels: finite, and below anything that an image holds."""
    return type(value) in (int, float) and abs(value) < 1e9
