"""Pairs of keypoints that part of the annotations has exchanged, and sets in which none are."""

from __future__ import annotations

import numpy as np
import pytest

from tests.diagnosis.planted_results import good_poses
from tests.diagnosis.second_systems import axes_in_part
from tests.diagnosis.systems import RTMPOSE
from workbench.diagnosis.exchanged_pairs import is_of_labels, pairs_in_part
from workbench.diagnosis.placing_causes import exchanged_images
from workbench.evaluation.predictions import Predictions

K, MIRROR, SCALE = 8, (1, 0, 2, 3, 4, 5, 6, 7), np.full(60, 100.0)


def poses(noise=2.0):
    """Sixty poses near their labels."""
    random = np.random.default_rng(0)
    truth = np.full((60, K, 3), 2.0)
    truth[..., :2] = random.uniform(0, 100, (60, K, 2))
    return truth[..., :2] + random.normal(0, noise, (60, K, 2)), truth


def exchanged(truth, share, *pairs):
    order = np.arange(K)
    for a, b in pairs:
        order[[a, b]] = b, a
    truth = truth.copy()
    chosen = np.random.default_rng(1).random(60) < share
    truth[chosen] = truth[chosen][:, order]
    return truth


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_two_pairs_that_are_exchanged_together_are_found(share):
    points, truth = poses()
    found = pairs_in_part(points, exchanged(truth, share, (2, 5), (3, 7)), SCALE, MIRROR, 0.06)
    assert sorted(map(tuple, found.tolist())) == [(2, 5), (3, 7)]


def test_left_and_right_one_pair_alone_and_pairs_of_different_instances_are_not():
    points, truth = poses()
    assert len(pairs_in_part(points, truth, SCALE, MIRROR, 0.06)) == 0
    assert len(pairs_in_part(points, exchanged(truth, 0.4, (0, 1)), SCALE, MIRROR, 0.06)) == 0
    assert len(pairs_in_part(points, exchanged(truth, 0.4, (2, 5)), SCALE, MIRROR, 0.06)) == 0
    apart = truth.copy()
    apart[:20] = apart[:20][:, [0, 1, 5, 3, 4, 2, 6, 7]]
    apart[40:] = apart[40:][:, [0, 1, 2, 7, 4, 5, 6, 3]]
    assert len(pairs_in_part(points, apart, SCALE, MIRROR, 0.06)) == 0


def test_poses_that_are_wrong_by_chance_give_none():
    points, truth = poses(noise=40.0)
    assert len(pairs_in_part(points, truth, SCALE, MIRROR, 0.06)) == 0


def test_poses_that_a_network_turned_round_are_no_exchange_of_labels():
    points, truth = poses()
    pairs, chosen = np.array([(2, 5), (3, 7)]), np.arange(60) < 12
    labels = truth.copy()
    labels[chosen] = labels[chosen][:, [0, 1, 5, 7, 4, 2, 6, 3]]
    assert is_of_labels(points, labels, SCALE, pairs, chosen)
    # The network took the animal for one that looks the other way: all of the pose is there, and not exactly.
    away = points.copy()
    away[chosen] = away[chosen][:, [4, 6, 5, 7, 0, 2, 1, 3]]
    assert not is_of_labels(away, truth, SCALE, pairs, chosen)
    near = points.copy()
    near[chosen] = (
        near[chosen][:, [0, 1, 5, 7, 4, 2, 6, 3]] + np.where(np.isin(np.arange(8), pairs), 15, 0)[:, None]
    )
    assert not is_of_labels(near, truth, SCALE, pairs, chosen)


@pytest.mark.parametrize(("share", "high"), [(0.5, 0.05), (0.1, 0.3), (0.0, 0.05), (0.0, 0.8), (1.0, 0.05)])
def test_images_whose_x_and_y_are_exchanged_are_told_from_the_others(share, high):
    """Poor poses are not taken for exchanged ones; where all are exchanged, none is told apart."""
    pose_set = RTMPOSE.pose_set()
    found = good_poses(pose_set, high=high)
    axes_in_part(share)(found)
    named = exchanged_images(Predictions.from_coco(found), pose_set)
    ids = sorted({entry["image_id"] for entry in found})
    planted = set(ids[: round(share * len(ids))])
    if 0 < share < 1:
        assert named <= planted
        # Poses near the diagonal look alike.
        assert len(named) >= 0.7 * len(planted)
    else:
        assert named == frozenset()
