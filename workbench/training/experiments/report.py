"""What came of an experiment? AP of every arm with its interval, the change from the first, the curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, plain
from workbench.figures import QUIET_COLOUR, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False)
class ArmResult:
    """One arm.

    Attributes:
        name: what is different in it.
        AP: as the model predicts, or the way the arm is judged.
        low: lower end of the 95 % interval of AP over resampled images.
        high: upper end.
        AR: as AP.
        delta: AP less that of the first arm; 0 for the first.
        delta_low: lower end of the paired interval.
        delta_high: upper end.
        AP_taught: of the same weights gone through the way they were trained.
        delta_taught: AP_taught less that of the first arm.
        taught_low: lower end of its paired interval.
        taught_high: upper end.
        steps: of the loss.
        loss: of each step; empty where nothing was trained.
        measured: steps after which AP was measured; 0 where nothing was trained.
        APs: measured there; the last one is AP.
    """

    name: str
    AP: float
    low: float
    high: float
    AR: float
    delta: float
    delta_low: float
    delta_high: float
    AP_taught: float
    delta_taught: float
    taught_low: float
    taught_high: float
    steps: Int[np.ndarray, " S"]
    loss: Float[np.ndarray, " S"]
    measured: Int[np.ndarray, " M"]
    APs: Float[np.ndarray, " M"]

    @property
    def certain(self) -> bool:
        """The difference from the first arm has an interval on one side of 0."""
        return self.delta_low > 0 or self.delta_high < 0


@dataclass(frozen=True, eq=False)
class ExperimentReport(Report):
    """An experiment's arms, the first being what the others are compared with.

    Attributes:
        name: of the experiment.
        question: that it asks.
        arms: in its order.
        steps: each arm was trained for; 0 when none was.
        seed: of all arms.
        judged_on: which instances.
        notes: what to mind, one sentence each.
    """

    name: str
    question: str
    arms: tuple[ArmResult, ...]
    steps: int
    seed: int
    judged_on: str
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        first, *others = self.arms
        told = "; ".join(
            f"{arm.name} {arm.delta:+.3f} [{arm.delta_low:+.3f}, {arm.delta_high:+.3f}]"
            + ("" if arm.certain else ", not told from luck")
            for arm in others
        )
        return f"{self.question} AP {first.AP:.3f} {first.name}; {told} ({self.judged_on})."

    def table(self) -> list[dict[str, Any]]:
        return [
            {
                "arm": arm.name,
                "AP": arm.AP,
                "low": arm.low,
                "high": arm.high,
                "AR": arm.AR,
                "delta": arm.delta,
                "delta low": arm.delta_low,
                "delta high": arm.delta_high,
                "AP, the way of training": plain(arm.AP_taught),
                "its delta": arm.delta_taught,
                "its low": arm.taught_low,
                "its high": arm.taught_high,
                "last loss": plain(float(arm.loss[-1])) if len(arm.loss) else None,
            }
            for arm in self.arms
        ]

    def plot(self) -> Figure:
        """AP of the arms with intervals; beside it loss and AP over the steps, where arms were trained."""
        import plotly.graph_objects as go

        trained = self.steps > 0
        figure = new_figure(self._title(), height=170 + 60 * len(self.arms))
        rows = np.arange(len(self.arms), dtype=np.float32)
        for title, values, symbol, offset in (
            ("as judged", [a.AP for a in self.arms], "circle", 0.0),
            ("the same weights, the way of training", [a.AP_taught for a in self.arms], "diamond-open", 0.22),
        ):
            spread = {}
            if not offset:
                up, down = ([a.high - a.AP for a in self.arms], [a.AP - a.low for a in self.arms])
                spread["error_x"] = {
                    "array": np.array(up, np.float32),
                    "arrayminus": np.array(down, np.float32),
                    "color": QUIET_COLOUR,
                }
            colours = [RUN_COLOURS[i % len(RUN_COLOURS)] for i in range(len(self.arms))]
            figure.add_trace(
                go.Scatter(
                    x=np.array(values, np.float32), y=rows + np.float32(offset), mode="markers", name=title,
                    marker={"size": 11, "symbol": symbol, "color": colours, "line": {"width": 1.5}}, **spread,
                    hovertemplate=f"{title}: AP %{{x:.3f}}<extra></extra>",
                )
            )  # fmt: skip
        figure.update_layout(
            xaxis={
                "title": {"text": "AP (95 % interval over images)"},
                "domain": [0, 0.42 if trained else 1],
            },
            yaxis={
                "tickvals": rows,
                "ticktext": [arm.name for arm in self.arms],
                "range": [len(self.arms) - 0.4, -0.6],
            },
        )
        return self._with_curves(figure) if trained else figure

    def _with_curves(self, figure: Figure) -> Figure:
        import plotly.graph_objects as go

        for i, arm in enumerate(self.arms):
            ink = RUN_COLOURS[i % len(RUN_COLOURS)]
            for number, mode, x, y, name in (
                (2, "lines", arm.steps, arm.loss, "loss"),
                (3, "lines+markers", arm.measured, arm.APs, "AP"),
            ):
                figure.add_trace(
                    go.Scatter(
                        x=x.astype(np.float32), y=y.astype(np.float32), mode=mode,
                        line={"color": ink, "width": 1.5}, name=arm.name, showlegend=False,
                        xaxis=f"x{number}", yaxis=f"y{number}",
                        hovertemplate=f"{arm.name}, step %{{x}}: {name} %{{y:.4f}}<extra></extra>",
                    )
                )  # fmt: skip
        return figure.update_layout(
            xaxis2={"title": {"text": "step"}, "domain": [0.51, 0.73], "anchor": "y2"},
            yaxis2={"title": {"text": "loss"}, "anchor": "x2"},
            xaxis3={"title": {"text": "step"}, "domain": [0.8, 1], "anchor": "y3", "rangemode": "tozero"},
            yaxis3={"title": {"text": "AP"}, "anchor": "x3"},
        )

    def _title(self) -> str:
        """The question and the arm that changes most."""
        arm = max(self.arms[1:], key=lambda a: abs(a.delta))
        doubt = "" if arm.certain else " (not told from luck)"
        return f"{self.question} {arm.name}: {arm.delta:+.3f} AP to {self.arms[0].name}{doubt}"

    def text(self) -> str:
        """For the command line."""
        width = max(len(arm.name) for arm in self.arms)
        head = f"{'arm':{width}}     AP  [interval]        AR     change  [paired interval]"
        lines = [self.summary(), "", f"{head}    AP the way of training"]
        for arm in self.arms:
            first = arm is self.arms[0]
            change = "" if first else _change(arm.delta, arm.delta_low, arm.delta_high)
            taught = "" if first else _change(arm.delta_taught, arm.taught_low, arm.taught_high)
            lines.append(
                f"{arm.name:{width}}  {arm.AP:.3f}  [{arm.low:.3f}, {arm.high:.3f}]  {arm.AR:.3f}  "
                f"{change:25}    {arm.AP_taught:.3f}  {taught}"
            )
        return "\n".join([*lines, "", *(f"mind: {note}" for note in self.notes)])


def _change(delta: float, low: float, high: float) -> str:
    return f"{delta:+.3f}  [{low:+.3f}, {high:+.3f}]"
