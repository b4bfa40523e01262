"""PCK: the share of keypoints that lie nearer to their annotation than a threshold times a length.

Every PCK of the workbench counts with these functions: the evaluation's (mmpose's rules), MP-100's, that of a
training run and that of a model's own log. They differ in the length and in what the mean is taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

Missing = Literal["wrong", "left out"]
"""What a labelled keypoint counts as that was not predicted; scripts of projects often leave it out."""
BoxLength = Literal["longer side", "diagonal", "root of area"]
BOX_LENGTHS: tuple[BoxLength, ...] = ("longer side", "diagonal", "root of area")
"""MP-100's (and mmpose's) first; the others are what published code measures by."""


def box_lengths(
    boxes: Float[np.ndarray, "N 4"] | Sequence[Sequence[float]], length: BoxLength = "longer side"
) -> Float[np.ndarray, " N"]:
    """The length of each box that a PCK threshold multiplies, pixels.

    Args:
        boxes: (x0, y0, x1, y1).
        length: one of BOX_LENGTHS.
    """
    corners = np.asarray(boxes, float).reshape(-1, 4)
    width, height = (corners[:, 2:] - corners[:, :2]).T
    if length == "diagonal":
        return np.hypot(width, height)
    return np.sqrt(width * height) if length == "root of area" else np.maximum(width, height)


def distances(
    keypoints: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    lengths: Float[np.ndarray, " N"] | None = None,
    missing: Missing = "wrong",
) -> Float[np.ndarray, "N K"]:
    """Distance of each keypoint from its annotation, in pixels or as a part of a length of its instance.

    Args:
        keypoints: predicted (x, y), pixels; nan where the model gave none.
        truth: (x, y, visibility) in the same pixels; visibility 0 is not labelled.
        lengths: of each instance, pixels; None for distances in pixels.
        missing: what a keypoint counts as that is labelled and was not predicted.

    Returns:
        nan where nothing is labelled or the length is unknown; where nothing was predicted inf, or nan if
        that is left out.
    """
    scale = np.ones(len(truth)) if lengths is None else np.asarray(lengths, float)
    # Divided before the root, as mmpose does: the last bit decides at a threshold.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # an infinite distance is meant
        found = np.linalg.norm((keypoints - truth[..., :2]) / scale[:, None, None], axis=-1)
    found = np.where(np.isnan(keypoints).any(-1), np.inf if missing == "wrong" else np.nan, found)
    return np.where((truth[..., 2] > 0) & (scale > 0)[:, None], found, np.nan)


def pck_by_keypoint(found: Float[np.ndarray, "N K"], threshold: float) -> Float[np.ndarray, " K"]:
    """Share of each keypoint's labelled occurrences that lie nearer than the threshold; nan where none is.

    Args:
        found: distances, nan where they do not count.
        threshold: in the unit of the distances; strictly nearer is right.
    """
    return _share(found, threshold, axis=0)


def pck_by_image(found: Float[np.ndarray, "N K"], threshold: float) -> Float[np.ndarray, " N"]:
    """Share of each image's labelled keypoints that are right; nan where none is labelled.

    Args:
        found: distances, nan where they do not count.
        threshold: in the unit of the distances; strictly nearer is right.
    """
    return _share(found, threshold, axis=1)


def pooled_pck(found: Float[np.ndarray, "N K"], threshold: float) -> float:
    """Share of all labelled keypoints, whichever they are; nan when none is.

    Args:
        found: distances, nan where they do not count.
        threshold: in the unit of the distances; strictly nearer is right.
    """
    return float(_share(found.ravel(), threshold, axis=0))


def _share(found: Float[np.ndarray, "..."], threshold: float, axis: int) -> Float[np.ndarray, "..."]:
    counted = (~np.isnan(found)).sum(axis)
    # In the precision of the distances: mmpose compares float32 with float32.
    right = (found < found.dtype.type(threshold)).sum(axis)
    return np.divide(right, counted, out=np.full(np.shape(right), np.nan), where=counted > 0)
