"""Files of other frameworks, which are named as what they are and not read.

What a file is follows from its first bytes, from the members of an archive, or, where neither says anything,
from its name: the sentence then says that it is only the name.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from pathlib import Path

# Fields of CoreML's Model message that hold a network or another predictor: 200 (pipelines) to 3000; ONNX's
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
# First bytes that no other format has -> what the file is.
_BEGINNINGS = (
    (b"\x00\x05\x16\x07", "what macOS keeps beside a file (AppleDouble, ._NAME); take the file of that name"),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
    (b"MATLAB 7.3 MAT-file", "a MATLAB file (HDF5)"),
    (
        b"PAR1",
        "a Parquet table; predictions and their ground truth are compared by: workbench score, compare",
    ),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"ftrt", "an engine of TensorRT, built for one GPU; give the ONNX file that it was built from"),
)
# Of a Torch7 object: type 4, its index, then the string "V 1" with its length.
# Source: torch/torch7, File.lua.
_TORCH7 = (b"\x04\0\0\0", b"\x03\0\0\0V 1")
# Version 0.1 or 0.2 of Darknet's weights. Source: pjreddie/darknet, src/parser.c, save_weights_upto.
_DARKNET = (struct.pack("<ii", 0, 1), struct.pack("<ii", 0, 2))
# First lines of a text, comments left out -> what the file is.
_TEXTS = (
    (
        re.compile(r"\[(net|network)\]"),
        "the configuration of a Darknet network; its weights lie in a .weights file",
    ),
    (
        re.compile(r'(name: *".*"\s+)?(layers? *\{|input: *".*"\s+input_(dim|shape) *[:{]|input_dim: *\d)'),
        "the graph of a Caffe model (prototxt); its weights lie in a .caffemodel file",
    ),
    (
        re.compile(r'node *\{|(calculator|input_stream|output_stream): *"'),
        "a graph of TensorFlow or MediaPipe as text",
    ),
    (
        re.compile(r'\{.*"(weightsManifest|modelTopology)"', re.DOTALL),
        "the graph of a TensorFlow.js model; its weights lie in the .bin files beside it",
    ),
)
# Files without an unmistakable beginning, which no other format takes.
_BY_SUFFIX = {
    ".pdiparams": "weights of a Paddle inference model",
    ".pdmodel": "the graph of a Paddle inference model",
    ".caffemodel": "weights of a Caffe model",
    ".pb": "a frozen graph of TensorFlow",
    ".meta": "the graph of a TensorFlow checkpoint",
    ".binarypb": "a graph of MediaPipe",
    ".task": "a bundle of MediaPipe",
    ".weights": "weights of Darknet",
    ".t7": "an object of Torch7",
    ".net": "an object of Torch7",
    ".mat": "a MATLAB file",
    ".index": "the index of a TensorFlow checkpoint",
    ".data": "values of a TensorFlow checkpoint",
    ".msgpack": "parameters of Flax (msgpack)",
    ".engine": "an engine of TensorRT, built for one GPU",
    ".trt": "an engine of TensorRT, built for one GPU",
    ".plan": "an engine of TensorRT, built for one GPU",
    ".h5": "an HDF5 file, as Keras writes",
    ".hdf5": "an HDF5 file, as Keras writes",
    ".mnn": "an MNN model",
    ".rknn": "a model of Rockchip's RKNN, compiled for one chip",
    ".mlmodel": "a CoreML model",
    ".hef": "a model of Hailo, compiled for one chip",
    ".om": "a model of Ascend (.om), compiled for one chip",
    ".bmodel": "a model of Sophgo, compiled for one chip",
    ".cvimodel": "a model of Sophgo, compiled for one chip",
    ".dlc": "a model of Qualcomm (SNPE, QNN)",
    ".blob": "a model of OpenVINO, compiled for Myriad (OAK cameras)",
    ".kmodel": "a model of Kendryte's nncase, compiled for one chip",
    ".nef": "a model of Kneron, compiled for one chip",
    ".xmodel": "a model of AMD's Vitis AI, compiled for one chip",
    ".axmodel": "a model of Axera, compiled for one chip",
    ".tmfile": "a model of Tengine",
    ".nb": "a model of Paddle Lite, compiled for one kind of processor",
    ".etlt": "an encrypted model of NVIDIA's TAO",
    ".tlt": "an encrypted model of NVIDIA's TAO",
    ".sentis": "a model of Unity's inference engine",
}
# Flatbuffers name their schema in bytes 4 to 8. Source: file_identifier in onnxruntime's ort.fbs and
# ExecuTorch's program.fbs, whose two digits are the version.
_FLATBUFFERS = (
    (b"ORTM", "a model in onnxruntime's own format (.ort); give the ONNX file that it was made from"),
    (b"ET", "a program of ExecuTorch (.pte); give the torch.export file that it was made from"),
)
_SEARCHED = 1 << 20


def foreign_format(path: Path, head: bytes) -> str:
    """What a file of another framework is, with the evidence; "" where it is none of these.

    Args:
        path: the file.
        head: its first bytes, some hundreds.
    """
    if head.startswith(_HDF5):
        with path.open("rb") as file:
            begin = file.read(_SEARCHED)
        what = next((what for mark, what in _IN_HDF5 if mark in begin), "an HDF5 file, as Keras writes")
        return f"{what}; export the model to ONNX"
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return what
    if head.startswith(_TORCH7[0]) and head[8:].startswith(_TORCH7[1]):
        return "an object of Torch7 (Lua), which only Torch7 reads; export the model to ONNX"
    if path.suffix == ".weights" and head.startswith(_DARKNET):
        return "weights of Darknet, whose graph is a .cfg; convert both to ONNX"
    if head.startswith(_MXNET):
        return "MXNet parameters (.params, list magic 0x112); export the model to ONNX"
    if head.startswith(_NCNN_BINARY) or head.split(b"\n", 1)[0].strip() == _NCNN_TEXT:
        return "the graph of an ncnn model (magic 7767517); its weights lie in the .bin beside it"
    if path.suffix == ".bin" and path.with_suffix(".param").is_file():
        return f"weights of an ncnn model (its graph is {path.stem}.param beside it)"
    if path.suffix == ".bin" and _is_openvino(path.with_suffix(".xml")):
        return (
            f"weights of an OpenVINO model (its graph is {path.stem}.xml beside it); export the model to ONNX"
        )
    for mark, what in _FLATBUFFERS:
        if head[4:8].startswith(mark) and (len(mark) == 4 or head[6:8].isdigit()):
            return what
    if b"<net " in head and head.lstrip().startswith(b"<"):
        return "the graph of an OpenVINO model (XML with <net>); its weights lie in the .bin beside it"
    if b'"nodes"' in head and b'"op"' in head and head.lstrip().startswith(b"{"):
        return "the graph of an MXNet model (JSON with nodes and ops); its weights lie in .params"
    if head[:1] == b"\x08" and any(number in _COREML for number in _protobuf_fields(path)):
        return "a CoreML model (protobuf with a network in a field that CoreML alone has)"
    return _foreign_text(path, head)


def _foreign_text(path: Path, head: bytes) -> str:
    """What a text of another framework is; "" where it is none of these."""
    if b"\0" in head:
        return ""
    lines = (line.strip() for line in head.decode("utf-8", "replace").lstrip("\ufeff").splitlines())
    text = "\n".join(line for line in lines if line and not line.startswith(("#", "//")))
    return next((what for begins, what in _TEXTS if begins.match(text)), "")


def foreign_archive(path: Path, names: Iterable[str]) -> str:
    """What a zip archive of another framework is; "" where it is none of these.

    Args:
        path: the file.
        names: of its members.
    """
    names = list(names)
    if {"config.json", "model.weights.h5"} <= set(names):
        return "a Keras 3 model (zip with config.json and model.weights.h5); export it to ONNX"
    if "dlc.metadata" in names:
        return (
            "a model of Qualcomm (SNPE, QNN; zip with dlc.metadata); give the ONNX file that it was made from"
        )
    graphs = [name for name in names if name.endswith(".tflite")]
    if graphs:
        what = "a bundle of MediaPipe" if path.suffix == ".task" else "a zip archive"
        shown = ", ".join(name[:60] for name in graphs[:4])
        return f"{what} that holds models of TensorFlow Lite ({shown}): unpack it first, and open one of them"
    return foreign_name(path)


def _is_openvino(graph: Path) -> bool:
    """Whether a file is the graph of an OpenVINO model."""
    if graph.is_symlink() or not graph.is_file():  # a link may lead out of the folder
        return False
    with graph.open("rb") as file:
        return b"<net " in file.read(1024)


def foreign_name(path: Path) -> str:
    """What the name of a file says where its bytes say nothing; "" where it says nothing either.

    Args:
        path: the file, which no other format took.
    """
    suffix = ".data" if ".data-" in path.name and "-of-" in path.name else path.suffix.lower()
    what = _BY_SUFFIX.get(suffix, "")
    return f"by its name {what}; export the model to ONNX" if what else ""


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
