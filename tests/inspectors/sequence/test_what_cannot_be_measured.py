"""Where nothing can be measured nothing is claimed, and a healthy log is not accused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.inspectors.sequence.telling import SKELETON, Telling, bent
from workbench.core import Skeleton
from workbench.core.run import run
from workbench.inspectors.sequence import coordinates, lab
from workbench.inspectors.sequence.forced_and_free import ForcedAndFree
from workbench.inspectors.sequence.prefix import Prefix
from workbench.models.cape.model import logged_pck
from workbench.training.sequence_checks import complaints, own_log


class Logging(Telling):
    """With a log that is right: mean error of the tokens, MP-100's PCK."""

    def supported_by(self, support, skeleton=None):
        other = Logging()
        other.support = tuple(support)
        return other

    def logged(self, outputs, batch):
        off = (outputs.tokens["coordinates"] - batch.extra["given"]).abs().nanmean().item()
        found = [p.keypoints for p in self.decode(outputs, batch)]
        return {"loss_coordinates": off, "pck": logged_pck(found, batch, self.size)}


def seen(sample, *visible):
    truth = sample.truth.copy()
    truth[:, 2] = np.where(np.isin(np.arange(3), visible), 2, 0)
    return dataclasses.replace(sample, truth=truth)


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")  # of the log itself
def test_with_nothing_in_common_no_report_says_more_than_that():
    report = lab.compute(run(Logging().supported_by([seen(bent(), 0)]), [seen(bent(), 1, 2)]))
    assert np.isnan(report.steps.pck_free)
    for text in (report.diagnosis(), report.steps.summary(), report.prefix.summary()):
        assert "no keypoint is visible in both the image and its support" in text
        assert "PCK nan" not in text
    assert report.support is not None
    assert report.support.verdict == "read"
    assert "PCK nan" not in report.support.summary()
    assert report.coordinates.agree, report.coordinates.summary()


def test_a_support_that_shows_less_than_the_image_makes_no_right_log_wrong():
    model, sample = Logging().supported_by([seen(bent(3), 0, 1)]), bent()
    looked = run(model, [sample])
    found = coordinates.compute(looked, coordinates.Params())
    assert "logged coordinate loss" in [claim.what for claim in found.claims]
    assert found.agree, found.summary()
    outputs = looked.model.rollout(looked.batch)
    row = {"step": 1, **own_log(model, outputs, model.decode(outputs, looked.batch), looked.batch)}
    assert {"logged/pck", "measured/pck"} <= row.keys()
    assert complaints([row]) == []


@pytest.mark.parametrize(
    ("pck", "said"),
    [
        ([0.2, 0.2, 0.2], "does not depend on the length of the true prefix"),
        ([0.2, 0.6, 0.2], "true tokens do not help; with a part of them PCK is between 0.20 and 0.60"),
        ([0.6, 0.4, 0.2], "true tokens do not help; with a part of them PCK is between 0.20 and 0.60"),
        ([0.2, 0.6, 0.8], "the first 1 of 2 true tokens give half of the gain"),
        ([1.0, 1.0, 1.0], "no true token is needed"),
    ],
)
def test_a_prefix_is_said_to_do_what_its_curve_does(pck, said):
    k = np.arange(3)
    assert said in Prefix(k, np.array(pck), np.array(pck), "a rule", "k/5").summary()


@pytest.mark.parametrize(
    ("free", "said"),
    [
        ([0.0, 0.5, 0.5], "exceed the threshold from step 1 (b) on: try scheduled sampling"),
        ([0.0, 0.5, 0.0], "exceed the threshold first at step 1 (b): try scheduled sampling"),
    ],
)
def test_a_step_that_is_found_again_was_not_lost_for_good(free, said):
    names: Skeleton = SKELETON
    report = ForcedAndFree(names, np.zeros((1, 3)), np.array([free]), 1.0, 0.5, "a rule", "k/3", 0.2)
    assert report.summary().endswith(said)


class Measuring(Logging):
    """Two answers are 5 pixels off: wrong by the box's longer side (.25), right by its diagonal (.18)."""

    def __init__(self, by=max):
        super().__init__()
        self.by = by

    def decode(self, outputs, batch, options=None):
        found, off = super().decode(outputs, batch, options), [[14, 0], [5, 0], [5, 0]]
        return tuple(dataclasses.replace(p, keypoints=p.keypoints + np.array(off)) for p in found)

    def logged(self, outputs, batch):
        (p,), (s,) = self.decode(outputs, batch), batch.samples
        near = np.linalg.norm(p.keypoints - s.truth[:, :2], axis=1)
        width, height = s.box[2] - s.box[0], s.box[3] - s.box[1]
        return {"pck": float((near < 0.2 * self.by(width, height)).mean())}


@pytest.mark.parametrize(
    ("by", "named"),
    [
        (max, "logged PCK"),
        (np.hypot, "logged PCK by the box's diagonal"),
        (lambda width, height: 5 * width, ""),  # all are right then, which no rule says
    ],
)
def test_a_log_that_measures_by_the_diagonal_is_recognised(by, named):
    model = Measuring(by)
    looked = run(model, [bent()])
    (claim,) = [
        c
        for c in coordinates.compute(looked, coordinates.Params()).claims
        if c.what.startswith("logged PCK") and "loss" not in c.what
    ]
    assert claim.agrees == bool(named)
    assert not named or claim.what == named
    outputs = looked.model.rollout(looked.batch)
    row = {"step": 1, **own_log(model, outputs, model.decode(outputs, looked.batch), looked.batch)}
    assert bool(complaints([row])) == (not named)
