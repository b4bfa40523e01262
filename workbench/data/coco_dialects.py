"""Variants of the COCO keypoint format, converted into COCO's own form.

Read: ids that are text, absent ``category_id`` or ``categories``, keypoints as nested triples (RHD), empty
keypoint lists, visibility as a score, boxes as ``center`` and ``scale`` (WFLW, 300W), the parts of
COCO-WholeBody, and the lists of AI Challenger (AIC). Each conversion is one sentence in the notes of the set;
a file with two possible readings is refused.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.core import ReadingNote, Skeleton
from workbench.core.report import counted
from workbench.data.coco_entries import entry_name, numbers
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
    """The indices of the keypoints of a part among the 133.

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
    """The skeleton of a part, with sigmas; mirror pairs only where both keypoints belong to the part."""
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
    """The keypoints of a part as a flat list x, y, visibility, ...

    Args:
        entry: an annotation or a result with ``foot_kpts`` and so on.
        part: name in `PARTS`, or `WHOLE`.
        where: file and entry, for messages.

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
    """Nested triples as one flat list; any other value unchanged."""
    nested = isinstance(keypoints, list) and all(isinstance(p, list) and len(p) == 3 for p in keypoints)
    return [value for triple in keypoints for value in triple] if nested and keypoints else keypoints


def without_blanks(keypoints: list[Any]) -> list[Any]:
    """A flat list with 0, 0, 0 for unlabelled keypoints that have null or nan; the same list without any.

    Keypoints that are labelled and have no place stay as they are.
    """
    try:
        total = sum(keypoints)
        if total == total:
            return keypoints
    except TypeError:  # null, or numbers as text
        if None not in keypoints:
            return keypoints
    found = list(keypoints)
    for start in range(0, len(found) - 2, 3):
        triple = found[start : start + 3]
        if any(_is_blank(value) for value in triple) and (_is_blank(triple[2]) or triple[2] == 0):
            found[start : start + 3] = [0, 0, 0]
    return found


def _is_blank(value: Any) -> bool:
    return value is None or value != value


def part_of(annotations: Path | str, part: str | None = None) -> tuple[Path, str | None]:
    """The path and the part of COCO-WholeBody in ``val.json#face``."""
    path = Path(annotations)
    stem, mark, named = path.name.rpartition("#")
    if mark and named in (WHOLE, *PARTS) and not path.exists():
        return path.with_name(stem), part or named
    return path, part


def category_of(path: Path, category: int | str | None = None) -> tuple[Path, int | str | None]:
    """The path and the category of ``val.json#horse``, so that every verb and page can choose one.

    Args:
        path: as `part_of` leaves it; a file whose own name contains ``#`` is kept.
        category: chosen otherwise; it comes before the one behind ``#``.
    """
    stem, mark, named = path.name.rpartition("#")
    if mark and stem and named and not path.exists():
        return path.with_name(stem), named if category is None else category
    return path, category


# Source: mmpose 1.3.2 configs/_base_/datasets/aic.py.
AIC_KEYPOINTS = (
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
    "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck",
)  # fmt: skip


# Keys that files of other annotation tools and sets have -> what such a file is.
_OF_ENTRIES = {
    ("joints", "joints_vis"): "a list of MPII (joints, joints_vis, center, scale)",
    ("data", "annotations"): "an export of Label Studio (data and annotations of each task)",
    ("data", "completions"): "an export of Label Studio (data and completions of each task)",
}
_OF_OBJECTS = {
    ("shapes", "imagePath"): "a file of LabelMe (shapes of one image)",
    ("_via_img_metadata",): "a project of the VGG Image Annotator (_via_img_metadata)",
    ("people", "version"): "an output of OpenPose for one image (people)",
    ("keypoint_names", "keypoint_visible"): "OCHuman's own format (people inside each image)",
    ("meta_info", "instance_info"): "predictions of mmpose's demos (instance_info)",
}


def _other_format(raw: Any) -> str:
    """What a json of another annotation tool or set is, with the keys that tell it; "" for any other."""
    entry = raw[0] if isinstance(raw, list) and raw else raw
    if not isinstance(entry, Mapping):
        return ""
    known = _OF_OBJECTS if entry is raw else _OF_ENTRIES
    return next((what for keys, what in known.items() if all(key in entry for key in keys)), "")


def is_aic(raw: Any) -> bool:
    """Whether the content of a json is an annotation list of AI Challenger."""
    return (
        isinstance(raw, list)
        and bool(raw)
        and all(isinstance(e, Mapping) and "keypoint_annotations" in e for e in raw[:100])
    )


def from_aic(entries: list[Any], where: str) -> dict[str, Any]:
    """An annotation list of AI Challenger in COCO's form. Its boxes are corners (x0, y0, x1, y1).

    Source: AIChallenger/AI_Challenger_2017 Evaluation/keypoint_eval/README.md.
    """
    images, annotations = [], []
    for i, entry in enumerate(entries):
        label = f"{where}, image {i}"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("image_id"), str):
            raise ValueError(f"{label}: expected image_id, human_annotations and keypoint_annotations")
        poses, boxes = entry.get("keypoint_annotations"), entry.get("human_annotations") or {}
        if not isinstance(poses, Mapping) or not isinstance(boxes, Mapping):
            raise ValueError(
                f"{label}: expected people by name under keypoint_annotations and human_annotations"
            )
        images.append({"id": i + 1, "file_name": f"{entry['image_id']}.jpg"})
        for name, pose in poses.items():
            values = numbers(pose, 3 * len(AIC_KEYPOINTS), f"{label}, {name}: keypoints").reshape(-1, 3)
            # AI Challenger: 1 visible, 2 hidden, 3 not labelled.
            values[:, 2] = [{1.0: 2.0, 2.0: 1.0}.get(v, 0.0) for v in values[:, 2].tolist()]
            values[values[:, 2] == 0] = 0
            person: dict[str, Any] = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": 1}
            person |= {"keypoints": values.ravel().tolist(), "iscrowd": 0}
            if name in boxes:
                x0, y0, x1, y1 = numbers(boxes[name], 4, f"{label}, {name}: box").tolist()
                person["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(person)
    category = {"id": 1, "name": "person", "keypoints": list(AIC_KEYPOINTS)}
    return {"images": images, "annotations": annotations, "categories": [category]}


# mmpose, WFLW and 300W state the side of a square box in units of 200 pixels.
# Source: mmpose 1.3.2 datasets/datasets/face/wflw_dataset.py, parse_data_info.
PIXELS_OF_SCALE = 200.0


@dataclass
class Ids:
    """Integers for the ids of a file, which may be text.

    Attributes:
        numbers: number of each id that is text.
    """

    numbers: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Iterable[Any]) -> Ids:
        """Numbers for these ids. Text of digits becomes its number.

        If two ids would get the same number, or one is not made of digits, ids are numbered in sorted order,
        which is the order in which pycocotools reads them.
        """
        values = list(values)
        texts = {v for v in values if isinstance(v, str)}
        if not texts:
            return cls()
        spelled = {text: _spelled(text) for text in texts}
        others = {int(v) for v in values if _is_whole(v)}
        distinct = {n for n in spelled.values() if n is not None}
        if None not in spelled.values() and len(distinct) == len(texts) and not distinct & others:
            return cls({text: n for text, n in spelled.items() if n is not None})
        first = max(others, default=0) + 1
        return cls({text: first + i for i, text in enumerate(sorted(texts))})

    def __getitem__(self, value: Any) -> Any:
        """The number of an id; a value that is no known text is returned unchanged."""
        if not isinstance(value, str):
            return value
        known = self.numbers.get(value)
        return known if known is not None else _spelled(value, value)

    def texts(self) -> dict[int, str]:
        """The ids as the file has them, by number."""
        return {number: text for text, number in self.numbers.items()}


def _spelled(text: str, otherwise: Any = None) -> Any:
    # 18 digits are below 2**63; longer ones are names, not numbers.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else otherwise


def _is_whole(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63) or (
        isinstance(value, float) and value.is_integer() and abs(value) < 2**63
    )


@dataclass(frozen=True)
class Standard:
    """A file in COCO's own form.

    Attributes:
        raw: images, annotations, categories; entries that needed no change are the file's own.
        notes: one sentence for each way in which it differed.
        image_ids: numbers of image ids that are text.
        own_ids: of annotation ids, likewise.
        parts: of COCO-WholeBody, what its annotations hold.
    """

    raw: dict[str, Any]
    notes: tuple[str, ...]
    image_ids: Ids
    own_ids: Ids
    parts: tuple[str, ...] = ()


def standard_form(raw: Any, where: str, part: str | None = None) -> Standard:
    """The content of an annotation file in COCO's own form. The argument is not changed.

    Args:
        raw: what the json holds.
        where: the file's name, for messages.
        part: of COCO-WholeBody: body (also when None), wholebody, foot, face, lefthand or righthand.

    Raises:
        ValueError: it is no keypoint annotation file, or does not contain the part.
    """
    notes: list[str] = []
    if is_aic(raw):
        raw = from_aic(raw, where)
        notes.append("read as AI Challenger's list: visibility 1, 2, 3 there is 2, 1, 0 in COCO's form")
    if other := _other_format(raw):
        raise ValueError(f"{where}: this is {other}; convert it to COCO's keypoint format")
    if not isinstance(raw, dict):
        raise ValueError(
            f"{where}: expected a COCO annotation file (an object), got {type(raw).__name__};"
            " a list of results is named first: `workbench score RESULTS --data ANNOTATIONS`"
        )
    for key in ("images", "annotations"):
        if not isinstance(raw.get(key), list):
            raise ValueError(f"{where}: expected a list under {key!r}, as COCO keypoint files have it")
    images, annotations = raw["images"], raw["annotations"]
    image_ids = Ids.of(e.get("id") for e in images if isinstance(e, Mapping))
    own_ids = Ids.of(e.get("id") for e in annotations if isinstance(e, Mapping))
    if image_ids.numbers:
        images = [_with(e, id=image_ids[e["id"]]) if _has(e, "id") else e for e in images]
    if image_ids.numbers or own_ids.numbers:
        what = " and ".join(
            word for word, ids in (("image", image_ids), ("annotation", own_ids)) if ids.numbers
        )
        notes.append(f"{what} ids are text and were read as numbers")
    categories = _categories(raw.get("categories"), annotations, where, notes)
    only = categories[0]["id"] if len(categories) == 1 and _has(categories[0], "id") else None
    counts: Counter[str] = Counter()
    reading = _Reading(where, image_ids, own_ids, only, _part_keys(annotations, part, where), counts)
    read = [reading.annotation(entry, i) for i, entry in enumerate(annotations)]
    sentences = {
        "nested": ("has", "have", "keypoints as nested triples"),
        "category": ("names", "name", "no category; there is only one"),
        "scale": ("has", "have", "no bbox: center and scale were read (side 200 x scale, as in mmpose)"),
        "empty": ("has", "have", "an empty list of keypoints, or null: read as no keypoint labelled"),
        "blank": ("has", "have", "null or nan for unlabelled keypoints: read as 0, 0, 0"),
    }
    notes += [
        f"{counted(counts[key], f'annotation {one}', f'annotations {several}')} {rest}"
        for key, (one, several, rest) in sentences.items()
        if counts[key]
    ]
    parts = tuple(p for p, (key, _) in PARTS.items() if any(_has(e, key) for e in annotations))
    if part not in (None, "body"):
        names = list(part_skeleton(part).keypoints)
        # Limbs of the file are the body's.
        categories = [_with(c, keypoints=names, skeleton=[]) for c in categories if isinstance(c, Mapping)]
    standard = {**raw, "images": images, "annotations": read, "categories": categories}
    return Standard(standard, tuple(notes), image_ids, own_ids, parts if len(parts) > 1 else ())


def _part_keys(entries: Sequence[Any], part: str | None, where: str) -> str | None:
    """The part to assemble; None for the keypoints of the file unchanged."""
    if part in (None, "body"):
        return None
    part_places(part)
    wanted = [key for key, _ in PARTS.values()] if part == WHOLE else [PARTS[part][0]]
    annotated = [e for e in entries if isinstance(e, Mapping) and "keypoints" in e]
    absent = [key for key in wanted if not any(key in e for e in annotated)]
    if absent:
        raise ValueError(
            f"{where}: expected a COCO-WholeBody file for its {part}, but no annotation has"
            f" {', '.join(absent)}"
        )
    return part


@dataclass(frozen=True)
class _Reading:
    """How the annotations of one file are read."""

    where: str
    image_ids: Ids
    own_ids: Ids
    only: Any  # the id of the only category
    part: str | None
    counts: Counter[str]  # conversions by kind

    def annotation(self, entry: Any, position: int) -> Any:
        if not isinstance(entry, Mapping) or "keypoints" not in entry:
            return entry
        where = f"{self.where}, annotation {entry_name(entry, position)}"
        changes: dict[str, Any] = {}
        for key, ids in (("id", self.own_ids), ("image_id", self.image_ids)):
            if isinstance(entry.get(key), str):
                changes[key] = ids[entry[key]]
        if isinstance(entry.get("category_id"), str):
            changes["category_id"] = _spelled(entry["category_id"], entry["category_id"])
        if "category_id" not in entry and self.only is not None:
            changes["category_id"] = self.only
            self.counts["category"] += 1
        if self.part is not None:
            changes["keypoints"] = keypoints_of_part(entry, self.part, where)
            # What the file states is the body's number.
            changes["num_keypoints"] = sum(_is_labelled(v) for v in changes["keypoints"][2::3])
        elif (flattened := flat(entry["keypoints"])) is not entry["keypoints"]:
            changes["keypoints"] = flattened
            self.counts["nested"] += 1
        keypoints = changes.get("keypoints", entry["keypoints"])
        if keypoints is None:
            changes["keypoints"] = []
        elif isinstance(keypoints, list) and (cleared := without_blanks(keypoints)) is not keypoints:
            changes["keypoints"] = cleared
            self.counts["blank"] += 1
        self.counts["empty"] += not entry["keypoints"]
        if not entry.get("bbox") and {"center", "scale"} <= entry.keys():
            changes["bbox"] = _box_of_scale(entry, where)
            self.counts["scale"] += 1
        return _with(entry, **changes) if changes else entry


def _is_labelled(visibility: Any) -> bool:
    return isinstance(visibility, (int, float)) and visibility > 0


def _box_of_scale(entry: Mapping[str, Any], where: str) -> list[float]:
    x, y = numbers(entry["center"], 2, f"{where}: center")
    scale = entry["scale"]
    sides = numbers(scale if isinstance(scale, list) else [scale] * 2, 2, f"{where}: scale") * PIXELS_OF_SCALE
    return [float(x - sides[0] / 2), float(y - sides[1] / 2), float(sides[0]), float(sides[1])]


def _categories(found: Any, annotations: Sequence[Any], where: str, notes: list[str]) -> list[Any]:
    if found is not None and not isinstance(found, list):
        raise ValueError(f"{where}: expected a list under 'categories', as COCO keypoint files have it")
    categories = [
        _with(c, id=_spelled(c["id"], c["id"])) if _has(c, "id") and isinstance(c["id"], str) else c
        for c in found or []
    ]
    used = Counter(
        _spelled(e["category_id"], e["category_id"])
        if isinstance(e["category_id"], str)
        else e["category_id"]
        for e in annotations
        if isinstance(e, Mapping) and "keypoints" in e and isinstance(e.get("category_id"), (int, float, str))
    )
    listed = {c["id"] for c in categories if _has(c, "id") and isinstance(c["id"], (int, float))}
    unlisted = [number for number in used if number not in listed and _is_whole(number)]
    if not categories and found is None and not annotations:
        raise ValueError(f"{where}: expected a list under 'categories', as COCO keypoint files have it")
    if not unlisted:
        if not categories and any(_has(e, "keypoints") for e in annotations):
            notes.append(
                "the file lists no categories and its annotations name none; all were read as one category"
            )
            return [{"id": 1, "name": "1"}]
        return categories
    shown = ", ".join(f"{int(n)}" for n in unlisted[:3])
    count = sum(used[n] for n in unlisted)
    if listed & used.keys():
        notes.append(
            f"{counted(count, 'annotation is', 'annotations are')} of a category that the file does not list "
            f"({shown}): left out, as in pycocotools"
        )
        warnings.warn(notes[-1], ReadingNote, stacklevel=2)
        return categories
    notes.append(
        f"{counted(count, 'annotation names a category', 'annotations name categories')} that the file does "
        f"not list ({shown}); added here. pycocotools ignores such annotations until the file lists them"
    )
    named = [c for c in categories if isinstance(c, Mapping) and c.get("keypoints")]
    names = (
        {"keypoints": named[0]["keypoints"], "skeleton": named[0].get("skeleton")} if len(named) == 1 else {}
    )
    return [{"id": int(number), "name": f"{int(number)}", **names} for number in sorted(unlisted)]


def _has(entry: Any, key: str) -> bool:
    return isinstance(entry, Mapping) and key in entry


def _with(entry: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {**entry, **changes}
