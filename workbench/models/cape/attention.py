"""Attention whose keys and values can be kept between steps, and whose weights can be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    Memory = tuple[Float[Tensor, "N h M d"], Float[Tensor, "N h M d"]]


class Attention(nn.Module):
    """Multi-head attention. `seen` is True where a key may be looked at: the one mask convention here."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention: width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def memory(self, keys: Float[Tensor, "N M D"], values: Float[Tensor, "N M D"]) -> Memory:
        """Keys and values by head, to be made once and used at every step."""
        return self._split(self.key(keys)), self._split(self.value(values))

    def forward(
        self, query: Float[Tensor, "N T D"], memory: Memory, seen: Bool[Tensor, "N 1 T M"] | None = None
    ) -> tuple[Float[Tensor, "N T D"], Float[Tensor, "N T M"]]:
        """What is read, and the weights averaged over heads.

        Args:
            query: who looks.
            memory: from `memory`.
            seen: broadcastable; a query that may look at nothing reads zeros.
        """
        keys, values = memory
        q = self._split(self.query(query))
        scores = q @ keys.transpose(-1, -2) * q.shape[-1] ** -0.5
        if seen is None:
            weights = scores.softmax(-1)
        else:
            # A finite floor: gradients of a softmax over -inf alone are nan.
            weights = scores.masked_fill(~seen, -1e9).softmax(-1).masked_fill(~seen, 0)
        read = (weights @ values).transpose(1, 2).flatten(2)
        return self.out(read), weights.mean(1)

    def _split(self, x: Float[Tensor, "N T D"]) -> Float[Tensor, "N h T d"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def feed_forward(width: int) -> nn.Sequential:
    """Two layers with twice the width between them."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


def checked_mask(seen: Tensor, what: str) -> Bool[Tensor, "..."]:
    """The mask itself.

    Raises:
        ValueError: it is not boolean; masks of numbers are where conventions get inverted.
    """
    if seen.dtype != torch.bool:
        raise ValueError(f"{what}: expected a boolean mask, True where it may be looked at, got {seen.dtype}")
    return seen
