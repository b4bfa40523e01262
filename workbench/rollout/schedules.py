"""Which way of teaching closes the gap between reading the truth and reading its own answers?

Copies of one model, from the same first weights, learn the same samples; only the share of true tokens falls
differently. PCK is measured as the trainer does, in both modes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures import QUIET_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.records import Sample
from workbench.report import Report, rows
from workbench.training.scheduled_sampling import Kind
from workbench.training.sequences import TaughtSequence, Teaching
from workbench.training.settings import Settings
from workbench.training.trainer import Trainer

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

KINDS: tuple[Kind, ...] = ("teacher", "linear", "sigmoid", "exponential")


@dataclass(frozen=True, eq=False)
class Schedules(Report):
    """What came of each schedule.

    Attributes:
        kinds: of scheduled sampling; ``teacher`` reads the truth always.
        loss: the last one.
        forced: PCK of the last training step.
        free: PCK of the last rollout.
        steps: of each run.
    """

    kinds: tuple[str, ...]
    loss: Float[np.ndarray, " S"]
    forced: Float[np.ndarray, " S"]
    free: Float[np.ndarray, " S"]
    steps: int

    def summary(self) -> str:
        best = int(np.argmax(self.free))
        told = ", ".join(f"{kind} {pck:.2f}" for kind, pck in zip(self.kinds, self.free, strict=True))
        return f"After {self.steps} steps {self.kinds[best]} is best free-running: PCK {told}"

    def plot(self) -> Figure:
        columns = [
            Bars("PCK, free-running", self.free, RUN_COLOURS[0], span=(0, 1.05)),
            Bars("PCK, as taught", self.forced, QUIET_COLOUR, span=(0, 1.05)),
        ]
        return bars_figure(self.summary(), list(self.kinds), columns)

    def table(self) -> list[dict[str, Any]]:
        return rows(schedule=self.kinds, loss=self.loss, pck_train=self.forced, pck=self.free)


def compare(
    model: Any, samples: Sequence[Sample], settings: Settings, kinds: Sequence[Kind] = KINDS
) -> Schedules:
    """Train a copy of the model with each schedule; the model itself stays as it is.

    Args:
        model: a sequence model that counts its training steps (a buffer ``taught``), as cape does.
        samples: with truth.
        settings: of every run.
        kinds: which schedules.

    Raises:
        ValueError: the model counts no steps, or the samples do not fit it.
    """
    if not hasattr(model.module, "taught"):
        raise ValueError("schedules: expected a network with a buffer 'taught' that counts training steps")
    ends = []
    for kind in kinds:
        # Two thirds, so that the last third settles on what is read at the end.
        teaching = Teaching(kind, max(1, 2 * settings.steps // 3))
        trainer = Trainer(TaughtSequence(copy.deepcopy(model), teaching), samples, settings)
        row: dict[str, Any] = {}
        for _ in range(settings.steps):
            row = trainer.step()
        ends.append((row["loss"], row["pck_train"], row["pck"]))
    loss, forced, free = np.array(ends, float).T
    return Schedules(tuple(kinds), loss, forced, free, settings.steps)
