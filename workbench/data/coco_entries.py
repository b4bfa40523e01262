"""What does one entry of a COCO file say? Images, annotations and their numbers, checked one by one.

Every refusal names its entry. Nothing is repaired in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from workbench.data.pose_set import ImageRecord, Instance
from workbench.geometry import Box
from workbench.records import Skeleton


def entry_name(entry: Any, position: int) -> Any:
    """What to call an entry in a message: its id, or its place in the list."""
    return entry["id"] if isinstance(entry, Mapping) and "id" in entry else f"at position {position}"


def image_records(entries: Sequence[Any], folder: Path, where: str) -> dict[int, ImageRecord]:
    """The images by id; a size that the file does not state is the image's own, upright.

    Raises:
        ValueError: an id stands twice, or an entry is no image or leaves the folder.
        FileNotFoundError: neither a size nor the image is there.
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
        if "width" in entry and "height" in entry:
            width, height = whole(entry, "width", label), whole(entry, "height", label)
            if width <= 0 or height <= 0:
                raise ValueError(f"{label}: expected a size in pixels, got {width} x {height}")
        else:
            from workbench.data.images import upright_size

            if not file.is_file():
                raise FileNotFoundError(
                    f"{label}: states no width and height, and {file} is not there to tell them"
                )
            height, width = upright_size(file)
        records[number] = ImageRecord(number, file, width, height)
    return records


def inside(folder: Path, file_name: str, where: str) -> Path:
    """The file that a json names below a folder, or its bare name where the folder is flat.

    Raises:
        ValueError: the name leaves the folder.
    """
    name = PureWindowsPath(file_name)  # knows both separators
    if name.is_absolute() or name.root or name.drive or ".." in name.parts or "\0" in file_name:
        raise ValueError(
            f"{where}: file_name {file_name!r} leaves the images' folder; nothing outside is read"
        )
    file = folder.joinpath(*name.parts)
    flat = folder / name.name
    return flat if len(name.parts) > 1 and not file.is_file() and flat.is_file() else file


def instance(
    entry: Any, where: str, skeleton: Skeleton, images: Mapping[int, ImageRecord]
) -> Instance | None:
    """One annotation; None when it has no keypoints (boxes and masks of full COCO files).

    Raises:
        ValueError: an unknown image, or numbers that cannot be keypoints.
    """
    if isinstance(entry, Mapping) and "keypoints" not in entry:
        return None
    annotation_id, image_id = whole(entry, "id", where), whole(entry, "image_id", where)
    if image_id not in images:
        raise ValueError(f"{where}: names image {image_id}, which is not among the images")
    truth = numbers(entry["keypoints"], 3 * len(skeleton), f"{where}: keypoints").reshape(-1, 3)
    odd = truth[~np.isin(truth[:, 2], (0, 1, 2)), 2]
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
        iscrowd=bool(entry.get("iscrowd", 0)),
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
