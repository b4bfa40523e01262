"""Attention rollout and heads: by hand on a transformer with fixed weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests import toy
from workbench.core import NotAvailable
from workbench.core.capabilities import Attention
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


class TestViTPose:
    """The family's three namings, and the attention that transformers itself returns."""

    @pytest.fixture(scope="class")
    def runs(self, tmp_path_factory):
        from workbench.data import builtin
        from workbench.models import open_model
        from workbench.models.vitpose.export import write_demo

        astronaut = builtin("astronaut")
        found = {}
        for naming in ("mmpose-1", "mmpose-0", "hf"):
            folder = tmp_path_factory.mktemp(naming)
            model = open_model(write_demo(folder, naming)).model
            found[naming] = folder, make_run(model, [astronaut.sample(astronaut.labelled[0])])
        return found

    def test_every_naming_gives_the_same_rollout_and_heads(self, runs):
        first, *others = (attention.compute(run, attention.Params()) for _, run in runs.values())
        assert first.maps.shape[1:] == runs["hf"][1].model.attention.grid
        for other in others:
            np.testing.assert_array_equal(first.maps, other.maps)
            np.testing.assert_array_equal(first.heads, other.heads)

    def test_rollout_and_heads_are_those_of_the_weights_that_transformers_returns(self, runs):
        from workbench.models.mmpose_compat import BROKEN, hide_broken_torchvision

        hide_broken_torchvision()
        try:
            from transformers import VitPoseForPoseEstimation
        except BROKEN as error:
            pytest.skip(f"transformers' VitPose cannot be imported: {error}")
        folder, run = runs["hf"]
        theirs = VitPoseForPoseEstimation.from_pretrained(folder, attn_implementation="eager").eval()
        with torch.no_grad():
            layers = theirs(run.batch.pixels, output_attentions=True).attentions
        rollout = torch.eye(layers[0].shape[-1])
        for weights in layers:
            rollout = (weights[0].mean(0) + torch.eye(len(rollout))) / 2 @ rollout
        report = attention.compute(run, attention.Params(layer="layer 2"))
        tokens = tokens_under(run, report.points)
        grid = run.model.attention.grid
        np.testing.assert_allclose(report.maps, rollout[tokens].unflatten(-1, grid), atol=1e-6)
        heads = layers[1][0][:, tokens].unflatten(-1, grid).transpose(0, 1)
        np.testing.assert_allclose(report.heads, heads, atol=1e-6)
        assert len(layers) == len(report.distances)

    def test_a_file_says_by_its_tensors_that_it_can_be_asked(self, runs):
        from workbench.checkpoints import open_checkpoint

        for folder, _ in runs.values():
            (file,) = (p for p in folder.iterdir() if p.suffix in (".pth", ".safetensors"))
            assert attention.INSPECTOR.needs.met_by_names(open_checkpoint(file).identity.capabilities)
