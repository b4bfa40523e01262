"""An adapter: a network that is no mmpose model, told to the workbench. `load` is the whole protocol."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from workbench.checkpoints.loading import load_state
from workbench.core import Codec
from workbench.models import TopDown
from workbench.skeletons import SKELETONS

SIDE, CELLS = 96, 24  # input pixels, heatmap cells


class TinyNet(nn.Module):
    """Two strides, four dilated layers that see the whole crop, one map per keypoint."""

    def __init__(self, keypoints: int, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(self._layer(3, width // 2, 2), self._layer(width // 2, width, 2))
        self.body = nn.ModuleList(self._layer(width, width, 1, dilation) for dilation in (1, 2, 4, 8))
        self.head = nn.Conv2d(width, keypoints, 1)
        # Maps are nearly zero everywhere: starting there saves the first fifty steps.
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)

    @staticmethod
    def _layer(before: int, after: int, stride: int, dilation: int = 1) -> nn.Module:
        conv = nn.Conv2d(before, after, 3, stride, dilation, dilation, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, K, 24, 24] from [N, 3, 96, 96]."""
        x = self.stem(pixels)
        for layer in self.body:
            x = x + layer(x)
        return self.head(x)


def wrap(net: nn.Module, device: str = "cpu") -> TopDown:
    """The network as a model: which keypoints, how coordinates stand in its output, how to crop for it."""
    codec = Codec("heatmap", (SIDE, SIDE), (CELLS, CELLS), sigma=(1.5, 1.5), udp=True, decoder="udp")
    return TopDown(net.to(device), SKELETONS["ap10k-17"], codec, device=device)


def load(checkpoint: Any, device: str) -> tuple[TopDown, Any]:
    """What `--adapter notebooks/my_model.py` calls: the model, and how much of the file it took."""
    net = TinyNet(keypoints=17)
    report = load_state(net, checkpoint)
    return wrap(net.eval(), device), report
