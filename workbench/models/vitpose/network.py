"""ViTPose and Sapiens: a plain vision transformer under mmpretrain's names, and the heads over it.

Names of the tensors are those of mmpose 1.x: ``backbone.layers.0.attn.qkv.weight``,
``head.deconv_layers.0.weight``. What other code bases call them: workbench.checkpoints.vit_names.

Source: mmpretrain 1.2.0 models/backbones/vision_transformer.py; mmpose 1.3.2
models/heads/heatmap_heads/heatmap_head.py and models/necks/fmap_proc_neck.py; sapiens@3e829ac
pose/mmpose/models/heads/heatmap_heads/heatmap_head.py and
pretrain/mmpretrain/models/backbones/vision_transformer.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

from workbench.checkpoints.vit_names import resampled
from workbench.core.capabilities import Attention
from workbench.core.hooks import is_tapped
from workbench.core.report import counted

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


# Backbone.


@dataclass(frozen=True)
class Architecture:
    """Sizes of a vision transformer.

    Attributes:
        width: channels of a token.
        layers: number of blocks.
        heads: of the attention; a divisor of the width.
        hidden: width inside the feed-forward layers.
        image: (height, width) of the input that the position embedding belongs to, pixels.
        patch: side of a patch and stride, pixels.
        padding: of the patch convolution, pixels.
        eps: of all layer norms; 1e-6 in ViTPose and mmpretrain, 1e-12 by default in transformers.
        qkv_bias: query, key and value have a bias.
        final_norm: layer norm on the last output.
        drop_path: stochastic depth of the last layer; grows linearly from 0.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    image: tuple[int, int] = (256, 192)
    patch: int = 16
    padding: int = 2
    eps: float = 1e-6
    qkv_bias: bool = True
    final_norm: bool = True
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        sizes = (self.width, self.layers, self.heads, self.hidden, self.patch, *self.image)
        if any(size < 1 for size in sizes) or self.width % self.heads:
            raise ValueError(
                f"ViT of width {self.width} with {counted(self.layers, 'layer')}, "
                f"{counted(self.heads, 'head')} and {counted(self.hidden, 'hidden unit')}: expected positive "
                "numbers, and a width that is a multiple of the heads"
            )
        if min(self.grid) < 1:
            H, W = self.image
            raise ValueError(
                f"ViT: an input of {W}x{H} px (w x h) is smaller than a patch of {self.patch} px"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) patches of an input of size `image`."""
        return self.grid_of(self.image)

    def grid_of(self, image: tuple[int, int]) -> tuple[int, int]:
        """(h, w) patches of an input.

        Args:
            image: (height, width) in pixels.
        """
        h, w = ((side + 2 * self.padding - self.patch) // self.patch + 1 for side in image)
        return h, w


# name: (width, layers, heads, hidden). mmpretrain's "small" is not DeiT's, and ViTPose-S is neither.
ARCHITECTURES: dict[str, tuple[int, int, int, int]] = {
    "small": (768, 8, 8, 768 * 3),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "huge": (1280, 32, 16, 5120),
    "deit-tiny": (192, 12, 3, 192 * 4),
    "deit-small": (384, 12, 6, 384 * 4),
    "deit-base": (768, 12, 12, 768 * 4),
    "sapiens_0.3b": (1024, 24, 16, 4096),
    "sapiens_0.6b": (1280, 32, 16, 5120),
    "sapiens_1b": (1536, 40, 24, 6144),
    "sapiens_2b": (1920, 48, 32, 7680),
}
_SHORT = {"s": "small", "b": "base", "l": "large", "h": "huge"}
_SHORT |= {"deit-t": "deit-tiny", "deit-s": "deit-small", "deit-b": "deit-base"}
_SHORT |= {name.removeprefix("sapiens_"): name for name in ARCHITECTURES if name.startswith("sapiens_")}


def sizes_of(arch: str | Mapping[str, int]) -> tuple[int, int, int, int]:
    """(width, layers, heads, hidden) of an architecture as mmpretrain's configs name it.

    Args:
        arch: a name of ARCHITECTURES or a dict with embed_dims, num_layers, num_heads, feedforward_channels.

    Raises:
        ValueError: no such name, or a key is missing.
    """
    if isinstance(arch, str):
        name = _SHORT.get(arch.lower(), arch.lower())
        if name not in ARCHITECTURES:
            raise ValueError(f"no ViT architecture {arch!r}; known: {', '.join(ARCHITECTURES)}, or a dict")
        return ARCHITECTURES[name]
    wanted = ("embed_dims", "num_layers", "num_heads", "feedforward_channels")
    if missing := [key for key in wanted if key not in arch]:
        raise ValueError(f"ViT arch: expected {', '.join(wanted)}; missing {', '.join(missing)}")
    width, layers, heads, hidden = (int(arch[key]) for key in wanted)
    return width, layers, heads, hidden


class ViT(nn.Module):
    """Image to feature map, one cell per patch.

    Args:
        architecture: sizes.

    Attributes:
        architecture: sizes.
        resample: an input of another size than the architecture's is taken, and the position embedding
            resampled for it, bicubic as upstream does; otherwise such an input is refused.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.resample = False
        self.patch_embed = _PatchEmbed(a)
        self.pos_embed = nn.Parameter(torch.zeros(1, a.grid[0] * a.grid[1], a.width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.layers = nn.ModuleList(_Layer(a, depth) for depth in range(a.layers))
        self.ln1 = nn.LayerNorm(a.width, a.eps) if a.final_norm else nn.Identity()

    @property
    def embed_dims(self) -> int:
        """Channels of the feature map, as mmpose's configs call them."""
        return self.architecture.width

    @property
    def num_layers(self) -> int:
        """Number of blocks, as mmpose's layer-wise learning rates ask for it."""
        return self.architecture.layers

    def attention(self, path: str) -> Attention:
        """Where the weights of the self-attention pass.

        Args:
            path: of this backbone in the network, ``backbone``.
        """
        a = self.architecture
        return Attention(tuple(f"{path}.layers.{n}.attn.weights" for n in range(a.layers)), a.heads, a.grid)

    def forward(self, image: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C h w"]:
        """The last feature map.

        Raises:
            ValueError: an input of another size, and `resample` is not set.
        """
        patches = self.patch_embed.projection(image)
        h, w = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2) + self._positions((h, w), tuple(image.shape[-2:]))
        for layer in self.layers:
            tokens = layer(tokens)
        return self.ln1(tokens).transpose(1, 2).unflatten(2, (h, w)).contiguous()

    def _positions(self, grid: tuple[int, int], size: Sequence[int]) -> Float[Tensor, "1 cells C"]:
        a = self.architecture
        if grid == a.grid:
            return self.pos_embed
        if not self.resample:
            raise ValueError(
                f"position embedding: it belongs to an input of {a.image[1]}x{a.image[0]} px (w x h, "
                f"{a.grid[1]}x{a.grid[0]} patches), the input has {size[1]}x{size[0]} px "
                f"({grid[1]}x{grid[0]}); ask for it to be resampled with --resample-pos-embed, or set "
                "img_size to the input's size"
            )
        return resampled(self.pos_embed, a.grid, grid)


class _PatchEmbed(nn.Module):
    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, a.width, a.patch, a.patch, a.padding)


class AttentionWeights(nn.Module):
    """Weights of the self-attention; run only where a hook records or replaces them."""

    def forward(
        self, query: Float[Tensor, "N heads T D"], key: Float[Tensor, "N heads T D"]
    ) -> Float[Tensor, "N heads T T"]:
        """A row per query, summing to 1.

        Args:
            query: D channels for each head and token.
            key: the same.
        """
        return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)


class SelfAttention(nn.Module):
    """Self-attention over all tokens; mmpretrain's names.

    Args:
        a: sizes.
    """

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.heads = a.heads
        self.qkv = nn.Linear(a.width, 3 * a.width, bias=a.qkv_bias)
        self.weights = AttentionWeights()
        self.proj = nn.Linear(a.width, a.width)

    def forward(self, tokens: Float[Tensor, "N T C"]) -> Float[Tensor, "N T C"]:
        """The tokens mixed."""
        N, T, C = tokens.shape
        q, k, v = self.qkv(tokens).reshape(N, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        if is_tapped(self.weights):
            mixed = self.weights(q, k) @ v
        else:
            # Never has T x T weights in memory: 0.6 GB a layer for Sapiens' 3072 tokens.
            mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(N, T, C))


class _FeedForward(nn.Module):
    def __init__(self, a: Architecture) -> None:
        super().__init__()
        # Nested as mmcv's FFN is: the keys are layers.0.0 and layers.1.
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(a.width, a.hidden), nn.GELU()), nn.Linear(a.hidden, a.width)
        )

    def forward(self, tokens: Float[Tensor, "N T C"]) -> Float[Tensor, "N T C"]:
        return self.layers(tokens)


class _Layer(nn.Module):
    def __init__(self, a: Architecture, depth: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(a.width, a.eps), nn.LayerNorm(a.width, a.eps)
        self.attn, self.ffn = SelfAttention(a), _FeedForward(a)
        self.rate = a.drop_path * depth / max(a.layers - 1, 1)

    def forward(self, tokens: Float[Tensor, "N T C"]) -> Float[Tensor, "N T C"]:
        tokens = tokens + self._with_stochastic_depth(self.attn(self.ln1(tokens)))
        return tokens + self._with_stochastic_depth(self.ffn(self.ln2(tokens)))

    def _with_stochastic_depth(self, branch: Float[Tensor, "N T C"]) -> Float[Tensor, "N T C"]:
        """Stochastic depth: a share `rate` of the samples skips the branch while training."""
        if not self.training or self.rate == 0:
            return branch
        keep = 1 - self.rate
        return branch * (torch.rand(len(branch), 1, 1, device=branch.device) < keep) / keep


# Heads.


@dataclass(frozen=True)
class HeadShape:
    """Sizes of a heatmap head.

    Attributes:
        keypoints: K, channels of the heatmaps.
        deconvolutions: (channels, kernel) of each deconvolution; each doubles the map's size.
        convolutions: (channels, kernel) of those behind the deconvolutions.
        kernel: of the last convolution.
        norm: between the layers: ``batch`` with ReLU, or ``instance`` without parameters and with SiLU, as
            Sapiens has it.
        enlarged: the map is rectified and enlarged by this factor, bilinear, before the first layer: 4 in
            ViTPose's simple decoder.
    """

    keypoints: int
    deconvolutions: tuple[tuple[int, int], ...] = ()
    convolutions: tuple[tuple[int, int], ...] = ()
    kernel: int = 1
    norm: Literal["batch", "instance"] = "batch"
    enlarged: int = 1

    @property
    def scale(self) -> int:
        """Cells of the heatmap in a cell of the feature map, along one side."""
        return self.enlarged * 2 ** len(self.deconvolutions)


CLASSIC = ((256, 4), (256, 4))
"""Deconvolutions of ViTPose's classic decoder."""


# Kernel of a deconvolution -> (padding, output padding) with which it exactly doubles a map.
_DOUBLING = {4: (1, 0), 3: (1, 1), 2: (0, 0)}


class Head(nn.Module):
    """Feature map to heatmaps; mmpose's names.

    Args:
        channels: of the feature map.
        shape: sizes.

    Attributes:
        shape: sizes.

    Raises:
        ValueError: a deconvolution of another kernel than 2, 3 or 4.
    """

    def __init__(self, channels: int, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape
        deconvolutions: list[nn.Module] = []
        for out, kernel in shape.deconvolutions:
            if kernel not in _DOUBLING:
                raise ValueError(f"head: a deconvolution of kernel 2, 3 or 4 is expected, got {kernel}")
            padding, extra = _DOUBLING[kernel]
            layer = nn.ConvTranspose2d(channels, out, kernel, 2, padding, extra, bias=False)
            deconvolutions += [layer, *self._between(out)]
            channels = out
        convolutions: list[nn.Module] = []
        for out, kernel in shape.convolutions:
            convolutions += [nn.Conv2d(channels, out, kernel, padding=(kernel - 1) // 2), *self._between(out)]
            channels = out
        self.deconv_layers = nn.Sequential(*deconvolutions)
        self.conv_layers = nn.Sequential(*convolutions)
        self.final_layer = nn.Conv2d(channels, shape.keypoints, shape.kernel, padding=(shape.kernel - 1) // 2)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(layer.weight, std=0.001)  # as mmpose's HeatmapHead
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def _between(self, channels: int) -> tuple[nn.Module, nn.Module]:
        if self.shape.norm == "instance":
            return nn.InstanceNorm2d(channels), nn.SiLU()
        return nn.BatchNorm2d(channels), nn.ReLU()

    def forward(self, features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N K H W"]:
        """The heatmaps."""
        if self.shape.enlarged > 1:
            features = functional.interpolate(
                functional.relu(features), scale_factor=self.shape.enlarged, mode="bilinear"
            )
        return self.final_layer(self.conv_layers(self.deconv_layers(features)))


class ViTPose(nn.Module):
    """Image to heatmaps.

    Args:
        architecture: of the backbone.
        head: of the head.
    """

    def __init__(self, architecture: Architecture, head: HeadShape) -> None:
        super().__init__()
        self.backbone = ViT(architecture)
        self.head = Head(architecture.width, head)

    def forward(self, image: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N K h w"]:
        """The heatmaps."""
        return self.head(self.backbone(image))
