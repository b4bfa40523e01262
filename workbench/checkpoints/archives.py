"""What lies in a zip archive, and where? Told by its table of contents alone; torch files are such archives.

Python's zipfile believes the table's size and every entry; this reader checks them first, and gives members
as places on disk, so that tensors are read by seeking. Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from workbench.checkpoints.limits import LIMITS, Limits

_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCATOR64 = b"PK\x06\x07"
_ENTRY = b"PK\x01\x02"
_LOCAL = b"PK\x03\x04"
_NONE32, _NONE16 = 0xFFFFFFFF, 0xFFFF
_MESSAGE_LIMIT = 65535 + 22  # the end record and the longest comment behind it


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
        limits: what unpacking may cost.
    """

    path: Path
    name: str
    nbytes: int
    packed: int
    deflated: bool
    header: int
    limits: Limits = LIMITS

    def begin(self) -> int:
        """Position of its first byte in the file.

        Raises:
            ValueError: there is no member at the place the table names.
        """
        with self.path.open("rb") as file:
            file.seek(self.header)
            head = file.read(30)
            size = file.seek(0, 2)
        if len(head) < 30 or head[:4] != _LOCAL:
            raise ValueError(f"{self.path.name} is damaged: its table names {self.name} where nothing is")
        name, extra = struct.unpack("<HH", head[26:30])
        begin = self.header + 30 + name + extra
        if begin + self.packed > size:
            raise ValueError(f"{self.path.name} is damaged or cut off inside {self.name}")
        return begin

    def read(self, start: int, count: int) -> bytearray:
        """`count` bytes from `start`."""
        if start < 0 or start + count > self.nbytes:
            raise ValueError(
                f"{self.path.name}: {self.name} has {self.nbytes} bytes, {start + count} are needed"
            )
        begin = self.begin()
        with self.path.open("rb") as file:
            if not self.deflated:
                file.seek(begin + start)
                data = bytearray(count)
                if file.readinto(data) != count:
                    raise ValueError(f"{self.path.name} became shorter while it was open; open it again")
                return data
            self._refuse_bomb()
            file.seek(begin)
            unpacker = zlib.decompressobj(-15)
            try:
                unpacked = unpacker.decompress(file.read(self.packed), self.nbytes)
            except zlib.error as error:
                raise ValueError(f"{self.path.name}: {self.name} is damaged ({error})") from error
        if len(unpacked) < start + count:
            raise ValueError(f"{self.path.name}: {self.name} is shorter than the table says")
        return bytearray(memoryview(unpacked)[start : start + count])

    def _refuse_bomb(self) -> None:
        too_large = self.nbytes > self.limits.packed
        if too_large or (self.nbytes > 1 << 24 and self.nbytes > self.limits.ratio * self.packed):
            raise ValueError(
                f"{self.path.name}: {self.name} would unfold from {self.packed} to {self.nbytes} "
                "bytes; it is "
                "refused as a bomb (torch writes its archives uncompressed)"
            )


@dataclass(frozen=True)
class Archive:
    """A zip archive by its table of contents.

    Attributes:
        path: the file it lies in.
        members: by name.
    """

    path: Path
    members: dict[str, Member]

    def ending(self, tail: str) -> list[str]:
        """Names that end so."""
        return [name for name in self.members if name.endswith(tail)]

    def bytes_of(self, name: str, limit: int) -> bytes:
        """A whole member, if it is not longer than `limit`.

        Raises:
            ValueError: it is longer.
        """
        member = self.members[name]
        if member.nbytes > limit:
            raise ValueError(f"{self.path.name}: {name} has {member.nbytes} bytes; refused")
        return bytes(member.read(0, member.nbytes))


def open_archive(path: Path, base: int = 0, length: int | None = None, limits: Limits = LIMITS) -> Archive:
    """The archive that fills a file, or `length` bytes of it from `base`.

    Raises:
        ValueError: no archive, a damaged one, or one whose table is out of proportion.
    """
    with path.open("rb") as file:
        stop = file.seek(0, 2) if length is None else base + length
        start = max(base, stop - _MESSAGE_LIMIT)
        file.seek(start)
        tail = file.read(stop - start)
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < 22:
            raise ValueError(
                f"{path.name} is cut off: it begins as a zip archive (as torch.save writes) but its table of "
                "contents at the end is missing; copy or download it again"
            )
        entries, size, offset = struct.unpack("<HII", tail[at + 10 : at + 20])
        if _NONE32 in (size, offset) or entries == _NONE16:
            file.seek(start + at - 20)
            locator = file.read(20)
            if locator[:4] == _LOCATOR64:
                file.seek(base + struct.unpack("<Q", locator[8:16])[0])
                record = file.read(56)
                if record[:4] != _END64 or len(record) < 56:
                    raise ValueError(
                        f"{path.name} is damaged: its zip64 table of contents is not where it says"
                    )
                size, offset = struct.unpack("<QQ", record[40:56])
        if size > limits.header or base + offset + size > stop:
            raise ValueError(f"{path.name} is damaged: its table of contents does not fit into the file")
        file.seek(base + offset)
        table = file.read(size)
    return Archive(path, {m.name: m for m in _entries(path, table, base, limits)})


def _entries(path: Path, table: bytes, base: int, limits: Limits) -> list[Member]:
    members, at = [], 0
    while at + 46 <= len(table) and table[at : at + 4] == _ENTRY:
        flags, method = struct.unpack("<HH", table[at + 8 : at + 12])
        packed, size, n, m, k = struct.unpack("<IIHHH", table[at + 20 : at + 34])
        header = struct.unpack("<I", table[at + 42 : at + 46])[0]
        name = table[at + 46 : at + 46 + n].decode("utf-8", "replace")
        extra = table[at + 46 + n : at + 46 + n + m]
        size, packed, header = _wide(extra, size, packed, header)
        if flags & 1 or method not in (0, 8):
            raise ValueError(f"{path.name}: {name} is encrypted or packed in a way that torch never uses")
        if method == 0 and size != packed:
            raise ValueError(f"{path.name} is damaged: two sizes for {name}")
        members.append(Member(path, name, size, packed, method == 8, base + header, limits))
        if len(members) > limits.objects:
            raise ValueError(f"{path.name} has more members than any checkpoint; refused")
        at += 46 + n + m + k
    return members


def _wide(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """Sizes beyond 4 GB, from the zip64 field (id 1): only those whose short field is full stand there."""
    at = 0
    while at + 4 <= len(extra):
        field, length = struct.unpack("<HH", extra[at : at + 4])
        if field == 1:
            body = extra[at + 4 : at + 4 + length]
            numbers = iter(struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8]))
            size = next(numbers, size) if size == _NONE32 else size
            packed = next(numbers, packed) if packed == _NONE32 else packed
            header = next(numbers, header) if header == _NONE32 else header
        at += 4 + length
    return size, packed, header
