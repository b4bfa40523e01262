"""Locations of the image files that an annotation file names.

An annotation file can name only files below its data set's folder, or below the folder that the user names.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from workbench.core.files import resolved


def is_within(file: Path, folders: Sequence[Path]) -> bool:
    """Whether a file lies below one of the folders, symbolic links resolved; always true without folders."""
    if not folders:
        return True
    try:
        target = resolved(file)
    except OSError:
        return False
    return any(target.is_relative_to(folder.resolve()) for folder in folders)


def inside(folder: Path, file_name: str, where: str) -> Path:
    """The path below a folder of a file that an annotation file names.

    Absolute names come from another machine: only their end is used. For ``/data/val2017/1.jpg`` the files
    ``val2017/1.jpg`` and ``1.jpg`` below the folder are tried.

    Args:
        folder: of the images.
        file_name: as the annotation file has it.
        where: file and entry, for messages.

    Raises:
        ValueError: the name leaves the folder (``..``), or is too long for a file system.
    """
    name = PureWindowsPath(file_name)  # knows both separators
    parts = [part for part in name.parts if part != name.anchor]
    if not parts or ".." in parts or "\0" in file_name:
        raise ValueError(
            f"{where}: file_name {file_name!r:.200} leaves the images' folder; nothing outside is read"
        )
    # Limits of file systems; a longer name raises OSError wherever it is looked up.
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
    except OSError:  # the name is longer than the file system allows
        return False


# Names of folders that hold annotation files; the folders of the images lie beside them.
_ANNOTATION_FOLDER = re.compile("ann?ot|anno|label|^(gt|jsons?|splits?|meta|keypoints)$", re.IGNORECASE)
# How many image names are tried in a folder; the first ones may be missing.
_TRIED = 8
# How many folders are searched; a data set has a few.
_MOST_FOLDERS = 200


def images_folder(path: Path, images: Path | None, entries: Sequence[Any]) -> Path:
    """The folder of the images: the named one, or the first usual folder that holds one of the first images.

    Without a named folder, only folders of the data set are searched: the folder of the json, or the one
    above ``annotations/``, and ``images`` or ``data`` beside the folder of the json.

    Args:
        path: of the annotation file.
        images: folder that the user names; its subfolders are searched, too.
        entries: images of the annotation file.

    Raises:
        FileNotFoundError: the named folder does not exist.
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
    candidates = [here, here / "images", here.parent / "images", here.parent / "data", top]
    candidates += [*_subfolders(top), *_subfolders(top / "images"), *_subfolders(top / "data")]
    # Human-Art names its images from the folder above its own: Human-Art/images/...
    first = {PureWindowsPath(name).parts[0] for name in names if PureWindowsPath(name).parts}
    if top.resolve().name in first:
        candidates.append(top.resolve().parent)
    return next((p for p in candidates if _holds(p, names, path.name)), here)


def folders_of(path: Path) -> list[Path]:
    """The folders below which `images_folder` searches for the images of an annotation file."""
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
