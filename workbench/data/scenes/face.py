"""What makes a drawn head a face? Skull, hair, hat, eyes, brows, nose, mouth and ears, with five marks."""

from __future__ import annotations

import numpy as np

from workbench.data.scenes.rendering import Colour, Figure, Material

HAIR: tuple[Colour, ...] = (
    (0.09, 0.07, 0.06), (0.24, 0.14, 0.09), (0.42, 0.26, 0.14), (0.76, 0.58, 0.32), (0.55, 0.22, 0.10),
    (0.62, 0.61, 0.60),
)  # fmt: skip


def add_head(
    figure: Figure, neck: np.ndarray, lean: float, skin: int, tone: Colour, rng: np.random.Generator
) -> None:
    """Head on a neck; marks nose, eyes and ears under COCO's names.

    Args:
        figure: the person so far.
        neck: top of the neck, metres.
        lean: of the trunk, radians; the head is held nearly upright against it.
        skin: its material.
        tone: its colour, for lips and shaded eye sockets.
        rng: for the turn of the head and the hair.
    """
    turn, nod = rng.normal(0, 0.28), 0.3 * lean + rng.normal(0, 0.1)
    forward = np.array([np.cos(nod) * np.cos(turn), -np.sin(nod), np.cos(nod) * np.sin(turn)])
    right = np.array([-np.sin(turn), 0.0, np.cos(turn)])
    up = np.cross(right, forward)

    def at(ahead: float, high: float, aside: float = 0.0) -> np.ndarray:
        return neck + ahead * forward + high * up + aside * right

    figure.tube(at(0.025, 0.045), at(0.0, 0.130), 0.068, 0.088, skin)
    figure.tube(at(0.045, 0.020), at(0.035, 0.070), 0.042, 0.058, skin)  # chin and jaw
    lips = figure.new(Material((tone[0] * 0.80, tone[1] * 0.52, tone[2] * 0.50), grain=0.0))
    white = figure.new(Material((0.93, 0.92, 0.90), grain=0.0, gloss=0.2))
    iris = figure.new(
        Material(((0.16, 0.10, 0.06), (0.20, 0.30, 0.40))[rng.integers(2)], grain=0.0, gloss=0.5)
    )
    colour = HAIR[rng.integers(len(HAIR))]
    hair = figure.new(Material(colour, grain=0.5, stroke=6.0, gloss=0.12))
    figure.tube(at(0.090, 0.108), at(0.106, 0.080), 0.010, 0.0155, skin)
    figure.tube(at(0.086, 0.042, -0.020), at(0.086, 0.042, 0.020), 0.0095, 0.0095, lips)
    figure.mark("nose", at(0.116, 0.080), 0.022)
    for name, side in (("left", -1), ("right", 1)):
        eye = at(0.074, 0.118, side * 0.032)
        figure.ball(eye, 0.0140, white)
        figure.ball(eye + 0.0075 * forward, 0.0098, iris)
        figure.tube(at(0.080, 0.146, side * 0.018), at(0.070, 0.146, side * 0.050), 0.008, 0.006, hair)
        figure.mark(f"{name}_eye", eye + 0.0075 * forward, 0.018)
        ear = at(-0.005, 0.098, side * 0.086)
        figure.tube(ear + 0.020 * up, ear - 0.016 * up, 0.019, 0.014, skin)
        figure.mark(f"{name}_ear", ear, 0.032)
    _hair(figure, at, hair, rng)


def _hair(figure: Figure, at, hair: int, rng: np.random.Generator) -> None:
    style = str(rng.choice(["short", "long", "bun", "cap", "bald"], p=[0.40, 0.26, 0.12, 0.16, 0.06]))
    if style == "bald":
        return
    if style == "cap":
        colour = ((0.72, 0.14, 0.14), (0.14, 0.22, 0.48), (0.86, 0.84, 0.78))[rng.integers(3)]
        cap = figure.new(Material(colour, grain=0.1, stroke=1.0))
        figure.tube(at(-0.006, 0.150), at(-0.006, 0.172), 0.097, 0.084, cap)
        for aside in (-0.03, 0.0, 0.03):
            figure.tube(at(0.06, 0.172, aside), at(0.150, 0.158, aside), 0.024, 0.014, cap)
        figure.tube(at(-0.035, 0.09), at(-0.02, 0.14), 0.072, 0.080, hair)
        return
    figure.tube(at(-0.024, 0.125), at(-0.012, 0.158), 0.090, 0.088, hair)
    figure.tube(at(-0.048, 0.060), at(-0.032, 0.12), 0.058, 0.076, hair)
    if style == "long":
        for aside in (-0.055, 0.0, 0.055):
            figure.tube(at(-0.045, 0.11, aside), at(-0.065, -0.09, aside * 1.25), 0.052, 0.030, hair)
    elif style == "bun":
        figure.ball(at(-0.095, 0.185), 0.042, hair)
