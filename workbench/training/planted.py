"""Faults that real pipelines have had, planted on purpose: a bisector is believed when it finds these."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from workbench.core import PoseModel, Sample
from workbench.training.plan import Plan


def mirror_image_alone(samples: Sequence[Sample], generator: np.random.Generator) -> Sequence[Sample]:
    """Mirror the pixels within their box and leave the truth where it was.

    Not half the time: one image is learned by heart in both its shapes, and the fault would not show.
    """
    return [_changed(sample, lambda part: part[:, ::-1]) for sample in samples]


def turn_image_alone(samples: Sequence[Sample], generator: np.random.Generator) -> Sequence[Sample]:
    """Turn the pixels by one to three quarters within their box, and leave the truth where it was."""
    quarters = generator.integers(1, 4, len(samples))
    return [_changed(s, partial(np.rot90, k=int(k))) for s, k in zip(samples, quarters, strict=True)]


def _changed(sample: Sample, change: Callable[[np.ndarray], np.ndarray]) -> Sample:
    """The sample with the largest square at its box's corner changed: a turned square keeps its shape."""
    H, W = sample.image.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in sample.box)
    left, top = max(x0, 0), max(y0, 0)
    side = min(min(x1, W) - left, min(y1, H) - top)
    place = slice(top, top + side), slice(left, left + side)
    image = sample.image.copy()
    image[place] = change(sample.image[place])
    return dataclasses.replace(sample, image=image)


def _settings(plan: Plan, **changes: Any) -> Plan:
    return dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, **changes))


def _dropout(plan: Plan, model: PoseModel) -> Plan:
    from torch import nn

    layers = [p for p in model.module.modules() if isinstance(p, nn.modules.dropout._DropoutNd)]
    if not layers:
        raise ValueError("planting a dropout fault: this network has no dropout layer to turn up")
    for part in layers:
        part.p = 0.999
    return plan


def _frozen_statistics(plan: Plan, model: PoseModel) -> Plan:
    from torch.nn.modules.batchnorm import _BatchNorm

    layers = [p for p in model.module.modules() if isinstance(p, _BatchNorm)]
    if not layers:
        raise ValueError("planting a normalisation fault: this network has no batch normalisation")
    for part in layers:
        part.momentum = 0.0  # running statistics never learn: evaluation sees other numbers than training
    return plan


def _codec(plan: Plan, model: PoseModel) -> Plan:
    if model.codec is None:
        raise ValueError("planting a codec fault: this model declares no codec")
    # Targets for an input half as large again: they are learned, and then read off in the wrong places.
    H, W = model.codec.input_size
    wrong = dataclasses.replace(
        model.codec, input_size=(H * 3 // 2, W * 3 // 2), split_ratio=model.codec.split_ratio / 1.5
    )
    return dataclasses.replace(plan, codec=wrong)


def _coupled_decay(plan: Plan, model: PoseModel) -> Plan:
    # Adam with L2 in the gradient, far too strong. AdamW's decoupled decay hardly hurts a network whose
    # normalisation layers undo every scale.
    return _settings(plan, optimizer="adam", weight_decay=1e3)


PLANTED: dict[str, Callable[[Plan, PoseModel], Plan]] = {
    "augmentation": lambda plan, _: dataclasses.replace(plan, augment=turn_image_alone),
    "flip": lambda plan, _: dataclasses.replace(plan, flip=mirror_image_alone),
    "ema": lambda plan, _: _settings(plan, ema=0.9999),
    "dropout": _dropout,
    "normalisation": _frozen_statistics,
    "codec": _codec,
    "weight decay": _coupled_decay,
}
"""Name of the switch that must find it -> the plan with the fault; layers of the model may change too."""
