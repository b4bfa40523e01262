"""TensorBoard event files: the scalars, by an own small reader that checks every checksum.

A record is its length (uint64), the masked CRC-32C of that, the data, and the masked CRC-32C of the data.
The data are a protocol buffer ``Event`` with ``step`` (2) and ``summary`` (5) of values with ``tag`` (1) and
``simple_value`` (2) or ``tensor`` (8).

Source: tensorflow/tensorflow:tensorflow/core/util/event.proto, framework/summary.proto, lib/io/record_writer.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np

from workbench.core.files import read_at_most
from workbench.curves.protobuf import fields
from workbench.curves.quantities import is_coco, role_of, short
from workbench.curves.rows import MOST_ROWS, NAN, Names, Row, Rows
from workbench.curves.source import MOST_BYTES, Source, check_size, short_name
from workbench.curves.table import Log

# Records of pictures and graphs are longer; a scalar takes some 50 bytes, a text some hundred.
MOST_OF_A_SCALAR = 1 << 16
_HEADER, _FOOTER = 12, 4
_FLOAT, _DOUBLE = 1, 2


def is_tensorboard(head: bytes, name: str) -> bool:
    """Whether the first record's length has the checksum that it states."""
    if len(head) < _HEADER:
        return False
    length, stated = struct.unpack_from("<QI", head)
    return length < 1 << 32 and masked_crc(head[:8]) == stated


def read_tensorboard(source: Source) -> Log:
    """All scalars of an event file; reading ends at the first damaged record, with a note.

    Raises:
        ValueError: the first record is damaged, or the file is larger than any log.
    """
    check_size(source.path)
    data = read_at_most(source.path, MOST_BYTES, "a log")
    spans, end = _spans(data, source)
    good = _checked(data, spans)
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        source.note(
            f"record {first + 1} at byte {spans[first][0]} is damaged (checksum): it and all after it are "
            "left out"
        )
        spans = spans[:first]
    elif end < len(data):
        source.note(f"the last record, at byte {end}, is cut off and left out")
    if not len(spans):
        raise ValueError(f"{source.name}: no whole record; expected a TensorBoard event file")
    points = _Points(Names(source.name))
    for number in np.flatnonzero(spans[:, 1] <= MOST_OF_A_SCALAR).tolist():
        source.budget.step()
        start, length = spans[number].tolist()
        try:
            scalars = _scalars(data[start : start + length])
        except (IndexError, ValueError, struct.error) as reason:
            raise ValueError(f"{source.name}: record {number + 1} is no event ({reason})") from None
        for tag, step, value in scalars:
            points.add(tag, step, value)
        if len(points.values) > MOST_ROWS:
            raise ValueError(f"{source.name}: more than {MOST_ROWS:,} scalars, which no log has")
    return Log(_rows(points, source), tuple(source.notes))


def _spans(data: bytes, source: Source) -> tuple[np.ndarray, int]:
    """Start and length of the data of each record [R 2], as the lengths chain; and where the chain ends."""
    spans, at = array("q"), 0
    while at + _HEADER + _FOOTER <= len(data):
        length, stated = struct.unpack_from("<QI", data, at)
        if length > len(data) - at - _HEADER - _FOOTER:
            break
        if _crc_of_length(data[at : at + 8]) != stated:
            source.note(f"the record at byte {at} is damaged (checksum): it and all after it are left out")
            at = len(data)
            break
        if len(spans) >= 2 * MOST_ROWS:
            raise ValueError(f"{source.name}: more than {MOST_ROWS:,} records, which no log has")
        spans.extend((at + _HEADER, length))
        at += _HEADER + length + _FOOTER
    return np.array(spans).reshape(-1, 2), at


def _checked(data: bytes, spans: np.ndarray) -> np.ndarray:
    """Whether the data of each record have their checksum; long records are not looked at [R]."""
    good = np.ones(len(spans), bool)
    short = np.flatnonzero(spans[:, 1] <= MOST_OF_A_SCALAR)
    if not len(short):
        return good
    starts, lengths = spans[short].T
    longest_first = np.argsort(-lengths, kind="stable")
    short, ends, lengths = short[longest_first], (starts + lengths)[longest_first], lengths[longest_first]
    raw, table = np.frombuffer(data, np.uint8), np.array(_table(), np.uint32)
    crc = np.full(len(short), 0xFFFFFFFF, np.uint32)
    left = np.arange(int(lengths[0]), 0, -1)
    # Records that have at least so many bytes; all are checked together, however their lengths differ.
    for before_end, some in zip(left, np.searchsorted(-lengths, -left, side="right"), strict=True):
        part = crc[:some]
        part[:] = table[(part ^ raw[ends[:some] - before_end]) & 0xFF] ^ (part >> np.uint32(8))
    crc ^= np.uint32(0xFFFFFFFF)
    mask = (((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)).astype(np.uint32)
    stated = sum(raw[ends + i].astype(np.uint32) << np.uint32(8 * i) for i in range(4))
    good[short] = mask == stated
    return good


@cache
def _table() -> tuple[int, ...]:
    """CRC-32C (Castagnoli, reflected 0x82F63B78), byte by byte."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


def masked_crc(data: bytes) -> int:
    """CRC-32C of some bytes, rotated and offset as TFRecord stores it."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# Records of scalars have few lengths.
_crc_of_length = lru_cache(1 << 14)(masked_crc)


def _scalars(record: bytes) -> list[tuple[str, float, float]]:
    """(tag, step, value) of each scalar of an event."""
    step, summaries = 0, []
    for number, value in fields(record):
        if number == 2 and isinstance(value, int):
            step = value - (1 << 64) if value >> 63 else value
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    found = []
    for summary in summaries:
        for number, value in fields(summary):
            if number == 1 and isinstance(value, bytes) and (one := _scalar(value)) is not None:
                found.append((one[0], float(step), one[1]))
    return found


def _scalar(value: bytes) -> tuple[str, float] | None:
    tag, number = None, None
    for place, content in fields(value):
        if place == 1 and isinstance(content, bytes):
            tag = short_name(content.decode("utf-8", errors="replace"))
        elif place == 2 and isinstance(content, bytes) and len(content) == 4:
            (number,) = struct.unpack("<f", content)
        elif place == 8 and isinstance(content, bytes):
            number = _tensor(content)
    return None if tag is None or number is None else (tag, number)


def _tensor(tensor: bytes) -> float | None:
    """The number of a tensor of one float or double; None for any other."""
    kind, content = 0, b""
    for place, value in fields(tensor):
        if place == 1 and isinstance(value, int):
            kind = value
        elif (place == 4 or (place, kind) in ((5, _FLOAT), (6, _DOUBLE))) and isinstance(value, bytes):
            content = value
    if (kind, len(content)) == (_FLOAT, 4):
        return struct.unpack("<f", content)[0]
    return struct.unpack("<d", content)[0] if (kind, len(content)) == (_DOUBLE, 8) else None


@dataclass
class _Points:
    """Scalars in the order of the file: 24 bytes for each, where a tuple of them takes 170.

    Attributes:
        names: counts the tags that become series.
        numbers: tag -> its number, from 0.
        tags: number of the tag of each scalar.
        steps: of each scalar.
        values: of each scalar.
    """

    names: Names
    numbers: dict[str, int] = field(default_factory=dict)
    tags: array[int] = field(default_factory=lambda: array("q"))
    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, tag: str, step: float, value: float) -> None:
        if tag not in self.numbers and not _counts(tag):
            self.names.add(tag)
        self.tags.append(self.numbers.setdefault(tag, len(self.numbers)))
        self.steps.append(step)
        self.values.append(value)

    def of(self, chosen: Callable[[str], bool]) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of the tags for which `chosen` is true."""
        numbers = [number for tag, number in self.numbers.items() if chosen(tag)]
        own = np.isin(np.array(self.tags), numbers)
        return np.array(self.steps)[own], np.array(self.values)[own]


def _rows(points: _Points, source: Source) -> Rows:
    """One row for each scalar; a scalar called epoch says to which epoch its step belongs."""
    steps, values = points.of(_counts)
    epochs = dict(zip(steps.tolist(), values.tolist(), strict=True))
    last = max((v for v in epochs.values() if np.isfinite(v)), default=NAN)
    trained, _ = points.of(lambda tag: role_of(tag) in ("loss", "rate"))
    # mmengine writes validation figures at their epoch, training ones at their iteration; others write both
    # at the iteration, and then the last validation is near the last iteration.
    judged, _ = points.of(_may_count_epochs)
    highest = judged.max(initial=-np.inf) if len(judged) else NAN
    by_epoch = highest <= last if np.isfinite(last) else highest * 2 < trained.max(initial=0.0)
    rows, names = Rows(source.name), list(points.numbers)
    counts, may_count = [_counts(tag) for tag in names], [_may_count_epochs(tag) for tag in names]
    for number, step, value in zip(points.tags, points.steps, points.values, strict=True):
        if counts[number] or step < 0:
            continue
        if by_epoch and may_count[number]:
            rows.add(Row({names[number]: value}, epoch=step))
            continue
        epoch = epochs.get(step, NAN)
        place = epoch if math.isfinite(epoch) and epoch >= 0 else NAN
        rows.add(Row({names[number]: value}, place, step))
    if by_epoch:
        source.note("the steps of validation figures are read as epochs, as mmengine writes them")
    return rows


def _counts(tag: str) -> bool:
    """Whether its values are the epochs of its steps."""
    return short(tag).lower() == "epoch"


def _may_count_epochs(tag: str) -> bool:
    """Whether it is a figure of COCO under a name that mmengine gives it."""
    return "/" in tag and is_coco(tag) and not tag.lower().startswith(("val", "test", "metrics"))
