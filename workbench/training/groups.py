"""Which learning rate and which weight decay does each parameter get, and what is its group called?

Layer-wise decay as ViTPose has it (mmcv_custom/layer_decay_optimizer_constructor.py @c050ed2): with L blocks,
patch and position embeddings are layer 0, block i is layer i + 1, everything else is the top; the factor is
rate ** (L + 1 - layer). Biases, normalisation layers and position embeddings are never decayed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.training.settings import Settings

if TYPE_CHECKING:
    from torch import nn

BLOCK = re.compile(r"(?:^|\.)(?:layers|blocks|layer)\.(\d+)\.")
EMBEDDING = re.compile(r"(?:^|\.)(?:patch_embed|pos_embed|cls_token|embeddings)(?:\.|$)")


def layer_of(name: str, blocks: int) -> int:
    """Layer of a backbone parameter: 0 embeddings, i + 1 block i, blocks + 1 everything else."""
    if not name.startswith("backbone."):
        return blocks + 1
    if EMBEDDING.search(name):
        return 0
    block = BLOCK.search(name)
    return int(block[1]) + 1 if block else blocks + 1


def parameter_groups(module: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Groups for a torch optimizer.

    Args:
        module: the network; its first-level children name the groups.
        settings: learning_rate, factors, layer_decay, weight_decay.

    Returns:
        one dict per (part, factor, decayed or not): ``name``, ``params``, ``lr``, ``base_lr`` and
        ``weight_decay``, in the order of the parameters.

    Raises:
        ValueError: nothing can be trained, or a factor's prefix matches no parameter.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError("training: this model has no parameter that can be trained")
    idle = [prefix for prefix in settings.factors if not any(_under(name, prefix) for name, _ in named)]
    if idle:
        raise ValueError(f"training: learning rate factor for {idle[0]!r}, but no parameter begins with it")
    blocks = 1 + max((int(b[1]) for name, _ in named if (b := BLOCK.search(name))), default=-1)
    groups: dict[tuple[str, float, float], dict[str, Any]] = {}
    for name, parameter in named:
        scale = _factor(name, settings.factors)
        if settings.layer_decay < 1:
            scale *= settings.layer_decay ** (blocks + 1 - layer_of(name, blocks))
        if settings.groups:
            scale, decay = settings.groups.get(name, (1.0, settings.weight_decay))
        else:
            decay = 0.0 if parameter.ndim <= 1 or "pos_embed" in name else settings.weight_decay
        key = (name.partition(".")[0], scale, decay)
        lr = settings.learning_rate * scale
        group = groups.setdefault(
            key, {"name": key[0], "params": [], "lr": lr, "base_lr": lr, "weight_decay": decay}
        )
        group["params"].append(parameter)
    return list(groups.values())


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _factor(name: str, factors: Mapping[str, float]) -> float:
    matching = [prefix for prefix in factors if _under(name, prefix)]
    return factors[max(matching, key=len)] if matching else 1.0
