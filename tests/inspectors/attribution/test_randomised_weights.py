"""Shuffled weights: a map that ignores them is a finding, one that needs them is silent; weights come
back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests import toy
from workbench.core import NotAvailable, Outputs
from workbench.core.run import run as make_run
from workbench.inspectors.attribution import randomised_weights as inspector
from workbench.inspectors.attribution.randomised_weights import rank_correlation, restored, shuffle

K = 17


class Deep(toy.ToySeventeen):
    """Enough weights that shuffling them leaves nothing of what the maps were."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        # Each cell of the output sees half of the image: what lies outside of it is no question of weights.
        layers = [nn.Conv2d(3, 24, 8, 8), nn.ReLU(), nn.Conv2d(24, 24, 15, padding=7, groups=24), nn.ReLU()]
        layers += [nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(32, 24, 4, 2, 1), nn.ReLU()]
        layers += [nn.Conv2d(24, K, 1)]
        self.module = nn.Sequential(*layers).eval()
        self.taps = {str(i): str(i) for i in range(len(layers))}


class Bright(toy.ToySeventeen):
    """A fixed blur of the image, with a weight that hardly matters: the maps are those of any weights."""

    def __init__(self):
        super().__init__()
        self.module = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, K, 1)).eval()
        with torch.no_grad():
            self.module[1].weight.copy_(1 + 1e-3 * torch.rand(K, 3, 1, 1))
            self.module[1].bias.zero_()
        self.taps = {"pool": "0", "head": "1"}

    def forward(self, batch):
        return Outputs(heatmaps=self.module(batch.pixels))


@pytest.fixture(scope="module")
def deep():
    model = Deep()
    return make_run(model, toy.samples(model, 1))


@pytest.fixture(scope="module")
def bright():
    model = Bright()
    return make_run(model, toy.samples(model, 1))


@pytest.mark.parametrize("method", ["Grad-CAM", "gradient"])
@pytest.mark.parametrize("order", ["cascading", "all at once"])
def test_maps_that_need_the_weights_are_no_finding(deep, method, order):
    report = inspector.compute(deep, inspector.Params(method=method, order=order))
    assert report.to_findings() == ()
    assert abs(report.medians[-1]) < 0.5
    assert "may be read" in report.summary()


def test_places_outside_of_the_receptive_field_do_not_count():
    """Both maps are 0 on the left with any weights; on the right their ranks are opposite."""
    a, b = np.zeros((2, 4, 8))
    a[:, 4:] = np.arange(1, 17).reshape(4, 4)
    b[:, 4:] = np.arange(16, 0, -1).reshape(4, 4)
    assert rank_correlation(a, b) == pytest.approx(-1)


def test_maps_that_ignore_the_weights_are_a_finding(bright):
    report = inspector.compute(bright, inspector.Params(method="occlusion", order="all at once"))
    (finding,) = report.to_findings()
    assert finding.cause == "the map does not depend on the weights"
    assert finding.numbers[0].value > 0.9
    assert finding.fix
    assert report.to_json()["findings"][0]["cause"] == finding.cause
    assert report.summary() == finding.text()


def test_cascading_shuffles_one_part_more_each_time_and_everything_at_last(deep):
    report = inspector.compute(deep, inspector.Params(parts=4))
    assert len(report.stages) == 4
    assert report.shuffled[-1] == pytest.approx(1)
    assert (np.diff(report.shuffled) > 0).all()
    assert report.correlations.shape == (4, K)


def test_the_order_is_from_the_output_backwards(deep):
    report = inspector.compute(deep, inspector.Params(parts=4))
    assert report.stages[0].startswith("1: from 8")  # the last layer's weight and bias
    assert report.shuffled[0] < 0.05


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(deep):
    first, again, other = (
        inspector.compute(deep, inspector.Params(seed=seed)).correlations for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, equal_nan=True)


def test_rank_correlation_is_spearmans_of_absolute_values():
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 5, 7))
    assert rank_correlation(a, b) == pytest.approx(spearmanr(abs(a).ravel(), abs(b).ravel()).statistic)
    assert rank_correlation(a, -a) == pytest.approx(1)
    assert np.isnan(rank_correlation(a, np.zeros((5, 7))))


def test_shuffling_keeps_each_tensors_values_and_restoring_their_places():
    layer = nn.Linear(20, 20)
    before = layer.weight.detach().clone()
    with restored(layer):
        shuffle(layer, ["weight"], np.random.default_rng(0))
        assert not torch.equal(layer.weight, before)
        torch.testing.assert_close(layer.weight.flatten().sort().values, before.flatten().sort().values)
    assert torch.equal(layer.weight, before)


def test_a_network_without_weights_is_refused():
    model = Bright()
    model.module = nn.AvgPool2d(4)
    model.taps = {}
    model.forward = lambda batch: Outputs(
        heatmaps=model.module(batch.pixels).mean(1, True).expand(-1, K, -1, -1)
    )
    with pytest.raises(NotAvailable, match="no parameters"):
        inspector.compute(make_run(model, toy.samples(model, 1)), inspector.Params())


def test_maps_of_zeros_cannot_be_compared():
    class Flat(Bright):
        def forward(self, batch):
            maps = self.module(batch.pixels) * 0
            return Outputs(heatmaps=maps + torch.linspace(0, 1, maps[0, 0].numel()).view_as(maps[0, 0]))

    model = Flat()
    run = make_run(model, toy.samples(model, 1))
    report = inspector.compute(run, inspector.Params(method="gradient"))
    assert "cannot be compared" in report.summary()
    assert report.to_findings() == ()
    assert report.plot().data


def test_the_weights_come_back_when_the_maps_cannot_be_made(deep):
    before = {name: weight.detach().clone() for name, weight in deep.model.module.named_parameters()}
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("stop")
        return torch.ones(K, 3, 3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.inspectors.attribution.methods.grad_cam", lambda *_, **__: fail())
        with pytest.raises(ValueError, match="stop"):
            inspector.compute(deep, inspector.Params())
    assert all(torch.equal(weight, before[name]) for name, weight in deep.model.module.named_parameters())
