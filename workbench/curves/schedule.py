"""What does the learning rate show? Warm-up, steps, and schedules that a resume restarted."""

from __future__ import annotations

import math

import numpy as np

from workbench.core.finding import Finding, Measurement
from workbench.core.report import counted
from workbench.curves.quantities import role_of, short
from workbench.curves.table import Curves, Restart, Series

LONG_WARM_UP = "warm-up is long for this run"
RESTARTED = "resume restarted the schedule"
BEGUN_ANEW = "training began anew"
RATE_STEP = "learning rate step"
RATE_RISE = "learning rate jumps up"
ENDED_EARLY = "the schedule ends before the run"

# Long: so many epochs and this part of the run; or this part of it whatever the epochs.
WARM_EPOCHS, WARM_PART, WARM_MOST = 10, 0.05, 0.25
# From this part on it is no matter of taste: most of the run is made below its own rate.
MOSTLY_WARM = 0.5
# A schedule has ended where the rate stays at this part of its highest value or below, for this part of the
# run.
LOWEST, ENDED_PART = 0.05, 0.4
# A step divides the rate by at least so much from one row to the next.
STEP_BY = 2.0
# A rise multiplies it by at least so much from one row to the next.
RISE_BY = 5.0
# Part of the metric that it has to cost where it does not go back.
COSTS = 0.2


def rate_of(curves: Curves) -> Series | None:
    """The learning rate: ``lr`` where there is one, else the first."""
    rates = [s for s in curves.series if role_of(s.name) == "rate" and len(s.finite()[1]) > 1]
    return min(rates, key=lambda s: short(s.name).lower() != "lr", default=None)


def warm_up_end(curves: Curves) -> tuple[str, float] | None:
    """Unit and place until which the learning rate rises from the start; None where it does not."""
    rate = rate_of(curves)
    if rate is None:
        return None
    x, value = rate.finite()
    peak = int(np.argmax(value >= value.max() * 0.999))
    if peak == 0 or np.any(np.diff(value[: peak + 1]) < -1e-12) or value[0] > 0.9 * value.max():
        return None
    return rate.unit, float(x[peak])


def warm_up(curves: Curves) -> list[Finding]:
    """Warm-up that takes many epochs, or a large part of the run."""
    rate, end = rate_of(curves), warm_up_end(curves)
    if rate is None or end is None:
        return []
    x, value = rate.finite()
    first = 0.0 if rate.unit == "iteration" else float(x[0]) - 1
    length, whole = end[1] - first, float(x[-1]) - first
    part = length / max(whole, 1e-12)
    long = rate.unit == "epoch" and length >= WARM_EPOCHS and part >= WARM_PART
    if len(x) < 4 or not (long or part >= WARM_MOST):
        return []
    return [
        Finding(
            LONG_WARM_UP,
            f"the learning rate rises until {end[0]} {end[1]:g} of {x[-1]:g} ({part:.0%} of the run), from "
            f"{value[0]:.3g} to {value.max():.3g}",
            "warm-up is counted in iterations: with few images or a large batch it lasts many epochs; "
            "shorten it to a few epochs",
            (Measurement("warm-up", length, f"{end[0]}s"), Measurement("part of the run", part, "share")),
            severity="remark" if part < MOSTLY_WARM else "warning",
            where=f"{end[0]} {first + 1:g} to {end[1]:g}",
            refuted_by="a run with a shorter warm-up that is no better at the same epoch",
        )
    ]


def warm_up_of_data(images: int, batch: int, iterations: int, epochs: float = math.nan) -> Finding | None:
    """Whether a warm-up of so many iterations is long for a data set; None where it is not.

    Args:
        images: of the training set.
        batch: images in one step, of all devices together.
        iterations: of warm-up.
        epochs: of the run; nan where it is not known.

    Raises:
        ValueError: a count is below 1.
    """
    if min(images, batch, iterations) < 1:
        raise ValueError("warm-up: expected at least 1 image, 1 image in a batch and 1 iteration")
    each = math.ceil(images / batch)
    length = iterations / each
    if length < WARM_EPOCHS and not length >= WARM_MOST * epochs:
        return None
    mostly = length >= MOSTLY_WARM * epochs
    of = f" of {epochs:g}" if math.isfinite(epochs) else ""
    return Finding(
        LONG_WARM_UP,
        f"{counted(images, 'image')} in batches of {batch} are {counted(each, 'iteration')} per epoch: a "
        f"warm-up of {counted(iterations, 'iteration')} lasts {counted(length, 'epoch', spec='.0f')}{of}",
        "evaluations before its end say nothing about the network; shorten it to a few epochs",
        (Measurement("iterations per epoch", each), Measurement("warm-up", length, "epochs")),
        severity="warning" if mostly else "remark",
        where=f"epoch 1 to {math.ceil(length)}",
        refuted_by="a run with a shorter warm-up that is no better at the same epoch",
    )


def ended_early(curves: Curves) -> list[Finding]:
    """A rate that lies still at its lowest value for much of the run."""
    rate = rate_of(curves)
    if rate is None:
        return []
    x, value = rate.finite()
    last = float(value[-1])
    if len(x) < 10 or not 0 <= last <= LOWEST * value.max():
        return []
    first = len(value) - int(np.argmax(np.r_[np.abs(value[::-1] - last) > 0.01 * last, True]))
    if first >= len(value):
        return []
    part = float((x[-1] - x[first]) / max(x[-1] - x[0], 1e-12))
    if part < ENDED_PART:
        return []
    return [
        Finding(
            ENDED_EARLY,
            f"from {rate.unit} {x[first]:g} on, {part:.0%} of the run, the learning rate stays at "
            f"{last:.3g}, "
            f"{last / value.max():.1%} of its highest",
            "let the schedule end with the run: its end, T_max or milestones are counted in another "
            "unit, or were "
            "made for a shorter run",
            (Measurement("part of the run at the lowest rate", part, "share"),),
            severity="warning",
            where=f"{rate.unit} {x[first]:g} to {x[-1]:g}",
            refuted_by="a run whose schedule ends later that is no better",
        )
    ]


def _rate_over(curves: Curves, like: Series | None) -> Series | None:
    """The learning rate, over the epochs of another series where that is given; None where none is logged."""
    rate = rate_of(curves)
    return rate if rate is None or like is None else rate.in_epochs_of(like)


def steps(curves: Curves, like: Series | None = None) -> list[tuple[str, float, float, float]]:
    """(unit, place, before, after) of each fall of the learning rate by STEP_BY within one logged row.

    A schedule that falls all the time (cosine, exponential) has none: a step falls at least four times as far
    as the rows beside it.

    Args:
        curves: of one run.
        like: a series whose epochs are counted, where the rate is logged by iteration.
    """
    rate = _rate_over(curves, like)
    if rate is None:
        return []
    x, value = rate.finite()
    found = []
    for i in (np.flatnonzero(np.diff(value) < 0) + 1).tolist():
        before, after = float(value[i - 1]), float(value[i])
        if before <= 0 or (after > 0 and before / after < STEP_BY):
            continue
        near = np.abs(np.diff(value[max(0, i - 4) : i])).tolist() + np.abs(np.diff(value[i : i + 4])).tolist()
        if len(near) >= 2 and before - after >= 4 * max(float(np.median(near)), 1e-300):
            found.append((rate.unit, float(x[i]), before, after))
    return found


def rises(curves: Curves, like: Series | None = None) -> list[tuple[str, float, float, float]]:
    """(unit, place, before, after) of each rise of the learning rate within one row far above all before.

    It has to go back soon after, or to cost much of the figure: a constant warm-up ends in such a rise as
    well. A warm restart is none: it goes back to where the schedule began.

    Args:
        curves: of one run.
        like: a series whose epochs are counted, where the rate is logged by iteration.
    """
    rate = _rate_over(curves, like)
    if rate is None:
        return []
    x, value = rate.finite()
    falls, found = steps(curves, like), []
    highest = np.maximum.accumulate(value)
    for i in range(max(2, int(WARM_PART * len(value))), len(value)):
        before, after = float(value[i - 1]), float(value[i])
        if not 0 < RISE_BY * before <= after or after <= STEP_BY * highest[i - 1]:
            continue
        back = any(at > x[i] and high >= after / 2 and low <= 2 * before for _, at, high, low in falls)
        if back or _costs(curves.headline, rate.unit, float(x[i])):
            found.append((rate.unit, float(x[i]), before, after))
    return found


def _costs(judged: Series | None, unit: str, place: float) -> bool:
    """Whether the metric loses much of its value between the evaluations before and after a place."""
    if judged is None or judged.unit != unit or role_of(judged.name) != "metric":
        return False
    x, value = judged.by_epoch()
    before, after = value[x < place], value[x >= place]
    return bool(len(before) and len(after) and after[0] < (1 - COSTS) * before[-1])


def rate_steps(curves: Curves) -> list[Finding]:
    """Each step and each rise of the learning rate, with the figures before and after it."""
    judged, found = curves.headline, []
    for unit, place, before, after in rises(curves, judged)[:2]:
        found.append(
            Finding(
                RATE_RISE,
                f"the learning rate rises from {before:.3g} to {after:.3g} within one row, at {unit} "
                f"{place:g}{_around(judged, unit, place)}",
                "look at what set it: a scheduler that steps in another unit, a resume, a value that was "
                "changed by hand; go on from the checkpoint before it",
                (Measurement("before", before), Measurement("after", after)),
                severity="warning",
                where=f"{unit} {place:g}",
                refuted_by="a schedule in the config that has this rise at this place",
            )
        )
    for unit, place, before, after in steps(curves, judged)[:5]:
        lowest = "0 (perhaps rounded by the log)" if after == 0 else f"{after:.3g}"
        found.append(
            Finding(
                RATE_STEP,
                f"the learning rate falls from {before:.3g} to {lowest} at {unit} {place:g}"
                f"{_around(judged, unit, place)}",
                "",
                (Measurement("before", before), Measurement("after", after)),
                severity="remark",
                where=f"{unit} {place:g}",
            )
        )
    return found


def _around(judged: Series | None, unit: str, place: float) -> str:
    """The figures before and after a place, as the end of a sentence; "" where they are not known."""
    if judged is None or judged.unit != unit:
        return ""
    x, value = judged.by_epoch()
    ahead, behind = np.flatnonzero(x < place), np.flatnonzero(x >= place)
    if not len(ahead) or not len(behind):
        return ""
    a, b = int(ahead[-1]), int(behind[0])
    return f"; {short(judged.name)} {value[a]:.4g} at {x[a]:g}, {value[b]:.4g} at {x[b]:g}"


# Started again.


def restarted(curves: Curves) -> list[Finding]:
    """Starts after the first one that began anew, or with a new schedule."""
    found = []
    rate = rate_of(curves)
    for restart in curves.restarts:
        if restart.begun <= 1 < restart.reached and restart.unit == "epoch":
            found.append(
                Finding(
                    BEGUN_ANEW,
                    f"after epoch {restart.reached:g} the epochs are counted from {restart.begun:g} again",
                    "it was not a resume (--resume), or two runs share a log: keep them apart",
                    severity="warning",
                    where=f"epoch {restart.begun:g}",
                    refuted_by="one run whose epochs are counted so on purpose",
                )
            )
        elif rate is not None and rate.unit == restart.unit:
            found += _schedule(restart, rate)
    return found


def _schedule(restart: Restart, rate: Series) -> list[Finding]:
    x, value = rate.by_epoch()
    ahead, behind = np.flatnonzero(x < restart.begun), np.flatnonzero(x >= restart.begun)
    if len(ahead) < 1 or not len(behind):
        return []
    before, after = float(value[ahead[-1]]), float(value[behind[0]])
    rises = after > STEP_BY * before
    # From the warm-up's start: far below what it was.
    falls = after < before / (5 * STEP_BY) and len(behind) > 1 and value[behind].max() > STEP_BY * after
    if not (rises or falls):
        return []
    return [
        Finding(
            RESTARTED,
            f"training was started again at {restart.unit} {restart.begun:g}, and the learning rate went "
            f"from {before:.3g} to {after:.3g}",
            "resume with the optimiser's and the scheduler's state (--resume, not load_from)",
            (Measurement("before", before), Measurement("after", after)),
            severity="warning",
            where=f"{restart.unit} {restart.begun:g}",
            refuted_by="a schedule in the config that has this step at this place",
        )
    ]
