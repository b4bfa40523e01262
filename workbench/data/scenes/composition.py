"""Composition of a scene - figures, obstacles, shadows, air and lens - and its exact annotations.

A keypoint is visible (2) when neither its own body nor a figure in front covers its pixel, hidden (1) when
one does, and unlabelled (0) when it lies outside the picture. Boxes, outlines and areas are those of the
visible pixels. (Single blades of grass, one pixel wide, occlude nothing.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from workbench.core import Skeleton
from workbench.data.scenes.animals import SPECIES, quadruped
from workbench.data.scenes.background import Backdrop, backdrop, blades, softened
from workbench.data.scenes.people import person
from workbench.data.scenes.rendering import Figure, Material, Relief, View, relief, shaded

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8


KINDS = ("bush", "tree", "rock", "fence", "post")


def obstacle(kind: str, place: str, rng: np.random.Generator) -> Figure:
    """One obstacle, without keypoints.

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


# The picture: figures on the ground, nearest last, with shadows, air and lens.


SIZE = (360, 480)
"""(height, width) of a scene in pixels."""

# Figures are drawn at twice the size and halved: their edges are smooth and their masks exact.
_FINE = 2


@dataclass(frozen=True, eq=False)
class Actor:
    """A figure in its place.

    Attributes:
        figure: its tubes and marks.
        view: from metres to pixels of the doubled picture.
        kind: name of a species, ``person``, or "" for a thing in the way.
        turn: where the head was turned is part of the figure; this is the body's yaw, radians.
        seen: the figure's relief in the doubled picture; None when it is outside.
        cover: how much of each pixel of the picture it covers, 0..1.
    """

    figure: Figure
    view: View
    kind: str
    seen: Relief | None
    cover: Float[np.ndarray, "H W"]


@dataclass(frozen=True, eq=False)
class Scene:
    """A finished picture and the actors in it, farthest first."""

    image: UInt8[np.ndarray, "H W 3"]
    actors: tuple[Actor, ...]
    place: str


def scene(rng: np.random.Generator, people: float) -> Scene:
    """One random scene.

    Args:
        rng: decides everything.
        people: share of people among the figures, 0..1.
    """
    ground = backdrop(rng, SIZE, street=bool(rng.uniform() < 0.45 * people))
    image = softened(ground.image, float(rng.choice([0.0, 0.6, 1.0, 1.8])))
    placed = sorted(_cast(rng, ground, people), key=lambda actor: actor[1].y)
    actors = []
    for figure, view, kind in placed:
        seen = relief(figure, view, (SIZE[0] * _FINE, SIZE[1] * _FINE))
        cover = np.zeros(SIZE, np.float32)
        if seen is not None:
            cover = _paint(image, figure, view, seen, ground, rng)
        actors.append(Actor(figure, view, kind, seen, cover))
    return Scene(_photographed(image, ground, rng), tuple(actors), ground.place)


def _cast(rng: np.random.Generator, ground: Backdrop, people: float) -> list[tuple[Figure, View, str]]:
    """Who stands where: figures, views and kinds, in no order."""
    H = SIZE[0]
    eye = rng.uniform(1.25, 2.1)  # height of the camera, metres: it is what the horizon cuts everything at
    herd = SPECIES[rng.integers(len(SPECIES))]
    cast: list[tuple[Figure, View, str]] = []
    taken: list[tuple[float, float]] = []
    for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.24, 0.40, 0.26, 0.10]))):
        if rng.uniform() < people:
            figure, kind = person(rng), "person"
        else:
            species = herd if rng.uniform() < 0.65 else SPECIES[rng.integers(len(SPECIES))]
            figure, kind = quadruped(species, rng), species.name
        height = float(np.clip(rng.lognormal(np.log(0.47 * H), 0.38), 0.16 * H, 0.95 * H))
        scale = height / figure.height
        foot = ground.horizon + eye * scale
        # Small animals seen from a man's height would all stand at the lower edge: the camera kneels.
        foot = min(foot, ground.horizon + 0.30 * (H - ground.horizon) + 0.62 * height, H * 1.10)
        place = _free_place(rng, taken, height)
        side = float(rng.choice([0.0, np.pi]))
        yaw = side + rng.normal(0, 0.42) if rng.uniform() < 0.72 else rng.uniform(-np.pi, np.pi)
        cast.append((figure, _view(place, foot, scale, yaw, rng), kind))
        taken.append((place, height))
    return cast + _obstacles(rng, ground, cast)


def _free_place(rng, taken, height: float) -> float:
    """A column; neighbours may overlap, but seldom stand inside each other."""
    W = SIZE[1]
    # Three in four stand wholly inside, when they fit at all; the others may be cut by the border.
    margin = min(0.55 * height, 0.42 * W) if rng.uniform() < 0.75 else 0.03 * W
    place = 0.5 * W
    for _ in range(6):
        place = float(rng.uniform(margin, W - margin))
        if all(abs(place - other) > 0.42 * min(height, tall) for other, tall in taken):
            break
    return place


def _obstacles(rng, ground: Backdrop, cast) -> list[tuple[Figure, View, str]]:
    found = []
    for figure, view, _ in cast:
        if rng.uniform() > 0.30:
            continue
        kinds = ["post", "fence"] if ground.place == "street" else ["bush", "tree", "rock", "fence"]
        if ground.place in ("desert", "beach"):
            kinds = ["rock"]
        kind = str(rng.choice(kinds))
        scale = view.scale / _FINE * rng.uniform(1.0, 1.25)
        beside = view.x / _FINE + rng.normal(0, 0.30) * figure.height * scale
        foot = view.y / _FINE + rng.uniform(1, 9)
        # A small animal must not vanish behind a tree of true size.
        scale *= min(1.0, figure.height / (0.9 if kind in ("bush", "rock", "fence") else 1.5))
        thing = obstacle(kind, ground.place, rng)
        found.append((thing, _view(beside, foot, scale, rng.normal(0, 0.25), rng), ""))
    if ground.place not in ("desert", "beach", "street") and rng.uniform() < 0.35:
        thing = obstacle("bush", ground.place, rng)  # one behind everybody
        foot = ground.horizon + rng.uniform(4, 30)
        found.append((thing, _view(rng.uniform(0, SIZE[1]), foot, rng.uniform(18, 50), 0.0, rng), ""))
    return found


def _view(x: float, y: float, scale: float, yaw: float, rng) -> View:
    return View(x * _FINE, y * _FINE, scale * _FINE, float(yaw), float(rng.uniform(0.02, 0.16)))


def _paint(image, figure: Figure, view: View, seen: Relief, ground: Backdrop, rng) -> np.ndarray:
    """Draw shadow and figure into the picture, in place; the share of each pixel that is covered."""
    H, W = SIZE
    colours, shape = shaded(figure, view, seen, ground.light, rng), seen.shape.astype(np.float32)
    distance = np.clip((view.y / _FINE - ground.horizon) / (H - ground.horizon), 0.02, 1)
    air = float(np.clip(0.10 / distance - 0.12, 0, 0.45))
    colours = colours * (1 - air) + np.asarray(ground.haze, np.float32) * air
    size = (shape.shape[1] // _FINE, shape.shape[0] // _FINE)
    small = cv2.resize(colours * shape[..., None], size, interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(shape, size, interpolation=cv2.INTER_AREA)
    top, left = seen.top // _FINE, seen.left // _FINE
    window = np.s_[top : top + size[1], left : left + size[0]]
    cover = np.zeros((H, W), np.float32)
    cover[window] = alpha
    _shadow(image, cover, view, ground)
    image[window] = image[window] * (1 - alpha[..., None]) + small
    return cover


def _shadow(image, cover: np.ndarray, view: View, ground: Backdrop) -> None:
    """The figure's outline laid on the ground away from the sun, and a darker spot where it stands."""
    H, W = SIZE
    foot_y = view.y / _FINE
    lx, ly, lz = ground.light.direction
    flat = 0.30 * max(0.4, lz)  # the ground is seen at a low angle
    lean = float(np.clip(-lx / max(-ly, 0.35), -1.6, 1.6)) * 0.75
    # Upright point at height v above the foot falls to (x - lean * v, foot - flat * v): behind the figure.
    matrix = np.array([[1, -lean, lean * foot_y], [0, flat, foot_y * (1 - flat)]], np.float32)
    cast = cv2.warpAffine(cover, matrix, (W, H))
    cast = cv2.GaussianBlur(cast, (0, 0), max(0.012 * view.scale / _FINE, 0.8))
    feet = cv2.warpAffine(cover, np.array([[1, 0, 0], [0, 0.10, foot_y * 0.90 + 1]], np.float32), (W, H))
    feet = cv2.GaussianBlur(feet, (0, 0), max(0.03 * view.scale / _FINE, 1.0))
    dark = np.maximum(cast * ground.light.shadow, feet * 0.42)
    dark[: int(ground.horizon) + 1] = 0
    image *= (1 - dark * 0.9)[..., None]


def _photographed(image, ground: Backdrop, rng: np.random.Generator) -> np.ndarray:
    """Grass before the lens, exposure, vignetting, a little blur and the sensor's noise; 8 bits."""
    H, W = SIZE
    segments, colours = blades(rng, ground.place, SIZE, ground.horizon, ground.light)
    picture = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    for (start, end), colour in zip(segments, colours, strict=True):
        ends = [tuple(int(v * 8) for v in point) for point in (start, end)]
        cv2.line(picture, ends[0], ends[1], [int(c * 255) for c in colour], 1, cv2.LINE_AA, 3)
    y, x = np.ogrid[-1 : 1 : H * 1j, -1 : 1 : W * 1j]
    exposure = rng.uniform(0.96, 1.20) * (1 - rng.uniform(0.0, 0.22) * (x * x + y * y) / 2)
    balance = rng.uniform(0.95, 1.05, 3)
    result = picture.astype(np.float32) * exposure[..., None].astype(np.float32) * balance.astype(np.float32)
    if rng.uniform() < 0.35:
        result = cv2.GaussianBlur(result, (0, 0), float(rng.uniform(0.4, 0.9)))
    result += rng.standard_normal((H, W, 1), np.float32) * np.float32(rng.uniform(0.3, 2.6))
    return np.clip(result, 0, 255).astype(np.uint8)


# Annotations: keypoints, boxes, outlines and areas, counted pixel by pixel.


# An animal with fewer visible pixels or keypoints cannot be recognised and gets no annotation.
FEWEST_PIXELS = 150
FEWEST_KEYPOINTS = 3


def scene_annotations(scene: Scene, skeleton: Skeleton, categories: dict[str, int]) -> list[dict[str, Any]]:
    """COCO annotations, without ids, of the actors of some kinds, farthest first.

    Args:
        scene: a finished one.
        skeleton: names the marks to write.
        categories: kind of actor -> category id; others are part of the picture only.
    """
    found = []
    for i, actor in enumerate(scene.actors):
        if actor.kind not in categories or actor.seen is None:
            continue
        hidden = np.zeros(actor.cover.shape, bool)
        for other in scene.actors[i + 1 :]:
            hidden |= other.cover > 0.5
        visible = (actor.cover > 0.5) & ~hidden
        truth = _keypoints(actor, skeleton, hidden)
        labelled = int((truth[:, 2] > 0).sum())
        if visible.sum() < FEWEST_PIXELS or labelled < FEWEST_KEYPOINTS:
            continue
        rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        found.append(
            {
                "category_id": categories[actor.kind],
                "bbox": [int(v) for v in box],
                "area": int(visible.sum()),
                "iscrowd": 0,
                "num_keypoints": labelled,
                "keypoints": [v for x, y, seen in truth.tolist() for v in (x, y, int(seen))],
                "segmentation": _outlines(visible),
            }
        )
    return found


def species_categories() -> dict[str, int]:
    """Category id per species."""
    return {species.name: i + 1 for i, species in enumerate(SPECIES)}


def _keypoints(actor: Actor, skeleton: Skeleton, hidden: np.ndarray) -> np.ndarray:
    """(x, y, visibility) in pixels of the picture, rounded to a hundredth."""
    H, W = hidden.shape
    fine = actor.cover.shape[0] * 2, actor.cover.shape[1] * 2
    truth = np.zeros((len(skeleton), 3))
    for k, name in enumerate(skeleton.keypoints):
        point, depth = actor.figure.marks[name]
        x, y, z = actor.view.project([point])[0]
        # A pixel of the picture is the mean of two by two fine ones: their centres are half a fine pixel off.
        column, row = (x - 0.5) / 2, (y - 0.5) / 2
        if not (-0.5 <= column < W - 0.5 and -0.5 <= row < H - 0.5):
            continue
        i, j = min(max(round(y), 0), fine[0] - 1), min(max(round(x), 0), fine[1] - 1)
        behind = _surface(actor, i, j) - z > depth * actor.view.scale
        covered = hidden[min(max(round(row), 0), H - 1), min(max(round(column), 0), W - 1)]
        inside = np.clip([column, row], 0, [W - 1, H - 1])
        truth[k] = (*np.round(inside, 2), 1 if behind or covered else 2)
    return truth


def _surface(actor: Actor, row: int, column: int) -> float:
    """Height of the figure's own surface at a fine pixel; far below where it has none."""
    seen = actor.seen
    if seen is None:
        return -np.inf
    row, column = row - seen.top, column - seen.left
    if not (0 <= row < seen.height.shape[0] and 0 <= column < seen.height.shape[1]):
        return -np.inf
    return float(seen.height[row, column])


def _outlines(visible: np.ndarray) -> list[list[int]]:
    """Polygons around the visible pixels, COCO's flat lists of x and y."""
    contours, _ = cv2.findContours(visible.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    return [[int(v) for v in contour.reshape(-1)] for contour in contours if len(contour) >= 3]
