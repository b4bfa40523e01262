"""In which cell, and where within it, does a heatmap peak?

All take maps [N, K, h, w] of finite numbers and give cells (x, y), cell centres being integers. They leave
the maps alone. Numbers where the maximum is zero or less mean nothing: workbench.decoding makes them nan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Codec

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Maps = Float[np.ndarray, "N K h w"]
    Cells = Float[np.ndarray, "N K 2"]


def argmax(maps: Maps, codec: Codec) -> Cells:
    """The highest cell; of equals the first, row by row."""
    return np.stack(_peaks(maps), -1).astype(float)


def quarter(maps: Maps, codec: Codec) -> Cells:
    """The highest cell, moved a quarter cell towards its higher neighbour, per axis.

    The bounds are mmpose's: x moves only for 1 < x < w - 1, so a peak in column 1 stays.

    Source: mmpose 1.3.2 codecs/utils/refinement.py refine_keypoints.
    """
    h, w = maps.shape[-2:]
    x, y = _peaks(maps)
    at = _reader(maps, x, y, margin=1)
    right, below = at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)
    moves_x = (x > 1) & (x < w - 1) & (y > 0)
    moves_y = (y > 1) & (y < h - 1) & (x > 0)
    step = np.stack([np.sign(right) * moves_x, np.sign(below) * moves_y], -1)
    return np.stack([x, y], -1) + 0.25 * step


def dark(maps: Maps, codec: Codec) -> Cells:
    """The highest cell and one Newton step on the logarithm of the blurred map, differences over two cells.

    Source: Zhang et al., Distribution-aware coordinate representation, eq. 6-9; mmpose 1.3.2
    codecs/utils/refinement.py refine_keypoints_dark.
    """
    h, w = maps.shape[-2:]
    x, y = _peaks(maps)
    # 1e-10: blurred maps reach zero, logarithms must not.
    at = _reader(np.log(np.maximum(blurred(maps, codec.blur_kernel), np.float32(1e-10))), x, y, margin=2)
    half, quart = np.float32(0.5), np.float32(0.25)
    dx, dy = half * (at(1, 0) - at(-1, 0)), half * (at(0, 1) - at(0, -1))
    dxx = quart * (at(2, 0) - 2 * at(0, 0) + at(-2, 0))
    dyy = quart * (at(0, 2) - 2 * at(0, 0) + at(0, -2))
    dxy = quart * (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1))
    step = _newton_step(dx, dy, dxx, dxy, dyy)
    inside = (x > 1) & (x < w - 2) & (y > 1) & (y < h - 2) & (dxx * dyy - dxy**2 != 0)
    return np.stack([x, y], -1) + np.where(inside[..., None], step, 0)


def udp(maps: Maps, codec: Codec) -> Cells:
    """The highest cell and one Newton step on the logarithm of the blurred map, differences over one cell.

    Source: Huang et al., The devil is in the details; mmpose 1.3.2 codecs/utils/refinement.py
    refine_keypoints_dark_udp.
    """
    x, y = _peaks(maps)
    return np.stack([x, y], -1) + udp_step(udp_logs(maps, codec.blur_kernel), x, y)


def udp_logs(maps: Maps, blur_kernel: int) -> Maps:
    """Logarithms of the blurred maps, as UDP's Newton step reads them."""
    # The clip is UDP's: below 1e-3 the logarithm of noise would outweigh the peak.
    return np.log(np.clip(blurred(maps, blur_kernel), np.float32(1e-3), np.float32(50)))


def udp_step(logs: Maps, x: Int[np.ndarray, "P K"], y: Int[np.ndarray, "P K"]) -> Float[np.ndarray, "P K 2"]:
    """One Newton step from cells of each map, differences over one cell.

    Args:
        logs: from `udp_logs`; of one image, or of as many as there are rows of cells.
        x: column of each cell.
        y: row of each cell.
    """
    at = _reader(logs, x, y, margin=1)
    half, here = np.float32(0.5), at(0, 0)
    dx, dy = half * (at(1, 0) - at(-1, 0)), half * (at(0, 1) - at(0, -1))
    dxx, dyy = at(1, 0) - 2 * here + at(-1, 0), at(0, 1) - 2 * here + at(0, -1)
    dxy = half * (at(1, 1) - at(1, 0) - at(0, 1) + here + here - at(-1, 0) - at(0, -1) + at(-1, -1))
    # On the diagonal, so that a flat map has an inverse at all.
    ridge = float(np.finfo(np.float32).eps)
    return _newton_step(dx, dy, dxx, dxy, dyy, ridge)


def blurred(maps: Maps, kernel: int) -> Maps:
    """Maps after a Gaussian blur that is zero outside them, scaled back to their old maximum.

    Args:
        maps: any scale.
        kernel: side of the blur in cells, odd; OpenCV's rule gives its sigma, .3 (kernel / 2 - 1.5) + .8.

    Raises:
        ValueError: the kernel is even or not positive.
    """
    import cv2

    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"blur kernel: expected an odd number of cells, got {kernel}")
    N, K, h, w = maps.shape
    border = kernel // 2
    # One tall picture with a zero border around every map: one call instead of N K, the same sums.
    tall = np.pad(maps.astype(np.float32, copy=False), ((0, 0), (0, 0), (border, border), (border, border)))
    side = h + 2 * border, w + 2 * border
    soft = cv2.GaussianBlur(tall.reshape(N * K * side[0], side[1]), (kernel, kernel), 0)
    soft = soft.reshape(N, K, *side)[:, :, border : border + h, border : border + w]
    before, after = (m.max((2, 3), keepdims=True) for m in (maps, soft))
    # A map that the blur leaves empty has no scale to keep. A negative one turns the map over, as in mmpose.
    scale = np.divide(before, after, out=np.ones_like(before, np.float32), where=after != 0)
    return soft * scale


def _peaks(maps: Maps) -> tuple[Int[np.ndarray, "N K"], Int[np.ndarray, "N K"]]:
    y, x = np.divmod(maps.reshape(*maps.shape[:2], -1).argmax(-1), maps.shape[-1])
    return x, y


def _reader(maps: Maps, x: Int[np.ndarray, "N K"], y: Int[np.ndarray, "N K"], margin: int):
    """Read maps at (x + dx, y + dy) of every keypoint, the edge repeated `margin` cells outwards."""
    padded = np.pad(maps, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
    n, k = np.ogrid[: maps.shape[0], : maps.shape[1]]
    return lambda dx, dy: padded[n, k, y + dy + margin, x + dx + margin]


def _newton_step(
    dx: np.ndarray, dy: np.ndarray, dxx: np.ndarray, dxy: np.ndarray, dyy: np.ndarray, ridge: float = 0.0
) -> Cells:
    """Minus inverse Hessian times gradient, in float64; zero where the Hessian has no inverse."""
    dx, dy, dxx, dxy, dyy = (a.astype(float) for a in (dx, dy, dxx, dxy, dyy))
    dxx, dyy = dxx + ridge, dyy + ridge
    determinant = dxx * dyy - dxy**2
    invertible = determinant != 0
    safe = np.where(invertible, determinant, 1)
    step = np.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], -1) / -safe[..., None]
    return np.where(invertible[..., None], step, 0)
