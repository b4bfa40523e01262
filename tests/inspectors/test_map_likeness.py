"""Maps that all say the same are named, maps that do not are not."""

from __future__ import annotations

import numpy as np
import pytest

from tests import toy
from tests.inspectors.test_looking import with_heatmaps
from workbench.core import Skeleton
from workbench.inspectors.outputs import map_likeness


@pytest.fixture(scope="module")
def seventeen():
    return toy.a_run("seventeen")


def blob(x, y, side=16):
    row, column = np.mgrid[:side, :side]
    return np.exp(-((column - x) ** 2 + (row - y) ** 2) / 8.0)


def of(run, maps):
    return map_likeness.compute(with_heatmaps(run, maps), map_likeness.Params())


def test_one_blob_for_every_keypoint_is_named(seventeen):
    noise = np.random.default_rng(0).normal(0, 0.03, (17, 16, 16))
    report = of(seventeen, blob(8, 8) + noise)
    assert report.alike
    assert report.summary().startswith(
        "The maps of all keypoints are nearly equal: mean correlation of two maps 0.9"
    )


def test_a_blob_in_its_own_place_for_every_keypoint_is_not(seventeen):
    maps = np.stack([blob(1 + 3 * (k % 5), 2 + 4 * (k // 5)) for k in range(17)])
    maps[1] = 0.5 * maps[0]
    report = of(seventeen, maps)
    assert not report.alike
    assert report.closest() == (0, 1)
    assert report.rank > 10
    names = seventeen.model.skeleton.keypoints
    assert report.summary().endswith(f"the most similar are {names[0]} and {names[1]} (1.00)")


def test_constant_maps_are_counted_and_have_no_neighbour(seventeen):
    maps = np.zeros((17, 16, 16))
    maps[0], maps[1] = blob(3, 3), blob(12, 12)
    report = of(seventeen, maps)
    assert report.constant == 15
    assert "15 have one value everywhere" in report.summary()
    assert report.table()[5]["most_alike"] == ""
    assert report.table()[0]["most_alike"] == seventeen.model.skeleton.keypoints[1]


def test_no_map_at_all_varies(seventeen):
    assert "cannot be compared" in of(seventeen, np.ones((17, 8, 8))).summary()


def test_one_map_alone_is_not_called_constant():
    report = map_likeness.MapLikeness(Skeleton("one", ("a",)), np.nan, 1.0, 0, np.full((1, 1), np.nan), False)
    assert report.summary() == "There is one map alone: it cannot be compared with another one"
