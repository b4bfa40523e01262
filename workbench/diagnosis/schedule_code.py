"""Learning rates in a training script's code: their size, their schedule's unit, warm-up and resume."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from workbench.core.python_text import tree_of
from workbench.core.report import counted
from workbench.curves.schedule import RESTARTED
from workbench.diagnosis.loop_code import (
    Fault,
    Loop,
    assigned,
    calls,
    methods,
    name_of,
    number_of,
    optimizers_of,
    owner_of,
    reached,
    used_elsewhere,
    uses_framework,
    walk,
)
from workbench.recipes.value_rules import DECAYED, RATES

RATE, DECAY, NEAR_0 = (
    "learning rate too high or too low",
    "weight decay too strong",
    "parts of the network get a learning rate near 0",
)
WRONG_UNIT, FEW_STEPS, WARM_UP = (
    "scheduler counts epochs and is stepped every batch",
    "scheduler counts batches and is stepped every epoch",
    "warm-up longer than the run",
)
NEVER_STEPPED, WRONG_WAY, LATE = (
    "scheduler is never stepped",
    "scheduler waits for the wrong direction",
    "milestones after the end of the run",
)
MOMENTS_LOST = "resume lost the optimizer's state"

# A factor for each epoch that a batch must not have: it ends a rate within a few hundred batches.
OF_AN_EPOCH = 0.995
# A length of so many times the run's epochs is one in batches.
OF_BATCHES = 20
# Batches that no warm-up needs, and examples that a set must have at least if so long a one is to end.
LONGEST_WARM_UP, FEW_EXAMPLES = 20_000, 20_000
# Names of schedulers of torch and transformers.
KINDS = re.compile(r"LR$|LROnPlateau|WarmRestarts|_schedule_with_warmup|^get_scheduler")


def faults_of_rates(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """Learning rates that no network is trained with, and schedules that are stepped at the wrong times.

    Args:
        tree: of the file.
        loop: the innermost one with a backward pass.
    """
    yield from _sizes(tree)
    around = [n for n in walk(tree) if isinstance(n, ast.For) and n is not loop]
    around = [n for n in around if any(inner is loop for inner in walk(n))]
    epochs = next((n for one in around if (n := _count(tree, one)) is not None), None)
    for name, made in _schedulers(tree).items():
        yield from _of_scheduler(tree, loop, name, made, epochs)
    if not uses_framework(tree):
        yield from _resumed(tree)


def _schedulers(tree: ast.Module) -> dict[str, ast.Call]:
    """Schedulers that a file makes, by the name that they are given."""
    return {
        ast.unparse(node.targets[0]): node.value
        for node in walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and KINDS.search(name_of(node.value))
    }


def _count(tree: ast.Module, loop: ast.For) -> float | None:
    """How often ``for epoch in range(n)`` runs; None where it is unknown."""
    over = loop.iter
    if not (isinstance(over, ast.Call) and name_of(over) == "range" and 0 < len(over.args) < 3):
        return None
    first = number_of(tree, over.args[0]) if len(over.args) > 1 else 0.0
    last = number_of(tree, over.args[-1])
    return None if first is None or last is None else last - first


def _sizes(tree: ast.Module) -> Iterator[Fault]:
    for name, call in optimizers_of(tree).items():
        kind = name_of(call).lower()
        words = {word.arg: word.value for word in call.keywords}
        rate = number_of(tree, words.get("lr") or (call.args[1] if len(call.args) > 1 else None))
        low, high = RATES.get(kind, (0.0, float("inf")))
        if rate is not None and rate > 0 and not low <= rate <= high:
            yield Fault(
                RATE, call.lineno,
                f"{name} trains with a rate of {rate:g}; {name_of(call)} is used with {low:g} to {high:g}",
                "take the rate of a published recipe for this network, 1e-4 to 1e-3 with Adam",
            )  # fmt: skip
            continue  # what such a rate does to the decay is the same mistake
        decay = number_of(tree, words.get("weight_decay"))
        if decay is not None and decay > 0 and rate is not None:
            taken = decay * rate if kind in ("adamw", "sgd") else decay * 1e-2
            if taken >= DECAYED and decay >= 0.1:
                yield Fault(
                    DECAY, call.lineno,
                    f"weight_decay={decay:g} at a rate of {rate:g} takes {taken:.2g} of every weight at each "
                    "step",
                    "decay by 0.01 to 0.1 with AdamW, by 1e-4 with SGD",
                )  # fmt: skip
        for group in (n for one in call.args for n in walk(one) if isinstance(n, ast.Dict)):
            pairs = zip(group.keys, group.values, strict=True)
            entry = {ast.unparse(key): value for key, value in pairs if key is not None}
            if (own := number_of(tree, entry.get("'lr'"))) is not None and own < low:
                parts = ast.unparse(entry["'params'"]) if "'params'" in entry else "a group"
                yield Fault(
                    NEAR_0, group.lineno,
                    f"{parts} has a rate of {own:g}: it keeps the values that it begins with",
                    "give this group a rate, or leave it out of the optimizer on purpose",
                )  # fmt: skip


def _of_scheduler(
    tree: ast.Module, loop: Loop, name: str, made: ast.Call, epochs: float | None
) -> Iterator[Fault]:
    """A scheduler of the file.

    Args:
        tree: of the file.
        loop: over the batches.
        name: of the scheduler.
        made: the call that makes it.
        epochs: of the run; None where it is unknown.
    """
    everywhere = [c for c in methods(tree, "step") if owner_of(c) == name]
    inside = [c for part in reached(tree, loop) for c in methods(part, "step") if owner_of(c) == name]
    kind, words = name_of(made), {word.arg: word.value for word in made.keywords}
    if not everywhere:
        if not used_elsewhere(tree, name) and not uses_framework(tree):
            yield Fault(
                NEVER_STEPPED, made.lineno,
                f"{name} is made in line {made.lineno} and its step is never called: the rate stays where "
                "the schedule begins",
                f"call {name}.step() after every epoch, or after every batch where it counts batches",
            )  # fmt: skip
        return
    if kind == "ReduceLROnPlateau":
        yield from _direction(tree, everywhere, words.get("mode") or next(iter(made.args[1:2]), None))
        return
    length = _length(tree, kind, made, words)
    if inside and epochs is not None and _of_epochs(tree, kind, made, words, epochs):
        yield Fault(
            WRONG_UNIT, inside[0].lineno,
            f"{ast.unparse(made)} counts epochs, of which the run has {epochs:g}, and is stepped after every "
            "batch: the schedule is over within the first epochs",
            "step it once an epoch, or give its lengths in batches",
        )  # fmt: skip
    total = number_of(tree, words.get("total_steps") or words.get("T_max"))
    if not inside and epochs and total is not None and total >= OF_BATCHES * epochs:
        yield Fault(
            FEW_STEPS, made.lineno,
            f"{ast.unparse(made)} has {counted(total, 'step', spec='g')}, and is stepped once an epoch, "
            f"{epochs:g} times: of its schedule the run sees the first steps alone",
            "step it after every batch, or give it the number of epochs",
        )  # fmt: skip
    elif not inside and epochs is not None and length is not None:
        first, what = length
        if what == "milestones" and first >= epochs:
            yield Fault(
                LATE, made.lineno,
                f"the run has {counted(epochs, 'epoch', spec='g')}, and the rate of {name} first falls at "
                f"{first:g}",
                f"move the milestones to about {epochs * 0.8:.0f} and {epochs * 0.95:.0f}",
            )  # fmt: skip
        if what == "warm-up" and first >= epochs:
            yield _long_warm_up(made, f"{counted(first, 'epoch', spec='g')}", f"{epochs:g}")
    if inside and epochs and length is not None and length[1] == "warm-up":
        yield from _endless_warm_up(tree, made, length[0], epochs)
    if kind.endswith("_with_warmup") or kind == "get_scheduler":
        warm = number_of(tree, words.get("num_warmup_steps") or next(iter(made.args[1:2]), None))
        steps = number_of(tree, words.get("num_training_steps") or next(iter(made.args[2:3]), None))
        if warm is not None and steps is not None and warm >= steps:
            yield _long_warm_up(made, f"{counted(warm, 'step', spec='g')}", f"{steps:g}")


def _endless_warm_up(tree: ast.Module, made: ast.Call, batches: float, epochs: float) -> Iterator[Fault]:
    """A warm-up in batches that ends within the run only if the set is very large; its size is unknown."""
    sizes = [w.value for c in calls(tree) if name_of(c) == "DataLoader" for w in c.keywords
             if w.arg == "batch_size"]  # fmt: skip
    known = [size for size in (number_of(tree, one) for one in sizes) if size]
    examples = batches / epochs * (max(known) if known else 1)
    if batches < LONGEST_WARM_UP or examples < FEW_EXAMPLES:
        return
    yield Fault(
        WARM_UP, made.lineno,
        f"{ast.unparse(made)} warms up for {counted(batches, 'batch', 'batches', spec='g')}, and the run has "
        f"{counted(epochs, 'epoch', spec='g')}: the rate reaches its value only if the set has more than "
        f"{examples:.0f} examples",
        "warm up for about a twentieth of the run",
        severity="warning",
    )  # fmt: skip


def _long_warm_up(made: ast.Call, length: str, run: str) -> Fault:
    return Fault(
        WARM_UP, made.lineno,
        f"{ast.unparse(made)} warms up for {length}, and the run has {run}: the rate never reaches its value",
        "warm up for about a twentieth of the run",
    )  # fmt: skip


def _length(
    tree: ast.Module, kind: str, made: ast.Call, words: dict[str | None, ast.expr]
) -> tuple[float, str] | None:
    """When a scheduler's rate first falls, or its warm-up ends, and which; None where it is unknown."""
    if kind == "MultiStepLR":
        listed = words.get("milestones") or next(iter(made.args[1:2]), None)
        values = [number_of(tree, one) for one in getattr(listed, "elts", ())]
        known = [v for v in values if v is not None]
        return (min(known), "milestones") if known and len(known) == len(values) else None
    if kind == "StepLR":
        step = number_of(tree, words.get("step_size") or next(iter(made.args[1:2]), None))
        return None if step is None else (step, "milestones")
    if kind == "LinearLR":
        start = number_of(tree, words.get("start_factor") or next(iter(made.args[1:2]), None))
        total = number_of(tree, words.get("total_iters") or next(iter(made.args[3:4]), None))
        return None if total is None or (start is not None and start >= 1) else (total, "warm-up")
    if kind == "LambdaLR":
        rising = words.get("lr_lambda") or next(iter(made.args[1:2]), None)
        held = assigned(tree, rising.id) if isinstance(rising, ast.Name) else []
        text = ast.unparse(held[0] if held else rising) if rising is not None else ""
        found = re.search(r"min\((?:1(?:\.0)?, )?\(?\w+(?: \+ 1\)?)?\s*/\s*(\d+(?:\.\d+)?|\w+)", text)
        if found:
            limit = number_of(tree, tree_of(found[1], "eval").body)
            return None if limit is None else (limit, "warm-up")
    return None


def _of_epochs(
    tree: ast.Module, kind: str, made: ast.Call, words: dict[str | None, ast.expr], epochs: float
) -> bool:
    """Whether a scheduler counts epochs: its numbers lie within the run's, and would end it at once."""
    if kind == "ExponentialLR":
        gamma = number_of(tree, words.get("gamma") or next(iter(made.args[1:2]), None))
        return gamma is not None and 0 < gamma < OF_AN_EPOCH
    if kind in ("MultiStepLR", "StepLR"):
        length = _length(tree, kind, made, words)
        return length is not None and length[0] < epochs
    # T_max and total_iters of exactly the run's epochs are reported by the loop's own rule.
    return False


def _direction(tree: ast.Module, steps: list[ast.Call], mode: ast.expr | None) -> Iterator[Fault]:
    """A plateau of a loss that is asked to rise, or of a metric that is asked to fall."""
    wanted = mode.value if isinstance(mode, ast.Constant) else "min" if mode is None else ""
    for step in steps:
        text = ast.unparse(step.args[0]).lower() if step.args else ""
        falls = bool(re.search(r"loss|error|err\b|nme|epe|mpjpe", text))
        rises = bool(re.search(r"(^|[^a-z])(m?ap|pck|acc|accuracy|oks|auc|score|ar)([^a-z]|$)", text))
        if (wanted == "max" and falls and not rises) or (wanted == "min" and rises and not falls):
            yield Fault(
                WRONG_WAY, step.lineno,
                f"{ast.unparse(step)} is given what should {'fall' if falls else 'rise'}, and the mode is "
                f"'{wanted}': the rate falls while the network learns",
                f"make it with mode='{'min' if falls else 'max'}'",
            )  # fmt: skip


def _resumed(tree: ast.Module) -> Iterator[Fault]:
    """A run that goes on at a later epoch, without the state of its scheduler or of its optimizer."""
    starts = [
        n.iter.args[0]
        for n in walk(tree)
        if isinstance(n, ast.For) and isinstance(n.iter, ast.Call)
        and name_of(n.iter) == "range" and len(n.iter.args) == 2
    ]  # fmt: skip
    read = [
        value for start in starts for value in ([start, *assigned(tree, ast.unparse(start))])
        if re.search(r"\[['\"](epoch|start_epoch|iter)['\"]\]|\.get\(['\"]epoch", ast.unparse(value))
    ]  # fmt: skip
    loaded = {owner_of(call): call for call in methods(tree, "load_state_dict")}
    if not read or not loaded:
        return
    optimizers, schedulers = optimizers_of(tree), _schedulers(tree)
    last = next(reversed(loaded.values()))
    for name, made in schedulers.items():
        if name in loaded or "last_epoch" in ast.unparse(made) or used_elsewhere(tree, name):
            continue
        # A step that gets the epoch as argument continues from there.
        told = any(call.args for call in methods(tree, "step") if owner_of(call) == name)
        if not told and "last_epoch" not in ast.unparse(tree):
            yield Fault(
                RESTARTED, made.lineno,
                f"the run goes on at {ast.unparse(read[0])}, and {name} is made anew in line {made.lineno} "
                "without its state: the schedule begins again",
                f"save {name}.state_dict() and load it with the weights",
            )  # fmt: skip
            return
    for name in optimizers:
        if name not in loaded and not used_elsewhere(tree, name):
            yield Fault(
                MOMENTS_LOST, last.lineno,
                f"the run goes on at {ast.unparse(read[0])} with the weights of line {last.lineno}, and "
                f"{name} is not given its state: moments begin at 0",
                f"save {name}.state_dict() and load it with the weights",
                severity="warning",
            )  # fmt: skip
            return
