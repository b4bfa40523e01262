"""Optimizer, its parameter groups, and averaged weights.

Layer-wise learning rate decay as in ViTPose (mmcv_custom/layer_decay_optimizer_constructor.py @c050ed2): with
L blocks, patch and position embeddings are layer 0, block i is layer i + 1, everything else is the top layer;
the factor is rate ** (L + 1 - layer). Biases, normalisation layers and position embeddings have no weight
decay.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.training.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import nn

BLOCK = re.compile(r"(?:^|\.)(?:layers|blocks|layer)\.(\d+)\.")
EMBEDDING = re.compile(r"(?:^|\.)(?:patch_embed|pos_embed|cls_token|embeddings)(?:\.|$)")


def layer_of(name: str, blocks: int) -> int:
    """Layer of a parameter for layer-wise decay: 0 embeddings, i + 1 block i, blocks + 1 everything else.

    Args:
        name: of the parameter, as in `named_parameters`.
        blocks: number of blocks of the backbone.
    """
    if not name.startswith("backbone."):
        return blocks + 1
    if EMBEDDING.search(name):
        return 0
    block = BLOCK.search(name)
    return int(block[1]) + 1 if block else blocks + 1


def parameter_groups(module: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Named parameter groups: what the rows of a run report separately.

    Args:
        module: the network; its first-level children name the groups.
        settings: learning_rate, factors, layer_decay, groups, weight_decay.

    Returns:
        one dict per (child, learning rate factor, weight decay): ``name``, ``params``, ``lr``, ``base_lr``
        and ``weight_decay``, in the order of the parameters.

    Raises:
        ValueError: no parameter can be trained, or a factor's prefix matches no parameter.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError("training: this model has no parameter that can be trained")
    unmatched = [prefix for prefix in settings.factors if not any(_under(name, prefix) for name, _ in named)]
    if unmatched:
        raise ValueError(
            f"training: learning rate factor for {unmatched[0]!r}, but no parameter begins with it"
        )
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


def merged_groups(groups: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """Parameter groups with equal learning rate and weight decay as one, for the optimizer.

    Every group of a fused optimizer costs a call per step, and without weight decay most groups differ by
    nothing but their name. Each parameter is updated by the same formula with the same numbers.

    Args:
        groups: of `parameter_groups`; unchanged.

    Returns:
        the optimizer's groups, without names; and for each given group the index of its group there.
    """
    merged: dict[tuple[float, float], dict[str, Any]] = {}
    for group in groups:
        key = group["base_lr"], group["weight_decay"]
        one = merged.setdefault(
            key, {"params": [], "lr": group["lr"], "base_lr": key[0], "weight_decay": key[1]}
        )
        one["params"].extend(group["params"])
    places = {key: index for index, key in enumerate(merged)}
    return list(merged.values()), [places[group["base_lr"], group["weight_decay"]] for group in groups]


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _factor(name: str, factors: Mapping[str, float]) -> float:
    matching = [prefix for prefix in factors if _under(name, prefix)]
    return factors[max(matching, key=len)] if matching else 1.0


def new_optimizer(groups: list[dict[str, Any]], settings: Settings) -> torch.optim.Optimizer:
    """The optimizer that the settings name.

    Args:
        groups: parameter groups with ``params``, ``lr`` and ``weight_decay``.
        settings: optimizer and optimizer_options.
    """
    import torch

    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    more: dict[str, Any] = {"momentum": 0.9} if settings.optimizer == "sgd" else {}
    more |= settings.optimizer_options
    # One kernel over all weights instead of a dozen operations on each: saves a third of a small network's
    # step on a CPU. Same formula; the last bit may be rounded differently.
    fused = all(p.is_floating_point() for group in groups for p in group["params"])
    return kinds[settings.optimizer](groups, fused=fused, **more)


def new_average(module: nn.Module, settings: Settings) -> Any:
    """Exponential moving average of weights and buffers (torch's AveragedModel); None where ema is 0.

    Args:
        module: the network.
        settings: ema and ema_warm_up.
    """
    if not settings.ema:
        return None
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    def following(averaged: Any, current: Any, count: Any) -> None:
        # mmengine 0.10 ExpMomentumEMA: momentum (1 - m) exp(-(1 + steps) / gamma) + m.
        share = settings.ema * math.exp(-(1 + int(count)) / settings.ema_warm_up)
        get_ema_multi_avg_fn(settings.ema - share)(averaged, current, count)

    average = following if settings.ema_warm_up else get_ema_multi_avg_fn(settings.ema)
    return AveragedModel(module, multi_avg_fn=average, use_buffers=True)
