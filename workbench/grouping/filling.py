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

# A tag distance only lowers a cell: whoever has reached a level finds nothing better below it.
_LEVELS = (0.3, 0.1, 0.03, 0.01)
# Of the squares that a squared distance by expansion is made of: float32 keeps 6e-8 at each step.
_ROUNDING = 1e-5


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
    values, tags = heatmap.ravel(), tag.reshape(heatmap.size, -1)
    chosen, reached = np.zeros(len(means), int), np.full(len(means), -np.inf, np.float32)
    cells = np.flatnonzero(values >= _LEVELS[-1])
    # `take`: a sixth of the time of indexing rows.
    high, of_high = values[cells], tags.take(cells, 0)
    left, above = np.arange(len(means)), np.inf
    for level in _LEVELS:
        band = np.flatnonzero((high >= level) & (high < above))
        if len(band):
            scores = _scores(high[band], of_high.take(band, 0).T, means[left], weight)
            best = scores.argmax(1)
            score, cell = scores[np.arange(len(left)), best], cells[band[best]]
            better = (score > reached[left]) | ((score == reached[left]) & (cell < chosen[left]))
            chosen[left[better]], reached[left[better]] = cell[better], score[better]
            # Not where equal: a cell of the next band could be as good and come first.
            left = left[reached[left] <= level]
        if not len(left):
            return chosen
        above = level
    chosen[left] = _in_the_whole_map(values, tags, means[left], weight)
    return chosen


def _in_the_whole_map(
    values: Float[np.ndarray, " n"],
    tags: Float[np.ndarray, "n L"],
    means: Float[np.ndarray, "p L"],
    weight: float,
) -> Int[np.ndarray, " p"]:
    """`best_cells` among all cells, of which only those with the nearest tags are looked at closely.

    A cell at rounded distance r scores at most highest value - weight * r, so none is best beyond the r where
    that falls below a score that was reached. Which cells lie within is told by squared distances from one
    matrix product, with room for its rounding.
    """
    highest = float(values.max())
    lengths = np.zeros(len(tags), np.float32)
    for plane in tags.T:
        lengths += plane * plane
    longest = float(lengths.max())
    chosen = np.empty(len(means), int)
    for p, mean in enumerate(means):
        squares = tags @ (mean * np.float32(-2))
        squares += lengths
        own = float(mean @ mean)
        slack = _ROUNDING * (1 + longest + own)
        reach = float(np.rint(np.sqrt(max(float(squares.min()) + own, 0))))
        while True:
            near = np.flatnonzero(squares <= (reach + 0.5) ** 2 - own + slack)
            scores = _scores(values[near], tags.take(near, 0).T, mean[None], weight)[0]
            best = int(scores.argmax())
            chosen[p] = near[best]
            if highest - weight * (reach + 1) < float(scores[best]) - _ROUNDING * weight:
                break
            reach += 1
            if len(near) == len(values):
                break
    return chosen


def _scores(
    values: Float[np.ndarray, " n"],
    planes: Float[np.ndarray, "L n"],
    means: Float[np.ndarray, "p L"],
    weight: float,
) -> Float[np.ndarray, "p n"]:
    # In float32 and in this order, as the references: the last bit decides which cell is first.
    total = np.zeros((len(means), len(values)), np.float32)
    for plane, value in zip(planes, means.T, strict=True):
        square = plane - value[:, None]
        square *= square
        total += square
    np.rint(np.sqrt(total, out=total), out=total)
    total *= np.float32(weight)
    return np.subtract(values, total, out=total)
