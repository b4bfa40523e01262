"""How does a leg carry its animal? Fore and hind legs from the phase of the stride, down to hoof or paw."""

from __future__ import annotations

import numpy as np

from workbench.data.scenes.animals import Coat, Species
from workbench.data.scenes.rendering import Figure


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
