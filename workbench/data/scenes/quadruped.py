"""How does a quadruped stand in space? Tubes and AP-10K's 17 marks from proportions, gait and posture.

The marks follow AP-10K's usage, which is not anatomy: ``shoulder`` and ``hip`` are where the legs leave
the body, ``elbow`` and ``knee`` the joints in the middle of the visible legs, ``neck`` its base.
"""

from __future__ import annotations

import numpy as np

from workbench.data.scenes.animals import Coat, Species, add_foreleg, add_head, add_hindleg, put_on_coat
from workbench.data.scenes.rendering import Figure

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
