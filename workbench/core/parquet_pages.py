"""What the pages of a Parquet file unfold to, by their own headers: the footer's sizes are a claim.

pyarrow and DuckDB make room for what a page's header states, whatever the footer says of the column. A page
of 45 kB may be zstd of 1.5 GB in a column of 85 numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# A header is some 20 bytes, and some 100 with the smallest and largest value of its page.
_USUAL, _LONGEST = 256, 1 << 16
# Pages hold a megabyte; a file of millions of empty ones would take minutes.
_MOST_PAGES = 100_000
# Fields of a page's header, and of the headers of a data page in it (versions 1 and 2).
_UNPACKED, _PACKED, _DATA, _COUNT = 2, 3, (5, 8), 1


def unfolded_bytes(facts: pq.FileMetaData, path: Path) -> int:
    """Bytes of the pages once they are unpacked; reads their headers alone.

    Args:
        facts: of the file's footer.
        path: of the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: where a page is expected there is none, or there are too many.
    """
    total = pages = 0
    with path.open("rb") as file:
        for g in range(facts.num_row_groups):
            group = facts.row_group(g)
            for column in map(group.column, range(group.num_columns)):
                starts = (column.dictionary_page_offset, column.data_page_offset)
                at = min((start for start in starts if start), default=0)  # 0: there is none
                end, rows = at + column.total_compressed_size, 0
                # DuckDB goes on until it has all rows, beyond the end that is stated.
                while at < end or rows < column.num_values:
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
            header, length = _struct(file.read(longest), 0, 0)
            sizes = header[_UNPACKED], header[_PACKED]
            count = sum(header[kind][_COUNT] for kind in _DATA if kind in header)
        except (IndexError, LookupError, ValueError, TypeError):
            continue
        if all(type(one) is int and one >= 0 for one in (*sizes, count)):
            return sizes[0], count, length + sizes[1]
    raise ValueError(f"{name}: is damaged (no page of a column at byte {at})")


# The compact protocol of Thrift, in which a Parquet file writes its headers.

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEEPEST = 8


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Whole numbers and structures by the number of their field, and where the structure ends."""
    if depth > _DEEPEST:
        raise ValueError
    found: dict[int, Any] = {}
    number = 0
    while data[at]:
        step, kind = data[at] >> 4, data[at] & 15
        at += 1
        if step:
            number += step
        else:
            number, at = _whole(data, at)
        found[number], at = _value(data, at, kind, depth)
    return found, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """A field's value, None of a kind that no size is of, and where it ends."""
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind in (_I16, _I32, _I64):
        return _whole(data, at)
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind == _BINARY:
        length, at = _varint(data, at)
        return None, at + length
    if kind in (_BYTE, _DOUBLE):
        return None, at + (1 if kind == _BYTE else 8)
    raise ValueError  # lists and maps stand in no header of a page


def _whole(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 128:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if shift > 63:
            raise ValueError
    return value | data[at] << shift, at + 1
