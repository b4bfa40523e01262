"""Kinds of keypoint errors by hand, repairs by law, and all figures equal to those of the authors' own
code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.core import Skeleton
from workbench.evaluation.errors import (
    KINDS,
    ap_of,
    background,
    localise,
    optimal_scores,
    repaired,
    scoring_errors,
    without_background,
)
from workbench.evaluation.ground_truth import GroundTruth, others_overlapping
from workbench.evaluation.keypoint_ap import KeypointAP, keypoint_ap
from workbench.evaluation.predictions import Detections
from workbench.skeletons import SKELETONS

COCO = SKELETONS["coco-17"]
# Two keypoints with a left-right pair, and one on the midline; sigma .05 in an area of 100 x 100: 10 pixels.
THREE = Skeleton("three", ("nose", "left_hand", "right_hand"), (), (0, 2, 1), (0.05,) * 3, "made up")
AREA = 100.0**2
# Distance, in pixels, at which a keypoint's similarity is s: exp(-d^2 / (2 * .05)^2 / AREA / 2) = s.


def at(similarity: float) -> float:
    return float(np.sqrt(-np.log(similarity) * 2 * (2 * 0.05) ** 2 * AREA))


def person(number, points, v=(2, 2, 2), image=1, area=AREA, **more):
    points = np.asarray(points, float)
    keypoints = np.concatenate([points, np.array(v)[:, None]], 1)
    box = [*points.min(0), *np.ptp(points, axis=0)]
    return {"id": number, "image_id": image, "category_id": 1, "keypoints": keypoints.ravel().tolist(),
            "area": area, "bbox": [float(b) for b in box], "iscrowd": 0,
            "num_keypoints": sum(x > 0 for x in v), **more}  # fmt: skip


def pose(points, score=1.0, image=1):
    keypoints = np.concatenate([np.asarray(points, float), np.ones((len(points), 1))], 1)
    return {"image_id": image, "category_id": 1, "keypoints": keypoints.ravel().tolist(), "score": score}


def result_of(people, poses, skeleton=THREE, images=(1,), max_dets=20) -> KeypointAP:
    data = {"images": [{"id": i} for i in images], "annotations": people,
            "categories": [{"id": 1, "name": "person"}]}  # fmt: skip
    return keypoint_ap(GroundTruth.from_coco(data), Detections.from_coco(poses), skeleton.sigmas, max_dets)


def kinds(found, m=0):
    return [KINDS[k] if k >= 0 else None for k in found.kind[m]]


ONE = [(0, 0), (60, 0), (0, 60)]
FAR = [(300, 300), (360, 300), (300, 360)]


class TestKinds:
    def test_each_kind_by_hand_one_keypoint_moved_each_time(self):
        """The hands stay where they are, so that the pose lies on the annotation."""
        cases = {
            "good": (0, at(0.86)), "jitter": (0, at(0.84)), "miss": (0, at(0.49)),
        }  # fmt: skip
        for kind, (x, y) in cases.items():
            found = localise(result_of([person(1, ONE)], [pose([(x, y), *ONE[1:]])]), THREE.mirror)
            assert kinds(found) == [kind, "good", "good"], kind

    def test_at_the_limits_a_keypoint_is_good_and_still_on_the_body_part(self):
        for similarity, kind in ((0.85, "good"), (0.5, "jitter")):
            moved = at(similarity) * (1 - 1e-9)
            found = localise(result_of([person(1, ONE)], [pose([(0, moved), *ONE[1:]])]), THREE.mirror)
            assert kinds(found)[0] == kind
            assert found.similarity[0, 0] == pytest.approx(similarity, abs=1e-6)

    def test_hands_exchanged_are_inversions(self):
        found = localise(result_of([person(1, ONE)], [pose([ONE[0], ONE[2], ONE[1]])]), THREE.mirror)
        assert kinds(found) == ["good", "inversion", "inversion"]
        np.testing.assert_allclose(found.similarity[0], 1)

    def test_without_mirror_pairs_nothing_is_an_inversion(self):
        found = localise(result_of([person(1, ONE)], [pose([ONE[0], ONE[2], ONE[1]])]), ())
        assert kinds(found) == ["good", "miss", "miss"]

    def test_a_keypoint_on_somebody_elses_is_a_swap_and_names_whose(self):
        people = [person(1, ONE), person(2, FAR)]
        found = localise(result_of(people, [pose([FAR[0], *ONE[1:]])]), THREE.mirror)
        assert kinds(found) == ["swap", "good", "good"]
        assert found.other[0].tolist() == [1, -1, -1]

    def test_a_keypoint_on_somebody_elses_mirror_partner_is_a_swap_too(self):
        people = [person(1, ONE), person(2, FAR)]
        found = localise(result_of(people, [pose([ONE[0], FAR[2], ONE[2]])]), THREE.mirror)
        assert kinds(found) == ["good", "swap", "good"]

    def test_of_equal_similarities_the_own_comes_first(self):
        """Another person's nose lies exactly on this one's; the midline's mirror partner is itself."""
        people = [person(1, ONE), person(2, [ONE[0], *FAR[1:]])]
        found = localise(result_of(people, [pose(ONE)]), THREE.mirror)
        assert kinds(found) == ["good", "good", "good"]

    def test_the_nearest_body_part_decides_also_where_the_own_one_is_near(self):
        """Similarity .6 with the own hand would be jitter, but .9 with the other hand is larger."""
        between = [(0, 0), (at(0.6), 0), (at(0.6) + at(0.9), 0)]
        found = localise(result_of([person(1, [(0, 0), (0, 0), between[2]])], [pose(between)]), THREE.mirror)
        assert kinds(found)[1] == "inversion"

    def test_nearer_to_the_mirror_partner_and_on_its_own_place_it_is_an_ambiguous_inversion(self):
        """Both hands are 2 px apart: the pose's left one lies on the right one, similarity .98 with its
        own."""
        close = [(0, 0), (60, 0), (62, 0)]
        moved = [close[0], close[2], (62, 30)]
        found = localise(result_of([person(1, close)], [pose(moved)]), THREE.mirror)
        assert kinds(found)[1] == "inversion"
        assert found.own[0, 1] == pytest.approx(np.exp(-4 / 0.01 / AREA / 2))
        assert found.ambiguous("inversion") == 1
        assert found.ambiguous("swap") == 0

    def test_unlabelled_keypoints_are_not_judged(self):
        found = localise(result_of([person(1, ONE, (2, 0, 1))], [pose(ONE)]), THREE.mirror)
        assert kinds(found) == ["good", None, "good"]
        assert np.isnan(found.similarity[0, 1])

    def test_a_keypoint_that_was_not_given_is_a_miss(self):
        moved = np.add(ONE, 200)
        gone = pose(moved)
        gone["keypoints"][:3] = [0, 0, 0]
        found = localise(result_of([person(1, moved)], [gone]), THREE.mirror)
        assert kinds(found) == ["miss", "good", "good"]

    def test_a_pose_on_nobody_and_a_person_without_keypoints_are_not_judged(self):
        people = [person(1, ONE), person(2, FAR, (0, 0, 0))]
        found = localise(result_of(people, [pose(np.add(ONE, 5000)), pose(FAR)]), THREE.mirror)
        assert found.kind.shape == (0, 3)
        assert found.counts().sum() == 0

    def test_a_crowd_region_takes_no_part(self):
        found = localise(result_of([person(1, ONE, iscrowd=1)], [pose(ONE)]), THREE.mirror)
        assert len(found.detection) == 0

    def test_people_of_other_images_are_not_compared(self):
        people = [person(1, ONE), person(2, FAR, image=2)]
        found = localise(result_of(people, [pose([FAR[0], *ONE[1:]])], images=(1, 2)), THREE.mirror)
        assert kinds(found) == ["miss", "good", "good"]


class TestRepairs:
    def test_a_repaired_keypoint_has_the_similarity_at_its_kinds_limit(self):
        people = [person(1, ONE), person(2, FAR)]
        wrong = [pose([(0, at(0.6)), (60, at(0.1)), (0, 60)]), pose([ONE[0], *FAR[1:]])]
        result = result_of(people, wrong)
        found = localise(result, THREE.mirror)
        again = replace(result, detections=repaired(result, found, KINDS))
        after = localise(again, THREE.mirror)
        similarity = {(int(g), k): s for g, row in zip(after.truth, after.similarity, strict=True)
                      for k, s in enumerate(row)}  # fmt: skip
        assert similarity[0, 0] == pytest.approx(0.85)  # jitter
        assert similarity[0, 1] == pytest.approx(0.5)  # miss
        assert similarity[1, 0] == pytest.approx(1.0)  # swap: as near as it was to the wrong nose
        assert similarity[0, 2] == pytest.approx(1.0)  # good: untouched

    def test_only_the_kinds_asked_for_move(self):
        result = result_of([person(1, ONE)], [pose([(0, at(0.6)), (60, at(0.1)), (0, 60)])])
        found = localise(result, THREE.mirror)
        before = result.detections.keypoints
        moved = repaired(result, found, ("jitter",)).keypoints
        assert (moved[0, 0] != before[0, 0]).any()
        np.testing.assert_array_equal(moved[0, 1:], before[0, 1:])
        np.testing.assert_array_equal(repaired(result, found, ()).keypoints, before)
        np.testing.assert_array_equal(repaired(result, found, ("good",)).keypoints, before)

    def test_nothing_repaired_leaves_ap_as_the_evaluator_has_it(self, crowd):
        result = crowd[0]
        found = localise(result, COCO.mirror)
        assert ap_of(result, repaired(result, found, ())) == result.figures["AP"]

    def test_everything_repaired_exactly_is_perfect_localisation(self, crowd):
        """Every detection on an annotation then has OKS 1 with it: AP is that of the same pairs, made
        perfect."""
        result = crowd[0]
        found = localise(result, COCO.mirror)
        perfect = result.detections.keypoints.copy()
        truth = result.truth.keypoints[found.truth]
        labelled = truth[..., 2:] > 0
        perfect[found.detection] = np.where(labelled, truth[..., :2], perfect[found.detection])
        expected = ap_of(result, replace(result.detections, keypoints=perfect))
        # Good keypoints are not moved by a repair, so make them perfect first.
        nearly = replace(
            result,
            detections=repaired(result, replace(found, kind=np.maximum(found.kind, -1)), KINDS, "exact"),
        )
        good = found.kind == KINDS.index("good")
        points = nearly.detections.keypoints.copy()
        points[found.detection] = np.where(good[..., None], truth[..., :2], points[found.detection])
        assert ap_of(result, replace(result.detections, keypoints=points)) == pytest.approx(expected)
        assert expected > result.figures["AP"]

    def test_repairs_never_lower_ap_on_the_crowd(self, crowd):
        result = crowd[0]
        found = localise(result, COCO.mirror)
        for kind in KINDS[1:]:
            for how in ("published", "coco-analyze", "exact"):
                assert ap_of(result, repaired(result, found, (kind,), how)) >= result.figures["AP"] - 1e-12

    def test_counts_sum_to_the_labelled_keypoints_of_the_judged_detections(self, crowd):
        result = crowd[0]
        found = localise(result, COCO.mirror)
        labelled = (result.truth.keypoints[found.truth][..., 2] > 0).sum()
        assert found.counts().sum() == labelled

    def test_optimal_scores_rank_the_better_of_two_first_and_lower_the_double(self):
        result = result_of([person(1, ONE)], [pose(np.add(ONE, 8), 0.9), pose(ONE, 0.2)])
        best = optimal_scores(result)
        assert best[1] == pytest.approx(1)
        # 8 pixels to the right and down: OKS exp(-.64) with the person; with its double, in the extent of 60
        # x 60 pixels, exp(-128 / .01 / 3600 / 2).
        twice = np.exp(-128 / 0.01 / 3600 / 2)
        assert best[0] == pytest.approx(np.exp(-0.64) * np.exp(-2 * twice**2))
        ranked = ap_of(result, replace(result.detections, score=best))
        assert ranked == pytest.approx(1)
        assert result.figures["AP"] < 0.7

    def test_thousands_in_one_image_are_refused_before_each_is_compared_with_each(self):
        with pytest.raises(ValueError, match="detections: one image has 3,000 of them, too many"):
            optimal_scores(result_of([person(1, ONE)], [pose(ONE)] * 3000))
        crowd = result_of([person(n + 1, ONE) for n in range(3000)], [pose(ONE, 0.5)]).truth
        with pytest.raises(ValueError, match="annotations: one image has 3,000 of them, too many"):
            others_overlapping(crowd)
        three = [person(1, ONE), person(2, ONE), person(3, FAR)]
        assert others_overlapping(result_of(three, []).truth).tolist() == [1, 1, 0]

    def test_a_pose_on_nobody_gets_the_score_of_its_oks(self):
        result = result_of([person(1, ONE)], [pose(np.add(ONE, 5000), 0.9)])
        assert optimal_scores(result).tolist() == [0]

    def test_without_detections_on_nobody_ap_is_that_of_the_others(self):
        result = result_of([person(1, ONE)], [pose(np.add(ONE, 5000), 0.9), pose(ONE, 0.5)])
        assert result.figures["AP"] == pytest.approx(0.5)
        assert without_background(result) == pytest.approx(1)


class TestInstances:
    def test_background_errors_are_detections_of_nobody_and_missed_people(self):
        people = [person(1, ONE), person(2, FAR), person(3, np.add(ONE, 2000), (0, 0, 0))]
        alone, missed = background(result_of(people, [pose(ONE), pose(np.add(ONE, 5000), 0.4)]))
        assert alone.tolist() == [1]
        assert missed.tolist() == [1]

    def test_a_worse_pose_above_a_better_one_is_a_scoring_error(self):
        people = [person(1, ONE), person(2, FAR)]
        poses = [pose(np.add(ONE, 6), 0.9), pose(ONE, 0.3), pose(FAR, 0.8), pose(np.add(FAR, 6), 0.1)]
        (error,) = scoring_errors(result_of(people, poses))
        assert (error.truth, error.highest, error.best) == (0, 0, 1)
        assert error.oks[1] == pytest.approx(1)
        assert error.scores == (0.9, 0.3)


@pytest.fixture(scope="module")
def crowd():
    """People with errors of all kinds, and what the authors' code says of them."""
    made = json.loads((Path(__file__).parent / "errors_crowd.json").read_text())
    truth, detections = GroundTruth.from_coco(made["annotations"]), Detections.from_coco(made["results"])
    return keypoint_ap(truth, detections, COCO.sigmas), made["expected"]


class TestParity:
    """With matteorr/coco-analyze@9eb8a0a, run on the same json files (area range from 0, its own repairs)."""

    def test_counts_of_every_kind_and_keypoint(self, crowd):
        result, expected = crowd
        found = localise(result, COCO.mirror)
        assert len(found.detection) == expected["matched"]
        for number, kind in enumerate(KINDS):
            assert found.counts()[:, number].tolist() == expected[kind], kind

    def test_ap_given_back_by_every_repair(self, crowd):
        result, expected = crowd
        found, ap = localise(result, COCO.mirror), result.figures["AP"]
        assert ap == pytest.approx(expected["AP"], abs=1e-12)
        for kind in KINDS[1:]:
            given = ap_of(result, repaired(result, found, (kind,), "coco-analyze")) - ap
            assert given == pytest.approx(expected[f"delta_{kind}"], abs=1e-12), kind
        assert without_background(result) - ap == pytest.approx(expected["delta_fp"], abs=1e-12)

    def test_optimal_scores(self, crowd):
        result, expected = crowd
        best = optimal_scores(result)
        np.testing.assert_allclose(best, expected["opt"], atol=1e-12)
        given = ap_of(result, replace(result.detections, score=best)) - result.figures["AP"]
        assert given == pytest.approx(expected["delta_score"], abs=1e-12)

    def test_background_errors_at_half(self, crowd):
        result, expected = crowd
        alone, missed = background(result)
        assert (len(alone), len(missed)) == (expected["fp50"], expected["fn50"])
