"""The CAPE network: image, support and decoder, teacher-forced or free-running, and its known defects.

One code path serves both modes: `Decoder.forward` takes any number of further tokens and a cache of the
earlier ones. Teacher forcing is one call with all of them, a rollout is one call per token.

Sources: Raster2Seq's decoder: self-attention, support cross-attention, image cross-attention, feed-forward;
learned anchors refined by every layer, sigmoid(offset + logit(anchor)). Defects: the history of
nkkrnkl/category-agnostic-pose-estimation, where each stood for a while.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from workbench.models.cape.layers import (
    TYPES,
    Attention,
    BilinearTokens,
    ImageEncoder,
    SupportEncoder,
    Vocabulary,
    feed_forward,
    places,
    sampled,
    sine,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from workbench.models.cape.layers import Memory


@dataclass(frozen=True)
class Defects:
    """All off by default.

    Attributes:
        support_mask_inverted: the support encoder ignores what it should read: an all-visible support
            leaves features of exactly 0, whatever its pose.
        support_discarded: the support is encoded and the result thrown away.
        pck_in_input_pixels: the logged PCK measures distances in pixels of the resized input, the
            threshold in pixels of the original box.
        logged_loss_scaled: the logged coordinate loss still carries the factor 5 it is weighted with.
    """

    support_mask_inverted: bool = False
    support_discarded: bool = False
    pck_in_input_pixels: bool = False
    logged_loss_scaled: bool = False

    def names(self) -> tuple[str, ...]:
        """Those that are on."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name))


# Decoder.


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Keys and values that every step attends to, computed once per image.

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
    """Outputs of the decoder at T steps.

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
    """A stack of layers, each of which refines the estimated coordinates."""

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
        """Keys and values of image and support.

        Args:
            image: features of the M cells.
            places: sines of the cells' centres.
            support: one feature per keypoint.
            seen: True where the support shows the keypoint.
        """
        K = support.shape[1]
        order = self.position[:K]
        # Each step reads which support keypoint it is to find; the source leaves that to attention.
        identity = self.pointer(nn.functional.pad(support, (0, 0, 0, 1)))
        return Surroundings(
            self.position[: K + 1] + identity,
            seen,
            tuple(layer.support.memory(support + order, support) for layer in self.layers),  # type: ignore[operator, union-attr]
            tuple(layer.image.memory(image + places, image) for layer in self.layers),  # type: ignore[operator, union-attr]
        )

    def forward(
        self, tokens: Float[Tensor, "N T D"], around: Surroundings, cache: tuple[Memory, ...] = ()
    ) -> Steps:
        """Read T further tokens; each sees itself and those before it.

        Args:
            tokens: embedded.
            around: of the same images.
            cache: of the earlier tokens, one entry per layer; empty at the first.
        """
        T = tokens.shape[1]
        start = cache[0][0].shape[2] if cache else 0
        # A single step may look at everything before it, so it needs no mask.
        causal = None
        if T > 1:
            now = torch.arange(start, start + T, device=tokens.device)
            causal = torch.arange(start + T, device=tokens.device) <= now[:, None]
        position = around.position[:, start : start + T]
        point = self.anchors[start : start + T].expand(len(tokens), -1, -1).sigmoid()
        x, states, layers, types = tokens, [], [], []
        over_image = over_support = tokens
        for number, (layer, offset) in enumerate(zip(self.layers, self.offsets, strict=True)):
            where = self.place(sine(point, tokens.shape[-1]))
            x, own, over_support, over_image = layer(
                x, position, where, causal, around, number, cache[number] if cache else None
            )
            states.append(own)
            normed = self.norm(x)
            # As in the source, a layer learns its own step and not those of the layers before it.
            refined = (offset(normed) + torch.logit(point.detach(), eps=1e-5)).sigmoid()
            layers.append(refined)
            types.append(self.types(normed))
            point = refined
        return Steps(torch.stack(layers), torch.stack(types), over_image, over_support, tuple(states))


class DecoderLayer(nn.Module):
    """Causal self-attention, then cross-attention to the support, then to the image."""

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
        """The tokens after this layer, its keys and values so far, and where it looked.

        Args:
            x: the tokens.
            position: of each step.
            where: sine of the current estimate of each step.
            causal: True where a step may read a token; None for one step at a time.
            around: keys and values of image and support.
            number: of this layer.
            past: keys and values of the earlier tokens.

        Returns:
            Tokens [N, T, D]; keys and values; weights over the support [N, T, K] and the image [N, T, M].
        """
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


# Network.


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
        """The size that a checkpoint states.

        Raises:
            ValueError: a key that is none, or a value of another type.
        """
        known = {f.name: getattr(cls, f.name) for f in dataclasses.fields(cls)}
        if not isinstance(value, Mapping) or (odd := [k for k in value if k not in known]):
            found = f"the key {odd[0]!r}" if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(f"cape: expected a size with {', '.join(known)}; got {found}")
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
        """Image and support, encoded once: the only way in, whatever the mode.

        Args:
            extra: of a batch: ``support`` [N, S, K, 2], 0..1 of the input, of S examples, and what belongs to
                it.
            pixels: of the queries, normalised.
        """
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
        """All K + 1 steps at once, step t reading the given tokens before t (causal mask).

        Args:
            around: of the same images.
            given: true tokens in 0..1 of the input; nan where there is none.
        """
        tokens = self.tokens(self.readable(around, given))
        return self.decoder(torch.cat([self.tokens.begin(len(given)), tokens], 1), around)

    def rollout(
        self, around: Surroundings, given: Float[Tensor, "N K 2"], is_given: Bool[Tensor, "N K"]
    ) -> tuple[Steps, Float[Tensor, "N K 2"]]:
        """The same step by step with a cache, and the tokens that were read.

        Args:
            around: image and support.
            given: tokens to read instead of its own answers ...
            is_given: ... where this is True.
        """
        N, K, _ = given.shape
        steps, cache, token, read = [], (), self.tokens.begin(N), []
        for t in range(K + 1):
            step = self.decoder(token, around, cache)
            cache = step.cache
            steps.append(step)
            if t < K:
                answer = step.layers[-1, :, 0]
                next_point = torch.where(is_given[:, t, None], given[:, t], answer)
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
    def readable(
        around: Surroundings, points: Float[Tensor, "N T 2"], first: int = 0
    ) -> Float[Tensor, "N T 2"]:
        """Points as both modes read them: nan (the padding token) where the support shows no keypoint.

        Args:
            around: of the same images.
            points: tokens in 0..1 of the input.
            first: step of the first of them.
        """
        shown = around.seen[:, first : first + points.shape[1], None]
        return torch.where(shown, points, torch.full_like(points, torch.nan))
