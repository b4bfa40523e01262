"""Family onnx: a file with heatmap or SimCC outputs, run by onnxruntime; torch is needed for tensors only.

What a graph may cost when it is opened is limited: a file of 1 kB can ask for gigabytes, or loop for ever.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import (
    Batch,
    Codec,
    DecodeOptions,
    NotAvailable,
    Outputs,
    Prediction,
    Sample,
    Skeleton,
    reason,
)
from workbench.core.flip import average_with_flip, mirrored, no_mirror
from workbench.decoding import decode
from workbench.models.exported import FACTS_LEFT_OPEN, GREY, Facts, NoTaps, described, facts_of
from workbench.models.families import Family
from workbench.models.opening import Opening
from workbench.models.top_down import TopDown, cropped, placed

if TYPE_CHECKING:
    from jaxtyping import Float
    from onnx import FunctionProto, GraphProto, ModelProto
    from torch import Tensor, nn


# Elements of one intermediate tensor for one image: 1 GB as float32. The largest of Sapiens-2B, attention of
# 3,072 patches in 24 heads, has 2.3e8.
LARGEST = 1 << 28
# Seconds of the first blank image. The largest pose networks take a few on one core.
FIRST_ANSWER = 30.0
# Nodes once the file's own functions are written out, and how deep these may call each other. The largest
# exported networks have some ten thousand and two or three.
NODES, DEPTH = 1 << 20, 50
# Weights beyond this are dropped before shapes are inferred: only small ones can be sizes.
_SIZES = 1024


def check_sizes(path: Path) -> None:
    """Refuse a graph with more nodes or larger tensors between them than any pose network's; nothing is run.

    Sizes that only arise while it runs are not seen.

    Raises:
        ValueError: it has them; says which and how large.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    _check_functions(model, path)
    for weight in model.graph.initializer:
        if len(weight.raw_data) > _SIZES:
            weight.ClearField("raw_data")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError):
        return  # onnxruntime says by itself what is wrong with it
    for graph in _graphs(inferred.graph):
        for value in graph.value_info:
            sides = [d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")]
            if math.prod(sides) > LARGEST:
                raise ValueError(
                    f"{path.name}: {value.name[:80]!r} has the size {sides}, {math.prod(sides):.2g} numbers; "
                    f"a pose network has at most {LARGEST:.2g} in one tensor"
                )


def _check_functions(model: ModelProto, path: Path) -> None:
    """Refuse functions of the file that call themselves, or each other more often than memory can hold."""
    functions = {(one.domain, one.name): one for one in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(owner: GraphProto | FunctionProto, depth: int) -> int:
        if depth > DEPTH:
            raise ValueError(
                f"{path.name}: its functions call each other more than {DEPTH} deep, or themselves"
            )
        count = 0
        for node in (node for graph in _graphs(owner) for node in graph.node):
            key = node.domain, node.op_type
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key], depth + 1)
            count += sizes.get(key, 1)
        if count > NODES:
            raise ValueError(
                f"{path.name}: its functions call each other more than {NODES:.2g} times; a pose network has "
                "some ten thousand nodes"
            )
        return count

    size(model.graph, 0)


@contextlib.contextmanager
def ended_after(seconds: float, path: Path) -> Iterator[Any]:
    """Options for one run of a session, which onnxruntime ends when the time is over.

    Args:
        seconds: from now.
        path: of the file, for the error.

    Raises:
        ValueError: the run was ended.
    """
    import onnxruntime

    options = onnxruntime.RunOptions()

    def end() -> None:
        options.terminate = True

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield options
    except ValueError:
        if not options.terminate:
            raise
        raise ValueError(
            f"{path.name}: no answer for one blank image within {seconds:g} s; the graph may loop for ever"
        ) from None
    finally:
        timer.cancel()


def _graphs(graph: GraphProto | FunctionProto) -> Iterator[GraphProto | FunctionProto]:
    """A graph, or a function, and the graphs of its loops and branches."""
    waiting = [graph]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += [a.g for node in one.node for a in node.attribute if a.HasField("g")]


_TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
}  # fmt: skip
_NO_TAPS = (
    "an ONNX file is one graph without named modules; convert nothing, open the checkpoint it came from"
)


def load(opening: Opening) -> tuple[OnnxModel, None]:
    """The file's graph as a model; the file is the model, so there is no load report.

    Raises:
        NotAvailable: it takes or gives something else than one image and maps or SimCC.
        ValueError: onnxruntime refuses it.
    """
    path = opening.required().path
    graph = Graph(path, opening.device)
    config = opening.read_config() if opening.config else described(path)

    def probe(size: tuple[int, int]) -> tuple[list[str], tuple[np.ndarray, ...]]:
        with ended_after(FIRST_ANSWER, path) as options:
            return graph.names, graph(np.zeros((1, 3, *size), np.float32), options)

    facts = facts_of(
        probe, config, graph.size, opening.stated, graph.last, graph.assumed, raw=graph.whole_numbers
    )
    return OnnxModel(graph, facts), None


class Graph:
    """An ONNX graph as a function of numpy arrays.

    Args:
        path: the file.
        device: ``cuda`` uses onnxruntime's CUDA provider where it is installed.

    Attributes:
        names: of its outputs.
        size: (height, width) it takes; (0, 0) when the graph leaves them open.
        last: it takes [N, H, W, C], as exports from TensorFlow do.
        grey: it takes one channel.
        whole_numbers: it takes integers.
        assumed: what its input leaves open, for people.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        import onnxruntime

        wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        if wanted not in onnxruntime.get_available_providers():
            raise ValueError(f"device {device!r}: this onnxruntime has no {wanted}; use cpu")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = (
            4  # what it raises says the same; its log repeats names of the file as they are
        )
        check_sizes(path)
        with _one_sentence(path):
            self.session = onnxruntime.InferenceSession(str(path), options, providers=[wanted])
        self.path = path
        self.names = [output.name for output in self.session.get_outputs()]
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) != 4:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise NotAvailable(
                f"{path.name}: expected one image [N, 3, H, W] of numbers as input, it takes {found}"
            )
        self.input, shape = inputs[0], inputs[0].shape
        self.type = _TYPES[self.input.type]
        self.whole_numbers = np.issubdtype(self.type, np.integer)
        self.last = shape[3] in (1, 3) and shape[1] not in (1, 3)
        channels = shape[3] if self.last else shape[1]
        if isinstance(channels, int) and channels not in (1, 3):
            raise NotAvailable(f"{path.name}: expected an image of 3 channels or 1, it takes {shape}")
        self.grey = channels == 1
        sides = shape[1:3] if self.last else shape[2:4]
        self.size: tuple[int, int] = tuple(s if isinstance(s, int) and s > 0 else 0 for s in sides)  # type: ignore[assignment]
        if 0 in self.size:
            self.size = (0, 0)
        # A graph of a fixed batch takes so many samples at a time, no more and no fewer.
        self.batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else 0
        self.assumed = [
            *(["one channel: grey values of the normalised crop assumed"] if self.grey else []),
            *(["whole numbers: raw pixels 0..255 assumed"] if self.whole_numbers else []),
        ]

    def __call__(self, pixels: Float[np.ndarray, "N 3 H W"], options: Any = None) -> tuple[np.ndarray, ...]:
        """All outputs of the graph, as float32.

        Args:
            pixels: crops, as `prepare` makes them.
            options: onnxruntime's RunOptions.

        Raises:
            ValueError: onnxruntime refuses them.
        """
        array = np.tensordot(pixels, GREY, (1, 0))[:, None].astype(np.float32) if self.grey else pixels
        array = array.transpose(0, 2, 3, 1) if self.last else array
        if self.whole_numbers:
            limits = np.iinfo(self.type)
            array = np.rint(array).clip(limits.min, limits.max)
        array = np.ascontiguousarray(array, self.type)
        count = len(array)
        if self.batch and count % self.batch:
            # The last call is filled up with its last sample, and what that gives is cut off.
            array = np.concatenate([array, np.repeat(array[-1:], -count % self.batch, axis=0)])
        calls: list[Any] = np.split(array, len(array) // self.batch) if self.batch else [array]
        with _one_sentence(self.path):
            given = [self.session.run(None, {self.input.name: one}, options) for one in calls]
        return tuple(
            np.concatenate(parts)[:count].astype(np.float32, copy=False) for parts in zip(*given, strict=True)
        )


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A PoseModel around an ONNX graph; from samples to keypoints it needs no torch.

    Attributes:
        graph: called with numpy arrays; of an ONNX file, or of another format with the same manners.
        facts: how it is fed and read.
    """

    graph: Callable[[Float[np.ndarray, "N 3 H W"]], tuple[np.ndarray, ...]]
    facts: Facts

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints in the order of the graph's channels."""
        return self.facts.skeleton

    @property
    def codec(self) -> Codec:
        """How coordinates stand in its outputs."""
        return self.facts.codec

    @property
    def taps(self) -> NoTaps:
        """None: a graph has no named parts."""
        return NoTaps(_NO_TAPS)

    @property
    def note(self) -> str:
        """What had to be assumed to open it."""
        return self.facts.note

    @property
    def padding(self) -> float:
        """Factor on the box before it is cropped."""
        return self.facts.padding

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the crops."""
        return self.facts.input_size

    @property
    def module(self) -> nn.Module:
        """The graph called as a torch module."""
        return self._as_tensors.module

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Crops around the boxes, normalised; see TopDown."""
        return self._as_tensors.prepare(samples)

    def forward(self, batch: Batch) -> Outputs:
        """The graph's outputs as tensors."""
        return self._as_tensors.forward(batch)

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Keypoints in image pixels; nan where the graph gave none.

        Args:
            outputs: of `forward`.
            batch: that was passed.
            options: decoder and score; the codec's by default.
        """
        return self._as_tensors.decode(outputs, batch, options)

    def answer(
        self, samples: Sequence[Sample], options: DecodeOptions, flip: bool = False
    ) -> tuple[Prediction, ...]:
        """Keypoints of samples without torch, equal to those of workbench.core.run.

        Args:
            samples: with boxes in image pixels.
            options: decoder and score; the codec's by default.
            flip: average with the mirrored crops.

        Raises:
            ValueError: a box has no size, outputs that cannot be read, or no mirror pairs to flip with.
        """
        facts, udp = self.facts, self.codec.udp
        if flip and (why := no_mirror(self.skeleton)):
            raise ValueError(why)
        pixels, affines = cropped(samples, facts.input_size, facts.padding, udp, udp, facts.bgr)
        mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in (facts.mean, facts.std))
        channels_first = pixels.transpose(0, 3, 1, 2)
        # In the order that the graph reads: numpy's own choice is copied once more, at six times the cost.
        planes = np.subtract(channels_first, mean, out=np.empty(channels_first.shape, np.float32))
        planes /= std
        outputs = facts.roles.outputs(self.graph(planes))
        if flip:
            back = facts.roles.outputs(self.graph(mirrored(planes)))
            outputs = average_with_flip(outputs, back, self.skeleton.mirror)
        points, scores = decode(outputs, self.codec, options)
        return placed(points, scores, samples, affines, self.skeleton)

    @cached_property
    def _as_tensors(self) -> TopDown:
        facts = self.facts
        module = as_module(self.graph)
        return facts.top_down(
            module, lambda pixels: facts.roles.outputs(module(pixels)), taps=self.taps, device="cpu"
        )


def as_module(graph: Callable[[np.ndarray], tuple[np.ndarray, ...]]) -> nn.Module:
    """A graph called as a torch module; its tensors stay on the CPU."""
    import torch
    from torch import nn

    class Module(nn.Module):
        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(array) for array in graph(pixels.cpu().numpy()))

    return Module()


@contextlib.contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Tell onnxruntime's own exceptions, which share no base but Exception, as a user's mistake."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = (
        "EPFail",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "ModelLoadCanceled",
        "ModelLoaded",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    refusals = tuple(getattr(state, name) for name in names if hasattr(state, name))
    try:
        yield
    except (*refusals, RuntimeError) as error:
        raise ValueError(f"{path.name}: onnxruntime refuses it: {reason(error)}") from None


FAMILY = Family(
    name="onnx",
    summary="an ONNX file with heatmap or SimCC outputs",
    load=load,
    opens=lambda opening: opening.required().container.lower().startswith("onnx"),
    leaves_open=FACTS_LEFT_OPEN,
    needs_torch=False,
)
