"""What happened to each instance over the epochs? Questions to a folder of Parquet files, one for each epoch.

DuckDB reads the columns that a question needs and nothing else. Two tables beside the files make questions
about all epochs as fast as those about one: `image_index` (one image), and `epoch_scores` (AP, and the OKS of
every instance, whether its pose comes from an annotation's box or from a detector). Both state which files
they were made of; an epoch whose file has changed since is read from its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.core.files import files_in
from workbench.core.parquet_pages import row_groups
from workbench.core.report import counted
from workbench.evaluation.epoch_scores import EpochScores, open_scores, score_epochs
from workbench.evaluation.image_index import (
    NAME,
    ImageIndex,
    ImagePoses,
    index_folder,
    open_image_index,
    write_image_index,
)
from workbench.evaluation.oks import FOUND
from workbench.evaluation.prediction_footer import SHAPE_KEY, read_shape, refuse_large
from workbench.evaluation.predictions import read_protocol
from workbench.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet

Kind = Literal["rows", "poses"]
"""One row for each keypoint of each pose, or one for each pose (for each instance where AP is known)."""


@dataclass(frozen=True)
class History:
    """A folder of epochs.

    Attributes:
        files: by epoch, rising.
        protocols: by epoch; None where a file keeps none.
        keypoint_counts: number of keypoints of a pose, by epoch.
        mixed: epochs made under different rules, or of different skeletons, are compared all the same.
    """

    files: dict[int, Path]
    protocols: dict[int, Protocol | None]
    keypoint_counts: dict[int, int]
    mixed: bool = False

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return next(iter(self.files.values())).parent

    @property
    def differences(self) -> list[str]:
        """Rules in which an epoch differs from the first; then their numbers do not compare."""
        first, *others = self.files
        return [f"epoch {epoch}: {what}" for epoch in others for what in self._differing(epoch, first)]

    @property
    def rules(self) -> dict[int, int]:
        """Number of the rules that each epoch was made under; 1 are those of the first epoch."""
        known: list[int] = []
        found = {}
        for epoch in self.files:
            same = next((n for n, other in enumerate(known) if not self._differing(epoch, other)), None)
            if same is None:
                same = len(known)
                known.append(epoch)
            found[epoch] = same + 1
        return found

    def _differing(self, epoch: int, other: int) -> list[str]:
        a, b = self.protocols[epoch], self.protocols[other]
        K, L = self.keypoint_counts[epoch], self.keypoint_counts[other]
        rules = a.differs_from(b) if a and b else ["a protocol is not known"] if a or b else []
        return [*([f"{counted(K, 'keypoint')} against {L}"] if K != L else []), *rules]

    def check_comparable(self, epochs: Sequence[int] | None = None) -> None:
        """Raise ValueError if epochs (all by default) were made under different rules and `mixed` is False.

        Raises:
            KeyError: no such epoch.
        """
        first, *others = self.files if epochs is None else epochs
        self._check_known([first, *others])
        for epoch in others:
            if (what := self._differing(epoch, first)) and not self.mixed:
                raise ValueError(
                    f"{self.folder.name}: epochs {first} and {epoch} were made under different rules "
                    f"({'; '.join(what[:3])}); they are compared only when asked: --mixed"
                )

    @cached_property
    def scores(self) -> EpochScores | None:
        """AP and instances of the epochs that `score` has seen; None without any.

        A table of an earlier version's rules does not count, and a note says so.
        """
        return open_scores(self.folder, self.files)

    @cached_property
    def image_index(self) -> ImageIndex | None:
        """The copy sorted by image that `index_images` made; None without one."""
        return open_image_index(self.folder, self.files)

    def score(self, pose_set: PoseSet, **options: Any) -> EpochScores:
        """AP of every epoch, and the OKS of every instance: computed for the epochs that are new or changed.

        Args:
            pose_set: the annotations.
            options: of `epoch_scores.score_epochs`.
        """
        found = score_epochs(self.folder, self.files, pose_set, **options)
        self.__dict__["scores"] = found
        return found

    def index_images(
        self, progress: Callable[[int, int], None] | None = None, cancelled: Callable[[], bool] | None = None
    ) -> ImageIndex | None:
        """Make or renew the copy sorted by image; `poses_of_image` is then answered from it.

        Where the folder cannot be written, the files are asked as before, and a note says so.

        Args:
            progress: called with (done, total).
            cancelled: asked now and then.
        """
        K = self._common_keypoints()
        found = self.image_index
        if found is None or found.epochs != self.files.keys():
            if (place := index_folder(self.folder)) is None:
                return found
            write_image_index(place / NAME, self.files, K, progress=progress, cancelled=cancelled)
            self.__dict__["image_index"] = open_image_index(self.folder, self.files)
        return self.image_index

    def poses_of_image(self, image_id: int) -> ImagePoses:
        """Every pose of one image in every epoch; without poses where no epoch has one.

        Raises:
            ValueError: the epochs have different skeletons, or a file cannot be read.

        Example:
            poses = query_epochs(folder).poses_of_image(785)
            poses.of_epoch(20).keypoints  # [poses, K, 2], image pixels
        """
        K = self._common_keypoints()
        index = self.image_index
        known = index.epochs if index is not None and index.K == K else frozenset()
        parts = [index.poses(image_id)] if index is not None and known else []
        if loose := [epoch for epoch in self.files if epoch not in known]:
            question = "SELECT * FROM rows WHERE image_id = ? ORDER BY epoch, pose, keypoint"
            with self._asking("rows", {"rows": loose}) as database:
                table = database.sql(question, params=[image_id]).to_arrow_table()
            parts.append(ImagePoses.from_table(table, image_id, K))
        return ImagePoses.joined(parts)

    def image(self, image_id: int) -> list[dict[str, Any]]:
        """`poses_of_image` as rows: every keypoint of every pose in every epoch, in image pixels."""
        return self.poses_of_image(image_id).rows()

    def epochs(self) -> list[dict[str, Any]]:
        """Each epoch: poses, mean OKS, the part of the instances that is found; the ten figures if scored."""
        if self.scores is not None and self.scores.figures.keys() == self.files.keys():
            return [{"epoch": epoch, **self.scores.figures[epoch]} for epoch in self.files]
        return self._rows(
            f"SELECT epoch, count(*) AS poses, avg(oks) AS oks, avg((oks >= {FOUND})::int) AS found, "
            "avg(pose_score) AS score FROM rows WHERE keypoint = 0 GROUP BY epoch ORDER BY epoch",
            "rows",
            {"rows": list(self.files)},
        )

    def worst(self, epoch: int, count: int = 20) -> list[dict[str, Any]]:
        """The instances with the lowest OKS.

        Args:
            epoch: number of the epoch.
            count: how many at most.
        """
        return self._rows(
            "SELECT image_id, annotation_id, oks FROM poses WHERE oks IS NOT NULL "
            "ORDER BY oks, annotation_id LIMIT ?",
            "poses",
            {"poses": [epoch]},
            count,
        )

    def changed(self, a: int, b: int, count: int = 20) -> list[dict[str, Any]]:
        """The instances whose OKS differs most between two epochs, in either direction.

        Args:
            a: number of an epoch.
            b: number of another one.
            count: how many at most.
        """
        return self._pairs("true", "abs(change) DESC", a, b, count)

    def gained(self, a: int, b: int, count: int = 1_000_000) -> list[dict[str, Any]]:
        """Instances not found in epoch a and found in b, the largest change first.

        Args:
            a: number of an epoch.
            b: number of another one.
            count: how many at most.
        """
        return self._pairs(f"a.oks < {FOUND} AND b.oks >= {FOUND}", "change DESC", a, b, count)

    def lost(self, a: int, b: int, count: int = 1_000_000) -> list[dict[str, Any]]:
        """Instances found in epoch a and not in b, the largest change first.

        Args:
            a: number of an epoch.
            b: number of another one.
            count: how many at most.
        """
        return self._pairs(f"a.oks >= {FOUND} AND b.oks < {FOUND}", "change", a, b, count)

    def regressions(self, a: int, b: int, count: int = 50) -> list[dict[str, Any]]:
        """Single keypoints whose part of the OKS fell most from epoch a to b.

        Args:
            a: number of an epoch.
            b: number of another one.
            count: how many at most.
        """
        self.check_comparable([a, b])
        self._common_keypoints([a, b])
        question = (
            "SELECT a.image_id, annotation_id, keypoint, a.term AS before, b.term AS after, "
            "b.term - a.term AS change FROM a JOIN b USING (annotation_id, keypoint) "
            "WHERE change < 0 ORDER BY change, annotation_id, keypoint LIMIT ?"
        )
        return self._rows(question, "rows", {"a": [a], "b": [b]}, count)

    def of(self, annotation_id: int) -> list[dict[str, Any]]:
        """One instance: its OKS and score in every epoch."""
        return self._rows(
            "SELECT epoch, oks, pose_score AS score FROM poses WHERE annotation_id = ? ORDER BY epoch",
            "poses",
            {"poses": list(self.files)},
            annotation_id,
        )

    def keypoints(self) -> list[dict[str, Any]]:
        """Every keypoint's mean part of the OKS, by epoch."""
        return self._rows(
            "SELECT epoch, keypoint, avg(term) AS oks, count(term) AS labelled FROM rows "
            "GROUP BY epoch, keypoint ORDER BY epoch, keypoint",
            "rows",
            {"rows": list(self.files)},
        )

    def instances(self) -> dict[str, np.ndarray]:
        """Epoch, annotation_id, image_id and oks of every instance in every epoch, as columns [R].

        Raises:
            ValueError: epochs under different rules that were not asked for, or a file cannot be read.
        """
        self.check_comparable()
        with self._asking("poses", {"poses": list(self.files)}) as database:
            found = database.execute(
                "SELECT epoch, annotation_id, image_id, oks FROM poses "
                "WHERE annotation_id IS NOT NULL AND oks IS NOT NULL"
            ).fetchnumpy()
        return {name: np.ma.getdata(values) for name, values in found.items()}

    def predicted_ids(self) -> tuple[np.ndarray | None, np.ndarray]:
        """Ids [A] of annotations (None where there are none) and [I] of images that any epoch has a pose of.

        Raises:
            ValueError: a file cannot be read.
        """
        with self._asking("rows", {"rows": list(self.files)}) as database:
            found = database.execute("SELECT DISTINCT annotation_id, image_id FROM rows").fetchnumpy()
        ids, images = found["annotation_id"], found["image_id"]
        if ids.dtype.kind not in "iu" or np.ma.getmaskarray(ids).any():
            return None, np.unique(np.ma.compressed(np.ma.asarray(images)))
        return np.unique(np.ma.getdata(ids)), np.unique(np.ma.compressed(np.ma.asarray(images)))

    def learned(self, count: int = 1_000_000) -> list[dict[str, Any]]:
        """Each instance: the first epoch that finds it, how often it is lost again, whether it is found last.

        Those that were forgotten most often come first.
        """
        self.check_comparable()
        return self._rows(
            f"WITH seen AS (SELECT image_id, annotation_id, epoch, oks >= {FOUND} AS found FROM poses "
            "WHERE annotation_id IS NOT NULL AND oks IS NOT NULL), steps AS (SELECT *, lag(found) OVER "
            "(PARTITION BY annotation_id ORDER BY epoch) AS was FROM seen) "
            "SELECT image_id, annotation_id, min(epoch) FILTER (WHERE found) AS first_found, "
            "count(*) FILTER (WHERE was AND NOT found) AS forgotten, arg_max(found, epoch) AS found_last "
            "FROM steps GROUP BY image_id, annotation_id ORDER BY forgotten DESC, annotation_id LIMIT ?",
            "poses",
            {"poses": list(self.files)},
            count,
        )

    def _pairs(self, condition: str, order: str, a: int, b: int, count: int) -> list[dict[str, Any]]:
        self.check_comparable([a, b])
        question = (
            "SELECT a.image_id, annotation_id, a.oks AS before, b.oks AS after, b.oks - a.oks AS change "
            f"FROM a JOIN b USING (annotation_id) WHERE {condition} ORDER BY {order}, annotation_id LIMIT ?"
        )
        return self._rows(question, "poses", {"a": [a], "b": [b]}, count)

    def _rows(
        self, question: str, kind: Kind, tables: Mapping[str, Sequence[int]], *values: Any
    ) -> list[dict[str, Any]]:
        with self._asking(kind, tables) as database:
            answer = database.execute(question, list(values))
            names = [column[0] for column in answer.description or ()]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    @cached_property
    def _database(self) -> Any:
        """The connection of this folder: opening one takes longer than most questions."""
        import duckdb

        return duckdb.connect()

    @contextmanager
    def _asking(self, kind: Kind, tables: Mapping[str, Sequence[int]]) -> Iterator[Any]:
        """A connection with tables of some epochs: a row for each keypoint, or one for each pose or instance.

        Args:
            kind: of the rows.
            tables: name -> epochs.

        Raises:
            KeyError: no such epoch.
            ValueError: a file cannot be read.
        """
        import duckdb

        # A cursor has views of its own: pages ask from several threads.
        with self._database.cursor() as database:
            try:
                for name, epochs in tables.items():
                    self._check_known(epochs)
                    if kind == "poses" and self.scores is not None and self.scores.groups.keys() >= {*epochs}:
                        database.register(name, self.scores.table(epochs))
                    else:
                        only = " WHERE keypoint = 0" if kind == "poses" else ""
                        database.execute(f"CREATE TEMP VIEW {name} AS {self._files_of(epochs)}{only}")
                yield database
            except duckdb.Error as reason:
                text = " ".join(str(reason).split())[:300]
                raise ValueError(f"{self.folder.name}: cannot be asked ({text})") from None

    def _files_of(self, epochs: Sequence[int]) -> str:
        files = ", ".join(f"'{_quoted(self.files[epoch])}'" for epoch in epochs)
        # union_by_name: a column without a value in one file may be of another type there. Without the other
        # option a folder called `oks=1` or `epoch=4` would give every row that value instead of its own.
        options = f"union_by_name = {len(epochs) > 1}, hive_partitioning = false"
        return f"SELECT * FROM read_parquet([{files}], {options})"

    def _check_known(self, epochs: Sequence[int]) -> None:
        missing = [e for e in epochs if e not in self.files]
        if missing:
            raise KeyError(f"no epoch {missing[0]}; there are {', '.join(map(str, self.files))}")

    def _common_keypoints(self, epochs: Sequence[int] | None = None) -> int:
        """The number of keypoints of these epochs, all by default.

        Raises:
            ValueError: there are several.
        """
        counts = {self.keypoint_counts[e]: e for e in (self.files if epochs is None else epochs)}
        if len(counts) > 1:
            sizes = ", ".join(f"epoch {epoch} has {K}" for K, epoch in counts.items())
            raise ValueError(
                f"{self.folder.name}: epochs of different skeletons ({sizes} keypoints) have no keypoints in "
                "common; ask for instances"
            )
        return next(iter(counts))


def query_epochs(folder: Path, *, mixed: bool = False) -> History:
    """Open a folder of predictions for questions across its epochs.

    Args:
        folder: with one Parquet file for each epoch.
        mixed: also compare epochs that were made under different rules, or have different skeletons.

    Raises:
        FileNotFoundError: there is no file of predictions with an epoch in it.
        ValueError: a file is damaged, two files are of the same epoch, or of different skeletons.
    """
    found: dict[int, tuple[Path, Protocol | None, int]] = {}
    counts: dict[int, Path] = {}
    # Absolute: DuckDB and Arrow take a folder called `~` for the user's own.
    for path in files_in(Path(folder).absolute(), "*.parquet"):
        if path.name.startswith("."):  # a part of a file that is being written
            continue
        notes, epoch, K = _head(path)
        if epoch is None:
            continue
        if epoch in found:
            raise ValueError(f"{path.name}: epoch {epoch} is also in {found[epoch][0].name}")
        counts.setdefault(K, path)
        found[epoch] = (path, _protocol(notes, path), K)
    if not found:
        raise FileNotFoundError(f"{folder}: no predictions with an epoch in them (*.parquet)")
    if len(counts) > 1 and not mixed:
        sizes = ", ".join(f"{path.name} has {K}" for K, path in counts.items())
        raise ValueError(
            f"{Path(folder).name}: epochs of different skeletons ({sizes} keypoints) are compared only when "
            "asked: --mixed"
        )
    order = sorted(found)
    return History(
        {e: found[e][0] for e in order},
        {e: found[e][1] for e in order},
        {e: found[e][2] for e in order},
        mixed,
    )


def _head(path: Path) -> tuple[dict[bytes, bytes], int | None, int]:
    """What a file's footer says, its epoch and number of keypoints; None, 0 without predictions of an epoch.

    Raises:
        ValueError: it is no Parquet file, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            refuse_large(file.metadata, path)
            notes = file.schema_arrow.metadata or {}
            if SHAPE_KEY not in notes or not file.metadata.num_rows:
                return notes, None, 0
            K = read_shape(notes, path.name, file.metadata.num_rows)[1]
            epoch = row_groups(path)[0].columns[file.schema_arrow.names.index("epoch")].least
            if epoch is None:
                epoch = next(file.iter_batches(batch_size=1, columns=["epoch"]))["epoch"][0].as_py()
    except (pa.ArrowException, OSError, KeyError, IndexError, StopIteration, ValueError) as reason:
        message = " ".join(str(reason).split())[:300]
        if message.startswith(path.name):
            raise ValueError(message) from None
        raise ValueError(f"{path.name}: expected a Parquet file of predictions ({message})") from None
    return notes, epoch if isinstance(epoch, int) else None, K


def _protocol(notes: dict[bytes, bytes], path: Path) -> Protocol | None:
    try:
        return read_protocol(notes)
    except ValueError as reason:
        raise ValueError(f"{path.name}: is damaged, or no file of predictions ({reason})") from None


def _quoted(path: Path) -> str:
    """A path as DuckDB reads it: no quote ends the text, and no bracket of a folder's name is a pattern."""
    text = "".join(f"[{c}]" if c in "[*?" else c for c in str(path))
    return text.replace("'", "''")
