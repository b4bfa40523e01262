"""Which other framework's model is this? Told by magic bytes and structure; such files are only named."""

from __future__ import annotations

import struct
from pathlib import Path

# Numbers of CoreML's Model message that hold a network or another predictor: 200 (pipelines) to 3000; ONNX's
# own message ends at 25. Source: apple/coremltools, mlmodel/format/Model.proto.
_COREML = range(200, 3001)
_HDF5 = b"\x89HDF\r\n\x1a\n"
# What Keras and others write near the beginning of an HDF5 file -> what the file is.
_IN_HDF5 = (
    (b"keras_version", "a Keras model or its weights (HDF5 with keras_version)"),
    (b"model_weights", "a Keras model (HDF5 with model_weights)"),
    (b"layer_names", "Keras weights (HDF5 with layer_names)"),
    (b"block0_values", "a table of pandas (HDF5), as DeepLabCut writes its predictions"),
    (b"tracks", "a table of tracks (HDF5), as SLEAP writes"),
)
# Source: Tencent/ncnn, src/net.cpp: the same number as text and as an integer.
_NCNN_TEXT, _NCNN_BINARY = b"7767517", struct.pack("<i", 7767517)
# Source: apache/mxnet, src/ndarray/ndarray.cc, kMXAPINDArrayListMagic, then a reserved word of zeros.
_MXNET = struct.pack("<QQ", 0x112, 0)
_SEARCHED = 1 << 20


def foreign_format(path: Path, head: bytes) -> str:
    """What the file is, with the evidence; "" where it is none of these.

    Args:
        path: the file.
        head: its first bytes, some hundreds.
    """
    if head.startswith(_HDF5):
        with path.open("rb") as file:
            begin = file.read(_SEARCHED)
        what = next((what for mark, what in _IN_HDF5 if mark in begin), "an HDF5 file, as Keras writes")
        return f"{what}; export the model to ONNX"
    if head.startswith(_MXNET):
        return "MXNet parameters (.params, list magic 0x112); export the model to ONNX"
    if head.startswith(_NCNN_BINARY) or head.split(b"\n", 1)[0].strip() == _NCNN_TEXT:
        return "the graph of an ncnn model (magic 7767517); its weights lie in the .bin beside it"
    if path.suffix == ".bin" and path.with_suffix(".param").is_file():
        return f"weights of an ncnn model (its graph is {path.stem}.param beside it)"
    if b"<net " in head and head.lstrip().startswith(b"<"):
        return "the graph of an OpenVINO model (XML with <net>); its weights lie in the .bin beside it"
    if b'"nodes"' in head and b'"op"' in head and head.lstrip().startswith(b"{"):
        return "the graph of an MXNet model (JSON with nodes and ops); its weights lie in .params"
    if head[:1] == b"\x08" and any(number in _COREML for number in _protobuf_fields(path)):
        return "a CoreML model (protobuf with a network in a field that CoreML alone has)"
    return ""


def _protobuf_fields(path: Path) -> set[int]:
    """Numbers of the fields at the top of a protobuf file; empty where it is none."""
    found: set[int] = set()
    at, steps, size = 0, 0, path.stat().st_size
    with path.open("rb") as file:
        while at < size and steps < 10_000:
            steps += 1
            file.seek(at)
            data = file.read(20)
            key = _varint(data[:10])
            value = None if key is None else _varint(data[key[1] : key[1] + 10])
            if key is None:
                return found
            number, kind = key[0] >> 3, key[0] & 7
            if kind in (1, 5):
                at += key[1] + (8 if kind == 1 else 4)
            elif kind in (0, 2) and value is not None:
                at += key[1] + value[1] + (value[0] if kind == 2 else 0)
            else:
                return set()
            found.add(number)
    return found if at == size else set()


def _varint(data: bytes) -> tuple[int, int] | None:
    """A number and how many bytes it takes; None where there is none."""
    number = 0
    for i, byte in enumerate(data):
        number |= (byte & 127) << 7 * i
        if byte < 128:
            return number, i + 1
    return None
