"""The learning rate schedule of an mmengine config, gone through in as many steps as an attempt has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SCHEDULERS = (
    "LinearLR", "ConstantLR", "CosineAnnealingLR", "MultiStepLR", "StepLR", "ExponentialLR", "PolyLR",
)  # fmt: skip
# Schedulers that begin small and end at the full rate.
WARM_UPS = ("LinearLR", "ConstantLR")
# Of one config; recipes have two or three. Each is gone through step by step.
MOST_SCHEDULERS = 50
# Where neither the data set nor the schedule says how many steps an epoch has: COCO has 584 at 256 crops.
EPOCH_STEPS = 500


def type_of(entry: Any) -> str:
    """Name of a type without its module."""
    return str(entry.get("type", "none")).rpartition(".")[2] if isinstance(entry, Mapping) else "none"


def schedule_of(
    config: Mapping[str, Any],
    steps: int,
    base: float,
    used: list[str],
    unused: list[str],
    wrong: list[str],
) -> dict[str, Any]:
    """Changes to Settings: the factor on the learning rate at every step.

    Args:
        config: read, whole.
        steps: of the attempt.
        base: the peak rate.
        used: what is used is added to it, in words.
        unused: what is not.
        wrong: what is wrong with it.
    """
    entries = config.get("param_scheduler") or []
    entries = [entries] if isinstance(entries, Mapping) else list(entries)
    known = [dict(entry) for entry in entries if type_of(entry) in SCHEDULERS]
    unused += [f"schedule {type_of(entry)}" for entry in entries if type_of(entry) not in SCHEDULERS]
    if not known:
        return {}
    if len(known) > MOST_SCHEDULERS:
        raise ValueError(
            f"config: expected at most {MOST_SCHEDULERS} entries of param_scheduler, got {len(known)}"
        )
    epochs, whole, assumed = _length(config, known)
    wrong += _long_warm_ups(known, epochs, whole)
    used.append(
        f"schedule {' and '.join(type_of(e) for e in known)}, {whole} steps compressed to {steps}{assumed}"
    )
    return {"rates": _rates(known, epochs, whole, steps, base), "warm_up": 0}


def _length(config: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> tuple[int, int, str]:
    """Epochs and steps of the config's own run, and what had to be assumed."""
    train = config.get("train_cfg") or {}
    if "max_iters" in train or train.get("by_epoch") is False:
        whole = int(train.get("max_iters") or 1)
        return 1, whole, ""
    epochs = max(1, int(train.get("max_epochs") or 1))
    # A decay counted in steps ends with the run, but a warm-up may end anywhere.
    ends = [
        int(entry.get("end") or entry.get("T_max") or 0)
        for entry in entries
        if entry.get("by_epoch", True) is False and type_of(entry) not in WARM_UPS
    ]
    if ends and max(ends) > 0:
        return epochs, max(ends), ""
    whole = epochs * EPOCH_STEPS
    return epochs, whole, f" ({EPOCH_STEPS} steps an epoch assumed)"


def _long_warm_ups(entries: Sequence[Mapping[str, Any]], epochs: int, whole: int) -> list[str]:
    """Warm-ups that the config's own run does not get through."""
    found = []
    for entry in entries:
        default = 1 / 3 if type_of(entry) in WARM_UPS else 1.0
        if (
            type_of(entry) not in WARM_UPS
            or float(entry.get("start_factor", entry.get("factor", default))) >= 1
        ):
            continue
        by_epoch = entry.get("by_epoch", True) is not False
        end, run = int(entry.get("end") or 0), epochs if by_epoch else whole
        unit = "epochs" if by_epoch else "steps"
        if end >= run:
            found.append(
                f"the warm-up is longer than the run: it ends after {end} {unit}, the run has {run}, so the "
                "learning rate never reaches what the optimizer names"
            )
    return found


def _rates(
    entries: Sequence[Mapping[str, Any]], epochs: int, whole: int, steps: int, base: float
) -> tuple[float, ...]:
    """Factor on the learning rate at every step, by mmengine's schedulers over a run of so many steps."""
    import torch
    from mmengine.optim import scheduler as mmengine_schedulers

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    made = []
    for entry in entries:
        by_epoch = entry.get("by_epoch", True) is not False
        shrink = steps / (epochs if by_epoch else whole)

        def at(value: Any, shrink: float = shrink) -> int:
            return max(0, round(float(value) * shrink))

        kind = type_of(entry)
        options = {k: v for k, v in entry.items() if k not in ("type", "by_epoch", "convert_to_iter_based")}
        begin = at(options.pop("begin", 0) or 0)
        end = options.pop("end", None)
        options |= {"begin": begin, "end": max(begin + 1, at(end)) if end and math.isfinite(end) else steps}
        if "T_max" in options:
            options["T_max"] = max(1, at(options["T_max"]))
        if "milestones" in options:
            options["milestones"] = [at(m) for m in options["milestones"]]
        if "step_size" in options:
            options["step_size"] = max(1, at(options["step_size"]))
        if kind == "ExponentialLR" and "gamma" in options:
            options["gamma"] = float(options["gamma"]) ** (1 / shrink)
        if "eta_min" in options:  # a rate, not a factor
            options["eta_min"] = float(options["eta_min"]) / base
        try:
            made.append(getattr(mmengine_schedulers, kind)(optimizer, by_epoch=False, **options))
        except (TypeError, ValueError) as failure:
            raise ValueError(f"config: param_scheduler {kind} cannot be used: {failure}") from failure
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()  # without gradients it does nothing, but schedulers expect it
        for scheduler in made:
            scheduler.step()
    return tuple(rates)
