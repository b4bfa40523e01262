"""HigherHRNet: heatmaps and tags at a quarter of the input, finer heatmaps from a deconvolution at a half.

Names and shapes of all tensors are those of the published checkpoints, so that weights fit without renaming.
Width and depth are parameters, so that the same code also builds a network small enough to train on a CPU.
Source: Cheng et al., HigherHRNet, CVPR 2020;
HRNet/HigherHRNet-Human-Pose-Estimation@aa23881:lib/models/pose_higher_hrnet.py (names and shapes).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


# A bottleneck gives this many times the channels it works in.
EXPANSION = 4


def conv3x3(channels: int, out: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size, or halves it; its batch norm has the bias.

    Args:
        channels: of the input.
        out: channels of the output.
        stride: in cells.
    """
    return nn.Conv2d(channels, out, 3, stride, 1, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a way around them; channels stay."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] of the same shape."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, and a way around them; gives EXPANSION times `planes` channels."""

    def __init__(self, channels: int, planes: int) -> None:
        super().__init__()
        out = planes * EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(channels, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, out, 1, bias=False), nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.downsample = None
        if channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, 4 planes, h, w]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        around = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn3(self.conv3(y)) + around)


class Exchange(nn.Module):
    """One module of a stage: every resolution by itself, then each asks all others.

    Args:
        channels: of every branch, finest first; each has half the size of the one before.
        blocks: basic blocks in a branch.
        finest_only: only the finest branch comes out, as in the last module of the network.
    """

    def __init__(self, channels: Sequence[int], blocks: int, finest_only: bool = False) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels
        )
        rows = 1 if finest_only else len(channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_path(channels, source, target) for source in range(len(channels)))
            for target in range(rows)
        )
        self.relu = nn.ReLU()

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """One tensor [N, C, h, w] per branch, finest first; one only where the module says so."""
        seen = [branch(part) for branch, part in zip(self.branches, x, strict=True)]
        fused = []
        for row in self.fuse_layers:
            # One after the other from the finest, as published: sums of floats depend on the order.
            total = None
            for path, part in zip(row, seen, strict=True):  # type: ignore[call-overload] - a ModuleList
                features = path(part)
                total = features if total is None else total + features
            fused.append(self.relu(total))
        return fused


def _path(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """From one branch to another: up by nearest neighbour behind a 1x1, down by strided 3x3, or straight."""
    have, want = channels[source], channels[target]
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            nn.Conv2d(have, want, 1, bias=False),
            nn.BatchNorm2d(want),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    steps = []
    for step in range(target - source):
        last = step == target - source - 1
        # Channels change in the last step only, and only it has no ReLU: the sum comes first.
        out = want if last else have
        parts = [conv3x3(have, out, 2), nn.BatchNorm2d(out)]
        steps.append(nn.Sequential(*parts) if last else nn.Sequential(*parts, nn.ReLU()))
    return nn.Sequential(*steps)


class Transition(nn.ModuleList):
    """From the branches of one stage to those of the next, which has one more.

    Args:
        before: channels of the branches that come in.
        after: of those that go out.
    """

    def __init__(self, before: Sequence[int], after: Sequence[int]) -> None:
        ways: list[nn.Module] = []
        for i, want in enumerate(after):
            if i >= len(before):
                step = nn.Sequential(conv3x3(before[-1], want, 2), nn.BatchNorm2d(want), nn.ReLU())
                ways.append(nn.Sequential(step))
            elif before[i] != want:
                ways.append(nn.Sequential(conv3x3(before[i], want), nn.BatchNorm2d(want), nn.ReLU()))
            else:
                ways.append(nn.Identity())
        super().__init__(ways)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """One tensor [N, C, h, w] per branch of the next stage; a new branch reads the coarsest."""
        return [way(x[min(i, len(x) - 1)]) for i, way in enumerate(self)]


# The network.


# Each further branch has half the size and twice the channels; four of them end at 1/32 of the input.
BRANCHES = 4
STRIDE = 4


@dataclass(frozen=True)
class Architecture:
    """How large a HigherHRNet; the defaults are the published w32.

    Attributes:
        width: channels of the finest branch: 32 or 48.
        keypoints: heatmaps at both resolutions.
        tags: tag maps, at the coarser resolution only: `keypoints` for one map each, 1 for one map for all.
        stem: channels of the two first convolutions and of the bottlenecks.
        bottlenecks: in layer1.
        modules: of stage2, stage3 and stage4.
        blocks: basic blocks in every branch of a module.
        deconv_blocks: basic blocks behind the deconvolution.
    """

    width: int = 32
    keypoints: int = 17
    tags: int = 17
    stem: int = 64
    bottlenecks: int = 4
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    deconv_blocks: int = 4

    def __post_init__(self) -> None:
        numbers = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "modules"}
        small = [name for name, number in numbers.items() if number < 1]
        if small or len(self.modules) != 3 or min(self.modules) < 1:
            raise ValueError(
                f"HigherHRNet: expected numbers from 1 and three module counts, got {small or self.modules}"
            )


W32 = Architecture()
W48 = Architecture(width=48)


class HigherHRNet(nn.Module):
    """Heatmaps and tags of all people of an image.

    Attributes:
        architecture: how large it is.
    """

    def __init__(self, architecture: Architecture = W32) -> None:
        super().__init__()
        self.architecture = a = architecture
        widths = [a.width * 2**i for i in range(BRANCHES)]
        self.conv1, self.bn1 = conv3x3(3, a.stem, 2), nn.BatchNorm2d(a.stem)
        self.conv2, self.bn2 = conv3x3(a.stem, a.stem, 2), nn.BatchNorm2d(a.stem)
        self.relu = nn.ReLU()
        first = a.stem * EXPANSION
        self.layer1 = nn.Sequential(
            *(Bottleneck(a.stem if i == 0 else first, a.stem) for i in range(a.bottlenecks))
        )
        self.transition1 = Transition([first], widths[:2])
        self.stage2 = _stage(a, widths[:2], a.modules[0])
        self.transition2 = Transition(widths[:2], widths[:3])
        self.stage3 = _stage(a, widths[:3], a.modules[1])
        self.transition3 = Transition(widths[:3], widths)
        self.stage4 = _stage(a, widths, a.modules[2], finest_only=True)
        self.final_layers = nn.ModuleList(
            [nn.Conv2d(a.width, a.keypoints + a.tags, 1), nn.Conv2d(a.width, a.keypoints, 1)]
        )
        self.deconv_layers = nn.ModuleList([_deconvolution(a)])
        self.apply(_first_weights)

    def features(self, pixels: Tensor) -> Tensor:
        """The finest branch behind stage 4.

        Args:
            pixels: [N, 3, H, W]; H and W multiples of 32.

        Returns:
            [N, width, H/4, W/4].

        Raises:
            ValueError: another number of channels, or a size that does not halve five times.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[-1] % 32 or pixels.shape[-2] % 32:
            raise ValueError(
                f"HigherHRNet: expected pixels [N, 3, H, W] with H and W multiples of 32, got "
                f"{list(pixels.shape)}"
            )
        x = self.relu(self.bn1(self.conv1(pixels)))
        x = self.layer1(self.relu(self.bn2(self.conv2(x))))
        x = self.stage2(self.transition1([x]))
        x = self.stage3(self.transition2(x))
        return self.stage4(self.transition3(x))[0]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """What both resolutions say.

        Args:
            pixels: [N, 3, H, W]; H and W multiples of 32.

        Returns:
            [N, K + T, H/4, W/4], K heatmaps and then T tag maps; and [N, K, H/2, W/2], finer heatmaps.
        """
        x = self.features(pixels)
        coarse = self.final_layers[0](x)
        # The deconvolution also reads what the coarse head said, tags included.
        fine = self.final_layers[1](self.deconv_layers[0](torch.cat([x, coarse], 1)))
        return [coarse, fine]


def _stage(a: Architecture, channels: list[int], modules: int, finest_only: bool = False) -> nn.Sequential:
    last = modules - 1
    return nn.Sequential(*(Exchange(channels, a.blocks, finest_only and i == last) for i in range(modules)))


def _deconvolution(a: Architecture) -> nn.Sequential:
    up = nn.ConvTranspose2d(a.width + a.keypoints + a.tags, a.width, 4, 2, 1, bias=False)
    # Every block in a Sequential of its own: so are the published names.
    blocks = [nn.Sequential(BasicBlock(a.width)) for _ in range(a.deconv_blocks)]
    return nn.Sequential(nn.Sequential(up, nn.BatchNorm2d(a.width), nn.ReLU()), *blocks)


def _first_weights(part: nn.Module) -> None:
    """Normal with deviation .001, as published: heatmaps start near zero, where nearly every cell belongs."""
    if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(part.weight, std=0.001)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
