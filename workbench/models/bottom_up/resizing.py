"""How does a whole image become a network's input, and where does an input pixel lie in the image?

Three rules, each as its source has it. ``align``: the short side takes the input size, the long side is
rounded up to a multiple, and the affine scales both axes by the ratio of the widths around a rounded centre:
the input then shows more than the image. ``expand`` and ``fit`` are mmpose's.

Sources: HRNet/HigherHRNet-Human-Pose-Estimation@aa23881:lib/utils/transforms.py (get_multi_scale_size,
resize_align_multi_scale); mmpose 1.3.2 datasets/transforms/bottomup_transforms.py (BottomupResize).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.core import checked_area, geometry

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

Rule = Literal["align", "expand", "fit"]

# Boxes are in units of this many pixels in the source; dividing and multiplying again rounds, and so do we.
_PIXELS = 200.0


@dataclass(frozen=True)
class Resizing:
    """Where the input of one image at one scale lies.

    Attributes:
        size: (height, width) of the input, pixels.
        centre: (x, y) in image pixels of the input's centre.
        extent: (width, height) in image pixels that the input shows, beyond the image's borders included.
        rule: which affine belongs to it.
    """

    size: tuple[int, int]
    centre: tuple[float, float]
    extent: tuple[float, float]
    rule: Rule = "align"

    def __post_init__(self) -> None:
        # A thin image makes a long input: its short side takes the input size.
        checked_area(self.size, "an input")

    def apply(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The input: bilinear, black outside the image; equal to the source's pixel for pixel."""
        import cv2

        H, W = self.size
        if self.rule != "align":
            matrix = geometry.warp_matrix(np.array(self.centre), np.array(self.extent), self.size)
        else:
            # The centre, a point above it, and one to the left of that: the source's corners, in its float32.
            x, y = np.array(self.centre, np.float32)
            above = np.float32(self.centre[1] - self.extent[0] * 0.5)
            source = np.array([[x, y], [x, above], [x - (y - above), above]], np.float32)
            target = np.array([[W * 0.5, H * 0.5], [W * 0.5, H * 0.5 - W * 0.5], [0, H * 0.5 - W * 0.5]])
            matrix = cv2.getAffineTransform(source, target.astype(np.float32))
        return cv2.warpAffine(np.ascontiguousarray(image), matrix, (W, H), flags=cv2.INTER_LINEAR)

    def to_image(self, cells: tuple[int, int] | None = None) -> Float[np.ndarray, "2 3"]:
        """Affine map to image pixels from the input's pixels, or from a map's cells.

        The pixel or cell coordinate 0 is the outer edge of the first one here: grouping gives the centre of
        the first cell as (.5, .5).

        Args:
            cells: (h, w) of a map over the whole input.
        """
        h, w = cells or self.size
        if self.rule != "align":
            return geometry.input_to_image(np.array(self.centre), np.array(self.extent), (h, w))
        # One ratio for both axes, that of the widths, as the affine to the input has it.
        ratio = self.extent[0] / w
        x, y = self.centre
        return np.array([[ratio, 0, x - ratio * w * 0.5], [0, ratio, y - ratio * h * 0.5]])


def resizing(
    image: tuple[int, int],
    input_size: int | tuple[int, int],
    scale: float = 1.0,
    least_scale: float = 1.0,
    rule: Rule = "align",
    multiple: int = 64,
) -> Resizing:
    """Where the input of an image at one scale lies.

    Args:
        image: (height, width), pixels.
        input_size: of the short side at scale 1; (height, width) for the other rules, which want both.
        scale: of this input.
        least_scale: the smallest of all scales used together: sizes are rounded at it, so that the others
            are exact multiples.
        rule: see the module.
        multiple: what sides are rounded up to.

    Raises:
        ValueError: no pixels, a size or scale that is not above 0, a size that ``fit`` cannot use, or an
            input of more pixels than `checked_area` takes.
    """
    h, w = image
    short = min(input_size) if isinstance(input_size, tuple) else input_size
    if min(h, w) < 1 or short < 1 or scale <= 0 or least_scale <= 0:
        raise ValueError(
            f"resizing: expected an image, an input size and scales above 0, got {w} x {h} pixels, "
            f"{input_size} and {scale:g}"
        )
    if rule != "align":
        both = input_size if isinstance(input_size, tuple) else (input_size, input_size)
        return _mmpose(image, both, scale, rule, multiple)
    short = _up(least_scale * short, multiple)
    long = _up(short / min(w, h) * max(w, h), multiple)
    low, high = int(short * scale / least_scale), int(long * scale / least_scale)
    centre = float(int(w / 2.0 + 0.5)), float(int(h / 2.0 + 0.5))
    if w < h:
        extent = w / _PIXELS * _PIXELS, high / low * w / _PIXELS * _PIXELS
        return Resizing((high, low), centre, extent)
    extent = high / low * h / _PIXELS * _PIXELS, h / _PIXELS * _PIXELS
    return Resizing((low, high), centre, extent)


def _up(length: float, multiple: int) -> int:
    # Through integers as the source does: 512.5 is rounded up to 512, not to 576.
    return int((length + multiple - 1) // multiple * multiple)


def _mmpose(
    image: tuple[int, int], size: tuple[int, int], scale: float, rule: Rule, multiple: int
) -> Resizing:
    h, w = image
    asked = [side if scale == 1 else int(side * scale) for side in size]
    H, W = (math.ceil(side / multiple) * multiple for side in asked)
    if rule == "fit" and asked != [H, W]:
        raise ValueError(f"input size: fit needs multiples of {multiple}, got {asked[1]} x {asked[0]}")
    pick = min if rule == "fit" else max
    width, height = pick(W, H * (w / h)), pick(H, W / (w / h))
    if rule == "expand":
        H, W = (math.ceil(side / multiple) * multiple for side in (height, width))
    extent = np.array([w * W / width, h * H / height], np.float32)
    return Resizing((H, W), (w / 2, h / 2), (float(extent[0]), float(extent[1])), rule)
