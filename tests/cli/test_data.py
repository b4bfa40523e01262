from __future__ import annotations

import json


def test_without_a_name_the_built_in_sets_are_listed(workbench):
    code, out, _ = workbench("data", "--json")
    assert code == 0
    assert set(json.loads(out)["builtin"]) >= {"scenes-val", "scenes-train", "astronaut"}


def test_the_facts_of_a_set_are_json(workbench):
    code, out, err = workbench("data", "astronaut", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["skeleton"] == "coco-17"
    assert (facts["instances"], facts["labelled"], facts["mirror"], facts["sigmas"]) == (1, 1, True, True)
    assert len(facts["visible"]) == 17


def test_words_for_people(workbench):
    code, out, _ = workbench("data", "astronaut")
    assert code == 0
    assert out.startswith("astronaut: 1 of 1 instances can be scored")
    assert "left_wrist" in out


def test_a_set_is_written_as_images_and_one_json_and_never_over_another(workbench, tmp_path):
    code, out, _ = workbench("data", "astronaut", "--out", tmp_path / "copy", "--json")
    assert code == 0
    path = json.loads(out)["written"]
    assert path == str(tmp_path / "copy" / "annotations.json")
    assert workbench("data", path)[0] == 0
    code, out, err = workbench("data", "astronaut", "--out", tmp_path / "copy")
    assert (code, out) == (2, "")
    assert "nothing is overwritten" in err


def test_bad_files_are_one_sentence(workbench, tmp_path):
    (tmp_path / "bad.json").write_text('{"images": [], "annotations": [], "categories": [{"id": 1}]}')
    for words, told in (
        ([tmp_path / "bad.json"], "expected keypoints"),
        ([tmp_path / "absent.json"], "absent.json"),
        (["astronau"], "nearest: astronaut"),
        (["astronaut", "--images", tmp_path], "brings its own images"),
    ):
        code, out, err = workbench("data", *words)
        assert (code, out) == (2, "")
        assert told in err
        assert len(err.strip().splitlines()) == 1


def test_real_files(workbench, shared):
    code, out, _ = workbench("data", shared / "data/ap10k/test_ap10k.json", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["skeleton"] == "ap10k-17"
    assert facts["categories"] == {"antelope": 1, "jaguar": 1}
