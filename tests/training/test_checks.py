"""What no training is needed to see: each check on a planted fault and on a healthy network."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from tests.training.tiny import Tiny, picture
from workbench.core import Batch, Codec, Outputs, Prediction, Sample, Skeleton
from workbench.core.geometry import apply, inverse
from workbench.decoding import decode
from workbench.models.fresh import demo_model, new_model
from workbench.training.bisection import Trial, helped_most
from workbench.training.checks import _targets, before_training, decoder_text, input_text, mode_text
from workbench.training.gradients import clip_text
from workbench.training.overfit import overfit
from workbench.training.people import TaughtPeople, with_everybody
from workbench.training.plan import Plan
from workbench.training.sequences import trainable
from workbench.training.settings import Settings, default_settings, rate_text
from workbench.training.verdict import Verdict


def remarks(model, plan=None, sample=None):
    return [one.text for one in before_training(model, [sample or picture()], plan or Plan())]


class Changed(Tiny):
    """What enters the network is changed in evaluation mode, in training mode, or both."""

    def __init__(self, used=lambda x: x, trained=lambda x: x):
        super().__init__()
        self.used, self.trained = used, trained

    def forward(self, batch):
        change = self.trained if self.module.training else self.used
        return super().forward(dataclasses.replace(batch, pixels=change(batch.pixels)))


def test_a_healthy_network_is_told_nothing_and_stays_as_it_is():
    model = Tiny(dropout=0.3)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    state = torch.random.get_rng_state()
    assert remarks(model) == []
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in model.module.parameters())


@pytest.mark.parametrize("name", ["demo", "cape", "higherhrnet"])
def test_healthy_families_are_told_nothing(name, scene):
    data, sample = scene
    model = demo_model()[0] if name == "demo" else new_model(name, skeleton=data.skeleton)[0]
    model = trainable(model)
    samples = with_everybody([sample]) if isinstance(model, TaughtPeople) else [sample]
    assert before_training(model, samples, Plan(default_settings(model))) == ()


@pytest.fixture(scope="module")
def scene():
    from workbench.data import builtin

    data = builtin("scenes-val")
    return data, data.sample(data.labelled[0])


@pytest.mark.parametrize(
    ("used", "words"),
    [
        (lambda x: x.flip(1), "reverse order"),
        (lambda x: x / 255, "0.00392 times"),
        (lambda x: x * 255, "255 times"),
        (lambda x: (x + 3) / 2, "0.5 times"),
        (lambda x: x[..., :16, :16], "prepare both in the same way"),
    ],
)
def test_another_input_in_use_than_in_training_is_told(used, words):
    (text,) = remarks(Changed(used=used))
    assert words in text


class EvaluatedInside(Tiny):
    """Some layers are put in evaluation mode within every forward pass."""

    def __init__(self, kinds, dropout=0.0):
        super().__init__(dropout)
        self.kinds = kinds

    def forward(self, batch):
        for part in self.module.modules():
            if isinstance(part, self.kinds):
                part.eval()
        return super().forward(batch)


def test_layers_in_evaluation_mode_while_training_are_remarked():
    (text,) = remarks(EvaluatedInside(torch.nn.BatchNorm2d))
    assert text.startswith("2 of 2 batch norm layers (1, 5) run in evaluation mode")
    (text,) = remarks(EvaluatedInside(torch.nn.Module, dropout=0.3))
    assert "2 of 2 batch norm layers (1, 5) and 1 of 1 dropout layers (3) run in evaluation mode" in text
    found = before_training(EvaluatedInside(torch.nn.BatchNorm2d), [picture()], Plan())
    assert not any(one.decides for one in found), "frozen statistics of pretrained weights are no fault"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda x: x * 57 + 120,
            "right where the network normalises by itself, else look for a missing mean",
        ),
        (lambda x: (x + 0.5) / 255, "look for a scaling that is done twice"),
    ],
)
def test_input_far_from_mean_0_and_spread_1_is_remarked(change, words):
    (text,) = remarks(Changed(used=change, trained=change))
    assert text.startswith("the network's input has mean")
    assert words in text
    for healthy in (lambda x: x, lambda x: x + 0.5, lambda x: (x - 0.3) / 0.2):
        assert remarks(Changed(used=healthy, trained=healthy)) == []


def test_noise_that_training_alone_is_given_is_no_fault():
    assert remarks(Changed(trained=lambda x: x + 0.05 * torch.randn_like(x))) == []
    assert remarks(Changed(trained=lambda x: x.roll(1, -1))) == []


def test_an_image_of_other_brightness_is_told():
    bright = torch.rand(1, 3, 8, 8)
    assert "the input in training differs from that in use" in input_text(bright, torch.rand(1, 3, 8, 8) * 3)


@pytest.mark.parametrize(
    ("frozen", "words"),
    [
        (lambda name: not name.startswith("7"), "of the weights get a gradient"),
        (lambda name: name != "7.bias", "nothing of 0, 1, 4, 5 is trained"),
    ],
)
def test_a_network_that_is_mostly_frozen_is_told(frozen, words):
    model = Tiny()
    for name, parameter in model.module.named_parameters():
        parameter.requires_grad = not frozen(name)
    (text,) = remarks(model)
    assert words in text
    assert "requires_grad" in text


def test_a_factor_of_zero_on_the_rate_counts_as_frozen():
    model = Tiny()
    groups = {name: (0.0, 0.0) for name, _ in model.module.named_parameters()}
    (one,) = before_training(model, [picture()], Plan(Settings(groups=groups)))
    assert one.text.startswith("none of the weights get")
    assert not one.decides, "the bisection has a switch for it"


def test_a_frozen_stem_is_not_told():
    model = Tiny()
    model.module[0].weight.requires_grad = False
    assert remarks(model) == []


def test_clipping_far_below_the_gradient_is_named_before_training_and_after_too_few_steps():
    plan = Plan(Settings(steps=2, clip=1e-9))
    (seen,) = before_training(Tiny(), [picture()], plan)
    assert seen.culprit == "clip"
    norm, clip = map(float, re.search(r"norm is (\S+) and is clipped to (\S+),", seen.text).groups())
    assert clip == 1e-9
    assert norm > 1e-3
    # No trial of two steps learns the picture: what was seen before training names the cause.
    report = overfit(Tiny(), [picture()], plan)
    assert not report.verdict.learned
    assert not any(trial.passed for trial in report.trials)
    assert report.culprit == "clip", report.summary()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(clip=1e-4), False),  # a single value of 1e-6 is far above eps: Adam undoes the factor
        (Settings(clip=1e-4, optimizer_options={"eps": 1e-3}), True),
        (Settings(clip=1e-4, optimizer="sgd"), True),
        (Settings(clip=0.1, optimizer="sgd"), False),
        (Settings(clip=5.0, optimizer="sgd"), False),  # above the norm
        (Settings(clip=0.0, optimizer="sgd"), False),  # no clipping
    ],
)
def test_clipping_is_named_only_where_it_stops_this_optimizer(settings, named):
    assert bool(clip_text(1.0, 10_000, settings)) == named


def test_dead_units_are_told():
    model = Tiny()
    for place in (1, 5):
        torch.nn.init.constant_(model.module[place].bias, -5)
    (text,) = remarks(model)
    assert "nearly all values are zero" in text or "zero everywhere" in text


class LeavingOut(Tiny):
    """A loss of its own that throws visibility 1 away."""

    def objective(self, outputs, batch):
        from workbench.training.trainer import batch_target

        target = batch_target(batch, self.codec, "cpu")
        sure = torch.tensor(np.stack([s.truth[:, 2] == 2 for s in batch.samples])).float()
        off = ((outputs.heatmaps - target.heatmaps) ** 2).mean((2, 3))
        return {"mse": (off * target.weights * sure).mean()}


def occluded():
    sample = picture()
    truth = sample.truth.copy()
    truth[1, 2] = 1
    return dataclasses.replace(sample, truth=truth)


def test_labelled_keypoints_without_loss_are_told():
    (text,) = remarks(LeavingOut(), sample=occluded())
    assert text.startswith("1 of 3 labelled keypoints are without loss (right)")
    assert remarks(Tiny(), sample=occluded()) == []
    assert remarks(LeavingOut()) == [], "all are visible"


def with_codec(**changes):
    model = Tiny()
    model.codec = dataclasses.replace(model.codec, **changes)
    return model


class Coordinates(Tiny):
    """A network without codec whose own loss sees some of the keypoints' coordinates."""

    def __init__(self, seen):
        super().__init__()
        self.codec, self.seen = None, list(seen)
        self.module = torch.nn.Sequential(self.module, torch.nn.Flatten(2), torch.nn.Linear(256, 2))

    def forward(self, batch):
        return Outputs(tokens={"coordinates": self.module(batch.pixels)})

    def objective(self, outputs, batch):
        inside = apply(inverse(batch.to_image[0]), batch.samples[0].truth[:, :2]) / 32
        off = outputs.tokens["coordinates"][0] - torch.tensor(inside).float()
        return {"l1": off[self.seen].abs().mean()}


def test_labelled_keypoints_without_an_own_loss_are_told_where_the_output_is_coordinates():
    (text,) = remarks(Coordinates([0, 2]))
    assert text.startswith("1 of 3 labelled keypoints are without loss (right)")
    assert remarks(Coordinates([0, 1, 2])) == []


def test_a_peak_that_is_thinner_than_a_cell_or_wider_than_the_output_is_told():
    between = dataclasses.replace(picture(), truth=np.add(picture().truth, (2, 2, 0)))
    thin = remarks(with_codec(sigma=(0.3, 0.3), decoder="dark"), sample=between)
    assert any("small for cells of this size" in text for text in thin)
    wide = remarks(with_codec(sigma=(6.0, 6.0)))
    assert any("large for an output of 16 x 16 cells" in text for text in wide)


class Decoding(Tiny):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def decode(self, outputs, batch, options=None):
        found = super().decode(outputs, batch, options)
        return tuple(dataclasses.replace(p, keypoints=self.change(p.keypoints)) for p in found)


@pytest.mark.parametrize("change", [lambda p: p[:, ::-1], lambda p: p / 2, lambda p: p * np.nan])
def test_a_decoder_that_reads_elsewhere_than_was_written_decides(change):
    found = before_training(Decoding(change), [picture()], Plan())
    assert found
    assert all(one.decides for one in found)


def test_a_decoder_that_is_half_a_cell_off_is_told_although_pck_allows_it():
    points = np.random.default_rng(0).uniform(10, 80, (17, 2))
    side = np.full(17, 96.0)
    assert "+2.0, +2.0 input pixels (x, y) from the" in decoder_text(points + 2, points, 4.0, side)
    scattered = points + 8 * np.sign(points - points.mean(0))
    assert "look at the decoder, the order of x and y" in decoder_text(scattered, points, 4.0, side)
    rounded = np.round(points / 4) * 4
    assert decoder_text(rounded, points, 4.0, side) == "", "rounding to cells is no shift"
    assert "cell of 4 pixels is large for a box of 40" in decoder_text(rounded, points, 4.0, side * 0 + 40)


class OwnLoss(Tiny):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def objective(self, outputs, batch):
        return self.loss(outputs.heatmaps)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda maps: {"loss": maps.detach().mean()}, "the loss has no gradient.*detach"),
        (lambda maps: {"loss": maps.mean().item()}, "each a tensor, .* got dict of float"),
        (lambda maps: maps.mean(), "each a tensor, .* got Tensor"),
    ],
)
def test_an_objective_without_gradient_is_refused_in_a_sentence(loss, words):
    with pytest.raises(ValueError, match=words):
        remarks(OwnLoss(loss))


class Shifted(Tiny):
    """A heatmap model of stride 4 that decodes as it encodes, or half a cell off."""

    def __init__(self, by=0.0, sigma=1.5):
        super().__init__()
        self.codec = Codec("heatmap", (64, 64), (16, 16), sigma=(sigma, sigma), decoder="argmax")
        self.by = by

    def decode(self, outputs, batch, options=None):
        points, _ = decode(outputs, self.codec)
        found = zip(points + self.by, batch.to_image, strict=True)
        return tuple(Prediction(apply(affine, p), np.ones(len(p))) for p, affine in found)


@pytest.mark.parametrize("places", [(5.6, 9.6, 13.6, 21.6), (9.7, 5.5, 9.6, 5.7)])
def test_rounding_of_few_keypoints_to_cells_is_no_shift_and_half_a_cell_is(places):
    """Four keypoints that all round in one direction, at the left and top edge, with a sigma of 1.5 cells."""
    points = np.stack([places, places], 1)
    sample = Sample(np.zeros((64, 64, 3), np.uint8), (0, 0, 63, 63), np.c_[points, np.full(4, 2)])
    batch = Batch(torch.zeros(1, 3, 64, 64), np.array([np.eye(2, 3)]), (sample,))
    assert [text for text, _ in _targets(Shifted(), batch, Plan(), "cpu") if text] == []
    cut = Shifted()
    cut.codec = dataclasses.replace(cut.codec, mmpose_cut=True)
    at_edge = [text for text, _ in _targets(cut, batch, Plan(), "cpu") if text]
    assert all("its threefold is no whole number of cells" in text for text in at_edge), "as mmpose cuts them"
    assert at_edge
    (said,) = [text for text, _ in _targets(Shifted(2.0), batch, Plan(), "cpu") if text]
    assert re.search(r"decoded \+(1\.[5-9]|2\.[0-5]), \+(1\.[5-9]|2\.[0-5]) input pixels", said), said


def test_outputs_of_another_shape_than_the_codecs_are_refused_with_both():
    model = Tiny()
    model.codec = Codec("heatmap", (32, 32), (16, 12), sigma=(1.0, 1.0), decoder="quarter")
    with pytest.raises(ValueError, match=r"heatmaps are \(16, 16\), its codec states \(16, 12\)"):
        remarks(model)


def test_a_cause_that_is_seen_is_not_covered_up_by_a_switch_that_hides_it():
    # Statistics of the batch undo any scale, so without running ones the network would seem to be cured.
    model = Changed(used=lambda x: x / 255)
    report = overfit(model, [picture()], Plan(Settings(steps=60, learning_rate=4e-3, measure_every=60)))
    assert not report.verdict.learned
    assert report.culprit == ""
    assert "0.00392 times" in report.summary()
    assert not report.trials


def verdict(pck):
    return Verdict("cannot fit", "", "", 1.0, pck, pck)


def test_the_trial_that_came_nearest_is_named():
    trials = [Trial("codec", verdict(0.7), False), Trial("dropout", verdict(0.2), False)]
    assert "without codec PCK rises most, from 0.10 to 0.70" in helped_most(verdict(0.1), trials)
    assert "steps are too few" in helped_most(verdict(0.1), trials)
    assert helped_most(verdict(0.1), trials[1:]) == "", "no better than chance"
    longer = [Trial("step limit", verdict(0.6), False)]
    assert "allow more" in helped_most(verdict(0.1), longer)
    assert helped_most(verdict(float("nan")), []) == ""


def test_the_skeletons_names_are_those_that_are_told():
    model = LeavingOut()
    model.skeleton = Skeleton("other-3", ("a", "b", "c"))
    assert "(b)" in remarks(model, sample=occluded())[0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"learning_rate": 3e5}, "learning rate of 300000 is very high"),
        ({"learning_rate": 0.1}, ""),
        ({"learning_rate": 1e-9}, "about 2e-07 at most"),
        ({"warm_up": 1_000_000}, "warm-up of 1,000,000 steps is longer than the run of 200"),
        ({"learning_rate": 3e5, "optimizer": "sgd"}, ""),
        ({"steps": 10**9, "schedule": "cosine"}, ""),
        ({"rates": (1.0, 400.0)}, "learning rate of 0.4 is very high"),
    ],
)
def test_a_learning_rate_that_hardly_learns_is_said_before_training(changed, said):
    text = rate_text(Settings(**{"steps": 200} | changed))
    assert said in text
    assert bool(text) == bool(said)


def test_dropout_that_the_attempt_turns_off_is_no_remark():
    module = torch.nn.Sequential(torch.nn.Dropout(0.1))
    assert "1 of 1 dropout layers (0)" in mode_text(module, {"0": False}, Plan())
    assert mode_text(module, {"0": False}, Plan(dropout=False)) == ""
