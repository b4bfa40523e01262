"""What the output should have been, what weights, activations and gradients say, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tests import toy
from workbench.core import NotAvailable, Outputs
from workbench.inspectors.outputs import activations, gradients, target_residual, vector_fields, weights


@pytest.fixture(scope="module")
def heat():
    return toy.a_run("heatmaps")


class TestTargetResidual:
    def test_a_perfect_map_leaves_nothing(self, heat):
        from workbench.decoding.targets import target

        points = np.array([[[3.0, 4], [6, 5]]] * 2)
        wanted = target(heat.model.codec, points, np.ones((2, 2)))["heatmaps"]
        run = dataclasses.replace(heat, outputs=Outputs(heatmaps=torch.from_numpy(wanted)))
        report = target_residual.compute(run, target_residual.Params())
        np.testing.assert_allclose(report.residuals, 0)
        np.testing.assert_allclose(report.astray, 0)
        np.testing.assert_allclose(report.found, report.wanted)

    def test_a_displaced_peak_is_measured(self, heat):
        maps = torch.zeros(2, 2, 9, 9)
        maps[:, 0, 4, 3], maps[:, 1, 5, 2] = 1, 0.7
        run = dataclasses.replace(heat, outputs=Outputs(heatmaps=maps))
        report = target_residual.compute(run, target_residual.Params(keypoint="right_tail"))
        assert report.astray[1] == 4
        assert report.elsewhere[1] == pytest.approx(0.7)
        assert report.summary() == (
            "right_tail: the prediction is 0 where the target has its maximum, 1; the prediction has"
            " its own maximum, 0.7, 4.0 input px from there"
        )

    @pytest.mark.parametrize("value", [0.0, 0.2])
    def test_a_map_of_one_value_has_no_maximum(self, heat, value):
        maps = torch.full((2, 2, 9, 9), value)
        run = dataclasses.replace(heat, outputs=Outputs(heatmaps=maps))
        report = target_residual.compute(run, target_residual.Params())
        assert np.isnan(report.astray).all()
        assert np.isnan(report.places[1]).all()
        assert f"one value everywhere, {value:g}, and so no maximum" in report.summary()

    def test_an_unlabelled_keypoint_has_no_residual(self, heat):
        truth = np.array([[7.0, 9, 2], [10, 10, 0]])
        run = dataclasses.replace(
            heat, samples=tuple(dataclasses.replace(s, truth=truth) for s in heat.samples)
        )
        report = target_residual.compute(run, target_residual.Params(keypoint="right_tail"))
        assert np.isnan(report.residuals[1])
        assert "no annotation inside the network's crop" in report.summary()
        assert target_residual.compute(run, target_residual.Params()).k == 0

    def test_residual_scales_are_centred_on_zero(self, heat):
        bar = target_residual.compute(heat, target_residual.Params()).plot().layout.coloraxis
        assert bar.cmin == -bar.cmax

    def test_another_output_size_than_the_codecs_is_said(self, heat):
        run = dataclasses.replace(heat, outputs=Outputs(heatmaps=torch.zeros(2, 2, 5, 5)))
        with pytest.raises(NotAvailable, match=r"\(2, 9, 9\).*\(2, 5, 5\)"):
            target_residual.compute(run, target_residual.Params())


class TestVectorFields:
    def test_cells_that_agree_meet_in_one_point(self):
        run = toy.a_run("fields")
        report = vector_fields.compute(run, vector_fields.Params(vector="left_nose"))
        # The centre map is lit at input (3, 4) alone, and every cell points (+1, +2).
        np.testing.assert_allclose(report.meeting[0], [4, 6])
        np.testing.assert_allclose(report.scatter, 0)
        assert report.counting[0] == 1

    def test_scatter_is_the_weighted_spread_of_the_ends(self):
        ends = np.array([[0.0, 0], [4, 0]])
        mean, spread = vector_fields.meeting_point(ends, np.array([1.0, 3]))
        np.testing.assert_allclose(mean, [3, 0])
        assert spread == pytest.approx(np.sqrt(0.25 * 9 + 0.75 * 1))

    def test_offsets_count_where_their_own_heat_is(self):
        run = toy.a_run("fields")
        maps = torch.zeros(2, 2, 9, 9)
        maps[:, 0, 2, 1], maps[:, 1, 8, 8] = 1, 1
        outputs = dataclasses.replace(
            run.outputs, heatmaps=maps, fields={"offsets": run.outputs.fields["regressions"]}
        )
        report = vector_fields.compute(dataclasses.replace(run, outputs=outputs), vector_fields.Params())
        np.testing.assert_allclose(report.meeting, [[2, 4], [7, 8]])

    def test_fields_of_other_things_than_keypoints_are_numbered(self):
        run = toy.a_run("fields")
        outputs = dataclasses.replace(run.outputs, fields={"paf": torch.ones(2, 3, 2, 9, 9)})
        report = vector_fields.compute(dataclasses.replace(run, outputs=outputs), vector_fields.Params())
        assert report.vectors == ("vector 0", "vector 1", "vector 2")
        assert report.plot().data


class TestActivations:
    def run_of(self, **taps):
        run = toy.a_run("heatmaps")
        model = toy.ToyHeatmaps()
        model.taps = {name: str(i) for i, name in enumerate(taps)}
        return dataclasses.replace(
            run, model=model, activations={k: torch.as_tensor(v) for k, v in taps.items()}
        )

    def test_moments_zeros_and_dead_channels_by_hand(self):
        values = torch.zeros(2, 4, 1, 2)
        values[:, 0] = torch.tensor([1.0, 3.0])
        values[:, 1] = 5.0
        report = activations.compute(self.run_of(tap=values), activations.Params())
        assert report.means[0] == pytest.approx((2 + 5) / 4)
        assert report.zeros[0] == 0.5
        assert report.dead[0] == 0.75  # one constant at 5, two at 0
        assert report.stds[0] == pytest.approx(values.std(correction=0))
        assert "tap has 75 % of its 4 channels dead" in report.summary()

    @pytest.mark.parametrize("directions", [1, 3])
    def test_the_effective_rank_counts_equal_directions(self, directions):
        basis = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 8)))[0]
        basis = np.linalg.qr(basis - basis.mean(0))[0]  # orthonormal, and centred columns stay so
        columns = basis[:, :directions] @ np.eye(8)[:directions]
        assert activations.effective_rank(columns) == pytest.approx(directions, rel=1e-6)

    def test_a_clipped_tap_is_saturated(self):
        values = torch.linspace(0, 2, 101).clamp(max=1).reshape(1, 1, 101, 1)
        report = activations.compute(self.run_of(tap=values), activations.Params())
        assert report.saturated[0] == pytest.approx(51 / 101)
        assert "50 % of tap sits at its maximum" in report.summary()

    def test_channels_of_tokens_stand_last(self):
        report = activations.compute(self.run_of(tap=torch.rand(2, 17, 5)), activations.Params())
        assert report.channels[0] == 5

    def test_one_place_alone_has_neither_dead_channels_nor_a_rank(self):
        report = activations.compute(self.run_of(tap=torch.rand(1, 8, 1, 1)), activations.Params())
        assert np.isnan([report.dead[0], report.ranks[0]]).all()
        assert report.plot().data

    def test_a_tap_with_nan_is_named_first(self):
        values = torch.rand(1, 2, 3, 3)
        bad = values.clone()
        bad[0, 0, 0, 0] = float("nan")
        report = activations.compute(self.run_of(good=values, bad=bad), activations.Params())
        assert report.summary().startswith("bad outputs values that are not finite")
        assert report.plot().data

    def test_a_module_with_two_names_is_shown_once(self):
        run = toy.a_run("heatmaps")
        run.model.taps = {"short": "1", "head": "1"}
        both = dataclasses.replace(
            run, activations={"short": torch.rand(1, 2, 3, 3), "head": torch.rand(1, 2, 3, 3)}
        )
        assert activations.compute(both, activations.Params()).taps == ("short",)

    def test_nothing_recorded_is_said(self):
        with pytest.raises(NotAvailable, match="record"):
            activations.compute(toy.a_run("heatmaps", record=()), activations.Params())


class TestWeights:
    def test_moments_by_hand(self, heat):
        report = weights.compute(heat, weights.Params(kind="matrices"))
        # Kernel 0 is one red 1 among 27; kernel 1 nine green 1s: 10 ones among 54.
        assert report.modules == ("0",)
        assert report.counts[0] == 54
        assert report.zeros[0] == pytest.approx(44 / 54)
        assert report.norms[0] == pytest.approx(np.sqrt(10 / 54))
        assert report.densities.sum() == pytest.approx(1)

    def test_without_an_outlier_none_is_named(self, heat):
        report = weights.compute(heat, weights.Params(kind="matrices"))
        assert report.outliers.sum() == 0
        assert (
            "none lies beyond 6 std: the largest distance from the mean, 2.1 std, is in 0" in report.summary()
        )
        assert "furthest outlier" not in report.summary()

    def test_an_outlier_is_found_and_named(self):
        run = toy.a_run("seventeen")
        with torch.no_grad():
            run.model.module[1].weight.view(-1)[7] = 100
        report = weights.compute(run, weights.Params(kind="matrices"))
        assert report.outliers[0] == pytest.approx(1 / report.counts[0])
        assert "furthest outlier, 50 std, is in 1" in report.summary()
        assert report.densities.sum() == pytest.approx(1)  # beyond the span it still is counted

    def test_weights_that_are_not_finite_come_first(self):
        run = toy.a_run("seventeen")
        with torch.no_grad():
            run.model.module[2].bias[0] = float("inf")
        report = weights.compute(run, weights.Params())
        assert report.summary().startswith("2.94 % of the weights in 2 are not finite")
        assert report.plot().data

    @pytest.mark.parametrize(
        ("name", "axes", "kind"),
        [
            ("a.weight", 4, "matrices"),
            ("bn.weight", 1, "scales"),
            ("bn.bias", 1, "biases"),
            ("gau.gamma", 2, "matrices"),
        ],
    )
    def test_kinds_are_told_by_shape_and_name(self, name, axes, kind):
        assert weights.kind_of(name, axes) == kind

    def test_a_network_without_parameters_is_said(self, heat):
        model = toy.ToyHeatmaps()
        model.module = nn.Identity()
        with pytest.raises(NotAvailable, match="no parameters"):
            weights.compute(dataclasses.replace(heat, model=model), weights.Params())


class TestGradients:
    def test_equal_pytorchs_own_backward_pass(self):
        from workbench.decoding.targets import target

        run = toy.a_run("seventeen")
        report = gradients.compute(run, gradients.Params())
        truth = run.truth
        points = truth[..., :2] - toy.CORNER
        wanted = target(run.model.codec, points, (truth[..., 2] > 0).astype(float))
        output = run.model.module(run.batch.pixels)
        seen = torch.from_numpy(wanted["weights"])[..., None, None]
        loss = ((output - torch.from_numpy(wanted["heatmaps"])) ** 2 * seen).mean()
        loss.backward()
        assert report.loss == pytest.approx(loss.item(), rel=1e-6)
        convolution = run.model.module[1]
        norm = np.sqrt(sum(float((p.grad**2).sum()) for p in convolution.parameters()))
        assert report.norms[0] == pytest.approx(norm, rel=1e-5)
        assert np.isnan(report.per_keypoint[3])  # annotated in no sample
        assert np.nansum(report.per_keypoint) == pytest.approx(report.loss)

    def test_the_simcc_loss_is_mmposes(self):
        from workbench.models import mmpose_compat

        mmpose_compat.install()
        from mmpose.models.losses import KLDiscretLoss

        from workbench.decoding.targets import target

        run = toy.a_run("simcc")
        report = gradients.compute(run, gradients.Params(beta=10))
        wanted = target(run.model.codec, np.array([[[3.0, 4], [6, 5]]] * 2), np.ones((2, 2)))
        theirs = KLDiscretLoss(beta=10.0, label_softmax=True, label_beta=10.0, use_target_weight=True)
        labels = tuple(torch.from_numpy(t) for t in wanted["simcc"])
        assert report.loss == pytest.approx(
            float(theirs(run.outputs.simcc, labels, torch.from_numpy(wanted["weights"]))), rel=1e-5
        )

    def test_one_keypoint_leaves_the_others_weights_alone(self):
        run = toy.a_run("simcc")
        all_of_it = gradients.compute(run, gradients.Params())
        one = gradients.compute(run, gradients.Params(keypoint="left_nose"))
        assert one.loss == pytest.approx(all_of_it.per_keypoint[0])
        assert one.zeros[0] >= 0.5  # the green keypoint's half of the weights gets nothing

    def test_frozen_weights_are_measured_and_stay_frozen(self):
        run = toy.a_run("seventeen")
        free = gradients.compute(run, gradients.Params())
        for parameter in run.model.module.parameters():
            parameter.requires_grad_(False)
        run.model.module[2].train()
        frozen = gradients.compute(run, gradients.Params())
        np.testing.assert_array_equal(frozen.norms, free.norms)
        assert not any(p.requires_grad or p.grad is not None for p in run.model.module.parameters())
        assert run.model.module[2].training
        assert not run.model.module[1].training

    def test_an_unreached_module_is_named(self):
        run = toy.a_run("heatmaps")
        run.model.module.add_module("idle", nn.Linear(2, 2))
        run.model.forward = lambda batch: Outputs(
            heatmaps=run.model.module[1](run.model.module[0](batch.pixels))
        )
        report = gradients.compute(run, gradients.Params())
        assert "no gradient reaches idle" in report.summary()
        assert report.plot().data

    def test_keypoints_outside_the_crop_are_said(self):
        run = toy.a_run("heatmaps")
        truth = np.array([[500.0, 500, 2], [500, 500, 2]])
        away = dataclasses.replace(
            run, samples=tuple(dataclasses.replace(s, truth=truth) for s in run.samples)
        )
        with pytest.raises(NotAvailable, match="no annotated keypoint lies inside"):
            gradients.compute(away, gradients.Params())
