"""Which landscapes and skies are drawn? Their colours, and the light that comes with each sky."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.data.scenes.rendering import Colour, Light


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
