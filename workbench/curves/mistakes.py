"""Mistakes of a training that its loss and its evaluations show together.

A loss that does not fall, weights that were lost while the counting went on, evaluations of other weights
than those that are trained, and data that come in the same order in every epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.core.finding import Finding, Measurement
from workbench.core.report import counted, signed_text
from workbench.curves.quantities import role_of, scale_of, short
from workbench.curves.schedule import BEGUN_ANEW, rises
from workbench.curves.table import Curves, Series

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

STANDS_STILL = "every evaluation gives the same figures"
IN_ORDER = "training data not shuffled"
NOT_FALLING = "training loss does not fall"

# A metric below this has nothing to lose.
LEAST = 0.1
# A loss that goes back so far of what it had fallen, while the metric keeps at most this part of its value,
# is that of a network without what it had learned.
BACK, LOST = 0.6, 0.6
# A metric of single batches falls and its loss rises at any place: where weights are lost, each does so by
# this many times what one place in five exceeds.
USUAL, TIMES = 0.8, 4
# Evaluations that may agree to the last digit by chance; the loss that falls meanwhile by this part.
SAME_COUNT, FALLS = 5, 0.05
# The loss repeats itself in each epoch: part of its variance, its range in parts of the loss, epochs needed.
REPEATED, SWING, EPOCHS = 0.5, 0.1, 5
# A loss that falls by less than this share does not fall, one that ends above so many times its start rises.
LEAST_FALL, RISES, LOSS_ROWS = 0.05, 1.2, 6
# A run that reached so much of its metric and rose to it, or that began high, learned, however flat its
# loss lies: the PCK of a constant pose can be .25.
LEARNED, ROSE, HIGH = 0.1, 0.02, 0.3


def _place(series: Series, place: float) -> str:
    return f"{series.unit} {place:g}"


def begun_again(curves: Curves) -> list[Finding]:
    """Loss and metric that go back to where they began, at one place, though the counting goes on."""
    judged, loss = curves.headline, curves.loss
    loss = loss if judged is None or loss is None else loss.in_epochs_of(judged)
    if judged is None or loss is None or judged.unit != loss.unit or role_of(judged.name) == "error":
        return []
    x, value = judged.by_epoch()
    lx, lv = loss.by_epoch()
    if len(x) < 3 or not len(lv):
        return []
    ends = np.searchsorted(lx, x, side="right")  # of each evaluation in the losses
    was, highest = _medians_and_highest(lv, np.r_[0, ends])
    places = np.arange(2, len(x))
    was, now, first = was[places - 1], highest[places], float(lv[0])
    lost = (value[places - 1] >= LEAST * scale_of(value)) & (value[places] <= LOST * value[places - 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        back = (now - was) / (first - was)
    # Further back is divergence, and so is what goes on rising; nan where no loss lies between two.
    lost &= (first > was) & (back >= BACK) & (back <= 2 - BACK)
    lost &= _outstanding(value[places - 1] - value[places]) & _outstanding(now - was)
    if not lost.any():
        return []
    places, was, now = places[lost], was[lost], now[lost]
    later = len(lv) - ends[places]
    falls = 2 * _later_above(lv, ends[places], now) <= later
    rose = np.array(sorted(place for _, place, _, _ in rises(curves, judged)), float)
    # The learning rate explains what is lost between two evaluations in which it rises.
    began, ended = (np.searchsorted(rose, x[places - back], side="right") for back in (1, 0))
    found = np.flatnonzero(falls & (began == ended))
    if not len(found):
        return []
    i = int(found[0])
    n, name = int(places[i]), short(judged.name)
    return [
        Finding(
            BEGUN_ANEW,
            f"between {_place(judged, x[n - 1])} and {x[n]:g} the loss goes back from {was[i]:.3g} to "
            f"{now[i]:.3g} (it began at {first:.3g}), and {name} from {value[n - 1]:.3g} to {value[n]:.3g}: "
            "what was learned is lost, and the counting goes on",
            "see which weights were loaded there: a resume that did not find its checkpoint "
            "begins with new ones",
            (Measurement(f"{name} before", float(value[n - 1])), Measurement("after", float(value[n]))),
            severity="warning",
            where=f"{judged.unit} {x[n - 1]:g} to {x[n]:g}",
            refuted_by="the checkpoints on both sides of it, evaluated again, do not differ",
        )
    ]


def _outstanding(change: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which changes are TIMES the usual ones; what goes the other way, or is unknown, counts as 0."""
    change = np.maximum(np.nan_to_num(change), 0)
    return change >= TIMES * np.quantile(change, USUAL, method="lower")


def _medians_and_highest(
    values: Float[np.ndarray, " F"], bounds: Int[np.ndarray, " n+1"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Median and maximum of each part of the values; nan of an empty part.

    Args:
        values: finite.
        bounds: part i is values[bounds[i] : bounds[i + 1]]; they do not fall.
    """
    counts = np.diff(bounds)
    held, part = values[: bounds[-1]], np.repeat(np.arange(len(counts)), counts)
    in_order = held[np.lexsort((held, part))]
    medians, highest = np.full((2, len(counts)), np.nan)
    filled = np.flatnonzero(counts)
    start, size = bounds[:-1][filled], counts[filled]
    medians[filled] = (in_order[start + (size - 1) // 2] + in_order[start + size // 2]) / 2
    highest[filled] = in_order[start + size - 1]
    return medians, highest


def _later_above(
    values: Float[np.ndarray, " F"], starts: Int[np.ndarray, " n"], limits: Float[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """How many of values[starts[i]:] are above limits[i].

    What is left of a start is put together from sorted blocks of doubling lengths: a loop over the starts
    takes hours on a log of 100,000 evaluations.

    Args:
        values: finite.
        starts: 0 to the number of values.
        limits: one of each start.
    """
    level = np.unique(values)
    rank, limit = np.searchsorted(level, values), np.searchsorted(level, limits, side="right")
    above, at, size = np.zeros(len(starts), int), starts.astype(int), 1
    width, wide = len(level) + 1, 1 << max(len(values) - 1, 0).bit_length()
    rank = np.r_[rank, np.full(wide - len(rank), -1)]  # -1 is above no limit
    while size < wide:
        # Blocks of this size in which a rest begins: those whose number is odd.
        odd = np.flatnonzero((at // size) % 2 == 1)
        if len(odd):
            block = at[odd] // size
            keys = np.sort(rank.reshape(-1, size), axis=1) + np.arange(wide // size)[:, None] * width
            above[odd] += (block + 1) * size - np.searchsorted(keys.ravel(), block * width + limit[odd])
            at[odd] += size
        size *= 2
    whole = at == 0
    if whole.any():
        above[whole] = len(values) - np.searchsorted(np.sort(rank[: len(values)]), limit[whole])
    return above


def stands_still(curves: Curves) -> list[Finding]:
    """Evaluations that agree to the last digit while the loss moves: not what is trained is evaluated."""
    judged, loss = curves.headline, curves.loss
    loss = loss if judged is None or loss is None else loss.in_epochs_of(judged)
    if judged is None or loss is None or judged.unit != loss.unit:
        return []
    x, value = judged.by_epoch()
    count = int(np.argmax(np.r_[value[::-1] != value[-1], True])) if len(value) else 0
    if count < SAME_COUNT or 2 * count < len(value) or value[-1] == 0:
        return []
    lx, lv = loss.by_epoch()
    during = lv[(lx >= x[-count]) & (lx <= x[-1])]
    # A network that no longer learns repeats its figures too: only a loss that falls says that it does.
    if len(during) < 2:
        return []
    part = max(1, len(during) // 4)
    began, ended = float(np.median(during[:part])), float(np.median(during[-part:]))
    if began - ended < FALLS * abs(ended):
        return []
    name, others = short(judged.name), [s for s in curves.series if s.split == "val" and s is not judged]
    moving = [
        s
        for s in others
        if role_of(s.name) == "metric" and len(v := s.by_epoch()[1]) and np.ptp(v[-count:]) > 0
    ]
    if moving:
        return []
    return [
        Finding(
            STANDS_STILL,
            f"{name} is {value[-1]:.4g} in the last {count} of {len(value)} evaluations, to the "
            "last digit, while the "
            f"training loss falls from {began:.3g} to {ended:.3g}",
            "evaluate the weights that are trained: an average that is never updated, a copy made "
            "before the training, "
            "or one stored prediction file is evaluated instead",
            (Measurement("evaluations that agree", count),),
            severity="warning",
            where=f"{judged.unit} {x[-count]:g} to {x[-1]:g}",
            refuted_by="checkpoints of two of these epochs that give other figures when evaluated again",
        )
    ]


def start_and_end(loss: Series) -> tuple[float, float]:
    """Medians of a loss over the first and the last tenth of its rows, of two rows at least."""
    _, value = loss.finite()
    part = max(2, len(value) // 10)
    return float(np.median(value[:part])), float(np.median(value[-part:]))


def not_falling(curves: Curves) -> list[Finding]:
    """A training loss that stays or rises in a run whose figure is low."""
    loss = curves.loss
    if loss is None or len(loss.finite()[1]) < LOSS_ROWS:
        return []
    first, last = start_and_end(loss)
    # The loss of a likelihood (RLE) is negative in a run that learns.
    fall = (first - last) / (abs(first) or abs(last) or 1.0)
    value = np.zeros(0) if curves.headline is None else curves.headline.by_epoch()[1]
    learned = (
        curves.headline is not None
        and role_of(curves.headline.name) == "metric"
        and len(value) > 0
        and value.max() >= LEARNED * scale_of(value)
        and (value.max() >= HIGH * scale_of(value) or value.max() - value[0] >= ROSE * scale_of(value))
    )
    rises = fall < 1 - RISES
    if fall >= LEAST_FALL or (learned and not rises):
        return []
    moves = "rises from" if rises else "stays where it is, from"
    return [
        Finding(
            NOT_FALLING,
            f"the training loss {moves} {first:.3g} to {last:.3g} over "
            f"{counted(len(loss.finite()[1]), 'row')}",
            "overfit one image (`workbench overfit`), whose bisector tells apart: a rate that is too large "
            "or too small, an optimizer without the model's parameters, gradients that are not cleared",
            (Measurement("share by which the loss falls", fall, expected=0.5),),
            confidence="likely",
            refuted_by="a loss that falls when one image is learned by heart (`workbench overfit`)",
        )
    ]


def in_order(curves: Curves) -> list[Finding]:
    """A loss that repeats itself in every epoch: its batches are the same, in the same order."""
    loss = curves.loss
    if loss is None:
        return []
    held = np.flatnonzero(np.isfinite(loss.epoch) & np.isfinite(loss.value) & (loss.value > 0))
    held = held[np.argsort(loss.epoch[held], kind="stable")]
    epochs, value = loss.epoch[held], loss.value[held]
    places, counts = np.unique(epochs, return_counts=True)
    rows = int(np.median(counts)) if len(counts) else 0
    whole = places[counts == rows]
    if rows < 4 or len(whole) < EPOCHS:
        return []
    # [epoch, row]: each row against the line through the epochs before and after it.
    table = np.log(value[np.isin(epochs, whole)]).reshape(len(whole), rows)
    # The moving mean by sums: a convolution takes minutes for epochs of 100,000 rows.
    sums = np.r_[0.0, np.cumsum(np.pad(table.ravel(), rows // 2, mode="edge"))]
    trend = (sums[rows:] - sums[:-rows])[: table.size] / rows
    rest = table - trend.reshape(table.shape)
    rest = rest[1:-1]  # ends of the moving mean
    shape = rest.mean(0)
    explained = float(shape.var() / max(rest.var(), 1e-30))
    if explained < REPEATED or np.ptp(shape) < SWING:
        return []
    return [
        Finding(
            IN_ORDER,
            f"the loss repeats itself in each of {counted(len(whole), 'epoch')}: {explained:.0%} of what it "
            f"varies by beside its trend is the place in the epoch, from "
            f"{signed_text(np.exp(shape.min()) - 1, '+.0%')} to "
            f"{signed_text(np.exp(shape.max()) - 1, '+.0%')}",
            "shuffle the training data: the same batches come at the same place of every epoch",
            (Measurement("variance explained by the place in the epoch", explained, "share"),),
            severity="warning",
            refuted_by="a sampler that shuffles, or a logger that averages over the epoch so far",
        )
    ]
