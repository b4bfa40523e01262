"""How are the drawn quadrupeds proportioned and coloured? One row per species, lengths in metres."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.data.scenes.rendering import Colour, Material


@dataclass(frozen=True)
class Species:
    """Proportions of an adult, as shares of the withers' height where nothing else is said.

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
