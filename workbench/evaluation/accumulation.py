"""How much is found, and how much of what is found is right, as the score falls? COCO's curves.

Precision at a recall is the best that this or any higher recall reaches; it is read at 101 recalls and
averaged. A category without annotations that count has no curve.

Source: cocodataset/cocoapi@8c9bcc3:PythonAPI/pycocotools/cocoeval.py, accumulate and summarize.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from workbench.evaluation.ground_truth import GroundTruth
    from workbench.evaluation.keypoint_ap import Matches

RECALLS = np.linspace(0.0, 1.0, 101)
# pycocotools' mark for "no such ground truth". It stays in the raw curves, where it must equal theirs;
# whatever is shown has nan in its place.
ABSENT = -1.0
FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def curves(
    truth: GroundTruth, matches: Matches
) -> tuple[Float[np.ndarray, "T R C A"], Float[np.ndarray, "T C A"]]:
    """Precision at 101 recalls, and the highest recall; ABSENT where nothing is there to be found."""
    A, T = matches.hit.shape[:2]
    C = len(truth.category_ids)
    precision = np.full((T, len(RECALLS), C, A), ABSENT)
    recall = np.full((T, C, A), ABSENT)
    bounds = np.searchsorted(matches.category, np.arange(C + 1))
    present = _present(truth, matches)
    for c in range(C):
        span = slice(bounds[c], bounds[c + 1])
        # Stable: among equal scores the earlier image comes first, as in pycocotools.
        order = span.start + np.argsort(-matches.score[span], kind="stable")
        for a in np.flatnonzero(present[c]):
            counted = ~matches.ignored[a][:, order]
            hit = matches.hit[a][:, order] & counted
            seen = np.cumsum(counted, axis=1)
            for t in range(T):
                precision[t, :, c, a], recall[t, c, a] = _curve(hit[t], seen[t], present[c, a])
    return precision, recall


def _present(truth: GroundTruth, matches: Matches) -> Int[np.ndarray, "C A"]:
    """How many annotations count, by category and area range."""
    C = len(truth.category_ids)
    counts = [np.bincount(truth.category[~skip], minlength=C) for skip in matches.truth_ignored]
    return np.stack(counts, axis=1)


def _curve(
    hit: Float[np.ndarray, " D"], seen: Float[np.ndarray, " D"], present: int
) -> tuple[Float[np.ndarray, " R"], float]:
    """Precision at the recalls, and the highest recall, of detections by falling score.

    Recall only rises, and precision is only at its best, at a hit: the others need no look.

    Args:
        hit: right.
        seen: how many counted ones there are up to here.
        present: how many there are to be found.
    """
    at = np.flatnonzero(hit)
    right = np.arange(1.0, len(at) + 1)
    wrong = seen[at] - right
    best = right / (wrong + right + np.spacing(1))
    best = np.maximum.accumulate(best[::-1])[::-1]
    reached = np.searchsorted(right / present, RECALLS, side="left")
    return np.r_[best, 0.0][reached], len(at) / present


def figures(
    precision: Float[np.ndarray, "T R C A"], recall: Float[np.ndarray, "T C A"]
) -> Float[np.ndarray, " 10"]:
    """The ten COCO figures, in the order of FIGURES; ABSENT where there is no such ground truth."""
    everything, medium, large = range(3)
    half, three_quarters = slice(0, 1), slice(5, 6)
    return np.array(
        [
            _mean(curve[part][..., area])
            for curve in (precision, recall)
            for part, area in (
                (slice(None), everything),
                (half, everything),
                (three_quarters, everything),
                (slice(None), medium),
                (slice(None), large),
            )
        ]
    )


def _mean(values: np.ndarray) -> float:
    """Mean of what is present, flattened in pycocotools' order so that the sum rounds the same."""
    held = values[values > ABSENT]
    return float(held.mean()) if len(held) else ABSENT
