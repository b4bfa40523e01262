"""Backgrounds of drawn scenes: sky, hills, woods and ground in perspective, or a street.

Everything is drawn from noise and a few colours; the horizon is at the height of the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from workbench.data.scenes.rendering import Colour, Light, sample

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Place:
    """Colours of one kind of landscape.

    Attributes:
        ground: two colours that mix, and one that grows in patches.
        hills: colour of far hills.
        wood: colour of trees; None for a bare horizon.
        blades: how much grass grows in front, 0..1.
        grain: strength of the ground's texture.
    """

    ground: tuple[Colour, Colour, Colour]
    hills: Colour
    wood: Colour | None
    blades: float
    grain: float = 0.5


PLACES: dict[str, Place] = {
    "meadow": Place(
        ((0.30, 0.46, 0.16), (0.42, 0.55, 0.22), (0.55, 0.56, 0.28)),
        (0.34, 0.46, 0.36), (0.16, 0.29, 0.13), 1.0,
    ),
    "savanna": Place(
        ((0.66, 0.54, 0.29), (0.76, 0.65, 0.38), (0.50, 0.46, 0.22)),
        (0.55, 0.52, 0.44), (0.33, 0.34, 0.17), 0.9,
    ),
    "autumn": Place(
        ((0.42, 0.40, 0.18), (0.55, 0.42, 0.20), (0.60, 0.36, 0.16)),
        (0.46, 0.42, 0.38), (0.58, 0.34, 0.13), 0.7,
    ),
    "desert": Place(
        ((0.80, 0.64, 0.44), (0.86, 0.72, 0.52), (0.68, 0.52, 0.36)),
        (0.66, 0.50, 0.42), None, 0.05, 0.35,
    ),
    "beach": Place(
        ((0.86, 0.78, 0.62), (0.80, 0.71, 0.55), (0.70, 0.62, 0.48)),
        (0.42, 0.58, 0.66), None, 0.0, 0.3,
    ),
    "snow": Place(
        ((0.90, 0.92, 0.95), (0.82, 0.86, 0.92), (0.74, 0.79, 0.87)),
        (0.62, 0.68, 0.76), (0.20, 0.27, 0.25), 0.08, 0.2,
    ),
    "steppe": Place(
        ((0.52, 0.50, 0.32), (0.60, 0.57, 0.38), (0.42, 0.40, 0.24)),
        (0.48, 0.50, 0.54), None, 0.6,
    ),
}  # fmt: skip

SKIES: tuple[tuple[Colour, Colour, Light], ...] = (
    (
        (0.24, 0.47, 0.80), (0.76, 0.86, 0.94),
        Light((-0.52, -0.62, 0.59), (0.95, 0.88, 0.74), (0.36, 0.41, 0.48), 0.52),
    ),
    (
        (0.34, 0.55, 0.82), (0.84, 0.89, 0.92),
        Light((0.55, -0.58, 0.60), (0.92, 0.86, 0.74), (0.38, 0.42, 0.48), 0.50),
    ),
    (
        (0.62, 0.66, 0.71), (0.84, 0.86, 0.87),
        Light((-0.10, -0.85, 0.52), (0.46, 0.46, 0.46), (0.60, 0.62, 0.65), 0.28),
    ),
    (
        (0.42, 0.46, 0.66), (0.97, 0.76, 0.52),
        Light((0.80, -0.34, 0.50), (1.08, 0.78, 0.46), (0.38, 0.36, 0.44), 0.46),
    ),
    (
        (0.30, 0.52, 0.76), (0.90, 0.90, 0.86),
        Light((-0.80, -0.45, 0.40), (1.02, 0.90, 0.68), (0.34, 0.39, 0.47), 0.50),
    ),
)  # fmt: skip
"""Colour above, colour at the horizon, and the light that comes with it."""


# Streets: house fronts with windows along the horizon, pavement and road in perspective.


_WALLS = (
    (0.70, 0.62, 0.52), (0.62, 0.38, 0.30), (0.82, 0.78, 0.70), (0.56, 0.58, 0.62), (0.78, 0.66, 0.44),
    (0.60, 0.66, 0.60),
)  # fmt: skip


def add_street(image: np.ndarray, horizon: float, light: Light, rng: np.random.Generator) -> None:
    """Houses and paving drawn into a sky, in place."""
    H, W = image.shape[:2]
    tint = np.asarray(light.sun) * 0.55 + np.asarray(light.sky)
    foot = int(horizon + 0.10 * H)
    x = -int(rng.integers(0, 60))
    while x < W:
        width = int(rng.integers(70, 170))
        _house(image, x, min(x + width, W), foot, rng, tint)
        x += width
    _paving(image, horizon, foot, tint, rng)


def _house(image, left: int, right: int, foot: int, rng, tint) -> None:
    H = image.shape[0]
    top = max(int(foot - rng.uniform(0.40, 0.95) * H), 0)
    wall = np.asarray(_WALLS[rng.integers(len(_WALLS))]) * rng.uniform(0.8, 1.1) * tint
    x0 = max(left, 0)
    if x0 >= right:
        return
    a, b = rng.uniform(0, 1, 2)
    rows = np.arange(top, foot, dtype=np.float32)[:, None]
    columns = np.arange(x0, right, dtype=np.float32)[None, :]
    texture = 0.88 + 0.14 * sample("cloud", columns / 400 + a, rows / 400 + b)
    texture = texture + 0.08 * sample("grain", columns / 300 + b, rows / 300 + a)
    image[top:foot, x0:right] = wall.astype(np.float32) * texture[..., None]
    image[top : top + 4, x0:right] *= 0.7  # the eaves' shade
    step_x, step_y = int(rng.integers(24, 38)), int(rng.integers(38, 54))
    wide, tall = int(step_x * 0.5), int(step_y * 0.55)
    glass = np.asarray((0.30, 0.36, 0.42)) * tint
    for y in range(top + 14, foot - tall - 8, step_y):
        for x in range(left + step_x // 3, right - wide - 3, step_x):
            if x < 0:
                continue
            shine = np.linspace(1.25, 0.75, tall, dtype=np.float32)[:, None, None]
            image[y - 2 : y + tall + 2, x - 2 : x + wide + 2] *= 1.12
            image[y : y + tall, x : x + wide] = (
                glass.astype(np.float32) * shine * np.float32(rng.uniform(0.7, 1.2))
            )
            image[y : y + tall, x + wide // 2] = (wall * 1.15).astype(np.float32)


def _paving(image, horizon: float, foot: int, tint, rng) -> None:
    """Slabs near the houses, asphalt in front, a kerb between."""
    H, W = image.shape[:2]
    x, away, first = ground_coordinates((H, W), horizon)
    rows = slice(max(foot - first, 0), None)
    x, away = x[rows], away[rows]
    a, b = rng.uniform(0, 1, 2)
    kerb = float(rng.uniform(1.9, 3.0))
    asphalt, slab = np.asarray((0.34, 0.34, 0.36)), np.asarray((0.62, 0.60, 0.57)) * rng.uniform(0.85, 1.05)
    on_slabs = (away > kerb)[..., None]
    colour = np.where(on_slabs, slab, asphalt) * tint
    grain = sample("grain", x * 0.5 + a, away * 0.5 + b) - 0.5
    wear = sample("cloud", x * 0.12 + b, away * 0.12 + a) - 0.5
    colour = colour * (1 + 0.18 * grain + 0.25 * wear)[..., None]
    joints = (np.mod(x * 2.2, 1) < 0.04) | (np.mod(away * 1.6, 1) < 0.05)
    colour = np.where(joints[..., None] & on_slabs, colour * 0.78, colour)
    edge = np.abs(away - kerb) < 0.06
    colour = np.where(edge[..., None], np.asarray((0.72, 0.71, 0.69)) * tint, colour)
    image[first + rows.start :] = colour.astype(np.float32)


# The whole background.


@dataclass(frozen=True, eq=False)
class Backdrop:
    """A landscape without figures.

    Attributes:
        image: colours in 0..1.
        horizon: its row, pixels.
        light: that falls on figures.
        place: name of the landscape.
        haze: colour of the air at the horizon.
    """

    image: Float[np.ndarray, "H W 3"]
    horizon: float
    light: Light
    place: str
    haze: Colour


def backdrop(rng: np.random.Generator, size: tuple[int, int], street: bool = False) -> Backdrop:
    """A random landscape; a street with houses when asked for."""
    H = size[0]
    above, low, light = SKIES[rng.integers(len(SKIES))]
    horizon = H * rng.uniform(0.28, 0.46)
    name = "street" if street else str(rng.choice(list(PLACES)))
    image = _sky(rng, size, horizon, above, low)
    if street:
        add_street(image, horizon, light, rng)
    else:
        place = PLACES[name]
        _far(image, horizon, place, low, light, rng)
        _ground(image, horizon, place, low, light, rng)
    return Backdrop(image, float(horizon), light, name, low)


def ground_coordinates(size: tuple[int, int], horizon: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Where each ground pixel lies: to the right and away, in camera heights; and the first row."""
    H, W = size
    first = int(horizon) + 1
    away = H / (np.arange(first, H, dtype=np.float32) - np.float32(horizon) + 1.0)
    right = (np.arange(W, dtype=np.float32) - W / 2)[None, :] / H * away[:, None]
    return right, np.repeat(away[:, None], W, 1), first


def _sky(rng, size, horizon, above: Colour, low: Colour) -> np.ndarray:
    H, W = size
    t = np.clip(np.arange(H, dtype=np.float32) / horizon, 0, 1)[:, None, None] ** 1.3
    image = np.asarray(above, np.float32) * (1 - t) + np.asarray(low, np.float32) * t
    image = np.repeat(image, W, 1)
    rows = int(horizon) + 1
    # Clouds lie on a plane above: flatter and smaller towards the horizon.
    up = 1 / (0.22 + (1 - np.arange(rows, dtype=np.float32) / horizon))[:, None]
    x = (np.arange(W, dtype=np.float32) / W - 0.5)[None, :] * up * 0.35
    a, b = rng.uniform(0, 1, 2)
    cover = rng.uniform(0.35, 0.75)
    cloud = np.clip((sample("cloud", x + a, up * 0.30 + b) - cover) * 3.2, 0, 1) * 0.85
    image[:rows] += (np.float32(0.97) - image[:rows]) * cloud[..., None]
    return image


def _far(image, horizon, place: Place, low: Colour, light: Light, rng) -> None:
    """Hills that fade into the air, then a row of trees."""
    H, W = image.shape[:2]
    columns = np.arange(W, dtype=np.float32)[None, :]
    rows = np.arange(H, dtype=np.float32)[:, None]
    for i in range(rng.integers(1, 4)):
        a, b = rng.uniform(0, 1, 2)
        rise = H * rng.uniform(0.04, 0.20) / (1 + 0.8 * i)
        crest = horizon - rise * sample("cloud", columns / W * 0.22 + a, np.full_like(columns, b))
        near = 0.35 + 0.25 * i
        colour = np.asarray(place.hills) * near + np.asarray(low) * (1 - near)
        texture = 0.9 + 0.2 * sample("cloud", columns / W * 0.9 + b, rows / H * 1.6 + a)
        _over(image, np.clip(rows - crest + 0.5, 0, 1), colour * _tint(light), texture)
    if place.wood is None or rng.uniform() < 0.2:
        return
    for i in range(rng.integers(1, 3)):
        a, b = rng.uniform(0, 1, 2)
        tall = H * rng.uniform(0.05, 0.17)
        shape = sample("cloud", columns / W * 0.5 + a, np.full_like(columns, b))
        shape = shape * 0.6 + 0.4 * sample("cloud", columns / W * 2.5 + b, np.full_like(columns, a))
        crest = horizon + 2 - tall * np.clip(shape * 1.6 - 0.35, 0.03, 1)
        crest = crest + 5 * (sample("grain", columns / W * 0.8 + a, rows / H * 0.5 + b) - 0.5)
        leaves = sample("grain", columns / W * 0.7 + a, rows / H * 0.7 + b)
        clumps = sample("cloud", columns / W * 2.2 + b, rows / H * 2.6 + a)
        texture = (0.45 + 0.5 * leaves + 0.65 * clumps) * (1.15 - 0.55 * np.clip((rows - crest) / tall, 0, 1))
        near = 0.72 + 0.2 * i
        colour = np.asarray(place.wood) * near + np.asarray(low) * (1 - near)
        _over(image, np.clip(rows - crest + 0.5, 0, 1), colour * _tint(light), texture)


def _ground(image, horizon, place: Place, low: Colour, light: Light, rng) -> None:
    H, W = image.shape[:2]
    x, away, first = ground_coordinates((H, W), horizon)
    a, b, c, d = rng.uniform(0, 1, 4)
    mix = sample("cloud", x * 0.10 + a, away * 0.10 + b)[..., None]
    spread = np.clip((sample("cloud", x * 0.045 + c, away * 0.045 + d) - 0.55) * 4, 0, 1)[..., None]
    one, two, three = (np.asarray(g, np.float32) for g in place.ground)
    colour = one * (1 - mix) + two * mix
    colour += (three - colour) * spread
    fine = sample("grain", x * 0.35 + c, away * 0.16 + a) - 0.5
    streak = sample("grain", x * 0.9 + b, away * 0.10 + d) - 0.5
    fade = np.clip(1.4 / away + 0.15, 0, 1)
    colour *= (1 + place.grain * fade * (fine * 0.7 + streak * 0.7))[..., None]
    colour *= _tint(light).astype(np.float32)
    air = np.clip((away - 4) / 60, 0, 0.55)[..., None]
    image[first:] = colour * (1 - air) + np.asarray(low, np.float32) * air


def _tint(light: Light) -> np.ndarray:
    """Colour of a level matt surface in this light."""
    return np.asarray(light.sun) * max(-light.direction[1], 0.25) * 0.8 + np.asarray(light.sky) * 1.0


def _over(image, cover, colour, texture) -> None:
    top = max(int(np.argmax(cover.max(1) > 0)), 0)
    shade = (np.asarray(colour, np.float32) * texture[top:, :, None]).astype(np.float32)
    image[top:] += (shade - image[top:]) * cover[top:, :, None]


def blades(rng: np.random.Generator, place: str, size: tuple[int, int], horizon: float, light: Light):
    """Grass before everything: segments (n, 2, 2) in pixels and their colours (n, 3) in 0..1."""
    if place not in PLACES or rng.uniform() > PLACES[place].blades:
        return np.zeros((0, 2, 2)), np.zeros((0, 3))
    H, W = size
    count = int(rng.integers(120, 420))
    y = H + 14 - rng.exponential(0.10 * H, count)
    y = y[y > horizon + 0.45 * (H - horizon)]
    x = rng.uniform(0, W, len(y))
    tall = (y - horizon) / (H - horizon) * rng.uniform(6, 26, len(y))
    tips = np.stack([x + rng.normal(0, 0.35, len(y)) * tall, y - tall], 1)
    ground = np.asarray(PLACES[place].ground)[rng.integers(0, 3, len(y))]
    colours = ground * rng.uniform(0.6, 1.25, (len(y), 1)) * _tint(light)
    return np.stack([np.stack([x, y], 1), tips], 1), np.clip(colours, 0, 1)


def softened(image: np.ndarray, sigma: float) -> np.ndarray:
    """The backdrop out of focus."""
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.3 else image
