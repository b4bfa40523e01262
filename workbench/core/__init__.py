"""The nouns of the workbench: frozen records with no behaviour beyond checks and views.

Axis letters, everywhere: N samples, K keypoints, C channels, H W image or input pixels, h w
heatmap cells. Points are (x, y), sizes are (height, width), boxes are (x0, y0, x1, y1).
Pixel centres are integers: the centre of the top-left pixel is (0, 0). Images are RGB uint8.
Unknown numbers are nan, never a sentinel such as -1.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.core.capabilities import Answers, Conditioned, Groups
    from workbench.core.errors import NotAvailable, PartMissing, ReadingNote, nearest, reason
    from workbench.core.model import FLIP_BY_DEFAULT, DecodeOptions, Outputs, Passed, PoseModel, Prediction
    from workbench.core.run import Run
    from workbench.core.sample import NAN, Batch, Codec, Sample, Skeleton, checked_area

__all__ = [
    "FLIP_BY_DEFAULT",
    "NAN",
    "Answers",
    "Batch",
    "Codec",
    "Conditioned",
    "DecodeOptions",
    "Groups",
    "NotAvailable",
    "Outputs",
    "PartMissing",
    "Passed",
    "PoseModel",
    "Prediction",
    "ReadingNote",
    "Run",
    "Sample",
    "Skeleton",
    "checked_area",
    "nearest",
    "reason",
]

# Imported when they are asked for: help and errors need none of them, and no numpy.
_LATER = {
    "Answers": "capabilities",
    "Conditioned": "capabilities",
    "Groups": "capabilities",
    "NotAvailable": "errors",
    "PartMissing": "errors",
    "ReadingNote": "errors",
    "nearest": "errors",
    "reason": "errors",
    "FLIP_BY_DEFAULT": "model",
    "DecodeOptions": "model",
    "Outputs": "model",
    "Passed": "model",
    "PoseModel": "model",
    "Prediction": "model",
    "Run": "run",
    "NAN": "sample",
    "Batch": "sample",
    "Codec": "sample",
    "Sample": "sample",
    "Skeleton": "sample",
    "checked_area": "sample",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
