"""Which arrays lie in numpy's .npy and .npz files? Objects are never unpickled, and sizes never believed.

numpy itself makes room for what a header asks for before it looks whether the file holds it, and raises what
its zip and number libraries raise; here a damaged file is a ValueError. Source: numpy.lib.format, versions 1
to 3.
"""

from __future__ import annotations

import ast
import math
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.checkpoints.contents import Contents
from workbench.checkpoints.pickled_objects import NumpyType, Unread
from workbench.checkpoints.tensors import ITEMSIZE, Extent, Part, Place, Storage, TensorInfo, contiguous
from workbench.checkpoints.zip_archive import NO_CHECKSUMS, Archive, Member, open_archive

_HEADER = 10_000


@dataclass(frozen=True)
class _Stored:
    """An array that was not read yet.

    Attributes:
        shape: sizes.
        code: numpy's code of its type; "" for structured types.
        fortran: column-major.
        place: its bytes; None for types other than numbers and text.
    """

    shape: tuple[int, ...]
    code: str
    fortran: bool
    place: Place | None


def read_npz(archive: Archive) -> Contents:
    """The arrays of a numpy archive, as jax and TensorFlow ports of ViT publish their weights.

    Raises:
        ValueError: damaged.
    """
    archive.require_names()
    arrays = {name.removesuffix(".npy"): _tensor(archive.members[name]) for name in archive.ending(".npy")}
    return Contents("numpy archive", arrays, (), {} if archive.checksums else {"checksums": NO_CHECKSUMS})


def load_npz(path: Path, names: Sequence[str], limit: int = 1 << 28) -> Mapping[str, np.ndarray]:
    """Arrays of an .npz file, by name.

    Args:
        path: the file.
        names: which.
        limit: bytes that an array may have.

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
    return {name: _array(members[f"{name}.npy"], path.name, name, limit) for name in names}


def load_npy(path: Path, limit: int = 1 << 30) -> np.ndarray:
    """The array of an .npy file.

    Args:
        path: the file.
        limit: bytes that it may have.

    Raises:
        ValueError: it is no such file, or damaged, or holds other things than numbers and text.
    """
    return _array(Extent(path, 0, path.stat().st_size), path.name, path.name, limit)


def _array(place: Place, file: str, name: str, limit: int) -> np.ndarray:
    stored = _stored(place, file, name)
    if stored.place is None:
        raise ValueError(f"{file}: {name} holds no numbers or text that are read (Python objects never are)")
    if stored.place.nbytes > limit:
        raise ValueError(f"{file}: {name} has {stored.place.nbytes} bytes; refused")
    kind = NumpyType(stored.code).dtype
    found = np.frombuffer(stored.place.read(0, stored.place.nbytes), kind)
    return found.reshape(stored.shape, order="F" if stored.fortran else "C")


def _tensor(member: Member) -> TensorInfo | Unread:
    stored = _stored(member, member.path.name, member.name)
    kind = NumpyType(stored.code).dtype if stored.place is not None else None
    if stored.place is None or kind is None or kind.name not in ITEMSIZE:
        member.read(0, 0)  # an odd type may be damage of the header: the checksum tells
        what = "of Python objects" if stored.code == "|O" else "of another type than numbers"
        return Unread(what, stored.shape)
    storage = Storage(member.name, kind.name, math.prod(stored.shape), stored.place)
    storage.big_endian = stored.code.startswith(">")
    stride = contiguous(stored.shape[::-1])[::-1] if stored.fortran else contiguous(stored.shape)
    return TensorInfo("", stored.shape, kind.name, storage, 0, stride)


def _stored(place: Place, file: str, name: str) -> _Stored:
    head = _first(place, 12)
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
            facts = ast.literal_eval(_first(place, begin)[begin - length :].decode("latin1").strip())
        shape = tuple(_size(n) for n in facts["shape"])
        code, fortran = facts["descr"], bool(facts["fortran_order"])
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{file}: the header of {name} is damaged") from error
    code = code if isinstance(code, str) else ""
    if len(shape) > 32 or not NumpyType(code).is_plain:
        return _Stored(shape, code, fortran, None)
    need = math.prod(shape) * NumpyType(code).dtype.itemsize
    # Fewer or more bytes than the header asks for: the header is damaged, even where numpy would read on.
    if need != place.nbytes - begin:
        raise ValueError(
            f"{file} is damaged: {name} has {max(place.nbytes - begin, 0)} bytes, its header says {code} "
            f"{list(shape)}"
        )
    return _Stored(shape, code, fortran, Part(place, begin, need))


def _first(place: Place, count: int) -> bytes:
    """The first bytes; of an archive's member without unpacking or checking the rest."""
    if isinstance(place, Member):
        return place.peek(count)
    return bytes(place.read(0, min(count, place.nbytes)))


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} is no size")
    return value
