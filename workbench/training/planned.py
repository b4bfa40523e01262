"""A model inside a plan, and the session that trains it so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workbench.core import DecodeOptions, Outputs, PoseModel, Sample
from workbench.training.attempted import same_attempt
from workbench.training.plan import Plan, prepare_layers
from workbench.training.sequences import trainable
from workbench.training.session import Breakpoint, Session
from workbench.training.trainer import Trainer


class Planned:
    """A model whose layers stand as the plan wants them and whose codec is the plan's."""

    def __init__(self, model: PoseModel, plan: Plan) -> None:
        self.module, self.skeleton, self.taps = model.module, model.skeleton, model.taps
        self.codec = plan.codec or model.codec
        self._model, self._plan = model, plan
        if hasattr(model, "objective"):
            self.objective = model.objective  # type: ignore[attr-defined]
        if hasattr(model, "logged"):
            self.logged = model.logged  # type: ignore[attr-defined]

    def prepare(self, samples: Sequence[Sample]) -> Any:
        return self._model.prepare(samples)

    def forward(self, batch: Any) -> Outputs:
        prepare_layers(self.module, self._plan)
        return self._model.forward(batch)

    def decode(self, outputs: Outputs, batch: Any, options: DecodeOptions) -> tuple:
        if self._plan.reading is None:
            return self._model.decode(outputs, batch, options)
        from workbench import decoding
        from workbench.core import Prediction, geometry

        points, scores = decoding.decode(outputs, self._plan.reading, options)
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
