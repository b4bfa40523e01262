"""How does a street look? House fronts with windows along the horizon, pavement and road in perspective."""

from __future__ import annotations

import numpy as np

from workbench.data.scenes.rendering import Light, sample

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
    from workbench.data.scenes.background import ground_coordinates

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
