"""Limits of a training pipeline: numbers of its steps before they run, and what each of them returns.

A line of a config can ask for a picture of gigabytes, or for none. Sides and factors are compared with the
limits before any step runs, since a step that enlarges does so at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.training.config_recipe import type_of

MOST_SIDE = 4096
"""Pixels: a network's input has less, and one of 20,000 x 20,000 takes gigabytes."""
_MOST_ENLARGED = 2 * MOST_SIDE
_FURTHEST = 1e6
"""Pixels: no box and no keypoint of a training picture lies as far out."""

# Sides of pictures as mmpose and mmcv name them; `crop_size` may be a share of the picture.
_SIDES = (
    "input_size", "img_scale", "scale", "scales", "size", "crop_size", "size_divisor", "size_factor",
)  # fmt: skip
# Of albumentations: 0 is "as the other end".
_ENDS = ("height", "width", "min_height", "min_width", "max_height", "max_width", "max_size")
# Options that a side is multiplied by, and the steps that have them: elsewhere the words mean a share of a
# box.
_FACTORS = {"Resize": "scale_factor", "RandomResize": "ratio_range", "BottomupResize": "aug_scales"}


def check_numbers(value: Any, where: str, word: str = "") -> None:
    """Refuse numbers of a step that no training has.

    Args:
        value: the step as its config has it, or a part of it.
        where: the step, for the error.
        word: option that the value belongs to.

    Raises:
        ValueError: a number is not finite, or the side of a picture is not above 0 or above `MOST_SIDE`.
    """
    if isinstance(value, Mapping):
        for key, one in value.items():
            check_numbers(one, where, str(key))
    elif isinstance(value, (list, tuple)):
        for one in value:
            check_numbers(one, where, word)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"config: {where}: {word} is {value!r}; expected a finite number")
        if word in (*_SIDES, *_ENDS) and value > MOST_SIDE:
            raise ValueError(f"config: {where}: {word} is {value!r:.30}; expected at most {MOST_SIDE} pixels")
        if (word in _SIDES and value <= 0) or (word in _ENDS and value < 0):
            raise ValueError(f"config: {where}: {word} is {value!r:.30}; expected a number above 0")


def check_enlargement(entries: Sequence[Mapping[str, Any]], shapes: Sequence[tuple[int, int]]) -> None:
    """Refuse a pipeline whose factors together make a picture too large.

    Args:
        entries: the steps, checked by `check_numbers`.
        shapes: (height, width) of the samples' images.

    Raises:
        ValueError: a side times the factors of all steps is more than twice `MOST_SIDE`.
    """
    factors = [(f"{kind}.{word}", max(1.0, *map(abs, given))) for kind, word, given in _factors(entries)]
    largest = max(max(shape) for shape in shapes)
    side = max([largest, *_numbers([_of_sides(one) for one in entries])])
    if any(type_of(one) == "BottomupResize" for one in entries):
        # The shorter side of the image becomes that of the input.
        factors.append(("BottomupResize", max(max(shape) / max(min(shape), 1) for shape in shapes)))
    product = math.prod(factor for _, factor in factors)
    if side * product > _MOST_ENLARGED and product > 1:
        named = max(factors, key=lambda one: one[1])[0]
        raise ValueError(
            f"config: pipeline: {named} enlarges a side of {side:g} pixels {product:g} times; expected at "
            f"most {_MOST_ENLARGED} pixels"
        )


def _factors(value: Any) -> Iterator[tuple[str, str, list[float]]]:
    """Kind, option and numbers of each step that enlarges, steps inside other steps too."""
    if isinstance(value, Mapping):
        kind = type_of(value)
        word = _FACTORS.get(kind, "")
        if word and (given := list(_numbers(value.get(word)))):
            yield kind, word, given
        for one in value.values():
            yield from _factors(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _factors(one)


def _of_sides(value: Any, word: str = "") -> list[Any]:
    """The values of all options that are sides in pixels."""
    if isinstance(value, Mapping):
        return [_of_sides(one, str(key)) for key, one in value.items()]
    if isinstance(value, (list, tuple)):
        return [_of_sides(one, word) for one in value]
    return [value] if word in _SIDES else []


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, (int, float)):
        yield float(value)


def check_results(results: Any) -> None:
    """Refuse what a step returned where no picture, or no place in one, is left.

    Args:
        results: of the step.

    Raises:
        ValueError: the image is not one RGB picture of at most twice `MOST_SIDE`, or the box or a keypoint is
            not finite or lies a million pixels out.
    """
    image = results["img"]
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        shape = f"an array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"expected one picture with three channels, it returned {shape}")
    H, W = image.shape[:2]
    if not (min(H, W) > 0 and max(H, W) <= _MOST_ENLARGED):
        raise ValueError(
            f"it returned a picture of {W}x{H} (width x height); expected 1 to {_MOST_ENLARGED} pixels"
        )
    for name in ("bbox_scale", "bbox_center", "keypoints", "transformed_keypoints"):
        # Keypoints that are not labelled may be nan.
        places = np.asarray(results.get(name, 0.0), float)
        if np.nanmax(np.abs(places), initial=0) > _FURTHEST or not (
            np.isfinite(places).all() or "keypoints" in name
        ):
            raise ValueError(f"it returned a {name} beyond {_FURTHEST:g} pixels")
    if np.asarray(results.get("bbox_scale", 1.0), float).min(initial=1) <= 0:
        raise ValueError("it returned a box without an area")
