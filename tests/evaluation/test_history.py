"""A folder of epochs: questions with answers by hand, the sorted copy, the manifest, import and export."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.evaluation.test_comparison_details import people_set, sees, true_points
from workbench.evaluation import evaluate
from workbench.evaluation.evaluate import pose_oks
from workbench.evaluation.history import query_epochs
from workbench.evaluation.manifest import check_manifest, write_manifest


def write(folder, pose_set, epoch, offsets):
    """An epoch whose person n lies offsets[n] pixels off."""
    truth = true_points(pose_set) + np.array(offsets, float)[:, None, None]
    found = sees(pose_set, truth, 0.0)
    report = evaluate(pose_set, found)
    oks, terms = pose_oks(found, report.ap)
    return found.to_parquet(
        folder / f"epoch_{epoch}.parquet", epoch=epoch, protocol=report.protocol, oks=oks, terms=terms
    )


@pytest.fixture
def folder(tmp_path, written):
    pose_set = people_set(written, count=3)
    run = tmp_path / "run"
    for epoch, offsets in ((1, (40, 40, 0)), (2, (0, 40, 0)), (3, (40, 0, 0)), (10, (0, 1, 40))):
        write(run, pose_set, epoch, offsets)
    return run


def test_epochs_worst_and_changes_have_the_values_by_hand(folder):
    history = query_epochs(folder)
    epochs = history.epochs()
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 10]
    assert [row["found"] for row in epochs] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert [row["annotation_id"] for row in history.worst(2, 1)] == [200]
    assert [row["annotation_id"] for row in history.gained(1, 2)] == [100]
    assert [row["annotation_id"] for row in history.lost(2, 3)] == [100]
    assert {row["annotation_id"] for row in history.regressions(3, 10, 17)} == {300}
    assert history.regressions(3, 10, 1)[0]["change"] == pytest.approx(-1, abs=0.1)


def test_what_was_learned_and_forgotten_is_told(folder):
    rows = {row["annotation_id"]: row for row in query_epochs(folder).learned()}
    assert rows[100] | {"image_id": 0} == {
        "image_id": 0, "annotation_id": 100, "first_found": 2, "forgotten": 1, "found_last": True,
    }  # fmt: skip
    assert (rows[200]["first_found"], rows[200]["forgotten"]) == (3, 0)
    assert (rows[300]["first_found"], rows[300]["forgotten"], rows[300]["found_last"]) == (1, 1, False)


def test_one_image_over_all_epochs_is_the_same_from_the_sorted_copy(folder):
    plain = query_epochs(folder)
    assert plain.image_index is None
    assert query_epochs(folder).index_images() is not None
    sorted_copy = query_epochs(folder)
    assert sorted_copy.image_index is not None
    assert sorted_copy.image_index.epochs == {1, 2, 3, 10}
    rows = plain.image(2)
    assert len(rows) == 4 * 17
    assert sorted_copy.image(2) == rows
    assert [row["epoch"] for row in rows[::17]] == [1, 2, 3, 10]
    assert list(sorted_copy.files) == [1, 2, 3, 10]


def test_a_sorted_copy_answers_for_the_files_that_it_was_made_of(folder, written):
    query_epochs(folder).index_images()
    write(folder, people_set(written, count=3), 11, (0, 0, 0))
    before = query_epochs(folder).image(2)
    write(folder, people_set(written, count=3), 3, (0, 9, 0))
    history = query_epochs(folder)
    assert history.image_index is not None
    assert history.image_index.epochs == {1, 2, 10}
    rows = history.image(2)
    assert [row["epoch"] for row in rows[::17]] == [1, 2, 3, 10, 11]
    changed = [row["epoch"] for row, old in zip(rows, before, strict=True) if row != old]
    assert set(changed) == {3}
    (folder / "index" / "by_image.parquet").write_bytes(b"half")
    assert query_epochs(folder).image_index is None
    assert query_epochs(folder).image(2) == rows


def test_the_manifest_names_what_changed(folder, written):
    write_manifest(folder, "people", [{"epoch": 2, "checkpoint": "epoch_2.pth"}])
    facts = json.loads((folder / "manifest.json").read_text())
    assert [one["epoch"] for one in facts["epochs"]] == [1, 2, 3, 10]
    assert facts["epochs"][1]["checkpoint"] == "epoch_2.pth"
    assert facts["epochs"][0]["protocol"]["data"] == people_set(written, count=3).name
    assert check_manifest(folder) == []
    write(folder, people_set(written, count=3), 2, (9, 9, 9))
    (folder / "epoch_1.parquet").unlink()
    wrong = check_manifest(folder)
    assert len(wrong) == 2
    assert "not there" in wrong[0]
    assert "changed since" in wrong[1]
    (folder / "manifest.json").write_text('{"epochs": [{"file": "../../x"}]}')
    with pytest.raises(ValueError, match="is damaged"):
        check_manifest(folder)


def test_epochs_of_different_skeletons_are_refused(folder):
    from workbench.evaluation import Predictions

    other = Predictions(
        np.array([1]), np.array([1]), np.zeros((1, 4)), np.zeros((1, 3, 2)), np.ones((1, 3)), np.ones(1)
    )
    other.to_parquet(folder / "epoch_20.parquet", epoch=20)
    with pytest.raises(ValueError, match="different skeletons"):
        query_epochs(folder)


def test_the_verb_answers_questions_and_imports_and_exports_result_files(
    folder, workbench, tmp_path, written
):
    code, out, err = workbench(
        "history", folder, "--between", "2,3", "--worst", "1", "--image-id", 1, "--json"
    )
    assert code == 0, err
    facts = json.loads(out)
    assert [row["annotation_id"] for row in facts["lost"]] == [100]
    assert facts["protocol"]["data"]
    assert len(facts["image"]) == 4 * 17
    code, _, err = workbench("history", folder, "--export", f"10={tmp_path / 'ten.json'}")
    assert code == 0, err
    results = json.loads((tmp_path / "ten.json").read_text())
    assert len(results) == 3
    results[0]["keypoints"][2] = -1
    (tmp_path / "ten.json").write_text(json.dumps(results))
    pose_set = people_set(written, count=3)
    data = pose_set.source
    _, out, _ = workbench("history", folder, "--data", data, "--between", "3,10")
    assert any(name in out.partition("got worse")[2] for name in pose_set.skeleton.keypoints)
    again = tmp_path / "imported"
    again.mkdir()
    words = ("history", again, "--data", data, "--import", f"7={tmp_path / 'ten.json'}")
    code, out, err = workbench(*words)
    assert code == 0, err
    assert "1 epoch: AP is highest at epoch 7" in out
    assert "note: ten.json: -1 of the scores of keypoints: once, counted as a number" in out
    assert json.loads((again / "manifest.json").read_text())["epochs"][0]["epoch"] == 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "expected a folder of predictions"),
        (("FOLDER", "--between", "2"), "expected two epochs such as 10,20"),
        (("FOLDER", "--worst", "5"), "no epoch 5; there are 1, 2, 3, 10"),
        (("FOLDER", "--export", "5=x.json"), "no epoch 5"),
        (("FOLDER", "--export", "x.json"), "expected EPOCH=FILE"),
        (("absent",), "no such folder"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(folder, workbench, words, said):
    code, out, err = workbench("history", *[folder if w == "FOLDER" else w for w in words])
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_damaged_files_end_in_answers_or_one_sentence(tmp_path, written):
    from tests.mutation import survivors

    pose_set = people_set(written, count=2)
    data = write(tmp_path / "whole", pose_set, 1, (0, 40)).read_bytes()

    def asked(path):
        history = query_epochs(path.parent)
        return history.epochs(), history.image(1), history.worst(1)

    folder = tmp_path / "damaged"
    folder.mkdir()
    errors = (ValueError, FileNotFoundError, KeyError)
    for _ in survivors(data, folder / "epoch_1.parquet", asked, count=60, errors=errors):
        pass


def test_of_two_files_of_one_name_the_first_is_kept_and_its_predictions_stay(tmp_path, workbench):
    from tests.apps import painted

    run, out = tmp_path / "run", tmp_path / "predictions"
    for epoch in (1, 2):
        painted.write_checkpoint(run / f"epoch_{epoch}.pth", epoch, 0)
    (run / "epoch_2.pt").write_bytes((run / "epoch_2.pth").read_bytes())
    data = painted.write_data(tmp_path / "data", 2)
    words = ("history", run, "--data", data, "--adapter", painted.__file__, "--out", out)
    code, _, err = workbench(*words)
    assert code == 0, err
    assert "is passed over: another file of this epoch has the same name" in err
    assert sorted(path.name for path in out.glob("*.parquet")) == ["epoch_1.parquet", "epoch_2.parquet"]
    assert [row["epoch"] for row in query_epochs(out).epochs()] == [1, 2]


def test_a_runs_checkpoints_are_predicted_once_and_a_broken_one_is_passed_over(tmp_path, workbench):
    from tests.apps import painted

    run = tmp_path / "run"
    for epoch, shift in ((1, 6), (2, 2), (10, 0)):
        painted.write_checkpoint(run / f"epoch_{epoch}.pth", epoch, shift)
    (run / "epoch_20.pth").write_bytes(b"not a checkpoint at all")
    data = painted.write_data(tmp_path / "data", 4)
    out = tmp_path / "predictions"
    out.mkdir()
    words = ("history", run, "--data", data, "--adapter", painted.__file__, "--out", out)
    code, text, err = workbench(*words, "--json")
    assert code == 0, err
    assert "epoch_20.pth is passed over" in err
    epochs = json.loads(text)["epochs"]
    assert [row["epoch"] for row in epochs] == [1, 2, 10]
    assert epochs[0]["oks"] < epochs[1]["oks"] < epochs[2]["oks"]
    facts = json.loads((out / "manifest.json").read_text())["epochs"]
    assert [one["checkpoint"] for one in facts] == ["epoch_1.pth", "epoch_2.pth", "epoch_10.pth"]
    assert all(len(one["checkpoint_sha256"]) == 64 and one["protocol"] for one in facts)
    code, text, err = workbench("history", out, "--between", "1,10", "--json")
    assert code == 0, err
    assert json.loads(text)["lost"] == []
