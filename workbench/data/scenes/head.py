"""How does a quadruped hold its head? Neck, skull, muzzle, eyes, ears, horns and mane."""

from __future__ import annotations

import numpy as np

from workbench.data.scenes.animals import Coat, Species
from workbench.data.scenes.rendering import Figure, Material


def add_head(
    figure: Figure,
    species: Species,
    coat: Coat,
    base: np.ndarray,
    rise: float,
    sideways: float,
    grazing: bool,
    rng: np.random.Generator,
) -> None:
    """Neck and head from the base of the neck on; marks L_Eye, R_Eye and Nose.

    Args:
        figure: the animal so far.
        species: its proportions.
        coat: its materials.
        base: where the neck leaves the trunk, metres.
        rise: angle of the neck above the horizontal, radians.
        sideways: how far the head turns to the animal's right, radians.
        grazing: the muzzle is at the ground.
        rng: for ears and hair.
    """
    h = species.height
    length, thick, thin = (v * h for v in species.neck)
    if grazing:  # the neck reaches as far as the ground lets it
        length = min(length, (base[1] - 0.30 * h) / np.sin(-rise))
        length = max(length, 0.20 * h)
    half = base + 0.5 * length * _ray(rise + 0.10, sideways * 0.3)
    poll = half + 0.5 * length * _ray(rise - 0.10, sideways * 0.7)
    root = base - np.array([0.10 * h, -0.02 * h, 0])
    middle = 0.5 * (thick + thin) * 0.96
    figure.tube(root, base, thick, thick, coat.trunk)
    figure.chain([base, half, poll], [thick, middle, thin], coat.coat)
    # A second row above the throat makes the neck deeper than wide.
    lower = np.array([0, -0.35 * thick, 0])
    figure.chain(
        [root + lower, base + lower, half + lower * 0.5], [thick, thick * 0.9, middle * 0.85], coat.trunk
    )
    drop = -1.25 if grazing else -species.drop + rng.uniform(-0.2, 0.2) + 0.25 * (rise - species.rise)
    _skull(figure, species, coat, poll, drop, sideways, rng)
    if species.mane:
        _mane(figure, species, coat, [root, base, half, poll], [thick, thick, middle, thin], rng)


def _ray(up: float, right: float) -> np.ndarray:
    return np.array([np.cos(up) * np.cos(right), np.sin(up), np.cos(up) * np.sin(right)])


def _skull(figure, species, coat, poll, drop, sideways, rng) -> None:
    h = species.height
    length, cheek, muzzle = (v * h for v in species.head)
    forward = _ray(drop, sideways)
    right = np.array([-np.sin(sideways), 0, np.cos(sideways)])
    up = np.cross(right, forward)
    tip = poll + forward * (length - muzzle)
    jaw = poll + 0.20 * length * forward - 0.18 * cheek * up
    figure.tube(poll, jaw, cheek * 0.88, cheek, coat.coat)
    bridge = poll + 0.66 * length * forward
    figure.chain([jaw, bridge, tip], [cheek * 0.94, 0.5 * (cheek + muzzle) * 0.92, muzzle], coat.coat)
    figure.tube(bridge + 0.16 * length * forward, tip, muzzle * 1.02, muzzle * 1.06, coat.muzzle)
    dark = figure.new(Material((0.05, 0.04, 0.04), grain=0.0, gloss=0.9))
    lid = figure.new(Material((0.16, 0.11, 0.09), grain=0.0))
    paws = species.foot == "paw"
    nose = tip + forward * muzzle * 0.72 + up * muzzle * 0.30
    if paws:
        figure.tube(
            nose - 0.25 * muzzle * right, nose + 0.25 * muzzle * right, muzzle * 0.42, muzzle * 0.42, dark
        )
    figure.mark("Nose", nose, muzzle * 1.1)
    for name, side in (("L", -1), ("R", 1)):
        eye = poll + 0.30 * length * forward + 0.42 * cheek * up + side * right * cheek * 0.74
        size = max(0.145 * cheek, 0.010 * h)
        figure.ball(eye - 0.2 * size * side * right, size * 1.45, lid)
        figure.ball(eye + 0.75 * size * side * right, size, dark)
        figure.mark(f"{name}_Eye", eye + 0.75 * size * side * right, size * 1.6)
        if not paws:
            hole = tip + 0.55 * muzzle * forward + side * right * muzzle * 0.62 + up * muzzle * 0.25
            figure.ball(hole, muzzle * 0.24, lid)
        _ear(figure, species, coat, poll, forward, right, up, side, cheek, rng)
        _horn(figure, species, poll, forward, right, up, side, cheek)


def _ear(figure, species, coat, poll, forward, right, up, side, cheek, rng) -> None:
    length, radius = (v * species.height for v in species.ear)
    spread = {"cow": 1.45, "none": 0.42, "lyre": 0.85, "knobs": 1.2}.get(species.horns, 0.5)
    if species.name == "sheep":
        spread = 1.5
    hang = species.name == "dog" and rng.uniform() < 0.6
    root = poll + 0.55 * cheek * up + side * right * cheek * 0.62 - 0.05 * cheek * forward
    direction = np.cos(spread) * up + np.sin(spread) * side * right - 0.25 * forward
    if hang:
        direction = 0.55 * side * right - 0.75 * up + 0.1 * forward
    end = root + length * direction / np.linalg.norm(direction)
    figure.tube(root, 0.5 * (root + end), radius * 0.8, radius, coat.coat)
    figure.tube(0.5 * (root + end), end, radius, radius * 0.25, coat.coat)


def _horn(figure, species, poll, forward, right, up, side, cheek) -> None:
    if species.horns == "none":
        return
    h = species.height
    horn = figure.new(Material((0.62, 0.55, 0.42), (0.25, 0.2, 0.16), "bands", 0.035, grain=0.15, gloss=0.1))
    root = poll + 0.72 * cheek * up + side * right * cheek * 0.42
    if species.horns == "cow":
        points = [
            root,
            root + 0.07 * h * side * right + 0.02 * h * up,
            root + 0.11 * h * side * right + 0.10 * h * up,
        ]
        figure.chain(points, [0.024 * h, 0.018 * h, 0.006 * h], horn)
    elif species.horns == "lyre":
        back = root - 0.06 * h * forward + 0.18 * h * up + 0.04 * h * side * right
        figure.chain(
            [root, back, back + 0.16 * h * up + 0.04 * h * forward - 0.02 * h * side * right],
            [0.022 * h, 0.018 * h, 0.006 * h], horn,
        )  # fmt: skip
    else:
        figure.chain([root, root + 0.045 * h * up], [0.010 * h, 0.011 * h], horn)


def _mane(figure, species, coat, points, radii, rng) -> None:
    """Hair that stands on the crest or falls to one side, from the withers to between the ears."""
    hair = species.mane * species.height
    fall = -1.0 if rng.uniform() < 0.5 else 1.0
    upright = species.name in ("zebra", "giraffe")
    hairs = coat.coat if species.name == "zebra" else coat.hair
    for i in range(34):
        t = i / 33 * (len(points) - 1)
        k = min(int(t), len(points) - 2)
        here = points[k] + (t - k) * (points[k + 1] - points[k])
        radius = radii[k] + (t - k) * (radii[k + 1] - radii[k])
        along = points[k + 1] - points[k]
        along = along / np.linalg.norm(along)
        crest = np.array([-along[1], along[0], 0])
        root = here + crest * radius * 0.92
        if upright:
            end = root + crest * hair
        else:
            end = (
                here
                + crest * radius * 0.75
                + np.array([0, -hair * rng.uniform(0.7, 1.5), fall * radius * 1.02])
            )
        thick = species.height * (0.024 if species.horns == "none" else 0.012)
        figure.tube(root, end, thick, thick * (0.9 if upright else 0.6), hairs, rng.uniform(0, 3))
