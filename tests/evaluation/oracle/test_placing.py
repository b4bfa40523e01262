"""Scale and offset of found keypoints, against those that were planted."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.evaluation.oracle.bottom_up import fitted

SEEDS = range(12)


def people(seed: int, scale: float, offset: tuple[float, float], noise: float = 1.5):
    """Found and true keypoints of 12 images with three people: true = scale * found + offset, and noise."""
    random = np.random.default_rng(seed)
    true = [random.uniform(60, 200, (3, 1, 2)) + random.uniform(-30, 30, (3, 17, 2)) for _ in range(12)]
    return [(one - offset) / scale + random.normal(0, noise, one.shape) for one in true], true


@pytest.mark.parametrize("offset", [(-1.0, -1.0), (0.75, -1.5), (2.0, 2.0)])
def test_a_planted_offset_is_given_within_its_standard_error(offset):
    errors = []
    for seed in SEEDS:
        placing = fitted(*people(seed, 1, offset))
        assert placing.needed
        assert placing.scale == (1, 1)
        errors.append(np.subtract(placing.offset, offset))
        assert np.linalg.norm(errors[-1]) < 3 * placing.error
    # Twelve fits of 612 keypoints with 1.5 pixels of noise: the mean is known to 0.02 pixels.
    np.testing.assert_allclose(np.mean(errors, 0), 0, atol=0.06)


def test_nothing_is_corrected_where_nothing_was_planted():
    assert not any(fitted(*people(seed, 1, (0, 0))).needed for seed in SEEDS)


@pytest.mark.parametrize("scale", [0.5, 0.94, 1.06, 2.0, 4.0])
def test_a_planted_scale_is_given_without_being_drawn_towards_less(scale):
    found = [fitted(*people(seed, scale, (0, 0), noise=1.5 / scale)) for seed in SEEDS]
    assert all(one.needed for one in found)
    np.testing.assert_allclose(np.mean([one.scale for one in found], 0), scale, rtol=2e-3)


def test_maps_resized_by_their_corners_are_a_scale():
    placing = fitted(*people(0, 63 / 64, (0, 0), noise=0.3))
    np.testing.assert_allclose(placing.scale, 63 / 64, atol=1e-3)
    assert "scaling by 0.98" in placing.text()


def test_exchanged_sides_do_not_move_the_offset():
    found, true = people(3, 1, (-1, -1))
    for one in found:
        one[:, [5, 6]] = one[:, [6, 5]]
    np.testing.assert_allclose(fitted(found, true).offset, -1, atol=0.25)


def test_keypoints_held_at_one_place_are_not_corrected():
    _, true = people(0, 1, (0, 0))
    placing = fitted([np.full_like(one, 130.0) for one in true], true)
    assert placing.scale == (1, 1)
    assert np.isfinite(placing.offset).all()
