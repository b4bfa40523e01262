"""What a training script does wrong, read from its code: nothing is run.

Only what a loop with a backward pass shows by itself is said: a ``zero_grad`` that is missing or late, a
network left in evaluation mode, an optimizer that gets a part of the parameters or steps once an epoch, a
loss without a way back to the network, clipping behind the step or to nearly nothing, pictures mirrored
alone, data that are not shuffled. At level ``train`` the same is done to the overfit attempt, and is taken
away again.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.core import NotAvailable
from workbench.core.finding import Finding
from workbench.core.python_text import tree_of
from workbench.core.report import counted
from workbench.diagnosis.augmentation_code import faults_of_samples, mirrored_alone, seeded_alike
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.gradient_code import CLEARED_EARLY, DETACHED, MISSING, UNCLEARED, faults_of_gradients
from workbench.diagnosis.loop_code import (
    Fault,
    Graph,
    Loop,
    assigned,
    backwards,
    called,
    calls,
    loader_of,
    loops_around,
    methods,
    modes_set,
    name_of,
    owner_of,
    sets_grad_to_none,
    steps_of,
    unchanged,
    walk,
)
from workbench.diagnosis.loss_code import UNSHUFFLED, faults_of_data, faults_of_losses
from workbench.diagnosis.network_part_code import EVALUATING, faults_of_modes, faults_of_parts
from workbench.diagnosis.parameter_code import faults_of_modules, faults_of_parameters, is_pretrained
from workbench.diagnosis.picture_code import faults_of_pictures
from workbench.diagnosis.schedule_code import FEW_STEPS, WRONG_UNIT, faults_of_rates
from workbench.diagnosis.texts import source_text
from workbench.diagnosis.written_out import written_out
from workbench.recipes.value_rules import TIGHT_CLIP

# A value of single gradients to which nobody clips on purpose; scripts in the wild clip at .01 to 10.
TIGHT_VALUE = 1e-3
MADE_ANEW, LATE_CLIP, SMALL_CLIP = (
    "optimizer is made anew in the loop",
    "clipping after the step",
    "gradient clipping too small",
)
BATCHES = re.compile(r"len\(\w*(loader|batches|dl)\b", re.IGNORECASE)
SHUFFLED = re.compile(r"shuffle|perm|choice|randint|random|sampler", re.IGNORECASE)
ONCE_AN_EPOCH = "optimizer steps once an epoch"


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
        texts = ((path, source_text(path)) for path in case.given.code)
        found = tuple(script for path, text in texts if (script := script_in(text, path)) is not None)
        if not found:
            raise NotAvailable("no training script was given: Python code with a backward pass in a loop")
        return found

    return case.once("training scripts", read)


def script_in(text: str, path: Path) -> Script | None:
    """What a script says of its loop; None for code without one and without a fault in how samples are made.

    Args:
        text: of the file.
        path: its name, for people.
    """
    try:
        tree = unchanged(written_out(tree_of(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    loop, lines, clips = _innermost(tree), text.splitlines(), _clips(tree)
    found = [*faults_of_samples(tree), *seeded_alike(tree)]
    found += [*faults_of_pictures(tree), *faults_of_modules(tree)]
    if loop is None and not found:
        return None
    rate, optimizer = _optimizer(tree)
    found += [] if loop is None else _faults(tree, loop, lines, clips)
    # What two rules say in the same words is said once.
    faults = sorted({f.cause: f for f in reversed(found)}.values(), key=lambda fault: fault.line)
    norms = [value for _, value, of_norm in clips if of_norm]
    return Script(path, tuple(faults), rate, optimizer, norms[0] if norms else 0.0)


def _innermost(tree: ast.AST) -> Loop | None:
    """The innermost loop with a backward pass; else the ``training_step`` with one."""
    nodes = list(walk(tree))
    loops: list[Loop] = [node for node in nodes if isinstance(node, (ast.For, ast.While))]
    with_backward = [loop for loop in loops if any(backwards(loop))]
    if not with_backward:
        steps = (n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == "training_step")
        return next((step for step in steps if any(backwards(step))), None)
    # Of loops that were written out in one line, the inner one is the smaller.
    return max(with_backward, key=lambda n: (n.lineno, -sum(1 for _ in walk(n))), default=None)


def _faults(
    tree: ast.Module, loop: Loop, lines: Sequence[str], clips: Sequence[tuple[ast.Call, float, bool]]
) -> Iterator[Fault]:
    backward = next(backwards(loop))
    indent = " " * backward.col_offset
    optimizer = next((owner_of(step) for step in steps_of(tree, loop)), "optimizer")
    # Without a step, the gradients themselves may be what is wanted.
    # Distributed autograd has new ones in every pass.
    uncleared = not any(methods(tree, "zero_grad")) and not sets_grad_to_none(tree)
    if any(methods(tree, "step")) and uncleared and "autograd" not in owner_of(backward):
        yield Fault(
            UNCLEARED, backward.lineno,
            f"{called(loop)} calls backward and never zero_grad, so each step uses the sum of all gradients "
            "so far",
            "clear the gradients before every backward pass",
            f"+{indent}{optimizer}.zero_grad()\n {lines[backward.lineno - 1]}",
        )  # fmt: skip
    yield from _cleared_early(loop)
    yield from faults_of_modes(tree, loop)
    # Lightning sets the mode of the network before it calls training_step.
    within = loop if isinstance(loop, ast.FunctionDef) else tree
    evaluating = next((call for call in modes_set(within, False) if call.lineno < backward.lineno), None)
    if evaluating is not None and not any(modes_set(tree, True)):
        name, line = owner_of(evaluating), lines[evaluating.lineno - 1]
        yield Fault(
            EVALUATING, evaluating.lineno,
            f"{ast.unparse(evaluating)} is called before the backward pass and {name}.train() never: batch "
            "normalisation keeps its statistics and dropout is off while the network is trained",
            "put the network in training mode before it is trained",
            _changed(line, line[evaluating.col_offset : evaluating.end_col_offset], f"{name}.train()"),
        )  # fmt: skip
    yield from _optimizer_faults(tree, lines)
    yield from _frozen(tree)
    yield from _detached(tree, loop)
    yield from _made_anew(tree, loop)
    yield from _wrong_unit(tree, loop)
    yield from _once_an_epoch(tree, loop)
    yield from mirrored_alone(tree, loop)
    yield from _clip_faults(tree, loop, clips)
    yield from _loader_faults(tree, loop, lines)
    yield from faults_of_gradients(tree, loop)
    yield from faults_of_parameters(tree, loop)
    yield from faults_of_rates(tree, loop)
    yield from faults_of_losses(tree, loop)
    yield from faults_of_data(tree, loop)
    yield from faults_of_parts(tree, loop, loops_around(tree, loop)[0], backward.lineno)


def _clip_faults(
    tree: ast.Module, loop: Loop, clips: Sequence[tuple[ast.Call, float, bool]]
) -> Iterator[Fault]:
    """Clipping behind the step, or to nearly nothing."""
    # The last one: a branch without clipping may step before one that clips.
    step = next(reversed(steps_of(tree, loop)), None)
    for clip, value, of_norm in clips:
        if step is not None and any(inner is clip for inner in walk(loop)) and clip.lineno > step.lineno:
            yield Fault(
                LATE_CLIP, clip.lineno,
                f"gradients are clipped in line {clip.lineno}, after line {step.lineno} took the step",
                "clip between backward and step",
            )  # fmt: skip
        # The last backward pass before it: another branch may do without the scale.
        passes = sorted(c.lineno for c in methods(loop, "backward") if c.lineno < clip.lineno)
        scaled = [c for c in methods(loop, "backward") if "scale(" in owner_of(c) and c.lineno in passes[-1:]]
        off = any("GradScaler(" in (made := ast.unparse(c)) and "enabled=False" in made for c in calls(tree))
        if scaled and not off and not any(c.lineno < clip.lineno for c in methods(loop, "unscale_")):
            yield Fault(
                SMALL_CLIP, clip.lineno,
                f"gradients are clipped in line {clip.lineno} while they still carry the loss scale of line "
                f"{scaled[0].lineno}, 65536 at first: once it is taken off, next to nothing is left of them",
                "call scaler.unscale_(optimizer) before gradients are clipped",
            )  # fmt: skip
        elif 0 < value < (TIGHT_CLIP if of_norm else TIGHT_VALUE):
            usual = (
                "a norm of {:g}; published recipes clip at 0.1 to 35" if of_norm else "values of {:g} each"
            )
            yield Fault(
                SMALL_CLIP, clip.lineno,
                f"gradients are clipped to {usual.format(value)}",
                "clip the norm at 1, or not at all",
            )  # fmt: skip


def _changed(line: str, old: str, new: str) -> str:
    """A line before and after."""
    return f"-{line}\n+{line.replace(old, new, 1)}"


def _cleared_early(loop: Loop) -> Iterator[Fault]:
    """Backward, zero_grad and step of one optimizer, in this order."""
    backward, *_ = sorted(call.lineno for call in backwards(loop))
    steps = {owner_of(call): call.lineno for call in reversed([*methods(loop, "step")])}
    for call in methods(loop, "zero_grad"):
        step = steps.get(owner_of(call), 0)
        between = [line for line in steps.values() if backward < line < call.lineno]
        if backward < call.lineno < step and not between:
            yield Fault(
                CLEARED_EARLY, call.lineno,
                f"gradients are cleared after backward in line {backward}: the step in line {step} has none",
                "clear the gradients before backward",
            )  # fmt: skip


def _settings(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Where parameters of which part are set to need a gradient, or none: owner, line, whether one."""
    for node in walk(tree):
        over = node.iter if isinstance(node, ast.For) else None
        if not (isinstance(over, ast.Call) and name_of(over) == "parameters"):
            continue
        variable = ast.unparse(node.target)  # type: ignore[union-attr] - `over` is of a loop
        for one in walk(node):
            if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]).endswith(".requires_grad"):
                yield owner_of(over), one.lineno, not _is_false(one.value)
            elif isinstance(one, ast.Call) and ast.unparse(one.func) == f"{variable}.requires_grad_":
                yield owner_of(over), one.lineno, not any(map(_is_false, one.args))
    for call in methods(tree, "requires_grad_"):
        yield owner_of(call), call.lineno, not any(map(_is_false, call.args))


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _frozen(tree: ast.Module) -> Iterator[Fault]:
    """Parts of the network whose parameters are set to need no gradient, and never set back in time."""
    settings = list(_settings(tree))
    freed = {owner: line for owner, line, is_free in settings if is_free}
    made = [call for call in calls(tree) if name_of(call).lower() in ("adam", "adamw", "sgd")]
    trained = {owner_of(inner) for call in made for inner in methods(call, "parameters")}
    # An optimizer that was given what needed a gradient then does not learn of what does later.
    filtered = made[0].lineno if len(made) == 1 and "requires_grad" in ast.unparse(made[0]) else 0
    for owner, line in [(owner, line) for owner, line, is_free in settings if not is_free]:
        if line < filtered < freed.get(owner, 0) and not any(methods(tree, "add_param_group")):
            yield Fault(
                MISSING, freed[owner],
                f"{owner} is set free in line {freed[owner]}, and the optimizer of line {filtered} was given "
                "only the parameters that needed a gradient then: these are never trained",
                "give the optimizer all parameters, or add_param_group where they are set free",
            )  # fmt: skip
        # A teacher, or a copy for the average, is no part of what is trained.
        if owner.rpartition(".")[0] in trained and owner not in freed:
            yield Fault(
                MISSING, line,
                f"{owner} is frozen: its parameters need no gradient and keep the values that they "
                "begin with",
                "train it too, or keep it frozen on purpose, with weights that were trained before",
                severity="remark" if is_pretrained(tree) else "error",
            )  # fmt: skip


def _detached(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """A loss of outputs that are cut off from the network: detached, as numbers, or without gradients."""
    graph = Graph.of(tree, loop)
    for call in backwards(loop):
        # accelerator.backward(loss) has its loss as an argument.
        cuts: list[ast.expr] = []
        owner = [call.func.value] if name_of(call) == "backward" else []  # type: ignore[attr-defined]
        roots = [*owner, *call.args]
        seen: set[int] = set()
        if any(graph.reaches(root, cuts, seen) for root in roots):
            continue
        cut = next((one for one in cuts if graph.reaches(one, None, set())), None)
        if cut is not None:
            way = "torch.no_grad()" if id(cut) in graph.blocked else ast.unparse(cut)
            yield Fault(
                DETACHED, cut.lineno,
                f"{way} cuts the network's output off: the backward pass in line {call.lineno} "
                "reaches none of its parameters",
                "make outputs and loss with gradients, and call backward on the loss itself",
            )  # fmt: skip
            return


def _once_an_epoch(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """A step behind the loop over the batches, and none in it."""
    functions = {node.name: node for node in walk(tree) if isinstance(node, ast.FunctionDef)}
    called = [functions[name_of(call)] for call in calls(loop) if name_of(call) in functions]
    outer = [one for one in loops_around(tree, loop) if one is not loop]
    of_batches = isinstance(loop, ast.For) and (
        "loader" in ast.unparse(loop.iter).lower() or loader_of(tree, loop) is not None
    )
    if not outer or not of_batches or any(steps_of(tree, part) for part in (loop, *called)):
        return
    # A closure that sums the gradients of all batches is stepped with on purpose, as LBFGS is.
    for step in steps_of(tree, outer[-1]):
        if step.lineno > loop.lineno and not any(ast.unparse(one) in functions for one in step.args):
            inside = any(methods(loop, "zero_grad"))
            yield Fault(
                ONCE_AN_EPOCH, step.lineno,
                f"{ast.unparse(step)} stands outside of the loop over the batches in line {loop.lineno}: one "
                f"step an epoch, with the gradients of {'the last batch alone' if inside else 'all batches'}",
                "step in the loop over the batches, after backward",
            )  # fmt: skip
            return


def _made_anew(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """An optimizer that is made in the loop it steps in: moments and schedule begin again each time."""
    for outer in loops_around(tree, loop):
        for call in calls(outer):
            if name_of(call).lower() in ("adam", "adamw", "sgd"):
                yield Fault(
                    MADE_ANEW, call.lineno,
                    f"the optimizer is made in {called(outer)} of line {outer.lineno}: its moments, and "
                    "what a scheduler did to its rate, are lost each time",
                    "make the optimizer once, before the loop",
                )  # fmt: skip
                return


def _wrong_unit(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """A scheduler that counts epochs and is stepped after every batch, or the other way round."""
    around = loops_around(tree, loop)
    epochs = [_count(outer) for outer in around if outer is not loop]
    steps: dict[str, list[ast.Call]] = {}
    for call in (call for one in around for call in methods(one, "step")):
        steps.setdefault(owner_of(call), []).append(call)
    within = {id(call) for call in methods(loop, "step")}
    for node in walk(tree):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        words = {word.arg: ast.unparse(word.value) for word in node.value.keywords}
        length = words.get("T_max") or words.get("total_iters")
        if length is None and name_of(node.value) == "CosineAnnealingLR" and len(node.value.args) > 1:
            length = ast.unparse(node.value.args[1])
        owner = ast.unparse(node.targets[0])
        late = steps.get(owner, [])
        stepped = next((call for call in late if id(call) in within), None)
        of_batches = "steps_per_epoch" in words or any(BATCHES.search(text) for text in words.values())
        if of_batches and stepped is None and late:
            yield Fault(
                FEW_STEPS, late[0].lineno,
                f"{owner} has a length in batches and is stepped once an epoch: of its schedule the run sees "
                "the first steps alone",
                "step it after every batch, or give it the number of epochs",
            )  # fmt: skip
        if length is not None and length in epochs and stepped is not None:
            yield Fault(
                WRONG_UNIT, stepped.lineno,
                f"{owner} has a length of {length}, the number of epochs, and is stepped after every batch: "
                f"the schedule is over after {counted(length, 'batch', 'batches')}",
                "step it once an epoch, or give it the number of batches of the run",
            )  # fmt: skip


def _count(loop: Loop) -> str:
    """``n`` of ``for epoch in range(n)``; "" for another loop."""
    over = loop.iter if isinstance(loop, ast.For) else None
    is_range = isinstance(over, ast.Call) and name_of(over) == "range" and over.args
    return ast.unparse(over.args[-1]) if is_range else ""  # type: ignore[union-attr]


def _replaced_late(tree: ast.Module, owner: str, made: int) -> Iterator[Fault]:
    """A layer that takes the place of one of the network's behind the line that makes the optimizer."""
    for node in walk(tree):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        target, layer = node.targets[0], ast.unparse(node.value.func)
        of_network = isinstance(target, ast.Attribute) and ast.unparse(target.value) == owner
        is_layer = layer.startswith(("nn.", "torch.nn.")) and not layer.endswith("Loss")
        if of_network and is_layer and node.lineno > made and not any(methods(tree, "add_param_group")):
            yield Fault(
                MISSING, node.lineno,
                f"{ast.unparse(target)} is replaced after the optimizer was made in line {made}: its new "
                "weights are not trained",
                "make the optimizer once the network is whole",
            )  # fmt: skip


def _optimizer_faults(tree: ast.Module, lines: Sequence[str]) -> Iterator[Fault]:
    """An optimizer that is given the parameters of one part: ``Adam(model.head.parameters())``."""
    made = [call for call in calls(tree) if name_of(call).lower() in ("adam", "adamw", "sgd")]
    if len(made) != 1 or not made[0].args:
        return
    given = made[0].args[0]
    if not (isinstance(given, ast.Call) and name_of(given) == "parameters"):
        return
    owner = owner_of(given)
    yield from _replaced_late(tree, owner, made[0].lineno)
    root, _, part = owner.partition(".")
    if root == "self":
        # Of an object's attribute, the network is what is called: self.net of self.net.head.
        whole, _, part = owner.rpartition(".")
        is_called = whole != "self" and any(ast.unparse(call.func) == whole for call in calls(tree))
        root = whole if is_called else ""
    if root and part not in ("", "module"):  # DistributedDataParallel holds all of it as `module`
        yield Fault(
            MISSING, made[0].lineno,
            f"the optimizer gets {owner}.parameters(): nothing else of {root} is trained",
            "give the optimizer all parameters of the network, or freeze the rest on purpose",
            _changed(lines[made[0].lineno - 1], owner, root),
        )  # fmt: skip


def _in_order(tree: ast.Module, sampler: ast.expr) -> bool:
    """Whether a sampler, or all that its name is given, goes through the data in their order."""
    made = assigned(tree, ast.unparse(sampler)) or [sampler]
    if any(one is not sampler for one in made):
        return all(_in_order(tree, one) for one in made)
    if not isinstance(sampler, ast.Call):
        return False
    still = any(
        w.arg == "shuffle" and isinstance(w.value, ast.Constant) and not w.value.value
        for w in sampler.keywords
    )
    inner = name_of(sampler) in ("BatchSampler", "list") and sampler.args and _in_order(tree, sampler.args[0])
    return name_of(sampler) in ("SequentialSampler", "range") or still or bool(inner)


def _loader_faults(tree: ast.Module, loop: Loop, lines: Sequence[str]) -> Iterator[Fault]:
    """The loader of the loop, the only one, or the one that is called train, does not shuffle.

    Batches that are cut out of a tensor are in its order where nothing in the file is drawn by chance.
    """
    over = loop.iter if isinstance(loop, ast.For) else None
    cut = over is not None and any(
        name_of(call) in ("split", "chunk", "array_split")
        or (name_of(call) == "range" and len(call.args) == 3 and "len(" in ast.unparse(call))
        for call in calls(over)
    )
    # A loader that the loop does not go through may shuffle as it likes.
    simple = [n for n in walk(tree) if isinstance(n, ast.stmt) and not getattr(n, "body", ())]
    drawn = any(SHUFFLED.search(text) for n in simple if "DataLoader(" not in (text := ast.unparse(n)))
    epochs = [one for one in loops_around(tree, loop) if one is not loop]
    if cut and epochs and all(map(_count, epochs)) and not drawn:
        yield Fault(
            UNSHUFFLED, loop.lineno,
            f"{ast.unparse(over or loop)} cuts batches in the order of the data, and nothing shuffles them: "
            "every epoch has the same batches",
            "draw a new order for each epoch: images[torch.randperm(len(images))].split(8)",
        )  # fmt: skip
    loaders = [call for call in calls(tree) if name_of(call) == "DataLoader"]
    own = loader_of(tree, loop)
    trained = [own] if own else [call for call in loaders if "train" in lines[call.lineno - 1].lower()]
    for call in trained or (loaders if len(loaders) == 1 else []):
        words = {word.arg: word.value for word in call.keywords}
        shuffle = words.get("shuffle")
        off = shuffle is None or (isinstance(shuffle, ast.Constant) and shuffle.value is False)
        given = [words[name] for name in ("sampler", "batch_sampler") if name in words]
        in_order = any(_in_order(tree, one) for one in given)
        # Words in a dictionary, **kwargs, may say it.
        told = not given and len(call.args) < 3 and None not in words
        if in_order or (off and told):
            yield Fault(
                UNSHUFFLED, call.lineno,
                "the loader of the training data does not shuffle: every epoch has the same batches",
                "shuffle the training data: DataLoader(..., shuffle=True)",
            )  # fmt: skip


def _optimizer(tree: ast.Module) -> tuple[float | None, str]:
    for call in calls(tree):
        name = name_of(call).lower()
        if name in ("adam", "adamw", "sgd"):
            value = next((word.value for word in call.keywords if word.arg == "lr"), None)
            value = value or (call.args[1] if len(call.args) > 1 else None)
            return _value(value), name
    return None, ""


def _clips(tree: ast.Module) -> list[tuple[ast.Call, float, bool]]:
    """Calls that clip gradients, with their limit (0 where it is no number) and whether it is a norm."""
    found = []
    for call in calls(tree):
        name, words = name_of(call), {word.arg: word.value for word in call.keywords}
        of_norm = name in ("clip_grad_norm_", "clip_grad_norm") or {"max_norm", "gradient_clip_val"} & set(
            words
        )
        of_value = name in ("clip_grad_value_", "clip_grad_value") or "clip_val" in words
        if name in ("clamp_", "clip_") and ".grad" in owner_of(call):
            limit = words.get("max") or next(iter(call.args[1:2]), None)
        elif of_norm or of_value:
            names = ("max_norm", "gradient_clip_val", "clip_value", "clip_val")
            limit = next((words[n] for n in names if n in words), next(iter(call.args[1:2]), None))
        else:
            continue
        constants = assigned(tree, limit.id) if isinstance(limit, ast.Name) else []
        value = _value(constants[0] if len(constants) == 1 else limit) or 0.0
        found.append((call, value, bool(of_norm)))
    return sorted(found, key=lambda one: one[0].lineno)


def _value(node: ast.expr | None) -> float | None:
    is_number = isinstance(node, ast.Constant) and isinstance(node.value, (int, float))
    return float(node.value) if is_number else None  # type: ignore[union-attr,arg-type]


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
                severity="warning" if fault.cause == UNSHUFFLED else fault.severity,
            )
            for script in scripts(case)
            for fault in script.faults
        ]
        names = ", ".join(script.path.name for script in scripts(case))
        said = "clears gradients, trains in training mode, gives the optimizer the whole network"
        return found or RuledOut(f"{names}: the loop {said}")


CAUSES: Sequence[Cause] = (TrainingScript(),)
