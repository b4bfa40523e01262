"""What does one entry of a COCO file say? Images, annotations and their numbers, checked one by one.

Every refusal names its entry. Nothing is repaired in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from workbench.core import Skeleton
from workbench.core.geometry import Box
from workbench.data.image_files import is_within
from workbench.data.pose_set import ImageRecord, Instance


def entry_name(entry: Any, position: int) -> Any:
    """What to call an entry in a message: its id, or its place in the list."""
    return (
        f"{entry['id']!s:.60}" if isinstance(entry, Mapping) and "id" in entry else f"at position {position}"
    )


def image_records(
    entries: Sequence[Any], folder: Path, where: str, within: Sequence[Path] = ()
) -> dict[int, ImageRecord]:
    """The images by id; a size that the file does not state is the image's own, upright.

    Where neither is there, the size is unknown: annotations can be scored without it.

    Raises:
        ValueError: an id stands twice, or an entry is no image or leaves the folder.
    """
    records: dict[int, ImageRecord] = {}
    for position, entry in enumerate(entries):
        label = f"{where}, image {entry_name(entry, position)}"
        number = whole(entry, "id", label)
        if number in records:
            raise ValueError(f"{label}: this id stands twice")
        file_name = entry.get("file_name")
        if not isinstance(file_name, str) or not file_name:
            raise ValueError(f"{label}: expected a file_name")
        file = inside(folder, file_name, label)
        width = height = None
        if entry.get("width") is not None and entry.get("height") is not None:
            width, height = whole(entry, "width", label), whole(entry, "height", label)
            if width <= 0 or height <= 0:
                raise ValueError(f"{label}: expected a size in pixels, got {width} x {height}")
        elif file.is_file() and is_within(file, within):
            from workbench.data.images import upright_size

            height, width = upright_size(file)
        records[number] = ImageRecord(number, file, width, height)
    return records


def inside(folder: Path, file_name: str, where: str) -> Path:
    """The file that a json names below a folder, or as much of the end of its name as lies there.

    Absolute names are those of another machine: their place there is not looked at, only whether
    ``val2017/1.jpg`` or ``1.jpg`` of ``/data/val2017/1.jpg`` lies below the folder.

    Raises:
        ValueError: the name leaves the folder.
    """
    name = PureWindowsPath(file_name)  # knows both separators
    parts = [part for part in name.parts if part != name.anchor]
    if not parts or ".." in parts or "\0" in file_name:
        raise ValueError(
            f"{where}: file_name {file_name!r:.200} leaves the images' folder; nothing outside is read"
        )
    # What file systems take; a longer name is an error of the system wherever it is looked for.
    if len(file_name) > 3000 or any(len(part.encode(errors="replace")) > 255 for part in parts):
        raise ValueError(f"{where}: expected a file_name, got one of {len(file_name)} characters")
    whole_name = parts[-1:] if name.anchor else parts
    if len(parts) > 1:
        for start in range(len(parts)):
            file = folder.joinpath(*parts[start:])
            if _is_file(file):
                return file
    return folder.joinpath(*whole_name)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name longer than the system takes
        return False


def instance(
    entry: Any, where: str, skeleton: Skeleton, images: Mapping[int, ImageRecord]
) -> Instance | None:
    """One annotation; None when it has no keypoints (boxes and masks of full COCO files).

    Raises:
        ValueError: an unknown image, or numbers that cannot be keypoints. Visibility may be a score up to
            1, AI Challenger's 3, or -1, here left as it is.
    """
    if isinstance(entry, Mapping) and "keypoints" not in entry:
        return None
    annotation_id, image_id = whole(entry, "id", where), whole(entry, "image_id", where)
    if image_id not in images:
        raise ValueError(f"{where}: names image {image_id}, which is not among the images")
    truth = numbers(entry["keypoints"], 3 * len(skeleton), f"{where}: keypoints").reshape(-1, 3)
    seen = truth[:, 2]
    odd = seen[~(((seen >= -1) & (seen <= 1)) | np.isin(seen, (2, 3)))]
    if len(odd):
        raise ValueError(f"{where}: expected visibility 0, 1 or 2, got {odd[0]:g}")
    truth.setflags(write=False)  # shared by every sample of this instance
    area = entry.get("area")
    return Instance(
        annotation_id=annotation_id,
        image_id=image_id,
        category_id=whole(entry, "category_id", where),
        box=clipped_box(entry.get("bbox"), images[image_id], where),
        truth=truth,
        area=float("nan") if area is None else float(numbers([area], 1, f"{where}: area")[0]),
        iscrowd=bool(entry.get("iscrowd")),
        num_keypoints=int((truth[:, 2] > 0).sum()),
    )


def clipped_box(box: Any, image: ImageRecord, where: str) -> Box:
    """Corners of a COCO box (x, y, width, height), clipped to the outermost pixel centres as mmpose does.

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
    """A list of so many finite numbers.

    Raises:
        ValueError: it is anything else.
    """
    if not isinstance(values, list) or len(values) != count:
        got = len(values) if isinstance(values, list) else type(values).__name__
        raise ValueError(f"{where}: expected {count} numbers, got {got}")
    try:
        array = np.array([float(v) for v in values])
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: expected {count} numbers, got something else among them") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: expected finite numbers")
    return array


def whole(entry: Any, key: str, where: str) -> int:
    """A whole number of 64 bits under a key.

    Raises:
        ValueError: it is absent or anything else.
    """
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        # Huge integers cannot even be printed.
        shown = "a number beyond 64 bits" if isinstance(value, int) else repr(value)[:40]
        raise ValueError(f"{where}: expected a whole number under {key!r}, got {shown}")
    return value


def plain_visibility(instances: list[Instance], notes: list[str]) -> list[Instance]:
    """Visibility 0, 1 or 2; a score or a third kind means labelled where it is above 0."""
    if not instances:
        return instances
    every = np.stack([a.truth[:, 2] for a in instances])
    odd = sorted(set(np.unique(every).tolist()) - {0.0, 1.0, 2.0})
    if not odd:
        return instances
    # By keypoint: COCO-WholeBody has scores for faces and hands, and 0, 1, 2 for bodies and feet.
    scored = ((every > 0) & (every < 1)).any(0)
    shown = ", ".join(f"{v:g}" for v in odd[:3])
    if scored.any():
        notes.append(
            f"visibility is given as a score ({shown} ...): above 0 was read as labelled and visible"
        )
    else:
        notes.append(
            f"visibility {shown} is none of 0, 1 and 2: above 0 was read as labelled, as COCO's evaluators do"
            + ("; AI Challenger means `not labelled` by 3" if 3.0 in odd else "")
        )
    found = []
    for a in instances:
        truth = a.truth.copy()
        seen = truth[:, 2]
        truth[:, 2] = np.where(scored, 2.0 * (seen > 0), np.clip(seen, 0, 2))
        truth.setflags(write=False)
        found.append(replace(a, truth=truth))
    return found
