"""Where the keypoints lie and what the maps say: overlay, grids, curves, peaks, by hand."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from tests import toy
from workbench.core import NotAvailable, Outputs, Prediction
from workbench.inspectors.outputs import heatmap_grid, overlay, peaks, simcc_curves


@pytest.fixture(scope="module")
def heat():
    return toy.a_run("heatmaps")


@pytest.fixture(scope="module")
def curves():
    return toy.a_run("simcc")


def without_truth(run):
    samples = [dataclasses.replace(s, truth=None) for s in run.samples]
    return dataclasses.replace(run, samples=samples, batch=run.model.prepare(samples))


def with_predictions(run, points, scores=(1.0, 1.0)):
    prediction = Prediction(np.array(points, float), np.array(scores, float))
    return dataclasses.replace(run, predictions=(prediction,) * len(run.samples))


def with_heatmaps(run, maps):
    maps = torch.as_tensor(np.asarray(maps, np.float32))[None].repeat(len(run.samples), 1, 1, 1)
    return dataclasses.replace(run, outputs=Outputs(heatmaps=maps))


class TestOverlay:
    def test_errors_are_distances_in_image_pixels(self, heat):
        run = with_predictions(heat, [[7 + 3, 9 + 4], [10, 10]])
        report = overlay.compute(run, overlay.Params())
        np.testing.assert_allclose(report.errors, [5, 0])
        assert "Largest error: left_nose, 5.0 px (56 % of the box's longer side)" in report.summary()
        assert "the mean error of 2 annotated keypoints is 2.5 px" in report.summary()

    def test_the_networks_region_is_outlined_at_pixel_edges(self, heat):
        corners = overlay.compute(heat, overlay.Params()).corners
        np.testing.assert_allclose(corners, [[3.5, 4.5], [12.5, 4.5], [12.5, 13.5], [3.5, 13.5]])

    def test_exchanged_sides_are_named(self, heat):
        report = overlay.compute(with_predictions(heat, [[10, 10], [7, 9]]), overlay.Params())
        assert report.swapped.all()
        assert "left and right seem exchanged at left_nose, right_tail" in report.summary()

    def test_sides_are_not_known_where_nothing_is_annotated(self, heat):
        report = overlay.compute(without_truth(heat), overlay.Params())
        assert [row["swapped"] for row in report.table()] == [None, None]
        assert [row["swapped"] for row in overlay.compute(heat, overlay.Params()).table()] == [False, False]
        assert "exchanged" not in report.summary()

    def test_sides_are_not_judged_where_both_annotations_lie_within_the_oks_tolerance(self, heat):
        # The two annotations lie 3.2 px apart: a nose of sigma .1 on a person of 900 px forgives 7 px.
        skeleton = dataclasses.replace(heat.model.skeleton, sigmas=(0.1,) * len(heat.model.skeleton))
        for area, swapped in ((900.0, False), (4.0, True)):
            model = copy.copy(heat.model)
            model.skeleton = skeleton
            samples = [dataclasses.replace(s, area=area) for s in heat.samples]
            run = dataclasses.replace(heat, model=model, samples=samples)
            report = overlay.compute(with_predictions(run, [[10, 10], [7, 9]]), overlay.Params())
            assert report.swapped.all() == report.swapped.any() == swapped
            assert ("left and right seem exchanged" in report.summary()) == swapped

    def test_low_scores_are_not_drawn_and_stay_in_the_table(self, heat):
        run = with_predictions(heat, [[7, 9], [10, 10]], (0.9, 0.1))
        report = overlay.compute(run, overlay.Params(threshold=0.5))
        np.testing.assert_array_equal(report.drawn, [True, False])
        assert len(report.table()) == 2

    def test_unlabelled_keypoints_have_no_error(self, heat):
        truth = np.array([[7.0, 9, 2], [0, 0, 0]])
        run = dataclasses.replace(heat, samples=(dataclasses.replace(heat.samples[0], truth=truth),))
        errors = overlay.compute(run, overlay.Params()).errors
        assert errors[0] == 0
        assert np.isnan(errors[1])

    def test_a_heatmap_lies_on_the_crop_it_was_made_from(self, heat):
        report = overlay.compute(heat, overlay.Params(heatmap="left_nose"))
        assert report.edges == pytest.approx((3.5, 4.5, 12.5, 13.5))
        np.testing.assert_array_equal(report.layer, heat.heatmaps[0, 0])
        assert len(report.plot().layout.images) == 2

    def test_a_heatmap_of_a_rotated_crop_is_refused_with_the_reason(self, heat):
        turned = np.array([[[0.0, -1, 9], [1, 0, 0]]] * 2)
        run = dataclasses.replace(heat, batch=dataclasses.replace(heat.batch, to_image=turned))
        with pytest.raises(NotAvailable, match="rotated"):
            overlay.compute(run, overlay.Params(heatmap="all keypoints"))

    def test_the_whole_sample_can_be_missing_its_keypoints(self, heat):
        report = overlay.compute(
            with_predictions(heat, np.full((2, 2), np.nan), (np.nan, np.nan)), overlay.Params()
        )
        assert not report.drawn.any()
        assert report.summary()
        report.plot()


class TestHeatmapGrid:
    def test_peaks_are_found_and_compared_on_input_pixels(self, heat):
        report = heatmap_grid.compute(heat, heatmap_grid.Params())
        np.testing.assert_allclose(report.peaks, [[3, 4], [5, 4]])
        np.testing.assert_allclose(report.truth, [[3, 4], [6, 5]])
        np.testing.assert_allclose(report.errors, [0, np.sqrt(2)])
        np.testing.assert_allclose(report.values, [0.5, 0.5])

    def test_a_map_of_one_value_has_no_peak(self, heat, curves):
        maps = heat.outputs.heatmaps.clone()
        maps[:, 1] = 0
        report = heatmap_grid.compute(
            dataclasses.replace(heat, outputs=Outputs(heatmaps=maps)), heatmap_grid.Params()
        )
        np.testing.assert_allclose(report.peaks, [[3, 4], [np.nan, np.nan]])
        assert "no peak, as the map has one value everywhere: right_tail" in report.summary()
        flat = dataclasses.replace(curves, outputs=Outputs(simcc=tuple(v * 0 for v in curves.outputs.simcc)))
        for run in (flat, dataclasses.replace(heat, outputs=Outputs(heatmaps=maps * 0))):
            report = heatmap_grid.compute(run, heatmap_grid.Params())
            assert np.isnan(report.peaks).all()
            assert report.summary() == "every map has one value everywhere, 0.00, and so no peak"
            report.plot()

    def test_cells_of_a_coarser_map_are_scaled_to_the_input(self):
        run = toy.a_run("seventeen")
        report = heatmap_grid.compute(run, heatmap_grid.Params())
        y, x = np.unravel_index(run.heatmaps[0, 5].argmax(), (64, 48))
        np.testing.assert_allclose(report.peaks[5], [4 * x, 4 * y])

    def test_a_peak_on_another_person_is_not_held_against_this_one(self):
        """Both people are lit alike and the first is found; sample 1 is the second person, 12 px away."""
        report = heatmap_grid.compute(toy.a_run("people"), heatmap_grid.Params(instance="crowd/1/1"))
        np.testing.assert_allclose(report.peaks, np.array(toy.PLACES[0]) + 0.5)  # where grouping places them
        np.testing.assert_allclose(report.truth, toy.PLACES[0])
        np.testing.assert_allclose(report.errors, [np.sqrt(0.5)] * 2)

    def test_a_simcc_model_shows_the_product_of_its_softmaxes(self, curves):
        report = heatmap_grid.compute(curves, heatmap_grid.Params(beta=100))
        # Two bins of each axis are lit, so the mass lies on four cells of a quarter each.
        assert report.maps.shape == (2, 18, 18)
        np.testing.assert_allclose(report.maps.sum((1, 2)), 1, rtol=1e-6)
        np.testing.assert_allclose(report.maps[0, 8:10, 6:8], 0.25, atol=1e-6)
        np.testing.assert_allclose(report.peaks, [[3, 4], [6, 5]])
        assert report.pitch == (0.5, 0.5)
        assert report.origin == (0, 0)
        assert "share" in report.unit

    def test_many_bins_are_gathered_into_cells_that_lie_where_their_bins_do(self, curves):
        x, y = torch.zeros(1, 2, 256), torch.zeros(1, 2, 128)
        x[..., 101], y[..., 50] = 9, 9
        run = dataclasses.replace(curves, outputs=Outputs(simcc=(x, y)), samples=curves.samples[:1])
        report = heatmap_grid.compute(run, heatmap_grid.Params(beta=100))
        assert report.maps.shape == (2, 64, 64)
        row, column = np.unravel_index(report.maps[0].argmax(), (64, 64))
        assert (row, column) == (50 // 2, 101 // 4)
        centre = np.array([column, row]) * report.pitch + report.origin
        assert (np.abs(centre - [101 / 2, 50 / 2]) <= np.array(report.pitch) / 2).all()

    def test_one_scale_for_all_has_a_colour_bar_and_own_scales_have_none(self, heat):
        for scale, shown in (("shared", True), ("each", False)):
            figure = heatmap_grid.compute(heat, heatmap_grid.Params(scale=scale)).plot()
            assert figure.layout.coloraxis.showscale == shown

    def test_facts_leave_the_maps_out(self, heat):
        facts = heatmap_grid.compute(heat, heatmap_grid.Params()).to_json()
        assert not {"maps", "crop"} & set(facts)
        assert facts["peaks"] == [[3, 4], [5, 4]]


class TestPeaks:
    def test_one_lit_cell_is_certain(self, heat):
        report = peaks.compute(heat, peaks.Params(radius=3))
        assert report.bits[0, 0] == 0
        assert report.widths[0, 0] == 0
        assert report.ratios[0, 0] == 0
        assert np.isnan(report.distances[0, 0])

    def test_the_peak_of_another_person_is_no_doubt(self):
        report = peaks.compute(toy.a_run("people"), peaks.Params(radius=3))
        assert report.of_people
        np.testing.assert_allclose(report.ratios, 1)
        assert report.summary().endswith("(maps of all people: it may be another person's)")

    def test_nine_equal_cells_hold_their_logarithm(self, heat):
        assert peaks.compute(heat, peaks.Params()).bits[0, 1] == pytest.approx(np.log2(9))

    def test_the_sentence_names_the_least_certain_and_its_second_place(self, heat):
        maps = np.zeros((2, 9, 9))
        maps[0, 0, 0] = 1
        maps[1, 1, 1], maps[1, 4, 5] = 1, 0.82
        report = peaks.compute(with_heatmaps(heat, maps), peaks.Params(radius=2))
        bits = -(np.array([1, 0.82]) / 1.82 * np.log2(np.array([1, 0.82]) / 1.82)).sum()
        assert report.summary() == (
            f"right_tail is the least certain: entropy {bits:.1f} of 6.3 bits (median of 2 samples),"
            " second mode at 82 % of the first, 5 input px away"
        )

    def test_distances_are_input_pixels_also_of_coarse_maps(self):
        run = toy.a_run("seventeen")
        maps = np.zeros((17, 64, 48))
        maps[:, 10, 10], maps[:, 13, 14] = 1, 0.5
        report = peaks.compute(with_heatmaps(run, maps), peaks.Params(radius=10))
        np.testing.assert_allclose(report.distances, 20)

    def test_no_heat_at_all_is_said(self, heat):
        report = peaks.compute(with_heatmaps(heat, np.zeros((2, 9, 9))), peaks.Params())
        assert "No heatmap has a positive value" in report.summary()
        report.plot()

    def test_simcc_adds_the_entropies_of_both_axes(self, curves):
        report = peaks.compute(curves, peaks.Params(beta=100))
        # Two bins per pixel are lit on each axis: one bit along x, one along y.
        np.testing.assert_allclose(report.bits, 2, atol=1e-6)
        assert report.most_bits == pytest.approx(np.log2(18 * 18))


class TestSimCCCurves:
    def test_both_scores_are_read_from_raw_logits(self, curves):
        x, y = torch.zeros(1, 2, 18), torch.zeros(1, 2, 18)
        x[0, 0, 6], y[0, 0, 8] = 1.4, 0.8
        x[0, 1, 3], y[0, 1, 5] = 0.6, 0.2
        found = Prediction(np.zeros((2, 2)), np.array([0.8, 0.2]))
        run = dataclasses.replace(curves, outputs=Outputs(simcc=(x, y)), predictions=(found,))
        report = simcc_curves.compute(run, simcc_curves.Params(keypoint="left_nose"))
        assert (
            "score 0.80 as the smaller maximum of both axes (mmpose), 1.10 as their mean (rtmlib)"
            in report.summary()
        )
        np.testing.assert_allclose(report.places, [[3, 1.5], [4, 2.5]])
        assert simcc_curves.compute(run, simcc_curves.Params()).k == 1  # the lower score

    def test_a_second_mode_is_measured_on_the_softmax(self, curves):
        x, y = torch.zeros(1, 2, 18), torch.zeros(1, 2, 18)
        x[0, 0, 2], x[0, 0, 14], y[0, 0, 4] = 1.0, 0.9, 1.0
        run = dataclasses.replace(curves, outputs=Outputs(simcc=(x, y)))
        report = simcc_curves.compute(run, simcc_curves.Params(keypoint="left_nose", radius=2, beta=10))
        assert report.ratios[0, 0] == pytest.approx(np.exp(-1), rel=1e-6)
        assert report.seconds[0, 0] == 7
        assert "along x a second mode reaches 37 % of the first, 6 input px away" in report.summary()
        # A mode of y alone stands in the legend, too, and each line once.
        other = dataclasses.replace(curves, outputs=Outputs(simcc=(y, x)))
        for of in (report, simcc_curves.compute(other, simcc_curves.Params(keypoint="left_nose", radius=2))):
            listed = [trace.name for trace in of.plot().data if trace.showlegend]
            assert sorted(listed) == ["annotation", "maximum", "second mode"]

    def test_the_visibility_option_multiplies_by_sigma(self, curves):
        report = simcc_curves.compute(curves, simcc_curves.Params(beta=150, times_sigma=True))
        assert report.factor == 300

    def test_its_visibility_is_mmposes(self, curves):
        from workbench.models import mmpose_compat

        mmpose_compat.install()
        from mmpose.codecs import SimCCLabel

        codec = SimCCLabel(
            (9, 9), sigma=(2.0, 2.0), simcc_split_ratio=2.0, decode_visibility=True, decode_beta=3.0
        )
        logits = np.random.default_rng(0).normal(size=(2, 1, 2, 18)).astype(np.float32)
        _, (_, visibility) = codec.decode(logits[0].copy(), logits[1].copy())
        run = dataclasses.replace(
            curves, outputs=Outputs(simcc=(torch.from_numpy(logits[0]), torch.from_numpy(logits[1])))
        )
        for k, name in enumerate(run.model.skeleton.keypoints):
            params = simcc_curves.Params(keypoint=name, beta=3, times_sigma=True)
            report = simcc_curves.compute(run, params)
            assert min(s.max() for s in report.shares) == pytest.approx(visibility[0, k], rel=1e-5)
