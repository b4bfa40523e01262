"""Stand-ins for what a pickle names: records of its objects, and the allow-list of names with a meaning here.

Nothing is imported on behalf of a pickle: torch's rebuild functions, numpy's array constructors and a few
harmless classes are re-implemented as data. Every other name becomes inert and is reported.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.checkpoints.tensors import (
    ITEMSIZE,
    ByteSource,
    InMemory,
    Storage,
    SubRange,
    TensorInfo,
    Unread,
    checked,
    contiguous,
    shape_text,
)


@dataclass(frozen=True)
class Symbol:
    """A name that a pickle mentions: a class or a function that is never imported.

    Attributes:
        name: ``module.qualified_name``.
        build: makes the data that stand for a call of it; None makes every use of it inert.
        dtype: for torch's types and storage classes, the element type.
    """

    name: str
    build: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    dtype: str = ""


@dataclass(eq=False)
class Inert:
    """An object that was not made, because its class is unknown: only what the pickle says of it.

    Attributes:
        name: of the class or function.
        args: arguments of the call.
        state: what the pickle puts into the object.
        items: what it appends to it.
        mapping: what it sets in it by key.
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


class Ordered(dict[Any, Any]):
    """An OrderedDict; one that torch made as a state dict lists the modules of its network (``_metadata``).

    Attributes:
        modules: their names, those without weights of their own among them.
    """

    modules: tuple[str, ...] = ()


@dataclass(eq=False)
class NumpyType:
    """A numpy dtype, as its code."""

    code: str
    order: str = "="

    @property
    def is_plain(self) -> bool:
        """Numbers, booleans or text; arrays of structured, object and other types are not read."""
        return bool(re.fullmatch(r"[<>=|]?([biufc](1|2|4|8|16)|[SUa]\d{1,6}|\?)", self.code))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype itself.

        Raises:
            ValueError: it is not plain.
        """
        try:
            if self.is_plain:
                return np.dtype(self.code).newbyteorder(self.order if self.order in "<>" else "=")  # type: ignore[arg-type]
        except TypeError:  # such as f1, which is no type
            pass
        raise ValueError(f"a numpy array of type {self.code[:20]!r} cannot be read")


@dataclass(eq=False)
class Array:
    """A numpy array whose numbers were not read yet.

    Attributes:
        shape: sizes.
        type: of its elements; None until the pickle says.
        source: its bytes.
        fortran: column-major.
        objects: the elements of an object array, as data.
    """

    shape: tuple[int, ...] = ()
    type: NumpyType | None = None
    source: ByteSource = field(default_factory=lambda: InMemory(b""))
    fortran: bool = False
    objects: list[Any] | None = None

    def fill(self, state: Any) -> None:
        """Set numpy's pickled state: (version, shape, dtype, is_fortran, bytes or list).

        Raises:
            ValueError: the state has another form.
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
            self.source = _as_source(data)

    def array(self) -> np.ndarray:
        """The array itself in its stated shape, read now.

        Raises:
            ValueError: its type is not plain, or fewer bytes are there than its shape needs.
        """
        if self.type is None:
            raise ValueError("a numpy array without a type")
        dtype = self.type.dtype
        need = math.prod(self.shape) * dtype.itemsize
        if need > self.source.nbytes:
            raise ValueError(
                f"a numpy array of shape {shape_text(self.shape)} with {self.source.nbytes} bytes"
            )
        flat = np.frombuffer(self.source.read(0, need), dtype=dtype)
        return flat.reshape(self.shape, order="F" if self.fortran else "C")

    def newest(self, count: int) -> np.ndarray:
        """The last `count` numbers of a vector, [count]; an array of any other shape whole.

        Raises:
            ValueError: see `array`.
        """
        skipped = self.shape[0] - count if len(self.shape) == 1 else 0
        if skipped <= 0 or self.type is None:
            return self.array()
        skip = skipped * self.type.dtype.itemsize
        if skip > self.source.nbytes:
            raise ValueError(
                f"a numpy array of shape {shape_text(self.shape)} with {self.source.nbytes} bytes"
            )
        rest = SubRange(self.source, skip, self.source.nbytes - skip)
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
        if name not in ITEMSIZE:
            return None
        stride = contiguous(self.shape[::-1])[::-1] if self.fortran else contiguous(self.shape)
        storage = Storage("array", name, self.source.nbytes // dtype.itemsize, self.source)
        storage.big_endian = dtype.str.startswith(">")
        return checked(TensorInfo("", self.shape, name, storage, 0, stride))


@dataclass(frozen=True)
class LongBytes:
    """A byte string that stayed on disk because it is long."""

    source: ByteSource


def _as_source(value: Any) -> ByteSource:
    """A byte string of the pickle, in memory or on disk.

    Raises:
        ValueError: it is no byte string.
    """
    if isinstance(value, LongBytes):
        return value.source
    if isinstance(value, (bytes, bytearray)):
        return InMemory(bytes(value))
    if isinstance(value, str):  # written by Python 2
        return InMemory(value.encode("latin1", "replace"))
    raise ValueError(f"bytes were expected, not {type(value).__name__}")


def tensor_of(value: Any) -> TensorInfo | None:
    """The value as a tensor on disk; None if it is none."""
    if isinstance(value, TensorInfo):
        return value
    return value.tensor() if isinstance(value, Array) else None


# -- stand-ins for constructors. Only texts are formatted here: str() of a nested value can take exponential
# time.


def _path_text(*parts: Any) -> str:
    """Pathlib's paths, as text."""
    return "/".join(part for part in parts if isinstance(part, str)).replace("//", "/")


def _first(*args: Any) -> Any:
    """The first argument, for functions that only label it."""
    return args[0] if args else ()


def _fields_of(of: str, *_: Any) -> Fields:
    """An object of a harmless class, its fields still empty."""
    made = Fields()
    made.of = of
    return made


def _as_dict(*args: Any) -> dict[Any, Any]:
    """dict, OrderedDict and their like, from nothing, a dict or pairs."""
    if not args:
        return {}
    pairs = list(args[0].items()) if isinstance(args[0], dict) else args[0]
    if not isinstance(pairs, (list, tuple)) or not all(
        isinstance(p, (list, tuple)) and len(p) == 2 and _is_key(p[0]) for p in pairs
    ):
        raise ValueError("the pickle fills a dict with what are no pairs")
    return dict(pairs)


def _ordered(*args: Any) -> Ordered:
    return Ordered(_as_dict(*args))


def _is_key(value: Any) -> bool:
    return isinstance(value, (str, float)) or (isinstance(value, int) and abs(value) < 1 << 63)


def _default_dict(*args: Any) -> dict[Any, Any]:
    """collections.defaultdict without its factory, which reading never needs."""
    return _as_dict(*args[1:])


def _storage_of(value: Any) -> Storage:
    if not isinstance(value, Storage):
        raise ValueError("the pickle makes a tensor without a storage")
    return value


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > 64 or not all(isinstance(n, int) for n in value):
        raise ValueError("the pickle makes a tensor whose shape or stride is no short list of integers")
    return tuple(value)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> TensorInfo:
    """torch._utils._rebuild_tensor and _v2: (storage, offset, size, stride, requires_grad, hooks, ...)."""
    storage = _storage_of(storage)
    return checked(TensorInfo("", _sizes(shape), storage.dtype, storage, offset, _sizes(stride)))


def _tensor_v3(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> TensorInfo:
    """torch._utils._rebuild_tensor_v3: an untyped storage, and the type as fourth of the rest."""
    dtype = rest[2]
    if not isinstance(dtype, Symbol) or not dtype.dtype:
        raise ValueError("the pickle makes a tensor of no known type")
    return checked(TensorInfo("", _sizes(shape), dtype.dtype, _storage_of(storage), offset, _sizes(stride)))


def _parameter(data: Any, *_: Any) -> Any:
    """torch._utils._rebuild_parameter: the tensor, marked as a parameter."""
    if not isinstance(data, TensorInfo):
        return data
    return TensorInfo("", data.shape, data.dtype, data.storage, data.offset, data.stride, parameter=True)


def _tensor_subclass(function: Any, kind: Any, args: Any, state: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor subclass; its data are what `function(*args)` gives."""
    build = function.build if isinstance(function, Symbol) else None
    if build is not None and build in (_tensor, _tensor_v3, _parameter, _quantised, _sparse, _ragged):
        return build(*args)
    return Unread(f"of class {getattr(kind, 'name', 'unknown')[:200]}")


def _quantised(storage: Any, offset: Any, shape: Any, *_: Any) -> Unread:
    """torch._utils._rebuild_qtensor: integers with a scale, per tensor or per channel."""
    return Unread(f"quantised ({_storage_of(storage).dtype})", _sizes(shape))


def _sparse(layout: Any, data: Any) -> Unread:
    """torch._utils._rebuild_sparse_tensor: indices, values and the size (and, for COO, whether coalesced)."""
    sizes = [part for part in data if isinstance(part, (tuple, list))] if isinstance(data, tuple) else []
    name = layout.removeprefix("torch.") if isinstance(layout, str) else "unknown layout"
    return Unread(f"sparse ({name[:40]})", _sizes(sizes[0]) if sizes else None)


def _ragged(*_: Any) -> Unread:
    """torch._utils._rebuild_nested_tensor: rows of different lengths."""
    return Unread("nested (ragged)")


def _wrapped(kind: Any, dtype: Any = None, shape: Any = None, *_: Any) -> Unread:
    """torch._utils._rebuild_wrapper_subclass: a tensor made of others, as quantisation packages write."""
    sizes = _sizes(shape) if isinstance(shape, (tuple, list)) else None
    return Unread(f"of class {getattr(kind, 'name', 'unknown')[:200]}", sizes)


def _dense_mkldnn(data: Any, *_: Any) -> Any:
    """torch._utils._rebuild_mkldnn_tensor: a numpy array in MKL-DNN's own layout."""
    return Unread("in the layout of MKL-DNN", data.shape if isinstance(data, Array) else None)


def _meta_tensor(dtype: Any, shape: Any, stride: Any, *_: Any) -> TensorInfo:
    """torch._utils._rebuild_meta_tensor_no_storage: sizes without data."""
    if not isinstance(dtype, Symbol):
        raise ValueError("the pickle makes a tensor of no known type")
    storage = Storage("meta", dtype.dtype, 0)
    return TensorInfo("", _sizes(shape), dtype.dtype, storage, 0, _sizes(stride))


def _array_from_buffer(data: Any, kind: Any, shape: Any, order: Any = "C") -> Array:
    """numpy._core.numeric._frombuffer, protocol 5."""
    if not isinstance(kind, NumpyType):
        return Array()
    return Array(_sizes(shape), kind, _as_source(data), fortran=order == "F")


def _device_tensor(array: Any, dtype: Any, *_: Any) -> Any:
    """torch._utils._rebuild_device_tensor_from_numpy: tensors saved on an accelerator such as a TPU."""
    found = array.tensor() if isinstance(array, Array) else None
    if found is None:
        raise ValueError("the pickle makes a device tensor without an array")
    return found


def _scalar(kind: Any, data: Any = b"") -> Any:
    """numpy._core.multiarray.scalar."""
    if not isinstance(kind, NumpyType) or not kind.is_plain:
        return Inert("numpy scalar", (kind, data))
    return Array((), kind, _as_source(data)).array().item()


def _numpy_type(code: Any, *_: Any) -> Any:
    """numpy.dtype, as its code."""
    return NumpyType(code) if isinstance(code, str) else Inert("numpy.dtype", (code,))


def _encoded(text: Any, encoding: Any = "utf-8") -> bytes:
    """_codecs.encode: how protocol 2 writes byte strings."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise ValueError("the pickle encodes what is no text")
    return text.encode(encoding)


def _as_bytes(*args: Any) -> Any:
    """Bytes and bytearray, as Python 2 and 3 pickle them."""
    if not args:
        return b""
    if isinstance(args[0], str):
        return args[0].encode("latin1", "replace")
    return bytes(args[0]) if isinstance(args[0], (bytes, bytearray, list, tuple)) else args[0]


def _moment(kind: type) -> Callable[..., Any]:
    """What stands for a class of datetime: the moment as text."""

    def build(*args: Any) -> Any:
        args = tuple(a.encode("latin1") if isinstance(a, str) else a for a in args)
        try:
            return str(kind(*args))
        except (ValueError, TypeError, OverflowError):
            return Inert(f"datetime.{kind.__name__}", args)

    return build


def _method_name(owner: Any, name: Any) -> Any:
    """builtins.getattr, which mmengine's log history mentions for its statistics: named, never looked up."""
    return f"{getattr(owner, 'name', '?')}.{name if isinstance(name, str) else '?'}"


def _reconstructed(kind: Any, *_: Any) -> Any:
    """copyreg._reconstructor(cls, base, state): how protocols 0 and 1 make objects."""
    if isinstance(kind, Symbol) and kind.build is not None:
        return kind.build()
    return Inert(getattr(kind, "name", "?"))


# -- the allow-list of names

_STORAGES: dict[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
}
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")

# torch functions that hand their first argument on, possibly with a label that data do not need.
_PASSING = (
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_doublelist",
    "torch.jit._pickle.build_boollist",
    "torch.jit._pickle.build_tensorlist",
    "torch.jit._pickle.restore_type_tag",
    "torch.serialization._get_layout",
    "torch.device",
    "torch.Size",
    "builtins.list",
    "builtins.tuple",
    "builtins.set",
    "builtins.frozenset",
)
_DICTS = (
    "builtins.dict",
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
    "addict.addict.Dict",
    "easydict.EasyDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_FIELDS = ("argparse.Namespace", "types.SimpleNamespace", "mmengine.logging.history_buffer.HistoryBuffer")
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
# numpy renamed its core in 2.0; both names occur in files.
_CORES = ("numpy.core.", "numpy._core.")
# Python 2 names that protocol 2 still writes.
_OLD = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# Types of torch that are no entry of ITEMSIZE: listed, not read.
_OTHER_TYPES = ("qint8", "quint8", "qint32", "quint4x2", "quint2x4", "float4_e2m1fn_x2", "bits8", "bits16")


def resolve(module: str, name: str) -> Symbol:
    """The meaning of a class or function: known ones build data, all others are inert.

    Args:
        module: its module, as the pickle names it.
        name: its qualified name.
    """
    module = _OLD.get(module, module)
    full = f"{module}.{name}"
    if full in _KNOWN:
        return _KNOWN[full]
    if module in _STORAGE_MODULES and name in _STORAGES:
        return Symbol(full, dtype=_STORAGES[name])
    if module == "torch" and (name in ITEMSIZE or name in _OTHER_TYPES):
        return Symbol(full, dtype=name)
    if module.startswith("pathlib") and name in _PATHS:
        return Symbol(full, _path_text)
    if module.startswith("__torch__"):  # TorchScript: a class of the file's own, read as its attributes
        return Symbol(full, lambda *_: _fields_of(full))
    if module == "torch" and name.startswith(("per_tensor_", "per_channel_")):  # how a tensor is quantised
        return Symbol(full, lambda *_: full)
    if module == "numpy.dtypes" and name.endswith("DType"):
        return Symbol(full, lambda *_: full)
    return Symbol(full)


_KNOWN: dict[str, Symbol] = {
    name: Symbol(name, build)
    for name, build in {
        **dict.fromkeys(_PASSING, _first),
        **dict.fromkeys(_DICTS, _as_dict),
        **{name: (lambda *_, of=name: _fields_of(of)) for name in _FIELDS},
        "collections.defaultdict": _default_dict,
        "collections.Counter": _as_dict,
        "collections.OrderedDict": _ordered,
        "collections.deque": lambda *args: args[0] if args and isinstance(args[0], list) else [],
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor_v3,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch._tensor._rebuild_from_type_v2": _tensor_subclass,
        "torch._utils._rebuild_meta_tensor_no_storage": _meta_tensor,
        "torch._utils._rebuild_device_tensor_from_numpy": _device_tensor,
        "torch.nn.parameter.Parameter": _parameter,
        "torch._utils._rebuild_qtensor": _quantised,
        "torch._utils._rebuild_sparse_tensor": _sparse,
        "torch._utils._rebuild_sparse_csr_tensor": _sparse,
        "torch._utils._rebuild_nested_tensor": _ragged,
        "torch._utils._rebuild_wrapper_subclass": _wrapped,
        "torch._utils._rebuild_mkldnn_tensor": _dense_mkldnn,
        "numpy.dtype": _numpy_type,
        "numpy.ndarray": lambda *_: Array(),
        **{f"{core}multiarray._reconstruct": lambda *_: Array() for core in _CORES},
        **{f"{core}multiarray.scalar": _scalar for core in _CORES},
        **{f"{core}numeric._frombuffer": _array_from_buffer for core in _CORES},
        "_codecs.encode": _encoded,
        "builtins.bytes": _as_bytes,
        "builtins.bytearray": _as_bytes,
        "builtins.complex": complex,
        "builtins.slice": lambda *args: args,
        "builtins.object": lambda *_: _fields_of("object"),
        "builtins.getattr": _method_name,
        "copyreg._reconstructor": _reconstructed,
        "datetime.datetime": _moment(datetime.datetime),
        "datetime.date": _moment(datetime.date),
        "datetime.timedelta": _moment(datetime.timedelta),
    }.items()
}
