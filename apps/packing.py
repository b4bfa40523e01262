"""Float arrays with a JSON head in one body: what the API calls a PACK."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.core.report import plain


def packed(head: Mapping[str, Any], blocks: Mapping[str, np.ndarray]) -> bytes:
    """The head, told where the blocks are, and the blocks as float32 little endian in C order."""
    told = {**head, "blocks": [{"name": n, "shape": list(a.shape)} for n, a in blocks.items()]}
    text = json.dumps(plain(told), ensure_ascii=False, allow_nan=False).encode()
    # Padded so that the floats start at a multiple of 8: a browser then reads them without a copy.
    text += b" " * (-(4 + len(text)) % 8)
    floats = [np.ascontiguousarray(a, dtype="<f4").tobytes() for a in blocks.values()]
    return b"".join([struct.pack("<I", len(text)), text, *floats])


def unpacked(body: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Head and blocks of a PACK."""
    (length,) = struct.unpack_from("<I", body)
    head = json.loads(body[4 : 4 + length])
    blocks, offset = {}, 4 + length
    for block in head["blocks"]:
        count = int(np.prod(block["shape"], dtype=int))
        blocks[block["name"]] = np.frombuffer(body, "<f4", count, offset).reshape(block["shape"])
        offset += 4 * count
    return head, blocks
