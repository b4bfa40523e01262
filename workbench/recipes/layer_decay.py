"""Layer-wise learning-rate decay as upstream computes it: the scale of every parameter by its name.

Source: mmpose 1.3.2 mmpose/engine/optim_wrappers/layer_decay_optim_wrapper.py; the same rule in
ViTAE-Transformer/ViTPose@c050ed2 mmcv_custom/layer_decay_optimizer_constructor.py, whose blocks are called
`backbone.blocks`.
"""

from __future__ import annotations

from collections.abc import Iterable

from workbench.training.trainer import layer_of


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
