"""What does an ONNX file hold? Its initializers as tensors, its inputs and outputs; it is never run.

Needs the package onnx, for its protobuf schema. Weights in external files are read only from below the
model's own folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.checkpoints.contents import Contents
from workbench.checkpoints.tensors import ITEMSIZE, Extent, Held, Place, Storage, TensorInfo, contiguous

if TYPE_CHECKING:
    from onnx import TensorProto, ValueInfoProto

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
    """Initializers, graph inputs and outputs, and who wrote it.

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
    tensors = {t.name: _tensor(path, t) for t in graph.initializer}
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
    place = _external(path, proto) if proto.data_location == 1 else _inside(proto, dtype)
    return TensorInfo(
        proto.name,
        shape,
        dtype,
        Storage(proto.name, dtype, place.nbytes // (item or 1), place),
        0,
        contiguous(shape),
    )


def _inside(proto: TensorProto, dtype: str) -> Place:
    if proto.HasField("raw_data"):
        return Held(proto.raw_data)
    if dtype not in ITEMSIZE:
        return Held(b"")
    from onnx import numpy_helper

    return Held(numpy_helper.to_array(proto).tobytes())


def _external(path: Path, proto: TensorProto) -> Place:
    entry = {e.key: e.value for e in proto.external_data}
    location, folder = entry.get("location", ""), path.parent.resolve()
    target = (folder / location).resolve()
    try:
        offset, length = int(entry.get("offset", 0)), int(entry.get("length", 0))
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: external data of {proto.name}") from error
    if not location or not target.is_relative_to(folder) or offset < 0 or length < 0:
        return _Refused(
            f"{path.name}: {proto.name} lies in {location!r}, outside the model's folder; it is not read",
            length,
        )
    if not target.is_file():
        return _Refused(f"{path.name}: {proto.name} lies in {location}, which is missing beside it", length)
    rest = target.stat().st_size - offset
    if length > rest:
        return _Refused(f"{path.name}: {location} beside it is too short for {proto.name}", length)
    return Extent(target, offset, length or rest)
