"""Which tokens does the decoder read and write? A cell for every place, and a few that mark begin and end.

Source: Raster2Seq (poly2seq), whose vocabulary is num_bins^2 cells followed by the special tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

COORDINATE, SEPARATOR, END, CLASS = range(4)
TYPES = ("coordinate", "separator", "end", "class")
"""What a token can be, in the order of the type head's logits."""


@dataclass(frozen=True)
class Vocabulary:
    """The rows of the token embedding.

    Attributes:
        bins: places along each axis; there are bins * bins cells.
    """

    bins: int

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ValueError(f"vocabulary: expected at least 2 bins along an axis, got {self.bins}")

    @property
    def begin(self) -> int:
        """Row of the token that every sequence begins with."""
        return self.bins**2

    @property
    def end(self) -> int:
        """Row of the token after the last keypoint."""
        return self.bins**2 + 1

    @property
    def separator(self) -> int:
        """Row of the token between instances."""
        return self.bins**2 + 2

    @property
    def padding(self) -> int:
        """Row of a token of which nothing is known: an unlabelled keypoint."""
        return self.bins**2 + 3

    @property
    def category(self) -> int:
        """Row of the class token."""
        return self.bins**2 + 4

    def __len__(self) -> int:
        return self.bins**2 + 5

    def cell(self, points: Float[Tensor, "*n 2"]) -> Int[Tensor, "*n"]:
        """Row of the cell a point lies in: floor(x (bins - 1)) bins + floor(y (bins - 1)).

        Args:
            points: (x, y) in 0..1 of the input; outside is clamped to the edge.
        """
        low = (points.clamp(0, 1) * (self.bins - 1)).floor().long()
        return low[..., 0] * self.bins + low[..., 1]


def wanted_types(N: int, K: int) -> Int[Tensor, "N L"]:
    """The true type of every token of K keypoints: coordinates, then the end; L = K + 1."""
    import torch

    types = torch.full((N, K + 1), COORDINATE)
    types[:, K] = END
    return types
