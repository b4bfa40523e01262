"""Image files that fall into two groups: by brightness, contrast, tone or sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Sample

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

# The medians of two groups are so many times as far apart as files are from their group's (median), and their
# nearest members so many times. In eleven healthy sets no groups of this size come near both.
APART, BETWEEN = 5.5, 1.5
# Images of the smaller group, and its share: a few at the end of a wide spread are no group.
LEAST_IMAGES, LEAST_SHARE = 4, 0.15


@dataclass(frozen=True, eq=False)
class FileGroup:
    """Image files that a statistic sets apart from the rest.

    Attributes:
        statistic: a key of STATISTICS.
        chosen: which samples are of the smaller group.
        apart: how far the groups' medians are apart, in median distances of a file from its own.
    """

    statistic: str
    chosen: Bool[np.ndarray, " N"]
    apart: float

    def text(self) -> str:
        """What sets them apart."""
        return (
            f"of another {self.statistic} than the others ({STATISTICS[self.statistic]}; {self.apart:.0f} "
            "times as far as files differ within their group)"
        )


STATISTICS: dict[str, str] = {
    "brightness": "mean of the pixels",
    "contrast": "deviation of the pixels",
    "tone": "brightest twentieth against the median",
    "sharpness": "the largest differences of neighbouring pixels against the contrast",
}


def _statistics(image: UInt8[np.ndarray, "H W 3"]) -> tuple[float, ...]:
    """Logarithms of STATISTICS."""
    level = image.mean(-1, dtype=np.float32)
    spread = float(level.std()) + 1e-3
    inner = level[1:-1, 1:-1]
    around = level[:-2, 1:-1] + level[2:, 1:-1] + level[1:-1, :-2] + level[1:-1, 2:]
    fine = float(np.percentile(np.abs(4 * inner - around), 98)) if inner.size else 0.0
    tone = (np.percentile(level, 95) + 1) / (np.median(level) + 1)
    values = (float(level.mean()) + 1, spread + 0.1, float(tone), fine / spread + 1e-4)
    return tuple(float(np.log(value)) for value in values)


def groups_of_files(samples: Sequence[Sample]) -> list[FileGroup]:
    """Image files that fall into two groups by a statistic, with nothing between.

    Args:
        samples: of which several may be of one file.
    """
    first = {s.path or s.key: s for s in reversed(samples)}
    values = dict(zip(first, np.array([_statistics(s.image) for s in first.values()]), strict=True))
    found = []
    for place, name in enumerate(STATISTICS):
        own = {path: float(held[place]) for path, held in values.items()}
        split = _split(np.sort(list(own.values())))
        if split is None:
            continue
        low = np.array([own[s.path or s.key] <= split[0] for s in samples])
        found.append(FileGroup(name, low if low.mean() <= 0.5 else ~low, split[1]))
    return found


def _split(values: Float[np.ndarray, " n"]) -> tuple[float, float] | None:
    """The last value of the lower one of two groups, and how far they are apart; None where they are one.

    Args:
        values: in their order.
    """
    least = max(LEAST_IMAGES, round(LEAST_SHARE * len(values)))
    best: tuple[float, float, float] | None = None
    for count in range(least, len(values) - least + 1):
        low, high = values[:count], values[count:]
        within = max(*(float(np.median(np.abs(one - np.median(one)))) for one in (low, high)), 0.01)
        apart, between = float(np.median(high) - np.median(low)) / within, float(high[0] - low[-1]) / within
        if apart >= APART and between >= max(BETWEEN, best[0] if best else 0.0):
            best = between, float(low[-1]), apart
    return best[1:] if best else None
