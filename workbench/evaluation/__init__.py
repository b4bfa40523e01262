"""How good are the predictions, under which protocol, and what changed from one epoch to the next?"""

from workbench.evaluation.bootstrap import Interval, paired_bootstrap
from workbench.evaluation.compare import compare, comparison_of
from workbench.evaluation.comparison import Comparison
from workbench.evaluation.detections import Detections
from workbench.evaluation.evaluate import check_evaluable, evaluate, truth_of
from workbench.evaluation.evaluation import Evaluation
from workbench.evaluation.ground_truth import GroundTruth
from workbench.evaluation.history import History, query_epochs
from workbench.evaluation.keypoint_ap import KeypointAP, keypoint_ap
from workbench.evaluation.model_rules import protocol_of, protocol_of_loaded
from workbench.evaluation.pck import PCK
from workbench.evaluation.predict import Cancelled, predict
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import Protocol
from workbench.evaluation.score_rules import SCORE_RULES

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
    "truth_of",
]
