"""Where within its cell does a detected keypoint lie?

Sources: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py HeatmapParser.adjust; mmpose 1.3.2
codecs/utils/refinement.py refine_keypoints, refine_keypoints_dark_udp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.decoding.decoders import udp_logs, udp_step
from workbench.decoding.grouping.settings import GroupingSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def adjusted(
    keypoints: Float[np.ndarray, "P K 3"],
    found: Bool[np.ndarray, "P K"],
    heatmaps: Float[np.ndarray, "K H W"],
    settings: GroupingSettings,
) -> Float[np.ndarray, "P K 3"]:
    """The found keypoints moved within their cells by the rule, then by centre_shift; float32.

    Args:
        keypoints: (x, y, value) in whole cells.
        found: which of them there are.
        heatmaps: as they were given, not suppressed.
        settings: quarter, udp_blur, centre_shift.
    """
    person, joint = np.nonzero(found)
    x, y = keypoints[person, joint, :2].astype(int).T
    if settings.quarter == "udp":
        logs = udp_logs(heatmaps[None], settings.udp_blur)
        columns, rows = np.zeros(found.shape, int), np.zeros(found.shape, int)
        columns[found], rows[found] = x, y
        step = udp_step(logs, columns, rows)[found]
    else:
        step = quarter(heatmaps, joint, x, y, settings.quarter)
    moved = keypoints.copy()
    moved[person, joint, :2] += step.astype(np.float32)
    moved[person, joint, :2] += np.float32(settings.centre_shift)
    return moved


def quarter(
    heatmaps: Float[np.ndarray, "K H W"],
    joint: Int[np.ndarray, " n"],
    x: Int[np.ndarray, " n"],
    y: Int[np.ndarray, " n"],
    rule: str,
) -> Float[np.ndarray, "n 2"]:
    """A quarter cell towards the higher neighbour, along x and y: -.25, 0 or .25.

    Args:
        heatmaps: read around the cells.
        joint: map of each cell.
        x: column of each cell.
        y: row of each cell.
        rule: ``larger`` or ``sign``, see GroupingSettings.quarter.
    """
    H, W = heatmaps.shape[1:]
    right = heatmaps[joint, y, np.minimum(x + 1, W - 1)] - heatmaps[joint, y, np.maximum(x - 1, 0)]
    below = heatmaps[joint, np.minimum(y + 1, H - 1), x] - heatmaps[joint, np.maximum(y - 1, 0), x]
    slope = np.stack([right, below], -1)
    if rule == "larger":
        return np.where(slope > 0, 0.25, -0.25)
    # mmpose's bounds: along x the second column does not move, along y the second row.
    inside_x = (x > 1) & (x < W - 1) & (y > 0)
    inside_y = (y > 1) & (y < H - 1) & (x > 0)
    return 0.25 * np.sign(slope) * np.stack([inside_x, inside_y], -1)
