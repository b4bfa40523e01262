"""Reader of TensorFlow Lite files: constant tensors, inputs and outputs; the model is never run.

The flatbuffer is parsed here, so that no package is needed. Source: tensorflow/lite/schema/schema.fbs (tables
Model, SubGraph, Tensor, Buffer) and the FlatBuffers internals page (vtables).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

from workbench.checkpoints.budget import Budget
from workbench.checkpoints.tensors import (
    ITEMSIZE,
    Contents,
    FileRange,
    Storage,
    TensorInfo,
    Unread,
    contiguous,
)

# TensorType; the others (strings, resources, 4-bit numbers) are listed, not read.
_TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 8: "complex64",
    9: "int8", 10: "float64", 11: "complex128", 12: "uint64", 15: "uint32", 16: "uint16",
}  # fmt: skip
_LARGEST = 1 << 29  # bytes of a file that is read whole


class _Table:
    """One table of a flatbuffer.

    Args:
        data: the whole file.
        at: where the table begins.
    """

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def number(self, code: str, at: int) -> int:
        if at < 0:
            raise ValueError("a position before the file's begin")
        return struct.unpack_from(code, self.data, at)[0]

    def field(self, index: int) -> int:
        """Position of a field; 0 where the table leaves it out."""
        vtable = self.at - self.number("<i", self.at)
        if 4 + 2 * index >= self.number("<H", vtable):
            return 0
        offset = self.number("<H", vtable + 4 + 2 * index)
        return self.at + offset if offset else 0

    def scalar(self, index: int, code: str) -> int:
        at = self.field(index)
        return self.number(code, at) if at else 0

    def stretch(self, index: int) -> tuple[int, int]:
        """Position of a vector's first item, and the number of its items."""
        at = self.field(index)
        if not at:
            return 0, 0
        at += self.number("<I", at)
        return at + 4, self.number("<I", at)

    def integers(self, index: int) -> tuple[int, ...]:
        at, count = self.stretch(index)
        if count > 1000:
            raise ValueError("a list of too many numbers")
        return struct.unpack_from(f"<{count}i", self.data, at) if count else ()

    def text(self, index: int) -> str:
        at, count = self.stretch(index)
        return self.data[at : at + min(count, 1000)].decode("utf-8", "replace")

    def tables(self, index: int, budget: Budget) -> Iterator[_Table]:
        at, count = self.stretch(index)
        if at + 4 * count > len(self.data):
            raise ValueError("a list that reaches beyond the file")
        budget.make(count)
        for i in range(at, at + 4 * count, 4):
            yield _Table(self.data, i + self.number("<I", i))


def read_tflite(path: Path, budget: Budget) -> Contents:
    """Contents of a file: constant tensors by name; inputs and outputs with their shapes.

    Args:
        path: the file.
        budget: work and memory that are left for the file.

    Raises:
        ValueError: it is damaged, cut off or too large.
    """
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path.name} is larger than any TensorFlow Lite model; refused")
    data = path.read_bytes()
    try:
        model = _Table(data, struct.unpack_from("<I", data)[0])
        buffers = list(model.tables(4, budget))
        tensors: dict[str, TensorInfo | Unread] = {}
        facts: dict[str, object] = {"version": model.scalar(0, "<I"), "inputs": {}, "outputs": {}}
        for g, graph in enumerate(model.tables(2, budget)):
            listed = list(graph.tables(0, budget))
            for i, tensor in enumerate(listed):
                name = tensor.text(3) or f"tensor {i}"
                name = name if not g and name not in tensors else f"{name} #{g}.{i}"
                found = _tensor(path, tensor, buffers, name)
                if found is not None:
                    tensors[name] = found
            if not g:
                facts["inputs"], facts["outputs"] = (_ports(graph, listed, index) for index in (1, 2))
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"{path.name} is a damaged or cut off TensorFlow Lite model ({error})") from error
    return Contents("TensorFlow Lite", tensors, facts=facts)


def _ports(graph: _Table, tensors: list[_Table], index: int) -> dict[str, list[int]]:
    ports = graph.integers(index)
    if any(not 0 <= i < len(tensors) for i in ports):
        raise ValueError("an input or output that is no tensor")
    return {tensors[i].text(3) or f"tensor {i}": list(tensors[i].integers(0)) for i in ports}


def _tensor(path: Path, tensor: _Table, buffers: list[_Table], name: str) -> TensorInfo | Unread | None:
    """A constant; None for what is computed when the model runs."""
    index = tensor.scalar(2, "<I")
    if index >= len(buffers):
        raise ValueError(f"{name[:80]} lies in a buffer that is not there")
    at, nbytes = buffers[index].stretch(0)
    if buffers[index].field(1) and buffers[index].scalar(2, "<Q"):  # large models: behind the flatbuffer
        at, nbytes = buffers[index].scalar(1, "<Q"), buffers[index].scalar(2, "<Q")
    if not nbytes:
        return None
    shape = tensor.integers(0)
    dtype = _TYPES.get(tensor.scalar(1, "<b"))
    if dtype is None or tensor.field(6):
        kind = "sparse (TensorFlow Lite)" if tensor.field(6) else "of another type than numbers"
        return Unread(kind, shape)
    if len(shape) > 64 or any(n < 0 for n in shape) or math.prod(shape) * ITEMSIZE[dtype] != nbytes:
        raise ValueError(f"{name[:80]} of shape {list(shape[:8])} has {nbytes} bytes")
    if at + nbytes > len(tensor.data):
        raise ValueError(f"{name[:80]} reaches beyond the file")
    storage = Storage(name, dtype, math.prod(shape), FileRange(path, at, nbytes))
    return TensorInfo(name, shape, dtype, storage, 0, contiguous(shape))
