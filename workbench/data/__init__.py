"""Keypoint data sets, images and boxes: where samples come from.

`read_coco` reads a user's file, `builtin` the sets that come along; both give a `PoseSet`, whose samples
are read when asked for.
"""

from __future__ import annotations

from workbench.data.builtin import BUILTIN, DESCRIPTIONS, builtin, cache_folder
from workbench.data.coco import read_coco
from workbench.data.facts import DataFacts, data_facts
from workbench.data.opening import export, open_data
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
