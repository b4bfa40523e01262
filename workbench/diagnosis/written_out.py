"""Training loops whose parts stand in several places, written out as one loop, so that they are read alike.

A trainer class has its loop over the epochs in one method and that over the batches in another, and of
Lightning's loop the user writes the step alone. Both become one loop in the syntax tree; the lines stay those
of the file. Nothing is run.
"""

from __future__ import annotations

import ast
import copy

from workbench.core.python_text import tree_of
from workbench.diagnosis.loop_code import OPTIMIZERS, assigned, backwards, calls, methods, name_of

STEP = "training_step"
# LightningModules of one file that are looked at; scripts have one to three.
_CLASSES = 20
SCHEDULERS = ("LR", "LROnPlateau", "WarmRestarts")


def written_out(tree: ast.Module) -> ast.Module:
    """The same code with its training loop in one piece, where that can be told.

    Args:
        tree: of a file; it is changed.
    """
    _unpack(tree)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    with_step = [c for c in classes if any(getattr(n, "name", "") == STEP for n in c.body)]
    for made in with_step[:_CLASSES]:  # each looks through the whole file
        _lightning(tree, made)
    _in_epochs(tree)
    return ast.fix_missing_locations(tree)


def _unpack(tree: ast.AST) -> None:
    """``a, b = x, y`` as two assignments, where neither value reads what is assigned."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                setattr(node, field, [one for statement in statements for one in _single(statement)])


def _single(statement: ast.stmt) -> list[ast.stmt]:
    target = statement.targets[0] if isinstance(statement, ast.Assign) else None
    value = statement.value if isinstance(statement, ast.Assign) else None
    if not (isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)):
        return [statement]
    names = {ast.unparse(one) for one in target.elts}
    read = _names_in(value)
    starred = any(isinstance(one, ast.Starred) for one in (*target.elts, *value.elts))
    if len(target.elts) != len(value.elts) or starred or names & read:
        return [statement]
    pairs = zip(target.elts, value.elts, strict=True)
    return [ast.copy_location(ast.Assign([one], own), statement) for one, own in pairs]


def _names_in(value: ast.expr) -> set[str]:
    """The names in an expression, and their attributes: ``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``."""
    texts: dict[int, str] = {}
    for node in reversed(list(ast.walk(value))):  # inner ones first, so that each is put together once
        if isinstance(node, ast.Name):
            texts[id(node)] = node.id
        elif isinstance(node, ast.Attribute) and id(node.value) in texts:
            texts[id(node)] = f"{texts[id(node.value)]}.{node.attr}"
    return set(texts.values())


# A loop over the batches in a function of its own.


def _in_epochs(tree: ast.Module) -> None:
    """The function with the loop over the batches, put where a loop over the epochs calls it."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inner = [f for f in functions if any(_holds_backward(node) for node in f.body)]
    if len(inner) != 1 or inner[0].name == STEP or _yields(inner[0]):
        return
    function = inner[0]
    # A function that has the loop over the epochs itself may be called for every fold.
    if sum(any(backwards(n)) for n in ast.walk(function) if isinstance(n, (ast.For, ast.While))) != 1:
        return
    outer = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.For) and not any(n is node for n in ast.walk(function)) and _is_epochs(node)
    ]  # fmt: skip
    found = [(loop, n) for loop in outer for n, one in enumerate(loop.body) if _calls(one, function.name)]
    if len(found) != 1:
        return
    loop, place = found[0]
    call = next(c for c in calls(loop.body[place]) if name_of(c) == function.name)
    body = [one for one in function.body if not isinstance(one, (ast.Return, ast.Nonlocal, ast.Global))]
    loop.body[place : place + 1] = [*_arguments(function, call), *body, loop.body[place]]
    function.body = [ast.copy_location(ast.Pass(), function)]


def _holds_backward(node: ast.stmt) -> bool:
    loops = [n for n in ast.walk(node) if isinstance(n, (ast.For, ast.While))]
    return any(any(backwards(loop)) for loop in loops)


def _yields(function: ast.FunctionDef) -> bool:
    return any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in ast.walk(function))


def _is_epochs(loop: ast.For) -> bool:
    over = isinstance(loop.iter, ast.Call) and name_of(loop.iter) in ("range", "trange")
    return over and "epoch" in f"{ast.unparse(loop.target)} {ast.unparse(loop.iter)}".lower()


def _calls(statement: ast.stmt, name: str) -> bool:
    """Whether a simple statement calls a function by its own name, or as a method of ``self``."""
    return not getattr(statement, "body", ()) and any(
        name_of(c) == name and ast.unparse(c.func) in (name, f"self.{name}") for c in calls(statement)
    )


def _arguments(function: ast.FunctionDef, call: ast.Call) -> list[ast.stmt]:
    """What the function's parameters are given, where they have another name than outside."""
    names = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]
    names = names[1:] if names[:1] == ["self"] else names
    given = dict(zip(names, call.args, strict=False))
    given |= {word.arg: word.value for word in call.keywords if word.arg in names}
    return [
        ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], copy.deepcopy(value)), call)
        for name, value in given.items()
        if ast.unparse(value) != name
        and not any(isinstance(n, (ast.Call, ast.Starred)) for n in ast.walk(value))
    ]


# Lightning's loop.


def _lightning(tree: ast.Module, made: ast.ClassDef) -> None:
    """The loop of a LightningModule with automatic optimization, in place of its ``training_step``."""
    methods_of = {node.name: node for node in made.body if isinstance(node, ast.FunctionDef)}
    step, configure = methods_of.get(STEP), methods_of.get("configure_optimizers")
    if step is None or configure is None or _is_manual(made) or _yields(step):
        return
    optimizer = _optimizer_name(configure)
    loss = _loss_name(step)
    if optimizer is None or not loss:
        return
    trainer = next((c for c in calls(tree) if name_of(c) == "Trainer"), None)
    words = {word.arg: word.value for word in trainer.keywords} if trainer is not None else {}
    names = [arg.arg for arg in step.args.args[1:]]
    batch, number = (
        (*names, "batch", "batch_idx")[:2] if len(names) > 1 else ((*names, "batch")[0], "batch_idx")
    )
    inside, behind = _scheduled(configure)
    end = [f"{optimizer}.zero_grad()", f"{loss}.backward()", f"{optimizer}.step()"]
    count = ast.unparse(words["max_epochs"]) if "max_epochs" in words else "epochs"
    text = (
        f"for current_epoch in range({count}):\n"
        f"    for {number}, {batch} in enumerate({_loader(tree, methods_of)}):\n"
        + "".join(f"        {line}\n" for line in (*end, *inside))
        + "".join(f"    {line}\n" for line in behind)
    )
    (epochs,) = tree_of(text).body
    assert isinstance(epochs, ast.For)
    batches = epochs.body[0]
    assert isinstance(batches, ast.For)
    last = step.body[-1].end_lineno or step.lineno
    for node in ast.walk(epochs):
        _place(node, step.lineno, step)
    for statement in (*batches.body, *epochs.body[1:]):
        for node in ast.walk(statement):
            _place(node, last, step.body[-1])
    batches.body[:0] = _losses(step.body, loss)
    step.body, step.args.defaults = [epochs], []


def _place(node: ast.AST, line: int, like: ast.stmt) -> None:
    if hasattr(node, "lineno"):
        node.lineno = node.end_lineno = line  # type: ignore[attr-defined]
        node.col_offset, node.end_col_offset = like.col_offset, like.col_offset  # type: ignore[attr-defined]


def _is_manual(made: ast.ClassDef) -> bool:
    off = assigned(ast.Module([made], []), "self.automatic_optimization")
    return bool(off) or any(backwards(made)) or any(methods(made, "optimizers"))


def _optimizer_name(configure: ast.FunctionDef) -> str | None:
    """The name of the one optimizer that is made; it is given one where it has none. None for several."""
    made = [c for c in calls(configure) if name_of(c).lower() in OPTIMIZERS]
    if len(made) != 1:
        return None
    for node in ast.walk(configure):
        if isinstance(node, ast.Assign) and node.value is made[0]:
            return ast.unparse(node.targets[0])
    for place, statement in enumerate(configure.body):
        if any(inner is made[0] for inner in ast.walk(statement)) and isinstance(statement, ast.Return):
            named = ast.copy_location(ast.Assign([ast.Name("optimizer", ast.Store())], made[0]), statement)
            configure.body.insert(place, named)
            configure.body[place + 1] = _Renamed(made[0], "optimizer").visit(statement)
            return "optimizer"
    return None


class _Renamed(ast.NodeTransformer):
    """A call replaced by the name of its value."""

    def __init__(self, call: ast.Call, name: str) -> None:
        self.call, self.name = call, name

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if node is self.call:
            return ast.copy_location(ast.Name(self.name, ast.Load()), node)
        return self.generic_visit(node)


def _loss_name(step: ast.FunctionDef) -> str:
    """The name of the loss that a step returns: its own, or one that it is given."""
    returned = [n.value for n in ast.walk(step) if isinstance(n, ast.Return) and n.value is not None]
    names = {ast.unparse(value) for value in map(_of_dictionary, returned) if isinstance(value, ast.Name)}
    return "" if not returned else names.pop() if len(names) == 1 else "loss"


def _of_dictionary(value: ast.expr) -> ast.expr:
    """``loss`` of ``{"loss": loss, ...}``."""
    if not isinstance(value, ast.Dict):
        return value
    pairs = zip(value.keys, value.values, strict=True)
    return next((v for k, v in pairs if isinstance(k, ast.Constant) and k.value == "loss"), value)


def _losses(body: list[ast.stmt], loss: str) -> list[ast.stmt]:
    """The statements of a step, its returned loss given its name."""
    found: list[ast.stmt] = []
    for statement in body:
        for field in ("body", "orelse"):
            if isinstance(inner := getattr(statement, field, None), list):
                setattr(
                    statement,
                    field,
                    _losses(inner, loss) or [ast.copy_location(ast.Pass(), statement)] * bool(inner),
                )
        if not isinstance(statement, ast.Return):
            found.append(statement)
        elif statement.value is not None and ast.unparse(value := _of_dictionary(statement.value)) != loss:
            found.append(ast.copy_location(ast.Assign([ast.Name(loss, ast.Store())], value), statement))
    return found


def _scheduled(configure: ast.FunctionDef) -> tuple[list[str], list[str]]:
    """Steps of the scheduler after every batch, and after every epoch, as Lightning takes them."""
    made = [
        ast.unparse(node.targets[0])
        for node in ast.walk(configure)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        and name_of(node.value).endswith(SCHEDULERS)
    ]  # fmt: skip
    entries: dict[str, ast.expr] = {}
    for node in ast.walk(configure):
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            entries |= {
                k.value: v for k, v in pairs if isinstance(k, ast.Constant) and isinstance(k.value, str)
            }
    # Of several, one may be a part of another.
    if len(made) != 1:
        return [], []
    interval, monitor = entries.get("interval"), entries.get("monitor")
    given = monitor.value if isinstance(monitor, ast.Constant) else ""
    given = given if isinstance(given, str) and given.replace("/", "_").isidentifier() else ""
    line = f"{made[0]}.step({given.replace('/', '_')})"
    by_step = isinstance(interval, ast.Constant) and interval.value == "step"
    return ([line], []) if by_step else ([], [line])


def _loader(tree: ast.Module, methods_of: dict[str, ast.FunctionDef]) -> str:
    """The loader of the training: what ``fit`` is given, or ``train_dataloader`` returns."""
    own = methods_of.get("train_dataloader")
    for node in ast.walk(own) if own is not None else ():
        if isinstance(node, ast.Return) and node.value is not None:
            return ast.unparse(node.value)
    for call in methods(tree, "fit"):
        words = {word.arg: word.value for word in call.keywords}
        given = words.get("train_dataloaders") or next(iter(call.args[1:2]), None)
        if isinstance(given, (ast.Name, ast.Attribute)):
            return ast.unparse(given)
    return "train_loader"
