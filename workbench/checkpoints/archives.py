"""What lies in a zip archive, and where? Told by its table of contents alone; torch files are such archives.

Python's zipfile believes the table's size and every entry; this reader checks them first, and gives members
as places on disk, so that tensors are read by seeking. Bytes are checked against their CRC-32 when they are
read, not when the archive is opened. Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from workbench.checkpoints.budget import LIMITS, Limits
from workbench.checkpoints.zip_archive import Member, Seen, member_name, refused_bomb

_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCATOR64 = b"PK\x06\x07"
_ENTRY = b"PK\x01\x02"
_NONE32, _NONE16 = 0xFFFFFFFF, 0xFFFF
_MESSAGE_LIMIT = 65535 + 22  # the end record and the longest comment behind it
NO_CHECKSUMS = "none (written without CRC-32): damage to its tensors cannot be seen"
# Compressed archives may unfold to this much whatever their ratio: zeros compress a thousandfold.
_SMALL = 16 << 20


@dataclass(frozen=True)
class Archive:
    """A zip archive by its table of contents.

    Attributes:
        path: the file it lies in.
        members: by name.
        checksums: it was written with CRC-32s; torch can leave them out (set_crc32_options).
    """

    path: Path
    members: dict[str, Member]
    checksums: bool = True

    def ending(self, tail: str) -> list[str]:
        """Names that end so."""
        return [name for name in self.members if name.endswith(tail)]

    def require_names(self) -> None:
        """Every member has the name that the table gives it: a renamed one must not be overlooked.

        Raises:
            ValueError: one has another name.
        """
        for member in self.members.values():
            member.begin()

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
        name = member_name(table[at + 46 : at + 46 + n])
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
            f"{path.name} is damaged: its table of contents should have {entries} entries in {len(table)} "
            f"bytes, {len(found)} in {at} bytes can be read; copy or download it again"
        )
    return found


def _archive(path: Path, found: list[tuple[Member, int]], base: int, table: int) -> Archive:
    """The members, once none overlaps another and none unfolds to too much."""
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
        raise refused_bomb(
            path, largest.name if len(deflated) == 1 else f"{len(deflated)} members", packed, unpacked
        )
    seen = Seen()
    stop = table
    for member, n in sorted(found, key=lambda entry: -entry[0].header):
        if member.header < base or member.header + 30 + n + member.packed > stop:
            raise ValueError(f"{path.name} is damaged: {member.name[:80]} overlaps what follows it")
        crc = member.crc if checksums else None
        placed[member.name] = replace(member, stop=stop, crc=crc, seen=seen)
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
