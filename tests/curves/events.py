"""TensorBoard event files as TensorFlow writes them, for tests."""

from __future__ import annotations

import struct

from workbench.curves.tensorboard import masked_crc


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def part(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def scalar(tag: str, value: float, *, tensor: bool = False) -> bytes:
    if tensor:
        inner = b"\x08\x01" + b"\x12\x00" + part(4, struct.pack("<f", value))
        return part(1, part(1, tag.encode()) + part(8, inner))
    return part(1, part(1, tag.encode()) + b"\x15" + struct.pack("<f", value))


def record(step: int, summary: bytes) -> bytes:
    return framed(b"\x09" + struct.pack("<d", 1.7e9) + b"\x10" + varint(step) + part(5, summary))


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def first() -> bytes:
    return framed(b"\x09" + struct.pack("<d", 1.7e9) + part(3, b"brain.Event:2"))


def events(*points: tuple[str, int, float], tensor: bool = False) -> bytes:
    return first() + b"".join(record(step, scalar(tag, value, tensor=tensor)) for tag, step, value in points)
