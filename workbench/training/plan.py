"""What surrounds the bare loop, piece by piece, so that each piece can be taken away.

A Plan is the whole of an overfit attempt but the model: settings, changes to the images, changes to the
layers, the codec. `SWITCHES` take one piece away each, in the order in which they are suspected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Codec, PoseModel, Sample
from workbench.training.settings import Settings
from workbench.training.trainer import Augment

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Plan:
    """An overfit attempt.

    Attributes:
        settings: of the loop.
        augment: changes image and truth together before every step.
        flip: mirrors some of the images before every step.
        codec: writes the targets; None takes the model's own.
        reading: reads the outputs; None leaves that to the model.
        dropout: layers drop as the model has them; False turns them off.
        normalisation: batch normalisation uses the batch in training and running statistics in evaluation;
            False uses the batch in both, so that both compute the same.
    """

    settings: Settings = field(default_factory=Settings)
    augment: Augment | None = None
    flip: Augment | None = None
    codec: Codec | None = None
    reading: Codec | None = None
    dropout: bool = True
    normalisation: bool = True

    def changes(self) -> Augment | None:
        """Augmentation and flip as one; None when there is neither."""
        steps = [step for step in (self.augment, self.flip) if step]
        if not steps:
            return None

        def both(samples: Sequence[Sample], generator: np.random.Generator) -> Sequence[Sample]:
            for step in steps:
                samples = step(samples, generator)
            return samples

        return both


@dataclass(frozen=True)
class Switch:
    """One piece that can be taken away.

    Attributes:
        name: for people and for `culprit`.
        why: what it does to a network that has to learn one image.
        present: whether a plan and a model have the piece at all.
        off: the plan without it; the model may change too.
        of_log: it changes nothing but what the model's own log says.
        times: steps of an attempt without it, in those of one with it.
    """

    name: str
    why: str
    present: Callable[[Plan, PoseModel], bool]
    off: Callable[[Plan, PoseModel], Plan]
    of_log: bool = False
    times: int = 1


STEP_LIMIT, LONGER = "step limit", 2


def _settings(plan: Plan, **changes: float) -> Plan:
    return dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, **changes))


def _reference(plan: Plan, model: PoseModel) -> Plan:
    """The model's own codec where the plan has another; else a codec known to work, to write and to read."""
    if plan.codec is not None:
        return dataclasses.replace(plan, codec=None, reading=None)
    codec = reference_codec(model.codec)
    return dataclasses.replace(plan, codec=codec, reading=codec)


def _longer(plan: Plan) -> Plan:
    # A schedule given step by step is stretched, as any other schedule is.
    rates = tuple(rate for rate in plan.settings.rates for _ in range(LONGER))
    settings = dataclasses.replace(plan.settings, steps=plan.settings.steps * LONGER, rates=rates)
    return dataclasses.replace(plan, settings=settings)


def _freed(plan: Plan) -> Plan:
    """Every parameter at the full rate, its weight decay as it was."""
    groups = {name: (1.0, decay) for name, (_, decay) in plan.settings.groups.items()}
    return dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, groups=groups))


def _undecayed(plan: Plan) -> Plan:
    groups = {name: (rate, 0.0) for name, (rate, _) in plan.settings.groups.items()}
    settings = dataclasses.replace(plan.settings, groups=groups, weight_decay=0.0)
    return dataclasses.replace(plan, settings=settings)


def _settled(plan: Plan) -> Plan:
    rate = plan.settings.learning_rate
    usual = USUAL_RATE / 10 <= rate <= USUAL_RATE * 10
    return _settings(plan, learning_rate=rate / 10 if usual else USUAL_RATE)


# What a network of any of these kinds learns an image with; see usual.py.
USUAL_RATE = 1e-3

# A norm this small is no recipe's: they have 0.1 (transformers) to 35.
TIGHT_CLIP = 0.05


SWITCHES: tuple[Switch, ...] = (
    Switch(
        "augmentation",
        "image and keypoints are not changed together, or the changes leave nothing to learn",
        lambda plan, _: plan.augment is not None,
        lambda plan, _: dataclasses.replace(plan, augment=None),
    ),
    Switch(
        "flip",
        "image and keypoints are not mirrored together",
        lambda plan, _: plan.flip is not None,
        lambda plan, _: dataclasses.replace(plan, flip=None),
    ),
    Switch(
        "ema",
        "the averaged weights that are evaluated are still near the first ones",
        lambda plan, _: plan.settings.ema > 0,
        lambda plan, _: _settings(plan, ema=0.0),
    ),
    Switch(
        "parameter groups",
        "factors on the learning rate (lr_mult) keep parts of it from learning",
        lambda plan, _: any(rate != 1 for rate, _ in plan.settings.groups.values()),
        lambda plan, _: _freed(plan),
    ),
    Switch(
        "schedule",
        "warm-up or schedule keep the learning rate too small in the steps there are; constant was tried",
        lambda plan, _: bool(plan.settings.rates) or plan.settings.warm_up >= plan.settings.steps / 2,
        lambda plan, _: dataclasses.replace(
            plan, settings=dataclasses.replace(plan.settings, rates=(), schedule="constant", warm_up=0)
        ),
    ),
    Switch(
        "clip",
        "gradients are cut to so little that the weights hardly move",
        lambda plan, _: 0 < plan.settings.clip < TIGHT_CLIP,
        lambda plan, _: _settings(plan, clip=0.0),
    ),
    # Before all that may slow a network down without being wrong: a healthy one that was given too few steps
    # may just so learn without its dropout, and its dropout would be blamed.
    Switch(
        STEP_LIMIT,
        f"it needs more steps than it was given; {LONGER} times as many were tried",
        lambda plan, _: True,
        lambda plan, _: _longer(plan),
        times=LONGER,
    ),
    Switch(
        "normalisation",
        "batch statistics in training, other running statistics in evaluation",
        lambda plan, model: plan.normalisation and any(_normalises(part) for part in model.module.modules()),
        lambda plan, _: dataclasses.replace(plan, normalisation=False),
    ),
    Switch(
        "dropout",
        "so much is dropped in training that what evaluation sees was never trained",
        lambda plan, model: plan.dropout and any(_drops(part) for part in model.module.modules()),
        lambda plan, _: dataclasses.replace(plan, dropout=False),
    ),
    Switch(
        "codec",
        "targets are written in another way than outputs are read, or their peaks cannot be learned",
        lambda plan, model: model.codec is not None,
        lambda plan, model: _reference(plan, model),
    ),
    Switch(
        "weight decay",
        "the weights shrink faster than the loss can make them grow",
        lambda plan, _: plan.settings.weight_decay > 0,
        lambda plan, _: _undecayed(plan),
    ),
    Switch(
        "learning rate",
        "the steps are too long to settle, or too short; a tenth was tried, or "
        f"{USUAL_RATE:g} where the rate is far from it",
        lambda plan, _: True,
        lambda plan, _: _settled(plan),
    ),
)


def reference_codec(codec: Codec | None) -> Codec:
    """A codec known to work for an output of this kind and size: what a recipe of that size would use.

    Heatmaps: sigma 2 cells at 64 cells and in proportion, as MSRA's recipes; SimCC: 5.66 bins per 512, as
    RTMPose's. Split ratio from the sizes themselves, decoder the plain one of the kind.
    """
    if codec is None:
        raise ValueError("reference codec: this model declares none")
    h, w = codec.output_size
    if codec.kind == "heatmap":
        sigma = max(1.0, round(2 * max(h, w) / 64))
        return dataclasses.replace(codec, sigma=(sigma, sigma), udp=False, decoder="quarter")
    ratio = w / codec.input_size[1]
    sigma = max(2.0, 5.66 * max(h, w) / 512)
    return dataclasses.replace(
        codec, split_ratio=ratio, sigma=(sigma, sigma), normalized=False, decoder="simcc"
    )


def _drops(part: nn.Module) -> bool:
    """Dropout of any kind that drops something, by the rate it carries (DropPath is no torch class)."""
    rate = getattr(part, "p", None)
    rate = getattr(part, "drop_prob", rate)
    return type(part).__name__.startswith("Drop") and isinstance(rate, float) and rate > 0


def _normalises(part: nn.Module) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    return isinstance(part, _BatchNorm)


def prepare_layers(module: nn.Module, plan: Plan) -> None:
    """Put layers into the state the plan wants; to be called before every forward pass."""
    if plan.dropout and plan.normalisation:
        return  # nothing is wanted of them, and looking at every layer costs time at every step
    for part in module.modules():
        if not plan.dropout and _drops(part):
            part.eval()
        if not plan.normalisation and _normalises(part):
            part.train()
