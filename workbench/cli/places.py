"""Can what --out asks for be written? Asked first, because the answer may take hours to find."""

from __future__ import annotations

from pathlib import Path


def check_file(out: Path | None, *endings: str) -> None:
    """Refuse a file of another kind, or in a folder that is not there.

    Args:
        out: what was asked for; None asks for nothing.
        endings: such as ``.html``; any when none is given.

    Raises:
        ValueError: another ending, or nothing can be written beside it.
        FileNotFoundError: no such folder.
        IsADirectoryError: it is a folder.
    """
    if out is None:
        return
    if endings and out.suffix not in endings:
        raise ValueError(f"--out: expected a name ending in {' or '.join(endings)}, got {out.name}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out: no such folder {out.parent}")
    if out.is_dir():
        raise IsADirectoryError(f"--out: expected the name of a file, but {out} is a folder")
    if not out.exists() or out.is_file():  # a pipe or /dev/stdout is written directly
        _try_writing(out)


def check_room(out: Path) -> None:
    """Make the folder of a file, and refuse where nothing can be written into it.

    Raises:
        IsADirectoryError: it is a folder itself.
        ValueError: nothing can be written beside it.
    """
    if out.is_dir():
        raise IsADirectoryError(f"--out: expected the name of a file, but {out} is a folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise ValueError(f"--out: nothing can be written into {out.parent} ({reason.strerror})") from None
    _try_writing(out)


def _try_writing(out: Path) -> None:
    """Write one block beside the file: finds a read-only folder and a full disk before hours of work."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=out.parent, buffering=0) as file:
            file.write(b"\0" * 4096)
    except OSError as reason:
        raise ValueError(f"--out: nothing can be written into {out.parent} ({reason.strerror})") from None
