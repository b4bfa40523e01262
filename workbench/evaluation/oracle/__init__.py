"""Oracle: where is AP lost? Parts of the pipeline replaced by ground truth one by one."""

from __future__ import annotations

from workbench.evaluation.oracle.bottom_up import people_waterfall
from workbench.evaluation.oracle.top_down import crops_waterfall
from workbench.evaluation.oracle.waterfall import Step, Waterfall

__all__ = ["Step", "Waterfall", "crops_waterfall", "people_waterfall"]
