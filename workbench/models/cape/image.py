"""What does the query image look like to the decoder? One map at stride 8 with context from stride 16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from workbench.models.cape.layers import sine

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class ImageEncoder(nn.Module):
    """A small convolutional pyramid whose coarse level is added to the finer one.

    Group normalisation: with one image in the batch, batch statistics and running ones would differ.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stride4 = nn.Sequential(_reduce(3, 16), _reduce(16, 32))
        self.stride8, self.stride16 = _reduce(32, width), _reduce(width, width)
        self.lateral, self.top = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.smooth = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N D h w"]:
        """The map at stride 8."""
        fine = self.stride8(self.stride4(pixels))
        coarse = self.top(self.stride16(fine))
        up = nn.functional.interpolate(coarse, size=fine.shape[-2:], mode="nearest")
        return self.smooth(self.lateral(fine) + up)


def places(h: int, w: int, width: int, like: Tensor) -> Float[Tensor, "1 M D"]:
    """Sines of the centres of an h x w map's cells, row by row, 0..1 of the input."""
    y = (torch.arange(h, device=like.device, dtype=like.dtype) + 0.5) / h
    x = (torch.arange(w, device=like.device, dtype=like.dtype) + 0.5) / w
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    return sine(grid.flatten(0, 1)[None], width)


def sampled(features: Float[Tensor, "N D h w"], points: Float[Tensor, "N K 2"]) -> Float[Tensor, "N K D"]:
    """Features read at points in 0..1 of the input, bilinear; zero outside."""
    grid = (points * 2 - 1)[:, :, None]
    return nn.functional.grid_sample(features, grid, align_corners=False)[..., 0].transpose(1, 2)


def _reduce(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(4, outputs), nn.ReLU())
