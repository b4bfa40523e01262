"""Geometry of crops: from boxes to crops, the affine maps between image and input pixels, their inverses.

Sources: mmpose 1.3.2 datasets/transforms/topdown_transforms.py (TopdownAffine),
structures/bbox/transforms.py (get_warp_matrix, get_udp_warp_matrix).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

Box = tuple[float, float, float, float]

# What xtcocotools takes for sets without `area` (CrowdPose, AIC): this part of the box's area.
# Source: xtcocotools 1.14.3 cocoeval.py, computeOks and evaluateImg, use_area=False.
BOX_SHARE = 0.53


def checked_box(box: Box, where: str = "box") -> Box:
    """The box itself.

    Args:
        box: (x0, y0, x1, y1), image pixels.
        where: what the box is, for the error.

    Raises:
        ValueError: it has no size or holds a number that is not finite.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    if not np.isfinite([x0, y0, x1, y1]).all() or x1 <= x0 or y1 <= y0:
        raise ValueError(
            f"{where}: expected x0 < x1 and y0 < y1 in pixels, got ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        )
    return x0, y0, x1, y1


def iou(a: Float[np.ndarray, "*n 4"], b: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
    """Intersection over union of boxes; 0 where they do not meet, have no size, or one is nan.

    Args:
        a: (x0, y0, x1, y1), pixels.
        b: of the same form; the two are broadcast: boxes[:, None] and boxes[None] give each with each.

    Example:
        >>> float(iou(np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2])).round(3))
        0.333
    """
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return np.nan_to_num(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def crop_region(
    box: Box, input_size: tuple[int, int], padding: float = 1.25
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """Centre and size (x, y) in image pixels of the crop for a box, widened to the input's aspect.

    Args:
        box: (x0, y0, x1, y1) in image pixels.
        input_size: (height, width) of the network's input.
        padding: factor on the box; 1.25 in mmpose.
    """
    # In float32, as mmpose computes them: only then are crops the same to the last pixel.
    x0, y0, x1, y1 = np.array(checked_box(box), np.float32)
    centre = np.array([x0 + x1, y0 + y1], np.float32) * np.float32(0.5)
    width, height = np.array([x1 - x0, y1 - y0], np.float32) * np.float32(padding)
    aspect = np.float32(input_size[1] / input_size[0])
    size = [width, width / aspect] if width > height * aspect else [height * aspect, height]
    return centre.astype(float), np.array(size, float)


def input_to_image(
    centre: Float[np.ndarray, " 2"],
    size: Float[np.ndarray, " 2"],
    input_size: tuple[int, int],
    udp: bool = False,
) -> Float[np.ndarray, "2 3"]:
    """Affine map from input pixels to image pixels for an upright crop.

    Plain: image = input / input_size * size + centre - size / 2, as mmpose decodes.
    UDP: the outermost pixel centres of the input span the crop: input / (input_size - 1) * size + ...

    Args:
        centre: (x, y) of the crop, image pixels.
        size: (width, height) of the crop, image pixels.
        input_size: (height, width) of the input, pixels.
        udp: crops whose outermost pixel centres span the box.
    """
    H, W = input_size
    span = np.array([W - 1, H - 1] if udp else [W, H], float)
    scale = np.asarray(size, float) / span
    shift = np.asarray(centre, float) - np.asarray(size, float) * 0.5
    return np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])


def warp_matrix(
    centre: Float[np.ndarray, " 2"],
    size: Float[np.ndarray, " 2"],
    input_size: tuple[int, int],
    udp: bool = False,
) -> Float[np.ndarray, "2 3"]:
    """Affine map from image pixels to input pixels, rounded exactly as mmpose rounds it.

    It is the inverse of `input_to_image` up to that rounding. The plain one scales both axes by the
    ratio of the widths, so the crop must have the input's aspect, as `crop_region` makes it.

    Args:
        centre: (x, y) of the crop, image pixels.
        size: (width, height) of the crop, image pixels.
        input_size: (height, width) of the input, pixels.
        udp: crops whose outermost pixel centres span the box.
    """
    H, W = input_size
    (cx, cy), (width, height) = np.asarray(centre, np.float32), np.asarray(size, np.float32)
    half = np.float32(0.5)
    if udp:
        scale_x, scale_y = np.float32(W - 1) / width, np.float32(H - 1) / height
        shift_x, shift_y = scale_x * (half * width - cx), scale_y * (half * height - cy)
        return np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y]], np.float32)
    import cv2

    left = cx - half * width
    # Three corners of a right angle: the centre, the middle of the left side, and a point below it.
    source = np.array([[cx, cy], [left, cy], [left, cy + (cx - left)]], np.float32)
    target = np.array([[W * 0.5, H * 0.5], [0, H * 0.5], [0, H * 0.5 + W * 0.5]], np.float32)
    return cv2.getAffineTransform(source, target)


def crop(
    image: UInt8[np.ndarray, "H W 3"],
    centre: Float[np.ndarray, " 2"],
    size: Float[np.ndarray, " 2"],
    input_size: tuple[int, int],
    udp: bool = False,
) -> UInt8[np.ndarray, "h w 3"]:
    """The crop a top-down network sees: bilinear, black outside the image; equal to mmpose's pixel for pixel.

    Args:
        image: any channel order.
        centre: (x, y) of the crop in image pixels, from `crop_region`.
        size: (width, height) of the crop in image pixels, from `crop_region`.
        input_size: (height, width) of the network's input.
        udp: outermost pixel centres of the input span the crop.
    """
    import cv2

    H, W = input_size
    matrix = warp_matrix(centre, size, input_size, udp)
    return cv2.warpAffine(np.ascontiguousarray(image), matrix, (W, H), flags=cv2.INTER_LINEAR)


def inverse(affine: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """The affine map back."""
    linear = np.linalg.inv(affine[:, :2])
    return np.concatenate([linear, -linear @ affine[:, 2:]], 1)


def apply(affine: Float[np.ndarray, "2 3"], points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """Points mapped by an affine; nan stays nan.

    Args:
        affine: from one frame to another.
        points: (x, y) in the first frame.
    """
    points = np.asarray(points, float)
    return points @ affine[:, :2].T + affine[:, 2]
