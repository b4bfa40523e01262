"""Plan of an overfit attempt: everything around the bare training loop, piece by piece."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Codec, Sample
from workbench.training.settings import Settings
from workbench.training.trainer import Augment

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Plan:
    """An overfit attempt without its model: every piece can be removed by a switch (see switches.py).

    Attributes:
        settings: of the loop.
        augment: changes image and ground truth together before every step.
        flip: mirrors some of the images before every step.
        codec: encodes the targets; None uses the model's own.
        reading: decodes the outputs; None leaves that to the model.
        dropout: dropout layers act as the model defines them; False turns them off.
        normalisation: batch normalisation uses batch statistics in training and running statistics in
            evaluation; False uses batch statistics in both, so that both compute the same.
        norm_eval: batch normalisation is in evaluation mode while the network is trained.
    """

    settings: Settings = field(default_factory=Settings)
    augment: Augment | None = None
    flip: Augment | None = None
    codec: Codec | None = None
    reading: Codec | None = None
    dropout: bool = True
    normalisation: bool = True
    norm_eval: bool = False

    def changes(self) -> Augment | None:
        """Augmentation and flip as one function; None when there is neither."""
        steps = [step for step in (self.augment, self.flip) if step]
        if not steps:
            return None

        def both(samples: Sequence[Sample], generator: np.random.Generator) -> Sequence[Sample]:
            for step in steps:
                samples = step(samples, generator)
            return samples

        return both

    def with_settings(self, **changes: object) -> Plan:
        """The plan with other values of its settings."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))  # type: ignore[arg-type]


def drops(part: nn.Module) -> bool:
    """Whether a layer is dropout of any kind with a rate above 0 (DropPath is no torch class)."""
    rate = getattr(part, "p", None)
    rate = getattr(part, "drop_prob", rate)
    return type(part).__name__.startswith("Drop") and isinstance(rate, float) and rate > 0


def normalises(part: nn.Module) -> bool:
    """Whether a layer is batch normalisation."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return isinstance(part, _BatchNorm)


def prepare_layers(module: nn.Module, plan: Plan) -> None:
    """Set the mode of layers as the plan wants it; to be called before every forward pass.

    Args:
        module: the network; changed in place.
        plan: dropout, normalisation and norm_eval.
    """
    if plan.dropout and plan.normalisation and not plan.norm_eval:
        return  # nothing to change, and visiting every layer costs time at every step
    for part in module.modules():
        if not plan.dropout and drops(part):
            part.eval()
        if plan.norm_eval and normalises(part):
            part.eval()
        elif not plan.normalisation and normalises(part):
            part.train()
