"""Who counts, and what a missing keypoint means: the same for every caller and in every format."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.evaluation.ablation.planted import planted
from tests.evaluation.conftest import SIGMAS
from workbench.data import builtin
from workbench.data.coco import read_coco
from workbench.evaluation import (
    Detections,
    GroundTruth,
    Predictions,
    evaluate,
    keypoint_ap,
    predict,
    truth_of,
)


class TestChosenInstances:
    """Choosing instances changes who is to be found, and never who is ignored."""

    @pytest.fixture
    def crowded(self, drawn, written):
        data, results = drawn(11)
        return read_coco(written(data)), results

    def test_all_that_can_be_chosen_is_the_whole_set(self, crowded):
        pose_set, results = crowded
        found = Predictions.from_coco(results)
        whole, chosen = evaluate(pose_set, found), evaluate(pose_set, found, indices=pose_set.labelled)
        assert chosen.figures == whole.figures
        assert chosen.protocol.differs_from(whole.protocol) == []
        assert whole.protocol.images == len(pose_set.images) > len(pose_set.labelled_of_image)

    def test_a_part_keeps_the_ignored_of_its_images(self, crowded):
        pose_set, _ = crowded
        some = pose_set.labelled[1::2]
        whole, part = truth_of(pose_set), truth_of(pose_set, indices=some)
        images = {pose_set.instances[i].image_id for i in some}
        assert set(part.image_ids.tolist()) == images
        there = np.isin(whole.image_ids[whole.image], list(images))
        assert part.ids[part.ignored].tolist() == whole.ids[whole.ignored & there].tolist()
        assert part.ignored.any()
        chosen = {pose_set.instances[i].annotation_id for i in some}
        without_size = {i.annotation_id for i in pose_set.instances if i.num_keypoints and not i.has_size}
        assert set(part.ids[~part.ignored].tolist()) - without_size == chosen

    def test_a_number_from_the_end_names_the_same_instance(self, crowded):
        pose_set, _ = crowded
        last = len(pose_set) - 1
        assert (
            truth_of(pose_set, indices=[-1]).ids.tolist() == truth_of(pose_set, indices=[last]).ids.tolist()
        )


class TestMissingKeypoints:
    """A keypoint that was not given means the same in memory, in Parquet and in a result file."""

    @pytest.mark.parametrize("boxes", ["known", "unknown", "some"])
    @pytest.mark.parametrize("seed", [3, 4])
    def test_memory_file_and_pycocotools_have_one_figure(self, drawn, oracle, seed, boxes):
        data, results = drawn(seed, scores="free")
        rng = np.random.default_rng(seed)
        found = Predictions.from_coco(results)
        found.keypoints[rng.random(found.scores.shape) < 0.3] = np.nan
        found.keypoints[::7] = np.nan  # poses without any keypoint
        if boxes != "unknown":
            finite = np.isfinite(found.keypoints).all((1, 2)) | (boxes == "known")
            found.box[:] = [10, 20, 90, 160]
            found.box[~finite] = np.nan
        truth, written = GroundTruth.from_coco(data), json.loads(json.dumps(found.to_coco()))
        memory = keypoint_ap(truth, found.detections(), SIGMAS)
        np.testing.assert_array_equal(
            memory.stats, keypoint_ap(truth, Detections.from_coco(written), SIGMAS).stats
        )
        back = Predictions.from_coco(written)
        np.testing.assert_array_equal(memory.stats, keypoint_ap(truth, back.detections(), SIGMAS).stats)
        np.testing.assert_array_equal(np.isnan(back.keypoints), np.isnan(found.keypoints))
        np.testing.assert_array_equal(memory.stats, oracle(data, written).stats)

    def test_upstreams_file_is_taken_as_it_is(self, drawn, oracle, written):
        # HigherHRNet writes a missing keypoint as the image point of cell (0, 0), with score 0.
        data, results = drawn(5, scores="free")
        rng = np.random.default_rng(0)
        for result in results:
            points = np.reshape(result["keypoints"], (-1, 3))
            points[rng.random(len(points)) < 0.3] = (-41.5, 12.25, 0)
            result["keypoints"] = points.ravel().tolist()
        report = evaluate(read_coco(written(data)), Predictions.from_coco(results), sigmas=SIGMAS)
        np.testing.assert_array_equal(report.ap.stats, oracle(data, results).stats)
        np.testing.assert_array_equal(
            report.ap.stats,
            keypoint_ap(report.ap.truth, Predictions.from_coco(results).detections(), SIGMAS).stats,
        )

    def test_people_found_by_a_bottom_up_model_have_the_figures_of_their_file(self, oracle):
        scenes = builtin("scenes-people-val")
        images = [i for i, people in scenes.labelled_of_image.items() if len(people) > 1][:4]
        some = [i for image in images for i in scenes.labelled_of_image[image]]
        found = predict(planted(scenes, images), scenes, indices=some)
        found.keypoints[::2, 3:12] = np.nan  # what refine may leave open
        written = json.loads(json.dumps(found.to_coco()))
        memory = evaluate(scenes, found, indices=some)
        back = evaluate(scenes, Predictions.from_coco(written), indices=some)
        np.testing.assert_array_equal(memory.ap.stats, back.ap.stats)
        assert memory.table() == back.table()
        assert memory.protocol.differs_from(back.protocol) == []
        judge = oracle(scenes.raw, written, image_ids=images)
        np.testing.assert_array_equal(memory.ap.stats, judge.stats)
