"""Folders of epochs that are damaged, mixed, or not what their manifest says: one sentence, exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.test_comparison_details import people_set
from tests.evaluation.test_history import folder, write  # noqa: F401 - fixture
from tests.waiting import until
from workbench.evaluation import Predictions, Protocol, query_epochs
from workbench.evaluation.manifest import check_manifest


def refused(workbench, *words):
    """The one sentence of a call that must fail."""
    code, out, err = workbench("history", *words)
    assert (code, out) == (2, ""), err
    assert len(err.strip().splitlines()) == 1
    return err


def without_annotations(K=17, epoch=20):
    poses = Predictions(
        np.array([1]), np.array([1]), np.zeros((1, 4)), np.zeros((1, K, 2)), np.ones((1, K)), np.ones(1)
    )
    return lambda path, **more: poses.to_parquet(path, epoch=epoch, **more)


def test_a_half_written_file_is_named(folder, workbench):  # noqa: F811
    whole = (folder / "epoch_3.parquet").read_bytes()
    for size in (0, 3, len(whole) // 2, len(whole) - 1):
        (folder / "epoch_3.parquet").write_bytes(whole[:size])
        assert "epoch_3.parquet: expected a Parquet file of predictions" in refused(workbench, folder)


def test_a_pipe_among_the_epochs_is_passed_over(folder):  # noqa: F811
    before = query_epochs(folder).epochs()
    os.mkfifo(folder / "epoch_4.parquet")
    assert query_epochs(folder).epochs() == before


WRITER = """
import signal, sys
import numpy as np
from workbench.core.files import replacing
from workbench.evaluation import Predictions
target, source = sys.argv[1:]
whole = open(source, "rb").read()
with replacing(target) as part:
    with open(part, "wb") as file:
        file.write(whole[: len(whole) // 2])
        file.flush()
        print("half", flush=True)
        signal.pause()
"""


def test_a_writer_killed_in_the_middle_leaves_the_other_epochs_readable(folder):  # noqa: F811
    before = query_epochs(folder).epochs()
    for name in ("epoch_3.parquet", "epoch_30.parquet"):
        words = [sys.executable, "-c", WRITER, str(folder / name), str(folder / "epoch_1.parquet")]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "half\n"
            writer.send_signal(signal.SIGKILL)
        until(lambda: writer.poll() is not None)
    assert len(list(folder.glob(".*.part.parquet"))) == 2
    assert query_epochs(folder).epochs() == before


def test_epochs_under_different_rules_are_compared_only_when_asked(folder, workbench):  # noqa: F811
    from dataclasses import replace

    rules = query_epochs(folder).protocols[3]
    found = Predictions.from_parquet(folder / "epoch_3.parquet")[0]
    before = query_epochs(folder).lost(2, 3)
    oks = {row["annotation_id"]: row["oks"] for row in query_epochs(folder).worst(3)}
    given = np.array([oks[n] for n in found.annotation_id.tolist()])
    found.to_parquet(folder / "epoch_3.parquet", epoch=3, protocol=replace(rules, flip=True), oks=given)
    err = refused(workbench, folder, "--between", "2,3")
    assert "flip: True against None" in err
    assert "only when asked: --mixed" in err
    code, out, _ = workbench("history", folder, "--json")
    assert code == 0
    facts = json.loads(out)
    assert [row["rules"] for row in facts["epochs"]] == [1, 1, 2, 1]
    assert facts["differences"] == ["epoch 3: flip: True against None"]
    assert "forgotten" not in facts
    assert query_epochs(folder).gained(1, 2)
    code, out, _ = workbench("history", folder, "--between", "2,3", "--mixed", "--json")
    assert code == 0
    assert [r["annotation_id"] for r in json.loads(out)["lost"]] == [r["annotation_id"] for r in before]
    with pytest.raises(ValueError, match="different rules"):
        query_epochs(folder).learned()


def test_epochs_of_different_skeletons_are_opened_only_when_asked(folder, workbench):  # noqa: F811
    without_annotations(3)(folder / "epoch_20.parquet", protocol=Protocol())
    assert "has 3 keypoints) are compared only when asked" in refused(workbench, folder)
    mixed = query_epochs(folder, mixed=True)
    assert mixed.rules[20] == 2
    assert mixed.differences[0].startswith("epoch 20: 3 keypoints against 17")
    assert mixed.gained(1, 20) == []
    for ask in (lambda: mixed.regressions(1, 20), lambda: mixed.image(1), mixed.index_images):
        with pytest.raises(ValueError, match="no keypoints in common"):
            ask()
    code, out, _ = workbench("history", folder, "--mixed", "--between", "1,20", "--json")
    assert code == 0
    assert "regressions" not in json.loads(out)


def test_a_manifest_that_says_something_else_is_told_of(folder, workbench, written):  # noqa: F811
    data = people_set(written, count=3).source
    code, _, err = workbench("history", folder, "--data", data, "--export", f"1={folder / 'one.json'}")
    assert code == 0, err
    code, _, err = workbench("history", folder, "--data", data, "--import", f"30={folder / 'one.json'}")
    assert code == 0, err
    assert check_manifest(folder, query_epochs(folder)) == []
    stated = json.loads((folder / "manifest.json").read_text())
    entries = {one["file"]: one for one in stated["epochs"]}
    entries["epoch_2.parquet"]["epoch"] = 7
    stated["epochs"] = [one for one in stated["epochs"] if one["file"] != "epoch_3.parquet"]
    (folder / "manifest.json").write_text(json.dumps(stated))
    wrong = check_manifest(folder, query_epochs(folder))
    assert wrong == [
        "epoch_2.parquet: is epoch 2, and manifest.json calls it 7",
        "epoch_3.parquet: not named in manifest.json",
    ]
    code, out, _ = workbench("history", folder)
    assert code == 0
    assert "mind: epoch_2.parquet: is epoch 2" in out


def test_other_annotations_than_those_of_the_folder_are_refused(folder, workbench, written, tmp_path):  # noqa: F811
    data = people_set(written, count=3).source
    code, _, err = workbench("history", folder, "--data", data, "--export", f"1={tmp_path / 'one.json'}")
    assert code == 0, err
    words = ("--import", f"1={tmp_path / 'one.json'}")
    (tmp_path / "runs").mkdir()
    code, _, err = workbench("history", tmp_path / "runs", "--data", data, *words)
    assert code == 0, err

    def moved(people):
        people[1]["keypoints"][0] += 3

    other = people_set(written, count=3, change=moved).source
    for more in ((), words):
        err = refused(workbench, tmp_path / "runs", "--data", other, *more)
        assert "name the same data set, or another folder" in err
    assert workbench("history", tmp_path / "runs")[0] == 0


@pytest.mark.parametrize("name", ["scores", "by_image"])
def test_a_damaged_index_is_made_again_or_passed_over(folder, workbench, written, name):  # noqa: F811
    data = people_set(written, count=3).source
    words = ("history", folder, "--data", data, "--compact", "--image-id", "2", "--json")
    code, out, err = workbench(*words)
    assert code == 0, err
    file = folder / "index" / f"{name}.parquet"
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(12):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 8):
            damaged[place] ^= 0xFF
        file.write_bytes(bytes(damaged))
        code, again, err = workbench(*words)
        assert code in (0, 2)
        assert code == 2 or json.loads(again).keys() == json.loads(out).keys()
        assert code == 0 or len(err.strip().splitlines()) == 1
        file.write_bytes(whole)


def test_no_link_that_came_with_predictions_is_written_through(folder, workbench, written, tmp_path):  # noqa: F811
    foreign, index = tmp_path / "foreign", folder / "index"
    foreign.mkdir()
    words = ("history", folder, "--data", people_set(written, count=3).source, "--compact", "--json")
    shutil.rmtree(index, ignore_errors=True)
    index.symlink_to(foreign, target_is_directory=True)
    code, out, err = workbench(*words)
    assert (code, list(foreign.iterdir())) == (0, [])
    assert "is a link to another folder" in out + err
    index.unlink()
    index.mkdir()
    (foreign / "own.txt").write_text("precious")
    tables = [index / "scores.parquet", index / "by_image.parquet"]
    for table in tables:
        table.unlink(missing_ok=True)
        table.symlink_to(foreign / "own.txt")
        (table.with_name(f".{table.stem}.{os.getpid()}.part{table.suffix}")).symlink_to(foreign / "own.txt")
    assert workbench(*words)[0] == 0
    assert (foreign / "own.txt").read_text() == "precious"
    assert all(table.is_file() and not table.is_symlink() for table in tables)


def test_a_folder_whose_name_has_a_meaning_for_the_database_is_read_as_any_other(
    folder,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    before = query_epochs(folder)
    epochs, poses = before.epochs(), before.image(2)
    monkeypatch.chdir(tmp_path)
    # Signs of a pattern; a partition's column, whose value would replace that of every row; a home folder.
    for name in ("run [1] it's *", "oks=1", "epoch=77", "~"):
        odd = Path(name)
        folder.rename(odd)
        folder = odd
        history = query_epochs(odd)
        assert (history.epochs(), history.image(2)) == (epochs, poses), name
