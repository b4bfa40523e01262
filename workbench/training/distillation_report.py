"""What became of a student? Epoch by epoch: its maps, its weights, its stem, and where its energy lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core.report import Report
from workbench.figures import RUN_COLOURS, SEQUENTIAL
from workbench.figures.layout import new_figure

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

Outcome = Literal["collapsed", "background only", "healthy"]
# A student whose peaks reach less than this share of the teacher's has fitted the background.
FAINT = 0.1


@dataclass(frozen=True, eq=False)
class Distillation(Report):
    """A student's way, one row per epoch; epoch 0 is before the first step.

    Attributes:
        epochs: numbers of the rows.
        loss: to the teacher; nan for epoch 0.
        correlation: of a pair of the student's maps, mean over all pairs.
        rank: effective number of different maps.
        teacher_correlation: the same of the teacher's maps, which a good student comes to.
        teacher_rank: likewise.
        reach: the student's mean value in the foreground over the teacher's there.
        leak: share of the student's squared maps that lies in the background.
        stem: root mean square of the first layer's output.
        map_edges: of the bins of `map_counts`, heatmap values.
        map_counts: share of all cells of the student's maps in each bin.
        weight_edges: of the bins of `weight_counts`.
        weight_counts: share of the stem's weights in each bin.
        features: of the first image, the first channels of the stem's output: before the first step and at
            the end.
    """

    epochs: tuple[int, ...]
    loss: Float[np.ndarray, " E"]
    correlation: Float[np.ndarray, " E"]
    rank: Float[np.ndarray, " E"]
    teacher_correlation: float
    teacher_rank: float
    reach: Float[np.ndarray, " E"]
    leak: Float[np.ndarray, " E"]
    stem: Float[np.ndarray, " E"]
    map_edges: Float[np.ndarray, " bins"]
    map_counts: Float[np.ndarray, "E bins"]
    weight_edges: Float[np.ndarray, " bins"]
    weight_counts: Float[np.ndarray, "E bins"]
    features: Float[np.ndarray, "2 C h w"]

    @property
    def outcome(self) -> Outcome:
        """What the last epoch is. Collapsed: its maps are far more alike than the teacher's."""
        # Halfway from the teacher's own likeness to one map for all.
        if not self.correlation[-1] <= (1 + self.teacher_correlation) / 2:
            return "collapsed"
        return "background only" if self.reach[-1] < FAINT else "healthy"

    def summary(self) -> str:
        alike = (
            f"mean pair of maps correlates by {self.correlation[-1]:.2f} (teacher "
            f"{self.teacher_correlation:.2f}), worth {self.rank[-1]:.1f} different maps (teacher "
            f"{self.teacher_rank:.1f})"
        )
        reach = f"peaks reach {self.reach[-1]:.0%} of the teacher's"
        if self.outcome == "collapsed":
            return f"The student has collapsed, all its maps look alike: {alike}; {reach}"
        if self.outcome == "background only":
            return f"The student has fitted the background: {reach}; {alike}"
        return f"The student tells keypoints apart: {alike}; {reach}"

    def plot(self) -> Figure:
        """Likeness, energy and the two histograms over the epochs; the stem's features at both ends."""
        import plotly.graph_objects as go

        figure = new_figure(self.summary(), height=860)
        x = np.array(self.epochs, np.float32)
        lines = [
            ("correlation of the mean pair", self.correlation, "x", "y"),
            ("reach: foreground over the teacher's", self.reach, "x2", "y2"),
            ("leak: energy in the background", self.leak, "x2", "y2"),
        ]
        for (name, values, along, up), colour in zip(lines, RUN_COLOURS, strict=False):
            figure.add_trace(
                go.Scatter(
                    x=x, y=np.float32(values), name=name, mode="lines+markers", line_color=colour,
                    xaxis=along, yaxis=up,
                )
            )  # fmt: skip
        figure.add_hline(self.teacher_correlation, line_dash="dot", line_color="#747c88", yref="y")
        histograms = [
            (self.map_edges, self.map_counts, "x3", "y3"), (self.weight_edges, self.weight_counts, "x4", "y4")
        ]  # fmt: skip
        for edges, counts, along, up in histograms:
            middles = (edges[1:] + edges[:-1]) / 2
            shown = np.log10(np.maximum(counts.T, 1e-5)).astype(np.float32)
            figure.add_trace(
                go.Heatmap(
                    x=x, y=np.float32(middles), z=shown, colorscale=SEQUENTIAL, xaxis=along, yaxis=up,
                    showscale=along == "x3", colorbar={"title": {"text": "log10 of the share"}},
                )
            )  # fmt: skip
        figure.add_trace(
            go.Heatmap(
                z=_mosaic(self.features), colorscale=SEQUENTIAL, xaxis="x5", yaxis="y5", showscale=False,
                hoverinfo="skip",
            )
        )  # fmt: skip
        left, right, top, bottom = [0, 0.44], [0.56, 1], [0.7, 1], [0.34, 0.6]
        h = self.features.shape[2]
        epoch = {"title": {"text": "epoch"}}
        figure.update_layout(
            xaxis={"domain": left, "anchor": "y", **epoch},
            yaxis={"domain": top, "anchor": "x", "range": [-0.2, 1.05], "title": {"text": "correlation"}},
            xaxis2={"domain": right, "anchor": "y2", **epoch},
            yaxis2={"domain": top, "anchor": "x2", "range": [-0.05, 1.25], "title": {"text": "share"}},
            xaxis3={"domain": left, "anchor": "y3", **epoch},
            yaxis3={"domain": bottom, "anchor": "x3", "title": {"text": "heatmap value"}},
            xaxis4={"domain": right, "anchor": "y4", **epoch},
            yaxis4={"domain": bottom, "anchor": "x4", "title": {"text": "weight of the stem"}},
            xaxis5={
                "anchor": "y5",
                "showticklabels": False,
                "showgrid": False,
                "title": {"text": f"the stem's first {self.features.shape[1]} channels on the first image"},
            },
            yaxis5={
                "domain": [0, 0.22],
                "anchor": "x5",
                "autorange": "reversed",
                "showgrid": False,
                "tickvals": np.array([h / 2, 1.5 * h], np.float32),
                "ticktext": ["at first", "at the end"],
            },
        )
        return figure

    def table(self) -> list[dict[str, Any]]:
        from workbench.core.report import rows

        return rows(
            epoch=self.epochs, loss=self.loss, correlation=self.correlation, rank=self.rank,
            reach=self.reach, leak=self.leak, stem=self.stem,
        )  # fmt: skip


def _mosaic(features: Float[np.ndarray, "2 C h w"]) -> Float[np.ndarray, "rows columns"]:
    """All planes in one picture, each from its own lowest value to its highest."""
    low, high = features.min((2, 3), keepdims=True), features.max((2, 3), keepdims=True)
    even = ((features - low) / np.where(high > low, high - low, 1)).astype(np.float32)
    return np.concatenate([np.concatenate(list(row), 1) for row in even], 0)
