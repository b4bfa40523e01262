"""`workbench history`: questions without an answer, the demo's folder, and what an export says."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from workbench.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The demo's epochs, written by the verb itself."""
    folder = tmp_path_factory.mktemp("history") / "demo"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["history", "--demo", "--out", str(folder)]) == 0
    assert out.getvalue().rstrip().endswith(f"written: {folder}")
    return folder


def test_the_demo_writes_into_the_folder_of_out(workbench, folder: Path) -> None:
    assert sorted(path.name for path in folder.glob("*.parquet")) == [
        f"epoch_{n}.parquet" for n in (1, 10, 2, 20, 40, 5)
    ]
    code, out, _ = workbench("history", folder, "--json")
    assert code == 0
    assert [row["epoch"] for row in json.loads(out)["epochs"]] == [1, 2, 5, 10, 20, 40]


def test_the_demo_replaces_no_predictions(workbench, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.glob("*.parquet")}
    code, _, err = workbench("history", "--demo", "--out", folder)
    assert code == 2
    assert "holds predictions already; name another folder" in err
    assert {path: path.read_bytes() for path in folder.glob("*.parquet")} == before


@pytest.mark.parametrize("option", ["--image-id", "--annotation-id"])
def test_an_id_that_no_epoch_has_is_refused(workbench, folder: Path, option: str) -> None:
    for words in ((folder,), ("--demo",)):
        code, out, err = workbench("history", *words, option, 999999)
        assert (code, out) == (2, "")
        assert option in err
        assert "999999; there are " in err
        assert len(err.splitlines()) == 1


def test_an_image_of_the_set_without_a_pose_is_an_answer(workbench, folder: Path) -> None:
    words = ("history", folder, "--data", "scenes-val", "--json")
    code, out, err = workbench(*words, "--image-id", 50)
    assert code == 0, err
    assert json.loads(out)["image"] == []
    assert workbench(*words, "--image-id", 999999)[0] == 2


def test_an_export_says_what_was_written(workbench, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "two.json"
    code, out, err = workbench("history", folder, "--export", f"2={file}")
    assert (code, out.strip()) == (0, f"written: {file}"), err
    assert len(json.loads(file.read_text())) == 12
    code, out, _ = workbench("history", folder, "--export", f"2={file}", "--worst", 2)
    assert code == 0
    assert "worst instances of epoch 2" in out
    assert out.rstrip().endswith(f"written: {file}")
    code, out, _ = workbench("history", folder, "--export", f"2={file}", "--json")
    assert json.loads(out)["written"] == str(file)


def test_a_models_own_sigmas_count_in_every_verb_that_reads_its_predictions(workbench, tmp_path: Path):
    from workbench.data import open_data
    from workbench.evaluation import Predictions, Protocol, evaluate
    from workbench.evaluation.protocol import judged_by
    from workbench.skeletons import skeleton_for

    names = ["beak", "crown", "tail"]
    truth = [10.0, 10, 2, 50, 10, 2, 30, 90, 2]
    person = {"image_id": 1, "category_id": 1, "keypoints": truth, "num_keypoints": 3, "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 100, "height": 100}],
        "annotations": [{"id": 1, "area": 6400, "bbox": [5, 5, 90, 90], **person}],
        "categories": [{"id": 1, "name": "bird", "keypoints": names}],
    }
    (tmp_path / "set.json").write_text(json.dumps(content))
    pose_set = open_data(str(tmp_path / "set.json"))
    model = replace(skeleton_for(names), sigmas=(0.05, 0.05, 0.05), source="")
    moved = [value + 6 * (i % 3 == 0) for i, value in enumerate(truth)]
    # OKS exp(-36 / (2 * 6400 * .1^2)) = .755 lies above the thresholds .5 to .75: 6 of 10.
    result = {"image_id": 1, "category_id": 1, "keypoints": moved, "score": 1.0}
    for epoch in (1, 2):
        found = Predictions.from_coco([result], "1")
        judged = evaluate(judged_by(pose_set, model), found, Protocol())
        assert judged.ap.figures["AP"] == pytest.approx(0.6)
        assert judged.protocol.sigmas == "own-3: the model's own sigmas"
        found.to_parquet(tmp_path / f"epoch_{epoch}.parquet", epoch=epoch, protocol=judged.protocol)
    one, data = tmp_path / "epoch_1.parquet", ("--data", tmp_path / "set.json")
    for words in (
        ("history", tmp_path), ("score", one), ("errors", one), ("compare", one, tmp_path / "epoch_2.parquet")
    ):  # fmt: skip
        code, out, err = workbench(*words, *data)
        assert code == 0, err
        assert "0.6" in out, words
    code, _, err = workbench("score", one, *data, "--sigmas", "0")
    assert code == 2, err


def test_ids_that_are_text_are_asked_for_and_listed_as_the_file_has_them(workbench, tmp_path: Path) -> None:
    names = [f"left {k}" if k else "nose" for k in range(4)]
    poses = [[10 * i + 20, 10 * k + 20, 2][j] for i in range(3) for k in range(4) for j in range(3)]
    content = {
        "images": [{"id": f"img-{i}", "file_name": f"{i}.jpg", "width": 96, "height": 96} for i in range(3)],
        "categories": [{"id": 1, "name": "animal", "keypoints": names}],
        "annotations": [
            {"id": f"a-{i}", "image_id": f"img-{i}", "category_id": 1, "bbox": [5, 5, 60, 60],
             "area": 0 if i == 2 else 900, "keypoints": poses[12 * i : 12 * i + 12], "num_keypoints": 4}
            for i in range(3)
        ],
    }  # fmt: skip
    data = tmp_path / "set.json"
    data.write_text(json.dumps(content))
    results = [
        {"image_id": f"img-{i}", "category_id": 1, "score": 0.9, "keypoints": poses[12 * i : 12 * i + 12]}
        for i in range(3)
    ]
    results[1]["keypoints"] = [v + 50 * (j % 3 < 2) for j, v in enumerate(poses[12:24])]
    folder = tmp_path / "epochs"
    folder.mkdir()
    (tmp_path / "1.json").write_text(json.dumps(results))

    words = ("--data", data, "--sigmas", "0.05")
    start = ("history", folder, *words, "--import", f"1={tmp_path / '1.json'}")
    code, out, err = workbench(
        *start, "--image-id", "img-1", "--annotation-id", "a-1", "--worst", 1, "--json"
    )
    assert code == 0, err
    facts = json.loads(out)
    assert {row["x"] for row in facts["image"]} == {80.0}
    assert next((row["image_id"], row["annotation_id"]) for row in facts["worst"]) == ("img-1", "a-1")
    assert facts["instance"][0]["oks"] < 0.01
    assert [row["annotation_id"] for row in facts["instances"]] == ["a-1"]
    out = workbench("history", folder, *words, "--image-id", "img-1")[1]
    assert "image img-1 over the epochs:" in out
    assert "instances of image img-1:" in out
    code, _, err = workbench("history", folder, "--image-id", "img-1")
    assert code == 2
    assert "an id of the data set that --data names, got 'img-1'" in err

    listed = json.loads(workbench("data", "lint", data, "--no-images", "--json")[1])["findings"]
    assert [(one["instances"], one["images"]) for one in listed if one["cause"] == "annotated areas"] == [
        (["a-2"], ["img-2"])
    ]
    assert "annotations a-2\n  images img-2\n" in workbench("data", "lint", data, "--no-images")[1]
    out = workbench("errors", tmp_path / "1.json", *words, "--list", "undetected")[1]
    assert "image img-1  annotation a-1" in out
    better = tmp_path / "2.json"
    better.write_text(
        json.dumps([{**one, "keypoints": poses[12 * i : 12 * i + 12]} for i, one in enumerate(results)])
    )
    out = workbench("compare", tmp_path / "1.json", better, *words, "--json")[1]
    gained = json.loads(out)["gained"]
    assert [(row["image_id"], row["annotation_id"]) for row in gained] == [("img-1", "a-1")]
