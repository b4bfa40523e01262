"""Behind a change of AP: intervals of all figures, keypoints, slices, scores, wrong annotations."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from tests.evaluation.test_compare import SIGMAS, epoch, repeated, untied
from tests.waiting import until
from workbench.core.job import JobManager
from workbench.data.coco import read_coco
from workbench.evaluation import Detections, GroundTruth, Predictions, compare, evaluate, keypoint_ap
from workbench.evaluation.bootstrap import drawn_images, paired_figures, paired_means, resampled_figures
from workbench.evaluation.calibration import calibration, isotonic, reliability
from workbench.evaluation.compare import slices_of
from workbench.evaluation.keypoint_ap import FIGURES
from workbench.skeletons import SKELETONS

COCO = SKELETONS["coco-17"]


def people_set(written, count=40, per_image=1, change=lambda people: None):
    """A set of people whose 17 keypoints stand on a grid of 4 columns, 20 px apart."""
    grid = np.array([(20 * (k % 4), 20 * (k // 4)) for k in range(17)], float)
    images, people = [], []
    for n in range(count):
        images.append({"id": n + 1, "file_name": f"{n}.jpg", "width": 600, "height": 400})
        for p in range(per_image):
            points = grid + np.array([50 + 150 * p, 60])
            people.append(
                {
                    "id": 100 * (n + 1) + p, "image_id": n + 1, "category_id": 1, "iscrowd": 0,
                    "num_keypoints": 17,
                    "keypoints": np.c_[points, np.full(17, 2)].ravel().tolist(), "area": 6400.0,
                    "bbox": [*(points.min(0) - 5).tolist(), 70.0, 90.0],
                }
            )  # fmt: skip
    change(people)
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    return read_coco(written({"images": images, "annotations": people, "categories": [category]}))


def sees(pose_set, truth, noise=0.5, seed=0, *, own=True, more=()):
    """A model that sees `truth` [N, K, 2] with some noise; scores fall with the error."""
    rng = np.random.default_rng(seed)
    instances = [pose_set.instances[i] for i in pose_set.labelled]
    error = rng.normal(0, noise, truth.shape)
    points = truth + error
    scores = np.exp(-np.linalg.norm(error, axis=2) / 5)
    images = [i.image_id for i in instances]
    for image, extra in more:
        images.append(image)
        points = np.concatenate([points, (extra + rng.normal(0, noise, extra.shape))[None]])
        scores = np.concatenate([scores, np.full((1, 17), 0.99)])
    N = len(points)
    ids = np.array([i.annotation_id for i in instances]) if own else None
    box = np.full((N, 4), np.nan) if not own else np.array([i.box for i in instances])
    return Predictions(np.array(images), np.ones(N, int), box, points, scores, scores.mean(1), ids)


def judged(pose_set, *found):
    return [(f"model {i}", one, evaluate(pose_set, one)) for i, one in enumerate(found)]


def true_points(pose_set):
    return np.array([pose_set.instances[i].truth[:, :2] for i in pose_set.labelled], float)


class TestIntervalsOfAllFigures:
    @pytest.mark.parametrize("categories", [1, 3])
    def test_weighing_images_equals_evaluating_the_resampled_set(self, drawn, categories):
        data, results = drawn(1, images=14, categories=categories)
        results = untied(results, 1)
        ap = keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(results), SIGMAS)
        ids = ap.truth.image_ids.tolist()
        draws = np.random.default_rng(2).multinomial(len(ids), [1 / len(ids)] * len(ids), size=12)
        fast = resampled_figures(ap, draws)
        for row, draw in enumerate(draws):
            again = repeated(data, results, dict(zip(ids, draw.tolist(), strict=True)))
            slow = keypoint_ap(GroundTruth.from_coco(again[0]), Detections.from_coco(again[1]), SIGMAS)
            for name in FIGURES:
                assert fast[name][row] == pytest.approx(slow.figures[name], abs=1e-12, nan_ok=True), name

    def test_every_image_once_gives_the_figures_themselves(self, drawn):
        data, results = drawn(3, categories=2)
        ap = keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(results), SIGMAS)
        once = resampled_figures(ap, np.ones((1, len(data["images"])), int))
        for name in FIGURES:
            assert once[name][0] == pytest.approx(ap.figures[name], abs=1e-12, nan_ok=True)

    def test_an_evaluation_beside_itself_changes_by_nothing(self, drawn):
        data, results = drawn(5)
        ap = keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(results), SIGMAS)
        found = paired_figures(ap, ap, resamples=20)
        assert found
        assert all(i.delta == 0 and (not i.measured or (i.low, i.high) == (0, 0)) for i in found.values())
        assert found["AP"].measured

    def test_the_mean_of_changes_has_the_interval_of_its_images(self):
        # Eight images, of which the resamples draw two: means 1, 3 and 2.
        weights = np.array([[2, 0], [0, 2], [1, 1]]) @ np.eye(2, 8, dtype=int)
        values, image = np.array([1.0, 3.0, *[2.0] * 6, np.nan]), np.array([*range(8), 1])
        interval = paired_means(values, image, weights, 0.5, 0)
        assert (interval.delta, interval.low, interval.high, interval.units) == (2, 1.5, 2.5, 8)
        few = paired_means(values[:7], image[:7], weights[:, :7], 0.5, 0)
        assert (few.measured, few.certain, few.units) == (False, False, 7)
        assert paired_means(np.array([np.nan]), np.array([0]), weights, 0.5, 0) is None


class TestSlices:
    def test_a_keypoint_that_one_model_misses_is_the_one_that_changes(self, written):
        pose_set = people_set(written)
        truth = true_points(pose_set)
        off = truth.copy()
        off[:, 9] += 60
        report = compare(
            pose_set, [("a", sees(pose_set, off)), ("b", sees(pose_set, truth))], resamples=50, details=True
        )
        worst = max(report.changes, key=lambda c: c.after - c.before)
        assert (worst.kind, worst.name) == ("keypoint", "left_wrist")
        assert worst.before < 0.01 < 0.95 < worst.after
        assert worst.interval.certain
        assert not any(c.interval.certain for c in report.changes if c.name == "nose")

    def test_slices_by_size_visibility_and_crowding_are_counted_by_hand(self, written):
        def change(people):
            people[0]["area"] = 100.0
            people[1]["area"] = 20_000.0
            people[2]["keypoints"][2::3] = [1] * 17
            people[4]["bbox"] = people[5]["bbox"] = [0, 0, 100, 100]

        pose_set = people_set(written, count=3, per_image=2, change=change)
        found = {
            name: int(mask.sum())
            for _, name, mask in slices_of(evaluate(pose_set, sees(pose_set, true_points(pose_set))).ap.truth)
        }
        assert found == {
            "small, below 32² px": 1, "medium, 32² to 96² px": 4, "large, above 96² px": 1,
            "mostly visible": 5,
            "at least half occluded": 1, "boxes apart": 4, "boxes overlap (IoU above 0.1)": 2,
        }  # fmt: skip


class TestCalibration:
    def test_isotonic_regression_equals_scikit_learns(self):
        from sklearn.isotonic import IsotonicRegression

        rng = np.random.default_rng(0)
        for seed in range(5):
            x, y = np.round(rng.random(200), 2), rng.random(200)
            places, level = isotonic(x, y + 0.5 * seed * x)
            wanted = IsotonicRegression().fit(x, y + 0.5 * seed * x).predict(places)
            assert level == pytest.approx(wanted, abs=1e-12)

    def test_the_expected_calibration_error_has_the_value_by_hand(self):
        found = reliability("pose", np.array([0.2, 0.2, 0.8, 0.8]), np.array([0.0, 0.2, 1.0, 1.0]))
        assert found.score.tolist() == pytest.approx([0.2, 0.8])
        assert found.value.tolist() == pytest.approx([0.1, 1.0])
        assert found.error == pytest.approx((2 * 0.1 + 2 * 0.2) / 4)
        # Scatter .2 / sqrt(2) in the first bin, none in the second; sqrt(2 / (2 pi)) of it is left of two.
        assert found.chance == pytest.approx(0.2 / np.sqrt(2) / np.sqrt(np.pi) / 2)

    def test_scores_that_are_no_probabilities_have_no_error(self):
        assert np.isnan(reliability("pose", np.array([0.5, 1.3]), np.array([0.5, 1.0])).error)

    def test_the_error_of_a_few_calibrated_scores_is_what_chance_gives(self):
        rng = np.random.default_rng(0)
        draws = [(score := rng.uniform(0.3, 0.9, 60), score + rng.normal(0, 0.05, 60)) for _ in range(100)]
        found = [reliability("pose", *one) for one in draws]
        assert np.mean([one.error for one in found]) == pytest.approx(0.016, abs=0.001)
        assert np.mean([one.chance for one in found]) == pytest.approx(0.016, abs=0.001)
        assert np.isnan(reliability("pose", draws[0][0][:3], draws[0][1][:3]).chance)

    def test_a_strictly_rising_map_of_pose_scores_changes_no_ap(self, written):
        pose_set = people_set(written)
        found = sees(pose_set, true_points(pose_set), noise=8)
        mapped = Predictions(**{**found.__dict__, "score": np.exp(5 * found.score) - 3})
        same = pytest.approx(evaluate(pose_set, found).figures, abs=0, nan_ok=True)
        assert evaluate(pose_set, mapped).figures == same

    def test_misleading_scores_are_told_and_what_better_ones_would_give(self, written):
        pose_set = people_set(written, count=200)
        rng = np.random.default_rng(3)
        truth = true_points(pose_set)
        error = rng.normal(0, 1, truth.shape) * rng.choice([0.5, 9.0], (len(truth), 1, 1))
        right = np.exp(-np.linalg.norm(error, axis=2) / 8)
        ids = np.array([pose_set.instances[i].annotation_id for i in pose_set.labelled])
        images = np.array([pose_set.instances[i].image_id for i in pose_set.labelled])
        boxes = np.full((len(truth), 4), np.nan)
        base = Predictions(images, np.ones(len(truth), int), boxes, truth + error, right, right.mean(1), ids)
        flat = Predictions(**{**base.__dict__, "score": np.random.default_rng(0).random(len(truth))})
        good, bad = (calibration(t, p, evaluate(pose_set, p)) for t, p in (("good", base), ("bad", flat)))
        assert bad.ap < good.ap - 0.05
        assert bad.mapped_ap == pytest.approx(good.mapped_ap, abs=1e-9)  # keypoint scores are the same
        assert bad.ap < bad.mapped_ap <= bad.oracle_ap + 1e-9
        assert good.ap <= good.oracle_ap + 1e-9
        assert "with the best monotone map" in bad.summary()
        assert "(ECE of " in bad.summary()
        assert " by chance)" in bad.summary()
        json.dumps(bad.facts(), allow_nan=False)
        assert bad.plot().data


class TestResultFiles:
    def files(self, folder, drawn, written):
        data, results = drawn(6, images=20)
        better = copy.deepcopy(results)
        for one in better:
            one["score"] = min(one["score"] + 0.05, 1.0)
        for name, content in (("a", results), ("b", better)):
            (folder / f"{name}.json").write_text(json.dumps(content))
        return written(data), results

    def test_two_result_files_are_compared_without_a_model(self, workbench, tmp_path, drawn, written):
        data, results = self.files(tmp_path, drawn, written)
        words = ("compare", tmp_path / "a.json", tmp_path / "b.json", "--data", data, "--resamples", 20)
        code, out, err = workbench(*words, "--json")
        assert code == 0, err
        facts = json.loads(out)
        truth = GroundTruth.from_coco(json.loads(data.read_text()))
        slow = keypoint_ap(truth, Detections.from_coco(results), COCO.sigmas).figures
        assert facts["epochs"][0]["AP"] == pytest.approx(slow["AP"], abs=1e-12)
        assert set(facts["delta"]) <= set(FIGURES)
        assert set(facts["delta"]["AP"]) == {"value", "low", "high"}
        assert {"keypoint", "size"} <= {c["kind"] for c in facts["changes"]}
        assert set(facts["calibration"]) == {"a", "b"}
        code, out, _ = workbench(*words)
        assert "95 % intervals" in out
        (tmp_path / "b.json").write_text("[]")
        code, out, err = workbench(*words, "--json")
        assert code == 0, err
        assert [epoch["AP"] for epoch in json.loads(out)["epochs"]] == [facts["epochs"][0]["AP"], 0]

    def test_what_is_no_result_file_is_one_sentence(self, workbench, tmp_path, drawn, written):
        data, _ = self.files(tmp_path, drawn, written)
        (tmp_path / "b.json").write_text('{"annotations": []}')
        code, out, err = workbench("compare", tmp_path / "a.json", tmp_path / "b.json", "--data", data)
        assert (code, out) == (2, "")
        assert "expected a list of detections" in err


def test_details_are_left_out_unless_asked_for(written):
    pose_set = people_set(written, count=5)
    found = epoch(pose_set, 0.5)
    report = compare(pose_set, [("a", found), ("b", found)], resamples=10)
    assert (report.delta, report.changes, report.calibrations, report.audit) == ({}, (), (), None)
    weights = drawn_images(report.evaluations[0].ap, report.evaluations[1].ap, 10, 0.95, 0)
    assert weights.sum(1).tolist() == [5] * 10


def test_a_comparison_says_how_far_it_is_and_stops_between_resamples(written):
    pose_set = people_set(written, count=30)
    truth = true_points(pose_set)
    epochs = [("A", sees(pose_set, truth, 6.0)), ("B", sees(pose_set, truth, 3.0))]
    seen = []
    compare(pose_set, epochs, details=True, resamples=20, progress=lambda *parts: seen.append(parts))
    assert seen == [(n, 8) for n in range(1, 9)] + [(8, 8)]
    seen.clear()
    compare(pose_set, epochs, resamples=20, progress=lambda *parts: seen.append(parts))
    assert seen[-1] == (3, 3)
    jobs = JobManager()
    before, after = (evaluate(pose_set, found).ap for _, found in epochs)

    def drawing(job):
        weights = drawn_images(before, after, 1000, 0.95, 0)
        job.cancel()
        resampled_figures(after, weights)
        seen.append("not stopped")

    job = jobs.start("draws", "drawing", drawing)
    until(lambda: not job.alive)
    assert (job.state, seen[-1]) == ("cancelled", (3, 3))
    job = jobs.start(
        "parts",
        "comparing",
        lambda j: compare(
            pose_set, epochs, resamples=20, progress=lambda done, total: j.cancel() if done == 2 else None
        ),
    )
    until(lambda: not job.alive)
    assert job.state == "cancelled"
    jobs.close()
