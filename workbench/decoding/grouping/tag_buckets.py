"""Cells of one tag map sorted into buckets of similar tags, so that most of them need not be read.

A bucket knows the bounding box of its tags and, for a heatmap, its highest value: no cell of it scores more
than that value less the distance to the box. Subtracting, squaring, adding, rounding in float32 never change
the order of two numbers, so the bound holds to the last bit when it is worked out as the scores are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Bins of the first tag number, or along each of the first two.
_BINS = {1: (1024,), 2: (32, 32)}
# A bucket with more cells than these is cut into several.
_LARGEST = 512
# Cells of several buckets that are read together: some MB.
_TOGETHER = 1 << 19
# The best bucket is read first so many times, before all that may still be better are.
_ROUNDS = 3


def lowered(tags: np.ndarray, means: np.ndarray, weight: float) -> np.ndarray:
    """What each cell's value loses: weight * round(distance).

    Args:
        tags: [L, ...], one plane for each tag number, that broadcasts with the means.
        means: [L, ...].
        weight: of the rounded distance.
    """
    # In float32 and in this order, as the references: the last bit decides which cell is first. A distance
    # beyond float32 is infinite for them as well.
    with np.errstate(over="ignore"):
        total = np.zeros(np.broadcast_shapes(tags.shape, means.shape)[1:], np.float32)
        for plane, value in zip(tags, means, strict=True):
            square = plane - value
            square *= square
            total += square
        return _weighted(total, weight)


def _weighted(squares: Float[np.ndarray, "..."], weight: float) -> Float[np.ndarray, "..."]:
    """In place."""
    np.rint(np.sqrt(squares, out=squares), out=squares)
    squares *= np.float32(weight)
    return squares


class TagBuckets:
    """The cells of one tag map, sorted.

    Args:
        tags: of every cell; finite.
    """

    def __init__(self, tags: Float[np.ndarray, "cells L"]) -> None:
        keys = _keys(tags)
        # Stable: cells of one bucket stay in their order, so that the first of equals is found. Of 16 bits:
        # numpy sorts those by radix, ten times as fast.
        self.cells = np.argsort(keys, kind="stable")
        sorted_keys = keys[self.cells]
        edges = np.flatnonzero(np.diff(sorted_keys)) + 1
        self.starts = np.union1d(np.concatenate([[0], edges]), np.arange(0, len(tags), _LARGEST))
        self.counts = np.diff(np.append(self.starts, len(tags)))
        self.planes = np.ascontiguousarray(tags.take(self.cells, 0).T)
        self.low = np.minimum.reduceat(self.planes, self.starts, axis=1)
        self.high = np.maximum.reduceat(self.planes, self.starts, axis=1)

    def best_cells(
        self, values: Float[np.ndarray, " cells"], means: Float[np.ndarray, "p L"], weight: float
    ) -> Int[np.ndarray, " p"]:
        """The best cell for each mean tag; the first of equals."""
        sorted_values = values.take(self.cells)
        highest = np.maximum.reduceat(sorted_values, self.starts)
        bounds = highest - self._least_lowered(means, weight)
        P = len(means)
        chosen, reached = np.full(P, len(values), int), np.full(P, -np.inf, np.float32)

        def read(person: Int[np.ndarray, " n"], bucket: Int[np.ndarray, " n"]) -> None:
            """Take the best cells of these buckets where they are better; `person` in rising order."""
            for part in _parts(self.counts[bucket]):
                who, score, cell = self._best(sorted_values, means, weight, person[part], bucket[part])
                better = (score > reached[who]) | ((score == reached[who]) & (cell < chosen[who]))
                chosen[who[better]], reached[who[better]] = cell[better], score[better]

        open_ = np.arange(P)
        for _ in range(_ROUNDS):
            best = bounds[open_].argmax(1)
            read(open_, best)
            bounds[open_, best] = -np.inf
            open_ = open_[bounds[open_].max(1) >= reached[open_]]
            if not len(open_):
                return chosen
        person, bucket = np.nonzero(bounds[open_] >= np.maximum(reached[open_], _LOWEST)[:, None])
        read(open_[person], bucket)
        # Every score is minus infinity where the distances are beyond float32; the first cell is the best.
        return np.where(np.isneginf(reached), 0, chosen)

    def _least_lowered(self, means: Float[np.ndarray, "p L"], weight: float) -> Float[np.ndarray, "p B"]:
        """What the cells of each bucket lose at least."""
        total = np.zeros((len(means), len(self.starts)), np.float32)
        with np.errstate(over="ignore"):
            for low, high, mean in zip(self.low, self.high, means.T, strict=True):
                away = np.maximum(low - mean[:, None], mean[:, None] - high)
                np.maximum(away, 0, out=away)
                away *= away
                total += away
            return _weighted(total, weight)

    def _best(
        self,
        sorted_values: Float[np.ndarray, " cells"],
        means: Float[np.ndarray, "p L"],
        weight: float,
        person: Int[np.ndarray, " n"],
        bucket: Int[np.ndarray, " n"],
    ) -> tuple[Int[np.ndarray, " q"], Float[np.ndarray, " q"], Int[np.ndarray, " q"]]:
        """Of the cells in these buckets: each person, their best score, and the first cell with it."""
        counts = self.counts[bucket]
        ends = counts.cumsum()
        places = np.arange(ends[-1]) + np.repeat(self.starts[bucket] - (ends - counts), counts)
        whose = np.repeat(person, counts)
        near = np.stack([plane.take(places) for plane in self.planes])
        scores = sorted_values.take(places) - lowered(near, means.T[:, whose], weight)
        change = np.append(True, person[1:] != person[:-1])
        first = (ends - counts)[change]
        best = np.maximum.reduceat(scores, first)
        lengths = np.diff(np.append(first, len(scores)))
        cells = np.where(scores == np.repeat(best, lengths), self.cells.take(places), len(self.cells))
        return person[change], best, np.minimum.reduceat(cells, first)


_LOWEST = np.float32(np.finfo(np.float32).min)


def _parts(counts: Int[np.ndarray, " n"]) -> list[slice]:
    """Runs of buckets with not many more cells together than fit into memory well."""
    if not len(counts):
        return []
    number = (counts.cumsum() - 1) // _TOGETHER
    edges = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [len(counts)]])
    return [slice(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]


def _keys(tags: Float[np.ndarray, "cells L"]) -> Int[np.ndarray, " cells"]:
    """The number of each cell's bucket: equal bins of the first one or two tag numbers."""
    bins = _BINS[min(tags.shape[1], 2)]
    keys = np.zeros(len(tags), np.uint16)
    for n, count in enumerate(bins):
        plane = tags[:, n].astype(float)  # a difference of two float32 numbers may be beyond float32
        # A few far values must not push all others into one bin.
        low, high = np.percentile(plane[:: max(1, len(plane) // 2048)], (1, 99))
        scale = count / (high - low) if high > low else 0.0
        keys *= np.uint16(count)
        keys += np.clip((plane - low) * scale, 0, count - 1).astype(np.uint16)
    return keys
