"""Layer-wise learning-rate decay as upstream computes it: the scale of every parameter by its name.

Source: mmpose 1.3.2 mmpose/engine/optim_wrappers/layer_decay_optim_wrapper.py; the same rule in
ViTAE-Transformer/ViTPose@c050ed2 mmcv_custom/layer_decay_optimizer_constructor.py, whose blocks are called
`backbone.blocks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLOCK = re.compile(r"backbone\.(?:layers|blocks|encoder\.layer)\.(\d+)\.")
_FIRST = ("backbone.cls_token", "backbone.mask_token", "backbone.pos_embed")


def layer_of(name: str, layers: int) -> int:
    """The number of a parameter's layer: 0 for the embedding, i + 1 for block i, layers + 1 for the rest.

    Args:
        name: of the parameter, ``backbone.layers.3.attn.qkv.weight``.
        layers: blocks of the backbone.
    """
    if name in _FIRST or name.startswith("backbone.patch_embed"):
        return 0
    block = _BLOCK.match(name)
    return int(block[1]) + 1 if block else layers + 1


def scale_of(name: str, rate: float, layers: int) -> float:
    """The factor on the peak learning rate: rate^(layers + 1 - layer).

    Args:
        name: of the parameter.
        rate: of the decay.
        layers: blocks of the backbone.

    Example:
        >>> [round(scale_of(f"backbone.{n}", 0.5, 2), 3) for n in ("pos_embed", "layers.0.ln1.weight",
        ...     "layers.1.ln1.weight", "ln1.weight")]
        [0.125, 0.25, 0.5, 1.0]
    """
    return rate ** (layers + 1 - layer_of(name, layers))


def decays(name: str, dimensions: int) -> bool:
    """Whether upstream applies weight decay to a parameter: not to vectors, biases and position embeddings.

    Args:
        name: of the parameter.
        dimensions: of its tensor.
    """
    return not (dimensions == 1 or name.endswith(".bias") or "pos_embed" in name)


def without_group(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The parameters that no hand-made group takes.

    Args:
        names: of all parameters.
        patterns: texts; a group takes the parameters with one of them in their name.

    Example:
        >>> without_group(["backbone.pos_embed", "backbone.blocks.0.norm1.bias"], ["backbone.blocks.0"])
        ['backbone.pos_embed']
    """
    wanted = tuple(patterns)
    return [name for name in names if not any(pattern in name for pattern in wanted)]


def reaches(backbone: str) -> bool:
    """Whether upstream's constructor knows the names of a backbone's blocks."""
    return any(word in backbone for word in ("VisionTransformer", "ViT", "BEiT", "DeiT"))
