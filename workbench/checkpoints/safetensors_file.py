"""Reader of safetensors files: the header says everything, the tensors stay on disk.

The header is parsed here and not by the package safetensors (checked with 0.8.0): `safe_open` accepts a name
that occurs twice, does not say which tensor overlaps which or where a file is cut off, refuses a whole file
for one unknown type, and reads through a memory map, which ends the process with a bus error when a trainer
shortens the file meanwhile.
Source: huggingface/safetensors README, "Format": 8 bytes of header length, JSON, then the data.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.budget import Limits
from workbench.checkpoints.pieces import Piece, Pieces
from workbench.checkpoints.tensors import (
    ITEMSIZE,
    Contents,
    FileRange,
    Storage,
    TensorInfo,
    contiguous,
    shape_text,
)
from workbench.core.files import Twice, each_once, replacing

if TYPE_CHECKING:
    from torch import Tensor

TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
"""Type as the header names it -> torch's name."""


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file begins with a header length that fits it, and an opening brace.

    Args:
        head: its first bytes, nine or more.
        size: of the file, bytes.
    """
    return len(head) >= 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8


def read_safetensors(path: Path, limits: Limits) -> Contents:
    """Contents of a file: all tensors and the metadata.

    Args:
        path: the file.
        limits: bounds on the header and on the number of tensors.

    Raises:
        ValueError: a header that is damaged, too large or contradicts the file's size, or tensors that
            overlap or leave bytes unused.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if length > limits.header:
            raise ValueError(f"{path.name}: a safetensors header of {length} bytes is refused")
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=each_once)
    except Twice as error:
        raise ValueError(f"{path.name} is damaged: its safetensors header names {error} twice") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is damaged: its safetensors header is no JSON") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path.name} is damaged: its safetensors header names no tensors")
    metadata = header.pop("__metadata__", None)
    if len(header) > limits.tensors:
        raise ValueError(f"{path.name} has more tensors, or longer names, than any network; it is refused")
    tensors = {name: _tensor(path, name, entry, 8 + length, size) for name, entry in header.items()}
    _refuse_holes(path, tensors, 8 + length, size)
    facts = {str(k): str(v)[:10_000] for k, v in metadata.items()} if isinstance(metadata, dict) else {}
    return Contents("safetensors", tensors, facts=facts)


def _refuse_holes(path: Path, tensors: dict[str, TensorInfo], base: int, size: int) -> None:
    """Check that the tensors follow each other without overlap or gap up to the file's end."""
    at, before = base, "the header"
    for begin, nbytes, name in sorted((p.offset, p.nbytes, n) for n, p in _ranges(tensors)):
        if begin != at:
            what = f"overlaps {before}" if begin < at else f"leaves {begin - at} bytes after {before} unused"
            raise ValueError(f"{path.name} is damaged: the data of {name[:80]!r} {what[:120]}")
        at, before = begin + nbytes, repr(name[:80])
    if at != size:
        raise ValueError(
            f"{path.name} is damaged: {size - at} bytes follow {before}, the last of its tensors"
        )


def _ranges(tensors: dict[str, TensorInfo]) -> Iterator[tuple[str, FileRange]]:
    for name, info in tensors.items():
        if isinstance(info.storage.source, FileRange):
            yield name, info.storage.source


def _tensor(path: Path, name: str, entry: Any, base: int, size: int) -> TensorInfo:
    try:
        dtype = TYPES.get(entry["dtype"], str(entry["dtype"])[:40])
        shape = tuple(entry["shape"])
        begin, end = entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is damaged: the header entry of {name[:80]!r}") from error
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in (*shape, begin, end)) or len(shape) > 64:
        raise ValueError(f"{path.name} is damaged: the header entry of {name[:80]!r}")
    item = ITEMSIZE.get(dtype, 0)
    if end < begin:
        raise ValueError(f"{path.name} is damaged: {name[:80]!r} ends before it begins")
    if base + end > size:
        raise ValueError(
            f"{path.name} is cut off: {name[:80]} ends at byte {base + end}, the file has {size}; "
            "download it again"
        )
    source = FileRange(path, base + begin, end - begin)
    storage = Storage(name, dtype, source.nbytes // (item or 1), source)
    info = TensorInfo(name, shape, dtype, storage, 0, contiguous(shape))
    if item and info.nbytes != end - begin:
        raise ValueError(
            f"{path.name} is damaged: {name[:80]} of shape {shape_text(shape)} cannot have "
            f"{end - begin} bytes"
        )
    return info


# Writer of weights: safetensors, one tensor in memory at a time, and torch's own files.


ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
"""Of the files that `write_weights` writes."""
_TAGS = {name: tag for tag, name in TYPES.items()}
_ALIGNMENT = 8  # bytes; readers map the data into memory


def write_weights(
    path: Path, pieces: Pieces, *, metadata: Mapping[str, str] | None = None, wrapper: str = "", **beside: Any
) -> None:
    """Write tensors to a file whose ending says as what, whole or not at all.

    Args:
        path: ending in one of ENDINGS.
        pieces: by name; read while they are written.
        metadata: text entries of a safetensors file.
        wrapper: of torch's own files, the key that the state dict stands under; "" for the state dict alone.
        beside: of torch's own files with a wrapper, further entries.

    Raises:
        ValueError: another ending, or a type that safetensors does not have.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path.name}: expected a name ending in {', '.join(ENDINGS)}")
    with replacing(path) as part:
        if path.suffix.lower() == ".safetensors":
            _write_safetensors(part, pieces, metadata or {})
        else:
            _write_torch(part, pieces, wrapper, beside)


def _write_torch(path: Path, pieces: Pieces, wrapper: str, beside: Mapping[str, Any]) -> None:
    import torch

    # A contiguous copy of each: a view would take the whole storage that it is a part of with it.
    state = {name: piece.read().clone().contiguous() for name, piece in pieces.items()}
    torch.save({**beside, wrapper: state} if wrapper else state, path)


def _write_safetensors(path: Path, pieces: Pieces, metadata: Mapping[str, str]) -> None:
    """Header first: names, types and shapes are known before any tensor is read."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    # Large types first, as the format's own writer has it: each tensor then begins at a multiple of its size.
    order = sorted(pieces, key=lambda name: (-ITEMSIZE.get(_dtype(name, pieces[name]), 0), name))
    offset = 0
    for name in order:
        piece, dtype = pieces[name], _dtype(name, pieces[name])
        if dtype not in _TAGS:
            raise ValueError(f"{name} is of type {dtype}, which safetensors does not have; write a .pth file")
        size = math.prod(piece.shape) * ITEMSIZE[dtype]
        header[name] = {
            "dtype": _TAGS[dtype],
            "shape": list(piece.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(_bytes(name, pieces[name].read(), pieces[name].shape))


def _dtype(name: str, piece: Piece) -> str:
    kinds = {info.dtype for info in piece.sources}
    if len(kinds) > 1:
        raise ValueError(f"{name} would be joined of tensors of several types: {', '.join(sorted(kinds))}")
    return kinds.pop()


def _bytes(name: str, tensor: Tensor, shape: tuple[int, ...]) -> bytes:
    import torch

    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected a tensor of shape {shape}, read one of {tuple(tensor.shape)}")
    # As bytes: numpy has no bfloat16. A tensor without axes cannot be viewed as another type.
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
