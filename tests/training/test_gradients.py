"""What the first backward pass shows, on planted faults and on healthy networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.training.tiny import Tiny, picture
from workbench.training.checks import before_training
from workbench.training.gradients import clip_text, small_text
from workbench.training.plan import Plan
from workbench.training.settings import Settings


class Parts(nn.Module):
    """A network of named parts."""

    def __init__(self, last="out", aux=False, detached=False, side=False):
        super().__init__()
        torch.manual_seed(0)
        layers = Tiny().module
        self.stem, self.body = layers[:4], layers[4:7]
        setattr(self, last, nn.Sequential(nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 3, 5, 1, 2)))
        self.last, self.detached = last, detached
        if aux:
            self.aux_head = nn.Conv2d(16, 3, 1)
        if side:
            self.visibility = nn.Linear(16, 3)
        self.side = side

    def forward(self, x):
        x = self.stem(x)
        if self.side:
            self.seen = self.visibility(x.mean((2, 3)))
        x = self.body(x)
        return getattr(self, self.last)(x.detach() if self.detached else x)


def told(network, settings=None):
    model = Tiny()
    model.module, model.taps = network.eval(), {}
    return before_training(model, [picture()], Plan(settings or Settings()))


@pytest.mark.parametrize("options", [{}, {"last": "head"}, {"aux": True}, {"side": True}])
def test_healthy_networks_are_told_nothing_whatever_their_parts_are_called(options):
    assert told(Parts(**options)) == ()


def test_a_frozen_part_that_runs_last_is_remarked_whatever_its_name():
    network = Parts()
    network.out.requires_grad_(False)
    network.out[0].bias.requires_grad_(False)
    (one,) = told(network)
    if one.remark:
        assert one.text.startswith("nothing of out, which runs last, is trained")
    else:  # most of the weights are in it
        assert "nothing of out is trained" in one.text
    network.body.requires_grad_(True)
    network.out = nn.Conv2d(16, 3, 1).requires_grad_(False)
    (one,) = told(network)
    assert one.remark
    assert one.text.startswith("nothing of out, which runs last, is trained")


def test_a_layer_that_runs_but_has_nothing_to_do_with_the_answer_is_not_told():
    network = Parts(side=True)
    assert told(network) == ()
    assert network.visibility.weight.grad is None


def test_parts_before_a_detach_are_named():
    network = Parts(detached=True)
    network.out = nn.Sequential(nn.Conv2d(16, 64, 5, 1, 2), nn.ReLU(), nn.Conv2d(64, 3, 5, 1, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    (one,) = told(network)
    assert one.text.startswith("stem, body ask for a gradient and get none")
    assert not one.decides, "it may be meant, and something else may be wrong"
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_parts_before_a_detach_that_hold_most_weights_are_named():
    network = Parts(detached=True)
    network.out = nn.Conv2d(16, 3, 1)
    (one,) = told(network)
    assert "of the weights get a gradient and a learning rate: nothing of stem, body is trained" in one.text
    assert "detach()" in one.text


class Scaled(Tiny):
    """A loss of its own with a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def objective(self, outputs, batch):
        from workbench.training.trainer import batch_target

        target = batch_target(batch, self.codec, "cpu")
        return {"mse": ((outputs.heatmaps - target.heatmaps) ** 2).mean() * self.factor}


@pytest.mark.parametrize(("factor", "said"), [(1.0, False), (1e-3, False), (1e-12, True)])
def test_a_loss_that_is_too_small_for_adam_is_named(factor, said):
    found = before_training(Scaled(factor), [picture()], Plan())
    assert [one.name for one in found] == (["gradients too small"] if said else [])
    assert all(one.decides for one in found)


def test_the_smallest_gradient_that_moves_a_weight_depends_on_the_optimizer():
    assert "6e-05 of the learning rate" in small_text(6e-13, Settings())
    assert small_text(6e-13, Settings(optimizer="sgd")) == ""
    assert small_text(6e-13, Settings(optimizer_options={"eps": 1e-16})) == ""
    assert small_text(1e-6, Settings()) == small_text(float("nan"), Settings()) == ""
    assert small_text(1e-6, Settings(optimizer_options={"eps": 1.0}))
    assert "is 0 for every weight" in small_text(0.0, Settings(optimizer="sgd"))
    assert clip_text(1.0, 10, Settings()) == ""


def test_channels_that_start_and_stay_equal_are_named():
    network = Parts()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.01)
            nn.init.zeros_(layer.bias)
    (one,) = told(network)
    assert "all output channels start with equal weights" in one.text
    assert one.decides
    # A last layer of zeros is usual: its channels get gradients of their own.
    network = Parts()
    nn.init.zeros_(network.out[2].weight)
    nn.init.zeros_(network.out[2].bias)
    assert told(network) == ()
