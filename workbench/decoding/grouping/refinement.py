"""Refinement of grouped people: sub-cell positions (`adjusted`) and missing keypoints (`fill_missing`).

A missing keypoint is the cell with the highest value - weight * round(distance of its tag to the person's
mean tag). The references compute this in every cell for every missing keypoint; `TagSearch` finds the same
cell, to the last bit, faster: a distance only lowers a value, so cells with values below a score that is
already reached need not be read. Where no high cell is near, cells are sorted into buckets of similar tags
(`TagBuckets`), and only buckets that can contain a better cell are read. Each cell is read at most twice
per person.

Sources: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py HeatmapParser.adjust,
HeatmapParser.refine; mmpose 1.3.2 codecs/utils/refinement.py refine_keypoints, refine_keypoints_dark_udp;
codecs/associative_embedding.py _fill_missing_keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workbench.decoding.grouping.settings import GroupingSettings
from workbench.decoding.newton import udp_logs, udp_step

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def adjusted(
    keypoints: Float[np.ndarray, "P K 3"],
    found: Bool[np.ndarray, "P K"],
    heatmaps: Float[np.ndarray, "K H W"],
    settings: GroupingSettings,
) -> Float[np.ndarray, "P K 3"]:
    """The detected keypoints moved within their cells, then by centre_shift; float32.

    Args:
        keypoints: (x, y, value) in whole cells.
        found: which keypoints were detected.
        heatmaps: before suppression.
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


# Bins of the first tag value, or along each of the first two.
_BINS = {1: (1024,), 2: (32, 32)}
# Larger buckets are split.
_LARGEST = 512
# Cells of several buckets that are read at once: some MB.
_TOGETHER = 1 << 19
# Number of rounds that read only the best bucket, before all that can be better are read.
_ROUNDS = 3


def tag_penalty(tags: np.ndarray, means: np.ndarray, weight: float) -> np.ndarray:
    """The penalty of each cell, [...]: weight * round(distance of its tag to a mean).

    Args:
        tags: [L, ...], one plane per tag value; broadcasts with the means.
        means: [L, ...].
        weight: of the rounded distance.
    """
    # In float32 and in this order, as in the references: the last bit decides which cell is first. A distance
    # beyond float32 is infinite there as well.
    with np.errstate(over="ignore"):
        total = np.zeros(np.broadcast_shapes(tags.shape, means.shape)[1:], np.float32)
        for plane, value in zip(tags, means, strict=True):
            square = plane - value
            square *= square
            total += square
        return _weighted(total, weight)


def _weighted(squares: Float[np.ndarray, "..."], weight: float) -> Float[np.ndarray, "..."]:
    """Weight * round(root) of squared distances, computed in place."""
    np.rint(np.sqrt(squares, out=squares), out=squares)
    squares *= np.float32(weight)
    return squares


class TagBuckets:
    """The cells of one tag map, sorted into buckets of similar tags.

    A bucket has the bounding box of its tags and, for a heatmap, its highest value: no cell scores more than
    that value minus the penalty of the distance to the box. Float32 subtraction, squaring, addition and
    rounding are monotonic, so the bound holds to the last bit if it is computed like the scores.

    Args:
        tags: of every cell; finite.
    """

    def __init__(self, tags: Float[np.ndarray, "cells L"]) -> None:
        keys = _keys(tags)
        # Stable, so that the first of equal cells is found. numpy sorts 16-bit keys by radix, ten times as
        # fast.
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
        """The best cell for each mean tag; the first of equal ones.

        Args:
            values: of the heatmap.
            means: mean tags of the people.
            weight: of the distance between tags against the value.
        """
        sorted_values = values.take(self.cells)
        highest = np.maximum.reduceat(sorted_values, self.starts)
        bounds = highest - self._least_penalty(means, weight)
        P = len(means)
        chosen, reached = np.full(P, len(values), int), np.full(P, -np.inf, np.float32)

        def read(person: Int[np.ndarray, " n"], bucket: Int[np.ndarray, " n"]) -> None:
            """Read these buckets and keep cells that are better; `person` in ascending order."""
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
        # Where all distances are beyond float32 every score is minus infinity, and the first cell is the
        # best.
        return np.where(np.isneginf(reached), 0, chosen)

    def _least_penalty(self, means: Float[np.ndarray, "p L"], weight: float) -> Float[np.ndarray, "p B"]:
        """The smallest possible penalty of the cells of each bucket."""
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
        """The best score of each person in these buckets, and the first cell with it."""
        counts = self.counts[bucket]
        ends = counts.cumsum()
        places = np.arange(ends[-1]) + np.repeat(self.starts[bucket] - (ends - counts), counts)
        whose = np.repeat(person, counts)
        near = np.stack([plane.take(places) for plane in self.planes])
        scores = sorted_values.take(places) - tag_penalty(near, means.T[:, whose], weight)
        change = np.append(True, person[1:] != person[:-1])
        first = (ends - counts)[change]
        best = np.maximum.reduceat(scores, first)
        lengths = np.diff(np.append(first, len(scores)))
        cells = np.where(scores == np.repeat(best, lengths), self.cells.take(places), len(self.cells))
        return person[change], best, np.minimum.reduceat(cells, first)


_LOWEST = np.float32(np.finfo(np.float32).min)


def _parts(counts: Int[np.ndarray, " n"]) -> list[slice]:
    """Slices of the buckets that have about _TOGETHER cells each."""
    if not len(counts):
        return []
    number = (counts.cumsum() - 1) // _TOGETHER
    edges = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [len(counts)]])
    return [slice(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]


def _keys(tags: Float[np.ndarray, "cells L"]) -> Int[np.ndarray, " cells"]:
    """The bucket of each cell: equal bins of the first one or two tag values."""
    bins = _BINS[min(tags.shape[1], 2)]
    keys = np.zeros(len(tags), np.uint16)
    for n, count in enumerate(bins):
        plane = tags[:, n].astype(float)  # differences may overflow float32
        # Percentiles, because a few outliers must not put all others into one bin.
        low, high = np.percentile(plane[:: max(1, len(plane) // 2048)], (1, 99))
        scale = count / (high - low) if high > low else 0.0
        keys *= np.uint16(count)
        keys += np.clip((plane - low) * scale, 0, count - 1).astype(np.uint16)
    return keys


# Few heatmap cells exceed these levels, and nearly every missing keypoint is among them.
_LEVELS = (0.3, 0.1, 0.03, 0.01)
# Up to this number, searching person by person is faster than sorting the cells.
_FEW = 6
# Cells times people above which the buckets are faster than a band of high cells.
_MANY = 1 << 20


class TagSearch:
    """Search for the best cell by heatmap value and tag distance in one tag map.

    Args:
        tag: map, finite; several keypoints may share it.
        means: tags of all people; finite.
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
        """The best cell of a heatmap for each of these people; the first of equal ones.

        Args:
            heatmap: of one keypoint; finite.
            people: indices of those without the keypoint.
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
                int((values - tag_penalty(self.tags.T, mean[:, None], self.weight)).argmax())
                for mean in means
            ]
        else:
            chosen[left] = self._buckets.best_cells(values, means, self.weight)
        return chosen

    def _among_high_cells(
        self, values: Float[np.ndarray, " cells"], people: Int[np.ndarray, " p"]
    ) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " left"]]:
        """Best cells of the people whose score exceeds all cells not read yet; and the other people."""
        chosen, reached = np.zeros(len(people), int), np.full(len(people), -np.inf, np.float32)
        left, above = np.arange(len(people)), np.inf
        cells = np.flatnonzero(values >= _LEVELS[-1])
        # `take` needs a sixth of the time of indexing.
        high, of_high = values[cells], self.tags.take(cells, 0)
        for level in _LEVELS:
            band = np.flatnonzero((high >= level) & (high < above))
            if len(band) * len(left) > _MANY:
                break
            if len(band):
                near = of_high.take(band, 0).T[:, None]
                scores = high[band] - tag_penalty(near, self.means[people[left]].T[..., None], self.weight)
                best = scores.argmax(1)
                score, cell = scores[np.arange(len(left)), best], cells[band[best]]
                better = (score > reached[left]) | ((score == reached[left]) & (cell < chosen[left]))
                chosen[left[better]], reached[left[better]] = cell[better], score[better]
                # People with an equal score stay: an equal cell of the next band could come first.
                left = left[reached[left] <= level]
            if not len(left):
                break
            above = level
        return chosen, left


def fill_missing(
    keypoints: Float[np.ndarray, "P K 3"],
    found: Bool[np.ndarray, "P K"],
    wanted: Bool[np.ndarray, "P K"],
    heatmaps: Float[np.ndarray, "K H W"],
    tags: Float[np.ndarray, "T H W L"],
    layout: Sequence[int],
    settings: GroupingSettings,
) -> tuple[Float[np.ndarray, "P K 3"], Bool[np.ndarray, "P K"]]:
    """The keypoints with missing ones filled in, and a mask of those.

    Args:
        keypoints: (x, y, value) in cells, adjusted already.
        found: which keypoints were detected; every person has at least one.
        wanted: which missing keypoints to fill in.
        heatmaps: finite, float32.
        tags: finite, float32.
        layout: index of the tag map of each keypoint.
        settings: of them those that start with ``fill_``, and udp_blur.
    """
    P, K = found.shape
    H, W = heatmaps.shape[1:]
    if settings.fill_blurred:
        heatmaps = udp_logs(heatmaps[None], settings.udp_blur)[0]
    person, joint = np.nonzero(found)
    # Truncated, as in both references: a keypoint that was moved left by a quarter cell reads one cell
    # further left.
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
    filled = values > 0 if settings.fill_positive else np.ones(len(values), bool)
    complete, given = keypoints.copy(), np.zeros((P, K), bool)
    complete[p[filled], k[filled], :2], complete[p[filled], k[filled], 2] = points[filled], values[filled]
    given[p[filled], k[filled]] = True
    return complete, given
