from __future__ import annotations

import json

import pytest

from workbench.data import builtin


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
    assert out.startswith("astronaut: 1 of 1 instance can be scored")
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


def test_shares_of_no_labelled_keypoint_are_a_dash(workbench, tmp_path):
    person = {"id": 1, "name": "animal", "keypoints": ["nose", "tail"], "skeleton": []}
    empty = {"images": [], "annotations": [], "categories": [person]}
    (tmp_path / "empty.json").write_text(json.dumps(empty))
    code, out, err = workbench("data", tmp_path / "empty.json")
    assert (code, err) == (0, "")
    assert "nan" not in out
    assert out.splitlines()[4].split() == ["nose", "-", "-", "-"]


def test_bad_files_are_one_sentence(workbench, tmp_path):
    (tmp_path / "bad.json").write_text('{"images": [], "annotations": [], "categories": [{"id": 1}]}')
    for words, message in (
        ([tmp_path / "bad.json"], "expected keypoints"),
        ([tmp_path / "absent.json"], "absent.json"),
        (["astronau"], "nearest: astronaut"),
        (["astronaut", "--images", tmp_path], "brings its own images"),
    ):
        code, out, err = workbench("data", *words)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.strip().splitlines()) == 1


def test_real_files(workbench, shared):
    code, out, _ = workbench("data", shared / "data/ap10k/test_ap10k.json", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["skeleton"] == "ap10k-17"
    assert facts["categories"] == {"antelope": 1, "jaguar": 1}


def with_bare_annotations(tmp_path):
    """The first images of drawn scenes, with 3 balls and 1 chair that have a box and no keypoints."""
    scenes = builtin("scenes-val")
    few = scenes.raw["images"][:2]
    ids = {entry["id"] for entry in few}
    own = [a for a in scenes.raw["annotations"] if a["image_id"] in ids]
    balls = [
        {"id": 90_000 + n, "image_id": few[0]["id"], "category_id": 900 + (n == 3), "bbox": [5, 5, 30, 30],
         "area": 900, "iscrowd": 0}
        for n in range(4)
    ]  # fmt: skip
    more = [{"id": 900, "name": "ball"}, {"id": 901, "name": "chair"}]
    raw = {
        **scenes.raw, "annotations": [*own, *balls], "categories": [*scenes.raw["categories"], *more],
        "images": [{**e, "file_name": scenes.images[e["id"]].path.name} for e in few],
    }  # fmt: skip
    file = tmp_path / "balls.json"
    file.write_text(json.dumps(raw))
    poses = [
        {**{k: a[k] for k in ("image_id", "category_id", "keypoints", "bbox")}, "score": 0.9} for a in own
    ]
    (tmp_path / "poses.json").write_text(json.dumps(poses))
    where = scenes.images[few[0]["id"]].path.parent
    return (
        file,
        where,
        f"4 of {len(own) + 4} annotations have no keypoints and are left out (ball 3, chair 1)",
    )


@pytest.mark.parametrize(
    "verb",
    [
        ("data", "DATA", "--images", "IMAGES"),
        ("data", "lint", "DATA", "--no-images"),
        ("score", "POSES", "--data", "DATA"),
        ("errors", "POSES", "--data", "DATA"),
        ("compare", "POSES", "MORE", "--data", "DATA", "--resamples", "20"),
        ("codec", "--codec", "argmax", "--data", "DATA", "--limit", "1"),
        ("evaluate", "MODEL", "--config", "CONFIG", "--data", "DATA", "--images", "IMAGES"),
        ("look", "peaks", "MODEL", "--config", "CONFIG", "--data", "DATA", "--images", "IMAGES"),
    ],
    ids=lambda words: words[0],
)
def test_annotations_without_keypoints_are_counted_by_every_verb(workbench, tmp_path, verb):
    from workbench.checkpoints.demo import demo_checkpoints, demo_config

    file, images, sentence = with_bare_annotations(tmp_path)
    (tmp_path / "more.json").write_text((tmp_path / "poses.json").read_text())
    stands = {
        "DATA": file, "IMAGES": images, "POSES": tmp_path / "poses.json", "MORE": tmp_path / "more.json",
        "MODEL": demo_checkpoints()[-1], "CONFIG": demo_config(),
    }  # fmt: skip
    words = [stands.get(word, word) for word in verb]
    code, out, err = workbench(*words)
    assert code == 0, err
    assert sentence in out
    assert out.count(f"note: {sentence}") <= 1
    assert sentence in workbench(*words, "--json")[1]
