"""A folded network says the same, and what cannot be folded stays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from workbench.models.higherhrnet.model import new_higherhrnet

from tests.toy import TWO
from workbench.core import Codec, Sample
from workbench.models.folding import folded
from workbench.models.higherhrnet.network import Architecture, HigherHRNet
from workbench.models.top_down import TopDown
from workbench.skeletons import SKELETONS

SMALL = Architecture(4, stem=4, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)


def lived_in(module, seed=0):
    """The module with statistics and factors as training leaves them: none is 0 or 1."""
    made = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (part.running_mean, -1, 1),
                (part.running_var, 0.5, 2),
                (part.weight.data, 0.5, 2),
                (part.bias.data, -1, 1),
            ):
                tensor.uniform_(low, high, generator=made)
    return module.eval()


def sample(side=64):
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Sample(image, (0.0, 0.0, float(side), float(side)))


def top_down(module):
    codec = Codec("heatmap", (16, 16), (16, 16))
    return TopDown(lived_in(module), TWO, codec, padding=1.0)


class Twice(nn.Module):
    """A convolution whose output two layers read, and one that is used twice."""

    def __init__(self):
        super().__init__()
        self.shared, self.norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)
        self.again, self.after = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x):
        read = self.shared(x)
        y = self.norm(read) + read
        return self.after(self.again(self.again(y)))


def test_one_channel_by_hand():
    layers = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2, eps=0.0))
    model = top_down(layers)
    with torch.no_grad():
        layers[1].running_mean.copy_(torch.tensor([3.0, 0.0]))
        layers[1].running_var.copy_(torch.tensor([4.0, 1.0]))
        layers[1].weight.copy_(torch.tensor([6.0, 1.0]))
        layers[1].bias.copy_(torch.tensor([1.0, 0.0]))
    found = folded(model, model.prepare([sample(16)])).model.module
    # (x - 3) / 2 * 6 + 1 = 3 x - 8
    torch.testing.assert_close(found[0].weight[0], 3 * layers[0].weight[0])
    torch.testing.assert_close(found[0].bias, torch.tensor([-8.0, 0.0]))


def test_higherhrnet_folds_wholly_and_says_the_same():
    model = new_higherhrnet(lived_in(HigherHRNet(SMALL)), SKELETONS["coco-17"], 64)
    batch = model.prepare([sample()])
    found = folded(model, batch)
    norms = [p for p, m in model.module.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert [norm for _, norm in found.folded] == norms
    assert ("deconv_layers.0.0.0", "deconv_layers.0.0.1") in found.folded
    assert found.kept == {}
    assert 0 < found.difference < 1e-5
    assert found.summary().startswith(f"{len(norms)} of {len(norms)} batch norms folded")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in found.model.module.modules())


def test_the_model_given_stays_as_it_is():
    model = new_higherhrnet(lived_in(HigherHRNet(SMALL)), SKELETONS["coco-17"], 64)
    model.module.train()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    folded(model, model.prepare([sample()]))
    assert model.module.training
    assert before.keys() == model.module.state_dict().keys()
    for name, tensor in model.module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_convolution_that_is_read_elsewhere_too_keeps_its_batch_norm():
    model = top_down(Twice())
    found = folded(model, model.prepare([sample(16)]))
    assert found.folded == ()
    assert found.kept == {"norm": "shared is read elsewhere too", "after": "again is read elsewhere too"}
    assert "norm stays: shared is read elsewhere too" in found.summary()


def test_a_batch_norm_behind_an_activation_stays():
    model = top_down(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)))
    assert folded(model, model.prepare([sample(16)])).kept == {"2": "no convolution stands right before it"}


def test_a_model_that_runs_another_network_than_its_own_is_refused():
    inside = lived_in(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)))
    model = dataclasses.replace(
        top_down(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))), call=lambda x: inside(x)
    )
    with pytest.raises(ValueError, match="does not use its `module`"):
        folded(model, model.prepare([sample(16)]))


def test_a_network_without_batch_norm_is_refused():
    model = top_down(nn.Conv2d(3, 2, 1))
    with pytest.raises(ValueError, match="no batch norm"):
        folded(model, model.prepare([sample(16)]))


def test_outputs_that_differ_are_refused():
    model = new_higherhrnet(lived_in(HigherHRNet(SMALL)), SKELETONS["coco-17"], 64)
    with pytest.raises(ValueError, match="outputs differ by"):
        folded(model, model.prepare([sample()]), tolerance=0.0)
