"""Predictions travel to COCO json and Parquet and back without losing a bit, and answer across epochs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from workbench.evaluation import Detections, GroundTruth, Predictions, Protocol, keypoint_ap, query_epochs
from workbench.evaluation.predictions import without_peak
from workbench.evaluation.sweeps.blocks import Block, from_bytes, to_bytes

SIGMAS = [0.05] * 17


def some(N=6, K=17, seed=0, annotated=True):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (N, 2))
    return Predictions(
        np.arange(N) // 2 + 1,
        np.ones(N, int),
        np.concatenate([corner, corner + rng.uniform(10, 50, (N, 2))], 1),
        rng.uniform(0, 200, (N, K, 2)),
        rng.random((N, K)),
        rng.random(N),
        np.arange(N) + 10 if annotated else None,
    )


def same(a, b):
    for name in ("image_id", "category_id", "box", "keypoints", "scores", "score", "annotation_id", "size"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


class TestParquet:
    @pytest.mark.parametrize("annotated", [True, False])
    def test_reads_back_what_was_written(self, tmp_path, annotated):
        written = some(annotated=annotated)
        protocol = Protocol(boxes="annotation", padding=1.25, flip=False, decoder="argmax")
        path = written.to_parquet(tmp_path / "new" / "epoch_5.parquet", epoch=5, protocol=protocol)
        read, rules = Predictions.from_parquet(path)
        same(read, written)
        assert rules is not None
        assert rules.differs_from(protocol) == []
        assert [p.name for p in path.parent.iterdir()] == ["epoch_5.parquet"]

    def test_keeps_what_the_model_did_not_give(self, tmp_path):
        written = some()
        written.keypoints[2, 3] = np.nan
        written.box[:] = np.nan
        read, rules = Predictions.from_parquet(written.to_parquet(tmp_path / "a.parquet"))
        same(read, written)
        assert rules is None

    def test_no_predictions_are_predictions_too(self, tmp_path):
        none = some().take([])
        read, _ = Predictions.from_parquet(none.to_parquet(tmp_path / "a.parquet", epoch=1))
        assert read.keypoints.shape == (0, 17, 2)

    def test_another_file_is_refused(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file"):
            Predictions.from_parquet(tmp_path / "absent.parquet")
        (tmp_path / "a.parquet").write_bytes(b"not parquet at all")
        with pytest.raises(ValueError, match="expected a Parquet file"):
            Predictions.from_parquet(tmp_path / "a.parquet")


class TestCoco:
    def test_there_and_back(self):
        first = some(annotated=False)
        back = Predictions.from_coco(json.loads(json.dumps(first.to_coco())))
        np.testing.assert_allclose(back.box, first.box)
        np.testing.assert_array_equal(back.keypoints, first.keypoints)
        np.testing.assert_array_equal(back.scores, first.scores)
        np.testing.assert_array_equal(back.score, first.score)

    def test_a_result_file_without_boxes_has_unknown_boxes(self, drawn):
        _, results = drawn(0)
        predictions = Predictions.from_coco(results)
        assert np.isnan(predictions.box).all()
        assert predictions.detections().area_rule == "extent"

    def test_figures_are_those_of_the_result_file(self, drawn):
        data, results = drawn(1)
        truth = GroundTruth.from_coco(data)
        np.testing.assert_array_equal(
            keypoint_ap(truth, Predictions.from_coco(results).detections(), SIGMAS).stats,
            keypoint_ap(truth, Detections.from_coco(results), SIGMAS).stats,
        )

    def test_the_size_of_a_box_is_what_the_file_states(self, tmp_path):
        # 60.4 + 32 - 60.4 is 32.00000000000001: not on the edge of a size class, where 32 x 32 is.
        results = [
            {
                "image_id": 1,
                "category_id": 1,
                "bbox": [x, x, 32.0, 32.0],
                "keypoints": [x, x, 1.0] * 17,
                "score": 1.0,
            }
            for x in (10.1, 60.4, 70.0)
        ]
        read = Predictions.from_coco(results)
        assert ((read.box[:, 2] - read.box[:, 0]) != 32).any()
        stored, _ = Predictions.from_parquet(read.to_parquet(tmp_path / "a.parquet"))
        block = from_bytes(to_bytes(Block(0, 3, (read,)))).predictions[0]
        for one in (read, stored, block, read.take([2, 1, 0]), Predictions.joined([read, stored])):
            assert set(one.detections().area) == {1024.0}
            assert {tuple(result["bbox"][2:]) for result in one.to_coco()} == {(32.0, 32.0)}
        same(stored, read)
        assert Predictions.joined([read, some()]).size is None

    def test_an_ungiven_keypoint_is_written_as_coco_writes_absence(self):
        predictions = some()
        predictions.keypoints[0, 0] = np.nan
        assert predictions.to_coco()[0]["keypoints"][:3] == [0, 0, 0]

    def test_shapes_that_do_not_fit_are_refused(self):
        first = some()
        with pytest.raises(ValueError, match=r"expected scores of shape \(6, 17\), got \(6, 3\)"):
            Predictions(
                first.image_id,
                first.category_id,
                first.box,
                first.keypoints,
                first.scores[:, :3],
                first.score,
            )


class TestHistory:
    @pytest.fixture
    def folder(self, tmp_path):
        oks = {1: [0.1, 0.9, 0.6, 0.2, math.nan, 0.4], 2: [0.7, 0.35, 0.8, 0.25, math.nan, 0.49]}
        for epoch, values in oks.items():
            terms = np.tile(np.array(values)[:, None], (1, 17))
            some(seed=epoch).to_parquet(
                tmp_path / f"epoch_{epoch:04d}.parquet",
                epoch=epoch,
                oks=np.array(values),
                terms=terms,
                protocol=Protocol(boxes="annotation"),
            )
        return tmp_path

    def test_worst_gained_lost_and_changed(self, folder):
        history = query_epochs(folder)
        assert list(history.files) == [1, 2]
        assert [r["annotation_id"] for r in history.worst(1, 2)] == [10, 13]
        assert [(r["annotation_id"], r["before"], r["after"]) for r in history.gained(1, 2)] == [
            (10, 0.1, 0.7)
        ]
        assert [r["annotation_id"] for r in history.lost(1, 2)] == [11]
        assert [r["annotation_id"] for r in history.changed(1, 2, 2)] == [10, 11]
        assert history.differences == []

    def test_one_instance_and_every_keypoint_over_the_epochs(self, folder):
        history = query_epochs(folder)
        assert [(r["epoch"], r["oks"]) for r in history.of(10)] == [(1, 0.1), (2, 0.7)]
        rows = history.keypoints()
        assert len(rows) == 2 * 17
        assert rows[0]["labelled"] == 5
        assert rows[0]["oks"] == pytest.approx((0.1 + 0.9 + 0.6 + 0.2 + 0.4) / 5)

    def test_epochs_of_another_protocol_are_told_apart(self, folder):
        some().to_parquet(folder / "e3.parquet", epoch=3, protocol=Protocol(boxes="annotation", flip=True))
        assert query_epochs(folder).differences == ["epoch 3: flip: True against None"]

    def test_what_is_not_there_is_named(self, folder, tmp_path_factory):
        with pytest.raises(KeyError, match="no epoch 7; there are 1, 2"):
            query_epochs(folder).worst(7)
        with pytest.raises(FileNotFoundError, match="no predictions"):
            query_epochs(tmp_path_factory.mktemp("empty"))
        some().to_parquet(folder / "again.parquet", epoch=2)
        with pytest.raises(ValueError, match="epoch 2 is also in"):
            query_epochs(folder)


def test_keypoints_without_a_peak_above_0_are_counted_in_a_sentence():
    keypoints, scores = np.full((2, 3, 2), np.nan), np.full((2, 3), -2.5)
    text = without_peak(keypoints, scores)
    assert text.startswith(
        "6 of 6 keypoints are missing: the highest value of each output lies at 0 or below"
    )
    assert "-2.5" in text
    assert without_peak(np.zeros((2, 3, 2)), np.ones((2, 3))) == ""
    assert without_peak(keypoints, np.ones((2, 3))) == ""  # missing for another reason
    assert without_peak(np.zeros((0, 3, 2)), np.zeros((0, 3))) == ""
