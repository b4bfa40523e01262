"""Which of the people in an image does a box ask for?"""

from __future__ import annotations

import numpy as np

from workbench.decoding.grouping import Grouping
from workbench.models.bottom_up import People

ALL_DETECTED = np.zeros(4, bool)


def people(*persons):
    """People from (points, filled) with the image's pixels as cells."""
    points = np.array([[[x, y, 0.5] for x, y in points] for points, _ in persons])
    filled = np.array([flags for _, flags in persons])
    grouping = Grouping(points, np.zeros((*points.shape[:2], 1)), np.full(len(points), 0.5), filled)
    return People.of(grouping, np.array([[1.0, 0, 0], [0, 1, 0]]))


def corners(x0, y0, x1, y1):
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def test_the_person_whose_keypoints_span_the_box():
    found = people((corners(10, 10, 30, 50), ALL_DETECTED), (corners(40, 10, 60, 50), ALL_DETECTED))
    assert found.in_box((39, 9, 61, 51)).keypoints[0].tolist() == [40, 10]


def test_a_stray_detection_is_nobody_however_well_its_filled_keypoints_span_the_box():
    # The real person's extent is a little off; the ghost's, filled from everybody's maps, is exact.
    ghost = (corners(10, 10, 30, 50), np.array([False, True, True, True]))
    found = people(ghost, (corners(12, 12, 30, 50), ALL_DETECTED))
    assert found.in_box((10, 10, 30, 50)).keypoints[0].tolist() == [12, 12]


def test_one_keypoint_taken_from_a_neighbour_does_not_change_who_is_meant():
    spoilt = [*corners(10, 10, 30, 50)[:3], (90, 50)]
    neighbour = (corners(20, 10, 50, 50), ALL_DETECTED)
    found = people(neighbour, (spoilt, ALL_DETECTED))
    assert found.in_box((9, 9, 31, 51)).keypoints[3].tolist() == [90, 50]


def test_nobody_is_in_a_box_that_only_a_filled_keypoint_lies_in():
    one = (corners(10, 10, 30, 50), np.array([False, False, False, True]))
    assert np.isnan(people(one).in_box((5, 45, 12, 60)).keypoints).all()
