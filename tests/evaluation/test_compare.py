"""Two epochs side by side: what was gained, what was lost, and how sure one can be."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from workbench.data.coco import read_coco
from workbench.evaluation import (
    Detections,
    GroundTruth,
    Predictions,
    Protocol,
    compare,
    keypoint_ap,
    paired_bootstrap,
)
from workbench.evaluation.bootstrap import resampled_ap

SIGMAS = [0.05] * 17


def epoch(pose_set, noise, seed=0):
    own = [pose_set.instances[i] for i in pose_set.labelled]
    rng = np.random.default_rng(seed)
    truth = np.stack([i.truth[:, :2] for i in own])
    return Predictions(
        np.array([i.image_id for i in own]),
        np.array([i.category_id for i in own]),
        np.array([i.box for i in own]),
        truth + rng.normal(0, noise, truth.shape),
        np.ones(truth.shape[:2]),
        rng.random(len(own)),
        np.array([i.annotation_id for i in own]),
    )


def untied(results, seed):
    """Scores that differ all: then copies of an image cannot interleave."""
    order = np.random.default_rng(seed).permutation(len(results))
    return [r | {"score": float(s) / len(results)} for r, s in zip(results, order, strict=True)]


def repeated(data, results, weights):
    """The set in which each image stands as often as it was drawn, ids made new."""
    images, people, found = [], [], []
    for image_id, count in weights.items():
        for _ in range(count):
            images.append({"id": len(images) + 1})
            own = [a for a in data["annotations"] if a["image_id"] == image_id]
            people += [a | {"image_id": len(images), "id": len(people) + 1 + n} for n, a in enumerate(own)]
            found += [r | {"image_id": len(images)} for r in results if r["image_id"] == image_id]
    return {"images": images, "annotations": people, "categories": data["categories"]}, found


@pytest.fixture
def people(drawn, written):
    data, _ = drawn(0, images=60)
    return read_coco(written(data))


class TestBootstrap:
    @pytest.mark.parametrize("categories", [1, 4])
    def test_weighing_images_equals_evaluating_the_resampled_set(self, drawn, categories):
        data, results = drawn(1, images=12, categories=categories)
        results = untied(results, 1)
        ap = keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(results), SIGMAS)
        ids = ap.truth.image_ids.tolist()
        draws = np.random.default_rng(2).multinomial(len(ids), [1 / len(ids)] * len(ids), size=20)
        fast = resampled_ap(ap, draws)
        for draw, value in zip(draws, fast, strict=True):
            again = repeated(data, results, dict(zip(ids, draw.tolist(), strict=True)))
            slow = keypoint_ap(GroundTruth.from_coco(again[0]), Detections.from_coco(again[1]), SIGMAS)
            assert value == pytest.approx(slow.figures["AP"], abs=1e-15)

    def test_every_image_once_is_the_ap_itself(self, drawn):
        data, results = drawn(3, categories=3)
        ap = keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(results), SIGMAS)
        once = np.ones((1, len(data["images"])), int)
        assert resampled_ap(ap, once)[0] == pytest.approx(ap.figures["AP"], abs=1e-15)

    def test_a_draw_of_empty_images_has_no_ap(self, drawn):
        data, results = drawn(4)
        ap = keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(results), SIGMAS)
        counted = np.bincount(ap.truth.image[~ap.truth.ignored], minlength=len(ap.truth.image_ids))
        assert np.isnan(resampled_ap(ap, (counted == 0)[None].astype(int))[0])

    def test_an_epoch_beside_itself_changes_by_nothing(self, drawn):
        data, results = drawn(5)
        ap = keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(results), SIGMAS)
        interval = paired_bootstrap(ap, ap, resamples=50)
        assert (interval.delta, interval.low, interval.high) == (0, 0, 0)
        assert not interval.certain

    def test_same_seed_same_interval_and_the_reverse_change_has_the_reverse_interval(self, drawn):
        data, results = drawn(6)
        _, other = drawn(6)
        for result in other:
            result["keypoints"] = (np.array(result["keypoints"]) + 2).tolist()
        truth = GroundTruth.from_coco(data)
        a, b = (keypoint_ap(truth, Detections.from_coco(r), SIGMAS) for r in (results, other))
        there, back = paired_bootstrap(a, b, resamples=200), paired_bootstrap(b, a, resamples=200)
        assert there == paired_bootstrap(a, b, resamples=200)
        assert there != paired_bootstrap(a, b, resamples=200, seed=1)
        assert (back.low, back.high) == (pytest.approx(-there.high), pytest.approx(-there.low))
        assert there.low <= there.delta <= there.high

    def test_a_thousand_resamples_of_300_images_take_a_moment(self, drawn):
        data, results = drawn(7, images=300)
        ap = keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(results), SIGMAS)
        started = time.process_time()
        paired_bootstrap(ap, ap)
        assert time.process_time() - started < 5

    def test_other_images_are_refused(self, drawn):
        (data, results), (others, more) = drawn(8), drawn(9)
        a = keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(results), SIGMAS)
        b = keypoint_ap(GroundTruth.from_coco(others), Detections.from_coco(more), SIGMAS)
        with pytest.raises(ValueError, match="same images"):
            paired_bootstrap(a, b)
        with pytest.raises(ValueError, match="2 resamples or more"):
            paired_bootstrap(a, a, resamples=1)


class TestComparison:
    def test_gained_lost_and_most_changed(self, people):
        first, second = epoch(people, 0.5), epoch(people, 0.5, seed=1)
        first.keypoints[0] += 500
        second.keypoints[[1, 2]] += 500
        report = compare(people, [("one", first), ("two", second)], resamples=50)
        ids = [people.instances[i].annotation_id for i in people.labelled]
        gained = [r["annotation_id"] for r in report.instances(report.gained())]
        lost = [r["annotation_id"] for r in report.instances(report.lost())]
        assert gained == [ids[0]]
        assert sorted(lost) == sorted(ids[1:3])
        assert {r["annotation_id"] for r in report.instances(report.most_changed(count=3))} == {*ids[:3]}
        assert "1 instance gained, 2 lost" in report.summary()
        assert report.oks.shape == (2, len(people))

    def test_unlabelled_and_crowd_instances_are_nan(self, people):
        report = compare(people, [("one", epoch(people, 1)), ("two", epoch(people, 1))], resamples=20)
        assert "+0.000 [+0.000, +0.000], which no choice of these images changes" in report.summary()
        shown = np.isfinite(report.oks).all(0)
        assert np.flatnonzero(shown).tolist() == list(people.labelled)

    def test_a_large_improvement_is_certain(self, people):
        report = compare(people, [("one", epoch(people, 30)), ("two", epoch(people, 1))], resamples=200)
        assert report.intervals[0].certain
        assert report.intervals[0].low > 0.2
        figure = report.plot()
        assert figure.data[0].y[1] == pytest.approx(report.evaluations[1].figures["AP"])
        assert figure.layout.xaxis.title.text == "model"  # two files or models are no epochs
        assert "\nmodel  " in report.text()

    def test_one_image_gives_no_interval_and_no_map_of_scores(self, people):
        image_id, of_image = next(iter(people.labelled_of_image.items()))
        a, b = (epoch(people, noise) for noise in (30, 1))
        a, b = (one.take(np.flatnonzero(one.image_id == image_id)) for one in (a, b))
        report = compare(people, [("one", a), ("two", b)], indices=of_image, resamples=20, details=True)
        (interval,) = report.intervals
        assert (interval.measured, interval.certain, str(interval)[6:]) == (False, False, " (no interval)")
        assert "1 image is too few for an interval;" in report.summary()
        assert "1 image is too few for an interval:" in report.text()
        assert "[" not in report.text().split("Protocol")[1].split("keypoint scores")[0]
        assert report.to_json()["epochs"][1]["low"] is None
        assert {one["low"] for one in report.to_json()["delta"].values()} == {None}
        assert "too few images to fit a map" in report.calibrations[0].summary()
        report.plot()

    def test_keeps_the_contract(self, people):
        report = compare(people, [(f"epoch {n}", epoch(people, n)) for n in (9, 5, 2)], resamples=20)
        assert report.plot().layout.xaxis.title.text == "epoch"
        assert "\n" not in report.summary()
        facts = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert [e["title"] for e in facts["epochs"]] == ["epoch 9", "epoch 5", "epoch 2"]
        assert len(facts["intervals"]) == 2
        assert "epoch 5" in report.text()

    def test_other_protocols_are_marked(self, people):
        epochs = [("one", epoch(people, 9)), ("two", epoch(people, 2))]
        rules = [Protocol(flip=False, checkpoint="a"), Protocol(flip=True, checkpoint="b")]
        report = compare(people, epochs, rules, resamples=20)
        assert report.differences == ("two: flip: True against False",)
        assert "NOT COMPARABLE" in report.summary()
        assert "do not compare" in report.text()
        assert compare(people, epochs, resamples=20).differences == ()

    @pytest.mark.parametrize(
        ("epochs", "message"), [(["one"], "two epochs or more"), (["one", "one"], "same title")]
    )
    def test_what_cannot_be_compared_is_said(self, people, epochs, message):
        with pytest.raises(ValueError, match=message):
            compare(people, [(title, epoch(people, 1)) for title in epochs])

    def test_nothing_to_be_found_has_no_interval(self, drawn, written):
        data, results = drawn(11)
        for annotation in data["annotations"]:
            annotation["iscrowd"] = 1
        pose_set = read_coco(written(data))
        found = Predictions.from_coco(results)
        report = compare(pose_set, [("one", found), ("two", found)])
        assert "no annotated instance is evaluated" in report.summary()
        report.plot()
