"""Boxes for single pictures out of a COCO detection file, which knows pictures by number only."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.geometry import Box, checked_box
from workbench.data.coco import read_json

if TYPE_CHECKING:
    from workbench.cli.pictures import Picture


def boxes_by_number(path: Path, least: float = 0.0) -> Callable[[Picture], list[tuple[Box, float]]]:
    """Boxes of the picture whose file name ends in the detection's image_id: ``000000000785.jpg`` is 785.

    Args:
        path: json list of detections, as COCO's person detectors are published.
        least: score below which a box is left out: such files hold boxes down to nearly 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no detection file; from the function, a picture whose name holds no number.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path.name}: expected a list of detections, got an object")
    by_image: dict[int, list[tuple[Box, float]]] = defaultdict(list)
    for position, entry in enumerate(entries):
        image_id, found = _entry(entry, f"{path.name}, detection {position}")
        if found[1] >= least:
            by_image[image_id].append(found)

    def boxes(picture: Picture) -> list[tuple[Box, float]]:
        digits = re.search(r"(\d+)$", picture.path.stem)
        if digits is None:
            raise ValueError(
                f"{picture.path.name}: its name ends in no number, so {path.name} cannot know it"
            )
        return by_image.get(int(digits[1]), [])

    return boxes


def _entry(entry: Any, where: str) -> tuple[int, tuple[Box, float]]:
    try:
        x, y, width, height = (float(v) for v in entry["bbox"])
        image_id, score = int(entry["image_id"]), float(entry["score"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: expected image_id, bbox of 4 numbers and score") from None
    return image_id, (checked_box((x, y, x + width, y + height), f"{where}: bbox"), score)
