"""How does every figure look? One template, transparent, readable on light and on dark pages."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

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
    return {
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
        }
    }


def new_figure(title: str, *, x: str = "", y: str = "", height: int = 440, **layout: Any) -> Figure:
    """An empty figure with the workbench's look.

    Args:
        title: the finding, as a person would say it; wrapped, and shown as text (never as markup).
        x: title of the x axis, with its unit.
        y: title of the y axis, with its unit.
        height: pixels.
        layout: further plotly layout properties.
    """
    from workbench.figures.safe_figure import SafeFigure

    figure = SafeFigure()
    text = as_title(title)
    # Room for the title's lines (15 px type) and one row of legend.
    top = 20 * (text.count("<br>") + 1) + 44
    figure.update_layout(template=template("any"), title_text=text, height=height, margin_t=top)
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    if layout:
        figure.update_layout(**layout)
    return figure


def as_title(text: str) -> str:
    """Text as plotly shows it: wrapped, with markup made harmless (names come from files)."""
    return "<br>".join(html.escape(line, quote=False) for line in textwrap.wrap(text, TITLE_WIDTH))


def themed(figure: Figure, dark: bool) -> Figure:
    """The same figure with the ink of a light or a dark page; backgrounds stay transparent."""
    from workbench.figures.safe_figure import SafeFigure

    return SafeFigure(figure).update_layout(template=template("dark" if dark else "light"))
