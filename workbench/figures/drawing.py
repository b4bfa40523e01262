"""How are images and keypoints drawn? Axes in image pixels, limbs by side, one colour per keypoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures.colours import SIDE_COLOURS, SIDE_SYMBOLS, keypoint_colours, side_of
from workbench.figures.drawing import image_data_uri
from workbench.figures.layout import new_figure

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from plotly.graph_objects import Figure, Scatter

    from workbench.core import Skeleton


def image_layer(
    source: str, extent: tuple[float, float, float, float], axes: str = "", **more: Any
) -> dict[str, Any]:
    """A plotly layout image that spans an extent.

    Args:
        source: a ``data:`` address.
        extent: (x0, y0, x1, y1) of its outer edges in axis units; half a pixel beyond pixel centres.
        axes: suffix of the subplot's axes: ``""``, ``"2"`` ...
        more: further layout image properties.
    """
    x0, y0, x1, y1 = (float(v) for v in extent)
    place = {"xref": f"x{axes}", "yref": f"y{axes}", "x": x0, "y": y0, "sizex": x1 - x0, "sizey": y1 - y0}
    return {"source": source, **place, "xanchor": "left", "yanchor": "top", "sizing": "stretch",
            "layer": "below", **more}  # fmt: skip


def image_figure(image: UInt8[np.ndarray, "H W 3"], title: str, height: int = 560) -> Figure:
    """A figure whose axes are the pixels of an image, drawn below: x right, y down, same scale."""
    H, W = image.shape[:2]
    figure = new_figure(title, x="x (image px)", y="y (image px)", height=height, dragmode="pan")
    figure.update_xaxes(range=[-0.5, W - 0.5], showgrid=False, constrain="domain")
    figure.update_yaxes(range=[H - 0.5, -0.5], showgrid=False, scaleanchor="x", constrain="domain")
    figure.add_layout_image(image_layer(image_data_uri(image), (-0.5, -0.5, W - 0.5, H - 0.5)))
    return figure


def draw_skeleton(
    keypoints: Float[np.ndarray, "K 2"],
    skeleton: Skeleton,
    *,
    scores: Float[np.ndarray, " K"] | None = None,
    drawn: Bool[np.ndarray, " K"] | None = None,
    name: str = "prediction",
    hollow: bool = False,
    size: float = 9,
    notes: tuple[str, ...] = (),
) -> list[Scatter]:
    """Traces of one instance: its limbs by side, then its keypoints with hover text.

    Args:
        keypoints: (x, y) in the figure's axis units; nan is not drawn.
        skeleton: names, limbs and, by their names, sides.
        scores: shown on hover.
        drawn: False hides a keypoint and its limbs (below a threshold, invisible).
        name: legend and hover: whose keypoints these are.
        hollow: rings and dotted limbs, as annotations are drawn beside predictions.
        size: of markers, screen pixels.
        notes: a further hover line per keypoint.

    Raises:
        ValueError: another number of keypoints than the skeleton has.
    """
    import plotly.graph_objects as go

    points = np.array(keypoints, np.float32)
    if points.shape != (len(skeleton), 2):
        raise ValueError(f"{name}: expected keypoints of shape ({len(skeleton)}, 2), got {points.shape}")
    if drawn is not None:
        points[~np.asarray(drawn, bool)] = np.nan
    sides = [side_of(keypoint) for keypoint in skeleton.keypoints]
    traces = []
    for side, colour in SIDE_COLOURS.items():
        line = _limbs(points, [(a, b) for a, b in skeleton.limbs if _limb_side(sides, a, b) == side])
        if np.isfinite(line).any():
            style = {"color": colour, "width": 2, "dash": "dot" if hollow else "solid"}
            traces.append(
                go.Scatter(x=line[:, 0], y=line[:, 1], mode="lines", line=style, hoverinfo="skip",
                           legendgroup=name, showlegend=False, name=f"{name}, {side} limbs")
            )  # fmt: skip
    symbols = [SIDE_SYMBOLS[side] + ("-open" if hollow else "") for side in sides]
    marker: dict[str, Any] = {"symbol": symbols, "size": size, "color": keypoint_colours(skeleton)}
    # A dark rim keeps light colours visible on light images, and the other way round.
    marker["line"] = {
        "width": 2 if hollow else 1,
        "color": marker["color"] if hollow else "rgba(20,22,28,.8)",
    }
    values = np.full(len(points), np.nan) if scores is None else np.asarray(scores, float)
    text = [
        f"<b>{keypoint}</b>"
        + (f"<br>score {value:.3f}" if np.isfinite(value) else "")
        + (f"<br>{notes[k]}" if notes else "")
        for k, (keypoint, value) in enumerate(zip(skeleton.keypoints, values, strict=True))
    ]
    hover = "%{text}<br>x %{x:.1f}, y %{y:.1f}<extra>" + name + "</extra>"
    traces.append(
        go.Scatter(x=points[:, 0], y=points[:, 1], mode="markers", marker=marker, text=text, name=name,
                   hovertemplate=hover, legendgroup=name)
    )  # fmt: skip
    return traces


def draw_arrows(
    starts: Float[np.ndarray, "A 2"], ends: Float[np.ndarray, "A 2"], ink: str, width: float, name: str
) -> list[Any]:
    """Shafts as one broken line and tips as markers: plotly has no arrows."""
    import plotly.graph_objects as go

    gap = np.full_like(starts, np.nan)
    line = np.stack([starts, ends, gap], 1).reshape(-1, 2).astype(np.float32)
    tips = ends.astype(np.float32)
    lengths = np.linalg.norm(ends - starts, axis=1).astype(np.float32)
    return [
        go.Scatter(x=line[:, 0], y=line[:, 1], mode="lines", line={"color": ink, "width": width}, name=name,
                   legendgroup=name, showlegend=False, hoverinfo="skip"),
        go.Scatter(x=tips[:, 0], y=tips[:, 1], mode="markers", marker={"size": 2 + 2 * width, "color": ink},
                   name=name, legendgroup=name, customdata=lengths,
                   hovertemplate="ends at x %{x:.1f}, y %{y:.1f}<br>%{customdata:.1f} input px long"),
    ]  # fmt: skip


def _limb_side(sides: list[Any], a: int, b: int) -> str:
    """A limb belongs to a side when either end does; one that crosses from side to side to neither."""
    ends = {sides[a], sides[b]} - {"middle"}
    return ends.pop() if len(ends) == 1 else "middle"


def _limbs(points: Float[np.ndarray, "K 2"], limbs: list[tuple[int, int]]) -> Float[np.ndarray, "n 2"]:
    """Segments as one line, broken by nan; a limb with a missing end is left out."""
    gap = np.full(2, np.nan, np.float32)
    lines = [np.stack([points[a], points[b], gap]) for a, b in limbs if np.isfinite(points[[a, b]]).all()]
    return np.concatenate(lines) if lines else np.zeros((0, 2), np.float32)
