"""Which boxes does a detector find? ONNX exports of RTMDet and YOLOX, or an mmdet config.

A detector is called with an RGB image and gives boxes with scores, best first. What was assumed about the
file (how pixels are prepared, what its outputs mean) is in its `title`, because nothing in an ONNX file
says it outright.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from workbench.core import Skeleton
from workbench.core.geometry import Box

if TYPE_CHECKING:
    from jaxtyping import UInt8

# mmpose's own demos drop boxes below .3 and merge those that overlap by more than .3.
THRESHOLD = 0.3
OVERLAP = 0.3

PERSON = (0,)
"""Label of people for detectors trained on COCO, and of the one class of others."""
COCO_ANIMALS = tuple(range(14, 24))
"""Labels of bird, cat, dog, horse, sheep, cow, elephant, bear, zebra and giraffe, of 80 COCO classes."""


def labels_for(skeleton: Skeleton) -> tuple[int, ...]:
    """The labels that a detector trained on COCO's 80 classes gives to what a skeleton belongs to.

    People for skeletons of people, animals for those of animals, and both for skeletons of one's own, of
    which nobody knows whom they belong to. One-class detectors call their class 0 whatever it is.
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
        path: an .onnx file, or an mmdet config (.py; your own code, which is run) that names its weights
            under ``load_from``.
        labels: classes to keep; see `labels_for`.
        threshold: least score to keep.
        kind: ``rtmdet``, ``yolox``, or ``auto`` to tell them apart by the graph.
        overlap: IoU above which the weaker of two boxes is dropped, where the file does not do so itself.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no detector that is known here.
        NotAvailable: an mmdet config, and mmdet is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such detector file")
    if kind not in ("auto", "rtmdet", "yolox"):
        raise ValueError(f"detector: expected kind auto, rtmdet or yolox, got {kind!r}")
    if path.suffix == ".py":
        from workbench.data.detectors import MMDetDetector

        return MMDetDetector(path, tuple(labels), threshold)
    if path.suffix == ".onnx":
        from workbench.data.detectors import OnnxDetector

        return OnnxDetector(path, tuple(labels), threshold, kind, overlap)
    raise ValueError(f"{path.name}: expected an .onnx file or an mmdet config (.py)")
