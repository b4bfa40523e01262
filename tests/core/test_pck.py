"""One set of functions counts every PCK: lengths, distances and means by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.pck import BOX_LENGTHS, box_lengths, distances, pck_by_image, pck_by_keypoint, pooled_pck

# Two images of a box of 30 x 40 pixels; keypoints 1, 5 and 10 pixels off, one unlabelled, one not predicted.
TRUTH = np.array([[[0, 0, 2], [0, 0, 2], [0, 0, 2]], [[0, 0, 0], [0, 0, 1], [0, 0, 1]]], float)
FOUND = np.array([[[1, 0], [3, 4], [6, 8]], [[0, 0], [1, 0], [np.nan, np.nan]]], float)


def test_the_lengths_of_a_box_are_those_by_hand():
    lengths = [float(box_lengths([(10, 20, 40, 60)], length)[0]) for length in BOX_LENGTHS]
    assert lengths == [40, 50, pytest.approx(np.sqrt(1200))]


def test_distances_are_nan_where_nothing_is_labelled_and_infinite_where_nothing_is_predicted():
    found = distances(FOUND, TRUTH)
    assert found.tolist()[0] == [1, 5, 10]
    assert np.isnan(found[1, 0])
    assert found[1, 1:].tolist() == [1, np.inf]
    assert np.isnan(distances(FOUND, TRUTH, np.array([10.0, np.nan]))[1]).all()
    assert distances(FOUND, TRUTH, np.array([10.0, 10.0]))[0].tolist() == [0.1, 0.5, 1.0]


def test_keypoints_that_were_not_predicted_count_as_wrong_or_are_left_out():
    assert pooled_pck(distances(FOUND, TRUTH), 6.0) == pytest.approx(3 / 5)
    left_out = distances(FOUND, TRUTH, missing="left out")
    assert np.isnan(left_out).tolist() == [[False, False, False], [True, False, True]]
    assert pooled_pck(left_out, 6.0) == pytest.approx(3 / 4)


def test_a_keypoint_at_the_threshold_itself_is_wrong():
    assert pooled_pck(distances(FOUND[:1], TRUTH[:1]), 5.0) == pytest.approx(1 / 3)


def test_the_means_over_keypoints_images_and_all_differ():
    found = distances(FOUND, TRUTH)
    assert pck_by_keypoint(found, 6.0).tolist() == [1, 1, 0]
    assert pck_by_image(found, 6.0).tolist() == pytest.approx([2 / 3, 1 / 2])
    assert pooled_pck(found, 6.0) == pytest.approx(3 / 5)


def test_nothing_labelled_is_nan():
    nothing = distances(FOUND, np.zeros_like(TRUTH))
    assert np.isnan(pooled_pck(nothing, 1))
    assert np.isnan(pck_by_image(nothing, 1)).all()
    assert np.isnan(pck_by_keypoint(nothing, 1)).all()
