"""Each defect switched on in turn is named, with its numbers; a healthy network gets no finding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.inspectors.conditioning.networks import healthy, looked, network
from tests.toy import a_run
from workbench.core import NotAvailable
from workbench.inspectors.conditioning.clinic import clinic
from workbench.inspectors.conditioning.evidence import keypoint_names_text
from workbench.inspectors.conditioning.findings import (
    CLIPPED,
    FLATTENED,
    MASKED,
    ONE_VECTOR,
    RANDOM,
    SHUT,
    SKIPPED,
    UNTRAINED,
)
from workbench.text.vectors import builtin_text


def untouched_refiner():
    model = network(**healthy(head={"use_refiner_in_training": False}))
    for layer in model.module.head.refiner.modules():
        if isinstance(layer, torch.nn.LayerNorm):
            torch.nn.init.ones_(layer.weight)
    return model


DEFECTS = {
    SKIPPED: {"fuse_in_predict": False},
    CLIPPED: {"neck": {"mlp": "linear-relu-dropout"}},
    ONE_VECTOR: {"neck": {"text_from": "first"}},
    RANDOM: {"neck": {"init": "random"}},
    FLATTENED: {"refiner": {"softmax": "all"}},
    # Below 0 lies some keypoints' peak, above it the others': inference refines a part of them.
    MASKED: {"refiner": {"mask": "uncertain", "confidence_threshold": 0.0}},
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_alone_is_named_and_nothing_else(name):
    report = clinic(looked(network(**healthy(**DEFECTS[name]))))
    assert report.names == (name,)
    assert report.summary().startswith("small net: 1 finding")
    assert report.findings[0].refuted_by


def test_scales_that_look_like_a_random_start_do_no_harm_where_keypoints_lie_on_their_labels():
    run = looked(network(**healthy(**DEFECTS[RANDOM])), 4)
    seen = np.ones((*run.keypoints.shape[:2], 1)) * 2
    truth = np.concatenate([run.keypoints, seen], -1)
    samples = tuple(dataclasses.replace(s, truth=t) for s, t in zip(run.samples, truth, strict=True))
    report = clinic(dataclasses.replace(run, samples=samples))
    assert report.names == ()
    assert report.effect.harmless


def test_a_healthy_network_goes_one_way():
    assert clinic(looked(network(**healthy()))).paths.first_difference is None


def test_an_untrained_refiner_is_named_by_its_untouched_layers_and_its_missing_gradient():
    report = clinic(looked(untouched_refiner()))
    assert report.names == (UNTRAINED,)
    (finding,) = report.findings
    assert "ones and zeros" in finding.evidence
    assert "no gradient" in finding.evidence
    assert not report.gradients.reaches("head.refiner")
    assert report.gradients.reaches("backbone")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head": {"refiner": None}},
        # The original FiLM begins at random and learns the departure from 1: that is no defect.
        {"neck": {"init": "random", "gamma_baseline": 1.0, "gate": "none"}},
        {"neck": {"fusion_type": "attention"}},
    ],
    ids=["healthy", "no refiner", "original FiLM", "attention"],
)
def test_nothing_wrong_is_said_of_a_healthy_network(changes):
    report = clinic(looked(network(**healthy(**changes))))
    assert report.names == ()
    assert "nothing wrong found" in report.summary()


def test_the_published_code_has_its_five_defects_at_once():
    # A fresh identity start: γ is 1, so nothing is at random yet.
    report = clinic(looked(network(taught=False)))
    assert report.names == (SKIPPED, FLATTENED, UNTRAINED, ONE_VECTOR, CLIPPED)
    assert report.paths.first_difference == "text.subject"
    assert report.to_json()["findings"][0]["gives_back"] is None


def test_a_text_of_one_subject_is_one_vector_for_all():
    report = clinic(looked(network(text=builtin_text().for_all("horse"), **healthy())))
    assert report.names == (ONE_VECTOR,)
    assert "one subject (horse)" in report.findings[0].evidence


def test_evidence_tells_what_was_switched_on():
    skipped = clinic(looked(network(**healthy(fuse_in_predict=False)))).findings[0].evidence
    assert "text.subject" in skipped
    dropped = clinic(looked(network(**healthy(neck={"mlp": "linear-relu-dropout", "dropout": 0.3}))))
    assert "30 % of them to 0 at random" in dropped.findings[0].evidence
    assert dropped.film.text.dropped == pytest.approx(0.3, abs=0.01)


def test_without_annotations_the_gradient_is_missing_and_says_so():
    run = looked(network(**healthy()))
    bare = dataclasses.replace(run, samples=tuple(dataclasses.replace(s, truth=None) for s in run.samples))
    report = clinic(bare)
    assert report.gradients is None
    assert "truth" in report.missing["gradients"]


def test_a_model_without_text_is_one_sentence():
    with pytest.raises(NotAvailable, match="no condition"):
        clinic(a_run("simcc"))


def test_the_network_is_left_as_it_was():
    model = network(**healthy())
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    modes = [m.training for m in model.module.modules()]
    clinic(looked(model))
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    assert modes == [m.training for m in model.module.modules()]
    assert all(p.grad is None for p in model.module.parameters())
    assert np.isfinite(before["neck.film_gate"])


def test_a_way_that_the_config_does_not_say_is_an_assumption_and_no_finding():
    said = clinic(looked(network(**healthy(fuse_in_predict=False))))
    assert said.findings[0].assumption == ""
    assumed = clinic(looked(network(**healthy(fuse_in_predict=None))))
    (finding,) = assumed.findings
    assert finding.assumption == "your predict is the published one"
    assert "0 finding" not in assumed.summary()
    assert assumed.summary() == "small net: if your predict is the published one: neck skipped in predict"


def test_a_gate_that_is_stuck_at_0_is_named():
    model = network(**healthy(neck={"gate": "learned"}))
    torch.nn.init.zeros_(model.module.neck.film_gate)
    assert SHUT in clinic(looked(model)).names
    torch.nn.init.constant_(model.module.neck.film_gate, 0.3)
    assert SHUT not in clinic(looked(model)).names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (("left eye", "right eye", "nose"), ""),
        (("L_Eye", "R_Eye", "Nose"), ""),
        ((), ""),
        (("right eye", "left eye", "nose"), "row 0 describes right eye, but keypoint 0 is left_eye"),
        (
            ("left eye", "right eye", "tail"),
            "1 of 3 rows of the text describe keypoints that the skeleton does not have: tail",
        ),
    ],
)
def test_text_of_other_keypoints_than_the_skeletons_is_told(text, words):
    sentence = keypoint_names_text(text, ("left_eye", "right_eye", "nose"))
    assert sentence == "" if not words else words in sentence
    assert keypoint_names_text(text, ("keypoint 0", "keypoint 1", "keypoint 2")) == "", "they are not named"
