"""Bounding boxes from a detection file, a detector, or the whole image.

Boxes are (x0, y0, x1, y1) in image pixels and are never padded here: padding belongs to the model's crop and
is named in the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.geometry import Box, checked_box
from workbench.core.report import counted
from workbench.data.coco import read_json
from workbench.data.pose_set import PoseSet

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.detectors import Detector


@dataclass(frozen=True)
class FoundBox:
    """One bounding box of an image.

    Attributes:
        image_id: of the set.
        category_id: of the set.
        box: (x0, y0, x1, y1) in image pixels.
        score: confidence of the detector; 1 without a detector.
    """

    image_id: int
    category_id: int
    box: Box
    score: float = 1.0


def box_from_text(text: str) -> Box:
    """A box from text: ``10,20,110,220``.

    Raises:
        ValueError: it is not four numbers, or has no area.
    """
    parts = text.replace(";", ",").split(",")
    try:
        x0, y0, x1, y1 = (float(part) for part in parts)
    except ValueError:
        raise ValueError(f"box: expected x0,y0,x1,y1 in image pixels, got {text!r}") from None
    return checked_box((x0, y0, x1, y1))


def box_in_image(box: Box, image: np.ndarray) -> Box:
    """The box unchanged, if it overlaps the image.

    Raises:
        ValueError: it lies outside the image, where the network would see only padding.
    """
    height, width = image.shape[:2]
    if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
        corners = ", ".join(f"{v:g}" for v in box)
        raise ValueError(
            f"box: expected one that overlaps the image of {width} x {height} pixels, got ({corners})"
        )
    return box


def whole_image(image: np.ndarray) -> Box:
    """The box of the whole image."""
    height, width = image.shape[:2]
    return 0.0, 0.0, float(width), float(height)


def whole_images(pose_set: PoseSet) -> list[FoundBox]:
    """One box around each image of a set.

    Raises:
        ValueError: the set has several categories, or an image of unknown size.
    """
    category = _only_category(pose_set)
    found = []
    for record in pose_set.images.values():
        if record.width is None or record.height is None:
            raise ValueError(
                f"{pose_set.name}: the size of image {record.id} is unknown, and {record.path} is absent;"
                " name the folder of the images with --images"
            )
        found.append(FoundBox(record.id, category, (0.0, 0.0, float(record.width), float(record.height))))
    return found


def boxes_from(word: str | None, pose_set: PoseSet) -> tuple[list[FoundBox] | None, str]:
    """The boxes that a word names, None for the annotations' own; and what a protocol calls them.

    Args:
        word: ``annotation`` (None or "" too), ``whole``, or the path of a COCO detection file.
        pose_set: whose images are cropped.

    Raises:
        FileNotFoundError: no such file.
        ValueError: see `whole_images` and `read_detections`.
    """
    if word in (None, "", "annotation"):
        return None, "annotation"
    if word == "whole":
        return whole_images(pose_set), "whole image"
    return read_detections(word, pose_set), Path(word).name


def read_detections(path: Path | str, pose_set: PoseSet) -> list[FoundBox]:
    """The boxes of a COCO detection file for the images of a set.

    Args:
        path: json list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``.
        pose_set: detections of other images and categories are left out: such files cover whole data sets.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no detection file (the entry is named), or nothing in it belongs to the set.
    """
    path = Path(path)
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(
            f"{path.name}: expected a list of detections, got an object; is it an annotation file?"
        )
    found = []
    for position, entry in enumerate(entries):
        box = _detection(entry, f"{path.name}, detection {position}", pose_set)
        if box.image_id in pose_set.images and box.category_id in pose_set.categories and box.score >= 0:
            found.append(box)
    if not entries:
        raise ValueError(f"{path.name}: expected a list of detections, got an empty one")
    if not found:
        raise ValueError(
            f"{path.name}: none of its {counted(len(entries), 'detection')} is in an image of "
            f"{pose_set.name}, of category {sorted(pose_set.categories)} and of score 0 or more"
        )
    return found


def detect(
    detector: Detector, pose_set: PoseSet, progress: Callable[[int, int], None] | None = None
) -> list[FoundBox]:
    """The boxes that a detector finds in the images of a set.

    Args:
        detector: from workbench.data.detectors.open_detector.
        pose_set: its images; its only category is given to the boxes.
        progress: called with (done, total), first with 0.

    Raises:
        ValueError: the set has several categories, or an image cannot be read.
    """
    number = _only_category(pose_set)
    ids = list(pose_set.images)
    found = []
    for done, image_id in enumerate(ids):
        if progress is not None:
            progress(done, len(ids))
        for box, score in detector(pose_set.image(image_id)):
            found.append(FoundBox(image_id, number, box, score))
    if progress is not None:
        progress(len(ids), len(ids))
    return found


def without_overlaps(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"], overlap: float
) -> list[int]:
    """Indices of the boxes that survive greedy non-maximum suppression, best first.

    A box is dropped when its intersection over union with a better one is above `overlap`.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = np.argsort(-scores, kind="stable")
    chosen: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        chosen.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        common = np.clip(high - low, 0, None).prod(1)
        order = order[common <= overlap * (area[best] + area[order] - common)]
    return chosen


def _only_category(pose_set: PoseSet) -> int:
    if len(pose_set.categories) != 1:
        names = ", ".join(list(pose_set.categories.values())[:4])
        raise ValueError(
            f"{pose_set.name}: boxes need a category, and there are several ({names} ...); name one"
        )
    return next(iter(pose_set.categories))


def _detection(entry: object, where: str, pose_set: PoseSet) -> FoundBox:
    expected = f"{where}: expected image_id, category_id, bbox of 4 numbers and score"
    if not isinstance(entry, dict):
        raise ValueError(f"{expected}, got {type(entry).__name__}")
    absent = [key for key in ("image_id", "category_id", "bbox", "score") if key not in entry]
    if absent:
        raise ValueError(f"{expected}; {', '.join(absent)} is absent")
    try:
        x, y, width, height = (float(v) for v in entry["bbox"])
        score, ids = (
            float(entry["score"]),
            (_id(pose_set.image_number(entry["image_id"])), _id(entry["category_id"])),
        )
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{expected}, got something else among them") from None
    if not np.isfinite(score):
        raise ValueError(f"{where}: expected a finite score, got {score}")
    return FoundBox(*ids, checked_box((x, y, x + width, y + height), f"{where}: bbox"), score)


def _id(value: object) -> int:
    """An integer; int() alone would accept 1.9 and true.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or int(value) != float(value):
        raise ValueError(f"expected a whole number, got {value!r:.40}")
    return int(value)
