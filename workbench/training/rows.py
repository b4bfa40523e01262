"""What happened at every step, in Parquet parts that others can read while the run goes on.

A part is written under a temporary name and renamed: a reader never meets half a file, and a killed run
loses at most the rows since the last flush.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class RowWriter:
    """Rows of one run, flushed as numbered parts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waiting: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row until the next flush."""
        self.waiting.append(row)

    def flush(self) -> None:
        """Write what is waiting; on failure it goes on waiting.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        if not self.waiting:
            return
        import pyarrow
        import pyarrow.parquet

        # The first step in the name keeps parts in order and makes a repeated stretch replace its older self.
        path = self.folder / f"steps-{self.waiting[0]['step']:08d}.parquet"
        keys = list(dict.fromkeys(key for row in self.waiting for key in row))
        table = pyarrow.table({key: [row.get(key) for row in self.waiting] for key in keys})
        half = path.with_suffix(".half")
        try:
            pyarrow.parquet.write_table(table, half, compression="zstd")
            os.replace(half, path)  # noqa: PTH105 - atomic on every platform, which rename is not
        finally:
            half.unlink(missing_ok=True)
        self.waiting = []

    def set_aside_damaged(self) -> list[str]:
        """Rename parts that cannot be read to NAME.damaged; one sentence for each."""
        import pyarrow.parquet

        notes = []
        for path in sorted(self.folder.glob("steps-*.parquet")):
            try:
                pyarrow.parquet.read_table(path)
            except (ValueError, OSError) as damaged:
                os.replace(path, path.with_name(f"{path.name}.damaged"))  # noqa: PTH105
                reason = (str(damaged).splitlines() or ["no reason given"])[0]
                notes.append(f"rows/{path.name}: damaged ({reason}); it is now {path.name}.damaged")
        return notes

    def forget_from(self, step: int) -> None:
        """Drop rows of `step` and later: a run resumed from an older snapshot writes them again."""
        for path in self.folder.glob("steps-*.parquet"):
            if int(path.stem.rpartition("-")[2]) >= step:
                path.unlink()
            else:
                _cut(path, step)


def _cut(path: Path, step: int) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    kept = pyarrow.parquet.read_table(path, filters=[("step", "<", step)])
    if len(kept) < len(table):
        half = path.with_suffix(".half")
        pyarrow.parquet.write_table(kept, half, compression="zstd")
        os.replace(half, path)  # noqa: PTH105


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows flushed so far, in the order of their steps; columns a row lacks are None.

    Raises:
        FileNotFoundError: no such folder.
    """
    import pyarrow
    import pyarrow.parquet

    if not folder.is_dir():
        raise FileNotFoundError(f"training rows: no folder {folder}")
    parts = [pyarrow.parquet.read_table(path) for path in sorted(folder.glob("steps-*.parquet"))]
    if not parts:
        return []
    return pyarrow.concat_tables(parts, promote_options="permissive").sort_by("step").to_pylist()
