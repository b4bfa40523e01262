"""Left/right pairs on one place, on people made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.decoding.grouping.left_right import nearest_people, pairs_of

MIRROR = (0, 2, 1, 4, 3, 6, 5, 8, 7)  # a middle one, and four pairs


def people(count, width=0.4, noise=0.0, seed=0):
    """[P, 9, 3]: upright people of 100 pixels, pairs `width` of that apart."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((count, 9, 3))
    for p in range(count):
        left = 300.0 * p
        truth[p, 0, :2] = left, 0
        for pair in range(4):
            y = 25.0 * (pair + 1)
            truth[p, 1 + 2 * pair, :2] = left - 50 * width, y
            truth[p, 2 + 2 * pair, :2] = left + 50 * width, y
    truth[..., :2] += rng.normal(0, noise, (*truth.shape[:2], 2))
    truth[..., 2] = 2
    return truth


def collapsed(truth):
    found = truth[..., :2].copy()
    found[:, 2::2] = found[:, 1::2]
    return found


def test_pairs_on_one_place_are_counted_and_named():
    truth = people(3)
    found = pairs_of([collapsed(truth)], [truth], MIRROR)
    assert (found.count, found.together, found.share) == (12, 12, 1.0)
    assert found.collapsed
    assert found.text().startswith("left/right pairs collapsed: 100% of 12 pairs that are apart in the")
    assert found.true_distance == pytest.approx(0.4, abs=0.01)
    assert found.facts()["median_distance"] == 0
    assert found.finding().numbers[0].value == 1


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0])
def test_a_healthy_network_is_not_accused(noise):
    truth = people(6)
    near = people(6, noise=noise, seed=1)[..., :2]
    for annotated in ([truth], None):
        found = pairs_of([near], annotated, MIRROR)
        assert found.share < 0.2
        assert not found.collapsed
        assert found.text() == ""


def test_people_seen_from_the_side_are_no_evidence():
    truth = people(6, width=0.05)
    found = pairs_of([truth[..., :2]], [truth], MIRROR)
    assert (found.count, found.collapsed) == (0, False)
    assert np.isnan(found.share)
    assert found.facts()["share"] is None


def test_without_annotation_more_is_asked_for():
    truth = people(3)
    half = truth[..., :2].copy()
    half[:, 2:6:2] = half[:, 1:5:2]
    assert not pairs_of([half], None, MIRROR).collapsed
    assert pairs_of([half], [truth], MIRROR).collapsed
    assert pairs_of([collapsed(truth)], None, MIRROR).collapsed


def test_few_pairs_nobody_and_no_pairs_prove_nothing():
    truth = people(1)
    assert not pairs_of([collapsed(truth)], [truth], MIRROR).collapsed
    assert pairs_of([np.zeros((0, 9, 2))], [truth], MIRROR).count == 0
    assert pairs_of([collapsed(truth)], [truth], ()).count == 0


def test_everybody_is_found_once_and_strangers_are_nobody():
    truth = people(2)[..., :2]
    found = np.stack([truth[1] + 5, truth[1] + 1, truth[0] + 3, truth[0] + 1000])
    assert nearest_people(found, truth).tolist() == [2, 1]
    assert nearest_people(found[3:], truth).tolist() == [-1, -1]
