"""Reader of numpy's .npy and .npz files: arrays of Python objects are never unpickled.

numpy itself allocates what a header asks for before it looks whether the file holds it, and lets errors of
its zip and number libraries through; here sizes are checked first and a damaged file is a ValueError.
Source: numpy.lib.format, versions 1 to 3.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.checkpoints.pickled_objects import Array, NumpyType
from workbench.checkpoints.tensors import ByteSource, Contents, FileRange, SubRange, TensorInfo, Unread
from workbench.checkpoints.zip_archive import NO_CHECKSUMS, Archive, Member, open_archive
from workbench.core.python_text import literal_of

_HEADER = 10_000
# Of an array that is read whole: vectors of thousands of sentences have fewer.
_MOST_BYTES = 1 << 26


def read_npz(archive: Archive) -> Contents:
    """Contents of a numpy archive, in which jax and TensorFlow ports of ViT publish their weights.

    Raises:
        ValueError: it is damaged.
    """
    archive.require_names()
    arrays = {name.removesuffix(".npy"): _tensor(archive.members[name]) for name in archive.ending(".npy")}
    return Contents("numpy archive", arrays, (), {} if archive.checksums else {"checksums": NO_CHECKSUMS})


def load_npz(path: Path, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Arrays of an .npz file, by name; of any shape and plain type.

    Args:
        path: the file.
        names: of the arrays to read.

    Raises:
        ValueError: it is no such file, damaged, or lacks one of them.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            raise ValueError(f"{path.name} is no numpy archive (.npz)")
    members = open_archive(path).members
    for name in names:
        if f"{name}.npy" not in members:
            raise ValueError(f"{path.name} holds no array {name!r}")
    return {name: _array(members[f"{name}.npy"], path.name, name, _MOST_BYTES) for name in names}


def load_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, of any shape and plain type.

    Raises:
        ValueError: it is no such file, or damaged, or holds other things than numbers and text.
    """
    return _array(FileRange(path, 0, path.stat().st_size), path.name, path.name, _MOST_BYTES)


def _array(source: ByteSource, file: str, name: str, limit: int) -> np.ndarray:
    found = _described(source, file, name)
    if found.type is None:
        raise ValueError(f"{file}: {name} holds no numbers or text that are read (Python objects never are)")
    if found.source.nbytes > limit:
        raise ValueError(f"{file}: {name} has {found.source.nbytes} bytes; refused")
    return found.array()


def _tensor(member: Member) -> TensorInfo | Unread:
    found = _described(member, member.path.name, member.name)
    tensor = found.tensor()
    if tensor is None:
        member.read(0, 0)  # an odd type may be damage of the header: the checksum tells
        return Unread(
            "of Python objects" if found.objects is not None else "of another type than numbers", found.shape
        )
    return tensor


def _described(source: ByteSource, file: str, name: str) -> Array:
    """The array that a header describes; without a type where its elements are no numbers and no text."""
    head = _first(source, 12)
    if head[:6] != b"\x93NUMPY" or len(head) < 12 or head[6] not in (1, 2, 3):
        raise ValueError(f"{file}: {name} is no numpy array")
    wide = head[6] > 1
    length = struct.unpack("<I", head[8:12])[0] if wide else struct.unpack("<H", head[8:10])[0]
    begin = (12 if wide else 10) + length
    if length > _HEADER:
        raise ValueError(f"{file}: {name} has a header of {length} bytes; refused")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd literals in a damaged header
            facts = literal_of(_first(source, begin)[begin - length :].decode("latin1").strip())
        shape = tuple(_size(n) for n in facts["shape"])
        code, fortran = facts["descr"], bool(facts["fortran_order"])
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{file}: the header of {name} is damaged") from error
    code = code if isinstance(code, str) else ""
    kind = NumpyType(code, code[:1] or "=")  # the byte order is part of the code, such as >f4
    if len(shape) > 32 or not kind.is_plain:
        return Array(shape, objects=[] if code == "|O" else None)
    need = math.prod(shape) * kind.dtype.itemsize
    # Fewer or more bytes than the header asks for: the header is damaged, even where numpy would read on.
    if need != source.nbytes - begin:
        raise ValueError(
            f"{file} is damaged: {name} has {max(source.nbytes - begin, 0)} bytes, its header says {code} "
            f"{list(shape)}"
        )
    return Array(shape, kind, SubRange(source, begin, need), fortran)


def _first(source: ByteSource, count: int) -> bytes:
    """The first bytes; of an archive's member without unpacking or checking the rest."""
    if isinstance(source, Member):
        return source.peek(count)
    return bytes(source.read(0, min(count, source.nbytes)))


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} is no size")
    return value
