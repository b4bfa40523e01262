"""`workbench codec` and `workbench decode` as a user calls them."""

from __future__ import annotations

import json

import pytest

from tests.evaluation.codecs import dots

ADAPTER = """
from tests.evaluation.codecs import dots

def load(checkpoint, device):
    return dots.model("argmax")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decode")
    dots.data(folder, 16)
    (folder / "adapter.py").write_text(ADAPTER)
    return folder


def test_codec_names_each_codec_with_its_error_and_ceiling(workbench, tmp_path):
    out = tmp_path / "codec.html"
    code, text, err = workbench(
        "codec", "--input", "48x64", "--codec", "argmax", "--codec", "udp", "--json", "--out", out
    )
    assert code == 0, err
    facts = json.loads(text)
    assert [one["name"] for one in facts["codecs"]] == ["argmax", "udp"]
    assert facts["codecs"][0]["mean_px"] > 1.4
    assert out.read_text().count("plotly") > 0


def test_codec_compares_two_sizes(workbench):
    words = (
        "--input",
        "48x64",
        "--input",
        "96x128",
        "--heatmap",
        "12x16",
        "--heatmap",
        "24x32",
        "--sigma",
        "1.5",
    )
    code, text, _ = workbench("codec", *words, "--codec", "dark")
    assert code == 0
    assert "dark 48x64/12x16 σ1.5" in text
    assert "dark 96x128/24x32 σ1.5" in text, "one sigma is for both"


def test_codec_takes_sigmas_for_keypoints_that_have_none(workbench, files):
    words, data = (
        ("codec", "--input", "48x64", "--codec", "argmax", "--json"),
        ("--data", files / "dots.json"),
    )
    assert "OKS needs one for each keypoint: --sigmas" in workbench(*words, *data)[2]
    tight, wide = (json.loads(workbench(*words, *data, "--sigmas", s)[1]) for s in ("0.01", "0.1"))
    assert tight["codecs"][0]["oks"] < wide["codecs"][0]["oks"] < 1
    code, _, err = workbench(*words, "--sigmas", "0.05")
    assert (code, "expected --data" in err) == (2, True)


def test_codec_measures_the_ceiling_on_annotations(workbench, files):
    code, text, _ = workbench(
        "codec", "--input", "48x64", "--codec", "argmax", "--data", files / "dots.json", "--json"
    )
    assert code == 2, "three keypoints without sigmas"
    code, text, _ = workbench(
        "codec", "--input", "64x64", "--codec", "simcc", "--data", "scenes-val", "--limit", "3", "--json"
    )
    assert code == 0
    assert json.loads(text)["codecs"][0]["ap_ceiling"] == 1
    assert "scenes-val (3 images)" in json.loads(text)["assumption"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--input", "192x256", "--heatmap", "64x48"), "exchanged"),
        (("--input", "192x256", "--heatmap", "50x64"), "does not fit input 192x256"),
        (("--input", "192"), "such as 192x256"),
        (("--input", "192x256", "--sigma", "-1"), "sigma: expected a number above 0"),
        (("--heatmap", "48x64", "--heatmap", "24x32"), "2 values for 1 --input"),
        (("--codec", "upd"), "nearest: udp"),
        (("--simcc-sigma", "a,b"), "--simcc-sigma"),
        (("--split", "0.1"), "split ratio 0.1 does not fit"),
        (("--blur", "10"), "odd number of cells"),
        (("--person", "100x0"), "such as 192x256"),
        (("--padding", "0"), "sizes above 0"),
        (("--out", "codec.txt"), ".html or .json or .csv"),
    ],
)
def test_a_wrong_size_is_one_sentence_and_exit_code_2(workbench, words, said):
    code, out, err = workbench("codec", *words)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert said in err


def test_decode_names_the_best_reading_and_writes_matrix_and_arrows(workbench, files, monkeypatch):
    own = ("--adapter", files / "adapter.py", "--data", files / "dots.json", "--sigmas", "0.025")
    code, text, err = workbench(
        "decode", *own, "--resamples", "50", "--json", "--out", files / "m.csv", "--arrows", files / "a.html",
        "--against", "dark, no flip",
    )  # fmt: skip
    assert code == 0, err
    facts = json.loads(text)
    assert facts["own"] == "argmax, no flip"
    assert facts["verdict"] == "better"
    assert {"name", "AP", "error_px", "bias_px"} <= set(facts["variants"][0])
    assert (files / "m.csv").read_text().startswith("name,AP")
    assert "drawn" in (files / "a.html").read_text()
    code, text, _ = workbench("decode", *own, "--resamples", "50")
    assert "the interval, corrected for the number of variants, excludes 0" in text
    assert "found: decoder does not fit the output" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "decode: expected a checkpoint"),
        (("--demo", "--limit", "0"), "at least 1 image"),
        (("--demo", "--resamples", "1"), "--resamples: expected 2 or more"),
        (("--demo", "--arrows", "a.png"), "ending in .html"),
        (("--demo", "--pose-score", "meen", "--limit", "1"), "no score rule 'meen'"),
        (("ADAPTER", "--data", "DATA", "--pose-score", "oracle"), "is an upper bound"),
        (("ADAPTER",), "decode: expected --data"),
    ],
)
def test_what_decode_cannot_do_is_one_sentence_and_exit_code_2(workbench, files, words, said):
    arguments = {"ADAPTER": ("--adapter", files / "adapter.py"), "DATA": (files / "dots.json",)}
    code, out, err = workbench("decode", *(part for word in words for part in arguments.get(word, (word,))))
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert said in err


def test_a_bottom_up_model_is_sent_to_ablate(workbench):
    from workbench.checkpoints.demo import demo_checkpoints

    file = demo_checkpoints("higherhrnet-demo")[-1]
    code, _, err = workbench("decode", file, "--data", "scenes-people-val", "--limit", "1")
    assert code == 2
    assert "workbench ablate grouping" in err
