"""Which files may the browser ask for? Those below the served folders, links followed, and no others."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.checkpoints.checkpoint_files import epoch_of, is_model, training_order
from workbench.core.plain_text import printable


class Refused(PermissionError):  # noqa: N818 - reads as what happened
    """A path leads out of the served folders."""


def well_formed(text: str) -> str:
    r"""A text that can be sent: bytes of a file name that are no UTF-8 are written as \udcff."""
    return text.encode("utf-8", "backslashreplace").decode()


def _file_name(text: str) -> str:
    """The file name that `well_formed` was given."""
    return re.sub(r"\\(udc[89a-f][0-9a-f])", lambda found: chr(int(found[1][1:], 16)), text)


@dataclass(frozen=True)
class ServedFolders:
    """Folders by short name; ids are ``path`` below the first folder, ``name:path`` below the others.

    Attributes:
        folders: name -> resolved folder; the first is named "".
    """

    folders: Mapping[str, Path]

    @classmethod
    def of(cls, root: Path, **others: Path) -> ServedFolders:
        """The root, and further folders under their names."""
        folders = {"": root.resolve(strict=True)}
        folders |= {name: folder.resolve(strict=True) for name, folder in others.items()}
        return cls(folders)

    def path(self, identity: str) -> Path:
        """The file or folder of an id, links resolved.

        Raises:
            Refused: it lies outside the served folder, by .., as an absolute path or through a link.
            FileNotFoundError: there is nothing.
        """
        name, colon, rest = identity.partition(":")
        if not colon or name not in self.folders:
            name, rest = "", identity
        folder = self.folders[name]
        # A null byte would end the path early in the system call.
        if "\0" in rest:
            raise Refused("this path holds a null byte")
        path = (folder / rest).resolve()
        if not path.exists():
            path = (folder / _file_name(rest)).resolve()
        if not path.is_relative_to(folder):
            raise Refused(
                f"{identity} lies outside the served folder; start the app on the folder that holds it"
            )
        if not path.exists():
            raise FileNotFoundError(f"{identity}: nothing of that name below the served folder")
        return path

    def identity(self, path: Path) -> str:
        """The id of a path below one of the folders.

        Raises:
            Refused: it lies outside all of them.
        """
        resolved = path.resolve()
        for name, folder in self.folders.items():
            if resolved.is_relative_to(folder):
                rest = well_formed(resolved.relative_to(folder).as_posix())
                return f"{name}:{rest}" if name else rest
        raise Refused(f"{path.name} lies outside the served folders")


@contextlib.contextmanager
def reading_inside(root: Path, folder: Path, *patterns: str) -> Iterator[None]:
    """Check that files of a folder lead nowhere else, before they are read and once they were read.

    Files are listed seconds before: a program of this machine may have put a link in the place of one.

    Args:
        root: the served folder, resolved.
        folder: below it.
        patterns: of the names of its files and folders that are read.

    Raises:
        Refused: one of them, or the folder itself, leads out of the root.
    """

    def check() -> None:
        for path in (folder, *(one for pattern in patterns for one in folder.glob(pattern))):
            if not path.resolve().is_relative_to(root):
                raise Refused(f"{well_formed(path.name)} lies outside the served folders")

    check()
    yield
    check()


# Which folders hold a training run's checkpoints, and in what order do its epochs come?


DEPTH = 4
"""Folders below the root that are searched: work_dirs/config/date/checkpoints is three."""


@dataclass(frozen=True)
class Epoch:
    """One checkpoint of a run.

    Attributes:
        index: position in the run.
        epoch: number in the file's name; None where it has none (``best.pth``).
        label: what a person reads: ``epoch 5``, ``best, epoch 180``.
        path: the file.
    """

    index: int
    epoch: int | None
    label: str
    path: Path


@dataclass(frozen=True)
class RunFolder:
    """A folder of checkpoints.

    Attributes:
        id: path below the served root; ``.`` for the root itself.
        title: what a person reads.
        folder: where it lies.
        epochs: in training order; ``best_*`` and files without a number last.
    """

    id: str
    title: str
    folder: Path
    epochs: tuple[Epoch, ...]


def epochs_in(folder: Path, root: Path) -> tuple[Epoch, ...]:
    """The checkpoints of one folder, in training order; links that lead out of the root are left out."""
    files = [p for p in folder.iterdir() if is_model(p) and p.is_file() and p.resolve().is_relative_to(root)]

    named = ((epoch_of(path), path) for path in training_order(files))
    return tuple(Epoch(i, n, printable(label), path) for i, ((n, label), path) in enumerate(named))


def folders_below(root: Path) -> Iterator[Path]:
    """The root and folders below it, sorted, hidden ones left out; links are not followed."""
    for here, names, _ in os.walk(root):
        level = len(Path(here).relative_to(root).parts)
        names[:] = sorted(n for n in names if not n.startswith((".", "__"))) if level < DEPTH else []
        yield Path(here)


def runs_below(root: Path, prefix: str = "") -> tuple[RunFolder, ...]:
    """All run folders below a root, ids beginning with `prefix`."""
    found, root = [], root.resolve()
    for folder in folders_below(root):
        if epochs := epochs_in(folder, root):
            below = folder.relative_to(root).as_posix()
            title = root.name if below == "." else below
            found.append(RunFolder(well_formed(prefix + below), printable(title), folder, epochs))
    return tuple(found)
