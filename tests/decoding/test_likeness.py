"""Likeness of maps whose answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.decoding.map_statistics import likeness


def spots(*places):
    maps = np.zeros((1, len(places), 8, 8))
    for k, (x, y) in enumerate(places):
        maps[0, k, y, x] = 1
    return maps


def test_maps_that_are_one_map_correlate_wholly_and_have_rank_one():
    one = np.random.default_rng(0).random((2, 1, 5, 6))
    # Factor and offset make no other map of it.
    found = likeness(np.concatenate([one, 3 * one + 2, 0.1 * one], 1))
    assert found.correlation == pytest.approx(1)
    assert found.rank == pytest.approx(1)
    assert found.alike


def test_single_spots_in_different_places_are_as_many_maps_as_there_are():
    found = likeness(spots((0, 0), (3, 4), (7, 7)))
    # Each has mean 1/64: the products of two centred spots sum to -1/64, their squares to 63/64.
    assert found.correlation == pytest.approx(-1 / 63)
    assert found.rank == pytest.approx(3, abs=0.01)
    assert not found.alike


def test_two_different_maps_each_said_twice_have_rank_two():
    found = likeness(spots((0, 0), (0, 0), (5, 5), (5, 5)))
    assert found.rank == pytest.approx(2, abs=0.01)
    assert not found.alike


def test_a_constant_map_says_nothing_and_is_counted():
    maps = spots((0, 0), (5, 5), (2, 2))
    maps[:, 2] = 0.3
    found = likeness(maps)
    assert found.constant == 1
    assert found.rank == pytest.approx(2, abs=0.01)


def test_maps_that_are_all_constant_have_no_likeness():
    found = likeness(np.ones((1, 3, 4, 4)))
    assert np.isnan([found.correlation, found.rank]).all()
    assert found.constant == 3
    assert not found.alike


@pytest.mark.parametrize("maps", [np.zeros((3, 4, 4)), np.full((1, 2, 3, 3), np.nan)])
def test_what_is_no_stack_of_maps_is_refused(maps):
    with pytest.raises(ValueError, match="likeness"):
        likeness(maps)
