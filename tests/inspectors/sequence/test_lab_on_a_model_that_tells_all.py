"""A second model, no relative of cape, goes through all of the lab; its numbers are known by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.inspectors.sequence.telling import SKELETON, Telling, bent
from workbench.core import NotAvailable
from workbench.core.capabilities import RollsOut
from workbench.core.run import run
from workbench.inspectors import ALL, folder_of, get
from workbench.inspectors.sequence import lab, schedules, step_attention, support
from workbench.inspectors.sequence.rollout import PckRule
from workbench.models import open_model
from workbench.training.settings import Settings

ADAPTER = Path(__file__).with_name("telling.py")


@pytest.fixture(scope="module")
def adapted():
    """The model as --adapter opens it."""
    return open_model(None, adapter=ADAPTER).model


def test_every_question_is_answered_through_an_adapter(adapted):
    report = lab.compute(run(adapted, [bent(), bent(4)]))
    assert report.missing == {}
    assert report.steps.pck_free == report.steps.pck_forced == 1.0
    assert report.support is not None
    assert report.support.by_kind["zero"] == 0.0
    assert report.types is not None
    assert report.types.ends_at.tolist() == [[3, 3], [3, 3]]
    assert all(RollsOut in get(name).needs.capabilities for name in ALL if folder_of(name) == "sequence")


def test_the_support_of_another_image_moves_the_answers_by_what_it_differs(adapted):
    found = support.compute(run(adapted, [bent()]), support.Params(), [bent(3)])
    moved = dict(zip(found.kinds, found.moved, strict=True))
    # The other's corner is the same, its points lie 3 of the box's 20 pixels further right.
    assert moved["other"] == pytest.approx(3 / 20, abs=1e-5)
    assert found.verdict == "used"


def test_a_step_alone_is_drawn_over_image_and_support(adapted):
    looked = run(adapted, [bent()])
    report = step_attention.compute(looked, step_attention.Params(step="b"))
    assert report.own[1] == pytest.approx(0.8)
    assert report.same_picture
    # The lit pixel is c, 6 of the box's 20 pixels from b.
    assert report.away[1] == pytest.approx(6 / 20, abs=1e-6)
    assert [row["own"] for row in report.table()] == [False, True, False]
    marks = next(t for t in report.plot().data if t.customdata is not None)
    assert np.argmax(marks.marker.size) == 1
    with pytest.raises(ValueError, match="no 'd' in this run"):
        step_attention.compute(looked, step_attention.Params(step="d"))


def test_schedules_are_measured_while_they_learn_and_can_be_stopped(adapted):
    steps = []
    settings = Settings(steps=6, measure_every=2)
    kinds = ("teacher", "linear")
    report = schedules.compare(adapted, [bent()], settings, kinds, stepped=lambda: steps.append(1))
    assert len(steps) == 12
    assert report.at.tolist() == [1, 2, 4, 6]
    assert report.truth[0].tolist() == [1.0] * 4
    assert report.truth[1].tolist() == pytest.approx([0.75, 0.5, 0, 0])
    assert {row["schedule"] for row in report.table()} == set(kinds)
    assert report.free.shape == (2, 4)

    def enough() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        schedules.compare(adapted, [bent()], settings, stepped=enough)
    with pytest.raises(ValueError, match="longer side"):
        schedules.compare(adapted, [bent()], settings, rule=PckRule(normaliser="diagonal"))


def test_bad_input_is_one_sentence_each(adapted):
    short = dataclasses.replace(bent(), truth=bent().truth[:2])
    blind = dataclasses.replace(bent(), truth=bent().truth * (1, 1, 0))
    with pytest.raises(ValueError, match="no keypoint is visible"):
        lab.compute(run(adapted, [blind]))
    with pytest.raises(ValueError, match=r"telling.py, line \d+: ValueError"):
        run(adapted, [short, bent()])
    with pytest.raises(NotAvailable, match="no annotation"):
        lab.compute(run(Telling(), [dataclasses.replace(bent(), truth=None)]))
    assert len(SKELETON) == 3
