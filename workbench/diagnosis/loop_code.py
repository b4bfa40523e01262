"""The calls of a training loop by what they do, and the way from its loss back to the network."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workbench.core.finding import Severity

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "radam", "nadam", "lbfgs")
# Calls that make a number or an array of a tensor, or a tensor of a number: gradients end there.
CUTTING = {"detach", "detach_", "item", "numpy", "tolist", "data", "argmax", "argmin", "argsort", "long"}
MODULES = {"torch", "F", "nn", "np", "numpy", "math", "TF"}
PLAIN = {
    *(
        "sum",
        "min",
        "max",
        "abs",
        "len",
        "zip",
        "range",
        "enumerate",
        "list",
        "tuple",
        "dict",
        "print",
        "int",
    ),
    *(
        "scale",
        "append",
        "extend",
        "update",
        "to",
        "cuda",
        "float",
        "long",
        "half",
        "view",
        "reshape",
        "clone",
    ),
    *("permute", "unsqueeze", "squeeze", "flatten", "mean", "pow", "size", "get", "items", "values", "keys"),
}


Loop = ast.For | ast.While | ast.FunctionDef
"""Where a batch is learned: a loop, or the ``training_step`` that Lightning calls for each batch."""


@dataclass(frozen=True)
class Fault:
    """One mistake in a training script.

    Attributes:
        cause: one of the names above.
        line: where it shows, from 1.
        evidence: what the code does, one sentence.
        fix: what to do.
        diff: the line that is added or changed.
        severity: as of a finding; what may be wanted is a remark.
    """

    cause: str
    line: int
    evidence: str
    fix: str
    diff: str = ""
    severity: Severity = "error"


@dataclass(frozen=True)
class Graph:
    """What the values of a loop are made of.

    Attributes:
        values: name -> what it is given: line, column, value, and whether earlier values end there.
        blocked: ids of nodes that are computed without gradients.
        begins: line -> line and column at which its statement begins.
        functions: names of the functions of the file.
        networks: names of which the file sets the mode or reads the parameters.
    """

    values: dict[str, list[tuple[int, int, ast.expr, bool]]]
    blocked: frozenset[int]
    begins: dict[int, tuple[int, int]]
    functions: frozenset[str]
    networks: frozenset[str]

    @classmethod
    def of(cls, tree: ast.Module, loop: Loop) -> Graph:
        """Of the statements of a loop."""
        values: dict[str, list[tuple[int, int, ast.expr, bool]]] = {}
        blocked: set[int] = set()
        begins: dict[int, tuple[int, int]] = {}
        for node in walk(loop):
            if isinstance(node, ast.stmt) and not getattr(node, "body", ()):
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                begins |= dict.fromkeys(lines, (node.lineno, node.col_offset))
            targets: list[ast.expr] = []
            if isinstance(node, ast.Assign):
                targets = node.targets
            elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.NamedExpr, ast.For)):
                targets = [node.target] if node is not loop else []
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                # losses.append(x): x is in what losses holds.
                owner = node.value.func.value if isinstance(node.value.func, ast.Attribute) else None
                is_list = isinstance(owner, ast.Name) and owner.id != "self" and bool(node.value.args)
                targets = [owner] if is_list and owner is not None else []
            elif isinstance(node, ast.With) and any("no_grad" in ast.unparse(i) for i in node.items):
                blocked |= {id(inner) for inner in walk(node)}
            value = node.iter if isinstance(node, ast.For) else getattr(node, "value", None)
            for target in (inner for one in targets for inner in _unpacked(one)):
                name = ast.unparse(target.value if isinstance(target, ast.Subscript) else target)
                ends = isinstance(node, (ast.Assign, ast.AnnAssign)) and not isinstance(target, ast.Subscript)
                if value is not None:
                    held = (node.lineno, node.col_offset, value, ends)  # type: ignore[attr-defined]
                    values.setdefault(name, []).append(held)
        networks = {owner_of(c) for way in ("parameters", "train", "eval") for c in methods(tree, way)}
        functions = {node.name for node in walk(tree) if isinstance(node, ast.FunctionDef)}
        return cls(values, frozenset(blocked), begins, frozenset(functions), frozenset(networks))

    def before(self, name: str, at: ast.expr) -> list[ast.expr]:
        """The values that a name can have in an expression, from the last one to the last certain one."""
        found, (start, depth) = [], self.begins.get(at.lineno, (at.lineno, at.col_offset))
        for line, column, value, ends in sorted(self.values.get(name, ()), key=lambda v: v[:2], reverse=True):
            if line < start:
                found.append(value)
                if ends and column <= depth:
                    break
        return found

    def reaches(self, node: ast.expr, cuts: list[ast.expr] | None, seen: set[int]) -> bool:
        """Whether a network's output is in a value.

        Args:
            node: of the value.
            cuts: is given what ends the gradients; None to look behind that too.
            seen: ids of the nodes that were looked at.
        """
        if id(node) in seen:
            return False
        seen.add(id(node))
        if cuts is not None and (_cuts(node) or id(node) in self.blocked):
            cuts.append(node)
            return False
        if isinstance(node, ast.Call) and self._is_network(node):
            return True
        if isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in self.values:
            if any(self.reaches(value, cuts, seen) for value in self.before(ast.unparse(node), node)):
                return True
        elif isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in self.networks:
            return True  # handed to a function, which calls it
        return any(self.reaches(n, cuts, seen) for n in ast.iter_child_nodes(node))  # type: ignore[arg-type]

    def _is_network(self, call: ast.Call) -> bool:
        """Whether a call can be that of a network: nothing of torch, no criterion, no method of a tensor."""
        name, owner = name_of(call), owner_of(call)
        if name in self.functions or ast.unparse(call.func) in self.networks or owner in self.networks:
            return True
        root = ast.unparse(call.func).split(".")[0].split("(")[0]
        is_loss = re.search("loss|crit|mse", name, re.IGNORECASE) or isinstance(call.func, ast.Call)
        return not (root in MODULES or name in PLAIN or is_loss or root in self.values or "(" in owner)


def _unpacked(target: ast.expr) -> list[ast.expr]:
    """``a`` and ``b`` of ``a, b = ...``."""
    inner = target.elts if isinstance(target, (ast.Tuple, ast.List)) else []
    return [found for one in inner for found in _unpacked(one)] or [target]


def _cuts(node: ast.AST) -> bool:
    """Whether gradients end at a node: it makes a number of a tensor, or a tensor of a number."""
    if isinstance(node, ast.Attribute):
        return node.attr == "data"
    if not isinstance(node, ast.Call):
        return False
    way = ast.unparse(node.func)
    is_method = isinstance(node.func, ast.Attribute) and node.func.attr in CUTTING
    return is_method or way in ("float", "torch.tensor") or way.startswith(("np.", "numpy."))


# Where a node of a tree that is not changed any more keeps what was found in it.
_NODES, _VALUES, _METHODS = "_nodes", "_values", "_methods"
_HANDED, _OWNER = "_handed_on", "_owner"


def unchanged(tree: ast.Module) -> ast.Module:
    """The same tree, of which `walk`, `methods` and others remember what they find: many rules ask.

    Args:
        tree: of a file; nothing changes it from now on.
    """
    for node in ast.walk(tree):
        setattr(node, _NODES, None)
    return tree


def walk(tree: ast.AST) -> Iterable[ast.AST]:
    """All nodes of some code in the order of `ast.walk`."""
    kept = tree.__dict__.get(_NODES, ())
    if kept is None:
        kept = tuple(ast.walk(tree))
        setattr(tree, _NODES, kept)
    return kept or ast.walk(tree)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """All calls of some code."""
    return (node for node in walk(tree) if isinstance(node, ast.Call))


def name_of(call: ast.Call) -> str:
    """``name`` of ``x.name(...)`` and of ``name(...)``."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def methods(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """Calls of a method without arguments that matter: ``x.name(...)``."""
    kept = tree.__dict__.get(_METHODS)
    if kept is None:
        kept = {}
        for call in calls(tree):
            if isinstance(call.func, ast.Attribute):
                kept.setdefault(call.func.attr, []).append(call)
        if _NODES in tree.__dict__:
            setattr(tree, _METHODS, kept)
    return iter(kept.get(name, ()))


def backwards(tree: ast.AST) -> Iterator[ast.Call]:
    """Backward passes: ``loss.backward()``, ``self.manual_backward(loss)`` of Lightning."""
    return (call for way in ("backward", "manual_backward") for call in methods(tree, way))


def owner_of(call: ast.Call) -> str:
    """``x`` of ``x.name(...)``."""
    kept = call.__dict__.get(_OWNER)
    if kept is None:
        kept = ast.unparse(call.func).rpartition(".")[0]
        if _NODES in call.__dict__:
            setattr(call, _OWNER, kept)
    return kept


def assigned(tree: ast.Module, name: str) -> list[ast.expr]:
    """Everything that a file assigns to a name."""
    kept = tree.__dict__.get(_VALUES)
    if kept is None:
        kept = {}
        for node in walk(tree):
            if isinstance(node, ast.Assign):
                for target in {ast.unparse(target) for target in node.targets}:
                    kept.setdefault(target, []).append(node.value)
        if _NODES in tree.__dict__:
            setattr(tree, _VALUES, kept)
    return [*kept.get(name, ())]


def steps_of(tree: ast.Module, within: ast.AST) -> list[ast.Call]:
    """Steps of optimizers, whatever their names, and not those of schedulers."""
    made = {
        ast.unparse(target)
        for node in walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if name_of(node.value).lower() in OPTIMIZERS
    }

    def steps(text: str) -> bool:
        return text in made or ("opt" in text.lower() and "sched" not in text.lower())

    found = [c for c in methods(within, "step") if any(map(steps, [owner_of(c), *map(ast.unparse, c.args)]))]
    return sorted(found, key=lambda call: call.lineno)


def modes_set(tree: ast.AST, training: bool) -> Iterator[ast.Call]:
    """Calls that put a network in training mode, or in evaluation mode: ``train(False)`` is ``eval()``."""
    for call in calls(tree):
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("train", "eval"):
            given = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
            off = any(isinstance(one, ast.Constant) and not one.value for one in given)
            if training == (call.func.attr == "train" and not off):
                yield call


def loader_of(tree: ast.Module, loop: Loop) -> ast.Call | None:
    """The loader that a loop goes through, where the file makes it under the name that the loop has."""
    over = {ast.unparse(n) for n in walk(loop.iter)} if isinstance(loop, ast.For) else set()
    made = [v for name in over for v in assigned(tree, name)]
    return next((v for v in made if isinstance(v, ast.Call) and name_of(v) == "DataLoader"), None)


def called(loop: Loop) -> str:
    """What a person calls it."""
    return f"{loop.name}()" if isinstance(loop, ast.FunctionDef) else "the loop"


def optimizers_of(tree: ast.Module) -> dict[str, ast.Call]:
    """Optimizers that a file makes, by the name that they are given."""
    return {
        ast.unparse(node.targets[0]): node.value
        for node in walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and name_of(node.value).lower() in OPTIMIZERS
    }


def used_elsewhere(tree: ast.Module, name: str) -> bool:
    """Whether a value is handed on: to a function, a list or a caller, and not to a scheduler alone.

    Args:
        tree: of the file.
        name: of the value, as it is written.
    """
    kept = tree.__dict__.get(_HANDED)
    if kept is None:
        kept = _handed_on(tree)
        if _NODES in tree.__dict__:
            setattr(tree, _HANDED, kept)
    return name in kept


def _handed_on(tree: ast.Module) -> set[str]:
    """The names that are handed on somewhere in a file."""
    apart: set[int] = set()
    for node in walk(tree):
        if isinstance(node, ast.Call) and re.search("LR$|schedul|Plateau|Restarts", name_of(node)):
            apart |= {id(inner) for inner in walk(node)}
        elif isinstance(node, ast.Attribute):
            apart.add(id(node.value))
        elif isinstance(node, ast.Assign):
            apart |= {id(target) for target in node.targets}
    return {
        ast.unparse(node)
        for node in walk(tree)
        if isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in apart
    }


def reached(tree: ast.Module, loop: ast.AST) -> list[ast.AST]:
    """A loop and the functions of the file that are named in it, and in those in turn."""
    functions = {node.name: node for node in walk(tree) if isinstance(node, ast.FunctionDef)}
    found: list[ast.AST] = [loop]
    for part in found:
        names = {n.id for n in walk(part) if isinstance(n, ast.Name)}
        names |= {n.attr for n in walk(part) if isinstance(n, ast.Attribute)}
        found += [f for name, f in functions.items() if name in names and f not in found]
    return found


def uses_framework(tree: ast.Module) -> bool:
    """Whether a framework does parts of the loop by itself: Lightning, accelerate, apex, DeepSpeed."""
    names = [
        *(a.name for n in walk(tree) if isinstance(n, ast.Import) for a in n.names),
        *(n.module or "" for n in walk(tree) if isinstance(n, ast.ImportFrom)),
    ]
    return any(re.match("(pytorch_)?lightning|accelerate|apex|deepspeed|mmengine|mmcv", n) for n in names)


def number_of(tree: ast.Module, node: ast.expr | None) -> float | None:
    """The number that an expression is: itself, a constant of the file, or a default of a parameter."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = number_of(tree, node.operand)
        return None if inner is None else -inner
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Add)):
        left, right = number_of(tree, node.left), number_of(tree, node.right)
        if left is None or right is None:
            return None
        return left * right if isinstance(node.op, ast.Mult) else left + right
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
        # What an object was given when it was made.
        held = assigned(tree, ast.unparse(node))
        return number_of(tree, held[0]) if len(held) == 1 and not isinstance(held[0], ast.Attribute) else None
    if not isinstance(node, ast.Name):
        return None
    values = assigned(tree, node.id)
    # A default that a call of the file overrides is none.
    values += [w.value for call in calls(tree) for w in call.keywords if w.arg == node.id]
    for function in (n for n in walk(tree) if isinstance(n, ast.FunctionDef)):
        args = function.args
        named = [*args.posonlyargs, *args.args][-len(args.defaults) :] if args.defaults else []
        values += [v for arg, v in zip(named, args.defaults, strict=True) if arg.arg == node.id]
    is_alone = len(values) == 1 and isinstance(values[0], ast.Constant)
    return number_of(tree, values[0]) if is_alone else None


def loops_around(tree: ast.Module, loop: Loop) -> list[Loop]:
    """The loops that hold a loop, itself among them, the outermost first."""
    loops = (node for node in walk(tree) if isinstance(node, (ast.For, ast.While)))
    found: list[Loop] = [node for node in loops if any(inner is loop for inner in walk(node))]
    found += [] if loop in found else [loop]
    return sorted(found, key=lambda node: node.lineno)


def sets_grad_to_none(tree: ast.AST) -> bool:
    """Whether code clears gradients by hand: ``p.grad = None``."""
    targets: list[ast.expr] = [t for node in walk(tree) if isinstance(node, ast.Assign) for t in node.targets]
    return any(isinstance(target, ast.Attribute) and target.attr == "grad" for target in targets)


def function_of(tree: ast.Module, part: ast.AST) -> ast.FunctionDef | None:
    """The innermost function that holds a part of a file; None where it stands in the file itself."""
    found = [
        node
        for node in walk(tree)
        if isinstance(node, ast.FunctionDef) and any(inner is part for inner in walk(node))
    ]
    return max(found, key=lambda node: node.lineno, default=None)
