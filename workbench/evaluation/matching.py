"""Which detection found which annotation? COCO's matching, for all images and categories at once.

A detection counts as a hit, as a mistake, or not at all: it found an ignored annotation, or it found nothing
and its area lies outside the range asked about.

Source: cocodataset/cocoapi@8c9bcc3:PythonAPI/pycocotools/cocoeval.py, evaluateImg.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluation.keypoint_ap import NOBODY, choices
from workbench.evaluation.oks import oks_of_pairs

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from workbench.evaluation.ground_truth import GroundTruth
    from workbench.evaluation.predictions import Detections

# Square pixels, both ends included. COCO has no range for small people: they carry no keypoints.
AREA_RANGES = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True, eq=False)
class Matches:
    """Who found whom, at ten OKS thresholds (T) and three area ranges (A).

    The D detections are those within max_dets, sorted by category, image and falling score.

    Attributes:
        detection: index into Detections.
        image: index into GroundTruth.image_ids.
        category: index into GroundTruth.category_ids.
        score: of the detection.
        partner: index into GroundTruth, NOBODY where unmatched.
        hit: matched, as COCO counts it.
        ignored: neither right nor wrong.
        truth_ignored: the annotation is not to be found in this area range.
        pair_detection: of every pair in one image and category, position in `detection`.
        pair_truth: of every pair, index into GroundTruth.
        pair_oks: of every pair.
    """

    detection: Int[np.ndarray, " D"]
    image: Int[np.ndarray, " D"]
    category: Int[np.ndarray, " D"]
    score: Float[np.ndarray, " D"]
    partner: Int[np.ndarray, "A T D"]
    hit: Bool[np.ndarray, "A T D"]
    ignored: Bool[np.ndarray, "A T D"]
    truth_ignored: Bool[np.ndarray, "A G"]
    pair_detection: Int[np.ndarray, " P"]
    pair_truth: Int[np.ndarray, " P"]
    pair_oks: Float[np.ndarray, " P"]


def match(truth: GroundTruth, detections: Detections, sigmas: np.ndarray, max_dets: int) -> Matches:
    """Match every detection within max_dets of its image and category.

    Args:
        truth: annotations.
        detections: of images and categories that truth lists.
        sigmas: OKS constants.
        max_dets: how many detections count per image and category, the best scores first.
    """
    images, cells = len(truth.image_ids), len(truth.image_ids) * len(truth.category_ids)
    cell = np.searchsorted(truth.category_ids, detections.category_id) * images
    cell += np.searchsorted(truth.image_ids, detections.image_id)
    # Stable: equal scores keep the order of the file, as pycocotools' mergesort leaves them.
    order = np.lexsort((-detections.score, cell))
    first = np.searchsorted(cell[order], np.arange(cells + 1))
    order = order[np.arange(len(order)) - first[cell[order]] < max_dets]
    cell = cell[order]

    truth_cell = truth.category * images + truth.image
    by_cell = np.argsort(truth_cell, kind="stable")
    truth_first = np.searchsorted(truth_cell[by_cell], np.arange(cells + 1))
    rivals = np.diff(truth_first)[cell]
    start = np.r_[0, np.cumsum(rivals)]
    pair_detection = np.repeat(np.arange(len(order)), rivals)
    pair_truth = by_cell[np.arange(start[-1]) - start[pair_detection] + truth_first[cell[pair_detection]]]
    oks = oks_of_pairs(detections.keypoints, truth, sigmas, order[pair_detection], pair_truth)

    low, high = np.array(list(AREA_RANGES.values())).T[:, :, None]
    truth_ignored = truth.ignored | (truth.area < low) | (truth.area > high)
    partner = choices(pair_detection, pair_truth, oks, cell, truth_ignored, truth.crowd)
    found = partner != NOBODY
    # pycocotools keeps the partner's id and reads 0 as "unmatched": an annotation with id 0 is never a hit.
    hit = found & (np.r_[truth.ids, 0][partner] != 0)
    # NOBODY points at the column put behind the last annotation.
    beyond = np.pad(truth_ignored, ((0, 0), (0, 1)))
    ignored = np.stack([skip[who] for skip, who in zip(beyond, partner, strict=True)])
    outside = (detections.area[order] < low) | (detections.area[order] > high)
    ignored |= ~hit & outside[:, None]
    return Matches(
        order,
        cell % max(images, 1),
        cell // max(images, 1),
        detections.score[order],
        partner,
        hit,
        ignored,
        truth_ignored,
        pair_detection,
        pair_truth,
        oks,
    )
