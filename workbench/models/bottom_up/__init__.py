"""Networks that find all people of an image at once: heatmaps and tags of the whole image, then grouping."""

from __future__ import annotations

from workbench.models.bottom_up.aggregation import Aggregation, Maps, Resizing, resizing
from workbench.models.bottom_up.aggregation import MapCache as Kept
from workbench.models.bottom_up.model import BottomUp, People, rule_names, wished
from workbench.models.bottom_up.truth import true_outputs

__all__ = [
    "Aggregation",
    "BottomUp",
    "Kept",
    "Maps",
    "People",
    "Resizing",
    "resizing",
    "rule_names",
    "true_outputs",
    "wished",
]
