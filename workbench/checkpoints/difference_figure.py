"""How is the difference of two checkpoints drawn? A bar per module, and every tensor by its depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from workbench.figures import RUN_COLOURS, SEQUENTIAL, new_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.checkpoints.difference import CheckpointDifference

# Below this a change is shown as this: a logarithmic axis has no zero. float32 rounding is 6e-8.
_FLOOR = 1e-8
_KINDS = ("weight", "bias", "running_mean", "running_var", "other")
_ROW = 22  # screen pixels per module


def draw(found: CheckpointDifference) -> Figure:
    """The change of every module and of every tensor, logarithmic."""
    from plotly import graph_objects as go

    modules = list(found.modules)
    changes = np.nan_to_num(np.array([found.modules[m] for m in modules], np.float32))
    bars = go.Bar(
        x=np.maximum(changes, _FLOOR),
        y=modules,
        orientation="h",
        marker={"color": RUN_COLOURS[0]},
        hovertemplate="%{y}<br>relative L2 %{x:.3g}<extra></extra>",
        showlegend=False,
    )
    layers, grid, names = _grid(found)
    heat = go.Heatmap(
        z=grid,
        y=list(_KINDS),
        x=np.arange(len(layers), dtype=np.float32),
        customdata=names,
        colorscale=SEQUENTIAL,
        colorbar={"title": "log10 of<br>relative L2", "thickness": 12, "outlinewidth": 0},
        hovertemplate="%{customdata}<br>10^%{z:.2f}<extra></extra>",
        xaxis="x2",
        yaxis="y2",
    )
    figure = new_figure(found.summary(), height=max(400, 160 + _ROW * len(modules)))
    figure.add_traces([bars, heat])
    figure.update_layout(
        xaxis={"type": "log", "title": "relative L2 change by module", "domain": [0, 0.42]},
        yaxis={"autorange": "reversed"},
        xaxis2={"title": "layer, in the file's order", "domain": [0.56, 1], "anchor": "y2"},
        yaxis2={"anchor": "x2", "autorange": "reversed"},
    )
    return figure


def _grid(found: CheckpointDifference) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Layers, log10 of the relative change [kinds, layers] (nan: no such tensor), tensor names alike."""
    layers = list(dict.fromkeys(t.name.rpartition(".")[0] for t in found.tensors))
    column = {layer: i for i, layer in enumerate(layers)}
    grid = np.full((len(_KINDS), len(layers)), np.nan, np.float32)
    names = np.full(grid.shape, "", object)
    for t in found.tensors:
        layer, _, kind = t.name.rpartition(".")
        if kind == "num_batches_tracked":
            continue
        place = _KINDS.index(kind) if kind in _KINDS else len(_KINDS) - 1, column[layer]
        if not math.isnan(t.relative):
            grid[place] = math.log10(max(t.relative, _FLOOR))
        names[place] = t.name
    return layers, grid, names
