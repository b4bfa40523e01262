"""workbench film, paths, clinic and ablate conditioning: the promised JSON, and mistakes in one sentence."""

from __future__ import annotations

import json

import pytest

from tests.models.text_fusion_net import config, written
from workbench.text.vectors import builtin_text, write_text


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A checkpoint of the published network in small."""
    return written(config(), tmp_path_factory.mktemp("text"))


def facts(workbench, *words):
    code, out, err = workbench(*words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_film_tells_every_layer_and_every_epoch(workbench, file):
    answer = facts(workbench, "film", file, file, "--samples", 2)
    (layer,) = answer["layers"]
    named = {"name", "gamma_mean", "gamma_std", "beta_mean", "beta_std", "across_images", "verdict"}
    assert named <= set(layer)
    assert layer["gamma_mean"] == pytest.approx(1)
    assert (layer["across_images"], layer["verdict"]) == (0, "identity")
    assert len(answer["epochs"]) == 2


def test_paths_tells_every_tap_and_the_first_that_differs(workbench, file):
    answer = facts(workbench, "paths", file, "--samples", 2)
    assert answer["first_difference"] == "text.subject"
    assert {"name", "difference"} <= set(answer["taps"][0])


def test_ablate_conditioning_tells_reference_variants_and_intervals(workbench, file):
    answer = facts(workbench, "ablate", "conditioning", file, "--data", "scenes-val", "--limit", 4)
    assert {"name", "AP", "AR"} <= set(answer["reference"])
    for row in answer["variants"]:
        assert {"name", "AP", "delta", "low", "high"} <= set(row)
    assert answer["ranking"]["given_back"]["level"] == 0.95


def test_the_clinic_names_the_defects_and_writes_its_report(workbench, file, tmp_path):
    out = tmp_path / "clinic.html"
    answer = facts(workbench, "clinic", file, "--no-measure", "--samples", 2, "--out", out)
    assert "neck skipped in predict" in [finding["name"] for finding in answer["findings"]]
    assert answer["ablation"] is None
    assert "<title>" in out.read_text(encoding="utf-8")


def test_two_run_folders_are_told_in_the_order_of_the_case(workbench, tmp_path):
    runs = {"v2": ((10, 0.2, 0.3), (20, 0.6251, 0.759)), "base": ((10, 0.3, 0.4), (20, 0.7071, 0.7286))}
    for name, rows in runs.items():
        (tmp_path / name / "20251014" / "vis_data").mkdir(parents=True)
        lines = [json.dumps({"coco/AP": ap, "coco/AR": ar, "step": epoch}) for epoch, ap, ar in rows]
        (tmp_path / name / "20251014/vis_data/scalars.json").write_text("\n".join(lines))
    for epoch in (10, 100):
        written(config(), tmp_path / "v2", name=f"epoch_{epoch}.pth")
    words = ("clinic", tmp_path / "v2", "--against", tmp_path / "base", "--samples", 2, "--limit", 4)
    code, out, err = workbench(*words, "--out", tmp_path / "clinic.html")
    assert code == 0, err
    assert "v2, epoch 1" in out
    _, _, evidence = out.partition("Do AP and AR change in opposite directions?")
    asked = (
        "AP -0.082, AR +0.030: AP and AR change in opposite directions",
        "ranked by raw scores",
        "the first tap that differs is text.subject",
        "γ 1.000 ± 0.000",
        "One uncertain keypoint is enough",
        " as it is, measured on ",
    )
    places = [evidence.index(sentence) for sentence in asked]
    assert places == sorted(places)
    page = (tmp_path / "clinic.html").read_text(encoding="utf-8")
    assert page.count("<h2>") == page.count('<div class="figure"') == 10
    code, _, err = workbench("clinic", tmp_path / "v2", "--against", tmp_path, "--no-measure")
    assert (code, "no log lies beside" in err) == (2, True)
    code, _, err = workbench("clinic", tmp_path / "base")
    assert (code, "expected checkpoints" in err) == (2, True)


@pytest.mark.parametrize("verb", [["film"], ["paths"], ["clinic"], ["ablate", "conditioning"]])
def test_a_mistake_is_one_sentence(workbench, root, tmp_path, file, verb):
    plain = root / "checkpoints/rtmpose-demo/epoch_40.pth"
    import dataclasses

    text = builtin_text()
    short = dataclasses.replace(text, subject_vectors=text.subject_vectors[:, :8])
    other = write_text(short, tmp_path / "short.npz")
    for words, said in (
        ((), "expected a checkpoint"),
        ((tmp_path / "absent.pth",), "absent.pth"),
        ((plain,), "no condition"),
        ((file, "--text", other), "this neck reads 384"),
        ((file, "--data", "bogus"), "bogus"),
    ):
        code, out, err = workbench(*verb, *words)
        assert (code, out) == (2, ""), words
        assert said in err
        assert len(err.strip().splitlines()) == 1, err
