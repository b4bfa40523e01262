"""Checked entries of COCO files: images, annotations and their numbers.

Every error names the entry. Values are never corrected silently.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.core import ReadingNote, Skeleton
from workbench.core.geometry import Box
from workbench.core.report import counted
from workbench.data.image_folders import inside, is_within
from workbench.data.images import QUARTER_TURNS, ImageReading, exif_orientation, image_size, upright_size
from workbench.data.pose_set import ImageRecord, Instance, stacked_truth
from workbench.skeletons import FILE_SIGMAS


def entry_name(entry: Any, position: int) -> Any:
    """The name of an entry in messages: its id, or its position in the list."""
    return (
        f"{entry['id']!s:.60}" if isinstance(entry, Mapping) and "id" in entry else f"at position {position}"
    )


_SIGMA_KEYS = ("sigmas", "kpt_oks_sigmas")
# COCO's are .025 to .107. Beyond these bounds OKS is 0 or 1 for every pose, or its terms overflow.
_LEAST_SIGMA, _MOST_SIGMA = 1e-4, 10


# Of a category: tables, pages and reports repeat it in each of their rows.
_LONGEST_NAME = 255


def category_name(entry: Mapping[str, Any], number: int, where: str) -> str:
    """The name of a category; its id where it has none.

    Args:
        entry: the category.
        number: its id.
        where: words for an error.

    Raises:
        ValueError: a name of more than 255 characters.
    """
    name = str(entry.get("name", number))
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"{where}: expected a name, got one of {len(name):,} characters")
    return name


def stated_sigmas(categories: Iterable[Any], K: int) -> tuple[tuple[float, ...], str]:
    """The OKS constants that the categories of a file state, under ``sigmas`` or ``kpt_oks_sigmas``.

    Args:
        categories: those whose annotations are read.
        K: number of keypoints.

    Returns:
        One for each keypoint, () where none are stated; and why what is stated cannot be used, or "".
    """
    given = [
        next(entry[key] for key in _SIGMA_KEYS if entry.get(key) is not None)
        for entry in categories
        if isinstance(entry, Mapping) and any(entry.get(key) is not None for key in _SIGMA_KEYS)
    ]
    if not given:
        return (), ""
    if any(values != given[0] for values in given):
        return (), "the categories of the file state different sigmas; choose one with --category"
    values = given[0]
    if not isinstance(values, list) or len(values) != K:
        got = counted(len(values), "entry", "entries") if isinstance(values, list) else f"{values!r:.40}"
        return (
            (),
            f"the file's sigmas: expected a list of {counted(K, 'number')}, one for each keypoint, got {got}",
        )
    if not all(type(v) in (int, float) and _LEAST_SIGMA <= v <= _MOST_SIGMA for v in values):
        shown = ", ".join(f"{v!r:.12}" for v in values[:4]) + " ..." * (K > 4)
        return (), f"the file's sigmas: expected numbers from {_LEAST_SIGMA} to {_MOST_SIGMA}, got {shown}"
    return tuple(map(float, values)), ""


def with_stated(
    skeleton: Skeleton, categories: Collection[Any], *, mirror: bool = True
) -> tuple[Skeleton, tuple[str, ...]]:
    """The skeleton with the sigmas and mirror pairs that its file states.

    Args:
        skeleton: of the keypoints' names.
        categories: those whose annotations are read.
        mirror: of a part of the keypoints the file states no pairs.

    Returns:
        The skeleton, and a sentence for each of the two that cannot be used; a `ReadingNote` says it, too.
    """
    skeleton, unusable = _with_sigmas(skeleton, categories)
    if not mirror or not len(skeleton):
        return skeleton, unusable
    skeleton, unfit = _with_mirror(skeleton, categories)
    return skeleton, (*unusable, *unfit)


def _with_sigmas(skeleton: Skeleton, categories: Iterable[Any]) -> tuple[Skeleton, tuple[str, ...]]:
    """The skeleton with the sigmas that its file states, which precede the published ones of its names.

    Args:
        skeleton: of the keypoints' names.
        categories: those whose annotations are read.

    Returns:
        The skeleton, and a sentence where the stated ones cannot be used; a `ReadingNote` says it, too.
    """
    stated, problem = stated_sigmas(categories, len(skeleton))
    if problem:
        used = "the published ones count" if skeleton.sigmas else "none are known"
        sentence = f"{problem}: they are not used, {used}"
        warnings.warn(sentence, ReadingNote, stacklevel=2)
        return skeleton, (sentence,)
    if not stated or np.allclose(stated, skeleton.sigmas or 0, rtol=1e-9, atol=0):
        return skeleton, ()
    return replace(skeleton, sigmas=stated, source=FILE_SIGMAS), ()


_INDEX_KEYS, _PAIR_KEYS = ("flip_indices", "flip_idx"), ("flip_pairs", "swap_pairs", "flip_pair")


def stated_mirror(categories: Iterable[Any], K: int) -> tuple[tuple[int, ...], str]:
    """The mirror pairs that the categories of a file state: ``flip_indices``, or pairs in ``flip_pairs``.

    Args:
        categories: those whose annotations are read.
        K: number of keypoints.

    Returns:
        For each keypoint its partner, () where none are stated; and why what is stated cannot be used, or "".
    """
    keys = (*_INDEX_KEYS, *_PAIR_KEYS)
    given = [
        next((key, entry[key]) for key in keys if entry.get(key))
        for entry in categories
        if isinstance(entry, Mapping) and any(entry.get(key) for key in keys)
    ]
    if not given:
        return (), ""
    if any(one != given[0] for one in given):
        return (), "the categories of the file state different mirror pairs; choose one with --category"
    key, values = given[0]
    mirror = _permutation(values, K) if key in _INDEX_KEYS else _paired(values, K)
    if mirror:
        return mirror, ""
    wanted = (
        "a list of the partner's index of each" if key in _INDEX_KEYS else "a list of pairs of indices of the"
    )
    return (), f"the file's {key}: expected {wanted} of {counted(K, 'keypoint')}, got {values!r:.60}"


def _permutation(values: Any, K: int) -> tuple[int, ...]:
    """Partners that are each other's; () for anything else."""
    if not isinstance(values, list) or len(values) != K:
        return ()
    if not all(type(v) is int and 0 <= v < K for v in values):
        return ()
    return tuple(values) if all(values[partner] == k for k, partner in enumerate(values)) else ()


def _paired(pairs: Any, K: int) -> tuple[int, ...]:
    """Partners by pairs of indices, no index in two of them; () for anything else."""
    flat = (
        [v for pair in pairs if isinstance(pair, list) and len(pair) == 2 for v in pair]
        if isinstance(pairs, list)
        else []
    )
    if not flat or len(flat) != 2 * len(pairs) or len(set(map(str, flat))) != len(flat):
        return ()
    if not all(type(v) is int and 0 <= v < K for v in flat):
        return ()
    mirror = list(range(K))
    for a, b in pairs:
        mirror[a], mirror[b] = b, a
    return tuple(mirror)


def _with_mirror(skeleton: Skeleton, categories: Iterable[Any]) -> tuple[Skeleton, tuple[str, ...]]:
    """The skeleton with the mirror pairs that its file states, where they agree with those of its names.

    Args:
        skeleton: of the keypoints' names. Each of its pairs has to be among the stated ones: its names, or a
            publication, say which keypoints are left and right.
        categories: those whose annotations are read.

    Returns:
        The skeleton, and a sentence where the stated ones are not used; a `ReadingNote` says it, too.
    """
    stated, problem = stated_mirror(categories, len(skeleton))
    off = [
        k
        for k, p in enumerate(skeleton.mirror)
        if stated and (k != p or _published(skeleton)) and stated[k] != p
    ]
    if off:
        names = skeleton.keypoints
        whose = f"{skeleton.name} has" if _published(skeleton) else "their names say"
        k = off[0]
        problem = (
            f"the file's mirror pairs exchange {names[k]} with {names[stated[k]]}, not with "
            f"{names[skeleton.mirror[k]]} as {whose}"
        )
    if problem:
        used = "those of its names count" if skeleton.mirror else "none are known"
        sentence = f"{problem}: they are not used, {used}"
        warnings.warn(sentence, ReadingNote, stacklevel=2)
        return skeleton, (sentence,)
    return (replace(skeleton, mirror=stated) if stated else skeleton), ()


def _published(skeleton: Skeleton) -> bool:
    return not skeleton.name.startswith("own-")


def image_records(
    entries: Sequence[Any],
    folder: Path,
    where: str,
    within: Sequence[Path] = (),
    reading: ImageReading | None = None,
) -> dict[int, ImageRecord]:
    """Image records by id, with the size of the pixels that are read and that boxes are clipped to.

    A size that the file does not state is that of the image; None where the image is absent as well:
    annotations can be scored without it.

    Args:
        entries: the file's list of images.
        folder: of the images.
        where: the file's name, for messages.
        within: folders that no image may lie outside of; any place when empty.
        reading: what is stated about the image files.

    Raises:
        ValueError: an id is repeated, an entry is no image, or a file name leaves the folder.
    """
    records: dict[int, ImageRecord] = {}
    for position, entry in enumerate(entries):
        label = f"{where}, image {entry_name(entry, position)}"
        number = whole(entry, "id", label)
        if number in records:
            raise ValueError(f"{label}: this id is repeated")
        file_name = entry.get("file_name")
        if not isinstance(file_name, str) or not file_name:
            raise ValueError(f"{label}: expected a file_name")
        file = inside(folder, file_name, label)
        size = None
        if entry.get("width") is not None and entry.get("height") is not None:
            width, height = whole(entry, "width", label), whole(entry, "height", label)
            if width <= 0 or height <= 0:
                raise ValueError(f"{label}: expected a size in pixels, got {width} x {height}")
            size = height, width
        as_stored = reading is not None and reading.as_stored
        if (as_stored or size is None) and file.is_file() and is_within(file, within):
            size = _size_as_read(file, size, as_stored=as_stored)
        height, width = size or (None, None)
        records[number] = ImageRecord(number, file, width, height)
    return records


def _size_as_read(file: Path, stated: tuple[int, int] | None, *, as_stored: bool) -> tuple[int, int]:
    """(height, width) of the pixels that are read of an image: the stated one, unless it does not say.

    Args:
        file: of the image, which exists.
        stated: by the annotations; None where they do not.
        as_stored: the image is read without its EXIF rotation, whatever size is stated of the upright one.
    """
    if as_stored and (stated is None or exif_orientation(file) in QUARTER_TURNS):
        stored = image_size(file)
        return stored if stated in (None, stored[::-1]) else stated
    return upright_size(file) if stated is None else stated


def instance(
    entry: Any, where: str, skeleton: Skeleton, images: Mapping[int, ImageRecord]
) -> Instance | None:
    """One annotation; None when it has no keypoints (boxes and masks of full COCO files).

    Visibility may be a score up to 1, AI Challenger's 3, or -1; `plain_visibility` converts it.

    Args:
        entry: of the file's list of annotations.
        where: file and entry, for messages.
        skeleton: says how many keypoints there are.
        images: by id.

    Raises:
        ValueError: an unknown image, or numbers that cannot be keypoints.
    """
    if isinstance(entry, Mapping) and "keypoints" not in entry:
        return None
    annotation_id, image_id = whole(entry, "id", where), whole(entry, "image_id", where)
    if image_id not in images:
        raise ValueError(f"{where}: names image {image_id}, which is not among the images")
    # The copy is one array; a view refers to a second one, 130 bytes of each annotation.
    truth = numbers(entry["keypoints"], 3 * len(skeleton), f"{where}: keypoints").reshape(-1, 3).copy()
    for seen in set(entry["keypoints"][2::3]) - {0, 1, 2, 3}:
        if not -1 <= seen <= 1:
            raise ValueError(f"{where}: expected visibility 0, 1 or 2, got {seen:g}")
    truth.setflags(write=False)  # shared by every sample of this instance
    area, crowd = entry.get("area"), entry.get("iscrowd")
    if crowd not in (None, 0, 1):  # any text is true, "0" as well
        raise ValueError(f"{where}: expected iscrowd 0 or 1, got {crowd!r:.40}")
    return Instance(
        annotation_id=annotation_id,
        image_id=image_id,
        category_id=whole(entry, "category_id", where),
        box=clipped_box(entry.get("bbox"), images[image_id], where),
        truth=truth,
        area=float("nan") if area is None else float(numbers([area], 1, f"{where}: area")[0]),
        iscrowd=bool(crowd),
        num_keypoints=int((truth[:, 2] > 0).sum()),
    )


def clipped_box(box: Any, image: ImageRecord, where: str) -> Box:
    """Corners of a COCO box (x, y, width, height), clipped to the outermost pixel centres as mmpose does.

    Args:
        box: of the annotation; None or empty for none.
        image: an image of unknown size clips nothing.
        where: file and entry, for messages.

    Returns:
        (x0, y0, x1, y1) in image pixels; nan where the file has no box.
    """
    if box is None or (isinstance(box, list) and not box):
        nan = float("nan")
        return nan, nan, nan, nan
    x, y, width, height = (float(v) for v in numbers(box, 4, f"{where}: bbox"))
    if image.width is None or image.height is None:
        return x, y, x + width, y + height
    right, bottom = image.width - 1.0, image.height - 1.0
    x0, x1 = min(max(x, 0.0), right), min(max(x + width, 0.0), right)
    y0, y1 = min(max(y, 0.0), bottom), min(max(y + height, 0.0), bottom)
    return x0, y0, x1, y1


def numbers(values: Any, count: int, where: str) -> np.ndarray:
    """A list of `count` finite numbers as an array.

    Args:
        values: from a json.
        count: expected length.
        where: file and entry, for messages.

    Raises:
        ValueError: it is anything else.
    """
    if not isinstance(values, list) or len(values) != count:
        got = len(values) if isinstance(values, list) else type(values).__name__
        raise ValueError(f"{where}: expected {count} numbers, got {got}")
    try:
        if not set(map(type, values)) <= {int, float}:  # float() reads "1_0" as 10, and true as 1
            raise TypeError("a text")
        array = np.array(values, float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: expected {count} numbers, got something else among them") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: expected finite numbers")
    return array


def whole(entry: Any, key: str, where: str) -> int:
    """The 64-bit integer under a key of an entry.

    Args:
        entry: from a json.
        key: of the number.
        where: file and entry, for messages.

    Raises:
        ValueError: it is absent or anything else.
    """
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        # Python refuses to print huge integers.
        huge = isinstance(value, int) and not isinstance(value, bool)
        shown = "a number beyond 64 bits" if huge else repr(value)[:40]
        raise ValueError(f"{where}: expected a whole number under {key!r}, got {shown}")
    return value


def plain_visibility(instances: list[Instance], notes: list[str]) -> list[Instance]:
    """Instances with visibility 0, 1 or 2. Scores and other values count as labelled where above 0.

    Args:
        instances: of one file.
        notes: one sentence is added for each conversion.
    """
    if not instances:
        return instances
    every = stacked_truth(instances, len(instances[0].truth), 2)
    odd = np.unique(every[(every != 0) & (every != 1) & (every != 2)]).tolist()
    if not odd:
        return instances
    # By keypoint: COCO-WholeBody has scores for faces and hands, but 0, 1, 2 for bodies and feet.
    scored = ((every > 0) & (every < 1)).any(0)
    shown = ", ".join(f"{v:g}" for v in odd[:3])
    if scored.any():
        notes.append(
            f"visibility is given as a score ({shown} ...): above 0 was read as labelled and visible"
        )
    else:
        notes.append(
            f"visibility {shown} is not 0, 1 or 2: above 0 was read as labelled, as COCO's evaluators do"
            + ("; in AI Challenger 3 means `not labelled`" if 3.0 in odd else "")
        )
    found = []
    for a in instances:
        truth = a.truth.copy()
        seen = truth[:, 2]
        truth[:, 2] = np.where(scored, 2.0 * (seen > 0), np.clip(seen, 0, 2))
        truth.setflags(write=False)
        found.append(replace(a, truth=truth))
    return found
