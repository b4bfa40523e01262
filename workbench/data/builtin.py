"""Built-in data sets: drawn scenes, drawn on first use and cached, and one photograph with keypoints."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from workbench.core import nearest
from workbench.core.files import remove_abandoned_folders
from workbench.data.coco import read_coco
from workbench.data.pose_set import PoseSet
from workbench.data.scenes import VERSION, SceneSet, write_scenes

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


def builtin(name: str, progress: Callable[[int, int], None] | None = None) -> PoseSet:
    """A built-in data set; training scenes are drawn on first use and cached on disk.

    Args:
        name: one of `BUILTIN`.
        progress: called with (done, total) while scenes are drawn.

    Raises:
        KeyError: no such set.
        OSError: the cache folder cannot be written.
    """
    if name not in DESCRIPTIONS:
        raise KeyError(f"no built-in data set {name!r}; nearest: {nearest(name, BUILTIN)}")
    if name == "astronaut":
        return astronaut()
    folder = SHIPPED / f"{name}-{VERSION}"
    if not folder.is_dir():
        folder = cache_folder() / folder.name
    if not (folder / "annotations.json").is_file():
        _draw(SCENE_SETS[name], folder, progress)
    try:
        return _read(name, folder)
    except (ValueError, FileNotFoundError) as damaged:
        if folder.parent == SHIPPED:
            raise
        _log.warning("the drawn scenes in %s are damaged (%s); they are drawn again", folder, damaged)
        shutil.rmtree(folder, ignore_errors=True)
        _draw(SCENE_SETS[name], folder, progress)
        return _read(name, folder)


@lru_cache(maxsize=8)
def _read(name: str, folder: Path) -> PoseSet:
    from workbench.data.coco import read_coco

    found = read_coco(folder / "annotations.json", folder / "images")
    if absent := found.absent_images():
        raise FileNotFoundError(f"{len(absent)} pictures are absent, the first is {absent[0].name}")
    return replace(found, name=name, source=f"{DESCRIPTIONS[name]}; drawing {VERSION}")


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


def astronaut() -> PoseSet:
    """The photograph of Eileen Collins that scikit-image ships: one person, COCO's 17 keypoints.

    The keypoints were marked by hand; astronaut.json describes how.

    Raises:
        FileNotFoundError: scikit-image is not installed, or this version no longer ships the picture.
    """
    found = importlib.util.find_spec("skimage")  # without importing it, which takes a second
    if found is None or found.origin is None:
        raise FileNotFoundError("astronaut: scikit-image, which ships the photograph, is not installed")
    images = Path(found.origin).parent / "data"
    if not (images / "astronaut.png").is_file():
        raise FileNotFoundError(f"astronaut: this scikit-image ships no astronaut.png in {images}")
    photograph = read_coco(Path(__file__).with_name("astronaut.json"), images)
    return replace(photograph, name="astronaut", source="scikit-image's astronaut.png; keypoints by hand")
