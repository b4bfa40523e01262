"""How do two figures of the same kind stand side by side? On the same axes, so that lengths compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Air beyond the outermost values, share of their span.
AIR = 0.06


def on_same_axes(a: Figure, b: Figure) -> tuple[Figure, Figure]:
    """Copies of both figures, every numeric axis as wide as both need.

    Axes that a figure fixes itself, hides, or labels with names stay as they are, and so do figures that do
    not draw the same kinds of traces.
    """
    from workbench.figures.safe_figure import SafeFigure

    made = (SafeFigure(a), SafeFigure(b))
    kinds = [[type(trace) for trace in figure.data] for figure in made]
    if kinds[0] != kinds[1]:
        return made
    layouts = [figure.to_plotly_json()["layout"] for figure in (a, b)]
    for name in sorted(n for n in layouts[0] if n.startswith(("xaxis", "yaxis")) and n in layouts[1]):
        spans = [_span(figure, name) for figure in (a, b)]
        if None in spans or any(_fixed(layout[name]) for layout in layouts):
            continue
        low, high = (f(s[i] for s in spans if s) for i, f in ((0, min), (1, max)))
        air = AIR * (high - low or 1)
        # A bar begins at zero: air below it would look like a negative value.
        reach = [low if low == 0 and _bars(a, name) else low - air, high + air]
        for figure in made:
            figure.update_layout({name: {"range": reach}})
    return made


def _fixed(axis: dict[str, Any]) -> bool:
    return "range" in axis or axis.get("visible") is False or "ticktext" in axis or axis.get("type") == "log"


def _span(figure: Figure, axis: str) -> tuple[float, float] | None:
    """Smallest and largest value drawn along an axis; None where there is none."""
    drawn = [np.asarray(getattr(t, axis[0], None)) for t in _traces(figure, axis)]
    values = [v.ravel().astype(float) for v in drawn if v.dtype.kind in "fiu"]
    known = np.concatenate(values) if values else np.empty(0)
    known = known[np.isfinite(known)]
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    return (min(low, 0.0), max(high, 0.0)) if _bars(figure, axis) else (low, high)


def _bars(figure: Figure, axis: str) -> bool:
    """Whether bars lie along an axis."""
    lies = {"x": "h", "y": "v"}[axis[0]]
    return any(t.type == "bar" and (t.orientation or "v") == lies for t in _traces(figure, axis))


def _traces(figure: Figure, axis: str) -> list[Any]:
    letter, short = axis[0], axis.replace("axis", "")
    return [t for t in figure.data if (getattr(t, f"{letter}axis", None) or letter) == short]
