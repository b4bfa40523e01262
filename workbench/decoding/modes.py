"""How sure is an output of its peak? Entropy, width, and the second place it also points at.

Everything here takes one keypoint's map [h, w] or vector [n]; distances are in cells (bins).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


def softmax(values: Float[np.ndarray, "*s n"], beta: float = 1.0) -> Float[np.ndarray, "*s n"]:
    """Shares along the last axis, of beta times the values.

    mmpose's SimCC loss compares softmax(10 * logit); its visibility option reads
    softmax(150 * sigma * logit). Source: mmpose@759b39c:mmpose/models/losses/classification_loss.py
    (KLDiscretLoss), mmpose/codecs/simcc_label.py (decode_visibility).
    """
    scaled = np.asarray(values, float) * beta
    scaled -= scaled.max(-1, keepdims=True)
    shares = np.exp(scaled)
    return shares / shares.sum(-1, keepdims=True)


def entropy(mass: Float[np.ndarray, "*s"]) -> float:
    """Bits that the mass is spread over: 0 for one lit cell, log2(n) for n equal ones.

    Args:
        mass: any scale; negative values count as none.

    Returns:
        bits; nan where there is no mass.
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
        values: any scale; negative values count as no mass.
        window: half side of the square around the maximum that is measured, cells.

    Returns:
        cells; nan where there is no mass.
    """
    mass = np.asarray(values, float).clip(min=0)
    offsets = _offsets(mass)
    mass = mass * (np.abs(offsets) <= window).all(0)
    if not mass.sum() > 0:
        return float("nan")
    return float(np.sqrt((mass * (offsets**2).sum(0)).sum() / mass.sum() / mass.ndim))


def second_mode(values: Float[np.ndarray, "*s"], radius: float) -> tuple[tuple[int, ...] | None, float]:
    """The highest other local maximum further than `radius` from the first, and its value.

    The flank of a broad first peak is no mode: a cell counts only when no neighbour is higher and it
    stands above the lowest value.

    Returns:
        its index and value; (None, nan) where there is no other mode.
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


def _offsets(values: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "axes *s"]:
    """Distance of every cell to the maximum along each axis."""
    top = np.array(np.unravel_index(int(values.argmax()), values.shape))
    return np.indices(values.shape) - top.reshape(-1, *[1] * values.ndim)
