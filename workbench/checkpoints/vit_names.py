"""Names of a vision transformer's tensors and modules in three code bases, and its position embedding.

One table says how mmpretrain (mmpose 1.x), ViTPose 0.x and Hugging Face's transformers call each part. What
is stored differently as well: transformers has query, key and value as three tensors; ViTPose 0.x and
transformers have a position for a class token, which is added to all others.

Source: mmpretrain 1.2.0 vision_transformer.py; ViTPose@c050ed2 mmpose/models/backbones/vit.py, vit_moe.py;
transformers 5.23 models/vitpose and vitpose_backbone.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NAMINGS = {"mmpose-1": "mmpretrain names", "mmpose-0": "ViTPose 0.x names", "hf": "Hugging Face names"}
"""Naming as the command line takes it -> what it is called."""


class Names(NamedTuple):
    """One part under the three namings; ``#`` stands for a number.

    Attributes:
        mmpretrain: relative to the backbone, or with the head's name in front.
        vitpose: the same in ViTPose 0.x.
        transformers: the same in transformers; "" where it has no single part of this kind.
    """

    mmpretrain: str
    vitpose: str
    transformers: str

    def under(self, naming: str) -> str:
        """The name under a naming of NAMINGS."""
        return {"mmpose-1": self.mmpretrain, "mmpose-0": self.vitpose, "hf": self.transformers}[naming]


BACKBONE = (
    Names("patch_embed.projection", "patch_embed.proj", "embeddings.patch_embeddings.projection"),
    Names("layers.#.ln1", "blocks.#.norm1", "encoder.layer.#.layernorm_before"),
    Names("layers.#.ln2", "blocks.#.norm2", "encoder.layer.#.layernorm_after"),
    Names("layers.#.attn.qkv", "blocks.#.attn.qkv", ""),
    Names("layers.#.attn.proj", "blocks.#.attn.proj", "encoder.layer.#.attention.output.dense"),
    Names("layers.#.ffn.layers.0.0", "blocks.#.mlp.fc1", "encoder.layer.#.mlp.fc1"),
    Names("layers.#.ffn.layers.1", "blocks.#.mlp.fc2", "encoder.layer.#.mlp.fc2"),
    Names("layers.#.ffn.experts.#", "blocks.#.mlp.experts.#", "encoder.layer.#.mlp.experts.#"),
    Names("ln1", "last_norm", "layernorm"),
)
"""Parts of the backbone that have a weight and a bias."""
POSITIONS = Names("pos_embed", "pos_embed", "embeddings.position_embeddings")
QUERY_KEY_VALUE = tuple(f"encoder.layer.#.attention.attention.{part}" for part in ("query", "key", "value"))
"""What transformers has in place of ``layers.#.attn.qkv``, in the order of its rows."""
CLASSIC_HEAD = (
    Names("head.deconv_layers.0", "keypoint_head.deconv_layers.0", "head.deconv1"),
    Names("head.deconv_layers.1", "keypoint_head.deconv_layers.1", "head.batchnorm1"),
    Names("head.deconv_layers.3", "keypoint_head.deconv_layers.3", "head.deconv2"),
    Names("head.deconv_layers.4", "keypoint_head.deconv_layers.4", "head.batchnorm2"),
)
LAST_LAYER = Names("head.final_layer", "keypoint_head.final_layer", "head.conv")


# Modules of a layer that hold others, for pairs of taps; they have no tensors of their own.
HOLDERS = (
    Names("layers.#.attn", "blocks.#.attn", "encoder.layer.#.attention"),
    Names("layers.#.ffn", "blocks.#.mlp", "encoder.layer.#.mlp"),
    Names("layers.#", "blocks.#", "encoder.layer.#"),
    Names("patch_embed", "patch_embed", "embeddings.patch_embeddings"),
)


def replacements(source: str, target: str, rows: tuple[Names, ...] = BACKBONE) -> tuple[tuple[str, str], ...]:
    """Patterns that find a part's name within a longer one, and what to put there.

    Args:
        source: naming of NAMINGS that the pattern finds.
        target: naming of NAMINGS that the replacement has.
        rows: the parts; those without a name in one of the two are left out.
    """
    pairs = ((row.under(source), row.under(target)) for row in rows)
    return tuple((f"{pattern_of(old)}\\.", f"{numbered(new)}.") for old, new in pairs if old and new)


def pattern_of(name: str) -> str:
    """A regular expression for a name of the table, at the beginning of a tensor's name or behind a dot.

    Args:
        name: ``#`` stands for a number, which is a group.
    """
    return r"(?<![^.])" + re.escape(name).replace(r"\#", "#").replace("#", r"(\d+)")


def numbered(name: str) -> str:
    """A replacement for such a regular expression: the numbers that it found in place of each ``#``."""
    for number in range(1, name.count("#") + 1):
        name = name.replace("#", rf"\{number}", 1)
    return name


# Positions of patches.


def grid_of_positions(count: int) -> tuple[int, int] | None:
    """(h, w) of so many patches: a portrait grid of 4:3, as all person configs have it, or a square one.

    Args:
        count: of patches, without a class token.

    Returns:
        None where the number tells no grid.

    Example:
        >>> grid_of_positions(192), grid_of_positions(196), grid_of_positions(193)
        ((16, 12), (14, 14), None)
    """
    side = math.isqrt(max(count, 0) // 12)
    if side and 12 * side * side == count:
        return 4 * side, 3 * side
    side = math.isqrt(max(count, 0))
    return (side, side) if side and side * side == count else None


def has_class_position(count: int, naming: str) -> bool:
    """Whether a position embedding of so many rows begins with that of a class token.

    Args:
        count: of rows.
        naming: of NAMINGS. ViTPose 0.x and transformers always have the row, mmpose 1.x has none.
    """
    without, with_one = grid_of_positions(count) is not None, grid_of_positions(count - 1) is not None
    if naming == "mmpose-1":
        return with_one and not without
    return count > 1 and (with_one or not without)


def resampled(
    positions: Float[Tensor, "1 n C"], before: tuple[int, int], after: tuple[int, int]
) -> Float[Tensor, "1 m C"]:
    """Position embeddings for another grid of patches, bicubic.

    Args:
        positions: of the patches, row by row, without a class token.
        before: (h, w) of their grid.
        after: (h, w) of the grid that is wanted.

    Source: mmpretrain 1.2.0 models/utils/embed.py resize_pos_embed; ViTPose@c050ed2 vit_moe.py get_abs_pos.
    """
    from torch.nn import functional

    maps = positions.float().transpose(1, 2).unflatten(2, before)
    larger = functional.interpolate(maps, size=after, mode="bicubic", align_corners=False)
    return larger.flatten(2).transpose(1, 2).to(positions.dtype)
