"""The mode in which a training script's network is: training or evaluation, at which time."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from workbench.diagnosis.loop_code import (
    Fault,
    Loop,
    calls,
    function_of,
    loops_around,
    modes_set,
    name_of,
    owner_of,
    reached,
    walk,
)

EVALUATING = "network is trained in evaluation mode"
# Conditions that ask which part of a run it is: the mode follows from them.
OF_MODE = re.compile("train|mode|phase|stage|split", re.IGNORECASE)


def faults_of_modes(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """A network that is in evaluation mode while it is trained.

    Args:
        tree: of the file.
        loop: the innermost one with a backward pass.
    """
    yield from _left_in_evaluation(tree, loop)
    yield from _evaluation_mode_last(tree, loop)


def _left_in_evaluation(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """A network that is trained in training mode once, and evaluated in a loop that never goes back.

    What a function of the file does to its arguments is done where the loop calls it.
    """
    outer = loops_around(tree, loop)[0]
    back, left, seldom = _modes(tree, outer, loop)
    before = {owner_of(call): call.lineno for call in modes_set(tree, True)}
    for name, line, by in left:
        if name in before and name not in back:
            where = f", where {seldom[name]}" if name in seldom else ""
            yield Fault(
                EVALUATING, line,
                f"{name}.eval() is called in the loop{by}, and {name}.train() in line "
                f"{before[name]} alone{where}: from "
                "the second epoch on the network is trained in evaluation mode",
                "put the network in training mode at the start of every epoch",
            )  # fmt: skip


def _modes(
    tree: ast.Module, outer: Loop, loop: Loop
) -> tuple[set[str], list[tuple[str, int, str]], dict[str, str]]:
    """Networks that a loop puts in training mode every time, those in evaluation mode with line and way.

    The third value has those that it puts in training mode on a condition alone, with the condition.
    """
    left = [(owner_of(call), call.lineno, "") for call in modes_set(outer, False)]
    trained = [(owner_of(call), call, outer) for call in modes_set(outer, True)]
    functions = {node.name: node for node in walk(tree) if isinstance(node, ast.FunctionDef)}
    for call in calls(outer):
        function = functions.get(name_of(call))
        if function is None:
            continue
        given = dict(zip([one.arg for one in function.args.args], map(ast.unparse, call.args), strict=False))
        if ast.unparse(call.func) == f"self.{function.name}":
            # A method has the attributes of its object under the names that its caller has for them.
            owners = (ast.unparse(n) for n in walk(function) if isinstance(n, ast.Attribute))
            given |= {name: name for name in owners if name.startswith("self.")}
        inside = modes_set(function, True)
        trained += [(given[owner_of(c)], c, function) for c in inside if owner_of(c) in given]
        for inner in modes_set(function, False):
            if (name := given.get(owner_of(inner))) is not None:
                left.append((name, call.lineno, f", by {function.name}()"))
    lines = {line for _, line, _ in left}
    asked = [(name, _condition(within, one, loop, lines)) for name, one, within in trained]
    return {name for name, test in asked if not test}, left, {name: test for name, test in asked if test}


def _condition(within: ast.AST, call: ast.Call, loop: Loop, evaluating: set[int]) -> str:
    """The condition on which alone a call is made in every turn of a loop; "" where it is always made.

    A condition that also decides on the evaluation or on the training loop itself, or that asks for the mode,
    is none: after it the network is in the mode that it should be in.

    Args:
        within: the loop over the epochs, or the function, in which the call stands.
        call: that puts a network in training mode.
        loop: the one with the backward pass.
        evaluating: lines at which a network is put in evaluation mode.
    """
    tests = [node for node in walk(within) if isinstance(node, ast.If)]
    of_evaluation = {
        ast.unparse(node.test)
        for node in tests
        if evaluating & set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    }
    for node in tests:
        inner = list(walk(node))
        if not any(one is call for one in inner) or any(one is loop for one in inner):
            continue
        text = ast.unparse(node.test)
        if text not in of_evaluation and OF_MODE.search(text) is None:
            return text
    return ""


def _evaluation_mode_last(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """``train()`` and, later and before the loops, ``eval()`` of the same network."""
    function = function_of(tree, loop)
    within: ast.AST = tree if function is None else function
    loops = [n for n in walk(within) if isinstance(n, (ast.For, ast.While))]
    around = [n for n in loops if any(inner is loop for inner in walk(n))]
    outer = min(around, key=lambda n: n.lineno, default=None)
    if outer is None:
        return
    inside = {owner_of(c) for part in reached(tree, outer) for c in modes_set(part, True)}
    set_to: dict[str, tuple[int, bool]] = {}
    for training in (True, False):
        for call in modes_set(within, training):
            # A loop over modules sets parts of the network.
            alone = not any(any(i is call for i in walk(n)) for n in loops)
            name = owner_of(call)
            if alone and call.lineno < outer.lineno and call.lineno > set_to.get(name, (0, True))[0]:
                set_to[name] = call.lineno, training
    begun = {owner_of(call) for call in modes_set(within, True) if call.lineno < outer.lineno}
    for name, (line, training) in set_to.items():
        if not training and name in begun and not inside:
            yield Fault(
                EVALUATING, line,
                f"{name}.eval() in line {line} is the last that is called before the loop in line "
                f"{outer.lineno}, and {name}.train() is not called in it",
                "put the network in training mode at the start of every epoch",
            )  # fmt: skip
