"""Where is the next keypoint, given those before it, the support and the image?

One path for both modes: `Decoder.forward` takes any number of further tokens and a cache of the earlier ones.
Teacher forcing is one call with all of them, a rollout is one call per token.
Source: Raster2Seq's decoder: self-attention, support cross-attention, image cross-attention, feed-forward;
learned anchors refined by every layer, sigmoid(offset + logit(anchor)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from workbench.models.cape.layers import TYPES, Attention, feed_forward, sine

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from workbench.models.cape.layers import Memory


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What every step may look at, made once per image.

    Attributes:
        position: of every step, with the support keypoint it is to find; the last is the end's.
        seen: True where the support shows the keypoint.
        of_support: keys and values of the support, per layer.
        of_image: keys and values of the image, per layer.
    """

    position: Float[Tensor, "N L D"]
    seen: Bool[Tensor, "N K"]
    of_support: tuple[Memory, ...]
    of_image: tuple[Memory, ...]


@dataclass(frozen=True, eq=False)
class Steps:
    """What the decoder says at T steps.

    Attributes:
        layers: coordinates in 0..1 after each layer.
        types: logits of the token types after each layer.
        over_image: attention of the last layer over the image's cells.
        over_support: the same over the support's keypoints.
        cache: keys and values of all tokens so far, per layer.
    """

    layers: Float[Tensor, "D N T 2"]
    types: Float[Tensor, "D N T Y"]
    over_image: Float[Tensor, "N T M"]
    over_support: Float[Tensor, "N T K"]
    cache: tuple[Memory, ...]


class Decoder(nn.Module):
    """A stack of layers, each of which moves the point a little further."""

    def __init__(self, width: int, heads: int, layers: int, steps: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(steps, width) * 0.1)
        self.anchors = nn.Parameter(torch.randn(steps, 2) * 0.5)
        self.pointer, self.place = nn.Linear(width, width), nn.Linear(width, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.offsets = nn.ModuleList(_head(width) for _ in range(layers))
        self.types = nn.Linear(width, len(TYPES))

    def around(
        self,
        image: Float[Tensor, "N M D"],
        places: Float[Tensor, "1 M D"],
        support: Float[Tensor, "N K D"],
        seen: Bool[Tensor, "N K"],
    ) -> Surroundings:
        """Keys and values of image and support."""
        K = support.shape[1]
        order = self.position[:K]
        # Each step is told which support keypoint it is to find; the source leaves that to attention alone.
        told = self.pointer(nn.functional.pad(support, (0, 0, 0, 1)))
        return Surroundings(
            self.position[: K + 1] + told,
            seen,
            tuple(layer.support.memory(support + order, support) for layer in self.layers),  # type: ignore[operator, union-attr]
            tuple(layer.image.memory(image + places, image) for layer in self.layers),  # type: ignore[operator, union-attr]
        )

    def forward(
        self, tokens: Float[Tensor, "N T D"], around: Surroundings, cache: tuple[Memory, ...] = ()
    ) -> Steps:
        """Read T further tokens; each sees itself and those before it."""
        T = tokens.shape[1]
        start = cache[0][0].shape[2] if cache else 0
        # A single step may look at everything before it, so it needs no mask.
        causal = None
        if T > 1:
            now = torch.arange(start, start + T, device=tokens.device)
            causal = torch.arange(start + T, device=tokens.device) <= now[:, None]
        position = around.position[:, start : start + T]
        point = self.anchors[start : start + T].expand(len(tokens), -1, -1).sigmoid()
        x, kept, layers, types = tokens, [], [], []
        over_image = over_support = tokens
        for number, (layer, offset) in enumerate(zip(self.layers, self.offsets, strict=True)):
            where = self.place(sine(point, tokens.shape[-1]))
            x, own, over_support, over_image = layer(
                x, position, where, causal, around, number, cache[number] if cache else None
            )
            kept.append(own)
            told_now = self.norm(x)
            # As in the source, a layer learns its own step and not those of the layers before it.
            refined = (offset(told_now) + torch.logit(point.detach(), eps=1e-5)).sigmoid()
            layers.append(refined)
            types.append(self.types(told_now))
            point = refined
        return Steps(torch.stack(layers), torch.stack(types), over_image, over_support, tuple(kept))


class DecoderLayer(nn.Module):
    """One look back, one at the support, one at the image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.own, self.support, self.image = (Attention(width, heads) for _ in range(3))
        self.norm_own, self.norm_support, self.norm_image, self.norm_feed = (
            nn.LayerNorm(width) for _ in range(4)
        )
        self.feed = feed_forward(width)

    def forward(
        self,
        x: Float[Tensor, "N T D"],
        position: Float[Tensor, "N T D"],
        where: Float[Tensor, "N T D"],
        causal: Bool[Tensor, "T L"] | None,
        around: Surroundings,
        number: int,
        past: Memory | None,
    ) -> tuple[Tensor, Memory, Tensor, Tensor]:
        """The tokens after this layer, its keys and values so far, and where it looked."""
        looked = self.norm_own(x)
        own = self.own.memory(looked + position, looked)
        if past is not None:
            own = tuple(torch.cat(pair, 2) for pair in zip(past, own, strict=True))
        read, _ = self.own(looked + position, own, causal)
        x = x + read
        looked = self.norm_support(x)
        read, over_support = self.support(
            looked + position, around.of_support[number], around.seen[:, None, None]
        )
        x = x + read
        looked = self.norm_image(x)
        read, over_image = self.image(looked + position + where, around.of_image[number])
        x = x + read
        return x + self.feed(self.norm_feed(x)), own, over_support, over_image  # type: ignore[return-value]


def _head(width: int) -> nn.Sequential:
    head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
    # The first answer is the anchor itself.
    nn.init.zeros_(head[2].weight)  # type: ignore[arg-type]
    nn.init.zeros_(head[2].bias)  # type: ignore[arg-type]
    return head
