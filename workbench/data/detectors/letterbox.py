"""How is an image made to fit a detector? Scaled as a whole into the top left corner, grey beyond."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.core.geometry import Box

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

# The grey that RTMDet and YOLOX were trained with around their images.
_GREY = 114


def letterboxed(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """The image within a (height, width) frame, and the factor by which it was scaled."""
    import cv2

    ratio = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = max(int(image.shape[0] * ratio), 1), max(int(image.shape[1] * ratio), 1)
    framed = np.full((*size, 3), _GREY, np.uint8)
    framed[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return framed, ratio


def boxes_in_image(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"], ratio: float, shape: tuple[int, ...]
) -> list[tuple[Box, float]]:
    """Boxes of the frame in pixels of the image, clipped to it, best first; those of no size left out."""
    boxes = np.asarray(boxes, float) / ratio
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, shape[1])
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, shape[0])
    found = []
    for i in np.argsort(-np.asarray(scores, float), kind="stable"):
        x0, y0, x1, y1 = (float(v) for v in boxes[i])
        if x1 > x0 and y1 > y0:
            found.append(((x0, y0, x1, y1), float(scores[i])))
    return found


def without_overlaps(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"], overlap: float
) -> list[int]:
    """Indices of the boxes that survive greedy non-maximum suppression, best first.

    A box is dropped when its intersection over union with a better one is above `overlap`.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        common = np.clip(high - low, 0, None).prod(1)
        order = order[common <= overlap * (area[best] + area[order] - common)]
    return kept
