"""Family onnx: a file with heatmap or SimCC outputs, run by onnxruntime."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.models.exported import described, top_down
from workbench.models.opening import Opening
from workbench.models.top_down import TopDown
from workbench.records import NotAvailable

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def load(opening: Opening) -> tuple[TopDown, None]:
    """The file's graph as a model; the file is the model, so there is no load report.

    Raises:
        NotAvailable: it takes or gives something else than one image and maps or SimCC.
        ValueError: onnxruntime refuses it.
    """
    path = opening.required().path
    network = Graph(path, opening.device)
    config = opening.read_config() if opening.config else described(path)
    reason = (
        "an ONNX file is one graph without named modules; convert nothing, open the checkpoint it came from"
    )
    return top_down(network, reason, config, network.size), None


class Graph(nn.Module):
    """An ONNX graph called as a torch module; its tensors stay on the CPU.

    Args:
        path: the file.
        device: ``cuda`` uses onnxruntime's CUDA provider where it is installed.

    Attributes:
        size: (height, width) it takes; (0, 0) when the graph leaves them open.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        import onnxruntime

        super().__init__()
        wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        if wanted not in onnxruntime.get_available_providers():
            raise ValueError(f"device {device!r}: this onnxruntime has no {wanted}; use cpu")
        with _one_sentence(path):
            self.session = onnxruntime.InferenceSession(str(path), providers=[wanted])
        self.path = path
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) != 4:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise NotAvailable(
                f"{path.name}: expected one image [N, 3, H, W] of floats as input, it takes {found}"
            )
        self.input, shape = inputs[0], inputs[0].shape
        # Exports from TensorFlow keep channels last.
        self.last = shape[3] == 3 and shape[1] != 3
        sides = shape[1:3] if self.last else shape[2:4]
        self.size: tuple[int, int] = tuple(s if isinstance(s, int) and s > 0 else 0 for s in sides)  # type: ignore[assignment]
        if 0 in self.size:
            self.size = (0, 0)
        # A graph of a fixed batch takes so many samples at a time, no more and no fewer.
        self.batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else 0

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """All outputs of the graph, as float32."""
        batch = pixels.permute(0, 2, 3, 1) if self.last else pixels
        array = np.ascontiguousarray(batch.cpu().numpy().astype(_TYPES[self.input.type]))
        count = len(array)
        if self.batch and count % self.batch:
            # The last call is filled up with its last sample, and what that gives is cut off.
            array = np.concatenate([array, np.repeat(array[-1:], -count % self.batch, axis=0)])
        calls: list[Any] = np.split(array, len(array) // self.batch) if self.batch else [array]
        with _one_sentence(self.path):
            given = [self.session.run(None, {self.input.name: one}) for one in calls]
        return tuple(
            torch.from_numpy(np.concatenate(parts)[:count]).float() for parts in zip(*given, strict=True)
        )


@contextlib.contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Tell onnxruntime's own exceptions, which share no base but Exception, as a user's mistake."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NotImplemented",
        "RuntimeException",
    )
    try:
        yield
    except tuple(getattr(state, name) for name in names) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{path.name}: onnxruntime refuses it: {said}") from None
