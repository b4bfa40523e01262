"""The tag maps of one image, and what can be made of them: means, principal components, noise.

HigherHRNet's tag maps are one scalar map per keypoint, each taught only where its own keypoint lies. What
happens when keypoints read other maps says whether the maps are one embedding (they are not).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

# Every so many cells along x and y: neighbouring cells say the same, and the covariance needs few.
_STRIDE = 4


class TagMaps:
    """One image's tags, with what several variants share worked out once.

    Attributes:
        tags: T maps with L values in each cell; not changed.
        seed: of the noise.
    """

    def __init__(self, tags: Float[np.ndarray, "T H W L"], seed: int) -> None:
        self.tags, self.seed = tags, seed

    @cached_property
    def components(self) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, "T T"]]:
        """Mean over the image of the T values; their principal directions as rows, the strongest first."""
        T = len(self.tags)
        sample = self.tags[:, ::_STRIDE, ::_STRIDE].reshape(T, -1).astype(float)
        mean = sample.mean(1)
        _, vectors = np.linalg.eigh(np.cov(sample) if T > 1 else np.ones((1, 1)))
        return mean.astype(np.float32), vectors.T[::-1].astype(np.float32)

    @cached_property
    def noise(self) -> Float[np.ndarray, "T H W L"]:
        """Independent standard normal numbers."""
        return np.random.default_rng(self.seed).standard_normal(self.tags.shape, np.float32)


@dataclass(frozen=True)
class MeanOf:
    """One map for all: the mean of some.

    Attributes:
        maps: their indices.
    """

    maps: Sequence[int]

    def __call__(self, given: TagMaps) -> Float[np.ndarray, "1 H W L"]:
        total = np.zeros_like(given.tags[:1])
        for index in self.maps:
            total += given.tags[index]
        total /= len(self.maps)
        return total


@dataclass(frozen=True)
class FirstComponents:
    """Every map as far as the strongest principal components of the image's maps tell it.

    Attributes:
        count: of components.
    """

    count: int

    def __call__(self, given: TagMaps) -> Float[np.ndarray, "T H W L"]:
        mean, vectors = given.components
        kept = vectors[: self.count]
        flat = given.tags.reshape(len(mean), -1)
        # kept' kept (x - mean) + mean, without a second array of x's size.
        offset = (mean - kept.T @ (kept @ mean))[:, None]
        return (kept.T @ (kept @ flat) + offset).reshape(given.tags.shape)


@dataclass(frozen=True)
class ComponentForAll:
    """One map for all: the image's maps along their strongest principal component.

    Weights sum to 1 in size, so that the map keeps the unit of tags: with equal weights it is the mean.
    """

    def __call__(self, given: TagMaps) -> Float[np.ndarray, "1 H W L"]:
        weights = given.components[1][0]
        weights = weights / np.abs(weights).sum()
        return (weights @ given.tags.reshape(len(weights), -1)).reshape(1, *given.tags.shape[1:])


@dataclass(frozen=True)
class Noisy:
    """Every map with independent noise in every cell.

    Attributes:
        deviation: of the noise, in units of tags: people closer than 1 are taken for one.
    """

    deviation: float

    def __call__(self, given: TagMaps) -> Float[np.ndarray, "T H W L"]:
        return given.tags + np.float32(self.deviation) * given.noise
