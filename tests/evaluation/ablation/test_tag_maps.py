"""Means, components and noise by hand."""

from __future__ import annotations

import numpy as np

from workbench.evaluation.ablation.variants import ComponentForAll, FirstComponents, MeanOf, Noisy, TagMaps


def some(T=5, H=9, W=10, L=2):
    return np.random.default_rng(0).normal(size=(T, H, W, L)).astype(np.float32)


def test_a_mean_is_one_map():
    tags = some()
    mean = MeanOf((1, 3))(TagMaps(tags, 0))
    np.testing.assert_allclose(mean, tags[[1, 3]].mean(0, keepdims=True), rtol=1e-6)


def test_all_components_give_the_maps_back_and_one_gives_maps_that_move_together():
    tags = some()
    np.testing.assert_allclose(FirstComponents(5)(TagMaps(tags, 0)), tags, atol=1e-5)
    one = FirstComponents(1)(TagMaps(tags, 0)).reshape(5, -1)
    assert np.linalg.matrix_rank(one - one.mean(1, keepdims=True), tol=1e-3) == 1


def test_maps_that_are_one_map_lose_nothing_with_one_component():
    shared = some(1)
    tags = np.concatenate([shared, 2 * shared, -shared])
    np.testing.assert_allclose(FirstComponents(1)(TagMaps(tags, 0)), tags, atol=1e-5)


def test_the_component_for_all_keeps_the_unit_of_equal_maps():
    tags = np.repeat(some(1), 4, axis=0)
    common = ComponentForAll()(TagMaps(tags, 0))
    # A component has no sign of its own.
    np.testing.assert_allclose(np.abs(common), np.abs(tags[:1]), atol=1e-6)


def test_noise_is_the_same_for_the_same_image_and_as_strong_as_asked():
    tags = np.zeros((3, 40, 40, 1), np.float32)
    first, again, other = (Noisy(0.5)(TagMaps(tags, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert abs(first.std() - 0.5) < 0.02
    assert (tags == 0).all()
