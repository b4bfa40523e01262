"""An evaluation says figures, keypoints, categories and instances, and under which protocol."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.core.report import Report
from workbench.data.coco import read_coco
from workbench.evaluation import PCK, Detections, Evaluation, Predictions, Protocol, evaluate, truth_of


def found_exactly(pose_set, shift=(0.0, 0.0), scores=None):
    """Predictions from annotation boxes, right but for a shift."""
    own = [pose_set.instances[i] for i in pose_set.labelled]
    K = len(pose_set.skeleton)
    return Predictions(
        np.array([i.image_id for i in own]),
        np.array([i.category_id for i in own]),
        np.array([i.box for i in own]),
        np.stack([i.truth[:, :2] for i in own]) + shift,
        np.ones((len(own), K)),
        np.ones(len(own)) if scores is None else scores,
        np.array([i.annotation_id for i in own]),
    )


@pytest.fixture
def people(drawn, written):
    data, results = drawn(0, scores="free")
    return read_coco(written(data)), results


class TestFigures:
    def test_are_pycocotools_for_a_result_file(self, drawn, written, oracle):
        data, results = drawn(1)
        pose_set = read_coco(written(data))
        report = evaluate(pose_set, Predictions.from_coco(results))
        np.testing.assert_array_equal(report.ap.stats, oracle(data, results, pose_set.skeleton.sigmas).stats)

    def test_of_the_truth_are_one(self, people):
        pose_set, _ = people
        report = evaluate(pose_set, found_exactly(pose_set))
        assert report.figures["AP"] == report.figures["AR"] == 1
        assert np.nanmin(report.oks) == 1

    def test_of_some_instances_count_these_alone(self, people):
        pose_set, _ = people
        some = pose_set.labelled[:5]
        report = evaluate(pose_set, found_exactly(pose_set).take(range(5)), indices=some)
        assert report.figures["AP"] == 1
        assert report.protocol.instances == 5
        assert report.protocol.images == len({pose_set.instances[i].image_id for i in some})
        everything = evaluate(pose_set, found_exactly(pose_set).take(range(5)))
        assert everything.figures["AR"] < 1

    def test_a_box_of_no_size_is_an_instance_missed_and_the_protocol_says_so(self, drawn, written):
        data, _ = drawn(0, scores="free")
        whole = read_coco(written(data))
        assert evaluate(whole, found_exactly(whole)).protocol.unseen == 0
        one = whole.instances[whole.labelled[0]].annotation_id
        next(a for a in data["annotations"] if a["id"] == one)["bbox"] = [10, 10, 0, 0]
        lacking = read_coco(written(data))
        report = evaluate(lacking, found_exactly(lacking))
        assert report.protocol.instances == len(whole.labelled)
        assert report.protocol.unseen == 1
        assert report.figures["AR"] < 1
        assert "1 of them missed for want of a box with a size" in report.summary()


class TestPerKeypoint:
    def test_one_moved_keypoint_changes_its_own_row_only(self, people):
        pose_set, _ = people
        moved = found_exactly(pose_set)
        moved.keypoints[:, 4] += (3, 4)
        before = evaluate(pose_set, found_exactly(pose_set)).per_keypoint
        after = evaluate(pose_set, moved).per_keypoint
        changed = [b["keypoint"] for a, b in zip(before, after, strict=True) if a != b]
        assert changed == ["right_ear"]
        assert after[4]["error_px"] == pytest.approx(5)
        assert after[4]["oks"] < 1

    def test_values_by_hand(self, written):
        data = {
            "images": [{"id": 1, "file_name": "1.jpg", "width": 400, "height": 400}],
            "categories": [{"id": 1, "name": "thing", "keypoints": ["a", "b", "c"]}],
            "annotations": [
                {
                    "id": 5, "image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 50], "area": 2500,
                    "iscrowd": 0, "num_keypoints": 2, "keypoints": [10, 10, 2, 50, 20, 1, 0, 0, 0],
                }
            ],
        }  # fmt: skip
        pose_set = read_coco(written(data))
        moved = found_exactly(pose_set)
        moved.keypoints[0] = [[10, 10], [56, 28], [7, 7]]  # b is 10 px off
        row = evaluate(pose_set, moved, sigmas=[0.1, 0.1, 0.1], pck=PCK(0.1)).per_keypoint
        assert row[0] == {"keypoint": "a", "labelled": 1, "oks": 1, "pck": 1, "error_px": 0}
        # exp(-100 / (2 * .1)^2 / 2500 / 2) = exp(-.5); 10 px is not below .1 x 100
        assert row[1]["oks"] == pytest.approx(np.exp(-0.5))
        assert (row[1]["pck"], row[1]["error_px"]) == (0, 10)
        assert row[2]["labelled"] == 0
        assert np.isnan(row[2]["oks"])
        wider = evaluate(pose_set, moved, sigmas=[0.1, 0.1, 0.1], pck=PCK(0.1, "diagonal"))
        assert wider.per_keypoint[1]["pck"] == 1
        assert wider.pck == "PCK@0.1 of the diagonal"

    def test_a_keypoint_that_was_not_given_is_wrong_and_has_no_distance(self, people):
        pose_set, _ = people
        moved = found_exactly(pose_set)
        moved.keypoints[:, 0] = np.nan
        row = evaluate(pose_set, moved).per_keypoint[0]
        assert (row["oks"], row["pck"]) == (0, 0)
        assert np.isnan(row["error_px"])


class TestReport:
    def test_keeps_the_contract(self, people):
        pose_set, results = people
        report = evaluate(pose_set, Predictions.from_coco(results))
        assert isinstance(report, Report)
        assert "\n" not in report.summary()
        assert set(report.table()[0]) == {"keypoint", "labelled", "oks", "pck", "error_px"}
        figure = report.plot()
        assert sorted(figure.data[0].x) == pytest.approx(sorted(r["oks"] for r in report.table()))
        facts = json.loads(json.dumps(report.to_json(), allow_nan=False))
        names = "AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL per_keypoint per_category instances protocol"
        assert set(names.split()) <= facts.keys()

    def test_absent_ground_truth_is_null_and_a_dash(self, drawn, written):
        data, results = drawn(3)
        for annotation in data["annotations"]:
            annotation["area"] = 10_000.0
        report = evaluate(read_coco(written(data)), Predictions.from_coco(results))
        assert report.to_json()["APM"] is None
        assert np.isnan(report.figures["ARM"])
        assert "APM     -" in report.text()
        assert "no such ground truth" in report.text()

    def test_no_annotation_at_all_is_said(self, drawn, written):
        data, results = drawn(4)
        data["annotations"] = []
        report = evaluate(read_coco(written(data)), Predictions.from_coco(results))
        assert report.summary().startswith("No AP")
        report.plot()
        assert report.to_json()["AP"] is None

    def test_no_result_at_all_is_an_ap_of_zero(self, people):
        pose_set, _ = people
        report = evaluate(pose_set, Predictions.from_coco([]))
        assert report.figures["AP"] == report.figures["AR"] == 0
        assert all(row["labelled"] == 0 for row in report.table())
        report.plot()

    def test_says_first_when_the_model_is_only_partly_loaded(self, people):
        pose_set, _ = people
        report = evaluate(pose_set, found_exactly(pose_set), Protocol(loaded_fraction=0.5))
        assert "partly loaded" in report.summary()
        assert "NOT FULLY LOADED (50.0%" in report.text()
        assert report.to_json()["protocol"]["loaded_fraction"] == 0.5

    def test_the_protocol_is_filled_in(self, people):
        pose_set, results = people
        rules = evaluate(pose_set, Predictions.from_coco(results), Protocol(flip=True)).protocol
        assert rules.flip
        assert (rules.images, rules.data) == (40, pose_set.name)
        assert rules.sigmas.startswith("coco-17")
        assert rules.detection_area == "extent"

    def test_categories_come_with_their_names_worst_first(self, drawn, written):
        data, results = drawn(5, categories=4)
        report = evaluate(read_coco(written(data)), Predictions.from_coco(results))
        assert [c["AP"] for c in report.per_category] == sorted(c["AP"] for c in report.per_category)
        assert report.per_category[0]["category"].startswith("kind")
        assert report.figures["AP"] == pytest.approx(np.mean([c["AP"] for c in report.per_category]))


class TestInstances:
    def test_without_annotation_boxes_the_best_detection_counts(self, people):
        pose_set, _ = people
        exact = found_exactly(pose_set)
        detected = Predictions(
            exact.image_id, exact.category_id, exact.box, exact.keypoints, exact.scores, exact.score
        )
        report = evaluate(pose_set, detected)
        labelled = np.isfinite(report.oks)
        assert (report.oks[labelled] == 1).sum() >= len(pose_set.labelled)
        assert report.pairing == "poses matched at OKS .5"
        assert f", {report.pairing}). Protocol: " in report.summary()
        none = evaluate(pose_set, detected.take([]))
        assert np.nanmax(none.oks) == 0

    def test_come_worst_first(self, people):
        pose_set, _ = people
        off = found_exactly(pose_set)
        off.keypoints[2] += 40
        first = evaluate(pose_set, off).instances()[0]
        assert first["annotation_id"] == pose_set.instances[pose_set.labelled[2]].annotation_id


class TestBadInput:
    def test_17_against_26_keypoints(self, drawn, written):
        data, _ = drawn(6, keypoints=26)
        _, results = drawn(6, keypoints=17)
        for n, result in enumerate(results):
            result["image_id"] = data["images"][n % 3]["id"]
        with pytest.raises(ValueError, match="annotations have 26 and the detections have 17"):
            evaluate(read_coco(written(data)), Predictions.from_coco(results), sigmas=[0.05] * 26)

    def test_no_sigmas_known(self, drawn, written):
        data, results = drawn(7, keypoints=5)
        with pytest.raises(ValueError, match="sigmas: none are known"):
            evaluate(read_coco(written(data)), Predictions.from_coco(results))

    def test_other_images_and_other_categories(self, people):
        pose_set, results = people
        with pytest.raises(ValueError, match="image 77777 is not in the annotations"):
            evaluate(pose_set, Predictions.from_coco([{**results[0], "image_id": 77777}]))
        with pytest.raises(ValueError, match="category 9 is not in the annotations"):
            evaluate(pose_set, Predictions.from_coco([{**results[0], "category_id": 9}]))

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"annotations": []}, "expected a list of detections, got an object with annotations; with"),
            ("text", "expected a list of detections, got str"),
            ([{"image_id": 1, "keypoints": [1, 2, 3], "category_id": 1}], "detection 0 of 1 has no 'score'"),
            ([{"keypoints": [1, 2, 3], "category_id": 1, "score": 1}], "has no 'image_id'"),
            ([{"image_id": 1, "category_id": 1, "score": 1, "bbox": [1, 2, 3, 4]}], "has no 'keypoints'"),
            ([17], "detection 0 of 1 has no 'image_id'"),
            ([{"image_id": 1, "category_id": 1, "score": float("nan"), "keypoints": [1, 2, 3]}],
             "score of detection 0: not a finite number"),
            ([{"image_id": 1, "category_id": 1, "score": None, "keypoints": [1, 2, 3]}], "score"),
            ([{"image_id": 1, "category_id": 1, "score": 1, "keypoints": [1, float("inf"), 3]}],
             "keypoints of detection 0: not a finite number"),
            ([{"image_id": 1, "category_id": 1, "score": 1, "keypoints": [1, 2]}], "got 2 numbers"),
            ([{"image_id": 1, "category_id": 1, "score": 1, "keypoints": [[1, 2, 3]]}], "keypoints"),
            ([{"image_id": 1, "category_id": 1, "score": 1, "keypoints": "nose"}], "keypoints"),
            ([{"image_id": 1.5, "category_id": 1, "score": 1, "keypoints": [1, 2, 3]}], "expected integers"),
            ([{"image_id": None, "category_id": 1, "score": 1, "keypoints": [1, 2, 3]}], "expected integers"),
            ([{"image_id": 1, "category_id": 1, "score": 1, "keypoints": [1, 2, 3], "bbox": [1, 2]}], "bbox"),
            ([{"image_id": 1, "category_id": 1, "score": 1, "keypoints": ["1", 2, 3]}], "lists of numbers"),
            ([{"image_id": 1, "category_id": 1, "score": 1, "keypoints": [True, 2, 3]}], "lists of numbers"),
            ([{"image_id": 1, "category_id": 1, "score": "1", "keypoints": [1, 2, 3]}], "score of each"),
            ([{"image_id": 1, "category_id": 1, "score": True, "keypoints": [1, 2, 3]}], "score of each"),
            ([{"image_id": 1, "category_id": 1, "score": [1], "keypoints": [1, 2, 3]}], "score of each"),
            ([{"image_id": 1, "category_id": 1, "score": 1, "keypoints": [1, 2, 3], "bbox": ["1", 2, 3, 4]}],
             "expected each bbox as x, y, width, height"),
            ([{"image_id": n, "category_id": 1, "score": 1, "keypoints": [1, 2, 3]} for n in (1, True)],
             "expected integers, got True"),
            ([{"image_id": 2**64 - 1, "category_id": 1, "score": 1, "keypoints": [1, 2, 3]}],
             "expected integers, got 'too large a number'"),
            ([{"image_id": 1, "category_id": 1, "score": 1, "keypoints": [1, 2, 3], "bbox": [1, 2, 3, 4]},
              {"image_id": 1, "category_id": 1, "score": 1, "keypoints": [1, 2, 3]}],
             "detection 1 of 2 has no 'bbox'; expected a bbox in each, because the first detection has one"),
        ],
    )  # fmt: skip
    def test_results_in_the_wild(self, wrong, message):
        with pytest.raises(ValueError, match="results") as caught:
            Detections.from_coco(wrong)
        assert message in str(caught.value)

    @pytest.mark.parametrize("score", [float("nan"), float("inf")])
    def test_a_keypoint_score_that_is_no_number_is_refused(self, score):
        wrong = [{"image_id": 1, "category_id": 1, "score": 1, "keypoints": [1, 2, score]}]
        with pytest.raises(ValueError, match="detection 0: not a finite number"):
            Predictions.from_coco(wrong)

    def test_17_and_26_keypoints_in_one_result_file(self, drawn):
        _, results = drawn(8)
        results[3]["keypoints"] += [0.0] * 27
        with pytest.raises(ValueError, match="one length, got 17, 26 keypoints"):
            Detections.from_coco(results)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a: a.pop("keypoints"), "have no 'keypoints'"),
            (lambda a: a.pop("area"), "have no 'area'"),
            (lambda a: a.pop("image_id"), "have no 'image_id'"),
            (lambda a: a.update(area=float("nan")), "area of annotation 64: not a finite number"),
            (lambda a: a.update(id=None), "expected integers"),
            (lambda a: (a.pop("bbox"), a.update(keypoints=[0] * 51)), "has no bbox"),
            (lambda a: a.update(bbox=[1, 2]), "expected each bbox"),
            (lambda a: a.update(num_keypoints=None), "num_keypoints: expected integers, got None"),
            (lambda a: a.update(keypoints=17), "expected keypoints as flat lists"),
            (
                lambda a: a.update(keypoints=[1.0] * 34),
                "flat lists x, y, v of one length, got 34, 51 numbers",
            ),
        ],
    )
    def test_annotations_in_the_wild(self, drawn, change, message):
        from workbench.evaluation import GroundTruth

        data, _ = drawn(9)
        change(data["annotations"][0])
        with pytest.raises(ValueError, match="annotation") as caught:
            GroundTruth.from_coco(data)
        assert message in str(caught.value)

    def test_the_same_annotation_twice(self, drawn):
        from workbench.evaluation import GroundTruth

        data, results = drawn(10)
        data["annotations"].append(data["annotations"][0])
        with pytest.raises(ValueError, match="occurs more than once"):
            GroundTruth.from_coco(data)
        with pytest.raises(ValueError, match="expected a json with images"):
            GroundTruth.from_coco(results)


class TestRealFiles:
    @pytest.mark.parametrize("name", ["coco/test_coco", "ap10k/test_ap10k", "animalpose/test_animalpose"])
    def test_truth_is_perfect_on_real_annotations(self, shared, name):
        pose_set = read_coco(shared / f"data/{name}.json")
        report = evaluate(pose_set, found_exactly(pose_set))
        assert report.figures["AP"] == pytest.approx(1)
        assert isinstance(report, Evaluation)

    def test_crowdpose_says_which_area_it_took(self, shared):
        pose_set = read_coco(shared / "data/crowdpose/test_crowdpose.json")
        with pytest.raises(ValueError, match="--no-area"):
            evaluate(pose_set, found_exactly(pose_set))
        report = evaluate(pose_set, found_exactly(pose_set), area_rule="box")
        assert ".53 of the box" in report.protocol.text()
        assert len(truth_of(pose_set, "box")) == 5

    def test_whole_body_annotations_in_one_list_under_the_names_of_17_are_whole_bodies(self, shared):
        pose_set = read_coco(shared / "data/coco/test_keypoint_partition_metric.json")
        assert pose_set.skeleton.name == "coco-wholebody-133"
        assert len(pose_set.instances[0].truth) == 133
