"""Which cell has the highest value - weight * round(distance of its tag to a person's)?

The references work this out in every cell for every keypoint that somebody lacks. Most cells cannot be it: a
distance only lowers a value, so whoever has reached a value finds nothing better among lower ones; and where
no high cell is near, the nearest tags decide. The cell that is found is theirs, to the last bit.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Few cells of a heatmap are as high as these, and nearly every keypoint is found among them.
_LEVELS = (0.3, 0.1, 0.03, 0.01)
# Of the squares that a squared distance by expansion is made of: float32 keeps 6e-8 at each step.
_ROUNDING = 1e-5
# Cells remembered between keypoints, for all people together, in sizes of the map.
_REMEMBERED = 4


class TagSearch:
    """One tag map, and the mean tags of all people; several keypoints may read the same map.

    Args:
        tag: values of every cell; finite.
        means: of the people.
        weight: of the rounded distance.
    """

    def __init__(self, tag: Float[np.ndarray, "H W L"], means: Float[np.ndarray, "P L"], weight: float):
        self.tags, self.means, self.weight = tag.reshape(-1, tag.shape[-1]), means, weight
        self._near: dict[tuple[int, float], tuple[np.ndarray, np.ndarray]] = {}
        self._room = _REMEMBERED * len(self.tags)

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
        chosen, reached = np.zeros(len(people), int), np.full(len(people), -np.inf, np.float32)
        cells = np.flatnonzero(values >= _LEVELS[-1])
        # `take`: a sixth of the time of indexing rows.
        high, of_high = values[cells], self.tags.take(cells, 0)
        left, above = np.arange(len(people)), np.inf
        for level in _LEVELS:
            band = np.flatnonzero((high >= level) & (high < above))
            if len(band):
                scores = high[band] - self._lowered(of_high.take(band, 0), self.means[people[left]])
                best = scores.argmax(1)
                score, cell = scores[np.arange(len(left)), best], cells[band[best]]
                better = (score > reached[left]) | ((score == reached[left]) & (cell < chosen[left]))
                chosen[left[better]], reached[left[better]] = cell[better], score[better]
                # Not where equal: a cell of the next band could be as good and come first.
                left = left[reached[left] <= level]
            if not len(left):
                return chosen
            above = level
        highest = float(values.max())
        chosen[left] = [self._in_the_whole_map(values, highest, int(person)) for person in people[left]]
        return chosen

    def _in_the_whole_map(self, values: Float[np.ndarray, " cells"], highest: float, person: int) -> int:
        """The best of all cells for one person, of which only those with the nearest tags are looked at.

        A cell at rounded distance r scores at most highest - weight * r, so none is best beyond the r where
        that falls below a score that was reached.
        """
        reach = 0.0
        while True:
            near, lowered = self._within(person, reach)
            if len(near):
                scores = values[near] - lowered
                best = int(scores.argmax())
                farthest = np.floor((highest - float(scores[best])) / self.weight * (1 + _ROUNDING) + 1e-3)
                if farthest <= reach:
                    return int(near[best])
                reach = float(farthest)
            else:
                reach = max(reach + 1, self._nearest(person))

    def _within(self, person: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """The cells at most at this rounded distance, and perhaps a few beyond; what it lowers them by."""
        if (person, reach) in self._near:
            return self._near[person, reach]
        squares, own, slack = self._squares(person)
        near = np.flatnonzero(squares <= (reach + 0.5) ** 2 - own + slack)
        found = near, self._lowered(self.tags.take(near, 0), self.means[person : person + 1])[0]
        if len(near) <= self._room:
            self._near[person, reach] = found
            self._room -= len(near)
        return found

    def _nearest(self, person: int) -> float:
        """The rounded distance of the nearest tag, give or take what is lost in rounding."""
        squares, own, _ = self._squares(person)
        return float(np.rint(np.sqrt(max(float(squares.min()) + own, 0.0))))

    def _squares(self, person: int) -> tuple[Float[np.ndarray, " cells"], float, float]:
        """Squared distances by a matrix product, less a constant; that constant; room for rounding."""
        mean = self.means[person]
        squares = self.tags @ (mean * np.float32(-2))
        squares += self._lengths
        own = float(mean @ mean)
        return squares, own, _ROUNDING * (1 + self._longest + own)

    @cached_property
    def _lengths(self) -> Float[np.ndarray, " cells"]:
        """Squared, of the tag in every cell."""
        lengths = np.zeros(len(self.tags), np.float32)
        for plane in self.tags.T:
            lengths += plane * plane
        return lengths

    @cached_property
    def _longest(self) -> float:
        return float(self._lengths.max())

    def _lowered(
        self, tags: Float[np.ndarray, "n L"], means: Float[np.ndarray, "p L"]
    ) -> Float[np.ndarray, "p n"]:
        """What each cell's value loses: weight * round(distance)."""
        # In float32 and in this order, as the references: the last bit decides which cell is first.
        total = np.zeros((len(means), len(tags)), np.float32)
        for plane, value in zip(tags.T, means.T, strict=True):
            square = plane - value[:, None]
            square *= square
            total += square
        np.rint(np.sqrt(total, out=total), out=total)
        total *= np.float32(self.weight)
        return total
