"""Made-up outputs of a network that saw a crowd: Gaussian peaks, tags around one value per person, noise."""

from __future__ import annotations

import numpy as np


def crowd(seed, people=None, K=17, size=(32, 40), L=None, spread=None, missing=0.2, noise=0.02, width=3.0):
    """Heatmaps [K, H, W] and tags [K, H, W, L], float32; 0 to 30 people unless told.

    spread: standard deviation of the people's tags; small ones make them hard to tell apart.
    width: of the peaks, standard deviation times the root of two, in cells.
    """
    rng = np.random.default_rng(seed)
    H, W = size
    people = int(rng.integers(0, 31)) if people is None else people
    L = int(rng.integers(1, 3)) if L is None else L
    spread = float(rng.choice([0.3, 1.0, 3.0, 10.0])) if spread is None else spread
    heatmaps = rng.normal(0, noise, (K, H, W)).astype(np.float32)
    tags = rng.normal(0, 1, (K, H, W, L)).astype(np.float32)
    centres = rng.normal(0, spread, (people, L)).astype(np.float32)
    y, x = np.mgrid[:H, :W].astype(np.float32)
    at, peaks = rng.uniform((0, 0), (W - 1, H - 1), (people, K, 2)), rng.uniform(0.05, 1.0, (people, K))
    here = rng.random((people, K)) >= missing
    for person, k in np.argwhere(here):
        px, py = at[person, k].astype(np.float32)
        square = (x - px) ** 2 + (y - py) ** 2
        heatmaps[k] = np.maximum(heatmaps[k], np.float32(peaks[person, k]) * np.exp(-square / width**2))
        near = square < (2 * width) ** 2
        tags[k][near] = centres[person] + np.float32(0.2) * tags[k][near]
    return heatmaps, tags
