"""Ablation of a bottom-up protocol: many variants evaluated from one forward pass over the images."""

from __future__ import annotations

from workbench.evaluation.ablation.fault_sweep import fault_sweep
from workbench.evaluation.ablation.faults import fault_variants
from workbench.evaluation.ablation.sweep import Ablation, Outcome, sweep
from workbench.evaluation.ablation.variants import (
    REFERENCE,
    Variant,
    grouping_variants,
    reference,
    tag_variants,
)

__all__ = [
    "REFERENCE",
    "Ablation",
    "Outcome",
    "Variant",
    "fault_sweep",
    "fault_variants",
    "grouping_variants",
    "reference",
    "sweep",
    "tag_variants",
]
