"""Writer of weights: safetensors, one tensor in memory at a time, and torch's own files."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.pieces import Piece, Pieces
from workbench.checkpoints.safetensors_file import TYPES
from workbench.checkpoints.tensors import ITEMSIZE
from workbench.core.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

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
    if path.suffix not in ENDINGS:
        raise ValueError(f"{path.name}: expected a name ending in {', '.join(ENDINGS)}")
    with replacing(path) as part:
        if path.suffix == ".safetensors":
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
