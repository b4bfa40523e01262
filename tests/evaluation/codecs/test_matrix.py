"""The codec matrix: planted mismatches are found, a healthy run keeps its reading, figures are predict's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.evaluation.codecs import dots
from tests.toy import ToyFields, ToyPeople
from workbench.core import Codec, DecodeOptions, NotAvailable, Outputs
from workbench.core.job import Cancelled
from workbench.evaluation import evaluate, predict
from workbench.evaluation.codecs import Moves, codec_matrix
from workbench.evaluation.codecs.ways import FLIP, NO_FLIP, SHIFTED, own_way, ways_for
from workbench.models import TopDown


@pytest.fixture(scope="module")
def pose_set(tmp_path_factory):
    return dots.data(tmp_path_factory.mktemp("dots"))


def matrix(model, pose_set, **more):
    return codec_matrix(model, pose_set, resamples=60, **more)


@pytest.fixture(scope="module")
def healthy(pose_set):
    return matrix(dots.model("dark"), pose_set)


def test_a_healthy_run_keeps_its_own_reading_and_has_no_finding(healthy):
    assert healthy.own.name == "dark, no flip"
    assert healthy.own.ap > 0.95
    assert healthy.own.near_px < 0.3
    assert healthy.verdict in ("own", "within")
    assert healthy.to_findings() == ()
    assert "Keep" in healthy.summary()


@pytest.fixture(scope="module")
def mismatched(pose_set):
    """Gaussian maps of which the model says that they are read by their highest cell."""
    return matrix(dots.model("argmax"), pose_set)


def test_a_decoder_that_does_not_fit_is_found(mismatched):
    found = mismatched
    assert found.verdict == "better"
    assert found.best.way.decoder in ("dark", "udp", "soft-argmax")
    (finding,) = found.to_findings()
    assert finding.cause == "decoder does not fit the output"
    assert finding.effect.low > 0
    assert f"decode with {found.changes[0].way.decoder} instead of argmax" in finding.fix
    # The highest cell is up to half a diagonal of a cell off: 1.5 pixels on average.
    assert found.own.near_px == pytest.approx(1.5, abs=0.3)
    assert found.best.near_px < 0.4


def test_cells_placed_by_the_wrong_rule_are_found(pose_set):
    found = matrix(dots.model("dark", udp=True, cells="plain", warp_udp=False), pose_set)
    assert found.best.way.cells == "plain"
    (finding,) = [f for f in found.to_findings() if "cells" in f.cause]
    assert "read the heatmaps in plain cells" in finding.fix
    # Cell i lies at pixel 4 i and is read at 47 / 11 i and 48 / 47 of it: 9 % too far, 24 px in the middle.
    bias = found.own.bias_px
    assert bias[0] > 1
    assert bias[1] > 1
    assert np.abs(found.variant("dark, plain cells, no flip").bias_px).max() < 0.1


def test_udp_read_as_udp_is_healthy(pose_set):
    found = matrix(dots.model("udp", udp=True), pose_set)
    assert found.own.ap > 0.95
    assert found.verdict in ("own", "within")
    assert found.to_findings() == ()
    # A network of UDP's cells is symmetric: the mirrored maps need no shift.
    plain, shifted = (found.variant(f"udp, {flip}") for flip in (FLIP, SHIFTED))
    assert abs(plain.bias_px[0]) < 0.1
    assert shifted.bias_px[0] == pytest.approx(47 / 11 / 2 * 48 / 47, abs=0.2)


def test_a_missing_shift_of_the_flip_test_is_found_by_its_bias(pose_set):
    """Cell i lies at pixel 4 i; mirrored at 4 i + 3, so that the mean of both lies 1.5 px to the left."""
    found = matrix(dots.model("dark", shift=False), pose_set, flip=True)
    assert found.own.name == "dark, flip"
    assert found.own.bias_px[0] == pytest.approx(-1.5, abs=0.15)
    assert found.variant("dark, flip shifted").bias_px[0] == pytest.approx(0.5, abs=0.15)
    (finding,) = [f for f in found.to_findings() if "shifted" in f.cause]
    assert "use 'flip shifted' instead of 'flip'" in finding.fix
    right = matrix(dots.model("dark", shift=True), pose_set, flip=True)
    assert right.own.name == "dark, flip shifted"
    assert [f for f in right.to_findings() if "shifted" in f.cause] == []


def test_figures_are_those_of_predicting_each_variant_alone(healthy, pose_set):
    for decoder in ("dark", "quarter", "soft-argmax"):
        for flip, name in ((False, NO_FLIP), (True, FLIP)):
            alone = evaluate(
                pose_set, predict(dots.model("dark"), pose_set, flip=flip, options=DecodeOptions(decoder))
            )
            variant = healthy.variant(f"{decoder}, {name}")
            assert variant.ap == pytest.approx(alone.figures["AP"], abs=1e-12)
            assert variant.figures == pytest.approx(alone.figures, abs=1e-12, nan_ok=True)


def test_error_and_bias_by_hand(pose_set):
    found = matrix(dots.model("argmax"), pose_set, image_ids=[1, 2])
    points = predict(dots.model("argmax"), pose_set, indices=[0, 1]).keypoints
    off = points - np.stack([pose_set.instances[i].truth[:, :2] for i in (0, 1)])
    assert found.own.error_px == pytest.approx(np.linalg.norm(off, axis=-1).mean())
    near = found.near
    assert found.own.bias_px == pytest.approx(off[near].mean(0).tolist())
    assert found.instances == 2


def test_the_network_is_asked_once_for_each_image_and_its_mirror(pose_set):
    model = dots.model("dark")
    seen = []
    model.module.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    found = matrix(model, pose_set, batch_size=8)
    assert sum(seen) == 32 == found.network_calls
    assert len(found.variants) > 100


def test_variants_follow_from_the_codec(pose_set):
    heatmaps, _ = ways_for(dots.model(), own_way(dots.model()))
    # 6 decoders, 2 rules for cells, 3 flips, 4 pose scores.
    assert len(heatmaps) == len({way.name(heatmaps[0]) for way in heatmaps}) == 6 * 2 * 3 * 4
    assert {way.keypoint_score for way in heatmaps} == {""}
    simcc = simcc_model()
    ways, left_out = ways_for(simcc, own_way(simcc))
    # 3 decoders, 2 flips, 3 scores of two peaks, 4 pose scores.
    assert len(ways) == 3 * 2 * 3 * 4
    assert "SimCC vectors have no cells" in left_out[0]


class Vectors(torch.nn.Module):
    """The maxima of the channels along columns and rows, every pixel as two bins."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, pixels):
        pixels = pixels * self.scale
        return pixels.amax(2).repeat_interleave(2, -1), 0.5 * pixels.amax(3).repeat_interleave(2, -1)


def simcc_model():
    codec = Codec("simcc", dots.SIZE, (128, 96), (6.0, 6.0), decoder="simcc")
    return TopDown(Vectors().eval(), dots.THREE, codec, (0.0,) * 3, (255.0,) * 3, padding=1.0)


def test_scores_of_simcc_are_the_two_peaks(pose_set):
    """The peaks along y are half as high as those along x; the order of poses, and AP, follow the rule."""
    found = matrix(simcc_model(), pose_set)
    names = [v.name for v in found.variants]
    assert "simcc, no flip, peak mean" in names
    assert "simcc, no flip, peak max, pose min" in names
    assert "UDP" not in " ".join(names)
    own = {v.way.reading: v for v in found.variants if v.way.scores == found.own.way.scores}
    # Both bins of the pixel are equal; the first is the pixel itself.
    assert own["simcc", "", NO_FLIP].near_px < 0.6


def test_json_and_words_hold_the_promised_keys(healthy):
    facts = json.loads(json.dumps(healthy.to_json(), allow_nan=False))
    assert {"variants", "own", "best", "verdict", "protocol", "findings", "left_out"} <= set(facts)
    first = facts["variants"][0]
    assert {"name", "AP", "error_px", "bias_px", "low", "high"} <= set(first)
    assert first["name"] == "dark, no flip"
    assert len(first["bias_px"]) == 2
    assert set(facts["per_keypoint"]["dark, no flip"][0]) == {"keypoint", "found", "error_px", "bias_px"}
    assert "readings" not in facts
    text = healthy.text()
    assert "dark, no flip" in text
    assert "in --json" in text
    assert "\n\n" in text


def test_the_matrix_is_drawn_with_the_own_reading_framed(healthy):
    figure = healthy.plot()
    left, right = figure.data
    assert np.asarray(left.z).shape == (12, 3)
    assert np.asarray(right.z).shape == (1, 4)
    assert len(figure.layout.shapes) == 2  # the own reading, in both
    assert np.nanmin(np.abs(left.z)) == 0


def test_arrows_start_at_the_own_reading_and_are_lengthened_as_the_title_says(mismatched):
    found = mismatched
    figure = found.arrows("dark, no flip")
    title = figure.layout.title.text.replace("<br>", " ")
    factor = float(title.split("drawn ")[1].split(" times")[0])
    assert factor >= 1
    own, other = (
        found.readings[v.way.reading][found.shown] for v in (found.own, found.variant("dark, no flip"))
    )
    (tips,) = [t for t in figure.data if t.mode == "markers" and t.name == "dark, no flip"]
    near = found.near[found.shown]
    np.testing.assert_allclose(tips.x, (own + factor * (other - own))[near, 0], rtol=1e-4)
    moves = Moves(found, "dark, no flip")
    assert len(moves.table()) == 3
    assert "bias" in moves.summary()
    with pytest.raises(KeyError, match="nearest: dark, no flip"):
        found.arrows("dark, no flop")


def test_a_detectors_boxes_are_judged_too(pose_set):
    from workbench.data.boxes import FoundBox

    boxes = [
        FoundBox(one.image_id, one.category_id, one.box, 0.9 - 0.01 * one.annotation_id)
        for one in pose_set.instances
    ]
    found = matrix(dots.model("dark"), pose_set, boxes=boxes, boxes_from="drawn")
    assert found.own.ap > 0.95
    assert found.own.near_px < 0.3
    assert "boxes drawn" in found.protocol.text()


def test_what_cannot_be_asked_is_one_sentence(pose_set):
    for model, said in ((ToyFields(), "declares no codec"), (ToyPeople(), "bottom-up")):
        with pytest.raises(NotAvailable, match=said) as raised:
            codec_matrix(model, pose_set)
        assert "\n" not in str(raised.value)


def test_a_skeleton_without_mirror_has_no_flip_and_says_why(pose_set):
    from dataclasses import replace

    model = dots.model("dark")
    model = replace(model, skeleton=replace(model.skeleton, mirror=()))
    assert len({v.way.flip for v in matrix(model, pose_set, image_ids=[1]).variants}) > 1  # the set's pairs
    unpaired = replace(pose_set, skeleton=replace(pose_set.skeleton, mirror=()))
    found = matrix(model, unpaired, image_ids=[1])
    assert {v.way.flip for v in found.variants} == {NO_FLIP}
    assert "does not say which keypoints are left and right" in found.left_out[0]


def test_it_stops_when_asked_and_tells_how_far_it_is(pose_set):
    calls = []
    matrix(dots.model("dark"), pose_set, image_ids=[1, 2, 3], progress=lambda *a: calls.append(a))
    assert calls[0] == (0, 3 + 144)
    assert calls[-1] == (147, 147)
    assert calls == sorted(calls)
    with pytest.raises(Cancelled):
        matrix(dots.model("dark"), pose_set, cancelled=lambda: True)
    asked = iter([False] * 4 + [True] * 1000)
    with pytest.raises(Cancelled, match="ways to read"):
        matrix(dots.model("dark"), pose_set, cancelled=lambda: next(asked))


def test_outputs_that_hold_no_peak_are_missing_and_no_error(pose_set):
    model = dots.model("dark")
    with torch.no_grad():
        model.module.scale.zero_()
    found = matrix(model, pose_set, image_ids=[1, 2])
    assert found.own.ap == 0
    assert found.to_json()["variants"][0]["near_px"] is None
    assert found.arrows("quarter, no flip") is not None
    assert isinstance(model.forward(model.prepare([pose_set.sample(0)])), Outputs)
