"""Data sets by built-in name or path of a json; and copies of a set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from workbench.core import nearest
from workbench.core.errors import beside
from workbench.core.files import write_text
from workbench.data.builtin import BUILTIN, builtin
from workbench.data.coco import read_coco
from workbench.data.coco_dialects import PARTS, WHOLE
from workbench.data.images import ImageReading
from workbench.data.pose_set import PoseSet
from workbench.skeletons import SKELETONS


def open_data(
    name: str | Path,
    images: Path | None = None,
    category: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    within: Sequence[Path] = (),
    reading: ImageReading | None = None,
) -> PoseSet:
    """A data set by built-in name or path.

    Args:
        name: one of `BUILTIN`, or a COCO-format json; ``file.json#wholebody`` (or foot, face, lefthand,
            righthand) reads that part of a COCO-WholeBody file.
        images: folder of the images of a json.
        category: id or name of the one category of a json to read.
        progress: called with (done, total) while a built-in set is drawn.
        within: no image of a json may lie outside of these folders, links resolved; no limit when empty.
        reading: what is stated about the image files; nothing by default.

    Raises:
        KeyError: neither a built-in name nor a file.
        FileNotFoundError: no such file.
        ValueError: it is no annotation file, or images were named for a built-in set.

    Example:
        >>> pose_set = open_data("scenes-val")
        >>> pose_set.skeleton.name, len(pose_set.images)
        ('ap10k-17', 120)
        >>> sample = pose_set.sample(pose_set.labelled[0])
        >>> sample.image.shape, sample.truth.shape
        ((360, 480, 3), (17, 3))
    """
    text = str(name)
    if text in BUILTIN:
        if images is not None:
            raise ValueError(f"{text} is built in and brings its own images; leave --images out")
        drawn = builtin(text, progress)
        return drawn if reading is None else replace(drawn, reading=reading)
    check_data_name(name)
    path = Path(name)
    if path.is_dir():
        found = sorted(path.glob("*.json")) + sorted(path.glob("annotations/*.json"))
        names = ", ".join(p.name for p in found[:3])
        contents = f"it contains {names}" if found else "it contains none"
        raise ValueError(f"{path}: expected a json file, got a folder; {contents}")
    return read_coco(path, images, category, within=within, reading=reading)


def check_data_name(name: str | Path) -> None:
    """Whether there is such a data set, nothing of it read.

    Args:
        name: as `open_data`.

    Raises:
        KeyError: neither a built-in name nor a file.
        FileNotFoundError: no such file.
    """
    text = str(name)
    path = Path(text.partition("#")[0])
    if text in BUILTIN or Path(text).exists() or path.exists():
        return
    if not path.suffix and path.parent == Path():
        near = nearest(text, BUILTIN)
        raise KeyError(f"no data set {text!r}: neither a json file nor built in; nearest: {near}")
    raise FileNotFoundError(f"{path}: no such annotation file{beside(path)}")


def open_data_for(
    name: str | Path,
    keypoints: int | None,
    images: Path | None = None,
    category: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    within: Sequence[Path] = (),
    reading: ImageReading | None = None,
) -> PoseSet:
    """A data set with a given number of keypoints: of COCO-WholeBody the body's 17 or all 133.

    Args:
        name: as `open_data`; a part named behind ``#`` is kept.
        keypoints: of the model or the result file; None for the set unchanged.
        images: as `open_data`.
        category: as `open_data`.
        progress: as `open_data`.
        within: as `open_data`.
        reading: as `open_data`.

    Raises:
        KeyError, FileNotFoundError, ValueError: as `open_data`.
    """
    pose_set = open_data(name, images, category, progress, within, reading)
    whole = keypoints == len(SKELETONS["coco-wholebody-133"])
    if whole and len(pose_set.skeleton) != keypoints and set(pose_set.parts) == set(PARTS):
        return open_data(f"{name}#{WHOLE}", images, category, progress, within, reading)
    return pose_set


def export(pose_set: PoseSet, folder: Path) -> Path:
    """Copy a set into a new folder: ``images/`` and ``annotations.json``, read back by `read_coco`.

    Args:
        pose_set: all of its images must be present.
        folder: made where it does not exist.

    Returns:
        The path of the annotations.

    Raises:
        FileExistsError: the folder contains annotations already.
        FileNotFoundError: an image is absent.
    """
    target = folder / "annotations.json"
    if target.exists():
        raise FileExistsError(f"{target} exists; name another folder, nothing is overwritten")
    absent = pose_set.absent_images()
    if absent:
        raise FileNotFoundError(f"{pose_set.name}: {len(absent)} images are absent, the first is {absent[0]}")
    names = {number: f"{number:012d}{record.path.suffix}" for number, record in pose_set.images.items()}
    if all(record.path.name == entry.get("file_name") for record, entry in _entries(pose_set)):
        names = {number: record.path.name for number, record in pose_set.images.items()}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, record in pose_set.images.items():
        shutil.copyfile(record.path, folder / "images" / names[number])
    images = [{**entry, "file_name": names[entry["id"]]} for _, entry in _entries(pose_set)]
    return write_text(target, json.dumps({**pose_set.raw, "images": images}, separators=(",", ":")))


def _entries(pose_set: PoseSet):
    return [(pose_set.images[int(entry["id"])], entry) for entry in pose_set.raw["images"]]
