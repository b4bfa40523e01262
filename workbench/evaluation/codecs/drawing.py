"""Figures of codecs: the matrix of variants, arrows between two readings, maps of the encode-decode error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import signed_text
from workbench.evaluation.codecs.ways import FLIPS, POSE_SCORES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.evaluation.codecs.encoding_error import CodecErrors
    from workbench.evaluation.codecs.report import CodecMatrix, Variant


# A typical arrow becomes this share of the box's longer side.
ARROW_SHARE = 0.06


def matrix_figure(report: CodecMatrix) -> Figure:
    """AP less the own reading's: decoders by flip test at the left, score rules at the right."""
    from workbench.figures import new_figure

    own = report.own.way
    left = [v for v in report.variants if v.way.scores == own.scores]
    right = [v for v in report.variants if v.way.reading == own.reading]
    readings = list(dict.fromkeys((v.way.decoder, v.way.cells) for v in left))
    readings.sort(key=lambda r: (r[1] != own.cells, r != (own.decoder, own.cells)))
    flips = [f for f in FLIPS if any(v.way.flip == f for v in left)]
    peaks = list(dict.fromkeys(v.way.keypoint_score for v in right))
    poses = list(dict.fromkeys(v.way.pose_score for v in right))
    rows = max(len(readings), len(peaks))
    figure = new_figure(report.summary(), height=230 + 34 * rows, showlegend=False)
    reach = max([abs(v.ap - report.own.ap) for v in (*left, *right) if np.isfinite(v.ap)] + [0.01])
    cells = {(v.way.decoder, v.way.cells, v.way.flip): v for v in left}
    names = [decoder + (f", {cell} cells" if cell != own.cells else "") for decoder, cell in readings]
    _matrix(figure, "", report, names, flips, [[cells.get((*r, f)) for f in flips] for r in readings])
    scores = {(v.way.keypoint_score, v.way.pose_score): v for v in right}
    _matrix(
        figure, "2", report, [f"peak {p}" if p else "peak" for p in peaks], [_pose(p) for p in poses],
        [[scores.get((p, q)) for q in poses] for p in peaks],
    )  # fmt: skip
    figure.update_layout(
        xaxis={"domain": [0, 0.5], "side": "bottom", "title": {"text": "flip test, own scores"}},
        xaxis2={"domain": [0.63, 1], "title": {"text": "pose score, own reading"}, "anchor": "y2"},
        yaxis={"autorange": "reversed"},
        yaxis2={"autorange": "reversed", "anchor": "x2", "domain": [1 - len(peaks) / rows, 1]},
        coloraxis={
            **_diverging(reach),
            "colorbar": {"title": {"text": "AP gain"}, "thickness": 12, "len": 0.9},
        },
    )
    return figure


def _pose(rule: str) -> str:
    return POSE_SCORES.get(rule, rule)


def _diverging(reach: float) -> dict[str, Any]:
    from workbench.figures import DIVERGING

    return {"colorscale": [list(pair) for pair in DIVERGING], "cmin": -reach, "cmax": reach}


def _matrix(
    figure: Figure,
    suffix: str,
    report: CodecMatrix,
    rows: list[str],
    columns: list[str],
    variants: list[list[Variant | None]],
) -> None:
    """Add one block of cells; the own reading is framed, a difference beyond its interval has a star."""
    from workbench.figures import QUIET_COLOUR

    values = np.array(
        [[np.nan if v is None else v.ap - report.own.ap for v in row] for row in variants], np.float32
    )
    texts = [[_cell(v) for v in row] for row in variants]
    notes = [[_note(v) for v in row] for row in variants]
    figure.add_heatmap(
        z=values, x=columns, y=rows, text=texts, customdata=notes, texttemplate="%{text}",
        coloraxis="coloraxis",
        hovertemplate="%{customdata}<extra></extra>", xaxis=f"x{suffix}", yaxis=f"y{suffix}", xgap=2,
        ygap=2,
    )  # fmt: skip
    for i, row in enumerate(variants):
        for j, variant in enumerate(row):
            if variant is report.own:
                figure.add_shape(
                    type="rect", xref=f"x{suffix}", yref=f"y{suffix}", x0=j - 0.5, x1=j + 0.5, y0=i - 0.5,
                    y1=i + 0.5, line={"color": QUIET_COLOUR, "width": 3},
                )  # fmt: skip


def _cell(variant: Variant | None) -> str:
    if variant is None:
        return ""
    star = "*" if variant.interval is not None and variant.interval.certain else ""
    return f"{variant.ap:.3f}{star}" if np.isfinite(variant.ap) else "-"


def _note(variant: Variant | None) -> str:
    if variant is None:
        return ""
    change = "the model's own reading" if variant.interval is None else f"AP {variant.interval}"
    x, y = variant.bias_px
    return (
        f"<b>{variant.name}</b><br>AP {variant.ap:.3f}; {change}<br>error {variant.error_px:.2f} px, of "
        f"found keypoints {variant.near_px:.2f} px<br>bias x {signed_text(x, '+.2f')}, y "
        f"{signed_text(y, '+.2f')} px"
    )


def arrows_figure(report: CodecMatrix, variant: Variant) -> Figure:
    """The shown pose with one arrow for each keypoint, from the own reading to the variant's.

    Args:
        report: of the readings.
        variant: the other reading.
    """
    from workbench.figures import FINDING_COLOUR, draw_skeleton, image_figure
    from workbench.figures.drawing import draw_arrows

    row = report.shown
    own = report.readings[report.own.way.reading][row]
    other = report.readings[variant.way.reading][row]
    truth = np.where(report.truth[row, :, 2:] > 0, report.truth[row, :, :2], np.nan)
    # Where the own reading is wrong altogether, another place says nothing about decoders.
    moved = np.where(report.near[row], np.linalg.norm(other - own, axis=1), np.nan)
    typical = float(np.nanmedian(moved[moved > 1e-6])) if (moved > 1e-6).any() else 0.0
    x0, y0, x1, y1 = report.boxes[row]
    side = max(x1 - x0, y1 - y0)
    factor = max(1.0, float(f"{ARROW_SHARE * side / typical:.2g}")) if typical else 1.0
    title = (
        f"From {report.own.name} to {variant.name}: found keypoints of this pose move by {_mean(moved):.2f} "
        f"px on average, drawn {factor:g} times as long; over the set the bias is {variant.bias_text} "
        f"instead of {report.own.bias_text} px"
    )
    assert report.image is not None  # codec_matrix sets it
    figure = image_figure(report.image, title)
    margin = 0.15 * side
    H, W = report.image.shape[:2]
    figure.update_xaxes(range=[max(x0 - margin, -0.5), min(x1 + margin, W - 0.5)])
    figure.update_yaxes(range=[min(y1 + margin, H - 0.5), max(y0 - margin, -0.5)])
    notes = tuple(f"moves by {m:.2f} px" if np.isfinite(m) else "" for m in moved)
    figure.add_traces(draw_skeleton(truth, report.skeleton, name="annotation", hollow=True, size=8))
    figure.add_traces(draw_skeleton(own, report.skeleton, name=report.own.name, size=6, notes=notes))
    there = np.isfinite(moved)
    starts, ends = own[there], own[there] + factor * (other - own)[there]
    for trace in draw_arrows(starts, ends, FINDING_COLOUR, 2, variant.name):
        if trace.mode == "markers":
            trace.customdata = moved[there].astype(np.float32)
            trace.hovertemplate = "moves by %{customdata:.2f} image px<extra>" + variant.name + "</extra>"
        figure.add_trace(trace)
    return figure


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else 0.0


# Height of the profile below the maps, screen pixels.
PROFILE_HEIGHT = 300
# Pixels below which the profile is not drawn: a logarithmic axis has no zero.
LEAST = 1e-4


def errors_figure(report: CodecErrors) -> Figure:
    """One map for each codec on a common scale, and below them the error by distance from the edge."""
    from workbench.figures import SEQUENTIAL
    from workbench.figures.panels import add_map, panel_figure

    scale = [1.0 if report.one_size else c.image_px / c.mean_px for c in report.codecs]
    unit = "input px" if report.one_size else "image px"
    maps = [c.map * s for c, s in zip(report.codecs, scale, strict=True)]
    # A few border bins of one codec must not make all other maps black.
    top = max(float(np.nanquantile(np.concatenate([m.ravel() for m in maps]), 0.99)), 1e-3)
    H, W = report.codecs[0].codec.input_size
    names = [
        f"{c.label}\n{_range(c.mean_px * s, c.max_px * s)}" for c, s in zip(report.codecs, scale, strict=True)
    ]
    bar = {
        "colorscale": [list(pair) for pair in SEQUENTIAL], "cmin": 0, "cmax": top,
        "colorbar": {
            "title": {"text": f"error, {unit}"}, "thickness": 12, "y": 1, "yanchor": "top", "len": 0.6,
        },
    }  # fmt: skip
    figure = panel_figure(
        report.summary(), names, (H, W), math.ceil(len(names) / math.ceil(len(names) / 5)), bar=bar
    )
    for i, values in enumerate(maps):
        rows, columns = values.shape
        pitch = W / columns, H / rows
        origin = (pitch[0] - 1) / 2, (pitch[1] - 1) / 2
        add_map(
            figure, i, values, pitch, (0.0, top), name=report.codecs[i].label, origin=origin, unit="error"
        )
    _add_profiles(figure, report, scale, unit)
    return figure


def _add_profiles(figure: Figure, report: CodecErrors, scale: list[float], unit: str) -> None:
    """Below the panels of a figure under construction: mean error by distance from the edge."""
    axes = _make_room(figure, len(report.codecs))
    for c, s, colour in zip(report.codecs, scale, _line_colours(len(report.codecs)), strict=True):
        figure.add_scatter(
            x=np.arange(len(c.profile), dtype=np.float32) + 0.5,
            y=np.maximum(c.profile * s, LEAST).astype(np.float32),
            mode="lines+markers", name=c.label, line={"color": colour}, showlegend=True,
            hovertemplate=f"%{{x:.1f}} cells from the edge: %{{y:.3g}} {unit}<extra>{c.label}</extra>",
            **axes,
        )  # fmt: skip
    suffix = axes["xaxis"][1:]
    value = {"title": {"text": f"mean error ({unit})"}, "type": "log", "exponentformat": "power"}
    figure.update_layout(
        {
            f"xaxis{suffix}": {"title": {"text": "distance from the left edge (cells)"}},
            f"yaxis{suffix}": value,
        }
    )


def _range(mean: float, most: float) -> str:
    return f"mean {mean:.2f}, max {most:.2f}"


def _make_room(figure: Figure, panels: int) -> dict[str, str]:
    """Move the panels up, and add axes below them; the names of these axes."""
    layout: Any = figure.layout
    height = layout.height
    share = PROFILE_HEIGHT / (height + PROFILE_HEIGHT)
    moved: dict[str, Any] = {"height": height + PROFILE_HEIGHT, "showlegend": True}
    for i in range(panels):
        axis = f"yaxis{'' if i == 0 else i + 1}"
        low, high = layout[axis].domain
        moved[axis] = {"domain": [share + low * (1 - share), share + high * (1 - share)]}
    for annotation in layout.annotations:
        annotation.y = share + annotation.y * (1 - share)
    suffix = str(panels + 1)
    moved[f"xaxis{suffix}"] = {"domain": [0.06, 1], "anchor": f"y{suffix}"}
    moved[f"yaxis{suffix}"] = {"domain": [0.06, share * 0.72], "anchor": f"x{suffix}"}
    moved["legend"] = {"y": share * 0.74, "yanchor": "bottom", "x": 0.06}
    moved["margin_b"] = 48
    figure.update_layout(moved)
    return {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}


def _line_colours(count: int) -> list[str]:
    from workbench.figures import KEYPOINT_COLOURS

    return [KEYPOINT_COLOURS[i % len(KEYPOINT_COLOURS)] for i in range(count)]
