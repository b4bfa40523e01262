"""What moves on these samples when neck, text or refiner are taken away, one at a time?

Every row is one pass with interventions at named taps. A row that moves nothing names a part that does not
reach the answer along that way; text that can be zeros, noise or another species' without moving anything is
not read. Movements are told in shares of the box, against the way that the row stands under.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.capabilities import Conditioned, TakesText
from workbench.core.inspector import Inspector
from workbench.core.needs import Needs
from workbench.core.report import Report, rows
from workbench.core.run import run as forward
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import conditioned, moved
from workbench.inspectors.conditioning.variants import REFERENCE, Edited, variants_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run

# Keypoints lie on a grid of half a pixel: less than this share of a box is no movement.
NOTHING = 1e-6
INKS = {"path": RUN_COLOURS[0], "neck": RUN_COLOURS[1], "refiner": FINDING_COLOUR, "text": RUN_COLOURS[2]}


@dataclass(frozen=True)
class Params:
    """No knobs: the rows are all there are."""


@dataclass(frozen=True, eq=False)
class Switches(Report):
    """One row per intervention.

    Attributes:
        names: what is taken away.
        against: the row that each is measured against.
        kinds: ``path``, ``neck``, ``refiner`` or ``text``.
        moved: mean movement of the keypoints, shares of the box.
        scores: mean keypoint score with the intervention.
        scores_against: mean keypoint score of what it is measured against.
    """

    names: tuple[str, ...]
    against: tuple[str, ...]
    kinds: tuple[str, ...]
    moved: Float[np.ndarray, " V"]
    scores: Float[np.ndarray, " V"]
    scores_against: Float[np.ndarray, " V"]

    def summary(self) -> str:
        most = int(self.moved.argmax())
        text = (
            f"{self.names[most]} moves keypoints most, {100 * self.moved[most]:.1f} % of the box on average"
            if self.moved[most] > NOTHING
            else "No intervention moves any keypoint"
        )
        silent = [
            n
            for n, m, s, a in zip(self.names, self.moved, self.scores, self.scores_against, strict=True)
            if m <= NOTHING and abs(s - a) <= NOTHING
        ]
        return f"{text}; nothing changes with {', '.join(silent)}" if silent else text

    def plot(self) -> Figure:
        inks = [INKS[kind] for kind in self.kinds]
        notes = [f"against: {a}" for a in self.against]
        top = float(max(self.scores.max(), self.scores_against.max(), 0.1)) * 1.05
        columns = [
            Bars("keypoints moved (% of the box)", 100 * self.moved, inks, notes=notes),
            Bars("mean score with it", self.scores, inks, notes=notes, span=(0, top)),
            Bars("mean score of what it is compared with", self.scores_against, QUIET_COLOUR, notes=notes,
                 span=(0, top)),
        ]  # fmt: skip
        return bars_figure(self.summary(), self.names, columns)

    def table(self) -> list[dict[str, Any]]:
        return rows(
            name=self.names,
            against=self.against,
            kind=self.kinds,
            moved=self.moved,
            score=self.scores,
            score_against=self.scores_against,
        )


def compute(run: Run, params: Params) -> Switches:
    """One pass for each intervention.

    Raises:
        NotAvailable: the model reads no text, or there is nothing to take away.
    """
    model = conditioned(run.model)
    variants = variants_of(model)
    kept: dict[tuple[Any, ...], Any] = {}
    # Every model of the workbench is a Protocol; Edited answers all of it.
    passes = {v.name: forward(Edited.of(model, v, kept), run.samples) for v in variants}  # type: ignore[arg-type]
    changed = [v for v in variants if v.name != REFERENCE]
    if not changed:
        raise NotAvailable(
            "conditioning: this model gives its answers along one way, nothing can be taken away"
        )
    return Switches(
        names=tuple(v.name for v in changed),
        against=tuple(v.against for v in changed),
        kinds=tuple(v.kind for v in changed),
        moved=np.array([moved(passes[v.against], passes[v.name]).mean() for v in changed]),
        scores=np.array([passes[v.name].scores.mean() for v in changed]),
        scores_against=np.array([passes[v.against].scores.mean() for v in changed]),
    )


INSPECTOR = Inspector(
    "With and without",
    "What moves on these samples when neck, text or refiner are taken away, one at a time?",
    Params,
    compute,
    needs=Needs(capability=(Conditioned, TakesText)),
    order=50,
)
