"""The view of a confidence mask: counts by hand, and what it says where nothing passes."""

from __future__ import annotations

import numpy as np
import pytest

from tests import toy
from workbench.inspectors import get
from workbench.inspectors.outputs.consistency_mask import MaskedKeypoints, Params


def report(peaks, rule="peak", threshold=0.5, best=0.0023):
    run = toy.a_run("heatmaps")
    skeleton = run.model.skeleton
    peaks = np.asarray(peaks, float)
    confidences = peaks if rule == "peak" else np.full_like(peaks, 0.002)
    return MaskedKeypoints(skeleton, threshold, rule, 0.5, confidences, peaks, best, (64, 48))


def test_keypoints_above_the_threshold_are_counted():
    found = report([[0.9, 0.2, 0.6], [0.5, 0.7, 0.1]])
    assert found.passed == 3
    assert found.summary().startswith("3 of 6 keypoints have a peak above 0.5")
    assert report([[0.9, 0.8, 0.7]]).summary().endswith("leaves nothing out")


def test_a_mask_that_can_never_fire_is_told_with_what_a_perfect_map_reaches():
    said = report([[0.9, 0.2, 0.6]], rule="softmax", threshold=0.7).summary()
    assert "0 of 3 keypoints have softmax(map / 0.5) above 0.7, and none can" in said
    assert "a perfect 64x48 map reaches 0.0023" in said
    assert "the consistency loss is 0" in said
    assert said.endswith("which 2 of 3 are)")


@pytest.mark.parametrize("rule", ["peak", "softmax"])
def test_the_inspector_measures_a_run(rule):
    run = toy.a_run("heatmaps")
    found = get("consistency_mask").compute(run, Params(threshold=0.0, rule=rule))
    maps = run.heatmaps
    assert found.confidences.shape == maps.shape[:2]
    np.testing.assert_allclose(found.peaks, maps.reshape(*maps.shape[:2], -1).max(-1))
    assert sum(row["passing"] for row in found.table()) == found.passed
