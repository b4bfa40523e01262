"""`workbench errors`: on result files without a model, on a checkpoint, and what it refuses."""

from __future__ import annotations

import json

import pytest

from tests.evaluation.test_errors import FAR, ONE, THREE, person, pose


@pytest.fixture
def files(tmp_path):
    """Annotations of two people with COCO's 17 keypoints, and results with one keypoint of each kind
    wrong."""
    from pathlib import Path

    made = json.loads((Path(__file__).parents[1] / "evaluation" / "errors_crowd.json").read_text())
    names = [
        "nose", *(f"{s}_{p}" for p in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
                  for s in ("left", "right")),
    ]  # fmt: skip
    made["annotations"]["categories"][0]["keypoints"] = names
    data, results = tmp_path / "people.json", tmp_path / "results.json"
    data.write_text(json.dumps(made["annotations"]))
    results.write_text(json.dumps(made["results"]))
    return data, results, made["expected"]


def test_a_result_file_is_sorted_without_model_and_images(workbench, files):
    data, results, expected = files
    code, out, err = workbench("errors", results, "--data", data, "--json", "--repair", "coco-analyze")
    assert code == 0, err
    facts = json.loads(out)
    for kind in ("good", "jitter", "inversion", "swap", "miss"):
        assert facts["counts"][kind] == sum(expected[kind])
        assert [row[kind] for row in facts["per_keypoint"]] == expected[kind]
    for kind in ("jitter", "inversion", "swap", "miss"):
        assert facts["delta_ap"][kind] == pytest.approx(expected[f"delta_{kind}"], abs=1e-12)
    assert facts["AP"] == pytest.approx(expected["AP"])
    assert facts["repair"] == "coco-analyze"


def test_ap_is_the_evaluators(workbench, files):
    data, results, _ = files
    facts = [
        json.loads(workbench(verb, results, "--data", data, "--json")[1]) for verb in ("errors", "score")
    ]
    assert facts[0]["AP"] == facts[1]["AP"]


def test_instances_behind_a_number_can_be_listed(workbench, files):
    data, results, expected = files
    code, out, _ = workbench(
        "errors", results, "--data", data, "--json", "--list", "swap", "--keypoint", "left_wrist"
    )
    assert code == 0
    rows = json.loads(out)["instances"]
    assert len(rows) == expected["swap"][9]
    assert all("left_wrist" in row["keypoints"] and row["of"] is not None for row in rows)
    text = workbench("errors", results, "--data", data, "--list", "miss")[1]
    assert "instances with miss" in text
    assert "OKS" in text


def test_it_writes_figure_and_facts_as_one_page(workbench, files, tmp_path):
    data, results, _ = files
    out = tmp_path / "errors.html"
    code, _, err = workbench("errors", results, "--data", data, "--out", out)
    assert code == 0, err
    assert "plotly" in out.read_text().lower()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{results}",), "expected --data"),
        ((), "expected --data"),
        (("--data", "{data}"), "expected a checkpoint"),
        (("gone.json", "--data", "{data}"), "gone.json: no such result file"),
        (("{data}", "--data", "{data}"), "annotations"),
        (("{results}", "--data", "{data}", "--repair", "all"), "one of published, coco-analyze, exact"),
        (("{results}", "--data", "{data}", "--list", "jiter"), "expected one of good, jitter"),
        (("{results}", "--data", "{data}", "--keypoint", "nose"), "belongs to --list"),
        (("{results}", "--data", "{data}", "--list", "miss", "--keypoint", "nse"), "nearest: nose"),
        (("{other}", "--data", "{data}"), "must be the same skeleton"),
        (("{nan}", "--data", "{data}"), "not a finite number"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_one_sentence(workbench, files, tmp_path, words, message):
    data, results, _ = files
    other, nan = tmp_path / "other.json", tmp_path / "nan.json"
    other.write_text(json.dumps([pose(ONE), pose(FAR)]))
    wrong = json.loads(results.read_text())
    wrong[0]["keypoints"][0] = float("nan")
    nan.write_text(json.dumps(wrong))
    named = {"data": data, "results": results, "other": other, "nan": nan}
    code, out, err = workbench("errors", *(word.format(**named) for word in words))
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_empty_results_and_other_skeletons_are_answered(workbench, tmp_path):
    data, results = tmp_path / "three.json", tmp_path / "none.json"
    data.write_text(json.dumps({
        "images": [{"id": 1, "width": 640, "height": 480, "file_name": "1.jpg"}],
        "annotations": [person(1, ONE)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(THREE.keypoints)}],
    }))  # fmt: skip
    results.write_text("[]")
    code, out, err = workbench("errors", results, "--data", data, "--sigmas", "0.05", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["counts"]["undetected"] == 1
    assert facts["counts"]["good"] == 0
    results.write_text(json.dumps([pose(ONE)]))
    facts = json.loads(workbench("errors", results, "--data", data, "--sigmas", "0.05", "--json")[1])
    assert facts["counts"]["good"] == 3
