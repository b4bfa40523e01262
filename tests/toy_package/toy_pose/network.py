"""The toy network, its model, and its view for training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import nn

from workbench.core import Codec
from workbench.models import TopDown

CODEC = Codec("heatmap", input_size=(64, 48), output_size=(16, 12), decoder="argmax")


@dataclass(frozen=True, eq=False)
class ToyMaps(TopDown):
    """A model of the toy family."""


@dataclass(frozen=True, eq=False)
class TrainedByItself(ToyMaps):
    """A toy model with its own loss: every heatmap is pulled to 1."""

    def objective(self, outputs, batch):
        """The mean square distance to 1."""
        return {"toy": (outputs.heatmaps - 1).square().mean()}


class Network(nn.Module):
    """One convolution of 4x4 pixels with stride 4."""

    def __init__(self, keypoints):
        super().__init__()
        self.toy_maps = nn.Conv2d(3, keypoints, 4, 4)

    def forward(self, pixels):
        """Heatmaps [N, K, h, w] in 0..1."""
        return torch.sigmoid(self.toy_maps(pixels))


def model_of(network, skeleton, device):
    """A model around the network."""
    return ToyMaps(network.eval().to(device), skeleton, CODEC, device=device)


def trained_by_itself(model):
    """The same model with its own loss."""
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(ToyMaps)}
    return TrainedByItself(**fields)
