"""MoveNet with a MobileNetV3-like backbone, as an adapter: four maps, read from the centre outwards.

Names, widths and the rule for reading: fire717/movenet.pytorch lib/models/movenet_mobilenetv3.py,
lib/task/task_tools.py (MIT); written anew. It wants raw RGB in 0..255 and scales it itself.
"""

import numpy as np
import torch
from torch import nn

from workbench.checkpoints.loading import load_state
from workbench.models import TopDown
from workbench.records import Outputs
from workbench.skeletons import SKELETONS

WIDTHS = {"stage2": (24, 64, 4), "stage3": (64, 128, 8), "stage4": (128, 192, 4)}
CELL = 4  # input pixels per cell


def load(checkpoint, device):
    """The protocol of adapters: a model, and what of the file went into it."""
    net = MoveNet().eval()
    report = load_state(net, checkpoint)
    model = TopDown(
        net.to(device), SKELETONS["coco-17"], codec=None, mean=(0, 0, 0), std=(1, 1, 1), read=read,
        input_size=(192, 192), device=device,
    )  # fmt: skip
    return model, report


class MoveNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.header = Backbone(), Header()

    def forward(self, pixels):
        maps, centres, regressions, offsets = self.header(self.backbone(pixels / 127.5 - 1))
        fields = {"regressions": regressions.unflatten(1, (17, 2)), "offsets": offsets.unflatten(1, (17, 2))}
        return Outputs(heatmaps=maps, centres=centres, fields=fields)


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(True))
        for name, (before, after, depth) in WIDTHS.items():
            units = [Shuffle(before, after, 2), *(Shuffle(after, after, 1) for _ in range(depth - 1))]
            self.add_module(name, nn.Sequential(*units))
        self.upsample2, self.upsample1 = upsample(192, 128), upsample(128, 64)
        self.conv3, self.conv2 = nn.Conv2d(128, 128, 1), nn.Conv2d(64, 64, 1)
        self.conv4 = separable(64, 24)

    def forward(self, x):
        fine = self.stage2(self.conv1(x))
        middle = self.stage3(fine)
        x = self.upsample2(self.stage4(middle)) + self.conv3(middle)
        return self.conv4(self.upsample1(x) + self.conv2(fine))


class Shuffle(nn.Module):
    """Half of the channels passes, or a second branch halves the size; then both halves are mixed."""

    def __init__(self, before, after, stride):
        super().__init__()
        half, first = after // 2, before if stride == 2 else after // 2
        self.branch1 = nn.Sequential()
        if stride == 2:
            self.branch1 = nn.Sequential(*depthwise(before, stride), *pointwise(before, half))
        self.branch2 = nn.Sequential(
            *pointwise(first, half), *depthwise(half, stride), *pointwise(half, half)
        )

    def forward(self, x):
        left, right = (x, x) if len(self.branch1) else x.chunk(2, 1)
        both = torch.stack([self.branch1(left), self.branch2(right)], 2)
        return both.flatten(1, 2)


class Header(nn.Module):
    def __init__(self):
        super().__init__()
        for name, channels, squashed in (("heatmaps", 17, True), ("centers", 1, True), ("regs", 34, False),
                                         ("offsets", 34, False)):  # fmt: skip
            parts = [separable(24, 96), nn.Conv2d(96, channels, 1)]
            self.add_module(f"header_{name}", nn.Sequential(*parts, *[SoftSign()] * squashed))

    def forward(self, x):
        return self.header_heatmaps(x), self.header_centers(x), self.header_regs(x), self.header_offsets(x)


class SoftSign(nn.Module):
    def forward(self, x):
        return nn.functional.softsign(x) / 2 + 0.5


def pointwise(before, after):
    return nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)


def depthwise(width, stride=1):
    return nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm2d(width)


def separable(before, after):
    return nn.Sequential(*depthwise(before), *pointwise(before, after))


def upsample(before, after):
    thin = nn.Conv2d(before, before, 3, 1, 1, groups=before)
    larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(thin, nn.ReLU(True), nn.Sequential(*pointwise(before, after)), larger)


def read(outputs, options):
    """Input pixels and scores: the centre says roughly where, heatmaps which cell near there, then offsets.

    Cells are worth the less the farther they are from where the regression points: divided by 1.8 plus the
    distance in cells. Below .1 a heatmap says nothing.
    """
    maps, centres = outputs.heatmaps.numpy(), outputs.centres.numpy()
    regressions, offsets = (outputs.fields[name].numpy() for name in ("regressions", "offsets"))
    N, K, h, w = maps.shape
    row, column = np.mgrid[:h, :w]
    n, k = np.ogrid[:N, :K]
    middle = np.hypot(column - (w - 1) / 2, row - (h - 1) / 2) + 1.8
    y, x = np.divmod((centres[:, 0] / middle).reshape(N, -1).argmax(1), w)
    rough = regressions[n, k, :, y[:, None], x[:, None]] + np.stack([x, y], -1)[:, None]
    far = np.hypot(column - rough[..., 0, None, None], row - rough[..., 1, None, None]) + 1.8
    y, x = np.divmod((maps / far).reshape(N, K, -1).argmax(2), w)
    scores = maps[n, k, y, x]
    points = (np.stack([x, y], -1) + offsets[n, k, :, y, x]) * CELL
    return np.where((scores >= 0.1)[..., None], points, np.nan), scores
