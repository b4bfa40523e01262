"""How does a figure look in the light of its scene? Coat patterns, shading, folds, highlights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from workbench.data.scenes.rendering import Colour, Figure, Relief, View, sample

if TYPE_CHECKING:
    from jaxtyping import Float


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
    """Gaussian blur; wide ones at reduced size, where nobody sees the difference."""
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
