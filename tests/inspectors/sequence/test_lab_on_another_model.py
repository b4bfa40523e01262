"""The lab knows nothing of cape: a model of four lines gets all of it, with values known by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inspectors.sequence.counting import Counting, hidden, line
from workbench.core import NotAvailable, Outputs
from workbench.core.run import run
from workbench.inspectors.sequence import (
    PckRule,
    calibration,
    coordinates,
    corruption,
    forced_and_free,
    lab,
    prefix,
    support,
)
from workbench.training.sequence_checks import LEAK_NAME


def test_a_wrong_start_costs_every_step_when_free_and_only_the_first_when_forced():
    report = forced_and_free.compute(run(Counting(start=(0.5, 0.5)), [line()]), forced_and_free.Params())
    assert report.free == pytest.approx(np.full((1, 4), 0.3), abs=1e-6)
    assert report.forced == pytest.approx(np.array([[0.3, 0, 0, 0]]), abs=1e-6)
    assert (report.pck_forced, report.pck_free, report.gap) == (0.75, 0.0, 0.75)
    assert report.steps_of_pck == "k/4"


def test_one_true_token_is_all_that_this_model_needs():
    curve = prefix.compute(run(Counting(start=(0.5, 0.5)), [line()]), prefix.Params()).curve
    assert [row["pck"] for row in curve] == [0.0, 0.75, 0.75, 0.75, 0.75]
    assert curve[1]["pck_after"] == 1.0


def test_a_moved_token_moves_the_next_by_as_much_and_the_later_ones_only_when_free():
    report = corruption.compute(run(Counting(), [line()]), corruption.Params(token="a"))
    assert report.gain == pytest.approx(1, abs=1e-4)
    assert report.free[:, 1:] == pytest.approx(np.repeat(report.sizes[:, None], 3, 1), abs=1e-5)
    assert report.forced[:, 2:] == pytest.approx(0, abs=1e-6)
    assert np.isnan(report.forced[:, 0]).all()


def test_what_the_model_has_not_is_said_and_the_rest_is_done():
    report = lab.compute(run(Counting(), [line()]))
    assert set(report.missing) == {"support", "types"}
    assert report.coordinates.agree
    assert {row["why"] for row in report.coordinates.table()} == {""}, "nothing explains what agrees"
    assert json.dumps(report.to_json())


def test_pck_at_the_threshold_is_wrong_and_just_below_it_is_right():
    looked = run(Counting(), [line()])
    points = looked.truth[..., :2] + np.array([20.0, 0])
    assert PckRule(0.2).pck(PckRule(0.2).errors(looked, points)) == 0
    assert PckRule(0.2).pck(PckRule(0.2).errors(looked, points - (0.01, 0))) == 1
    assert PckRule(0.2, "diagonal").pck(PckRule(0.2, "diagonal").errors(looked, points)) == 1


def test_no_visible_keypoint_is_one_sentence():
    with pytest.raises(ValueError, match="no keypoint is visible"):
        lab.compute(run(Counting(), [hidden(line())]))


def test_questions_about_what_is_not_there_are_refused():
    looked = run(Counting(), [line()])
    with pytest.raises(NotAvailable, match="support"):
        support.compute(looked, support.Params())
    with pytest.raises(NotAvailable, match="token types"):
        calibration.compute(looked, calibration.Params())
    with pytest.raises(ValueError, match="no step after it"):
        corruption.compute(looked, corruption.Params(token="d"))


def test_a_perfectly_sure_and_right_head_has_no_calibration_error():
    assert calibration.calibration_error(np.ones(8), np.ones(8), 10) == 0
    assert calibration.calibration_error(np.full(8, 0.9), np.arange(8) < 4, 10) == pytest.approx(0.4)


def test_exposure_bias_takes_answers_that_follow_the_tokens_before_them():
    report = forced_and_free.compute(run(Counting(start=(0.4, 0.5)), [line()]), forced_and_free.Params())
    assert report.amplified == pytest.approx(1.0, abs=1e-4)  # every error is handed on unchanged
    assert report.fails_on_its_own
    assert not dataclasses.replace(report, amplified=0.5).fails_on_its_own
    assert "scheduled sampling" not in forced_and_free.diagnosis(dataclasses.replace(report, amplified=0.5))


def test_larger_errors_within_the_threshold_are_not_called_as_good():
    report = forced_and_free.compute(run(Counting(start=(0.4, 0.5)), [line()]), forced_and_free.Params())
    within = dataclasses.replace(report, forced=report.free / 4, pck_forced=1.0, pck_free=1.0, of_copies=0.1)
    assert forced_and_free.diagnosis(within).startswith(
        "free-running errors are 4.0 times the teacher-forced"
    )
    equal = dataclasses.replace(within, forced=report.free)
    assert forced_and_free.diagnosis(equal).startswith("free-running is as good as teacher-forced")


@pytest.mark.parametrize(("own", "later"), [(0.0, 0.0), (0.8, 0.0), (0.0, 0.8), (0.05, 0.0)])
def test_a_step_that_reads_the_token_it_has_to_predict_is_named_and_is_no_exposure_bias(own, later):
    class Leaks(Counting):
        def forward(self, batch):
            given, answers = batch.extra["given"], super().forward(batch).tokens["coordinates"]
            after = torch.cat([given[:, 1:], answers[:, -1:]], 1)
            answers = own * given + later * after + (1 - own - later) * answers
            return Outputs(tokens={"coordinates": answers})

    report = lab.compute(run(Leaks(start=(0.4, 0.5)), [line()]))
    assert report.steps.leak == pytest.approx(own + later, rel=0.1 if own else 0.9, abs=1e-9)
    leaks = report.diagnosis().startswith("teacher forcing gives the answer away")
    causes = [finding.cause for finding in report.to_findings()]
    assert leaks == (LEAK_NAME in causes) == (own + later > 0)
    assert ("exposure bias" in causes) != leaks


def test_tokens_that_are_no_coordinates_are_refused_in_one_sentence():
    class Bins(Counting):
        def prepare(self, samples):
            batch = super().prepare(samples)
            return dataclasses.replace(batch, extra={"given": (batch.extra["given"] * 63).long()})

    seen = run(Bins(), [line()])
    for part in (forced_and_free, corruption, coordinates):
        with pytest.raises(NotAvailable, match=r"true tokens .* are torch.int64 of shape \(1, 4, 2\)"):
            part.compute(seen, part.Params())


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (3, 0, 1, 2), (1, 2, 3, 0), (0, 1, 2, 3)])
def test_answers_at_the_places_of_other_keypoints_are_no_leak_but_another_order(order):
    class Exchanged(Counting):
        def decode(self, outputs, batch, options=None):
            found = super().decode(outputs, batch, options)
            return tuple(dataclasses.replace(p, keypoints=p.keypoints[list(order)]) for p in found)

    report = lab.compute(run(Exchanged(), [line()]))
    causes = [finding.cause for finding in report.to_findings()]
    exchanged = order != (0, 1, 2, 3)
    assert LEAK_NAME not in causes
    assert (lab.PERMUTED in causes) == exchanged
    places = tuple(order.index(step) for step in range(4)) if exchanged else ()
    assert report.steps.order == places


def test_a_loss_is_compared_with_its_tokens_and_not_with_keypoints_that_are_drawn_elsewhere():
    class DrawnOff(Counting):
        def decode(self, outputs, batch, options=None):
            found = super().decode(outputs, batch, options)
            return tuple(dataclasses.replace(one, keypoints=one.keypoints + 2) for one in found)

        def logged(self, outputs, batch):
            off = (outputs.tokens["coordinates"] - batch.extra["given"]).abs().mean()
            return {"loss_coordinates": float(off)}

    report = coordinates.compute(run(DrawnOff(start=(0.3, 0.5)), [line()]), coordinates.Params())
    assert [claim.what for claim in report.claims if not claim.agrees] == [coordinates.DRAWN_OFF]


def test_a_model_that_logs_nothing_is_not_said_to_use_the_same_coordinates_in_loss_and_metric():
    report = coordinates.compute(run(Counting(start=(0.4, 0.5)), [line()]), coordinates.Params())
    assert report.agree
    assert "not compared: loss and metric" in report.summary()
    assert dataclasses.replace(report, claims=()).summary().startswith("Coordinates not compared")


def test_a_model_that_repeats_the_token_before_has_learned_nothing_and_has_no_exposure_bias():
    report = lab.compute(run(Counting(start=(0.4, 0.5)), [line()]))
    assert [f.cause for f in report.to_findings()] == ["exposure bias"]
    assert report.steps.of_copies == pytest.approx(0, abs=1e-5)  # every step but the first is exact
    copying = dataclasses.replace(report, steps=dataclasses.replace(report.steps, of_copies=0.9))
    assert [f.cause for f in copying.to_findings()] == ["keypoints not learned"]
    assert "90% of the error" in copying.diagnosis()


@pytest.mark.parametrize("module", [forced_and_free, prefix, corruption, coordinates])
def test_every_report_says_draws_and_tabulates_itself(module):
    report = module.compute(run(Counting(start=(0.4, 0.5)), [line()]), module.Params())
    assert "\n" not in report.summary()
    assert report.plot().to_dict()["data"]
    assert json.dumps(report.to_json())
    assert report.table()


def test_the_adapter_brings_it_to_the_command_line(workbench, tmp_path):
    truth = line()
    import cv2

    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/line.png"), truth.image)
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 100], "num_keypoints": 4}
    entry["keypoints"] = [float(v) for v in truth.truth.ravel()]
    file = tmp_path / "line.json"
    file.write_text(json.dumps({
        "images": [{"id": 1, "file_name": "line.png", "width": 101, "height": 101}],
        "annotations": [entry],
        "categories": [{"id": 1, "name": "line", "keypoints": list("abcd"), "skeleton": []}],
    }))  # fmt: skip
    adapter = Path(__file__).with_name("counting.py")
    words = ("--adapter", adapter, "--data", file, "--images", tmp_path / "images", "--json")
    code, out, err = workbench("rollout", *words)
    assert code == 0, err
    facts = json.loads(out)
    assert facts["gap"] == 0.75
    assert facts["per_step"][1]["free"] == pytest.approx(0.3)
    assert facts["support"] is None
