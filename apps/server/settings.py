"""What one serving of the workbench may show, and to whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workbench.data.images import ImageReading
from workbench.models.opening import check_one_builder


@dataclass(frozen=True)
class Settings:
    """How the app was started.

    Attributes:
        root: the folder whose run folders are shown.
        data: COCO-format json files, or folders with such files, shown beside the built-in sets.
        images: folder of the images that those files name; the usual places beside them by default.
        reading: what is stated about the image files of the sets.
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
        output: which outputs of exported files are what; see workbench.models.opening.
        assume: what else files leave open.
    """

    root: Path
    data: tuple[Path, ...] = ()
    images: Path | None = None
    reading: ImageReading = field(default_factory=ImageReading)
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
    output: tuple[str, ...] = ()
    assume: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_one_builder(self.config, self.family, self.adapter)
        if not self.root.is_dir():
            found = "a file" if self.root.exists() else "nothing"
            raise FileNotFoundError(f"{self.root}: expected a folder of run folders, found {found}")
        for path in self.data:
            if not path.exists():
                raise FileNotFoundError(f"{path}: expected a COCO-format json or a folder with such files")
        if self.images is not None and not self.images.is_dir():
            raise FileNotFoundError(f"{self.images}: expected the folder of the images")
        if not self.local and self.auth is None:
            raise ValueError(
                f"{self.host} can be reached from other machines: ask for a password (--auth-file FILE, the "
                "variable WORKBENCH_AUTH, or --auth user:password), or serve on 127.0.0.1"
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


AUTH_VARIABLE = "WORKBENCH_AUTH"
"""Environment variable that holds user:password."""

LONGEST_AUTH = 4096
"""Bytes read of a file with user and password."""


def credentials(text: str | None, source: str = "--auth") -> tuple[str, str] | None:
    """User and password from ``user:password``.

    Args:
        text: None gives None.
        source: where the text comes from, for the error.

    Raises:
        ValueError: there is no colon, or a part is empty.
    """
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not (colon and user and password):
        raise ValueError(f"{source}: expected user:password, both given")
    return user, password


def chosen_credentials(
    given: str | None, file: Path | None, environment: Mapping[str, str]
) -> tuple[str, str] | None:
    """User and password from the command line, a file or the environment, the first that is there.

    Args:
        given: ``user:password`` as on the command line, where other users of the machine can read it.
        file: its first line is ``user:password``.
        environment: read for `AUTH_VARIABLE`.

    Raises:
        ValueError: both an option and a file are given, or what was found is not user:password.
        FileNotFoundError: there is no such file.
    """
    if given is not None and file is not None:
        raise ValueError("give --auth or --auth-file, not both")
    if file is not None:
        if not file.is_file():
            raise FileNotFoundError(f"--auth-file {file}: expected a file with the line user:password")
        with file.open("rb") as stream:
            text = stream.read(LONGEST_AUTH).decode("utf-8", "replace")
        return credentials((text.splitlines() or [""])[0].strip(), f"--auth-file {file}")
    if given is not None:
        return credentials(given)
    return credentials(environment.get(AUTH_VARIABLE) or None, AUTH_VARIABLE)
