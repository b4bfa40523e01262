"""Which data set does a person mean? A built-in name or the path of a json; and copies of a set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from workbench.core import nearest
from workbench.core.files import write_text
from workbench.data.builtin import BUILTIN, builtin
from workbench.data.coco import read_coco
from workbench.data.coco_dialects import PARTS, WHOLE
from workbench.data.pose_set import PoseSet
from workbench.skeletons import SKELETONS


def open_data(
    name: str | Path,
    images: Path | None = None,
    category: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PoseSet:
    """A data set by built-in name or path.

    Args:
        name: one of `BUILTIN`, or a COCO-format json; ``file.json#wholebody`` (or foot, face, lefthand,
            righthand) reads that part of a COCO-WholeBody file.
        images: folder of the images of a json.
        category: id or name of the one category of a json to read.
        progress: told (done, all) while a built-in set is drawn.

    Raises:
        KeyError: neither a built-in name nor a file.
        FileNotFoundError: a path that is not there.
        ValueError: the json is none, or images were named for a built-in set.
    """
    text = str(name)
    if text in BUILTIN:
        if images is not None:
            raise ValueError(f"{text} is built in and brings its own images; leave --images out")
        return builtin(text, progress)
    path = Path(name)
    if not path.exists() and not path.suffix and path.parent == Path():
        near = nearest(text, BUILTIN)
        raise KeyError(f"no data set {text!r}: neither a json file nor built in; nearest: {near}")
    if path.is_dir():
        found = sorted(path.glob("*.json")) + sorted(path.glob("annotations/*.json"))
        names = ", ".join(p.name for p in found[:3])
        told = f"there are {names}" if found else "there is none in it"
        raise ValueError(f"{path}: expected a json file, got a folder; {told}")
    return read_coco(path, images, category)


def open_data_for(
    name: str | Path,
    keypoints: int | None,
    images: Path | None = None,
    category: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PoseSet:
    """A data set with the keypoints that somebody speaks of: COCO-WholeBody has 17, and 133 in all.

    Args:
        name: as `open_data`; a part that it names stays as named.
        keypoints: how many a model or a result file has; None takes the set as it is.
        images: as `open_data`, as are the others.
        category: the one to read.
        progress: told (done, all).
    """
    pose_set = open_data(name, images, category, progress)
    whole = keypoints == len(SKELETONS["coco-wholebody-133"])
    if whole and len(pose_set.skeleton) != keypoints and set(pose_set.parts) == set(PARTS):
        return open_data(f"{name}#{WHOLE}", images, category, progress)
    return pose_set


def export(pose_set: PoseSet, folder: Path) -> Path:
    """Copy a set into a new folder: ``images/`` and ``annotations.json``, read back by `read_coco`.

    Returns:
        The path of the annotations.

    Raises:
        FileExistsError: the folder holds annotations already.
        FileNotFoundError: an image is absent.
    """
    target = folder / "annotations.json"
    if target.exists():
        raise FileExistsError(f"{target} exists; name another folder, nothing is overwritten")
    absent = pose_set.absent_images()
    if absent:
        raise FileNotFoundError(f"{pose_set.name}: {len(absent)} images are absent, the first is {absent[0]}")
    places = {number: f"{number:012d}{record.path.suffix}" for number, record in pose_set.images.items()}
    if all(record.path.name == entry.get("file_name") for record, entry in _entries(pose_set)):
        places = {number: record.path.name for number, record in pose_set.images.items()}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, record in pose_set.images.items():
        shutil.copyfile(record.path, folder / "images" / places[number])
    images = [{**entry, "file_name": places[entry["id"]]} for _, entry in _entries(pose_set)]
    return write_text(target, json.dumps({**pose_set.raw, "images": images}, separators=(",", ":")))


def _entries(pose_set: PoseSet):
    return [(pose_set.images[int(entry["id"])], entry) for entry in pose_set.raw["images"]]
