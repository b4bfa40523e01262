"""What a trainer is made of: checked samples, optimizer, averaged weights, number formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.records import Outputs, PoseModel, Sample
from workbench.training.settings import Settings

if TYPE_CHECKING:
    import torch


def checked(model: PoseModel, samples: Sequence[Sample]) -> None:
    """Refuse samples that a model cannot learn from.

    Raises:
        ValueError: none, one without annotation, another number of keypoints, or nothing visible.
    """
    if not samples:
        raise ValueError("training: expected at least one sample, got none")
    K = len(model.skeleton)
    for sample in samples:
        name = sample.key or sample.path or "a sample"
        if sample.truth is None:
            raise ValueError(f"training: {name} has no annotation to learn from")
        if len(sample.truth) != K:
            raise ValueError(f"training: {name} has {len(sample.truth)} keypoints, the model {K}")
    if not any((np.asarray(s.truth)[:, 2] > 0).any() for s in samples):
        raise ValueError(
            "training: no keypoint is visible in any of the images, so there is nothing to learn"
        )


def new_optimizer(groups: list[dict[str, Any]], settings: Settings) -> torch.optim.Optimizer:
    """The optimizer that the settings name."""
    import torch

    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    more = {"momentum": 0.9} if settings.optimizer == "sgd" else {}
    return kinds[settings.optimizer](groups, **more)


def new_average(module: torch.nn.Module, settings: Settings) -> Any:
    """Exponentially averaged weights and buffers, or None."""
    if not settings.ema:
        return None
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)


def half_type(device: str) -> torch.dtype:
    """bfloat16 but for GPUs without it."""
    import torch

    return torch.bfloat16 if device == "cpu" or torch.cuda.is_bf16_supported() else torch.float16


def devices(device: str) -> list[int]:
    """The GPUs whose random state a step forks."""
    import torch

    return [] if device == "cpu" else [torch.device(device).index or 0]


def in_full(outputs: Outputs) -> Outputs:
    """Losses are computed in float32: a KL of 1e-4 does not survive half precision."""
    return dataclasses.replace(
        outputs,
        heatmaps=None if outputs.heatmaps is None else outputs.heatmaps.float(),
        simcc=None if outputs.simcc is None else (outputs.simcc[0].float(), outputs.simcc[1].float()),
        tokens={name: tensor.float() for name, tensor in outputs.tokens.items()},
    )
