"""Networks that find all people of an image at once: heatmaps and tags of the whole image, then grouping."""

from __future__ import annotations

from workbench.models.bottom_up.aggregation import (
    Aggregation,
    MapCache,
    Maps,
    Resizing,
    resizing,
    true_outputs,
)
from workbench.models.bottom_up.model import BottomUp, People, rule_names, with_rules

__all__ = [
    "Aggregation",
    "BottomUp",
    "MapCache",
    "Maps",
    "People",
    "Resizing",
    "resizing",
    "rule_names",
    "true_outputs",
    "with_rules",
]
