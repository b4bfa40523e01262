"""Every planted fault of the input is named, on networks of different kinds, and none on a healthy one."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests.evaluation.probes import discs
from workbench.core import Groups, NotAvailable
from workbench.core.run import run
from workbench.evaluation.probes import (
    Intervention,
    ProbeReport,
    Trial,
    input_interventions,
    probe,
    probe_input,
)
from workbench.evaluation.probes.intervention import (
    Colours,
    Moved,
    Recoloured,
    Recropped,
    Transposed,
    colours_of,
)
from workbench.evaluation.probes.judge import Judge


def recoloured(model, sample, change):
    """The model fed with other colours, without a word of it in its own record."""
    before = colours_of(model, sample)
    matrix, offset = before.change_to(change(before))
    return Recoloured(model, matrix, offset)


def in_0_to_1(colours):
    return Colours(colours.matrix / 255, colours.offset)


@pytest.fixture(scope="module")
def samples():
    return discs.samples()


def wide(model):
    """Width and height taken for each other, as a config with (height, width) has them."""
    codec = dataclasses.replace(model.codec, input_size=(84, 112), output_size=(21, 28))
    return dataclasses.replace(model, input_size=(84, 112), codec=codec)


PLANTED = {
    "value range": (lambda m, s: recoloured(m, s, in_0_to_1), "pixels times 255"),
    "channel order": (lambda m, s: dataclasses.replace(m, bgr=True), "red and blue exchanged"),
    "normalisation": (
        lambda m, s: dataclasses.replace(m, mean=(0, 0, 0), std=(1, 1, 1)),
        "ImageNet mean and std",
    ),
    "width and height exchanged": (lambda m, s: wide(m), "input 84x112 (width x height)"),
    "crop padding": (lambda m, s: dataclasses.replace(m, padding=2.0), "box padding 1.25"),
}


# Two seconds each: CI plants all of them.
BY_DEFAULT = ("channel order", "value range")


@pytest.mark.parametrize(
    "cause", [pytest.param(one, marks=() if one in BY_DEFAULT else pytest.mark.long) for one in PLANTED]
)
def test_a_planted_fault_is_named_with_its_remedy_and_its_effect(samples, cause):
    plant, remedy = PLANTED[cause]
    report = probe_input(plant(discs.model(), samples[0]), samples, rounds=1)
    (finding,) = report.findings
    assert finding.cause == cause
    assert remedy in finding.evidence
    # Colours in 0..1 are mended by other numbers for mean and std as well: then the cause is likely.
    assert finding.confidence == "proved" or cause == "value range"
    assert finding.effect.delta > 0.08
    assert 0 < finding.effect.low <= finding.effect.delta <= finding.effect.high
    assert finding.refuted_by
    assert "10 instances in 10 images" in finding.effect.protocol
    # What the remedy gives is what the healthy model has.
    assert finding.numbers[1].value == pytest.approx(0.99, abs=0.02)


@pytest.mark.parametrize("udp", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_healthy_network_gets_no_finding_and_every_alternative_its_numbers(samples, udp):
    report = probe_input(discs.model(udp=udp), samples)
    assert report.findings == ()
    assert report.value > 0.97
    assert {t.cause for t in report.trials} >= set(PLANTED) | {"half-pixel shift"}
    assert "none is better" in report.summary()
    by_name = {t.name: t for t in report.trials}
    assert by_name["red and blue exchanged"].verdict == "ruled out"
    assert by_name["red and blue exchanged"].high < -0.3


@pytest.mark.slow
def test_two_faults_are_found_one_after_the_other(samples):
    report = probe_input(dataclasses.replace(discs.model(), bgr=True, padding=1.6), samples)
    assert [f.cause for f in report.findings] == ["channel order", "crop padding"]
    assert "the findings before it mended" in report.findings[1].evidence


@pytest.mark.parametrize(
    ("x", "name"),
    [(0.5, "keypoints -0.5 input pixels"), pytest.param(2.0, "-half a cell", marks=pytest.mark.slow)],
)
def test_half_a_pixel_and_half_a_cell_are_told_apart(samples, x, name):
    report = probe_input(Moved(discs.model(), (x, x)), samples, rounds=1)
    (finding,) = report.findings
    assert finding.cause == "half-pixel shift"
    assert name in finding.evidence


@pytest.mark.parametrize("trained", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_network_trained_with_udp_and_read_without_is_named(trained):
    model = discs.model(udp=not trained, trained_udp=trained, sided=True)
    report = probe_input(model, discs.samples(sided=True), rounds=1)
    message = "UDP codec instead of plain" if trained else "plain codec instead of UDP"
    assert message in report.findings[0].evidence


def test_a_transposed_input_is_not_taken_for_another_padding(samples):
    report = probe_input(Transposed(discs.model()), samples, rounds=1)
    assert [f.cause for f in report.findings] == ["width and height exchanged"]
    assert "input transposed" in report.findings[0].evidence
    assert any("do not show what its affine says" in one.reason for one in report.not_tried)


def test_without_areas_pck_is_measured(samples):
    bare = [dataclasses.replace(s, area=float("nan")) for s in samples[:6]]
    report = probe_input(dataclasses.replace(discs.model(), bgr=True), bare, rounds=1)
    assert report.measure == "PCK@0.05"
    assert report.findings[0].cause == "channel order"


def test_of_one_sample_there_is_no_interval_and_the_finding_is_likely(samples):
    report = probe_input(dataclasses.replace(discs.model(), bgr=True), samples[:1], rounds=1)
    assert np.isnan(report.findings[0].effect.low)
    assert report.findings[0].confidence == "likely"
    assert "nan" not in report.text()
    assert {t.verdict for t in report.trials if not t.fine} <= {"better", "ruled out", "not decided"}


def test_of_keypoints_found_in_few_images_alone_there_is_no_interval(samples):
    """An untrained ViTPose found one keypoint in one of 4 images, and half a pixel was called proved."""
    judge = Judge.of(discs.model(), samples, discs.SIX.sigmas, 0)
    first = np.eye(len(samples))[0]
    for images in (1, 7, 8):
        found = (np.arange(len(samples)) < images).astype(float)
        assert np.isfinite(judge.interval(0.84 * first, found)).all() == (images == 8)


def test_the_report_is_plain_data_and_the_same_for_the_same_seed(samples):
    model = dataclasses.replace(discs.model(), bgr=True)
    one, other = (probe_input(model, samples[:3], rounds=1, seed=3) for _ in range(2))
    assert json.dumps(one.to_json(), allow_nan=False) == json.dumps(other.to_json(), allow_nan=False)
    assert len(one.table()) == len(one.trials)
    assert one.plot().layout.title.text
    assert "\n" not in one.summary()
    for trial in one.trials:
        assert trial.name in one.text()


def test_own_interventions_can_be_probed(samples):
    def apply(model):
        return Moved(model, (3.0, 0.0))

    off = Moved(discs.model(), (-3.0, 0.0))
    own = Intervention("three pixels right", "shift", "moved", "Move them.", apply, decode_only=True)
    report = probe(off, samples[:8], [own], question="shift")
    assert [f.cause for f in report.findings] == ["shift"]
    with pytest.raises(ValueError, match="different names"):
        probe(off, samples[:2], [own, own])


def test_an_alternative_that_the_network_refuses_is_listed_and_the_rest_goes_on(samples):
    def apply(model):
        raise NotAvailable("fixed size")

    refused = Intervention("another size", "size", "", "", apply)
    report = probe(discs.model(), samples[:2], [refused])
    assert report.trials == ()
    assert "fixed size" in report.not_tried[0].reason


def test_samples_without_labels_and_of_other_keypoints_are_refused(samples):
    with pytest.raises(ValueError, match="expected labelled samples, got none"):
        probe_input(discs.model(), [dataclasses.replace(s, truth=None) for s in samples])
    with pytest.raises(ValueError, match="predicts 6 keypoints, the samples are labelled with 5"):
        probe_input(discs.model(), [dataclasses.replace(s, truth=s.truth[:5]) for s in samples])


# The wrappers, by value.


def test_what_a_model_makes_of_colours_is_measured(samples):
    colours = colours_of(discs.model(bgr=True), samples[0])
    assert colours.order == (2, 1, 0)
    assert colours.matrix[0] == pytest.approx([0, 0, 1 / 58.395], abs=1e-6)
    assert colours.offset == pytest.approx([-123.675 / 58.395, -116.28 / 57.12, -103.53 / 57.375], abs=1e-5)


def test_colours_that_are_no_affine_function_are_refused(samples):
    class Squared(type(discs.model())):
        def prepare(self, samples):
            batch = super().prepare(samples)
            return dataclasses.replace(batch, pixels=batch.pixels**2)

    m = discs.model()
    squared = Squared(m.module, m.skeleton, m.codec)
    with pytest.raises(NotAvailable, match="no affine function"):
        colours_of(squared, samples[0])
    report = probe_input(squared, samples[:2], rounds=1)
    assert {one.cause for one in report.not_tried} >= {"value range", "channel order", "normalisation"}


def test_a_crop_cut_again_at_its_own_place_is_the_models_crop(samples):
    for udp in (False, True):
        m = discs.model(udp=udp)
        again = Recropped(m, colours_of(m, samples[0]), lambda affine, box, size: affine)
        own, cut = (run(model, samples[:4]) for model in (m, again))
        assert np.abs(own.batch.pixels.numpy() - cut.batch.pixels.numpy()).max() < 0.12
        assert own.keypoints == pytest.approx(cut.keypoints, abs=0.05)


def test_the_right_normalisation_in_other_words_is_no_alternative(samples):
    names = {one.name for one in input_interventions(discs.model(), samples)[0]}
    assert "ImageNet mean and std" not in names
    assert "CLIP mean and std" in names


# Models of other kinds.


def test_of_enough_instances_a_finding_states_ap_with_its_interval(monkeypatch):
    from workbench.data import builtin
    from workbench.evaluation.probes import probing

    model, samples = opened_rtmpose(12)  # in 8 images
    pose_set = builtin("scenes-val")
    assert probing.ap_of(pose_set, pose_set.labelled[:12]) is None
    monkeypatch.setattr(probing, "ENOUGH", 12)

    def one(model, samples):
        return [i for i in input_interventions(model, samples)[0] if i.name == "pixels times 255"], []

    broken = recoloured(model, samples[0], in_0_to_1)
    ap = probing.ap_of(pose_set, pose_set.labelled[:12])
    (finding,) = probe(broken, samples, one, evaluated=ap).findings
    numbers = {n.name: n.value for n in finding.numbers}
    assert numbers["AP gained"] == pytest.approx(numbers["AP mended"] - numbers["AP as opened"])
    assert numbers["AP gained, lower end"] <= numbers["AP gained"] <= numbers["AP gained, upper end"]
    assert "; AP 0." in finding.evidence


def opened_rtmpose(count):
    """The demo model and some instances."""
    from workbench.checkpoints.demo import demo_checkpoints, demo_config
    from workbench.data import builtin
    from workbench.models import open_model

    model = open_model(demo_checkpoints()[-1], config=demo_config(), run_config=False).model
    pose_set = builtin("scenes-val")
    return model, pose_set.samples(pose_set.labelled[:count])


@pytest.fixture(scope="module")
def rtmpose():
    """The demo model and as many images as the verb takes: its colours matter too little for fewer."""
    from workbench.data import builtin

    pose_set = builtin("scenes-val")
    images = list(pose_set.labelled_of_image)[:40]
    return opened_rtmpose(1)[0], pose_set.samples(
        [i for image in images for i in pose_set.labelled_of_image[image]]
    )


def faults(model):
    """The five faults on a model with square input."""
    return {
        "value range": lambda s: recoloured(model, s, in_0_to_1),
        "channel order": lambda s: dataclasses.replace(model, bgr=not model.bgr),
        "normalisation": lambda s: dataclasses.replace(model, mean=(0, 0, 0), std=(1, 1, 1)),
        "width and height exchanged": lambda s: Transposed(model),
    }


def test_an_alternative_that_chance_may_explain_is_undecided_and_asks_for_more_images():
    """Red and blue exchanged at the demo network: +.046 on 24 instances, +.109 and named on 40 images."""
    trial = Trial("red and blue exchanged", "channel order", "", "", 0.466, 0.512, 0.046, -0.001, 0.092)
    report = ProbeReport("net", "input", "OKS", 0.466, 24, 12, (trial,), (), (), "")
    assert trial.undecided
    assert trial.verdict == "not decided"
    assert (
        "red and blue exchanged is not decided: +0.046 (-0.001 to +0.092) with 12 images" in report.summary()
    )
    assert "as the network expects it" not in report.summary()
    small = dataclasses.replace(report, trials=(dataclasses.replace(trial, delta=0.01),))
    assert "as the network expects it" in small.summary()
    assert "does not show that the input is right" in dataclasses.replace(small, value=0.0).summary()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.288, 0.016, "not decided"),
        (-0.006, 0.014, "no difference"),
        (0.006, 0.019, "hardly better"),
        (-0.03, -0.001, "ruled out"),
        (np.nan, np.nan, "not decided"),
    ],
)
def test_a_verdict_says_what_the_interval_beside_it_says(low, high, verdict):
    trial = Trial("box padding 1", "crop padding", "", "", 0.9, 0.91, 0.01, low, high)
    assert trial.verdict == verdict


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        ((-0.4, -0.6, -0.2), "not what the errors ask for"),
        ((0.4, 0.1, 0.8), "not decided"),
        ((-1.0, np.nan, np.nan), "not decided"),
        ((1.0, 0.9, 1.1), "better"),
        ((4.0, 3.0, 5.0), "not what the errors ask for"),
    ],
)
def test_a_fine_shift_is_judged_by_its_share_and_shows_the_interval_of_that(share, verdict):
    """It was called ruled out beside an interval of OKS that holds 0; and "no difference" of one sample."""
    numbers = dict(zip(("share", "share_low", "share_high"), share, strict=True))
    trial = Trial("x", "half-pixel shift", "", "", 0.9, 0.9, -1e-4, -0.01, 0.01, **numbers, fine=True)
    text = ProbeReport("net", "input", "OKS", 0.9, 9, 9, (trial,), (), (), "").text()
    assert trial.verdict == verdict
    assert f"+0.000 (-0.010 to +0.010)  {verdict}, " in text
    assert f"the errors hold {share[0]:+.2f} ({share[1]:+.2f}" in text or np.isnan(share[1])


def test_a_simcc_network_fed_with_0_to_1_is_told_so(rtmpose):
    model, samples = rtmpose
    wanted = ("value range", "channel order")

    def some(model, samples):
        made, no = input_interventions(model, samples)
        return [one for one in made if one.cause in wanted], no

    broken = recoloured(model, samples[0], in_0_to_1)
    assert [f.cause for f in probe(broken, samples[:8], some).findings] == ["value range"]
    assert probe(model, samples[:8], some).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "cause",
    ["", "value range", "channel order", "normalisation", "width and height exchanged", "crop padding"],
)
def test_all_five_on_a_simcc_network(rtmpose, cause):
    model, samples = rtmpose
    planted = {**faults(model), "": lambda s: model,
               "crop padding": lambda s: dataclasses.replace(model, padding=2.2)}  # fmt: skip
    report = probe_input(planted[cause](samples[0]), samples)
    assert [f.cause for f in report.findings] == ([cause] if cause else [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "cause",
    ["", "value range", "channel order", "normalisation", "width and height exchanged", "crop padding"],
)
def test_all_five_on_a_bottom_up_network(cause):
    from workbench.checkpoints.demo import demo_checkpoints
    from workbench.data import builtin
    from workbench.models import open_model

    model = open_model(demo_checkpoints("higherhrnet-demo")[-1]).model
    pose_set = builtin("scenes-people-val")
    images = list(pose_set.labelled_of_image)[:24]
    samples = pose_set.samples([i for n in images for i in pose_set.labelled_of_image[n]])
    planted = {
        **faults(model),
        "": lambda s: model,
        "crop padding": lambda s: dataclasses.replace(model, input_size=model.input_size // 2),
    }
    broken = planted[cause](samples[0])
    assert isinstance(broken, Groups)
    report = probe_input(broken, samples)
    assert [f.cause for f in report.findings] == ([cause] if cause else [])


@pytest.fixture(scope="module")
def movenet(shared):
    from workbench.data import read_coco
    from workbench.models import open_model

    pose_set = read_coco(shared / "data/coco/test_coco.json", shared / "data/coco")
    return open_model(shared / "data/weights/movenet_mbv3.pth").model, pose_set


def test_movenet_wants_raw_pixels(movenet):
    """On one photograph, crops with padding 1.25: OKS .87 raw, .03 in 0..1, .28 with ImageNet's numbers."""
    model, pose_set = movenet
    samples = [s for s in pose_set.samples() if s.image_id == 785]
    values = {
        t.name: t.value
        for t in probe(model, samples, lambda m, s: (input_interventions(m, s)[0][:4], [])).trials
    }
    assert values["pixels divided by 255"] == pytest.approx(0.03, abs=0.03)
    assert values["ImageNet mean and std"] == pytest.approx(0.28, abs=0.03)
    wrong = dataclasses.replace(model, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    (finding,) = probe_input(wrong, samples, rounds=1).findings
    assert finding.cause == "normalisation"
    assert "raw pixels 0..255" in finding.evidence
    assert finding.numbers[1].value == pytest.approx(0.868, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cause",
    ["", "value range", "channel order", "normalisation", "width and height exchanged", "crop padding"],
)
def test_all_five_on_movenet(movenet, cause):
    model, pose_set = movenet
    imagenet = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
    planted = {**faults(model), "": lambda s: model,
               "normalisation": lambda s: dataclasses.replace(model, **imagenet),
               "crop padding": lambda s: dataclasses.replace(model, padding=2.6)}  # fmt: skip
    samples = pose_set.samples()
    report = probe_input(planted[cause](samples[0]), samples)
    assert [f.cause for f in report.findings] == ([cause] if cause else [])
