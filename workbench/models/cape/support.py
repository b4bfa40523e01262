"""What do the support's keypoints and skeleton say about what to look for, and in which order?

Source: the geometric support encoder of nkkrnkl/category-agnostic-pose-estimation: an MLP on coordinates, a
2-D sine of the place, a 1-D sine of the order, two graph convolutions over the skeleton, a transformer,
and the mean over shots. The support image is not read there; here it is an option.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from workbench.models.cape.layers import Attention, checked_mask, feed_forward, sine

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


class SupportEncoder(nn.Module):
    """From support keypoints to one feature per keypoint; exactly zero where no shot shows it."""

    def __init__(self, width: int, heads: int, layers: int, steps: int, image: bool) -> None:
        super().__init__()
        self.steps = steps
        self.points = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width))
        self.place, self.order = nn.Linear(width, width), nn.Linear(width, width)
        self.graph = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.layers = nn.ModuleList(SupportLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.image = nn.Linear(width, width) if image else None

    def forward(
        self,
        points: Float[Tensor, "N S K 2"],
        visible: Bool[Tensor, "N S K"],
        graph: Float[Tensor, "N K K"],
        seen_there: Float[Tensor, "N S K D"] | None = None,
        mask_inverted: bool = False,
    ) -> Float[Tensor, "N K D"]:
        """The mean over shots of what each says about a keypoint.

        Args:
            points: (x, y) in 0..1 of the support's own crop.
            visible: True where the support shows the keypoint.
            graph: 1 where two keypoints are joined.
            seen_there: features of the support image at the points.
            mask_inverted: the defect of that name.

        Raises:
            ValueError: the mask is not boolean.
        """
        checked_mask(visible, "support")
        N, S, K, _ = points.shape
        used = ~visible if mask_inverted else visible
        flat, mask = points.flatten(0, 1).nan_to_num(0), used.flatten(0, 1)
        width = self.norm.normalized_shape[0]
        order = torch.arange(K, device=points.device, dtype=points.dtype)[:, None] / self.steps
        x = self.points(flat) + self.place(sine(flat, width)) + self.order(sine(order, width))
        if self.image is not None and seen_there is not None:
            x = x + self.image(seen_there.flatten(0, 1))
        x = x * mask[..., None]
        joined = graph.repeat_interleave(S, 0) * mask[:, None, :]
        joined = joined / joined.sum(-1, keepdim=True).clamp(min=1)
        for layer in self.graph:
            x = x + torch.relu(joined @ layer(x)) * mask[..., None]
        for layer in self.layers:
            x = layer(x, mask)
        shots = (self.norm(x) * mask[..., None]).unflatten(0, (N, S))
        return shots.sum(1) / used.sum(1).clamp(min=1)[..., None]


class SupportLayer(nn.Module):
    """Keypoints of one support look at each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.feed = Attention(width, heads), feed_forward(width)

    def forward(self, x: Float[Tensor, "N K D"], seen: Bool[Tensor, "N K"]) -> Float[Tensor, "N K D"]:
        """Each keypoint with what it read from the visible ones."""
        looked = self.before(x)
        read, _ = self.attention(looked, self.attention.memory(looked, looked), seen[:, None, None])
        x = x + read
        return x + self.feed(self.between(x))
