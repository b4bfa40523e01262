"""What does an mmdet detector find? Only where mmdet is installed; the config is the user's own code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable
from workbench.core.geometry import Box
from workbench.data.detectors import boxes_in_image

if TYPE_CHECKING:
    from jaxtyping import UInt8


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
        # mmdet asks for the same compiled mmcv and torchvision as mmpose; the one file that knows helps both.
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
        kept = np.isin(found.labels.cpu().numpy(), self._labels) & (scores >= self._threshold)
        return boxes_in_image(boxes[kept], scores[kept], 1.0, image.shape)
