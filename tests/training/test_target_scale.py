"""Whether a user's own loss wants maps on its codec's scale: planted scales, and losses that are right."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from tests.training.tiny import Tiny, picture
from workbench.core import Codec, Outputs
from workbench.diagnosis import diagnose
from workbench.training.overfit import overfit
from workbench.training.plan import Plan
from workbench.training.settings import Settings
from workbench.training.target_scale import SCALED, lowest, target_scale_text
from workbench.training.trainer import batch_target

mse, l1, kl = functional.mse_loss, functional.l1_loss, functional.kl_div
bce = functional.binary_cross_entropy_with_logits


class Own(Tiny):
    """A heatmap network with a loss of its own: of its maps, the codec's target and its weights."""

    def __init__(self, loss, **codec):
        super().__init__()
        self.loss, self.codec = loss, dataclasses.replace(self.codec, **codec)

    def objective(self, outputs, batch):
        made = batch_target(batch, self.codec, "cpu")
        return {"loss": self.loss(outputs.heatmaps, made.heatmaps, made.weights[..., None, None])}


def text_of(model):
    batch = model.prepare([picture()])
    return target_scale_text(model, model.forward(batch), batch)


def soft(maps):
    return maps.flatten(2).softmax(-1)


def share(maps):
    return maps.flatten(2) / maps.flatten(2).sum(-1, keepdim=True)


def js(y, t):
    p, q = soft(y), soft(t)
    return (p * (2 * p / (p + q)).log() + q * (2 * q / (p + q)).log()).sum(-1).mean()


def adaptive_wing(y, t):
    slope = 14 * 0.5 ** (1.1 - t) * (2.1 - t) / (1 + 0.5 ** (2.1 - t))
    far = slope * (y - t).abs() - (0.5 * slope - 14 * torch.log(1 + 0.5 ** (2.1 - t)))
    return torch.where((y - t).abs() < 0.5, 14 * torch.log(1 + (y - t).abs() ** (2.1 - t)), far).mean()


def focal(y, t):
    p, hit = y.sigmoid().clamp(1e-4, 1 - 1e-4), t.eq(1).float()
    return -(p.log() * (1 - p) ** 2 * hit + (1 - p).log() * p**2 * (1 - t) ** 4 * (1 - hit)).mean()


def hardest(y, t):
    return ((y - t) ** 2).mean((2, 3)).topk(2, 1).values.mean()


def coordinates(maps):
    p = soft(maps * 10).reshape(maps.shape)
    along = torch.arange(maps.shape[-1])
    return torch.stack([(p.sum(2) * along).sum(-1), (p.sum(3) * along).sum(-1)], -1)


def rough(y):
    return (y[..., 1:] - y[..., :-1]).abs().mean()


RIGHT = {
    "mse": lambda y, t, w: mse(y, t),
    "mse with weights": lambda y, t, w: ((y - t) ** 2 * w * (1 + 20 * t)).sum(),
    "l1": lambda y, t, w: l1(y, t),
    "smooth l1": lambda y, t, w: functional.smooth_l1_loss(y, t, beta=0.1),
    "kl over softmax": lambda y, t, w: kl(y.flatten(2).log_softmax(-1), share(t), reduction="batchmean"),
    "js": lambda y, t, w: js(y, t),
    "bce with logits": lambda y, t, w: bce(y, t),
    "bce with logits, weighed": lambda y, t, w: bce(y, t, pos_weight=torch.tensor(50.0)),
    "bce with smoothed labels": lambda y, t, w: bce(y, 0.05 + 0.9 * t),
    "bce of probabilities": lambda y, t, w: functional.binary_cross_entropy(y.clamp(0, 1), t),
    "adaptive wing": lambda y, t, w: adaptive_wing(y, t),
    "ohkm": lambda y, t, w: hardest(y, t),
    "focal": lambda y, t, w: focal(y, t),
    "mse of sigmoid": lambda y, t, w: mse(y.sigmoid(), t),
    "mse of sigmoid, smoothed": lambda y, t, w: mse(y.sigmoid(), 0.1 + 0.8 * t),
    "mse of relu": lambda y, t, w: mse(y.relu(), t),
    "coordinates": lambda y, t, w: l1(coordinates(y), coordinates(10 * t)),
    "mse and coordinates": lambda y, t, w: mse(y, t) + 0.01 * l1(coordinates(y), coordinates(10 * t)),
    "mse and roughness": lambda y, t, w: mse(y, t) + 0.1 * rough(y),
    "mse and a constant": lambda y, t, w: mse(y, t) + 5,
    "dice": lambda y, t, w: 1 - 2 * (y * t).sum() / ((y * y).sum() + (t * t).sum()),
    "cosine": lambda y, t, w: -functional.cosine_similarity(y.flatten(2), t.flatten(2), -1).mean(),
    "half as high again": lambda y, t, w: mse(y, 1.5 * t),
    "random cells": lambda y, t, w: mse(y * (torch.rand_like(y) < 0.5), 255 * t),
    # Wrong, but not in scale: placement and sign are told after training.
    "elsewhere": lambda y, t, w: mse(y, t.roll(3, 3)),
    "elsewhere, l1": lambda y, t, w: l1(y, t.roll(2, 3)),
    "mirrored": lambda y, t, w: mse(y, t.flip(3)),
    "other keypoints": lambda y, t, w: mse(y, t.roll(1, 1)),
    "negated": lambda y, t, w: mse(y, -t),
    "wrong sign": lambda y, t, w: -mse(y, t),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("decoder", ["quarter", "dark"])
def test_a_loss_that_is_lowest_for_the_codecs_target_or_has_no_scale_is_told_nothing(name, decoder):
    assert text_of(Own(RIGHT[name], decoder=decoder)) == ""


@pytest.mark.parametrize("decoder", ["quarter", "dark"])
@pytest.mark.parametrize(
    ("factor", "offset", "words"),
    [
        (255, 0, "maps of 255 at the keypoints and 0 far"),
        (1000, 0, "maps of 1e+03 at the keypoints and 0 far"),
        (10, 0, "maps of 10 at the keypoints and 0 far"),
        (0.1, 0, "maps of 0.1 at the keypoints and 0 far"),
        (1 / 255, 0, "maps of 0.00392 at the keypoints and 0 far"),
        (1, 1, "maps of 2 at the keypoints and 1 far"),
        (2, -1, "maps of 1 at the keypoints and -1 far"),
    ],
)
@pytest.mark.parametrize(
    "loss",
    [
        lambda y, t, w: mse(y, t),
        lambda y, t, w: ((y - t) ** 2 * w).sum(),
        lambda y, t, w: l1(y, t),
        lambda y, t, w: functional.smooth_l1_loss(y, t),
        lambda y, t, w: hardest(y, t),
    ],
    ids=["mse", "mse with weights", "l1", "smooth l1", "ohkm"],
)
def test_the_scale_that_a_loss_wants_is_told_with_its_values(loss, factor, offset, words, decoder):
    text = text_of(Own(lambda y, t, w: loss(y, factor * t + offset, w), decoder=decoder))
    numbers = [float(word) for word in words.split() if word[-1].isdigit()]
    told = [float(word) for word in text.split(", where")[0].split() if word[-1].isdigit()]
    assert told == pytest.approx(numbers, rel=0.03, abs=0.01), text
    assert "where the target of its codec is 1 and 0" in text


def test_a_loss_that_counts_its_calls_does_not_notice_and_the_network_stays_as_it_is():
    model = Own(lambda y, t, w: mse(y, t))
    model.calls = 0

    def counting(outputs, batch):
        model.calls += 1
        return Own.objective(model, outputs, batch)

    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    text_of(model)
    assert model.calls == 0
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())


def test_a_network_that_ends_in_its_own_softmax_states_its_scale_itself():
    class Sums(Own):
        def forward(self, batch):
            maps = super().forward(batch).heatmaps
            return Outputs(heatmaps=soft(maps).reshape(maps.shape))

    def loss(y, t, w):
        return mse(y, share(t).reshape(t.shape))

    assert text_of(Sums(loss)) == ""
    assert "at the keypoints" in text_of(Own(loss))


@pytest.mark.parametrize(("factor", "told"), [(1, False), (255, True), (0.1, True)])
def test_vectors_of_simcc_are_measured_as_maps_are(factor, told):
    class Vectors(Own):
        codec_of = Codec("simcc", (32, 32), (64, 64), sigma=(3.0, 3.0))

        def forward(self, batch):
            maps = super().forward(batch).heatmaps
            wide = functional.interpolate(maps, (64, 64))
            return Outputs(simcc=(wide.mean(2), wide.mean(3)))

        def objective(self, outputs, batch):
            made = batch_target(batch, self.codec, "cpu")
            pairs = zip(outputs.simcc, made.simcc, strict=True)
            return {"loss": sum(self.loss(y, factor * t, None) for y, t in pairs)}

    model = Vectors(lambda y, t, w: mse(y, t))
    model.codec = Vectors.codec_of
    assert bool(text_of(model)) == told
    model.loss = lambda y, t, w: kl((10 * y).log_softmax(-1), (10 * t).softmax(-1), reduction="batchmean")
    assert text_of(model) == ""


def test_a_codec_whose_peaks_are_255_is_measured_in_its_own_height():
    assert text_of(Own(lambda y, t, w: mse(y, t), decoder="megvii")) == ""
    text = text_of(Own(lambda y, t, w: mse(y, t / 255), decoder="megvii"))
    assert "maps of 1 at the keypoints" in text
    assert "of its codec is 255 and 0" in text


def test_an_attempt_names_the_scale_and_tries_no_switch_in_vain():
    model = Own(lambda y, t, w: mse(y, 255 * t))
    report = overfit(model, [picture()], Plan(Settings(steps=5)))
    assert SCALED in [one.name for one in report.evidence]
    assert not report.trials, report.summary()
    assert SCALED in [finding.cause for finding in report.to_findings()]
    healthy = overfit(Own(lambda y, t, w: mse(y, t)), [picture()], Plan(Settings(steps=5)), bisect=False)
    assert SCALED not in [one.name for one in healthy.evidence]


ADAPTER = """
from torch import nn
from torch.nn import functional
from workbench.core import Codec
from workbench.models import TopDown
from workbench.skeletons import SKELETONS
from workbench.training.trainer import batch_target


class Own(TopDown):
    def objective(self, outputs, batch):
        wanted = batch_target(batch, self.codec, "cpu").heatmaps
        return {"loss": functional.mse_loss(outputs.heatmaps, FACTOR * wanted)}


def load(checkpoint, device):
    codec = Codec("heatmap", (32, 32), (16, 16), sigma=(1.0, 1.0), decoder="quarter")
    return Own(nn.Conv2d(3, 17, 3, 2, 1), SKELETONS["coco-17"], codec)
"""


@pytest.mark.parametrize(("factor", "told"), [("255", True), ("1", False)])
def test_diagnose_names_it_for_an_adapter(tmp_path, factor, told):
    from workbench.diagnosis.overfit_causes import Overfit

    path = tmp_path / "own.py"
    path.write_text(ADAPTER.replace("FACTOR", factor))
    report = diagnose([], adapter=path, data="astronaut", level="train", steps=5, causes=[Overfit()])
    assert (SCALED in [finding.cause for finding in report.findings]) == told


def test_a_function_without_a_lowest_place_has_none():
    assert lowest(lambda x: abs(x - 3), 0.0, 0.1) == pytest.approx(3, abs=1e-4)
    assert lowest(lambda x: abs(x - 0.05), 0.0, 0.1) == 0.0
    assert lowest(lambda x: -x, 0.0, 0.1) is None
    assert lowest(lambda x: max(-x, -2.0), 0.0, 0.1) is None, "flat from there on"
