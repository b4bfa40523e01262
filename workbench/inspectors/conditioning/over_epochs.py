"""How do scale, shift and gate change over the epochs, and do they ever differ between images?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, new_figure
from workbench.figures.colours import rgba
from workbench.inspectors.conditioning.film import Film

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, eq=False)
class OverEpochs(Report):
    """The first FiLM layer of several checkpoints on the same samples.

    Attributes:
        titles: of the epochs, in their order.
        gamma: quantiles of the scales, see QUANTILES; nan without FiLM.
        beta: quantiles of the shifts.
        gate: of each epoch.
        change: of the features, share of their length.
        across_images: see film.Layer.
        verdicts: see film.Layer.
    """

    titles: tuple[str, ...]
    gamma: Float[np.ndarray, "E Q"]
    beta: Float[np.ndarray, "E Q"]
    gate: Float[np.ndarray, " E"]
    change: Float[np.ndarray, " E"]
    across_images: Float[np.ndarray, " E"]
    verdicts: tuple[str, ...]

    def summary(self) -> str:
        median = len(QUANTILES) // 2
        gate = (
            f"the gate goes from {self.gate[0]:.3g} to {self.gate[-1]:.3g}"
            if np.isfinite(self.gate).all()
            else "no gate is known"
        )
        scale = ""
        if np.isfinite(self.gamma).all():
            scale = f", the median γ from {self.gamma[0, median]:.3f} to {self.gamma[-1, median]:.3f}"
        spread = np.nan_to_num(self.across_images).max()
        images = (
            "γ is the same for every image at every epoch"
            if spread < 1e-7
            else f"γ varies by up to {spread:.2g} over images"
        )
        return f"Over {len(self.titles)} epochs {gate}{scale}; {images}; last epoch: {self.verdicts[-1]}"

    def plot(self) -> Figure:
        import plotly.graph_objects as go

        figure = new_figure(self.summary(), height=380)
        places = np.arange(len(self.titles), dtype=np.float32)
        for i, (values, rest, name) in enumerate(((self.gamma, 1.0, "γ"), (self.beta, 0.0, "β"))):
            suffix = "" if i == 0 else "2"
            axes: dict[str, Any] = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
            ink = RUN_COLOURS[i]
            for low, high, alpha in ((0, 4, 0.18), (1, 3, 0.32)):
                figure.add_trace(
                    go.Scatter(
                        x=np.concatenate([places, places[::-1]]),
                        y=np.concatenate([values[:, low], values[::-1, high]]).astype(np.float32),
                        fill="toself", fillcolor=rgba(ink, alpha), line={"width": 0}, mode="lines",
                        name=f"{name}, {QUANTILES[low]} to {QUANTILES[high]} %", hoverinfo="skip",
                        showlegend=False, **axes,
                    )
                )  # fmt: skip
            figure.add_trace(
                go.Scatter(x=places, y=values[:, 2].astype(np.float32), mode="lines+markers",
                           name=f"{name}, median", line={"color": ink}, text=list(self.titles),
                           showlegend=False,
                           hovertemplate="%{text}: %{y:.4f}<extra></extra>", **axes)
            )  # fmt: skip
            figure.add_shape(
                type="line", x0=0, x1=1, y0=rest, y1=rest, xref=f"x{suffix} domain", yref=f"y{suffix}",
                line={"color": FINDING_COLOUR, "dash": "dot", "width": 1},
            )  # fmt: skip
            if i == 0:
                figure.add_trace(
                    go.Scatter(x=places, y=self.gate.astype(np.float32), mode="lines+markers", name="gate",
                               line={"color": QUIET_COLOUR, "dash": "dash"}, text=list(self.titles),
                               hovertemplate="%{text}: gate %{y:.4f}<extra></extra>", **axes)
                )  # fmt: skip
            left = i * 0.54
            ticks = {"tickvals": places, "ticktext": [t.rpartition(", ")[2] for t in self.titles]}
            figure.update_layout(
                {f"xaxis{suffix}": {"domain": [left, left + 0.46], "anchor": f"y{suffix}",
                                    "title": {"text": "epoch"}}
                 | ticks,
                 f"yaxis{suffix}": {"anchor": f"x{suffix}",
                                    "title": {"text": f"{name}: median, 25 to 75, 5 to 95 %"
                                              + (" (dashed: gate)" if i == 0 else "")}}}
            )  # fmt: skip
        return figure.update_layout(showlegend=False)

    def table(self) -> list[dict[str, Any]]:
        return rows(
            epoch=self.titles,
            gamma_median=self.gamma[:, 2],
            beta_median=self.beta[:, 2],
            gate=self.gate,
            change=self.change,
            across_images=self.across_images,
            verdict=self.verdicts,
        )


def over_epochs(reports: Sequence[Film]) -> OverEpochs:
    """Several checkpoints' FiLM side by side.

    Args:
        reports: of the same samples, in the order of their epochs.

    Raises:
        ValueError: none.
    """
    if not reports:
        raise ValueError("epochs: expected at least one checkpoint, got none")
    layers = [report.layers[0] for report in reports]

    def quantiles(values: Float[np.ndarray, "N C"]) -> Float[np.ndarray, " Q"]:
        return np.percentile(values, QUANTILES) if values.size else np.full(len(QUANTILES), np.nan)

    return OverEpochs(
        titles=tuple(report.title for report in reports),
        gamma=np.stack([quantiles(layer.gamma) for layer in layers]),
        beta=np.stack([quantiles(layer.beta) for layer in layers]),
        gate=np.array([layer.gate for layer in layers]),
        change=np.array([layer.change for layer in layers]),
        across_images=np.array([layer.across_images for layer in layers]),
        verdicts=tuple(layer.verdict for layer in layers),
    )
