"""What one serving of the workbench may show, and to whom."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """How the app was started.

    Attributes:
        root: the folder whose run folders are shown.
        data: COCO-format json files, or folders with such files, shown beside the built-in sets.
        host: address to listen on.
        port: 0 takes a free one.
        auth: (user, password) asked for before anything is shown; None asks nobody.
        limit: most samples of one data set that Compare computes; the page says when it cuts.
        cache: folder for computed predictions and outputs; None takes the user's cache folder.
        cache_bytes: the cache forgets its oldest entries beyond this size.
        device: where models run.
        config: an mmpose config named on the command line: the user's own code, and run.
        adapter: the user's own model file, run as well.
        family: open every checkpoint as this family.
        remap: apply the proposed renaming of keys.
        allow_partial: go on with models that are not fully loaded; every number then says so.
    """

    root: Path
    data: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    auth: tuple[str, str] | None = field(default=None, repr=False)
    limit: int = 400
    cache: Path | None = None
    cache_bytes: int = 4 << 30
    device: str = "cpu"
    config: Path | None = None
    adapter: Path | None = None
    family: str | None = None
    remap: bool = False
    allow_partial: bool = False

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            found = "a file" if self.root.exists() else "nothing"
            raise FileNotFoundError(f"{self.root}: expected a folder of run folders, found {found}")
        for path in self.data:
            if not path.exists():
                raise FileNotFoundError(f"{path}: expected a COCO-format json or a folder with such files")
        if not self.local and self.auth is None:
            raise ValueError(
                f"{self.host} can be reached from other machines: give --auth user:password, "
                "or serve on 127.0.0.1"
            )

    @property
    def local(self) -> bool:
        """Only this machine can reach it."""
        return loopback(self.host)


def loopback(host: str) -> bool:
    """Whether an address or host name is this machine's own, as seen from itself alone."""
    name = host.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def credentials(text: str | None) -> tuple[str, str] | None:
    """User and password from ``user:password``.

    Raises:
        ValueError: there is no colon, or a part is empty.
    """
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not (colon and user and password):
        raise ValueError("--auth: expected user:password, both given")
    return user, password
