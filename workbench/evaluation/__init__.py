"""How good are the predictions, under which protocol, and what changed from one epoch to the next?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from workbench.evaluation.compare import Comparison, Interval, compare, comparison_of, paired_bootstrap
from workbench.evaluation.evaluate import Evaluation, check_counting, check_evaluable, evaluate, truth_of
from workbench.evaluation.ground_truth import GroundTruth
from workbench.evaluation.keypoint_ap import KeypointAP, keypoint_ap
from workbench.evaluation.pck import PCK
from workbench.evaluation.predict import Cancelled, predict
from workbench.evaluation.predictions import Detections, Predictions
from workbench.evaluation.protocol import SCORE_RULES, Protocol, protocol_of, protocol_of_loaded

if TYPE_CHECKING:
    from workbench.evaluation.history import History, query_epochs
    from workbench.evaluation.sweeps.rules import SweepRules
    from workbench.evaluation.sweeps.sweep import sweep

__all__ = [
    "PCK",
    "SCORE_RULES",
    "Cancelled",
    "Comparison",
    "Detections",
    "Evaluation",
    "GroundTruth",
    "History",
    "Interval",
    "KeypointAP",
    "Predictions",
    "Protocol",
    "SweepRules",
    "check_counting",
    "check_evaluable",
    "compare",
    "comparison_of",
    "evaluate",
    "keypoint_ap",
    "paired_bootstrap",
    "predict",
    "protocol_of",
    "protocol_of_loaded",
    "query_epochs",
    "sweep",
    "truth_of",
]

# Imported when they are asked for: one evaluation needs no ablation and no table of epochs.
_LATER = {
    "History": "history",
    "query_epochs": "history",
    "SweepRules": "sweeps.rules",
    "sweep": "sweeps.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
