"""Layout of all figures: one transparent template, readable on light and on dark pages."""

from __future__ import annotations

import functools
import html
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from plotly.graph_objs.layout import Template


# Ink per theme. "any" is for pages whose background is unknown (a notebook, a saved file): a grey of
# contrast >= 4:1 against white as well as against #12151b.
LAYOUT: dict[str, dict[str, str]] = {
    "any": {"ink": "#747c88", "grid": "rgba(128,136,148,.22)", "line": "rgba(128,136,148,.55)"},
    "light": {"ink": "#2b3139", "grid": "rgba(60,70,85,.13)", "line": "rgba(60,70,85,.45)"},
    "dark": {"ink": "#d7dce3", "grid": "rgba(200,210,225,.13)", "line": "rgba(200,210,225,.45)"},
}

# Characters of a title that fit one line of the narrowest page served (1280 px, half of it).
TITLE_WIDTH = 96


def template(theme: str) -> dict[str, Any]:
    """The plotly template of a theme: ``any``, ``light`` or ``dark``."""
    ink, grid, line = (LAYOUT[theme][key] for key in ("ink", "grid", "line"))
    axis = {
        "gridcolor": grid,
        "linecolor": line,
        "zerolinecolor": line,
        "tickcolor": line,
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 8},
    }
    # plotly's own is a dark blue, which nobody sees on a dark page.
    intervals = {name: {"color": ink, "thickness": 1.5} for name in ("error_x", "error_y")}
    return {
        "data": {"bar": [intervals]},
        "layout": {
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": ink, "size": 12, "family": "system-ui, -apple-system, Segoe UI, sans-serif"},
            "title": {
                **{"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 15}},
                **{"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 12}},
            },
            "margin": {"l": 56, "r": 24, "t": 64, "b": 48},
            "hoverlabel": {"align": "left", "namelength": -1},
            "legend": {"bgcolor": "rgba(0,0,0,0)", "orientation": "h", "y": 1.0, "yanchor": "bottom"},
            "xaxis": axis,
            "yaxis": axis,
            "coloraxis": {"colorbar": {"thickness": 12, "outlinewidth": 0}},
            "bargap": 0.25,
        },
    }


# Of plotly's own template: traces of the library's figures, and what belongs to no other kind of axes.
# plotly checks a template anew for each figure: 10 ms for the whole one, 3 ms for these parts.
_TRACES = ("scatter", "bar", "heatmap")
_OTHER_AXES = ("geo", "map", "mapbox", "polar", "scene", "smith", "ternary")


@functools.cache
def whole_template(theme: str) -> Template:
    """The template of a theme over plotly's own, merged once: the merge takes 50 ms."""
    from plotly.graph_objects import Figure
    from plotly.graph_objs.layout import Template

    figure = Figure()
    figure.update_layout(template=template(theme))
    merged = figure.to_dict()["layout"]["template"]
    data = {name: merged["data"][name] for name in _TRACES}
    layout = {name: value for name, value in merged["layout"].items() if name not in _OTHER_AXES}
    return Template({"data": data, "layout": layout})  # of no figure: what belongs to one is slower


def new_figure(title: str, *, x: str = "", y: str = "", height: int = 440, **layout: Any) -> Figure:
    """An empty figure with the workbench's look.

    Args:
        title: the finding in one sentence; wrapped, and shown as text (never as markup).
        x: title of the x axis, with its unit.
        y: title of the y axis, with its unit.
        height: pixels.
        layout: further plotly layout properties.
    """
    from workbench.figures.safe_figure import SafeFigure

    text = as_title(title)
    # Room for the title's lines (15 px type) and one row of legend.
    top = 20 * (text.count("<br>") + 1) + 44
    first: dict[str, Any] = {
        "template": whole_template("any"), "title": {"text": text}, "height": height, "margin": {"t": top},
    }  # fmt: skip
    if x:
        first["xaxis"] = {"title": {"text": x}}
    if y:
        first["yaxis"] = {"title": {"text": y}}
    figure = SafeFigure(layout=first)
    if layout:
        figure.update_layout(**layout)
    return figure


def as_title(text: str) -> str:
    """Text for plotly: wrapped, with markup escaped (names come from files)."""
    return "<br>".join(html.escape(line, quote=False) for line in textwrap.wrap(text, TITLE_WIDTH))


# Margin beyond the outermost values, share of their span.
MARGIN = 0.06


def on_same_axes(a: Figure, b: Figure) -> tuple[Figure, Figure]:
    """Copies of two figures of the same kind with equal ranges on every numeric axis, for comparison.

    Axes that a figure fixes itself, hides, or labels with names are unchanged, and so are figures with
    different kinds of traces.
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
        margin = MARGIN * (high - low or 1)
        # A bar begins at zero: a margin below it would look like a negative value.
        limits = [low if low == 0 and _bars(a, name) else low - margin, high + margin]
        for figure in made:
            figure.update_layout({name: {"range": limits}})
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
