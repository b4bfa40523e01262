"""Figures of an error analysis: what each repair would give back, and which errors each keypoint has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.evaluation.errors import KINDS, WORDS
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = dict(
    zip(KINDS, (QUIET_COLOUR, RUN_COLOURS[0], RUN_COLOURS[3], RUN_COLOURS[2], RUN_COLOURS[1]), strict=True)
)
"""Kind of keypoint error -> its colour, the same in every figure."""


def overview(title: str, keypoints: Sequence[Mapping[str, Any]], repairs: Mapping[str, float]) -> Figure:
    """AP that each repair would give back, the largest on top, beside the keypoints' errors.

    Args:
        title: the finding.
        keypoints: rows of Errors.per_keypoint.
        repairs: kind of error -> AP given back; nan is left out.
    """
    import plotly.graph_objects as go

    figure = new_figure(title, height=max(330, 24 * len(keypoints) + 150))
    held = {kind: delta for kind, delta in repairs.items() if math.isfinite(delta)}
    kinds = sorted(held, key=lambda kind: held[kind])
    worst = kinds[-1] if kinds else ""
    figure.add_trace(
        go.Bar(
            x=np.array([held[kind] for kind in kinds], np.float32), y=[WORDS[kind] for kind in kinds],
            orientation="h", showlegend=False, customdata=np.array(kinds, object),
            marker={"color": [FINDING_COLOUR if kind == worst else QUIET_COLOUR for kind in kinds]},
            hovertemplate="%{y} repaired: %{x:+.4f} AP<extra></extra>",
        )
    )  # fmt: skip
    for trace in _traces(keypoints):
        figure.add_trace(trace)
    return figure.update_layout(
        barmode="stack", legend={"y": 1.0, "x": 0.56, "xanchor": "left"},
        xaxis={"domain": [0, 0.36], "title": {"text": "AP given back if repaired"}, "nticks": 5},
        yaxis={"showgrid": False},
        xaxis2={"domain": [0.56, 1], "anchor": "y2", "title": {"text": "share of judged keypoints (%)"},
                "range": [0, 100]},
        yaxis2={"anchor": "x2", "showgrid": False, "autorange": "reversed"},
    )  # fmt: skip


def _traces(keypoints: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Stacked bars of the kinds of errors, one row for each judged keypoint; good ones are left out."""
    import plotly.graph_objects as go

    judged = [row for row in keypoints if row["judged"]]
    names = [row["keypoint"] for row in judged]
    traces = []
    for kind in KINDS[1:]:
        counts = np.array([row[kind] for row in judged], np.float32)
        shares = 100 * counts / np.array([row["judged"] for row in judged], np.float32).clip(1)
        traces.append(
            go.Bar(
                x=shares.astype(np.float32), y=names, orientation="h", name=kind, meta={"kind": kind},
                marker={"color": COLOURS[kind]}, customdata=counts, xaxis="x2", yaxis="y2",
                hovertemplate=f"%{{y}}: {kind} %{{x:.1f}} % (%{{customdata:.0f}})<extra></extra>",
            )
        )  # fmt: skip
    return traces
