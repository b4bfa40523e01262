"""The best cell for a missing keypoint is the one that a plain search of the whole map finds."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.decoding.grouping.refinement import TagSearch


def plainly(heatmap, tag, means, weight):
    """As the reference writes it: every cell, in float32, the first of equals."""
    answers = []
    for mean in means:
        with np.errstate(over="ignore"):
            distance = ((tag - mean[None, None, :]) ** 2).sum(axis=2) ** 0.5
        answers.append(int(np.argmax(heatmap - np.float32(weight) * np.round(distance))))
    return answers


MAPS = {
    "noise": lambda rng, size: rng.normal(0, 0.003, size),
    "peaks on noise": lambda rng, size: rng.normal(0, 0.003, size) + (rng.random(size) > 0.99) * 0.7,
    "steps, so that cells are equal": lambda rng, size: np.round(rng.random(size), 1),
    "zero everywhere": lambda rng, size: np.zeros(size),
    "below zero everywhere": lambda rng, size: -1 - rng.random(size),
    "higher than a tag's unit": lambda rng, size: rng.normal(0, 3, size),
}


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 100.0])
def test_the_best_cell_is_that_of_a_plain_search(kind, weight):
    rng = np.random.default_rng(0)
    for case in range(12):
        size, L = (int(rng.integers(1, 30)), int(rng.integers(1, 30))), int(rng.integers(1, 4))
        heatmap = MAPS[kind](rng, size).astype(np.float32)
        tag = rng.normal(0, rng.choice([0.0, 0.4, 3.0, 1000.0]), (*size, L)).astype(np.float32)
        if case % 3 == 0:  # distances of exactly one half, where rounding decides
            tag = np.round(tag * 2) / 2
        if case == 5 and weight:  # squares beyond float32
            tag *= np.float32(1e20)
        # Few people are searched for one by one, many through the buckets.
        P = (5, 40)[case % 4 > 1]
        means = rng.normal(0, 3, (P, L)).astype(np.float32)
        if case % 2:
            means = np.round(means)
        search = TagSearch(tag, means, weight)
        # Twice and backwards: what one keypoint leaves behind must not change the next one's answer.
        for asked in (heatmap, heatmap[::-1].copy()):
            found = search.best_cells(asked, np.arange(P))
            assert found.tolist() == plainly(asked, tag, means, weight), f"case {case}"
        assert search.best_cells(heatmap, np.array([3])).tolist() == plainly(heatmap, tag, means[3:4], weight)


def test_a_large_map_of_similar_tags_is_read_in_several_buckets_and_parts(monkeypatch):
    from workbench.decoding.grouping import refinement

    monkeypatch.setattr(refinement, "_TOGETHER", 700)
    rng = np.random.default_rng(1)
    for L in (1, 2, 3):
        heatmap = np.round(rng.random((60, 50)), 1).astype(np.float32) - 1
        tag = np.round(rng.normal(0, 2, (60, 50, L))).astype(np.float32)
        tag[:30] = 0  # more cells of one tag than a bucket has
        means = rng.normal(0, 2, (30, L)).astype(np.float32)
        for weight in (1.0, 100.0):
            found = TagSearch(tag, means, weight).best_cells(heatmap, np.arange(30))
            assert found.tolist() == plainly(heatmap, tag, means, weight)
