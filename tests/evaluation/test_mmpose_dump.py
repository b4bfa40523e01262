"""mmpose's result dump is read without running it, and compared like any other file."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest

from tests.apps import painted
from tests.evaluation.test_comparison_details import people_set, sees, true_points
from tests.mutation import survivors
from workbench.checkpoints.demo import demo_config
from workbench.data.coco import read_coco
from workbench.diagnosis import diagnose
from workbench.diagnosis.image_id_causes import OtherImages
from workbench.diagnosis.loading_causes import NotRead
from workbench.evaluation import Predictions, evaluate
from workbench.evaluation.exchange_formats import read_dump
from workbench.evaluation.result_lists import results_of


def dump(path, found, **more):
    """As mmengine's DumpResults writes it: one dict for each sample."""
    samples = [
        {
            "id": n, "img_id": int(found.image_id[n]), "img_path": "a.jpg", "category_id": 1,
            "input_size": (192, 256),
            "pred_instances": {
                "keypoints": found.keypoints[n : n + 1].astype(np.float32),
                "keypoint_scores": found.scores[n : n + 1].astype(np.float32),
                "bboxes": np.array([[1.0, 2.0, 30.0, 40.0]]),
                "bbox_scores": np.array([0.5], np.float32), **more,
            },
        }
        for n in range(len(found))
    ]  # fmt: skip
    path.write_bytes(pickle.dumps(samples))
    return path


@pytest.fixture
def found(written):
    pose_set = people_set(written, count=4)
    return sees(pose_set, true_points(pose_set), 1.0), pose_set


def test_a_dump_gives_poses_scored_as_mmpose_scores_them(tmp_path, found):
    given, _ = found
    read = read_dump(dump(tmp_path / "results.pkl", given))
    assert read.image_id.tolist() == given.image_id.tolist()
    assert read.keypoints == pytest.approx(given.keypoints, abs=1e-4)
    assert read.box[0].tolist() == [1, 2, 30, 40]
    above = np.where(given.scores > 0.2, given.scores, np.nan)
    assert read.score == pytest.approx(0.5 * np.nanmean(above, axis=1), abs=1e-5)


def test_a_dump_that_unfolds_to_more_than_its_file_is_refused(tmp_path, found):
    sample = pickle.loads(dump(tmp_path / "one.pkl", found[0]).read_bytes())[0]
    shared = tmp_path / "shared.pkl"
    shared.write_bytes(pickle.dumps([sample] * 500))
    with pytest.raises(ValueError, match="samples hold more numbers than its"):
        read_dump(shared)
    none = {"keypoints": np.zeros((10**9, 0, 2), np.uint8), "keypoint_scores": np.zeros((10**9, 0), np.uint8)}
    shared.write_bytes(pickle.dumps([{**sample, "pred_instances": none}]))
    with pytest.raises(ValueError, match="sample 0: 1000000000 poses without keypoints"):
        read_dump(shared)


def test_a_dump_is_compared_with_a_result_file(tmp_path, found, workbench):
    given, pose_set = found
    dump(tmp_path / "a.pkl", given)
    (tmp_path / "b.json").write_text(json.dumps(given.to_coco()))
    words = ("compare", tmp_path / "a.pkl", tmp_path / "b.json", "--data", pose_set.source, "--resamples", 5)
    code, out, err = workbench(*words, "--json")
    assert code == 0, err
    assert [row["title"] for row in json.loads(out)["epochs"]] == ["a", "b"]


def test_a_dump_is_diagnosed_as_the_results_that_it_is(tmp_path, found):
    given, pose_set = found
    run = tmp_path / "run"
    run.mkdir()
    path = dump(run / "results.pkl", given)
    for targets in ([path], [run]):
        report = diagnose(targets, data=pose_set.source, level="forward", causes=[NotRead(), OtherImages()])
        assert report.given == "predictions results.pkl"
        assert "file cannot be read" in report.ruled_out
        assert report.figures["AP"] == pytest.approx(1)


def test_a_dump_that_is_cut_off_and_another_pickle_are_told_and_the_rest_is_tested(tmp_path, found):
    path = dump(tmp_path / "results.pkl", found[0])
    path.write_bytes(path.read_bytes()[:-40])
    other = tmp_path / "index.pkl"
    other.write_bytes(pickle.dumps(["a", "b"]))
    report = diagnose([path, other, demo_config()], level="files", causes=[NotRead()])
    assert [finding.cause for finding in report.findings] == ["file cannot be read"]
    assert "results.pkl" in report.findings[0].evidence
    note = next(note for note in report.notes if note.startswith("index.pkl"))
    assert "holds neither poses of `tools/test.py --dump` (pred_instances) nor weights" in note


class Shell:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_dump_that_wants_to_run_something_runs_nothing(tmp_path, found):
    marker = tmp_path / "ran"
    path = dump(tmp_path / "results.pkl", found[0], keypoints=Shell(marker))
    with pytest.raises(ValueError, match="expected keypoints as a numpy array"):
        read_dump(path)
    assert not marker.exists()


ONE_POSE = {"keypoints": np.zeros((1, 2, 2)), "keypoint_scores": np.ones((1, 2))}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "expected a list of data samples"),
        ({"state_dict": 1}, "got dict"),
        ([{"a": 1}], "sample 0: expected a dict with pred_instances"),
        ([{"pred_instances": {"keypoints": np.zeros(3)}}], "shape"),
        (
            [{"pred_instances": {"keypoints": np.zeros((1, 2, 2)), "keypoint_scores": np.zeros(9)}}],
            "numbers in",
        ),
        (
            [{"pred_instances": {"keypoints": np.zeros((1, 2, 2)), "keypoint_scores": np.zeros((1, 2))}}],
            "img_id",
        ),
        *(
            ([{"pred_instances": {**ONE_POSE, name: value}}], f"expected finite numbers in {name}")
            for name, value in (
                ("bbox_scores", np.full(1, np.inf)),
                ("keypoint_scores", np.full((1, 2), np.nan)),
                ("bboxes", np.full((1, 4), np.inf)),
            )
        ),
    ],
)
def test_what_is_no_dump_is_one_sentence(tmp_path, value, said):
    path = tmp_path / "results.pkl"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(ValueError, match=said):
        read_dump(path)


def test_damaged_dumps_end_in_poses_or_one_sentence(tmp_path, found):
    data = dump(tmp_path / "whole.pkl", found[0]).read_bytes()
    for _ in survivors(data, tmp_path / "results.pkl", read_dump, count=80):
        pass


@pytest.mark.long  # imports mmpose
def test_what_mmposes_own_test_writes_gives_its_ap_to_the_digit(tmp_path):
    """CocoMetric's json and the pkl of `tools/test.py --dump`, and what pycocotools says of ours."""
    from workbench.models.mmpose_compat import install

    install()
    from mmengine.evaluator import DumpResults
    from mmpose.evaluation import CocoMetric
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    file = painted.write_data(tmp_path, 12)
    pose_set = read_coco(file)
    random = np.random.default_rng(0)
    samples = []
    for index in pose_set.labelled:
        one = pose_set.instances[index]
        points = one.truth[None, :, :2] + random.normal(0, random.uniform(1, 8), (1, len(one.truth), 2))
        scores = random.uniform(0.05, 1, (1, len(one.truth)))  # some below CocoMetric's 0.2
        box = np.array([one.box], np.float32)
        samples.append(
            {
                "id": one.annotation_id, "img_id": one.image_id, "img_path": "a.png", "category_id": 1,
                "gt_instances": {"bbox_scales": box[:, 2:] - box[:, :2]},
                "pred_instances": {
                    "keypoints": points, "keypoint_scores": scores, "bboxes": box,
                    "bbox_scores": random.uniform(0.3, 1, 1).astype(np.float32),
                },
            }
        )  # fmt: skip
    metric = CocoMetric(str(file), nms_mode="none", outfile_prefix=str(tmp_path / "own"))
    metric.dataset_meta = {"sigmas": np.array(pose_set.skeleton.sigmas), "num_keypoints": 17, "CLASSES": ()}
    dumped = DumpResults(str(tmp_path / "dump.pkl"))
    for sample in samples:
        metric.process([{}], [sample])
        dumped.process([{}], [sample])
    wanted = metric.evaluate(len(samples))["coco/AP"]
    dumped.evaluate(len(samples))
    own = Predictions.from_coco(
        results_of(pose_set, json.loads((tmp_path / "own.keypoints.json").read_text()))
    )
    assert 0.2 < wanted < 0.9
    for found in (own, read_dump(tmp_path / "dump.pkl")):
        assert evaluate(pose_set, found).figures["AP"] == pytest.approx(wanted, abs=1e-9)
        written = tmp_path / "ours.json"
        written.write_text(json.dumps(found.to_coco()))
        truth = COCO(str(file))
        judged = COCOeval(truth, truth.loadRes(str(written)), "keypoints")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
        assert judged.stats[0] == pytest.approx(wanted, abs=1e-9)
