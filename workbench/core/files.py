"""Files: written whole or not at all (beside the target first, then renamed over it); hashes; TOML."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.core.plain_text import printable

# A partial file this old, of a process that is gone, was left by a kill; on a shared disk a younger one may
# belong to a process of another machine.
ABANDONED_AFTER = 60.0
# Bytes of a JSON record that lies in a folder of results; its values take up to 26 times as much.
RECORD_SIZE = 16 << 20


def resolved(path: Path) -> Path:
    """The path with its links followed.

    Raises:
        OSError: the links form a circle, for which Python 3.13 returns the link and earlier versions raise
            RuntimeError; ``filename`` is the path.
        ValueError: a NUL in the path.
    """
    try:
        found = path.resolve()
    except RuntimeError:
        found = path
    if found.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return found


def require_file(path: Path, absent: str) -> None:
    """Go on where there is a regular file; otherwise say truly what is there instead.

    Args:
        path: the file; links are followed.
        absent: the sentence where nothing is there, or a link to nothing.

    Raises:
        FileNotFoundError: there is no file.
    """
    if path.is_file():
        return
    if path.is_dir():
        raise FileNotFoundError(f"{absent} (a folder is there)")
    if path.exists():
        raise FileNotFoundError(f"{absent} (what is there is no regular file)")
    raise FileNotFoundError(absent)


def read_at_most(path: Path, most: int, what: str) -> bytes:
    """The content of a small file.

    Args:
        path: the file.
        most: bytes that it may have.
        what: it is, for the error: "a config".

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or a pipe or device, which may never end.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path.name}: {what} is no regular file")
    with path.open("rb") as file:
        # Reading up to `most` at once would take room for the largest file, of a small one too.
        size = min(os.fstat(file.fileno()).st_size, most)
        data = file.read(size + 1)
        if len(data) > size:  # it has grown, or its system states no size
            data += file.read(most + 1 - len(data))
    if len(data) > most:
        raise ValueError(f"{path.name}: {what} of more than {most} bytes is refused")
    return data


def belongs(path: Path, folder: Path) -> bool:
    """A file that a model names lies in the model's folder, also once symbolic links are followed.

    The cache of huggingface_hub keeps ``snapshots/<revision>/<name>`` as links to ``blobs/<hash>`` of the
    same repository: these belong to the folder too.

    Args:
        path: the file, as the model names it below its folder.
        folder: the model's, links followed.
    """
    try:
        target = resolved(path)
    except (OSError, ValueError):  # links in a circle, a NUL in the name
        return False
    if target.is_relative_to(folder):
        return True
    snapshots = next((parent for parent in folder.parents if parent.name == "snapshots"), None)
    named_inside = Path(os.path.normpath(path)).is_relative_to(folder)
    return snapshots is not None and named_inside and target.parent == snapshots.parent / "blobs"


@contextlib.contextmanager
def replacing(path: Path | str, follow: bool = True) -> Iterator[Path]:
    """Give a temporary path in the target's folder; rename it to the target when the block ends well.

    A reader sees the old file or the new one, never a part. When the block raises (full disk, Ctrl-C), the
    temporary file is removed and the target is untouched. Partial files of the same target that a killed
    process left are removed. A target that is no regular file (a pipe, /dev/stdout) is written directly.

    Args:
        path: the target.
        follow: replace the file that a link points to. Not for names that the program chose in a folder: a
            link there came with the folder, and may point to any file.

    Raises:
        OSError: the folder or the file cannot be written, or the disk is full; ``filename`` is the target.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "table.csv"
        >>> with replacing(target) as part:
        ...     _ = part.write_text("a,b")
        >>> target.read_text(), len(list(target.parent.iterdir()))
        ('a,b', 1)
    """
    target = Path(path)
    if follow:
        if target.exists() and not target.is_file():
            with _written_directly(target):
                yield target
            return
        target = resolved(target)
    _remove_abandoned(target)
    # The ending stays last: writers choose the format by it.
    part = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        part.unlink(missing_ok=True)  # a link of this name would be written through
        yield part
        if target.is_file() and not target.is_symlink():
            part.chmod(target.stat().st_mode & 0o7777)
        os.replace(part, target)  # noqa: PTH105 - atomic on every platform, which rename is not
    except OSError as failure:
        if failure.errno is None:
            raise
        raise OSError(failure.errno, os.strerror(failure.errno), str(path)) from failure
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _written_directly(target: Path) -> Iterator[None]:
    """Name a target that is no regular file in the error, and do not wait for somebody to read a pipe."""
    try:
        with open_targets([target]):
            yield
    except OSError as failure:
        if failure.errno is None or failure.filename is not None:
            raise
        raise OSError(failure.errno, os.strerror(failure.errno), str(target)) from failure


@contextlib.contextmanager
def open_targets(targets: Iterable[Path]) -> Iterator[None]:
    """Open the pipes among the targets of a command, and refuse what cannot be written, until the block ends.

    A reader takes the closing of a pipe for the end of the file, so each pipe stays open from the check to
    the last write.

    Args:
        targets: files, folders and paths that do not exist are left alone.

    Raises:
        OSError: no program reads from a pipe, or the target is a socket; ``filename`` is the target.
    """
    pipes = []
    try:
        for target in targets:
            if target.is_socket():
                raise OSError(errno.ENXIO, "a socket cannot be written as a file", str(target))
            if target.is_fifo():
                try:
                    pipes.append(os.open(target, os.O_WRONLY | os.O_NONBLOCK))
                except OSError as failure:
                    if failure.errno == errno.ENXIO:
                        reason = "no program reads from this pipe"
                        raise OSError(errno.ENXIO, reason, str(target)) from None
                    raise
        yield
    finally:
        for pipe in pipes:
            os.close(pipe)


def csv_text(rows: Sequence[Mapping[str, Any]], end: str = "\r\n") -> str:
    """Rows as the text of a CSV file.

    Names come from other people's files. A text that a spreadsheet would take for a formula, ``=cmd|...``,
    gets an apostrophe in front, which spreadsheets read as "this is text". Control characters are escapes.

    Args:
        rows: all with the keys of the first.
        end: of a line.

    Example:
        >>> csv_text([{"keypoint": "=1+1", "x": -2.5}], end="|")
        "keypoint,x|'=1+1,-2.5|"
    """
    text = io.StringIO()
    names = list(rows[0]) if rows else []
    writer = csv.writer(text, lineterminator=end)
    writer.writerow([_harmless(name) for name in names])
    writer.writerows([_harmless(row.get(name)) for name in names] for row in rows)
    return text.getvalue()


# What a spreadsheet takes for the begin of a formula, its own signs in full width too, and white space that
# it passes over before one.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    # A signed number, or an interval that begins with one, is no formula.
    number = cell[:1] in "+-" and not cell.strip("+-.0123456789e, []")
    return printable(f"'{cell}" if cell.startswith(_FORMULA) and not number else cell)


def write_text(path: Path | str, text: str, follow: bool = True) -> Path:
    r"""Write UTF-8 text with newlines as they are, whole or not at all; return the path.

    Halves of characters, as in a file name that is no UTF-8, are written as ``\\udcff``.

    Args:
        path: the target.
        text: of the file.
        follow: see `replacing`.

    Raises:
        OSError: see `replacing`.
    """
    with replacing(path, follow) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return Path(path)


def write_bytes(path: Path | str, data: bytes, follow: bool = True) -> Path:
    """Write bytes, whole or not at all; return the path.

    Args:
        path: the target.
        data: of the file.
        follow: see `replacing`.

    Raises:
        OSError: see `replacing`.
    """
    with replacing(path, follow) as part:
        part.write_bytes(data)
    return Path(path)


def inner_folder(outer: Path, *names: str) -> Path:
    """Make a folder of the program's own name inside a folder that a user named; return it.

    Args:
        outer: that the user named; may be a link.
        names: of the folder, and of those on the way to it.

    Raises:
        OSError: it cannot be made, or is a link that leads out of the outer folder: it came with that folder,
            and may lead to any other.
    """
    inner = outer.joinpath(*names)
    inner.mkdir(parents=True, exist_ok=True)
    if not resolved(inner).is_relative_to(resolved(outer)):
        raise OSError(
            f"{inner} is a link to {resolved(inner)}, outside of {outer}: nothing is written through it; "
            "remove the link, or name that folder itself"
        )
    return inner


def remove_abandoned_folders(parent: Path, *patterns: str) -> None:
    """Remove temporary folders below `parent` that a killed process left.

    Args:
        parent: where they lie; nothing happens when it does not exist.
        patterns: glob patterns of their names. A folder counts as abandoned when nothing in it has changed
            for ten minutes: whoever fills one writes into it every few seconds.
    """
    import shutil

    limit = time.time() - 10 * ABANDONED_AFTER
    for pattern in patterns:
        for folder in parent.glob(pattern):
            with contextlib.suppress(OSError):
                if folder.is_dir() and not folder.is_symlink() and _last_change(folder) < limit:
                    shutil.rmtree(folder, ignore_errors=True)


def of_this_process(prefix: str) -> str:
    """A prefix for a temporary folder that says who fills it; see `remove_folders_of_dead_processes`."""
    return f"{prefix}{_machine()}-{os.getpid()}-"


def remove_folders_of_dead_processes(parent: Path, prefix: str) -> None:
    """Remove temporary folders that a killed process of this machine left, and any older than an hour.

    Args:
        parent: where they lie; nothing happens when it does not exist.
        prefix: as `of_this_process` was given it.
    """
    import shutil

    for folder in parent.glob(f"{prefix}*"):
        machine, _, rest = folder.name[len(prefix) :].partition("-")
        number = rest.partition("-")[0]
        mine = machine == _machine() and number.isdecimal()
        with contextlib.suppress(OSError):
            old = _last_change(folder) < time.time() - 60 * ABANDONED_AFTER
            if not _running(int(number)) if mine else old:
                shutil.rmtree(folder, ignore_errors=True)


def _machine() -> str:
    import platform

    return "".join(c for c in platform.node() if c.isalnum())[:32] or "machine"


def _last_change(folder: Path) -> float:
    return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))


def _remove_abandoned(target: Path) -> None:
    start, end = f".{target.stem}.", f".part{target.suffix}"
    with contextlib.suppress(OSError):  # an unreadable folder fails when it is written, with its own reason
        for found in target.parent.iterdir():
            middle = found.name[len(start) : -len(end)]
            if found.name.startswith(start) and found.name.endswith(end) and middle.isdecimal():
                old = found.lstat().st_mtime < time.time() - ABANDONED_AFTER
                if old and not _running(int(middle)):
                    found.unlink(missing_ok=True)


def _running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # no process has a number that the system cannot hold
        return False
    except OSError:
        return True
    return True


def files_in(folder: Path, *patterns: str) -> list[Path]:
    """The regular files of a folder that match one of the glob patterns, sorted.

    A pipe or a device of such a name is left out: reading it need not end.

    Args:
        folder: that is searched, without those below it.
        patterns: such as ``*.py``.
    """
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def check_own_folder(folder: Path) -> None:
    """Refuse a folder that a program keeps for itself where anything in it is not as programs leave it.

    Whoever may write into a shared cache could put a link there: what it points to would be read, shown and
    removed as if it were kept.

    Args:
        folder: that is looked through, with those below it.

    Raises:
        ValueError: it, or anything in it, is a link, a pipe or a device; names the path.
    """
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise ValueError(f"{path} is a link")
        if not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path} is no regular file")


def remove_entry(path: Path) -> None:
    """Remove what stands at a path: a folder with all that is in it, a file, or a link but not its target.

    Raises:
        OSError: it cannot be removed.
    """
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked_folder(folder: Path, busy: str) -> Iterator[None]:
    """Lock a folder for one process; the lock ends with the process, however it ends.

    Args:
        folder: created where it is missing.
        busy: what the error says of the folder: ``another sweep writes into this folder``.

    Raises:
        ValueError: another process has locked it.
        OSError: its ``.lock`` is a link, which may point to any file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # O_NOFOLLOW is 0 where the system has none.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(folder / ".lock", flags, 0o666), "a+") as lock:  # noqa: PTH123 - of a descriptor
        try:
            _lock(lock.fileno())
        except OSError as taken:
            raise ValueError(f"{folder}: {busy}") from taken
        yield


def _lock(handle: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; reads every byte."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML text.

    Raises:
        ValueError: it is no TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # the same under another name
        import tomli as tomllib  # pyright: ignore[reportMissingImports]
    return tomllib.loads(text)


class Twice(ValueError):  # noqa: N818 - reads as a claim
    """A key that occurs twice."""


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys differ, for ``object_pairs_hook`` of `json.loads`.

    Without it the last of two values counts, and other programs take the first.

    Raises:
        Twice: a key that occurs twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise Twice(repr(next(name for name, count in counts.items() if count > 1)[:80]))
    return found
