"""What does an ONNX detector find? Files as mmdeploy exports RTMDet and YOLOX, and as YOLOX exports itself.

Two forms of output are read: ``dets`` [1, N, 5] with ``labels`` [1, N], where suppression is inside the
graph; and one [1, A, 5 + classes] of raw rows (workbench.data.detectors). RTMDet wants BGR with
ImageNet mean and deviation, YOLOX plain BGR. Nothing in the file says which, but the graph's first step
does: YOLOX starts by slicing the image into four.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import reason
from workbench.core.geometry import Box
from workbench.data.detectors import boxes_in_image, boxes_of_rows, letterboxed

if TYPE_CHECKING:
    from jaxtyping import UInt8

# Source: configs/rtmdet of mmdetection 3, data_preprocessor; order B, G, R.
_MEAN = np.array([103.53, 116.28, 123.675], np.float32)
_DEVIATION = np.array([57.375, 57.12, 58.395], np.float32)
# Exports with free axes work at any size; this is the one both families were trained at.
_USUAL_SIZE = 640


class OnnxDetector:
    """A detector in an ONNX file, run by onnxruntime on the CPU.

    Raises:
        ValueError: the file is no ONNX graph, or its inputs and outputs are no detector's.
    """

    def __init__(
        self, path: Path, labels: tuple[int, ...], threshold: float, kind: str, overlap: float
    ) -> None:
        self._session = _session(path)
        self._path, self._labels, self._threshold, self._overlap = path, labels, threshold, overlap
        inputs = self._session.get_inputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            shapes = [i.shape for i in inputs]
            raise ValueError(f"{path.name}: expected one image input [1, 3, H, W], got {shapes}")
        self._input = inputs[0].name
        height, width = (v if isinstance(v, int) and v > 0 else _USUAL_SIZE for v in shape[2:])
        self.size = (height, width)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.kind = self._told() if kind == "auto" else kind
        assumed = "BGR, ImageNet mean and deviation" if self.kind == "rtmdet" else "plain BGR"
        self.title = (
            f"{path.name} ({self.kind}: {assumed}, {height} x {width}, score >= {threshold:g},"
            f" labels {', '.join(map(str, labels))})"
        )

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> list[tuple[Box, float]]:
        framed, ratio = letterboxed(image, self.size)
        pixels = framed[..., ::-1].astype(np.float32)
        if self.kind == "rtmdet":
            pixels = (pixels - _MEAN) / _DEVIATION
        fed = {self._input: np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])}
        outputs = dict(zip(self._outputs, self._session.run(None, fed), strict=True))
        boxes, scores, labels = self._read(outputs)
        kept = np.isin(labels, self._labels) & (scores >= self._threshold)
        return boxes_in_image(boxes[kept], scores[kept], ratio, image.shape)

    def _told(self) -> str:
        """Rtmdet or yolox, from the graph."""
        if len(self._outputs) == 1 and len(self._session.get_outputs()[0].shape) == 3:
            last = self._session.get_outputs()[0].shape[-1]
            if last != 5:
                return "yolox"
        import onnx

        graph = onnx.load(str(self._path), load_external_data=False).graph
        first = {node.op_type for node in graph.node if self._input in node.input}
        return "yolox" if "Slice" in first else "rtmdet"

    def _read(self, outputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes in input pixels, scores and labels, from either form of output."""
        arrays = list(outputs.values())
        dets = outputs.get("dets", arrays[0])
        if len(arrays) == 1 and dets.ndim == 3 and dets.shape[-1] > 5:
            return boxes_of_rows(dets[0], self.size, self._labels, self._threshold, self._overlap)
        if dets.ndim != 3 or dets.shape[-1] != 5:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
            raise ValueError(
                f"{self._path.name}: expected dets [1, N, 5] with labels [1, N], or rows [1, A, 5 + classes]"
                f" of a detector; got {shapes}"
            )
        others = [array for name, array in outputs.items() if array is not dets and array.ndim == 2]
        labels = outputs.get("labels", others[0] if others else None)
        # One-class exports may leave the labels out.
        found = np.zeros(dets.shape[1], int) if labels is None else np.asarray(labels)[0].astype(int)
        return dets[0, :, :4], dets[0, :, 4], found


def _session(path: Path) -> Any:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[attr-defined]

    # onnxruntime's exceptions share no base of their own; these are the ones that bad files raise.
    refusals = (
        state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile,
        state.NotImplemented, state.RuntimeException, RuntimeError,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.log_severity_level = (
        4  # what it raises says the same; its log repeats names of the file as they are
    )
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except refusals as error:
        raise ValueError(
            f"{path.name}: expected an ONNX graph that onnxruntime can run: {reason(error)}"
        ) from None
