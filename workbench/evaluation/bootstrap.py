"""Would another sample of images show the same change? A paired bootstrap of the difference of two APs.

Images are drawn with replacement, the same ones for both epochs, and both APs are computed anew. Drawing
an image w times is weighing its detections and annotations by w: the matching inside an image does not
change, and w copies of a hit at one score raise the curve just where one hit of weight w does, because
precision is read at its best. So nothing is matched twice, and all resamples are cumulative sums over one
sorted list. Detections of equal score keep their order, copies side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluation.keypoint_ap import RECALLS, THRESHOLDS

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from workbench.evaluation.keypoint_ap import KeypointAP

# Numbers in one block of resamples x detections: 16 MB an array.
BLOCK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A change of AP and how far it moves with the sample of images.

    Attributes:
        delta: AP of B less AP of A, on all images.
        low: lower end of the interval.
        high: upper end of the interval.
        level: share of resamples inside it.
        resamples: how many were drawn.
        seed: of the drawing.
    """

    delta: float
    low: float
    high: float
    level: float
    resamples: int
    seed: int

    @property
    def certain(self) -> bool:
        """The interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.delta:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_bootstrap(
    a: KeypointAP, b: KeypointAP, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of the difference AP(b) - AP(a), percentiles over resampled images.

    Args:
        a: before.
        b: after, on the same images.
        resamples: how many sets of images to draw.
        level: share of resamples that the interval holds.
        seed: same seed, same interval.

    Raises:
        ValueError: the two are not of the same images, or there is nothing to draw.
    """
    if not np.array_equal(a.truth.image_ids, b.truth.image_ids):
        raise ValueError("interval: expected two evaluations of the same images")
    if resamples < 2 or not 0 < level < 1:
        raise ValueError(
            f"interval: expected 2 resamples or more and a level below 1, got {resamples}, {level}"
        )
    images = len(a.truth.image_ids)
    draws = np.random.default_rng(seed).integers(0, max(images, 1), (resamples, images))
    weights = np.stack([np.bincount(draw, minlength=images) for draw in draws])
    difference = resampled_ap(b, weights) - resampled_ap(a, weights)
    # A draw without any counted annotation has no AP.
    held = difference[np.isfinite(difference)]
    if not len(held):
        raise ValueError("interval: no annotation counts, so there is no AP to compare")
    low, high = np.quantile(held, [(1 - level) / 2, (1 + level) / 2])
    delta = b.figures["AP"] - a.figures["AP"]
    return Interval(delta, float(low), float(high), level, resamples, seed)


def resampled_ap(ap: KeypointAP, weights: Int[np.ndarray, "B I"]) -> Float[np.ndarray, " B"]:
    """AP of each resample; nan where it holds no annotation that counts.

    Args:
        ap: the evaluation of all images.
        weights: how often each image was drawn.
    """
    total, curves = np.zeros(len(weights)), np.zeros(len(weights))
    for category in range(len(ap.truth.category_ids)):
        for rows, mean in _category_ap(ap, category, weights):
            there = np.isfinite(mean)
            total[rows] += np.where(there, mean, 0)
            curves[rows] += there
    return np.divide(total, curves, out=np.full(len(weights), np.nan), where=curves > 0)


def _category_ap(
    ap: KeypointAP, category: int, weights: Int[np.ndarray, "B I"]
) -> Iterator[tuple[slice, Float[np.ndarray, " b"]]]:
    """AP of one category, block of resamples by block; nan where nothing of it is to be found."""
    matches, truth = ap.matches, ap.truth
    own = np.flatnonzero(matches.category == category)
    own = own[np.argsort(-matches.score[own], kind="stable")]
    sought = (truth.category == category) & ~matches.truth_ignored[0]
    if not sought.any():
        return
    per_image = np.bincount(truth.image[sought], minlength=len(truth.image_ids))
    step = max(1, BLOCK // max(len(own), len(RECALLS)))
    for start in range(0, len(weights), step):
        rows = slice(start, min(start + step, len(weights)))
        present = weights[rows] @ per_image
        drawn = weights[rows][:, matches.image[own]]
        area = np.zeros(len(present))
        for t in range(len(THRESHOLDS)):
            counted = ~matches.ignored[0, t, own]
            at = np.flatnonzero(matches.hit[0, t, own] & counted)
            seen = np.cumsum(np.where(counted, drawn, 0), axis=1)[:, at]
            right = np.cumsum(drawn[:, at], axis=1)
            area += _mean_precision(right, seen, present)
        yield rows, np.where(present > 0, area / len(THRESHOLDS), np.nan)


def _mean_precision(
    right: Int[np.ndarray, "b M"], seen: Int[np.ndarray, "b M"], present: Int[np.ndarray, " b"]
) -> Float[np.ndarray, " b"]:
    """Mean over the 101 recalls of the best precision at or beyond each.

    Args:
        right: hits up to and with each hit, falling score.
        seen: counted detections up to there.
        present: annotations to be found.
    """
    B, M = right.shape
    if not M:
        return np.zeros(B)
    precision = right / (seen + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Where a hit was not drawn (weight 0) it repeats the one before, which does no harm.
    needed = _needed(present)
    # One search for all resamples: each row's counts are moved above those of the rows before.
    lift = (np.arange(B) * (int(right.max()) + int(present.max()) + 2))[:, None]
    at = np.searchsorted((right + lift).ravel(), (needed + lift).ravel()).reshape(B, -1)
    at -= np.arange(B)[:, None] * M
    reached = np.take_along_axis(best, at.clip(max=M - 1), axis=1)
    return np.where(at < M, reached, 0.0).mean(1)


def _needed(present: Int[np.ndarray, " b"]) -> Int[np.ndarray, "b 101"]:
    """How many hits each of the 101 recalls takes, by the same division that the evaluator makes."""
    counts, inverse = np.unique(present, return_inverse=True)
    table = np.stack(
        [np.searchsorted(np.arange(n + 1) / max(int(n), 1), RECALLS, side="left") for n in counts]
    )
    return table[inverse]
