"""Noise that tiles: the grain of fur, clouds, ground and coats. Made once, sampled with offsets."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

SIDE = 512


@lru_cache(maxsize=8)
def tile(kind: str) -> Float[np.ndarray, "512 512"]:
    """A tile with values in 0..1, equally distributed, that repeats without a seam.

    Args:
        kind: ``cloud`` (large and small shapes), ``grain`` (fine), ``cells`` (distance from the walls of
            irregular cells, 0 at a wall), ``dots`` (1 within irregular dots).
    """
    rng = np.random.default_rng(SIDE)
    if kind in ("cells", "dots"):
        return _cells(rng, kind)
    white = np.fft.rfft2(rng.standard_normal((SIDE, SIDE)))
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]) * SIDE
    if kind == "cloud":
        gain = 1 / np.maximum(frequency, 2) ** 1.6
    else:
        gain = np.exp(-(((frequency - 70) / 60) ** 2))
    gain[0, 0] = 0
    field = np.fft.irfft2(white * gain, (SIDE, SIDE))
    # Ranks instead of amplitudes: a threshold of .3 then covers 30 percent.
    ranks = np.empty(field.size, np.float32)
    ranks[np.argsort(field, axis=None, kind="stable")] = np.linspace(0, 1, field.size, dtype=np.float32)
    return cv2.GaussianBlur(ranks.reshape(SIDE, SIDE), (0, 0), 0.7, borderType=cv2.BORDER_REFLECT)


def sample(kind: str, x: Float[np.ndarray, "*n"], y: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Values of a tile at coordinates counted in tiles, in a grid or a row; the tile repeats beyond."""
    x, y = np.broadcast_arrays(np.asarray(x, np.float32), np.asarray(y, np.float32))
    # Not np.mod, which takes ten times as long.
    x, y = ((v - np.floor(v)) * np.float32(SIDE) for v in (x, y))
    if not x.size:  # a figure of which no pixel shows; OpenCV refuses an empty grid
        return np.zeros_like(x)
    if x.ndim == 1:  # OpenCV wants a grid, and a wide one is quickest
        n, width = len(x), 256
        grid = np.zeros((2, -(-n // width) * width), np.float32)
        grid[0, :n], grid[1, :n] = x, y
        return sample_grid(kind, *grid.reshape(2, -1, width)).reshape(-1)[:n]
    return sample_grid(kind, x, y)


def sample_grid(
    kind: str, x: Float[np.ndarray, "H W"], y: Float[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W"]:
    """Values of a tile at its pixels, from 0 to `SIDE`."""
    return cv2.remap(tile(kind), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _cells(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Cellular noise with one jittered seed per square of a 10 x 10 grid."""
    n = 10
    seeds = (np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1) + rng.uniform(0.15, 0.85, (n, n, 2))) / n
    seeds = seeds.reshape(-1, 2)
    seeds = np.concatenate([seeds + np.array([i, j]) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    from scipy.spatial import KDTree

    axis = (np.arange(SIDE) + 0.5) / SIDE
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    near, _ = KDTree(seeds).query(points, k=2)
    near = near.reshape(SIDE, SIDE, 2).astype(np.float32) * n
    if kind == "cells":
        return np.clip(near[..., 1] - near[..., 0], 0, 1)
    return np.clip((0.42 - near[..., 0]) * 8, 0, 1)
