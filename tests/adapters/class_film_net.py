"""A small network that is conditioned by the class of what is seen, with one defect to be switched on."""

import torch
from torch import nn

CHANNELS, WIDTH, CLASSES, K = 16, 8, 10, 17
DEFECTS = (
    "",
    "skipped in inference",
    "one class in inference",
    "clipped",
    "constant",
    "first class",
    "gate at 0",
)


class FilmBlock(nn.Module):
    """Residual block: an embedding of the class scales and shifts each channel, behind a gate."""

    def __init__(self, defect=""):
        super().__init__()
        self.defect = defect
        self.conv, self.embedding = nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1), nn.Embedding(CLASSES, WIDTH)
        layer = nn.Linear(WIDTH, 2 * CHANNELS)
        self.film = nn.Sequential(layer, nn.ReLU()) if defect == "clipped" else nn.Sequential(layer)
        self.gate = nn.Parameter(torch.tensor(0.0 if defect == "gate at 0" else 0.5))
        self.entering, self.modulated = nn.Identity(), nn.Identity()
        with torch.no_grad():
            layer.weight.normal_(std=0.0 if defect == "constant" else 0.5)
            layer.bias[:CHANNELS], layer.bias[CHANNELS:] = (1.3 if defect == "constant" else 1.0), 0.1

    def forward(self, maps, classes):
        if self.defect == "first class":
            classes = classes[:1].expand_as(classes)
        if self.defect == "one class in inference" and not self.training:
            classes = torch.zeros_like(classes)
        entering = self.entering(self.conv(maps).relu())
        if self.defect == "skipped in inference" and not self.training:
            return maps + self.modulated(entering)
        scale, shift = self.film(self.embedding(classes)).chunk(2, 1)
        changed = scale[..., None, None] * entering + shift[..., None, None]
        return maps + self.modulated(self.gate * changed + (1 - self.gate) * entering)


class Refiner(nn.Module):
    """Smooths each keypoint's heatmap by itself."""

    def __init__(self):
        super().__init__()
        self.smooth = nn.Conv2d(K, K, 3, 1, 1, groups=K, bias=False)
        nn.init.constant_(self.smooth.weight, 0.01)

    def forward(self, heatmaps):
        return heatmaps + self.smooth(heatmaps)


class ClassFilm(nn.Module):
    """Heatmaps at 1/4 of the input."""

    def __init__(self, defect=""):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.block = nn.Conv2d(3, CHANNELS, 4, 4), FilmBlock(defect)
        self.head, self.refiner = nn.Conv2d(CHANNELS, K, 1), Refiner()
        # Peaks above 0, so that every keypoint is found.
        nn.init.constant_(self.head.bias, 1.0)

    def forward(self, pixels, classes):
        return self.refiner(self.head(self.block(self.body(pixels).relu(), classes)))
