"""Of what is HRNet built? Residual blocks, and modules of several resolutions that ask each other.

Names of the parts are those of the published checkpoints, so that weights fit without renaming.
Source: HRNet/HigherHRNet-Human-Pose-Estimation@aa23881:lib/models/pose_higher_hrnet.py (names and shapes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

# A bottleneck gives this many times the channels it works in.
EXPANSION = 4


def conv3x3(channels: int, out: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size, or halves it; its batch norm has the bias."""
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
        """One tensor per branch, finest first; one only where the module says so."""
        seen = [branch(part) for branch, part in zip(self.branches, x, strict=True)]
        fused = []
        for row in self.fuse_layers:
            # One after the other from the finest, as published: sums of floats depend on the order.
            total = None
            for path, part in zip(row, seen, strict=True):  # type: ignore[call-overload] - a ModuleList
                told = path(part)
                total = told if total is None else total + told
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
        """One tensor per branch of the next stage; a new branch reads the coarsest."""
        return [way(x[min(i, len(x) - 1)]) for i, way in enumerate(self)]
