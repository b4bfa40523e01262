"""A bisection begins from the same first weights each time, whatever the network is called through."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn

from tests.training.tiny import SKELETON, Tiny, picture
from workbench.models import TopDown
from workbench.models.exported import top_down
from workbench.training.faults import PLANTED
from workbench.training.model_state import ModelState
from workbench.training.overfit import overfit
from workbench.training.plan import Plan
from workbench.training.settings import Settings

PLAN = Plan(Settings(steps=120, learning_rate=4e-3, measure_every=40))


def called_through_a_closure():
    """As users write adapters: `call` is a function of its own that holds the network."""
    tiny = Tiny(dropout=0.1)
    net = tiny.module
    return TopDown(net, SKELETON, tiny.codec, padding=1.0, call=lambda pixels: net(pixels))


def test_weights_statistics_and_attributes_are_put_back():
    model = Tiny(dropout=0.1)
    state = ModelState(model)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.module.train()
    model.module(torch.rand(2, 3, 32, 32)).sum().backward()
    torch.optim.SGD(model.module.parameters(), lr=1.0).step()
    model.module[3].p = 0.9
    state.restore()
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert model.module[3].p == 0.1
    assert not model.module.training
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_the_bisector_names_a_fault_in_a_network_called_through_a_closure():
    model = called_through_a_closure()
    report = overfit(model, [picture()], PLANTED["codec"](PLAN, model), title="closure")
    assert not report.verdict.learned
    assert report.culprit == "codec", report.summary()


def test_the_bisector_names_a_fault_in_an_exported_program():
    class Exported(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Tiny(dropout=0.1).module

        def forward(self, pixels):
            return self.net(pixels)

    model = top_down(Exported().eval(), "no parts", None, (32, 32))
    model = dataclasses.replace(model, codec=Tiny().codec, padding=1.0)
    report = overfit(model, [picture()], PLANTED["ema"](PLAN, model), title="exported")
    assert report.culprit == "ema", report.summary()


def test_after_a_bisection_the_model_has_the_weights_of_the_attempt():
    model = Tiny(dropout=0.1)
    overfit(model, [picture()], PLANTED["ema"](PLAN, model), bisect=False)
    alone = [p.detach().numpy().copy() for p in model.module.parameters()]
    again = Tiny(dropout=0.1)
    report = overfit(again, [picture()], PLANTED["ema"](PLAN, again))
    assert report.trials
    for a, b in zip(alone, again.module.parameters(), strict=True):
        np.testing.assert_array_equal(a, b.detach().numpy())
