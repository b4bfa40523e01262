"""The live curves are drawn without plotly's checks, so they are made here."""

from __future__ import annotations

import json

import numpy as np
import plotly.graph_objects as go

from apps.pages.overfit.views import curves


def rows(count):
    found = []
    for step in range(1, count + 1):
        row = {"step": step, "loss": 1 / step, "loss/x": 0.5 / step, "loss/y": 0.5 / step}
        row |= {"lr/backbone": 1e-3, "lr/head": 1e-2, "gradient/backbone": 1.0, "gradient/head": 2.0}
        found.append(row | ({"pck": 0.5, "pck_train": 1.0} if step % 5 == 0 else {}))
    return found


def test_plotly_finds_nothing_wrong_with_them():
    figure = curves(rows(20), "session")
    assert json.loads(go.Figure(figure.to_dict()).to_json()) == json.loads(figure.to_json())


def test_each_panel_holds_what_its_axis_says():
    figure = curves(rows(20), "session")
    drawn = {(trace.name, trace.yaxis): trace for trace in figure.data}
    assert drawn["PCK, evaluation mode", "y2"].x.tolist() == [5, 10, 15, 20]
    assert drawn["loss", "y"].y[3] == np.float32(0.25)
    assert drawn["head", "y3"].y[0] == np.float32(1e-2)
    assert drawn["head", "y4"].y[0] == 2
    assert figure.layout.yaxis4.title.text == "gradient norm"
    assert figure.layout.uirevision == "session"


def test_before_the_first_step_there_are_empty_panels():
    assert all(len(trace.x) == 0 for trace in curves([], "session").data)
