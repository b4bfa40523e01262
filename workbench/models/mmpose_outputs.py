"""What does an mmpose head leave, and how are keypoints read off it where workbench.decoding has no equal?"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench.core import Codec, DecodeOptions, NotAvailable, Outputs
from workbench.models.top_down import Reader

if TYPE_CHECKING:
    from torch import Tensor, nn


def reading(
    module: nn.Module, codec: Codec | None, input_size: tuple[int, int], chosen: Sequence[int] | None = None
) -> tuple[Callable[[Tensor], Outputs], Reader | None, Callable[[Any], Outputs]]:
    """How to call an mmpose network, how to read its outputs, and what turns a head's answer into Outputs.

    The second is None where a decoder of ours reads them.

    Args:
        module: a top-down estimator.
        codec: what its coordinates were translated to; None when there is no equal.
        input_size: (height, width) of its crops.
        chosen: the channels that are keypoints of the data set, where the config names some.
    """
    head: Any = module.head
    own: Any = getattr(head, "decoder", None)
    combined = getattr(own, "heatmap_type", "") == "combined"
    # mmpose's VisPredictHead stands around another head and gives (pose, visibility of each keypoint).
    sees = type(head).__name__ == "VisPredictHead"

    def call(module: nn.Module, pixels: Tensor) -> Outputs:
        return convert(module(pixels, None, mode="tensor"))

    def convert(returned: Any) -> Outputs:
        visibility = None
        if sees:
            returned, visibility = returned
        if combined:
            outputs = _class_and_offsets(returned, own.radius_factor)
        else:
            outputs = _outputs(returned, codec, list(chosen) if chosen else None)
        if visibility is None:
            return outputs
        visibility = visibility[:, list(chosen)] if chosen else visibility
        return dataclasses.replace(outputs, tokens={**outputs.tokens, "visibility": visibility})

    # Not a closure: a copy of the model (the bisector makes them) must call the copied network.
    called = functools.partial(call, module)
    if codec is not None:
        return called, None, convert

    def read(outputs: Outputs, options: DecodeOptions) -> tuple[np.ndarray, np.ndarray]:
        if options.decoder or options.score:
            raise NotAvailable(
                f"other decoders: {type(own or head).__name__} is read by mmpose's own rule only"
            )
        if "coordinates" in outputs.tokens:
            return _regressed(outputs.tokens["coordinates"].numpy(), input_size)
        if outputs.heatmaps is None or own is None:
            raise NotAvailable(f"keypoints: {type(head).__name__} leaves nothing that can be read here")
        maps = _together(outputs, own.radius_factor) if combined else outputs.heatmaps
        # A copy: mmpose's codecs write into the maps they are given.
        found = [own.decode(m.numpy().copy()) for m in maps]
        return np.concatenate([f[0] for f in found])[..., :2], np.concatenate([f[1] for f in found])

    return called, read, convert


def _outputs(returned: Any, codec: Codec | None, chosen: list[int] | None) -> Outputs:
    def pick(tensor: Tensor) -> Tensor:
        return tensor if chosen is None else tensor[:, chosen]

    if codec is not None and codec.kind == "simcc" and isinstance(returned, tuple) and len(returned) == 2:
        return Outputs(simcc=(pick(returned[0]), pick(returned[1])))
    if isinstance(returned, tuple) and len(returned) == 2 and {t.ndim for t in returned} == {3, 4}:
        coordinates, maps = returned if returned[0].ndim == 3 else returned[::-1]
        return Outputs(heatmaps=pick(maps), tokens={"coordinates": _spread(pick(coordinates))})
    # Stacked hourglasses and others give a list of stages.
    last: Any = returned
    while isinstance(last, (list, tuple)) and last:
        last = last[-1]
    dimensions = getattr(last, "ndim", 0)
    if dimensions == 4:
        return Outputs(heatmaps=pick(cast("Tensor", last)))
    if dimensions == 3:
        return Outputs(tokens={"coordinates": _spread(pick(cast("Tensor", last)))})
    raise NotAvailable(
        f"outputs: the head returned {type(returned).__name__}, neither maps, SimCC nor coordinates"
    )


def _spread(coordinates: Tensor) -> Tensor:
    """Coordinates, and behind them the spread that residual likelihood heads give, in 0..1."""
    import torch

    return torch.cat([coordinates[..., :2], coordinates[..., 2:].sigmoid()], -1)


def _class_and_offsets(maps: Tensor, radius_factor: float) -> Outputs:
    """UDP's combined form: per keypoint a class map and the offset to it, in units of a radius."""
    radius = radius_factor * max(maps.shape[-2:])
    parts = maps.unflatten(1, (-1, 3))
    return Outputs(heatmaps=parts[:, :, 0], fields={"offsets": parts[:, :, 1:] * radius})


def _together(outputs: Outputs, radius_factor: float) -> Tensor:
    """The inverse of `_class_and_offsets`."""
    import torch

    assert outputs.heatmaps is not None  # `read` has asked
    radius = radius_factor * max(outputs.heatmaps.shape[-2:])
    return torch.cat([outputs.heatmaps[:, :, None], outputs.fields["offsets"] / radius], 2).flatten(1, 2)


def _regressed(coordinates: np.ndarray, input_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Input pixels from coordinates in 0..1; scores from the spread in 0..1 behind them, where there is one.

    Source: mmpose 1.3.2 codecs/regression_label.py; heads/regression_heads/rle_head.py.
    """
    H, W = input_size
    points = coordinates[..., :2] * (W, H)
    if coordinates.shape[-1] == 2:
        # Plain regression has no confidence; mmpose gives every keypoint a 1.
        return points, np.ones(points.shape[:2], np.float32)
    return points, (1 - coordinates[..., 2:4]).mean(-1)
