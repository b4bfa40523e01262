"""CrowdPose's AP on images with few, some and many people in each other's boxes: easy, medium, hard.

Source: xtcocotools 1.14.3 cocoeval.py, get_type_result and split (first=.2, second=.8).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluation.keypoint_ap import KeypointAP, keypoint_ap
from workbench.evaluation.measures import is_length

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet

# Easy below the first, hard from the second on.
EASY_BELOW, HARD_FROM = 0.2, 0.8
RULE = f"crowdIndex below {EASY_BELOW:g}, below {HARD_FROM:g}, and from there on"


def crowding(pose_set: PoseSet, result: KeypointAP) -> dict[str, float] | None:
    """AP of easy, medium and hard images by their ``crowdIndex``; None where images state none.

    Args:
        pose_set: whose json states the crowd index of each image.
        result: of all its images.

    Returns:
        AP by name, nan where there is nothing to be found.
    """
    stated = {
        int(e["id"]): float(e["crowdIndex"])
        for e in pose_set.raw.get("images", ())
        if isinstance(e, Mapping) and is_length(e.get("crowdIndex"))
    }
    images = result.truth.image_ids.tolist()
    if not images or not all(math.isfinite(stated.get(number, math.nan)) for number in images):
        return None
    index = np.array([stated[number] for number in images])
    kinds = {
        "easy": index < EASY_BELOW,
        "medium": (index >= EASY_BELOW) & (index < HARD_FROM),
        "hard": index >= HARD_FROM,
    }
    return {f"AP_{name}": _ap(result, result.truth.image_ids[chosen]) for name, chosen in kinds.items()}


def _ap(result: KeypointAP, image_ids: np.ndarray) -> float:
    if not len(image_ids):
        return math.nan
    found = result.detections
    here = np.isin(found.image_id, image_ids)
    columns = ("image_id", "category_id", "keypoints", "score", "area")
    part = replace(found, **{name: getattr(found, name)[here] for name in columns})
    truth = result.truth.on_images(image_ids.tolist())
    return keypoint_ap(truth, part, result.sigmas.tolist(), result.max_dets).figures["AP"]
