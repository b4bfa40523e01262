"""Grad-CAM, occlusion, integrated gradients and feature ablation: answers by hand on toys, laws, bad
input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tests import toy
from workbench.core import NotAvailable, Outputs
from workbench.core.run import run as make_run
from workbench.inspectors.attribution import feature_ablation, grad_cam, integrated_gradients, occlusion
from workbench.inspectors.attribution.methods import baseline


class Linear(toy.ToyHeatmaps):
    """Every cell of map k is a weighted sum of channel k over the crop: nothing is local, gradients are
    known."""

    def __init__(self):
        super().__init__()
        layer = nn.Conv2d(3, 2, 9, padding=4, bias=False)
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[0, 0] = torch.arange(81.0).view(9, 9) / 81
            layer.weight[1, 1] = 1
        self.module = nn.Sequential(layer).eval()
        self.taps = {"layer": "0"}


class Inert(toy.ToyHeatmaps):
    """Outputs computed outside of PyTorch's graph, as those of an exported program."""

    def forward(self, batch):
        return Outputs(heatmaps=torch.from_numpy(self.module(batch.pixels).detach().numpy()))


class Blind(toy.ToyHeatmaps):
    """The same maps for every image."""

    def forward(self, batch):
        maps = self.module(batch.pixels) * 0
        maps[:, :, 4, 4] = 1
        return Outputs(heatmaps=maps)


def looked(model):
    return make_run(model, toy.samples(model))


class TestGradCam:
    def test_of_the_last_layer_is_the_map_over_its_number_of_cells(self):
        """By hand: the gradient is 1 at one of 81 cells, so each channel is weighted with 1/81."""
        run = toy.a_run("heatmaps")
        report = grad_cam.compute(run, grad_cam.Params(layer="head"))
        np.testing.assert_allclose(report.maps, run.heatmaps[0] / 81, rtol=1e-6)
        assert report.strongest.tolist() == report.points.tolist()
        np.testing.assert_allclose(report.away, 0)

    def test_place_by_place_it_shows_what_the_answer_reads_and_nothing_else(self):
        """By hand: cell p of map 1 reads the 3x3 green pixels around it; another lit pixel is not read."""
        model = toy.ToyHeatmaps()
        images = [s.image.copy() for s in toy.samples(model, 1)]
        images[0][toy.CORNER[1] + 1, toy.CORNER[0] + 1, 1] = 200  # a second, weaker green light
        sample = dataclasses.replace(toy.samples(model, 1)[0], image=images[0])
        model.module = nn.Sequential(nn.Identity(), *model.module).eval()
        model.taps = {"input": "0", "head": "2"}
        run = make_run(model, [sample])
        mean, own = (
            grad_cam.compute(run, grad_cam.Params(layer="input", weights=weights)).maps[1]
            for weights in ("mean over places", "place by place")
        )
        assert mean[1, 1] > 0
        assert own[1, 1] == 0
        assert own[5, 6] == pytest.approx(1.0)  # weight 1, pixel 1
        assert own.sum() == pytest.approx(1.0)

    def test_a_simcc_head_is_read_place_by_place_and_a_heatmap_with_the_mean_unless_asked_otherwise(self):
        assert grad_cam.compute(toy.a_run("simcc"), grad_cam.Params()).weights == "place by place"
        assert grad_cam.compute(toy.a_run("heatmaps"), grad_cam.Params()).weights == "mean over places"
        asked = grad_cam.Params(weights="mean over places")
        assert grad_cam.compute(toy.a_run("simcc"), asked).weights == "mean over places"

    def test_automatic_takes_the_last_map_at_the_coarsest_resolution_before_the_keypoints_own(self):
        model = toy.ToyHeatmaps()
        model.module = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(3), nn.Conv2d(6, 5, 1), nn.AdaptiveAvgPool2d(1),
            nn.Upsample((9, 9)), nn.Conv2d(5, 4, 1), nn.Conv2d(4, 2, 1),
        ).eval()  # fmt: skip
        model.taps = {name: name for name in "0123456"}
        report = grad_cam.compute(looked(model), grad_cam.Params())
        assert report.layer == "2"
        assert report.size == (5, 3, 3)
        assert report.pitch == (3.0, 3.0)
        assert report.origin == (1.0, 1.0)

    def test_evidence_against_a_keypoint_is_kept_only_when_asked_for(self):
        run = toy.a_run("seventeen", n=1)
        # The last layer's own map at the coarsest resolution holds values below zero before the ReLU.
        signed = grad_cam.compute(run, grad_cam.Params(layer="norm", positive=False))
        positive = grad_cam.compute(run, grad_cam.Params(layer="norm"))
        assert (signed.maps < 0).any()
        np.testing.assert_array_equal(positive.maps, signed.maps.clip(0))
        assert signed.against.max() > 0

    def test_a_model_outside_of_pytorch_is_told_what_needs_no_gradient(self):
        with pytest.raises(NotAvailable, match="Occlusion"):
            grad_cam.compute(looked(Inert()), grad_cam.Params())

    def test_one_keypoint_is_drawn_alone(self):
        run = toy.a_run("heatmaps")
        report = grad_cam.compute(run, grad_cam.Params(keypoint="right_tail"))
        assert report.chosen == 1
        assert "right_tail" in report.summary()
        assert len([t for t in report.plot().data if t.type == "heatmap"]) == 1


class TestOcclusion:
    def test_covering_the_one_lit_pixel_takes_the_whole_peak(self):
        """Window 2, stride 1 over 9x9: the peak of .5 falls to 0 in the 4 windows that hold pixel (3, 4)."""
        run = toy.a_run("heatmaps")
        report = occlusion.compute(run, occlusion.Params(window=0.2, stride=0.5))
        assert report.window == 2
        assert report.windows == 64
        assert report.maps[0, 4, 3] == pytest.approx(0.5)
        assert report.maps[0, 3, 3] == pytest.approx(0.25)  # half of the windows over it hold the lit pixel
        assert report.maps[0, 0, 0] == 0
        assert report.strongest[0].tolist() == [3, 4]
        assert report.falls[0] == pytest.approx(0.5)

    def test_an_output_that_does_not_depend_on_the_image_is_told(self):
        for run in (looked(Blind()), toy.a_run("sequence")):
            summary = occlusion.compute(run, occlusion.Params()).summary()
            assert "does not depend on the image" in summary

    def test_it_works_on_a_model_outside_of_pytorch(self):
        found, expected = (
            occlusion.compute(looked(model), occlusion.Params()).maps
            for model in (Inert(), toy.ToyHeatmaps())
        )
        np.testing.assert_array_equal(found, expected)

    def test_the_window_and_the_fill_change_the_answer(self):
        run = toy.a_run("seventeen", n=1)
        zero, mean = (
            occlusion.compute(run, occlusion.Params(window=0.5, fill=fill)).maps for fill in ("zero", "mean")
        )
        assert not np.allclose(zero, mean)


class TestIntegratedGradients:
    def test_of_a_linear_network_is_weight_times_difference_at_every_number_of_steps(self):
        """By hand: map 0 at its peak p is a sum of weight[q - p + 4] times red pixel q."""
        run = looked(Linear())
        report = integrated_gradients.compute(run, integrated_gradients.Params(keypoint="left_nose", steps=4))
        x, y = report.point.astype(int)
        expected = np.zeros((9, 9))
        weight = np.arange(81.0).reshape(9, 9) / 81
        expected[4, 3] = weight[4 - y + 4, 3 - x + 4]  # the one lit red pixel, of value 1
        np.testing.assert_allclose(report.map, expected, atol=1e-6)
        assert report.error == pytest.approx(0, abs=1e-5)
        assert report.to_findings() == ()

    def test_the_sum_is_the_rise_from_baseline_to_image(self):
        run = toy.a_run("seventeen", n=1)
        report = integrated_gradients.compute(
            run, integrated_gradients.Params(keypoint=run.model.skeleton.keypoints[5], steps=100)
        )
        rise = report.value - report.value_of_baseline
        assert report.total == pytest.approx(rise, rel=0.02)
        assert report.error < 0.02

    def test_too_few_steps_are_a_finding_and_more_take_it_away(self):
        class Steep(toy.ToyHeatmaps):
            """The value rises at the end alone: nearly all of the path has no gradient."""

            def forward(self, batch):
                return Outputs(heatmaps=torch.relu(batch.pixels[:, :2] - 0.97) * 10)

        run = looked(Steep())
        few, many = (
            integrated_gradients.compute(run, integrated_gradients.Params(keypoint="left_nose", steps=s))
            for s in (4, 200)
        )
        assert [finding.cause for finding in few.to_findings()] == ["too few steps"]
        assert few.to_json()["findings"][0]["fix"]
        assert "too few steps" in few.summary()
        assert many.to_findings() == ()

    def test_a_baseline_that_is_the_image_itself_is_refused(self):
        model = toy.ToyHeatmaps()
        grey = [dataclasses.replace(s, image=np.full_like(s.image, 200)) for s in toy.samples(model)]
        with pytest.raises(ValueError, match="choose another baseline"):
            integrated_gradients.compute(make_run(model, grey), integrated_gradients.Params(baseline="mean"))

    def test_a_sequence_model_that_reads_no_pixel_says_so(self):
        report = integrated_gradients.compute(toy.a_run("sequence"), integrated_gradients.Params())
        assert "does not depend on the image" in report.summary()

    def test_a_model_outside_of_pytorch_is_told_what_needs_no_gradient(self):
        with pytest.raises(NotAvailable, match="Occlusion"):
            integrated_gradients.compute(looked(Inert()), integrated_gradients.Params())


class TestFeatureAblation:
    def test_each_toy_keypoint_needs_its_own_pixel_alone(self):
        run = toy.a_run("heatmaps")
        report = feature_ablation.compute(run, feature_ablation.Params(radius=0.12, fill="zero"))
        assert report.regions == ("left_nose", "right_tail", "rest of the box", "outside the box")
        assert report.falls[0, 0] == pytest.approx(0.5)
        assert report.falls[0, 1] == pytest.approx(0)
        assert np.isnan(report.falls[:, 3]).all()  # the crop is the box
        assert report.sizes.sum() == pytest.approx(1)

    def test_a_network_that_reads_the_mirror_partner_is_found_out(self):
        class Swapped(toy.ToyHeatmaps):
            """Map 0 is lit at the red pixel by the green one."""

            def forward(self, batch):
                maps = batch.pixels[:, :2].clone()
                maps[:, 0, 4, 3] = batch.pixels[:, 1, 5, 6]
                return Outputs(heatmaps=maps)

        report = feature_ablation.compute(
            looked(Swapped()), feature_ablation.Params(radius=0.12, fill="zero")
        )
        assert report.strongest[0] == 1
        assert "the largest fall is that of left_nose without its mirror partner" in report.summary()

    def test_falls_equal_taking_each_region_away_by_hand(self):
        run = toy.a_run("seventeen", n=1)
        report = feature_ablation.compute(run, feature_ablation.Params(fill="zero"))
        from workbench.inspectors.attribution.targets import score_of, targets_of

        targets = targets_of(run, 0)
        score = score_of(run, 0, targets)
        region = feature_ablation.regions_of(run, 0, targets, 0.12)
        with torch.no_grad():
            plain = score(run.batch.pixels)[0]
            for r in np.unique(region):
                without = run.batch.pixels * torch.from_numpy(region != r)
                fall = (plain - score(without)[0]).numpy()
                np.testing.assert_allclose(report.falls[:, r], fall, atol=1e-5)

    def test_a_blind_network_is_told(self):
        summary = feature_ablation.compute(looked(Blind()), feature_ablation.Params()).summary()
        assert "does not depend on the image" in summary


class TestBaselines:
    def test_they_are_black_the_mean_colour_and_a_copy_without_details(self):
        pixels = torch.zeros(3, 8, 8)
        pixels[0, :, :4] = 1
        assert not baseline(pixels, "zero").any()
        assert baseline(pixels, "mean")[0].unique().tolist() == [0.5]
        blurred = baseline(torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0)), "blurred")
        assert blurred.std() < 0.1
        assert blurred.mean() == pytest.approx(0.5, abs=0.02)
