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
DETACHED, MADE_ANEW, WRONG_UNIT = (
    "no gradient reaches the network",
    "optimizer is made anew in the loop",
    "scheduler counts epochs and is stepped every batch",
)
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
    yield from _frozen(tree)
    yield from _detached(loop)
    yield from _made_anew(tree, loop)
    yield from _wrong_unit(tree, loop)
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


def _around(tree: ast.Module, loop: ast.For | ast.While) -> list[ast.For | ast.While]:
    """The loops that hold a loop, itself among them, the outermost first."""
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.For, ast.While)) and any(inner is loop for inner in ast.walk(node))
    ]
    return sorted(found, key=lambda node: node.lineno)


def _left_in_evaluation(tree: ast.Module, loop: ast.For | ast.While) -> Iterator[Fault]:
    """A network that is trained in training mode once, and evaluated in a loop that never goes back.

    What a function of the file does to its arguments is done where the loop calls it.
    """
    outer = _around(tree, loop)[0]
    back, left = _modes(tree, outer)
    before = {_owner(call): call.lineno for call in _methods(tree, "train")}
    for name, line, by in left:
        if name in before and name not in back:
            yield Fault(
                EVALUATING, line,
                f"{name}.eval() is called in the loop{by}, and {name}.train() in line "
                f"{before[name]} alone: from "
                "the second epoch on the network is trained in evaluation mode",
                "put the network in training mode at the start of every epoch",
            )  # fmt: skip


def _modes(tree: ast.Module, outer: ast.For | ast.While) -> tuple[set[str], list[tuple[str, int, str]]]:
    """Networks that a loop puts in training mode, and those in evaluation mode with line and way."""
    back = {_owner(call) for call in _methods(outer, "train")}
    left = [(_owner(call), call.lineno, "") for call in _methods(outer, "eval")]
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for call in _calls(outer):
        function = functions.get(_name(call))
        if function is None:
            continue
        given = dict(zip([one.arg for one in function.args.args], map(ast.unparse, call.args), strict=False))
        back |= {given[_owner(c)] for c in _methods(function, "train") if _owner(c) in given}
        for inner in _methods(function, "eval"):
            if (name := given.get(_owner(inner))) is not None:
                left.append((name, call.lineno, f", by {function.name}()"))
    return back, left


def _frozen(tree: ast.Module) -> Iterator[Fault]:
    """Parts of the network whose parameters are set to need no gradient, and never set back."""
    found: list[tuple[str, int]] = []
    freed: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and isinstance(node.iter, ast.Call) and _name(node.iter) == "parameters":
            for one in ast.walk(node):
                if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]).endswith(".requires_grad"):
                    off = isinstance(one.value, ast.Constant) and one.value.value is False
                    found += [(_owner(node.iter), one.lineno)] if off else []
                    freed |= set() if off else {_owner(node.iter)}
    for call in _methods(tree, "requires_grad_"):
        off = bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value is False
        found += [(_owner(call), call.lineno)] if off else []
        freed |= set() if off else {_owner(call)}
    made = [call for call in _calls(tree) if _name(call).lower() in ("adam", "adamw", "sgd")]
    trained = {_owner(inner) for call in made for inner in _methods(call, "parameters")}
    for owner, line in found:
        # A teacher, or a copy for the average, is no part of what is trained.
        if owner.rpartition(".")[0] in trained and owner not in freed:
            yield Fault(
                MISSING, line,
                f"{owner} is frozen: its parameters need no gradient and keep the values that they "
                "begin with",
                "train it too, or keep it frozen on purpose, with weights that were trained before",
            )  # fmt: skip


def _detached(loop: ast.For | ast.While) -> Iterator[Fault]:
    """A loss of outputs that are cut off from the network: detached, as numbers, or without gradients."""
    off = [
        node
        for node in ast.walk(loop)
        if isinstance(node, ast.With) and any("no_grad" in ast.unparse(item) for item in node.items)
    ]
    cut = {id(inner): "torch.no_grad()" for node in off for inner in ast.walk(node)}
    assigned: dict[str, list[ast.Assign]] = {}
    for node in ast.walk(loop):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            assigned.setdefault(ast.unparse(target), []).append(node)  # type: ignore[arg-type]
    for call in _methods(loop, "backward"):
        names, seen = [_owner(call)], set()
        while names:
            if (name := names.pop()) in seen:
                continue
            seen.add(name)
            for node in assigned.get(name, ()):
                ways = [c for way in ("detach", "item", "numpy") for c in _methods(node.value, way)]
                of_call = next((ast.unparse(c) for c in ways if "(" in _owner(c)), cut.get(id(node)))
                if of_call:
                    yield Fault(
                        DETACHED, node.lineno,
                        f"{of_call} cuts the network's output off: the backward pass in line {call.lineno} "
                        "reaches none of its parameters",
                        "make outputs and loss with gradients, and of the outputs themselves",
                    )  # fmt: skip
                    return
                names += [ast.unparse(n) for n in ast.walk(node.value) if isinstance(n, ast.Name)]


def _made_anew(tree: ast.Module, loop: ast.For | ast.While) -> Iterator[Fault]:
    """An optimizer that is made in the loop it steps in: moments and schedule begin again each time."""
    for outer in _around(tree, loop):
        for call in _calls(outer):
            if _name(call).lower() in ("adam", "adamw", "sgd"):
                yield Fault(
                    MADE_ANEW, call.lineno,
                    f"the optimizer is made in the loop of line {outer.lineno}: its moments, and "
                    "what a scheduler "
                    "did to its rate, are lost each time",
                    "make the optimizer once, before the loop",
                )  # fmt: skip
                return


def _wrong_unit(tree: ast.Module, loop: ast.For | ast.While) -> Iterator[Fault]:
    """A scheduler whose length is the number of epochs, and which is stepped after every batch."""
    epochs = [_count(outer) for outer in _around(tree, loop) if outer is not loop]
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        words = {word.arg: ast.unparse(word.value) for word in node.value.keywords}
        length = words.get("T_max") or words.get("total_iters")
        if length is None and _name(node.value) == "CosineAnnealingLR" and len(node.value.args) > 1:
            length = ast.unparse(node.value.args[1])
        owner = ast.unparse(node.targets[0])
        stepped = next((call for call in _methods(loop, "step") if _owner(call) == owner), None)
        if length is not None and length in epochs and stepped is not None:
            yield Fault(
                WRONG_UNIT, stepped.lineno,
                f"{owner} has a length of {length}, the number of epochs, and is stepped after "
                "every batch: the "
                f"schedule is over after {length} batches",
                "step it once an epoch, or give it the number of batches of the run",
            )  # fmt: skip


def _count(loop: ast.For | ast.While) -> str:
    """``n`` of ``for epoch in range(n)``; "" for another loop."""
    over = loop.iter if isinstance(loop, ast.For) else None
    is_range = isinstance(over, ast.Call) and _name(over) == "range" and over.args
    return ast.unparse(over.args[-1]) if is_range else ""  # type: ignore[union-attr]


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
