"""Do all output maps say the same? Numbers for a network that has stopped telling its keypoints apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

# A network's maps are collapsed when the mean pair correlates as much. Maps of different keypoints of one
# person correlate by .0 to .3 where peaks are narrow; neighbours on the head by more, but never all.
ALIKE = 0.8


@dataclass(frozen=True)
class Likeness:
    """How different the maps of different keypoints are.

    Attributes:
        correlation: Pearson's, mean over all pairs of maps that vary; 1 when all say the same. nan with fewer
            than two such maps.
        rank: effective number of different maps, 1 to K: the exponential of the entropy of the singular
            values; nan when nothing varies.
        constant: maps that have one value everywhere and say nothing.
    """

    correlation: float
    rank: float
    constant: int

    @property
    def alike(self) -> bool:
        """Whether all maps look alike."""
        return bool(self.correlation > ALIKE)


def likeness(maps: Float[np.ndarray, "N K h w"]) -> Likeness:
    """How alike the K maps are over all cells of all samples.

    Source: effective rank: Roy and Vetterli, The effective rank, EUSIPCO 2007.

    Raises:
        ValueError: it is no stack of maps, or one holds nan.
    """
    unit, varies = _unit(maps)
    K = int(varies.sum())
    if K == 0:
        return Likeness(float("nan"), float("nan"), len(varies))
    unit = unit[varies]
    correlation = float("nan") if K < 2 else float(((unit @ unit.T).sum() - K) / (K * (K - 1)))
    # Of the maps at their own size, so that one keypoint with high peaks does not hide the others' likeness.
    singular = np.linalg.svd(unit, compute_uv=False)
    share = singular / singular.sum()
    share = share[share > 1e-12]
    return Likeness(correlation, float(np.exp(-(share * np.log(share)).sum())), len(varies) - K)


def correlations(maps: Float[np.ndarray, "N K h w"]) -> Float[np.ndarray, "K K"]:
    """Pearson's correlation of every pair of maps over all cells of all samples; nan for constant ones.

    Raises:
        ValueError: it is no stack of maps, or one holds nan.
    """
    unit, varies = _unit(maps)
    matrix = unit @ unit.T
    matrix[~varies] = matrix[:, ~varies] = np.nan
    return matrix


def _unit(maps: np.ndarray) -> tuple[Float[np.ndarray, "K cells"], Float[np.ndarray, " K"]]:
    """Each map without its mean and of length 1, and which of them vary at all."""
    maps = np.asarray(maps, float)
    if maps.ndim != 4:
        raise ValueError(f"likeness: expected maps [N, K, h, w], got {list(maps.shape)}")
    if not np.isfinite(maps).all():
        raise ValueError("likeness: a map holds nan or infinity")
    flat = np.moveaxis(maps, 1, 0).reshape(maps.shape[1], -1)
    centred = flat - flat.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    # Rounding leaves some 1e-16 of the values of a constant map.
    varies = length > 1e-9 * np.maximum(np.abs(flat).max(1), 1e-30) * np.sqrt(flat.shape[1])
    return centred / np.where(varies, length, 1)[:, None], varies
