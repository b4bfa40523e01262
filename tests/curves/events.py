"""TensorBoard event files as TensorFlow writes them, and offline runs as wandb does, for tests."""

from __future__ import annotations

import json
import struct
import zlib

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


BLOCK = 32_768


def wandb_file(*rows: dict) -> bytes:
    """History rows as an offline run of wandb: records in blocks, a record that does not fit in pieces."""
    out = bytearray(b":W&B\xe1\xbe\0")
    for number, row in enumerate(rows, 1):
        items = (part(1, part(2, key.encode()) + part(16, json.dumps(v).encode())) for key, v in row.items())
        data, begun = b"\x08" + varint(number) + part(2, b"".join(items)), False
        while data or not begun:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left)
                continue
            piece, data = data[: left - 7], data[left - 7 :]
            kind = (3 if begun else 2) if data else (4 if begun else 1)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
            begun = True
    return bytes(out)
