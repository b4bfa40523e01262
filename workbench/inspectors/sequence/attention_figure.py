"""How is the attention of steps drawn? The first ones over the image, or one over image and support."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, keypoint_colours
from workbench.figures.colours import SEQUENTIAL
from workbench.figures.panels import add_crop, add_map, add_marks, axes_of, panel_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.inspectors.sequence.step_attention import StepAttention

# Screen pixels of the mark of a support point that gets all the attention; the area is the share.
LARGEST = 46.0


def first_steps(report: StepAttention) -> Figure:
    """One panel per step, over the image, colours on one scale."""
    shown = range(min(report.drawn, len(report.skeleton)))
    names = [f"{k} {report.skeleton.keypoints[k]}" for k in shown]
    top = float(report.over_image[: len(names)].max())
    colours = [keypoint_colours(report.skeleton)[k] for k in shown]
    figure = panel_figure(report.summary(), names, report.crop.shape[:2], 6, colours, _scale(top))
    for k in shown:
        _over_image(figure, k, report, k, top)
    return figure


def one_step(report: StepAttention) -> Figure:
    """The step over the image, and over the support's points: the larger the mark, the more it is read."""
    k = report.chosen
    top = float(report.over_image[k].max())
    name = f"{k} {report.skeleton.keypoints[k]}"
    reads_support = np.isfinite(report.over_support[k]).any() and np.isfinite(report.support).any()
    names = [f"{name}, over the image", "over the support"] if reads_support else [f"{name}, over the image"]
    figure = panel_figure(report.summary(), names, report.crop.shape[:2], 2, bar=_scale(top))
    # Two panels of a square crop would fill the page; that much is enough for a map of few cells.
    figure.update_layout(height=400)
    _over_image(figure, 0, report, k, top)
    if reads_support:
        _over_support(figure, 1, report)
    return figure


def _over_image(figure: Figure, panel: int, report: StepAttention, k: int, top: float) -> None:
    H, W = report.crop.shape[:2]
    h, w = report.over_image.shape[1:]
    pitch = (W / w, H / h)
    add_crop(figure, panel, report.crop)
    origin = (pitch[0] / 2 - 0.5, pitch[1] / 2 - 0.5)
    add_map(figure, panel, report.over_image[k], pitch, (0, top), name=report.skeleton.keypoints[k],
            origin=origin, unit="attention", transparent=True)  # fmt: skip
    add_marks(figure, panel, report.answers[k], report.truth[k], "answer")


def _over_support(figure: Figure, panel: int, report: StepAttention) -> None:
    import plotly.graph_objects as go

    axes = {"xaxis": f"x{axes_of(panel)}", "yaxis": f"y{axes_of(panel)}"}
    if report.same_picture:
        add_crop(figure, panel, report.crop)
    shares, names = report.over_support[report.chosen], report.skeleton.keypoints
    for a, b in report.skeleton.limbs:
        ends = report.support[[a, b]].astype(np.float32)
        figure.add_trace(
            go.Scatter(x=ends[:, 0], y=ends[:, 1], mode="lines", hoverinfo="skip",
                       line={"color": QUIET_COLOUR, "width": 1.5}, **axes)
        )  # fmt: skip
    sizes = 5 + LARGEST * np.sqrt(np.nan_to_num(shares)).astype(np.float32)
    rings = [FINDING_COLOUR if k == report.chosen else "#ffffff" for k in range(len(names))]
    figure.add_trace(
        go.Scatter(
            x=report.support[:, 0].astype(np.float32), y=report.support[:, 1].astype(np.float32),
            mode="markers", customdata=shares.astype(np.float32), text=list(names),
            marker={"size": sizes, "color": list(keypoint_colours(report.skeleton)), "opacity": 0.85,
                    "line": {"color": rings, "width": np.where(shares >= 0, 2, 0).astype(np.float32)}},
            hovertemplate="%{text}<br>%{customdata:.1%} of the support attention<extra></extra>", **axes,
        )
    )  # fmt: skip


def _scale(top: float) -> dict[str, Any]:
    return {
        "colorscale": [list(c) for c in SEQUENTIAL], "cmin": 0, "cmax": top,
        "colorbar": {"title": {"text": "attention"}},
    }  # fmt: skip
