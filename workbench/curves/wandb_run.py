"""Offline runs of Weights & Biases (``run-*.wandb``), by an own small reader that checks every checksum.

wandb itself has had no reader of these files in Python since its Go core writes them. A file is a log of
LevelDB's form: a first line of 7 bytes, then blocks of 32 KiB. A piece of a record is the CRC-32 of its kind
and data, its length (uint16), its kind (1 whole, 2 first, 3 middle, 4 last), and the data. The data are a
protocol buffer ``Record``, whose ``history`` (2) has an ``item`` (1) for each value that was logged.

Source: wandb/wandb:core/pkg/leveldb/record.go, wandb/proto/wandb_internal.proto.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from workbench.core import NotAvailable
from workbench.curves.json_lines import figure_of, name_of, plain_rows
from workbench.curves.protobuf import fields
from workbench.curves.source import MOST_LINE, Source, check_size, short_name
from workbench.curves.table import Log

_MAGIC = b":W&B"
_BLOCK, _FILE_HEADER, _HEADER = 32_768, 7, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_MOST_OF_A_RECORD = MOST_LINE  # bytes; a line of history has kilobytes
_MOST_FIELDS = 100_000
_VALUE_JSON = 16
_DEEPEST = 8  # objects in objects that are opened; figures lie one or two deep


def is_wandb(head: bytes, name: str) -> bool:
    """Whether it begins as wandb's record files do."""
    return head.startswith(_MAGIC)


def read_wandb(source: Source) -> Log:
    """What an offline run logged with ``wandb.log``; reading ends at the first damaged record, with a note.

    Raises:
        NotAvailable: nothing was logged.
        ValueError: a record is of another form, no line is before the first damaged one, or the file is
            larger than any log.
    """
    check_size(source.path)
    rows = plain_rows(((0, one) for one in _histories(source)), source)
    if not len(rows):
        if source.notes:
            raise ValueError(f"{source.name}: {source.notes[0]}; no line of history is before it")
        raise NotAvailable(f"{source.name}: no line of history in it")
    return Log(rows, tuple(source.notes))


def _histories(source: Source) -> Iterator[dict[str, Any]]:
    with source.path.open("rb") as file:
        for record in _records(file, source):
            try:
                contents = [content for number, content in _few(record) if number == 2]
                found = [_history(content) for content in contents if isinstance(content, bytes)]
            except (ValueError, IndexError, struct.error) as reason:
                raise ValueError(f"{source.name}: a record is of another form ({reason})") from None
            source.budget.make(1 + sum(map(len, found)))
            yield from found


def _records(file: BinaryIO, source: Source) -> Iterator[bytes]:
    """The records, joined of their pieces, as far as the file is whole; one at a time is in memory."""
    at, pieces, held = _FILE_HEADER, [], 0
    size = file.seek(0, os.SEEK_END)
    file.seek(at)
    while at < size:
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:  # too little for a piece: filled with zeros
            at = file.seek(at + left)
            continue
        head = file.read(_HEADER)
        if len(head) < _HEADER:
            break
        stated, length, kind = struct.unpack("<IHB", head)
        content = file.read(length)
        if len(content) < length:
            break
        if zlib.crc32(content, zlib.crc32(bytes([kind]))) != stated:
            source.note(f"the record at byte {at} is damaged (checksum): it and all after it are left out")
            return
        if kind in (_WHOLE, _FIRST):
            pieces, held = [], 0
        at, held = at + _HEADER + length, held + length
        if held <= _MOST_OF_A_RECORD:
            pieces.append(content)
        else:
            pieces.clear()
        source.budget.step(1)
        if kind in (_WHOLE, _LAST):
            if held <= _MOST_OF_A_RECORD:
                yield b"".join(pieces)
            else:
                source.note(f"a record of {held >> 20} MB, which no line of history has, is left out")
            pieces, held = [], 0
    if at < size or held:
        source.note("the last record is cut off and left out")


def _few(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message; a line of history has hundreds, and four million of them fit into a record.

    Raises:
        ValueError: there are more than in any message.
    """
    for count, field in enumerate(fields(message)):
        if count == _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS:,} fields")
        yield field


def _history(record: bytes) -> dict[str, Any]:
    """Name -> value of one row; parts of a nested name, or names in an object, are joined with a slash."""
    row: dict[str, Any] = {}
    for number, item in _few(record):
        if number == 1 and isinstance(item, bytes):
            name, value = _item(item)
            if name and value is not None:
                row |= _flat(name, value)
    return row


def _flat(name: str, value: Any, depth: int = 0) -> dict[str, Any]:
    if not isinstance(value, dict) or depth == _DEEPEST:
        return {name: figure_of(value)}
    return {k: v for key, one in value.items() for k, v in _flat(name_of(name, key), one, depth + 1).items()}


def _item(item: bytes) -> tuple[str, Any]:
    name, value = "", None
    for number, content in _few(item):
        if number in (1, 2) and isinstance(content, bytes):
            part = content.decode("utf-8", errors="replace")
            name = name_of(name, part) if name else short_name(part)
        elif number == _VALUE_JSON and isinstance(content, bytes):
            try:
                value = json.loads(content)
            except (ValueError, RecursionError):
                continue
    return name, value
