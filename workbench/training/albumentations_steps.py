"""The transforms of albumentations that mmpose's recipes use, as functions of a pipeline's results.

albumentations calls any function by name, so a config of others is not given to it. Source: albumentations
1.3.1 augmentations/dropout/coarse_dropout.py, augmentations/blur/transforms.py; probabilities and sizes as
there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from workbench.training.config_recipe import type_of

Results = dict[str, Any]
"""What one step of a pipeline hands to the next."""

Step = tuple[str, Callable[[Results], Results]]
"""Name and function of a step."""


def albumentations_steps(entry: Mapping[str, Any], left_out: list[str]) -> list[Step]:
    """Name and function of each transform of an ``Albumentation`` step.

    Args:
        entry: of a pipeline.
        left_out: gets a line for each transform that is not done here.

    Raises:
        ValueError: an option of a transform cannot be used.
    """
    made: list[Step] = []
    transforms = entry.get("transforms")
    for one in transforms if isinstance(transforms, (list, tuple)) else ():
        kind = type_of(one)
        try:
            make = TRANSFORMS.get(kind)
            if make is None:
                left_out.append(f"Albumentation {kind}: only {', '.join(TRANSFORMS)} are done here")
            else:
                made.append((kind, make(dict(one))))
        except (TypeError, ValueError, LookupError, ArithmeticError) as reason:
            raise ValueError(f"config: Albumentation {kind} cannot be used: {reason}") from None
    return made


def _generator() -> np.random.Generator:
    """A generator that follows the global one, which the draw has seeded."""
    return np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002


def _chance(options: Mapping[str, Any]) -> float:
    p = float(options.get("p", 0.5))
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected 0 to 1, got {p:g}")
    return p


def _blur(options: Mapping[str, Any]) -> Callable[[Results], Results]:
    p, sizes, median = _chance(options), _odd_sizes(options), type_of(options) == "MedianBlur"

    def blur(results: Results) -> Results:
        import cv2

        generator = _generator()
        if generator.random() < p:
            side = int(generator.choice(sizes))
            image = results["img"]
            results["img"] = cv2.medianBlur(image, side) if median else cv2.blur(image, (side, side))
        return results

    return blur


def _odd_sizes(options: Mapping[str, Any]) -> list[int]:
    limit = options.get("blur_limit", 7)
    ends = (3, limit) if isinstance(limit, (int, float)) else limit
    if len(ends) != 2:
        raise ValueError(f"blur_limit: expected a number or two, got {limit!r:.50}")
    low, high = map(int, ends)
    sizes = [side for side in range(max(low, 3), min(high, 99) + 1) if side % 2]
    if not sizes:
        raise ValueError(f"blur_limit: expected odd sides from 3, got {limit!r:.50}")
    return sizes


def _coarse_dropout(options: Mapping[str, Any]) -> Callable[[Results], Results]:
    p = _chance(options)
    most = min(int(options.get("max_holes", 8)), 1000)
    least = int(options.get("min_holes") or most)
    tall, wide = options.get("max_height", 8), options.get("max_width", 8)
    short, narrow = options.get("min_height") or tall, options.get("min_width") or wide

    def side(generator: np.random.Generator, low: Any, high: Any, whole: int) -> int:
        # Whole numbers are pixels, fractions are shares of the image.
        ends = [int(v * whole) if isinstance(v, float) else int(v) for v in (low, high)]
        return min(int(generator.integers(min(ends), max(ends) + 1)), whole)

    def drop(results: Results) -> Results:
        generator = _generator()
        if generator.random() >= p:
            return results
        image = results["img"].copy()
        H, W = image.shape[:2]
        holes = []
        for _ in range(int(generator.integers(min(least, most), most + 1))):
            h, w = side(generator, short, tall, H), side(generator, narrow, wide, W)
            y, x = int(generator.integers(H - h + 1)), int(generator.integers(W - w + 1))
            image[y : y + h, x : x + w] = options.get("fill_value", 0)
            holes.append((x, y, x + w, y + h))
        return {**results, "img": image, "holes": [*results["holes"], *holes]}

    return drop


TRANSFORMS: dict[str, Callable[[Mapping[str, Any]], Callable[[Results], Results]]] = {
    "Blur": _blur,
    "MedianBlur": _blur,
    "CoarseDropout": _coarse_dropout,
}
