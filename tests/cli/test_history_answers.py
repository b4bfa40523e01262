"""`workbench history`: questions without an answer, the demo's folder, and what an export says."""

from __future__ import annotations

import contextlib
import io
import json
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
