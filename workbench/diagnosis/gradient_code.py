"""The way of gradients through a training loop's code: cleared, made, scaled and used in time."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from workbench.diagnosis.loop_code import (
    Fault,
    Loop,
    backwards,
    called,
    calls,
    function_of,
    methods,
    name_of,
    optimizers_of,
    owner_of,
    reached,
    sets_grad_to_none,
    steps_of,
    used_elsewhere,
    uses_framework,
    walk,
)

UNCLEARED, CLEARED_EARLY = "gradients are not cleared", "gradients are cleared before the step"
DETACHED, MISSING = "no gradient reaches the network", "optimizer misses parameters"
NEVER_STEPS = "optimizer never steps"
SCALE_STAYS_ON = "loss scale is never taken off the gradients"
OVERFLOWS = "half precision overflows in training"
WITHOUT_SCALE = "half precision without a loss scale"


def faults_of_gradients(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """Gradients that are summed up, cut off, scaled or not used.

    Args:
        tree: of the file.
        loop: the innermost one with a backward pass.
    """
    yield from _cleared_outside(tree, loop)
    yield from _one_uncleared(tree, loop)
    yield from _cleared_each_time(loop)
    yield from _never_stepping(tree, loop)
    yield from _without_gradients(tree, loop)
    yield from _network_in_half(tree, loop)
    if not uses_framework(tree):
        yield from _loss_scale(tree, loop)


def _cleared_outside(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """A step in the loop, and a ``zero_grad`` that stands outside of it alone."""
    nodes = reached(tree, loop)
    inside = any(any(methods(node, "zero_grad")) for node in nodes)
    outside = [*methods(tree, "zero_grad")]
    attributes = [n.attr for part in nodes for n in walk(part) if isinstance(n, ast.Attribute)]
    if inside or "grad" in attributes or not outside:
        return
    if not isinstance(loop, ast.For) or not steps_of(tree, loop):
        return
    step, clear = steps_of(tree, loop)[0], outside[0]
    # What a function of another object clears is not seen; one of this function is.
    function = function_of(tree, loop)
    if function is not None and not any(inner is clear for inner in walk(function)):
        return
    yield Fault(
        UNCLEARED, clear.lineno,
        f"{ast.unparse(clear)} stands outside of the loop in line {loop.lineno}, which steps in line "
        f"{step.lineno}: each step uses the sum of all gradients since then",
        "clear the gradients in the loop, before every backward pass",
    )  # fmt: skip


def _one_uncleared(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """Of several optimizers that step in the loop, one whose gradients nothing clears there.

    What a network, a list of optimizers or a function clears may hold its parameters: nothing is said then.
    """
    made, nodes = optimizers_of(tree), reached(tree, loop)
    if len(made) < 2 or sets_grad_to_none(tree):
        return
    if any(owner_of(call) not in made for call in methods(tree, "zero_grad")):
        return
    cleared = {owner_of(call) for node in nodes for call in methods(node, "zero_grad")}
    for node in nodes if cleared else ():
        for step in methods(node, "step"):
            name = owner_of(step)
            if name in made and name not in cleared and not used_elsewhere(tree, name):
                yield Fault(
                    UNCLEARED, step.lineno,
                    f"{name} steps in line {step.lineno}, and only {', '.join(sorted(cleared))} clears its "
                    f"gradients in {called(loop)}: each step of {name} uses the sum of all gradients so far",
                    f"call {name}.zero_grad() before every backward pass as well",
                )  # fmt: skip
                return


def _cleared_each_time(loop: Loop) -> Iterator[Fault]:
    """Gradients that are cleared at every batch, and used at every n-th alone."""
    always = [
        call
        for statement in loop.body
        if isinstance(statement, ast.Expr)
        for call in methods(statement, "zero_grad")
    ]
    for node in loop.body:
        if not (isinstance(node, ast.If) and _counts(node.test)):
            continue
        cleared = {owner_of(call) for call in always}
        step = next((call for call in methods(node, "step") if owner_of(call) in cleared), None)
        if step is not None and not any(methods(ast.Module(node.orelse, []), "step")):
            yield Fault(
                CLEARED_EARLY, always[0].lineno,
                f"gradients are cleared at every batch, and line {step.lineno} steps only where "
                f"{ast.unparse(node.test)}: those of the batches between are lost",
                "clear the gradients after the step alone",
            )  # fmt: skip


def _counts(test: ast.expr) -> bool:
    """Whether a condition asks for every n-th batch: ``i % 4 == 0``."""
    return any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mod) for n in walk(test))


def _never_stepping(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """Optimizers that the file makes and never steps, and that nothing else is given."""
    made = optimizers_of(tree)
    stepped = {
        text for call in methods(tree, "step") for text in (owner_of(call), *map(ast.unparse, call.args))
    }
    idle = {name: call for name, call in made.items() if name not in stepped}
    idle = {name: call for name, call in idle.items() if not used_elsewhere(tree, name)}
    others = sorted(set(made) & stepped)
    for name, call in idle.items():
        if others:
            yield Fault(
                MISSING, call.lineno,
                f"{name} is made in line {call.lineno} and never steps, as {', '.join(others)} does: what it "
                "was given is not trained",
                f"call {name}.step() after backward as well",
            )  # fmt: skip
        elif not any(methods(loop, "step")):
            yield Fault(
                NEVER_STEPS, call.lineno,
                f"{name} is made in line {call.lineno} and its step is never called: no weight changes",
                f"call {name}.step() after every backward pass",
            )  # fmt: skip


def _without_gradients(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """A loop that stands in ``torch.no_grad()``, or in a function that is decorated with it."""
    off = ("no_grad", "inference_mode")
    for node in walk(tree):
        if not any(inner is loop for inner in walk(node)):
            continue
        given: list[ast.expr] = []
        if isinstance(node, ast.FunctionDef):
            given = node.decorator_list
        elif isinstance(node, ast.With):
            given = [item.context_expr for item in node.items]
        for one in given:
            text = ast.unparse(one)
            if any(word in text for word in off) and "enable" not in text and text.count("(") < 2:
                yield _no_gradient(one.lineno, text, loop)
                return
    switches = [c for c in calls(tree) if name_of(c) == "set_grad_enabled" and c.args]
    constant = [(c, isinstance(c.args[0], ast.Constant) and not c.args[0].value) for c in switches]
    first = next(iter(backwards(loop))).lineno
    before = [(c, off) for c, off in constant if c.lineno < first]
    if before and before[-1][1] and all(off for _, off in constant):
        yield _no_gradient(before[-1][0].lineno, ast.unparse(before[-1][0]), loop)


def _no_gradient(line: int, text: str, loop: Loop) -> Fault:
    return Fault(
        DETACHED, line,
        f"{called(loop)} in line {loop.lineno} is under {text}: the backward pass reaches no parameter",
        "train without it; it belongs around the validation alone",
    )  # fmt: skip


def _network_in_half(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """Weights that are themselves in half precision while they are trained: ``model.half()``, ``16-true``."""
    trained = {owner_of(c) for made in optimizers_of(tree).values() for c in methods(made, "parameters")}
    within = function_of(tree, loop)
    back = {owner_of(c) for c in methods(tree, "float")}
    for call in calls(tree):
        words = [ast.unparse(one) for one in (*call.args, *(word.value for word in call.keywords))]
        halves = name_of(call) == "half" or (
            name_of(call) == "to" and {"torch.float16", "torch.half"} & set(words)
        )
        framework = name_of(call) == "Trainer" and any(
            word.arg == "precision" and ast.unparse(word.value).strip("'\"") in ("16-true", "fp16-true")
            for word in call.keywords
        )
        if not (halves or framework):
            continue
        owner = owner_of(call).split("(")[0].removesuffix(".to").removesuffix(".cuda")
        given = {ast.unparse(t) for node in walk(tree) if isinstance(node, ast.Assign)
                 and any(inner is call for inner in walk(node.value)) for t in node.targets}  # fmt: skip
        networks = ({owner} | given) & trained - back
        around = function_of(tree, call)
        in_time = call.lineno < loop.lineno and around in (None, within)
        in_time |= around is not None and around.name == "__init__"
        if framework or (halves and networks and in_time):
            yield Fault(
                WITHOUT_SCALE, call.lineno,
                f"{ast.unparse(call)[:80]} puts the weights themselves in half precision: steps below a "
                "2000th of a weight are rounded away, gradients below 6e-8 become 0, and AdamW's eps of 1e-8 "
                "is 0",
                "keep the weights in float32, and compute under torch.autocast with torch.amp.GradScaler, or "
                "with bfloat16",
            )  # fmt: skip
            return


def _loss_scale(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """A loss scale that stays on the gradients, or never moves; half precision without any."""
    scalers = [
        ast.unparse(node.targets[0])
        for node in walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        and name_of(node.value) == "GradScaler"
        and "enabled=False" not in ast.unparse(node.value)
    ]  # fmt: skip
    scaled = [c for c in backwards(loop) if any(owner_of(c).startswith(f"{s}.scale(") for s in scalers)]
    steps = [c for s in scalers for c in methods(tree, "step") if owner_of(c) == s]
    own = [c for c in steps_of(tree, loop) if owner_of(c) not in scalers]
    if scaled and own and not steps and not any(methods(tree, "unscale_")):
        yield Fault(
            SCALE_STAYS_ON, own[0].lineno,
            f"line {scaled[0].lineno} scales the loss by 65536 at first, and {ast.unparse(own[0])} uses the "
            "gradients as they are",
            f"step with {scalers[0]}.step({owner_of(own[0])}) and {scalers[0]}.update()",
        )  # fmt: skip
    updates = [c for s in scalers for c in methods(tree, "update") if owner_of(c) == s]
    if scaled and steps and not updates:
        yield Fault(
            OVERFLOWS, steps[0].lineno,
            f"{ast.unparse(steps[0])} leaves a step out where gradients overflow, and {scalers[0]}.update() "
            "is never called: the loss scale stays at 65536, so that every later step may be left out",
            f"call {scalers[0]}.update() after each step",
        )  # fmt: skip
    half = [c for c in calls(tree) if name_of(c) == "autocast" and "float16" in ast.unparse(c)]
    half = [c for c in half if "bfloat16" not in ast.unparse(c)]
    inside = [c for c in half if any(inner is c for inner in walk(loop))]
    if inside and "Scaler" not in ast.unparse(tree) and ".scale(" not in ast.unparse(loop):
        yield Fault(
            WITHOUT_SCALE, inside[0].lineno,
            f"{ast.unparse(inside[0])} computes in half precision, and no GradScaler is there: gradients "
            "below 6e-8 become 0",
            "scale the loss with torch.amp.GradScaler, or use bfloat16",
            severity="warning",
        )  # fmt: skip
