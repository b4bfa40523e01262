"""AP and instances of all epochs at once: equal to one evaluation each, renewed where a file changes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.evaluation.test_comparison_details import people_set, true_points
from workbench.core.errors import ReadingNote
from workbench.evaluation import Predictions, epoch_scores, evaluate, query_epochs, truth_of
from workbench.evaluation.epoch_scores import open_scores, score_epoch, truth_digest
from workbench.evaluation.evaluate import instance_oks
from workbench.evaluation.keypoint_ap import FIGURES


def people(pose_set, seed, annotated=True):
    """Poses near the annotations; two for each person, and one beside, where they come from no annotation."""
    rng = np.random.default_rng(seed)
    own = pose_set.instances
    points = true_points(pose_set) + rng.normal(0, 6, (len(own), 17, 2))
    number = np.arange(len(own)) if annotated else np.r_[np.arange(len(own)), np.arange(len(own)), 0]
    points = points[number] + rng.normal(0, 2, (len(number), 1, 2))
    points[rng.random(points.shape[:2]) < 0.05] = np.nan
    return Predictions(
        np.array([own[n].image_id for n in number]), np.array([own[n].category_id for n in number]),
        np.full((len(number), 4), np.nan), points, rng.random(points.shape[:2]), rng.random(len(number)),
        np.array([own[n].annotation_id for n in number]) if annotated else None,
    )  # fmt: skip


@pytest.fixture
def pose_set(written):
    return people_set(written, count=12, per_image=2)


@pytest.mark.parametrize("annotated", [True, False])
def test_each_epoch_has_the_figures_and_instances_of_its_evaluation(tmp_path, pose_set, annotated):
    for epoch in (1, 5, 12):
        people(pose_set, epoch, annotated).to_parquet(tmp_path / f"{epoch}.parquet", epoch=epoch)
    history = query_epochs(tmp_path)
    history.score(pose_set)
    for row, path in zip(history.epochs(), history.files.values(), strict=True):
        found = Predictions.from_parquet(path)[0]
        report = evaluate(pose_set, found)
        assert {name: row[name] for name in FIGURES} == {
            k: v if v == v else None for k, v in report.figures.items()
        }
        assert row["poses"] == len(found)
        listed = {one["annotation_id"]: one["oks"] for one in history.worst(row["epoch"], 1000)}
        assert listed == {one["annotation_id"]: one["oks"] for one in report.instances()}
        assert list(listed.values()) == sorted(listed.values())
    assert {r["epoch"] for r in history.of(100)} == {1, 5, 12}


def test_an_instance_has_the_score_of_the_detection_that_is_nearest_to_it(pose_set):
    truth = truth_of(pose_set)
    found = people(pose_set, 3, annotated=False)
    score = score_epoch(found, truth, pose_set.skeleton.sigmas)
    report = evaluate(pose_set, found)
    np.testing.assert_array_equal(score.oks, instance_oks(found, report.ap))
    pairs = report.ap.matches
    for g in range(len(truth)):
        own = np.flatnonzero(pairs.pair_truth == g)
        best = pairs.pair_detection[own[pairs.pair_oks[own].argmax()]]
        assert score.score[g] == pairs.score[best]


def test_only_what_changed_is_scored_again_and_another_data_set_makes_all_new(tmp_path, pose_set, written):
    for epoch in (1, 2, 3):
        people(pose_set, epoch).to_parquet(tmp_path / f"{epoch}.parquet", epoch=epoch)
    done = []
    query_epochs(tmp_path).score(pose_set, progress=lambda a, b: done.append((a, b)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    before = query_epochs(tmp_path).epochs()
    people(pose_set, 20).to_parquet(tmp_path / "2.parquet", epoch=2)
    people(pose_set, 21).to_parquet(tmp_path / "4.parquet", epoch=4)
    history = query_epochs(tmp_path)
    assert history.scores is not None
    assert history.scores.figures.keys() == {1, 3}
    assert "AP" not in history.epochs()[0]
    done.clear()
    history.score(pose_set, progress=lambda a, b: done.append((a, b)))
    assert done == [(1, 2), (2, 2)]
    rows = history.epochs()
    assert [rows[0], rows[2]] == [before[0], before[2]]
    assert rows[1] != before[1]
    assert query_epochs(tmp_path).epochs() == rows
    done.clear()
    other = people_set(written, count=12, per_image=2, change=lambda people: people[0].update(area=100.0))
    query_epochs(tmp_path).score(other, progress=lambda a, b: done.append((a, b)))
    assert len(done) == 4
    assert truth_digest(truth_of(other)) != truth_digest(truth_of(pose_set))


def test_processes_give_the_same_table_as_one(tmp_path, pose_set):
    for epoch in range(1, 27):
        people(pose_set, epoch).to_parquet(tmp_path / f"{epoch}.parquet", epoch=epoch)
    history = query_epochs(tmp_path)
    alone = history.score(pose_set).path.read_bytes()
    (tmp_path / "index" / "scores.parquet").unlink()
    assert query_epochs(tmp_path).score(pose_set, workers=2).path.read_bytes() == alone


def test_a_cancelled_or_failing_run_leaves_the_earlier_table(tmp_path, pose_set):
    from workbench.evaluation import Cancelled

    people(pose_set, 1).to_parquet(tmp_path / "1.parquet", epoch=1)
    query_epochs(tmp_path).score(pose_set)
    people(pose_set, 2).to_parquet(tmp_path / "2.parquet", epoch=2)
    with pytest.raises(Cancelled):
        query_epochs(tmp_path).score(pose_set, cancelled=lambda: True)
    history = query_epochs(tmp_path)
    assert open_scores(tmp_path, history.files).figures.keys() == {1}
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["scores.parquet"]
    (tmp_path / "index" / "scores.parquet").write_bytes(b"PAR1half")
    assert query_epochs(tmp_path).scores is None
    assert query_epochs(tmp_path).score(pose_set).figures.keys() == {1, 2}


def test_a_table_by_the_rules_of_another_version_is_not_shown_and_is_computed_again(
    tmp_path, pose_set, monkeypatch, workbench
):
    people(pose_set, 1).to_parquet(tmp_path / "1.parquet", epoch=1)
    with monkeypatch.context() as earlier:
        earlier.setattr(epoch_scores, "SCORING", "1")
        query_epochs(tmp_path).score(pose_set)
    with pytest.warns(ReadingNote, match="rules of another version"):
        assert query_epochs(tmp_path).scores is None
    code, out, _ = workbench("history", tmp_path)
    assert code == 0
    assert out.count("computed by the rules of another version") == 1
    assert "not compared with the annotations: name the data set with --data" in out
    query_epochs(tmp_path).score(pose_set)
    assert query_epochs(tmp_path).scores.figures.keys() == {1}


@pytest.mark.parametrize("wrong", [10**400, [1], "x", True], ids=["huge", "list", "text", "bool"])
def test_a_table_that_came_with_the_folder_and_states_no_figures_is_none(tmp_path, pose_set, wrong):
    people(pose_set, 1).to_parquet(tmp_path / "1.parquet", epoch=1)
    table = query_epochs(tmp_path).score(pose_set).path
    with pq.ParquetFile(table) as file:
        rows, notes = file.read(), dict(file.metadata.metadata)
    notes.pop(b"ARROW:schema", None)
    figures = json.loads(notes[epoch_scores.FIGURES_KEY.encode()])
    figures["1"]["AP"] = wrong
    forged = {**notes, epoch_scores.FIGURES_KEY.encode(): json.dumps(figures).encode()}
    pq.write_table(rows.replace_schema_metadata(notes), table)
    assert query_epochs(tmp_path).scores is not None
    pq.write_table(rows.replace_schema_metadata(forged), table)
    assert query_epochs(tmp_path).scores is None
    pq.write_table(rows.drop_columns(["oks"]).replace_schema_metadata(notes), table)
    assert query_epochs(tmp_path).scores is None


def test_where_no_table_can_be_written_the_figures_come_all_the_same(tmp_path, pose_set):
    for epoch in (1, 2):
        people(pose_set, epoch).to_parquet(tmp_path / f"{epoch}.parquet", epoch=epoch)
    wanted = query_epochs(tmp_path)
    wanted = (wanted.score(pose_set).figures, wanted.worst(1, 3))
    shutil.rmtree(tmp_path / "index")
    (tmp_path / "index").write_text("no folder: stands for one that is read-only, which root may write into")
    history = query_epochs(tmp_path)
    with pytest.warns(ReadingNote, match="cannot be written"):
        assert history.score(pose_set).figures == wanted[0]
    assert history.worst(1, 3) == wanted[1]
    with pytest.warns(ReadingNote, match="cannot be written"):
        assert history.index_images() is None
    assert len(history.poses_of_image(next(iter(pose_set.images))))
