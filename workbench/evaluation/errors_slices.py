"""Slices of a data set by which errors are told apart: size, labelled keypoints, crowding, category.

Also which annotated points are visible, occluded, or outside the image.

Source of the groups: Ronchi and Perona 2017, section 4; matteorr/coco-analyze@9eb8a0a:analysisAPI/
occlusionAndCrowdingSensitivity.py (groups of labelled keypoints, boxes that overlap by an IoU above .1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.evaluation.ground_truth import GroundTruth

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from workbench.data.pose_set import PoseSet

OVERLAP = 0.1
"""IoU of two annotated boxes above which the instances crowd each other."""

SIZES: Mapping[str, tuple[float, float]] = {
    "small, below 32^2 px": (0.0, 32.0**2),
    "medium, 32^2 to 96^2 px": (32.0**2, 96.0**2),
    "large, above 96^2 px": (96.0**2, np.inf),
}
"""Name -> areas in square pixels, from the first (included) to the second."""

# Shares of the skeleton's keypoints at which the published groups end: 5, 10, 15 and 17 of 17.
_LABELLED = (0.3, 0.6, 0.9, 1.0)

VISIBILITY = ("visible", "occluded", "outside the image")
"""Groups of annotated points, each point in one: outside the image, else by its visibility flag."""


@dataclass(frozen=True, eq=False)
class Slice:
    """Some of the annotated instances.

    Attributes:
        by: what the set is divided by: size, labelled keypoints, crowding or category.
        name: of the part.
        members: which of the G annotations belong to it; ignored ones never do.
    """

    by: str
    name: str
    members: Bool[np.ndarray, " G"]


def slices(truth: GroundTruth) -> tuple[Slice, ...]:
    """All slices that hold an instance; a division into a single part is left out."""
    counted = ~truth.ignored
    parts: list[Slice] = []
    for low_high, name in ((limits, name) for name, limits in SIZES.items()):
        parts.append(Slice("size", name, (truth.area >= low_high[0]) & (truth.area < low_high[1])))
    K = truth.keypoints.shape[1]
    labelled = (truth.keypoints[..., 2] > 0).sum(1)
    low = 1
    for share in _LABELLED:
        high = round(share * K)
        if high >= low:
            name = f"{low} to {high} labelled" if high > low else f"{high} labelled"
            parts.append(Slice("labelled keypoints", name, (labelled >= low) & (labelled <= high)))
        low = high + 1
    overlaps = crowding(truth)
    for name, least, most in (("alone", 0, 0), ("1 or 2 overlap", 1, 2), ("3 or more overlap", 3, np.inf)):
        parts.append(Slice("crowding", name, (overlaps >= least) & (overlaps <= most)))
    for c, name in enumerate(truth.category_names):
        parts.append(Slice("category", name, truth.category == c))
    held = [Slice(p.by, p.name, p.members & counted) for p in parts if (p.members & counted).any()]
    several = {p.by for p in held if sum(other.by == p.by for other in held) > 1}
    return tuple(p for p in held if p.by in several)


def crowding(truth: GroundTruth) -> Int[np.ndarray, " G"]:
    """How many other annotations of the image overlap each one's box by more than OVERLAP (IoU).

    Crowd regions count, as they hold people; an annotation without a box overlaps nobody.
    """
    count: Any = np.zeros(len(truth), int)
    order = np.argsort(truth.image, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(truth.image[order])) + 1) if len(order) else []:
        if len(rows) > 1:
            near: Any = _iou(truth.boxes[rows]) > OVERLAP
            np.fill_diagonal(near, False)
            count[rows] = near.sum(1)
    return count


def _iou(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n n"]:
    """Intersection over union of boxes (x, y, width, height), each with each; 0 where a box is nan."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    sides = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    shared = np.prod(sides.clip(min=0), axis=-1)
    area = boxes[:, 2] * boxes[:, 3]
    union = area[:, None] + area[None] - shared
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(shared / union)


def visibility(truth: GroundTruth, pose_set: PoseSet) -> Int[np.ndarray, "G K"]:
    """The group of VISIBILITY that each annotated point belongs to; -1 where it is not labelled.

    A point is outside where it lies beyond the outermost pixels' edges (x from -.5 to width - .5). Images
    whose size nobody states have no outside.
    """
    sizes = np.array([_size(pose_set, int(number)) for number in truth.image_ids]).reshape(-1, 2)
    v = truth.keypoints[..., 2]
    group: Any = np.where(v >= 2, 0, 1)
    if len(truth):
        group[np.asarray(outside(truth.keypoints[..., :2], sizes[truth.image]))] = 2
    return np.where(v > 0, group, -1)


def outside(points: Float[np.ndarray, "N K 2"], sizes: Float[np.ndarray, "N 2"]) -> Bool[np.ndarray, "N K"]:
    """Which points lie outside images of these sizes (width, height); none where a size is nan."""
    known: Any = np.isfinite(sizes).all(1)
    return known[:, None] & ((points < -0.5) | (points > sizes[:, None] - 0.5)).any(-1)


def image_sizes(truth: GroundTruth, pose_set: PoseSet) -> Float[np.ndarray, "G 2"]:
    """(width, height) of each annotation's image, pixels; nan where nobody states it."""
    sizes = np.array([_size(pose_set, int(number)) for number in truth.image_ids]).reshape(-1, 2)
    return sizes[truth.image]


def _size(pose_set: PoseSet, image_id: int) -> tuple[float, float]:
    record = pose_set.images.get(image_id)
    if record is None or record.width is None or record.height is None:
        return np.nan, np.nan
    return float(record.width), float(record.height)
