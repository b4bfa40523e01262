"""Faults that real pipelines have had, planted on purpose: the bisection is tested by finding these."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from workbench.core import PoseModel, Sample
from workbench.core.capabilities import HasDefects
from workbench.training.plan import Plan
from workbench.training.sequences import TaughtSequence, Teaching


def mirror_image_alone(samples: Sequence[Sample], generator: np.random.Generator) -> Sequence[Sample]:
    """Mirror the pixels within the box and leave the ground truth unchanged.

    Every time, not half of the time: one image can be memorised in both its forms, which would hide the
    fault.

    Args:
        samples: unchanged.
        generator: not used.
    """
    return [_changed(sample, lambda part: part[:, ::-1]) for sample in samples]


def turn_image_alone(samples: Sequence[Sample], generator: np.random.Generator) -> Sequence[Sample]:
    """Rotate the pixels by 90, 180 or 270 degrees within the box and leave the ground truth unchanged.

    Args:
        samples: unchanged.
        generator: draws the angle.
    """
    quarters = generator.integers(1, 4, len(samples))
    return [_changed(s, partial(np.rot90, k=int(k))) for s, k in zip(samples, quarters, strict=True)]


def _changed(sample: Sample, change: Callable[[np.ndarray], np.ndarray]) -> Sample:
    """The sample with the largest square at its box's corner changed: a rotated square keeps its shape."""
    H, W = sample.image.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in sample.box)
    left, top = max(x0, 0), max(y0, 0)
    side = min(min(x1, W) - left, min(y1, H) - top)
    place = slice(top, top + side), slice(left, left + side)
    image = sample.image.copy()
    image[place] = change(sample.image[place])
    return dataclasses.replace(sample, image=image)


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
        part.momentum = 0.0  # running statistics never change: evaluation normalises by other numbers
    return plan


def _codec(plan: Plan, model: PoseModel) -> Plan:
    if model.codec is None:
        raise ValueError("planting a codec fault: this model declares no codec")
    # Targets for an input half as large again: they are learned, and then decoded in the wrong places.
    H, W = model.codec.input_size
    wrong = dataclasses.replace(
        model.codec, input_size=(H * 3 // 2, W * 3 // 2), split_ratio=model.codec.split_ratio / 1.5
    )
    return dataclasses.replace(plan, codec=wrong)


def _coupled_decay(plan: Plan, model: PoseModel) -> Plan:
    # Adam with L2 in the gradient, far too strong. AdamW's decoupled decay hardly affects a network whose
    # normalisation layers undo every scale.
    return plan.with_settings(optimizer="adam", weight_decay=1e3)


PLANTED: dict[str, Callable[[Plan, PoseModel], Plan]] = {
    "augmentation": lambda plan, _: dataclasses.replace(plan, augment=turn_image_alone),
    "flip": lambda plan, _: dataclasses.replace(plan, flip=mirror_image_alone),
    "ema": lambda plan, _: plan.with_settings(ema=0.9999),
    "dropout": _dropout,
    "normalisation": _frozen_statistics,
    "codec": _codec,
    "weight decay": _coupled_decay,
    "uncleared gradients": lambda plan, _: plan.with_settings(keep_gradients=True),
    "clip": lambda plan, _: plan.with_settings(clip=1e-7, optimizer="sgd"),
    "learning rate": lambda plan, _: plan.with_settings(learning_rate=1e-7),
}
"""For any kind of model. Name of the switch that must find it -> the plan with the fault; layers of the model
may change too."""


def _teacher_forcing(plan: Plan, model: Any) -> Plan:
    _sequence(model).teaching = Teaching()
    return plan


def _defect(name: str) -> Callable[[Plan, Any], Plan]:
    def plan_with(plan: Plan, model: Any) -> Plan:
        network: Any = _sequence(model).module
        if not isinstance(network, HasDefects):
            raise ValueError(
                "this fault is a known defect of other code; the network has no such switch (see the "
                "capability HasDefects)"
            )
        network.defects = dataclasses.replace(network.defects, **{name: True})
        return plan

    return plan_with


def _sequence(model: Any) -> TaughtSequence:
    if not isinstance(model, TaughtSequence):
        raise ValueError("this fault belongs to sequence models, which find keypoints one after the other")
    return model


SEQUENCE_PLANTED: dict[str, Callable[[Plan, Any], Plan]] = {
    "teacher forcing": _teacher_forcing,
    "support mask": _defect("support_mask_inverted"),
    "support": _defect("support_discarded"),
    "pck coordinates": _defect("pck_in_input_pixels"),
    "loss scale": _defect("logged_loss_scaled"),
}
"""For sequence models. Name of the switch that must find it -> the plan with the fault; the model is changed
in place."""

FAULTS: dict[str, Callable[[Plan, Any], Plan]] = {**PLANTED, **SEQUENCE_PLANTED}
"""All faults by the name of the switch that must find them."""


def planted(fault: str, plan: Plan, model: Any) -> Plan:
    """The plan with a fault.

    Args:
        fault: a key of FAULTS; "" plants nothing.
        plan: without it.
        model: its view for training; layers and teaching may change in place.

    Raises:
        ValueError: no such fault, or this network has no place for it.
    """
    if not fault:
        return plan
    if fault not in FAULTS:
        raise ValueError(f"fault to plant: expected one of {', '.join(FAULTS)}; got {fault!r}")
    return FAULTS[fault](plan, model)
