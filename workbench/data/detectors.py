"""Object detectors that give bounding boxes: ONNX exports of RTMDet and YOLOX, or an mmdet config.

A detector is called with an RGB image and returns boxes with scores, best first. Assumptions about the file
(preprocessing, meaning of its outputs) stand in its `title`, because an ONNX file does not state them.

ONNX files are read as mmdeploy exports RTMDet and YOLOX, and as YOLOX exports itself. Two forms of output are
read: ``dets`` [1, N, 5] with ``labels`` [1, N], with suppression inside the graph; and raw rows
[1, A, 5 + classes]. RTMDet expects BGR with ImageNet mean and deviation, YOLOX plain BGR. The first operation
of the graph tells them apart: YOLOX slices the image into four.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from workbench.core import NotAvailable, Skeleton
from workbench.core.geometry import Box
from workbench.core.onnx_graph import output_names, session
from workbench.core.onnx_graph import outputs as answers
from workbench.core.onnx_messages import read_graph
from workbench.core.report import counted
from workbench.data.boxes import without_overlaps

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8


# mmpose's own demos drop boxes below .3 and merge those that overlap by more than .3.
THRESHOLD = 0.3
OVERLAP = 0.3

PERSON = (0,)
"""Label of people for detectors trained on COCO, and of the one class of others."""
COCO_ANIMALS = tuple(range(14, 24))
"""Labels of bird, cat, dog, horse, sheep, cow, elephant, bear, zebra and giraffe, of 80 COCO classes."""


def labels_for(skeleton: Skeleton) -> tuple[int, ...]:
    """The classes, of COCO's 80, that have the keypoints of a skeleton.

    People for skeletons of people, animals for those of animals, and both for unknown skeletons. One-class
    detectors use class 0 for any object.
    """
    if skeleton.name.startswith(("ap10k", "animalpose")):
        return COCO_ANIMALS
    return (*PERSON, *COCO_ANIMALS) if skeleton.name.startswith("own") else PERSON


class Detector(Protocol):
    """Finds boxes in an image.

    Attributes:
        title: file, kind, and what was assumed about it; for protocols and reports.
    """

    title: str

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> list[tuple[Box, float]]:
        """Boxes (x0, y0, x1, y1) in image pixels, inside the image, with scores; best first."""
        ...


def open_detector(
    path: Path | str,
    labels: Sequence[int] = PERSON,
    threshold: float = THRESHOLD,
    kind: str = "auto",
    overlap: float = OVERLAP,
) -> Detector:
    """A detector from a file.

    Args:
        path: an .onnx file, or an mmdet config (.py; it is executed, so use only your own) that names its
            weights under ``load_from``.
        labels: classes to keep; see `labels_for`.
        threshold: smallest score to keep.
        kind: ``rtmdet``, ``yolox``, or ``auto`` to recognise it from the graph.
        overlap: IoU of non-maximum suppression, for files without suppression of their own.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no supported detector.
        NotAvailable: an mmdet config, and mmdet is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such detector file")
    if kind not in ("auto", "rtmdet", "yolox"):
        raise ValueError(f"detector: expected kind auto, rtmdet or yolox, got {kind!r}")
    if path.suffix == ".py":
        return MMDetDetector(path, tuple(labels), threshold)
    if path.suffix == ".onnx":
        return OnnxDetector(path, tuple(labels), threshold, kind, overlap)
    raise ValueError(f"{path.name}: expected an .onnx file or an mmdet config (.py)")


# The grey that RTMDet and YOLOX were trained with around their images.
_GREY = 114


def letterboxed(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """The image scaled into the top left corner of a grey frame.

    Args:
        image: RGB.
        size: (height, width) of the frame.

    Returns:
        The frame, and the scale factor.
    """
    import cv2

    ratio = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = max(int(image.shape[0] * ratio), 1), max(int(image.shape[1] * ratio), 1)
    framed = np.full((*size, 3), _GREY, np.uint8)
    framed[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return framed, ratio


# Each box costs a forward pass. Detectors give at most some hundred, crowds of 437 people are known.
MOST_BOXES = 2000


def boxes_in_image(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"], ratio: float, shape: tuple[int, ...]
) -> list[tuple[Box, float]]:
    """Boxes of the frame as boxes in image pixels, clipped, best first; boxes without area are left out.

    Args:
        boxes: (x0, y0, x1, y1) in pixels of the frame.
        scores: of the boxes.
        ratio: scale factor of `letterboxed`.
        shape: of the image, height first.

    Raises:
        ValueError: there are more than `MOST_BOXES`.
    """
    if len(boxes) > MOST_BOXES:
        raise ValueError(
            f"detector: {counted(len(boxes), 'box', 'boxes', spec=',')} in one image reach the score; "
            f"expected at most {MOST_BOXES:,}; raise --box-score, or export the detector with its "
            "suppression of overlapping boxes"
        )
    boxes = np.asarray(boxes, float) / ratio
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, shape[1])
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, shape[0])
    found = []
    for i in np.argsort(-np.asarray(scores, float), kind="stable"):
        x0, y0, x1, y1 = (float(v) for v in boxes[i])
        if x1 > x0 and y1 > y0:
            found.append(((x0, y0, x1, y1), float(scores[i])))
    return found


STRIDES = (8, 16, 32)
"""Pixels per cell of the three grids, in the order of the rows; within a grid, x runs fastest."""


def boxes_of_rows(
    rows: Float[np.ndarray, "A V"],
    size: tuple[int, int],
    labels: tuple[int, ...],
    threshold: float,
    overlap: float,
) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Boxes (x0, y0, x1, y1) in input pixels, their scores and labels, suppressed class by class.

    Rows hold x, y, width, height, objectness and one score per class, both already in 0..1. Exports with
    YOLOX's ``--decode_in_inference`` give pixels; others give offsets within the cell and logarithms of the
    size, both in strides, which the negative numbers among the sizes give away.

    Raises:
        ValueError: the number of rows is not that of the grids.
    """
    cells = [(size[0] // stride, size[1] // stride, stride) for stride in STRIDES]
    count = sum(h * w for h, w, _ in cells)
    if len(rows) != count:
        raise ValueError(
            f"detector: expected {counted(count, 'row')} for {size[0]} x {size[1]} pixels at strides "
            f"{STRIDES}, got {len(rows)}"
        )
    centre, extent = rows[:, :2].astype(float), rows[:, 2:4].astype(float)
    if (extent <= 0).any():
        grids = [np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).reshape(-1, 2) for h, w, _ in cells]
        stride = np.concatenate([np.full((h * w, 1), s) for h, w, s in cells])
        centre, extent = (centre + np.concatenate(grids)) * stride, np.exp(extent) * stride
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], 1)
    found: list[tuple[int, int]] = []
    for label in labels:
        if not 0 <= label < rows.shape[1] - 5:
            continue
        scores = rows[:, 4] * rows[:, 5 + label]
        likely = np.flatnonzero(scores >= threshold)
        chosen = without_overlaps(boxes[likely], scores[likely], overlap)
        found += [(int(likely[i]), label) for i in chosen]
    index = np.array([i for i, _ in found], int)
    label_of = np.array([label for _, label in found], int)
    return boxes[index], rows[index, 4] * rows[index, 5 + label_of], label_of


# Source: configs/rtmdet of mmdetection 3, data_preprocessor; order B, G, R.
_MEAN = np.array([103.53, 116.28, 123.675], np.float32)
_DEVIATION = np.array([57.375, 57.12, 58.395], np.float32)
# Exports with dynamic axes work at any size; both families were trained at this one.
_DEFAULT_SIZE = 640


class OnnxDetector:
    """A detector in an ONNX file, run by onnxruntime on the CPU.

    Raises:
        ValueError: the file is no ONNX graph, or its inputs and outputs are no detector's.
    """

    def __init__(
        self, path: Path, labels: tuple[int, ...], threshold: float, kind: str, overlap: float
    ) -> None:
        self._session = session(path)
        self._path, self._labels, self._threshold, self._overlap = path, labels, threshold, overlap
        inputs = self._session.get_inputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            shapes = [i.shape for i in inputs]
            raise ValueError(f"{path.name}: expected one image input [1, 3, H, W], got {shapes}")
        self._input = inputs[0].name
        height, width = (v if isinstance(v, int) and v > 0 else _DEFAULT_SIZE for v in shape[2:])
        self.size = (height, width)
        self._outputs = output_names(self._session, path)
        self.kind = self._recognised() if kind == "auto" else kind
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
        outputs = dict(zip(self._outputs, answers(self._session, self._path, fed), strict=True))
        boxes, scores, labels = self._read(outputs)
        wanted = np.isin(labels, self._labels) & (scores >= self._threshold)
        return boxes_in_image(boxes[wanted], scores[wanted], ratio, image.shape)

    def _recognised(self) -> str:
        """``rtmdet`` or ``yolox``, from the graph."""
        if len(self._outputs) == 1 and len(self._session.get_outputs()[0].shape) == 3:
            last = self._session.get_outputs()[0].shape[-1]
            if last != 5:
                return "yolox"
        graph = read_graph(self._path).graph
        first = {node.op_type for node in graph.node if self._input in node.input}
        return "yolox" if "Slice" in first else "rtmdet"

    def _read(self, outputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes in input pixels, scores and labels, from either form of output."""
        arrays = list(outputs.values())
        dets = outputs.get("dets", arrays[0])
        if len(arrays) == 1 and dets.ndim == 3 and dets.shape[-1] > 5:
            return boxes_of_rows(dets[0], self.size, self._labels, self._threshold, self._overlap)
        others = [array for name, array in outputs.items() if array is not dets and array.ndim == 2]
        labels = outputs.get("labels", others[0] if others else None)
        fitting = labels is None or labels.shape == dets.shape[:2]
        if dets.ndim != 3 or dets.shape[0] != 1 or dets.shape[-1] != 5 or not fitting:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
            raise ValueError(
                f"{self._path.name}: expected dets [1, N, 5] with labels [1, N], or rows [1, A, 5 + classes]"
                f" of a detector; got {shapes}"
            )
        # One-class exports may omit the labels.
        found = np.zeros(dets.shape[1], int) if labels is None else labels[0].astype(int)
        return dets[0, :, :4], dets[0, :, 4], found


class MMDetDetector:
    """A detector built by mmdet from a config that names its weights under ``load_from``.

    Raises:
        NotAvailable: mmdet is not installed, or the detector needs compiled operations that mmcv-lite lacks.
        ValueError: the config names no weights.
    """

    def __init__(self, config: Path, labels: tuple[int, ...], threshold: float) -> None:
        if importlib.util.find_spec("mmdet") is None:
            raise NotAvailable(
                f"{config.name} is an mmdet config, and mmdet is not installed:"
                " `pip install mmdet`, or give the detector as an ONNX file"
            )
        # mmdet needs the same compiled mmcv and torchvision as mmpose; mmpose_compat replaces them for both.
        from workbench.models.mmpose_compat import install

        install()
        from mmdet.apis import init_detector  # type: ignore[import-not-found]
        from mmengine.config import Config

        weights = Config.fromfile(str(config)).get("load_from")
        if not weights:
            raise ValueError(
                f"{config.name}: expected load_from = 'weights.pth', so that the detector has weights"
            )
        self._model = init_detector(str(config), weights, device="cpu")
        self._labels, self._threshold = labels, threshold
        self.title = f"{config.name} (mmdet, score >= {threshold:g}, labels {', '.join(map(str, labels))})"

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> list[tuple[Box, float]]:
        from mmdet.apis import inference_detector  # type: ignore[import-not-found]

        try:
            found = inference_detector(self._model, np.ascontiguousarray(image[..., ::-1])).pred_instances
        except NotImplementedError as missing:
            raise NotAvailable(f"{self.title}: {missing}; or give the detector as an ONNX file") from None
        boxes, scores = found.bboxes.cpu().numpy(), found.scores.cpu().numpy()
        wanted = np.isin(found.labels.cpu().numpy(), self._labels) & (scores >= self._threshold)
        return boxes_in_image(boxes[wanted], scores[wanted], 1.0, image.shape)
