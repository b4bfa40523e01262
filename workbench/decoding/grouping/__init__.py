"""Grouping of keypoints into people by associative embedding: detections with close tags form a person.

Source: Newell et al., Associative Embedding, NeurIPS 2017; HRNet/HigherHRNet-Human-Pose-Estimation.
"""

from __future__ import annotations

from workbench.decoding.grouping.algorithm import group
from workbench.decoding.grouping.assignment import Detections, Grouping, JointStep, detect
from workbench.decoding.grouping.settings import (
    HIGHERHRNET,
    MMPOSE,
    MMPOSE_UDP,
    RULES,
    GroupingSettings,
    TagLayout,
)

__all__ = [
    "HIGHERHRNET",
    "MMPOSE",
    "MMPOSE_UDP",
    "RULES",
    "Detections",
    "Grouping",
    "GroupingSettings",
    "JointStep",
    "TagLayout",
    "detect",
    "group",
]
