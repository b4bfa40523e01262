"""Where is the keypoint that a person lacks? The highest cell whose tag is near the person's mean tag.

Sources: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py HeatmapParser.refine; mmpose 1.3.2
codecs/associative_embedding.py _fill_missing_keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.decoding.heatmaps import udp_logs
from workbench.grouping.placing import quarter
from workbench.grouping.settings import GroupingSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

# A tag distance only lowers a cell: once a cell has reached a level, no cell below that level can beat it.
# The last level is that of the whole map.
_LEVELS = (0.1, 0.03, 0.01, 0.003, -np.inf)
# Scores computed together: few enough to stay in the cache's reach, many enough that small maps cost little.
_AT_ONCE = 1 << 18


def filled(
    keypoints: Float[np.ndarray, "P K 3"],
    found: Bool[np.ndarray, "P K"],
    heatmaps: Float[np.ndarray, "K H W"],
    tags: Float[np.ndarray, "T H W L"],
    layout: Sequence[int],
    settings: GroupingSettings,
) -> tuple[Float[np.ndarray, "P K 3"], Bool[np.ndarray, "P K"]]:
    """The keypoints with the missing ones given, and which those are.

    Args:
        keypoints: (x, y, value) in cells, placed already.
        found: which of them there are; every person has one.
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
    means = np.array([np.mean(read[person == p], axis=0) for p in range(P)])
    cells = np.zeros((P, K), int)
    for k in range(K):
        lack = ~found[:, k]
        if lack.any():
            cells[lack, k] = best_cells(heatmaps[k], tags[layout[k]], means[lack], settings.fill_weight)
    p, k = np.nonzero(~found)
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


def best_cells(
    heatmap: Float[np.ndarray, "H W"],
    tag: Float[np.ndarray, "H W L"],
    means: Float[np.ndarray, "p L"],
    weight: float,
) -> Int[np.ndarray, " p"]:
    """For each mean tag the cell with the highest value - weight * round(tag distance); the first of equals.

    Args:
        heatmap: of one keypoint.
        tag: the tag map that is read for it.
        means: mean tags of the people who lack it.
        weight: of the rounded distance.
    """
    chosen, left = np.zeros(len(means), int), np.arange(len(means))
    for level in _LEVELS:
        cells = np.flatnonzero(heatmap >= level)
        if not len(cells):
            continue
        y, x = np.divmod(cells, heatmap.shape[1])
        values, planes = heatmap[y, x], tag[y, x].T.copy()
        at_once = max(_AT_ONCE // len(cells), 1)
        for first in range(0, len(left), at_once):
            some = left[first : first + at_once]
            scores = _scores(values, planes, means[some], np.float32(weight))
            best = scores.argmax(1)
            chosen[some] = np.where(scores[np.arange(len(some)), best] >= level, cells[best], -1)
        left = left[chosen[left] < 0]
        if not len(left):
            break
    return chosen


def _scores(
    values: Float[np.ndarray, " n"],
    planes: Float[np.ndarray, "L n"],
    means: Float[np.ndarray, "p L"],
    weight: np.float32,
) -> Float[np.ndarray, "p n"]:
    # In float32 and in this order, as the references: the last bit decides which cell is first. In place,
    # because whole maps pass here for everybody who lacks a keypoint that no cell near shows.
    total = np.zeros((len(means), len(values)), np.float32)
    for plane, value in zip(planes, means.T, strict=True):
        square = plane - value[:, None]
        square *= square
        total += square
    np.rint(np.sqrt(total, out=total), out=total)
    total *= weight
    return np.subtract(values, total, out=total)
