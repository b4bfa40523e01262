"""AP is of what was predicted, as the files state it; every verb takes the same part of the set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.data import builtin
from workbench.evaluation import Predictions, evaluate, query_epochs
from workbench.evaluation.predicted_part import part_of_history, part_of_predictions
from workbench.evaluation.predictions import write_predictions
from workbench.evaluation.sweeps.readings import labelled_rows

DATA = "scenes-val"
SET = builtin(DATA)
LIMIT = 4
CHOSEN = labelled_rows(SET, LIMIT)
ALL = len(SET.labelled)


def poses(chosen: tuple[int, ...], error: float = 2.0) -> Predictions:
    """Poses of the chosen instances, from their own boxes, each keypoint a little beside its annotation."""
    own = [SET.instances[i] for i in chosen]
    truth = np.array([one.truth[:, :2] for one in own])
    return Predictions(
        np.array([one.image_id for one in own]), np.array([one.category_id for one in own]),
        np.array([one.box for one in own]), truth + error, np.ones(truth.shape[:2]), np.ones(len(own)),
        np.array([one.annotation_id for one in own]),
    )  # fmt: skip


def write_epochs(folder: Path, chosen: tuple[int, ...], own_boxes: bool = True) -> Path:
    """Two epochs of the chosen instances, as a sweep writes them."""
    for epoch, error in ((1, 9.0), (2, 2.0)):
        found = poses(chosen, error)
        found = found if own_boxes else replace(found, annotation_id=None)
        rules = evaluate(SET, found, indices=chosen).protocol
        write_predictions(folder / f"epoch_{epoch}.parquet", found, epoch=epoch, protocol=rules)
    return folder


def write_record(folder: Path, limit: object) -> None:
    (folder / "sweep.json").write_text(json.dumps({"identity": {"limit": limit}, "variants": []}))


def test_the_rows_of_own_boxes_state_what_was_predicted() -> None:
    part = part_of_predictions(SET, [poses(CHOSEN)], [None])
    assert part.indices == CHOSEN
    assert part.sentence == f"{len(CHOSEN)} of {ALL} instances were predicted; only they count"
    assert part_of_predictions(SET, [poses(SET.labelled)], [None]).indices is None


def test_several_files_count_what_any_of_them_has() -> None:
    parts = [poses(CHOSEN), poses(labelled_rows(SET, 2 * LIMIT))]
    assert part_of_predictions(SET, parts, [None, None]).indices == labelled_rows(SET, 2 * LIMIT)


def test_images_without_a_detection_count_where_all_were_predicted() -> None:
    found = replace(poses(CHOSEN), annotation_id=None)
    whole = evaluate(SET, found)
    part = part_of_predictions(SET, [found], [whole.protocol])
    assert (part.indices, part.sentence) == (None, "")
    assert whole.figures["AR"] < 0.1


def test_a_detector_whose_file_states_nothing_keeps_the_rule_of_coco() -> None:
    found = replace(poses(CHOSEN), annotation_id=None)
    missing = len(SET.images) - len(set(found.image_id.tolist()))
    part = part_of_predictions(SET, [found], [None])
    assert part.indices is None
    assert part.sentence.startswith(f"{missing} of {len(SET.images)} images have no prediction; nothing")


@pytest.mark.parametrize("own_boxes", [True, False])
def test_the_limit_of_a_sweep_is_read_from_its_record(tmp_path: Path, own_boxes: bool) -> None:
    history = query_epochs(write_epochs(tmp_path, CHOSEN, own_boxes))
    write_record(tmp_path, LIMIT)
    part = part_of_history(SET, history)
    assert part.indices == CHOSEN
    assert part.sentence.startswith(f"{len(CHOSEN)} of {ALL} instances were predicted (--limit {LIMIT})")


@pytest.mark.parametrize("limit", [None, "4", -1, True, [4]])
def test_a_record_without_a_limit(tmp_path: Path, limit: object) -> None:
    history = query_epochs(write_epochs(tmp_path, CHOSEN, own_boxes=False))
    write_record(tmp_path, limit)
    assert part_of_history(SET, history).indices is None


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, '{"identity": 3}'], ids=["empty", "list", "deep", "3"]
)
def test_a_damaged_record(tmp_path: Path, text: str) -> None:
    history = query_epochs(write_epochs(tmp_path, CHOSEN))
    (tmp_path / "sweep.json").write_text(text)
    assert part_of_history(SET, history).indices == CHOSEN


def test_after_nms_a_missing_row_is_a_miss() -> None:
    found = poses(CHOSEN)
    rules = replace(evaluate(SET, found).protocol, nms=0.9)
    assert part_of_predictions(SET, [found], [rules]).indices is None


def test_every_verb_gives_the_same_figures_and_says_which_part_was_predicted(workbench, tmp_path) -> None:
    folder = write_epochs(tmp_path, CHOSEN)
    write_record(folder, LIMIT)
    last = folder / "epoch_2.parquet"
    expected = evaluate(SET, poses(CHOSEN), indices=CHOSEN).figures["AP"]
    sentence = f"{len(CHOSEN)} of {ALL} instances were predicted (--limit {LIMIT})"

    def ask(*words: object) -> dict:
        code, out, err = workbench(*words, "--data", DATA, "--json")
        assert code == 0, err
        assert sentence in out
        return json.loads(out)

    assert ask("score", last)["AP"] == pytest.approx(expected)
    assert ask("history", folder)["epochs"][-1]["AP"] == pytest.approx(expected)
    assert ask("errors", last)["AP"] == pytest.approx(expected)
    words = ("--resamples", "2")
    compared = ask("compare", folder / "epoch_1.parquet", last, *words)
    assert compared["epochs"][-1]["AP"] == pytest.approx(expected)
    ask("report", folder, "--diagnose", "none", *words)
