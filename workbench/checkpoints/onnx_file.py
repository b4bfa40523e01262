"""Reader of ONNX files: initializers as tensors, inputs and outputs; the model is never run.

Needs the package onnx, for its protobuf schema. Weights in external files are read only from the model's own
folder and folders below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.checkpoint_files import belongs
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
)

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
        import onnx
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
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path.name} is no ONNX model, or it is cut off or damaged") from error
    graph = model.graph
    if not graph.node and not graph.initializer:
        raise ValueError(f"{path.name} is no ONNX model: it has no graph")
    try:
        return _contents(path, model)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is damaged: it holds a name that is no text") from error


def _contents(path: Path, model: ModelProto) -> Contents:
    graph = model.graph
    tensors: dict[str, TensorInfo | Unread] = {}
    for proto in graph.initializer:
        if proto.name in tensors:
            raise ValueError(f"{path.name} is damaged: it holds {proto.name[:80]!r} twice")
        tensors[proto.name] = _tensor(path, proto)
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
        raise ValueError(f"{path.name} is damaged: {proto.name[:80]} has the shape {list(shape[:8])}")
    need = math.prod(shape) * item
    source = _external(path, proto, need) if proto.data_location == 1 else _inside(path, proto, dtype)
    if item and source.nbytes != need:
        raise ValueError(
            f"{path.name} is damaged: {proto.name[:80]} of type {dtype} and shape {list(shape)} cannot have "
            f"{source.nbytes} bytes"
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
