"""The families that are known by their tensors, the most particular first: one function, one line each."""

from __future__ import annotations

from collections.abc import Callable

from workbench.checkpoints.families import coordinates, heatmaps, sequences, transformers
from workbench.checkpoints.identity import Identity, Shapes

FAMILIES: tuple[Callable[[Shapes], Identity | None], ...] = (
    coordinates.rtmpose_text,
    coordinates.rtmo,
    coordinates.rtmpose,
    sequences.cape_small,
    sequences.cape,
    sequences.matching,
    heatmaps.movenet,
    heatmaps.higherhrnet,
    transformers.vitpose_plus,
    transformers.sapiens,
    transformers.vitpose,
    heatmaps.grouped,
    heatmaps.top_down,
    coordinates.generic,
    heatmaps.several_outputs,
    heatmaps.backbone_only,
)
"""Each answers with an Identity or None; the first that answers is believed."""
