"""What came out of a file: its value as data, with tensors still on disk. And how its pickles are run."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from workbench.checkpoints.budget import Budget, Limits, TooExpensive
from workbench.checkpoints.pickle_machine import Machine
from workbench.checkpoints.pickled_objects import resolve
from workbench.checkpoints.tensors import Part, Place
from workbench.checkpoints.zip_archive import Member

# Pickles up to this size are read at once; larger ones (numpy weights inside) are walked on disk.
_AT_ONCE = 64 << 20


@dataclass(frozen=True, eq=False)
class Contents:
    """A file, read.

    Attributes:
        container: how it is written, e.g. ``torch zip``, ``safetensors``.
        value: what it holds: dicts, lists, numbers, text, TensorInfo, Array, Unread, Inert.
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
    source: Callable[[int, int], Place] | None,
    limits: Limits,
    budget: Budget,
) -> tuple[Any, tuple[str, ...]]:
    """The value of the pickle that begins at the stream's position, and the names it left inert.

    Args:
        path: the file, for errors.
        stream: where the pickle is read.
        end: position where it must end.
        persistent: see Machine.
        source: see Machine.
        limits: of one pickle.
        budget: of the file.

    Raises:
        ValueError: see Machine.run; the message names the file.
    """
    machine = Machine(stream, end, resolve, persistent, source, limits, budget)
    try:
        return machine.run(), tuple(machine.inert)
    except TooExpensive:
        raise
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def run_member(
    member: Member, persistent: Callable[[Any], Any] | None, limits: Limits, budget: Budget
) -> tuple[Any, tuple[str, ...]]:
    """The value of a pickle inside an archive."""
    path = member.path
    if member.deflated or member.nbytes <= _AT_ONCE:
        if member.deflated:
            budget.hold(member.nbytes)
        data = bytes(member.read(0, member.nbytes))
        source = None if member.deflated else partial(Part, member)
        return run_pickle(path, io.BytesIO(data), len(data), persistent, source, limits, budget)
    begin = member.begin()
    with path.open("rb") as stream:
        stream.seek(begin)
        end = begin + member.nbytes

        def part(at: int, nbytes: int) -> Place:
            return Part(member, at - begin, nbytes)

        return run_pickle(path, stream, end, persistent, part, limits, budget)
