"""The poses of one image in all epochs: a copy of a folder's predictions, sorted by image.

A file of each epoch is what a training run writes, and the wrong order for one image over 300 epochs: 300
files are opened and read. The copy has all rows of an image side by side; one row group holds whole images,
and the footer says which, so that a question opens one file and unpacks one row group.
"""

from __future__ import annotations

import bisect
import errno
import json
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from workbench.core.errors import ReadingNote
from workbench.core.files import replacing
from workbench.core.job import Cancelled
from workbench.core.parquet_pages import row_groups
from workbench.evaluation.prediction_footer import refuse_large
from workbench.evaluation.predictions import KEYPOINT_VALUES, check_values, state_of_file

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from jaxtyping import Bool, Float, Int

FOLDER = "index"
"""Below the predictions: what was made of them, and can be made again."""
NAME = "by_image.parquet"

STATES_KEY, IMAGES_KEY = "workbench.epochs", "workbench.images"
# Rows of one row group: what is unpacked for one image. 64 Ki rows are 10 images of 300 epochs, and 5 MB.
_GROUP_ROWS = 1 << 16
# Rows in memory while the copy is written, about 40 bytes each; every pass reads the files once.
_PASS_ROWS = 1 << 23
_POSE_COLUMNS = ("epoch", "pose", "image_id", "annotation_id", "pose_score", "oks")
_COLUMNS = (*_POSE_COLUMNS, "keypoint", *KEYPOINT_VALUES)


@dataclass(frozen=True, eq=False)
class ImagePoses:
    """Every pose of one image in every epoch: epochs rising, poses in the order of prediction.

    Attributes:
        image_id: as in the annotation file.
        epoch: of each pose.
        pose: its number in its epoch.
        annotation_id: the annotation whose box was used; has no meaning where `annotated` is False.
        annotated: the pose was made from an annotation's box.
        score: of the pose; nan where the model gave none.
        oks: against its annotation; nan without one.
        keypoints: (x, y) in image pixels; nan where the model gave none.
        scores: of keypoints.
        terms: each keypoint's part of the OKS, 0 to 1; nan where it is not labelled.
    """

    image_id: int
    epoch: Int[np.ndarray, " N"]
    pose: Int[np.ndarray, " N"]
    annotation_id: Int[np.ndarray, " N"]
    annotated: Bool[np.ndarray, " N"]
    score: Float[np.ndarray, " N"]
    oks: Float[np.ndarray, " N"]
    keypoints: Float[np.ndarray, "N K 2"]
    scores: Float[np.ndarray, "N K"]
    terms: Float[np.ndarray, "N K"]

    def __len__(self) -> int:
        return len(self.epoch)

    def of_epoch(self, epoch: int) -> ImagePoses:
        """The poses of one epoch, without a search through the others."""
        return self.take(slice(*np.searchsorted(self.epoch, [epoch, epoch + 1])))

    def of_instance(self, annotation_id: int) -> ImagePoses:
        """The poses made from one annotation's box, over the epochs."""
        return self.take(np.flatnonzero(self.annotated & (self.annotation_id == annotation_id)))

    def take(self, rows: slice | Int[np.ndarray, " M"]) -> ImagePoses:
        """Some of the poses."""
        names = [f.name for f in fields(self) if f.name != "image_id"]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def rows(self) -> list[dict[str, Any]]:
        """One row for each keypoint of each pose, None where a value is nan."""
        K = self.scores.shape[1]

        def column(values: np.ndarray, repeat: bool = False) -> list[Any]:
            plain: np.ndarray = values.astype(object)
            if values.dtype.kind == "f":
                plain[np.isnan(values)] = None
            return (np.repeat(plain, K) if repeat else plain.ravel()).tolist()

        ids: np.ndarray = self.annotation_id.astype(object)
        ids[~self.annotated] = None
        columns = {
            "epoch": column(self.epoch, True), "pose": column(self.pose, True),
            "annotation_id": column(ids, True), "keypoint": list(range(K)) * len(self),
            "x": column(self.keypoints[..., 0]), "y": column(self.keypoints[..., 1]),
            "score": column(self.scores), "term": column(self.terms), "oks": column(self.oks, True),
        }  # fmt: skip
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    @classmethod
    def joined(cls, parts: Sequence[ImagePoses]) -> ImagePoses:
        """Poses of the same image from several sources, in the order of epochs."""
        names = [f.name for f in fields(cls) if f.name != "image_id"]
        columns: dict[str, Any] = {n: np.concatenate([getattr(part, n) for part in parts]) for n in names}
        whole = cls(parts[0].image_id, **columns)
        return whole.take(np.lexsort((whole.pose, whole.epoch)))

    @classmethod
    def from_table(cls, table: pa.Table, image_id: int, K: int) -> ImagePoses:
        """The rows of one image of a table of predictions.

        Args:
            table: one row for each keypoint, K for each pose, in order.
            image_id: the image.
            K: keypoints of a pose.
        """
        own = np.flatnonzero(table["image_id"].to_numpy()[::K] == image_id)
        # Rows of one image lie side by side in the copy: a slice of it is cut without a look at the rest.
        if len(own) and own[-1] - own[0] + 1 == len(own):
            table, own = table.slice(own[0] * K, len(own) * K), np.arange(len(own))
        per_pose = {name: table[name].combine_chunks() for name in _POSE_COLUMNS}
        known = per_pose["annotation_id"].is_valid().to_numpy(zero_copy_only=False)[::K][own]

        def of_pose(name: str, kind: type) -> np.ndarray:
            column = per_pose[name]
            column = column.fill_null(0) if kind is int else column
            return column.to_numpy(zero_copy_only=False)[::K][own].astype(kind)

        def of_keypoint(name: str) -> np.ndarray:
            return table[name].to_numpy().astype(float).reshape(-1, K)[own]

        return cls(
            image_id, of_pose("epoch", int), of_pose("pose", int), of_pose("annotation_id", int), known,
            of_pose("pose_score", float), of_pose("oks", float),
            np.stack([of_keypoint("x"), of_keypoint("y")], axis=-1),
            of_keypoint("score"), of_keypoint("term"),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """The copy of a folder, open.

    Attributes:
        path: of the file.
        epochs: those whose file is as it was when the copy was made; the others are read from their files.
        K: keypoints of a pose.
        _file: open as long as the record lives: its footer is read once, and a newer copy does not disturb.
    """

    path: Path
    epochs: frozenset[int]
    K: int
    _file: pq.ParquetFile
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def _images(self) -> list[list[int]]:
        """First and last image of each row group, rising."""
        return json.loads(self._file.metadata.metadata[IMAGES_KEY.encode()])

    def poses(self, image_id: int) -> ImagePoses:
        """The poses of one image in the epochs that the copy has.

        Raises:
            ValueError: the copy cannot be read.
        """
        import pyarrow as pa

        try:
            with self._lock:
                place = bisect.bisect_right(self._images, [image_id, np.inf]) - 1
                group = [place] if place >= 0 and self._images[place][1] >= image_id else []
                # One thread: the columns of one row group are unpacked before threads have started.
                table = self._file.read_row_groups(group, columns=list(_COLUMNS), use_threads=False)
        except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, RecursionError) as reason:
            raise ValueError(
                f"{FOLDER}/{self.path.name}: is damaged; remove it, it is made again ({reason})"
            ) from None
        found = ImagePoses.from_table(table, image_id, self.K)
        indexed = np.isin(found.epoch, np.fromiter(self.epochs, int))
        return found if indexed.all() else found.take(np.flatnonzero(indexed))


def open_image_index(folder: Path, files: Mapping[int, Path]) -> ImageIndex | None:
    """The copy of a folder; None where there is none, or none of the epochs as they are now.

    Args:
        folder: of predictions.
        files: by epoch.
    """

    def read(
        path: Path, file: pq.ParquetFile, notes: dict[str, str], current: list[int]
    ) -> ImageIndex | None:
        K = int(notes["workbench.keypoints"])
        return ImageIndex(path, frozenset(current), K, file) if current else None

    return open_index(Path(folder) / FOLDER / NAME, files, read)


Opened = TypeVar("Opened")


def open_index(
    path: Path,
    files: Mapping[int, Path],
    read: Callable[[Path, pq.ParquetFile, dict[str, str], list[int]], Opened | None],
) -> Opened | None:
    """What `read` makes of a table beside the predictions; None where it is not there, or half-written.

    Args:
        path: of the table.
        files: of the predictions, by epoch.
        read: called with the path, the open file, its notes, and the epochs whose file is as it states.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file() or path.is_symlink() or not _is_own(path.parent):
        return None
    try:
        file = pq.ParquetFile(path.absolute(), page_checksum_verification=True)
        refuse_large(file.metadata, path, is_table=True)
        notes = {key.decode(): value.decode() for key, value in (file.metadata.metadata or {}).items()}
        stated = json.loads(notes[STATES_KEY])
        current = [e for e, own in files.items() if stated.get(str(e)) == file_state(own)]
        return read(path, file, notes, current)
    except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError, TypeError, RecursionError):
        return None


def index_folder(folder: Path) -> Path | None:
    """Where tables of a folder of predictions lie; None, with a note, where nothing can be written."""
    place = Path(folder) / FOLDER
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not _is_own(place):
            raise OSError(errno.ELOOP, "it is a link to another folder")
        with tempfile.TemporaryFile(dir=place):
            return place
    except OSError as reason:
        warnings.warn(
            f"{place} cannot be written ({reason.strerror}): each call computes again what it would keep",
            ReadingNote,
            stacklevel=2,
        )
        return None


def _is_own(place: Path) -> bool:
    """Whether the folder of tables lies below the predictions: a link that came with them leads anywhere."""
    return place.resolve() == place.parent.resolve() / place.name


def file_state(path: Path) -> list[Any]:
    """Name, size and time of change of an epoch's file, as an index states them."""
    return [path.name, *state_of_file(path)]


# How is the copy written? In passes over the files, each for as many images as fit in memory.


def write_image_index(
    target: Path,
    files: Mapping[int, Path],
    K: int,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Write the copy, whole or not at all; 300 epochs of 5,000 images are 32 million rows.

    Args:
        target: the copy's file.
        files: by epoch, rising.
        K: keypoints of a pose, the same in all.
        progress: called with (done, total) files read.
        cancelled: asked before each file.

    Raises:
        ValueError: a file cannot be read.
        Cancelled: asked to stop; nothing is left behind.
    """
    import pyarrow.parquet as pq

    states = {str(epoch): file_state(path) for epoch, path in files.items()}
    blocks = _blocks(files, K)
    passes = _passes(blocks, K)
    groups = [[int(images[0]), int(images[-1])] for images, _ in blocks]
    notes = {STATES_KEY: json.dumps(states), IMAGES_KEY: json.dumps(groups), "workbench.keypoints": str(K)}
    done = 0
    with replacing(target, follow=False) as part:
        writer = None
        try:
            for own in passes:
                poses: list[dict[str, np.ndarray]] = []
                for path in files.values():
                    if cancelled is not None and cancelled():
                        raise Cancelled
                    poses.append(_poses_between(path, own[0][0][0], own[-1][0][-1], K))
                    done += 1
                    if progress is not None:
                        progress(done, len(files) * len(passes))
                for table in _sorted_tables(poses, own, K):
                    if writer is None:
                        writer = pq.ParquetWriter(part, table.schema.with_metadata(notes), **_WRITING)
                    writer.write_table(table, row_group_size=max(len(table), 1))
        finally:
            if writer is not None:
                writer.close()


_WRITING: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": [name for name in _COLUMNS if name not in KEYPOINT_VALUES],
    "use_byte_stream_split": list(KEYPOINT_VALUES),
    # Statistics of eleven columns in a thousand row groups are a footer of a megabyte, read at every start.
    "write_statistics": ["image_id"],
    "write_page_checksum": True,
}

Block = tuple[np.ndarray, int]
"""Image ids, rising, and the number of their poses in all epochs: one row group."""


def _blocks(files: Mapping[int, Path], K: int) -> list[Block]:
    """Images in runs of about `_GROUP_ROWS` rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = np.zeros(0, np.int64)
    counts = np.zeros(0, np.int64)
    for path in files.values():
        try:
            column = pq.read_table(path, columns=["image_id"])["image_id"].to_numpy()[:: max(K, 1)]
        except (pa.ArrowException, OSError, KeyError) as reason:
            raise ValueError(f"{path.name}: expected a file of predictions ({reason})") from None
        own, often = np.unique(column, return_counts=True)
        if not np.array_equal(own, images):
            every = np.union1d(images, own)
            grown = np.zeros(len(every), np.int64)
            grown[np.searchsorted(every, images)] = counts
            images, counts = every, grown
        counts[np.searchsorted(images, own)] += often
    most = max(_GROUP_ROWS // max(K, 1), 1)
    blocks, start, size = [], 0, 0
    for place, count in enumerate(counts.tolist()):
        if size and size + count > most:
            blocks.append((images[start:place], size))
            start, size = place, 0
        size += count
    return [*blocks, (images[start:], size)] if len(images) else []


def _passes(blocks: list[Block], K: int) -> list[list[Block]]:
    """Blocks that are in memory at the same time."""
    passes: list[list[Block]] = []
    size = 0
    for block in blocks:
        if not passes or size + block[1] > _PASS_ROWS // max(K, 1):
            passes.append([])
            size = 0
        passes[-1].append(block)
        size += block[1]
    return passes


def _poses_between(path: Path, first: int, last: int, K: int) -> dict[str, np.ndarray]:
    """The poses of one file whose image lies between two ids, both included; keypoint columns as [n, K]."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [name for name in _COLUMNS if name != "keypoint"]
    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_groups(
                _groups_between(path, file.metadata.schema.names, first, last, K), columns=names
            )
        columns: dict[str, np.ndarray] = {}
        image = table["image_id"].to_numpy()[::K]
        own = np.flatnonzero((image >= first) & (image <= last))
        for name in names:
            column = table[name].combine_chunks()
            if name == "annotation_id":
                columns["annotated"] = column.is_valid().to_numpy(zero_copy_only=False)[::K][own]
                column = column.fill_null(0)
            values = column.to_numpy(zero_copy_only=False)
            if name in (*KEYPOINT_VALUES, "pose_score", "oks"):
                check_values({name: values})
            columns[name] = values.reshape(-1, K)[own] if name in KEYPOINT_VALUES else values[::K][own]
        return columns
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as reason:
        message = " ".join(str(reason).split())[:300]
        raise ValueError(f"{path.name}: expected a file of predictions ({message})") from None


def _groups_between(path: Path, names: Sequence[str], first: int, last: int, K: int) -> list[int]:
    """Row groups that may hold such images; all where a pose is spread over two."""
    groups = row_groups(path)
    if any(group.rows % K for group in groups):
        return list(range(len(groups)))
    current = []
    for place, group in enumerate(groups):
        found = group.columns[names.index("image_id")]
        if found.least is None or found.most is None or (found.most >= first and found.least <= last):
            current.append(place)
    return current


def _sorted_tables(poses: list[dict[str, np.ndarray]], blocks: list[Block], K: int) -> Any:
    """One table for each block, by image, epoch, pose and keypoint."""
    import pyarrow as pa

    columns = {name: np.concatenate([one[name] for one in poses]) for name in poses[0]}
    order = np.lexsort((columns["pose"], columns["epoch"], columns["image_id"]))
    bounds = np.searchsorted(columns["image_id"][order], [images[0] for images, _ in blocks])
    kinds = {"epoch": pa.int32(), "pose": pa.int32(), "image_id": pa.int64(), "annotation_id": pa.int64()}
    for start, stop in zip(bounds, [*bounds[1:], len(order)], strict=True):
        own = order[start:stop]
        made = {}
        for name in _COLUMNS:
            if name == "keypoint":
                made[name] = pa.array(np.tile(np.arange(K), len(own)), pa.int16())
            elif name in KEYPOINT_VALUES:
                made[name] = pa.array(
                    columns[name][own].astype(float).ravel(), pa.float64(), from_pandas=True
                )
            else:
                absent = np.repeat(~columns["annotated"][own], K) if name == "annotation_id" else None
                values = np.repeat(columns[name][own], K)
                made[name] = pa.array(values, kinds.get(name, pa.float64()), mask=absent, from_pandas=True)
        yield pa.table(made)
