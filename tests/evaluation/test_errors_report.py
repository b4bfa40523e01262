"""The report of errors: slices, visibility, instances behind each number, findings, and what it says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.test_errors import AREA, FAR, ONE, THREE, at, person, pose
from workbench.data.coco import pose_set_of
from workbench.evaluation import Predictions, evaluate
from workbench.evaluation.errors import FALSE_NEGATIVE, FALSE_POSITIVE, SCORING, UNDETECTED, slices
from workbench.evaluation.errors_report import errors
from workbench.evaluation.ground_truth import others_overlapping


def made(people, poses, images=((1, 640, 480),), skeleton=THREE, categories=None):
    """The report on poses of people in images of (id, width, height)."""
    data = {
        "images": [{"id": i, "width": w, "height": h, "file_name": f"{i}.jpg"} for i, w, h in images],
        "annotations": people,
        "categories": categories or [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}],
    }
    pose_set = replace(pose_set_of(data, Path("made.json")), skeleton=skeleton)
    return errors(evaluate(pose_set, Predictions.from_coco(poses)), pose_set)


def test_a_perfect_result_has_no_findings_and_says_so():
    report = made([person(1, ONE), person(2, FAR)], [pose(ONE), pose(FAR)])
    assert report.ap == pytest.approx(1)
    assert report.to_findings() == ()
    assert report.counts["good"] == report.judged == 6
    assert "no repair would give back" in report.summary()
    assert all(delta == pytest.approx(0) for delta in report.delta_ap.values())
    assert [note.text for note in report.plot().layout.annotations] == [
        "no repair gives AP back", "no keypoint is wrong",
    ]  # fmt: skip
    wrong = made([person(1, ONE), person(2, FAR)], [pose(np.add(ONE, 6)), pose(FAR)]).plot()
    assert not wrong.layout.annotations


def test_repairing_all_kinds_of_everything_would_end_at_one():
    """Background errors are repaired by definition: without them AP is what the matched pairs give, then
    1."""
    people = [person(1, ONE), person(2, FAR)]
    report = made(people, [pose(np.add(ONE, 6), 0.5), pose(np.add(ONE, 5000), 0.9)])
    without = report.ap + report.delta_ap[FALSE_POSITIVE]
    assert without + report.delta_ap[FALSE_NEGATIVE] == pytest.approx(1)
    assert report.counts[FALSE_POSITIVE] == 1
    # AP of poses that miss the higher OKS thresholds alone is no finding about poses on nobody.
    causes = {f.cause for f in report.to_findings()}
    none = replace(report, false_positives=report.false_positives[:0])
    assert causes - {f.cause for f in none.to_findings()} == {"background false positive errors"}
    most = replace(none, delta_ap={**none.delta_ap, FALSE_POSITIVE: 0.5})
    assert "background" not in most.summary()
    assert report.counts[FALSE_NEGATIVE] == 1


def test_the_kind_that_costs_most_is_named_with_what_to_do():
    people = [person(1, ONE), person(2, FAR)]
    exchanged = [pose([p[0], p[2], p[1]]) for p in (ONE, FAR)]
    report = made(people, exchanged)
    assert "inversion costs most" in report.summary()
    assert "mirror pairs" in report.summary()
    (first, *_) = report.to_findings()
    assert first.cause == "inversion errors"
    assert first.effect.delta == pytest.approx(report.delta_ap["inversion"])


def test_instances_behind_a_number_are_as_many_as_the_number():
    people = [person(1, ONE), person(2, FAR)]
    poses = [pose([FAR[0], *ONE[1:]], 0.9), pose([FAR[0], FAR[2], FAR[1]], 0.8), pose(np.add(ONE, 5000), 0.1)]
    report = made(people, poses)
    (swap,) = report.instances("swap")
    assert (swap["annotation_id"], swap["detection"], swap["keypoints"], swap["of"]) == (1, 0, ["nose"], 2)
    (inverted,) = report.instances("inversion", 1)
    assert inverted["keypoints"] == ["left_hand", "right_hand"]
    assert report.instances("inversion", 0) == []
    # The second pose has OKS 1/3: it lies on somebody, and found nobody at .5.
    assert [row["detection"] for row in report.instances(FALSE_POSITIVE)] == [1, 2]
    for kind in ("jitter", "inversion", "swap", "miss"):
        assert sum(len(row["keypoints"]) for row in report.instances(kind)) == report.counts[kind]
    for kind in (SCORING, FALSE_POSITIVE, FALSE_NEGATIVE, UNDETECTED):
        assert len(report.instances(kind)) == report.counts[kind]
    with pytest.raises(ValueError, match="jitter"):
        report.instances("jiter")


@pytest.mark.parametrize("poses", [[], [pose(ONE)]])
def test_a_set_without_annotations_has_no_errors_to_sort(poses):
    report = made([], poses)
    assert "no instance that counts" in report.summary()
    assert math.isnan(report.ap)
    assert all(row["judged"] == 0 for row in [*report.per_keypoint(), *report.by_visibility()])
    json.dumps(report.to_json())


def test_an_undetected_instance_is_one_that_no_pose_lies_on():
    """By hand: one of two is found perfectly. Without the undetected one AP is 1; a pose at OKS .3 detects
    it."""
    people = [person(1, ONE), person(2, FAR)]
    report = made(people, [pose(ONE)])
    assert [row["annotation_id"] for row in report.instances(UNDETECTED)] == [2]
    assert report.delta_ap[UNDETECTED] == pytest.approx(1 - report.ap)
    assert "undetected instance costs most" in report.summary()
    near = made(people, [pose(ONE), pose([FAR[0], FAR[2], FAR[1]])])
    assert near.counts[UNDETECTED] == 0
    assert near.counts[FALSE_NEGATIVE] == 1


@pytest.mark.parametrize(
    ("wrong", "near", "advice"),
    [
        ([FAR[0], FAR[2], FAR[1]], 1, "most of these poses lie on an instance"),
        (np.add(ONE, 5000), 0, "poses lie on nobody"),
    ],
)
def test_a_badly_placed_pose_is_not_said_to_lie_on_nobody(wrong, near, advice):
    report = made([person(1, ONE), person(2, FAR)], [pose(wrong, 0.9), pose(ONE, 0.3)])
    found = next(one for one in report.to_findings() if one.cause == "background false positive errors")
    lie = "lies" if near == 1 else "lie"
    assert f"1 pose has no annotation at OKS .5, of which {near} {lie} on one at OKS .1" in found.evidence
    assert advice in found.fix
    own = replace(report, protocol=replace(report.protocol, boxes="annotation"))
    assert not any("detector" in one.fix for one in own.to_findings())


def test_without_a_detector_nobody_is_sent_to_its_boxes():
    report = made([person(1, ONE), person(2, FAR)], [pose(ONE)])
    assert "detector's boxes" in report.summary()
    own = replace(report, protocol=replace(report.protocol, boxes="annotation"))
    assert "detector" not in own.summary()
    assert "look at these crops" in own.summary()


def test_a_scoring_error_names_both_poses():
    report = made([person(1, ONE)], [pose(np.add(ONE, 6), 0.9), pose(ONE, 0.3)])
    (row,) = report.instances(SCORING)
    assert (row["annotation_id"], row["detection"], row["better"]) == (1, 0, 1)


def test_scores_that_rank_poses_of_different_images_wrongly_cost_ap_with_no_scoring_error():
    """By hand, two images with one pose each: the exact one has the lower score. From the OKS threshold on at
    which the other is wrong, precision is 1/2 up to recall 1/2; ranked by OKS it is 1 (51 of 101 recalls)."""
    people = [person(1, ONE), person(2, ONE, image=2)]
    poses = [pose(np.add(ONE, 6), 0.9), pose(ONE, 0.3, image=2)]
    report = made(people, poses, images=((1, 640, 480), (2, 640, 480)))
    assert report.counts[SCORING] == 0
    assert report.found.oks.min() == pytest.approx(math.exp(-0.36))  # .698: wrong from .70 to .95, 6 of 10
    assert report.delta_ap[SCORING] == pytest.approx(6 / 10 * 51 / 101 / 2)
    found = next(one for one in report.to_findings() if one.cause == "scoring errors")
    assert "ranks the poses of all images; in 0 instances a worse pose" in found.evidence
    assert "all images ranked by OKS" in report.text()


class TestSlices:
    def test_sizes_are_small_below_32_squared_and_large_above_96_squared(self):
        people = [person(i, np.add(ONE, 700 * i), area=a) for i, a in enumerate((1023, 1024, 9216, 9217), 1)]
        report = made(people, [pose(np.add(ONE, 700 * i)) for i in (1, 2)])
        rows = {r["slice"][:6]: r for r in report.by_slice() if r["by"] == "size"}
        assert [(rows[n]["instances"], rows[n]["missed"]) for n in ("small,", "medium", "large,")] == [
            (1, 0), (2, 1), (1, 1)
        ]  # fmt: skip
        assert rows["small,"]["AP"] == pytest.approx(1)
        assert rows["large,"]["AP"] == 0

    def test_the_ap_of_a_size_is_cocos_own(self):
        people = [person(1, ONE, area=2000), person(2, FAR, area=20000)]
        stray = pose(np.add(np.multiply(ONE, 4), 300), 0.9)  # of nobody, and large
        report = made(people, [pose(ONE, 0.5), pose(FAR, 0.5), stray])
        rows = {r["slice"][:6]: r["AP"] for r in report.by_slice() if r["by"] == "size"}
        figures = report.result.figures
        assert rows == {"medium": figures["APM"], "large,": figures["APL"]}
        assert figures["APL"] < figures["APM"] == pytest.approx(1)

    def test_crowding_counts_boxes_that_overlap_by_more_than_a_tenth(self):
        moved = np.add(ONE, (45, 0))  # 15 x 60 of 2 * 3600 - 900: IoU .143
        apart = np.add(ONE, (50, 0))  # 10 x 60 of 2 * 3600 - 600: IoU .091
        for second, others in ((moved, [1, 1]), (apart, [0, 0])):
            truth = made([person(1, ONE), person(2, second)], []).result.truth
            assert others_overlapping(truth).tolist() == others

    def test_published_groups_of_labelled_keypoints_come_out_for_17(self):
        from workbench.skeletons import SKELETONS

        coco = SKELETONS["coco-17"]
        points = np.arange(34.0).reshape(17, 2)
        people = [person(n, points, (2,) * n + (0,) * (17 - n)) for n in range(1, 18)]
        report = made(people, [], skeleton=coco)
        names = [p.name for p in slices(report.result.truth) if p.by == "labelled keypoints"]
        assert names == ["1 to 5 labelled", "6 to 10 labelled", "11 to 15 labelled", "16 to 17 labelled"]

    def test_categories_are_told_apart_only_where_there_are_several(self):
        kinds = [
            {"id": i, "name": n, "keypoints": list(THREE.keypoints)} for i, n in ((1, "cat"), (2, "dog"))
        ]
        people = [person(1, ONE), {**person(2, FAR), "category_id": 2}]
        report = made(people, [pose(ONE)], categories=kinds)
        rows = {r["slice"]: r for r in report.by_slice() if r["by"] == "category"}
        assert rows["cat"]["AP"] == pytest.approx(1)
        assert rows["dog"]["missed"] == 1
        assert not [r for r in made([person(1, ONE)], []).by_slice() if r["by"] == "category"]

    def test_instances_of_a_slice_are_its_own(self):
        people = [person(1, ONE), person(2, np.add(FAR, 0), area=500.0)]
        report = made(people, [pose([ONE[0], ONE[2], ONE[1]])])
        parts = {p.name[:5]: i for i, p in enumerate(report.slices) if p.by == "size"}
        assert len(report.instances("inversion", part=parts["large"])) == 1
        assert report.instances("inversion", part=parts["small"]) == []
        assert [r["annotation_id"] for r in report.instances(FALSE_NEGATIVE, part=parts["small"])] == [2]


class TestVisibility:
    def test_visible_occluded_and_outside_points_are_judged_separately(self):
        people = [person(1, [(-4, 10), (60, 10), (0, 70)], (2, 1, 2))]
        report = made(people, [pose([(-4, 10), (60, 10 + at(0.7)), (0, 70)])])
        rows = {r["points"]: r for r in report.by_visibility()}
        assert rows["outside the image"]["good"] == 1
        assert rows["occluded"]["jitter"] == 1
        assert rows["visible"]["good"] == 1
        assert sum(r["judged"] for r in rows.values()) == report.judged

    def test_a_pixel_reaches_half_a_pixel_beyond_its_centre(self):
        inside = [(-0.5, 0), (639.5, 0), (0, 479.5)]
        beyond = [(-0.6, 0), (639.6, 0), (0, 479.6)]
        for points, expected in ((inside, 0), (beyond, 3)):
            rows = made([person(1, points)], [pose(points)]).by_visibility()
            assert {r["points"]: r["judged"] for r in rows}["outside the image"] == expected

    def test_points_that_the_model_puts_outside_are_counted(self):
        report = made([person(1, np.add(ONE, 1))], [pose([(-30, 1), (61, 1), (1, 61)])])
        assert report.strayed == 1

    def test_images_of_unknown_size_have_no_outside(self):
        report = made([person(1, [(-4, 10), (60, 10), (0, 70)])], [pose([(-4, 10), (60, 10), (0, 70)])],
                      images=((1, None, None),))  # fmt: skip
        assert {r["points"]: r["judged"] for r in report.by_visibility()}["outside the image"] == 0


class TestOddInput:
    def test_no_results_are_no_errors_of_keypoints_and_everybody_is_missed(self):
        report = made([person(1, ONE)], [])
        assert report.judged == 0
        assert report.counts[FALSE_NEGATIVE] == 1
        assert "check that results and annotations" in report.summary()
        assert report.plot().layout.title.text
        json.dumps(report.to_json(), allow_nan=False)

    def test_no_annotations_are_said_to_be_none(self):
        report = made([person(1, ONE, (0, 0, 0))], [pose(ONE)])
        assert math.isnan(report.ap)
        assert "no instance that counts" in report.summary()
        assert report.to_findings() == ()
        assert report.text() == report.summary()
        json.dumps(report.to_json(), allow_nan=False)

    def test_without_mirror_pairs_it_says_that_inversions_are_not_judged(self):
        plain = replace(THREE, mirror=())
        report = made([person(1, ONE)], [pose([ONE[0], ONE[2], ONE[1]])], skeleton=plain)
        assert "inversion" not in report.delta_ap
        assert report.counts["inversion"] == 0
        assert report.to_json()["inversions_judged"] is False
        assert "inversions are not judged" in report.text()

    def test_absent_keypoints_written_as_zero_or_minus_one_are_misses(self):
        moved = np.add(ONE, 300)
        for gone in ((0, 0, 0), (-1, -1, 0)):
            entry = pose(moved)
            entry["keypoints"][:3] = gone
            assert made([person(1, moved)], [entry]).counts["miss"] == 1

    def test_keypoints_that_are_nan_in_memory_are_misses(self):
        report = made([person(1, np.add(ONE, 300))], [])
        predictions = Predictions.from_coco([pose(np.add(ONE, 300))])
        points = predictions.keypoints.copy()
        points[0, 0] = np.nan
        with_nan = replace(predictions, keypoints=points)
        from workbench.evaluation.errors import localise
        from workbench.evaluation.keypoint_ap import keypoint_ap

        result = keypoint_ap(report.result.truth, with_nan.detections(), THREE.sigmas)
        assert localise(result, THREE.mirror).counts().sum(0).tolist() == [2, 0, 0, 0, 1]


def test_json_has_counts_per_keypoint_and_delta_ap():
    facts = made([person(1, ONE)], [pose(np.add(ONE, 3))]).to_json()
    assert set(facts) >= {"counts", "per_keypoint", "delta_ap", "AP", "slices", "visibility", "protocol"}
    assert [row["keypoint"] for row in facts["per_keypoint"]] == list(THREE.keypoints)
    assert facts["counts"]["good"] == 3
    assert AREA == 100.0**2
