"""One file inside a zip archive, and its bytes: unpacked where they are packed, checked when they are read.

Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from workbench.checkpoints.budget import LIMITS, Limits

_LOCAL = b"PK\x03\x04"
_BLOCK = 1 << 20
# An unpacked member of up to this size stays in memory until another one is read.
_KEPT = 64 << 20


class Damaged(ValueError):  # noqa: N818 - reads as a claim
    """The bytes of a member are not those that were written.

    Args:
        file: the archive's file name.
        member: whose bytes.
        tensor: the tensor they belong to, "" when none is read.
    """

    def __init__(self, file: str, member: str, tensor: str = "") -> None:
        of = f" ({tensor[:200]})" if tensor else ""
        super().__init__(
            f"{file} is damaged: the bytes of {member[:200]}{of} do not fit their CRC-32 in the archive; "
            "copy or download the file again"
        )
        self.file, self.member = file, member


@dataclass
class Seen:
    """What reading an archive has told so far.

    Attributes:
        checked: members whose bytes fitted their CRC-32 -> (time, size) of the file at that moment.
        unpacked: the compressed member that was unpacked last, as many tensors may look at one: its name,
            (time, size) of the file at that moment, its bytes.
    """

    checked: dict[str, tuple[int, int]] = field(default_factory=dict)
    unpacked: tuple[str, tuple[int, int], bytearray] = field(default=("", (0, 0), bytearray()), repr=False)


@dataclass(frozen=True)
class Member:
    """One file inside an archive.

    Attributes:
        path: the archive's file.
        name: its name inside.
        nbytes: its size, unpacked.
        packed: its size in the archive.
        deflated: it is compressed.
        header: position of its local header in the file.
        stop: position where the next member, or the table of contents, begins.
        crc: CRC-32 of its unpacked bytes; None where the archive was written without checksums.
        limits: what unpacking may cost.
        seen: what reading has told so far, shared by all members of an archive.
    """

    path: Path
    name: str
    nbytes: int
    packed: int
    deflated: bool
    header: int
    stop: int
    crc: int | None = None
    limits: Limits = LIMITS
    seen: Seen = field(default_factory=Seen, repr=False, compare=False)

    def begin(self) -> int:
        """Position of its first byte in the file.

        Raises:
            ValueError: there is no member at the place the table names.
        """
        with self.path.open("rb") as file:
            return self._begin(file)

    def _begin(self, file: BinaryIO) -> int:
        file.seek(self.header)
        head = file.read(30)
        size = file.seek(0, 2)
        if len(head) < 30 or head[:4] != _LOCAL:
            raise ValueError(f"{self.path.name} is damaged: its table names {self.name} where nothing is")
        n, extra = struct.unpack("<HH", head[26:30])
        file.seek(self.header + 30)
        if member_name(file.read(n)) != self.name or struct.unpack("<H", head[8:10])[0] != 8 * self.deflated:
            raise ValueError(f"{self.path.name} is damaged: its table names {self.name} where another lies")
        begin = self.header + 30 + n + extra
        if begin + self.packed > size:
            raise ValueError(f"{self.path.name} is damaged or cut off inside {self.name}")
        if begin + self.packed > self.stop:
            raise ValueError(f"{self.path.name} is damaged: {self.name} overlaps what follows it")
        return begin

    def read(self, start: int, count: int) -> bytearray:
        """`count` bytes from `start`, once the whole member fits its CRC-32.

        Raises:
            Damaged: the bytes are not those that were written.
            ValueError: fewer bytes are there.
        """
        self._refuse_beyond(start, count)
        with self.path.open("rb") as file:
            found = os.fstat(file.fileno())
            state = (found.st_mtime_ns, found.st_size)
            if self.deflated:
                return self._unpacked(file, state)[start : start + count]
            whole = count == self.nbytes
            # A part of a member that was read before need not be checked again, unless the file changed.
            if not whole and self.crc is not None and self.seen.checked.get(self.name) != state:
                crc = 0
                for block in self._blocks(file):
                    crc = zlib.crc32(block, crc)
                self._check(crc, state)
            file.seek(self._begin(file) + start)
            data = bytearray(count)
            if file.readinto(data) != count:
                raise ValueError(f"{self.path.name} became shorter while it was open; open it again")
        if whole and self.crc is not None:
            self._check(zlib.crc32(data), state)
        return data

    def _check(self, crc: int, state: tuple[int, int]) -> None:
        if crc != self.crc:
            raise Damaged(self.path.name, self.name)
        self.seen.checked[self.name] = state

    def _unpacked(self, file: BinaryIO, state: tuple[int, int]) -> bytearray:
        """All bytes of a compressed member."""
        name, then, data = self.seen.unpacked
        if name == self.name and then == state:
            return data
        data = bytearray()
        for block in self._blocks(file):
            data += block
        if len(data) != self.nbytes:
            raise ValueError(f"{self.path.name}: {self.name} is not as long as the table says")
        if self.crc is not None:
            self._check(zlib.crc32(data), state)
        if len(data) <= _KEPT:
            self.seen.unpacked = (self.name, state, data)
        return data

    def peek(self, count: int) -> bytes:
        """The first bytes, at most `count`, without a check of the rest: for headers in large members."""
        found = bytearray()
        with self.path.open("rb") as file:
            for block in self._blocks(file, min(count, _BLOCK)):
                found += block
                if len(found) >= count:
                    break
        return bytes(found[:count])

    def _refuse_beyond(self, start: int, count: int) -> None:
        if start < 0 or count < 0 or start + count > self.nbytes:
            raise ValueError(
                f"{self.path.name}: {self.name} has {self.nbytes} bytes, {start + count} are needed"
            )

    def _blocks(self, file: BinaryIO, size: int = _BLOCK) -> Iterator[bytes]:
        """The unpacked bytes, block by block."""
        file.seek(self._begin(file))
        left = self.packed
        if not self.deflated:
            while left:
                block = file.read(min(size, left))
                if not block:
                    raise ValueError(f"{self.path.name} became shorter while it was open; open it again")
                left -= len(block)
                yield block
            return
        if self.nbytes > self.limits.packed:
            raise refused_bomb(self.path, self.name, self.packed, self.nbytes)
        unpacker, given = zlib.decompressobj(-15), 0
        while not unpacker.eof:
            packed = unpacker.unconsumed_tail
            if not packed:
                packed = file.read(min(size, left))
                left -= len(packed)
            try:
                block = unpacker.decompress(packed, size)
            except zlib.error as error:
                raise ValueError(f"{self.path.name}: {self.name} is damaged ({error})") from error
            given += len(block)
            if given > self.nbytes or (not packed and not block):
                raise ValueError(f"{self.path.name}: {self.name} is not as long as the table says")
            yield block


def member_name(name: bytes) -> str:
    """A member's name as text."""
    return name.decode("utf-8", "replace")


def refused_bomb(path: Path, what: str, packed: int, unpacked: int) -> ValueError:
    """The error for compressed data that would unfold to too much."""
    return ValueError(
        f"{path.name}: {what[:80]} would unfold from {packed} to {unpacked} bytes; it is refused as a bomb "
        "(torch writes its archives uncompressed)"
    )
