"""How do many maps travel at once? As one small PNG, 8 bits a cell, with the range they stand for."""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, UInt8

# A photograph behind keypoints needs no more; keeps a figure of a 4000 px image under 300 kB.
PHOTO_SIDE = 1024


def sprite(
    maps: Float[np.ndarray, "M h w"],
    columns: int = 1,
    span: tuple[float, float] | None = None,
    colours: Sequence[tuple[float, str]] = (),
    transparent: bool = False,
) -> tuple[bytes, float, float]:
    """Many maps as one PNG, and the values of its darkest and brightest step.

    Cell value = low + step / 255 * (high - low), step being the grey level or the palette index; map m
    stands in row m // columns, column m % columns. nan is drawn as low.

    Args:
        maps: any scale.
        columns: maps side by side; 1 makes a strip that a canvas cuts without knowing M.
        span: (low, high) when several sprites share a scale; the finite extremes of the maps otherwise.
        colours: a colour scale such as SEQUENTIAL; grey when empty. A palette costs no further bytes.
        transparent: with `colours`, low steps fade out so that an image below shows through.

    Raises:
        ValueError: no map, or maps of other than three axes.
    """
    from PIL import Image

    maps = np.asarray(maps, np.float32)
    if maps.ndim != 3 or not maps.size:
        raise ValueError(f"sprite: expected maps of shape (M, h, w), got {maps.shape}")
    steps, low, high = quantised(maps, span)
    M, h, w = steps.shape
    rows = math.ceil(M / columns)
    sheet = np.zeros((rows * columns, h, w), np.uint8)
    sheet[:M] = steps
    sheet = sheet.reshape(rows, columns, h, w).swapaxes(1, 2).reshape(rows * h, columns * w)
    image = Image.fromarray(sheet)
    extra = {}
    if colours:
        image = image.convert("P")  # keeps the steps as indices
        image.putpalette(palette(colours).tobytes())
        if transparent:
            extra["transparency"] = _fade().tobytes()
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, **extra)
    return file.getvalue(), low, high


def quantised(
    maps: Float[np.ndarray, "*s"], span: tuple[float, float] | None = None
) -> tuple[UInt8[np.ndarray, "*s"], float, float]:
    """Values as 8-bit steps, and the values of steps 0 and 255."""
    finite = maps[np.isfinite(maps)]
    low, high = span or ((float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0))
    width = high - low if high > low else 1.0
    steps = np.nan_to_num((np.asarray(maps, np.float32) - low) / width, nan=0.0).clip(0, 1) * 255
    return steps.round().astype(np.uint8), low, high


def palette(colours: Sequence[tuple[float, str]]) -> UInt8[np.ndarray, "256 3"]:
    """A colour scale at 256 even steps, red green blue."""
    places = [place for place, _ in colours]
    channels = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for _, c in colours], float)
    steps = np.linspace(0, 1, 256)
    return np.stack([np.interp(steps, places, c) for c in channels.T], 1).round().astype(np.uint8)


def _fade() -> UInt8[np.ndarray, "256"]:
    # Full opacity from a third of the range on, so that second modes stay visible, which are what a reader
    # looks for; below, the image shows through.
    return (np.linspace(0, 3, 256).clip(0, 1) * 230).astype(np.uint8)


def image_data_uri(
    image: UInt8[np.ndarray, "H W 3"] | bytes, side: int = PHOTO_SIDE, quality: int = 85
) -> str:
    """An image as a ``data:`` address for figures and pages.

    Args:
        image: RGB pixels, sent as JPEG no larger than `side`; or the bytes of a PNG, sent as they are.
        side: longest side in pixels; larger images are reduced, their coordinates in figures are not.
        quality: of the JPEG, 1 to 95.
    """
    if isinstance(image, bytes):
        return "data:image/png;base64," + base64.b64encode(image).decode()
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
