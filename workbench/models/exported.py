"""A network that came as a finished program (ONNX, TorchScript, torch.export): what does it take and give?

Such files say their input size and the names and shapes of their outputs at most. The rest comes from the
user, an mmpose config, the pipeline.json that mmdeploy leaves beside its exports, or is assumed and said so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core import Codec, NotAvailable, Skeleton, checked_area
from workbench.models.exported import OutputRoles, named, roles_of
from workbench.models.mmpose.config import codec_of, preprocessing_of, skeleton_of
from workbench.models.opening import StatedFacts as Said
from workbench.models.top_down import IMAGENET_MEAN, IMAGENET_STD, PADDING, TopDown

if TYPE_CHECKING:
    from torch import nn

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


def facts_of(
    probe: Callable[[tuple[int, int]], tuple[Sequence[str], Sequence[Any]]],
    config: Mapping[str, Any] | None,
    input_size: tuple[int, int],
    said: Said | None = None,
    input_last: bool = False,
    assumed: Sequence[str] = (),
    raw: bool = False,
) -> Facts:
    """What is known of a finished program: by its user, its config, itself; the rest is assumed and noted.

    Args:
        probe: from an input size to names and values of the outputs for one blank image.
        config: mmpose's, or what `described` found; None when nobody describes it.
        input_size: (height, width) that the file itself names; (0, 0) when it does not.
        said: what the user says.
        input_last: its input is [N, H, W, C].
        assumed: what was assumed already, for people.
        raw: it takes whole numbers, which normalised pixels are none of.

    Raises:
        NotAvailable: the input size is nowhere to be found, or its outputs are neither maps nor SimCC.
        ValueError: the config and the file name different input sizes, or what is said fits nothing.
    """
    said = said or Said()
    notes = list(assumed)
    crop = None if config is None else preprocessing_of(config)
    sizes = {"the file": input_size, "its config": crop and crop.input_size, "--assume input": said.input}
    known = {who: size for who, size in sizes.items() if size not in (None, (0, 0))}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{who} {size[1]}x{size[0]}" for who, size in known.items() if size)
        raise ValueError(f"input size: {told} (width x height); they must be the same")
    size = next(iter(known.values()), None)
    if size is None:
        raise NotAvailable(
            "input size: the file leaves it open; pass --config with its mmpose config, or --assume "
            "input=WIDTHxHEIGHT"
        )
    names, values = probe(checked_area(size, "an input"))
    codec = None if config is None else codec_of(config)
    stated = codec.output_size if codec is not None and codec.kind == "heatmap" else None
    shapes = [tuple(int(n) for n in value.shape) for value in values]
    roles = roles_of(names, shapes, size, said, input_last, stated)
    keypoints, cells = roles.size(shapes)
    if codec is None:
        codec = _assumed(roles.kind, cells, size)
        notes.append(f"coordinates assumed: {codec.kind}, decoder {codec.decoder}")
    skeleton, note = skeleton_of(config or {}, None, keypoints)
    mean, std = ((0.0,) * 3, (1.0,) * 3) if raw else (IMAGENET_MEAN, IMAGENET_STD)
    bgr, padding = False, PADDING
    if crop is not None:
        mean, std, bgr, padding = crop.mean, crop.std, crop.bgr, crop.padding
    else:
        notes += _unsaid(said, mean, std, padding)
    return Facts(
        size,
        roles,
        skeleton,
        codec,
        said.mean or mean,
        said.std or std,
        said.channels == "bgr" if said.channels else bgr,
        padding if said.padding is None else said.padding,
        "; ".join(n for n in (note, *notes, *roles.assumed) if n),
    )


def _unsaid(said: Said, mean: Sequence[float], std: Sequence[float], padding: float) -> list[str]:
    """What of crop and normalisation neither a config nor the user states."""
    parts = []
    if not said.channels:
        parts.append("RGB")
    if said.mean is None:
        parts.append(f"mean {mean}")
    if said.std is None:
        parts.append(f"std {std}")
    found = [f"normalisation assumed: {', '.join(parts)}"] if parts else []
    if said.padding is None:
        found.append(f"box padding {padding} assumed (--assume padding=...)")
    return found


def top_down(
    module: nn.Module,
    reason: str,
    config: Mapping[str, Any] | None,
    input_size: tuple[int, int],
    device: str = "cpu",
    said: Said | None = None,
    assumed: Sequence[str] = (),
) -> TopDown:
    """A model around a finished program that is a torch module.

    Args:
        module: takes pixels [N, 3, H, W], gives one tensor of maps or two of SimCC logits.
        reason: why nothing inside it can be recorded.
        config: see facts_of.
        input_size: see facts_of.
        device: where it runs.
        said: what the user says.
        assumed: see facts_of.

    Raises:
        NotAvailable: see facts_of.
        ValueError: see facts_of.
    """
    import torch

    def probe(size: tuple[int, int]) -> tuple[list[str], list[Any]]:
        with torch.no_grad():
            return named(module(torch.zeros(1, 3, *size, device=device)))

    facts = facts_of(probe, config, input_size, said, assumed=assumed)
    return TopDown(
        module=module,
        skeleton=facts.skeleton,
        codec=facts.codec,
        mean=facts.mean,
        std=facts.std,
        bgr=facts.bgr,
        padding=facts.padding,
        call=lambda pixels: facts.roles.outputs(named(module(pixels))[1]),
        taps=NoTaps(reason),
        device=device,
        note=facts.note,
    )


def described(path: Path) -> dict[str, Any] | None:
    """What mmdeploy's pipeline.json beside a file says, in the shape of an mmpose config; None without one.

    Raises:
        ValueError: there is one and it is damaged.
    """
    beside = path.resolve().parent / "pipeline.json"
    if not beside.is_file() or beside.stat().st_size > _SIZE:
        return None
    try:
        steps = list(_typed(json.loads(beside.read_text("utf-8"))))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{beside}: expected mmdeploy's JSON, and it cannot be read: {error}") from None
    found = {str(step["type"]).lower(): step for step in reversed(steps)}
    normal, affine = found.get("normalize", {}), found.get("topdownaffine", {})
    box = found.get("topdowngetbboxcenterscale", found.get("getbboxcenterscale", {}))
    codec = next((found[k] for k in ("simcclabel", "udpheatmap", "msraheatmap") if k in found), None)
    if codec is None:
        return None
    crop = {**affine, "type": "TopdownAffine", "input_size": affine.get("image_size", codec["input_size"])}
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


def _assumed(kind: str, cells: tuple[int, int], input_size: tuple[int, int]) -> Codec:
    """The plainest codec of that kind and size; mmpose's own defaults."""
    if kind == "simcc":
        split = cells[1] / input_size[1]
        return Codec("simcc", input_size, cells, (6.0, 6.0), split, normalized=True, decoder="simcc")
    return Codec("heatmap", input_size, cells, decoder="quarter")
