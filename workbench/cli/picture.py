"""Keypoints drawn into the pixels of a picture, for files that other programs show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Prediction, Skeleton
from workbench.figures import SIDE_COLOURS, keypoint_colours, side_of

if TYPE_CHECKING:
    from jaxtyping import UInt8

# Sub-pixel positions as OpenCV takes them: fixed point with this many binary digits.
_SHIFT = 4


def drawn(
    image: UInt8[np.ndarray, "H W 3"],
    predictions: Sequence[Prediction],
    skeleton: Skeleton,
    threshold: float,
    thickness: int | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the image with boxes, limbs and keypoints on it.

    Args:
        image: RGB.
        predictions: in pixels of this image.
        skeleton: colours by side and keypoint as in every figure.
        threshold: keypoints with a lower score are left out, and limbs that end at one.
        thickness: of lines, pixels; by the image's size when not given.
    """
    import cv2

    canvas = np.ascontiguousarray(image.copy())
    # One pixel in two hundred of the shorter side is seen at any size and hides little.
    thickness = thickness or max(1, round(min(canvas.shape[:2]) / 200))
    colours = [_rgb(colour) for colour in keypoint_colours(skeleton)]
    line = {"thickness": thickness, "lineType": cv2.LINE_AA, "shift": _SHIFT}
    for found in predictions:
        shown = np.isfinite(found.keypoints).all(1) & (found.scores >= threshold)
        if np.isfinite(found.box).all():
            corners = np.array(found.box).reshape(2, 2)
            cv2.rectangle(
                canvas, _fixed(corners[0]), _fixed(corners[1]), _rgb(SIDE_COLOURS["middle"]), **line
            )
        for a, b in skeleton.limbs:
            if shown[a] and shown[b]:
                sides = {side_of(skeleton.keypoints[k]) for k in (a, b)}
                side = next(iter(sides)) if len(sides) == 1 else "middle"
                ends = _fixed(found.keypoints[a]), _fixed(found.keypoints[b])
                cv2.line(canvas, *ends, _rgb(SIDE_COLOURS[side]), **line)
        for k in np.flatnonzero(shown):
            radius = (2 * thickness) << _SHIFT
            cv2.circle(canvas, _fixed(found.keypoints[k]), radius, colours[k], -1, cv2.LINE_AA, _SHIFT)
    return canvas


def _fixed(point: np.ndarray) -> tuple[int, int]:
    # Far outside the picture nothing is seen, and OpenCV's fixed point overflows.
    x, y = np.clip(point, -(1 << 14), 1 << 14) * (1 << _SHIFT)
    return round(float(x)), round(float(y))


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
