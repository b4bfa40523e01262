"""Where is AP lost? Parts of the way from image to scored people, replaced by the truth one by one."""

from __future__ import annotations

from workbench.oracle.bottom_up import people_waterfall
from workbench.oracle.top_down import crops_waterfall
from workbench.oracle.waterfall import Step, Waterfall

__all__ = ["Step", "Waterfall", "crops_waterfall", "people_waterfall"]
