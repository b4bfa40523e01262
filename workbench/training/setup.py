"""What a trainer is made of: checked samples, optimizer, averaged weights, number formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, Codec, Outputs, PoseModel, Sample, geometry
from workbench.core.capabilities import HasObjective
from workbench.training.objectives import Target, target_of
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


def checked_device(model: PoseModel, settings: Settings, device: str, augmented: bool) -> None:
    """Refuse a device that is absent, and what this one cannot do.

    Args:
        model: with a loss of its own, or a codec.
        settings: graphs need a GPU and a step that is always the same.
        device: cpu, cuda, cuda:N.
        augmented: whether the images change before every step.

    Raises:
        ValueError: with what to do instead.
    """
    import torch

    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"training: expected device cpu or cuda, got {device!r}")
    count = torch.cuda.device_count()
    if kind == "cuda" and (torch.device(device).index or 0) >= count:
        raise ValueError(f"training: no GPU {device} here, torch sees {count}; use --device cpu")
    if not settings.graphs:
        return
    if kind == "cpu":
        raise ValueError("training: CUDA graphs need a GPU, and this runs on the cpu; leave graphs out")
    if augmented:
        raise ValueError(
            "training: a CUDA graph replays one batch, and these images change before every step; leave "
            "graphs or augmentation out"
        )
    if isinstance(model, HasObjective):
        raise ValueError(
            "training: a CUDA graph leaves no decision to the processor, and a model with its own loss (a "
            "sequence model) draws what it reads at every step; leave graphs out"
        )


def batch_target(batch: Batch, codec: Codec, device: str) -> Target:
    """What the network is to answer to a batch, written by a codec.

    Args:
        batch: with samples that have truth.
        codec: how coordinates are written.
        device: where the network is.
    """
    truth = [np.asarray(sample.truth, float) for sample in batch.samples]
    maps = [geometry.inverse(affine) for affine in batch.to_image]
    points = np.stack([geometry.apply(m, t[:, :2]) for m, t in zip(maps, truth, strict=True)])
    return target_of(codec, points, np.stack([t[:, 2] for t in truth]), device)


def new_optimizer(groups: list[dict[str, Any]], settings: Settings) -> torch.optim.Optimizer:
    """The optimizer that the settings name."""
    import torch

    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    more: dict[str, Any] = {"momentum": 0.9} if settings.optimizer == "sgd" else {}
    more |= settings.optimizer_options
    # One kernel over all weights instead of a dozen operations on each: a third of a small network's step on
    # a CPU. The same formula, rounded elsewhere in the last bit.
    fused = all(p.is_floating_point() for group in groups for p in group["params"])
    return kinds[settings.optimizer](groups, fused=fused, **more)


def new_average(module: torch.nn.Module, settings: Settings) -> Any:
    """Exponentially averaged weights and buffers, or None."""
    if not settings.ema:
        return None
    import math

    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    def following(averaged: Any, current: Any, count: Any) -> None:
        # mmengine 0.10 ExpMomentumEMA: momentum (1 - m) exp(-(1 + steps) / gamma) + m.
        share = settings.ema * math.exp(-(1 + int(count)) / settings.ema_warm_up)
        get_ema_multi_avg_fn(settings.ema - share)(averaged, current, count)

    average = following if settings.ema_warm_up else get_ema_multi_avg_fn(settings.ema)
    return AveragedModel(module, multi_avg_fn=average, use_buffers=True)


def half_type(device: str) -> torch.dtype:
    """bfloat16 but for GPUs without it."""
    import torch

    return torch.bfloat16 if device == "cpu" or torch.cuda.is_bf16_supported() else torch.float16


def in_full(outputs: Outputs) -> Outputs:
    """Losses are computed in float32: a KL of 1e-4 does not survive half precision."""
    return dataclasses.replace(
        outputs,
        heatmaps=None if outputs.heatmaps is None else outputs.heatmaps.float(),
        simcc=None if outputs.simcc is None else (outputs.simcc[0].float(), outputs.simcc[1].float()),
        tokens={name: tensor.float() for name, tensor in outputs.tokens.items()},
    )
