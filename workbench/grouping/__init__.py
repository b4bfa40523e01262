"""Which keypoint belongs to whom? Associative embedding: detections with near tags make a person.

Source: Newell et al., Associative Embedding, NeurIPS 2017; HRNet/HigherHRNet-Human-Pose-Estimation.
"""

from __future__ import annotations

from workbench.grouping.detections import Detections, detect
from workbench.grouping.protocol import group
from workbench.grouping.records import Grouping, JointStep
from workbench.grouping.settings import HIGHERHRNET, MMPOSE, MMPOSE_UDP, RULES, GroupingSettings, TagLayout

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
