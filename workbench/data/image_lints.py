"""Checks of the image files of a data set: their size, EXIF rotations, several frames in a file, repeats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import sentence
from workbench.core.finding import Finding
from workbench.core.job import current_checkpoint
from workbench.core.report import counted
from workbench.data.image_folders import outside_sentence
from workbench.data.images import frame_count, grey_thumbnail, image_size, turned_by_exif, upright_size
from workbench.data.lints import Located

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import ImageRecord, PoseSet


# Thumbnails of this side in grey levels differ between scenes, but not between JPEG qualities.
_SIDE = 24
# Mean difference of grey levels (0..255) below which two images are the same. JPEG at quality 50: about 1.
_SAME = 2.0
# ... and by at most this share of their contrast: dark scenes of one camera differ by few grey levels.
_SAME_SHARE = 0.35
# Uniform images are all alike; below this standard deviation of grey levels they are not compared.
_PLAIN = 3.0


def image_lints(pose_set: PoseSet, most: int = 1000) -> tuple[str, ...]:
    """Sentences of `located_sizes` and `located_in_images`; arguments as there."""
    found = [*located_sizes(pose_set, most), *located_in_images(pose_set, most)]
    return tuple(one.finding.evidence for one in found)


def pixel_lints(pose_set: PoseSet, most: int = 1000) -> tuple[str, ...]:
    """Why the pixels of images may not be those of the annotations: another size, an EXIF rotation.

    Args:
        pose_set: the headers of its present images are read.
        most: number of images to look at.
    """
    sizes = tuple(one.finding.evidence for one in located_sizes(pose_set, most))
    return (*sizes, *turned_lints(pose_set, most))


def turned_lints(pose_set: PoseSet, most: int = 1000) -> tuple[str, ...]:
    """What decides the pixels of images with an EXIF rotation, where the annotations do not fit upright ones.

    Args:
        pose_set: the headers of its present images are read; () where all are annotated upright.
        most: number of images to look at.
    """
    found = _turned(pose_set, [r for r in pose_set.images.values() if pose_set.has_image(r.id)][:most], "")
    return tuple(one.finding.evidence for one in found if ";" in one.finding.evidence)


def located_in_images(pose_set: PoseSet, most: int = 1000) -> list[Located]:
    """Findings that need the images: EXIF rotations, several frames in a file and duplicate images.

    Args:
        pose_set: its present images are read; missing ones are another finding.
        most: number of images to read; the findings say when there are more.
    """
    present = [r for r in pose_set.images.values() if pose_set.has_image(r.id)]
    looked = present[:most]
    limited = (
        (f" (of the first {most:,} of {counted(len(present), 'image', spec=',')})")
        if looked != present
        else ""
    )
    found = _turned(pose_set, looked, limited) + _of_frames(looked, limited)
    paths: dict[Any, list[int]] = defaultdict(list)
    for record in pose_set.images.values():
        paths[record.path].append(record.id)
    same_file = [number for ids in paths.values() for number in ids[1:]]
    if same_file:
        text = f"{counted(len(same_file), 'image names', 'images name')} the same file as another image"
        found.append(Located(Finding("repeated images", text, severity="warning"), images=tuple(same_file)))
    repeated = duplicate_images([r.path for r in dict.fromkeys(looked)])
    if repeated:
        text = (
            f"{counted(len(repeated), 'image is a near duplicate', 'images are near duplicates')} of another "
            f"image, the first {repeated[0].name}: such images count twice, and leak where one of them is in "
            f"the training set{limited}"
        )
        ids = tuple(number for path in repeated for number in paths[path])
        found.append(Located(Finding("repeated images", text, severity="warning"), images=ids))
    return found


def _turned(pose_set: PoseSet, looked: Sequence[ImageRecord], limited: str) -> list[Located]:
    turned, stored, unsure = [], 0, 0
    for record in looked:
        current_checkpoint()
        try:
            sizes = turned_by_exif(record.path)
        except (ValueError, OSError):
            continue  # reported when the image is read
        if sizes is not None:
            turned.append(record.id)
            as_stored, upright = sizes
            stored += (record.height, record.width) == as_stored != upright
            unsure += as_stored == upright
    if not turned:
        return []
    text = f"{counted(len(turned), 'image has', 'images have')} an EXIF rotation: "
    text += "OpenCV, mmpose and browsers show such images upright"
    if pose_set.reading.as_stored:
        text += "; they are read as they are stored, as --as-stored says"
    elif stored or unsure:
        if stored:
            text += (
                f"; {stored} are annotated on the stored, unrotated picture, whose width and height the file"
                " states, and are read that way: poses of a reader that turns them are in other pixels"
            )
        if unsure:
            text += (
                f"; {unsure} are mirrored or upside down, or square, so their size does not tell on which"
                " picture they were annotated: read as upright ones, with --as-stored as they are stored"
                " (diagnose compares both)"
            )
    finding = Finding("turned images", text + limited, severity="remark")
    return [Located(finding, images=tuple(turned))]


def _of_frames(looked: Sequence[ImageRecord], limited: str) -> list[Located]:
    """Files of several frames or pages, of which the first alone is read."""
    counts: dict[int, tuple[str, int]] = {}
    for record in looked:
        current_checkpoint()
        try:
            counts[record.id] = record.path.name, frame_count(record.path)
        except (ValueError, OSError):
            continue  # reported when the image is read
    many = {number: one for number, one in counts.items() if one[1] > 1}
    if not many:
        return []
    name, count = next(iter(many.values()))
    text = (
        f"{counted(len(many), 'image has', 'images have')} several frames or pages, of which the first alone "
        f"is read: the first is {name} with {count:,}{limited}"
    )
    fix = "Save the frame that is annotated as an image of its own."
    return [Located(Finding("images of several frames", text, fix, severity="remark"), images=tuple(many))]


def duplicate_images(paths: Sequence[Path]) -> list[Path]:
    """The image files that are near duplicates of an earlier one; unreadable files are skipped."""
    small = _thumbnails(paths)
    table = np.array([one.ravel() for _, one in small])
    return [path for i, (path, _) in enumerate(small) if i and _alike(table[:i], table[i])]


def mirrored_images(paths: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """The image files of `paths` whose mirror image is a near duplicate of one of `others`."""
    table = np.array([one.ravel() for _, one in _thumbnails(others)])
    return [path for path, one in _thumbnails(paths) if len(table) and _alike(table, one[:, ::-1].ravel())]


def _thumbnails(paths: Sequence[Path]) -> list[tuple[Path, Float[np.ndarray, "s s"]]]:
    found = []
    for path in paths:
        current_checkpoint()
        thumbnail = _thumbnail(path)
        if thumbnail is not None and thumbnail.std() >= _PLAIN:
            found.append((path, thumbnail))
    return found


def _alike(table: Float[np.ndarray, "N p"], one: Float[np.ndarray, " p"]) -> bool:
    change = table - one
    return bool(((np.abs(change).mean(1) < _SAME) & (change.std(1) < _SAME_SHARE * one.std())).any())


def _thumbnail(path: Path) -> Float[np.ndarray, "s s"] | None:
    try:
        return grey_thumbnail(path, _SIDE)
    except (OSError, ValueError):
        return None


def located_sizes(pose_set: PoseSet, most: int = 20_000) -> list[Located]:
    """Findings about image files that cannot be read, or have another size than the annotations state.

    Args:
        pose_set: the headers of its present images are read.
        most: number of images to look at.
    """
    other, exchanged, broken = [], [], []
    example = why = ""
    for record in list(pose_set.images.values())[:most]:
        current_checkpoint()
        if not record.path.is_file() or record.width is None or record.height is None:
            continue
        try:
            if not pose_set.has_image(record.id):
                raise ValueError(outside_sentence(record.path))
            height, width = upright_size(record.path)
        except (ValueError, OSError) as error:
            broken.append(record.id)
            why = why or sentence(error).removeprefix(f"{record.path.name}: ")
            continue
        stated_size = record.height, record.width
        # Turned by EXIF: annotated on the stored picture, which is another finding.
        if stated_size != (height, width) and stated_size != image_size(record.path):
            (exchanged if stated_size == (width, height) else other).append(record.id)
            stated = f"{record.width} x {record.height}"
            example = example or f"{record.path.name} is {width} x {height}, the file says {stated}"
    made = []
    if broken:
        first = pose_set.images[broken[0]].path.name
        text = f"{counted(len(broken), 'image file')} cannot be read, the first is {first}: {why}"
        made.append(Located(Finding("missing images", text), images=tuple(broken)))
    turned = "the file has width and height exchanged"
    for gone, what, fix in (
        (other, "keypoints do not fit", "Use the images that were annotated, or scale the annotations."),
        (exchanged, turned, "Exchange width and height of these images in the file."),
    ):
        if gone:
            ids = set(gone)
            behind = tuple(a.annotation_id for a in pose_set.instances if a.image_id in ids)
            have = counted(len(gone), "image has", "images have")
            text = f"{have} another size than the file states ({example}): {what}"
            made.append(Located(Finding("images of another size", text, fix), behind, tuple(gone)))
    return made
