"""Losses in a training script's code that do not fit what they are given, and data that are left out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from workbench.diagnosis.loop_code import (
    Fault,
    Loop,
    assigned,
    calls,
    loader_of,
    methods,
    name_of,
    uses_framework,
    walk,
)

NOT_FITTING, UNWEIGHTED = ("loss does not fit the outputs", "keypoints without labels are learned")
UNSHUFFLED, PART, VALIDATED = (
    "training data not shuffled",
    "only part of the data is trained on",
    "validated on the training data",
)
# What losses of torch take, by their names as a function and as a class.
LOG_PROBABILITIES = {"kl_div", "KLDivLoss", "nll_loss", "NLLLoss"}
LOGITS = {
    "cross_entropy", "CrossEntropyLoss", "binary_cross_entropy_with_logits", "BCEWithLogitsLoss",
}  # fmt: skip
PROBABILITIES = {"binary_cross_entropy", "BCELoss"}
WEIGHTS = re.compile(r"(^|_)(weights?|vis|visible|visibility|joints_vis|target_weight|mask)s?($|_)")


def faults_of_losses(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """Probabilities where logits are asked for, weights of keypoints that are not used.

    Args:
        tree: of the file.
        loop: the innermost one with a backward pass.
    """
    made = {
        ast.unparse(node.targets[0]): name_of(node.value)
        for node in walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
    }
    for call in calls(tree):
        kind = name_of(call) if isinstance(call.func, (ast.Attribute, ast.Name)) else ""
        kind = made.get(ast.unparse(call.func), kind)
        if isinstance(call.func, ast.Call):
            kind = name_of(call.func)  # nn.KLDivLoss()(outputs, targets)
        if not call.args or isinstance(call.args[0], ast.Starred):
            continue
        given = _value_of(tree, call.args[0], call.lineno)
        outer = name_of(given) if isinstance(given, ast.Call) else ""
        wanted = ""
        if kind in LOG_PROBABILITIES and outer in ("softmax", "sigmoid", "Softmax"):
            wanted = "the logarithm of probabilities: take log_softmax"
        elif kind in LOGITS and outer in ("softmax", "sigmoid", "log_sigmoid", "Softmax", "Sigmoid"):
            own = "a sigmoid" if "inary" in kind or "BCE" in kind else "softmax"
            wanted = f"logits, and applies {own} itself"
        elif kind in PROBABILITIES and outer == "log_softmax":
            wanted = "probabilities"
        if wanted:
            yield Fault(
                NOT_FITTING, call.lineno,
                f"{ast.unparse(call.func)} is given {ast.unparse(given)}, and it expects {wanted}",
                "give the loss what it expects",
            )  # fmt: skip
    yield from _unused_weights(loop)


def _value_of(tree: ast.Module, node: ast.expr, before: int) -> ast.expr:
    """What an expression is, a name by what it was given last before a line."""
    if not isinstance(node, ast.Name):
        return node
    values = [value for value in assigned(tree, node.id) if value.lineno < before]
    return max(values, key=lambda value: value.lineno, default=node)


def _unused_weights(loop: Loop) -> Iterator[Fault]:
    """Weights or visibilities that the loop takes from its batch, and never looks at."""
    if not isinstance(loop, ast.For):
        return
    sources: list[tuple[ast.expr, int]] = [(loop.target, loop.lineno)]
    batch = re.compile(rf"(?<!\w){re.escape(ast.unparse(loop.target))}(?!\w)")
    unpacked = [n for n in loop.body if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Tuple)]
    sources += [(n.targets[0], n.lineno) for n in unpacked if batch.search(ast.unparse(n.value))]
    read = {n.id for n in walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    if any(isinstance(n, ast.Name) and n.id == "locals" for n in walk(loop)):
        return
    for source, line in sources:
        names = [n.id for n in walk(source) if isinstance(n, ast.Name)]
        unused = [n for n in names if WEIGHTS.search(n) and n not in read]
        # A batch of a picture and a mask alone is no batch of keypoints.
        if unused and len(names) > 2 and "mask" not in unused[0]:
            yield Fault(
                UNWEIGHTED, line,
                f"the loop takes {unused[0]} from its batch and does not use it: the loss counts keypoints "
                "that nobody labelled, whose targets are empty",
                f"multiply the loss of each keypoint by {unused[0]}",
                severity="warning",
            )  # fmt: skip


def faults_of_data(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """The same order of the data in every epoch, loops that end early, one file for training and validation.

    Args:
        tree: of the file.
        loop: the innermost one with a backward pass.
    """
    outer = [n for n in walk(tree) if isinstance(n, ast.For) and n is not loop]
    outer = [n for n in outer if any(inner is loop for inner in walk(n))]
    counted = [n for n in outer if isinstance(n.iter, ast.Call) and name_of(n.iter) in ("range", "trange")]
    epochs = [n for n in outer if n in counted or "epoch" in ast.unparse(n.target)]
    if isinstance(loop, ast.For) and epochs:
        yield from _seeded(epochs[-1])
        yield from _cut_short(loop)
    if not uses_framework(tree):
        yield from _same_order(tree, loop)
    yield from _same_set(tree)
    yield from _same_loader(tree)
    yield from _limited(tree)


def _same_loader(tree: ast.Module) -> Iterator[Fault]:
    """A validation that goes through the set, or the loader, of the training."""
    loaders = {
        ast.unparse(node.targets[0]): node.value
        for node in walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        and name_of(node.value) == "DataLoader" and node.value.args
    }  # fmt: skip
    for name, made in loaders.items():
        own = ast.unparse(made.args[0])
        sampled = any(word.arg in ("sampler", "batch_sampler") for word in made.keywords)
        of_training = [n for n, other in loaders.items() if n != name and ast.unparse(other.args[0]) == own]
        of_validation = _is_part(name, "val", "valid", "validation") and not sampled
        if of_validation and of_training and _is_part(own, "train"):
            yield Fault(
                VALIDATED, made.lineno,
                f"{name} goes through {own}, as {of_training[0]} does",
                "validate on the validation set",
            )  # fmt: skip
    for call in methods(tree, "fit"):
        words = {word.arg: word.value for word in call.keywords}
        given = [words.get("train_dataloaders"), words.get("val_dataloaders")]
        given = [one or next(iter(call.args[n : n + 1]), None) for n, one in enumerate(given, 1)]
        first, second = (ast.unparse(one) if one is not None else "" for one in given)
        if first and first == second and isinstance(given[0], (ast.Name, ast.Attribute)):
            yield Fault(
                VALIDATED, call.lineno,
                f"{first} is given for the training and for the validation",
                "give the loader of the validation",
            )  # fmt: skip


def _is_part(name: str, *parts: str) -> bool:
    return bool(set(re.split(r"[._]", name.lower())) & set(parts))


def _limited(tree: ast.Module) -> Iterator[Fault]:
    """Lightning's trainer with a part of the batches: a first trial that was left in."""
    for call in calls(tree):
        words = {w.arg: w.value.value for w in call.keywords if isinstance(w.value, ast.Constant)}
        limit = words.get("limit_train_batches") or words.get("overfit_batches")
        share = isinstance(limit, float) and 0 < limit < 1
        if name_of(call) == "Trainer" and (
            share or (isinstance(limit, int) and limit is not True and limit > 0)
        ):
            yield Fault(
                PART, call.lineno,
                f"the trainer takes {f'{limit:.0%}' if share else limit} of the training batches of an epoch",
                "leave the limit out: it is for a first trial",
                severity="warning",
            )  # fmt: skip


def _seeded(epoch: ast.For) -> Iterator[Fault]:
    """One seed at the start of every epoch."""
    # What the loop assigns may differ from epoch to epoch, too.
    stored = [n for n in walk(epoch) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    varying = {n.id for n in stored}
    for statement in epoch.body:
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not isinstance(call, ast.Call) or not call.args:
            continue
        way = ast.unparse(call.func)
        is_seed = name_of(call) in ("manual_seed", "seed_everything", "set_seed", "set_random_seed") or (
            name_of(call) == "seed" and ("random" in way)
        )
        names = {n.id for arg in call.args for n in walk(arg) if isinstance(n, ast.Name)}
        if is_seed and not names & varying:
            yield Fault(
                UNSHUFFLED, call.lineno,
                f"{ast.unparse(call)} stands in the loop over the epochs: each of them has the same order, "
                "augmentation and dropout",
                "seed once, before the loop",
                severity="warning",
            )  # fmt: skip
            return


def _cut_short(loop: ast.For) -> Iterator[Fault]:
    """A ``break`` that ends each epoch after a fixed number of batches: a trial that was left in."""
    variables = {n.id for n in walk(loop.target) if isinstance(n, ast.Name)}
    for statement in loop.body:
        if isinstance(statement, ast.Break):
            yield _early(statement.lineno, "one batch")
            return
        test = statement.test if isinstance(statement, ast.If) else None
        if not isinstance(test, ast.Compare) or not isinstance(statement, ast.If):
            continue
        breaks = [n for n in statement.body if isinstance(n, ast.Break)]
        compared = [test.left, *test.comparators]
        number = next((n.value for n in compared if isinstance(n, ast.Constant)), None)
        counted = any(isinstance(n, ast.Name) and n.id in variables for n in compared)
        late = isinstance(test.ops[0], (ast.Gt, ast.GtE, ast.Eq))
        if breaks and counted and late and isinstance(number, int):
            yield _early(breaks[0].lineno, f"batch {number}")
            return


def _early(line: int, after: str) -> Fault:
    return Fault(
        PART, line,
        f"the loop over the batches is left after {after} in every epoch",
        "leave the break out: it is for a first trial",
        severity="warning",
    )  # fmt: skip


def _same_order(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """A DistributedSampler whose set_epoch is never called: it gives the same order in each."""
    if any(methods(tree, "set_epoch")):
        return
    own = loader_of(tree, loop)
    for call in calls(tree):
        words = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name_of(call) != "DistributedSampler" or words.get("shuffle") == "False":
            continue
        named = [
            ast.unparse(n.targets[0]) for n in walk(tree)
            if isinstance(n, ast.Assign) and any(inner is call for inner in walk(n.value))
        ]  # fmt: skip
        text = ast.unparse(own) if own is not None else ""
        if own is not None and (ast.unparse(call) in text or any(name in text for name in named)):
            yield Fault(
                UNSHUFFLED, call.lineno,
                "set_epoch of the training data's DistributedSampler is never called, so that each epoch has "
                "the same batches",
                "call sampler.set_epoch(epoch) at the start of every epoch",
                severity="warning",
            )  # fmt: skip
            return


def _same_set(tree: ast.Module) -> Iterator[Fault]:
    """Data sets of training and validation that read the same annotations."""
    read: dict[str, dict[str, int]] = {"train": {}, "val": {}}
    for node in walk(tree):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        words = set(re.split(r"[._]", ast.unparse(node.targets[0]).lower()))
        part = "train" if "train" in words else "val" if words & {"val", "valid", "validation"} else ""
        if not part or name_of(node.value) == "DataLoader":
            continue
        for one in walk(node.value):
            if isinstance(one, ast.Constant) and str(one.value).endswith((".json", ".csv", ".h5", ".pkl")):
                read[part].setdefault(str(one.value), node.lineno)
    for name in [n for n in read["val"] if n in read["train"]]:
        yield Fault(
            VALIDATED, read["val"][name],
            f"the sets of lines {read['train'][name]} and {read['val'][name]} both read {name}",
            "name the validation file",
        )  # fmt: skip
