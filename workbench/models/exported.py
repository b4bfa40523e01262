"""A network that came as a finished program (ONNX, TorchScript, torch.export): what does it take and give?

Such files say their input size and the shape of their outputs at most. The rest comes from an mmpose config,
from the pipeline.json that mmdeploy leaves beside its exports, or is assumed and said so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.models.mmpose_config import codec_of, preprocessing_of, skeleton_of
from workbench.models.top_down import IMAGENET_MEAN, IMAGENET_STD, TopDown
from workbench.records import Codec, NotAvailable, Outputs

if TYPE_CHECKING:
    from torch import Tensor, nn

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


def top_down(
    module: nn.Module,
    reason: str,
    config: Mapping[str, Any] | None,
    input_size: tuple[int, int],
    device: str = "cpu",
) -> TopDown:
    """A model around a finished program.

    Args:
        module: takes pixels [N, 3, H, W], gives one tensor of maps or two of SimCC logits.
        reason: why nothing inside it can be recorded.
        config: mmpose's, or what `described` found; None when nobody describes it.
        input_size: (height, width) that the file itself names; (0, 0) when it does not.
        device: where it runs.

    Raises:
        NotAvailable: the input size is nowhere to be found, or its outputs are neither maps nor SimCC.
        ValueError: the config and the file name different input sizes.
    """
    import torch

    if config is not None:
        crop = preprocessing_of(config)
        if input_size not in ((0, 0), crop.input_size):
            raise ValueError(
                f"the file takes {input_size[1]}x{input_size[0]} but its config crops "
                f"{crop.input_size[1]}x{crop.input_size[0]} (width x height)"
            )
        input_size = crop.input_size
    if input_size == (0, 0):
        raise NotAvailable("input size: the file leaves it open; pass --config with its mmpose config")
    with torch.no_grad():
        probe = ordered(module(torch.zeros(1, 3, *input_size, device=device)), input_size)
    codec = codec_of(config) if config is not None else _assumed(probe, input_size)
    given = probe.heatmaps if probe.heatmaps is not None else (probe.simcc or (None,))[0]
    skeleton, note = skeleton_of(config or {}, None, 0 if given is None else given.shape[1])
    notes = [note]
    if config is None:
        notes += [
            f"normalisation assumed: RGB, mean {IMAGENET_MEAN}, std {IMAGENET_STD}",
            f"coordinates assumed: {codec.kind}, decoder {codec.decoder}",
        ]
    crops = (
        {}
        if config is None
        else {"mean": crop.mean, "std": crop.std, "bgr": crop.bgr, "padding": crop.padding}
    )
    return TopDown(
        module=module,
        skeleton=skeleton,
        codec=codec,
        call=lambda pixels: ordered(module(pixels), input_size),
        taps=NoTaps(reason),
        device=device,
        note="; ".join(n for n in notes if n),
        **crops,
    )


def ordered(returned: Any, input_size: tuple[int, int]) -> Outputs:
    """Outputs by their shapes: four axes are maps, twice three are SimCC; x is the one that fits the width.

    Raises:
        NotAvailable: neither.
    """
    tensors: list[Tensor] = [returned] if hasattr(returned, "ndim") else list(returned)
    maps = [t for t in tensors if t.ndim == 4]
    vectors = [t for t in tensors if t.ndim == 3]
    if len(maps) == 1 and not vectors:
        return Outputs(heatmaps=maps[0])
    if len(vectors) == 2 and not maps and vectors[0].shape[1] == vectors[1].shape[1]:
        first, second = vectors
        (H, W), bins = input_size, (first.shape[2], second.shape[2])
        swapped = bins[0] * H != bins[1] * W and bins[1] * H == bins[0] * W
        return Outputs(simcc=(second, first) if swapped else (first, second))
    shapes = ", ".join(str(tuple(t.shape)) for t in tensors) or "nothing"
    raise NotAvailable(
        f"keypoints: the file gives {shapes}; expected one tensor [N, K, h, w] of heatmaps or two "
        "[N, K, bins] of SimCC; write an --adapter for others"
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


def _assumed(outputs: Outputs, input_size: tuple[int, int]) -> Codec:
    """The plainest codec of that shape; mmpose's own defaults."""
    if outputs.simcc is not None:
        bins_x, bins_y = (v.shape[2] for v in outputs.simcc)
        split = bins_x / input_size[1]
        return Codec(
            "simcc", input_size, (bins_y, bins_x), (6.0, 6.0), split, normalized=True, decoder="simcc"
        )
    assert outputs.heatmaps is not None  # `ordered` gives one of both
    h, w = outputs.heatmaps.shape[2:]
    return Codec("heatmap", input_size, (h, w), decoder="quarter")
