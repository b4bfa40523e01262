"""Where does each heatmap peak? The highest cells of their surroundings, above a threshold, the best few.

Source: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py HeatmapParser.nms and top_k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.decoding.grouping.settings import GroupingSettings

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one keypoint, highest value first.

    Attributes:
        points: (x, y), whole cells.
        values: of the heatmap there.
    """

    points: Int[np.ndarray, "M 2"]
    values: Float[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.values)


NONE = Detections(np.zeros((0, 2), int), np.zeros(0, np.float32))
"""A keypoint that was not detected at all."""


def detect(heatmaps: Float[np.ndarray, "K H W"], settings: GroupingSettings) -> tuple[Detections, ...]:
    """The detections of each keypoint; only nms_kernel, top_k and detection_threshold count here.

    The reference suppresses, takes the top k and drops what is at or below the threshold; as the threshold
    is never negative and suppressed cells hold zero, dropping first leaves the same cells.

    Args:
        heatmaps: finite, float32.
        settings: the three.
    """
    import cv2

    kernel = np.ones((settings.nms_kernel, settings.nms_kernel), np.uint8)
    # The reference compares in float64, where the float32 nearest to .1 is above .1.
    below = np.float32(settings.detection_threshold)
    if float(below) > settings.detection_threshold:
        below = np.nextafter(below, np.float32(-np.inf))
    highest = np.empty(heatmaps.shape[1:], np.float32)
    found = []
    for heatmap in heatmaps:
        heatmap = np.ascontiguousarray(heatmap)
        # Outside the map there is nothing: cv2's own border value for dilation is the lowest float.
        cv2.dilate(heatmap, kernel, dst=highest)
        cells = np.flatnonzero((heatmap == highest) & (heatmap > below))
        cells = _highest(cells, heatmap, highest, settings.top_k)
        y, x = np.divmod(cells, heatmap.shape[1])
        found.append(Detections(np.stack([x, y], -1), heatmap.ravel()[cells]))
    return tuple(found)


def _highest(
    cells: Int[np.ndarray, " M"],
    heatmap: Float[np.ndarray, "H W"],
    highest: Float[np.ndarray, "H W"],
    top_k: int,
) -> Int[np.ndarray, " top"]:
    """The top_k cells by value, highest first."""
    values = heatmap.ravel()[cells]
    order = np.argsort(-values, kind="stable")
    ranked = values[order[: top_k + 1]]
    if (ranked[1:] < ranked[:-1]).all():
        return cells[order[:top_k]]
    # Equal values have no order of their own; the reference has the one that torch.topk leaves them in, and
    # the order decides who is first. Perfect maps are full of ones.
    import torch

    suppressed = torch.from_numpy(np.where(heatmap == highest, heatmap, np.float32(0)).ravel())
    chosen = suppressed.topk(min(top_k, heatmap.size)).indices.numpy()
    return chosen[: len(cells)]
