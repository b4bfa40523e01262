"""Certainty by hand: entropy of known masses, the width of a Gaussian, the second of two bumps."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.decoding.map_statistics import entropy, second_mode, softmax, width


def bump(shape, centre, sigma, height=1.0):
    axes = np.indices(shape)
    squares = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
    return height * np.exp(-squares / (2 * sigma**2))


class TestEntropy:
    def test_of_one_lit_cell_is_zero(self):
        assert entropy(np.eye(1, 64).reshape(8, 8)) == 0

    @pytest.mark.parametrize("n", [2, 17, 64 * 48])
    def test_of_a_uniform_map_is_the_logarithm_of_its_size(self, n):
        assert entropy(np.full(n, 0.3)) == pytest.approx(np.log2(n))

    def test_of_a_gaussian_is_the_known_one(self):
        # Differential entropy of a two-dimensional normal distribution: log2(2 pi e sigma^2) bits.
        assert entropy(bump((61, 61), (30, 30), 3)) == pytest.approx(np.log2(2 * np.pi * np.e * 9), abs=1e-3)

    def test_counts_negative_values_as_no_mass(self):
        assert entropy(np.array([1.0, -5.0, 1.0])) == 1

    def test_of_nothing_is_nan(self):
        assert np.isnan(entropy(np.zeros((3, 3))))
        assert np.isnan(entropy(np.full(4, -1.0)))


class TestWidth:
    @pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
    @pytest.mark.parametrize("shape", [(61,), (61, 61)])
    def test_of_a_gaussian_is_its_sigma(self, sigma, shape):
        assert width(bump(shape, (30,) * len(shape), sigma), 15) == pytest.approx(sigma, rel=1e-3)

    def test_of_one_lit_cell_is_zero(self):
        assert width(np.eye(1, 9), 3) == 0

    def test_does_not_see_beyond_its_window(self):
        two = bump((80,), (20,), 2) + bump((80,), (60,), 2, 0.9)
        assert width(two, 10) == pytest.approx(2, rel=1e-3)

    def test_of_nothing_is_nan(self):
        assert np.isnan(width(np.zeros((5, 5)), 2))


class TestSecondMode:
    def test_is_the_lower_of_two_bumps(self):
        place, value = second_mode(bump((64, 48), (10, 12), 2) + bump((64, 48), (40, 30), 2, 0.82), 5)
        assert place == (40, 30)
        assert value == pytest.approx(0.82)

    def test_one_bump_has_none_even_when_it_is_wider_than_the_radius(self):
        place, value = second_mode(bump((64, 48), (32, 24), 6), 5)
        assert place is None
        assert np.isnan(value)

    def test_within_the_radius_does_not_count(self):
        values = np.zeros(30)
        values[[10, 13]] = 1, 0.9
        assert second_mode(values, 3)[0] is None
        assert second_mode(values, 2)[0] == (13,)

    def test_a_constant_map_has_none(self):
        assert second_mode(np.zeros((4, 4)), 1)[0] is None


class TestSoftmax:
    def test_sums_to_one_and_keeps_the_order(self):
        values = np.random.default_rng(0).normal(size=(3, 5))
        shares = softmax(values, 10)
        np.testing.assert_allclose(shares.sum(-1), 1)
        np.testing.assert_array_equal(shares.argmax(-1), values.argmax(-1))

    def test_of_two_logits_is_the_logistic_function(self):
        assert softmax(np.array([0.0, 0.2]), 10)[1] == pytest.approx(1 / (1 + np.exp(-2)))

    def test_large_logits_do_not_overflow(self):
        assert softmax(np.array([1000.0, 0.0]), 150)[0] == 1
