"""Nothing false is said of an attempt: how it ended, what was expected, what stands in its way."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from tests.training.test_sequences import cape, dots
from tests.training.tiny import Tiny, picture
from workbench.training.faults import PLANTED
from workbench.training.overfit import OverfitReport, overfit
from workbench.training.plan import Plan
from workbench.training.sequences import trainable
from workbench.training.settings import Settings
from workbench.training.switches import SWITCHES, suspected, switches_of, trial_steps
from workbench.training.trainer import Trainer
from workbench.training.verdict import Evidence, judge

PLAN = Plan(Settings(steps=120, learning_rate=4e-3, measure_every=40))


def ended(first, last, pck=0.5):
    return [{"step": 1, "loss": first}, {"step": 2, "loss": last, "pck": pck, "pck_train": pck}]


@pytest.mark.parametrize(
    ("first", "last", "fell"),
    [
        (1.0, 0.09, True),
        (1.0, 0.11, False),
        (0.0, 0.0, False),
        (1.0, 1.0, False),
        (-1.0, -8.0, True),
        (-1.0, -1.0, False),
        (2.0, -3.0, True),
    ],
)
def test_a_loss_fell_whatever_its_sign_and_a_constant_one_did_not(first, last, fell):
    verdict = judge(ended(first, last))
    assert verdict.outcome == ("loss falls but decoding fails" if fell else "cannot fit")
    assert ("%" in verdict.came) == (first > 0 <= last)  # there is no share of nothing, nor of a debt


def test_a_fault_that_decided_before_the_first_step_is_said_to_have_left_no_switch_to_try():
    seen = Evidence("perfect targets are decoded 9 pixels off", decides=True)
    report = OverfitReport("net", judge(ended(1.0, 0.05)), "", "", "", (seen,), (), (), 1.0)
    assert "no switch removes what was seen, so none was tried" in report.summary()
    remark = dataclasses.replace(report, evidence=(dataclasses.replace(seen, decides=False),))
    assert "none was tried" not in remark.summary()


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (2.0, 0.5, "loss 2 -> 0.5 (25%) after 2 steps"),
        (2.0, 3.0, "loss 2 -> 3 (150%) after 2 steps"),
        (0.5, 6.78e7, "loss 0.5 -> 6.78e+07 (1.4e+08 times as much) after 2 steps"),
        (0.0, 1.0, "loss 0 -> 1 after 2 steps"),
    ],
)
def test_a_loss_that_exploded_is_said_as_a_multiple_not_as_a_percentage_of_a_dozen_digits(first, last, said):
    assert judge(ended(first, last)).came.endswith(said)


def test_what_is_expected_of_a_network_that_learned_is_what_it_was_judged_by():
    verdict = judge(ended(1.0, 0.8, pck=1.0))  # an objective with a floor, such as a cross entropy
    assert verdict.learned
    assert verdict.expected == "PCK at least 0.90 in evaluation within 2 steps"


def test_a_run_that_was_stopped_says_how_far_it_came_and_when_it_was_measured():
    seen = []
    plan = Plan(Settings(steps=2000, learning_rate=1e-4, measure_every=1000))
    report = overfit(Tiny(), [picture()], plan, on_row=seen.append, stopped=lambda: len(seen) > 3)
    done = len(report.rows)
    assert "in training at step 1, loss" in report.verdict.came
    assert f"after {done} of 2000 steps" in report.verdict.came


class Plain(Tiny):
    """Training and evaluation compute the same: no dropout, no batch norm."""

    def __init__(self):
        super().__init__(seed=2)
        layers = [layer for layer in self.module if isinstance(layer, (nn.Conv2d, nn.ReLU))]
        self.module = nn.Sequential(*layers)


def test_long_steps_alone_do_not_part_the_paths_of_training_and_inference():
    trainer = Trainer(Plain(), [picture(2)], Settings(steps=60, learning_rate=0.01, measure_every=1))
    rows = [trainer.step() for _ in range(60)]
    assert [row["pck_train"] for row in rows] == [row["pck"] for row in rows]
    assert len({row["pck"] for row in rows}) > 1


def test_looking_at_both_modes_changes_nothing_of_a_run():
    ends = []
    for every in (1, 40):
        trainer = Trainer(Tiny(dropout=0.5), [picture()], Settings(steps=40, measure_every=every))
        ends.append(([trainer.step()["loss"] for _ in range(40)], trainer.model.module.state_dict()))
    (losses, one), (others, two) = ends
    assert losses == others
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("seed", "steps"), [(0, 20), (1, 20)])
def test_a_healthy_network_with_too_few_steps_is_told_so_and_no_layer_is_blamed(seed, steps):
    plan = Plan(dataclasses.replace(PLAN.settings, steps=steps))
    report = overfit(Tiny(dropout=0.1, seed=seed), [picture(seed)], plan)
    assert report.verdict.outcome == "loss falls but decoding fails"
    assert report.culprit == "step limit", report.summary()
    assert "2 times as many" in report.why


@pytest.mark.parametrize(("seed", "steps"), [(0, 15), (1, 15), (3, 10)])
def test_what_parts_the_modes_is_not_covered_up_by_more_steps(seed, steps):
    # It learned in training mode; its running statistics have not yet followed, as they would in some steps.
    plan = Plan(dataclasses.replace(PLAN.settings, steps=steps))
    report = overfit(Tiny(dropout=0.1, seed=seed), [picture(seed)], plan)
    assert report.verdict.outcome == "train and inference paths disagree"
    assert report.culprit == "normalisation", report.summary()
    assert "a healthy network's do as well after few steps: repeat it with more" in report.why


def test_steps_are_suspected_first_but_of_a_network_that_learned_in_training_mode():
    model = Tiny(dropout=0.1)
    for outcome, place in (
        ("cannot fit", 0),
        ("loss falls but decoding fails", 0),
        ("train and inference paths disagree", -1),
        ("learned", -1),
    ):
        verdict = dataclasses.replace(judge(ended(1.0, 1.0)), outcome=outcome)
        assert suspected(model, PLAN, verdict)[place].name == "step limit"
        assert len(suspected(model, PLAN, verdict)) == len(switches_of(model, PLAN))


class ShyOfPeace(Tiny):
    """Its loss explodes once nothing is dropped."""

    def forward(self, batch):
        outputs = super().forward(batch)
        if self.module.training and not self.module[3].training:
            assert outputs.heatmaps is not None
            return dataclasses.replace(outputs, heatmaps=outputs.heatmaps * float("inf"))
        return outputs


def test_a_trial_that_diverges_has_not_passed_and_the_others_are_still_made():
    model = ShyOfPeace(dropout=0.1)
    report = overfit(model, [picture()], PLANTED["weight decay"](PLAN, model))
    assert report.culprit == "weight decay", report.summary()
    (trial,) = (trial for trial in report.trials if trial.without == "dropout")
    assert not trial.passed
    assert "at step 1" in trial.verdict.came
    assert report.to_json()["trials"]


@pytest.mark.parametrize(
    "pair",
    [
        ("ema", "codec"),
        pytest.param(("ema", "dropout"), marks=pytest.mark.long),
        pytest.param(("codec", "dropout"), marks=pytest.mark.long),
    ],
)
def test_of_two_faults_neither_is_called_the_cause_on_its_own(pair):
    model, plan = Tiny(dropout=0.1), Plan(dataclasses.replace(PLAN.settings, steps=60))
    for fault in pair:
        plan = PLANTED[fault](plan, model)
    report = overfit(model, [picture()], plan)
    assert report.culprit == ""
    assert "is the cause on its own" in report.summary()
    assert report.helped or report.summary().endswith("then add your own ones one at a time")


def test_a_bisection_is_as_long_as_its_trials():
    model = Tiny(dropout=0.1)
    there = [switch.name for switch in switches_of(model, PLAN)]
    assert there == ["step limit", "normalisation", "dropout", "codec", "learning rate"]
    longest = sum(s.off(PLAN, model).settings.steps for s in SWITCHES if s.name in there)
    assert trial_steps(model, PLAN) == longest == 120 * 6


def test_a_folder_of_another_attempt_is_refused_and_ones_own_goes_on(tmp_path):
    few = Plan(dataclasses.replace(PLAN.settings, steps=3))

    def tried(model, plan, samples=None):
        return overfit(model, samples or [picture()], plan, bisect=False, folder=tmp_path)

    broken = Tiny(dropout=0.1)
    tried(broken, PLANTED["codec"](few, broken))
    turned = Tiny(dropout=0.1)
    for model, plan, samples, differs in (
        (Tiny(dropout=0.1), few, [picture()], "codec"),
        (turned, PLANTED["dropout"](PLANTED["codec"](few, turned), turned), [picture()], "network"),
        (broken, PLANTED["codec"](few, broken), [picture(1)], "images"),
        (broken, PLANTED["ema"](PLANTED["codec"](few, broken), broken), [picture()], "ema"),
    ):
        with pytest.raises(ValueError, match=rf"another attempt's \({differs} differ\)"):
            tried(model, plan, samples)
    longer = dataclasses.replace(few, settings=dataclasses.replace(few.settings, steps=5))
    again = Tiny(dropout=0.1)
    assert [row["step"] for row in tried(again, PLANTED["codec"](longer, again)).rows] == [1, 2, 3, 4, 5]


def test_keypoints_outside_the_crop_are_told_and_no_switch_is_tried():
    whole = picture()
    truth = whole.truth.copy()
    truth[1, 0], truth[2, 0] = 66.0, 90.0  # just beyond the box of 64, within PCK's threshold; and far beyond
    few = Plan(dataclasses.replace(PLAN.settings, steps=3))
    report = overfit(Tiny(), [dataclasses.replace(whole, truth=truth)], few)
    assert report.wrong.startswith("1 of 3 labelled keypoints lie outside the crop")
    assert report.culprit == ""
    assert report.trials == ()
    assert overfit(Tiny(), [whole], few, bisect=False).wrong == ""


def test_keypoints_no_token_can_say_are_told_of_a_sequence():
    model, sample = trainable(cape(), 3), dots()
    truth = sample.truth.copy()
    truth[4, :2] = -30, 75
    report = overfit(model, [dataclasses.replace(sample, truth=truth)], Plan(Settings(steps=3)))
    assert "1 of 5 labelled keypoints lie outside the crop" in report.wrong
    assert "its own log" not in report.wrong
    assert report.trials == ()


class TooLargeForHalf(Tiny):
    def forward(self, batch):
        outputs = super().forward(batch)
        large = torch.is_autocast_enabled("cpu")
        assert outputs.heatmaps is not None
        return dataclasses.replace(outputs, heatmaps=outputs.heatmaps * (float("inf") if large else 1))


@pytest.mark.parametrize("amp", [True, False])
def test_a_loss_that_only_mixed_precision_breaks_names_it(amp):
    plan = Plan(dataclasses.replace(PLAN.settings, steps=2, amp=amp))
    if not amp:
        assert overfit(TooLargeForHalf(), [picture()], plan, bisect=False).verdict.loss > 0
        return
    with pytest.raises(ValueError, match="too large for mixed precision"):
        overfit(TooLargeForHalf(), [picture()], plan)
