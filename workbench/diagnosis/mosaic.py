"""Images as a sensor gives them: one colour in each pixel, in cells of 2 x 2 pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

# Means of the four places of a cell differ by this share of their mean where each shows one colour alone;
# in photographs and drawings by a few hundredths.
APART = 0.3
# Share of each colour in the luma, Rec. 601: what a pixel that shows one colour alone has of it.
RED, GREEN, BLUE = 0.299, 0.587, 0.114


def is_mosaic(image: UInt8[np.ndarray, "H W 3"]) -> bool:
    """Whether each pixel shows one colour alone, as a sensor with a Bayer filter gives it."""
    if min(image.shape[:2]) < 4:
        return False
    means = _means(_luma(image))
    return bool(np.ptp(means) >= APART * max(float(means.mean()), 1.0))


def interpolated(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image with every colour in every pixel, from the nearest ones that show it.

    Green has the largest share of the luma and stands on a diagonal of each cell; of the two others red has
    more than blue. So the luma alone tells the places, also where a JPEG has mixed the colours of a cell.
    """
    import cv2

    luma = _luma(image)
    H, W = luma.shape
    means = _means(luma).reshape(2, 2)
    diagonals = (((0, 0), (1, 1)), ((0, 1), (1, 0)))
    green, others = sorted(diagonals, key=lambda places: -sum(means[place] for place in places))
    red, blue = sorted(others, key=lambda place: -means[place])

    def whole(place: tuple[int, int], share: float) -> Float[np.ndarray, "H W"]:
        cells = luma[place[0] :: 2, place[1] :: 2] / share
        return cv2.resize(cells, (W, H), interpolation=cv2.INTER_LINEAR)

    level = (whole(green[0], GREEN) + whole(green[1], GREEN)) / 2
    made = np.stack([whole(red, RED), level, whole(blue, BLUE)], -1)
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


def _luma(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    return (image @ np.array([RED, GREEN, BLUE])).astype(np.float32)


def _means(luma: Float[np.ndarray, "H W"]) -> Float[np.ndarray, " 4"]:
    """Of the four places of a cell of 2 x 2 pixels, row by row."""
    return np.array([luma[i::2, j::2].mean() for i in (0, 1) for j in (0, 1)])
