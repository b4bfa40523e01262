"""Where do the map's cells lie in the image? Measured against the truth: inverse affine, stride and offset.

Keypoints of found people are compared with those of the annotated ones, in pixels of the network's input, and
one scale and one offset for each axis are fitted over all images. A healthy model has scale 1 and offset 0; a
wrong stride, a lost half cell or maps that a script stretched over the image have not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.geometry import apply, inverse
from workbench.decoding.grouping.left_right import nearest_people

if TYPE_CHECKING:
    from jaxtyping import Float

# Strides that are mistaken for one another: by one or two halvings.
_FACTORS = (1.0, 0.5, 2.0, 0.25, 4.0)
# A fit with fewer keypoints proves nothing.
_LEAST = 12
# Input pixels and standard errors that a correction must exceed; less is the network's own inaccuracy.
_LEAST_SHIFT, _ERRORS = 0.5, 5.0
_ROUNDS = 8
# A keypoint is read as this person's where it lies within so much of the person's size.
_NEAR = 0.5


@dataclass(frozen=True)
class Placing:
    """What takes found keypoints to where they are annotated, input pixels: scale * x + offset.

    Attributes:
        scale: along x and y.
        offset: along x and y, input pixels.
        shift: how far this moves keypoints, root mean square, input pixels.
        error: of that, standard error of the fit.
        keypoints: that were compared.
        needed: it is more than the network's own inaccuracy; otherwise nothing is corrected.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    shift: float = 0.0
    error: float = float("nan")
    keypoints: int = 0
    needed: bool = False

    def __call__(self, points: Float[np.ndarray, "*s 2"]) -> Float[np.ndarray, "*s 2"]:
        return points * np.array(self.scale) + np.array(self.offset) if self.needed else points

    def text(self) -> str:
        """In words."""
        if not self.needed:
            return f"scale 1 and offset 0 fit {self.keypoints} keypoints"
        (sx, sy), (ox, oy) = self.scale, self.offset
        return (
            f"found keypoints lie where they should after scaling by {sx:.3f} x {sy:.3f} and moving by "
            f"{ox:+.1f}, {oy:+.1f} input pixels ({self.shift:.1f} on average, {self.keypoints} keypoints)"
        )

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "scale": self.scale, "offset": self.offset, "shift": self.shift, "standard_error": self.error,
            "keypoints": self.keypoints, "needed": self.needed, "text": self.text(),
        }  # fmt: skip


def fitted(
    found: Sequence[Float[np.ndarray, "P K 2"]], true: Sequence[Float[np.ndarray, "Q K 2"]]
) -> Placing:
    """The scale and offset that suit all images best.

    Args:
        found: people of each image, input pixels; nan where a keypoint is missing.
        true: annotated ones, likewise.
    """
    best: tuple[np.ndarray, np.ndarray] | None = None
    for factor in _FACTORS:
        pairs = _paired([people * factor for people in found], true)
        if best is None or len(pairs[0]) > len(best[0]):
            best = pairs[0] / factor, pairs[1]
    assert best is not None  # there are factors
    ours, theirs = best
    if len(ours) < _LEAST:
        return Placing(keypoints=len(ours))
    axes = [_line(ours[:, i], theirs[:, i]) for i in (0, 1)]
    moved = np.stack([a * ours[:, i] + b - ours[:, i] for i, (a, b, _) in enumerate(axes)], -1)
    shift = float(np.sqrt((moved**2).sum(-1).mean()))
    error = float(np.hypot(axes[0][2], axes[1][2]))
    needed = shift > max(_LEAST_SHIFT, _ERRORS * error)
    return Placing((axes[0][0], axes[1][0]), (axes[0][1], axes[1][1]), shift, error, len(ours), bool(needed))


def _paired(
    found: Sequence[Float[np.ndarray, "P K 2"]], true: Sequence[Float[np.ndarray, "Q K 2"]]
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of the same person that lie near each other."""
    ours, theirs = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for people, annotated in zip(found, true, strict=True):
        own = nearest_people(people, annotated)
        for q in np.flatnonzero(own >= 0):
            a, b = people[own[q]], annotated[q]
            size = np.nanmax(b, 0) - np.nanmin(b, 0)
            with np.errstate(invalid="ignore"):
                near = np.linalg.norm(a - b, axis=-1) < _NEAR * size.max()
            ours.append(a[near])
            theirs.append(b[near])
    return np.concatenate(ours), np.concatenate(theirs)


def _line(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Y = a x + b through most of the points; and the standard error of a x + b at their middle."""
    weights = np.ones(len(x), bool)
    a, b, spread = 1.0, float(np.median(y - x)), 0.0
    for _ in range(_ROUNDS):
        middle = x[weights].mean()
        design = np.stack([x[weights] - middle, np.ones(weights.sum())], 1)
        (a, height), *_ = np.linalg.lstsq(design, y[weights], rcond=None)
        b = height - a * middle
        away = np.abs(y - a * x - b)
        # Left and right exchanged, or a keypoint of somebody else, must not count.
        spread = 1.4826 * float(np.median(away[weights]))
        kept = away <= max(3 * spread, 1e-6)
        if kept.sum() < _LEAST or (kept == weights).all():
            break
        weights = kept
    return float(a), float(b), spread / float(np.sqrt(weights.sum()))


def in_input(points: Float[np.ndarray, "*s 2"], to_image: Float[np.ndarray, "2 3"]) -> np.ndarray:
    """Image pixels as pixels of the input."""
    return apply(inverse(to_image), points)
