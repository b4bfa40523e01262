"""Can what --out asks for be written? Asked first, because the answer may take hours to find."""

from __future__ import annotations

from pathlib import Path


def check_file(out: Path | None, *endings: str) -> None:
    """Refuse a file of another kind, or in a folder that is not there.

    Args:
        out: what was asked for; None asks for nothing.
        endings: such as ``.html``; any when none is given.

    Raises:
        ValueError: another ending.
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


def check_room(out: Path) -> None:
    """Make the folder of a file, and refuse where nothing can be written into it.

    Raises:
        IsADirectoryError: it is a folder itself.
        ValueError: nothing can be written beside it.
    """
    import tempfile

    if out.is_dir():
        raise IsADirectoryError(f"--out: expected the name of a file, but {out} is a folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as reason:
        raise ValueError(f"--out: nothing can be written into {out.parent} ({reason.strerror})") from None
