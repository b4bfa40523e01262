"""Drawn quadrupeds: species, coats, head, legs and posture; keypoints of AP-10K. Lengths in metres."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from workbench.data.scenes.rendering import Colour, Figure, Material


@dataclass(frozen=True)
class Species:
    """Proportions of an adult, as shares of the withers' height unless stated otherwise.

    Attributes:
        name: also the category in the annotation file.
        height: of the withers, metres.
        body: from breast to buttocks.
        leg: height at which the foreleg leaves the body.
        chest: half the depth of the trunk behind the forelegs.
        flank: half the depth before the hind legs.
        width: half the width of the trunk.
        croup: height of the croup.
        neck: length, radius at the body, radius at the head.
        rise: angle of the neck above the horizontal when the head is held, radians.
        head: length, radius at the cheek, radius at the muzzle.
        drop: angle of the face below the horizontal, radians.
        ear: length, radius.
        limb: radius below the body, at the middle joint, above the foot.
        foot: ``hoof`` or ``paw``.
        tail: length, radius, radius of the tuft (0 none).
        tail_lift: angle of the tail's root above hanging, radians.
        horns: ``none``, ``cow``, ``goat``, ``lyre``, ``knobs``.
        mane: length of the hair on the crest.
        coats: choices of (coat, mane and tail, muzzle, legs).
    """

    name: str
    height: float
    body: float
    leg: float
    chest: float
    flank: float
    width: float
    croup: float
    neck: tuple[float, float, float]
    rise: float
    head: tuple[float, float, float]
    drop: float
    ear: tuple[float, float]
    limb: tuple[float, float, float]
    foot: str
    tail: tuple[float, float, float]
    tail_lift: float
    horns: str
    mane: float
    coats: tuple[tuple[Material, Colour, Colour, Colour | None], ...]


def _fur(colour: Colour, second: Colour = (0, 0, 0), pattern: str = "plain", **more) -> Material:
    return Material(colour, second, pattern, **more)


_BLACK, _CREAM = (0.09, 0.08, 0.08), (0.88, 0.82, 0.70)

SPECIES: tuple[Species, ...] = (
    Species(
        "horse", 1.55, 1.02, 0.52, 0.215, 0.170, 0.150, 0.99, (0.50, 0.155, 0.085), 0.80,
        (0.40, 0.095, 0.050), 0.85, (0.11, 0.025), (0.068, 0.036, 0.027), "hoof", (0.52, 0.035, 0.075),
        0.25, "none", 0.10,
        (
            (_fur((0.46, 0.24, 0.12), gloss=0.16, grain=0.10), _BLACK, (0.20, 0.12, 0.09),
             (0.12, 0.09, 0.08)),
            (_fur((0.58, 0.33, 0.16), gloss=0.14, grain=0.10), (0.62, 0.42, 0.24), (0.42, 0.24, 0.15), None),
            (_fur((0.17, 0.14, 0.13), gloss=0.20, grain=0.10), _BLACK, (0.14, 0.12, 0.12), None),
            (
                _fur((0.66, 0.66, 0.66), (0.84, 0.84, 0.83), "spots", scale=0.05, gloss=0.08),
                (0.80, 0.80, 0.78), (0.30, 0.29, 0.30), (0.45, 0.45, 0.46),
            ),
            (
                _fur((0.90, 0.87, 0.82), (0.42, 0.22, 0.12), "patches", scale=0.30, gloss=0.10),
                (0.85, 0.80, 0.72), (0.55, 0.42, 0.38), (0.88, 0.86, 0.82),
            ),
            (_fur((0.80, 0.64, 0.40), gloss=0.14, belly=0.12), (0.90, 0.84, 0.70), (0.45, 0.36, 0.28), None),
        ),
    ),
    Species(
        "zebra", 1.35, 1.00, 0.50, 0.225, 0.190, 0.155, 0.99, (0.46, 0.150, 0.090), 0.72,
        (0.37, 0.093, 0.055), 0.85, (0.12, 0.030), (0.066, 0.037, 0.029), "hoof", (0.40, 0.028, 0.045),
        0.20, "none", 0.06,
        (
            (_fur((0.93, 0.91, 0.87), (0.08, 0.07, 0.07), "stripes", scale=0.105, grain=0.08), _BLACK,
             (0.16, 0.13, 0.12), (0.93, 0.91, 0.87)),
            (_fur((0.91, 0.86, 0.78), (0.13, 0.10, 0.08), "stripes", scale=0.135, grain=0.08), _BLACK,
             (0.18, 0.14, 0.12), (0.91, 0.86, 0.78)),
        ),
    ),
    Species(
        "cow", 1.40, 1.22, 0.46, 0.260, 0.235, 0.195, 1.00, (0.38, 0.165, 0.115), 0.30,
        (0.36, 0.108, 0.070), 0.72, (0.14, 0.035), (0.070, 0.046, 0.036), "hoof", (0.62, 0.026, 0.045),
        0.05, "cow", 0.0,
        (
            (_fur((0.94, 0.93, 0.90), (0.09, 0.08, 0.08), "patches", scale=0.32), _BLACK, (0.75, 0.56, 0.52),
             (0.92, 0.91, 0.88)),
            (_fur((0.58, 0.30, 0.15), (0.92, 0.88, 0.80), "patches", scale=0.36), (0.85, 0.78, 0.66),
             (0.80, 0.62, 0.55), None),
            (_fur((0.74, 0.60, 0.44), belly=0.15), (0.36, 0.28, 0.20), (0.86, 0.80, 0.72), None),
            (_fur((0.16, 0.13, 0.12), gloss=0.08), _BLACK, (0.26, 0.22, 0.21), None),
        ),
    ),
    Species(
        "giraffe", 2.60, 0.66, 0.63, 0.170, 0.135, 0.105, 0.90, (0.72, 0.120, 0.052), 1.05,
        (0.235, 0.050, 0.030), 0.45, (0.06, 0.016), (0.048, 0.026, 0.019), "hoof", (0.30, 0.014, 0.032),
        0.05, "knobs", 0.025,
        (
            (_fur((0.90, 0.78, 0.55), (0.56, 0.30, 0.13), "cells", scale=0.24), (0.36, 0.20, 0.11),
             (0.66, 0.52, 0.40), (0.90, 0.82, 0.64)),
            (_fur((0.92, 0.84, 0.66), (0.44, 0.23, 0.12), "cells", scale=0.30), (0.30, 0.17, 0.10),
             (0.60, 0.48, 0.38), (0.92, 0.86, 0.70)),
        ),
    ),
    Species(
        "antelope", 0.95, 0.98, 0.54, 0.185, 0.150, 0.120, 1.00, (0.44, 0.100, 0.062), 0.85,
        (0.32, 0.070, 0.036), 0.62, (0.15, 0.032), (0.052, 0.028, 0.021), "hoof", (0.20, 0.020, 0.030),
        0.10, "lyre", 0.0,
        (
            (_fur((0.72, 0.48, 0.26), belly=0.75), (0.14, 0.11, 0.10), (0.32, 0.22, 0.17),
             (0.80, 0.64, 0.46)),
            (_fur((0.62, 0.38, 0.20), belly=0.50), (0.90, 0.86, 0.78), (0.30, 0.20, 0.15), None),
        ),
    ),
    Species(
        "dog", 0.62, 1.05, 0.50, 0.200, 0.145, 0.130, 0.97, (0.30, 0.120, 0.095), 0.75,
        (0.36, 0.110, 0.050), 0.30, (0.15, 0.042), (0.070, 0.046, 0.038), "paw", (0.46, 0.040, 0.0),
        1.60, "none", 0.0,
        (
            (_fur((0.78, 0.58, 0.34), grain=0.26, belly=0.30), (0.86, 0.70, 0.46), (0.30, 0.24, 0.20), None),
            (_fur((0.16, 0.14, 0.13), grain=0.22), (0.18, 0.15, 0.14), (0.50, 0.33, 0.19),
             (0.50, 0.32, 0.17)),
            (_fur((0.93, 0.91, 0.87), (0.15, 0.13, 0.12), "spots", scale=0.050), (0.90, 0.88, 0.84),
             (0.30, 0.27, 0.26), None),
            (_fur((0.90, 0.88, 0.84), (0.46, 0.26, 0.14), "patches", scale=0.16, grain=0.22),
             (0.90, 0.87, 0.82), (0.40, 0.32, 0.28), (0.90, 0.88, 0.84)),
        ),
    ),
    Species(
        "leopard", 0.68, 1.42, 0.42, 0.205, 0.170, 0.145, 0.98, (0.30, 0.145, 0.120), 0.22,
        (0.33, 0.135, 0.075), 0.42, (0.075, 0.042), (0.088, 0.060, 0.050), "paw", (0.95, 0.048, 0.0),
        0.55, "none", 0.0,
        (
            (_fur((0.84, 0.64, 0.34), (0.13, 0.09, 0.06), "rosettes", scale=0.085, belly=0.55),
             (0.80, 0.62, 0.36), (0.80, 0.70, 0.55), (0.84, 0.66, 0.38)),
            (_fur((0.86, 0.66, 0.38), (0.12, 0.09, 0.07), "spots", scale=0.045, belly=0.55),
             (0.84, 0.66, 0.40), (0.82, 0.72, 0.58), None),
            (_fur((0.84, 0.52, 0.20), (0.10, 0.07, 0.06), "stripes", scale=0.120, belly=0.65),
             (0.86, 0.56, 0.24), (0.92, 0.88, 0.80), None),
        ),
    ),
    Species(
        "sheep", 0.72, 1.12, 0.42, 0.280, 0.275, 0.240, 1.00, (0.26, 0.160, 0.110), 0.55,
        (0.34, 0.105, 0.062), 0.75, (0.15, 0.038), (0.062, 0.042, 0.034), "hoof", (0.18, 0.060, 0.0),
        0.05, "none", 0.0,
        (
            (Material(_CREAM, grain=0.26, stroke=1.0), _CREAM, (0.16, 0.14, 0.13), (0.17, 0.15, 0.14)),
            (Material((0.92, 0.90, 0.86), grain=0.24, stroke=1.0), (0.9, 0.88, 0.84), (0.84, 0.76, 0.70),
             (0.86, 0.82, 0.76)),
            (Material((0.36, 0.26, 0.20), grain=0.26, stroke=1.0), (0.34, 0.25, 0.2), (0.20, 0.15, 0.12),
             (0.22, 0.17, 0.14)),
        ),
    ),
)  # fmt: skip


# Coats: materials of trunk, limbs, hair, muzzle and feet, varied from animal to animal.


@dataclass(frozen=True)
class Coat:
    """Indices of the materials of one animal."""

    trunk: int
    coat: int
    hair: int
    muzzle: int
    legs: int
    foot: int


def put_on_coat(figure: Figure, species: Species, rng: np.random.Generator) -> Coat:
    """Choose a coat for one animal, vary its tones and add its materials to the figure."""
    coat, hair, muzzle, legs = species.coats[rng.integers(len(species.coats))]
    tone = rng.uniform(0.86, 1.12)

    def near(colour: Colour) -> Colour:
        r, g, b = (float(np.clip(c * tone * rng.uniform(0.95, 1.05), 0, 1)) for c in colour)
        return r, g, b

    def like(colour: Colour, **changes: float) -> Material:
        return replace(
            Material(near(colour), grain=coat.grain, stroke=coat.stroke, gloss=coat.gloss), **changes
        )

    main = Material(
        near(coat.colour), near(coat.second), coat.pattern, coat.scale * rng.uniform(0.85, 1.2),
        coat.grain, coat.stroke, coat.gloss, False, coat.belly,
    )  # fmt: skip
    # Rings around the legs are finer than the stripes of the trunk.
    limbs = replace(main, scale=main.scale * (0.62 if coat.pattern == "stripes" else 0.8), belly=0.0)
    if legs is not None and coat.pattern != "stripes":
        limbs = like(legs)
    foot = like((0.20, 0.17, 0.15) if species.foot == "hoof" else coat.colour, grain=0.1)
    return Coat(
        trunk=figure.new(replace(main, on_body=True)),
        coat=figure.new(main),
        hair=figure.new(like(hair, grain=0.5, stroke=7.0)),
        muzzle=figure.new(like(muzzle)),
        legs=figure.new(limbs),
        foot=figure.new(foot),
    )


# Head: neck, skull, muzzle, eyes, ears, horns and mane.


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


# Legs: fore and hind legs from the phase of the stride, down to hoof or paw.


def add_foreleg(
    figure: Figure, species: Species, coat: Coat, side: int, phase: float, swing: float, bend: float, rng
) -> None:
    """One foreleg, left with side -1 and right with 1, at a phase (0..1) of its stride; three marks."""
    name = "L" if side < 0 else "R"
    h, L = species.height, species.height * species.body
    z = side * species.width * h * 0.60
    upper, middle, low = (r * h for r in species.limb)
    top = np.array([0.30 * L, species.leg * h, z])
    angle = swing * np.sin(2 * np.pi * phase) + rng.normal(0, 0.03)
    lift = bend * max(0.0, np.cos(2 * np.pi * phase)) ** 2
    first, second = 0.50 * top[1], 0.38 * top[1]
    elbow = top + first * np.array([np.sin(angle), -np.cos(angle), side * 0.01])
    below = angle - lift
    fetlock = elbow + second * np.array([np.sin(below), -np.cos(below), 0])
    foot = _standing(species, fetlock, below, lift)
    blade = np.array([0.33 * L, 0.86 * h, z * 0.75])
    figure.chain([blade, top], [species.chest * h * 0.50, upper * 1.15], coat.trunk)
    figure.chain([top, elbow, fetlock], [upper, middle * 1.08, low], coat.legs)
    _foot(figure, species, coat, fetlock, foot, low)
    figure.mark(f"{name}_Shoulder", top, upper * 1.9)
    figure.mark(f"{name}_Elbow", elbow, middle * 1.5)
    figure.mark(f"{name}_F_Paw", 0.5 * (fetlock + foot), low * 2.2)


def add_hindleg(
    figure: Figure, species: Species, coat: Coat, side: int, phase: float, swing: float, bend: float, rng
) -> None:
    """One hind leg, as `add_foreleg`; it bends the other way, and less."""
    name = "L" if side < 0 else "R"
    h, L = species.height, species.height * species.body
    z = side * species.width * h * 0.58
    upper, middle, low = (r * h for r in species.limb)
    top = np.array([-0.28 * L, species.leg * h * 1.02, z])
    angle = swing * np.sin(2 * np.pi * phase) + rng.normal(0, 0.03)
    lift = 0.7 * bend * max(0.0, np.cos(2 * np.pi * phase)) ** 2
    back, forth = angle - 0.42 - 0.35 * lift, angle + 0.16 - 0.9 * lift + 0.6 * lift
    first, second = 0.47 * top[1], 0.46 * top[1]
    knee = top + first * np.array([np.sin(back), -np.cos(back), side * 0.01])
    below = forth - 0.55 * lift
    fetlock = knee + second * np.array([np.sin(below), -np.cos(below), 0])
    foot = _standing(species, fetlock, below, lift)
    hip = np.array([-0.34 * L, species.croup * h * 0.80, z * 0.72])
    figure.chain([hip, top], [min(0.86 * species.flank, 0.19) * h, upper * 1.32], coat.trunk)
    figure.chain([top, knee, fetlock], [upper * 1.22, middle * 1.05, low], coat.legs)
    _foot(figure, species, coat, fetlock, foot, low)
    figure.mark(f"{name}_Hip", top, upper * 2.4)
    figure.mark(f"{name}_Knee", knee, middle * 1.6)
    figure.mark(f"{name}_B_Paw", 0.5 * (fetlock + foot), low * 2.2)


def _standing(species: Species, fetlock: np.ndarray, angle: float, lift: float) -> np.ndarray:
    """End of the foot: forward and down from the fetlock, pointing back while it is lifted."""
    length = 0.085 * species.height * (1.0 if species.foot == "hoof" else 0.9)
    direction = (0.65 if species.foot == "hoof" else 1.15) + angle - 1.1 * min(lift, 1)
    return fetlock + length * np.array([np.sin(direction), -np.cos(direction), 0])


def _foot(figure, species, coat, fetlock, foot, low) -> None:
    if species.foot == "paw":
        figure.tube(fetlock, foot, low * 1.05, low * 1.25, coat.foot)
        return
    middle = fetlock + 0.55 * (foot - fetlock)
    figure.tube(fetlock, middle, low * 1.05, low * 0.95, coat.legs)
    figure.tube(middle, foot, low * 0.95, low * 1.22, coat.foot)


# The whole animal: cones and AP-10K's 17 keypoints from proportions, gait and posture.


# Where each leg is in its cycle, as a share of one stride: left fore, right fore, left hind, right hind.
GAITS: dict[str, tuple[tuple[float, float, float, float], float, float]] = {
    "stand": ((0.0, 0.5, 0.25, 0.75), 0.10, 0.04),
    "walk": ((0.0, 0.5, 0.75, 0.25), 0.36, 0.70),
    "trot": ((0.0, 0.5, 0.5, 0.0), 0.46, 1.15),
    "gallop": ((0.0, 0.12, 0.55, 0.65), 0.78, 1.35),
}
"""Name -> phases of the four legs, swing of the leg (radians), bend of its joint while it is lifted."""


def quadruped(species: Species, rng: np.random.Generator) -> Figure:
    """One animal with its 17 marks under AP-10K's names, in a random gait, posture and coat."""
    figure = Figure(melt=0.019 * species.height)
    coat = put_on_coat(figure, species, rng)
    h, L = species.height, species.height * species.body
    gait = str(rng.choice(list(GAITS), p=[0.34, 0.36, 0.18, 0.12]))
    phases, swing, bend = GAITS[gait]
    phase, swing = rng.uniform(), swing * rng.uniform(0.75, 1.2)
    for i, side in ((0, -1), (1, 1)):
        add_foreleg(figure, species, coat, side, phase + phases[i], swing, bend, rng)
        add_hindleg(figure, species, coat, side, phase + phases[i + 2], swing, bend, rng)
    _trunk(figure, species, coat.trunk)
    if species.name == "sheep":
        _wool(figure, species, coat.trunk, rng)
    grazing = gait in ("stand", "walk") and rng.uniform() < 0.3
    rise = rng.uniform(-0.95, -0.75) if grazing else species.rise + rng.uniform(-0.35, 0.25)
    sideways = 0.0 if grazing else float(np.clip(rng.normal(0, 0.28), -0.7, 0.7))
    base = np.array([0.40 * L, (1.0 - 0.62 * species.chest) * h, 0.0])
    add_head(figure, species, coat, base, rise, sideways, grazing, rng)
    figure.mark("Neck", (0.40 * L, 0.93 * h, 0), species.width * h * 1.15)
    _tail(figure, species, coat, rng)
    _settle(figure, rng.normal(0, 0.03) + (0.05 if gait == "gallop" else 0) * np.sin(phase * 2 * np.pi))
    return figure


def _trunk(figure: Figure, species: Species, coat: int) -> None:
    """Three rows of tubes, one above the other: deeper than wide, seen from any side."""
    h, L = species.height, species.height * species.body
    half = (species.chest * h, species.flank * h)
    stations = [  # x, height of the back, half depth
        (0.36 * L, 0.955 * h, 0.86 * half[0]),
        (0.22 * L, 1.0 * h, half[0]),
        (-0.02 * L, 0.955 * h, 0.5 * (half[0] + half[1]) * 1.02),
        (-0.22 * L, 0.5 * (0.955 + species.croup) * h, half[1] * 1.02),
        (-0.36 * L, species.croup * h, half[1] * 0.98),
    ]
    for share in (0.0, 0.5, 1.0):
        points, radii = [], []
        for x, back, depth in stations:
            radius = min(species.width * h, depth)
            top, bottom = back - radius, back - 2 * depth + radius
            points.append((x, top + share * (bottom - top), 0.0))
            radii.append(radius * (1.0 if share == 0.5 else 0.97))
        figure.chain(points, radii, coat)
    # The breast, rounded, between the shoulders.
    figure.ball((0.40 * L, 0.955 * h - 1.15 * half[0], 0), 0.62 * half[0], coat)


def _wool(figure: Figure, species: Species, coat: int, rng: np.random.Generator) -> None:
    """Locks of wool: small balls on the trunk."""
    h, L = species.height, species.height * species.body
    for _ in range(120):
        x, angle = rng.uniform(-0.44, 0.36) * L, rng.uniform(-0.8, np.pi + 0.8)
        y = 0.70 * h + 0.25 * h * np.sin(angle)
        figure.ball((x, y, 0.25 * h * np.cos(angle)), rng.uniform(0.05, 0.08) * h, coat)


def _tail(figure: Figure, species: Species, coat: Coat, rng: np.random.Generator) -> None:
    h, L = species.height, species.height * species.body
    length, radius, tuft = (v * h for v in species.tail)
    root = np.array([-0.47 * L, (species.croup - 0.045) * h, 0.0])
    figure.mark("Root of tail", root, radius * 2.2 + 0.02 * h)
    angle = -np.pi / 2 + species.tail_lift + abs(rng.normal(0, 0.35))  # 0 points straight back
    sway, curl = rng.normal(0, 0.25), rng.normal(0.0, 0.10) - (0.16 if species.tail_lift < 1 else -0.10)
    points, radii, here = [root + np.array([0.06 * L, 0, 0])], [radius * 1.5], root
    for i in range(7):
        points.append(here)
        radii.append(radius * (1 - 0.07 * i) if not tuft else radius + (tuft - radius) * np.sin(i / 6 * 2.6))
        angle = max(angle + curl, -np.pi / 2 - 0.1)
        here = here + length / 6 * np.array([-np.cos(angle), np.sin(angle), sway * 0.35])
    material = coat.hair if tuft or species.mane else coat.coat
    figure.chain(points, [max(r, 0.4 * radius) for r in radii], material)


def _settle(figure: Figure, pitch: float) -> None:
    """Tip the whole animal a little about the side axis, then let its lowest foot touch the ground."""
    c, s = np.cos(pitch), np.sin(pitch)

    def tipped(p):
        return c * p[0] - s * p[1], s * p[0] + c * p[1], p[2]

    figure.starts[:] = [tipped(p) for p in figure.starts]
    figure.ends[:] = [tipped(p) for p in figure.ends]
    lowest = min(
        min(a[1] - r[0], b[1] - r[1])
        for a, b, r in zip(figure.starts, figure.ends, figure.radii, strict=True)
    )
    figure.starts[:] = [(x, y - lowest, z) for x, y, z in figure.starts]
    figure.ends[:] = [(x, y - lowest, z) for x, y, z in figure.ends]
    for name, (point, depth) in figure.marks.items():
        x, y, z = tipped(point)
        figure.marks[name] = ((x, y - lowest, z), depth)
