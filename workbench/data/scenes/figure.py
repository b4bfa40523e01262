"""What is a drawn thing made of? Rounded cones in space, materials, and the marks that become keypoints.

Body frame of everything drawn: x forward, y up, z to its own right; the ground is y = 0; lengths in
metres. Left is therefore negative z.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

Point = tuple[float, float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        colour: red, green, blue in 0..1.
        second: colour of the pattern.
        pattern: ``plain``, ``stripes``, ``spots``, ``rosettes``, ``patches``, ``cells``, ``bands`` or
            ``check``.
        scale: size of one repeat of the pattern, metres.
        grain: strength of the fine texture (fur, cloth, bark), 0..1.
        stroke: how much longer than wide a hair or a thread is.
        gloss: strength of the highlight.
        on_body: pattern laid on the whole body instead of along each limb.
        belly: how much lighter the underside is.
    """

    colour: Colour
    second: Colour = (0.0, 0.0, 0.0)
    pattern: str = "plain"
    scale: float = 0.2
    grain: float = 0.15
    stroke: float = 3.0
    gloss: float = 0.0
    on_body: bool = False
    belly: float = 0.0


@dataclass
class Figure:
    """A thing under construction, then drawn; the only mutable record here, filled by one builder.

    Attributes:
        materials: by the index that tubes carry.
        starts, ends: axes of the tubes.
        radii: at start and end, metres.
        material: index per tube.
        along: pattern coordinate at the start of each tube, metres.
        melt: over how much neighbouring tubes run into each other, metres.
        marks: name -> (point, depth): a keypoint and how far below the surface it lies, metres.
    """

    materials: list[Material] = field(default_factory=list)
    starts: list[Point] = field(default_factory=list)
    ends: list[Point] = field(default_factory=list)
    radii: list[tuple[float, float]] = field(default_factory=list)
    material: list[int] = field(default_factory=list)
    along: list[float] = field(default_factory=list)
    marks: dict[str, tuple[Point, float]] = field(default_factory=dict)
    melt: float = 0.012

    def new(self, material: Material) -> int:
        """Index of a material, added."""
        self.materials.append(material)
        return len(self.materials) - 1

    def tube(self, start, end, radius0: float, radius1: float, material: int, along: float = 0.0) -> None:
        """Add a rounded cone."""
        self.starts.append(_point(start))
        self.ends.append(_point(end))
        self.radii.append((float(radius0), float(radius1)))
        self.material.append(material)
        self.along.append(along)

    def chain(self, points, radii, material: int, along: float = 0.0) -> None:
        """Add rounded cones through a row of points, their pattern running on from one to the next."""
        for i in range(len(points) - 1):
            self.tube(points[i], points[i + 1], radii[i], radii[i + 1], material, along)
            along += float(np.linalg.norm(np.subtract(points[i + 1], points[i])))

    def ball(self, centre, radius: float, material: int) -> None:
        """Add a sphere."""
        self.tube(centre, centre, radius, radius, material)

    def mark(self, name: str, point, depth: float) -> None:
        """Name a keypoint that lies `depth` below the surface that shows it."""
        self.marks[name] = (_point(point), float(depth))

    @property
    def height(self) -> float:
        """Top of the figure above the ground, metres."""
        return max(
            max(s[1] + r[0], e[1] + r[1]) for s, e, r in zip(self.starts, self.ends, self.radii, strict=True)
        )


@dataclass(frozen=True)
class View:
    """From body frame to pixels: turned, tilted, scaled, without perspective inside one figure.

    Attributes:
        x, y: pixel of the body's origin on the ground.
        scale: pixels per metre.
        yaw: radians about the vertical; 0 faces right, pi left, -pi/2 the viewer.
        pitch: radians that the camera looks down.
    """

    x: float
    y: float
    scale: float
    yaw: float
    pitch: float = 0.1

    @property
    def turn(self) -> Float[np.ndarray, "3 3"]:
        """Rows: screen right, screen up, towards the viewer."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        about = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ about

    def project(self, points) -> Float[np.ndarray, "n 3"]:
        """Pixel x, pixel y (down) and height towards the viewer in pixels."""
        turned = np.asarray(points, float).reshape(-1, 3) @ self.turn.T * self.scale
        return np.stack([turned[:, 0] + self.x, self.y - turned[:, 1], turned[:, 2]], 1)


def _point(values) -> Point:
    x, y, z = (float(v) for v in values)
    return x, y, z
