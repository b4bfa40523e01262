"""Which cell has the highest value - weight * round(distance of its tag to a person's)?

The references work this out in every cell for every keypoint that somebody lacks. Most cells cannot be it: a
distance only lowers a value, so whoever has reached a value finds nothing better among lower ones. Where no
high cell is near, cells are sorted into buckets of similar tags, and only buckets that can hold a better cell
are read. The cell that is found is theirs, to the last bit, and the number of steps is bounded: each cell is
read at most twice for each person.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workbench.decoding.grouping.refinement import TagBuckets, lowered

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Few cells of a heatmap are as high as these, and nearly every keypoint is found among them.
_LEVELS = (0.3, 0.1, 0.03, 0.01)
# So many people are searched for faster one by one than by sorting the map's cells first.
_FEW = 6
# Cells times people above which a band of high cells is not read: the buckets are faster then.
_MANY = 1 << 20


class TagSearch:
    """One tag map, and the mean tags of all people; several keypoints may read the same map.

    Args:
        tag: values of every cell; finite.
        means: of the people; finite.
        weight: of the rounded distance.
    """

    def __init__(self, tag: Float[np.ndarray, "H W L"], means: Float[np.ndarray, "P L"], weight: float):
        self.tags, self.means, self.weight = tag.reshape(-1, tag.shape[-1]), means, weight

    @cached_property
    def _buckets(self) -> TagBuckets:
        return TagBuckets(self.tags)

    def best_cells(
        self, heatmap: Float[np.ndarray, "H W"], people: Int[np.ndarray, " p"]
    ) -> Int[np.ndarray, " p"]:
        """The best cell of a heatmap for each of some people; the first of equals.

        Args:
            heatmap: of one keypoint; finite.
            people: who lack it.
        """
        values = heatmap.ravel()
        if not self.weight:
            return np.full(len(people), values.argmax())
        chosen, left = self._among_high_cells(values, people)
        if not len(left):
            return chosen
        means = self.means[people[left]]
        if len(left) <= _FEW:
            chosen[left] = [
                int((values - lowered(self.tags.T, mean[:, None], self.weight)).argmax()) for mean in means
            ]
        else:
            chosen[left] = self._buckets.best_cells(values, means, self.weight)
        return chosen

    def _among_high_cells(
        self, values: Float[np.ndarray, " cells"], people: Int[np.ndarray, " p"]
    ) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " left"]]:
        """The best cell of those whose score exceeds every cell not looked at; and who is left."""
        chosen, reached = np.zeros(len(people), int), np.full(len(people), -np.inf, np.float32)
        left, above = np.arange(len(people)), np.inf
        cells = np.flatnonzero(values >= _LEVELS[-1])
        # `take`: a sixth of the time of indexing rows.
        high, of_high = values[cells], self.tags.take(cells, 0)
        for level in _LEVELS:
            band = np.flatnonzero((high >= level) & (high < above))
            if len(band) * len(left) > _MANY:
                break
            if len(band):
                near = of_high.take(band, 0).T[:, None]
                scores = high[band] - lowered(near, self.means[people[left]].T[..., None], self.weight)
                best = scores.argmax(1)
                score, cell = scores[np.arange(len(left)), best], cells[band[best]]
                better = (score > reached[left]) | ((score == reached[left]) & (cell < chosen[left]))
                chosen[left[better]], reached[left[better]] = cell[better], score[better]
                # Not where equal: a cell of the next band could be as good and come first.
                left = left[reached[left] <= level]
            if not len(left):
                break
            above = level
        return chosen, left
