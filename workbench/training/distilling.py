"""How does a student learn from a teacher, and does it learn maps or only their mean?

Source: the idea of Zhang et al., Fast Human Pose Estimation, CVPR 2019: the teacher's heatmaps as targets.
Weighting the foreground is what answers a student that fits the background and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import Batch, DecodeOptions, Outputs, PoseModel, Prediction, Sample, Skeleton
from workbench.training.sequences import trainable

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(eq=False)
class Distilled:
    """A student as the Trainer wants it: the teacher's maps are its truth.

    Attributes:
        student: trained; top-down or bottom-up.
        teacher: asked once for every batch, never trained. Sees the student's own input.
        foreground: a cell counts 1 + foreground x the teacher's value; 0 is the plain error.
    """

    student: Any
    teacher: PoseModel
    foreground: float = 0.0

    def __post_init__(self) -> None:
        if self.student.skeleton.keypoints != self.teacher.skeleton.keypoints:
            raise ValueError(
                f"distillation: the student predicts {self.student.skeleton.name}, the teacher "
                f"{self.teacher.skeleton.name}; expected the same keypoints"
            )
        self.student = trainable(self.student)

    @property
    def module(self) -> nn.Module:
        """The student's network."""
        return self.student.module

    @property
    def skeleton(self) -> Skeleton:
        """The student's own."""
        return self.student.skeleton

    @property
    def taps(self) -> Mapping[str, str]:
        """The student's own."""
        return self.student.taps

    @property
    def codec(self) -> None:
        """The teacher writes the targets."""
        return None

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """The student's batch, with what the teacher says of it under ``extra["teacher"]``.

        Raises:
            ValueError: the teacher would be given another input, or has no heatmaps.
        """
        import torch

        batch = self.student.prepare(samples)
        theirs = self.teacher.prepare(batch.extra.get("rows", samples)).pixels
        if theirs.shape != batch.pixels.shape or not torch.allclose(theirs, batch.pixels.to(theirs.device)):
            raise ValueError(
                f"distillation: the student's input is {list(batch.pixels.shape)}, the teacher's "
                f"{list(theirs.shape)}; expected the same size, crop, mean and deviation, because both see "
                "one input"
            )
        module = self.teacher.module
        was_training = module.training
        module.eval()
        try:
            with torch.no_grad():
                maps = self.teacher.forward(batch).heatmaps
        finally:
            module.train(was_training)
        if maps is None:
            raise ValueError("distillation: expected a teacher with heatmaps; this one gives none")
        return dataclasses.replace(batch, extra={**batch.extra, "teacher": maps.detach().float()})

    def forward(self, batch: Batch) -> Outputs:
        """The student's pass."""
        return self.student.forward(batch)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """The student's own reading."""
        return self.student.decode(outputs, batch, options)

    def objective(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error to the teacher's maps, weighted by them where asked for.

        Raises:
            ValueError: the maps are of different sizes.
        """
        from workbench.training.objectives import Target, mse

        teacher = batch.extra["teacher"]
        if outputs.heatmaps is None or outputs.heatmaps.shape != teacher.shape:
            given = None if outputs.heatmaps is None else tuple(outputs.heatmaps.shape)
            raise ValueError(f"distillation: the student gives {given}, the teacher {tuple(teacher.shape)}")
        full = dataclasses.replace(outputs, heatmaps=outputs.heatmaps.float())
        # A teacher's maps go below zero; no cell may count less than background.
        ones = teacher.new_ones(teacher.shape[:2])
        squared = mse(full, Target(ones, heatmaps=teacher))["heatmap"]
        if self.foreground:
            weight = self.foreground * teacher.clamp(min=0)
            squared = squared + (weight * (full.heatmaps - teacher) ** 2).mean()
        return {"teacher": squared}
