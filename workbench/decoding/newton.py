"""Newton steps from the highest cell of a map, on the logarithm of the blurred map: DARK, UDP, SimCC's DARK.

Equal to mmpose 1.3.2 codecs/utils/refinement.py and post_processing.py (gaussian_blur).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    Maps = Float[np.ndarray, "N K h w"]
    At = Callable[[int, int], np.ndarray]  # (dx, dy) -> values at so many cells from one cell of each map
    Step = tuple[np.ndarray, np.ndarray]  # of each map, and how sensitive it is to errors of the logarithms


UDP_CLIP = (1e-3, 50.0)
"""Bounds of UDP before the logarithm: below the first, noise would outweigh the peak."""


def udp_logs(maps: Maps, blur_kernel: int) -> Maps:
    """Logarithms of the blurred and clipped maps, the input of UDP's Newton step.

    Args:
        maps: finite.
        blur_kernel: side of the blur in cells, odd.
    """
    return np.log(np.clip(blurred(maps, blur_kernel), *map(np.float32, UDP_CLIP)))


def udp_step(logs: Maps, x: Int[np.ndarray, "P K"], y: Int[np.ndarray, "P K"]) -> Float[np.ndarray, "P K 2"]:
    """One Newton step from a cell of each map, with differences over one cell.

    Args:
        logs: from `udp_logs`; of one image, or one image per row of cells.
        x: column of each cell.
        y: row of each cell.

    Returns:
        (dx, dy) in cells.
    """
    return udp_newton(reader(logs, x, y))[0]


def udp_newton(at: At) -> Step:
    """UDP's step from a reader of logarithms around each cell."""
    half, here = np.float32(0.5), at(0, 0)
    dx, dy = half * (at(1, 0) - at(-1, 0)), half * (at(0, 1) - at(0, -1))
    dxx, dyy = at(1, 0) - 2 * here + at(-1, 0), at(0, 1) - 2 * here + at(0, -1)
    dxy = half * (at(1, 1) - at(1, 0) - at(0, 1) + here + here - at(-1, 0) - at(0, -1) + at(-1, -1))
    # Added to the diagonal, so that the Hessian of a flat map is invertible.
    ridge = float(np.finfo(np.float32).eps)
    return _newton_step(dx, dy, dxx, dxy, dyy, ridge)


def blurred(maps: Maps, kernel: int) -> Maps:
    """Maps after a Gaussian blur with zeros outside, scaled to their maximum before the blur.

    Args:
        maps: any scale.
        kernel: side of the blur in cells, odd; OpenCV derives sigma = .3 (kernel / 2 - 1.5) + .8.

    Raises:
        ValueError: the kernel is even or not positive.
    """
    import cv2

    _check_kernel(kernel)
    N, K, h, w = maps.shape
    border = kernel // 2
    # One tall image with a zero border around every map: one call of OpenCV instead of N K.
    # Vectors, which are maps of one row, are blurred along x alone: along y only their scale would change.
    above, kernel_y = (border, kernel) if h > 1 else (0, 1)
    tall = np.pad(maps.astype(np.float32, copy=False), ((0, 0), (0, 0), (above, above), (border, border)))
    side = h + 2 * above, w + 2 * border
    soft = cv2.GaussianBlur(tall.reshape(N * K * side[0], side[1]), (kernel, kernel_y), 0)
    soft = soft.reshape(N, K, *side)[:, :, above : above + h, border : border + w]
    before, after = (m.max((2, 3), keepdims=True) for m in (maps, soft))
    # A map that is zero after the blur keeps its scale. A negative scale inverts the map, as in mmpose.
    scale = np.divide(before, after, out=np.ones_like(before, np.float32), where=after != 0)
    return soft * scale


def reader(maps: Maps, x: Int[np.ndarray, "N K"], y: Int[np.ndarray, "N K"]) -> At:
    """A function (dx, dy) -> values at (x + dx, y + dy); the edge is repeated outwards.

    Args:
        maps: heatmaps.
        x: columns of the cells.
        y: rows of the cells.
    """
    h, w = maps.shape[-2:]
    n, k = np.ogrid[: maps.shape[0], : maps.shape[1]]
    return lambda dx, dy: maps[n, k, (y + dy).clip(0, h - 1), (x + dx).clip(0, w - 1)]


SENSITIVE = 200.0
"""Steps that are more sensitive are computed from the whole blurred map: errors of rounding (3e-7 of a
logarithm) would come near a thousandth of a pixel."""


def stepped(
    maps: Maps,
    x: Int[np.ndarray, "N K"],
    y: Int[np.ndarray, "N K"],
    kernel: int,
    reach: int,
    clip: tuple[float, float],
    step: Callable[[At], Step],
    wanted: Bool[np.ndarray, "N K"] | None = None,
) -> np.ndarray:
    """A step from one cell of each map, by the logarithms of the `blurred` and clipped map around it.

    Only the cells around (x, y) are blurred, which is why 256 instances cost little more than their argmax.
    The scale that `blurred` restores is then unknown. It is at least 1 and a constant of the logarithm, which
    differences do not see, unless it decides what is clipped. Maps where it may, and those whose step hangs
    on the last digits, are blurred as a whole.

    Args:
        maps: finite.
        x: column of the cell of each map.
        y: its row.
        kernel: side of the blur in cells, odd.
        reach: cells in each direction that are read, the edge repeated outwards.
        clip: bounds before the logarithm.
        step: from a reader of logarithms to the step and its sensitivity.
        wanted: maps whose step is used; all by default.

    Returns:
        What `step` gives for each map, cells: [N, K, ...], its axes behind those of the maps.
    """
    (h, w), shape = maps.shape[-2:], x.shape
    flat, x, y = maps.reshape(-1, h, w), x.reshape(-1), y.reshape(-1)
    bounds = tuple(map(np.float32, clip))
    # A vector is a map of one row: blurred along it alone.
    reach_y, kernel_y = (reach, kernel) if h > 1 else (0, 1)
    window = _blurred_near(flat, x, y, (kernel, kernel_y), (reach, reach_y))
    peaks = flat[np.arange(len(flat)), y, x]
    # No cell that is read lies below the clip before it is scaled up, and none above the peak after it.
    unsure = (window.min((1, 2)) < bounds[0]) | (peaks > bounds[1]) | (peaks <= 0)
    logs = np.log(np.clip(window, *bounds))
    found, sensitivity = step(lambda dx, dy: logs[:, reach_y + dy, reach + dx])
    again = unsure | (sensitivity > SENSITIVE)
    if wanted is not None:
        again &= wanted.reshape(-1)
    if again.any():
        exact = np.log(np.clip(blurred(flat[again][None], kernel), *bounds))
        found[again] = step(reader(exact, x[again][None], y[again][None]))[0][0]
    return found.reshape(*shape, *found.shape[1:])


def _blurred_near(
    maps: Float[np.ndarray, "M h w"],
    x: Int[np.ndarray, " M"],
    y: Int[np.ndarray, " M"],
    kernels: tuple[int, int],
    reaches: tuple[int, int],
) -> Float[np.ndarray, "M r_y r_x"]:
    """Blurred values around one cell of each map; beyond the edge of the map its last row or column again.

    Args:
        maps: finite.
        x: column of the cell of each map.
        y: its row.
        kernels: sides of the blur in cells along x and y, odd; zeros lie outside of the map.
        reaches: cells in each direction along x and y.
    """
    h, w = maps.shape[1:]
    over_x, over_y = (reach + kernel // 2 for reach, kernel in zip(reaches, kernels, strict=True))
    cut = (x < over_x) | (x >= w - over_x) | (y < over_y) | (y >= h - over_y)
    patch = np.empty((len(maps), 2 * over_y + 1, 2 * over_x + 1), np.float32)
    whole = np.flatnonzero(~cut)
    if len(whole):
        # Views of all patches: each is copied row by row, which is three times as fast as cell by cell.
        views = np.lib.stride_tricks.sliding_window_view(maps, patch.shape[1:], axis=(1, 2))  # pyright: ignore
        patch[whole] = views[whole, y[whole] - over_y, x[whole] - over_x]
    if cut.any():
        across = x[cut, None] + np.arange(-over_x, over_x + 1)
        down = y[cut, None] + np.arange(-over_y, over_y + 1)
        rows, columns = down.clip(0, h - 1)[:, :, None], across.clip(0, w - 1)[:, None]
        values = maps[np.flatnonzero(cut)[:, None, None], rows, columns]
        within = ((down >= 0) & (down < h))[:, :, None] & ((across >= 0) & (across < w))[:, None]
        patch[cut] = np.where(within, values, np.float32(0))
    along_x, along_y = (_weights(k, r) for k, r in zip(kernels, reaches, strict=True))
    (M, height, width), (side_y, side_x) = patch.shape, (len(along_y), len(along_x))
    # Two products of large matrices instead of M of small ones.
    half = (patch.reshape(M * height, width) @ along_x.T).reshape(M, height, side_x).swapaxes(1, 2)
    window = (half.reshape(M * side_x, height) @ along_y.T).reshape(M, side_x, side_y).swapaxes(1, 2)
    if cut.any():
        (reach_x, reach_y), (cut_x, cut_y) = reaches, (x[cut], y[cut])
        down = (cut_y[:, None] + np.arange(-reach_y, reach_y + 1)).clip(0, h - 1) - cut_y[:, None] + reach_y
        across = (cut_x[:, None] + np.arange(-reach_x, reach_x + 1)).clip(0, w - 1) - cut_x[:, None] + reach_x
        window[cut] = window[cut][np.arange(len(cut_x))[:, None, None], down[:, :, None], across[:, None, :]]
    return window


def _weights(kernel: int, reach: int) -> Float[np.ndarray, "r p"]:
    """Row i: the weights of a patch's cells in value i of the blurred window."""
    import cv2

    _check_kernel(kernel)
    side = 2 * reach + 1
    weights = np.zeros((side, side + kernel - 1), np.float32)
    for i in range(side):
        weights[i, i : i + kernel] = cv2.getGaussianKernel(kernel, 0, cv2.CV_32F)[:, 0]
    return weights


def _check_kernel(kernel: int) -> None:
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"blur kernel: expected an odd number of cells, got {kernel}")


def _newton_step(
    dx: np.ndarray, dy: np.ndarray, dxx: np.ndarray, dxy: np.ndarray, dyy: np.ndarray, ridge: float = 0.0
) -> Step:
    """Minus inverse Hessian times gradient, in float64; zero where the Hessian has no inverse.

    Also how many times larger than an error of the logarithms the error of the step may be.
    """
    dx, dy, dxx, dxy, dyy = (a.astype(float) for a in (dx, dy, dxx, dxy, dyy))
    dxx, dyy = dxx + ridge, dyy + ridge
    determinant = dxx * dyy - dxy**2
    invertible = determinant != 0
    safe = np.where(invertible, determinant, 1)
    step = np.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], -1) / -safe[..., None]
    step = np.where(invertible[..., None], step, 0)
    size = (np.abs(dxx) + np.abs(dyy) + 2 * np.abs(dxy)) / np.where(invertible, np.abs(determinant), 1e-300)
    return step, size * (1 + np.abs(step).max(-1))


# Steps from a reader of logarithms.


def dark_step(at: At) -> Step:
    """DARK's step from a reader of logarithms around each cell."""
    half, quart = np.float32(0.5), np.float32(0.25)
    dx, dy = half * (at(1, 0) - at(-1, 0)), half * (at(0, 1) - at(0, -1))
    dxx = quart * (at(2, 0) - 2 * at(0, 0) + at(-2, 0))
    dyy = quart * (at(0, 2) - 2 * at(0, 0) + at(0, -2))
    dxy = quart * (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1))
    # In float32, as mmpose decides whether the map has a curvature.
    curved = dxx * dyy - dxy**2 != 0
    step, sensitivity = _newton_step(dx, dy, dxx, dxy, dyy)
    return np.where(curved[..., None], step, 0), sensitivity


def axis_step(at: At) -> Step:
    """The step along x alone from a reader of logarithms around each bin."""
    near = {d: at(d, 0).astype(float) for d in range(-2, 3)}
    slope = 0.5 * (near[1] - near[-1])
    # 1e-9: mmpose's guard against division by zero at a flat vector.
    curvature = 1e-9 + 0.25 * (near[2] - 2 * near[0] + near[-2])
    step = -slope / curvature
    return step, (1 + np.abs(step)) / np.abs(curvature)
