"""COCO-WholeBody: five lists of keypoints in one annotation, of which any can be the data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.core import Skeleton
from workbench.skeletons import SKELETONS

# The parts of a COCO-WholeBody annotation: key, keypoints, in the order of the 133.
# Source: mmpose 1.3.2 datasets/datasets/wholebody/coco_wholebody_dataset.py, parse_data_info.
PARTS: dict[str, tuple[str, int]] = {
    "body": ("keypoints", 17),
    "foot": ("foot_kpts", 6),
    "face": ("face_kpts", 68),
    "lefthand": ("lefthand_kpts", 21),
    "righthand": ("righthand_kpts", 21),
}
WHOLE = "wholebody"


def part_places(part: str) -> range:
    """Where the keypoints of a part lie among the 133.

    Raises:
        ValueError: no such part.
    """
    if part == WHOLE:
        return range(sum(count for _, count in PARTS.values()))
    start = 0
    for name, (_, count) in PARTS.items():
        if name == part:
            return range(start, start + count)
        start += count
    raise ValueError(f"part {part!r}: expected {WHOLE}, {', '.join(PARTS)}")


def part_skeleton(part: str) -> Skeleton:
    """The keypoints of a part with their sigmas; mirrored only where the partners are of the same part."""
    known = SKELETONS["coco-wholebody-133"]
    places = part_places(part)
    if part == WHOLE:
        return known
    start = places.start
    mirror = [known.mirror[k] for k in places]
    return Skeleton(
        name=f"coco-wholebody-{part}-{len(places)}",
        keypoints=tuple(known.keypoints[k] for k in places),
        limbs=tuple((a - start, b - start) for a, b in known.limbs if a in places and b in places),
        mirror=tuple(k - start for k in mirror) if all(k in places for k in mirror) else (),
        sigmas=tuple(known.sigmas[k] for k in places),
        source=known.source,
    )


def keypoints_of_part(entry: Mapping[str, Any], part: str, where: str) -> list[Any]:
    """The flat triples of a part, out of an annotation or a result with ``foot_kpts`` and so on.

    Raises:
        ValueError: one is absent or has another length.
    """
    found: list[Any] = []
    for key, count in PARTS.values() if part == WHOLE else (PARTS[part],):
        values = flat(entry.get(key))
        if not isinstance(values, list) or len(values) not in (0, 3 * count):
            got = len(values) if isinstance(values, list) else type(values).__name__
            raise ValueError(f"{where}: {key}: expected {3 * count} numbers, got {got}")
        found += values or [0.0] * (3 * count)
    return found


def flat(keypoints: Any) -> Any:
    """Nested triples as one list; anything else as it is."""
    nested = isinstance(keypoints, list) and all(isinstance(p, list) and len(p) == 3 for p in keypoints)
    return [value for triple in keypoints for value in triple] if nested and keypoints else keypoints


def part_of(annotations: Path | str, part: str | None = None) -> tuple[Path, str | None]:
    """The file and the part of COCO-WholeBody that ``val.json#face`` names."""
    path = Path(annotations)
    stem, mark, named = path.name.rpartition("#")
    if mark and named in (WHOLE, *PARTS) and not path.exists():
        return path.with_name(stem), part or named
    return path, part
