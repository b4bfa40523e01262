"""Gains are paired; what undoes nothing is not chosen, and two causes at once are told apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from workbench.data import builtin
from workbench.diagnosis.box_causes import extents_stated, without_pose
from workbench.diagnosis.evidence import Change, Evidence, gain
from workbench.diagnosis.label_causes import orders_of_categories, recovered_order
from workbench.diagnosis.norm_statistics import median_off
from workbench.diagnosis.separation import Separation
from workbench.evaluation.predictions import Predictions


@pytest.fixture(scope="module")
def scenes():
    return builtin("scenes-val")


def perfect(pose_set, noise=0.0, seed=0):
    """Poses at the annotations, as a result file gives them one for each instance."""
    chosen = [pose_set.instances[i] for i in pose_set.labelled]
    points = np.stack([np.asarray(i.truth, float)[:, :2] for i in chosen])
    size = np.sqrt([i.area for i in chosen])[:, None, None]
    points += np.random.default_rng(seed).normal(0, 1, points.shape) * noise * size
    K = points.shape[1]
    return Predictions(
        np.array([i.image_id for i in chosen]), np.array([i.category_id for i in chosen]),
        np.array([i.box for i in chosen]), points, np.ones((len(chosen), K)), np.ones(len(chosen)),
        np.array([i.annotation_id for i in chosen]),
    )  # fmt: skip


def evidence(pose_set, found):
    return Evidence(pose_set, pose_set.labelled, given=found)


def moved(pixels):
    def change(found):
        return dataclasses.replace(found, keypoints=found.keypoints + pixels)

    return change


def test_perfect_poses_have_an_oks_of_one_and_no_change_gains(scenes):
    evidence_of = evidence(scenes, perfect(scenes))
    assert evidence_of.measure().mean_oks == pytest.approx(1.0)
    away = Change("moved", "moved", "poses", moved(5.0))
    found = gain(evidence_of.measure(), evidence_of.measure([away]))
    assert found.oks < 0
    assert found.high < 0
    assert Separation(evidence_of, [away]).result().chosen == ()


def test_of_one_image_there_is_no_interval_and_only_a_large_gain_is_certain(scenes):
    poses = perfect(scenes)
    image_id, one = next(iter(scenes.labelled_of_image.items()))
    poses = poses.take(np.flatnonzero(poses.image_id == image_id))
    for shift, certain in ((2.0, False), (60.0, True)):
        evidence_of = Evidence(scenes, one, given=moved(shift)(poses))
        back = Change("shift", "moved back", "poses", moved(-shift), fix="move them back")
        found = gain(evidence_of.measure(), evidence_of.measure([back]), with_ap=True)
        assert found.oks > 0.02
        assert np.isnan([found.low, found.high, found.AP_low, found.AP_high]).all()
        assert (found.certain(back), found.open(back)) == (certain, True)
        assert found.text().endswith("(1 image is too few for an interval)")


def test_the_gain_of_undoing_a_shift_is_what_the_shift_cost(scenes):
    spoilt = moved(8.0)(perfect(scenes, 0.01))
    evidence_of = evidence(scenes, spoilt)
    back = Change("shift", "moved back", "poses", moved(-8.0), fix="move them back")
    half = Change("other", "moved up a little", "poses", lambda found: moved(np.array([0.0, -1.0]))(found))
    apart = Separation(evidence_of, [half, back]).result()
    assert apart.chosen[0] is back
    whole = evidence(scenes, perfect(scenes, 0.01)).measure().mean_oks
    assert evidence_of.measure([back]).mean_oks == pytest.approx(whole)
    assert apart.alone[back].oks == pytest.approx(whole - evidence_of.measure().mean_oks)


def test_two_causes_at_once_are_both_chosen_and_each_adds_to_the_other(scenes):
    def exchanged(found):
        return dataclasses.replace(found, keypoints=found.keypoints[:, ::-1].copy())

    spoilt = exchanged(moved(8.0)(perfect(scenes, 0.01)))
    evidence_of = evidence(scenes, spoilt)
    back = Change("shift", "moved back", "poses", moved(-8.0))
    order = Change("order", "order turned", "poses", exchanged)
    nothing = Change("nothing", "nothing", "poses", lambda found: found)
    apart = Separation(evidence_of, [nothing, back, order]).result()
    assert {change.cause for change in apart.chosen} == {"shift", "order"}
    assert apart.together is not None
    assert apart.together.oks > max(apart.alone[change].oks for change in apart.chosen)
    assert all(apart.last[change].oks > 0.02 for change in apart.chosen)


def test_causes_that_explain_the_same_are_named_together(scenes):
    evidence_of = evidence(scenes, moved(8.0)(perfect(scenes, 0.01)))
    one = Change("one", "moved back", "poses", moved(-8.0))
    two = Change("two", "moved back by another hand", "poses", moved(-8.0))
    apart = Separation(evidence_of, [one, two]).result()
    assert len(apart.chosen) == 1
    assert [change.cause for change in apart.alike[apart.chosen[0]]] == ["two"]


def test_a_permutation_of_keypoints_is_recovered(scenes):
    order = np.array([3, 0, 1, 2, *range(4, 15), 16, 15])
    found = perfect(scenes, 0.02)
    assert recovered_order(found, scenes) is None
    spoilt = dataclasses.replace(found, keypoints=found.keypoints[:, order])
    recovered = recovered_order(spoilt, scenes)
    assert recovered is not None
    np.testing.assert_array_equal(order[recovered], np.arange(17))


@pytest.mark.filterwarnings("error")
def test_what_is_found_or_labelled_nowhere_gives_no_warning_of_numpy(scenes):
    found = perfect(scenes, 0.02)
    points = found.keypoints.copy()
    points[:, 5], points[0] = np.nan, np.nan
    lost = dataclasses.replace(found, keypoints=points)
    assert recovered_order(lost, scenes) is None
    assert not extents_stated(lost)
    assert without_pose(lost, scenes).sum() == without_pose(found, scenes).sum()
    assert np.isnan(median_off([]))


def test_the_order_of_one_category_is_recovered(scenes):
    found, order = perfect(scenes, 0.02), np.array([0, 1, 2, 4, 3, *range(5, 17)])
    assert orders_of_categories(found, scenes) == {}
    of = {one.annotation_id: one.category_id for one in scenes.instances}
    own = np.array([of[number] == 3 for number in found.annotation_id.tolist()])
    for changed, expected in ((order, {3: order.tolist()}), (np.array(scenes.skeleton.mirror), {})):
        points = found.keypoints.copy()
        points[own] = points[own][:, changed]
        orders = orders_of_categories(dataclasses.replace(found, keypoints=points), scenes)
        assert {number: one.tolist() for number, one in orders.items()} == expected


def test_a_change_that_cannot_be_measured_is_told(scenes):
    def refuse(found):
        raise ValueError("the maps have another shape")

    broken = Change("broken", "broken", "poses", refuse)
    apart = Separation(evidence(scenes, perfect(scenes, 0.02)), [broken]).result()
    assert apart.failed[broken] == "the maps have another shape"


def test_other_sigmas_judge_the_same_poses_and_leave_the_evidence_as_it_is(scenes):
    evidence_of = evidence(scenes, perfect(scenes, 0.05))
    sigmas = [2 * value for value in scenes.skeleton.sigmas]
    twice = evidence_of.with_sigmas(sigmas).measure()
    assert twice.mean_oks > evidence_of.measure().mean_oks + 0.05
    same = Evidence(scenes, scenes.labelled, given=evidence_of.given, sigmas=sigmas).measure()
    assert twice.ap.figures == same.ap.figures
