"""What a Parquet file states in its footer, and what its pages unfold to by their own headers.

pyarrow and DuckDB make room for what a page's header states, whatever the footer says of the column: a page
of 45 kB may be zstd of 1.5 GB in a column of 85 numbers. And pyarrow ends the process where the footer of a
column is damaged (`RowGroupMetaData.column` throws in C++), so that columns are read here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

# A header is some 20 bytes, and some 100 with the smallest and largest value of its page.
_USUAL, _LONGEST = 256, 1 << 16
# Pages hold a megabyte; a file of millions of empty ones would take minutes.
_MOST_PAGES = 100_000
# Fields of a page's header, and of the headers of a data page in it (versions 1 and 2).
_UNPACKED, _PACKED, _DATA, _COUNT = 2, 3, (5, 8), 1
# Fields of the footer, of a row group, of a column and of what is known of its values.
_GROUPS, _COLUMNS, _BYTES, _ROWS, _ABOUT = 4, 1, 2, 3, 3
_TYPE, _VALUES, _UNFOLDED, _LENGTH, _STARTS, _STATISTICS = 1, 5, 6, 7, (9, 11), 12
_MOST, _LEAST = 5, 6
# Physical types of whole numbers, with the bytes of each; texts and other bytes.
_WHOLE_NUMBERS, _BYTE_ARRAYS = {1: 4, 2: 8}, (6, 7)
# Of a footer; that of a sorted table of 300 epochs has some hundred thousand.
_MOST_FIELDS = 2_000_000


@dataclass(frozen=True)
class ColumnChunk:
    """One column of a row group, as the footer states it.

    Attributes:
        values: how many.
        unfolded: bytes once they are unpacked.
        packed: bytes in the file.
        start: where its first page begins; 0 where none is stated.
        is_text: of texts, or of other bytes.
        least, most: the smallest and the largest value of whole numbers; None where they are not stated.
    """

    values: int
    unfolded: int
    packed: int
    start: int
    is_text: bool
    least: int | None
    most: int | None


@dataclass(frozen=True)
class RowGroup:
    """Rows of a file that are stored together.

    Attributes:
        rows: how many.
        bytes: of all columns once they are unpacked.
        columns: in the order of the file.
    """

    rows: int
    bytes: int
    columns: tuple[ColumnChunk, ...]


def row_groups(path: Path) -> list[RowGroup]:
    """What the footer of a file states of its row groups; nothing else is read.

    Args:
        path: of the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no footer, or a damaged one, or one of more fields than any program writes.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 8, 0))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if size < 12 or end[4:] != b"PAR1" or length > size - 12:
            raise ValueError(f"{path.name}: is damaged, or no Parquet file (it has no footer)")
        file.seek(size - 8 - length)
        data = file.read(length)
    try:
        footer, _ = _Compact(data, _MOST_FIELDS).struct(0, 0)
        return [_row_group(one) for one in footer.get(_GROUPS, [])]
    except (LookupError, ValueError, TypeError, AttributeError):
        raise ValueError(f"{path.name}: is damaged, or no Parquet file (its footer cannot be read)") from None


def _row_group(stated: dict[int, Any]) -> RowGroup:
    columns = tuple(_column(one[_ABOUT]) for one in stated[_COLUMNS])
    return RowGroup(_count(stated[_ROWS]), _count(stated[_BYTES]), columns)


def _column(stated: dict[int, Any]) -> ColumnChunk:
    kind, about = stated[_TYPE], stated.get(_STATISTICS, {})
    least, most = (_whole_number(about.get(field), kind) for field in (_LEAST, _MOST))
    starts = [start for field in _STARTS if (start := _count(stated.get(field, 0)))]
    values, unfolded, packed = (_count(stated[field]) for field in (_VALUES, _UNFOLDED, _LENGTH))
    return ColumnChunk(values, unfolded, packed, min(starts, default=0), kind in _BYTE_ARRAYS, least, most)


def _count(stated: Any) -> int:
    if type(stated) is not int or stated < 0:
        raise ValueError
    return stated


def _whole_number(stated: Any, kind: int) -> int | None:
    size = _WHOLE_NUMBERS.get(kind)
    if size is None or not isinstance(stated, bytes) or len(stated) != size:
        return None
    return int.from_bytes(stated, "little", signed=True)


def unfolded_bytes(path: Path, groups: Iterable[RowGroup]) -> int:
    """Bytes of the pages once they are unpacked; reads their headers alone.

    Args:
        path: of the file.
        groups: of the file's footer.

    Raises:
        OSError: the file cannot be read.
        ValueError: where a page is expected there is none, or there are too many.
    """
    total = pages = 0
    with path.open("rb") as file:
        for column in (column for group in groups for column in group.columns):
            at = column.start
            end, rows = at + column.packed, 0
            # DuckDB goes on until it has all rows, beyond the end that is stated.
            while at < end or rows < column.values:
                unfolded, count, length = _page(file, at, path.name)
                total, rows, at, pages = total + unfolded, rows + count, at + length, pages + 1
                if pages > _MOST_PAGES:
                    raise ValueError(f"{path.name}: holds more than {_MOST_PAGES:,} pages")
    return total


def _page(file: BinaryIO, at: int, name: str) -> tuple[int, int, int]:
    """Of the page at a place: bytes when unpacked, values of the column, and its length in the file.

    Raises:
        ValueError: there is none.
    """
    for longest in (_USUAL, _LONGEST):
        try:
            file.seek(at)
            header, length = _Compact(file.read(longest), longest).struct(0, 0)
            sizes = header[_UNPACKED], header[_PACKED]
            count = sum(header[kind][_COUNT] for kind in _DATA if kind in header)
        except (IndexError, LookupError, ValueError, TypeError):
            continue
        if all(type(one) is int and one >= 0 for one in (*sizes, count)):
            return sizes[0], count, length + sizes[1]
    raise ValueError(f"{name}: is damaged (no page of a column at byte {at})")


# The compact protocol of Thrift, in which a Parquet file writes its headers.

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEEPEST = 10


class _Compact:
    """Values of the compact protocol.

    Args:
        data: that holds them.
        most: fields and elements of lists, in all.
    """

    def __init__(self, data: bytes, most: int) -> None:
        self.data, self.left = data, most

    def struct(self, at: int, depth: int) -> tuple[dict[int, Any], int]:
        """Values by the number of their field, and where the structure that begins at a place ends."""
        if depth > _DEEPEST:
            raise ValueError
        data, number = self.data, 0
        found: dict[int, Any] = {}
        while data[at]:
            step, kind = data[at] >> 4, data[at] & 15
            at += 1
            if step:
                number += step
            else:
                number, at = self.whole(at)
            found[number], at = self.value(at, kind, depth)
        return found, at + 1

    def value(self, at: int, kind: int, depth: int) -> tuple[Any, int]:
        """A field's value, None of a kind that is not looked at, and where it ends."""
        self.left -= 1
        if self.left < 0:
            raise ValueError
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE, at
        if kind in (_I16, _I32, _I64):
            return self.whole(at)
        if kind == _STRUCT:
            return self.struct(at, depth + 1)
        if kind == _BINARY:
            length, at = self.varint(at)
            return self.data[at : at + length], at + length
        if kind in (_LIST, _SET):
            return self.list_(at, depth)
        if kind in (_BYTE, _DOUBLE):
            return None, at + (1 if kind == _BYTE else 8)
        raise ValueError  # maps stand in no header

    def list_(self, at: int, depth: int) -> tuple[list[Any], int]:
        """Elements, and where the list ends."""
        size, kind = self.data[at] >> 4, self.data[at] & 15
        at += 1
        if size == 15:
            size, at = self.varint(at)
        found = []
        for _ in range(size):
            if kind in (_TRUE, _FALSE):  # in a list each takes a byte
                one, at = self.data[at] == _TRUE, at + 1
            else:
                one, at = self.value(at, kind, depth + 1)
            found.append(one)
        return found, at

    def whole(self, at: int) -> tuple[int, int]:
        """A signed number, and where it ends."""
        value, at = self.varint(at)
        return (value >> 1) ^ -(value & 1), at

    def varint(self, at: int) -> tuple[int, int]:
        """A number without sign, and where it ends."""
        value = shift = 0
        while self.data[at] & 128:
            value |= (self.data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if shift > 63:
                raise ValueError
        return value | self.data[at] << shift, at + 1
