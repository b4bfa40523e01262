"""Family tflite: a TensorFlow Lite file with heatmap or SimCC outputs, run by ai-edge-litert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.job import current_checkpoint
from workbench.core.onnx_graph import joined
from workbench.models.exported import FACTS_LEFT_OPEN, GREY
from workbench.models.families import Family
from workbench.models.onnx import OnnxModel, model_of
from workbench.models.opening import Opening

if TYPE_CHECKING:
    from jaxtyping import Float


def load(opening: Opening) -> tuple[OnnxModel, None]:
    """The file's graph as a model; the file is the model, so there is no load report.

    Raises:
        NotAvailable: no package that runs such files is installed, or it takes or gives something else than
            one image and maps or SimCC.
        ValueError: the interpreter refuses it.
    """
    path = opening.required().path
    if opening.device != "cpu":
        raise ValueError(f"device {opening.device!r}: TensorFlow Lite files run on the cpu here")
    return model_of(Graph(path), opening), None


def interpreter_of(path: Path) -> Any:
    """An interpreter of the file.

    Raises:
        NotAvailable: neither ai-edge-litert nor tflite-runtime is installed.
        ValueError: it refuses the file.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise NotAvailable(
                f"{path.name}: running a TensorFlow Lite file needs the package ai-edge-litert (pip install "
                "ai-edge-litert) or tflite-runtime"
            ) from None
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path.name}: the TensorFlow Lite interpreter refuses it: {reason}") from None
    return interpreter


class Graph:
    """A TensorFlow Lite graph as a function of numpy arrays; quantised numbers are turned on the way.

    Args:
        path: the file.

    Attributes:
        names: of its outputs.
        size: (height, width) it takes.
        last: it takes [N, H, W, C].
        grey: it takes one channel.
        whole_numbers: it takes integers without a scale: raw pixels.
        assumed: what its input leaves open, for people.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.interpreter = interpreter_of(path)
        inputs, self.outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        self.names = [output["name"] for output in self.outputs]
        if len(inputs) != 1 or len(inputs[0]["shape"]) != 4 or not _is_number(inputs[0]["dtype"]):
            found = ", ".join(f"{i['name']} {i['dtype'].__name__} {list(i['shape'])}" for i in inputs)
            raise NotAvailable(
                f"{path.name}: expected one image [N, H, W, 3] of numbers as input, it takes {found}"
            )
        self.input = inputs[0]
        shape = [int(n) for n in self.input["shape"]]
        self.last = shape[3] in (1, 3)
        channels = shape[3] if self.last else shape[1]
        if channels not in (1, 3):
            raise NotAvailable(f"{path.name}: expected an image of 3 channels or 1, it takes {shape}")
        self.grey, self.batch = channels == 1, max(shape[0], 1)
        self.size = (shape[1], shape[2]) if self.last else (shape[2], shape[3])
        whole = np.issubdtype(self.input["dtype"], np.integer)
        self.whole_numbers = bool(whole and not self.input["quantization"][0])
        self.assumed = [
            *(["one channel: grey values of the normalised crop assumed"] if self.grey else []),
            *(["whole numbers: raw pixels 0..255 assumed"] if self.whole_numbers else []),
        ]

    def __call__(self, pixels: Float[np.ndarray, "N 3 H W"]) -> tuple[np.ndarray, ...]:
        """All outputs of the graph, as float32.

        Raises:
            ValueError: the interpreter refuses them.
        """
        array = np.tensordot(pixels, GREY, (1, 0))[:, None].astype(np.float32) if self.grey else pixels
        array = array.transpose(0, 2, 3, 1) if self.last else array
        array = _into(array, self.input)
        count = len(array)
        # A call takes so many samples, no more and no fewer; what fills up the last one is cut off.
        array = np.concatenate([array, np.repeat(array[-1:], -count % self.batch, axis=0)])
        given = [self._called(part) for part in np.split(array, len(array) // self.batch)]
        whole = (joined(parts) for parts in zip(*given, strict=True))
        return tuple(one[:count] if one.ndim else one for one in whole)

    def _called(self, array: np.ndarray) -> list[np.ndarray]:
        current_checkpoint()  # the interpreter cannot be stopped within a call: of one sample, mostly
        try:
            self.interpreter.set_tensor(self.input["index"], np.ascontiguousarray(array))
            self.interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.path.name}: the TensorFlow Lite interpreter stopped: {reason}") from None
        return [_out_of(self.interpreter.get_tensor(output["index"]), output) for output in self.outputs]


def _is_number(dtype: Any) -> bool:
    return np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)


def _into(array: np.ndarray, port: dict[str, Any]) -> np.ndarray:
    """Numbers as the input wants them.

    Source: TensorFlow Lite 8-bit quantization specification: real = (q - zero) * scale.
    """
    if not np.issubdtype(port["dtype"], np.integer):
        return array.astype(port["dtype"])
    scale, zero = port["quantization"]
    limits = np.iinfo(port["dtype"])
    array = array / scale + zero if scale else array
    return np.rint(array).clip(limits.min, limits.max).astype(port["dtype"])


def _out_of(array: np.ndarray, port: dict[str, Any]) -> np.ndarray:
    scale, zero = port["quantization"]
    array = array.astype(np.float32)
    return (array - zero) * np.float32(scale) if scale else array


FAMILY = Family(
    name="tflite",
    summary="a TensorFlow Lite file with heatmap or SimCC outputs; needs ai-edge-litert or tflite-runtime",
    load=load,
    opens=lambda opening: opening.required().container == "TensorFlow Lite",
    leaves_open=FACTS_LEFT_OPEN,
    needs_torch=False,
    file_is_model=True,
)
