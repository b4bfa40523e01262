"""The evaluator equals pycocotools to the last bit, and obeys the laws of an average precision."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.evaluation import Detections, GroundTruth, keypoint_ap
from workbench.evaluation.keypoint_ap import FIGURES

SIGMAS = np.array(
    [.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, 0.107, 0.107, .087, .087, .089, .089]
)  # fmt: skip


def evaluated(data, results, sigmas=SIGMAS, max_dets=20):
    return keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(results), sigmas, max_dets)


def same_as_pycocotools(ours, judge):
    np.testing.assert_array_equal(ours.precision, judge.eval["precision"][..., 0])
    np.testing.assert_array_equal(ours.recall, judge.eval["recall"][..., 0])
    if len(judge.stats):
        np.testing.assert_array_equal(ours.stats, judge.stats)


def as_results(data, score=1.0):
    """The annotations, as if a model had found them exactly."""
    return [
        {k: copy.deepcopy(a[k]) for k in ("image_id", "category_id", "keypoints")} | {"score": score}
        for a in data["annotations"]
    ]


class TestParityWithPycocotools:
    @pytest.mark.parametrize("seed", range(8))
    def test_crowds_ties_duplicates_and_empty_images(self, seed, drawn, oracle):
        data, results = drawn(seed, scores="ties" if seed % 2 else "free", per_image=(2, 8, 30)[seed % 3])
        same_as_pycocotools(evaluated(data, results), oracle(data, results))

    @pytest.mark.parametrize("seed", range(3))
    def test_many_categories(self, seed, drawn, oracle):
        data, results = drawn(100 + seed, categories=9, images=60)
        ours, judge = evaluated(data, results), oracle(data, results)
        same_as_pycocotools(ours, judge)
        for c, category in enumerate(judge.params.catIds):
            own = judge.eval["precision"][:, :, c, 0, 0]
            if category in ours.per_category:
                assert ours.per_category[category]["AP"] == own[own > -1].mean()
            else:
                assert (own == -1).all()

    def test_one_category_alone_has_the_figures_listed_for_it(self, drawn, oracle):
        data, results = drawn(7, categories=3)
        alone = {**data, "categories": data["categories"][1:2]}
        category = alone["categories"][0]["id"]
        own = [r for r in results if r["category_id"] == category]
        stats = np.array(list(evaluated(data, results).per_category[category].values()))
        judge = oracle(alone, own)
        np.testing.assert_array_equal(stats, np.where(judge.stats == -1, np.nan, judge.stats))

    @pytest.mark.parametrize("seed", range(3))
    def test_custom_sigmas_and_other_numbers_of_keypoints(self, seed, drawn, oracle):
        K = (5, 26, 133)[seed]
        data, results = drawn(200 + seed, keypoints=K)
        sigmas = np.random.default_rng(seed).uniform(0.02, 0.12, K)
        same_as_pycocotools(evaluated(data, results, sigmas), oracle(data, results, sigmas))

    def test_boxes_given_with_the_detections_decide_their_area(self, drawn, oracle):
        data, results = drawn(300, boxes=True)
        without = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
        same_as_pycocotools(evaluated(data, results), oracle(data, results))
        assert not np.array_equal(evaluated(data, results).stats, evaluated(data, without).stats)

    def test_an_annotation_with_id_zero_counts_as_unmatched(self, drawn, oracle):
        data, results = drawn(301, zero_id=True, images=4)
        data["annotations"] = [a for a in data["annotations"] if a["id"] == 0]
        data["annotations"][0].update(iscrowd=0, num_keypoints=17)
        results = as_results(data)
        same_as_pycocotools(evaluated(data, results), oracle(data, results))
        assert evaluated(data, results).figures["AP"] == 0

    @pytest.mark.parametrize("max_dets", [1, 3, 20])
    def test_max_dets(self, max_dets, drawn, oracle):
        data, results = drawn(302, per_image=25)
        judge = oracle(data, results, max_dets=max_dets)
        same_as_pycocotools(evaluated(data, results, max_dets=max_dets), judge)

    def test_no_detections_at_all(self, drawn, oracle):
        data, _ = drawn(303)
        same_as_pycocotools(evaluated(data, []), oracle(data, []))

    def test_no_annotations_at_all(self, drawn, oracle):
        data, results = drawn(304)
        data["annotations"] = []
        ours = evaluated(data, results)
        same_as_pycocotools(ours, oracle(data, results))
        assert np.isnan(list(ours.figures.values())).all()

    def test_nothing_but_crowds(self, drawn, oracle):
        data, results = drawn(305)
        for annotation in data["annotations"]:
            annotation["iscrowd"] = 1
        same_as_pycocotools(evaluated(data, results), oracle(data, results))

    def test_some_images_alone(self, drawn, oracle):
        data, results = drawn(306)
        chosen = sorted(i["id"] for i in data["images"])[::3]
        truth = GroundTruth.from_coco(data).on_images(chosen)
        of_chosen = [r for r in results if r["image_id"] in chosen]
        ours = keypoint_ap(truth, Detections.from_coco(of_chosen), SIGMAS)
        same_as_pycocotools(ours, oracle(data, results, image_ids=chosen))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        seed=st.integers(0, 2**32 - 1),
        images=st.integers(1, 12),
        categories=st.integers(1, 4),
        keypoints=st.integers(1, 20),
        boxes=st.booleans(),
        zero_id=st.booleans(),
        scores=st.sampled_from(["ties", "free"]),
        per_image=st.sampled_from([0.3, 3, 24]),
    )
    def test_whatever_is_drawn(self, drawn, oracle, seed, keypoints, **kinds):
        data, results = drawn(seed, keypoints=keypoints, **kinds)
        sigmas = np.random.default_rng(seed).uniform(0.02, 0.12, keypoints)
        same_as_pycocotools(evaluated(data, results, sigmas), oracle(data, results, sigmas))

    def test_real_people(self, shared, oracle):
        data = json.loads((shared / "data/coco/test_coco.json").read_text())
        rng = np.random.default_rng(0)
        results = as_results(data) * 3
        for result in results:
            keypoints = np.array(result["keypoints"]) + rng.normal(0, 6, 51)
            result.update(keypoints=keypoints.tolist(), score=rng.random())
        same_as_pycocotools(evaluated(data, results), oracle(data, results))

    def test_real_animals_of_54_categories(self, shared, oracle):
        data = json.loads((shared / "data/ap10k/test_ap10k.json").read_text())
        ours = evaluated(data, as_results(data))
        same_as_pycocotools(ours, oracle(data, as_results(data)))
        assert ours.figures["AP"] == pytest.approx(1)
        assert len(ours.per_category) == 2


class TestLaws:
    def test_the_truth_itself_is_perfect(self, drawn):
        data, _ = drawn(1, images=60)
        data["annotations"] = [a for a in data["annotations"] if a["num_keypoints"] and not a["iscrowd"]]
        assert list(evaluated(data, as_results(data)).figures.values()) == [1.0] * 10

    def test_only_the_order_of_scores_matters(self, drawn):
        data, results = drawn(2)
        squeezed = [r | {"score": float(np.tanh(r["score"]) * 1e-3)} for r in results]
        np.testing.assert_array_equal(evaluated(data, results).stats, evaluated(data, squeezed).stats)

    def test_a_false_detection_above_all_others_lowers_precision_and_not_recall(self, drawn):
        data, results = drawn(3)
        wrong = results[0] | {"keypoints": [1e4, 1e4, 1.0] * 17, "score": 99.0}
        before, after = evaluated(data, results).figures, evaluated(data, [wrong, *results]).figures
        assert after["AP"] < before["AP"]
        assert after["AR"] <= before["AR"]

    def test_moving_the_whole_world_changes_nothing(self, drawn):
        data, results = drawn(4)
        moved, moved_results = copy.deepcopy(data), copy.deepcopy(results)
        for item in [*moved["annotations"], *moved_results]:
            item["keypoints"] = np.add(np.reshape(item["keypoints"], (-1, 3)), [64, 32, 0]).ravel().tolist()
        for item in moved["annotations"]:
            item["bbox"] = np.add(item["bbox"], [64, 32, 0, 0]).tolist()
        np.testing.assert_allclose(evaluated(data, results).stats, evaluated(moved, moved_results).stats)

    def test_a_keypoint_that_was_not_predicted_lies_where_a_result_file_puts_it(self, drawn):
        data, results = drawn(5, scores="free")
        absent = [r | {"keypoints": [0.0] * 3 + r["keypoints"][3:], "bbox": [0, 0, 50, 50]} for r in results]
        detections = Detections.from_coco(absent)
        keypoints = detections.keypoints.copy()
        keypoints[:, 0] = np.nan
        none = Detections(
            detections.image_id, detections.category_id, keypoints, detections.score, detections.area, "box"
        )
        truth = GroundTruth.from_coco(data)
        np.testing.assert_array_equal(
            keypoint_ap(truth, detections, SIGMAS).stats, keypoint_ap(truth, none, SIGMAS).stats
        )

    def test_nothing_changes_its_argument(self, drawn):
        data, results = drawn(6)
        before = copy.deepcopy((data, results))
        evaluated(data, results)
        assert before == (data, results)

    def test_the_ten_figures_are_named_as_coco_names_them(self, drawn):
        assert tuple(evaluated(*drawn(8)).figures) == FIGURES

    def test_pairs_matched_at_half_are_those_counted_by_recall(self, drawn):
        data, results = drawn(9)
        ap = evaluated(data, results)
        _, target = ap.matched(0.5)
        counted = ~ap.truth.ignored
        assert len(np.unique(target[counted[target]])) / counted.sum() == ap.figures["AR50"]
        with pytest.raises(ValueError, match="expected one of"):
            ap.matched(0.42)


class TestAreaOfTheBox:
    def test_sets_without_area_are_refused_until_a_rule_is_chosen(self, shared):
        data = json.loads((shared / "data/crowdpose/test_crowdpose.json").read_text())
        with pytest.raises(ValueError, match=r"5 of 5 have no 'area'.*--no-area"):
            GroundTruth.from_coco(data)
        truth = GroundTruth.from_coco(data, area_rule="box")
        width, height = data["annotations"][0]["bbox"][2:]
        assert truth.area[0] == pytest.approx(width * height * 0.53)
        assert truth.area_rule == "box"

    def test_equals_pycocotools_given_that_area(self, drawn, oracle):
        data, results = drawn(10)
        scaled = copy.deepcopy(data)
        for annotation in scaled["annotations"]:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3] * 0.53
        ours = keypoint_ap(GroundTruth.from_coco(data, "box"), Detections.from_coco(results), SIGMAS)
        same_as_pycocotools(ours, oracle(scaled, results))
