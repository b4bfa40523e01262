"""What is built in the place of the few constructors that pickles may use? Data, by code of this file.

Only texts are formatted here: str() of a nested value can take exponential time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.checkpoints.pickled_objects import Array, Fields, Inert, NumpyType, Symbol, Unread, as_place
from workbench.checkpoints.tensors import Storage, TensorInfo, checked


def path_text(*parts: Any) -> str:
    """Pathlib's paths, as text."""
    return "/".join(part for part in parts if isinstance(part, str)).replace("//", "/")


def first(*args: Any) -> Any:
    """The first argument, for functions that only label it."""
    return args[0] if args else ()


def fields_of(of: str, *_: Any) -> Fields:
    """An object of a harmless class, its fields still to come."""
    made = Fields()
    made.of = of
    return made


def as_dict(*args: Any) -> dict[Any, Any]:
    """dict, OrderedDict and their like, from nothing, a dict or pairs."""
    if not args:
        return {}
    pairs = list(args[0].items()) if isinstance(args[0], dict) else args[0]
    if not isinstance(pairs, (list, tuple)) or not all(
        isinstance(p, (list, tuple)) and len(p) == 2 and _is_key(p[0]) for p in pairs
    ):
        raise ValueError("the pickle fills a dict with what are no pairs")
    return dict(pairs)


def _is_key(value: Any) -> bool:
    return isinstance(value, (str, float)) or (isinstance(value, int) and abs(value) < 1 << 63)


def default_dict(*args: Any) -> dict[Any, Any]:
    """collections.defaultdict without its factory, which reading never needs."""
    return as_dict(*args[1:])


def _storage_of(value: Any) -> Storage:
    if not isinstance(value, Storage):
        raise ValueError("the pickle makes a tensor without a storage")
    return value


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > 64 or not all(isinstance(n, int) for n in value):
        raise ValueError("the pickle makes a tensor whose shape or stride is no short list of integers")
    return tuple(value)


def tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> TensorInfo:
    """torch._utils._rebuild_tensor and _v2: (storage, offset, size, stride, requires_grad, hooks, ...)."""
    storage = _storage_of(storage)
    return checked(TensorInfo("", _sizes(shape), storage.dtype, storage, offset, _sizes(stride)))


def tensor_v3(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> TensorInfo:
    """torch._utils._rebuild_tensor_v3: an untyped storage, and the type as fourth of the rest."""
    dtype = rest[2]
    if not isinstance(dtype, Symbol) or not dtype.dtype:
        raise ValueError("the pickle makes a tensor of no known type")
    return checked(TensorInfo("", _sizes(shape), dtype.dtype, _storage_of(storage), offset, _sizes(stride)))


def parameter(data: Any, *_: Any) -> Any:
    """torch._utils._rebuild_parameter: the tensor, marked as a parameter."""
    if not isinstance(data, TensorInfo):
        return data
    return TensorInfo("", data.shape, data.dtype, data.storage, data.offset, data.stride, parameter=True)


def tensor_subclass(function: Any, kind: Any, args: Any, state: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor subclass; its data are what `function(*args)` gives."""
    build = function.build if isinstance(function, Symbol) else None
    if build is not None and build in (tensor, tensor_v3, parameter, quantised, sparse, ragged):
        return build(*args)
    return Unread(f"of class {getattr(kind, 'name', 'unknown')[:200]}")


def quantised(storage: Any, offset: Any, shape: Any, *_: Any) -> Unread:
    """torch._utils._rebuild_qtensor: integers with a scale, per tensor or per channel."""
    return Unread(f"quantised ({_storage_of(storage).dtype})", _sizes(shape))


def sparse(layout: Any, data: Any) -> Unread:
    """torch._utils._rebuild_sparse_tensor: indices, values and the size (and, for COO, whether coalesced)."""
    sizes = [part for part in data if isinstance(part, (tuple, list))] if isinstance(data, tuple) else []
    name = layout.removeprefix("torch.") if isinstance(layout, str) else "unknown layout"
    return Unread(f"sparse ({name[:40]})", _sizes(sizes[0]) if sizes else None)


def ragged(*_: Any) -> Unread:
    """torch._utils._rebuild_nested_tensor: rows of different lengths."""
    return Unread("nested (ragged)")


def wrapped(kind: Any, dtype: Any = None, shape: Any = None, *_: Any) -> Unread:
    """torch._utils._rebuild_wrapper_subclass: a tensor made of others, as quantisation packages write."""
    sizes = _sizes(shape) if isinstance(shape, (tuple, list)) else None
    return Unread(f"of class {getattr(kind, 'name', 'unknown')[:200]}", sizes)


def dense_mkldnn(data: Any, *_: Any) -> Any:
    """torch._utils._rebuild_mkldnn_tensor: a numpy array in MKL-DNN's own layout."""
    return Unread("in the layout of MKL-DNN", data.shape if isinstance(data, Array) else None)


def meta_tensor(dtype: Any, shape: Any, stride: Any, *_: Any) -> TensorInfo:
    """torch._utils._rebuild_meta_tensor_no_storage: sizes without data."""
    if not isinstance(dtype, Symbol):
        raise ValueError("the pickle makes a tensor of no known type")
    storage = Storage("meta", dtype.dtype, 0)
    return TensorInfo("", _sizes(shape), dtype.dtype, storage, 0, _sizes(stride))


def array_from_buffer(data: Any, kind: Any, shape: Any, order: Any = "C") -> Array:
    """numpy._core.numeric._frombuffer, protocol 5."""
    if not isinstance(kind, NumpyType):
        return Array()
    return Array(_sizes(shape), kind, as_place(data), fortran=order == "F")


def device_tensor(array: Any, dtype: Any, *_: Any) -> Any:
    """torch._utils._rebuild_device_tensor_from_numpy: tensors saved on an accelerator such as a TPU."""
    found = array.tensor() if isinstance(array, Array) else None
    if found is None:
        raise ValueError("the pickle makes a device tensor without an array")
    return found


def scalar(kind: Any, data: Any = b"") -> Any:
    """numpy._core.multiarray.scalar."""
    if not isinstance(kind, NumpyType) or not kind.is_plain:
        return Inert("numpy scalar", (kind, data))
    return Array((), kind, as_place(data)).array().item()


def numpy_type(code: Any, *_: Any) -> Any:
    """numpy.dtype, as its code."""
    return NumpyType(code) if isinstance(code, str) else Inert("numpy.dtype", (code,))


def encoded(text: Any, encoding: Any = "utf-8") -> bytes:
    """_codecs.encode: how protocol 2 writes byte strings."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise ValueError("the pickle encodes what is no text")
    return text.encode(encoding)


def as_bytes(*args: Any) -> Any:
    """Bytes and bytearray, as Python 2 and 3 pickle them."""
    if not args:
        return b""
    if isinstance(args[0], str):
        return args[0].encode("latin1", "replace")
    return bytes(args[0]) if isinstance(args[0], (bytes, bytearray, list, tuple)) else args[0]


def moment(kind: type) -> Callable[..., Any]:
    """What stands for a class of datetime: the moment as text."""

    def build(*args: Any) -> Any:
        args = tuple(a.encode("latin1") if isinstance(a, str) else a for a in args)
        try:
            return str(kind(*args))
        except (ValueError, TypeError, OverflowError):
            return Inert(f"datetime.{kind.__name__}", args)

    return build


def method_name(owner: Any, name: Any) -> Any:
    """builtins.getattr, which mmengine's log history mentions for its statistics: named, never looked up."""
    return f"{getattr(owner, 'name', '?')}.{name if isinstance(name, str) else '?'}"


def reconstructed(kind: Any, *_: Any) -> Any:
    """copyreg._reconstructor(cls, base, state): how protocols 0 and 1 make objects."""
    if isinstance(kind, Symbol) and kind.build is not None:
        return kind.build()
    return Inert(getattr(kind, "name", "?"))
