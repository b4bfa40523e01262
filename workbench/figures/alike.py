"""How do two figures of the same kind stand side by side? On the same axes, so that lengths compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Air beyond the outermost values, share of their span.
AIR = 0.06


def on_same_axes(figures: tuple[Figure, Figure]) -> tuple[Figure, Figure]:
    """Copies of both figures, every numeric axis as wide as both need, every colour scale as high.

    Axes that a figure has fixed itself, hides or names stay as they are; figures of different kinds as well.
    """
    import plotly.graph_objects as go

    told = [figure.to_plotly_json() for figure in figures]
    made = (go.Figure(figures[0]), go.Figure(figures[1]))
    if [t.get("type") for t in told[0]["data"]] != [t.get("type") for t in told[1]["data"]]:
        return made
    for name in set(_axes(told[0])) & set(_axes(told[1])):
        spans = [span for t in told if (span := _span(t, name)) is not None]
        if len(spans) < 2 or any(_fixed(t["layout"].get(name, {})) for t in told):
            continue
        low, high = min(s[0] for s in spans), max(s[1] for s in spans)
        air = AIR * (high - low or 1)
        # A bar begins at zero: air below it would look like a negative value.
        floor = low if low == 0 else low - air
        for figure in made:
            figure.update_layout({name: {"range": [floor, high + air]}})
    tops = [t["layout"].get("coloraxis", {}).get("cmax") for t in told]
    if None not in tops:
        for figure in made:
            figure.update_layout(coloraxis={"cmax": max(tops)})
    return made


def _axes(told: dict[str, Any]) -> list[str]:
    return [name for name in told["layout"] if name.startswith(("xaxis", "yaxis"))]


def _fixed(axis: dict[str, Any]) -> bool:
    return "range" in axis or axis.get("visible") is False or "ticktext" in axis or axis.get("type") == "log"


def _span(told: dict[str, Any], axis: str) -> tuple[float, float] | None:
    """Smallest and largest value drawn along an axis; None where there is none."""
    letter = axis[0]
    short = axis.replace("axis", "")
    found = [
        np.asarray(trace.get(letter), float)
        for trace in told["data"]
        if trace.get(f"{letter}axis", letter) == short and np.asarray(trace.get(letter)).dtype.kind in "fiu"
    ]
    bars = any(
        trace.get("type") == "bar" and trace.get("orientation", "v") == {"x": "h", "y": "v"}[letter]
        for trace in told["data"]
        if trace.get(f"{letter}axis", letter) == short
    )
    values = np.concatenate([f.ravel() for f in found]) if found else np.empty(0)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    return (min(low, 0.0), max(high, 0.0)) if bars else (low, high)
