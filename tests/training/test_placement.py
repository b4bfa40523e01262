"""Where predictions lie after training: every rule on planted places, and places that follow none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.training.tiny import Tiny, picture
from workbench.core import Skeleton
from workbench.core.geometry import apply, inverse
from workbench.decoding.targets import target
from workbench.training.bisection import sign_text
from workbench.training.overfit import overfit
from workbench.training.placement import Placed, heap_text, map_text, placement_text, placements
from workbench.training.plan import Plan
from workbench.training.settings import Settings

NAMES = ("nose", "left_eye", "right_eye", "left_hip", "right_hip", "left_knee", "right_knee", "tail")
MIRROR = (0, 2, 1, 4, 3, 6, 5, 7)
TRUTH = np.array([[40.0, 10], [30, 8], [52, 8], [25, 50], [60, 48], [22, 70], [63, 74], [80, 40]])


def by(x, y):
    return TRUTH + np.array([x, y])


def placed(read, cell=4.0):
    return Placed(np.asarray(read, float), TRUTH, 96.0, cell, MIRROR, NAMES)


def noise(size, seed=0):
    return np.random.default_rng(seed).normal(0, size, TRUTH.shape)


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (by(8, -6), "(+8.0, -6.0) input pixels (x, y) from where they should"),
        (by(2, 0), "(+2.0, +0.0) input pixels"),
        (TRUTH[:, ::-1], "right once x and y are exchanged"),
        (TRUTH[list(MIRROR)], "left and right are exchanged: 6 of 8"),
        (np.roll(TRUTH, 1, 0), "8 of 8 predictions lie at another keypoint (nose at tail, left_eye at nose"),
        ((95, 0) + TRUTH * (-1, 1), "mirrored left to right (x = -1.00 x + 95, y = 1.00 y + 0"),
        ((0, 95) + TRUTH * (1, -1), "upside down"),
        (95 - TRUTH, "turned by 180 degrees"),
        (TRUTH / 4, "on another scale (x = 0.25 x + 0, y = 0.25 y + 0"),
        (TRUTH[:, ::-1] * (2, 1), "on another scale, and x and y are exchanged"),
    ],
)
def test_places_that_follow_a_rule_are_told_with_it(read, words):
    for off in (0, noise(0.3)):
        assert words.split("(x =")[0].split("(+")[0] in placement_text(placed(read + off))
    assert words in placement_text(placed(read))


@pytest.mark.parametrize(
    "read",
    [
        TRUTH,
        TRUTH + noise(1.5),
        by(1, 1),  # a quarter of a cell
        TRUTH + noise(30),  # no rule
        TRUTH.mean(0) + (TRUTH - TRUTH.mean(0)) * 0.5,  # not yet learned
        np.where(np.arange(8)[:, None] < 4, TRUTH, np.nan),
        np.full_like(TRUTH, np.nan),
        np.where(np.arange(8)[:, None] < 5, TRUTH, TRUTH + 30),  # the last three are lost
    ],
)
def test_places_that_are_right_or_follow_no_rule_are_told_nothing(read):
    assert placement_text(placed(read)) == ""


def test_a_rule_that_brings_one_keypoint_of_a_nearly_trained_network_is_not_told():
    off = np.array([[-1.4, 0], [1.4, 0], [-3, 1], [3, 1], [2, -2], [-2, 2], [1, 3], [5.2, -1]])
    read = TRUTH + off
    assert not placed(read).explains(read)
    assert placement_text(placed(read)) == ""
    assert "on another scale" in placement_text(placed(TRUTH * 1.2 + off / 10))


def test_a_shift_that_the_verdict_allows_is_not_told_where_the_output_has_no_cells():
    assert placement_text(placed(by(2, 2), cell=0)) == ""
    assert "(+9.0, +9.0)" in placement_text(placed(by(9, 9), cell=0))


def test_predictions_in_one_place_are_told():
    assert "about (94, 94) in input pixels" in heap_text(placed(np.full_like(TRUTH, 94) + noise(0.2)))
    assert heap_text(placed(TRUTH)) == heap_text(placed(TRUTH * 0.5)) == ""


def test_maps_without_a_position_are_told():
    maps = torch.rand(1, 4, 8, 8)
    labelled = np.array([[True, True, True, False]])
    assert map_text(maps, labelled) == ""
    assert "the maps of all labelled keypoints are equal" in map_text(
        maps[:, :1].expand(-1, 4, -1, -1), labelled
    )
    maps[0, 3] = 0  # nobody asked for it
    assert map_text(maps, labelled) == ""
    maps[0, :2] = 0.3
    assert "the maps of 2 of 3 labelled keypoints have the same value" in map_text(maps, labelled)
    assert "3 of 3" in map_text(torch.zeros(1, 4, 8), labelled)


class Answering(Tiny):
    """Its maps are the targets of changed keypoints; nothing is trained."""

    def __init__(self, change):
        super().__init__()
        self.skeleton = Skeleton("tiny-8", NAMES, (), MIRROR, (0.05,) * 8, "made up")
        self.change = change

    def forward(self, batch):
        from workbench.training.trainer import batch_target

        truth = np.array(batch.samples[0].truth)
        truth[:, :2] = self.change(truth[:, :2])
        moved = dataclasses.replace(batch.samples[0], truth=truth)
        return batch_target(dataclasses.replace(batch, samples=(moved,)), self.codec, "cpu").as_outputs()


def scene():
    """A picture of 64 x 64 whose crop is twice as small; keypoints on the centres of cells."""
    truth = np.column_stack([np.round(TRUTH * 0.6 / 4) * 4 + 2, np.full(8, 2.0)])
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return dataclasses.replace(picture(), image=np.kron(image, np.ones((4, 4, 1), np.uint8)), truth=truth)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t, ""),
        (lambda t: t + np.array([8, 0]), "input pixels (x, y) from where they should"),
        (lambda t: t[list(MIRROR)], "left and right are exchanged: 6 of 8"),
        (lambda t: t[:, ::-1], "once x and y are exchanged"),
    ],
)
def test_a_model_that_answers_elsewhere_is_told_by_which_rule(change, words):
    model = Answering(change)
    found = list(placements(model, model.prepare([scene()]), Plan()))
    assert [words in one.text for one in found] == ([True] if words else [])
    assert not any(one.decides for one in found), "a switch may remove it: the target is the workbench's"


def test_negated_maps_are_told():
    class Negated(Answering):
        def forward(self, batch):
            outputs = super().forward(batch)
            return dataclasses.replace(outputs, heatmaps=-outputs.heatmaps)

    model = Negated(lambda t: t)
    (one,) = placements(model, model.prepare([scene()]), Plan())
    assert "right once the maps are negated" in one.text


def test_maps_that_collapsed_are_told_and_the_switches_are_tried_all_the_same():
    class Collapsed(Answering):
        def forward(self, batch):
            outputs = super().forward(batch)
            return dataclasses.replace(outputs, heatmaps=outputs.heatmaps * 0)

    model = Collapsed(lambda t: t)
    (one,) = placements(model, model.prepare([scene()]), Plan())
    assert "8 of 8 labelled keypoints have the same value in every cell" in one.text
    assert not one.decides, "too high a learning rate does it too"


def test_an_own_target_that_exchanges_x_and_y_is_named_without_a_bisection():
    class Exchanging(Tiny):
        def __init__(self, exchanged):
            super().__init__()
            torch.manual_seed(0)
            self.module[7] = torch.nn.Conv2d(16, 8, 5, 1, 2)
            self.skeleton = Skeleton("tiny-8", NAMES, (), MIRROR, (0.05,) * 8, "made up")
            self.codec = dataclasses.replace(self.codec, decoder="dark")
            self.exchanged = exchanged

        def objective(self, outputs, batch):
            points = apply(inverse(batch.to_image[0]), batch.samples[0].truth[:, :2])
            wanted = target(
                self.codec, (points[:, ::-1] if self.exchanged else points)[None], np.ones((1, 8))
            )
            return {"mse": ((outputs.heatmaps - torch.as_tensor(wanted["heatmaps"])) ** 2).mean() * 100}

    plan = Plan(Settings(steps=120, learning_rate=0.01, weight_decay=0.0))
    report = overfit(Exchanging(True), [scene()], plan)
    assert "the predictions are right once x and y are exchanged" in report.summary(), report.summary()
    assert not report.trials
    assert "no switch removes what was seen" in report.summary()
    healthy = overfit(Exchanging(False), [scene()], plan)
    assert healthy.headline == "learned", healthy.summary()


def test_a_loss_that_falls_without_bound_is_told_and_a_likelihood_is_not():
    def rows(*losses):
        return [{"step": i + 1, "loss": loss} for i, loss in enumerate(losses)]

    assert "from -2 to -4e+03" in sign_text(rows(-2.0, -4000.0))
    assert sign_text(rows(5.0, -40.0)) == sign_text(rows(2.0, 0.01)) == sign_text([]) == ""
