"""Family movenet: MoveNet over a MobileNetV3-like backbone, built from its file alone, without a config.

Four maps, read from the centre outwards. Names, widths and the rule for reading:
fire717/movenet.pytorch@e728ff1 lib/models/movenet_mobilenetv3.py, lib/task/task_tools.py (MIT); written anew.
It wants raw RGB in 0..255 and scales it itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from workbench.checkpoints.loading import load_state
from workbench.checkpoints.state_dicts import unwrapped
from workbench.core import DecodeOptions, NotAvailable, Outputs
from workbench.models.mmpose.config import skeleton_of
from workbench.models.opening import Opening
from workbench.models.top_down import PADDING, TopDown
from workbench.skeletons import SKELETONS

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.checkpoints.loading import LoadReport

WIDTHS = {"stage2": (24, 64, 4), "stage3": (64, 128, 8), "stage4": (128, 192, 4)}
CELL = 4  # input pixels per cell
INPUT = (192, 192)
# Below this a heatmap says nothing, as in the published reading.
LEAST = 0.1


def load(opening: Opening) -> tuple[TopDown, LoadReport]:
    """The published architecture with the file's weights.

    Raises:
        NotAvailable: a head is missing that tells the number of keypoints.
    """
    checkpoint, stated = opening.required(), opening.stated
    prefix = checkpoint.prefix
    names = {unwrapped(name).removeprefix(prefix): info for name, info in checkpoint.infos().items()}
    head = names.get("header.header_heatmaps.1.weight")
    if head is None or not head.shape:
        raise NotAvailable(f"{checkpoint.path.name}: no header.header_heatmaps.1.weight, so no MoveNet")
    network = MoveNet(head.shape[0]).eval()
    report = load_state(
        network, checkpoint, remap=opening.remap, rename=lambda n: unwrapped(n).removeprefix(prefix)
    )
    skeleton, note = skeleton_of({}, checkpoint.dataset_meta, head.shape[0])
    if not checkpoint.dataset_meta and head.shape[0] == 17:
        skeleton = SKELETONS["coco-17"]
        note = "the file does not name its 17 keypoints: taken for coco-17, as of the published MoveNet"
    notes = [note, f"input {INPUT[1]}x{INPUT[0]} assumed, raw RGB"]
    if stated.padding is None:
        notes.append(f"box padding {PADDING} assumed (--assume padding=...)")
    model = TopDown(
        module=network.to(opening.device),
        skeleton=skeleton,
        codec=None,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        padding=PADDING if stated.padding is None else stated.padding,
        read=read,
        input_size=INPUT,
        device=opening.device,
        note="; ".join(n for n in notes if n),
    )
    return model, report


class MoveNet(nn.Module):
    """From raw pixels 0..255 to heatmaps, a centre map, and vectors from the centre and within cells.

    Args:
        keypoints: K.
    """

    def __init__(self, keypoints: int = 17) -> None:
        super().__init__()
        self.keypoints = keypoints
        self.backbone, self.header = Backbone(), Header(keypoints)

    def forward(self, pixels: Float[Tensor, "N 3 H W"]) -> Outputs:
        """All four maps, at a quarter of the size."""
        maps, centres, regressions, offsets = self.header(self.backbone(pixels / 127.5 - 1))
        size = (self.keypoints, 2)
        fields = {"regressions": regressions.unflatten(1, size), "offsets": offsets.unflatten(1, size)}
        return Outputs(heatmaps=maps, centres=centres, fields=fields)


class Backbone(nn.Module):
    """Shuffle units at three strides, joined upwards to a quarter of the input's size."""

    stage2: nn.Module
    stage3: nn.Module
    stage4: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(True))
        for name, (before, after, depth) in WIDTHS.items():
            units = [Shuffle(before, after, 2), *(Shuffle(after, after, 1) for _ in range(depth - 1))]
            self.add_module(name, nn.Sequential(*units))
        self.upsample2, self.upsample1 = upsample(192, 128), upsample(128, 64)
        self.conv3, self.conv2 = nn.Conv2d(128, 128, 1), nn.Conv2d(64, 64, 1)
        self.conv4 = separable(64, 24)

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 24 h w"]:
        """Features at a quarter of the size."""
        fine = self.stage2(self.conv1(x))
        middle = self.stage3(fine)
        x = self.upsample2(self.stage4(middle)) + self.conv3(middle)
        return self.conv4(self.upsample1(x) + self.conv2(fine))


class Shuffle(nn.Module):
    """Half of the channels passes, or a second branch halves the size; then both halves are mixed."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        half, first = after // 2, before if stride == 2 else after // 2
        self.branch1 = nn.Sequential()
        if stride == 2:
            self.branch1 = nn.Sequential(*depthwise(before, stride), *pointwise(before, half))
        self.branch2 = nn.Sequential(
            *pointwise(first, half), *depthwise(half, stride), *pointwise(half, half)
        )

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C2 h w"]:
        """Both branches, their channels in turn."""
        left, right = (x, x) if len(self.branch1) else x.chunk(2, 1)
        both = torch.stack([self.branch1(left), self.branch2(right)], 2)
        return both.flatten(1, 2)


class Header(nn.Module):
    """Four small heads over one map."""

    header_heatmaps: nn.Module
    header_centers: nn.Module
    header_regs: nn.Module
    header_offsets: nn.Module

    def __init__(self, keypoints: int) -> None:
        super().__init__()
        for name, channels, squashed in (
            ("heatmaps", keypoints, True),
            ("centers", 1, True),
            ("regs", 2 * keypoints, False),
            ("offsets", 2 * keypoints, False),
        ):
            parts = [separable(24, 96), nn.Conv2d(96, channels, 1)]
            self.add_module(f"header_{name}", nn.Sequential(*parts, *[SoftSign()] * squashed))

    def forward(self, x: Float[Tensor, "N 24 h w"]) -> tuple[Float[Tensor, "N C h w"], ...]:
        """Heatmaps (K channels), centres (1), regressions (2 K), offsets (2 K)."""
        return self.header_heatmaps(x), self.header_centers(x), self.header_regs(x), self.header_offsets(x)


class SoftSign(nn.Module):
    """Values between 0 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        """X / (1 + |x|), moved to 0..1; of any shape."""
        return nn.functional.softsign(x) / 2 + 0.5


def pointwise(before: int, after: int) -> tuple[nn.Module, ...]:
    """A 1x1 convolution with its norm.

    Args:
        before: channels of the input.
        after: channels of the output.
    """
    return nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)


def depthwise(width: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """A 3x3 convolution in each channel.

    Args:
        width: channels.
        stride: in cells.
    """
    return nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm2d(width)


def separable(before: int, after: int) -> nn.Sequential:
    """Depthwise, then pointwise.

    Args:
        before: channels of the input.
        after: channels of the output.
    """
    return nn.Sequential(*depthwise(before), *pointwise(before, after))


def upsample(before: int, after: int) -> nn.Sequential:
    """Twice the size, with another number of channels.

    Args:
        before: channels of the input.
        after: channels of the output.
    """
    thin = nn.Conv2d(before, before, 3, 1, 1, groups=before)
    larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(thin, nn.ReLU(True), nn.Sequential(*pointwise(before, after)), larger)


def read(
    outputs: Outputs, options: DecodeOptions
) -> tuple[Float[np.ndarray, "N K 2"], Float[np.ndarray, "N K"]]:
    """Input pixels and scores: the centre says roughly where, heatmaps which cell near there, then offsets.

    Cells are worth the less the farther they are from where the regression points: divided by 1.8 plus the
    distance in cells. Below LEAST a heatmap says nothing.

    Args:
        outputs: of the network: heatmaps, centres, regressions, offsets.
        options: the defaults; there is one way to read them.

    Raises:
        NotAvailable: another decoder is asked for.
    """
    if options.decoder or options.score:
        raise NotAvailable("decoder and score: MoveNet has one reading, from its centre outwards")
    if outputs.heatmaps is None or outputs.centres is None:
        raise NotAvailable("keypoints: MoveNet is read off heatmaps and centres, and one is missing")
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
    return np.where((scores >= LEAST)[..., None], points, np.nan), scores
