"""Losses against mmpose's, against hand values, and against what their names promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core import Codec, Outputs
from workbench.decoding.codecs import codec_for
from workbench.models import mmpose_compat
from workbench.training import objectives
from workbench.training.objectives import objective_for, target_of
from workbench.training.people import push_pull
from workbench.training.sequences import l1_and_cross_entropy, truth_probability

CODEC = Codec("heatmap", (64, 48), (16, 12), sigma=(2, 2))


@pytest.fixture(scope="module")
def losses():
    mmpose_compat.install()
    import mmpose.models.losses

    return mmpose.models.losses


@pytest.fixture
def maps():
    torch.manual_seed(0)
    points = np.random.default_rng(0).uniform(8, 40, (3, 17, 2))
    visible = np.ones((3, 17))
    visible[0, :5] = 0
    return Outputs(heatmaps=torch.rand(3, 17, 16, 12)), target_of(CODEC, points, visible)


def test_mse_is_mmposes(losses, maps):
    outputs, target = maps
    theirs = losses.KeypointMSELoss(use_target_weight=True)(outputs.heatmaps, target.heatmaps, target.weights)
    torch.testing.assert_close(objectives.mse(outputs, target)["heatmap"], theirs)


def test_the_loss_of_udps_combined_form_is_twice_mmposes(losses):
    codec = codec_for("udp-combined", (64, 48))
    rng = np.random.default_rng(0)
    target = target_of(codec, rng.uniform(8, 40, (3, 5, 2)), np.ones((3, 5)))
    given = Outputs(heatmaps=torch.rand(3, 5, 16, 12), fields={"offsets": torch.randn(3, 5, 2, 16, 12)})
    # mmpose: class, x, y of each keypoint, offsets in radii.
    one, other = (
        torch.cat([o.heatmaps[:, :, None], o.fields["offsets"] / target.radius], 2).flatten(1, 2)
        for o in (given, target.as_outputs())
    )
    theirs = losses.heatmap_loss.CombinedTargetMSELoss(use_target_weight=True)(one, other, target.weights)
    parts = objective_for(codec)(given, target)
    assert set(parts) == {"heatmap", "offsets"}
    torch.testing.assert_close(sum(parts.values()), 2 * theirs)
    assert sum(objective_for(codec)(target.as_outputs(), target).values()) == 0


@pytest.mark.parametrize(
    ("codec", "name", "message"),
    [
        ("udp-combined", "heatmap_ohkm", "learns offsets too"),
        ("megvii", "heatmap_focal", "Megvii's have 255"),
    ],
)
def test_a_loss_that_does_not_fit_the_codecs_targets_is_refused(codec, name, message):
    with pytest.raises(ValueError, match=message):
        objective_for(codec_for(codec, (64, 48)), name)


def test_ohkm_is_mmposes(losses, maps):
    outputs, target = maps
    theirs = losses.KeypointOHKMMSELoss(use_target_weight=True, topk=8)
    theirs = theirs(outputs.heatmaps, target.heatmaps, target.weights)
    torch.testing.assert_close(objectives.ohkm(outputs, target)["heatmap"], theirs)


def test_focal_is_mmposes_inside_the_clamp(losses, maps):
    outputs, target = maps
    outputs = Outputs(heatmaps=outputs.heatmaps * 0.9 + 0.05)
    theirs = losses.heatmap_loss.FocalHeatmapLoss(use_target_weight=True)(
        outputs.heatmaps, target.heatmaps, target.weights
    )
    torch.testing.assert_close(sum(objectives.focal(outputs, target).values()), theirs)


def test_focal_stays_finite_on_saturated_maps(maps):
    _, target = maps
    assert torch.isfinite(sum(objectives.focal(Outputs(heatmaps=torch.ones(3, 17, 16, 12)), target).values()))


def test_simcc_kl_is_mmposes(losses):
    codec = Codec("simcc", (64, 48), (128, 96), sigma=(4.9, 5.66))
    rng = np.random.default_rng(1)
    visible = (rng.random((3, 17)) > 0.2).astype(float)
    target = target_of(codec, rng.uniform(0, 48, (3, 17, 2)), visible)
    torch.manual_seed(1)
    given = torch.randn(3, 17, 96), torch.randn(3, 17, 128)
    theirs = losses.KLDiscretLoss(beta=10.0, label_softmax=True, label_beta=10.0)
    theirs = theirs(given, target.simcc, target.weights)
    torch.testing.assert_close(sum(objectives.kl(Outputs(simcc=given), target).values()), theirs)


def test_simcc_kl_of_the_label_itself_is_zero():
    codec = Codec("simcc", (64, 48), (128, 96), sigma=(4.9, 5.66))
    target = target_of(codec, np.full((1, 2, 2), 20.0), np.ones((1, 2)))
    assert sum(objectives.kl(Outputs(simcc=target.simcc), target).values()).item() == pytest.approx(
        0, abs=1e-6
    )


def test_push_pull_is_mmposes(losses):
    torch.manual_seed(2)
    tags = torch.randn(2, 5, 8, 8, requires_grad=True)
    places = [torch.stack([torch.randint(0, 64, (3, 5)), torch.randint(0, 2, (3, 5))], -1) for _ in range(2)]
    pull, push = losses.AssociativeEmbeddingLoss()(tags, places)
    ours = push_pull(tags, places)
    torch.testing.assert_close(ours["pull"], pull)
    torch.testing.assert_close(ours["push"], push)


def test_push_pull_of_nobody_is_zero_and_has_a_gradient():
    tags = torch.randn(1, 2, 4, 4, requires_grad=True)
    sum(push_pull(tags, [torch.zeros(0, 2, 2, dtype=torch.long)]).values()).backward()
    assert tags.grad is not None
    assert not tags.grad.any()


def test_tags_far_apart_push_nothing_and_equal_tags_push_fully():
    tags = torch.zeros(1, 1, 1, 2)
    people = [torch.tensor([[[0, 1]], [[1, 1]]])]
    assert push_pull(tags, people, 1.0)["push"].item() == pytest.approx(
        2, rel=1e-5
    )  # exp(0), the two selves too
    tags[..., 1] = 100
    assert push_pull(tags, people, 1.0)["push"].item() == pytest.approx(1, rel=1e-5)  # the two selves alone


def test_the_raw_token_error_is_the_logged_one_over_weight_and_layers():
    wanted = torch.rand(2, 9, 2)
    given = (wanted + 0.03).expand(6, -1, -1, -1)
    types = torch.zeros(6, 2, 9, 3)
    kinds = torch.zeros(2, 9, dtype=torch.long)
    parts, raw = l1_and_cross_entropy(given, types, wanted, kinds, torch.ones(2, 9, dtype=torch.bool))
    assert raw.item() == pytest.approx(0.03, rel=1e-4)
    assert parts["coordinates"].item() == pytest.approx(5 * 6 * 0.03, rel=1e-4)
    assert parts["types"].item() == pytest.approx(6 * np.log(3), rel=1e-4)


@pytest.mark.parametrize("kind", ["linear", "sigmoid", "exponential"])
def test_scheduled_sampling_falls_from_truth_to_own_answers(kind):
    curve = [truth_probability(kind, i, 10) for i in range(11)]
    assert curve == sorted(curve, reverse=True)
    assert curve[0] > 0.97
    assert curve[-1] < 0.03


def test_wrong_sizes_are_told(maps):
    outputs, target = maps
    with pytest.raises(ValueError, match="output_size"):
        objectives.mse(Outputs(heatmaps=outputs.heatmaps[..., :6]), target)
    with pytest.raises(ValueError, match="at least 20"):
        objectives.ohkm(outputs, target, hardest=20)
    with pytest.raises(KeyError, match="heatmap_mse"):
        objective_for(CODEC, "heatmap_mes")
    with pytest.raises(ValueError, match="this model gives heatmap"):
        objective_for(CODEC, "simcc_kl")
