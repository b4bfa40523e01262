"""How does it go? Loss, PCK in both modes, learning rate and gradient norm per part, over the steps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures import FINDING_COLOUR, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# More points than this cannot be told apart on half a page; a run of 100000 steps stays quick to draw.
POINTS = 500

PANELS = (
    ("loss", "loss", "log"),
    ("PCK", "PCK", "linear"),
    ("learning rate", "learning rate", "log"),
    ("gradient norm", "gradient norm", "log"),
)
INKS = (*RUN_COLOURS, FINDING_COLOUR)


def curves(rows: Sequence[dict[str, Any]], key: str) -> Figure:
    """Four panels over the steps.

    Args:
        rows: of a session, one per step.
        key: zoom and hidden curves are kept while it stays the same.
    """
    import plotly.graph_objects as go

    kept = rows[:: max(1, len(rows) // POINTS)]
    parts = [k for k in (rows[0] if rows else {}) if k.startswith("loss/")]
    traces = [_curve(0, kept, "loss", "loss", INKS[0])]
    if len(parts) > 1:
        for part, ink in zip(parts, INKS[1:], strict=False):
            traces.append(_curve(0, kept, part, part.replace("/", ": "), ink, dash="dot"))
    measured = [row for row in rows if row.get("pck") is not None]
    measured = measured[:: max(1, len(measured) // POINTS)]
    traces.append(_curve(1, measured, "pck_train", "PCK, training mode", INKS[1], dash="dot"))
    traces.append(_curve(1, measured, "pck", "PCK, evaluation mode", INKS[0]))
    groups = [k.partition("/")[2] for k in (rows[0] if rows else {}) if k.startswith("lr/")]
    for group, ink in zip(groups, INKS * 3, strict=False):
        traces.append(_curve(2, kept, f"lr/{group}", group, ink))
        traces.append(_curve(3, kept, f"gradient/{group}", group, ink, legend=False))
    if not groups:  # before the first step: a panel without a curve would have no axes
        traces += [
            _curve(panel, (), "", name, INKS[0], legend=False)
            for panel, (name, *_) in enumerate(PANELS[2:], 2)
        ]
    whole = {"data": traces, "layout": {**_panels(), "uirevision": key}}
    # Drawn every second beside the loop that it watches: plotly's checks took a tenth of that loop's time.
    # A test makes them instead.
    return go.Figure(whole, _validate=False)


@functools.cache
def _panels() -> dict[str, Any]:
    """The layout, made once: 2 x 2 panels, with room for the axes' titles between them."""
    figure = new_figure("", height=450, showlegend=True, hovermode="x unified")
    for i, (name, unit, scale) in enumerate(PANELS):
        suffix = "" if i == 0 else str(i + 1)
        left, top = (i % 2) * 0.57, 1 - (i // 2) * 0.56
        x = {"domain": [left, left + 0.43], "anchor": f"y{suffix}"}
        y = {"domain": [max(0.0, top - 0.44), top], "anchor": f"x{suffix}", "type": scale}
        figure.update_layout({f"xaxis{suffix}": x, f"yaxis{suffix}": y})
        figure.update_layout(
            {
                f"yaxis{suffix}_title_text": unit,
                f"yaxis{suffix}_exponentformat": "power",
                # Titles keep their distance however long the numbers are, and the margin grows with them.
                f"yaxis{suffix}_automargin": True,
                f"xaxis{suffix}_automargin": True,
                f"yaxis{suffix}_title_standoff": 6,
                # Few enough that the digits between powers of ten never stand on each other.
                f"yaxis{suffix}_nticks": 3,
            }
            | ({f"xaxis{suffix}_title_text": "step"} if i > 1 else {})
            | ({f"xaxis{suffix}_matches": "x"} if i else {})
            | ({f"yaxis{suffix}_range": [-0.03, 1.03]} if name == "PCK" else {})
        )
    figure.update_layout(margin={"l": 60, "r": 16, "t": 56, "b": 44})
    # Above the topmost label of the axes, which stands half above the panel.
    figure.update_layout(legend={"y": 1.1, "yanchor": "bottom"})
    return figure.to_dict()["layout"]


def _curve(
    panel: int,
    rows: Sequence[dict[str, Any]],
    column: str,
    name: str,
    ink: str,
    dash: str = "solid",
    legend: bool = True,
) -> dict[str, Any]:
    suffix = "" if panel == 0 else str(panel + 1)
    values = [row.get(column) for row in rows]
    return {
        "type": "scatter",
        "x": np.array([row["step"] for row in rows], np.float32),
        "y": np.array([np.nan if v is None else v for v in values], np.float32),
        "name": name,
        "legendgroup": name,
        "showlegend": legend,
        "mode": "lines+markers" if len(rows) < 60 else "lines",
        "marker": {"size": 4},
        "line": {"color": ink, "width": 1.7, "dash": dash},
        "connectgaps": True,
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
    }
