"""Statistics of output maps: entropy, width, second mode; similarity of the maps of different keypoints.

`softmax`, `entropy`, `width` and `second_mode` take one keypoint's map [h, w] or vector [n]; distances are
in cells (bins). `likeness` and `correlations` take all maps, to find a network whose maps are all alike
(collapse).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.statistics import effective_number

if TYPE_CHECKING:
    from jaxtyping import Float


def softmax(values: Float[np.ndarray, "*s n"], beta: float = 1.0) -> Float[np.ndarray, "*s n"]:
    """Softmax along the last axis of beta times the values.

    Args:
        values: logits.
        beta: inverse temperature.

    mmpose's SimCC loss compares softmax(10 * logit); its visibility option reads
    softmax(150 * sigma * logit). Source: mmpose@759b39c:mmpose/models/losses/classification_loss.py
    (KLDiscretLoss), mmpose/codecs/simcc_label.py (decode_visibility).
    """
    scaled = np.asarray(values, float) * beta
    scaled -= scaled.max(-1, keepdims=True)
    shares = np.exp(scaled)
    return shares / shares.sum(-1, keepdims=True)


def entropy(mass: Float[np.ndarray, "*s"]) -> float:
    """Entropy in bits: 0 for a single cell with mass, log2(n) for n equal cells.

    Args:
        mass: any scale; negative values count as zero.

    Returns:
        Bits; nan where there is no mass.
    """
    mass = np.asarray(mass, float).clip(min=0)
    total = mass.sum()
    if not total > 0:
        return float("nan")
    shares = mass[mass > 0] / total
    return float(abs((shares * np.log2(shares)).sum()))  # abs: a single cell would give -0.0


def width(values: Float[np.ndarray, "*s"], window: float) -> float:
    """Root mean square distance of mass to the maximum, per axis: the sigma of a Gaussian peak.

    Args:
        values: any scale; negative values count as zero.
        window: half side of the measured square around the maximum, cells.

    Returns:
        Cells; nan where there is no mass.
    """
    mass = np.asarray(values, float).clip(min=0)
    offsets = _offsets(mass)
    mass = mass * (np.abs(offsets) <= window).all(0)
    if not mass.sum() > 0:
        return float("nan")
    return float(np.sqrt((mass * (offsets**2).sum(0)).sum() / mass.sum() / mass.ndim))


def second_mode(values: Float[np.ndarray, "*s"], radius: float) -> tuple[tuple[int, ...] | None, float]:
    """The highest other local maximum further than `radius` from the first, and its value.

    A cell counts only when no neighbour is higher and it exceeds the lowest value, so that the flank of a
    broad first peak is no mode.

    Args:
        values: a map or vector.
        radius: cells.

    Returns:
        Its index and value; (None, nan) where there is no other mode.
    """
    values = np.asarray(values, float)
    padded = np.pad(values, 1, constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3,) * values.ndim)
    highest = around.reshape(*values.shape, -1).max(-1)
    far = (_offsets(values) ** 2).sum(0) > radius**2
    candidates = np.where((values >= highest) & far & (values > values.min()), values, -np.inf)
    place = np.unravel_index(int(candidates.argmax()), values.shape)
    if not np.isfinite(candidates[place]):
        return None, float("nan")
    return tuple(int(i) for i in place), float(values[place])


def _offsets(values: Float[np.ndarray, "*s"]) -> Float[np.ndarray, " axes *s"]:
    """Distance of every cell to the maximum along each axis."""
    top = np.array(np.unravel_index(int(values.argmax()), values.shape))
    return np.indices(values.shape) - top.reshape(-1, *[1] * values.ndim)


# Maps with a higher mean correlation count as collapsed. Maps of different keypoints of one person correlate
# by 0 to .3 where peaks are narrow; neighbours on the head by more, but never all pairs.
ALIKE = 0.8


@dataclass(frozen=True)
class Likeness:
    """Similarity of the maps of different keypoints.

    Attributes:
        correlation: Pearson's, mean over all pairs of maps that are not constant; 1 when all are alike. nan
            with fewer than two such maps.
        rank: effective rank of the maps, 1 to K: the exponential of the entropy of the singular values; nan
            when all maps are constant.
        constant: number of maps with one value everywhere.
    """

    correlation: float
    rank: float
    constant: int

    @property
    def alike(self) -> bool:
        """Whether the maps have collapsed: nearly the same for every keypoint."""
        return bool(self.correlation > ALIKE)


def likeness(maps: Float[np.ndarray, "N K h w"]) -> Likeness:
    """Similarity of the K maps over all cells of all samples.

    Raises:
        ValueError: it is no stack of maps, or one holds nan.
    """
    unit, varies = _unit(maps)
    K = int(varies.sum())
    if K == 0:
        return Likeness(float("nan"), float("nan"), len(varies))
    unit = unit[varies]
    correlation = float("nan") if K < 2 else float(((unit @ unit.T).sum() - K) / (K * (K - 1)))
    # Of normalised maps, so that one keypoint with high peaks does not dominate.
    rank = effective_number(np.linalg.svd(unit, compute_uv=False))
    return Likeness(correlation, rank, len(varies) - K)


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
    """Each map centred and normalised to length 1, and which maps are not constant."""
    maps = np.asarray(maps, float)
    if maps.ndim != 4:
        raise ValueError(f"likeness: expected maps [N, K, h, w], got {list(maps.shape)}")
    if not np.isfinite(maps).all():
        raise ValueError("likeness: a map holds nan or infinity")
    flat = np.moveaxis(maps, 1, 0).reshape(maps.shape[1], -1)
    centred = flat - flat.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    # A constant map is not exactly zero after centring: rounding leaves some 1e-16 of its values.
    varies = length > 1e-9 * np.maximum(np.abs(flat).max(1), 1e-30) * np.sqrt(flat.shape[1])
    return centred / np.where(varies, length, 1)[:, None], varies
