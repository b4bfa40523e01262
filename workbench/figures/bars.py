"""Bar charts: several measures of the same items as columns of horizontal bars, one row per item."""

from __future__ import annotations

import itertools
import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures.colours import QUIET_COLOUR
from workbench.figures.layout import as_title, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from plotly.graph_objects import Figure

ROW = 22  # screen pixels per row: a line of 12 px text and air

NARROWEST = 560
"""Pixels that the app gives a figure beside its parameters on a page 1024 px wide."""

PAIRED = 380
"""The same of two figures side by side, as on the Rollout page."""

# Of plotly's text in pixels: a character of an axis title (14 px), of a row's name (12 px), a title's line.
TITLE_CHARACTER, NAME_CHARACTER, TITLE_LINE = 7.4, 6.4, 19
POWER_WIDTH = 38  # pixels of 10 to the power of -3, with air

MARGIN = 0.1  # decades beyond the first and the last number of a logarithmic axis

# Share of the figure between two columns, half on either side: the last number of one axis and the first of
# the next stand there.
GAP = 0.06


@dataclass(frozen=True, eq=False)
class Bars:
    """One column of bars.

    Attributes:
        title: what is measured, with its unit.
        values: one per row; nan draws no bar.
        colours: one for all rows or one per row.
        log: on a logarithmic axis.
        dots: further values per row, drawn as dots (single samples beside their median).
        whiskers: half lengths of error lines.
        notes: one hover line per row.
        span: axis range; plotly's own when None.
    """

    title: str
    values: Float[np.ndarray, " R"]
    colours: str | Sequence[str] = QUIET_COLOUR
    log: bool = False
    dots: Float[np.ndarray, "N R"] | None = None
    whiskers: Float[np.ndarray, " R"] | None = None
    notes: Sequence[str] = ()
    span: tuple[float, float] | None = None


def bars_figure(
    title: str,
    names: Sequence[str],
    columns: Sequence[Bars],
    shares: Sequence[float] = (),
    narrowest: int = NARROWEST,
) -> Figure:
    """Columns of horizontal bars over the same rows, the first row on top.

    Args:
        title: the finding.
        names: of the rows.
        columns: what is measured.
        shares: relative widths of the columns; equal when empty.
        narrowest: pixels of the narrowest place that shows the figure, for the lines of the axis titles.
    """
    figure = new_figure(title, height=ROW * len(names) + 150, showlegend=False)
    place_columns(figure, names, list(shares) or [1.0] * len(columns))
    for i, column in enumerate(columns):
        add_bars(figure, i, names, column)
    wrap_axis_titles(figure, names, narrowest)
    return figure


def wrap_axis_titles(figure: Figure, names: Sequence[str], narrowest: int = NARROWEST) -> None:
    """Break the titles of columns into lines that fit their column in the narrowest figure shown.

    Args:
        figure: with columns from `place_columns`; its titles, height and margin change.
        names: of the rows; they take room at the left.
        narrowest: its width, pixels.
    """
    room = max(narrowest / 3, narrowest - NAME_CHARACTER * max(map(len, names), default=0) - 40)
    lines = 1
    for axis in figure.select_xaxes():
        left, right = axis.domain
        # The title may use half of the gap on either side.
        width = (right - left + GAP) * room
        characters = max(8, int(width / TITLE_CHARACTER))
        wrapped = textwrap.wrap(axis.title.text or "", characters, break_long_words=False)
        axis.title.text = "<br>".join(wrapped)
        lines = max(lines, len(wrapped))
        if axis.type == "log":
            _pad(axis, (right - left) * room, GAP / 2 * room)
            decades = axis.range[1] - axis.range[0]
            # Upright numbers, as many as fit, and at least two of them: one number alone gives no scale.
            fitting = max(axis.dtick, math.ceil(decades / max(1, width / POWER_WIDTH)))
            axis.update(tickangle=0, dtick=max(1, min(fitting, int(decades))))
    more = (lines - 1) * TITLE_LINE
    figure.update_layout(height=figure.layout.height + more)
    # Titles of one line then stand on one height with the first lines of longer ones.
    figure.update_layout(margin_b=48 + more)


def _pad(axis: Any, length: float, beside: float) -> None:
    """Keep half of the numbers at both ends of a logarithmic axis within its half of the gaps.

    Else the last number of one axis and the first of the next read as one: both are powers, and wide.

    Args:
        axis: from `_decades`; its range changes.
        length: of the axis in the narrowest figure, pixels.
        beside: half of a gap there, pixels.
    """
    low, high = axis.range
    inward = max(0.0, POWER_WIDTH / 2 - beside)
    if 2 * inward < length:
        more = max(0.0, (high - low - 2 * MARGIN) * inward / (length - 2 * inward) - MARGIN)
        axis.range = [low - more, high + more]


def place_columns(figure: Figure, names: Sequence[str], shares: Sequence[float]) -> None:
    """Give a figure under construction one axis pair per column, rows shared."""
    edges = np.concatenate([[0], np.cumsum(shares)]) / sum(shares)
    gap = GAP / 2
    for i, (left, right) in enumerate(itertools.pairwise(edges)):
        suffix = "" if i == 0 else str(i + 1)
        x = {
            "domain": [left + (gap if i else 0), right - gap * (i < len(shares) - 1)],
            "anchor": f"y{suffix}",
        }
        y = {
            "range": [len(names) - 0.4, -0.6],
            "tickvals": list(range(len(names))),
            "ticktext": [as_title(name) for name in names],
            "anchor": f"x{suffix}",
            "showgrid": False,
            "showticklabels": i == 0,
        }
        figure.update_layout({f"xaxis{suffix}": x, f"yaxis{suffix}": y | ({"matches": "y"} if i else {})})


def add_bars(figure: Figure, position: int, names: Sequence[str], column: Bars) -> None:
    """Draw one column of bars at its position in a figure under construction."""
    import plotly.graph_objects as go

    suffix = "" if position == 0 else str(position + 1)
    rows = np.arange(len(names), dtype=np.float32)
    axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
    notes = column.notes or [""] * len(names)
    text = [
        f"<b>{as_title(n)}</b>" + (f"<br>{note}" if note else "")
        for n, note in zip(names, notes, strict=True)
    ]
    colours = column.colours if isinstance(column.colours, str) else list(column.colours)
    hover = f"%{{hovertext}}<br>{column.title} %{{x:.4g}}<extra></extra>"
    common = {
        "x": np.asarray(column.values, np.float32),
        "y": rows,
        "hovertext": text,
        "hovertemplate": hover,
    }
    if column.log:
        # A bar's length means nothing on a logarithmic axis, which has no zero; a mark at its end does.
        mark = {"color": colours, "size": 11, "symbol": "diamond"}
        figure.add_trace(go.Scatter(mode="markers", marker=mark, name=column.title, **common, **axes))
    else:
        figure.add_trace(
            go.Bar(orientation="h", marker={"color": colours}, name=column.title, error_x=_whiskers(column),
                   **common, **axes)
        )  # fmt: skip
    if column.dots is not None and len(column.dots) > 1:
        values = np.asarray(column.dots, np.float32)
        figure.add_trace(
            go.Scatter(
                x=values.ravel(), y=np.tile(rows, len(values)), mode="markers", name="one sample",
                marker={"size": 4, "color": QUIET_COLOUR, "line": {"width": 0}, "opacity": 0.8},
                hovertemplate="one sample %{x:.4g}<extra></extra>", **axes,
            )
        )  # fmt: skip
    axis: dict[str, Any] = _decades(column.values) if column.log else {"nticks": 5}
    if column.span:
        axis["range"] = list(column.span)
    figure.update_layout({f"xaxis{suffix}": axis | {"title": {"text": column.title}}})


def _whiskers(column: Bars) -> dict[str, Any] | None:
    if column.whiskers is None:
        return None
    return {"array": np.asarray(column.whiskers, np.float32)}


def _decades(values: Float[np.ndarray, " R"]) -> dict[str, Any]:
    """A logarithmic axis over whole decades, at most five of them labelled."""
    values = np.asarray(values, float)
    logs = np.log10(values[np.isfinite(values) & (values > 0)])
    low, high = (math.floor(logs.min()), math.ceil(logs.max() + 1e-9)) if logs.size else (-1, 0)
    high = max(high, low + 1)
    ticks = {"tick0": low, "dtick": math.ceil((high - low) / 5), "exponentformat": "power"}
    return {"type": "log", "range": [low - MARGIN, high + MARGIN], **ticks}
