"""What stands in the way? Bushes, trees, rocks and fences that hide parts of animals and people."""

from __future__ import annotations

import numpy as np

from workbench.data.scenes.rendering import Figure, Material

KINDS = ("bush", "tree", "rock", "fence", "post")


def obstacle(kind: str, place: str, rng: np.random.Generator) -> Figure:
    """One thing to stand in the way, without marks.

    Raises:
        ValueError: the kind is none of `KINDS`.
    """
    makers = {"bush": _bush, "tree": _tree, "rock": _rock, "fence": _fence, "post": _post}
    if kind not in makers:
        raise ValueError(f"obstacle: expected one of {', '.join(KINDS)}, got {kind!r}")
    figure = Figure()
    makers[kind](figure, _leaf(place, rng), rng)
    return figure


def _leaf(place: str, rng: np.random.Generator) -> tuple[float, float, float]:
    green = {"autumn": (0.62, 0.36, 0.12), "savanna": (0.46, 0.46, 0.20), "snow": (0.26, 0.33, 0.26)}
    r, g, b = green.get(place, (0.20, 0.38, 0.13))
    tone = rng.uniform(0.8, 1.2)
    return r * tone, g * tone, b * tone


def _leaves(figure: Figure, colour, count: int, centre, spread, size: float, rng) -> None:
    tones = [
        figure.new(Material(tuple(float(np.clip(c * t, 0, 1)) for c in colour), grain=0.65, stroke=1.0))  # type: ignore[arg-type]
        for t in (0.7, 1.0, 1.25)
    ]
    for _ in range(count):
        offset = rng.normal(0, 1, 3)
        offset *= rng.uniform(0.5, 1.0) / max(float(np.linalg.norm(offset)), 1e-6)
        point = np.asarray(centre) + offset * np.asarray(spread)
        figure.ball(
            (point[0], max(point[1], 0.02), point[2]), size * rng.uniform(0.5, 1.2), tones[rng.integers(3)]
        )


def _bush(figure: Figure, leaf, rng) -> None:
    height = rng.uniform(0.35, 0.85)
    spread = (height * rng.uniform(0.6, 1.1), height * 0.55, height * 0.5)
    _leaves(figure, leaf, 190, (0, 0.5 * height, 0), spread, 0.085 * height, rng)


def _tree(figure: Figure, leaf, rng) -> None:
    bark = figure.new(Material((0.33, 0.26, 0.20), (0.2, 0.15, 0.11), "patches", 0.08, grain=0.6, stroke=4.0))
    thick, lean = rng.uniform(0.07, 0.14), rng.normal(0, 0.12)
    points = [(0, 0.02, 0), (lean * 0.4, 0.5, 0), (lean, 1.8, 0), (lean * 1.5, 3.0, 0)]
    figure.chain(points, [thick * 1.5, thick, thick * 0.85, thick * 0.6], bark)
    for side in (-1, 1):
        figure.chain(
            [(lean, 1.9, 0), (lean + side * 0.6, 2.5, 0.2), (lean + side * 1.1, 2.9, 0.1)],
            [thick * 0.5, thick * 0.35, thick * 0.2], bark,
        )  # fmt: skip
    _leaves(figure, leaf, 220, (lean * 1.5, 3.1, 0), (1.3, 0.8, 0.9), 0.17, rng)


def _rock(figure: Figure, leaf, rng) -> None:
    tone = rng.uniform(0.48, 0.72)
    stone = figure.new(Material((tone, tone * 0.96, tone * 0.90), grain=0.7, stroke=1.0))
    size = rng.uniform(0.22, 0.48)
    for _ in range(26):
        angle, out = rng.uniform(0, 2 * np.pi), size * np.sqrt(rng.uniform(0, 1))
        x, z = out * np.cos(angle), 0.6 * out * np.sin(angle)
        radius = size * rng.uniform(0.28, 0.48)
        figure.ball((x, rng.uniform(0.0, 0.75) * (size - 0.7 * out), z), radius, stone)


def _fence(figure: Figure, leaf, rng) -> None:
    tone = rng.uniform(0.7, 1.2)
    wood = figure.new(Material((0.46 * tone, 0.37 * tone, 0.28 * tone), grain=0.5, stroke=8.0))
    height, gap = rng.uniform(0.75, 1.05), 1.4
    for i in range(-4, 5):
        figure.tube((i * gap, 0, 0), (i * gap, height, 0), 0.045, 0.042, wood)
    for share in (0.42, 0.85):
        points = [(i * gap, share * height + rng.normal(0, 0.015), 0.05) for i in range(-4, 5)]
        figure.chain(points, [0.036] * 9, wood)


def _post(figure: Figure, leaf, rng) -> None:
    metal = figure.new(Material((0.30, 0.33, 0.35), grain=0.15, gloss=0.3))
    figure.tube((0, 0, 0), (0, 3.4, 0), 0.055, 0.045, metal)
    figure.tube((0, 0, 0), (0, 0.35, 0), 0.085, 0.075, metal)
