"""Networks that find all people of an image at once: heatmaps and tags of the whole image, then grouping."""

from __future__ import annotations

from workbench.models.bottom_up.aggregation import Aggregation, Kept, Maps
from workbench.models.bottom_up.family import BottomUp
from workbench.models.bottom_up.people import People
from workbench.models.bottom_up.resizing import Resizing, resizing
from workbench.models.bottom_up.truth import true_outputs
from workbench.models.bottom_up.wishes import rule_names, wished

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
