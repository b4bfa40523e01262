"""Reader of COCO-format keypoint files as they exist in practice.

Read: COCO, AP-10K (54 categories, its own keypoint names), AnimalPose, CrowdPose (no `area`), crowd regions,
annotations without keypoints or boxes, absent images (an error only when one is requested), and the variants
of `coco_dialects`. Errors, with the id of the annotation: numbers that cannot be keypoints, unknown images,
file names that leave the folder of the images by ``..``. What was read in another way than the file states it
is listed in the notes of the set.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.core import ReadingNote, Sample, Skeleton, nearest
from workbench.core.files import Twice, each_once, read_at_most, require_file
from workbench.core.report import counted
from workbench.data.coco_dialects import Standard, category_of, part_of, part_skeleton, standard_form
from workbench.data.coco_entries import (
    category_name,
    entry_name,
    image_records,
    instance,
    plain_visibility,
    whole,
    with_stated,
)
from workbench.data.image_folders import images_folder, readable_folders
from workbench.data.images import ImageReading
from workbench.data.pose_set import ImageRecord, PoseSet
from workbench.skeletons import SKELETONS, skeleton_for

# The curves of one take 24 kB. MP-100 has 100 categories, LVIS without keypoints 1,203.
_MOST_CATEGORIES = 2000
# Of a json: COCO's largest files of keypoints have some hundred MB. Bytes at its end that show a hole.
_MOST_BYTES, _END = 2 << 30, 4096
# Objects with the keys of a category, whatever list they are in; of more a file is not read to its end.
_MOST_NAMED = 20_000
_OF_OTHERS = frozenset(("image_id", "category_id", "file_name", "bbox", "url"))


class DifferentKeypointsError(ValueError):
    """The categories of a file have different keypoints, so that they are not one data set."""


def read_coco(
    annotations: Path | str,
    images: Path | str | None = None,
    category: int | str | None = None,
    *,
    part: str | None = None,
    within: Sequence[Path] = (),
    reading: ImageReading | None = None,
) -> PoseSet:
    """The keypoint data set of a json file; images are not read yet.

    Args:
        annotations: the json; of COCO-WholeBody a part may be named behind ``#``, such as
            ``val.json#wholebody`` (body by default), of any other file a category: ``val.json#horse``.
        images: folder of the images; by default the usual folders beside the json are tried.
        category: id or name of the one category to read; all that have keypoints by default.
        part: of COCO-WholeBody: body, wholebody, foot, face, lefthand or righthand.
        within: no image may lie outside of these folders, symbolic links resolved; by default outside of the
            data set's own folders and the one that is named.
        reading: what is stated about the image files; nothing by default.

    Raises:
        FileNotFoundError: no such json, or no such folder.
        DifferentKeypointsError: the categories have different keypoints; name one.
        ValueError: it is no COCO keypoint file; the message names the entry.
        KeyError: no such category.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> content = {
        ...     "images": [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}],
        ...     "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "neck"]}],
        ...     "annotations": [
        ...         {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 20, 30],
        ...          "keypoints": [20, 12, 2, 0, 0, 0], "num_keypoints": 1}
        ...     ],
        ... }
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "annotations.json"
        ...     _ = file.write_text(json.dumps(content))
        ...     pose_set = read_coco(file)
        >>> len(pose_set), pose_set.skeleton.keypoints, pose_set.instances[0].num_keypoints
        (1, ('nose', 'neck'), 1)
    """
    path, part = part_of(annotations, part)
    path, category = category_of(path, category)
    folder = None if images is None else Path(images)
    return pose_set_of(read_json(path), path, folder, category, part=part, within=within, reading=reading)


def pose_set_of(
    content: Any,
    path: Path,
    images: Path | None = None,
    category: int | str | None = None,
    *,
    part: str | None = None,
    within: Sequence[Path] = (),
    reading: ImageReading | None = None,
) -> PoseSet:
    """The data set of the parsed content of a json file; other arguments and errors as `read_coco`."""
    standard = standard_form(content, path.name, part)
    categories = _categories(standard.raw["categories"], path.name, category)
    within = within or readable_folders(path, images)
    records, doubt = _records(standard, path, images, within, reading)
    found = _assembled(
        standard, standard.raw["annotations"], categories, records, path, part, within, category
    )
    return replace(found, reading=reading or found.reading, folder_doubt=doubt)


def read_by_category(path: Path, images: Path | None = None) -> list[PoseSet]:
    """One set per category that has annotations, each with its own skeleton.

    Images and annotations are read once, whatever the number of categories.

    Raises:
        FileNotFoundError, ValueError: as `read_coco`.
    """
    standard = standard_form(read_json(path), path.name)
    every = standard.raw["categories"]
    if not every:
        raise ValueError(f"{path.name}: expected COCO annotations with categories")
    within = readable_folders(path, images)
    records, doubt = _records(standard, path, images, within)
    entries: dict[Any, list[Any]] = {}
    for entry in standard.raw["annotations"]:
        entries.setdefault(_category_of(entry), []).append(entry)
    listed = {number: entry for number, entry in _listed(every, path.name).items() if entries.get(number)}
    found = [
        _assembled(standard, entries[number], {number: entry}, records, path, None, within, number)
        for number, entry in listed.items()
    ]
    return [replace(one, folder_doubt=doubt) for one in found]


def _records(
    standard: Standard,
    path: Path,
    images: Path | None,
    within: Sequence[Path],
    reading: ImageReading | None = None,
) -> tuple[dict[int, ImageRecord], str]:
    """The images by id, and a sentence where another folder may be meant."""
    entries = standard.raw["images"]
    folder, doubt = images_folder(path, images, entries)
    return image_records(entries, folder, path.name, within, reading), doubt


def _assembled(
    standard: Standard,
    entries: Sequence[Any],
    categories: Mapping[int, Mapping[str, Any]],
    records: dict[int, ImageRecord],
    path: Path,
    part: str | None,
    within: Sequence[Path],
    chosen: int | str | None,
) -> PoseSet:
    """The set of the given categories; annotations of other categories are left out."""
    raw = standard.raw
    skeleton = _skeleton(entries, categories, path.name)
    if part not in (None, "body"):
        skeleton = part_skeleton(part)
    skeleton, unusable = with_stated(skeleton, categories.values(), mirror=part in (None, "body"))
    instances, read, bare = [], [], Counter[Any]()
    for position, entry in enumerate(entries):
        where = f"{path.name}, annotation {entry_name(entry, position)}"
        number = _category_of(entry)
        if number not in categories and isinstance(entry, Mapping) and "keypoints" in entry:
            if chosen is not None or _unlisted(number, raw["categories"]):
                continue  # of another category or of one that is not listed
            named = repr(entry.get("category_id"))[:40]
            raise DifferentKeypointsError(
                f"{where}: category {named} is not among those with keypoints; choose one with --category"
                f" or as {path.name}#ID"
            )
        if isinstance(entry, Mapping) and entry.get("keypoints") == []:
            entry = {**entry, "keypoints": [0.0] * (3 * len(skeleton))}
        found = instance(entry, where, skeleton, records)
        if found is not None:
            instances.append(found)
        elif chosen is None or number in categories:
            bare[number] += 1
        if found is not None or chosen is None:
            read.append(entry)
    if entries and not any("keypoints" in e for e in entries if isinstance(e, Mapping)):
        raise ValueError(
            f"{path.name}: expected keypoints, but none of its {counted(len(entries), 'annotation')} has "
            "any; COCO keeps them in person_keypoints_*.json, boxes alone in instances_*.json"
        )
    notes = [*standard.notes, *unusable, *_without_keypoints(bare, len(entries), raw["categories"])]
    instances = plain_visibility(instances, notes)
    # Evaluators read `raw`, which must not contain the other categories.
    listed = raw["categories"] if chosen is None else list(categories.values())
    return PoseSet(
        path.stem if part in (None, "body") else f"{path.stem}#{part}",
        skeleton,
        tuple(instances),
        records,
        {number: entry["name"] for number, entry in categories.items()},
        {**raw, "categories": listed, "annotations": read},
        str(path),
        notes=(*notes, *_unread_limbs(categories, skeleton)),
        id_texts=standard.image_ids.texts(),
        instance_texts=standard.own_ids.texts(),
        parts=standard.parts,
        part=part or "body",
        within=tuple(folder.resolve() for folder in within),
    )


def _without_keypoints(
    bare: Mapping[Any, int], total: int, categories: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """How many annotations were left out because they have no keypoints; a `ReadingNote` says it, too.

    Args:
        bare: number of them by category id.
        total: annotations in the file.
        categories: of the file.
    """
    if not bare:
        return ()
    names = {entry["id"]: str(entry.get("name", entry["id"])) for entry in categories}
    kinds = [f"{names.get(number, number)!s:.60} {count}" for number, count in Counter(bare).most_common(5)]
    more = f" and {len(bare) - 5} more categories" if len(bare) > 5 else ""
    sentence = (
        f"{sum(bare.values())} of {counted(total, 'annotation has', 'annotations have')} no keypoints and "
        f"are left out ({', '.join(kinds)}{more})"
    )
    warnings.warn(sentence, ReadingNote, stacklevel=2)
    return (sentence,)


# Characters from which numbers are shared, which takes more time; and how many different ones are at most.
_LARGE, _MOST_SHARED = 16 << 20, 1 << 16


class _Numbers(dict[str, Any]):
    """Numbers by their text; equal ones of a large file are one object: 72 MB take 242 MB, not 415."""

    def __init__(self, convert: Callable[[str], Any]) -> None:
        super().__init__()
        self._convert = convert

    def __missing__(self, text: str) -> Any:
        found = self._convert(text)
        if len(self) < _MOST_SHARED:
            self[text] = found
        return found


def _number_hooks(text: str) -> dict[str, Any]:
    """Arguments of `json.loads` that share the numbers of a large text."""
    if len(text) < _LARGE:
        return {}
    return {"parse_int": _Numbers(int).__getitem__, "parse_float": _Numbers(float).__getitem__}


def read_json(path: Path) -> Any:
    """The content of a json file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not JSON.
    """
    require_file(path, f"{path}: no such annotation file")
    _refuse_holes(path)
    content = read_at_most(path, _MOST_BYTES, "JSON")
    if content[:2] in (b"\x1f\x8b", b"PK"):
        raise ValueError(f"{path.name}: expected JSON, but it is compressed; unpack it first (gunzip, unzip)")
    if not content.strip():
        raise ValueError(f"{path.name}: expected JSON, but the file is empty")
    _refuse_bomb(content, path.name)
    head = content[:2000]
    try:
        text = content.decode(json.detect_encoding(content), "surrogatepass")
        del content  # large files: once as bytes, once as text and once as values is a third too much
        found = json.loads(text, object_pairs_hook=_objects(), **_number_hooks(text))
    except _TooMany as many:
        raise ValueError(f"{path.name}: {many}") from None
    except Twice as key:
        raise ValueError(
            f"{path.name}: an object has {key} twice, and programs differ in which value they take; keep one"
        ) from None
    except (ValueError, RecursionError) as reason:  # bad syntax, encoding, huge numbers, deep nesting
        if other := _other_text(head):
            raise ValueError(
                f"{path.name}: expected JSON, but this is {other}; convert it to COCO's keypoint format"
            ) from None
        # Python's own words for a number of thousands of digits end in advice about Python's settings.
        why = str(reason).partition("; use sys.")[0] or type(reason).__name__
        deep = isinstance(reason, RecursionError)
        raise ValueError(
            f"{path.name}: expected JSON, but {'it is nested too deep' if deep else why}"
        ) from None
    if found is None:
        raise ValueError(f"{path.name}: expected JSON with content, got null")
    return found


def _refuse_holes(path: Path) -> None:
    """Refuse a file that is larger than any, or ends in a hole, before it is read into memory.

    Raises:
        ValueError: it is.
    """
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise ValueError(f"{path.name}: JSON of {size:,} bytes is refused; at most {_MOST_BYTES:,} are read")
    with path.open("rb") as file:
        head = file.read(4)  # of UTF-16 and UTF-32 every character has zero bytes
        file.seek(max(0, size - _END))
        if b"\0" not in head and b"\0" in (end := file.read(_END)):
            hole = end.endswith(b"\0") and head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in b"[{"
            why = "ends in zero bytes: it was not written whole" if hole else "holds binary data"
            raise ValueError(f"{path.name}: expected JSON, but it {why}")


class _TooMany(ValueError):  # noqa: N818 - reads as a claim
    """More categories than any file has."""


def _objects() -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """What makes the objects of a json, and ends where a million of them are categories."""
    named = 0

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal named
        found = each_once(pairs)
        if "name" in found and "id" in found and _OF_OTHERS.isdisjoint(found):
            named += 1
            if named > _MOST_NAMED:
                raise _TooMany(f"more than {_MOST_NAMED:,} categories; at most {_MOST_CATEGORIES:,} are read")
        return found

    return made


def _refuse_bomb(content: bytes, name: str) -> None:
    """Refuse a file of tiny objects before they are made: 20 MB of ``{}`` take 600 MB of memory.

    The smallest entries of real sets have 20 bytes, and the smallest triples of keypoints 8.
    """
    objects, lists = content.count(b"{"), content.count(b"[")
    if len(content) > 1 << 20 and 16 * objects + 6 * lists > len(content):
        raise ValueError(
            f"{name}: {objects:,} objects and {lists:,} lists in {len(content):,} bytes; no annotation or "
            "result file has so many, and it is refused as a bomb"
        )


def _other_text(head: bytes) -> str:
    """What a text of another annotation tool is; "" for any other.

    Args:
        head: its first bytes.
    """
    text = head.decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
    first = text.split("\n", 1)[0].split()
    if re.match(r"<[?!\w]", text) and "\0" not in text:
        known = {"<annotations>": "an XML file of CVAT", "<annotation>": "an XML file of Pascal VOC"}
        return next((what for mark, what in known.items() if mark in text), "an XML file")
    if text.startswith("scorer,"):
        return "a table of DeepLabCut (scorer, bodyparts, coords)"
    numeric = all(re.fullmatch(r"-?[0-9.]+(e-?\d+)?", word) for word in first)
    return "a label file of YOLO (class, box and keypoints as shares)" if numeric and len(first) > 5 else ""


def _listed(entries: Sequence[Any], where: str) -> dict[int, Mapping[str, Any]]:
    if len(entries) > _MOST_CATEGORIES:
        found_text = counted(len(entries), "category", "categories", ",")
        raise ValueError(f"{where}: {found_text}; at most {_MOST_CATEGORIES:,} are read")
    found: dict[int, Mapping[str, Any]] = {}
    for position, entry in enumerate(entries):
        label = f"{where}, category {entry_name(entry, position)}"
        number = whole(entry, "id", label)
        named = {**entry, "name": category_name(entry, number, label)}
        if found.setdefault(number, named) != named:
            raise ValueError(f"{label}: another category has this id; give each its own")
    return found


def _categories(entries: Sequence[Any], where: str, wanted: int | str | None) -> dict[int, Mapping[str, Any]]:
    found = _listed(entries, where)
    if not found:
        raise ValueError(f"{where}: expected at least one category, got none")
    if wanted is None:
        return {number: entry for number, entry in found.items() if entry.get("keypoints")} or found
    for number, entry in found.items():
        if wanted in (number, entry["name"], str(number)):
            return {number: entry}
    names = [entry["name"] for entry in found.values()]
    raise KeyError(f"{where}: no category {wanted!r}; nearest: {nearest(str(wanted), names)}")


def _unlisted(number: int | None, entries: Sequence[Any]) -> bool:
    return number is not None and all(int(entry["id"]) != number for entry in entries)


def _category_of(entry: Any) -> int | None:
    """The category id of an annotation; None when it is no integer, which `instance` refuses."""
    value = entry.get("category_id") if isinstance(entry, Mapping) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
        return int(value) if abs(value) < 2**63 and value == int(value) else None
    return None


def _skeleton(entries: Sequence[Any], categories: Mapping[int, Mapping[str, Any]], where: str) -> Skeleton:
    lists: dict[tuple[str, ...], list[str]] = {}
    for entry in categories.values():
        names = entry.get("keypoints") or ()
        if not isinstance(names, (list, tuple)):
            raise ValueError(f"{where}, category {entry['name']}: expected a list of keypoint names")
        lists.setdefault(tuple(map(_text, names)), []).append(entry["name"])
    if len(lists) > 1:
        # By number: a name may be that of a part of COCO-WholeBody, or contain a slash.
        number, first = next(iter(categories.items()))
        kinds = "; ".join(
            f"{counted(len(names), 'keypoint')}: {', '.join(of[:3])}" for names, of in lists.items()
        )
        raise DifferentKeypointsError(
            f"{where}: categories have different keypoints ({kinds}); choose one with --category"
            f" or as {where}#{number} ({first['name']})"
        )
    names = next(iter(lists), ())
    if not names:
        names = _unnamed(entries, where)
    elif names == SKELETONS["coco-17"].keypoints and _whole_bodies(entries):
        return SKELETONS["coco-wholebody-133"]  # COCO-WholeBody in one list, with the names of the body only
    limbs = next(iter(categories.values())).get("skeleton") or ()
    pairs = [(a - 1, b - 1) for a, b in _pairs(limbs)]  # COCO counts keypoints from 1
    return skeleton_for(names, pairs)


def _unread_limbs(categories: Mapping[int, Mapping[str, Any]], skeleton: Skeleton) -> tuple[str, ...]:
    """A sentence where limbs of the file are not drawn; for known keypoints their own limbs are.

    Args:
        categories: of the set; the first one's limbs are drawn.
        skeleton: of the set.
    """
    limbs: Any = next(iter(categories.values())).get("skeleton")
    stated = len(limbs) if _is_list(limbs) else int(bool(limbs))
    unread = stated - len(skeleton.limbs)
    if unread <= 0 or skeleton.name != f"own-{len(skeleton)}":
        return ()
    return (
        f"{unread} of {counted(stated, 'limb')} under 'skeleton' {'is' if unread == 1 else 'are'} no pair of "
        f"keypoint numbers from 1 to {len(skeleton)} and not drawn",
    )


def _text(name: Any) -> str:
    """A keypoint name as text of bounded length, whatever the json has in its place."""
    return str(name)[:200]


def _whole_bodies(entries: Sequence[Any]) -> bool:
    counts = {len(e["keypoints"]) for e in entries if isinstance(e, Mapping) and _is_list(e.get("keypoints"))}
    return counts - {0} == {3 * len(SKELETONS["coco-wholebody-133"])}


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _unnamed(entries: Sequence[Any], where: str) -> tuple[str, ...]:
    """Numbers as names, for categories without keypoint names (MP-100's faces); count of the longest list."""
    counts = [
        len(e["keypoints"]) // 3
        for e in entries
        if isinstance(e, Mapping) and _is_list(e.get("keypoints")) and e["keypoints"]
    ]
    if not counts or not max(counts):
        raise ValueError(f"{where}: expected keypoints, but neither categories nor annotations have any")
    return tuple(str(i) for i in range(max(counts)))


def _pairs(limbs: Any) -> list[tuple[int, int]]:
    pairs = limbs if isinstance(limbs, (list, tuple)) else ()
    return [
        (p[0], p[1])
        for p in pairs
        if isinstance(p, (list, tuple)) and len(p) == 2 and all(type(v) is int and abs(v) < 2**31 for v in p)
    ]


# Episodes of category-agnostic pose estimation: a support and a query of one category.
#
# Drawn from MP-100-like files, where every category has its own keypoints (8 to 68; ``face`` names none), or
# from the built-in scenes, whose species are the categories.


@dataclass(frozen=True, eq=False)
class Episode:
    """A query image, and support examples that show which keypoints to find in it.

    Attributes:
        category: name.
        skeleton: keypoints of the category.
        support: examples, one per shot, each of another image than the query.
        query: with ground truth, for evaluation.
    """

    category: str
    skeleton: Skeleton
    support: tuple[Sample, ...]
    query: Sample


def episodes(
    pose_set: PoseSet, count: int, *, category: int | str | None = None, shots: int = 1, seed: int = 0
) -> tuple[Episode, ...]:
    """Random episodes of a set; the same seed gives the same episodes.

    Args:
        pose_set: all its categories share a skeleton.
        count: number of episodes.
        category: id or name; by default the categories alternate.
        shots: support examples per episode.
        seed: of the random choice.

    Raises:
        ValueError: no category has labelled instances in enough images.
        KeyError: no such category.
    """
    if count < 1 or shots < 1:
        raise ValueError(f"episodes: expected at least one episode and one shot, got {count} and {shots}")
    numbers = [n for n, name in pose_set.categories.items() if category in (None, n, name, str(n))]
    if not numbers:
        raise KeyError(f"{pose_set.name}: no category {category!r}")
    usable = {n: found for n in numbers if len(found := _by_image(pose_set, n)) > shots}
    if not usable:
        named = ", ".join(pose_set.categories[n] for n in numbers[:3])
        raise ValueError(
            f"{pose_set.name}: no episode of {named}: a query and {shots} support need visible keypoints in "
            f"{counted(shots + 1, 'different image')}"
        )
    random = np.random.default_rng(seed)
    drawn = []
    for turn in range(count):
        number = list(usable)[turn % len(usable)]
        images = random.permutation(list(usable[number]))[: shots + 1]
        query, *support = (pose_set.sample(int(random.choice(usable[number][i]))) for i in images)
        drawn.append(Episode(pose_set.categories[number], pose_set.skeleton, tuple(support), query))
    return tuple(drawn)


def read_episodes(
    annotations: Path, count: int, images: Path | None = None, *, shots: int = 1, seed: int = 0
) -> tuple[Episode, ...]:
    """Episodes of an MP-100-like file, each category with its own skeleton; the categories alternate.

    Categories with labelled instances in too few images are left out; cleaned copies of MP-100 lack images.

    Args:
        annotations: COCO-format json.
        count: number of episodes.
        images: folder of the images, as `read_coco`.
        shots: support examples per episode.
        seed: of the random choice.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no COCO keypoint file, or no category gives an episode.
    """
    sets = read_by_category(annotations, images)
    enough = [s for s in sets if any(len(_by_image(s, n)) > shots for n in s.categories)]
    if not enough:
        raise ValueError(
            f"{annotations.name}: no category has visible keypoints in "
            f"{counted(shots + 1, 'different image')}, so there is no episode"
        )
    return tuple(
        episodes(enough[turn % len(enough)], 1, shots=shots, seed=seed + turn)[0] for turn in range(count)
    )


def _by_image(pose_set: PoseSet, category: int) -> dict[int, list[int]]:
    """Labelled instances of a category by their image."""
    found: dict[int, list[int]] = {}
    for i in pose_set.labelled:
        if pose_set.instances[i].category_id == category:
            found.setdefault(pose_set.instances[i].image_id, []).append(i)
    return found
