"""What came out of a file: its value as data, with tensors still on disk. And how its pickles are run."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from workbench.checkpoints.archives import Member
from workbench.checkpoints.limits import Limits
from workbench.checkpoints.pickle_machine import Machine
from workbench.checkpoints.symbols import resolve

# Pickles up to this size are read at once; larger ones (numpy weights inside) are walked on disk.
_AT_ONCE = 64 << 20


@dataclass(frozen=True, eq=False)
class Contents:
    """A file, read.

    Attributes:
        container: how it is written, e.g. ``torch zip``, ``safetensors``.
        value: what it holds: dicts, lists, numbers, text, TensorInfo, Array, Inert.
        inert: classes and functions that it named and that were not used.
        facts: what the container itself says (versions, graph inputs ...), as plain data.
    """

    container: str
    value: Any
    inert: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def run_pickle(
    path: Path,
    stream: BinaryIO,
    end: int,
    persistent: Callable[[Any], Any] | None,
    where: int | None,
    limits: Limits,
) -> tuple[Any, tuple[str, ...]]:
    """The value of the pickle that begins at the stream's position, and the names it left inert.

    Raises:
        ValueError: see Machine.run; the message names the file.
    """
    machine = Machine(stream, end, resolve, persistent, None if where is None else (path, where), limits)
    try:
        return machine.run(), tuple(machine.inert)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def run_member(
    member: Member, persistent: Callable[[Any], Any] | None, limits: Limits
) -> tuple[Any, tuple[str, ...]]:
    """The value of a pickle inside an archive."""
    path = member.path
    if member.deflated or member.nbytes <= _AT_ONCE:
        data = bytes(member.read(0, member.nbytes))
        where = None if member.deflated else member.begin()
        return run_pickle(path, io.BytesIO(data), len(data), persistent, where, limits)
    begin = member.begin()
    with path.open("rb") as stream:
        stream.seek(begin)
        return run_pickle(path, stream, begin + member.nbytes, persistent, 0, limits)
