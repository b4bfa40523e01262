"""How code reads pictures: channel order, range, mirrored keypoints, sizes; networks in training mode."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from workbench.diagnosis.augmentation_code import MIRRORED_ALONE, POINTS
from workbench.diagnosis.loop_code import Fault, backwards, calls, methods, modes_set, name_of, walk

ORDER, RANGE, USED_IN_TRAINING = "channel order", "value range", "network is used in training mode"
# ImageNet's numbers in the order r, g, b, of pixels from 0 to 1 and from 0 to 255.
OF_1 = re.compile(r"0?\.485\d*, *0?\.456\d*, *0?\.406")
OF_255 = re.compile(r"123\.6\d*, *116\.\d+, *103\.\d+")
TURNED = re.compile(
    r"BGR2RGB|RGB2BGR|::-1|2, 1, 0|channel_order|to_rgb|bgr_to_rgb|swapaxes|split\(|\.flip\(|COLOR_"
)
DIVIDED = re.compile(
    r"255|ToTensor|to_tensor|pil_to_tensor|convert_image_dtype|img_as_float|ToFloat|ToDtype|Normalize"
)
READERS = ("cv2.imread", "Image.open", "read_image", "imageio.imread", "io.imread")
EXCHANGED = re.compile(r"pair|swap|perm|flip_ind|flip_idx|index_select|symmetr|left|mirror_", re.IGNORECASE)


def faults_of_pictures(tree: ast.Module) -> Iterator[Fault]:
    """Pictures whose channels or range do not fit the numbers that they are normalised with."""
    text = ast.unparse(tree)
    reads = [c for c in calls(tree) if ast.unparse(c.func).endswith("cv2.imread")]
    numbers = OF_1.search(text) or OF_255.search(text)
    if reads and numbers and not TURNED.search(text):
        yield Fault(
            ORDER, reads[0].lineno,
            f"{ast.unparse(reads[0])} gives blue, green, red, and the mean {numbers[0]} is that of red, "
            "green, blue",
            "exchange the channels: cv2.cvtColor(image, cv2.COLOR_BGR2RGB)",
        )  # fmt: skip
    yield from _range(tree, text)
    for made in (n for n in walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "__getitem__"):
        yield from _sides(made, text)
        yield from _resized(made)
    yield from _in_training_mode(tree)


def _range(tree: ast.Module, text: str) -> Iterator[Fault]:
    """Pixels of 0 to 255 with a mean of 0 to 1, or the other way round."""
    pixels = [call for call in calls(tree) if ast.unparse(call.func).endswith(READERS)]
    if not pixels:
        return
    if OF_1.search(text) and not OF_255.search(text) and not DIVIDED.search(text):
        yield Fault(
            RANGE, pixels[0].lineno,
            f"{ast.unparse(pixels[0])} gives pixels from 0 to 255, which nothing divides, and the mean is "
            "one of pixels from 0 to 1",
            "divide the pixels by 255 first",
        )  # fmt: skip
    elif OF_255.search(text) and not OF_1.search(text) and re.search(r"ToTensor\(\)|to_tensor\(|/ 255", text):
        yield Fault(
            RANGE, pixels[0].lineno,
            "pixels are divided by 255, and the mean is one of pixels from 0 to 255",
            "give mean and std as (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)",
        )  # fmt: skip


def _sides(made: ast.FunctionDef, text: str) -> Iterator[Fault]:
    """Picture and keypoints that are mirrored, and no exchange of left and right anywhere in the file."""
    if EXCHANGED.search(text):
        return
    inside = ast.unparse(made)
    mirrored = re.search(r"\[:, ::-1|fliplr\(|hflip\(|FLIP_LEFT_RIGHT|cv2\.flip\(\w+, 1\)", inside)
    for node in walk(made):
        if not (isinstance(node, ast.Assign) and mirrored and POINTS.search(ast.unparse(node.targets[0]))):
            continue
        target = ast.unparse(node.targets[0])
        # x becomes the width less x: of all keypoints, of their first coordinate.
        of_x = re.search(r"\[(?:\.\.\.|:|:, :), 0\]$", target)
        if of_x and isinstance(node.value, ast.BinOp) and ast.unparse(node.value).endswith(f"- {target}"):
            yield Fault(
                MIRRORED_ALONE, node.lineno,
                f"{ast.unparse(node)} mirrors the keypoints, and nothing exchanges left and right: in a "
                "mirrored picture the left paw is named as the right one",
                "exchange the keypoints of each pair as well: keypoints = keypoints[FLIP_PAIRS]",
            )  # fmt: skip
            return


def _resized(made: ast.FunctionDef) -> Iterator[Fault]:
    """A picture that is resized, and keypoints that stay as they were read."""
    sizes = [
        c for c in calls(made)
        if re.search(r"(cv2|TF|F|functional)\.resize$|\.resize$", ast.unparse(c.func))
        and not any(POINTS.search(ast.unparse(a)) for a in (c.func, *c.args))
    ]  # fmt: skip
    if not sizes:
        return
    points = {
        n.id for n in walk(made) if isinstance(n, ast.Name) and POINTS.search(n.id)
        and not isinstance(n.ctx, ast.Load)
    }  # fmt: skip
    changed = [
        n for n in walk(made)
        if (isinstance(n, (ast.BinOp, ast.AugAssign)) and any(p in ast.unparse(n) for p in points))
        # What is given the sizes or a factor as well may scale them.
        or (isinstance(n, ast.Call) and len(n.args) + len(n.keywords) > 1
            and any(POINTS.search(ast.unparse(a)) for a in [*n.args, *(w.value for w in n.keywords)]))
    ]  # fmt: skip
    if points and not changed:
        yield Fault(
            MIRRORED_ALONE, sizes[0].lineno,
            f"{ast.unparse(sizes[0])} gives the picture another size, and its keypoints stay in pixels of "
            "the old one",
            "multiply the keypoints by new size / old size",
        )  # fmt: skip


def _in_training_mode(tree: ast.Module) -> Iterator[Fault]:
    """Code that reads weights and gives poses, and never calls ``eval()``."""
    if any(backwards(tree)) or any(modes_set(tree, False)) or any(modes_set(tree, True)):
        return
    off = [
        n for n in walk(tree)
        if isinstance(n, ast.With) and re.search(r"no_grad\(|inference_mode\(", ast.unparse(n.items[0]))
    ]  # fmt: skip
    networks = {ast.unparse(c.func).rpartition(".")[0]: c for c in methods(tree, "load_state_dict")}
    for name, loaded in networks.items():
        used = next((c for n in off for c in calls(n) if ast.unparse(c.func) == name), None)
        if used is not None and name_of(loaded) == "load_state_dict":
            yield Fault(
                USED_IN_TRAINING, used.lineno,
                f"{ast.unparse(used)} is computed without {name}.eval(): batch norm takes the statistics of "
                "this input and dropout is on",
                f"call {name}.eval() once the weights are loaded",
            )  # fmt: skip
            return
