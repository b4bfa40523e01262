"""Which poses are the same animal found twice? OKS non-maximum suppression, equal to mmpose's.

Source: mmpose 1.3.2 evaluation/functional/nms.py, oks_nms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluation.oks import EPSILON

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from workbench.evaluation.predictions import Predictions


def oks_nms(
    keypoints: Float[np.ndarray, "N K 2"],
    scores: Float[np.ndarray, " N"],
    areas: Float[np.ndarray, " N"],
    sigmas: Float[np.ndarray, " K"],
    threshold: float,
) -> Int[np.ndarray, " M"]:
    """The poses to keep, by falling score: each drops the ones whose OKS with it is above the threshold.

    Args:
        keypoints: of one image, pixels.
        scores: of the poses.
        areas: of the poses; the mean of two is used for a pair.
        sigmas: OKS constants.
        threshold: a pair above it is one pose.
    """
    variances = (np.asarray(sigmas, float) * 2) ** 2
    # argsort reversed, so that of equal scores the later comes first; mmpose's order decides which stays.
    order = np.argsort(scores)[::-1]
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        squared = ((keypoints[order] - keypoints[first]) ** 2).sum(-1)
        mean_area = (areas[first] + areas[order])[:, None] / 2
        terms = np.exp(-squared / variances / (mean_area + EPSILON) / 2)
        # A keypoint that one of them does not have is no sign of sameness.
        oks = np.nan_to_num(terms, nan=0.0).sum(1) / len(variances)
        # float32, as mmpose keeps it: it decides at the threshold itself.
        order = order[oks.astype(np.float32) <= np.float32(threshold)]
    return np.array(kept, int)


def kept_by_nms(
    predictions: Predictions,
    areas: Float[np.ndarray, " N"],
    sigmas: Float[np.ndarray, " K"],
    threshold: float,
) -> Int[np.ndarray, " M"]:
    """Rows of the poses that stay, image by image in order of first appearance; categories share an image.

    Args:
        predictions: with the scores that rank them.
        areas: of the poses, square pixels.
        sigmas: OKS constants.
        threshold: OKS above which the worse of two is dropped.
    """
    order = np.argsort(predictions.image_id, kind="stable")
    _, starts = np.unique(predictions.image_id[order], return_index=True)
    groups = np.split(order, starts[1:]) if len(order) else []
    rows = []
    for own in sorted(groups, key=lambda group: group[0]):
        rows.append(
            own[oks_nms(predictions.keypoints[own], predictions.score[own], areas[own], sigmas, threshold)]
        )
    return np.concatenate(rows) if rows else np.zeros(0, int)
