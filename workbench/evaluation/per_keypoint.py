"""Which keypoint is wrong, and by how much? Poses beside their annotations, one row for each keypoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.evaluation.oks import keypoint_terms

if TYPE_CHECKING:
    from jaxtyping import Float

Normaliser = Literal["longest side", "diagonal", "root of area"]


@dataclass(frozen=True)
class PCK:
    """When is a keypoint right? When it lies nearer than `threshold` times a length.

    Attributes:
        threshold: strictly below it is right. .05 is mmpose's default, MP-100 has .2.
        normaliser: the length: the box's longest side (mmpose's ``bbox``, MP-100), its diagonal, or the
            root of the object's area.
    """

    threshold: float = 0.05
    normaliser: Normaliser = "longest side"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < np.inf:
            raise ValueError(f"pck: expected a threshold above 0, such as 0.05, got {self.threshold:g}")

    def __str__(self) -> str:
        return f"PCK@{self.threshold:g} of the {self.normaliser}"

    def lengths(
        self, boxes: Float[np.ndarray, "N 4"], area: Float[np.ndarray, " N"]
    ) -> Float[np.ndarray, " N"]:
        """Pixels that the threshold multiplies, for boxes (x, y, width, height)."""
        if self.normaliser == "root of area":
            return np.sqrt(area)
        if self.normaliser == "diagonal":
            return np.hypot(boxes[:, 2], boxes[:, 3])
        return boxes[:, 2:].max(1, initial=-np.inf)


def per_keypoint(
    keypoints: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    area: Float[np.ndarray, " N"],
    boxes: Float[np.ndarray, "N 4"],
    sigmas: Float[np.ndarray, " K"],
    names: tuple[str, ...],
    pck: PCK,
) -> list[dict[str, Any]]:
    """One row for each keypoint, over the poses in which it is labelled.

    Args:
        keypoints: predicted (x, y) in image pixels, nan where the model gave none.
        truth: (x, y, visibility) of the same instances.
        area: of the instances, square pixels.
        boxes: of the instances, (x, y, width, height).
        sigmas: OKS constants.
        names: of the keypoints.
        pck: when a keypoint is right.

    Returns:
        keypoint; labelled: in how many poses; oks: mean of its part, 0 to 1; pck: share that is right;
        error_px: median distance in image pixels, of those that were predicted. nan where none is labelled.
    """
    labelled = truth[..., 2] > 0
    distance = np.linalg.norm(keypoints - truth[..., :2], axis=2)
    terms = keypoint_terms(keypoints, truth, area, sigmas)
    # A keypoint that was not predicted is nan, thus not below any length: wrong.
    right = distance < pck.threshold * pck.lengths(boxes, area)[:, None]
    rows = []
    for k, name in enumerate(names):
        seen = labelled[:, k]
        given = distance[seen & np.isfinite(distance[:, k]), k]
        rows.append(
            {
                "keypoint": name,
                "labelled": int(seen.sum()),
                "oks": float(terms[seen, k].mean()) if seen.any() else np.nan,
                "pck": float(right[seen, k].mean()) if seen.any() else np.nan,
                "error_px": float(np.median(given)) if len(given) else np.nan,
            }
        )
    return rows
