"""Run folder: rows of every step as Parquet parts, and snapshots of the training state.

Every file is written under a temporary name and renamed: a reader never finds half a file, also while the run
continues, and a killed run loses at most the rows since the last flush and the steps since the last snapshot.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import zlib
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core import reason
from workbench.core.files import files_in, inner_folder, locked_folder
from workbench.core.parquet_pages import row_groups, unfolded_bytes

if TYPE_CHECKING:
    import pyarrow


class RowWriter:
    """Rows of one run, written as numbered parts.

    Attributes:
        folder: of the parts.
        waiting: rows since the last flush.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder.

        Args:
            folder: of the parts, in the run's folder.

        Raises:
            OSError: it cannot be made, or is a link that leads out of the run's folder.
        """
        self.folder = inner_folder(folder.parent, folder.name)
        self.waiting: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Add a row to those of the next flush."""
        self.waiting.append(row)

    def flush(self) -> None:
        """Write the waiting rows; after a failure they still wait.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        if not self.waiting:
            return
        import pyarrow
        import pyarrow.parquet

        # The first step in the name keeps parts in order, and a repeated stretch replaces its older version.
        path = self.folder / f"steps-{self.waiting[0]['step']:08d}.parquet"
        keys = list(dict.fromkeys(key for row in self.waiting for key in row))
        table = pyarrow.table({key: [row.get(key) for row in self.waiting] for key in keys})
        half = _half(path)
        try:
            pyarrow.parquet.write_table(table, half, compression="zstd")
            os.replace(half, path)  # noqa: PTH105 - atomic on every platform, which rename is not
        finally:
            half.unlink(missing_ok=True)
        self.waiting = []

    def set_aside_damaged(self) -> list[str]:
        """Rename parts that cannot be read to NAME.damaged; one sentence for each."""
        notes = []
        for path in files_in(self.folder, "steps-*.parquet"):
            try:
                _table_of(path)
            except (ValueError, OSError) as damaged:
                os.replace(path, path.with_name(f"{path.name}.damaged"))  # noqa: PTH105
                reason = (str(damaged).splitlines() or ["no reason given"])[0]
                notes.append(f"rows/{path.name}: damaged ({reason}); it is now {path.name}.damaged")
        return notes

    def forget_from(self, step: int) -> None:
        """Delete rows of `step` and later: a run resumed from an older snapshot writes them again."""
        for path in files_in(self.folder, "steps-*.parquet"):
            if int(path.stem.rpartition("-")[2]) >= step:
                path.unlink()
            else:
                _cut(path, step)


def _half(path: Path) -> Path:
    """Where a file is written before it is renamed; no link to another file, which would be overwritten."""
    half = path.with_suffix(".half")
    if not half.is_char_device():
        half.unlink(missing_ok=True)
    return half


def _cut(path: Path, step: int) -> None:
    import pyarrow.compute
    import pyarrow.parquet

    table = _table_of(path)
    earlier = table.filter(pyarrow.compute.field("step") < step)
    if len(earlier) < len(table):
        half = _half(path)
        pyarrow.parquet.write_table(earlier, half, compression="zstd")
        os.replace(half, path)  # noqa: PTH105


# Equal numbers are kept once in a file, and memory as often as there are rows.
_TIMES, _SMALL = 50, 1 << 20


def _table_of(path: Path) -> pyarrow.Table:
    """The rows of one part.

    Args:
        path: of the part; its name ends in the number of its first step.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no part of a run, or would unfold to many times its size; no row is read then.
    """
    import pyarrow.parquet
    import pyarrow.types

    if not path.stem.rpartition("-")[2].isdecimal():
        raise ValueError(f"{path.name}: expected steps-NUMBER.parquet")
    with pyarrow.parquet.ParquetFile(path.absolute()) as file:
        groups = row_groups(path)
        columns = [column for group in groups for column in group.columns]
        # A dictionary keeps a text of any length once.
        unfolded = 8 * sum(one.values for one in columns if not one.is_text) + sum(
            one.values * one.unfolded for one in columns if one.is_text and one.values > 1
        )
        stated = sum(group.bytes for group in groups)
        unfolded = max(unfolded, stated, unfolded_bytes(path, groups))
        if unfolded > max(_TIMES * path.stat().st_size, _SMALL):
            raise ValueError(f"{path.name}: would unfold to {unfolded:,} bytes; it is refused as a bomb")
        names = file.schema_arrow.names
        if names.count("step") != 1 or not pyarrow.types.is_integer(file.schema_arrow.field("step").type):
            raise ValueError(f"{path.name}: expected a column `step` of whole numbers")
        return file.read()


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows flushed so far, in the order of their steps; columns that a row lacks are None.

    Args:
        folder: with the parts; ``rows`` in a run folder.

    Raises:
        FileNotFoundError: no such folder.
        OSError: a part cannot be read.
        ValueError: a part is no part of a run, or one column is numbers in one and text in another.
    """
    import pyarrow

    if not folder.is_dir():
        raise FileNotFoundError(f"training rows: no folder {folder}")
    parts = [_table_of(path) for path in files_in(folder, "steps-*.parquet")]
    if not parts:
        return []
    try:
        joined = pyarrow.concat_tables(parts, promote_options="permissive")
    except pyarrow.ArrowTypeError as error:
        raise ValueError(f"training rows: the parts in {folder} do not fit: {reason(error)}") from error
    try:
        return joined.sort_by("step").to_pylist()
    except LookupError as error:  # a time zone that does not exist
        raise ValueError(f"training rows: {folder} holds no values of a run: {reason(error)}") from error


# The state of a run at a step, written so that a kill at any moment leaves a whole one behind.


def write_snapshot(folder: Path, state: dict[str, Any]) -> Path:
    """Write a state as step_NUMBER.pth: under a temporary name, flushed to the disk, then renamed.

    Args:
        folder: of the run.
        state: of Trainer.state(); holds ``step``.

    Raises:
        OSError: the disk is full, or the folder cannot be written. No older snapshot is touched.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _name_of(state["step"])
    half = _half(path)
    try:
        # Unbuffered: a buffer would fail only when the file is closed, without naming it.
        with half.open("wb", buffering=0) as file:
            target = _RecordingFile(file)
            try:
                torch.save(state, target)  # type: ignore[arg-type] - it uses write and flush only
            except (RuntimeError, OSError) as failure:
                raise _not_written(path, target.failure or failure) from failure
            os.fsync(file.fileno())
        os.replace(half, path)  # noqa: PTH105 - atomic on every platform, which rename is not
    finally:
        half.unlink(missing_ok=True)
    return path


class _RecordingFile:
    """A file that records why a write failed: torch's zip writer reports "unexpected pos" for a full disk."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        try:
            while rest:  # an unbuffered file may write less than it is given
                rest = rest[self._file.write(rest) :]
        except OSError as failure:
            self.failure = failure
            raise
        return len(data)

    def flush(self) -> None:
        self._file.flush()


def _not_written(path: Path, failure: Exception) -> OSError:
    why = (failure.strerror if isinstance(failure, OSError) else "") or reason(failure)
    return OSError(
        f"snapshot {path.name} could not be written: {why}; what was written before is kept in {path.parent}"
    )


def _name_of(step: int) -> str:
    return f"step_{step:08d}.pth"


def snapshots(folder: Path) -> list[Path]:
    """Whole snapshots of a run, oldest first."""
    return files_in(folder, "step_*.pth")


def read_snapshot(path: Path) -> dict[str, Any]:
    """A state as it was written; nothing in the file is executed.

    Raises:
        ValueError: the file is no snapshot of this workbench.
    """
    import pickle
    import zipfile

    import torch

    try:
        with zipfile.ZipFile(path) as parts:  # torch itself verifies no checksum
            # torch compresses nothing; what is compressed, or lies over another part, is a bomb.
            inside = parts.infolist()
            if sum(part.file_size for part in inside) > path.stat().st_size or any(
                part.compress_type != zipfile.ZIP_STORED for part in inside
            ):
                raise ValueError(f"{path.name}: expected a training snapshot, got a compressed archive")
            if (damaged := parts.testzip()) is not None:
                raise ValueError(f"{path.name}: damaged, the checksum of its part {damaged} is wrong")
        _refuse_foreign(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, AttributeError,
        ArithmeticError, zipfile.BadZipFile, zlib.error,
    ) as failure:  # fmt: skip
        raise ValueError(
            f"{path.name}: expected a training snapshot, got something else ({reason(failure)})"
        ) from failure
    if not isinstance(state, dict) or not {"step", "model", "optimizer", "settings"} <= set(state):
        raise ValueError(f"{path.name}: expected a training snapshot with step, model, optimizer, settings")
    if type(state["step"]) is not int or state["step"] < 0:
        raise ValueError(f"{path.name}: expected a training snapshot, got one of step {state['step']!r:.60}")
    return state


# What torch.save names in a snapshot; behind `torch.` classes of storages, types and sizes.
_OF_SNAPSHOTS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_(tensor_v2|parameter)|torch\.(storage\.)?\w+"
)


def _refuse_foreign(path: Path) -> None:
    """Read a snapshot's pickle as data before torch does, which calls `bytearray(10**10)` where one says so.

    Raises:
        ValueError: it asks for more than any snapshot holds, or names what none does.
    """
    import io
    import pickletools
    import zipfile

    from workbench.checkpoints.budget import LIMITS, Budget
    from workbench.checkpoints.opening import contents_of

    contents_of(path, LIMITS, Budget(path.name))
    with zipfile.ZipFile(path) as parts:
        for name in (name for name in parts.namelist() if name.endswith("data.pkl")):
            for code, given, _ in pickletools.genops(io.BytesIO(parts.read(name))):
                found = str(given).replace(" ", ".") if code.name == "GLOBAL" else code.name
                if code.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not _OF_SNAPSHOTS.fullmatch(found):
                    raise ValueError(f"{path.name}: names {found[:80]}, which no training snapshot does")


def newest_snapshot(folder: Path, last: float = math.inf) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest readable state of a run, and what is wrong with newer ones.

    A file that is not used is renamed, to NAME.damaged or NAME.unused, so that it is not lost and does not
    block its replacement.

    Args:
        folder: of the run.
        last: latest step that has a row; later snapshots are not used.

    Returns:
        the state, None where there is no readable snapshot; and one sentence for each that is not used.
    """
    notes = []
    for path in reversed(snapshots(folder)):
        number = path.stem.rpartition("_")[2]
        if number.isdecimal() and int(number) > last:
            os.replace(path, path.with_name(f"{path.name}.unused"))  # noqa: PTH105
            notes.append(
                f"{path.name}: the rows end at step {last:g}; it is now {path.name}.unused, and the run "
                "continues from before it"
            )
            continue
        try:
            state = read_snapshot(path)
            if path.name != _name_of(state["step"]):
                raise ValueError(f"{path.name}: holds step {state['step']}, which its name does not say")
            return state, notes
        except ValueError as damaged:
            os.replace(path, path.with_name(f"{path.name}.damaged"))  # noqa: PTH105
            notes.append(f"{damaged}; it is now {path.name}.damaged, and the run continues from before it")
    return None, notes


def only_session(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Lock a run folder for one session; the lock ends with the process, however it ends.

    Args:
        folder: created where it is missing.

    Raises:
        ValueError: another session has locked it.
    """
    return locked_folder(folder, "another training session uses this run folder; stop it or choose another")
