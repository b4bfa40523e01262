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
    told = {
        "images": [{"id": 1, "file_name": "1.png", "width": 100, "height": 100}],
        "annotations": [{"id": 1, "area": 6400, "bbox": [5, 5, 90, 90], **person}],
        "categories": [{"id": 1, "name": "bird", "keypoints": names}],
    }
    (tmp_path / "set.json").write_text(json.dumps(told))
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
