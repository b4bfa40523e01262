"""The learning rate that a config's schedule asks for at each iteration, for comparison with the one logged.

Closed forms of mmengine 0.10.7 (optim/scheduler/param_scheduler.py): each scheduler acts between its begin
and its end, on the value that the ones before it left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core import NotAvailable


@dataclass(frozen=True)
class Part:
    """One scheduler of a config.

    Attributes:
        kind: one of `KINDS`.
        by_epoch: it counts epochs.
        begin: from which count on it acts.
        end: until which; infinite where nothing is said.
        given: its other arguments.
    """

    kind: str
    by_epoch: bool
    begin: float
    end: float
    given: Mapping[str, Any]


KINDS = ("LinearLR", "CosineAnnealingLR", "MultiStepLR", "StepLR", "ConstantLR", "ExponentialLR")


def parts_of(config: Mapping[str, Any]) -> tuple[float, list[Part]]:
    """Base rate and schedulers of a config.

    Raises:
        NotAvailable: it has none, or some that are not known here.
    """
    wrapper = config.get("optim_wrapper")
    optimizer = wrapper.get("optimizer") if isinstance(wrapper, Mapping) else config.get("optimizer")
    rate = optimizer.get("lr") if isinstance(optimizer, Mapping) else None
    if not isinstance(rate, (int, float)):
        raise NotAvailable("the config states no learning rate")
    listed = config.get("param_scheduler", ())
    listed = listed if isinstance(listed, Sequence) and not isinstance(listed, str) else [listed]
    parts = []
    for one in listed:
        if not isinstance(one, Mapping):
            continue
        kind = str(one.get("type", ""))
        if kind not in KINDS:
            raise NotAvailable(f"the schedule {kind or 'without a type'} is not known here")
        by_epoch = bool(one.get("by_epoch", True))
        end = one.get("end", math.inf)
        parts.append(Part(kind, by_epoch, float(one.get("begin", 0)), float(end), one))
    return float(rate), parts


def rate_at(
    base: float, parts: Sequence[Part], iteration: float, per_epoch: float, steps_epochs: bool = False
) -> float:
    """The learning rate before an iteration.

    Args:
        base: the optimizer's.
        parts: the schedulers.
        iteration: finished ones.
        per_epoch: iterations of an epoch.
        steps_epochs: every scheduler is stepped once an epoch, whatever it counts: a common mistake.
    """
    rate = base
    for part in parts:
        count = iteration / per_epoch if part.by_epoch or steps_epochs else iteration
        if steps_epochs or (part.by_epoch and not part.given.get("convert_to_iter_based", False)):
            count = math.floor(count)
        if count < part.begin:
            continue
        rate *= _factor(part, min(count, part.end) - part.begin, rate, base)
    return rate


def _factor(part: Part, count: float, rate: float, base: float) -> float:
    given = part.given
    if part.kind == "LinearLR":
        start, end = float(given.get("start_factor", 1 / 3)), float(given.get("end_factor", 1.0))
        length = max(part.end - part.begin - 1, 1.0) if math.isfinite(part.end) else 1.0
        return start + (end - start) * min(count / length, 1.0)
    if part.kind == "ConstantLR":
        return float(given.get("factor", 1 / 3)) if part.begin + count < part.end else 1.0
    if part.kind == "CosineAnnealingLR":
        most = float(given.get("T_max") or max(part.end - part.begin, 1.0))
        least = float(given.get("eta_min", 0.0)) or float(given.get("eta_min_ratio") or 0.0) * base
        turned = (1 + math.cos(math.pi * min(count, most) / most)) / 2
        return (least + (rate - least) * turned) / rate if rate else 1.0
    if part.kind == "MultiStepLR":
        passed = sum(count + part.begin >= m for m in given.get("milestones", ()))
        return float(given.get("gamma", 0.1)) ** passed
    if part.kind == "StepLR":
        return float(given.get("gamma", 0.1)) ** math.floor(
            count / max(float(given.get("step_size", 1)), 1.0)
        )
    return float(given.get("gamma", 1.0)) ** count
