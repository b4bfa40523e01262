"""What stands in the place of the objects a pickle wanted to make: plain data, or inert shells."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.checkpoints.tensors import Held, Part, Place, Storage, TensorInfo, checked, contiguous


@dataclass(frozen=True)
class Symbol:
    """A name that a pickle mentions: a class or a function that is never imported.

    Attributes:
        name: ``module.qualified_name``.
        build: what the workbench does in its place; None makes every use of it inert.
        dtype: for torch's types and storage classes, the element type.
    """

    name: str
    build: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    dtype: str = ""


@dataclass(eq=False)
class Inert:
    """An object that was not made: its class is unknown, so only what the pickle says of it is kept.

    Attributes:
        name: of the class or function that was asked for.
        args: what it would have been called with.
        state: what would have been put into it.
        items: what would have been appended to it.
        mapping: what would have been set in it by key.
    """

    name: str
    args: tuple[Any, ...] = field(default=(), repr=False)
    state: Any = field(default=None, repr=False)
    items: list[Any] = field(default_factory=list, repr=False)
    mapping: dict[Any, Any] = field(default_factory=dict, repr=False)


class Fields(dict[Any, Any]):
    """An object of a known, harmless class, read as the dict of its fields.

    Attributes:
        of: the class it had, e.g. ``argparse.Namespace``.
    """

    of: str = ""


@dataclass(frozen=True, eq=False)
class Unread:
    """A tensor whose numbers are not read: it is counted and named, so that it does not vanish.

    Attributes:
        kind: ``quantised (qint8)``, ``sparse (sparse_coo)`` ...
        shape: its sizes; None where the file does not say.
    """

    kind: str
    shape: tuple[int, ...] | None = None


@dataclass(eq=False)
class NumpyType:
    """A numpy dtype, as its code."""

    code: str
    order: str = "="

    @property
    def is_plain(self) -> bool:
        """Numbers, booleans or text; structured, object and other types are left alone."""
        return bool(re.fullmatch(r"[<>=|]?([biufc](1|2|4|8|16)|[SUa]\d{1,6}|\?)", self.code))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The real one.

        Raises:
            ValueError: see is_plain.
        """
        try:
            if self.is_plain:
                return np.dtype(self.code).newbyteorder(self.order if self.order in "<>" else "=")  # type: ignore[arg-type]
        except TypeError:  # such as f1, which is no type
            pass
        raise ValueError(f"a numpy array of type {self.code[:20]!r} cannot be read")


@dataclass(eq=False)
class Array:
    """A numpy array that was not made yet.

    Attributes:
        shape: sizes.
        type: its elements; None until the pickle says.
        place: its bytes.
        fortran: column-major.
        objects: the elements of an object array, as data.
    """

    shape: tuple[int, ...] = ()
    type: NumpyType | None = None
    place: Place = field(default_factory=lambda: Held(b""))
    fortran: bool = False
    objects: list[Any] | None = None

    def fill(self, state: Any) -> None:
        """Take in numpy's pickled state: (version, shape, dtype, is_fortran, bytes or list).

        Raises:
            ValueError: it is no such state.
        """
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("a numpy array whose state makes no sense")
        _, shape, kind, fortran, data = state
        if not isinstance(kind, NumpyType):
            return  # a type of another package (ml_dtypes): the array stays empty
        if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError("a numpy array whose shape makes no sense")
        self.shape, self.type, self.fortran = shape, kind, bool(fortran)
        if isinstance(data, list):
            self.objects = data
        else:
            self.place = as_place(data)

    def array(self) -> np.ndarray:
        """The array itself, read now."""
        if self.type is None:
            raise ValueError("a numpy array without a type")
        dtype = self.type.dtype
        need = math.prod(self.shape) * dtype.itemsize
        if need > self.place.nbytes:
            raise ValueError(f"a numpy array of shape {self.shape} with {self.place.nbytes} bytes")
        flat = np.frombuffer(bytes(self.place.read(0, need)), dtype=dtype)
        return flat.reshape(self.shape, order="F" if self.fortran else "C")

    def newest(self, count: int) -> np.ndarray:
        """The last `count` numbers of a vector; all of any other array."""
        skipped = self.shape[0] - count if len(self.shape) == 1 else 0
        if skipped <= 0 or self.type is None:
            return self.array()
        skip = skipped * self.type.dtype.itemsize
        if skip > self.place.nbytes:
            raise ValueError(f"a numpy array of shape {self.shape} with {self.place.nbytes} bytes")
        rest = Part(self.place, skip, self.place.nbytes - skip)
        return Array((count,), self.type, rest).array()

    def tensor(self) -> TensorInfo | None:
        """The array as a tensor on disk; None where torch has no such type.

        Raises:
            ValueError: its shape asks for more bytes than there are.
        """
        if self.type is None or self.objects is not None or not self.type.is_plain:
            return None
        dtype = self.type.dtype
        name = dtype.name
        if name not in _TORCH_NAMES:
            return None
        stride = contiguous(self.shape[::-1])[::-1] if self.fortran else contiguous(self.shape)
        storage = Storage("array", name, self.place.nbytes // dtype.itemsize, self.place)
        storage.big_endian = dtype.str.startswith(">")
        return checked(TensorInfo("", self.shape, name, storage, 0, stride))


@dataclass(frozen=True)
class LongBytes:
    """A byte string that stayed on disk because it is long.

    Attributes:
        place: where.
    """

    place: Place


def as_place(value: Any) -> Place:
    """Bytes of either kind, as a place.

    Raises:
        ValueError: it is no byte string.
    """
    if isinstance(value, LongBytes):
        return value.place
    if isinstance(value, (bytes, bytearray)):
        return Held(bytes(value))
    if isinstance(value, str):  # written by Python 2
        return Held(value.encode("latin1", "replace"))
    raise ValueError(f"bytes were expected, not {type(value).__name__}")


_TORCH_NAMES = {
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", "complex64", "complex128",
}  # fmt: skip
