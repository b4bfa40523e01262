"""Causes in the learning rate: the log's against the config's schedule, and that of parameter groups.

The rates of a log are compared with the config's schedule as it stands, and as the usual mistakes read it: a
base rate a multiple of it, schedulers stepped too often or too seldom, a schedule or a warm-up begun anew, no
scheduler at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Measurement
from workbench.core.report import counted
from workbench.curves.schedule import rate_of
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.run_logs import own_curves
from workbench.diagnosis.schedule import (
    NEAR_ZERO,
    Part,
    epochs_of,
    group_factors,
    optimizer_of,
    parts_of,
    rate_at,
)
from workbench.recipes.values import decisions_of, leaves

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.curves import Curves

# A rate in the log agrees with the config's where it is so near, in all but a few rows.
NEAR, MOST_ROWS = 0.06, 0.9
# A base rate is another one where it differs by more: rows of a steep schedule differ as much by their
# rounding.
OTHER_BASE = 0.1
# Rows in sequence off the schedule by this factor, at least so many and so large a part, are no rounding.
OFF, LEAST_ROWS, LEAST_PART = 1.5, 6, 0.02
# How often schedulers may be stepped where it should be once: by processes, by accumulated batches.
OFTEN = (2.0, 3.0, 4.0, 8.0, 16.0, 1 / 2, 1 / 4, 1 / 8)
# Points at which a schedule is computed; between them it is read off a line.
GRID = 4000
# Places at which a schedule may begin anew that are tried.
MOST_STARTS = 400
# Rates above so many steps of a log's last digit can be compared.
STEPS_OF_GRAIN = 8


@dataclass(frozen=True)
class Logged:
    """The learning rates of a log.

    Attributes:
        rate: of each row.
        iteration: of each row.
        per_epoch: iterations of an epoch.
        grain: the last digit that the log writes; 0 where it rounds nothing that shows.
    """

    rate: Float[np.ndarray, " R"]
    iteration: Float[np.ndarray, " R"]
    per_epoch: float
    grain: float

    def near(self, expected: Float[np.ndarray, " R"]) -> Bool[np.ndarray, " R"]:
        """Rows that agree with expected rates."""
        return np.abs(self.rate - expected) <= NEAR * np.abs(expected) + self.grain / 2 + 1e-14

    def with_epochs_of(self, length: float) -> Logged:
        """The same rows, an epoch having so many iterations; where they lie in their epoch stays."""
        epoch, within = np.divmod(self.iteration - 1, self.per_epoch)
        return replace(self, iteration=epoch * length + within + 1, per_epoch=length)


@dataclass(frozen=True)
class Reading:
    """One way in which the schedule of a config may have been followed.

    Attributes:
        name: for people; "" for the config as it stands.
        expected: rate of each row.
        fix: what to do.
    """

    name: str
    expected: Float[np.ndarray, " R"]
    fix: str = ""


class Rate(Cause):
    """The learning rate in the log is not the one that the config's schedule asks for."""

    name, group, needs = "learning rate is not the config's", "training", ("log", "config")
    refuted_by = "a scheduler outside of the config, or automatic scaling of the rate by the batch size"

    def test(self, case: Case) -> Answer:
        config = case.config()
        base, parts = parts_of(config)
        logged, as_said = _placed(logged_rates(own_curves(case)), base, parts, config)
        share, right = float(logged.near(as_said).mean()), Reading("", as_said)
        agreement = f"rows agree with the config in {share:.0%} of {counted(len(as_said), 'row')}"
        if share >= MOST_ROWS:
            block = _block(logged, as_said)
            if block is None:
                return RuledOut(
                    f"the rate in {share:.0%} of {counted(len(as_said), 'row')} is the one that the config "
                    "asks for"
                )
            return self.found(f"{agreement}; {_of_block(logged, as_said, *block)}", fix=_ANEW)
        ratio = _ratio(logged, as_said)
        for name, factor in group_factors(config).items():
            if (
                factor > 0
                and abs(ratio / factor - 1) < NEAR
                and logged.near(as_said * factor).mean() > MOST_ROWS
            ):
                return RuledOut(
                    f"the log states the rate of one group of parameters, {name} ({factor:.3g} times)"
                )
        best, agreeing, ratio = _explained(logged, [right, *_readings(logged, base, parts)])
        if agreeing < MOST_ROWS:
            if (block := _left(logged, as_said)) is not None:
                return self.found(
                    f"{agreement}, all others in one sequence; {_of_block(logged, as_said, *block)}",
                    fix="find what changes the rate there beside the config's schedule: a scheduler of the "
                    "script's own (a plateau), a resume, a group of parameters that is logged from there on",
                )
            return self.found(
                f"{agreement}; {_described(logged, as_said)}",
                fix="compare the schedule that really ran with the config",
                severity="warning",
                confidence="possible",
            )
        times = "" if abs(ratio - 1) < OTHER_BASE else f"a base rate {ratio:.3g} times as large"
        fix = f"set the rate of the config, or change the config: the run used {ratio:.3g} times as much"
        return self.found(
            f"{agreement}, and in {agreeing:.0%} with {' and '.join(filter(None, (times, best.name)))}",
            fix=best.fix or fix,
            numbers=(Measurement("rate in the log over the config's", ratio, expected=1.0),),
        )


_ANEW = "resume with the state of the schedulers (resume=True), not with load_from"


def logged_rates(found: Curves) -> Logged:
    """The learning rates of a log.

    Raises:
        NotAvailable: it holds none, does not say where they stand, or rounds them away.
    """
    series, loss = rate_of(found), found.loss
    if series is None or len(series.finite()[1]) < 4:
        raise NotAvailable("the log holds no learning rate")
    held = np.isfinite(series.iteration) & np.isfinite(series.value)
    if held.sum() < 4:
        raise NotAvailable("the log does not count iterations beside the learning rate")
    iterations, value, epochs = series.iteration[held], series.value[held], series.epoch[held]
    grain = _grain(value)
    if value.max() < STEPS_OF_GRAIN * grain:
        raise NotAvailable(f"the log rounds the learning rate to {grain:g}: it cannot be compared")
    per_epoch = math.nan
    stamped = loss if loss is not None else series
    both = np.isfinite(stamped.epoch) & np.isfinite(stamped.iteration) & (stamped.epoch >= 2)
    if both.any():
        # The last row of an epoch lies just before its end.
        last = {float(e): float(i) for e, i in zip(stamped.epoch[both], stamped.iteration[both], strict=True)}
        per_epoch = float(np.median([i / e for e, i in last.items()]))
        if len(last) > 2:  # from one epoch to the next: some loggers count epochs from 0
            ends = np.array(sorted(last.items()))
            per_epoch = float(np.median(np.diff(ends[:, 1]) / np.diff(ends[:, 0])))
    elif np.isfinite(epochs).any() and np.nanmax(epochs) > 0:
        per_epoch = float(iterations.max() / np.nanmax(epochs))
    return Logged(value, iterations, per_epoch if per_epoch > 0 else 1.0, grain)


def _grain(value: Float[np.ndarray, " R"]) -> float:
    """The last digit of rates that are rounded; 0 where they are not, or where too few differ to show it."""
    if len(np.unique(value)) < 4 and value.min() > 0:
        return 0.0
    multiples = (g for g in (1e-3, 1e-4, 1e-5, 1e-6) if np.abs(value / g - np.round(value / g)).max() < 1e-6)
    return next(multiples, 0.0)


def _curve(
    base: float, parts: Sequence[Part], most: float, per_epoch: float, **how: Any
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Finished iterations, and the rate that a schedule asks for behind them."""
    steps = np.arange(0, most + per_epoch, per_epoch) if most < GRID * per_epoch else np.zeros(1)
    at = np.unique(np.r_[np.linspace(0, most, GRID), steps, np.maximum(steps - 1e-6, 0)])
    return at, np.array([rate_at(base, parts, i, per_epoch, **how) for i in at])


def _placed(
    logged: Logged, base: float, parts: Sequence[Part], config: Mapping[str, Any]
) -> tuple[Logged, Float[np.ndarray, " R"]]:
    """The rows where they agree best with the config, and the config's rates there.

    The log of mmcv does not say how many iterations an epoch has; a config that ends at an iteration does.
    """
    gap = float(np.median(np.diff(np.unique(logged.iteration))))
    ends = [part.end for part in parts if not part.by_epoch and math.isfinite(part.end)]
    length = max(ends, default=0.0) / epochs_of(config)
    tries = [logged]
    if logged.per_epoch < length < logged.per_epoch + gap:
        tries.append(logged.with_epochs_of(length))
    made = []
    for one in tries:
        # The rate of a row is that of its iteration, which the row counts as finished.
        before = np.maximum(one.iteration - 1, 0)
        made.append((one, np.array([rate_at(base, parts, i, one.per_epoch) for i in before])))

    def agreeing(pair: tuple[Logged, Float[np.ndarray, " R"]]) -> float:
        one, expected = pair
        return max(one.near(expected).mean(), one.near(expected * _ratio(*pair)).mean())

    return max(made, key=agreeing)


def _ratio(logged: Logged, expected: Float[np.ndarray, " R"]) -> float:
    """How many times as large the logged rates are as the expected ones, in the median."""
    known = (expected > 0) & (logged.rate > STEPS_OF_GRAIN * logged.grain)
    return float(np.median(logged.rate[known] / expected[known])) if known.any() else 1.0


def _readings(logged: Logged, base: float, parts: Sequence[Part]) -> list[Reading]:
    """The schedule of the config as the usual mistakes follow it."""
    before, each = np.maximum(logged.iteration - 1, 0), logged.per_epoch
    at, own = _curve(base, parts, max(OFTEN) * float(before.max()), each)

    def rate(place: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
        return np.interp(place, at, own)

    often = "step the schedulers once for each batch that the optimizer takes, in one process"
    found = [
        Reading(
            "schedulers stepped once an epoch instead of every iteration",
            np.array([rate_at(base, parts, i, each, True) for i in before]),
            "step schedulers with by_epoch=False after every iteration",
        ),
        Reading(
            "schedulers that count epochs stepped every iteration",
            np.array([rate_at(base, [replace(p, by_epoch=False) for p in parts], i, each) for i in before]),
            "step schedulers with by_epoch=True at the end of an epoch",
        ),
        Reading("no scheduler", np.full(len(before), base), "step the schedulers that the config names"),
        *(Reading(f"schedulers stepped {n:g} times for each step", rate(n * before), often) for n in OFTEN),
    ]
    starts = np.unique(np.linspace(1, len(before) - 1, min(MOST_STARTS, len(before) - 1)).astype(int))
    anew = []
    for start in starts:
        moved = np.where(
            np.arange(len(before)) < start, before, np.maximum(before - before[start - 1] - 1, 0)
        )
        anew.append(Reading("the schedule begun anew", rate(moved), _ANEW))
    if anew:
        found.append(max(anew, key=lambda reading: logged.near(reading.expected).mean()))
    return found


def _explained(logged: Logged, readings: Sequence[Reading]) -> tuple[Reading, float, float]:
    """The reading that explains most rows, the share of rows, and the factor on its rates.

    The first of two that explain as much, and without a factor where that is enough.
    """
    tried = []
    for reading in readings:
        ratio = _ratio(logged, reading.expected)
        tried.append((reading, float(logged.near(reading.expected).mean()), 1.0))
        tried.append((reading, float(logged.near(reading.expected * ratio).mean()), ratio))
    best = max(share for _, share, _ in tried)
    return next(one for one in tried if one[1] >= best - 0.01)


def _block(logged: Logged, expected: Float[np.ndarray, " R"]) -> tuple[int, int] | None:
    """First and last of the longest sequence of rows that lie far off the schedule; None for a short one."""
    apart = np.abs(logged.rate - expected) > (OFF - 1) / OFF * expected + logged.grain
    ends = np.flatnonzero(np.diff(np.r_[False, apart, False].astype(int)))
    pairs = [(int(a), int(b) - 1) for a, b in zip(ends[::2], ends[1::2], strict=True)]
    longest = max(pairs, key=lambda pair: pair[1] - pair[0], default=(0, -1))
    length = longest[1] - longest[0] + 1
    return longest if length >= max(LEAST_ROWS, LEAST_PART * len(apart)) else None


def _left(logged: Logged, expected: Float[np.ndarray, " R"]) -> tuple[int, int] | None:
    """First and last of the rows that do not follow the schedule, where all before and behind them do."""
    block = _block(logged, expected)
    if block is None or not block[0]:
        return None
    others = np.r_[logged.near(expected)[: block[0]], logged.near(expected)[block[1] + 1 :]]
    return block if others.mean() >= MOST_ROWS else None


def _of_block(logged: Logged, expected: Float[np.ndarray, " R"], first: int, last: int) -> str:
    share = logged.rate[first : last + 1] / np.maximum(expected[first : last + 1], 1e-30)
    rises = share[-1] > OFF * share[0] and share[0] < 1 / OFF
    which = "a warm-up that was made again" if rises and first else "the schedule is left there"
    return (
        f"from iteration {logged.iteration[first]:g} to {logged.iteration[last]:g} the rate is "
        f"{share.min():.2g} to "
        f"{share.max():.2g} times the config's: {which}"
    )


def _described(logged: Logged, expected: Float[np.ndarray, " R"]) -> str:
    """Both schedules in words: where the rate is highest, and where it ends."""

    def summary(rate: Float[np.ndarray, " R"]) -> str:
        top = int(np.argmax(rate >= 0.99 * rate.max()))
        return f"{rate.max():.3g} from iteration {logged.iteration[top]:g} on and {rate[-1]:.3g} at the end"

    return f"the log's rate is {summary(logged.rate)}, the config's {summary(expected)}"


class WarmUp(Cause):
    """The run ends while the learning rate still rises."""

    name, group, needs = "warm-up longer than the run", "training", ("log or config",)
    refuted_by = "a log of the rest of the run, in which the rate falls again"

    def test(self, case: Case) -> Answer:
        logged = logged_rates(own_curves(case))
        rate, iterations = logged.rate, logged.iteration
        rising = np.diff(rate) > 0
        if len(rate) < 4 or rising.mean() < 0.95:
            return RuledOut(
                f"the rate is highest at iteration {iterations[int(rate.argmax())]:g} of {iterations[-1]:g}"
            )
        return self.found(
            f"the learning rate rises from {rate[0]:.3g} to {rate[-1]:.3g} over all {iterations[-1]:g} "
            "iterations: the run ends in its warm-up",
            fix="shorten the warm-up to a few percent of the run, or train longer",
            numbers=(Measurement("share of the run in warm-up", 1.0, expected=0.05),),
        )


class GroupRates(Cause):
    """Parts of the network get no learning rate, or one so small that they do not move."""

    name, group, needs = "parts of the network get a learning rate near 0", "training", ("config",)
    refuted_by = "weights of these parts that differ between two epochs of the run"

    def test(self, case: Case) -> Answer:
        config = case.config()
        rate = optimizer_of(config)[1].get("lr")
        small = {name: factor for name, factor in group_factors(config).items() if factor < NEAR_ZERO}
        parts = [*_whole_stages(config), *_stated(config)]
        if isinstance(rate, (int, float)) and rate <= 0:
            parts.insert(0, f"the optimizer's own rate is {rate:g}")
        if small:
            names = list(small)
            which = f"{names[0]} to {names[-1]}" if len(small) > 3 else ", ".join(names)
            parts.append(
                f"{which}: {min(small.values()):.2g} to {max(small.values()):.2g} of the optimizer's rate"
            )
        if not parts:
            groups = len(group_factors(config))
            return RuledOut(
                f"none of {groups} groups with an own rate is below {NEAR_ZERO:g} of the optimizer's"
                if groups
                else "the config gives every parameter the optimizer's rate"
            )
        return self.found(
            f"{'; '.join(parts)}: these parameters keep the values that they begin with",
            fix="give them a rate (lr_mult, layer_decay_rate, frozen_stages=-1); keep it if only the rest is "
            "meant to be trained",
            severity="warning",
            confidence="measured",
        )


def _whole_stages(config: Mapping[str, Any]) -> list[str]:
    """A backbone of which every stage, or block, is frozen."""
    from workbench.recipes.key_rules import frozen_whole

    frozen = frozen_whole(config, decisions_of(config).get("backbone.layers"))
    return [] if frozen is None else [f"frozen_stages is {frozen[0]}, and the backbone has {frozen[1]}"]


def _stated(config: Mapping[str, Any]) -> list[str]:
    """Rates of 0 and frozen parts of a config in a layout of its own."""
    if config.get("optim_wrapper") or config.get("optimizer_config") is not None:
        return []
    found = []
    for path, value in leaves(config):
        words = path.lower().replace(".", "_").split("_")
        frozen = value is True and any(word in ("freeze", "frozen") for word in words)
        still = (
            value == 0 and not isinstance(value, bool) and "lr" in words and not {"min", "final"} & set(words)
        )
        if frozen or still:
            found.append(f"{path} is {value}")
    return found


CAUSES: tuple[Cause, ...] = (Rate(), WarmUp(), GroupRates())
