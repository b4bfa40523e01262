"""The learning rate that a config's schedule asks for at each iteration, and for each group of parameters.

Closed forms of mmengine 0.10.7 (optim/scheduler/param_scheduler.py): each scheduler acts between its begin
and its end, on the value that the ones before it left. ``lr_config`` of mmcv 0.x is read as such schedulers.
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


KINDS = ("LinearLR", "CosineAnnealingLR", "MultiStepLR", "StepLR", "ConstantLR", "ExponentialLR", "PolyLR")
# A group whose rate is a smaller part of the optimizer's does not move in any run: published recipes with
# layer decay go down to .005.
NEAR_ZERO = 1e-3


def parts_of(config: Mapping[str, Any]) -> tuple[float, list[Part]]:
    """Base rate and schedulers of a config.

    Raises:
        NotAvailable: it has none, or some that are not known here.
    """
    rate = optimizer_of(config)[1].get("lr")
    if not isinstance(rate, (int, float)):
        raise NotAvailable("the config states no learning rate")
    if isinstance(config.get("lr_config"), Mapping):
        return float(rate), _parts_of_mmcv(config["lr_config"], config)
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


def optimizer_of(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What holds the options of parameter groups, and the optimizer; {} for what the config does not have."""
    wrapper, own = config.get("optim_wrapper"), config.get("optimizer")
    groups = wrapper if isinstance(wrapper, Mapping) else own
    optimizer = wrapper.get("optimizer") if isinstance(wrapper, Mapping) else own
    return tuple(one if isinstance(one, Mapping) else {} for one in (groups, optimizer))  # type: ignore[return-value]


def epochs_of(config: Mapping[str, Any]) -> float:
    """Epochs of the run; infinite where the config does not say."""
    for place, key in (("train_cfg", "max_epochs"), ("runner", "max_epochs")):
        entry = config.get(place)
        if isinstance(entry, Mapping) and isinstance(entry.get(key), (int, float)):
            return float(entry[key])
    total = config.get("total_epochs")
    return float(total) if isinstance(total, (int, float)) else math.inf


def _parts_of_mmcv(given: Mapping[str, Any], config: Mapping[str, Any]) -> list[Part]:
    """The schedule of ``lr_config``; its warm-up is a factor on whatever the policy gives.

    Source: mmcv 1.7 runner/hooks/lr_updater.py.
    """
    policy, by_epoch = str(given.get("policy", "fixed")).lower(), bool(given.get("by_epoch", True))
    end, step = epochs_of(config) if by_epoch else math.inf, given.get("step")
    least = {"eta_min": given.get("min_lr") or 0.0, "eta_min_ratio": given.get("min_lr_ratio")}
    if policy == "step" and isinstance(step, (int, float)):
        own = [Part("StepLR", by_epoch, 0, math.inf, {"step_size": step, "gamma": given.get("gamma", 0.1)})]
    elif policy == "step":
        own = [Part("MultiStepLR", by_epoch, 0, math.inf, {"milestones": step or (), **given})]
    elif policy in ("cosineannealing", "poly") and math.isfinite(end):
        kind = "PolyLR" if policy == "poly" else "CosineAnnealingLR"
        own = [Part(kind, by_epoch, 0, end, {**least, "power": given.get("power", 1.0)})]
    elif policy == "fixed":
        own = []
    else:
        raise NotAvailable(f"the schedule {policy} of mmcv is not known here, or without its length")
    warm, length = given.get("warmup"), float(given.get("warmup_iters") or 0)
    if not warm or not length:
        return own
    if warm not in ("linear", "constant"):
        raise NotAvailable(f"the warm-up {warm} of mmcv is not known here")
    ratio, whole = float(given.get("warmup_ratio", 0.1)), bool(given.get("warmup_by_epoch", False))
    if warm == "linear":
        return [*own, Part("LinearLR", whole, 0, length + 1, {"start_factor": ratio})]
    return [*own, Part("ConstantLR", whole, 0, length, {"factor": ratio})]


def group_factors(config: Mapping[str, Any]) -> dict[str, float]:
    """What part of the optimizer's rate each group of parameters gets, by the group's name.

    Groups are those of ``paramwise_cfg``: custom keys, biases, and the blocks of layer decay, counted as
    mmpose's constructor does: 0 is the patch embedding, the one behind the last block the head.
    """
    groups, _ = optimizer_of(config)
    given = groups.get("paramwise_cfg")
    given = given if isinstance(given, Mapping) else {}
    found: dict[str, float] = {}
    rate, blocks = given.get("layer_decay_rate"), given.get("num_layers")
    if (
        isinstance(rate, (int, float))
        and isinstance(blocks, int)
        and "Decay" in str(groups.get("constructor"))
    ):
        return {f"layer {n} of layer decay": float(rate) ** (blocks + 1 - n) for n in range(blocks + 2)}
    keys = given.get("custom_keys")
    for name, entry in keys.items() if isinstance(keys, Mapping) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("lr_mult"), (int, float)):
            found[str(name)] = float(entry["lr_mult"])
    if isinstance(given.get("bias_lr_mult"), (int, float)):
        found["bias"] = float(given["bias_lr_mult"])
    return found


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
    if part.kind == "PolyLR":
        least = float(given.get("eta_min", 0.0))
        share = 1 - min(count / max(part.end - part.begin, 1.0), 1.0)
        return (least + (rate - least) * share ** float(given.get("power", 1.0))) / rate if rate else 1.0
    if part.kind == "MultiStepLR":
        passed = sum(count + part.begin >= m for m in given.get("milestones", ()))
        return float(given.get("gamma", 0.1)) ** passed
    if part.kind == "StepLR":
        return float(given.get("gamma", 0.1)) ** math.floor(
            count / max(float(given.get("step_size", 1)), 1.0)
        )
    return float(given.get("gamma", 1.0)) ** count
