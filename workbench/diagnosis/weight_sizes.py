"""Blocks whose weights are larger than those of the other blocks of the same network."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

# Numbers of a matrix whose deviation is known well enough.
LEAST_NUMBERS = 1024
# Factor beyond the largest other block from which a block is outsized, and share of blocks that may be so.
LARGER, MOST = 1.15, 0.4
LEAST_BLOCKS = 4
# The others are alike where the largest is so many times the smallest; beyond so large a factor it is said of
# a block beside them although nothing gives accuracy back.
ALIKE, FAR_LARGER = 1.35, 1.25
# Of blocks that differ by more than this among themselves no size is usual.
COMPARABLE = 2.0
# A learned gate starts at 0 or 1; trained ones stay near.
LARGE_SCALAR = 3.0


@dataclass(frozen=True)
class Outsized:
    """A block with larger weights than all others.

    Attributes:
        block: beginning of its tensors' names.
        factor: its size beside the largest of the others; sizes are deviations times the root of the inputs.
        usual: its size beside the median of the others.
        spread: largest of the others beside the smallest.
        names: of its matrices.
    """

    block: str
    factor: float
    usual: float
    spread: float
    names: tuple[str, ...]

    @property
    def is_certain(self) -> bool:
        """Whether the other blocks are so much alike that this one was not trained as they were."""
        return self.spread <= ALIKE and self.factor >= FAR_LARGER

    def text(self) -> str:
        """What was seen, one clause."""
        return (
            f"weights of {self.block} are {self.usual:.2f} times as large as those of the other blocks "
            f"(deviation times the root of the inputs), which differ by a factor of {self.spread:.2f}"
        )


def outsized(module: nn.Module) -> list[Outsized]:
    """Blocks with larger weights than all others, the largest first; of a few blocks nothing is said.

    Args:
        module: the network; linear layers and convolutions of it are compared.
    """
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    sizes: dict[str, dict[str, float]] = defaultdict(dict)
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Linear, _ConvNd)) and layer.weight.numel() >= LEAST_NUMBERS:
            weight = layer.weight.detach().double()
            sizes[block_of(name)][f"{name}.weight"] = float(weight.std()) * weight[0].numel() ** 0.5
    median = {block: float(np.median(list(of.values()))) for block, of in sizes.items()}
    order = sorted(median, key=lambda block: -median[block])
    if len(order) < LEAST_BLOCKS or min(median.values()) <= 0:
        return []
    able = range(1, int(MOST * len(order)) + 1)
    count = max((n for n in able if median[order[n - 1]] >= LARGER * median[order[n]]), default=0)
    rest = [median[block] for block in order[count:]]
    if rest[0] > COMPARABLE * rest[-1]:
        return []
    found: list[Outsized] = []
    for blocks in _together(order[:count], order):
        size = float(np.median([median[block] for block in blocks]))
        names = tuple(name for block in blocks for name in sizes[block])
        what = blocks[0] if len(blocks) == 1 else blocks[0].partition(".")[0]
        found.append(Outsized(what, size / rest[0], size / float(np.median(rest)), rest[0] / rest[-1], names))
    return found


def outsized_layer(module: nn.Module) -> Outsized | None:
    """The linear layer that is far larger than all others, of which the largest is usual; None without one.

    A block hides it where its other layers are as large as usual.
    """
    from torch import nn

    sizes = {
        name: float(layer.weight.detach().double().std()) * layer.weight[0].numel() ** 0.5
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and layer.weight.numel() >= LEAST_NUMBERS
    }
    order = sorted(sizes, key=lambda name: -sizes[name])
    if len(order) < LEAST_BLOCKS:
        return None
    first, rest = sizes[order[0]], [sizes[name] for name in order[1:]]
    median = float(np.median(rest))
    if min(rest) <= 0 or rest[0] > COMPARABLE * median or first < COMPARABLE * rest[0]:
        return None
    return Outsized(order[0], first / rest[0], first / median, rest[0] / rest[-1], (f"{order[0]}.weight",))


def large_scalars(module: nn.Module) -> dict[str, float]:
    """Parameters of one number, such as a learned gate, that are far from 1, by name."""
    found = {name: float(p.detach()) for name, p in module.named_parameters() if p.numel() == 1}
    return {name: value for name, value in found.items() if abs(value) >= LARGE_SCALAR}


def _together(blocks: Sequence[str], every: Sequence[str]) -> list[list[str]]:
    """Blocks one by one; where all of one top part are among them, these together."""
    top = {block: block.partition(".")[0] for block in every}
    whole = {part for part in top.values() if all(b in blocks for b in every if top[b] == part)}
    parts = [part for part in dict.fromkeys(top[b] for b in blocks) if part in whole]
    return [
        *([b for b in blocks if top[b] == part] for part in parts),
        *([block] for block in blocks if top[block] not in whole),
    ]


def block_of(name: str) -> str:
    """The block of a layer: its name up to the first number, and at least two levels of it."""
    parts = name.split(".")
    numbered = list(itertools.takewhile(lambda part: not part.isdigit(), parts))
    return ".".join(parts[: max(2, len(numbered) + 1)] if len(numbered) < len(parts) else parts[:2])
