"""How are the non-tensor parts of a checkpoint shown? As plain data, cut off where they would never end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.checkpoints.pickled_objects import Array, Fields, Inert, LongBytes, NumpyType, Symbol
from workbench.checkpoints.tensors import Storage, TensorInfo, read_bytes

_DEPTH = 30
_CUT = "... (cut off)"
_FORMATS = {"float64": "f8", "float32": "f4", "float16": "f2", "int64": "i8", "int32": "i4", "int16": "i2",
            "uint8": "u1", "int8": "i1", "bool": "?"}  # fmt: skip


class Reader:
    """Turns values into dicts, lists, numbers and text; shared and nested values are cut, so that it ends.

    Args:
        shown: how many values at most.
        text: how many characters at most; one text may be named many times.
    """

    def __init__(self, shown: int, text: int = 16 << 20) -> None:
        self.left, self.text = shown, text

    def plain(self, value: Any, depth: int = 0) -> Any:
        """The value as data. Tensors become a text of type and shape, inert objects what was kept of them."""
        self.left -= 1
        if self.left < 0 or depth > _DEPTH:
            return _CUT
        if isinstance(value, str):
            return self._counted(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, Mapping):
            return {
                self._counted(_text(k)): self.plain(v, depth + 1) for k, v in value.items() if self.left > 0
            }
        if isinstance(value, (list, tuple)):
            return [self.plain(v, depth + 1) for v in value if self.left > 0]
        if isinstance(value, TensorInfo):
            one = number(value)
            return f"tensor {value.dtype} {list(value.shape)}" if one is None else one
        if isinstance(value, Array):
            return self._array(value, depth)
        if isinstance(value, Inert):
            return self._inert(value, depth)
        if isinstance(value, bytes):
            return f"{len(value)} bytes"
        return self._counted(_text(value))

    def _counted(self, text: str) -> str:
        self.text -= len(text)
        return text if self.text >= 0 else text[:20] + _CUT

    def _array(self, value: Array, depth: int) -> Any:
        if value.objects is not None:
            return self.plain(value.objects, depth + 1)
        size = math.prod(value.shape)
        if value.type is None or not value.type.is_plain or size > min(self.left, 10_000):
            return f"array {value.type.code if value.type else '?'} {list(value.shape)}"
        self.left -= size
        self.text -= size * value.type.dtype.itemsize
        if self.text < 0:
            return _CUT
        found = value.array()
        if found.dtype.kind == "S":  # bytes are no text, and no JSON
            found = np.char.decode(found, "latin1")
        if found.dtype.kind == "c":
            return [str(item) for item in found.reshape(-1).tolist()]
        return found.item() if found.ndim == 0 else found.tolist()

    def _inert(self, value: Inert, depth: int) -> Any:
        for kept in (value.mapping, value.state, value.items):
            if kept:
                return self.plain(kept, depth + 1)
        if len(value.args) == 1 and isinstance(value.args[0], (str, int, float, Mapping)):
            return self.plain(value.args[0], depth + 1)
        return self._counted(f"<{value.name}>")


def _text(value: Any) -> str:
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, Symbol):
        return value.name
    if isinstance(value, NumpyType):
        return value.code
    if isinstance(value, (Storage, LongBytes)):
        return "data"
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value if isinstance(part, (str, int, float)))
    return type(value).__name__


def number(value: Any) -> float | int | None:
    """A number, also one that was saved as a tensor or array of one element; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value if abs(value) < 1 << 63 or isinstance(value, float) else None
    if isinstance(value, TensorInfo) and value.numel == 1 and value.dtype in _FORMATS:
        if value.storage.place is None:
            return None
        return np.frombuffer(read_bytes(value), _FORMATS[value.dtype])[0].item()
    if isinstance(value, Array) and math.prod(value.shape) == 1 and value.type and value.type.is_plain:
        item = value.array().reshape(-1)[0].item()
        return item if isinstance(item, (int, float)) else None
    return None


def series(value: Any, newest: int) -> list[float]:
    """A list of numbers from an array, a list, or mmengine's HistoryBuffer; [] from anything else.

    Args:
        value: of the file.
        newest: take only so many, the last ones.
    """
    if isinstance(value, Fields):
        value = value.get("_log_history")
    if isinstance(value, Array) and value.type is not None and value.type.is_plain and value.objects is None:
        if value.type.dtype.kind not in "biuf":
            return []
        return value.newest(newest).astype(float).reshape(-1)[-newest:].tolist()
    if isinstance(value, (list, tuple)):
        found = (number(item) for item in value[-newest:])
        return [float(item) for item in found if item is not None]
    return []
