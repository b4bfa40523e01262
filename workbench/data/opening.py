"""Data sets by built-in name (drawn once and cached) or path of a json; and copies of a set."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from workbench.core import ReadingNote, nearest
from workbench.core.errors import beside
from workbench.core.files import (
    check_own_folder,
    inner_folder,
    remove_abandoned_folders,
    remove_entry,
    replacing,
    write_text,
)
from workbench.core.report import counted
from workbench.data.coco import read_coco
from workbench.data.coco_dialects import PARTS, WHOLE, part_of
from workbench.data.image_folders import opened_within
from workbench.data.images import ImageReading
from workbench.data.pose_set import PoseSet
from workbench.data.scenes import VERSION, SceneSet, write_scenes
from workbench.skeletons import SKELETONS, skeleton_named


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
        category: id or name of the one category to read.
        progress: called with (done, total) while a built-in set is drawn.
        within: no image of a json may lie outside of these folders, links resolved; by default outside of the
            data set's own folders and `images`.
        reading: what is stated about the image files; nothing by default.

    Raises:
        KeyError: neither a built-in name nor a file, or no such category.
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
        drawn = builtin(text, progress, category)
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
    # A part that the user names is kept.
    named = part_of(name)[1] is not None
    whole = not named and keypoints == len(SKELETONS["coco-wholebody-133"])
    if whole and len(pose_set.skeleton) != keypoints and set(pose_set.parts) == set(PARTS):
        return open_data(f"{name}#{WHOLE}", images, category, progress, within, reading)
    return pose_set


def with_skeleton_named(pose_set: PoseSet, name: str | None) -> PoseSet:
    """The set under the names, limbs, mirror pairs and sigmas of a known skeleton, where it has numbers.

    Args:
        pose_set: one that names its keypoints is returned unchanged; a `ReadingNote` says it.
        name: as `--skeleton` takes it; None for the set unchanged.

    Raises:
        ValueError: no such skeleton, or it has another number of keypoints.
    """
    if name is None:
        return pose_set
    known, own = skeleton_named(name), pose_set.skeleton
    if own.keypoints != tuple(str(k) for k in range(len(own))):
        if own.keypoints != known.keypoints:
            note = f"--skeleton {name}: {pose_set.name} names its keypoints itself; its own names count"
            warnings.warn(note, ReadingNote, stacklevel=2)
        return pose_set
    if len(known) != len(own):
        raise ValueError(
            f"--skeleton {name}: has {counted(len(known), 'keypoint')}, the annotations of {pose_set.name} "
            f"{len(own)}"
        )
    if own.mirror and known.mirror and own.mirror != known.mirror:
        note = f"--skeleton {name}: the mirror pairs that {pose_set.name} states are others and not used"
        warnings.warn(note, ReadingNote, stacklevel=2)
    elif own.mirror:
        known = replace(known, mirror=own.mirror)
    if own.sigmas:  # those that the file states precede the published ones
        known = replace(known, sigmas=own.sigmas, source=own.source)
    return replace(pose_set, skeleton=known)


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
        raise FileNotFoundError(
            f"{pose_set.name}: {counted(len(absent), 'image is', 'images are')} absent, the first is "
            f"{absent[0]}"
        )
    names = {number: f"{number:012d}{record.path.suffix}" for number, record in pose_set.images.items()}
    if all(record.path.name == entry.get("file_name") for record, entry in _entries(pose_set)):
        names = {number: record.path.name for number, record in pose_set.images.items()}
    inner_folder(folder, "images")
    for number, record in pose_set.images.items():
        copy = folder / "images" / names[number]
        with opened_within(record.path, pose_set.within) as path, replacing(copy, follow=False) as part:
            shutil.copyfile(path, part)
    images = [{**entry, "file_name": names[entry["id"]]} for _, entry in _entries(pose_set)]
    return write_text(target, json.dumps({**pose_set.raw, "images": images}, separators=(",", ":")))


def _entries(pose_set: PoseSet):
    return [(pose_set.images[int(entry["id"])], entry) for entry in pose_set.raw["images"]]


# Built-in data sets: drawn scenes, drawn on first use and cached, and one photograph with keypoints.


SCENE_SETS: dict[str, SceneSet] = {
    s.name: s
    for s in (
        SceneSet("scenes-val", "animals", 120, 2),
        SceneSet("scenes-train", "animals", 1200, 1),
        SceneSet("scenes-people-val", "people", 120, 4),
        SceneSet("scenes-people-train", "people", 800, 3),
    )
}

DESCRIPTIONS: dict[str, str] = {
    "scenes-val": "120 drawn scenes with quadrupeds of 8 species, AP-10K's 17 keypoints",
    "scenes-train": "1200 drawn scenes with quadrupeds of 8 species, AP-10K's 17 keypoints",
    "scenes-people-val": "120 drawn scenes with people, COCO's 17 keypoints",
    "scenes-people-train": "800 drawn scenes with people, COCO's 17 keypoints",
    "astronaut": "scikit-image's photograph of Eileen Collins, COCO's 17 keypoints marked by hand",
}

BUILTIN: tuple[str, ...] = tuple(DESCRIPTIONS)
"""Names that `builtin` knows."""

# The validation sets are shipped drawn, which saves half a minute before the first page.
# tests/data/test_builtin.py draws some scenes again and compares.
SHIPPED = Path(__file__).parent / "drawn"

_log = logging.getLogger("workbench")


def cache_folder() -> Path:
    """The folder of drawn sets: ``$WORKBENCH_CACHE``, else the cache folder of the platform."""
    chosen = os.environ.get("WORKBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pose-workbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "pose-workbench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pose-workbench"


def builtin(
    name: str, progress: Callable[[int, int], None] | None = None, category: int | str | None = None
) -> PoseSet:
    """A built-in data set; training scenes are drawn on first use and cached on disk.

    Args:
        name: one of `BUILTIN`.
        progress: called with (done, total) while scenes are drawn.
        category: id or name of the one category to read; all by default.

    Raises:
        KeyError: no such set, or no such category.
        OSError: the cache folder cannot be written.
    """
    if name not in DESCRIPTIONS:
        raise KeyError(f"no built-in data set {name!r}; nearest: {nearest(name, BUILTIN)}")
    if name == "astronaut":
        return astronaut(category)
    folder = SHIPPED / f"{name}-{VERSION}"
    if not folder.is_dir():
        folder = cache_folder() / folder.name
    if not os.path.lexists(folder):
        _draw(SCENE_SETS[name], folder, progress)
    try:
        return _read(name, folder, category)
    except (ValueError, OSError) as damaged:
        if folder.parent == SHIPPED:
            raise
        _log.warning("the drawn scenes in %s are damaged (%s); they are drawn again", folder, damaged)
        remove_entry(folder)
        _draw(SCENE_SETS[name], folder, progress)
        return _read(name, folder, category)


@lru_cache(maxsize=8)
def _read(name: str, folder: Path, category: int | str | None) -> PoseSet:
    from workbench.data.coco import read_coco

    if category is not None:  # whether it is the whole set is asked first
        _read(name, folder, None)
    elif folder.parent != SHIPPED:
        check_own_folder(folder)
    found, scenes = read_coco(folder / "annotations.json", folder / "images", category), SCENE_SETS[name]
    drawn = (len(found.images), found.skeleton.keypoints) == (scenes.count, scenes.skeleton.keypoints)
    if category is None and not drawn:
        raise ValueError(f"annotations.json: expected {counted(scenes.count, 'scene')} as {name} has them")
    if absent := found.absent_images():
        raise FileNotFoundError(
            f"{counted(len(absent), 'picture is', 'pictures are')} absent, the first is {absent[0].name}"
        )
    return replace(found, name=name, source=f"{DESCRIPTIONS[name]}; version {VERSION} of the drawing code")


def _draw(scenes: SceneSet, folder: Path, progress: Callable[[int, int], None] | None) -> None:
    """Draw into a temporary folder, then rename it: a set is complete or absent, also with two processes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned_folders(folder.parent, f".{folder.name}-*")
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write_scenes(beside, scenes, progress)
        beside.rename(folder)
    except OSError:
        # Another process finished first; its scenes are identical.
        if not (folder / "annotations.json").is_file():
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def astronaut(category: int | str | None = None) -> PoseSet:
    """The photograph of Eileen Collins that scikit-image ships: one person, COCO's 17 keypoints.

    The keypoints were marked by hand; astronaut.json describes how.

    Args:
        category: id or name of the one category to read, which is the person's.

    Raises:
        KeyError: no such category.
        FileNotFoundError: scikit-image is not installed, or this version no longer ships the picture.
    """
    found = importlib.util.find_spec("skimage")  # without importing it, which takes a second
    if found is None or found.origin is None:
        raise FileNotFoundError("astronaut: scikit-image, which ships the photograph, is not installed")
    images = Path(found.origin).parent / "data"
    if not (images / "astronaut.png").is_file():
        raise FileNotFoundError(f"astronaut: this scikit-image ships no astronaut.png in {images}")
    photograph = read_coco(Path(__file__).with_name("astronaut.json"), images, category)
    return replace(photograph, name="astronaut", source="scikit-image's astronaut.png; keypoints by hand")
