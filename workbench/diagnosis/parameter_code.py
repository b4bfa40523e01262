"""Parameters that a training script's code leaves out: lists of layers, networks made anew, frozen parts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from workbench.diagnosis.gradient_code import MISSING
from workbench.diagnosis.loop_code import (
    Fault,
    Loop,
    calls,
    methods,
    number_of,
    optimizers_of,
    owner_of,
    walk,
)

NOT_UPDATED, LAST_BATCH = "batch-norm statistics not updated", "batch-norm statistics do not fit"
# Layers with parameters, by their names in torch.
LEARNED = re.compile(r"Conv|Linear|Norm|Embedding|Parameter|Attention|Transformer|LSTM|GRU")
WRAPPING = re.compile(r"ModuleList|ModuleDict|Sequential|ParameterList|add_module|register_|setattr")
# Share of a new batch in the statistics from which nothing of earlier ones is left: TensorFlow's momentum.
ALMOST_ALL = 0.9


def faults_of_modules(tree: ast.Module) -> Iterator[Fault]:
    """Layers of a network's class that its parameters do not hold, and norms whose statistics stand still."""
    classes = [node for node in walk(tree) if isinstance(node, ast.ClassDef)]
    modules = {c.name for c in classes if any(ast.unparse(b).endswith("Module") for b in c.bases)}
    for made in (c for c in classes if c.name in modules):
        yield from _plain_lists(made, modules)
    yield from _momentum(tree)


def _plain_lists(made: ast.ClassDef, modules: set[str]) -> Iterator[Fault]:
    """``self.blocks = [nn.Conv2d(...) ...]``: a list that torch does not look into."""
    for node in walk(made):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, (ast.List, ast.ListComp, ast.Dict))):
            continue
        name = ast.unparse(node.targets[0])
        layers = [c for c in calls(node.value) if _is_layer(c, modules)]
        if not name.startswith("self.") or not layers:
            continue
        given = [
            c for c in calls(made)
            if re.search(rf"{re.escape(name)}(?!\w)", ast.unparse(c)) and WRAPPING.search(ast.unparse(c.func))
        ]  # fmt: skip
        if not given and len(re.findall(rf"{re.escape(name)}(?!\w)", ast.unparse(made))) > 1:
            yield Fault(
                MISSING, node.lineno,
                f"{name} of {made.name} is a plain list or dictionary of layers "
                f"({ast.unparse(layers[0].func)}): their weights are not among its parameters, and are "
                "neither trained nor saved",
                f"make it an nn.ModuleList: {name} = nn.ModuleList([...])",
            )  # fmt: skip


def _is_layer(call: ast.Call, modules: set[str]) -> bool:
    name = ast.unparse(call.func)
    return name in modules or (name.startswith(("nn.", "torch.nn.")) and bool(LEARNED.search(name)))


def _momentum(tree: ast.Module) -> Iterator[Fault]:
    """A momentum of batch norm of 0, or one that is TensorFlow's."""
    found: list[tuple[int, float | None]] = []
    for call in calls(tree):
        if "BatchNorm" in ast.unparse(call.func):
            found += [(call.lineno, number_of(tree, w.value)) for w in call.keywords if w.arg == "momentum"]
    for node in walk(tree):
        if isinstance(node, ast.If) and "BatchNorm" in ast.unparse(node.test):
            found += [
                (one.lineno, number_of(tree, one.value))
                for one in walk(node)
                if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]).endswith(".momentum")
            ]
    for line, value in found:
        if value == 0:
            yield Fault(
                NOT_UPDATED, line,
                "batch norm has a momentum of 0: its statistics stay at 0 and 1, with which they begin",
                "leave the momentum at 0.1",
            )  # fmt: skip
            return
        if value is not None and ALMOST_ALL <= value < 1:
            yield Fault(
                LAST_BATCH, line,
                f"batch norm has a momentum of {value:g}, which in torch is the share of the new batch: its "
                "statistics are those of the last batch",
                f"write {1 - value:.3g}: TensorFlow counts the other way round",
            )  # fmt: skip
            return


def faults_of_parameters(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """An optimizer that was given another network than the one that is trained, and parts frozen by name.

    Args:
        tree: of the file.
        loop: the innermost one with a backward pass.
    """
    owners: dict[str, int] = {}
    for made in optimizers_of(tree).values():
        for given in made.args[:1]:
            for inner in methods(given, "parameters"):
                owners.setdefault(owner_of(inner), made.lineno)
    for owner, line in owners.items():
        yield from _made_anew(tree, loop, owner, line)
    yield from _frozen_by_name(tree, set(owners))


def _made_anew(tree: ast.Module, loop: Loop, owner: str, line: int) -> Iterator[Fault]:
    """A network that is made again behind the line that makes its optimizer, and before the loop."""
    for node in walk(tree):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        # The text of a value is made last: a file may have many values and many optimizers.
        if not line < node.lineno < loop.lineno or ast.unparse(node.targets[0]) != owner:
            continue
        wraps = re.search(rf"(?<![\w.]){re.escape(owner)}(?!\w)", ast.unparse(node.value))
        if not wraps:
            used = any(
                isinstance(n, (ast.Name, ast.Attribute)) and ast.unparse(n) == owner for n in walk(loop)
            )
            if used:
                yield Fault(
                    MISSING, node.lineno,
                    f"{owner} is made anew after the optimizer of line {line} was given its parameters: what "
                    "the loop uses is not trained",
                    "make the optimizer after the network",
                )  # fmt: skip


def _frozen_by_name(tree: ast.Module, owners: set[str]) -> Iterator[Fault]:
    """``for name, p in model.named_parameters(): if 'backbone' in name: p.requires_grad = False``."""
    for node in walk(tree):
        over = node.iter if isinstance(node, ast.For) else None
        if not (isinstance(over, ast.Call) and ast.unparse(over.func).endswith(".named_parameters")):
            continue
        off = [
            one for one in walk(node)
            if (isinstance(one, ast.Assign) and ast.unparse(one.targets[0]).endswith(".requires_grad")
                and ast.unparse(one.value) == "False")
            or (isinstance(one, ast.Call) and ast.unparse(one).endswith(".requires_grad_(False)"))
        ]  # fmt: skip
        freed = re.search(r"requires_grad(_\(| = )True", ast.unparse(tree))
        if owner_of(over) in owners and off and not freed:
            tests = [n.test for n in walk(node) if isinstance(n, ast.If)]
            yield Fault(
                MISSING, off[0].lineno,
                f"parameters of {owner_of(over)} are frozen"
                f"{f' where {ast.unparse(tests[0])}' if tests else ''}: they keep the values that they begin "
                "with",
                "train them too, or keep them frozen on purpose, with weights that were trained before",
                severity="remark" if is_pretrained(tree) else "error",
            )  # fmt: skip


def is_pretrained(tree: ast.Module) -> bool:
    """Whether the code reads weights that were trained before: what is frozen then may be meant."""
    words = r"load_state_dict|pretrained|weights=|from_pretrained|load_checkpoint"
    return re.search(words, ast.unparse(tree)) is not None
