"""What a training script does to the network: its mode, norms in evaluation mode, parameters by name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from workbench.diagnosis.gradient_code import MISSING
from workbench.diagnosis.loop_code import (
    Fault,
    Loop,
    assigned,
    calls,
    function_of,
    loops_around,
    methods,
    modes_set,
    name_of,
    owner_of,
    reached,
    uses_framework,
    walk,
)
from workbench.diagnosis.picture_code import USED_IN_TRAINING

VALIDATION = re.compile("val|test|eval", re.IGNORECASE)
NORM = re.compile(r"norm|\bBN\b", re.IGNORECASE)
EVALUATING = "network is trained in evaluation mode"
# Conditions that ask which part of a run it is: the mode follows from them.
OF_MODE = re.compile("train|mode|phase|stage|split", re.IGNORECASE)


def faults_of_parts(tree: ast.Module, loop: Loop, outer: Loop, backward: int) -> Iterator[Fault]:
    """Norms alone in evaluation mode, and an optimizer whose parameters are chosen by their names.

    Args:
        tree: of the file.
        loop: the innermost one with a backward pass.
        outer: the outermost loop around it.
        backward: the line of its backward pass.
    """
    for call in norms_in_evaluation(loop if isinstance(loop, ast.FunctionDef) else outer, backward):
        yield Fault(
            EVALUATING, call.lineno,
            f"{ast.unparse(call)} puts the norms in evaluation mode before the backward pass: their "
            "statistics stay what they were when the training began",
            "leave them in training mode, or keep them so on purpose, with statistics of the same data",
        )  # fmt: skip
    if not uses_framework(tree):
        yield from validated_in_training(tree, outer)
    made = [call for call in calls(tree) if name_of(call).lower() in ("adam", "adamw", "sgd")]
    condition = chosen(tree, made[0]) if len(made) == 1 else None
    if condition is not None:
        yield Fault(
            MISSING, made[0].lineno,
            f"the optimizer gets the parameters for which {condition}: no others are trained",
            "give the optimizer all parameters of the network, or freeze the rest on purpose",
        )  # fmt: skip


def validated_in_training(tree: ast.Module, outer: Loop) -> Iterator[Fault]:
    """A validation without gradients of a network that nothing in the file puts in evaluation mode.

    Args:
        tree: of the file.
        outer: the outermost loop of the training.
    """
    trained = {owner_of(call) for call in modes_set(tree, True)}
    if not trained or any(modes_set(tree, False)):
        return
    for function in reached(tree, outer)[1:]:
        if not isinstance(function, ast.FunctionDef) or VALIDATION.search(function.name) is None:
            continue
        if not re.search("no_grad|inference_mode", ast.unparse(function)):
            continue
        used = next((c for c in calls(function) if ast.unparse(c.func) in trained), None)
        if used is not None:
            name = ast.unparse(used.func)
            yield Fault(
                USED_IN_TRAINING, used.lineno,
                f"{function.name}() computes {ast.unparse(used)}, and {name}.eval() is called nowhere: batch "
                "norm takes the statistics of each batch, and dropout stays on, in the validation as well",
                f"call {name}.eval() at the start of {function.name}()",
            )  # fmt: skip
            return


def norms_in_evaluation(within: ast.AST, before: int) -> Iterator[ast.Call]:
    """Calls that put the norms alone in evaluation mode: ``for m in net.modules(): if isinstance(m, BN)``.

    Args:
        within: the loops of the training, or its function.
        before: the line of the backward pass.
    """
    for node in walk(within):
        over = node.iter if isinstance(node, ast.For) else None
        if not (isinstance(over, ast.Call) and name_of(over) in ("modules", "named_modules", "children")):
            continue
        for test in (one for one in walk(node) if isinstance(one, ast.If)):
            if NORM.search(ast.unparse(test.test)) is None:
                continue
            for part in test.body:
                yield from (call for call in modes_set(part, False) if call.lineno < before)


def chosen(tree: ast.Module, made: ast.Call) -> str | None:
    """The condition by which an optimizer's parameters are chosen; None where all are given.

    Several groups, and a list that is added to later, may hold the others: nothing is said of them. Nor is
    anything said of those that need no gradient.

    Args:
        tree: of the file.
        made: the call that makes the optimizer.
    """
    words = {word.arg: word.value for word in made.keywords}
    given = made.args[0] if made.args else words.get("params")
    if isinstance(given, ast.Call) and name_of(given) == "list" and len(given.args) == 1:
        given = given.args[0]
    if isinstance(given, ast.Name):
        values = assigned(tree, given.id)
        added = [*methods(tree, "append"), *methods(tree, "extend")]
        if len(values) != 1 or any(owner_of(call) == given.id for call in added):
            return None
        given = values[0]
    if any(methods(tree, "add_param_group")):
        return None
    for over, names, test in _conditions(given):
        of_network = isinstance(over, ast.Call) and name_of(over) in ("parameters", "named_parameters")
        used = {node.id for node in walk(test) if isinstance(node, ast.Name)}
        if of_network and used & names and "requires_grad" not in ast.unparse(test):
            return ast.unparse(test)
    return None


def _conditions(given: ast.expr | None) -> Iterator[tuple[ast.expr, set[str], ast.expr]]:
    """What a comprehension or ``filter`` goes through, its variables, and each of its conditions."""
    if isinstance(given, (ast.ListComp, ast.GeneratorExp)):
        over = given.generators[0]
        names = {node.id for node in walk(over.target) if isinstance(node, ast.Name)}
        yield from ((over.iter, names, test) for test in over.ifs)
    elif isinstance(given, ast.Call) and name_of(given) == "filter" and len(given.args) == 2:
        test, over_all = given.args
        if isinstance(test, ast.Lambda):
            yield over_all, {one.arg for one in test.args.args}, test.body


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
