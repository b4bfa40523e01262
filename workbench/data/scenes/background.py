"""What lies behind the figures? Sky, hills, woods and ground in perspective, or a street.

Everything is drawn from noise and a few colours; the horizon is at the height of the camera's eye.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from workbench.data.scenes.background import PLACES, SKIES, Place
from workbench.data.scenes.rendering import Colour, Light, sample

if TYPE_CHECKING:
    from jaxtyping import Float


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
        from workbench.data.scenes.background import add_street

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
