"""What encoding and decoding alone cost: values by hand, laws, and the AP ceiling of real boxes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.evaluation.codecs import dots
from workbench.core.job import Cancelled
from workbench.decoding.codecs import CODECS, encode_decode
from workbench.evaluation.codecs import Person, Setup, codec_errors, encoding_error

SMALL = Setup((128, 96), sigma=2.0, blur_kernel=5)


@pytest.fixture(scope="module")
def small():
    return codec_errors([SMALL])


def by_name(report):
    return {one.name: one for one in report.codecs}


def test_the_nearest_cell_costs_its_mean_distance(small):
    """Inside, the error along each axis is uniform in -2 to 2 pixels: mean distance 4 * .3826."""
    one = by_name(small)["argmax"]
    assert one.inside_px == pytest.approx(4 * 0.3826, rel=0.05)
    # Beyond the last cell's centre up to three pixels, instead of two, are lost along each axis.
    assert 2.7 < one.max_px <= 3 * np.sqrt(2)
    # A quarter of MSRA's own target is no help: it is symmetric around the cell.
    assert by_name(small)["quarter"].mean_px == one.mean_px


def test_a_bin_of_half_a_pixel_costs_its_mean_distance(small):
    one = by_name(small)["simcc"]
    assert one.mean_px == pytest.approx(0.5 * 0.3826, rel=0.05)
    assert one.max_px <= np.hypot(0.25, 0.25) + 1e-6
    assert one.ap_ceiling == 1


def test_dark_is_exact_inside_and_not_at_the_border(small):
    for name in ("dark", "udp"):
        one = by_name(small)[name]
        assert one.inside_px < 0.1
        assert one.border_px > 10 * one.inside_px
        assert one.profile[0] > 10 * one.profile[-1]


def test_the_map_shows_the_border_and_its_mean_is_the_mean(small):
    one = by_name(small)["dark"]
    assert one.map[0].mean() > 10 * one.map[3:-3, 3:-3].mean()
    assert one.map.mean() == pytest.approx(one.mean_px)


def test_simcc_with_dark_fails_at_the_very_border_as_in_mmpose():
    """Half a pixel from the edge its curvature vanishes: a keypoint at 0.5 is read at 111."""
    codec = Setup((256, 192)).codec("simcc-dark")
    assert encode_decode(codec, np.array([[0.5, 128.0]]))[0, 0] > 100
    report = codec_errors([Setup((256, 192))], ["simcc", "simcc-dark"])
    assert by_name(report)["simcc-dark"].border_px > 5 * by_name(report)["simcc-dark"].inside_px
    assert by_name(report)["simcc"].border_px < 0.25


def test_finer_outputs_cost_less():
    report = codec_errors([Setup((64, 48), (16, 12), 1.5), Setup((64, 48), (32, 24), 1.5)], ["argmax"])
    coarse, fine = report.codecs
    assert fine.inside_px == pytest.approx(coarse.inside_px / 2, rel=0.07)
    assert fine.oks > coarse.oks
    assert fine.ap_ceiling >= coarse.ap_ceiling
    assert coarse.label == "argmax 48x64/12x16 σ1.5"


def test_only_the_share_of_the_crop_decides_the_ceiling_not_the_size_in_the_image():
    """OKS divides by the person's area: the same person twice as large has the same error in shares of it."""
    one, two = (codec_errors([SMALL], ["argmax"], person=Person(w, 2 * w)).codecs[0] for w in (50, 100))
    assert one.ap_ceiling == pytest.approx(two.ap_ceiling)
    assert two.image_px == pytest.approx(2 * one.image_px)


def test_the_ceiling_of_one_person_by_hand():
    """With one keypoint everywhere 1.5 px off: OKS by the formula."""
    from workbench.skeletons import SKELETONS

    places = np.random.default_rng(0).uniform(0, [47, 63], (8, 6, 4, 2))
    person, rng = Person(100, 200), np.random.default_rng(0)
    away, coco = np.full((8, 6, 4), 1.5), SKELETONS["coco-17"]
    oks, ceiling = encoding_error._assumed(places, away, (64, 48), person, coco, rng)
    # The crop is 250 image pixels high and 64 input pixels: 3.90625 each.
    sigmas = np.array(coco.sigmas)
    terms = np.exp(-((1.5 * 3.90625) ** 2) / (2 * sigmas) ** 2 / (0.53 * 100 * 200) / 2)
    assert oks == pytest.approx(terms.mean())
    assert ceiling == pytest.approx(np.mean(np.linspace(0.5, 0.95, 10) <= terms.mean()))


def test_annotated_people_give_their_own_ceiling(tmp_path):
    pose_set = dots.data(tmp_path, 12)
    report = codec_errors([Setup(dots.SIZE, dots.CELLS, 1.5)], ["argmax", "dark"], pose_set=pose_set)
    rough, exact = report.codecs
    assert exact.ap_ceiling == 1
    assert exact.oks > 0.98
    assert rough.ap_ceiling < 1
    assert "the annotated people of dots (12 images)" in report.summary()
    # Pixels of their own images: boxes are padded by 1.25 to the shape of the input.
    H, W = dots.SIZE
    sides = np.array([np.subtract(one.box[2:], one.box[:2]) for one in pose_set.instances])
    scales = 1.25 * np.maximum(sides[:, 0] / W, sides[:, 1] / H)
    assert rough.image_px == pytest.approx(rough.mean_px * scales.mean())
    few = codec_errors([Setup(dots.SIZE)], ["argmax"], pose_set=pose_set, image_ids=[1])
    assert few.codecs[0].ap_ceiling * 10 == pytest.approx(round(few.codecs[0].ap_ceiling * 10))


def test_the_case_of_a_plain_gaussian_against_udp_at_the_size_of_sapiens(monkeypatch):
    """256x192 read at the nearest cell against UDP at 1024x768: the error in the image differs ten times."""
    monkeypatch.setattr(encoding_error, "FEWEST", 150)
    monkeypatch.setattr(encoding_error, "CELLS", 3_000_000)
    monkeypatch.setattr(encoding_error, "PER_CELL", 8)
    setups = [Setup((256, 192), (64, 48), 2.0), Setup((1024, 768), (256, 192), 6.0)]
    report = codec_errors(setups[:1], ["quarter"]).codecs + codec_errors(setups[1:], ["udp"]).codecs
    plain, udp = report
    assert plain.inside_px == pytest.approx(1.53, rel=0.05)
    assert udp.inside_px < 0.02
    assert plain.image_px > 5 * udp.image_px
    # Neither is what keeps a reproduction from the paper's AP.
    assert plain.ap_ceiling > 0.99


def test_json_words_and_figure(small):
    facts = json.loads(json.dumps(small.to_json(), allow_nan=False))
    assert [one["name"] for one in facts["codecs"]] == list(CODECS)
    assert {"name", "mean_px", "max_px", "ap_ceiling", "border_px", "bias_px"} <= set(facts["codecs"][0])
    assert "100x200" in facts["assumption"]
    text = small.text()
    assert all(name in text for name in CODECS)
    figure = small.plot()
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    lines = [trace for trace in figure.data if trace.type == "scatter"]
    count = len(CODECS)
    assert (len(maps), len(lines)) == (count, count)
    bottoms = [figure.layout[f"yaxis{i or ''}"].domain[0] for i in (0, *range(2, count + 1))]
    assert min(bottoms) > figure.layout[f"yaxis{count + 1}"].domain[1]


def test_equal_seeds_give_equal_reports(small):
    assert codec_errors([SMALL]).table() == small.table()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: codec_errors([]), "at least one size"),
        (lambda: codec_errors([Setup((64, 48), (12, 16))]), "exchanged"),
        (lambda: codec_errors([SMALL, Setup((64, 48), (30, 12))], ["simcc", "udp"]), "does not fit"),
        (lambda: Person(0, 10), "sizes above 0"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_measured(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()


def test_it_stops_when_asked():
    calls = []
    codec_errors([SMALL], ["simcc"], progress=lambda *a: calls.append(a))
    assert calls == [(0, 1), (1, 1)]
    with pytest.raises(Cancelled, match=f"0 of {len(CODECS)}"):
        codec_errors([SMALL], cancelled=lambda: True)
