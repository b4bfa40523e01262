"""Check of an augmentation: image and keypoints move together, and mirroring exchanges left and right.

An overfitted image hides such a fault, because the same output is right for every input. So the pixels under
each keypoint are compared before and after. They are the same pixels, rotated, mirrored or scaled, if the
keypoint moved with the image, and others if it did not. A mirrored left eye is a right one: which keypoint is
compared with which follows from how the keypoints themselves moved.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Sample
from workbench.training.trainer import Augment

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Order = Int[np.ndarray, " K"]

# Radii as shares of the box's longer side: rings do not change when the image is rotated or mirrored.
RINGS = (0.0, 0.015, 0.03, 0.045)

# Correlation of colours before and after. With image and keypoints mirrored, rotated, scaled and recoloured
# together it stays above .95; with the image alone it was .8 at most on photographs and drawn animals.
TOGETHER = 0.85

# A change made half of the time is then seen at least three times in all but one of 500 runs.
DRAWS = 16

# Cells of the drawn waves along a box's longer side: a place is known to a twentieth of the box.
WAVES = 14

# Share of draws that must show a fault: a single one may be an occlusion that hides most keypoints.
LEAST_SHARE = 3 / 16

# Difference between two explanations of a movement, as a share of the keypoints' extent, below which both
# count as equally good: a symmetric pose fits both. Rounding to whole pixels stays below it.
SAME_WAY = 0.02


@dataclass(frozen=True)
class Moved:
    """Effect of one draw on one sample.

    Attributes:
        correlation: of the pixels under the keypoints before and after; nan where nothing can be compared.
        mirrored: the keypoints' places are mirrored.
        exchanged: left and right keypoints are exchanged.
        others: pairs of left and right keypoints that were exchanged where the rest was not, or the reverse.
        labelled: keypoints that are labelled after the draw and were not before.
    """

    correlation: float
    mirrored: bool
    exchanged: bool
    others: tuple[tuple[int, int], ...] = ()
    labelled: tuple[int, ...] = ()


def moves(
    change: Augment, samples: Sequence[Sample], mirror: Sequence[int] | None = None
) -> list[tuple[Moved, ...]]:
    """Effect of every draw on every sample, one tuple per draw.

    Args:
        change: changes image, box and ground truth together.
        samples: with ground truth.
        mirror: for each keypoint the one on the other side, as in Skeleton; None derives it from how the
            keypoints move.
    """
    drawn = [_drawn(sample) for sample in samples]
    found = []
    for draw in range(DRAWS):
        photos, drawings = (change(shown, np.random.default_rng(draw)) for shown in (samples, drawn))
        each = zip(samples, photos, drawn, drawings, strict=True)
        moves = (_moved(*four, mirror) for four in each)
        found.append(tuple(one for one in moves if one is not None))
    return found


def likeness(change: Augment, samples: Sequence[Sample], mirror: Sequence[int] | None = None) -> float:
    """Correlation of the pixels under the keypoints before and after, in the draws where it is lowest.

    Args:
        change: changes image, box and ground truth together.
        samples: with ground truth.
        mirror: see `moves`.

    Returns:
        nan where nothing can be compared: no visible keypoint, or one colour everywhere.
    """
    return _lowest(moves(change, samples, mirror))


def apart_text(change: Augment | None, samples: Sequence[Sample], mirror: Sequence[int] | None = None) -> str:
    """What is wrong with an augmentation, as a sentence; "" where nothing is, or there is none.

    Args:
        change: changes image, box and ground truth together.
        samples: with ground truth.
        mirror: see `moves`; a skeleton without left and right has nothing to exchange.
    """
    if change is None:
        return ""
    draws = moves(change, samples, mirror)
    alike = _lowest(draws)
    if alike < TOGETHER:
        return (
            "image and keypoints are not changed together: the pixels under the keypoints before and after "
            f"correlate by {alike:.2f} in some draws, expected at least {TOGETHER}"
        )
    # A skeleton without known sides (no mirror at all) is not judged.
    sided = mirror is None or list(mirror) != list(range(len(mirror)))
    unswapped = _share(draws, lambda one: sided and one.mirrored and not one.exchanged)
    if unswapped >= LEAST_SHARE:
        return (
            "left and right are not exchanged when the image is mirrored: in "
            f"{unswapped:.0%} of the draws the left keypoints lie on the right side of the mirrored image"
        )
    swapped = _share(draws, lambda one: one.exchanged and not one.mirrored)
    if swapped >= LEAST_SHARE:
        return (
            "left and right keypoints are exchanged although the image is not mirrored, in "
            f"{swapped:.0%} of the draws"
        )
    return _single_text(draws)


def _single_text(draws: Sequence[tuple[Moved, ...]]) -> str:
    """What is wrong with single keypoints where the rest is right; "" where nothing is."""
    for (left, right), share in _often(draws, lambda one: one.others):
        return (
            f"keypoints {left} and {right}, a pair of left and right, are not exchanged together with the "
            f"other pairs, in {share:.0%} of the draws"
        )
    for keypoint, share in _often(draws, lambda one: one.labelled if one.exchanged else ()):
        return (
            f"keypoint {keypoint} is labelled after the mirror, its partner was not before, in {share:.0%} "
            "of the draws: visibility is not exchanged together with the places of left and right"
        )
    return ""


def _often(
    draws: Sequence[tuple[Moved, ...]], of: Callable[[Moved], Sequence[Any]]
) -> list[tuple[Any, float]]:
    """What occurs in at least LEAST_SHARE of the draws, with its share, the most frequent first."""
    counts = Counter(what for draw in draws for what in {what for one in draw for what in of(one)})
    shares = [(what, count / len(draws)) for what, count in counts.most_common()]
    return [(what, share) for what, share in shares if share >= LEAST_SHARE]


def _lowest(draws: Sequence[tuple[Moved, ...]]) -> float:
    """The correlation that the worst draws (LEAST_SHARE of them) do not exceed."""
    each = [[one.correlation for one in draw if np.isfinite(one.correlation)] for draw in draws]
    worst = sorted(min(one) for one in each if one)
    return float(worst[int(np.ceil(LEAST_SHARE * len(worst))) - 1]) if worst else float("nan")


def _share(draws: Sequence[tuple[Moved, ...]], holds: Callable[[Moved], bool]) -> float:
    """Share of the draws in which a claim holds for at least one sample."""
    return sum(any(holds(one) for one in draw) for draw in draws) / len(draws)


def _drawn(sample: Sample) -> Sample:
    """The sample with waves of colour instead of its photograph.

    Blur does not change them, and no two places look alike, so they decide where a photograph is ambiguous.
    An augmentation that reads the file itself shows its photograph, so they never decide alone.
    """
    import cv2

    H, W = sample.image.shape[:2]
    x0, y0, x1, y1 = sample.box
    side = max(x1 - x0, y1 - y0, 1.0) / WAVES
    cells = np.random.default_rng(0).uniform(0, 255, (max(2, round(H / side)), max(2, round(W / side)), 3))
    waves = cv2.resize(cells, (W, H), interpolation=cv2.INTER_CUBIC)
    return dataclasses.replace(sample, image=waves.clip(0, 255).astype(np.uint8))


def _moved(
    before: Sample, after: Sample, drawn: Sample, drawing: Sample, mirror: Sequence[int] | None
) -> Moved | None:
    """Effect on one sample; None where no keypoint is visible before and after."""
    if before.truth is None or after.truth is None:
        return None
    a, b = np.asarray(before.truth, float), np.asarray(after.truth, float)
    K = len(a)
    orders = [np.arange(K), np.asarray(mirror or _matched(a, b))]
    ways = []
    # Correct explanations first: of two that fit keypoints and pixels equally well the first is taken.
    for exchanged, mirrored in ((False, False), (True, True), (False, True), (True, False)):
        source = a[orders[exchanged]]
        known = (source[:, 2] > 0) & (b[:, 2] > 0)
        if exchanged and (orders[1] == orders[0])[known].all():
            continue  # nothing to exchange among the visible keypoints
        if not known.any():
            continue
        off = _residual(source[known, :2], b[known, :2], mirrored)
        ways.append((off, exchanged, mirrored))
    if not ways:
        return None
    least = min(off for off, *_ in ways)
    best: Moved | None = None
    for off, exchanged, mirrored in ways:
        if off > least + SAME_WAY:
            continue
        seen = [_correlation(*_under(before, after, orders[exchanged]))]
        if seen[0] < TOGETHER and drawing.truth is not None:
            seen.append(_correlation(*_clearest(*_under(drawn, drawing, orders[exchanged]))))
        order = orders[exchanged]
        one = Moved(max(seen), mirrored, exchanged)
        if mirror is not None:  # an order that was matched explains whatever happened
            fresh = np.flatnonzero((a[order, 2] == 0) & (b[:, 2] > 0))
            others = _others(a[order], b, orders[1], mirrored)
            one = dataclasses.replace(one, others=others, labelled=tuple(fresh.tolist()))
        # A clear difference: noise must not choose between a correct and a faulty explanation.
        if best is None or one.correlation > best.correlation + 1 - TOGETHER:
            best = one
    return best


def _others(
    a: Float[np.ndarray, "K 3"], b: Float[np.ndarray, "K 3"], pairs: Order, mirrored: bool
) -> tuple[tuple[int, int], ...]:
    """Pairs of which each lies where the other one belongs, by the movement of all other keypoints.

    Args:
        a: before, in the order that explains the places after.
        b: after.
        pairs: for each keypoint the one on the other side.
        mirrored: places are mirrored.
    """
    known = (a[:, 2] > 0) & (b[:, 2] > 0)
    p, q = (v[:, :2] @ np.array([1, 1j]) for v in (a, b))
    p = p.conj() if mirrored else p
    found = []
    for left, right in enumerate(pairs):
        rest = known.copy()
        rest[[left, right]] = False
        if left >= right or not known[[left, right]].all() or rest.sum() < 3:
            continue
        middle, there = p[rest].mean(), q[rest].mean()
        spread = (abs(p[rest] - middle) ** 2).sum()
        if spread == 0:
            continue
        factor = ((q[rest] - there) * (p[rest] - middle).conj()).sum() / spread
        at = factor * (p[[left, right]] - middle) + there
        size = np.sqrt((abs(q[rest] - there) ** 2).mean())
        own, other = abs(at - q[[left, right]]), abs(at[::-1] - q[[left, right]])
        if (own > 2 * SAME_WAY * size).all() and (3 * other < own).all():
            found.append((left, int(right)))
    return tuple(found)


def _clearest(
    before: Float[np.ndarray, "n rings 3"], after: Float[np.ndarray, "n rings 3"]
) -> tuple[np.ndarray, np.ndarray]:
    """The half of the keypoints that changed least: the others may be occluded."""
    off = np.nanmean((before - after) ** 2, axis=(1, 2)) if len(before) else np.empty(0)
    clearest = np.argsort(off)[: max((len(off) + 1) // 2, 3)]
    return before[clearest], after[clearest]


def _residual(a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "n 2"], mirrored: bool) -> float:
    """Root mean square distance after the best translation, rotation and scale, as a share of b's extent."""
    p, q = ((v - v.mean(0)) @ np.array([1, 1j]) for v in (a, b))
    if mirrored:
        p = p.conj()
    size = np.sqrt((abs(q) ** 2).mean())
    if size == 0 or not (abs(p) > 0).any():
        return 0.0
    factor = (q * p.conj()).sum() / (abs(p) ** 2).sum()
    return float(np.sqrt((abs(factor * p - q) ** 2).mean()) / size)


def _matched(a: Float[np.ndarray, "K 3"], b: Float[np.ndarray, "K 3"]) -> Order:
    """The mirrored keypoint before that is nearest to each keypoint after, where the sides are not known."""
    from scipy.optimize import linear_sum_assignment

    known = np.flatnonzero((a[:, 2] > 0) & (b[:, 2] > 0))
    order = np.arange(len(a))
    if len(known) < 2:
        return order
    p, q = ((v[known, :2] - v[known, :2].mean(0)) @ np.array([1, 1j]) for v in (a, b))
    p = p.conj()
    spread = abs(p).std() or 1.0
    p, q = p / (np.sqrt((abs(p) ** 2).mean()) or spread), q / (np.sqrt((abs(q) ** 2).mean()) or 1.0)
    best = np.inf
    for turn in np.exp(1j * np.deg2rad(np.arange(0, 360, 6))):
        cost = abs(q[:, None] - turn * p[None, :]) ** 2
        rows, columns = linear_sum_assignment(cost)
        if (total := cost[rows, columns].sum()) < best:
            best, order[known] = total, known[columns]
    return order


def _under(before: Sample, after: Sample, order: Order) -> tuple[np.ndarray, np.ndarray]:
    """Colours under each keypoint that is visible before and after, [n, rings, 3] each."""
    a, b = np.asarray(before.truth, float)[order], np.asarray(after.truth, float)
    pairs = [
        (_rings(before, p[:2]), _rings(after, q[:2]))
        for p, q in zip(a, b, strict=True)
        if p[2] > 0 and q[2] > 0 and _inside(before, p) and _inside(after, q)
    ]
    if not pairs:
        return np.empty((0, len(RINGS) - 1, 3)), np.empty((0, len(RINGS) - 1, 3))
    one, two = zip(*pairs, strict=True)
    return np.stack(one), np.stack(two)


def _inside(sample: Sample, point: np.ndarray) -> bool:
    H, W = sample.image.shape[:2]
    return bool(0 <= point[0] <= W - 1 and 0 <= point[1] <= H - 1)


def _rings(sample: Sample, point: Float[np.ndarray, " 2"]) -> Float[np.ndarray, "rings 3"]:
    """Mean colour of every ring around a point."""
    H, W = sample.image.shape[:2]
    x0, y0, x1, y1 = sample.box
    radii = np.array(RINGS) * max(x1 - x0, y1 - y0)
    reach = int(np.ceil(radii[-1]))
    centre = point.round().astype(int)
    rows = np.arange(max(centre[1] - reach, 0), min(centre[1] + reach + 1, H))
    columns = np.arange(max(centre[0] - reach, 0), min(centre[0] + reach + 1, W))
    far = np.hypot(columns[None, :] - point[0], rows[:, None] - point[1])
    patch = sample.image[rows[:, None], columns[None, :]].astype(float)
    # The innermost ring of a small box may contain no pixel centre: half a pixel more always does.
    edges = np.maximum(radii, [0, *np.arange(1, len(radii)) * 0.75])
    inside = [(far >= low) & (far < high) for low, high in itertools.pairwise(edges)]
    return np.stack([patch[ring].mean(0) if ring.any() else np.full(3, np.nan) for ring in inside])


def _correlation(before: Float[np.ndarray, "n rings 3"], after: Float[np.ndarray, "n rings 3"]) -> float:
    """Pearson's, over keypoints and rings, each channel about its own mean."""
    known = np.isfinite(before) & np.isfinite(after)
    a, b = (np.where(known, side, np.nan) for side in (before, after))
    a, b = (side - np.nanmean(side, axis=(0, 1)) for side in (a, b))
    spread = np.sqrt(np.nansum(a**2) * np.nansum(b**2))
    return float(np.nansum(a * b) / spread) if spread > 0 else float("nan")
