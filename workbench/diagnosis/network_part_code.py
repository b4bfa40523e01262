"""What a training script does to a part of the network: norms in evaluation mode, parameters by name."""

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
    methods,
    modes_set,
    name_of,
    owner_of,
    reached,
    uses_framework,
    walk,
)
from workbench.diagnosis.mode_code import EVALUATING
from workbench.diagnosis.picture_code import USED_IN_TRAINING

VALIDATION = re.compile("val|test|eval", re.IGNORECASE)
NORM = re.compile(r"norm|\bBN\b", re.IGNORECASE)


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
