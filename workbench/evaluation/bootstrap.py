"""Would another sample of images show the same change? Paired bootstrap of every COCO figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.job import current_checkpoint
from workbench.core.report import counted, signed_text
from workbench.evaluation.keypoint_ap import FIGURES, RECALLS, THRESHOLDS

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from workbench.evaluation.keypoint_ap import KeypointAP


# Numbers in one block of resamples x detections: 16 MB an array.
BLOCK = 2_000_000
# Independent units (images, instances) below which a percentile interval holds its level for no distribution.
FEWEST_UNITS = 8
# Area ranges of the figures, in the order of AREA_RANGES.
ALL, MEDIUM, LARGE = range(3)
# Figure -> area range, threshold (None: the mean over all ten), and whether it is a recall.
_PARTS: dict[str, tuple[int, int | None, bool]] = {
    "AP": (ALL, None, False), "AP50": (ALL, 0, False), "AP75": (ALL, 5, False),
    "APM": (MEDIUM, None, False), "APL": (LARGE, None, False),
    "AR": (ALL, None, True), "AR50": (ALL, 0, True), "AR75": (ALL, 5, True),
    "ARM": (MEDIUM, None, True), "ARL": (LARGE, None, True),
}  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """A change of a figure and how far it moves with the sample of images.

    Attributes:
        delta: figure of B less figure of A, on all images.
        low: lower end of the interval; nan where too few images (see `fewest_units`) hold an instance
            that counts.
        high: upper end of the interval, likewise.
        level: share of resamples inside it.
        resamples: how many were drawn.
        seed: of the drawing.
        units: images that hold an instance that counts.
    """

    delta: float
    low: float
    high: float
    level: float
    resamples: int
    seed: int
    units: int = 0

    @property
    def measured(self) -> bool:
        """There is an interval: enough images were drawn from."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def certain(self) -> bool:
        """The interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        if not self.measured:
            return f"{signed_text(self.delta)} (no interval)"
        return f"{signed_text(self.delta)} [{signed_text(self.low)}, {signed_text(self.high)}]"


def paired_bootstrap(
    a: KeypointAP, b: KeypointAP, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of the difference AP(b) - AP(a), percentiles over resampled images.

    With few instances in many categories it holds the true difference less often than `level` says (README,
    Limits): AP of few instances is too high, and that of resamples even more so.

    Args:
        a: before.
        b: after, on the same images.
        resamples: how many sets of images to draw.
        level: share of resamples that the interval holds.
        seed: same seed, same interval.

    Raises:
        ValueError: the two are not of the same images, or there is nothing to draw.
    """
    return paired_bootstraps(a, [b], resamples=resamples, level=level, seed=seed)[0]


def paired_bootstraps(
    a: KeypointAP, others: Sequence[KeypointAP], *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> list[Interval]:
    """`paired_bootstrap` of several evaluations against the same one, on the same resamples.

    Args:
        a: before.
        others: after, each on the same images.
        resamples: as in `paired_bootstrap`, as are the others.
        level: share of resamples that each interval holds.
        seed: same seed, same intervals.

    Raises:
        ValueError: not all are of the same images, or there is nothing to draw.
    """
    intervals, before = [], None
    for b in others:
        weights = drawn_images(a, b, resamples, level, seed)
        before = resampled_ap(a, weights) if before is None else before
        delta = b.figures["AP"] - a.figures["AP"]
        images = counting_images(b, ALL)
        found = interval_of(resampled_ap(b, weights) - before, delta, level, resamples, seed, images)
        if found is None:
            raise ValueError("interval: no annotation counts, so there is no AP to compare")
        intervals.append(found)
    return intervals


def paired_figures(
    a: KeypointAP, b: KeypointAP, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Intervals (95 %) of the changes of all ten COCO figures; figures without such annotations are left out.

    All figures share the drawn images, so they are those of one resample. Arguments as of `paired_bootstrap`.
    """
    weights = drawn_images(a, b, resamples, 0.95, seed)
    before, after = resampled_figures(a, weights), resampled_figures(b, weights)
    found = {}
    for name in FIGURES:
        delta = b.figures[name] - a.figures[name]
        images = counting_images(b, _PARTS[name][0])
        interval = interval_of(after[name] - before[name], delta, 0.95, resamples, seed, images)
        if interval is not None and np.isfinite(delta):
            found[name] = interval
    return found


def paired_means(
    values: Float[np.ndarray, " G"],
    image: Int[np.ndarray, " G"],
    weights: Int[np.ndarray, "B I"],
    level: float,
    seed: int,
) -> Interval | None:
    """Interval of the mean of per-instance changes over resampled images; None without a finite one.

    Args:
        values: change of each instance; nan is left out.
        image: of each instance, column of `weights`.
        weights: how often each image was drawn.
        level: share of resamples that the interval holds.
        seed: of the drawing, to be told.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return None
    images = weights.shape[1]
    sums = np.bincount(image[finite], values[finite], minlength=images)
    counts = np.bincount(image[finite], minlength=images).astype(float)
    drawn = weights @ counts
    means = np.divide(weights @ sums, drawn, out=np.full(len(weights), np.nan), where=drawn > 0)
    delta, held = float(values[finite].mean()), int(np.count_nonzero(counts))
    return interval_of(means, delta, level, len(weights), seed, held)


def drawn_images(
    a: KeypointAP, b: KeypointAP, resamples: int, level: float, seed: int
) -> Int[np.ndarray, "B I"]:
    """How often each image is drawn in each resample.

    Args:
        a: AP of the first model.
        b: AP of the second one.
        resamples: how many.
        level: share of the resamples that the interval holds, 0 to 1.
        seed: of the drawing.

    Raises:
        ValueError: the two are not of the same images, or the numbers make no interval.
    """
    if not np.array_equal(a.truth.image_ids, b.truth.image_ids):
        raise ValueError("interval: expected two evaluations of the same images")
    if resamples < 2 or not 0 < level < 1:
        raise ValueError(
            f"interval: expected 2 resamples or more and a level below 1, got {resamples}, {level}"
        )
    return drawn_counts(len(a.truth.image_ids), resamples, seed)


def drawn_counts(units: int, resamples: int, seed: int) -> Int[np.ndarray, "B I"]:
    """How often each of some images (or instances) is drawn, with replacement, in each resample.

    Args:
        units: how many there are; so many are drawn.
        resamples: how many times.
        seed: of the drawing.
    """
    draws = np.random.default_rng(seed).integers(0, max(units, 1), (resamples, units))
    counts = np.empty((resamples, units), int)
    for n, draw in enumerate(draws):
        if n % 100 == 0:
            current_checkpoint()
        counts[n] = np.bincount(draw, minlength=units)
    return counts


def interval_of(
    differences: Float[np.ndarray, " B"], delta: float, level: float, resamples: int, seed: int, images: int
) -> Interval | None:
    """Percentiles of the finite differences; None where no draw holds a counted annotation.

    Args:
        differences: of the resamples.
        delta: the measured difference.
        level: share of the resamples that the interval holds, 0 to 1.
        resamples: how many were drawn.
        seed: of the drawing.
        images: how many of the images hold a counted annotation.
    """
    finite = differences[np.isfinite(differences)]
    if not len(finite):
        return None
    low, high = percentile_interval(finite, level, images)
    return Interval(float(delta), low, high, level, resamples, seed, images)


def fewest_units(level: float) -> int:
    """Independent units from which a percentile interval can hold its level.

    It never leaves the range of the units' own values. All n of them lie on one side of the median of
    their distribution with probability 2^(1 - n), so that 1 - 2^(1 - n) bounds its coverage: 99 % take 8
    units, 99.9 % take 11. `FEWEST_UNITS` at least: intervals of 95 % (99 %) of the mean of normal values hold
    it for 2 units in .49 (.49) of 4000 simulated samples, for 4 in .79 (.82) and for 8 in .88 (.94).

    Args:
        level: of the interval, 0 to 1.
    """
    return max(FEWEST_UNITS, math.ceil(1 - math.log2(1 - level)))


def percentile_interval(draws: Float[np.ndarray, " B"], level: float, units: int) -> tuple[float, float]:
    """Percentiles of the finite resampled values; nan where the units are too few, or none is finite.

    Args:
        draws: the value of each resample.
        level: share of the resamples that the interval holds, 0 to 1.
        units: independent units (images, instances) that were drawn from and that count.
    """
    finite = draws[np.isfinite(draws)]
    if units < fewest_units(level) or not len(finite):
        return math.nan, math.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def no_interval_text(units: int, unit: str = "image") -> str:
    """Why there is no interval: ``3 images are too few for an interval``.

    Args:
        units: how many there were.
        unit: their noun.
    """
    return f"{counted(units, f'{unit} is', f'{unit}s are')} too few for an interval"


def counting_images(ap: KeypointAP, area: int = ALL) -> int:
    """How many images hold an annotation that counts.

    Args:
        ap: the evaluation of all images.
        area: position of the area range in AREA_RANGES; of all areas by default.
    """
    return len(np.unique(ap.truth.image[~ap.matches.truth_ignored[area]]))


def resampled_ap(ap: KeypointAP, weights: Int[np.ndarray, "B I"]) -> Float[np.ndarray, " B"]:
    """AP of each resample; nan where it holds no annotation that counts.

    Args:
        ap: the evaluation of all images.
        weights: how often each image was drawn.
    """
    return _mean_over_categories(ap, weights, ALL, ("AP",))["AP"]


def resampled_figures(ap: KeypointAP, weights: Int[np.ndarray, "B I"]) -> dict[str, Float[np.ndarray, " B"]]:
    """All ten figures of each resample; nan without such an annotation. Arguments as `resampled_ap`."""
    found: dict[str, Float[np.ndarray, " B"]] = {}
    for area in (ALL, MEDIUM, LARGE):
        names = tuple(name for name, part in _PARTS.items() if part[0] == area)
        found |= _mean_over_categories(ap, weights, area, names)
    return {name: found[name] for name in FIGURES}


def _mean_over_categories(
    ap: KeypointAP, weights: Int[np.ndarray, "B I"], area: int, names: Sequence[str]
) -> dict[str, Float[np.ndarray, " B"]]:
    total = {name: np.zeros(len(weights)) for name in names}
    curves = np.zeros(len(weights))
    for category in range(len(ap.truth.category_ids)):
        for rows, precision, recall in _category(ap, category, area, weights):
            there = np.isfinite(precision[:, 0])
            curves[rows] += there
            for name in names:
                _, threshold, recalls = _PARTS[name]
                values = recall if recalls else precision
                mean = values.mean(1) if threshold is None else values[:, threshold]
                total[name][rows] += np.where(there, mean, 0)
    return {
        name: np.divide(value, curves, out=np.full(len(weights), np.nan), where=curves > 0)
        for name, value in total.items()
    }


def _category(
    ap: KeypointAP, category: int, area: int, weights: Int[np.ndarray, "B I"]
) -> Iterator[tuple[slice, Float[np.ndarray, "b T"], Float[np.ndarray, "b T"]]]:
    """Precision and recall of one category by threshold, block by block; nan where nothing is to be found."""
    matches, truth = ap.matches, ap.truth
    own = np.flatnonzero(matches.category == category)
    own = own[np.argsort(-matches.score[own], kind="stable")]
    sought = (truth.category == category) & ~matches.truth_ignored[area]
    if not sought.any():
        return
    per_image = np.bincount(truth.image[sought], minlength=len(truth.image_ids))
    step = max(1, BLOCK // max(len(own), len(RECALLS)))
    for start in range(0, len(weights), step):
        current_checkpoint()  # a thousand resamples of a large set take minutes
        rows = slice(start, min(start + step, len(weights)))
        present = weights[rows] @ per_image
        drawn = weights[rows][:, matches.image[own]]
        precision, recall = np.full((2, len(present), len(THRESHOLDS)), np.nan)
        for t in range(len(THRESHOLDS)):
            counted = ~matches.ignored[area, t, own]
            at = np.flatnonzero(matches.hit[area, t, own] & counted)
            seen = np.cumsum(np.where(counted, drawn, 0), axis=1)[:, at]
            right = np.cumsum(drawn[:, at], axis=1)
            precision[:, t] = _mean_precision(right, seen, present)
            recall[:, t] = (right[:, -1] if len(at) else 0) / np.maximum(present, 1)
        precision[present == 0] = recall[present == 0] = np.nan
        yield rows, precision, recall


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
