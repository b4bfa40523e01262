"""Which part of a figure is seen at each pixel? Rounded cones drawn into a depth buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.data.scenes.rendering import Figure, View

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

NOTHING = -1e6
"""Height of pixels that show nothing."""


@dataclass(frozen=True, eq=False)
class Relief:
    """What is seen of one figure in a window of the picture.

    Attributes:
        left, top: pixel of the window's corner.
        height: towards the viewer, pixels; `NOTHING` where the figure is not.
        normal_x, normal_y: of the surface, screen axes, y down.
        material: index of the material.
        along, across: pattern coordinates along and across the tube seen, metres.
    """

    left: int
    top: int
    height: Float[np.ndarray, "H W"]
    normal_x: Float[np.ndarray, "H W"]
    normal_y: Float[np.ndarray, "H W"]
    material: UInt8[np.ndarray, "H W"]
    along: Float[np.ndarray, "H W"]
    across: Float[np.ndarray, "H W"]

    @property
    def shape(self) -> UInt8[np.ndarray, "H W"]:
        """1 where the figure is."""
        return (self.height > NOTHING).astype(np.uint8)


def relief(figure: Figure, view: View, size: tuple[int, int]) -> Relief | None:
    """Draw a figure into a depth buffer; None when it lies outside the picture.

    Args:
        figure: rounded cones.
        view: from metres to pixels of the picture.
        size: (height, width) of the picture.
    """
    start, end = view.project(figure.starts), view.project(figure.ends)
    radii = np.array(figure.radii) * view.scale
    low = np.minimum(start[:, :2] - radii[:, :1], end[:, :2] - radii[:, 1:])
    high = np.maximum(start[:, :2] + radii[:, :1], end[:, :2] + radii[:, 1:])
    # Even borders: the window is halved later, and halves must fall on whole pixels.
    left, top = (np.maximum(low.min(0), 0).astype(int)) // 2 * 2
    right, bottom = (np.minimum(high.max(0) + 2, (size[1], size[0])).astype(int) + 1) // 2 * 2
    right, bottom = min(right, size[1]), min(bottom, size[0])
    if right - left < 4 or bottom - top < 4:
        return None
    shape = (bottom - top, right - left)
    planes = [np.zeros(shape, np.float32) for _ in range(4)]
    height, material = np.full(shape, NOTHING, np.float32), np.zeros(shape, np.uint8)
    for i in range(len(radii)):
        x0, y0 = np.maximum(low[i].astype(int) - 1 - (left, top), 0)
        x1, y1 = np.minimum(high[i].astype(int) + 2 - (left, top), (shape[1], shape[0]))
        if x0 >= x1 or y0 >= y1:
            continue
        window = np.s_[y0:y1, x0:x1]
        origin = (x0 + left, y0 + top)
        seen = _cone(start[i], end[i], radii[i], origin, (y1 - y0, x1 - x0))
        nearer = seen[0] > height[window]
        np.copyto(height[window], seen[0], where=nearer)
        values = (seen[1], seen[2], seen[3] / view.scale + figure.along[i], seen[4] / view.scale)
        for plane, value in zip(planes, values, strict=True):
            np.copyto(plane[window], value, where=nearer)
        material[window][nearer] = figure.material[i]
    return Relief(int(left), int(top), height, planes[0], planes[1], material, planes[2], planes[3])


def _cone(a, b, radii, origin, shape):
    """Height, normal x, normal y, length along and offset across for a window of pixels."""
    f = np.float32
    px = (np.arange(shape[1], dtype=f) + f(origin[0] - a[0]))[None, :]
    py = (np.arange(shape[0], dtype=f) + f(origin[1] - a[1]))[:, None]
    dx, dy, dz = (f(v) for v in b - a)
    flat = float(dx * dx + dy * dy)
    length = max(flat, 1e-6)
    t = np.clip((px * dx + py * dy) * f(1 / length), 0, 1) if flat > 0.01 else np.zeros(shape, f)
    ex, ey = px - t * dx, py - t * dy
    radius = f(max(radii[0], 0.3)) + t * f(radii[1] - radii[0])
    square = radius * radius - ex * ex - ey * ey
    rise = np.sqrt(np.maximum(square, 0))
    height = np.where(square > 0, f(a[2]) + t * dz + rise, f(NOTHING))
    root = f(np.sqrt(length))
    across = (ey * dx - ex * dy) / root if flat > 0.01 else ey + np.zeros(shape, f)
    # Length along in three dimensions, so that a pattern does not stretch when a limb points at the viewer.
    # A ball has no axis: its pattern lies on it as seen.
    along = t * f(np.sqrt(flat + float(dz * dz))) if flat > 0.01 else px + np.zeros(shape, f)
    return height, ex / radius, ey / radius, along, across
