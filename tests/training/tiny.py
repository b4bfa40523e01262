"""A heatmap network that learns one picture in seconds, with dropout and batch norm."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from workbench import decoding
from workbench.core import Batch, Codec, DecodeOptions, Outputs, Prediction, Sample, Skeleton, geometry

SKELETON = Skeleton("tiny-3", ("left", "right", "top"), ((0, 1),), (1, 0, 2), (0.05, 0.05, 0.05), "made up")


class Tiny:
    """Crops without padding into 32x32; 16x16 heatmaps."""

    def __init__(self, dropout=0.0, seed=0):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        layers += [
            nn.Conv2d(16, 16, 5, 1, 2),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 3, 5, 1, 2),
        ]
        self.module = nn.Sequential(*layers).eval()
        self.skeleton = SKELETON
        self.taps = {"stem": "0", "head": "7"}
        self.codec = Codec("heatmap", (32, 32), (16, 16), sigma=(1.0, 1.0), decoder="quarter")

    def prepare(self, samples):
        pixels, affines = [], []
        for s in samples:
            centre, size = geometry.crop_region(s.box, (32, 32), 1.0)
            affine = geometry.input_to_image(centre, size, (32, 32))
            x, y = np.indices((32, 32))[::-1]
            at = geometry.apply(affine, np.stack([x, y], -1)).round().astype(int)
            H, W = s.image.shape[:2]
            crop = s.image[at[..., 1].clip(0, H - 1), at[..., 0].clip(0, W - 1)]
            pixels.append(torch.tensor(crop).permute(2, 0, 1).float() / 255 - 0.5)
            affines.append(affine)
        return Batch(torch.stack(pixels), np.stack(affines), tuple(samples))

    def forward(self, batch):
        return Outputs(heatmaps=self.module(batch.pixels))

    def decode(self, outputs, batch, options=None):
        points, scores = decoding.decode(outputs, self.codec, options or DecodeOptions())
        return tuple(
            Prediction(geometry.apply(a, p), s, sample.box)
            for a, p, s, sample in zip(batch.to_image, points, scores, batch.samples, strict=True)
        )


def picture(seed=0):
    """A sample with three coloured dots on noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
    truth = np.array([[14.0, 20, 2], [46, 24, 2], [30, 50, 2]])
    for k, (x, y, _) in enumerate(truth.astype(int)):
        image[y - 3 : y + 4, x - 3 : x + 4, k] = 255
    return Sample(image, (0, 0, 64, 64), truth, key=f"dots-{seed}", area=4096.0)
