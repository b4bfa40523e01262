"""A model for figures alone: the annotated keypoints, moved or left out as the annotation's id says.

Its keypoints have numbers for names, as an ONNX file's have; the checkpoint holds how many there are.
"""

from __future__ import annotations

import numpy as np
import torch

from workbench.core import Batch, Codec, Outputs, Prediction, Skeleton


class NearTruth:
    def __init__(self, count):
        self.module = torch.nn.Identity()
        self.skeleton = Skeleton(f"own-{count}", tuple(str(k) for k in range(count)))
        self.taps = {}
        self.codec = Codec("heatmap", (8, 8), (8, 8))
        self.padding = 1.25

    def prepare(self, samples):
        to_image = np.tile(np.eye(2, 3), (len(samples), 1, 1))
        return Batch(torch.zeros(len(samples), 3, 8, 8), to_image, tuple(samples))

    def forward(self, batch):
        return Outputs(heatmaps=batch.pixels[:, :1].repeat(1, len(self.skeleton), 1, 1))

    def decode(self, outputs, batch, options):
        found = []
        for sample in batch.samples:
            number = sample.annotation_id
            side = max(sample.box[2] - sample.box[0], sample.box[3] - sample.box[1])
            points = sample.truth[:, :2] + side * (number % 5) * 0.02
            points[number % 3] += side
            if number % 4 == 1:
                points[3::5] = np.nan
            scores = np.full(len(points), (number * 37 % 101) / 101)
            found.append(Prediction(points, scores, sample.box))
        return tuple(found)


def load(checkpoint, device):
    return NearTruth(int(checkpoint.read("count")))
