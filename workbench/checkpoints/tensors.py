"""Tensors on disk: type, shape and position in the file; their numbers are read by `read_tensor`."""

from __future__ import annotations

import bisect
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workbench.checkpoints.zip_archive import Damaged

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


# Bytes per element, by torch's name. Sub-byte and quantised types are left out: they are listed, not read.
ITEMSIZE: dict[str, int] = {
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32", "complex32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 1),
    "float8_e8m0fnu": 1,
    "complex128": 16,
}
FLOATING = frozenset(name for name in ITEMSIZE if name.startswith(("float", "bfloat", "complex")))


class ByteSource(Protocol):
    """Bytes that are read when they are asked for."""

    @property
    def nbytes(self) -> int: ...

    def read(self, start: int, count: int) -> bytearray:
        """Some of the bytes.

        Args:
            start: position of the first.
            count: how many.

        Raises:
            ValueError: fewer bytes are there, or they are damaged.
        """
        ...


@dataclass(frozen=True)
class FileRange:
    """A range of a file, uncompressed.

    Attributes:
        path: the file.
        offset: of its first byte, bytes.
        nbytes: its length.
        place: device and number of the file when it was opened; None where it was not there.
    """

    path: Path
    offset: int
    nbytes: int
    place: tuple[int, int] | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        try:
            found = self.path.stat()
        except OSError:  # reading says so
            object.__setattr__(self, "place", None)
        else:
            object.__setattr__(self, "place", (found.st_dev, found.st_ino))

    def read(self, start: int, count: int) -> bytearray:
        # Reads, not a memory map: a map dies with a bus error when a trainer rewrites the file meanwhile.
        data = bytearray(count)
        with self.path.open("rb") as file:
            found = os.fstat(file.fileno())
            # No checksum would tell the bytes of another file, to which a link may lead by now.
            if self.place is not None and self.place != (found.st_dev, found.st_ino):
                raise ValueError(f"{self.path.name} became another file while it was open; open it again")
            file.seek(self.offset + start)
            if file.readinto(data) != count:
                raise ValueError(f"{self.path.name} became shorter while it was open; open it again")
        return data


@dataclass(frozen=True)
class SubRange:
    """A range of another source, such as the numbers behind an array's header.

    Attributes:
        source: the other one.
        offset: of its first byte in there, bytes.
        nbytes: its length.
    """

    source: ByteSource
    offset: int
    nbytes: int

    def read(self, start: int, count: int) -> bytearray:
        if start < 0 or count < 0 or start + count > self.nbytes:
            raise ValueError(f"{start + count} bytes are needed, {self.nbytes} are there")
        return self.source.read(self.offset + start, count)


@dataclass(frozen=True)
class InMemory:
    """Bytes that were read with the file itself, such as small numpy arrays inside a pickle."""

    data: bytes = field(repr=False)

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def read(self, start: int, count: int) -> bytearray:
        if start < 0 or count < 0 or start + count > len(self.data):
            raise ValueError(f"{start + count} bytes are needed, {len(self.data)} are there")
        return bytearray(self.data[start : start + count])


@dataclass(eq=False)
class Storage:
    """A block of numbers that one or several tensors are views of.

    Attributes:
        key: its name in the file.
        dtype: of its elements; ``uint8`` for untyped storages.
        numel: number of elements that it declares.
        source: its bytes; None until they are found, or for tensors that were saved without data.
        big_endian: byte order of the machine that wrote it.
        first: element of the stored block where it begins (views in legacy files).
    """

    key: str
    dtype: str
    numel: int
    source: ByteSource | None = None
    big_endian: bool = False
    first: int = 0


@dataclass(frozen=True, eq=False)
class TensorInfo:
    """A tensor that stayed on disk.

    Attributes:
        name: its key in the state dict.
        shape: its sizes.
        dtype: torch's name without the prefix, e.g. ``bfloat16``.
        storage: the block that it is a view of.
        offset: of its first element in the storage, elements.
        stride: step per axis, elements.
        parameter: the file says that it was saved as a parameter, not as a buffer or plain tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: Storage = field(repr=False)
    offset: int = 0
    stride: tuple[int, ...] = ()
    parameter: bool = False

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes per element; 0 for types that cannot be read."""
        return ITEMSIZE.get(self.dtype, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return self.numel * self.itemsize

    @property
    def span(self) -> int:
        """Elements of the storage from its first to its last, both included; 0 when empty."""
        if not self.numel:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    @property
    def is_floating(self) -> bool:
        """Real or complex floating-point numbers."""
        return self.dtype in FLOATING


@dataclass(frozen=True, eq=False)
class Unread:
    """A tensor whose numbers cannot be read here; it is counted and named, so that no one misses it.

    Attributes:
        kind: ``quantised (qint8)``, ``sparse (sparse_coo)`` ...
        shape: its sizes; None where the file does not say.
    """

    kind: str
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Contents:
    """What one file holds, as data; its tensors stay on disk.

    Attributes:
        container: the file format, e.g. ``torch zip``, ``safetensors``.
        value: dicts, lists, numbers, text, TensorInfo, Array, Unread, Inert.
        inert: classes and functions that the file names and that were neither imported nor called.
        facts: what the container itself says (versions, graph inputs ...), as plain data.
    """

    container: str
    value: Any
    inert: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a row-major tensor, elements."""
    steps: list[int] = []
    step = 1
    for n in reversed(shape):
        steps.append(step)
        step *= max(n, 1)
    return tuple(reversed(steps))


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape in an error: of many axes the first ones and how many there are, and no endless number."""
    sizes = ", ".join(str(n) if abs(n) < 10**12 else "over 10^12" for n in shape[:8])
    return f"({sizes}, ... of {len(shape)} axes)" if len(shape) > 8 else f"({sizes}{',' * (len(shape) == 1)})"


def checked(info: TensorInfo) -> TensorInfo:
    """The same tensor, after a check that it lies inside its storage.

    Raises:
        ValueError: sizes or strides are no counts, or reach beyond the storage.
    """
    numbers: tuple[Any, ...] = (*info.shape, *info.stride, info.offset)
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 62 for n in numbers):
        raise ValueError("a tensor with impossible sizes: every size, step and offset is a count")
    if len(info.shape) != len(info.stride):
        raise ValueError(f"a tensor of shape {shape_text(info.shape)} with {len(info.stride)} strides")
    item = info.itemsize or 1
    size = info.storage.numel * (ITEMSIZE.get(info.storage.dtype) or 1)
    if (info.offset + info.span) * item > size and info.numel:
        raise ValueError(
            f"a tensor of shape {shape_text(info.shape)} reaches beyond its storage {info.storage.key!r} of "
            f"{size} bytes"
        )
    return info


def own_elements(infos: Mapping[str, TensorInfo]) -> dict[str, int]:
    """Name -> number of elements that no tensor before it has: tied tensors and views count once."""
    taken: dict[int, list[tuple[int, int]]] = {}
    found: dict[str, int] = {}
    for name, info in infos.items():
        source, item = info.storage.source, info.itemsize or 1
        if source is None or not info.numel:
            found[name] = info.numel
            continue
        first = info.storage.first * ITEMSIZE.get(info.storage.dtype, 1) + info.offset * item
        stretches = taken.setdefault(id(source), [])
        free = _free(stretches, first, first + info.span * item)
        # A strided view has fewer elements than its stretch of the storage.
        found[name] = min(free // item, info.numel)
    return found


def _free(taken: list[tuple[int, int]], first: int, last: int) -> int:
    """Bytes of a stretch that are in none of the taken ones (sorted, apart); it becomes one of them."""
    at = bisect.bisect_left(taken, (first, first))
    at -= 1 if at and taken[at - 1][1] >= first else 0
    stop, covered, low, high = at, 0, first, last
    while stop < len(taken) and taken[stop][0] <= last:
        begin, end = taken[stop]
        covered += max(min(end, last) - max(begin, first), 0)
        low, high = min(low, begin), max(high, end)
        stop += 1
    taken[at:stop] = [(low, high)]
    return last - first - covered


def read_bytes(info: TensorInfo) -> bytearray:
    """The bytes from the tensor's first to its last element, little-endian.

    Raises:
        ValueError: a type that cannot be read, a tensor that was saved without its data, or bytes that are
            not those that were written (archives keep a CRC-32 of them).
    """
    if not info.itemsize:
        raise ValueError(f"{info.name}: tensors of type {info.dtype} are listed but not read")
    if not info.span:
        return bytearray()
    storage = info.storage
    if storage.source is None:
        raise ValueError(f"{info.name}: this file names the tensor but holds no data for it")
    # Expanded tensors (stride 0) are legitimate, but a small file must not claim a terabyte.
    if info.nbytes > max(64 * storage.source.nbytes, 1 << 30):
        raise ValueError(f"{info.name}: {info.shape} is expanded from {storage.source.nbytes} bytes; refused")
    start = storage.first * ITEMSIZE[storage.dtype] + info.offset * info.itemsize
    try:
        data = storage.source.read(start, info.span * info.itemsize)
    except Damaged as error:
        raise Damaged(error.file, error.member, info.name) from None
    if storage.big_endian and info.itemsize > 1:
        data = _swapped(data, info)
    return data


def read_tensor(info: TensorInfo) -> Tensor:
    """The tensor itself, on the CPU, with the shape and strides it was saved with.

    Raises:
        ValueError: see read_bytes; or the installed torch does not have the type.
    """
    return tensor_over(info, read_bytes(info), offset=0)


def tensor_over(info: TensorInfo, data: bytearray, *, offset: int) -> Tensor:
    """A tensor of the shape and strides that `info` states over bytes in memory, without a copy.

    Args:
        info: shape, stride and type.
        data: little-endian bytes.
        offset: of the tensor's first element in `data`, elements.

    Raises:
        ValueError: the installed torch does not have the type.
    """
    import torch

    dtype = getattr(torch, info.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{info.name}: torch {torch.__version__} has no type {info.dtype}")
    if not data:
        return torch.empty(0, dtype=dtype).as_strided(info.shape, info.stride)
    flat = torch.frombuffer(data, dtype=torch.uint8).view(dtype)
    return flat.as_strided(info.shape, info.stride, offset)


def _swapped(data: bytearray, info: TensorInfo) -> bytearray:
    width = info.itemsize // 2 if info.dtype.startswith("complex") else info.itemsize
    return bytearray(np.frombuffer(data, dtype=f"u{width}").byteswap().tobytes())


def read_together(infos: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
    """All tensors in their stated shapes, in order; each storage is read once, so tied tensors stay tied.

    Raises:
        ValueError: see read_tensor.
    """
    groups: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name, info in infos.items():
        groups[(id(info.storage.source), info.dtype)].append(name)
    found: dict[str, Tensor] = {}
    for names in groups.values():
        members = [infos[name] for name in names]
        if len(members) == 1 or not all(info.span and info.itemsize for info in members):
            found.update({name: read_tensor(infos[name]) for name in names})
            continue
        begins = [_first(info) for info in members]
        low = min(begins)
        high = max(begin + info.span for begin, info in zip(begins, members, strict=True))
        data = _block(members[0], low, high - low)
        for name, begin, info in zip(names, begins, members, strict=True):
            found[name] = tensor_over(info, data, offset=begin - low)
    return {name: found[name] for name in infos}


def _first(info: TensorInfo) -> int:
    """First element in the stored block, counted in the tensor's own type."""
    return info.storage.first * ITEMSIZE[info.storage.dtype] // info.itemsize + info.offset


def _block(info: TensorInfo, first: int, count: int) -> bytearray:
    """`count` elements from `first` of a tensor's stored block."""
    whole = replace(info.storage, first=0)
    return read_bytes(replace(info, storage=whole, shape=(count,), stride=(1,), offset=first))
