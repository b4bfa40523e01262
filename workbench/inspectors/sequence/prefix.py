"""How many ground-truth tokens does a rollout need before it finds the remaining keypoints?

At k = 0 the model is free-running, at k = K teacher-forced. A curve that rises early means that the first
steps are wrong; one that rises evenly means that errors accumulate; a flat one means that the tokens before
a step do not matter and the error has another cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import Run
from workbench.core.capabilities import RollsOut
from workbench.core.inspector import Inspector, Needs, Range
from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, new_figure
from workbench.inspectors.sequence import rollout
from workbench.inspectors.sequence.rollout import NOTHING_COUNTS, PckParams, granularity

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Params(PckParams):
    """Parameters.

    Attributes:
        threshold: PCK threshold, a share of the normaliser; .2 in MP-100.
        normaliser: what distances are divided by.
        points: largest number of prefix lengths; both ends are always included.
    """

    points: Annotated[int, Range(2, 69, 1)] = 10


@dataclass(frozen=True, eq=False)
class Prefix(Report):
    """PCK by the number of true tokens at the beginning (prefix).

    Attributes:
        k: length of the prefix.
        pck: over all keypoints.
        pck_after: over the keypoints after the prefix; nan where none is left.
        rule: in words.
        steps_of_pck: the possible values of PCK.
    """

    k: Int[np.ndarray, " P"]
    pck: Float[np.ndarray, " P"]
    pck_after: Float[np.ndarray, " P"]
    rule: str
    steps_of_pck: str

    @property
    def curve(self) -> list[dict[str, Any]]:
        """One row per prefix length, as on the command line."""
        return rows(k=self.k, pck=self.pck, pck_after=self.pck_after)

    @property
    def half(self) -> int:
        """The shortest prefix that gives half of the gain."""
        low, high = self.pck[0], self.pck[-1]
        return int(self.k[np.argmax(self.pck >= low + (high - low) / 2)])

    def summary(self) -> str:
        low, high = self.pck[0], self.pck[-1]
        if np.isnan(low):
            return f"Not measurable: {NOTHING_COUNTS}"
        start = f"PCK is {low:.2f} free-running and {high:.2f} with every token true"
        if low > 1 - 1e-9:
            return f"{start}: no true token is needed ({self.rule})"
        if np.ptp(self.pck) < 1e-9:
            return f"{start}: it does not depend on the length of the true prefix ({self.rule})"
        if high - low < 1e-9:
            least = f"{self.pck.min():.2f} and {self.pck.max():.2f}"
            return (
                f"{start}: true tokens do not help; with a part of them PCK is between {least} ({self.rule})"
            )
        return (
            f"{start}; the first {self.half} of {self.k[-1]} true tokens give half of the gain ({self.rule})"
        )

    def plot(self) -> Figure:
        figure = new_figure(self.summary(), x="true tokens at the beginning (k)", y="PCK")
        for name, values, ink in (
            ("all keypoints", self.pck, FINDING_COLOUR),
            ("keypoints after the prefix", self.pck_after, QUIET_COLOUR),
        ):
            figure.add_scatter(x=self.k.astype(np.float32), y=values.astype(np.float32), name=name,
                               mode="lines+markers", line={"color": ink},
                               hovertemplate="k %{x}<br>PCK %{y:.2f}")  # fmt: skip
        return figure.update_yaxes(range=[-0.02, 1.05])

    def table(self) -> list[dict[str, Any]]:
        return self.curve


def compute(run: Run, params: Params) -> Prefix:
    """One rollout for each prefix length."""
    rule = params.rule
    rollout.sequence_model(run)
    K = len(run.model.skeleton)
    tried = np.unique(np.linspace(0, K, min(params.points, K + 1)).round().astype(int))
    pck, after = [], []
    for k in tried:
        errors = rule.errors(run, rollout.points_of(run, rollout.free_running(run, given=int(k))))
        pck.append(rule.pck(errors))
        after.append(rule.pck(errors[:, k:]) if k < K else np.nan)
    return Prefix(tried, np.array(pck), np.array(after), rule.text(), granularity(run))


INSPECTOR = Inspector("Gold prefix", Params, compute, needs=Needs(capability=RollsOut, truth=True), order=20)
