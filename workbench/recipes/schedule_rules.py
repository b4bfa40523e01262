"""Rules about the schedule of a config: its units, and whether warm-up and decay lie within the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.core.report import counted
from workbench.recipes.comparison import AuditFinding, Subject, file_name, finding, shown
from workbench.recipes.values import class_name, is_warm_up, look_up, schedulers

# Steps that leave this share of the rate, or less, have ended the training.
_LOW = 0.02
# A cosine that ends before this part of the run was made for another one.
_SHORT = 0.7
# Samples that few sets have: COCO has 149,813 people.
_LARGE_SET = 1e5


def schedule_length(subject: Subject) -> Iterator[AuditFinding]:
    """Warm-up and decay lie within the run."""
    made = subject.decisions
    epochs = made.get("schedule.epochs")
    if not isinstance(epochs, (int, float)) or not 0 < epochs < math.inf:
        return
    source = "mmengine ParamSchedulerHook: a scheduler acts from begin to end"
    for n, entry in schedulers(made.config):
        by_epoch = entry.get("by_epoch", True) is not False
        place, end = f"param_scheduler.{n}.end", entry.get("end")
        if is_warm_up(entry) and isinstance(end, (int, float)):
            run = epochs if by_epoch else iterations_of(subject, epochs)
            unit = "epochs" if by_epoch else "iterations"
            yield from _long_warm_up(place, float(end), run, unit, source)
        milestones = entry.get("milestones")
        milestones = milestones if isinstance(milestones, (list, tuple)) and by_epoch else ()
        late = [m for m in milestones if isinstance(m, (int, float)) and m >= epochs]
        if late:
            yield finding(
                "error" if len(late) == len(milestones) else "warning",
                f"param_scheduler.{n}.milestones",
                list(entry["milestones"]),
                None,
                cause="milestones after the end of the run",
                evidence=(
                    f"the run has {counted(epochs, 'epoch', spec='g')}, and the rate is to fall at "
                    f"{shown(late)}"
                ),
                why="the rate never falls there, and the last epochs, which bring most of the AP, are "
                "missing",
                source=source,
                fix=f"move the milestones to about {shown([round(epochs * 0.81), round(epochs * 0.95)])}",
                field="schedule.milestones",
            )
    yield from _early_end(subject, epochs, source)
    yield from _early_iterations(subject, epochs, source)
    yield from _plain_warm_up(subject, epochs, source)


def by_iteration(subject: Subject) -> Iterator[AuditFinding]:
    """Schedulers of a run that counts iterations count them too."""
    loop = look_up(subject.config, "train_cfg")
    counts = isinstance(loop, Mapping) and (
        class_name(loop) == "IterBasedTrainLoop" or (not class_name(loop) and loop.get("by_epoch") is False)
    )
    for n, entry in schedulers(subject.config) if counts else ():
        if entry.get("by_epoch", True) is False or entry.get("convert_to_iter_based") is True:
            continue
        yield finding(
            "error",
            f"param_scheduler.{n}.by_epoch",
            True,
            False,
            cause="a schedule by epoch in a run by iteration",
            evidence=f"train_cfg counts iterations, and {class_name(entry)} is stepped by epoch",
            why="the whole run is one epoch there: the rate stays where it begins until the run is over",
            source="mmengine IterBasedTrainLoop.run calls after_train_epoch once, at its end",
            fix="set by_epoch=False, and give begin, end and milestones in iterations",
            field="schedule.decay",
        )


def late_average(subject: Subject) -> Iterator[AuditFinding]:
    """An average of weights begins before the run is over."""
    epochs, hooks = subject.decisions.get("schedule.epochs"), look_up(subject.config, "custom_hooks")
    for n, hook in enumerate(hooks) if isinstance(hooks, (list, tuple)) else ():
        if not isinstance(hook, Mapping) or class_name(hook) != "EMAHook":
            continue
        begin = hook.get("begin_epoch")
        if isinstance(begin, (int, float)) and isinstance(epochs, (int, float)) and 0 < epochs <= begin:
            yield finding(
                "warning",
                f"custom_hooks.{n}.begin_epoch",
                begin,
                0,
                cause="averaged weights that do not average",
                evidence=f"the average begins at epoch {begin:g}, the run has {epochs:g}",
                why="until then the average is a copy of the weights: none is made",
                source="mmengine EMAHook: before begin_epoch the averaged weights are those of the network",
                fix="begin at epoch 0, or before the last third of the run",
                field="ema.momentum",
            )


def _early_iterations(subject: Subject, epochs: float, source: str) -> Iterator[AuditFinding]:
    """Schedulers whose iterations cannot belong to so many epochs, where the size of the set is not known."""
    if iterations_of(subject, epochs):
        return
    batch = subject.decisions.get("train.batch_size")
    total = batch * subject.devices if isinstance(batch, (int, float)) and batch > 0 else 1
    for n, entry in schedulers(subject.config):
        if entry.get("by_epoch", True) is not False:
            continue
        if is_warm_up(entry):
            images = _number(entry.get("end")) / epochs * total
            if images >= _LARGE_SET:
                yield finding(
                    "warning",
                    f"param_scheduler.{n}.end",
                    entry.get("end"),
                    500,
                    cause="warm-up longer than the run",
                    evidence=f"the warm-up ends after {_number(entry.get('end')):g} iterations; "
                    f"{counted(epochs, 'epoch has', 'epochs have', 'g')} so many where the set has at least "
                    f"{counted(images, 'sample', spec=',.0f')}",
                    why="the learning rate never reaches the optimizer's value",
                    source=source,
                    assumption="the training set has fewer samples",
                    fix="end the warm-up after 500 or 1000 iterations",
                    field="schedule.warmup",
                )
        elif _last_fall(entry, 1) <= epochs:
            yield finding(
                "error",
                f"param_scheduler.{n}.by_epoch",
                False,
                True,
                cause="the schedule ends before the run",
                evidence=f"{class_name(entry)} has ended after iteration {_last_fall(entry, 1):g}, and the "
                f"run has {counted(epochs, 'epoch', spec='g')}",
                why="all epochs behind it train at the lowest rate",
                source=source,
                assumption="an epoch has more than one iteration",
                fix="set by_epoch=True where epochs are meant",
                field="schedule.milestones",
            )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _early_end(subject: Subject, epochs: float, source: str) -> Iterator[AuditFinding]:
    """A cosine, or steps, whose last fall is long before the end of the run, with no scheduler after it."""
    entries = [(n, e) for n, e in schedulers(subject.config) if not is_warm_up(e)]
    each = iterations_of(subject, epochs) / epochs
    ends = [_last_fall(entry, each) for _, entry in entries]
    if not entries or math.inf in ends:
        return
    n, last = entries[-1]
    cosine = class_name(last) == "CosineAnnealingLR"
    if max(ends) >= (epochs if cosine else epochs / 2):
        return
    place = "end" if cosine else "milestones"
    yield finding(
        "warning" if cosine and max(ends) >= _SHORT * epochs else "error",
        f"param_scheduler.{n}.{place}",
        last[place],
        epochs if cosine else [round(epochs * 0.81), round(epochs * 0.95)],
        cause="the schedule ends before the run",
        evidence=f"the {'cosine ends' if cosine else 'last step is'} at epoch {max(ends):g} of {epochs:g}",
        why="the remaining epochs train at the lowest rate",
        source=source,
        fix=f"set end to {counted(epochs, 'epoch', spec='g')}"
        if cosine
        else "move the milestones to the end of the run",
        field="schedule.decay" if cosine else "schedule.milestones",
    )


def _last_fall(entry: Mapping[str, Any], each: float) -> float:
    """The epoch after which a scheduler leaves the rate as it is; inf where it is unknown.

    Args:
        entry: of the scheduler.
        each: iterations of an epoch, 0 where that is not known.
    """
    kind, milestones = class_name(entry), entry.get("milestones")
    if kind == "MultiStepLR" and isinstance(milestones, (list, tuple)):
        gamma = entry.get("gamma", 0.1)
        end = max((m for m in milestones if isinstance(m, (int, float))), default=math.inf)
        # A rate that is not yet low is a choice.
        if not (isinstance(gamma, (int, float)) and 0 <= gamma < 1) or gamma ** len(milestones) > _LOW:
            return math.inf
    else:
        end = entry.get("end")
        if kind in ("MultiStepLR", "StepLR", "ExponentialLR") or not isinstance(end, (int, float)):
            return math.inf
    if entry.get("by_epoch", True) is not False:
        return float(end)
    return end / each if each else math.inf


def iterations_of(subject: Subject, epochs: float) -> float:
    """Steps of the whole run where the data set is the recipe's; 0 where that is not known.

    Args:
        subject: the config and its recipe.
        epochs: of the run.
    """
    recipe, batch = subject.recipe, subject.decisions.get("train.batch_size")
    same = recipe is not None and recipe.samples and file_name(
        subject.decisions.get("train.annotations")
    ) == file_name(recipe.get("train.annotations"))  # fmt: skip
    if not same or recipe is None or not isinstance(batch, (int, float)) or not 0 < batch < math.inf:
        return 0
    return math.ceil(recipe.samples / (batch * subject.devices)) * epochs


def _plain_warm_up(subject: Subject, epochs: float, source: str) -> Iterator[AuditFinding]:
    made, words = subject.decisions, str(subject.decisions.get("schedule.warmup", ""))
    number, _, unit = words.partition(" ")
    if made.dialect == "mmengine" or unit not in ("epochs", "iterations"):
        return
    run = epochs if unit == "epochs" else iterations_of(subject, epochs)
    yield from _long_warm_up(made.key("schedule.warmup"), float(number), run, unit, source)


def _long_warm_up(place: str, end: float, run: float, unit: str, source: str) -> Iterator[AuditFinding]:
    """A warm-up that takes all or most of a run; a run of 0 is not known."""
    if not run or 2 * end < run:
        return
    whole = end >= run
    yield finding(
        "error",
        place,
        end,
        None,
        cause="warm-up longer than the run" if whole else "warm-up is long for this run",
        evidence=f"the warm-up ends after {end:g} {unit}, the run has {run:g}",
        why="the learning rate never reaches the optimizer's value"
        if whole
        else "the learning rate stays below the optimizer's value for most of the run",
        source=source,
        fix=f"end the warm-up after about {max(1, round(run / 20))} {unit}",
        field="schedule.warmup",
    )


SCHEDULE_RULES = (schedule_length, by_iteration, late_average)
"""In the order of a report."""
