"""Which files may the browser ask for? Those below the served folders, links followed, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class Refused(PermissionError):  # noqa: N818 - reads as what happened
    """A path leads out of the served folders."""


@dataclass(frozen=True)
class Served:
    """Folders by short name; ids are ``path`` below the first folder, ``name:path`` below the others.

    Attributes:
        folders: name -> resolved folder; the first is named "".
    """

    folders: Mapping[str, Path]

    @classmethod
    def of(cls, root: Path, **others: Path) -> Served:
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
                rest = resolved.relative_to(folder).as_posix()
                return f"{name}:{rest}" if name else rest
        raise Refused(f"{path.name} lies outside the served folders")
