"""Attention rollout and heads: by hand on a transformer with fixed weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests import toy
from workbench.core import NotAvailable
from workbench.core.attention import Attention
from workbench.core.run import run as make_run
from workbench.inspectors.attribution import attention, grad_cam
from workbench.inspectors.attribution.attention import tokens_under


@pytest.fixture
def run():
    return toy.a_run("transformer")


def test_rollout_of_two_layers_is_nine_sixteenths_own_and_seven_sixteenths_the_first_patch(run):
    report = attention.compute(run, attention.Params())
    own = report.points.astype(int) // 3
    for rollout, (x, y) in zip(report.maps, own, strict=True):
        expected = np.zeros((3, 3))
        expected[0, 0] += 7 / 16
        expected[y, x] += 9 / 16
        np.testing.assert_allclose(rollout, expected, atol=1e-6)
    np.testing.assert_allclose(report.elsewhere, 0, atol=1e-6)


def test_heads_are_told_apart_by_distance_and_entropy(run):
    report = attention.compute(run, attention.Params())
    # Head 1 stays on its token; head 2 goes to the first patch. Box 9 px, patches 3 px.
    away = np.hypot(*(report.points.astype(int) // 3).T) * 3 / 9
    np.testing.assert_allclose(report.distances, [[0, away.mean()]] * 2, atol=1e-6)
    np.testing.assert_allclose(report.head_bits, 0, atol=1e-6)
    assert report.distances.shape == (2, 2)


def test_the_rollout_row_is_that_of_the_token_under_the_peak(run):
    model = run.model
    # Two tokens in front of the patches shift every index by two.
    shifted = dataclasses.replace(model.attention, before=2)
    model.attention = shifted
    points = np.array([[0.0, 0.0], [2.4, 2.4], [2.6, 0.0], [8.0, 8.0], [-3.0, 40.0]])
    assert tokens_under(run, points).tolist() == [2, 2, 3, 10, 8]


def test_one_keypoint_shows_rollout_mean_and_every_head_of_the_chosen_layer(run):
    report = attention.compute(run, attention.Params(keypoint="left_nose", layer="layer 1"))
    assert report.layer == 1
    names = [trace.name for trace in report.plot().data if trace.type == "heatmap"]
    assert names == ["rollout", "layer 1, mean", "head 1", "head 2"]
    assert [(row["layer"], row["head"]) for row in report.table()] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    np.testing.assert_allclose(report.heads.sum((2, 3)), 1, atol=1e-6)


def test_the_mirrored_pass_of_a_flip_test_is_not_followed():
    model = toy.ToyTransformer()
    run = make_run(model, toy.samples(model), flip=True)
    report = attention.compute(run, attention.Params())
    np.testing.assert_allclose(report.maps.sum((1, 2)), 1, atol=1e-6)


def test_summary_compares_with_attention_without_preference(run):
    report = attention.compute(run, attention.Params())
    assert "without preference" in report.summary()
    assert 0 < report.uniform.mean() < 1


def test_declared_layers_that_do_not_run_are_told(run):
    class Idle(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.idle = inner, torch.nn.Identity()

        def forward(self, pixels):
            return self.inner(pixels)

    model = toy.ToyTransformer()
    model.module, model.taps = Idle(model.module).eval(), {}
    model.attention = Attention(("inner.layers.0.weights", "idle"), 2, (3, 3))
    with pytest.raises(NotAvailable, match="1 of 2 declared layers"):
        attention.compute(make_run(model, toy.samples(model)), attention.Params())


def test_an_unknown_layer_is_refused_with_near_ones(run):
    with pytest.raises(ValueError, match=r"nearest: .*layer 2"):
        attention.compute(run, attention.Params(layer="layer 7"))


def test_attention_weights_are_no_layer_of_grad_cam(run):
    run.model.taps["weights"] = "layers.0.weights"
    report = grad_cam.compute(run, grad_cam.Params())
    assert report.layer == "patches"
    with pytest.raises(NotAvailable, match="patches"):
        grad_cam.compute(run, grad_cam.Params(layer="weights"))
