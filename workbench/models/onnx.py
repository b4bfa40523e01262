"""Family onnx: a file with heatmap or SimCC outputs, run by onnxruntime; torch is needed for tensors only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, Codec, DecodeOptions, NotAvailable, Outputs, Prediction, Sample, Skeleton
from workbench.core.flip import average_with_flip, mirrored, no_mirror
from workbench.core.onnx_graph import TYPES, joined, output_names, outputs, session
from workbench.decoding import decode
from workbench.models.exported import FACTS_LEFT_OPEN, GREY, Facts, NoTaps, described, facts_of
from workbench.models.families import Family
from workbench.models.opening import Opening
from workbench.models.top_down import TopDown, cropped, placed

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


_NO_TAPS = (
    "an ONNX file is one graph without named modules; convert nothing, open the checkpoint it came from"
)


def load(opening: Opening) -> tuple[OnnxModel, None]:
    """The file's graph as a model; the file is the model, so there is no load report.

    Raises:
        NotAvailable: it takes or gives something else than one image and maps or SimCC.
        ValueError: onnxruntime refuses it.
    """
    return model_of(Graph(opening.required().path, opening.device), opening), None


def model_of(graph: Any, opening: Opening) -> OnnxModel:
    """The model of a graph that is a function of arrays: its outputs' roles, and what people stated.

    Args:
        graph: has the members of `Graph`.
        opening: of its file.

    Raises:
        NotAvailable: it takes or gives something else than one image and maps or SimCC.
    """
    config = opening.read_config() if opening.config else described(opening.required().path)

    def probe(size: tuple[int, int]) -> tuple[list[str], tuple[np.ndarray, ...]]:
        return graph.names, graph(np.zeros((1, 3, *size), np.float32))

    facts = facts_of(
        probe, config, graph.size, opening.stated, graph.last, graph.assumed, raw=graph.whole_numbers
    )
    return OnnxModel(graph, facts)


class Graph:
    """An ONNX graph as a function of numpy arrays.

    Args:
        path: the file.
        device: ``cuda`` uses onnxruntime's CUDA provider where it is installed.

    Attributes:
        names: of its outputs that are tensors of numbers.
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
        self.session = session(path, wanted)
        self.path = path
        self.names = output_names(self.session, path)
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in TYPES or len(inputs[0].shape) != 4:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise NotAvailable(
                f"{path.name}: expected one image [N, 3, H, W] of numbers as input, it takes {found}"
            )
        self.input, shape = inputs[0], inputs[0].shape
        self.type = TYPES[self.input.type]
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

    def __call__(self, pixels: Float[np.ndarray, "N 3 H W"]) -> tuple[np.ndarray, ...]:
        """The outputs of the graph that `names` lists, as float32.

        Args:
            pixels: crops, as `prepare` makes them.

        Raises:
            ValueError: onnxruntime refuses them, or takes too long.
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
        given = [outputs(self.session, self.path, {self.input.name: one}) for one in calls]
        whole = (joined(parts).astype(np.float32, copy=False) for parts in zip(*given, strict=True))
        return tuple(one[:count] if self.batch and one.ndim else one for one in whole)


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A PoseModel around an ONNX graph; from samples to keypoints it needs no torch.

    Attributes:
        graph: called with numpy arrays; of an ONNX file, or of another format with the same interface.
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
        outputs = facts.roles.outputs(self.graph(planes), len(planes))
        if flip:
            back = facts.roles.outputs(self.graph(mirrored(planes)), len(planes))
            outputs = average_with_flip(outputs, back, self.skeleton.mirror)
        points, scores = decode(outputs, self.codec, options)
        return placed(points, scores, samples, affines, self.skeleton)

    @cached_property
    def _as_tensors(self) -> TopDown:
        facts = self.facts
        module = as_module(self.graph)
        return facts.top_down(
            module,
            lambda pixels: facts.roles.outputs(module(pixels), len(pixels)),
            taps=self.taps,
            device="cpu",
        )


def as_module(graph: Callable[[np.ndarray], tuple[np.ndarray, ...]]) -> nn.Module:
    """A graph called as a torch module with pixels [N, C, H, W]; its tensors stay on the CPU."""
    import torch
    from torch import nn

    class Module(nn.Module):
        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(array) for array in graph(pixels.cpu().numpy()))

    return Module()


FAMILY = Family(
    name="onnx",
    summary="an ONNX file with heatmap or SimCC outputs",
    load=load,
    opens=lambda opening: opening.required().container.lower().startswith("onnx"),
    leaves_open=FACTS_LEFT_OPEN,
    needs_torch=False,
    file_is_model=True,
)
