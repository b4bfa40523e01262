"""Where may an image lie that a file names?"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any


def is_within(file: Path, folders: Sequence[Path]) -> bool:
    """Whether a file lies below one of some folders, links followed; any file does when there are none."""
    if not folders:
        return True
    target = file.resolve()
    return any(target.is_relative_to(folder.resolve()) for folder in folders)


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


# What folders are called that hold annotation files, beside which the images' folders lie.
_ANNOTATION_FOLDER = re.compile("ann?ot|anno|label|^(gt|jsons?|splits?|meta|keypoints)$", re.IGNORECASE)
# Images whose names are tried in a folder: the first may be missing.
_TRIED = 8
# Folders that are looked into; a data set has a handful.
_MOST_FOLDERS = 200


def images_folder(path: Path, images: Path | None, entries: Sequence[Any]) -> Path:
    """Where the images lie: as named, or the first usual place that holds one of the first few.

    Only below the folder of the data set, which is that of the json, or the one above ``annotations/``; and
    ``images`` or ``data`` beside the folder of the json. A stranger's file can name no other place.
    """
    names = [
        e["file_name"] for e in entries if isinstance(e, Mapping) and isinstance(e.get("file_name"), str)
    ]
    names = [name for name in names if name and "\0" not in name][:_TRIED]
    if images is not None:
        if not images.is_dir():
            raise FileNotFoundError(f"{images}: expected the folder of the images")
        return next((p for p in (images, *_subfolders(images)) if _holds(p, names, path.name)), images)
    here, top = path.parent, _top(path)
    # Beside the json, or where COCO, AP-10K and CrowdPose put them.
    places = [here, here / "images", here.parent / "images", here.parent / "data", top]
    places += [*_subfolders(top), *_subfolders(top / "images"), *_subfolders(top / "data")]
    # Human-Art names its images from the folder above its own: Human-Art/images/...
    first = {PureWindowsPath(name).parts[0] for name in names if PureWindowsPath(name).parts}
    if top.resolve().name in first:
        places.append(top.resolve().parent)
    return next((p for p in places if _holds(p, names, path.name)), here)


def folders_of(path: Path) -> list[Path]:
    """The folders in which the images of a json are looked for, and none above or beside them."""
    top, here = _top(path), path.parent
    return [folder for folder in (top, here.parent / "images", here.parent / "data") if folder.is_dir()]


def _top(path: Path) -> Path:
    """The folder of the data set: that of the json, or the one above ``annotations/``."""
    here = path.parent
    return here.parent if _ANNOTATION_FOLDER.search(here.resolve().name) else here


def _holds(folder: Path, names: Sequence[str], where: str) -> bool:
    return any(inside(folder, name, where).is_file() for name in names)


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = sorted(p for p in itertools.islice(folder.iterdir(), 5000) if p.is_dir())
    return found[:_MOST_FOLDERS]
