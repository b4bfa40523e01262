"""Which detection was assigned to which person at one keypoint, and at what cost?

Rows are the keypoint's detections, columns the people so far. Colour is the distance of a detection's tag
from a person's mean tag, the number is the assignment cost. A square marks the assigned person; a detection
whose tag distance is not below the threshold starts a new person. Where a row is light in several columns
the tags do not decide, and the heatmap value does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.capabilities import Groups
from workbench.core.inspector import Inspector, Needs
from workbench.core.report import Report, counted, rows
from workbench.figures import FINDING_COLOUR, SEQUENTIAL, new_figure
from workbench.inspectors.grouping.replay import LAST, Params, Replay, replayed

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Run
    from workbench.decoding.grouping import JointStep

# Corners of a cell around its centre, inside its neighbours' gaps; nan ends the line.
FRAME = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1], [np.nan, np.nan]], np.float32) * 0.47


@dataclass(frozen=True, eq=False)
class GroupingCosts(Report):
    """The assignment at one keypoint.

    Attributes:
        key: of the sample.
        keypoint: of the step.
        step: its number, from 1.
        steps: how many there are.
        values: of the detections, highest first.
        tags: of the detections, first value.
        means: first value of the candidates' mean tags.
        distances: of each detection's tag from each candidate's mean.
        costs: of each pair; empty where nothing had to be assigned.
        people: number (from 1) of the person that each detection belongs to; None where it was dropped.
        outcomes: ``joined``, ``new``, ``overwrote`` or ``dropped``.
        threshold: of tags.
    """

    key: str
    keypoint: str
    step: int
    steps: int
    values: Float[np.ndarray, " M"]
    tags: Float[np.ndarray, " M"]
    means: Float[np.ndarray, " G"]
    distances: Float[np.ndarray, "M G"]
    costs: Float[np.ndarray, "M G"]
    people: tuple[int | None, ...]
    outcomes: tuple[str, ...]
    threshold: float

    def summary(self) -> str:
        where = f"{self.keypoint}, step {self.step} of {self.steps}"
        if not len(self.values):
            return (
                f"{where}: no heatmap value exceeds the detection threshold, so no person gets this keypoint"
            )
        if not len(self.means):
            return f"{where}: no person exists yet, so each detection starts one ({len(self.values)} in all)"
        joined = sum(outcome == "joined" for outcome in self.outcomes)
        far = [self.distances[m, p - 1] for m, p in enumerate(self.people)
               if p is not None and self.outcomes[m] == "joined"]  # fmt: skip
        text = (
            f"{where}: {joined} of {counted(len(self.values), 'detection')} joined the "
            f"{counted(len(self.means), 'person', 'people')} so far"
        )
        if far:
            text += f"; largest tag distance {max(far):.2f} (threshold {self.threshold:g})"
        return text

    def plot(self) -> Figure:
        M, G = len(self.values), len(self.means)
        figure = new_figure(
            self.summary(), height=max(320, min(900, 170 + 30 * M)), showlegend=False,
            x="person so far (mean tag); number: cost, colour: tag distance",
            y="detection (tag, heatmap value)",
        )  # fmt: skip
        down = [f"{m + 1} (tag {t:.2f}, value {v:.2f}) {self._end(m)}"
                for m, (t, v) in enumerate(zip(self.tags, self.values, strict=True))]  # fmt: skip
        across = [f"{g + 1} ({mean:.2f})" for g, mean in enumerate(self.means)]
        if M and G:
            costs = [[f"{c:.1f}" for c in row] for row in self.costs] if self.costs.size else [[""] * G] * M
            figure.add_heatmap(
                z=self.distances.astype(np.float32), text=np.array(costs, object), colorscale=SEQUENTIAL,
                zmin=0, zmax=max(2 * self.threshold, 1e-3), reversescale=True,
                texttemplate="%{text}" if M * G <= 150 else None, xgap=2, ygap=2,
                colorbar={"title": {"text": "tag distance"}, "thickness": 12},
                hovertemplate="detection %{y}, person %{x}<br>distance %{z:.3f}<br>cost %{text}"
                              "<extra></extra>",
            )  # fmt: skip
        taken = [(p - 1, m) for m, p in enumerate(self.people) if p is not None and p <= G]
        # A frame around each cell, as large as the cell: a marker of fixed size would cross its number.
        marks = np.array(taken, np.float32).reshape(-1, 1, 2) + FRAME
        figure.add_scatter(x=marks[..., 0].ravel(), y=marks[..., 1].ravel(), mode="lines", hoverinfo="skip",
                           name="joined", line={"width": 3, "color": FINDING_COLOUR})  # fmt: skip
        figure.update_xaxes(
            tickvals=list(range(G)), ticktext=across, range=[-0.5, max(G, 1) - 0.5], showgrid=False
        )
        figure.update_yaxes(
            tickvals=list(range(M)), ticktext=down, range=[max(M, 1) - 0.5, -0.5], showgrid=False
        )
        return figure

    def _end(self, m: int) -> str:
        person = self.people[m]
        words = {"joined": "", "new": "new person", "overwrote": "replaced person", "dropped": "dropped"}
        word = words[self.outcomes[m]]
        return f"\u2192 {word}{'' if person is None else f' {person}'}" if word else ""

    def table(self) -> list[dict[str, Any]]:
        numbers = range(1, len(self.values) + 1)
        named = {f"distance_to_person_{g + 1}": self.distances[:, g] for g in range(len(self.means))}
        found = rows(detection=numbers, value=self.values, tag=self.tags, outcome=self.outcomes,
                     person=self.people, **named)  # fmt: skip
        return found or [{"detection": None, "value": None, "tag": None, "outcome": None, "person": None}]


def compute(run: Run, params: Params) -> GroupingCosts:
    """The assignment at the requested step; by default the step with the largest joined tag distance."""
    replay = replayed(run, params)
    number = _farthest(replay) if params.step in ("", LAST) else replay.shown
    step = replay.steps[number - 1]
    G = len(step.means)
    return GroupingCosts(
        key=replay.key,
        keypoint=replay.name(step),
        step=number,
        steps=len(replay.steps),
        values=step.values,
        tags=step.tags[:, 0],
        means=step.means[:, 0],
        distances=step.distances.reshape(len(step.values), G),
        costs=step.costs[:, :G],
        people=tuple(None if p is None else p + 1 for p in step.people),
        outcomes=step.outcomes,
        threshold=replay.settings.tag_threshold,
    )


def _farthest(replay: Replay) -> int:
    """Number of the step with the largest tag distance that was joined; 1 where none was joined."""

    def reach(step: JointStep) -> float:
        joined = replay.joined(step)
        known = joined[np.isfinite(joined)]
        return float(known.max()) if len(known) else -1.0

    return 1 + int(np.argmax([reach(step) for step in replay.steps]))


INSPECTOR = Inspector(
    "Grouping costs",
    Params,
    compute,
    needs=Needs(outputs=("tags",), capability=Groups),
    mirrored=True,
    order=50,
)
