"""What does a COCO-format keypoint file say? Files as they are in the wild, or the reason why not.

Read: COCO, AP-10K (54 categories, names of its own), AnimalPose, CrowdPose (no `area`), crowd regions,
annotations without keypoints or boxes, images that are not there (until somebody asks for them).
Refused, by the annotation's id: numbers that cannot be keypoints, unknown images or categories, file
names that leave the images' folder. Nothing is repaired in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.data.coco_entries import entry_name, image_records, inside, instance, whole
from workbench.data.pose_set import PoseSet
from workbench.records import Skeleton, nearest
from workbench.skeletons import skeleton_for


def read_coco(
    annotations: Path | str, images: Path | str | None = None, category: int | str | None = None
) -> PoseSet:
    """The keypoint data set that a json file describes; its images stay unread.

    Args:
        annotations: the json.
        images: folder of the images; by default the usual places beside the json are tried.
        category: id or name of the one category to read; all that have keypoints by default.

    Raises:
        FileNotFoundError: no such json, or no such folder.
        ValueError: it is no COCO keypoint file; the message names the entry.
        KeyError: no such category.
    """
    path = Path(annotations)
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise ValueError(
            f"{path.name}: expected a COCO annotation file (an object), got {type(raw).__name__};"
            " a list of results is scored with `workbench score`"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(raw.get(key), list):
            raise ValueError(f"{path.name}: expected a list under {key!r}, as COCO keypoint files have it")
    categories = _categories(raw["categories"], path.name, category)
    skeleton = _skeleton(raw, categories, path.name)
    folder = _images_folder(path, None if images is None else Path(images), raw["images"])
    records = image_records(raw["images"], folder, path.name)
    instances = []
    for position, entry in enumerate(raw["annotations"]):
        where = f"{path.name}, annotation {entry_name(entry, position)}"
        if isinstance(entry, dict) and category is not None and entry.get("category_id") not in categories:
            continue  # of another category, perhaps with other keypoints
        found = instance(entry, where, skeleton, records)
        if found is None:
            continue
        if found.category_id not in categories:
            raise ValueError(f"{where}: category {found.category_id} is not among those with keypoints")
        instances.append(found)
    if raw["annotations"] and not any("keypoints" in e for e in raw["annotations"] if isinstance(e, dict)):
        raise ValueError(
            f"{path.name}: expected keypoints, but none of its {len(raw['annotations'])} annotations has any;"
            " COCO keeps them in person_keypoints_*.json, boxes alone in instances_*.json"
        )
    names = {number: entry["name"] for number, entry in categories.items()}
    if category is not None:  # evaluators read the json itself, and must not find the other categories
        kept = [e for e in raw["annotations"] if e.get("category_id") in categories]
        raw = {
            **raw,
            "categories": [e for e in raw["categories"] if e["id"] in categories],
            "annotations": kept,
        }
    return PoseSet(path.stem, skeleton, tuple(instances), records, names, raw, str(path))


def read_json(path: Path) -> Any:
    """The content of a json file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such annotation file")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as reason:  # bad syntax, bad text, numbers or nesting without end
        raise ValueError(f"{path.name}: expected JSON, but {str(reason) or type(reason).__name__}") from None


def _categories(entries: Sequence[Any], where: str, wanted: int | str | None) -> dict[int, Mapping[str, Any]]:
    found: dict[int, Mapping[str, Any]] = {}
    for position, entry in enumerate(entries):
        label = f"{where}, category {entry_name(entry, position)}"
        number = whole(entry, "id", label)
        found[number] = {**entry, "name": str(entry.get("name", number))}
    if not found:
        raise ValueError(f"{where}: expected at least one category, got none")
    if wanted is None:
        return {number: entry for number, entry in found.items() if entry.get("keypoints")} or found
    for number, entry in found.items():
        if wanted in (number, entry["name"], str(number)):
            return {number: entry}
    names = [entry["name"] for entry in found.values()]
    raise KeyError(f"{where}: no category {wanted!r}; nearest: {nearest(str(wanted), names)}")


def _skeleton(raw: Mapping[str, Any], categories: Mapping[int, Mapping[str, Any]], where: str) -> Skeleton:
    lists: dict[tuple[str, ...], list[str]] = {}
    for entry in categories.values():
        names = entry.get("keypoints") or ()
        if not isinstance(names, (list, tuple)):
            raise ValueError(f"{where}, category {entry['name']}: expected a list of keypoint names")
        lists.setdefault(tuple(map(str, names)), []).append(entry["name"])
    if len(lists) > 1:
        kinds = "; ".join(f"{len(names)} keypoints: {', '.join(of[:3])}" for names, of in lists.items())
        raise ValueError(f"{where}: categories speak of different keypoints ({kinds}); choose one category")
    names = next(iter(lists))
    if not names:
        names = _unnamed(raw["annotations"], where)
    limbs = next(iter(categories.values())).get("skeleton") or ()
    pairs = [(a - 1, b - 1) for a, b in _pairs(limbs)]  # COCO counts keypoints from 1
    return skeleton_for(names, pairs)


def _unnamed(entries: Sequence[Any], where: str) -> tuple[str, ...]:
    """Numbers for names, where categories name no keypoints (MP-100's faces); from the longest list."""
    counts = [len(e["keypoints"]) // 3 for e in entries if isinstance(e, Mapping) and e.get("keypoints")]
    if not counts:
        raise ValueError(f"{where}: expected keypoints, but neither categories nor annotations have any")
    return tuple(str(i) for i in range(max(counts)))


def _pairs(limbs: Any) -> list[tuple[int, int]]:
    pairs = limbs if isinstance(limbs, (list, tuple)) else ()
    return [
        (p[0], p[1])
        for p in pairs
        if isinstance(p, (list, tuple)) and len(p) == 2 and all(isinstance(v, int) for v in p)
    ]


def _images_folder(path: Path, images: Path | None, entries: Sequence[Any]) -> Path:
    if images is not None:
        if not images.is_dir():
            raise FileNotFoundError(f"{images}: expected the folder of the images")
        return images
    here = path.parent
    # Beside the json, or where COCO, AP-10K and CrowdPose put them.
    places = (here, here / "images", here.parent / "images", here.parent / "data", here.parent)
    first = next((e["file_name"] for e in entries if isinstance(e, Mapping) and "file_name" in e), None)
    if first is None:
        return here
    return next((p for p in places if inside(p, str(first), path.name).is_file()), here)
