"""The live curves are drawn without plotly's checks, so they are made here."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest

from apps.pages.overfit import views


def rows(count):
    found = []
    for step in range(1, count + 1):
        row = {"step": step, "loss": 1 / step, "loss/x": 0.5 / step, "loss/y": 0.5 / step}
        row |= {"lr/backbone": 1e-3, "lr/head": 1e-2, "gradient/backbone": 1.0, "gradient/head": 2.0}
        found.append(row | ({"pck": 0.5, "pck_train": 1.0} if step % 5 == 0 else {}))
    return found


def curves(rows, key):
    """As plotly understands them; raises where it finds something wrong."""
    return go.Figure(json.loads(views.curves(rows, key).plot))


def numbers(array):
    return np.frombuffer(base64.b64decode(array["bdata"]), "<f4").tolist()


def test_plotly_would_send_the_browser_the_same():
    sent = views.curves(rows(20), "session").plot
    assert json.loads(go.Figure(json.loads(sent)).to_json()) == json.loads(sent)


def test_each_panel_holds_what_its_axis_says():
    figure = curves(rows(20), "session")
    drawn = {(trace.name, trace.yaxis): trace for trace in figure.data}
    assert numbers(drawn["PCK, evaluation mode", "y2"].x) == [5, 10, 15, 20]
    assert numbers(drawn["loss", "y"].y)[3] == 0.25
    assert numbers(drawn["head", "y3"].y)[0] == np.float32(1e-2)
    assert numbers(drawn["head", "y4"].y)[0] == 2
    assert figure.layout.yaxis4.title.text == "gradient norm"
    assert figure.layout.uirevision == "session"


def test_a_logarithmic_axis_has_two_numbers_however_near_its_values_are():
    layout = curves(rows(3), "session").layout
    assert layout.yaxis4.tickvals == (1, 2)  # the gradient norms
    assert layout.yaxis.tickvals == (0.1, 0.2, 0.5, 1)  # 1/6 to 1
    assert layout.yaxis2.tickvals is None
    assert curves([{"step": 1, "loss": 4.2}], "session").layout.yaxis.tickvals == (2, 5)
    wide = [{"step": 1, "loss": 1e3}, {"step": 2, "loss": 1e-9}]
    assert curves(wide, "session").layout.yaxis.tickvals == (1e-9, 1e-5, 0.1, 1e3)


def test_before_the_first_step_a_sentence_stands_in_place_of_empty_axes():
    figure = curves([], "session")
    assert not figure.data
    assert figure.layout.xaxis.visible is False
    assert figure.layout.yaxis.visible is False
    (said,) = figure.layout.annotations
    assert said.text.startswith("Start draws loss, PCK, learning rate")


def test_a_layer_cannot_bring_a_link_into_the_legend():
    link = '<a href="https://example.org">backbone</a>'
    row = {"step": 1, "loss": 1.0, f"lr/{link}": 1e-3, f"gradient/{link}": 1.0}
    assert "<a" not in views.curves([row], "session").plot


@pytest.mark.parametrize(("learned", "said"), [(True, "was learned"), (False, "none can mend")])
def test_a_bisection_without_trials_says_that_none_was_made(learned, said):
    from apps.pages.overfit.views import _cause
    from workbench.training.bisection import Cause

    job = SimpleNamespace(state="finished", error="")
    run = SimpleNamespace(cause=Cause(), verdict=SimpleNamespace(learned=learned))
    text = _cause(SimpleNamespace(job=job, run=run))
    assert said in text
    assert "no switch was tried" in text
