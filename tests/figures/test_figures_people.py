"""Several people in one picture: filled-in limbs look so, and numbers stand apart."""

from __future__ import annotations

import numpy as np

from tests import toy
from workbench.figures.drawing import draw_person, number_places
from workbench.skeletons import SKELETONS

COCO = SKELETONS["coco-17"]


def pose(seed=0):
    return np.random.default_rng(seed).uniform(50, 200, (17, 2))


def test_limbs_to_filled_in_keypoints_are_dotted_and_the_others_are_not():
    hollow = np.zeros(17, bool)
    hollow[COCO.keypoints.index("left_wrist")] = True
    traces = {trace.name: trace for trace in draw_person(pose(), COCO, 0, hollow=hollow)}
    filled, seen = traces["person 1, limbs filled in"], traces["person 1, limbs"]
    touching = sum(9 in limb for limb in COCO.limbs)
    assert filled.line.dash == "dot"
    assert seen.line.dash is None
    assert (len(filled.x), len(seen.x)) == (3 * touching, 3 * (len(COCO.limbs) - touching))
    assert "person 1, limbs filled in" not in {trace.name for trace in draw_person(pose(), COCO, 0)}


def test_numbers_of_people_in_one_place_do_not_lie_on_each_other():
    people = [pose() + shift for shift in (0, 1, 2, 3, 4, 60)] + [pose() + 1 for _ in range(6)]
    places = np.array(number_places(people, (360, 480)))
    apart = np.abs(places[:, None] - places[None])
    room = 360 * np.array([0.062, 0.045])
    beside = (apart >= 0.99 * room - 1e-6).any(-1)
    assert beside[~np.eye(len(people), dtype=bool)].all()
    assert (places >= 0).all()
    assert (places <= (480, 360)).all()
    # One that is alone stands above its highest keypoint.
    (alone,) = number_places([pose()], (360, 480))
    top = pose()[pose()[:, 1].argmin()]
    assert alone[0] == top[0]
    assert alone[1] < top[1]


def test_the_number_stands_where_it_is_asked_for():
    traces = draw_person(np.array([[3.0, 4.0], [5.0, 9.0]]), toy.TWO, 4, number_at=(7.0, 8.0))
    number = next(trace for trace in traces if trace.mode == "text")
    assert (number.x[0], number.y[0], number.text[0]) == (7, 8, "<b>5</b>")
