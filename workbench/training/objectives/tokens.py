"""Losses on coordinate tokens: where is the next point, and what kind of token is it?

Logged losses are often scaled and summed over layers; the raw mean distance per coordinate is returned beside
them, because only that one can be compared with a PCK threshold.
Source: Raster2Seq (poly2seq): L1 on coordinate tokens weighted 5, cross entropy weighted 1, all layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


def l1_and_cross_entropy(
    coordinates: Float[Tensor, "D N L 2"],
    types: Float[Tensor, "D N L Y"],
    wanted: Float[Tensor, "N L 2"],
    wanted_types: Int[Tensor, "N L"],
    counted: Bool[Tensor, "N L"],
    coordinate_weight: float = 5.0,
    type_weights: Float[Tensor, " Y"] | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Loss parts summed over the D decoder layers, and the raw L1 of the last layer.

    Args:
        coordinates: predicted (x, y) in 0..1 of the input, after each decoder layer.
        types: logits of the token types, after each layer.
        wanted: true coordinates.
        wanted_types: true type of every token, -1 where padding.
        counted: coordinate tokens whose keypoint is visible.
        coordinate_weight: 5 in the source; the logged loss is scaled by it.
        type_weights: weight per type in the cross entropy.

    Returns:
        ``coordinates`` and ``types`` (their sum is minimised), and the unscaled mean absolute error per
        coordinate of the last layer, in fractions of the input.
    """
    from torch.nn import functional

    if not counted.any():
        raise ValueError("token objective: no visible keypoint among the coordinate tokens")
    error = (coordinates - wanted[None]).abs()[:, counted]
    flat = types.flatten(1, 2)
    kinds = sum(
        functional.cross_entropy(layer, wanted_types.flatten(), type_weights, ignore_index=-1)
        for layer in flat
    )
    parts = {"coordinates": coordinate_weight * error.mean((1, 2)).sum(), "types": kinds}
    return parts, error[-1].mean().detach()  # type: ignore[return-value]
