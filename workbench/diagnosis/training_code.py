"""What a training script does wrong, read from its code: nothing is run.

Only what a loop with a backward pass shows by itself is said: a ``zero_grad`` that is missing or late, a
network left in evaluation mode, an optimizer that gets a part of the parameters, clipping behind the step or
to nearly nothing, data that are not shuffled. At level ``train`` the same is done to the overfit attempt, and
is taken away again.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.core import NotAvailable
from workbench.core.finding import Finding
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut

# A gradient norm to which nobody clips on purpose; published recipes clip at .1 to 35.
TIGHT_CLIP = 0.01
UNCLEARED, CLEARED_EARLY, EVALUATING, MISSING, LATE_CLIP, SMALL_CLIP, UNSHUFFLED = (
    "gradients are not cleared",
    "gradients are cleared before the step",
    "network is trained in evaluation mode",
    "optimizer misses parameters",
    "clipping after the step",
    "gradient clipping too small",
    "training data not shuffled",
)


@dataclass(frozen=True)
class Fault:
    """One mistake in a training script.

    Attributes:
        cause: one of the names above.
        line: where it shows, from 1.
        evidence: what the code does, one sentence.
        fix: what to do.
        diff: the line that is added or changed.
    """

    cause: str
    line: int
    evidence: str
    fix: str
    diff: str = ""


@dataclass(frozen=True)
class Script:
    """What a training script says of its loop.

    Attributes:
        path: of the file.
        faults: in the order of the file.
        rate: learning rate of its optimizer; None where it is no number.
        optimizer: adamw, adam or sgd; "" for another.
        clip: norm to which it clips; 0 for no clipping.
    """

    path: Path
    faults: tuple[Fault, ...]
    rate: float | None = None
    optimizer: str = ""
    clip: float = 0.0

    def has(self, cause: str) -> bool:
        """Whether the script has a fault of this name."""
        return any(fault.cause == cause for fault in self.faults)


def scripts(case: Case) -> tuple[Script, ...]:
    """The training scripts among the given code.

    Raises:
        NotAvailable: there is none.
    """

    def read() -> tuple[Script, ...]:
        texts = ((path, path.read_text(encoding="utf-8", errors="replace")) for path in case.given.code)
        found = tuple(script for path, text in texts if (script := script_in(text, path)) is not None)
        if not found:
            raise NotAvailable("no training script was given: Python code with a backward pass in a loop")
        return found

    return case.once("training scripts", read)


def script_in(text: str, path: Path) -> Script | None:
    """What a script says of its loop; None for code without a backward pass in a loop.

    Args:
        text: of the file.
        path: its name, for people.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    loop = _innermost(tree)
    if loop is None:
        return None
    lines = text.splitlines()
    rate, optimizer = _optimizer(tree)
    clip = _clip(tree)
    faults = sorted(_faults(tree, loop, lines, clip), key=lambda fault: fault.line)
    return Script(path, tuple(faults), rate, optimizer, clip[1] if clip else 0.0)


def _innermost(tree: ast.AST) -> ast.For | ast.While | None:
    """The innermost loop with a backward pass."""
    loops = [node for node in ast.walk(tree) if isinstance(node, (ast.For, ast.While))]
    with_backward = [loop for loop in loops if any(_methods(loop, "backward"))]
    return max(with_backward, key=lambda loop: loop.lineno, default=None)


def _faults(
    tree: ast.Module, loop: ast.For | ast.While, lines: Sequence[str], clip: tuple[ast.Call, float] | None
) -> Iterator[Fault]:
    backward = next(_methods(loop, "backward"))
    indent = " " * backward.col_offset
    if not any(_methods(tree, "zero_grad")) and not _sets_grad_to_none(tree):
        yield Fault(
            UNCLEARED, backward.lineno,
            "the loop calls backward and never zero_grad, so each step uses the sum of all gradients so far",
            "clear the gradients before every backward pass",
            f"+{indent}optimizer.zero_grad()\n {lines[backward.lineno - 1]}",
        )  # fmt: skip
    yield from _cleared_early(loop)
    yield from _left_in_evaluation(tree, loop)
    evaluating = next((call for call in _methods(tree, "eval") if call.lineno < backward.lineno), None)
    if evaluating is not None and not any(_methods(tree, "train")):
        name = _owner(evaluating)
        yield Fault(
            EVALUATING, evaluating.lineno,
            f"{name}.eval() is called before the loop and {name}.train() never: batch normalisation keeps "
            "its statistics and dropout is off while the network is trained",
            "put the network in training mode before the loop",
            _changed(lines[evaluating.lineno - 1], ".eval()", ".train()"),
        )  # fmt: skip
    yield from _optimizer_faults(tree, lines)
    step = next((s for s in _methods(loop, "step") if "optim" in ast.unparse(s.func).lower()), None)
    if clip is not None and step is not None and clip[0].lineno > step.lineno:
        yield Fault(
            LATE_CLIP, clip[0].lineno,
            f"gradients are clipped in line {clip[0].lineno}, after the step in line {step.lineno} used them",
            "clip between backward and step",
        )  # fmt: skip
    if clip is not None and 0 < clip[1] < TIGHT_CLIP:
        yield Fault(
            SMALL_CLIP, clip[0].lineno,
            f"gradients are clipped to a norm of {clip[1]:g}; published recipes clip at 0.1 to 35",
            "clip at 1, or not at all",
        )  # fmt: skip
    yield from _loader_faults(tree, lines)


def _changed(line: str, old: str, new: str) -> str:
    """A line before and after."""
    return f"-{line}\n+{line.replace(old, new, 1)}"


def _owner(call: ast.Call) -> str:
    """``x`` of ``x.name(...)``."""
    return ast.unparse(call.func).rpartition(".")[0]


def _cleared_early(loop: ast.For | ast.While) -> Iterator[Fault]:
    """Backward, zero_grad and step of one optimizer, in this order."""
    backward, *_ = sorted(call.lineno for call in _methods(loop, "backward"))
    steps = {_owner(call): call.lineno for call in reversed([*_methods(loop, "step")])}
    for call in _methods(loop, "zero_grad"):
        step = steps.get(_owner(call), 0)
        between = [line for line in steps.values() if backward < line < call.lineno]
        if backward < call.lineno < step and not between:
            yield Fault(
                CLEARED_EARLY, call.lineno,
                f"gradients are cleared after backward in line {backward}: the step in line {step} has none",
                "clear the gradients before backward",
            )  # fmt: skip


def _left_in_evaluation(tree: ast.Module, loop: ast.For | ast.While) -> Iterator[Fault]:
    """A network that is trained in training mode once, and evaluated in a loop that never goes back."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.For, ast.While)) and any(inner is loop for inner in ast.walk(node))
    ]
    outer = min(around, key=lambda node: node.lineno)
    back = {_owner(call) for call in _methods(outer, "train")}
    before = {_owner(call): call.lineno for call in _methods(tree, "train")}
    for call in _methods(outer, "eval"):
        name = _owner(call)
        if name in before and name not in back:
            yield Fault(
                EVALUATING, call.lineno,
                f"{name}.eval() is called in the loop, and {name}.train() in line {before[name]} alone: from "
                "the second epoch on the network is trained in evaluation mode",
                "put the network in training mode at the start of every epoch",
            )  # fmt: skip


def _replaced_late(tree: ast.Module, owner: str, made: int) -> Iterator[Fault]:
    """A layer that takes the place of one of the network's behind the line that makes the optimizer."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        target, layer = node.targets[0], ast.unparse(node.value.func)
        of_network = isinstance(target, ast.Attribute) and ast.unparse(target.value) == owner
        is_layer = layer.startswith(("nn.", "torch.nn.")) and not layer.endswith("Loss")
        if of_network and is_layer and node.lineno > made and not any(_methods(tree, "add_param_group")):
            yield Fault(
                MISSING, node.lineno,
                f"{ast.unparse(target)} is replaced after the optimizer was made in line {made}: its new "
                "weights are not trained",
                "make the optimizer once the network is whole",
            )  # fmt: skip


def _optimizer_faults(tree: ast.Module, lines: Sequence[str]) -> Iterator[Fault]:
    """An optimizer that is given the parameters of one part: ``Adam(model.head.parameters())``."""
    made = [call for call in _calls(tree) if _name(call).lower() in ("adam", "adamw", "sgd")]
    if len(made) != 1 or not made[0].args:
        return
    given = made[0].args[0]
    if not (isinstance(given, ast.Call) and _name(given) == "parameters"):
        return
    owner = _owner(given)
    yield from _replaced_late(tree, owner, made[0].lineno)
    root, _, part = owner.partition(".")
    if part and root != "self":
        yield Fault(
            MISSING, made[0].lineno,
            f"the optimizer gets {owner}.parameters(): nothing else of {root} is trained",
            "give the optimizer all parameters of the network, or freeze the rest on purpose",
            _changed(lines[made[0].lineno - 1], owner, root),
        )  # fmt: skip


def _loader_faults(tree: ast.Module, lines: Sequence[str]) -> Iterator[Fault]:
    """The only loader, or the one that is called train, does not shuffle."""
    loaders = [call for call in _calls(tree) if _name(call) == "DataLoader"]
    trained = [call for call in loaders if "train" in lines[call.lineno - 1].lower()]
    for call in trained or (loaders if len(loaders) == 1 else []):
        words = {word.arg: word.value for word in call.keywords}
        shuffle = words.get("shuffle")
        off = shuffle is None or (isinstance(shuffle, ast.Constant) and shuffle.value is False)
        if off and not {"sampler", "batch_sampler"} & set(words) and len(call.args) < 3:
            yield Fault(
                UNSHUFFLED, call.lineno,
                "the loader of the training data does not shuffle: every epoch has the same batches",
                "shuffle the training data: DataLoader(..., shuffle=True)",
            )  # fmt: skip


def _optimizer(tree: ast.Module) -> tuple[float | None, str]:
    for call in _calls(tree):
        name = _name(call).lower()
        if name in ("adam", "adamw", "sgd"):
            value = next((word.value for word in call.keywords if word.arg == "lr"), None)
            value = value or (call.args[1] if len(call.args) > 1 else None)
            return _value(value), name
    return None, ""


def _clip(tree: ast.Module) -> tuple[ast.Call, float] | None:
    for call in _calls(tree):
        if _name(call) in ("clip_grad_norm_", "clip_grad_norm"):
            word = next((word.value for word in call.keywords if word.arg == "max_norm"), None)
            value = _value(word or (call.args[1] if len(call.args) > 1 else None))
            return call, value or 0.0
    return None


def _value(node: ast.expr | None) -> float | None:
    is_number = isinstance(node, ast.Constant) and isinstance(node.value, (int, float))
    return float(node.value) if is_number else None  # type: ignore[union-attr,arg-type]


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _methods(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """Calls of a method without arguments that matter: ``x.name(...)``."""
    return (call for call in _calls(tree) if isinstance(call.func, ast.Attribute) and call.func.attr == name)


def _sets_grad_to_none(tree: ast.AST) -> bool:
    targets: list[Any] = [t for node in ast.walk(tree) if isinstance(node, ast.Assign) for t in node.targets]
    return any(isinstance(target, ast.Attribute) and target.attr == "grad" for target in targets)


class TrainingScript(Cause):
    """Mistakes that the code of a training loop shows."""

    name, group, needs = "training script", "training", ("code of the training loop",)
    refuted_by = "code outside of this file that does what is missing here"

    def test(self, case: Case) -> Answer:
        found = [
            Finding(
                fault.cause,
                f"{script.path.name}, line {fault.line}: {fault.evidence}",
                fault.fix,
                refuted_by=self.refuted_by,
                where=f"{script.path.name}, line {fault.line}",
                diff=fault.diff,
                severity="warning" if fault.cause == UNSHUFFLED else "error",
            )
            for script in scripts(case)
            for fault in script.faults
        ]
        names = ", ".join(script.path.name for script in scripts(case))
        said = "clears gradients, trains in training mode, gives the optimizer the whole network"
        return found or RuledOut(f"{names}: the loop {said}")


CAUSES: Sequence[Cause] = (TrainingScript(),)
