"""Drawn people: posture, head, clothes and limbs; keypoints of COCO. Lengths in metres."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from workbench.data.scenes.rendering import Colour, Figure, Material


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


# Head: skull, hair, hat, eyes, brows, nose, mouth and ears, with five keypoints.


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


# The whole person: cones and COCO's 17 keypoints from posture, clothes, hair and face.


SKIN: tuple[Colour, ...] = (
    (0.96, 0.80, 0.69), (0.90, 0.70, 0.56), (0.80, 0.58, 0.43), (0.64, 0.43, 0.30), (0.47, 0.31, 0.21),
    (0.34, 0.22, 0.16),
)  # fmt: skip
CLOTH: tuple[Colour, ...] = (
    (0.75, 0.16, 0.15), (0.16, 0.30, 0.62), (0.92, 0.90, 0.86), (0.13, 0.13, 0.15), (0.18, 0.46, 0.30),
    (0.90, 0.66, 0.18), (0.46, 0.22, 0.50), (0.30, 0.56, 0.66), (0.85, 0.48, 0.42), (0.48, 0.48, 0.50),
)  # fmt: skip
LEGWEAR: tuple[Colour, ...] = (
    (0.16, 0.22, 0.38), (0.26, 0.34, 0.50), (0.14, 0.14, 0.16), (0.60, 0.52, 0.40), (0.38, 0.36, 0.32),
)  # fmt: skip


def person(rng: np.random.Generator) -> Figure:
    """One person with the 17 marks under COCO's names."""
    figure, pose = Figure(), posture(rng)
    skin_colour = SKIN[rng.integers(len(SKIN))]
    skin = figure.new(Material(skin_colour, grain=0.05, gloss=0.10))
    shirt = figure.new(_cloth(CLOTH, rng))
    legwear = figure.new(replace(_cloth(LEGWEAR, rng), pattern="plain"))
    shoe = figure.new(Material(((0.12, 0.11, 0.11), (0.88, 0.87, 0.85), (0.40, 0.24, 0.15))[rng.integers(3)]))
    build = rng.uniform(0.88, 1.18)
    lean = pose.lean
    up = np.array([np.sin(lean), np.cos(lean), 0.0])
    pelvis = np.array([0.0, 0.94, 0.0])
    chest, neck = pelvis + 0.36 * up, pelvis + 0.53 * up
    long_sleeves, kind = (
        rng.uniform() < 0.5,
        str(rng.choice(["trousers", "shorts", "skirt"], p=[0.6, 0.22, 0.18])),
    )
    for side, i in ((-1, 0), (1, 1)):
        name = "left" if side < 0 else "right"
        _leg(figure, pose, i, side, name, pelvis, legwear, skin, shoe, kind, build)
        shoulder = neck + np.array([0, -0.075, side * 0.172 * build**0.5])
        _arm(figure, pose, i, side, name, shoulder, shirt, skin, long_sleeves, build, lean)
        out = np.array([0, 0, side * 0.062])
        figure.chain(
            [pelvis + out * 1.15, pelvis + 0.16 * up + out * 0.85, chest + out * 1.15],
            [0.112 * build, 0.102 * build, 0.112 * build], shirt,
        )  # fmt: skip
        figure.tube(
            chest + out * 1.2, shoulder + np.array([0, -0.01, -side * 0.03]), 0.10 * build, 0.062, shirt
        )
    figure.tube(pelvis + 0.02 * up, chest, 0.116 * build, 0.12 * build, shirt)
    figure.tube(pelvis + np.array([0, -0.045, 0]), pelvis, 0.115 * build, 0.10 * build, legwear)
    if kind == "skirt":
        _skirt(figure, pelvis, legwear, build)
    figure.tube(neck - 0.05 * up, neck + 0.06 * up, 0.060, 0.052, skin)
    add_head(figure, neck + 0.045 * up, lean, skin, skin_colour, rng)
    _settle(figure, rng.uniform(0.92, 1.06))
    return figure


def _skirt(figure: Figure, pelvis: np.ndarray, legwear: int, build: float) -> None:
    """Pleats around the thighs, that swing over both legs."""
    knees = [np.array(figure.marks[f"{side}_knee"][0]) for side in ("left", "right")]
    centre = pelvis + 0.80 * (0.5 * (knees[0] + knees[1]) - pelvis)
    ahead = 0.11 + 0.4 * abs(knees[0][0] - knees[1][0])
    for angle in np.linspace(0, 2 * np.pi, 18, endpoint=False):
        c, s = np.cos(angle), np.sin(angle)
        waist = pelvis + np.array([0.075 * c, 0.0, 0.105 * s]) * build
        hem = centre + np.array([ahead * c, 0.012 * np.cos(5 * angle), 0.19 * s]) * build
        figure.tube(waist, hem, 0.055 * build, 0.050 * build, legwear)


def _cloth(colours: tuple[Colour, ...], rng: np.random.Generator) -> Material:
    colour, other = (colours[i] for i in rng.choice(len(colours), 2, replace=False))
    pattern = str(rng.choice(["plain", "bands", "check"], p=[0.6, 0.25, 0.15]))
    scale = float(rng.uniform(0.06, 0.14))
    return Material(colour, other, pattern, scale, grain=0.14, stroke=1.0, on_body=pattern == "check")


def _leg(figure, pose, i, side, name, pelvis, legwear, skin, shoe, kind, build) -> None:
    hip = pelvis + np.array([0, -0.03, side * 0.092])
    swing, bend = pose.leg[i], pose.knee[i]
    knee = hip + 0.43 * np.array([np.sin(swing), -np.cos(swing), side * 0.03])
    shin = swing - bend
    ankle = knee + 0.41 * np.array([np.sin(shin), -np.cos(shin), 0])
    thigh_radius, knee_radius = 0.088 * build, 0.057 * build
    if kind == "trousers":
        figure.chain(
            [hip, knee, ankle + np.array([0, 0.01, 0])],
            [thigh_radius * 1.06, knee_radius * 1.2, 0.056],
            legwear,
        )
    else:
        middle = hip + 0.72 * (knee - hip)
        if kind == "shorts":
            figure.tube(hip, middle, thigh_radius * 1.1, thigh_radius * 1.02, legwear)
        figure.chain([hip, knee], [thigh_radius, knee_radius], skin)
        calf = knee + 0.35 * (ankle - knee)
        figure.chain([knee, calf, ankle], [knee_radius, knee_radius * 0.98, 0.036], skin)
    toe_angle = shin + np.pi / 2 * (0.95 if abs(shin) < 0.4 else 0.8)
    toe = (
        ankle
        + np.array([0, -0.035, side * 0.02])
        + 0.155 * np.array([np.sin(toe_angle), -np.cos(toe_angle), 0])
    )
    figure.chain([ankle + np.array([-0.02, -0.03, 0]), toe], [0.048, 0.036], shoe)
    figure.tube(ankle, ankle + np.array([-0.015, -0.035, 0]), 0.044, 0.048, shoe)
    figure.mark(f"{name}_hip", hip, 0.15 * build)
    figure.mark(f"{name}_knee", knee, knee_radius * (2.6 if kind == "skirt" else 1.5))
    figure.mark(f"{name}_ankle", ankle, 0.075)


def _arm(figure, pose, i, side, name, shoulder, shirt, skin, long_sleeves, build, lean) -> None:
    swing, spread = pose.arm[i] - lean, pose.spread[i]
    upper = np.array([np.sin(swing) * np.cos(spread), -np.cos(swing) * np.cos(spread), side * np.sin(spread)])
    elbow = shoulder + 0.285 * upper
    # The elbow bends forward, or inward and up when the arm is held away from the body.
    aside = min(max(spread - 0.4, 0.0), 1.0)
    axis = np.cross(
        upper, np.array([1.0, 0.0, 0.0]) * (1 - aside) + aside * np.array([0.35, 1.0, -side * 0.6])
    )
    if spread < 1.2 and aside > 0.2:  # hands on hips: inward
        axis = np.cross(upper, np.array([0.25, -0.15, -side * 1.0]))
    axis = axis / max(float(np.linalg.norm(axis)), 1e-6)
    bend = pose.elbow[i]
    fore = upper * np.cos(bend) + np.cross(axis, upper) * np.sin(bend)
    wrist = elbow + 0.245 * fore
    figure.chain([shoulder, elbow], [0.060 * build, 0.044], shirt if long_sleeves else skin)
    if not long_sleeves:
        figure.tube(shoulder, shoulder + 0.55 * (elbow - shoulder), 0.066 * build, 0.060 * build, shirt)
    figure.chain([elbow, wrist], [0.044, 0.032], shirt if long_sleeves else skin)
    figure.tube(wrist, wrist + 0.05 * fore, 0.030, 0.038, skin)
    figure.tube(wrist + 0.05 * fore, wrist + 0.125 * fore, 0.036, 0.020, skin)
    figure.mark(f"{name}_shoulder", shoulder, 0.11 * build)
    figure.mark(f"{name}_elbow", elbow, 0.075)
    figure.mark(f"{name}_wrist", wrist, 0.06)


def _settle(figure: Figure, size: float) -> None:
    """Scale to a body height, then let the lower shoe touch the ground."""
    lowest = min(
        min(a[1] - r[0], b[1] - r[1])
        for a, b, r in zip(figure.starts, figure.ends, figure.radii, strict=True)
    )

    def placed(p):
        return p[0] * size, (p[1] - lowest) * size, p[2] * size

    figure.starts[:] = [placed(p) for p in figure.starts]
    figure.ends[:] = [placed(p) for p in figure.ends]
    figure.radii[:] = [(a * size, b * size) for a, b in figure.radii]
    for name, (point, depth) in figure.marks.items():
        figure.marks[name] = (placed(point), depth * size)
