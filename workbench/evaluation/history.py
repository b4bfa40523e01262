"""What happened to each instance over the epochs? Questions to a folder of Parquet files, one for each epoch.

DuckDB reads the columns that a question needs and nothing else, so a hundred epochs answer in well under a
second. Instances are named by their annotation, so only predictions from annotation boxes have a history.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.evaluation.predictions import SHAPE_KEY, read_protocol
from workbench.evaluation.protocol import Protocol

FOUND = 0.5
"""OKS from which COCO begins to count a pose as found."""


@dataclass(frozen=True)
class History:
    """A folder of epochs.

    Attributes:
        files: by epoch, rising.
        protocols: by epoch; None where a file keeps none.
    """

    files: dict[int, Path]
    protocols: dict[int, Protocol | None]

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

    def of(self, annotation_id: int) -> list[dict[str, Any]]:
        """One instance: its OKS and score in every epoch."""
        return self._ask(
            "SELECT epoch, oks, pose_score AS score FROM poses WHERE annotation_id = ? ORDER BY epoch",
            list(self.files),
            annotation_id,
        )

    def keypoints(self) -> list[dict[str, Any]]:
        """Every keypoint's mean part of the OKS, by epoch."""
        return self._ask(
            "SELECT epoch, keypoint, avg(term) AS oks, count(term) AS labelled FROM rows "
            "GROUP BY epoch, keypoint ORDER BY epoch, keypoint",
            list(self.files),
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
        with duckdb.connect() as database:
            database.read_parquet(files).create_view("rows")
            database.execute("CREATE VIEW poses AS SELECT * FROM rows WHERE keypoint = 0")
            answer = database.execute(question, list(values))
            names = [column[0] for column in answer.description or ()]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def query_epochs(folder: Path) -> History:
    """Open a folder of predictions for questions across its epochs.

    Raises:
        FileNotFoundError: there is no file of predictions with an epoch in it.
        ValueError: two files are of the same epoch.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[int, tuple[Path, Protocol | None]] = {}
    for path in sorted(Path(folder).glob("*.parquet")):
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as reason:
            raise ValueError(f"{path.name}: expected a Parquet file of predictions ({reason})") from None
        notes = file.schema_arrow.metadata or {}
        if SHAPE_KEY not in notes or not file.metadata.num_rows:
            continue
        epoch = next(file.iter_batches(batch_size=1, columns=["epoch"]))["epoch"][0].as_py()
        if epoch is None:
            continue
        if epoch in found:
            raise ValueError(f"{path.name}: epoch {epoch} is also in {found[epoch][0].name}")
        found[epoch] = (path, read_protocol(notes))
    if not found:
        raise FileNotFoundError(f"{folder}: no predictions with an epoch in them (*.parquet)")
    order = sorted(found)
    return History({e: found[e][0] for e in order}, {e: found[e][1] for e in order})
