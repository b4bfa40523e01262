"""How is a load report drawn? A bar per module: how much of it came from the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.figures import FINDING_COLOUR, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.checkpoints.loading import LoadReport

_ROW = 26  # screen pixels per module


def draw(found: LoadReport) -> Figure:
    """The loaded fraction of every module, in the model's order."""
    from plotly import graph_objects as go

    from workbench.checkpoints.loading import percent

    names = list(found.modules)
    loaded, total = np.array([found.modules[n] for n in names], np.float64).reshape(-1, 2).T
    bars = go.Bar(
        x=(loaded / np.maximum(total, 1) * 100).astype(np.float32),
        y=names,
        orientation="h",
        text=[f"{int(a):,} of {int(b):,}" for a, b in zip(loaded, total, strict=True)],
        marker={
            "color": [
                RUN_COLOURS[0] if a == b else FINDING_COLOUR for a, b in zip(loaded, total, strict=True)
            ]
        },
        hovertemplate="%{y}: %{x:.1f} %<br>%{text}<extra></extra>",
    )
    figure = new_figure(
        f"{percent(found.loaded_fraction)} of the parameters loaded from {found.file}",
        x="weights loaded (%)",
        height=max(260, 140 + _ROW * len(names)),
    )
    figure.add_trace(bars)
    figure.update_xaxes(range=[0, 105])
    figure.update_yaxes(autorange="reversed")
    return figure
