"""How many true tokens must a rollout be given before it finds the rest?

At k = 0 the model runs freely, at k = K it is teacher-forced. A curve that jumps early says that the
beginning is what goes wrong; one that rises evenly says that errors add up step by step; a flat one says that
the tokens before a step do not matter, and the fault lies elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from workbench.core import Run
from workbench.core.capabilities import RollsOut
from workbench.core.inspector import Inspector, Range
from workbench.core.needs import Needs
from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, new_figure
from workbench.inspectors.sequence import rollout
from workbench.inspectors.sequence.rollout import NOTHING_COUNTS, Normaliser, PckRule, granularity

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Params:
    """Knobs.

    Attributes:
        threshold: of PCK, share of the normaliser; .2 in MP-100.
        normaliser: what distances are divided by.
        points: how many prefix lengths to try at most; both ends always among them.
    """

    threshold: Annotated[float, Range(0.01, 0.5, 0.01)] = 0.2
    normaliser: Normaliser = "longer side"
    points: Annotated[int, Range(2, 69, 1)] = 10

    @property
    def rule(self) -> PckRule:
        """The rule that the knobs say."""
        return PckRule(self.threshold, self.normaliser)


@dataclass(frozen=True, eq=False)
class Prefix(Report):
    """PCK by the number of true tokens given.

    Attributes:
        k: how many.
        pck: over all keypoints.
        pck_after: over those that were not given; nan where none is left.
        rule: in words.
        steps_of_pck: which values PCK can take here.
    """

    k: Int[np.ndarray, " P"]
    pck: Float[np.ndarray, " P"]
    pck_after: Float[np.ndarray, " P"]
    rule: str
    steps_of_pck: str

    @property
    def curve(self) -> list[dict[str, Any]]:
        """As the command line has it."""
        return rows(k=self.k, pck=self.pck, pck_after=self.pck_after)

    @property
    def half(self) -> int:
        """The fewest true tokens with which half of the way is made."""
        low, high = self.pck[0], self.pck[-1]
        return int(self.k[np.argmax(self.pck >= low + (high - low) / 2)])

    def summary(self) -> str:
        low, high = self.pck[0], self.pck[-1]
        if np.isnan(low):
            return f"Nothing can be said of it: {NOTHING_COUNTS}"
        start = f"PCK goes from {low:.2f} free-running to {high:.2f} with every token given"
        if low > 1 - 1e-9:
            return f"{start}: it needs none of them ({self.rule})"
        if np.ptp(self.pck) < 1e-9:
            return f"{start}: it is the same however many are given ({self.rule})"
        if high - low < 1e-9:
            least = f"{self.pck.min():.2f} and {self.pck.max():.2f}"
            return (
                f"{start}: true tokens do not help, with some of them it lies between {least} ({self.rule})"
            )
        return f"{start}; half of the way is made with the first {self.half} of {self.k[-1]} ({self.rule})"

    def plot(self) -> Figure:
        import plotly.graph_objects as go

        figure = new_figure(self.summary(), x="true tokens given (k)", y="PCK")
        for name, values, ink in (
            ("all keypoints", self.pck, FINDING_COLOUR),
            ("keypoints after the given ones", self.pck_after, QUIET_COLOUR),
        ):
            figure.add_trace(
                go.Scatter(x=self.k.astype(np.float32), y=values.astype(np.float32), name=name,
                           mode="lines+markers", line={"color": ink},
                           hovertemplate="k %{x}<br>PCK %{y:.2f}")
            )  # fmt: skip
        return figure.update_yaxes(range=[-0.02, 1.05])

    def table(self) -> list[dict[str, Any]]:
        return self.curve


def compute(run: Run, params: Params) -> Prefix:
    """One rollout for each prefix length."""
    rule = params.rule
    rollout.sequence(run)
    K = len(run.model.skeleton)
    tried = np.unique(np.linspace(0, K, min(params.points, K + 1)).round().astype(int))
    pck, after = [], []
    for k in tried:
        errors = rule.errors(run, rollout.points_of(run, rollout.free(run, given=int(k))))
        pck.append(rule.pck(errors))
        after.append(rule.pck(errors[:, k:]) if k < K else np.nan)
    return Prefix(tried, np.array(pck), np.array(after), rule.text(), granularity(run))


INSPECTOR = Inspector(
    "Gold prefix",
    "How many true tokens must a rollout be given before it finds the rest?",
    Params,
    compute,
    needs=Needs(capability=RollsOut, truth=True),
    order=20,
)
