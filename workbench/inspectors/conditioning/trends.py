"""Do AP and AR go opposite ways, between two runs or within one?

AR only asks where keypoints lie (with one pose per annotation), AP also asks for an order of the poses. One
that falls while the other rises, or falls alone, is no trade of precision for recall; it is a change of
scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report
from workbench.figures import FINDING_COLOUR, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

# A change below this is noise of the last digits.
NOTHING = 0.002
# AP that moves this far, and so many times as far as AR, moves alone: the order of the poses is suspect.
MUCH, ALONE_BY = 0.02, 3.0
OPPOSITE, ALONE, SAME = "OPPOSITE WAYS", "AP ALONE MOVES", "the same way"


@dataclass(frozen=True, eq=False)
class Curve:
    """AP and AR of one run, as its log has them.

    Attributes:
        title: of the run.
        epochs: evaluated ones, rising.
        AP: of each.
        AR: of each.
    """

    title: str
    epochs: Float[np.ndarray, " E"]
    AP: Float[np.ndarray, " E"]
    AR: Float[np.ndarray, " E"]

    @property
    def best(self) -> int:
        """Place of the highest AP."""
        return int(np.nanargmax(self.AP))

    @property
    def opposite(self) -> list[int]:
        """Places where AP falls while AR rises, or the other way about, against the place before."""
        ap, ar = np.diff(self.AP), np.diff(self.AR)
        apart = (np.minimum(np.abs(ap), np.abs(ar)) > NOTHING) & (np.sign(ap) != np.sign(ar))
        return [int(i) + 1 for i in np.flatnonzero(apart)]


@dataclass(frozen=True, eq=False)
class Trends(Report):
    """One or two runs.

    Attributes:
        curves: the run, and the one that it is compared with.
    """

    curves: tuple[Curve, ...]

    @property
    def between(self) -> tuple[float, float] | None:
        """(AP, AR) of the run less that of the other, each run at its best AP; None for a single run."""
        if len(self.curves) < 2:
            return None
        run, other = self.curves[:2]
        return (
            float(run.AP[run.best] - other.AP[other.best]),
            float(run.AR[run.best] - other.AR[other.best]),
        )

    @property
    def flagged(self) -> bool:
        """AP and AR go opposite ways between the runs or within the first, or AP moves alone."""
        if self.between is not None:
            ap, ar = self.between
            if parting(ap, ar) != SAME:
                return True
        return bool(self.curves[0].opposite)

    def summary(self) -> str:
        run = self.curves[0]
        told = f"{run.title}: best AP {run.AP[run.best]:.3f} at epoch {run.epochs[run.best]:g}"
        if self.between is not None:
            ap, ar = self.between
            way = parting(ap, ar)
            said = {ALONE: "AP ALONE MOVES, look at the scores"}.get(way, f"they go {way}")
            told += f"; against {self.curves[1].title} AP {ap:+.3f}, AR {ar:+.3f}: {said}"
        if run.opposite:
            at = ", ".join(f"{run.epochs[i]:g}" for i in run.opposite[:6])
            told += f"; AP and AR go opposite ways at epoch {at}"
        return told

    def plot(self) -> Figure:
        import plotly.graph_objects as go

        figure = new_figure(self.summary(), x="epoch", y="AP, AR", height=360)
        for i, curve in enumerate(self.curves):
            for name, values, dash in (("AP", curve.AP, "solid"), ("AR", curve.AR, "dot")):
                figure.add_trace(
                    go.Scatter(
                        x=curve.epochs.astype(np.float32), y=values.astype(np.float32), mode="lines+markers",
                        name=f"{name}, {curve.title}", line={"color": RUN_COLOURS[i], "dash": dash},
                        hovertemplate="epoch %{x:.0f}: " + name + " %{y:.3f}<extra></extra>",
                    )
                )  # fmt: skip
        epochs = np.unique(np.concatenate([curve.epochs for curve in self.curves]))
        if len(epochs) <= 12:
            figure.update_xaxes(tickvals=epochs.astype(np.float32))
        for i in self.curves[0].opposite:
            figure.add_vrect(
                x0=float(self.curves[0].epochs[i - 1]), x1=float(self.curves[0].epochs[i]),
                fillcolor=FINDING_COLOUR, opacity=0.12, line_width=0,
            )  # fmt: skip
        return figure

    def table(self) -> list[dict[str, Any]]:
        return [
            {"run": c.title, "epoch": float(e), "AP": float(p), "AR": float(r), "opposite": i in c.opposite}
            for c in self.curves
            for i, (e, p, r) in enumerate(zip(c.epochs, c.AP, c.AR, strict=True))
        ]


def parting(ap: float, ar: float) -> str:
    """How two changes go: ``OPPOSITE WAYS``, ``AP ALONE MOVES``, or ``the same way``."""
    if min(abs(ap), abs(ar)) > NOTHING and (ap < 0) != (ar < 0):
        return OPPOSITE
    return ALONE if abs(ap) > MUCH and abs(ap) > ALONE_BY * abs(ar) else SAME
