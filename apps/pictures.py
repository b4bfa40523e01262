"""Images as the browser shows them: no larger than a screen, and small cut-outs for lists."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import UInt8

LONGEST = 1024
"""Longest side of a shown image, pixels."""

THUMB = 96
"""Side of a cut-out, pixels."""

# Context around the box in a cut-out: what an animal stands on helps to recognise the picture.
MARGIN = 1.2


def shown_scale(width: int, height: int) -> float:
    """Shown pixels per original pixel."""
    return min(1.0, LONGEST / max(width, height, 1))


def jpeg(pixels: UInt8[np.ndarray, "H W 3"], quality: int = 88) -> tuple[bytes, float]:
    """The image as JPEG no larger than LONGEST, and its scale."""
    import cv2

    height, width = pixels.shape[:2]
    scale = shown_scale(width, height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return encoded(pixels, quality), scale


def cut_out(pixels: UInt8[np.ndarray, "H W 3"], box: tuple[float, float, float, float]) -> bytes:
    """The square around a box as a THUMB x THUMB JPEG; what lies outside the image is grey."""
    import cv2

    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0, 1.0) * MARGIN
    scale = THUMB / side
    left, top = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    # Cut before resizing: the cost is the box's size and not the photograph's.
    u0, v0 = max(0, int(left)), max(0, int(top))
    u1, v1 = min(width, int(left + side) + 1), min(height, int(top + side) + 1)
    canvas = np.full((THUMB, THUMB, 3), 128, np.uint8)
    if u1 > u0 and v1 > v0:
        size = (max(1, round((u1 - u0) * scale)), max(1, round((v1 - v0) * scale)))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        part = cv2.resize(np.ascontiguousarray(pixels[v0:v1, u0:u1]), size, interpolation=way)
        column, row = max(0, round((u0 - left) * scale)), max(0, round((v0 - top) * scale))
        part = part[: THUMB - row, : THUMB - column]
        canvas[row : row + part.shape[0], column : column + part.shape[1]] = part
    return encoded(canvas, 80)


def encoded(pixels: np.ndarray, quality: int) -> bytes:
    """The pixels as a JPEG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    return file.getvalue()
