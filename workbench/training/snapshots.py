"""The state of a run at a step, written so that a kill at any moment leaves a whole one behind."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import Any

from workbench.core import reason


def write_snapshot(folder: Path, state: dict[str, Any]) -> Path:
    """Write a state under its step: to a temporary name, to the disk, then renamed.

    Args:
        folder: of the run.
        state: what Trainer.state() gave; holds ``step``.

    Raises:
        OSError: the disk is full, or the folder cannot be written. No older snapshot is touched.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{state['step']:08d}.pth"
    half = path.with_suffix(".half")
    try:
        # Unbuffered: what a buffer still held would fail when the file is closed, without its name.
        with half.open("wb", buffering=0) as file:
            heard = _Heard(file)
            try:
                torch.save(state, heard)  # type: ignore[arg-type] - it asks for no more than these two
            except (RuntimeError, OSError) as failure:
                raise _unwritten(path, heard.failure or failure) from failure
            os.fsync(file.fileno())
        os.replace(half, path)  # noqa: PTH105 - atomic on every platform, which rename is not
    finally:
        half.unlink(missing_ok=True)
    return path


class _Heard:
    """A file that remembers why a write failed: torch's zip writer says "unexpected pos" of a full disk."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        try:
            while rest:  # an unbuffered file may take less than it is given
                rest = rest[self._file.write(rest) :]
        except OSError as failure:
            self.failure = failure
            raise
        return len(data)

    def flush(self) -> None:
        self._file.flush()


def _unwritten(path: Path, failure: Exception) -> OSError:
    why = (failure.strerror if isinstance(failure, OSError) else "") or reason(failure)
    return OSError(
        f"snapshot {path.name} could not be written: {why}; what was written before is kept in {path.parent}"
    )


def snapshots(folder: Path) -> list[Path]:
    """Whole snapshots of a run, oldest first."""
    return sorted(folder.glob("step_*.pth"))


def read_snapshot(path: Path) -> dict[str, Any]:
    """A state as it was written; nothing in the file is executed.

    Raises:
        ValueError: the file is no snapshot of this workbench.
    """
    import pickle
    import zipfile

    import torch

    try:
        with zipfile.ZipFile(path) as parts:  # torch itself checks no sums
            if (damaged := parts.testzip()) is not None:
                raise ValueError(f"{path.name}: damaged, the checksum of its part {damaged} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError, RuntimeError, EOFError, LookupError, zipfile.BadZipFile, zlib.error
    ) as failure:  # fmt: skip
        raise ValueError(
            f"{path.name}: expected a training snapshot, got something else ({reason(failure)})"
        ) from failure
    if not isinstance(state, dict) or not {"step", "model", "optimizer", "settings"} <= set(state):
        raise ValueError(f"{path.name}: expected a training snapshot with step, model, optimizer, settings")
    return state


def newest_snapshot(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest state of a run that can be read, and what is wrong with those after it.

    A damaged file is renamed to NAME.damaged: it is kept, and out of the way of the one that replaces it.

    Args:
        folder: of the run.

    Returns:
        None where there is no whole snapshot; one sentence for each damaged one.
    """
    notes = []
    for path in reversed(snapshots(folder)):
        try:
            return read_snapshot(path), notes
        except ValueError as damaged:
            os.replace(path, path.with_name(f"{path.name}.damaged"))  # noqa: PTH105
            notes.append(f"{damaged}; it is now {path.name}.damaged, and the run goes on from before it")
    return None, notes


@contextlib.contextmanager
def only_session(folder: Path) -> Iterator[None]:
    """Hold a run folder for one session; the lock goes with the process, however it ends.

    Raises:
        ValueError: another session holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        try:
            _lock(lock.fileno())
        except OSError as taken:
            raise ValueError(
                f"{folder}: another training session uses this run folder; stop it or choose another"
            ) from taken
        yield


def _lock(handle: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
