"""A sequence model that has nothing to do with cape: the next point is the last one plus a learned stride."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn

from workbench.core import Batch, Outputs, Prediction, Sample, Skeleton, geometry

SKELETON = Skeleton("line-4", ("a", "b", "c", "d"), ((0, 1), (1, 2), (2, 3)))


class Stride(nn.Module):
    """With the right stride every error is handed on unchanged: gain exactly 1."""

    def __init__(self, start=(0.2, 0.5), stride=(0.2, 0.0)):
        super().__init__()
        self.start, self.stride = nn.Parameter(torch.tensor(start)), nn.Parameter(torch.tensor(stride))


class Counting:
    """Input is the whole 101 x 101 image; tokens are pixels / 100."""

    def __init__(self, **where):
        self.module, self.skeleton, self.taps, self.codec = Stride(**where).eval(), SKELETON, {}, None

    def prepare(self, samples):
        affine = np.array([[1.0, 0, 0], [0, 1, 0]])
        given = torch.tensor(np.stack([s.truth[:, :2] for s in samples]) / 100, dtype=torch.float32)
        N = len(samples)
        return Batch(torch.zeros(N, 3, 101, 101), np.stack([affine] * N), tuple(samples), {"given": given})

    def forward(self, batch):
        given = batch.extra["given"]
        first = self.module.start.expand(len(given), 1, 2)
        return Outputs(tokens={"coordinates": torch.cat([first, given[:, :-1] + self.module.stride], 1)})

    def rollout(self, batch, forced=0):
        given, points = batch.extra["given"], []
        last = None
        for t in range(given.shape[1]):
            points.append(
                self.module.start.expand(len(given), 2) if last is None else last + self.module.stride
            )
            last = given[:, t] if t < forced else points[-1]
        return Outputs(tokens={"coordinates": torch.stack(points, 1)})

    def decode(self, outputs, batch, options=None):
        points = outputs.tokens["coordinates"].double().numpy() * 100
        return tuple(
            Prediction(geometry.apply(a, p), np.ones(len(p)), s.box)
            for a, p, s in zip(batch.to_image, points, batch.samples, strict=True)
        )


def load(checkpoint, device):
    """As --adapter calls it."""
    return Counting(start=(0.5, 0.5))


def line():
    """Four points on a line, 20 pixels apart, in a box of 100."""
    truth = np.array([[20.0, 50, 2], [40, 50, 2], [60, 50, 2], [80, 50, 2]])
    return Sample(np.zeros((101, 101, 3), np.uint8), (0, 0, 100, 100), truth, key="line")


def hidden(sample):
    """The same with nothing visible."""
    return dataclasses.replace(sample, truth=sample.truth * (1, 1, 0))
