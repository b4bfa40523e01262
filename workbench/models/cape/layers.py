"""Parts of the CAPE network: token vocabulary and embedding, attention, image encoder, support encoder.

Sources: Raster2Seq (poly2seq), whose vocabulary is num_bins^2 cells followed by the special tokens, and its
embedding after PolyFormer: with a the fraction past the lower cell and 1 - a the rest,
e11 (1-ax)(1-ay) + e21 ax (1-ay) + e12 (1-ax) ay + e22 ax ay; 1 is the floor, 2 the ceiling, x first.
Geometric support encoder of nkkrnkl/category-agnostic-pose-estimation: an MLP on coordinates, a 2-D sine of
the place, a 1-D sine of the order, two graph convolutions over the skeleton, a transformer, and the mean over
shots. The support image is not read there; here it is an option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from workbench.core.report import counted

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    Memory = tuple[Float[Tensor, "N h M d"], Float[Tensor, "N h M d"]]


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


# Embedding.


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

    Args:
        values: places in 0..1 along A axes.
        width: D, numbers per place.
    """
    A = values.shape[-1]
    count = width // (2 * A)
    waves = torch.logspace(0, 1.7, count, device=values.device, dtype=values.dtype)
    angles = (2 * torch.pi * values[..., None] * waves).flatten(-2)
    found = torch.cat([angles.sin(), angles.cos()], -1)
    return nn.functional.pad(found, (0, width - found.shape[-1]))


# Attention.


class Attention(nn.Module):
    """Multi-head attention. `seen` is True where a key may be looked at: the one mask convention here."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention: width {width} is not a multiple of {counted(heads, 'head')}")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def memory(self, keys: Float[Tensor, "N M D"], values: Float[Tensor, "N M D"]) -> Memory:
        """Keys and values by head, to be made once and used at every step.

        Args:
            keys: tokens that keys are made of.
            values: tokens that values are made of.
        """
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

    Args:
        seen: of any shape, True where the position may be read.
        what: name of the mask for the error.

    Raises:
        ValueError: it is not boolean; masks of numbers are where conventions get inverted.
    """
    if seen.dtype != torch.bool:
        raise ValueError(f"{what}: expected a boolean mask, True where it may be looked at, got {seen.dtype}")
    return seen


# Image.


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
    """Sines of the centres of an h x w map's cells, row by row, 0..1 of the input.

    Args:
        h: rows of the map.
        w: columns of the map.
        width: D, numbers per place.
        like: a tensor of any shape whose device and type are used.
    """
    y = (torch.arange(h, device=like.device, dtype=like.dtype) + 0.5) / h
    x = (torch.arange(w, device=like.device, dtype=like.dtype) + 0.5) / w
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    return sine(grid.flatten(0, 1)[None], width)


def sampled(features: Float[Tensor, "N D h w"], points: Float[Tensor, "N K 2"]) -> Float[Tensor, "N K D"]:
    """Features read at points in 0..1 of the input, bilinear; zero outside.

    Args:
        features: a map over the whole input.
        points: (x, y) in 0..1 of the input.
    """
    grid = (points * 2 - 1)[:, :, None]
    return nn.functional.grid_sample(features, grid, align_corners=False)[..., 0].transpose(1, 2)


def _reduce(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(4, outputs), nn.ReLU())


# Support.


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
        """Each keypoint with what it read from the visible ones.

        Args:
            x: one token per keypoint.
            seen: True where the support shows the keypoint.
        """
        looked = self.before(x)
        read, _ = self.attention(looked, self.attention.memory(looked, looked), seen[:, None, None])
        x = x + read
        return x + self.feed(self.between(x))
