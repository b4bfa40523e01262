"""Networks that came as a finished program (ONNX, TorchScript, torch.export): inputs, outputs, preprocessing.

Such files state their input size and the names and shapes of their outputs at most. The rest comes from the
user, an mmpose config, the pipeline.json that mmdeploy leaves beside its exports, or is assumed and noted.

Which outputs are heatmaps and which SimCC vectors is decided by names, shapes and the user. A shape alone
proves little: keypoints as coordinates have four axes as well, and SimCC's two vectors are equally long where
the input is square. What stays open is refused with the shapes, and the user may state it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.core import Codec, NotAvailable, Outputs, Skeleton, checked_area, nearest
from workbench.core.files import belongs, read_at_most
from workbench.core.report import counted
from workbench.models.mmpose.config import codec_of, config_values, preprocessing_of, skeleton_of
from workbench.models.opening import StatedFacts
from workbench.models.top_down import IMAGENET_MEAN, IMAGENET_STD, PADDING, TopDown

if TYPE_CHECKING:
    from torch import Tensor, nn


Shape = tuple[int, ...]
# Cells of a heatmap are at most this many input pixels wide (stride of the deepest stage).
_STRIDE = 32
# No pose network has more keypoints; more channels are features.
_MOST_KEYPOINTS = 1000
_X, _Y = (
    re.compile(rf"(?:^|[^a-z]|simcc)(?:{axis})(?:$|[^a-z])", re.IGNORECASE)
    for axis in ("x|w|width|horizontal", "y|h|height|vertical")
)
_MAPS = re.compile(r"heat_?maps?|hm", re.IGNORECASE)
_KEYPOINTS = re.compile(r"heat_?maps?|hm|kpts?|key_?points?|joints?|pose|belief|landmarks?", re.IGNORECASE)
_OTHER_MAPS = re.compile(r"depth|disparity|seg|semantic|masks?|class|saliency|matte|edges?", re.IGNORECASE)
# Probabilities of float32 add up to 1 within this.
_ADDS_UP = 1e-3


@dataclass(frozen=True)
class OutputRoles:
    """Where heatmaps or SimCC vectors stand among a program's outputs.

    Attributes:
        kind: as Codec.kind.
        places: numbers of the outputs: of the heatmaps, or of SimCC's x and y.
        last: heatmaps are [N, h, w, K].
        assumed: what neither names nor shapes prove, for people.
    """

    kind: Literal["heatmap", "simcc"]
    places: tuple[int, ...]
    last: bool = False
    assumed: tuple[str, ...] = ()

    def outputs(self, given: Sequence[Any], count: int) -> Outputs:
        """The program's outputs by what they are.

        Args:
            given: numpy arrays or tensors, as the program gives them.
            count: of the images that it was fed with.

        Raises:
            ValueError: it gave results for another number of images, or with other axes than for a blank one.
        """
        axes = 3 if self.kind == "simcc" else 4
        for place in self.places:
            if (shape := tuple(given[place].shape))[:1] != (count,) or len(shape) != axes:
                raise ValueError(
                    f"output {place} has the shape {list(shape)} for {counted(count, 'image')}; expected "
                    f"{axes} axes, the first of them the images; export the model with an open batch size"
                )
        if self.kind == "simcc":
            x, y = (given[place] for place in self.places)
            return Outputs(simcc=(x, y))
        maps = given[self.places[0]]
        # swapaxes is the one name that numpy and torch share: N h w K -> N K w h -> N K h w.
        return Outputs(heatmaps=maps.swapaxes(1, 3).swapaxes(2, 3) if self.last else maps)

    def size(self, shapes: Sequence[Shape]) -> tuple[int, tuple[int, int]]:
        """Keypoints, and (h, w) of heatmaps or (bins_y, bins_x)."""
        if self.kind == "simcc":
            x, y = (shapes[place] for place in self.places)
            return x[1], (y[2], x[2])
        shape = shapes[self.places[0]]
        return (shape[3], (shape[1], shape[2])) if self.last else (shape[1], (shape[2], shape[3]))


def roles_of(
    names: Sequence[str],
    shapes: Sequence[Shape],
    input_size: tuple[int, int],
    stated: StatedFacts | None = None,
    input_last: bool = False,
    map_size: tuple[int, int] | None = None,
) -> OutputRoles:
    """The roles of a program's outputs.

    Args:
        names: of the outputs; "" where the program has none.
        shapes: of what it gave for one image.
        input_size: (height, width), pixels.
        stated: facts that the user states.
        input_last: its input is [N, H, W, C], as TensorFlow and Keras have it.
        map_size: (h, w) of its heatmaps as a config states it.

    Raises:
        NotAvailable: neither maps nor SimCC, or it stays open which; the message lists names and shapes.
        ValueError: the user names an output that is not there, or of other axes.
    """
    stated = stated or StatedFacts()
    if stated.outputs:
        return _as_stated(stated, names, shapes, input_size, input_last, map_size)
    maps = [n for n, shape in enumerate(shapes) if len(shape) == 4]
    vectors = [n for n, shape in enumerate(shapes) if len(shape) == 3]
    named = [n for n in maps if _MAPS.search(names[n])]
    if len(maps) > 1 and len(named) == 1:
        maps, vectors = named, []
    if len(maps) == 1 and not vectors:
        fits = _layouts(shapes[maps[0]], input_size, map_size)
        if stated.layout:
            return OutputRoles("heatmap", (maps[0],), stated.layout == "channels-last")
        if len(fits) == 1:
            return OutputRoles("heatmap", (maps[0],), fits[0])
        if len(fits) == 2:
            word = "channels-last" if input_last else "channels-first"
            why = f"heatmaps {list(shapes[maps[0]])} taken for {word}, as the input is (--assume layout=...)"
            return OutputRoles("heatmap", (maps[0],), input_last, (why,))
    if len(vectors) == 2 and not maps and (found := _simcc(vectors, names, shapes, input_size)) is not None:
        return found
    raise NotAvailable(
        f"keypoints: the file gives {_listed(names, shapes)} for an input of {input_size[1]}x{input_size[0]} "
        "(width x height); expected one output [N, K, h, w] or [N, h, w, K] of heatmaps whose cells cover "
        "the input evenly, or two [N, K, bins] of SimCC with equally many bins per pixel; say which is which "
        "with --output heatmaps=NAME or --output simcc_x=NAME,simcc_y=NAME, or write an --adapter "
        "(for coordinates and other formats)"
    )


def unproved(roles: OutputRoles, names: Sequence[str], values: Sequence[Any]) -> str:
    """What is assumed of maps that neither the user nor a config calls heatmaps; "" where their name does.

    A network of depth or of classes gives maps of the same shapes. What its name, its single channel or its
    values show is refused.

    Args:
        roles: of a program whose config and user say nothing of its outputs.
        names: of the outputs.
        values: what it gave for one blank image, arrays or tensors.

    Raises:
        NotAvailable: the name is that of another kind of map, there is one channel and nothing names it, or
            the channels are probabilities of classes.
    """
    if roles.kind != "heatmap":
        return ""
    place = roles.places[0]
    name, value = names[place], values[place]
    if _KEYPOINTS.search(name):
        return ""
    shape = tuple(int(n) for n in value.shape)
    channels = 3 if roles.last else 1
    total = value.sum(channels)
    if found := _OTHER_MAPS.search(name):
        why = f"its name speaks of {found[0]}"
    elif shape[channels] == 1:
        why = "one channel may as well be depth or a mask"
    elif float(abs(total - 1).max()) < _ADDS_UP and float(value.min()) >= 0:
        why = "its channels add up to 1 at every cell, as the probabilities of classes do"
    else:
        return f"{_listed([name], [shape])} taken for heatmaps, which nothing says (--output heatmaps=...)"
    raise NotAvailable(
        f"keypoints: nothing says that the output {_listed([name], [shape])} holds heatmaps of keypoints: "
        f"{why}; say it with --output heatmaps={name or place}, or pass --config with its mmpose config"
    )


def _layouts(shape: Shape, input_size: tuple[int, int], map_size: tuple[int, int] | None) -> list[bool]:
    """Whether channels may stand first (False) and last (True), in this order."""
    _, a, b, c = shape
    options = {False: (a, (b, c)), True: (c, (a, b))}
    if map_size is not None and (exact := [last for last, (_, size) in options.items() if size == map_size]):
        return exact
    return [
        last
        for last, (keypoints, size) in options.items()
        if 0 < keypoints <= _MOST_KEYPOINTS and _covers(size, input_size)
    ]


def _covers(cells: tuple[int, int], pixels: tuple[int, int]) -> bool:
    """One stride leads from the pixels to the cells, along both axes, rounded the same way."""
    (h, w), (H, W) = cells, pixels
    strides = range(1, _STRIDE + 1)
    halved = any((H // s, W // s) == (h, w) or (-(-H // s), -(-W // s)) == (h, w) for s in strides)
    return min(h, w) > 1 and (halved or (h, w) == (2 * H, 2 * W))


def _simcc(
    vectors: Sequence[int], names: Sequence[str], shapes: Sequence[Shape], input_size: tuple[int, int]
) -> OutputRoles | None:
    """Two vectors per keypoint, by their names as far as their lengths allow; None where they are none."""
    first, second = vectors
    H, W = input_size
    (_, keypoints, a), (_, others, b) = shapes[first], shapes[second]
    # Equally many bins per pixel along both axes, up to rounding, and at least one in two pixels.
    as_given = abs(a * H - b * W) <= max(H, W) and 2 * a >= W
    swapped = abs(b * H - a * W) <= max(H, W) and 2 * b >= W
    if keypoints != others or not (as_given or swapped):
        return None
    by_name = _by_name(names[first], names[second])
    if by_name is None and as_given and swapped:
        one, other = names[first] or str(first), names[second] or str(second)
        raise NotAvailable(
            f"keypoints: {one} {shapes[first]} and {other} {shapes[second]} are two SimCC vectors of equal "
            "length for a square input, and their names do not tell which is x; say it: --output "
            f"simcc_x={one},simcc_y={other}, or the other way round"
        )
    in_order = as_given if by_name is None else by_name
    if not (as_given if in_order else swapped):
        return None  # the names say one order and the lengths the other
    return OutputRoles("simcc", (first, second) if in_order else (second, first))


def _by_name(first: str, second: str) -> bool | None:
    """True where the first is x and the second y by their names, False the other way round."""
    x = bool(_X.search(first)), bool(_X.search(second))
    y = bool(_Y.search(first)), bool(_Y.search(second))
    return {((True, False), (False, True)): True, ((False, True), (True, False)): False}.get((x, y))


def _as_stated(
    stated: StatedFacts,
    names: Sequence[str],
    shapes: Sequence[Shape],
    input_size: tuple[int, int],
    input_last: bool,
    map_size: tuple[int, int] | None,
) -> OutputRoles:
    places = {role: _place(name, names, shapes) for role, name in stated.outputs.items()}
    for role, place in places.items():
        axes, want = (4, "[N, K, h, w] or [N, h, w, K]") if role == "heatmaps" else (3, "[N, K, bins]")
        if len(shapes[place]) != axes:
            raise ValueError(f"--output {role}: expected {want}, {_listed([names[place]], [shapes[place]])}")
    if "heatmaps" in places:
        fits = _layouts(shapes[places["heatmaps"]], input_size, map_size)
        fitting = fits[0] if len(fits) == 1 else input_last
        last = stated.layout == "channels-last" if stated.layout else fitting
        return OutputRoles("heatmap", (places["heatmaps"],), last)
    x, y = (shapes[places[role]] for role in ("simcc_x", "simcc_y"))
    H, W = input_size
    if x[1] != y[1] or x[2] * H != y[2] * W:
        raise ValueError(
            f"--output: simcc_x has {counted(x[1], 'keypoint')} and {x[2]} bins over {W} pixels, simcc_y "
            f"{y[1]} and "
            f"{y[2]} over {H}: expected as many keypoints, and equally many bins per pixel"
        )
    return OutputRoles("simcc", (places["simcc_x"], places["simcc_y"]))


def _place(name: str, names: Sequence[str], shapes: Sequence[Shape]) -> int:
    """The number of the output that the user means: by its name, or by its number from 0."""
    if name in names:
        return list(names).index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    near = nearest(name, [n for n in names if n]) if any(names) else "none, so give its number from 0"
    raise ValueError(f"--output: no output {name!r} among {_listed(names, shapes)}; nearest names: {near}")


def _listed(names: Sequence[str], shapes: Sequence[Shape]) -> str:
    listed = [f"{name} {tuple(s)}".strip() for name, s in zip(names, shapes, strict=True)]
    return ", ".join(listed) or "nothing"


def named(returned: Any) -> tuple[list[str], list[Any]]:
    """Names and tensors of what a program gave: a dict by its keys, a tensor or several without names.

    Raises:
        NotAvailable: something else is among them.
    """
    if isinstance(returned, Mapping):
        names, values = [str(key) for key in returned], list(returned.values())
    else:
        values = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        names = [""] * len(values)
    if odd := [type(v).__name__ for v in values if not hasattr(v, "ndim")]:
        raise NotAvailable(f"keypoints: the program gives {', '.join(odd)}, expected tensors alone")
    return names, values


# How the program is fed and read.


FACTS_LEFT_OPEN = ("output", "layout", "padding", "mean", "std", "channels", "input")
"""What a finished program does not say of itself, as `--output` and `--assume` name it."""
# Red, green and blue as one grey value. Source: ITU-R BT.601.
GREY = (0.299, 0.587, 0.114)
# One line of a pipeline.json is enough for all that is read of it; a larger file is something else.
_SIZE = 1 << 20


class NoTaps(Mapping[str, str]):
    """The taps of a network without named parts: none, and asking for one is answered with why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __getitem__(self, name: str) -> str:
        raise NotAvailable(f"tap {name!r}: {self.reason}")

    def __contains__(self, name: object) -> bool:
        raise NotAvailable(f"tap {name!r}: {self.reason}")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True)
class Facts:
    """How an exported network is fed and read.

    Attributes:
        input_size: (height, width), pixels.
        roles: which outputs are what.
        skeleton: the keypoints.
        codec: how coordinates stand in the outputs.
        mean: subtracted from pixels in 0..255.
        std: divided by afterwards.
        bgr: the network wants blue first.
        padding: factor on the box before it is cropped.
        note: what of all this was assumed, for people.
    """

    input_size: tuple[int, int]
    roles: OutputRoles
    skeleton: Skeleton
    codec: Codec
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool
    padding: float
    note: str

    def top_down(self, module: nn.Module, call: Callable[[Tensor], Outputs], **more: Any) -> TopDown:
        """The model of a network that is fed and read so.

        Args:
            module: the network.
            call: outputs of pixels [N, 3, H, W].
            more: other fields of a TopDown.
        """
        return TopDown(
            module, self.skeleton, self.codec, mean=self.mean, std=self.std, bgr=self.bgr,
            padding=self.padding, call=call, note=self.note, **more,
        )  # fmt: skip


def facts_of(
    probe: Callable[[tuple[int, int]], tuple[Sequence[str], Sequence[Any]]],
    config: Mapping[str, Any] | None,
    input_size: tuple[int, int],
    stated: StatedFacts | None = None,
    input_last: bool = False,
    assumed: Sequence[str] = (),
    raw: bool = False,
) -> Facts:
    """What is known of a finished program: by its user, its config, itself; the rest is assumed and noted.

    Args:
        probe: from an input size to names and values of the outputs for one blank image.
        config: mmpose's, or what `described` found; None when nobody describes it.
        input_size: (height, width) that the file itself names; (0, 0) when it does not.
        stated: facts that the user states.
        input_last: its input is [N, H, W, C].
        assumed: what was assumed already, for people.
        raw: it takes whole numbers, which normalised pixels are none of.

    Raises:
        NotAvailable: the input size is nowhere to be found, or its outputs are neither maps nor SimCC.
        ValueError: the config and the file name different input sizes, or a stated fact does not fit.
    """
    stated = stated or StatedFacts()
    notes = list(assumed)
    with config_values():
        crop = None if config is None else preprocessing_of(config)
    sizes = {"the file": input_size, "its config": crop and crop.input_size, "--assume input": stated.input}
    known = {who: size for who, size in sizes.items() if size not in (None, (0, 0))}
    if len(set(known.values())) > 1:
        listed = ", ".join(f"{who} {size[1]}x{size[0]}" for who, size in known.items() if size)
        raise ValueError(f"input size: {listed} (width x height); they must be the same")
    size = next(iter(known.values()), None)
    if size is None:
        raise NotAvailable(
            "input size: the file leaves it open; pass --config with its mmpose config, or --assume "
            "input=WIDTHxHEIGHT"
        )
    names, values = probe(checked_area(size, "an input"))
    with config_values():
        codec = None if config is None else codec_of(config)
    if codec is not None and codec.decoder == "udp-combined":
        raise NotAvailable("outputs: UDP's combined form is read of weights only, not of exported networks")
    map_size = codec.output_size if codec is not None and codec.kind == "heatmap" else None
    shapes = [tuple(int(n) for n in value.shape) for value in values]
    roles = roles_of(names, shapes, size, stated, input_last, map_size)
    keypoints, cells = roles.size(shapes)
    if codec is None:
        taken = "" if stated.outputs or stated.layout else unproved(roles, names, values)
        codec = _assumed(roles.kind, cells, size, taken)
        notes += [f"coordinates assumed: {codec.kind}, decoder {codec.decoder}", *([taken] if taken else [])]
    with config_values():
        skeleton, note = skeleton_of(config or {}, None, keypoints)
    mean, std = ((0.0,) * 3, (1.0,) * 3) if raw else (IMAGENET_MEAN, IMAGENET_STD)
    bgr, padding = False, PADDING
    if crop is not None:
        mean, std, bgr, padding = crop.mean, crop.std, crop.bgr, crop.padding
    else:
        notes += _unstated(stated, mean, std, padding)
    return Facts(
        size,
        roles,
        skeleton,
        codec,
        stated.mean or mean,
        stated.std or std,
        stated.channels == "bgr" if stated.channels else bgr,
        padding if stated.padding is None else stated.padding,
        "; ".join(n for n in (note, *notes, *roles.assumed) if n),
    )


def _unstated(stated: StatedFacts, mean: Sequence[float], std: Sequence[float], padding: float) -> list[str]:
    """What of crop and normalisation neither a config nor the user states."""
    parts = []
    if not stated.channels:
        parts.append("RGB")
    if stated.mean is None:
        parts.append(f"mean {mean}")
    if stated.std is None:
        parts.append(f"std {std}")
    found = [f"normalisation assumed: {', '.join(parts)}"] if parts else []
    if stated.padding is None:
        found.append(f"box padding {padding} assumed (--assume padding=...)")
    return found


def top_down(
    module: nn.Module,
    reason: str,
    config: Mapping[str, Any] | None,
    input_size: tuple[int, int],
    device: str = "cpu",
    stated: StatedFacts | None = None,
    assumed: Sequence[str] = (),
) -> TopDown:
    """A model around a finished program that is a torch module.

    Args:
        module: takes pixels [N, 3, H, W], gives one tensor of maps or two of SimCC logits.
        reason: why nothing inside it can be recorded.
        config: see facts_of.
        input_size: see facts_of.
        device: where it runs.
        stated: facts that the user states.
        assumed: see facts_of.

    Raises:
        NotAvailable: see facts_of.
        ValueError: see facts_of.
    """
    import torch

    def probe(size: tuple[int, int]) -> tuple[list[str], list[Any]]:
        with torch.no_grad():
            return named(module(torch.zeros(1, 3, *size, device=device)))

    facts = facts_of(probe, config, input_size, stated, assumed=assumed)

    def call(pixels: Tensor) -> Outputs:
        return facts.roles.outputs(named(module(pixels))[1], len(pixels))

    return facts.top_down(module, call, taps=NoTaps(reason), device=device)


def described(path: Path) -> dict[str, Any] | None:
    """What mmdeploy's pipeline.json beside a file says, in the shape of an mmpose config; None without one.

    Raises:
        ValueError: there is one and it is damaged.
    """
    beside = path.resolve().parent / "pipeline.json"
    if not beside.is_file() or not belongs(beside, beside.parent) or beside.stat().st_size > _SIZE:
        return None
    try:
        steps = list(_typed(json.loads(read_at_most(beside, _SIZE, "a pipeline"))))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{beside}: expected mmdeploy's JSON, and it cannot be read: {error}") from None
    found = {str(step["type"]).lower(): step for step in reversed(steps)}
    normal, affine = found.get("normalize", {}), found.get("topdownaffine", {})
    box = found.get("topdowngetbboxcenterscale", found.get("getbboxcenterscale", {}))
    codecs = ("simcclabel", "udpheatmap", "msraheatmap", "megviiheatmap")
    codec = next((found[k] for k in codecs if k in found), None)
    if codec is None:
        return None
    with config_values():
        size = affine.get("image_size") or codec["input_size"]
    crop = {**affine, "type": "TopdownAffine", "input_size": size}
    padding = {"type": "GetBBoxCenterScale", **{k: v for k, v in box.items() if k == "padding"}}
    normal = {"mean": normal.get("mean"), "std": normal.get("std"), "bgr_to_rgb": normal.get("to_rgb", True)}
    return {
        "model": {"type": "exported", "data_preprocessor": normal},
        "codec": {**codec, "type": str(codec["type"])},
        "val_pipeline": [padding, crop],
    }


def _typed(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str):
            yield value
        for inner in value.values():
            yield from _typed(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _typed(inner)


def _assumed(kind: str, cells: tuple[int, int], input_size: tuple[int, int], taken: str) -> Codec:
    """The plainest codec of that kind and size; mmpose's own defaults."""
    if kind == "simcc":
        split = cells[1] / input_size[1]
        return Codec("simcc", input_size, cells, (6.0, 6.0), split, normalized=True, decoder="simcc")
    return Codec("heatmap", input_size, cells, decoder="quarter", assumed=taken)
