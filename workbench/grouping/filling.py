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
    means = [np.mean(read[person == p], axis=0) for p in range(P)]
    best = []
    for k in range(K):
        cells = Cells(heatmaps[k], tags[layout[k]], settings.fill_weight)
        best += [(p, k, *cells.best(means[p])) for p in np.flatnonzero(~found[:, k])]
    p, k, y, x = np.array(best, int).reshape(-1, 4).T
    values = heatmaps[k, y, x]
    points = np.stack([x, y], -1).astype(float)
    if settings.fill_adjusted:
        points += 0.5 + quarter(heatmaps, k, x, y, "larger")
    kept = values > 0 if settings.fill_positive else np.ones(len(values), bool)
    complete, given = keypoints.copy(), np.zeros((P, K), bool)
    complete[p[kept], k[kept], :2], complete[p[kept], k[kept], 2] = points[kept], values[kept]
    given[p[kept], k[kept]] = True
    return complete, given


class Cells:
    """The cells of one keypoint's map by level, found once for all people who lack it."""

    def __init__(
        self, heatmap: Float[np.ndarray, "H W"], tag: Float[np.ndarray, "H W L"], weight: float
    ) -> None:
        self.heatmap, self.tag, self.weight = heatmap, tag, np.float32(weight)
        self._above: dict[float, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def best(self, mean: Float[np.ndarray, " L"]) -> tuple[int, int]:
        """Row and column of the highest value - weight * round(tag distance); the first of equals."""
        cell = 0
        for level in _LEVELS:
            cell, score = self._leader(level, mean)
            if score >= level:
                break
        return divmod(cell, self.heatmap.shape[1])

    def _leader(self, level: float, mean: Float[np.ndarray, " L"]) -> tuple[int, float]:
        """The best of the cells not below a level, and its score."""
        cells, values, tags = self._at(level)
        if not len(cells):
            return 0, -np.inf
        scores = self._scores(values, tags, mean)
        best = int(scores.argmax())
        return int(cells[best]), scores[best]

    def _at(
        self, level: float
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, "L n"]]:
        """Cells not below a level, in reading order, with their values and tags."""
        if level not in self._above:
            whole = level == -np.inf
            y, x = (slice(None), slice(None)) if whole else np.nonzero(self.heatmap >= level)
            cells = np.arange(self.heatmap.size) if whole else y * self.heatmap.shape[1] + x
            planes = np.ascontiguousarray(np.moveaxis(self.tag[y, x], -1, 0))
            self._above[level] = cells, self.heatmap[y, x].ravel(), planes.reshape(len(planes), -1)
        return self._above[level]

    def _scores(
        self,
        values: Float[np.ndarray, " n"],
        tags: Float[np.ndarray, "L n"],
        mean: Float[np.ndarray, " L"],
    ) -> Float[np.ndarray, " n"]:
        # In float32 and in this order, as the references: the last bit decides which cell is first. In
        # place, because whole maps pass here for every person who lacks a keypoint that nobody near shows.
        total = np.zeros_like(values)
        for plane, value in zip(tags, mean, strict=True):
            square = plane - value
            square *= square
            total += square
        np.rint(np.sqrt(total, out=total), out=total)
        total *= self.weight
        return np.subtract(values, total, out=total)
