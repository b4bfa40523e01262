"""How sure is the model of a whole pose? Rules that make one score of the keypoints' scores.

AP ranks poses by this number, so two rules on the same keypoints give two APs; AR hardly changes. ``oracle``
ranks by the true OKS: what AP would be if the scores were perfect; the difference is what ranking loses.

Source of bbox_keypoint, bbox and bbox_rle: mmpose 1.3.2 evaluation/metrics/coco_metric.py, score_mode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.core import nearest

if TYPE_CHECKING:
    from jaxtyping import Float

# CocoMetric's keypoint_score_thr.
LEAST_SCORE = 0.2

SCORE_RULES: dict[str, str] = {
    "bbox_keypoint": "box score x mean of keypoint scores > .2",
    "bbox": "box score",
    "bbox_rle": "box score + mean + maximum of keypoint scores",
    "mean": "mean of keypoint scores",
    "min": "lowest keypoint score",
    "oracle": "true OKS (an upper bound, no protocol)",
}
DEFAULT = "bbox_keypoint"


def pose_scores(
    rule: str,
    scores: Float[np.ndarray, "N K"],
    box_score: Float[np.ndarray, " N"],
    oks: Float[np.ndarray, " N"] | None = None,
) -> Float[np.ndarray, " N"]:
    """One score for each pose.

    Args:
        rule: a name of SCORE_RULES.
        scores: of keypoints.
        box_score: of the boxes; 1 for annotated ones.
        oks: against its annotation, for ``oracle``.

    Raises:
        KeyError: no such rule.
        ValueError: ``oracle`` without OKS.
    """
    if rule not in SCORE_RULES:
        raise KeyError(f"no score rule {rule!r}; nearest: {nearest(rule, SCORE_RULES)}")
    if rule == "oracle":
        if oks is None:
            raise ValueError(
                "score rule oracle: needs boxes from annotations, so that each pose has its truth"
            )
        return np.nan_to_num(oks, nan=0.0)
    if rule == "bbox":
        return np.array(box_score, float)
    if rule == "min":
        return scores.min(1)
    if rule == "mean":
        return scores.mean(1)
    if rule == "bbox_rle":
        return box_score + scores.mean(1) + scores.max(1)
    sure = scores > LEAST_SCORE
    # cumsum adds one by one from the left, as CocoMetric's loop does, so that ties stay ties.
    total = np.cumsum(np.where(sure, scores, 0), axis=1)[:, -1]
    count = sure.sum(1)
    return box_score * np.divide(total, count, out=np.zeros_like(total), where=count > 0)
