"""Where is the keypoint that a person lacks? The highest cell whose tag is near the person's mean tag.

Sources: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py HeatmapParser.refine; mmpose 1.3.2
codecs/associative_embedding.py _fill_missing_keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.decoding.decoders import udp_logs
from workbench.decoding.grouping.refinement import TagSearch, quarter
from workbench.decoding.grouping.settings import GroupingSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def filled(
    keypoints: Float[np.ndarray, "P K 3"],
    found: Bool[np.ndarray, "P K"],
    wanted: Bool[np.ndarray, "P K"],
    heatmaps: Float[np.ndarray, "K H W"],
    tags: Float[np.ndarray, "T H W L"],
    layout: Sequence[int],
    settings: GroupingSettings,
) -> tuple[Float[np.ndarray, "P K 3"], Bool[np.ndarray, "P K"]]:
    """The keypoints with the missing ones given, and which those are.

    Args:
        keypoints: (x, y, value) in cells, placed already.
        found: which of them there are; every person has one.
        wanted: which of the others are to be given.
        heatmaps: finite, float32.
        tags: finite, float32.
        layout: for each keypoint the tag map that is read.
        settings: the fill rules.
    """
    P, K = found.shape
    H, W = heatmaps.shape[1:]
    if settings.fill_blurred:
        heatmaps = udp_logs(heatmaps[None], settings.udp_blur)[0]
    person, joint = np.nonzero(found)
    # Truncated, as both references do it: a keypoint moved left by a quarter is read one cell further left.
    x, y = keypoints[person, joint, :2].astype(int).T
    read = tags[np.asarray(layout)[joint], np.clip(y, 0, H - 1), np.clip(x, 0, W - 1)]
    with np.errstate(over="ignore"):
        means = np.array([np.mean(read[person == p], axis=0) for p in range(P)])
    cells = np.zeros((P, K), int)
    for index in dict.fromkeys(layout):
        search = TagSearch(tags[index], means, settings.fill_weight)
        for k in (k for k in range(K) if layout[k] == index and wanted[:, k].any()):
            lack = np.flatnonzero(wanted[:, k])
            cells[lack, k] = search.best_cells(heatmaps[k], lack)
    p, k = np.nonzero(wanted)
    y, x = np.divmod(cells[p, k], W)
    values = heatmaps[k, y, x]
    points = np.stack([x, y], -1).astype(float)
    if settings.fill_adjusted:
        points += 0.5 + quarter(heatmaps, k, x, y, "larger")
    kept = values > 0 if settings.fill_positive else np.ones(len(values), bool)
    complete, given = keypoints.copy(), np.zeros((P, K), bool)
    complete[p[kept], k[kept], :2], complete[p[kept], k[kept], 2] = points[kept], values[kept]
    given[p[kept], k[kept]] = True
    return complete, given
