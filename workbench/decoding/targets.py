"""Which output should the network have given for these keypoints?

Equal to mmpose 1.3.2's encodings (codecs/utils/gaussian_heatmap.py, codecs/simcc_label.py), the cut at three
sigma and the rounding of the centre included: what an output is compared with is what it was trained towards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Codec

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    Points = Float[np.ndarray, "N K 2"]
    Flags = Bool[np.ndarray, "N K"]


def target(codec: Codec, points: Points, visible: Float[np.ndarray, "N K"]) -> dict[str, Any]:
    """The target of a codec, one instance per sample.

    Args:
        codec: `udp` gives UDP's Gaussian at the exact place, decoder ``dark`` the uncut one of DARK, others
            MSRA's around the nearest cell.
        points: (x, y) in input pixels; nan counts as not visible.
        visible: below .5 means unlabelled: an empty target.

    Returns:
        ``heatmaps`` [N, K, h, w], or ``simcc`` (x [N, K, bins], y [N, K, bins]); float32. And ``weights``
        [N, K]: zero where unlabelled or so far outside that no part of the peak is inside.

    Raises:
        ValueError: points and visibility do not belong together.
    """
    points, visible = np.asarray(points, float), np.asarray(visible, float)
    if points.ndim != 3 or points.shape[-1] != 2 or points.shape[:2] != visible.shape:
        raise ValueError(
            f"target: expected points [N, K, 2] and visibility [N, K], got {points.shape} and {visible.shape}"
        )
    labelled = (visible >= 0.5) & np.isfinite(points).all(-1)
    points = np.where(labelled[..., None], points, 0)
    return _simcc(codec, points, labelled) if codec.kind == "simcc" else _heatmaps(codec, points, labelled)


def _heatmaps(codec: Codec, points: Points, labelled: Flags) -> dict[str, Any]:
    less = 1 if codec.udp else 0
    (H, W), (h, w) = codec.input_size, codec.output_size
    # float32, as mmpose keeps its scale factor: the nearest cell of a tie hangs on it.
    scale = np.array([(W - less) / (w - less), (H - less) / (h - less)], np.float32)
    cells = points / scale
    radius = codec.sigma[0] * 3
    if codec.decoder == "dark" and not codec.udp:
        low, high = cells - radius, cells + radius + 1
        squares = [
            (np.arange(side, dtype=np.float32) - cells[..., i, None]) ** 2 for i, side in enumerate((w, h))
        ]
    else:
        near = (cells + 0.5).astype(np.int64)
        low, high = (near - radius).astype(np.int64), (near + radius + 1).astype(np.int64)
        centre = (2 * radius + 1) // 2 + (cells - near if codec.udp else 0 * cells)
        squares = [_cut(side, low[..., i], high[..., i], centre[..., i]) for i, side in enumerate((w, h))]
    kept = labelled & (low < (w, h)).all(-1) & (high >= 0).all(-1)
    along_x, along_y = squares
    maps = np.exp(-(along_x[..., None, :] + along_y[..., :, None]) / (2 * codec.sigma[0] ** 2))
    return {"heatmaps": (maps * kept[..., None, None]).astype(np.float32), "weights": kept.astype(np.float32)}


def _cut(side: int, low: np.ndarray, high: np.ndarray, centre: np.ndarray) -> Float[np.ndarray, "N K side"]:
    """Squared distances to the centre along one axis, infinite outside the patch low <= cell < high."""
    cell = np.arange(side)
    inside = (cell >= low[..., None]) & (cell < high[..., None])
    return np.where(inside, (cell - low[..., None] - centre[..., None]) ** 2, np.inf)


def _simcc(codec: Codec, points: Points, labelled: Flags) -> dict[str, Any]:
    near = np.around(points * codec.split_ratio).astype(np.int64)
    bins = codec.output_size[::-1]  # along x, along y
    radius = np.array(codec.sigma) * 3
    kept = labelled & (near - radius < bins).all(-1) & (near + radius + 1 >= 0).all(-1)
    vectors = []
    for axis, (side, sigma) in enumerate(zip(bins, codec.sigma, strict=True)):
        bin_ = np.arange(side, dtype=np.float32)
        vector = np.exp(-((bin_ - near[..., axis, None]) ** 2) / (2 * sigma**2)) * kept[..., None]
        vectors.append((vector / (sigma * np.sqrt(2 * np.pi) if codec.normalized else 1)).astype(np.float32))
    return {"simcc": (vectors[0], vectors[1]), "weights": kept.astype(np.float32)}
