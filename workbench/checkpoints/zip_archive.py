"""Reader of zip archives, the container of torch.save, TorchScript, torch.export and numpy's .npz.

Python's zipfile trusts the table of contents: of 9,700 damaged copies of such archives it gave other contents
without an error for 70, and errors of six types for the rest. This reader checks the table first and gives
members as ranges of the file, so that tensors are read by seeking. Bytes are checked against their CRC-32
when they are read, not when the archive is opened. Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from workbench.checkpoints.budget import LIMITS, Limits
from workbench.core.report import counted

_LOCAL = b"PK\x03\x04"
_ENTRY = b"PK\x01\x02"
_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCATOR64 = b"PK\x06\x07"
_NONE32, _NONE16 = 0xFFFFFFFF, 0xFFFF
_MESSAGE_LIMIT = 65535 + 22  # the end record and the longest comment behind it
NO_CHECKSUMS = "none (written without CRC-32): damage to its tensors cannot be seen"
_BLOCK = 1 << 20
# An unpacked member of up to this size stays in memory until another one is read.
_CACHED = 64 << 20
# Compressed archives may unfold to this much whatever their ratio: zeros compress a thousandfold.
_SMALL = 16 << 20


class Damaged(ValueError):  # noqa: N818 - reads as a claim
    """The bytes of a member are not those that were written.

    Args:
        file: the archive's file name.
        member: name of the member.
        tensor: name of the tensor that is read, "" when none is.
    """

    def __init__(self, file: str, member: str, tensor: str = "") -> None:
        of = f" ({tensor[:200]})" if tensor else ""
        super().__init__(
            f"{file} is damaged: the bytes of {member[:200]}{of} do not fit their CRC-32 in the archive; "
            "copy or download the file again"
        )
        self.file, self.member = file, member


@dataclass
class _Cache:
    """Results of earlier reads of an archive, shared by its members.

    Attributes:
        checked: name of a member whose bytes fitted their CRC-32 -> (time, size) of the file at that moment.
        unpacked: the compressed member that was unpacked last, as many tensors may be views of one: its name,
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
        limits: bounds on unpacking.
        cache: results of earlier reads, shared by all members of an archive.
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
    cache: _Cache = field(default_factory=_Cache, repr=False, compare=False)

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
        if _member_name(file.read(n)) != self.name or struct.unpack("<H", head[8:10])[0] != 8 * self.deflated:
            raise ValueError(f"{self.path.name} is damaged: its table names {self.name} where another lies")
        begin = self.header + 30 + n + extra
        if begin + self.packed > size:
            raise ValueError(f"{self.path.name} is damaged or cut off inside {self.name}")
        if begin + self.packed > self.stop:
            raise ValueError(f"{self.path.name} is damaged: {self.name} overlaps what follows it")
        return begin

    def read(self, start: int, count: int) -> bytearray:
        """Bytes of the member, after all of it was checked against its CRC-32.

        Args:
            start: position of the first, in the unpacked member.
            count: how many.

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
            if not whole and self.crc is not None and self.cache.checked.get(self.name) != state:
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
        self.cache.checked[self.name] = state

    def _unpacked(self, file: BinaryIO, state: tuple[int, int]) -> bytearray:
        """All bytes of a compressed member."""
        name, then, data = self.cache.unpacked
        if name == self.name and then == state:
            return data
        data = bytearray()
        for block in self._blocks(file):
            data += block
        if len(data) != self.nbytes:
            raise ValueError(f"{self.path.name}: {self.name} is not as long as the table says")
        if self.crc is not None:
            self._check(zlib.crc32(data), state)
        if len(data) <= _CACHED:
            self.cache.unpacked = (self.name, state, data)
        return data

    def peek(self, count: int) -> bytes:
        """At most `count` first bytes, without a check of the rest: for headers of large members."""
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
            raise _refused_bomb(self.path, self.name, self.packed, self.nbytes)
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


def _member_name(name: bytes) -> str:
    """A member's name as text."""
    return name.decode("utf-8", "replace")


def _refused_bomb(path: Path, what: str, packed: int, unpacked: int) -> ValueError:
    """The error for compressed data that would unfold to too much."""
    return ValueError(
        f"{path.name}: {what[:80]} would unfold from {packed} to {unpacked} bytes; it is refused as a bomb "
        "(torch writes its archives uncompressed)"
    )


@dataclass(frozen=True)
class Archive:
    """The table of contents of a zip archive.

    Attributes:
        path: the file it lies in.
        members: by name.
        checksums: it was written with CRC-32s; torch can leave them out (set_crc32_options).
    """

    path: Path
    members: dict[str, Member]
    checksums: bool = True

    def ending(self, tail: str) -> list[str]:
        """Names of the members that end with `tail`."""
        return [name for name in self.members if name.endswith(tail)]

    def require_names(self) -> None:
        """Check that every member has the name that the table gives it.

        Raises:
            ValueError: one has another name, as after damage to the table.
        """
        for member in self.members.values():
            member.begin()

    def require_checksums(self) -> None:
        """Check every member against its CRC-32, for a reader that does not; block by block.

        Raises:
            Damaged: the bytes of one are not those that were written.
        """
        for member in self.members.values():
            member.read(0, 0)

    def bytes_of(self, name: str, limit: int) -> bytes:
        """All bytes of a member.

        Args:
            name: of the member.
            limit: how many bytes it may have.

        Raises:
            ValueError: it is longer.
        """
        member = self.members[name]
        if member.nbytes > limit:
            raise ValueError(f"{self.path.name}: {name} has {member.nbytes} bytes; refused")
        return bytes(member.read(0, member.nbytes))


def open_archive(path: Path, base: int = 0, length: int | None = None, limits: Limits = LIMITS) -> Archive:
    """The archive that fills a file, or a range of it.

    Args:
        path: the file.
        base: where the archive begins in the file, bytes.
        length: its length, bytes; None for all of the file.
        limits: bounds on the table of contents and on compressed members.

    Raises:
        ValueError: no archive, a damaged one, or one whose table is out of proportion.
    """
    with path.open("rb") as file:
        stop = file.seek(0, 2) if length is None else base + length
        entries, at, size = _table(path, file, base, stop)
        if size > limits.header:
            raise ValueError(f"{path.name}: a table of contents of {size} bytes is refused")
        file.seek(at)
        table = file.read(size)
    return _archive(path, _entries(path, table, entries, base, limits), base, at)


def _table(path: Path, file: BinaryIO, base: int, stop: int) -> tuple[int, int, int]:
    """Number of entries, position and size of the table of contents."""
    start = max(base, stop - _MESSAGE_LIMIT)
    file.seek(start)
    tail = file.read(stop - start)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise ValueError(
            f"{path.name} is cut off: it begins as a zip archive (as torch.save writes) but its table of "
            "contents at the end is missing; copy or download it again"
        )
    disk, first, here, entries, size, offset, comment = struct.unpack("<HHHHIIH", tail[at + 4 : at + 22])
    end = start + at
    wrong = ValueError(f"{path.name} is damaged: its table of contents does not fit into the file")
    if end + 22 + comment != stop or here != entries or (disk, first) not in ((0, 0), (_NONE16, _NONE16)):
        raise wrong
    # torch writes the zip64 record always, and numbers into the short one too where they fit.
    file.seek(max(end - 20, base))
    locator = file.read(20) if end - 20 >= base else b""
    if locator[:4] == _LOCATOR64:
        at64 = base + struct.unpack("<Q", locator[8:16])[0]
        file.seek(min(at64, stop))
        record = file.read(56)
        if record[:4] != _END64 or len(record) < 56 or at64 + 76 != end:
            raise ValueError(f"{path.name} is damaged: its zip64 table of contents is not where it says")
        short, wide = (entries, size, offset), struct.unpack("<QQQ", record[32:56])
        full = (_NONE16, _NONE32, _NONE32)
        if any(a not in (b, none) for a, b, none in zip(short, wide, full, strict=True)):
            raise wrong
        end, (entries, size, offset) = at64, wide
    if base + offset + size != end:
        raise wrong
    return entries, base + offset, size


def _entries(path: Path, table: bytes, entries: int, base: int, limits: Limits) -> list[tuple[Member, int]]:
    """Members and the length of their names in bytes, as the table lists them."""
    found: list[tuple[Member, int]] = []
    at = 0
    while at + 46 <= len(table) and table[at : at + 4] == _ENTRY:
        flags, method = struct.unpack("<HH", table[at + 8 : at + 12])
        crc, packed, size, n, m, k = struct.unpack("<IIIHHH", table[at + 16 : at + 34])
        header = struct.unpack("<I", table[at + 42 : at + 46])[0]
        name = _member_name(table[at + 46 : at + 46 + n])
        extra = table[at + 46 + n : at + 46 + n + m]
        size, packed, header = _wide(extra, size, packed, header)
        if flags & 1 or method not in (0, 8):
            raise ValueError(
                f"{path.name}: {name[:80]} is encrypted or packed in a way that torch never uses"
            )
        if method == 0 and size != packed:
            raise ValueError(f"{path.name} is damaged: two sizes for {name[:80]}")
        member = Member(path, name, size, packed, method == 8, base + header, 0, crc, limits)
        found.append((member, n))
        if len(found) > 2 * limits.tensors:
            raise ValueError(f"{path.name} has more members than any checkpoint; refused")
        at += 46 + n + m + k
    if at != len(table) or len(found) != entries:
        raise ValueError(
            f"{path.name} is damaged: its table of contents should have "
            f"{counted(entries, 'entry', 'entries')} in {len(table)} bytes, {len(found)} in {at} bytes can "
            "be read; copy or download it again"
        )
    return found


def _archive(path: Path, found: list[tuple[Member, int]], base: int, table: int) -> Archive:
    """The members, after a check that none overlaps another and that they do not unfold to too much."""
    placed: dict[str, Member] = {}
    for member, _ in found:
        if member.name in placed:
            raise ValueError(f"{path.name} is damaged: its table of contents names {member.name[:80]} twice")
        placed[member.name] = member
    # torch.serialization.set_crc32_options(False) writes 0 for every member: no checksum, not a wrong one.
    checksums = any(member.crc for member, _ in found) or not any(member.nbytes for member, _ in found)
    deflated = [member for member, _ in found if member.deflated]
    unpacked, packed = sum(m.nbytes for m in deflated), sum(m.packed for m in deflated)
    if deflated and unpacked > max(_SMALL, deflated[0].limits.ratio * packed):
        largest = max(deflated, key=lambda member: member.nbytes)
        raise _refused_bomb(
            path, largest.name if len(deflated) == 1 else f"{len(deflated)} members", packed, unpacked
        )
    cache = _Cache()
    stop = table
    for member, n in sorted(found, key=lambda entry: -entry[0].header):
        if member.header < base or member.header + 30 + n + member.packed > stop:
            raise ValueError(f"{path.name} is damaged: {member.name[:80]} overlaps what follows it")
        crc = member.crc if checksums else None
        placed[member.name] = replace(member, stop=stop, crc=crc, cache=cache)
        stop = member.header
    return Archive(path, placed, checksums)


def _wide(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """Sizes beyond 4 GB, from the zip64 field (id 1): only those whose short field is full stand there."""
    at = 0
    while at + 4 <= len(extra):
        field_id, length = struct.unpack("<HH", extra[at : at + 4])
        if field_id == 1:
            body = extra[at + 4 : at + 4 + length]
            numbers = iter(struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8]))
            size = next(numbers, size) if size == _NONE32 else size
            packed = next(numbers, packed) if packed == _NONE32 else packed
            header = next(numbers, header) if header == _NONE32 else header
        at += 4 + length
    return size, packed, header
