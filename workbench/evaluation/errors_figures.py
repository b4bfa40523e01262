"""Figures of an error analysis: what each repair would give back, and which errors each keypoint has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluation.errors import KINDS
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS, new_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.evaluation.errors_report import Errors

COLOURS = dict(
    zip(KINDS, (QUIET_COLOUR, RUN_COLOURS[0], RUN_COLOURS[3], RUN_COLOURS[2], RUN_COLOURS[1]), strict=True)
)
"""Kind of keypoint error -> its colour, the same in every figure."""


def overview(report: Errors) -> Figure:
    """AP that each repair would give back, the largest on top, beside the keypoints' errors."""
    import plotly.graph_objects as go

    from workbench.evaluation.errors_report import WORDS

    keypoints = report.per_keypoint()
    figure = new_figure(report.summary(), height=max(330, 24 * len(keypoints) + 150))
    held = {kind: delta for kind, delta in report.repairs.items() if math.isfinite(delta)}
    kinds = sorted(held, key=lambda kind: held[kind])
    worst = kinds[-1] if kinds else ""
    figure.add_trace(
        go.Bar(
            x=np.array([held[kind] for kind in kinds], np.float32),
            y=[WORDS[kind] for kind in kinds],
            orientation="h", showlegend=False, customdata=np.array(kinds, object),
            marker={"color": [FINDING_COLOUR if kind == worst else QUIET_COLOUR for kind in kinds]},
            hovertemplate="%{y} repaired: %{x:+.4f} AP<extra></extra>",
        )
    )  # fmt: skip
    for trace in keypoint_traces(report):
        figure.add_trace(trace.update(xaxis="x2", yaxis="y2"))
    figure.update_layout(
        barmode="stack", legend={"y": 1.0, "x": 0.62, "xanchor": "left"},
        xaxis={"domain": [0, 0.36], "title": {"text": "AP given back if repaired"}, "nticks": 5},
        yaxis={"showgrid": False},
        xaxis2={"domain": [0.56, 1], "anchor": "y2", "title": {"text": "share of judged keypoints (%)"},
                "range": [0, 100]},
        yaxis2={"anchor": "x2", "showgrid": False, "autorange": "reversed"},
    )  # fmt: skip
    return figure


def keypoint_traces(report: Errors) -> list:
    """Stacked bars of the kinds of errors, one row for each judged keypoint; good ones are left out."""
    import plotly.graph_objects as go

    judged = [row for row in report.per_keypoint() if row["judged"]]
    names = [row["keypoint"] for row in judged]
    traces = []
    for kind in KINDS[1:]:
        counts = np.array([row[kind] for row in judged], np.float32)
        shares = 100 * counts / np.array([row["judged"] for row in judged], np.float32).clip(1)
        traces.append(
            go.Bar(
                x=shares.astype(np.float32), y=names, orientation="h", name=kind,
                marker={"color": COLOURS[kind]}, customdata=counts,
                hovertemplate=f"%{{y}}: {kind} %{{x:.1f}} % (%{{customdata:.0f}})<extra></extra>",
            )
        )  # fmt: skip
    return traces


def keypoint_figure(report: Errors, title: str) -> Figure:
    """Errors of each keypoint alone."""
    rows = sum(row["judged"] > 0 for row in report.per_keypoint())
    figure = new_figure(title, x="share of judged keypoints (%)", height=24 * max(rows, 4) + 140)
    for trace in keypoint_traces(report):
        figure.add_trace(trace)
    return figure.update_layout(barmode="stack", yaxis={"autorange": "reversed", "showgrid": False})


def repair_figure(report: Errors, title: str) -> Figure:
    """AP that each repair would give back, alone."""
    figure = overview(report)
    alone = new_figure(title, x="AP given back if repaired", height=300)
    alone.add_trace(figure.data[0])
    return alone.update_layout(yaxis={"showgrid": False})
