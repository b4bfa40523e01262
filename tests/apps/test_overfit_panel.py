"""The notebook panel: it returns at once and trains on, and a failed attempt is explained."""

from __future__ import annotations

import pytest

from apps.notebook.overfit_panel import OverfitPanel
from tests.training.tiny import Tiny, picture
from tests.waiting import until
from workbench.training.faults import PLANTED
from workbench.training.plan import Plan
from workbench.training.settings import Settings

ENDLESS = Plan(Settings(steps=1_000_000, measure_every=1000))


def test_its_buttons_hold_the_session_and_each_returns_at_once():
    panel = OverfitPanel(Tiny(), [picture()], ENDLESS)
    press = {word: button.click for word, button in panel._buttons.items()}
    press["Start"]()
    assert panel.session.status().state == "running"  # a million steps are not over
    until(lambda: len(panel.session.rows) > 3)
    press["Pause"]()
    until(lambda: panel.session.status().state == "paused")
    done = panel.session.status().step
    press["Step 10"]()
    until(lambda: panel.session.status().step == done + 10)
    press["Stop"]()
    assert panel.wait(60)
    until(lambda: len(panel.figure.data[0].x) == done + 10)
    until(lambda: panel._live.drawn == panel.figure.to_json())
    assert panel.verdict is not None


def test_a_planted_fault_is_named_and_the_weights_of_the_attempt_stay():
    model = Tiny(dropout=0.1)
    plan = PLANTED["ema"](Plan(Settings(steps=120, learning_rate=4e-3, measure_every=40)), model)
    panel = OverfitPanel(model, [picture()], plan)
    panel.start()
    assert panel.wait(120)
    assert panel.culprit == "ema"
    assert "without ema it learns" in panel._text.value


def test_what_cannot_be_learned_is_refused_before_anything_runs():
    import dataclasses

    import numpy as np

    with pytest.raises(ValueError, match="no keypoint is visible"):
        OverfitPanel(Tiny(), [dataclasses.replace(picture(), truth=np.zeros((3, 3)))])
