"""Readers of ONNX and TensorFlow Lite files: constants as tensors, inputs and outputs; no model is run.

ONNX needs the package onnx, for its protobuf schema. Weights in external files are read only from the model's
own folder and folders below it.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.budget import LIMITS, Budget
from workbench.checkpoints.tensors import (
    ITEMSIZE,
    ByteSource,
    Contents,
    FileRange,
    InMemory,
    Storage,
    TensorInfo,
    Unread,
    checked,
    contiguous,
    shape_text,
)
from workbench.core.files import belongs, read_at_most
from workbench.core.onnx_messages import read_graph
from workbench.core.report import counted

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, ValueInfoProto

# onnx.TensorProto.DataType; the 4-bit types are packed two to a byte and are listed, not read.
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128",
    16: "bfloat16", 17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz",
}  # fmt: skip


@dataclass(frozen=True)
class _Refused:
    """Weights that may not be read, and why."""

    reason: str
    nbytes: int

    def read(self, start: int, count: int) -> bytearray:
        raise ValueError(self.reason)


def read_onnx(path: Path) -> Contents:
    """Contents of a file: initializers, graph inputs and outputs, producer and opset.

    Raises:
        ValueError: not an ONNX file.
        LookupError: the package onnx is missing.
    """
    try:
        import onnx  # noqa: F401 - to say that it is missing
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise LookupError(
            f"{path.name} looks like ONNX; reading it needs the package onnx (pip install onnx)"
        ) from error
    # Protobuf itself ends at 2 GB, and onnx reads a file whole before it finds out.
    if path.stat().st_size >= 1 << 31:
        raise ValueError(
            f"{path.name} is no ONNX model: these end at 2 GB, it has {path.stat().st_size} bytes"
        )
    try:
        model = read_graph(path)
    except DecodeError as error:
        raise ValueError(f"{path.name} is no ONNX model, or it is cut off or damaged") from error
    graph = model.graph
    if not graph.node and not graph.initializer:
        raise ValueError(f"{path.name} is no ONNX model: it has no graph")
    return _contents(path, model)


def _contents(path: Path, model: ModelProto) -> Contents:
    graph = model.graph
    names = [*(one.name for one in graph.initializer), *(one.values.name for one in graph.sparse_initializer)]
    if len(names) > LIMITS.tensors or any(len(name) > LIMITS.name for name in names):
        raise ValueError(f"{path.name} has more tensors, or longer names, than any network; it is refused")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path.name} is damaged: it holds {twice[0][:80]!r} twice")
    tensors: dict[str, TensorInfo | Unread] = {one.name: _tensor(path, one) for one in graph.initializer}
    for sparse in graph.sparse_initializer:
        tensors[sparse.values.name] = Unread("sparse (onnx)", tuple(sparse.dims))
    weights = set(tensors)
    facts: dict[str, Any] = {
        "inputs": {i.name: _shape(i) for i in graph.input if i.name not in weights},
        "outputs": {o.name: _shape(o) for o in graph.output},
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "opset": {o.domain or "ai.onnx": o.version for o in model.opset_import},
        "metadata": {p.key: p.value for p in model.metadata_props},
        "nodes": len(graph.node),
    }
    return Contents("ONNX", tensors, facts=facts)


def _shape(value: ValueInfoProto) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in dims]


def _tensor(path: Path, proto: TensorProto) -> TensorInfo:
    dtype = _TYPES.get(proto.data_type, f"onnx type {proto.data_type}")
    shape = tuple(int(n) for n in proto.dims)
    item = ITEMSIZE.get(dtype, 0)
    if len(shape) > 64 or not all(0 <= n < 1 << 62 for n in shape):
        raise ValueError(f"{path.name} is damaged: {proto.name[:80]} has the shape {shape_text(shape)}")
    need = math.prod(shape) * item
    source = _external(path, proto, need) if proto.data_location == 1 else _inside(path, proto, dtype)
    if item and source.nbytes != need:
        raise ValueError(
            f"{path.name} is damaged: {proto.name[:80]} of type {dtype} and shape {shape_text(shape)} cannot "
            f"have {source.nbytes} bytes"
        )
    storage = Storage(proto.name, dtype, math.prod(shape), source)
    return checked(TensorInfo(proto.name, shape, dtype, storage, 0, contiguous(shape)))


def _inside(path: Path, proto: TensorProto, dtype: str) -> ByteSource:
    if proto.HasField("raw_data"):
        return InMemory(proto.raw_data)
    if dtype not in ITEMSIZE:
        return InMemory(b"")
    from onnx import numpy_helper

    try:
        return InMemory(numpy_helper.to_array(proto).tobytes())
    except (ValueError, TypeError, OverflowError, KeyError) as error:
        raise ValueError(f"{path.name} is damaged: the numbers of {proto.name[:80]} ({error})") from error


def _external(path: Path, proto: TensorProto, need: int) -> ByteSource:
    """The range of an external file that holds a tensor's bytes; never past the length that it declares.

    Source: onnx.proto, TensorProto.external_data: location, offset (0), length (the rest of the file).
    """
    entry = {e.key: e.value for e in proto.external_data}
    location, folder = entry.get("location", ""), path.parent.resolve()
    target = folder / location
    try:
        offset, length = int(entry.get("offset", 0)), int(entry.get("length", need))
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: external data of {proto.name[:80]}") from error
    if not location or "\0" in location or offset < 0 or length < 0 or not belongs(target, folder):
        return _Refused(
            f"{path.name}: {proto.name[:80]} lies in {location[:200]!r}, outside the model's folder; it is "
            "not read",
            need,
        )
    if not target.is_file():
        return _Refused(
            f"{path.name}: {proto.name[:80]} lies in {location[:200]}, which is missing beside it", need
        )
    if max(length, need) > target.stat().st_size - offset:
        return _Refused(f"{path.name}: {location[:200]} beside it is too short for {proto.name[:80]}", need)
    if need and length != need:
        return _Refused(
            f"{path.name}: {proto.name[:80]} needs {need} bytes of {location[:200]}, {length} are declared",
            need,
        )
    return FileRange(target, offset, length)


# TensorFlow Lite: the flatbuffer is parsed here, so that no package is needed. Source: its schema.fbs (tables
# Model, SubGraph, Tensor, Buffer; tensorflow/lite/schema/) and the FlatBuffers internals page
# (vtables).


# TensorType; the others (strings, resources, 4-bit numbers) are listed, not read.
_TFLITE_TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 8: "complex64",
    9: "int8", 10: "float64", 11: "complex128", 12: "uint64", 15: "uint32", 16: "uint16",
}  # fmt: skip
_LARGEST = 1 << 29  # bytes of a file that is read whole


# Of a list of tables: buffers, subgraphs, tensors. A vector of four bytes each may name one table millions of
# times.
_MOST_TABLES = 100_000


class _Table:
    """One table of a flatbuffer.

    Args:
        data: the whole file.
        at: where the table begins.
    """

    __slots__ = ("at", "data")

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
        if count > _MOST_TABLES:
            raise ValueError(f"a list of {counted(count, 'part', spec=',')}")
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
    data = read_at_most(path, _LARGEST, "a TensorFlow Lite model")
    try:
        model = _Table(data, struct.unpack_from("<I", data)[0])
        buffers = list(model.tables(4, budget))
        tensors: dict[str, TensorInfo | Unread] = {}
        facts: dict[str, object] = {"version": model.scalar(0, "<I"), "inputs": {}, "outputs": {}}
        for g, graph in enumerate(model.tables(2, budget)):
            listed = list(graph.tables(0, budget))
            for i, tensor in enumerate(listed):
                budget.make(20)  # of the budget of a file that is 100,000 tensors in all graphs together
                name = tensor.text(3) or f"tensor {i}"
                name = name if not g and name not in tensors else f"{name} #{g}.{i}"
                found = _tflite_tensor(path, tensor, buffers, name)
                if found is not None:
                    tensors[name] = found
            if not g:
                facts["inputs"], facts["outputs"] = (_ports(graph, listed, index) for index in (1, 2))
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"{path.name} is a damaged or cut off TensorFlow Lite model ({error})") from error
    if not tensors:
        raise ValueError(f"{path.name} is a TensorFlow Lite model without weights: it is empty or damaged")
    return Contents("TensorFlow Lite", tensors, facts=facts)


def _ports(graph: _Table, tensors: list[_Table], index: int) -> dict[str, list[int]]:
    ports = graph.integers(index)
    if any(not 0 <= i < len(tensors) for i in ports):
        raise ValueError("an input or output that is no tensor")
    return {tensors[i].text(3) or f"tensor {i}": list(tensors[i].integers(0)) for i in ports}


def _tflite_tensor(
    path: Path, tensor: _Table, buffers: list[_Table], name: str
) -> TensorInfo | Unread | None:
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
    dtype = _TFLITE_TYPES.get(tensor.scalar(1, "<b"))
    if dtype is None or tensor.field(6):
        kind = "sparse (TensorFlow Lite)" if tensor.field(6) else "of another type than numbers"
        return Unread(kind, shape)
    if len(shape) > 64 or any(n < 0 for n in shape) or math.prod(shape) * ITEMSIZE[dtype] != nbytes:
        raise ValueError(f"{name[:80]} of shape {shape_text(shape)} has {nbytes} bytes")
    if at + nbytes > len(tensor.data):
        raise ValueError(f"{name[:80]} reaches beyond the file")
    storage = Storage(name, dtype, math.prod(shape), FileRange(path, at, nbytes))
    return TensorInfo(name, shape, dtype, storage, 0, contiguous(shape))
