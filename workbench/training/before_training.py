"""What is wrong with a network, its targets and its input that no training is needed to see?

One step is gone
through forward and back with first weights; the model is as before afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, DecodeOptions, Outputs, PoseModel, Sample
from workbench.core.capabilities import HasObjective
from workbench.core.geometry import apply, inverse
from workbench.core.hooks import entering, modes, recording
from workbench.training import measures
from workbench.training.checks import (
    dead_text,
    decoder_text,
    frozen_text,
    input_text,
    mode_text,
    peak_text,
    scale_text,
    unlearned_text,
)
from workbench.training.model_state import ModelState as Kept
from workbench.training.objectives import objective_for
from workbench.training.passes import seeded
from workbench.training.plan import Plan
from workbench.training.planned import PlannedModel as Planned
from workbench.training.trainer import batch_target, checked, checked_device
from workbench.training.verdict import Evidence

if TYPE_CHECKING:
    pass


def before_training(
    model: PoseModel, samples: Sequence[Sample], plan: Plan, device: str = "cpu"
) -> tuple[Evidence, ...]:
    """Everything that is wrong before the first step.

    Args:
        model: as `trainable` gave it, with first weights; as before afterwards.
        samples: with truth.
        plan: of the attempt.
        device: where it will be trained.

    Raises:
        ValueError: the samples or the device cannot be trained with, as Trainer says; or the outputs have
            another shape than the codec says.
    """
    import torch

    checked(model, samples)
    checked_device(model, plan.settings, device, plan.changes() is not None)
    first = Kept(model)
    planned = Planned(model, plan)
    module = planned.module.to(device)
    try:
        with seeded(plan.settings.seed, device):
            batch = planned.prepare(samples)
            batch = dataclasses.replace(batch, pixels=batch.pixels.to(device), samples=tuple(samples))
            rectifiers = measures.rectifiers(module)
            module.train()
            with (
                entering(module) as trained,
                modes(module) as flags,
                recording(module, rectifiers, rectifiers) as activations,
            ):
                outputs = planned.forward(batch)
            unlearned = _gradients(planned, outputs, batch, plan, device)
            module.eval()
            with torch.no_grad(), entering(module) as used:
                planned.forward(batch)
            dead = dead_text(activations)
            found = [
                (input_text(trained[0], used[0]) if trained and used else "", True),
                *unlearned,
                # What is dead passes no gradient either.
                # Where a config's factors freeze it, a switch of the bisection measures what they cost.
                ("" if dead else frozen_text(module, plan.settings.groups), not _slowed(plan)),
                (dead, True),
                *_targets(planned, batch, plan, device),
            ]
    finally:
        first.put_back()
        module.eval()
    remarks = (scale_text(trained[0]) if trained else "", mode_text(module, flags))
    return (
        *(Evidence(text, decides=decides) for text, decides in found if text),
        *(Evidence(text, remark=True) for text in remarks if text),
    )


def _slowed(plan: Plan) -> bool:
    return any(rate != 1 for rate, _ in plan.settings.groups.values())


def _gradients(
    planned: Planned, outputs: Outputs, batch: Batch, plan: Plan, device: str
) -> list[tuple[str, bool]]:
    """A backward pass; what the loss leaves out."""
    import torch

    own = planned.objective if isinstance(planned, HasObjective) else None
    target = None if planned.codec is None else batch_target(batch, planned.codec, device)
    held = [t for t in (outputs.heatmaps, *(outputs.simcc or ())) if t is not None]
    for tensor in held:
        if tensor.requires_grad:
            tensor.retain_grad()
    if own is not None:
        parts = own(outputs, batch)
    elif target is not None and planned.codec is not None:
        _fitting(outputs, target)
        parts = objective_for(planned.codec, plan.settings.objective)(outputs, target)
    else:
        return []
    loss = torch.stack(list(parts.values())).sum()
    if loss.requires_grad:
        loss.backward()
    # A hard-example loss leaves easy keypoints out on purpose.
    if target is None or plan.settings.objective.endswith("ohkm") or batch.extra.get("people"):
        return []
    # Target weights are 0 outside the crop and where nothing is labelled.
    labelled = target.weights.cpu().numpy() > 0
    gradients = [t.grad for t in held if t.grad is not None]
    if not gradients:
        return []
    text = unlearned_text(gradients[0], labelled, planned.skeleton.keypoints)
    return [(text, True)]


def _fitting(outputs: Outputs, target: Any) -> None:
    """Refuse targets of another shape than the outputs.

    Raises:
        ValueError: with both shapes.
    """
    for name, given, wanted in (
        ("heatmaps", (outputs.heatmaps,), (target.heatmaps,)),
        ("SimCC vectors", outputs.simcc or (None,), target.simcc or (None,)),
    ):
        for one, other in zip(given, wanted, strict=False):
            if one is not None and other is not None and one.shape[2:] != other.shape[2:]:
                turned = " (height and width exchanged?)" if one.shape[2:] == other.shape[2:][::-1] else ""
                raise ValueError(
                    f"overfit: the network gives {name} of {tuple(one.shape[2:])}, its codec says "
                    f"{tuple(other.shape[2:])}{turned}: give the codec the network's own output_size, "
                    "(height, width)"
                )


def _targets(planned: Any, batch: Batch, plan: Plan, device: str) -> list[tuple[str, bool]]:
    """Sigma against the cells, and what the decoder makes of perfect targets."""
    codec = planned.codec
    if codec is None:
        return []
    target = batch_target(batch, codec, device)
    labelled = target.weights.cpu().numpy() > 0
    written = target.heatmaps if target.heatmaps is not None else (target.simcc or (None,))[0]
    cell = codec.input_size[0] / codec.output_size[0]
    # The peak of a keypoint at the very edge lies outside.
    within = labelled & _within(batch, cell)
    found = []
    if written is not None and not codec.normalized:
        found.append((peak_text(written, within, codec.sigma, codec.output_size), False))
    outputs = Outputs(heatmaps=target.heatmaps, simcc=target.simcc)
    predictions = planned.decode(outputs.detach(), batch, DecodeOptions())
    read, truth, sides = [], [], []
    for n, sample in enumerate(batch.samples):
        back, inside = inverse(batch.to_image[n]), within[n]
        points, true = (
            apply(back, np.asarray(p, float)[:, :2]) for p in (predictions[n].keypoints, sample.truth)
        )
        read.append(points[inside])
        truth.append(true[inside])
        x0, y0, x1, y1 = sample.box
        sides.append(
            np.full(
                int(inside.sum()), max(x1 - x0, y1 - y0) / abs(np.linalg.det(batch.to_image[n][:, :2])) ** 0.5
            )
        )
    if read and sum(map(len, read)):
        text = decoder_text(np.concatenate(read), np.concatenate(truth), cell, np.concatenate(sides))
        # With a codec of the config's pipeline the bisector's own switch measures what it costs.
        found.append((text, plan.codec is None))
    return found


def _within(batch: Batch, margin: float) -> np.ndarray:
    """[N, K]: keypoints that lie this far inside the crop, input pixels."""
    H, W = batch.pixels.shape[-2:]
    found = []
    for affine, sample in zip(batch.to_image, batch.samples, strict=True):
        true = apply(inverse(affine), np.asarray(sample.truth, float)[:, :2])
        found.append(((true >= margin) & (true < (W - margin, H - margin))).all(1))
    return np.stack(found)
