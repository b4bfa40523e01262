"""How far do the keypoints move when the condition, a part of it or the refiner is changed, one at a time?

Every row is one pass with one intervention. A row that moves nothing names a part that does not reach the
output along that path; a condition that can be zeros, noise or another image's without moving anything is not
read. Movements are shares of the box, against the row that each is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.capabilities import Conditioned
from workbench.core.conditioning import REFERENCE, Switch
from workbench.core.inspector import Inspector, Needs
from workbench.core.report import Report, rows
from workbench.core.run import run as forward
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import Switched, moved, switches_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run

# Keypoints lie on a grid of half a pixel: less than this share of a box is no movement.
NOTHING = 1e-6
INKS = {
    "path": RUN_COLOURS[0], "neck": RUN_COLOURS[1], "refiner": FINDING_COLOUR, "text": RUN_COLOURS[2],
    "condition": RUN_COLOURS[2],
}  # fmt: skip


@dataclass(frozen=True)
class Params:
    """No controls: all rows are shown."""


@dataclass(frozen=True, eq=False)
class Switches(Report):
    """One row per intervention.

    Attributes:
        names: what is changed or taken away.
        against: the row that each is compared with.
        kinds: ``path``, ``neck``, ``refiner``, ``text`` or ``condition``.
        moved: mean movement of the keypoints, shares of the box.
        scores: mean keypoint score with the intervention.
        scores_against: mean keypoint score of what it is compared with.
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
            f"'{self.names[most]}' moves the keypoints most, by {100 * self.moved[most]:.1f} % of the box on "
            "average"
            if self.moved[most] > NOTHING
            else "No change moves any keypoint"
        )
        silent = [
            f"'{n}'"
            for n, m, s, a in zip(self.names, self.moved, self.scores, self.scores_against, strict=True)
            if m <= NOTHING and abs(s - a) <= NOTHING
        ]
        return f"{text}; no effect on keypoints and scores: {', '.join(silent)}" if silent else text

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
    """Run one pass for each switch.

    Raises:
        NotAvailable: the model declares no condition, or there is nothing to change.
    """
    found = switches_of(run.model, run.samples)
    batches: dict[tuple[Any, ...], Any] = {}
    passes = {s.name: forward(Switched(run.model, s, batches), run.samples) for s in found}
    changed = [s for s in found if s.name != REFERENCE]
    if len(run.samples) == 1:
        # A sample alone has no other one whose condition it could get: the row would say "no effect".
        changed = [s for s in changed if not _is_shuffle(s) or moved(passes[s.against], passes[s.name]).any()]
    if not changed:
        raise NotAvailable("conditioning: this model has one path, nothing can be changed or taken away")
    return Switches(
        names=tuple(s.name for s in changed),
        against=tuple(s.against for s in changed),
        kinds=tuple(s.kind for s in changed),
        moved=np.array([moved(passes[s.against], passes[s.name]).mean() for s in changed]),
        scores=np.array([passes[s.name].scores.mean() for s in changed]),
        scores_against=np.array([passes[s.against].scores.mean() for s in changed]),
    )


def _is_shuffle(switch: Switch) -> bool:
    return switch.kind in ("text", "condition") and switch.name.startswith("shuffled ")


INSPECTOR = Inspector("With and without", Params, compute, needs=Needs(capability=Conditioned), order=50)
