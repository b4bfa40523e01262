"""The whole network: image, support and decoder, taught with the truth or left to its own answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from workbench.models.cape.layers import (
    BilinearTokens,
    ImageEncoder,
    SupportEncoder,
    Vocabulary,
    places,
    sampled,
)
from workbench.models.cape.network import Decoder, Defects, Steps, Surroundings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class Size:
    """How large a network; a checkpoint carries it as plain data.

    Attributes:
        input_size: (height, width) of the crops, pixels.
        bins: places along an axis of the token embedding.
        width: numbers per token.
        heads: of every attention.
        layers: of the decoder.
        support_layers: of the support's transformer.
        steps: longest sequence, end included; MP-100 needs 69.
        support_image: the support encoder also reads the support image at its keypoints.
    """

    input_size: tuple[int, int] = (128, 128)
    bins: int = 24
    width: int = 48
    heads: int = 4
    layers: int = 3
    support_layers: int = 2
    steps: int = 80
    support_image: bool = False

    @classmethod
    def of(cls, value: Any) -> Size:
        """The size that a checkpoint tells.

        Raises:
            ValueError: a key that is none, or a value of another type.
        """
        known = {f.name: getattr(cls, f.name) for f in dataclasses.fields(cls)}
        if not isinstance(value, Mapping) or (odd := [k for k in value if k not in known]):
            told = f"the key {odd[0]!r}" if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(f"cape: expected a size with {', '.join(known)}; got {told}")
        given = {**value}
        if "input_size" in given:
            given["input_size"] = tuple(given["input_size"])
        for name, number in given.items():
            if type(number) is not type(known[name]):
                raise ValueError(f"cape: {name} cannot be {number!r}")
        return cls(**given)


class CapeNetwork(nn.Module):
    """Coordinates of a category's keypoints, one after the other.

    Attributes:
        size: how large it is.
        defects: known ones, switched on to be seen; may be replaced at any time.
    """

    def __init__(self, size: Size, defects: Defects | None = None) -> None:
        super().__init__()
        self.size, self.defects = size, defects or Defects()
        self.image = ImageEncoder(size.width)
        self.support_encoder = SupportEncoder(
            size.width, size.heads, size.support_layers, size.steps, size.support_image
        )
        self.tokens = BilinearTokens(Vocabulary(size.bins), size.width)
        self.decoder = Decoder(size.width, size.heads, size.layers, size.steps)
        # How often it was taught: scheduled sampling counts by it, and a resumed run goes on counting.
        self.register_buffer("taught", torch.zeros((), dtype=torch.long))

    def around(self, extra: Mapping[str, Tensor], pixels: Float[Tensor, "N 3 H W"]) -> Surroundings:
        """Image and support, encoded once: the only way in, whatever the mode."""
        features = self.image(pixels)
        cells = features.flatten(2).transpose(1, 2)
        visible = extra["support_visible"]
        there = None
        if self.size.support_image:
            points = extra["support"]
            maps = self.image(extra["support_pixels"].flatten(0, 1))
            there = sampled(maps, points.flatten(0, 1).nan_to_num(0)).unflatten(0, points.shape[:2])
        support = self.support_encoder(
            extra["support"], visible, extra["support_graph"], there, self.defects.support_mask_inverted
        )
        if self.defects.support_discarded:
            support = torch.zeros_like(support)
        h, w = features.shape[-2:]
        return self.decoder.around(cells, places(h, w, cells.shape[-1], cells), support, visible.any(1))

    def forward(self, around: Surroundings, given: Float[Tensor, "N K 2"]) -> Steps:
        """All K + 1 steps at once, step t reading the given tokens before t (causal mask)."""
        tokens = self.tokens(self.readable(around, given))
        return self.decoder(torch.cat([self.tokens.begin(len(given)), tokens], 1), around)

    def rollout(
        self, around: Surroundings, given: Float[Tensor, "N K 2"], told: Bool[Tensor, "N K"]
    ) -> tuple[Steps, Float[Tensor, "N K 2"]]:
        """The same step by step with a cache, and the tokens that were read.

        Args:
            around: image and support.
            given: tokens to read instead of its own answers ...
            told: ... where this is True.
        """
        N, K, _ = given.shape
        steps, cache, token, read = [], (), self.tokens.begin(N), []
        for t in range(K + 1):
            step = self.decoder(token, around, cache)
            cache = step.cache
            steps.append(step)
            if t < K:
                answer = step.layers[-1, :, 0]
                next_point = torch.where(told[:, t, None], given[:, t], answer)
                read.append(self.readable(around, next_point[:, None], t))
                token = self.tokens(read[-1])
        return Steps(
            torch.cat([s.layers for s in steps], 2),
            torch.cat([s.types for s in steps], 2),
            torch.cat([s.over_image for s in steps], 1),
            torch.cat([s.over_support for s in steps], 1),
            cache,
        ), torch.cat(read, 1)

    @staticmethod
    def readable(around: Surroundings, points: Float[Tensor, "N T 2"], first: int = 0) -> Tensor:
        """Points as both modes read them: nan (the padding token) where the support shows no keypoint."""
        shown = around.seen[:, first : first + points.shape[1], None]
        return torch.where(shown, points, torch.full_like(points, torch.nan))
