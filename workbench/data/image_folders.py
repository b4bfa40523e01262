"""Where the image files of an annotation file lie.

An annotation file can name only files below its data set's folder, or below the folder that the user names.
A link there that leads elsewhere came with the data, and is not followed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from workbench.core.files import resolved
from workbench.core.report import counted

# Folders of a name and the name itself: each end of it is looked up.
_MOST_PARTS = 64


def is_within(file: Path, folders: Sequence[Path]) -> bool:
    """Whether a file lies below one of the folders, symbolic links resolved; always true without folders."""
    if not folders:
        return True
    try:
        target = resolved(file)
    except OSError:
        return False
    return any(target.is_relative_to(folder.resolve()) for folder in folders)


def outside_sentence(file: Path) -> str:
    """The sentence for an image outside of the folders of its data set."""
    return (
        f"{file.name}: leads out of the data set's folders; it is not read."
        " Name the images' own folder with --images, or put copies in the place of links"
    )


def readable_folders(path: Path, images: Path | None) -> tuple[Path, ...]:
    """The folders below which images of an annotation file are read, where nobody says others.

    Args:
        path: of the annotation file.
        images: folder that the user names; links to and in the path of it are the user's own.
    """
    folders = [*folders_of(path), *([] if images is None else [images])]
    # huggingface_hub keeps snapshots/<revision>/<name> as links to blobs/<hash> of the same repository.
    blobs = {
        parent.parent / "blobs"
        for folder in folders
        for parent in folder.resolve().parents
        if parent.name == "snapshots"
    }
    return (*folders, *sorted(blobs))


class _OpenFile(type(Path())):  # the class of this system's paths
    """A path to an open file, with the name that the file has: readers go by its ending, and say it.

    Nothing is written for it: a link in a temporary folder would need one for each picture.
    """

    _given = ""

    @classmethod
    def named(cls, place: Path, name: str) -> Path:
        made = cls(place)
        made._given = name
        return made

    @property
    def name(self) -> str:
        return self._given or super().name


@contextlib.contextmanager
def opened_within(file: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """A path to a file that was opened once and lies below one of the folders, whatever stands there later.

    The place of the open file is checked, not that of its name: a program of this machine could put a link in
    its place between the check and the reading. The path leads to the open file and keeps its name. Where the
    system has no /proc (not Linux) the name itself is checked and given.

    Args:
        file: that is to be read.
        folders: links are resolved; no limit when empty.

    Raises:
        ValueError: it lies outside of all of them.
        OSError: it cannot be opened.
    """
    if not folders:
        yield file
        return
    if not is_within(file, folders):
        raise ValueError(outside_sentence(file))
    if not Path("/proc/self/fd").is_dir():
        yield file
        return
    # A pipe of that name would be waited for without O_NONBLOCK.
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        place = Path(f"/proc/{os.getpid()}/fd/{handle}")
        if not is_within(place.readlink(), folders):
            raise ValueError(outside_sentence(file))
        yield _OpenFile.named(place, file.name)
    finally:
        os.close(handle)


def inside(folder: Path, file_name: str, where: str) -> Path:
    """The path below a folder of a file that an annotation file names.

    Absolute names come from another machine: only their end is used. For ``/data/val2017/1.jpg`` the files
    ``val2017/1.jpg`` and ``1.jpg`` below the folder are tried.

    Args:
        folder: of the images.
        file_name: as the annotation file has it.
        where: file and entry, for messages.

    Raises:
        ValueError: the name leaves the folder (``..``), is too long for a file system, or names more folders
            than any data set.
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
    if len(parts) > _MOST_PARTS:
        raise ValueError(f"{where}: expected a file_name, got one of {counted(len(parts) - 1, 'folder')}")
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


def images_folder(path: Path, images: Path | None, entries: Sequence[Any]) -> tuple[Path, str]:
    """The folder of the images: the named one, or the usual folder that holds one of the first images.

    Without a named folder, only folders of the data set are searched: the folder of the json, or the one
    above ``annotations/``, and ``images`` or ``data`` beside the folder of the json. Where several folders
    hold files of these names (``train/0001.png``, ``val/0001.png``), it is the one named like the json.

    Args:
        path: of the annotation file.
        images: folder that the user names; its subfolders are searched, too.
        entries: images of the annotation file.

    Returns:
        The folder, and a sentence where another one may be meant; otherwise "".

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
        return _chosen((images, *_subfolders(images)), names, path)
    here, top = path.parent, _top(path)
    # Beside the json, or where COCO, AP-10K and CrowdPose put them.
    candidates = [here, here / "images", *_beside(here), top]
    candidates += [*_subfolders(top), *_subfolders(top / "images"), *_subfolders(top / "data")]
    # Human-Art names its images from the folder above its own: Human-Art/images/...
    first = {PureWindowsPath(name).parts[0] for name in names if PureWindowsPath(name).parts}
    if top.resolve().name in first:
        candidates.append(top.resolve().parent)
    return _chosen(candidates, names, path)


def _chosen(candidates: Sequence[Path], names: Sequence[str], path: Path) -> tuple[Path, str]:
    """The first candidate where it holds one of the names, otherwise the likeliest of those that do."""
    if _files_there(candidates[0], names, path.name):
        return candidates[0], ""
    held = {p: files for p in candidates if (files := _files_there(p, names, path.name))}
    if not held:
        return candidates[0], ""

    # Of val/a.png the folder that has it below val comes before one that has an a.png.
    def depth(folder: Path) -> int:
        return max(len(file.relative_to(folder).parts) for file in held[folder])

    deepest = max(map(depth, held))
    holding: dict[frozenset[Path], Path] = {}  # the same files, by whichever folder they are reached, once
    for folder in (p for p in held if depth(p) == deepest):
        holding.setdefault(frozenset(file.resolve() for file in held[folder]), folder)
    first, *others = holding.values()
    stem = path.stem.lower()
    named = [p for p in (first, *others) if p.name.lower() in stem or stem in p.name.lower()]
    of_split = [p for p in (first, *others) if _splits(p.name) & _splits(stem)]
    if not named and len(of_split) == 1:  # of person_keypoints_val.json, the folder val2017
        named = of_split
    if named or not others:
        return max(named or [first], key=lambda p: min(len(p.name), len(stem))), ""
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return first, (
        f"images are read from the folder {first.name}; other files of the same names lie in "
        f"{', '.join(p.name for p in others[:3])}{more}: name the folder that is meant with --images"
    )


def _splits(name: str) -> set[str]:
    """Which parts of a data set a name speaks of: train, val or test."""
    return set(re.findall(r"(?<![a-z])(train|val|test)(?=ing|id|idation|[^a-z]|$)", name.lower()))


def folders_of(path: Path) -> list[Path]:
    """The folders below which `images_folder` searches for the images of an annotation file."""
    return [folder for folder in (_top(path), *_beside(path.parent)) if folder.is_dir()]


def _beside(here: Path) -> list[Path]:
    """Where data sets put images beside the folder of their json."""
    return [_above(here) / name for name in ("images", "data")]


def _above(folder: Path) -> Path:
    """The parent of a folder; of `.` and `..`, whose parent is `.` for pathlib, the one that they have."""
    return (folder if folder.name not in ("", "..") else folder.resolve()).parent


def _top(path: Path) -> Path:
    """The folder of the data set: that of the json, or the one above ``annotations/``."""
    here = path.parent
    return _above(here) if _ANNOTATION_FOLDER.search(here.resolve().name) else here


def _files_there(folder: Path, names: Sequence[str], where: str) -> list[Path]:
    """The files of these names in a folder."""
    return [file for name in names if _is_file(file := inside(folder, name, where))]


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = sorted(p for p in itertools.islice(folder.iterdir(), 5000) if p.is_dir())
    return found[:_MOST_FOLDERS]
