"""A model inside a plan, and the session that trains it so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.core import Answers, Batch, Codec, DecodeOptions, Outputs, PoseModel, Prediction, Sample
from workbench.core.wrapping import Wrapper
from workbench.training.plan import Plan, prepare_layers
from workbench.training.planned import same_attempt
from workbench.training.sequences import trainable
from workbench.training.session import Breakpoint, Session
from workbench.training.trainer import Trainer


@dataclass(frozen=True, eq=False)
class Planned(Wrapper):
    """A model whose layers are in the state that the plan asks for and whose codec is the plan's.

    Attributes:
        model: the one that is trained.
        plan: of the attempt.
    """

    model: PoseModel
    plan: Plan
    withheld = (Answers,)  # goes past `forward`

    @property
    def codec(self) -> Codec | None:
        """The plan's codec, or the model's."""
        return self.plan.codec or self.model.codec

    def forward(self, batch: Batch) -> Outputs:
        """The model's outputs with the layers in the plan's state."""
        prepare_layers(self.module, self.plan)
        return self.model.forward(batch)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Keypoints in image pixels, read as the plan says."""
        if self.plan.reading is None:
            return self.model.decode(outputs, batch, options)
        from workbench import decoding
        from workbench.core import geometry

        points, scores = decoding.decode(outputs, self.plan.reading, options)
        return tuple(
            Prediction(geometry.apply(a, p), s)
            for a, p, s in zip(batch.to_image, points, scores, strict=True)
        )


def new_session(
    model: PoseModel,
    samples: Sequence[Sample],
    plan: Plan,
    *,
    folder: Path | None = None,
    pause_at: Breakpoint | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    device: str = "cpu",
) -> Session:
    """A session that follows a plan; the model is trained in place.

    Raises:
        ValueError: the samples or the plan do not fit the model, see Trainer; or the folder is another
            attempt's.
    """
    model = trainable(model, plan.settings.steps)
    trainer = Trainer(Planned(model, plan), samples, plan.settings, augment=plan.changes(), device=device)
    notes = [] if folder is None else same_attempt(folder, model, samples, plan)
    session = Session(trainer, folder, pause_at, on_row)
    session.notes[:0] = notes
    return session
