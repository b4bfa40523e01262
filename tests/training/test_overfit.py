"""The verdict by hand, and the bisector against planted faults."""

from __future__ import annotations

import json

import pytest

from tests.training.tiny import Tiny, picture
from workbench.training.faults import PLANTED
from workbench.training.overfit import overfit
from workbench.training.plan import Plan
from workbench.training.settings import Settings
from workbench.training.switches import SWITCHES, why_of
from workbench.training.verdict import judge

PLAN = Plan(Settings(steps=120, learning_rate=4e-3, measure_every=40))


def rows(first, last, pck_train, pck):
    return [{"step": 1, "loss": first}, {"step": 2, "loss": last, "pck": pck, "pck_train": pck_train}]


@pytest.mark.parametrize(
    ("numbers", "outcome"),
    [
        ((1.0, 0.01, 1.0, 1.0), "learned"),
        ((1.0, 0.01, 0.3, 0.3), "loss falls but decoding fails"),
        ((1.0, 0.01, 1.0, 0.3), "train and inference paths disagree"),
        ((1.0, 0.80, 0.3, 0.3), "cannot fit"),
        ((1.0, 0.80, 0.3, None), "cannot fit"),
    ],
)
def test_the_four_outcomes(numbers, outcome):
    made = rows(*numbers)
    if numbers[3] is None:
        made[1]["pck"] = float("nan")
    assert judge(made).outcome == outcome


def test_a_verdict_needs_a_measured_step():
    with pytest.raises(ValueError, match="no step was measured"):
        judge([{"step": 1, "loss": 1.0}])


def test_a_healthy_network_learns_its_picture_and_no_culprit_is_named():
    report = overfit(Tiny(dropout=0.1), [picture()], PLAN, title="tiny")
    assert report.verdict.learned
    assert report.culprit == ""
    assert not report.trials
    facts = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert facts["verdict"] == "learned"
    assert facts["pck"] == 1.0
    assert facts["steps"] == 120


# Each takes as many attempts as pieces come before it; CI makes all.
LATE = ("weight decay", "codec", "dropout", "learning rate")


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=pytest.mark.long if fault in LATE else ()) for fault in PLANTED]
)
def test_the_bisector_names_the_planted_fault(fault):
    model = Tiny(dropout=0.1)
    report = overfit(model, [picture()], PLANTED[fault](PLAN, model), title="tiny")
    assert not report.verdict.learned, report.verdict
    assert report.culprit == fault, report.summary()
    assert report.table()[-1]["without"] == fault
    assert fault in report.summary()


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (1e-9, "1e-09 is too low; 0.001 was tried"),
        (3.0, "3 is too high to converge; 0.001 was tried"),
        (5e-3, "0.005 is too high to converge; 0.0005 was tried"),
    ],
)
def test_a_learning_rate_is_called_too_low_or_too_high_by_what_was_tried(rate, said):
    plan = PLAN.with_settings(learning_rate=rate)
    (switch,) = (one for one in SWITCHES if one.name == "learning rate")
    assert why_of(switch, plan, switch.off(plan, Tiny())) == f"the learning rate {said}"


def test_a_planted_codec_with_too_few_steps_is_what_helped_most_and_more_steps_prove_it():
    def attempt(steps):
        model = Tiny()
        plan = Plan(Settings(steps=steps, learning_rate=1e-3, measure_every=steps))
        return overfit(model, [picture()], PLANTED["codec"](plan, model), title="tiny")

    few = attempt(20)
    assert few.culprit == ""
    assert few.helped.startswith("without codec PCK rises most, from 0.00 to 0.67, but the steps are too few")
    assert f"none of {', '.join(t.without for t in few.trials)} is the cause on its own" in few.summary()
    assert few.summary().endswith("try without codec and with more steps")
    (likely,) = [one for one in few.to_findings() if one.cause == "codec"]
    assert (likely.confidence, likely.severity) == ("likely", "error")
    assert attempt(60).culprit == "codec"


def test_findings_say_cause_effect_and_confidence():
    model = Tiny(dropout=0.1)
    report = overfit(model, [picture()], PLANTED["ema"](PLAN, model), title="tiny")
    first = report.to_findings()[0]
    assert (first.cause, first.confidence, first.severity) == ("ema", "proved", "error")
    assert first.effect.delta == pytest.approx(report.trials[-1].verdict.pck - report.verdict.pck)
    assert "without ema it learns" in first.fix
    healthy = overfit(Tiny(), [picture()], PLAN, title="tiny")
    assert healthy.to_findings() == ()
