"""How does a decoder read a coordinate? As a blend of the four cells around it; and sines of places.

Source: Raster2Seq, after PolyFormer: with a the fraction past the lower cell and 1 - a the rest,
e11 (1-ax)(1-ay) + e21 ax (1-ay) + e12 (1-ax) ay + e22 ax ay; 1 is the floor, 2 the ceiling, x first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from workbench.models.cape.layers import Vocabulary

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class BilinearTokens(nn.Module):
    """Embedding of coordinate tokens, continuous in the coordinate."""

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.rows = nn.Embedding(len(vocabulary), width)
        nn.init.normal_(self.rows.weight, std=width**-0.5)

    def forward(self, points: Float[Tensor, "N T 2"]) -> Float[Tensor, "N T D"]:
        """Embedded points; a point with nan is the padding token.

        Args:
            points: (x, y) in 0..1 of the input; outside is clamped to the edge.
        """
        known = points.isfinite().all(-1, keepdim=True)
        bins = self.vocabulary.bins
        at = points.nan_to_num(0).clamp(0, 1) * (bins - 1)
        low, high = at.floor(), at.ceil()
        share = (at - low).unsqueeze(-1)
        x, y = share[..., 0, :], share[..., 1, :]
        (x1, y1), (x2, y2) = low.long().unbind(-1), high.long().unbind(-1)
        blend = (
            self.rows(x1 * bins + y1) * (1 - x) * (1 - y)
            + self.rows(x2 * bins + y1) * x * (1 - y)
            + self.rows(x1 * bins + y2) * (1 - x) * y
            + self.rows(x2 * bins + y2) * x * y
        )
        return torch.where(known, blend, self.rows.weight[self.vocabulary.padding])

    def begin(self, N: int) -> Float[Tensor, "N 1 D"]:
        """The first token of N sequences."""
        return self.rows.weight[self.vocabulary.begin].expand(N, 1, -1)


def sine(values: Float[Tensor, "*n A"], width: int) -> Float[Tensor, "*n D"]:
    """Sines and cosines of places in 0..1, `width` numbers shared out among the A axes.

    Frequencies run from one wave over the whole range to one over a fiftieth: finer ones cannot be told
    apart at the sizes of these networks.
    """
    A = values.shape[-1]
    count = width // (2 * A)
    waves = torch.logspace(0, 1.7, count, device=values.device, dtype=values.dtype)
    angles = (2 * torch.pi * values[..., None] * waves).flatten(-2)
    found = torch.cat([angles.sin(), angles.cos()], -1)
    return nn.functional.pad(found, (0, width - found.shape[-1]))
