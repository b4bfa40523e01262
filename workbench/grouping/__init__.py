"""Which keypoint belongs to whom? Associative embedding: detections with near tags make a person.

Source: Newell et al., Associative Embedding, NeurIPS 2017; HRNet/HigherHRNet-Human-Pose-Estimation.
"""

from __future__ import annotations

from workbench.grouping.records import Grouping, JointStep
from workbench.grouping.settings import HIGHERHRNET, MMPOSE, RULES, GroupingSettings, TagLayout

__all__ = ["HIGHERHRNET", "MMPOSE", "RULES", "Grouping", "GroupingSettings", "JointStep", "TagLayout"]
