"""Rendering of drawn figures: rounded cones, materials and keypoints, depth buffer, textures and light.

Body frame of every figure: x forward, y up, z to its own right; the ground is y = 0; lengths in metres.
Left is therefore negative z.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8


Point = tuple[float, float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        colour: red, green, blue in 0..1.
        second: colour of the pattern.
        pattern: ``plain``, ``stripes``, ``spots``, ``rosettes``, ``patches``, ``cells``, ``bands`` or
            ``check``.
        scale: size of one repeat of the pattern, metres.
        grain: strength of the fine texture (fur, cloth, bark), 0..1.
        stroke: how much longer than wide a hair or a thread is.
        gloss: strength of the highlight.
        on_body: pattern laid on the whole body instead of along each limb.
        belly: how much lighter the underside is.
    """

    colour: Colour
    second: Colour = (0.0, 0.0, 0.0)
    pattern: str = "plain"
    scale: float = 0.2
    grain: float = 0.15
    stroke: float = 3.0
    gloss: float = 0.0
    on_body: bool = False
    belly: float = 0.0


@dataclass
class Figure:
    """A thing under construction, then drawn; the only mutable record here, filled by one builder.

    Attributes:
        materials: by the index that tubes carry.
        starts, ends: axes of the tubes.
        radii: at start and end, metres.
        material: index per tube.
        along: pattern coordinate at the start of each tube, metres.
        melt: over how much neighbouring tubes run into each other, metres.
        marks: name -> (point, depth): a keypoint and how far below the surface it lies, metres.
    """

    materials: list[Material] = field(default_factory=list)
    starts: list[Point] = field(default_factory=list)
    ends: list[Point] = field(default_factory=list)
    radii: list[tuple[float, float]] = field(default_factory=list)
    material: list[int] = field(default_factory=list)
    along: list[float] = field(default_factory=list)
    marks: dict[str, tuple[Point, float]] = field(default_factory=dict)
    melt: float = 0.012

    def new(self, material: Material) -> int:
        """Index of a material, added."""
        self.materials.append(material)
        return len(self.materials) - 1

    def tube(self, start, end, radius0: float, radius1: float, material: int, along: float = 0.0) -> None:
        """Add a rounded cone."""
        self.starts.append(_point(start))
        self.ends.append(_point(end))
        self.radii.append((float(radius0), float(radius1)))
        self.material.append(material)
        self.along.append(along)

    def chain(self, points, radii, material: int, along: float = 0.0) -> None:
        """Add rounded cones through a row of points, their pattern running on from one to the next."""
        for i in range(len(points) - 1):
            self.tube(points[i], points[i + 1], radii[i], radii[i + 1], material, along)
            along += float(np.linalg.norm(np.subtract(points[i + 1], points[i])))

    def ball(self, centre, radius: float, material: int) -> None:
        """Add a sphere."""
        self.tube(centre, centre, radius, radius, material)

    def mark(self, name: str, point, depth: float) -> None:
        """Name a keypoint that lies `depth` below the surface that shows it."""
        self.marks[name] = (_point(point), float(depth))

    @property
    def height(self) -> float:
        """Top of the figure above the ground, metres."""
        return max(
            max(s[1] + r[0], e[1] + r[1]) for s, e, r in zip(self.starts, self.ends, self.radii, strict=True)
        )


@dataclass(frozen=True)
class View:
    """From body frame to pixels: turned, tilted, scaled, without perspective inside one figure.

    Attributes:
        x, y: pixel of the body's origin on the ground.
        scale: pixels per metre.
        yaw: radians about the vertical; 0 faces right, pi left, -pi/2 the viewer.
        pitch: radians that the camera looks down.
    """

    x: float
    y: float
    scale: float
    yaw: float
    pitch: float = 0.1

    @property
    def turn(self) -> Float[np.ndarray, "3 3"]:
        """Rows: screen right, screen up, towards the viewer."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        about = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ about

    def project(self, points) -> Float[np.ndarray, "n 3"]:
        """Pixel x, pixel y (down) and height towards the viewer in pixels."""
        turned = np.asarray(points, float).reshape(-1, 3) @ self.turn.T * self.scale
        return np.stack([turned[:, 0] + self.x, self.y - turned[:, 1], turned[:, 2]], 1)


def _point(values) -> Point:
    x, y, z = (float(v) for v in values)
    return x, y, z


# Tileable noise for fur, clouds, ground and coats: made once, sampled with offsets.


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


# Depth buffer: which part of a figure is visible at each pixel.


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


# Shading: coat patterns, light, folds, highlights.


@dataclass(frozen=True)
class Light:
    """Sun and sky of a scene.

    Attributes:
        direction: unit vector towards the sun in screen axes: right, down, towards the viewer.
        sun: colour and strength of direct light.
        sky: colour and strength of light from above and around.
        shadow: how dark a cast shadow is, 0..1.
    """

    direction: tuple[float, float, float]
    sun: Colour
    sky: Colour
    shadow: float


def shaded(
    figure: Figure, view: View, seen: Relief, light: Light, rng: np.random.Generator
) -> Float[np.ndarray, "H W 3"]:
    """Colours of a figure in 0..1, black where it is not seen."""
    inside = seen.shape.astype(np.float32)
    soft = max(view.scale * figure.melt, 0.8)
    weight = np.maximum(_blur(inside, soft), 1e-3)
    tilt_x, tilt_y = (
        _blur(seen.normal_x * inside, soft) / weight,
        _blur(seen.normal_y * inside, soft) / weight,
    )
    openness = _openness(seen, inside, view.scale)
    # From here on only pixels of the figure count: a row of them instead of the window.
    here = np.flatnonzero(inside)
    nx, ny = tilt_x.ravel()[here], tilt_y.ravel()[here]
    nz = np.sqrt(np.clip(1 - nx * nx - ny * ny, 0.02, 1))
    lx, ly, lz = (np.float32(v) for v in light.direction)
    direct = np.clip(nx * lx + ny * ly + nz * lz, 0, 1)
    open_sky = (np.float32(0.72) - np.float32(0.28) * ny) * openness.ravel()[here]
    sun = np.array(light.sun, np.float32)
    direct *= np.float32(0.35) + np.float32(0.65) * open_sky
    lit = direct[:, None] * sun + open_sky[:, None] * np.array(light.sky, np.float32)
    row = _albedo(figure, view, seen, here, rng) * lit
    gloss = np.array([m.gloss for m in figure.materials], np.float32)[seen.material.ravel()[here]]
    if gloss.any():
        half = np.clip(nx * lx * 0.5 + ny * ly * 0.5 + nz * (0.5 + lz * 0.5), 0, 1)
        for _ in range(4):  # to the 16th power
            half *= half
        row += (gloss * half)[:, None] * sun
    colours = np.zeros((inside.size, 3), np.float32)
    colours[here] = np.clip(row, 0, 1)
    return colours.reshape(*inside.shape, 3)


def _openness(seen: Relief, inside: np.ndarray, scale: float) -> np.ndarray:
    """1 where the surface is free, less where nearer parts surround it: folds, far legs, under the belly."""
    filled = np.where(inside > 0, seen.height, 0)
    result = np.ones_like(inside)
    for width, depth, strength in ((0.05, 0.10, 0.30), (0.22, 0.45, 0.42)):
        sigma = max(width * scale, 1.0)
        around = _blur(filled, sigma) / np.maximum(_blur(inside, sigma), 1e-3)
        result *= 1 - strength * np.clip((around - filled) / (depth * scale), 0, 1)
    return result


def _blur(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; wide ones at reduced size, where the difference is not visible."""
    if sigma < 6:
        return cv2.GaussianBlur(plane, (0, 0), sigma)
    shrink = int(sigma // 3)
    small = (max(plane.shape[1] // shrink, 2), max(plane.shape[0] // shrink, 2))
    reduced = cv2.GaussianBlur(cv2.resize(plane, small, interpolation=cv2.INTER_AREA), (0, 0), sigma / shrink)
    return cv2.resize(reduced, plane.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _albedo(figure: Figure, view: View, seen: Relief, here: np.ndarray, rng) -> Float[np.ndarray, "n 3"]:
    """Colours without light of the pixels `here`: coat, pattern, pale belly, grain."""
    materials = figure.materials
    a, b = (np.float32(v) for v in rng.uniform(0, 1, 2))
    material = seen.material.ravel()[here]

    def each(values) -> np.ndarray:
        return np.array(values, np.float32)[material]

    body_u, body_v = _body_coordinates(seen, view, here)
    on_body = each([m.on_body for m in materials]) > 0
    u = np.where(on_body, body_u, seen.along.ravel()[here])
    v = np.where(on_body, body_v, seen.across.ravel()[here])
    mask = np.zeros(seen.height.shape, np.float32)
    for i in np.unique(material):
        if materials[i].pattern != "plain":
            mine = np.flatnonzero(material == i)
            share = _pattern(materials[i].pattern, u[mine], v[mine], materials[i].scale, float(a), float(b))
            mask.ravel()[here[mine]] = share
    share = cv2.GaussianBlur(mask, (0, 0), 0.8).ravel()[here][:, None]
    albedo = each([m.colour for m in materials]) * (1 - share) + each([m.second for m in materials]) * share
    # Countershading: surfaces that look down are lighter.
    pale = each([m.belly for m in materials]) * np.clip(seen.normal_y.ravel()[here] * 1.4 - 0.35, 0, 1)
    albedo += pale[:, None] * (1 - albedo)
    fine = sample("grain", u / (0.5 * each([m.stroke for m in materials])) + a, v / np.float32(0.5) + b)
    wide = sample("cloud", u * np.float32(0.6) + b, v * np.float32(0.6) + a)
    grain = each([m.grain for m in materials]) * np.float32(1.6)
    return albedo * (1 + grain * (fine - 0.5) + 0.5 * grain * (wide - 0.5))[:, None]


def _body_coordinates(seen: Relief, view: View, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length along the body and height on it, metres, of the surface seen at the pixels `here`."""
    rows, columns = np.divmod(here, seen.height.shape[1])
    scale, f = np.float32(view.scale), np.float32
    right = (columns.astype(f) + f(seen.left - view.x)) / scale
    up = (f(view.y - seen.top) - rows.astype(f)) / scale
    near = seen.height.ravel()[here] / scale
    turn = view.turn.astype(f)
    x, y, z = (turn[0, i] * right + turn[1, i] * up + turn[2, i] * near for i in range(3))
    # Seen from the front or behind, the pattern must not run into the depth alone.
    return x + f(0.75) * z, y + f(0.35) * np.abs(z)


def _pattern(kind: str, u: np.ndarray, v: np.ndarray, scale: float, a: float, b: float) -> np.ndarray:
    """Share of the second colour, 0..1, at coordinates in metres; a and b shift the noise."""
    if kind == "stripes":
        bend = sample("cloud", u * 0.5 + a, v * 0.5 + b) - 0.5
        return np.clip(
            np.sin((u / scale + 1.1 * bend + 0.15 * np.abs(v) / scale) * 2 * np.pi) * 3 + 0.1, 0, 1
        )
    if kind == "spots":
        return sample("dots", u / (10 * scale) + a, v / (10 * scale) + b)
    if kind == "rosettes":
        cells = sample("cells", u / (10 * scale) + a, v / (10 * scale) + b)
        gaps = sample("grain", u * 0.6 / scale * 0.1 + b, v * 0.6 / scale * 0.1 + a)
        ring = np.clip(1 - np.abs(cells - 0.42) * 6, 0, 1) + 0.25 * (cells > 0.42)
        return np.clip(ring * (0.4 + gaps), 0, 1)
    if kind == "cells":
        return np.clip((sample("cells", u / (10 * scale) + a, v / (10 * scale) + b) - 0.16) * 9, 0, 1)
    if kind == "patches":
        wide = sample("cloud", u * 0.16 / scale * 0.5 + a, v * 0.16 / scale * 0.5 + b)
        return np.clip((wide - 0.52) * 22, 0, 1)
    if kind == "bands":
        return (np.mod(u / scale + a, 1) < 0.42).astype(np.float32)
    if kind == "check":
        bars = (np.mod(u / scale, 1) < 0.45).astype(np.float32) + (np.mod(v / scale, 1) < 0.45)
        return bars * 0.45
    raise ValueError(f"no coat pattern {kind!r}")
