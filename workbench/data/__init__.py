"""Keypoint data sets, images, video, boxes and detectors: where samples come from.

`open_data` opens a built-in set by name or a COCO-format json by path; `read_coco` and `builtin` are its two
parts. All give a `PoseSet`, which reads an image only when a sample is requested.
"""

from __future__ import annotations

from workbench.data.coco import read_coco
from workbench.data.facts import DataFacts, data_facts
from workbench.data.opening import BUILTIN, DESCRIPTIONS, builtin, cache_folder, export, open_data
from workbench.data.pose_set import (
    ImageRecord,
    Instance,
    PoseSet,
    check_images,
    missing_images,
    with_present_images,
)

__all__ = [
    "BUILTIN",
    "DESCRIPTIONS",
    "DataFacts",
    "ImageRecord",
    "Instance",
    "PoseSet",
    "builtin",
    "cache_folder",
    "check_images",
    "data_facts",
    "export",
    "missing_images",
    "open_data",
    "read_coco",
    "with_present_images",
]
