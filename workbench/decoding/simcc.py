"""In which bin, and where within it, do the two SimCC vectors peak?

Vectors [N, K, bins] of finite numbers, raw logits as the network left them; both functions give bins (x, y).
Source: mmpose 1.3.2 codecs/simcc_label.py, codecs/utils/post_processing.py get_simcc_maximum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Codec

if TYPE_CHECKING:
    from jaxtyping import Float

    Vectors = Float[np.ndarray, "N K bins"]
    Bins = Float[np.ndarray, "N K 2"]


def argmax(x: Vectors, y: Vectors, codec: Codec) -> Bins:
    """The highest bin of each vector; of equals the first."""
    return np.stack([x.argmax(-1), y.argmax(-1)], -1).astype(float)


def dark(x: Vectors, y: Vectors, codec: Codec) -> Bins:
    """The highest bin and one Newton step on the logarithm of the blurred vector, per axis."""
    return np.stack([_refined(v, _kernel(s)) for v, s in zip((x, y), codec.sigma, strict=True)], -1)


def _kernel(sigma: float) -> int:
    """Side of the blur in bins, odd: the inverse of OpenCV's rule for sigma, as mmpose rounds it."""
    side = int((sigma * 20 - 7) // 3)
    return max(side - (side % 2 == 0), 1)


def _refined(vectors: Vectors, kernel: int) -> Float[np.ndarray, "N K"]:
    from workbench.decoding.decoders import blurred

    peak = vectors.argmax(-1)
    # A vector is a map of one row; the blur's rows above and below it are zero, which only scales the sum,
    # and the scale is undone.
    soft = blurred(vectors[:, :, None, :], kernel)[:, :, 0]
    logs = np.log(np.clip(soft, np.float32(1e-3), np.float32(50)))
    padded = np.pad(logs, ((0, 0), (0, 0), (2, 2)), mode="edge")
    n, k = np.ogrid[: vectors.shape[0], : vectors.shape[1]]
    at = {d: padded[n, k, peak + 2 + d].astype(float) for d in range(-2, 3)}
    slope = 0.5 * (at[1] - at[-1])
    # 1e-9: mmpose's guard against a flat vector.
    curvature = 1e-9 + 0.25 * (at[2] - 2 * at[0] + at[-2])
    return peak - slope / curvature
