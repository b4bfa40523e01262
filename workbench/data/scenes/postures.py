"""How do people hold themselves? Angles of limbs for standing, walking, running, waving and more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Posture:
    """Angles in radians, per side (left, right).

    Attributes:
        arm: swing of the upper arm, forward positive.
        spread: upper arm away from the body.
        elbow: bend.
        leg: swing of the thigh, forward positive.
        knee: bend.
        lean: of the trunk, forward positive.
    """

    arm: tuple[float, float]
    spread: tuple[float, float]
    elbow: tuple[float, float]
    leg: tuple[float, float]
    knee: tuple[float, float]
    lean: float = 0.0


def posture(rng: np.random.Generator) -> Posture:
    """A random one: standing, walking, running, waving, arms up, hands on hips, crouching."""
    kind = rng.choice(
        ["stand", "walk", "run", "wave", "up", "hips", "crouch"], p=[0.2, 0.25, 0.16, 0.12, 0.09, 0.1, 0.08]
    )
    n = lambda sigma: float(rng.normal(0, sigma))  # noqa: E731 - five letters, used twenty times
    s = float(np.sin(rng.uniform(0, 2 * np.pi)))
    legs, knees = (n(0.06), n(0.06)), (abs(n(0.06)), abs(n(0.06)))
    arms, spreads, elbows = (
        (n(0.15), n(0.15)),
        (0.12 + abs(n(0.1)), 0.12 + abs(n(0.1))),
        (0.2 + abs(n(0.2)), 0.2 + abs(n(0.2))),
    )
    lean = n(0.04)
    if kind == "walk":
        legs, arms = (0.42 * s, -0.42 * s), (-0.45 * s, 0.45 * s)
        knees = (0.15 + 0.5 * max(0, -s), 0.15 + 0.5 * max(0, s))
    elif kind == "run":
        s = float(np.sign(s)) * (0.6 + 0.4 * abs(s))
        legs, arms = (0.85 * s, -0.75 * s), (-0.8 * s, 0.8 * s)
        knees, elbows, lean = (0.35 + 1.0 * max(0, -s), 0.35 + 1.0 * max(0, s)), (1.5, 1.5), 0.16
    elif kind == "wave":
        high = (2.3 + n(0.3), float(rng.uniform(0.3, 1.2)))
        first = rng.uniform() < 0.5
        spreads = (high[0], spreads[1]) if first else (spreads[0], high[0])
        elbows = (high[1], elbows[1]) if first else (elbows[0], high[1])
    elif kind == "up":
        spreads, elbows = (2.5 + n(0.25), 2.5 + n(0.25)), (abs(n(0.3)), abs(n(0.3)))
    elif kind == "hips":
        arms, spreads, elbows = (-0.35, -0.35), (0.75, 0.75), (1.75, 1.75)
    elif kind == "crouch":
        bend = float(rng.uniform(0.8, 1.4))
        legs, knees, lean = (bend, bend + n(0.1)), (1.7 * bend, 1.7 * bend), 0.35
        arms, elbows = (0.6 + n(0.2), 0.6 + n(0.2)), (0.7, 0.9)
    return Posture(arms, spreads, elbows, legs, knees, lean)
