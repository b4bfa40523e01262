"""The record of a keypoint data set: images, instances and ground truth. Images are read on demand."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Sample, Skeleton
from workbench.core.errors import ReadingNote
from workbench.core.geometry import checked_box
from workbench.core.job import LruCache, version_of
from workbench.core.report import counted
from workbench.data.image_folders import is_within, opened_within, outside_sentence
from workbench.data.images import ImageReading, common_bits, may_have_16_bits, read_image

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a set, not read yet.

    Attributes:
        id: in the annotation file.
        path: of the file, which may be absent; reading it then raises.
        width: pixels, as the annotation file states; None when neither the file nor the image is known.
        height: likewise.
    """

    id: int
    path: Path
    width: int | None
    height: int | None


@dataclass(frozen=True, eq=False, slots=True)
class Instance:
    """One annotated person or animal.

    Attributes:
        annotation_id: in the annotation file.
        image_id: in the annotation file.
        category_id: in the annotation file.
        box: (x0, y0, x1, y1) in image pixels, clipped to the image as mmpose does; without an area
            `PoseSet.sample` raises.
        truth: (x, y, visibility); visibility 0 unlabelled, 1 hidden, 2 visible.
        area: square pixels as the file states; nan when it does not (CrowdPose).
        iscrowd: a region with many instances, never a sample to score.
        num_keypoints: labelled keypoints.
    """

    annotation_id: int
    image_id: int
    category_id: int
    box: tuple[float, float, float, float]
    truth: Float[np.ndarray, "K 3"]
    area: float
    iscrowd: bool
    num_keypoints: int

    @property
    def has_size(self) -> bool:
        x0, y0, x1, y1 = self.box
        return x1 > x0 and y1 > y0


def stacked_truth(
    instances: Collection[Instance], K: int, columns: int | slice, dtype: type = float
) -> Float[np.ndarray, "N K *columns"]:
    """Columns of the truth of several instances in one array.

    Filled row by row: `np.stack` holds a view of each beside it, 18 MB for 160,000.

    Args:
        instances: all of K keypoints.
        K: number of keypoints.
        columns: of x, y, visibility: a number, or a slice of them.
        dtype: of the array.
    """
    shape = np.empty((K, 3))[:, columns].shape
    found = np.empty((len(instances), *shape), dtype)
    for row, one in zip(found, instances, strict=True):
        row[:] = one.truth[:, columns]
    return found


# Bytes of the images that a list of samples keeps: 290 of 640x480, two of 74 million pixels.
MOST_HELD = 256 << 20


@dataclass(frozen=True, eq=False)
class PoseSet:
    """A keypoint data set.

    Attributes:
        name: the file's stem, or the name of a built-in set.
        skeleton: its keypoints; see workbench.skeletons.
        instances: all annotations with keypoints, in the file's order, crowds and empty ones included.
        images: by image id, annotated or not.
        categories: names by category id.
        raw: the json as read, for evaluators that want COCO's own form. Not to be changed.
        source: where it came from, one line.
        notes: what was converted while reading, one sentence each.
        id_texts: image ids as in the file, by number, where they are text.
        instance_texts: annotation ids, likewise.
        parts: of COCO-WholeBody, the parts that its annotations contain; () for other files.
        part: the part of these keypoints.
        within: no image may lie outside of these folders, symbolic links resolved; no limit when empty.
        left_out: missing images that were left out with their annotations, at the user's request.
        reading: what the user states about the image files.
        folder_doubt: a sentence where another folder holds files of the images' names too.
    """

    name: str
    skeleton: Skeleton
    instances: tuple[Instance, ...]
    images: Mapping[int, ImageRecord]
    categories: Mapping[int, str]
    raw: dict[str, Any] = field(repr=False, default_factory=dict)
    source: str = ""
    left_out: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    id_texts: Mapping[int, str] = field(default_factory=dict, repr=False)
    instance_texts: Mapping[int, str] = field(default_factory=dict, repr=False)
    parts: tuple[str, ...] = ()
    part: str = "body"
    within: tuple[Path, ...] = ()
    reading: ImageReading = field(default_factory=ImageReading)
    folder_doubt: str = ""

    def __len__(self) -> int:
        return len(self.instances)

    @cached_property
    def labelled(self) -> tuple[int, ...]:
        """Indices of the instances that can be scored: a labelled keypoint, a box with an area, no crowd."""
        return tuple(
            i for i, a in enumerate(self.instances) if a.num_keypoints and a.has_size and not a.iscrowd
        )

    @cached_property
    def labelled_of_image(self) -> dict[int, tuple[int, ...]]:
        """The indices of `labelled` by the id of their image."""
        found: dict[int, list[int]] = {}
        for i in self.labelled:
            found.setdefault(self.instances[i].image_id, []).append(i)
        return {image_id: tuple(indices) for image_id, indices in found.items()}

    def unscored_text(self, images: Collection[int] | None = None) -> str:
        """Why none of the instances can be scored, in a few words; "" where one can.

        Args:
            images: ids of those whose instances count; None for all.
        """
        found = [a for a in self.instances if images is None or a.image_id in images]
        labelled = [a for a in found if a.num_keypoints]
        if any(a.has_size and not a.iscrowd for a in labelled):
            return ""
        if not found:
            return "no instance is annotated"
        if not labelled:
            return "no instance has a labelled keypoint"
        if all(a.iscrowd for a in labelled):
            return "all instances with labelled keypoints are crowds (iscrowd)"
        return "no labelled instance has a box with an area"

    def first_images(self, limit: int | None) -> list[int]:
        """Ids of images in the order of the file: the meaning of --limit in every verb.

        Args:
            limit: of the first so many that have a labelled instance; None for all images.
        """
        if limit is None:
            return list(self.images)
        return [image_id for image_id in self.images if image_id in self.labelled_of_image][:limit]

    def has_image(self, image_id: int) -> bool:
        """Whether the file of an image is there, and lies in a folder that is read."""
        path = self.images[image_id].path
        return path.is_file() and is_within(path, self.within)

    def image(self, image_id: int) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels of one image (read-only), in the orientation in which it was annotated.

        A `ReadingNote` says where another folder may be meant.

        Raises:
            KeyError: no such image id.
            FileNotFoundError: the file is not where it should be.
            ValueError: it cannot be read, or its size is not the annotated one.
        """
        if image_id not in self.images:
            raise KeyError(f"{self.name}: no image with id {image_id}")
        record = self.images[image_id]
        if not record.path.is_file():
            raise FileNotFoundError(
                f"{record.path}: no such image file; the folder of the images is named with --images"
            )
        if not is_within(record.path, self.within):
            raise ValueError(outside_sentence(record.path))
        if self.folder_doubt:
            warnings.warn(self.folder_doubt, ReadingNote, stacklevel=2)
        bits = self._bits if may_have_16_bits(record.path) else 0
        version = version_of(record.path)
        reading = ImageReading(bits, self.reading.as_stored)
        return _decoded_images.get(
            (record, self.within, reading, version), lambda: _annotated_pixels(record, self.within, reading)
        )

    @cached_property
    def _bits(self) -> int:
        """Bit depth of the set's 16-bit images, so that a dark image stays dark relative to the others."""
        if self.reading.bits:
            return self.reading.bits
        return common_bits(record.path for record in self.images.values() if self.has_image(record.id))

    @cached_property
    def _numbers(self) -> list[dict[str, int]]:
        tables = self.id_texts, self.instance_texts
        return [{text: number for number, text in table.items()} for table in tables]

    def image_number(self, image_id: Any) -> Any:
        """The integer of an image id: text by the table of this set, or by its digits.

        A value that is no known text is returned unchanged; the caller checks it.
        """
        return _number(image_id, self._numbers[0])

    def instance_number(self, annotation_id: Any) -> Any:
        """The integer of an annotation id, as `image_number`."""
        return _number(annotation_id, self._numbers[1])

    def image_name(self, image_id: int | str) -> int | str:
        """An image id as in the annotation file; result files use it."""
        return self.id_texts.get(image_id, image_id)  # type: ignore[arg-type]

    def instance_name(self, annotation_id: int | str) -> int | str:
        """An annotation id as in the annotation file."""
        return self.instance_texts.get(annotation_id, annotation_id)  # type: ignore[arg-type]

    def in_own_ids(self, facts: Any) -> Any:
        """Plain facts whose every `image_id` and `annotation_id` is that of the annotation file."""
        if not (self.id_texts or self.instance_texts):
            return facts
        if isinstance(facts, (list, tuple)):
            return [self.in_own_ids(one) for one in facts]
        if not isinstance(facts, Mapping):
            return facts
        tables = {"image_id": self.id_texts, "annotation_id": self.instance_texts}
        return {
            key: tables[key].get(value, value) if key in tables else self.in_own_ids(value)
            for key, value in facts.items()
        }

    def sample(self, index: int) -> Sample:
        """One instance with its image, and the other labelled ones of that image under `others`.

        Raises:
            IndexError: no such instance.
            ValueError: its box has no size, or its image cannot be read.
        """
        index = self._number(index)
        return self._with_others(index, self.image(self.instances[index].image_id))

    def _number(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name}: no instance {index}; there are {len(self)}")
        return index % len(self)

    def _with_others(self, index: int, image: np.ndarray | Callable[[], np.ndarray]) -> Sample:
        beside = self.labelled_of_image.get(self.instances[index].image_id, ())
        others = tuple(self._alone(i, image) for i in beside if i != index)
        return self._alone(index, image, others)

    def _alone(
        self, index: int, image: np.ndarray | Callable[[], np.ndarray], others: tuple[Sample, ...] = ()
    ) -> Sample:
        instance = self.instances[index]
        record = self.images[instance.image_id]
        key = f"{record.path.stem}/{instance.annotation_id}"
        made: Any = _Unread if callable(image) else Sample
        return made(
            image=image,
            box=checked_box(instance.box, f"{self.name}, annotation {instance.annotation_id}: box"),
            truth=instance.truth,
            key=key,
            image_id=instance.image_id,
            annotation_id=instance.annotation_id,
            category_id=instance.category_id,
            area=instance.area,
            path=str(record.path),
            others=others,
        )

    def samples(self, indices: Iterable[int] | None = None) -> list[Sample]:
        """Several instances, all labelled ones by default.

        Their images stay in memory as long as these take less than `MOST_HELD`; those of the others are read
        again whenever they are used.

        Raises:
            IndexError: no such instance.
            ValueError: a box has no size, or an image cannot be read.
        """
        images: dict[int, np.ndarray] = {}
        found, left = [], MOST_HELD
        for index in map(self._number, self.labelled if indices is None else indices):
            number = self.instances[index].image_id
            if number not in images and left > 0:
                images[number] = self.image(number)
                left -= images[number].nbytes
            image = images.get(number, partial(self.image, number))
            found.append(self._with_others(index, image))
        return found

    def left_out_text(self) -> str:
        """Which images were left out because they are missing, in one sentence; "" where none was."""
        if not self.left_out:
            return ""
        count = len(self.left_out)
        return (
            f"{count} of {counted(count + len(self.images), 'image is', 'images are')} missing and left out "
            f"with their annotations, the first is {self.left_out[0].name}"
        )

    def absent_text(self, missing: Collection[Path]) -> str:
        """How many of the images are missing, and the first, in a few words."""
        return (
            f"{len(missing)} of {counted(len(self.images), 'image is', 'images are')} missing, the first is "
            f"{next(iter(missing))}"
        )

    def absent_images(self) -> tuple[Path, ...]:
        """Image files that the annotations name and that do not exist."""
        return tuple(missing_images(self).values())


class _Unread(Sample):
    """A sample whose image is read whenever it is used, or given where it is changed by `replace`."""

    _image: np.ndarray | Callable[[], np.ndarray]

    def __init__(self, image: np.ndarray | Callable[[], np.ndarray], **facts: Any) -> None:
        self.__dict__.update(facts, _image=image)

    @property
    def image(self) -> UInt8[np.ndarray, "H W 3"]:  # type: ignore[override]
        return self._image if isinstance(self._image, np.ndarray) else self._image()


def missing_images(pose_set: PoseSet, image_ids: Iterable[int] | None = None) -> dict[int, Path]:
    """The image files that the annotations name and that do not exist, by image id.

    Args:
        pose_set: the set.
        image_ids: images to check; all by default.
    """
    wanted = pose_set.images if image_ids is None else dict.fromkeys(image_ids)
    paths = {number: pose_set.images[number].path for number in wanted}
    return {number: path for number, path in paths.items() if not path.is_file()}


def check_images(pose_set: PoseSet, image_ids: Iterable[int] | None = None) -> None:
    """Raise if an image is missing, before a long prediction starts.

    A figure on fewer images is the figure of another data set; `with_present_images` allows it and is
    named in the protocol.

    Args:
        pose_set: the set.
        image_ids: images to check; all by default.

    Raises:
        FileNotFoundError: an image is missing.
    """
    missing = missing_images(pose_set, image_ids)
    if missing:
        raise FileNotFoundError(
            f"{pose_set.name}: {pose_set.absent_text(missing.values())}; name the folder of the images with"
            " --images, or leave the missing ones out with --skip-missing, which the answer then states"
        )


def with_present_images(pose_set: PoseSet) -> PoseSet:
    """The set without its missing images and their annotations; the same set when none is missing.

    Raises:
        FileNotFoundError: every image is missing.
    """
    missing = missing_images(pose_set)
    if not missing:
        return pose_set
    if len(missing) == len(pose_set.images):
        check_images(pose_set)

    def is_present(entry: Any, key: str) -> bool:
        return not isinstance(entry, Mapping) or entry.get(key) not in missing

    raw = dict(pose_set.raw)
    for part, key in (("images", "id"), ("annotations", "image_id")):
        raw[part] = [entry for entry in raw.get(part, ()) if is_present(entry, key)]
    return replace(
        pose_set,
        instances=tuple(i for i in pose_set.instances if i.image_id not in missing),
        images={n: record for n, record in pose_set.images.items() if n not in missing},
        raw=raw,
        left_out=(*pose_set.left_out, *missing.values()),
    )


def _number(value: Any, table: Mapping[str, int]) -> Any:
    """The integer of an id that may be text; what is no known text and no digits is returned unchanged."""
    if not isinstance(value, str):
        return value
    number = table.get(value)
    if number is None and value.isascii() and value.isdigit() and len(value) <= 18:
        number = int(value)
    return value if number is None else number


# Neighbouring samples often share an image: cache a few decoded images, never a whole set, and of the largest
# one alone: a file of 72 kB may hold 74 million pixels. The version in the keys is the file's: a picture that
# was replaced under its name is read again.
_decoded_images: LruCache[np.ndarray] = LruCache(8, lambda pixels: pixels.nbytes, 256 << 20)


def _annotated_pixels(record: ImageRecord, within: tuple[Path, ...], reading: ImageReading) -> np.ndarray:
    with opened_within(record.path, within) as path:
        return _pixels_of(replace(record, path=path), reading)


def _pixels_of(record: ImageRecord, reading: ImageReading) -> np.ndarray:
    pixels = reading.pixels(record.path)
    if record.height is None or record.width is None:
        pixels.setflags(write=False)
        return pixels
    wanted = (record.height, record.width)
    turned = pixels.shape[:2] != wanted and pixels.shape[1::-1] == wanted
    if turned and not reading.as_stored:
        # Annotated on the stored picture, before the camera's rotation.
        pixels = read_image(record.path, upright=False, least_bits=reading.bits)
    if pixels.shape[:2] != wanted:
        raise ValueError(
            f"{record.path.name}: is {pixels.shape[1]} x {pixels.shape[0]} pixels, but the annotations say"
            f" {record.width} x {record.height}; the keypoints would not match"
        )
    pixels.setflags(write=False)  # the cache shares it
    return pixels
