"""Targets: which number of the output is explained, by hand on toys."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests import toy
from workbench.core import NotAvailable, Prediction
from workbench.inspectors.attribution.targets import kinds, one_sample, score_of, targets_of, with_pixels


def value(run, kind="", n=0):
    targets = targets_of(run, n, kind)
    with torch.no_grad():
        return targets, score_of(run, n, targets)(run.batch.pixels[n : n + 1])[0].numpy()


def test_kinds_are_those_of_the_outputs():
    assert kinds(toy.a_run("heatmaps")) == ["peak", "soft peak"]
    assert kinds(toy.a_run("simcc")) == ["x and y", "x", "y"]
    assert kinds(toy.a_run("sequence")) == ["token x", "token y", "token type"]
    assert kinds(toy.a_run("people")) == ["peak", "soft peak", "tag in person", "tag to next person"]
    assert kinds(toy.a_run("fields")) == []


def test_the_peak_is_the_heatmaps_value_at_its_maximum():
    run = toy.a_run("heatmaps")
    targets, values = value(run)
    np.testing.assert_allclose(values, run.heatmaps[0].max((1, 2)))
    assert targets.points.tolist() == [[3, 4], [5, 4]]  # the blurred green map is highest from (5, 4) on
    assert targets.keypoints == (0, 1)


def test_the_peak_stays_where_it_is_while_the_input_changes():
    run = toy.a_run("heatmaps")
    targets = targets_of(run, 0)
    moved = torch.roll(run.batch.pixels[:1], 1, dims=-1)
    with torch.no_grad():
        assert score_of(run, 0, targets)(moved)[0, 0] == 0  # the red pixel has left (3, 4)


def test_the_soft_peak_of_one_lit_cell_is_its_value_and_of_equal_cells_their_mean():
    run = toy.a_run("heatmaps")
    _, values = value(run, "soft peak")
    np.testing.assert_allclose(values, run.heatmaps[0].max((1, 2)), atol=1e-5)


def test_simcc_targets_are_the_logits_of_the_peak_bins():
    run = toy.a_run("simcc")
    x, y = (v[0] for v in run.simcc)
    np.testing.assert_allclose(value(run, "x")[1], x.max(1))
    np.testing.assert_allclose(value(run, "y")[1], y.max(1))
    np.testing.assert_allclose(value(run, "x and y")[1], x.max(1) + y.max(1))


def test_token_targets_are_the_free_running_answers():
    run = toy.a_run("sequence")
    answers = run.outputs.tokens["coordinates"][1].numpy()
    np.testing.assert_allclose(value(run, "token x", 1)[1], answers[:, 0], atol=1e-6)
    np.testing.assert_allclose(value(run, "token y", 1)[1], answers[:, 1], atol=1e-6)
    np.testing.assert_allclose(value(run, "token type", 1)[1], [0, 0, 0])  # coordinate: its logit is 0


def test_tag_targets_are_distances_in_the_person_and_to_the_next_one():
    run = toy.a_run("people")
    # Both keypoints of a person have one tag, 2 or 8: no distance within, 6 to the other person.
    np.testing.assert_allclose(value(run, "tag in person")[1], [0, 0], atol=1e-5)
    np.testing.assert_allclose(value(run, "tag to next person")[1], [6, 6], atol=1e-3)


def test_a_bottom_up_peak_is_the_persons_own_and_not_the_highest_of_the_image():
    run = toy.a_run("people")
    first, second = (targets_of(run, n) for n in (0, 1))
    np.testing.assert_allclose(first.points, toy.PLACES[0], atol=0.5)
    np.testing.assert_allclose(second.points, toy.PLACES[1], atol=0.5)
    brighter = run.batch.pixels.clone()
    y, x = toy.PLACES[0][0][1], toy.PLACES[0][0][0]
    brighter[:, :, y, x] = 0
    with torch.no_grad():
        dark = score_of(run, 1, second)(brighter[1:])[0]
        lit = score_of(run, 1, second)(run.batch.pixels[1:])[0]
    torch.testing.assert_close(dark, lit)  # the other person's light does not matter


def test_alone_in_the_image_nobody_is_next():
    run = toy.a_run("people")
    image = np.zeros_like(run.samples[0].image)
    image[:10, :10] = run.samples[0].image[:10, :10]
    from workbench.core.run import run as make

    alone = make(run.model, [dataclasses.replace(run.samples[0], image=image, others=())])
    with pytest.raises(NotAvailable, match="nobody else"):
        targets_of(alone, 0, "tag to next person")


def test_a_keypoint_that_was_not_found_has_no_target():
    run = toy.a_run("heatmaps")
    points = run.predictions[0].keypoints.copy()
    points[1] = np.nan
    run = dataclasses.replace(
        run, predictions=(Prediction(points, run.predictions[0].scores), *run.predictions[1:])
    )
    targets, values = value(run)
    assert targets.keypoints == (0,)
    assert values.shape == (1,)
    with pytest.raises(NotAvailable, match="did not find"):
        targets.only(1)


def test_a_sample_without_any_keypoint_is_refused():
    run = toy.a_run("heatmaps")
    nothing = Prediction(np.full((2, 2), np.nan), np.zeros(2))
    run = dataclasses.replace(run, predictions=(nothing, *run.predictions[1:]))
    with pytest.raises(NotAvailable, match="another sample"):
        targets_of(run, 0)


def test_an_unknown_kind_is_refused_with_near_ones():
    with pytest.raises(ValueError, match=r"nearest: .*peak"):
        targets_of(toy.a_run("heatmaps"), 0, "peek")


def test_the_batch_of_one_sample_keeps_what_belongs_to_it():
    run = toy.a_run("sequence", n=3)
    alone = one_sample(run, 2)
    assert alone.samples == run.batch.samples[2:]
    assert alone.extra["support"].shape[0] == 1
    torch.testing.assert_close(alone.extra["support"], run.batch.extra["support"][2:])
    four = with_pixels(alone, alone.pixels.repeat(4, 1, 1, 1))
    assert len(four) == 4
    assert four.extra["support"].shape[0] == 4
    assert len(four.samples) == 4
