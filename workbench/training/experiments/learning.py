"""How does an arm learn? From small batches of jittered crops, the same for every arm, by the trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Sample
from workbench.models.text_fusion import TextFusion
from workbench.training.experiments.arms import Arm
from workbench.training.settings import Settings
from workbench.training.trainer import Trainer

if TYPE_CHECKING:
    from workbench.data import PoseSet

# Shift in shares of the box and scale, as make_demo's recipe has them.
SHIFT, SCALE = 0.08, (0.8, 1.25)
# Samples that the trainer measures itself on; the experiment judges on others.
WATCHED = 4


@dataclass(frozen=True)
class Course:
    """How long and how fast every arm of an experiment learns.

    Attributes:
        steps: of the optimizer.
        batch: crops in one step.
        learning_rate: the peak, with warm-up over a tenth of the steps and a cosine to zero.
        seed: of the necks' first weights, of the crops and of everything random in a step.
        measures: how often on the way AP is measured.
    """

    steps: int = 300
    batch: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    measures: int = 3

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 2), ("measures", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"experiment: {name} must be at least {least}, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"experiment: learning rate must be above 0, got {self.learning_rate}")

    def settings(self, arm: Arm) -> Settings:
        """The trainer's settings."""
        return Settings(
            steps=self.steps,
            learning_rate=self.learning_rate,
            weight_decay=0.05,
            schedule="cosine",
            warm_up=self.steps // 10,
            factors=dict(arm.factors),
            clip=35.0,
            seed=self.seed,
            measure_every=self.steps,
        )

    def measured_at(self) -> tuple[int, ...]:
        """Steps after which AP is measured; the last one is among them."""
        return tuple(
            sorted({max(1, round(self.steps * m / self.measures)) for m in range(1, self.measures + 1)})
        )


def learned(
    model: TextFusion,
    arm: Arm,
    pose_set: PoseSet,
    indices: Sequence[int],
    course: Course,
    on_step: Callable[[int, dict[str, Any]], None],
    begun: Callable[[Trainer], None] = lambda _: None,
    after_step: Callable[[Trainer], None] = lambda _: None,
) -> None:
    """Train a model in place.

    Args:
        model: of the arm.
        arm: its learning rates.
        pose_set: where the crops come from.
        indices: of the instances that may be learned from.
        course: how.
        on_step: called after each step with its number and its row; may raise to end the training.
        begun: is given the trainer before the first step, and may put it to a snapshot.
        after_step: is given the trainer after each step, when on_step has returned.

    Raises:
        ValueError: nothing to learn from.
        Diverged: the loss is not finite.
    """
    pool = list(indices)
    if not pool:
        raise ValueError(f"experiment: {pose_set.name} has no labelled instance to learn from")

    def batch(_: Sequence[Sample], generator: np.random.Generator) -> list[Sample]:
        chosen = generator.choice(len(pool), course.batch, replace=len(pool) < course.batch)
        return [jittered(pose_set.sample(pool[i]), generator) for i in chosen]

    watched = [pose_set.sample(i) for i in pool[:WATCHED]]
    device = model.top_down.device or "cpu"
    trainer = Trainer(model, watched, course.settings(arm), augment=batch, device=device)
    begun(trainer)
    for step in range(trainer.step_number + 1, course.steps + 1):
        on_step(step, trainer.step())
        after_step(trainer)


def jittered(sample: Sample, generator: np.random.Generator) -> Sample:
    """The same instance in a box that is moved and scaled; image and truth are untouched."""
    x0, y0, x1, y1 = sample.box
    half = np.array([x1 - x0, y1 - y0]) / 2 * generator.uniform(*SCALE)
    centre = np.array([x0 + x1, y0 + y1]) / 2 + generator.uniform(-SHIFT, SHIFT, 2) * 2 * half
    low, high = centre - half, centre + half
    return dataclasses.replace(sample, box=(float(low[0]), float(low[1]), float(high[0]), float(high[1])))
