"""A figure of a notebook's panel that changes in place, drawn by the plotly.js that the notebook carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anywidget
import traitlets

from workbench.core.report import plotly_script

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# plotly's own FigureWidget brings a second plotly.js (5 MB) into the saved notebook.
DRAW = """
export default {
  render({ model, el }) {
    const place = document.createElement("div");
    el.append(place);
    let over = false;
    const draw = () => {
      if (over) return;
      if (!window.Plotly) { setTimeout(draw, 200); return; }
      const { data, layout } = JSON.parse(model.get("drawn"));
      window.Plotly.react(place, data, layout, { responsive: true });
    };
    model.on("change:drawn", draw);
    draw();
    return () => {
      over = true;
      model.off("change:drawn", draw);
      window.Plotly?.purge(place);
    };
  },
};
"""


class LiveFigure(anywidget.AnyWidget):
    """A widget that shows a plotly figure.

    Attributes:
        drawn: the figure as JSON; setting it draws the figure anew.
    """

    _esm = DRAW
    drawn = traitlets.Unicode("{}").tag(sync=True)

    def __init__(self, figure: Figure) -> None:
        super().__init__(drawn=str(figure.to_json()))

    def show(self, figure: Figure) -> None:
        """Draw this figure in the place of the one before."""
        self.drawn = str(figure.to_json())


def display_panel(panel: object) -> None:
    """Display a panel's widget, and before it plotly.js where the notebook does not carry it yet."""
    from IPython.display import HTML, display

    if script := plotly_script():
        display(HTML(script))
    display(panel)
