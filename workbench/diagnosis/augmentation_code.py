"""Pictures that code moves while their keypoints stay: in the loop, or where a data set makes its samples."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from workbench.diagnosis.loop_code import MODULES, Fault, Loop, assigned, called, calls, name_of, walk

MIRRORED_ALONE = "augmentation changes image and keypoints differently"
SAME_EACH_TIME = "augmentation is the same every time"
TARGETS = re.compile(r"target|heatmap|keypoint|kpt|joint|truth|pose|coord|(^|_)gt(_|$)", re.IGNORECASE)
MIRRORING = re.compile(r"flip|mirror|swap|\[:, ::-1", re.IGNORECASE)
POINTS = re.compile(r"heatmap|keypoint|kpt|joint|pose", re.IGNORECASE)
SEEDED = re.compile(
    r"(^|\.)random\.seed$|manual_seed$|seed_everything$|default_rng$|RandomState$|random\.Random$"
)
# Of torchvision and albumentations: what they do to a picture they would have to do to its keypoints.
MOVING = re.compile(
    r"(Random)?(Horizontal|Vertical)Flip|Random(Rotation|Affine|Perspective|ResizedCrop|Crop)|Rotate|"
    r"ShiftScaleRotate|Affine"
)


def mirrored_alone(tree: ast.Module, loop: Loop) -> Iterator[Fault]:
    """Pictures of a batch that are mirrored in the loop, while nothing is done to their targets."""
    if "cross_entropy" in (text := ast.unparse(tree)) or "CrossEntropy" in text:
        return  # classes stay the same in a mirror
    compound = (ast.For, ast.With, ast.FunctionDef)
    simple = [n for n in walk(loop) if isinstance(n, ast.stmt) and not isinstance(n, compound)]
    for node in simple:
        if not (isinstance(node, ast.Assign) and MIRRORING.search(ast.unparse(node.value))):
            continue
        name = ast.unparse(node.targets[0])
        mirrored = [c for c in calls(node.value) if re.fullmatch("flip|hflip|fliplr", name_of(c))]
        mirrored += re.findall(r"\[:, ::-1", ast.unparse(node.value))
        own = re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", ast.unparse(node.value))
        if len(mirrored) != 1 or own is None or TARGETS.search(name):
            continue
        # What is done on the same condition, or anywhere to what is mirrored or swapped, may be the targets.
        around = [n for n in simple if isinstance(n, ast.If) and any(i is node for i in walk(n))]
        beside = [s for n in around for s in walk(n) if isinstance(s, (ast.Assign, ast.AugAssign, ast.Expr))]
        tests = {i.id for n in around for i in walk(n.test) if isinstance(i, ast.Name)} - MODULES - {"self"}
        others = [n for n in simple if n is not node and n not in around and n not in beside]
        is_alone = beside in ([], [node]) and not any(
            MIRRORING.search(ast.unparse(n)) or (tests & {i.id for i in walk(n) if isinstance(i, ast.Name)})
            for n in others
        )
        used = {i.id for n in others for i in walk(n) if isinstance(i, ast.Name)} - {name}
        keys = {str(i.value) for n in others for i in walk(n) if isinstance(i, ast.Constant)}
        if is_alone and any(TARGETS.search(one) for one in used | keys):
            yield Fault(
                MIRRORED_ALONE, node.lineno,
                f"{ast.unparse(node)} mirrors the pictures, and nothing in {called(loop)} mirrors their "
                "targets",
                "mirror the targets too, and exchange their left and right keypoints",
            )  # fmt: skip
            return


def faults_of_samples(tree: ast.Module) -> Iterator[Fault]:
    """Pictures that a data set's ``__getitem__`` moves, while their keypoints stay where they are."""
    for made in (n for n in walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "__getitem__"):
        text = ast.unparse(made)
        if not POINTS.search(text):
            continue
        yield from mirrored_alone(tree, made)
        for call in calls(made):
            way = ast.unparse(call.func)
            moving = [c for v in _meanings(tree, way) for c in calls(v) if MOVING.fullmatch(name_of(c))]
            given = [*call.args, *(word.value for word in call.keywords)]
            if (
                moving
                and len(given) == 1
                and text.count(f"{way}(") == 1
                and not POINTS.search(ast.unparse(given[0]))
            ):
                yield Fault(
                    MIRRORED_ALONE, call.lineno,
                    f"{ast.unparse(call)} moves the picture ({name_of(moving[0])} in line "
                    f"{moving[0].lineno}), and its keypoints are not given to it",
                    "give the keypoints to the same transform, or move them by what it did",
                )  # fmt: skip


def seeded_alike(tree: ast.Module) -> Iterator[Fault]:
    """Random numbers that begin again at one seed with every sample, or in every worker of every epoch."""
    functions = {n.name: n for n in walk(tree) if isinstance(n, ast.FunctionDef)}
    words = [word for call in calls(tree) for word in call.keywords if word.arg == "worker_init_fn"]
    started = [functions.get(ast.unparse(word.value), word.value) for word in words]
    samples = [n for n in walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "__getitem__"]
    for part in (*samples, *started):
        for call in calls(part):
            constant = bool(call.args) and all(isinstance(one, ast.Constant) for one in call.args)
            if constant and SEEDED.search(ast.unparse(call.func)):
                where = "in __getitem__, for every sample" if part in samples else "in every worker"
                yield Fault(
                    SAME_EACH_TIME, call.lineno,
                    f"{ast.unparse(call)} is called {where}: augmentation draws the same random numbers each "
                    "time, so that it adds nothing from one epoch to the next",
                    "seed once, before the training; workers by torch.initial_seed()",
                )  # fmt: skip
                return


def _meanings(tree: ast.Module, name: str) -> list[ast.expr]:
    """What a name is given in a file, also as an argument of that name."""
    found = assigned(tree, name)
    for one in list(found):
        if isinstance(one, ast.Name):
            given = [w.value for c in calls(tree) for w in c.keywords if w.arg == one.id]
            found += [v for g in given for v in (assigned(tree, ast.unparse(g)) or [g])]
    return found
