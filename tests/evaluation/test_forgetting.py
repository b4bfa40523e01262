"""When instances are right over the epochs: answers by hand, from arrays and from a folder of files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.evaluation.test_comparison_details import people_set
from tests.evaluation.test_history import folder, write  # noqa: F401 - fixture
from workbench.evaluation import query_epochs
from workbench.evaluation.forgetting import Forgetting, forgetting

NAN = np.nan
# A row for each epoch; instances: never right, right from 2 on, forgotten twice, not seen in epoch 10,
# right at once and lost at the end.
OKS = np.array(
    [
        [0.1, 0.4, 0.6, 0.3, 0.9],
        [0.2, 0.5, 0.4, 0.7, 0.8],
        [0.3, 0.8, 0.9, NAN, 0.5],
        [0.49, 0.7, 0.1, 0.6, 0.2],
    ]
)


def report(right=0.5):
    ids = np.array([11, 12, 13, 14, 15])
    return Forgetting(np.array([1, 2, 10, 20]), ids, np.array([1, 1, 2, 2, 3]), OKS, right)


def test_first_right_and_forgotten_have_the_values_by_hand():
    found = report()
    assert found.first_right.tolist()[1:] == [2, 1, 2, 1]
    assert np.isnan(found.first_right[0])
    assert found.never == 1
    assert found.forgotten.tolist() == [0, 0, 2, 0, 1]
    assert found.right_last.tolist() == [False, True, False, True, False]


def test_events_of_each_epoch_have_the_values_by_hand():
    assert report().events() == [
        {"epoch": 1, "right": 2, "learned": 2, "forgotten": 0},
        {"epoch": 2, "right": 3, "learned": 2, "forgotten": 1},
        {"epoch": 10, "right": 3, "learned": 1, "forgotten": 0},
        {"epoch": 20, "right": 2, "learned": 0, "forgotten": 2},
    ]


def test_learned_less_forgotten_is_what_is_right_where_every_epoch_sees_all():
    rng = np.random.default_rng(3)
    oks = rng.random((30, 50))
    found = Forgetting(np.arange(30), np.arange(50), np.zeros(50, int), oks, 0.6)
    standing = np.cumsum([row["learned"] - row["forgotten"] for row in found.events()])
    assert standing.tolist() == [row["right"] for row in found.events()]


def test_the_threshold_decides():
    strict = report(0.85)
    assert strict.first_right.tolist()[2] == 10
    assert strict.never == 3
    assert strict.forgotten.tolist() == [0, 0, 1, 0, 1]


def test_one_instance_names_its_epochs_and_an_image_all_of_its_instances():
    assert report().epochs_of(13) == {
        "annotation_id": 13, "image_id": 2, "first_right": 1, "learned": [1, 10], "forgotten": [2, 20],
        "right_last": False,
    }  # fmt: skip
    assert [one["annotation_id"] for one in report().of_image(2)] == [13, 14]
    with pytest.raises(KeyError, match="no instance 99"):
        report().epochs_of(99)


def test_the_report_says_what_was_forgotten_and_draws_it():
    found = report()
    assert found.summary() == (
        "4 of 5 instances are right (OKS from 0.5) in at least one of 4 epochs; 2 are forgotten at least "
        "once, 2 of them are wrong at the end; most in epoch 20 (2)."
    )
    assert [row["annotation_id"] for row in found.table()] == [13, 15, 11, 12, 14]
    facts = found.to_json()
    assert [row["annotation_id"] for row in facts["instances"]] == [13, 15]
    drawn = {trace.name: list(trace.y) for trace in found.plot().data}
    assert drawn["forgotten (below 0)"] == [0, -1, 0, -2]
    json.dumps(facts, allow_nan=False)


def test_a_folder_of_files_gives_what_its_questions_give(folder):  # noqa: F811
    history = query_epochs(folder)
    found = forgetting(history)
    by_question = {row["annotation_id"]: row for row in history.learned()}
    for number, first, lost in zip(found.annotation_ids, found.first_right, found.forgotten, strict=True):
        asked = by_question[int(number)]
        assert (asked["first_found"], asked["forgotten"]) == (first, lost)


def test_the_verb_tells_forgetting_and_an_image_over_the_epochs(folder, workbench):  # noqa: F811
    code, out, err = workbench("history", folder, "--forgetting", "--image-id", 1, "--json")
    assert code == 0, err
    facts = json.loads(out)
    forgetting = facts["forgetting"]
    assert [row["forgotten"] for row in forgetting["events"]] == [0, 0, 1, 1]
    assert facts["instances"][0] == {
        "annotation_id": 100, "image_id": 1, "first_right": 2, "learned": [2, 10], "forgotten": [3],
        "right_last": True,
    }  # fmt: skip
    code, out, err = workbench("history", folder, "--forgetting", "--right", 0.999)
    assert code == 0, err
    assert "OKS from 0.999" in out


def test_what_cannot_be_followed_is_one_sentence(folder, workbench, written, tmp_path):  # noqa: F811
    code, out, err = workbench("history", folder, "--forgetting", "--right", 1.5)
    assert (code, out) == (2, "")
    assert "expected above 0 and up to 1, got 1.5" in err
    alone = tmp_path / "alone"
    path = write(alone, people_set(written, count=2), 1, (0, 0))
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    none = pa.nulls(len(table), pa.int64())
    pq.write_table(table.set_column(3, "annotation_id", none), path)
    with pytest.raises(ValueError, match="no pose in these files belongs to an annotation"):
        forgetting(query_epochs(alone))
