"""What happened to each instance over the epochs? Questions to a folder of Parquet files, one for each epoch.

DuckDB reads the columns that a question needs and nothing else, so a hundred epochs answer in well under a
second. Instances are named by their annotation, so only predictions from annotation boxes have a history of
their OKS; keypoints have one in any case. A copy sorted by image answers questions about one image faster.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.core.files import replacing, write_text
from workbench.core.report import plain
from workbench.evaluation.predictions import ORIGIN_KEY, SHAPE_KEY, read_protocol, refuse_large, state_of_file
from workbench.evaluation.protocol import Protocol

FOUND = 0.5
"""OKS from which COCO begins to count a pose as found."""

MANIFEST = "manifest.json"
COMPACT = "by_image.arrow.parquet"
# Rows of one row group of the sorted copy: some images times all epochs.
_GROUP = 65_536


@dataclass(frozen=True)
class History:
    """A folder of epochs.

    Attributes:
        files: by epoch, rising.
        protocols: by epoch; None where a file keeps none.
        compact: a copy of all rows, sorted by image, that is as new as the files; None without one.
    """

    files: dict[int, Path]
    protocols: dict[int, Protocol | None]
    compact: Path | None = None

    @property
    def differences(self) -> list[str]:
        """Rules in which an epoch differs from the first; then their numbers do not compare."""
        first, *others = self.files
        return [
            f"epoch {epoch}: {what}"
            for epoch in others
            for a, b in [(self.protocols[epoch], self.protocols[first])]
            for what in (a.differs_from(b) if a and b else ["a protocol is not known"] if a or b else [])
        ]

    def epochs(self) -> list[dict[str, Any]]:
        """Each epoch: poses, mean OKS, and the part of the instances that is found."""
        return self._ask(
            f"SELECT epoch, count(*) AS poses, avg(oks) AS oks, avg((oks >= {FOUND})::int) AS found, "
            "avg(pose_score) AS score FROM poses GROUP BY epoch ORDER BY epoch",
            list(self.files),
        )

    def worst(self, epoch: int, count: int = 20) -> list[dict[str, Any]]:
        """The instances with the lowest OKS."""
        return self._ask(
            "SELECT image_id, annotation_id, oks FROM poses WHERE epoch = ? AND oks IS NOT NULL "
            "ORDER BY oks, annotation_id LIMIT ?",
            [epoch],
            epoch,
            count,
        )

    def changed(self, a: int, b: int, count: int = 20) -> list[dict[str, Any]]:
        """The instances whose OKS differs most between two epochs, in either direction."""
        return self._pairs("true", "abs(change) DESC", a, b, count)

    def gained(self, a: int, b: int, count: int = 1_000_000) -> list[dict[str, Any]]:
        """Instances not found in epoch a and found in b, the largest change first."""
        return self._pairs(f"a.oks < {FOUND} AND b.oks >= {FOUND}", "change DESC", a, b, count)

    def lost(self, a: int, b: int, count: int = 1_000_000) -> list[dict[str, Any]]:
        """Instances found in epoch a and not in b, the largest change first."""
        return self._pairs(f"a.oks >= {FOUND} AND b.oks < {FOUND}", "change", a, b, count)

    def regressions(self, a: int, b: int, count: int = 50) -> list[dict[str, Any]]:
        """Single keypoints whose part of the OKS fell most from epoch a to b."""
        return self._ask(
            "SELECT a.image_id, annotation_id, keypoint, a.term AS before, b.term AS after, "
            "b.term - a.term AS change FROM rows a JOIN rows b USING (annotation_id, keypoint) "
            "WHERE a.epoch = ? AND b.epoch = ? AND change < 0 ORDER BY change, annotation_id, keypoint "
            "LIMIT ?",
            [a, b],
            a,
            b,
            count,
        )

    def of(self, annotation_id: int) -> list[dict[str, Any]]:
        """One instance: its OKS and score in every epoch."""
        return self._ask(
            "SELECT epoch, oks, pose_score AS score FROM poses WHERE annotation_id = ? ORDER BY epoch",
            list(self.files),
            annotation_id,
        )

    def image(self, image_id: int) -> list[dict[str, Any]]:
        """One image: every keypoint of every pose in every epoch, in image pixels."""
        return self._ask(
            "SELECT epoch, pose, annotation_id, keypoint, x, y, score, term, oks FROM rows WHERE "
            "image_id = ? "
            "ORDER BY epoch, pose, keypoint",
            list(self.files),
            image_id,
        )

    def keypoints(self) -> list[dict[str, Any]]:
        """Every keypoint's mean part of the OKS, by epoch."""
        return self._ask(
            "SELECT epoch, keypoint, avg(term) AS oks, count(term) AS labelled FROM rows "
            "GROUP BY epoch, keypoint ORDER BY epoch, keypoint",
            list(self.files),
        )

    def learned(self, count: int = 1_000_000) -> list[dict[str, Any]]:
        """Each instance: the first epoch that finds it, how often it is lost again, whether it is found last.

        Those that were forgotten most often come first.
        """
        return self._ask(
            f"WITH seen AS (SELECT image_id, annotation_id, epoch, oks >= {FOUND} AS found FROM poses "
            "WHERE annotation_id IS NOT NULL AND oks IS NOT NULL), steps AS (SELECT *, lag(found) OVER "
            "(PARTITION BY annotation_id ORDER BY epoch) AS was FROM seen) "
            "SELECT image_id, annotation_id, min(epoch) FILTER (WHERE found) AS first_found, "
            "count(*) FILTER (WHERE was AND NOT found) AS forgotten, arg_max(found, epoch) AS found_last "
            "FROM steps GROUP BY image_id, annotation_id ORDER BY forgotten DESC, annotation_id LIMIT ?",
            list(self.files),
            count,
        )

    def _pairs(self, condition: str, order: str, a: int, b: int, count: int) -> list[dict[str, Any]]:
        return self._ask(
            "SELECT a.image_id, annotation_id, a.oks AS before, b.oks AS after, b.oks - a.oks AS change "
            "FROM poses a JOIN poses b USING (annotation_id) "
            f"WHERE a.epoch = ? AND b.epoch = ? AND {condition} ORDER BY {order}, annotation_id LIMIT ?",
            [a, b],
            a,
            b,
            count,
        )

    def _ask(self, question: str, epochs: list[int], *values: Any) -> list[dict[str, Any]]:
        import duckdb

        missing = [e for e in epochs if e not in self.files]
        if missing:
            raise KeyError(f"no epoch {missing[0]}; there are {', '.join(map(str, self.files))}")
        files = [str(self.files[e]) for e in dict.fromkeys(epochs)]
        if self.compact is not None and len(files) == len(self.files) and "WHERE image_id" in question:
            files = [str(self.compact)]
        with duckdb.connect() as database:
            try:
                database.read_parquet(files).create_view("rows")
                database.execute("CREATE VIEW poses AS SELECT * FROM rows WHERE keypoint = 0")
                answer = database.execute(question, list(values))
                names = [column[0] for column in answer.description or ()]
                return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
            except duckdb.Error as reason:
                text = " ".join(str(reason).split())[:300]
                raise ValueError(f"{self.files[epochs[0]].parent.name}: cannot be asked ({text})") from None


def query_epochs(folder: Path) -> History:
    """Open a folder of predictions for questions across its epochs.

    Raises:
        FileNotFoundError: there is no file of predictions with an epoch in it.
        ValueError: two files are of the same epoch, or of different skeletons.
    """
    found: dict[int, tuple[Path, Protocol | None]] = {}
    keypoints: dict[int, Path] = {}
    for path in sorted(Path(folder).glob("*.parquet")):
        if path.name == COMPACT:
            continue
        notes, epoch = _head(path)
        if epoch is None:
            continue
        if epoch in found:
            raise ValueError(f"{path.name}: epoch {epoch} is also in {found[epoch][0].name}")
        keypoints.setdefault(_keypoints(notes, path), path)
        found[epoch] = (path, read_protocol(notes))
    if not found:
        raise FileNotFoundError(f"{folder}: no predictions with an epoch in them (*.parquet)")
    if len(keypoints) > 1:
        told = ", ".join(f"{path.name} has {K}" for K, path in keypoints.items())
        raise ValueError(
            f"{Path(folder).name}: epochs of different skeletons ({told} keypoints) have no common history"
        )
    order = sorted(found)
    files = {e: found[e][0] for e in order}
    return History(files, {e: found[e][1] for e in order}, _current_copy(Path(folder), files))


def _head(path: Path) -> tuple[dict[bytes, bytes], int | None]:
    """What a file's footer says and its epoch; None where it holds no predictions of an epoch.

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
                return notes, None
            first = next(file.iter_batches(batch_size=1, columns=["epoch"]))
            epoch = first["epoch"][0].as_py()
    except (pa.ArrowException, OSError, KeyError, IndexError, StopIteration, UnicodeError) as reason:
        told = " ".join(str(reason).split())[:300]
        raise ValueError(f"{path.name}: expected a Parquet file of predictions ({told})") from None
    return notes, epoch if isinstance(epoch, int) else None


def _keypoints(notes: dict[bytes, bytes], path: Path) -> int:
    try:
        return int(json.loads(notes[SHAPE_KEY])[1])
    except (ValueError, TypeError, IndexError):
        raise ValueError(f"{path.name}: is damaged, or no file of predictions") from None


# One copy of all epochs, sorted by image, for the history of one image.


def compacted(history: History) -> Path:
    """Write the sorted copy beside the files; 300 epochs of 5,000 images take some seconds.

    Returns:
        the file; `query_epochs` uses it as long as no epoch's file changes.
    """
    import duckdb

    folder = next(iter(history.files.values())).parent
    target = folder / COMPACT
    names = [str(path) for path in history.files.values()]
    with replacing(target) as part, duckdb.connect() as database:
        database.read_parquet(names).create_view("rows")
        database.execute(
            f"COPY (SELECT * FROM rows ORDER BY image_id, epoch, pose, keypoint) TO '{_quoted(part)}' "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_GROUP}, "
            f"KV_METADATA {{workbench_of: '{_state(history.files)}'}})"
        )
    return target


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _state(files: dict[int, Path]) -> str:
    """Changes when a file of an epoch does."""
    told = [[epoch, path.name, *state_of_file(path)] for epoch, path in files.items()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _current_copy(folder: Path, files: dict[int, Path]) -> Path | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / COMPACT
    if not path.is_file():
        return None
    try:
        notes = pq.ParquetFile(path).metadata.metadata or {}
    except (pa.ArrowException, OSError):  # half-written or foreign: the files themselves are asked
        return None
    return path if notes.get(b"workbench_of", b"").decode() == _state(files) else None


# What lies in the folder, with hashes: so that a table can be traced to its files.


def write_manifest(folder: Path, data: str, about: Sequence[dict[str, Any]] = ()) -> Path:
    """Write `manifest.json`: each epoch's file with its hash, rows and protocol.

    Args:
        folder: of predictions.
        data: the data set, for people.
        about: more of each epoch, by ``epoch``: its checkpoint and that file's hash.

    Raises:
        FileNotFoundError: there are no predictions.
    """
    import pyarrow.parquet as pq

    history = query_epochs(folder)
    more = {one["epoch"]: one for one in about}
    entries = []
    for epoch, path in history.files.items():
        facts = pq.ParquetFile(path)
        origin = (facts.schema_arrow.metadata or {}).get(ORIGIN_KEY, b"").decode(errors="replace")
        protocol = history.protocols[epoch]
        entries.append(
            {
                "epoch": epoch, "file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path),
                "rows": facts.metadata.num_rows, "origin": origin,
                "protocol": None if protocol is None else protocol.to_json(), **more.get(epoch, {}),
            }
        )  # fmt: skip
    text = json.dumps(plain({"format": 1, "data": data, "epochs": entries}), indent=1, ensure_ascii=False)
    return write_text(Path(folder) / MANIFEST, text + "\n")


def check_manifest(folder: Path) -> list[str]:
    """What in the folder is not as its manifest says, one sentence each; [] without a manifest.

    Raises:
        ValueError: the manifest is damaged.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return []
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        entries = [(str(one["file"]), str(one["sha256"])) for one in told["epochs"]]
    except (ValueError, KeyError, TypeError, RecursionError) as reason:
        raise ValueError(
            f"{path.name}: is damaged, expected a list of epochs with file and sha256 ({reason})"
        ) from None
    wrong = []
    for name, digest in entries:
        file = Path(folder) / Path(name).name  # nothing outside the folder is opened
        if not file.is_file():
            wrong.append(f"{name}: named in {MANIFEST}, and not there")
        elif sha256_of(file) != digest:
            wrong.append(f"{name}: changed since {MANIFEST} was written")
    return wrong


def sha256_of(path: Path) -> str:
    """The file's SHA-256, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
