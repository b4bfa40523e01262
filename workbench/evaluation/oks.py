"""Object keypoint similarity (OKS) of predicted and annotated poses, 0 to 1, and OKS non-maximum suppression.

OKS = mean over labelled keypoints of exp(-d^2 / (2 sigma)^2 / area / 2). 1 is a perfect pose; .5 is
where COCO begins to count a pose as found. A truth without labelled keypoints (a far or crowded person)
is compared by the distance of all keypoints from its box, doubled: nothing inside it is a mistake.

Source: cocodataset/cocoapi@8c9bcc3:PythonAPI/pycocotools/cocoeval.py, computeOks.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.capabilities import CropsBoxes, SizesInput
from workbench.core.geometry import crop_region
from workbench.evaluation.predictions import as_written, extent

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from workbench.core import PoseModel, Skeleton
    from workbench.evaluation.ground_truth import GroundTruth
    from workbench.evaluation.predictions import Predictions


FOUND = 0.5
"""OKS from which COCO begins to count a pose as found."""

# COCO adds the spacing of 1 to the area, so that an area of 0 divides.
EPSILON = np.spacing(1)
# Pairs whose intermediate arrays stay in a core's cache (17 keypoints: 1 MB each).
BLOCK = 8192


def checked_sigmas(skeleton: Skeleton, what: str) -> tuple[float, ...]:
    """OKS constants of a skeleton.

    Args:
        skeleton: of the data set.
        what: needs them, for the error.

    Raises:
        ValueError: none are known.
    """
    if not skeleton.sigmas:
        raise ValueError(
            f"{what}: no sigmas are known for {skeleton.name}; OKS needs one for each keypoint: --sigmas"
        )
    return skeleton.sigmas


def term(
    squared: Float[np.ndarray, "*shape"],
    sigmas: Float[np.ndarray, "*K"],
    area: Float[np.ndarray, "*A"] | float,
) -> Float[np.ndarray, "*shape"]:
    """OKS term, 0 to 1, of squared distances; the arguments are broadcast.

    Args:
        squared: distances of predicted from annotated keypoints, square pixels.
        sigmas: OKS constants.
        area: of the annotated object, square pixels.

    Example:
        >>> float(term(np.array(0.0), np.array(0.1), 100.0))
        1.0
    """
    return np.exp(-squared / (np.asarray(sigmas, float) * 2) ** 2 / (area + EPSILON) / 2)


def keypoint_terms(
    keypoints: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    area: Float[np.ndarray, " N"],
    sigmas: Float[np.ndarray, " K"],
) -> Float[np.ndarray, "N K"]:
    """OKS term of each keypoint, 0 to 1, of poses paired one to one.

    Args:
        keypoints: (x, y) in image pixels; nan where the model gave none.
        truth: (x, y, visibility) in image pixels.
        area: of the annotated object, square pixels.
        sigmas: OKS constants.

    Returns:
        nan where the keypoint is not labelled, 0 where it is labelled and was not predicted.
    """
    squared = ((keypoints - truth[..., :2]) ** 2).sum(-1)
    terms = term(squared, sigmas, np.asarray(area)[:, None])
    return np.where(truth[..., 2] > 0, np.nan_to_num(terms, nan=0.0), np.nan)


def paired_oks(
    keypoints: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    area: Float[np.ndarray, " N"],
    sigmas: Float[np.ndarray, " K"],
) -> Float[np.ndarray, " N"]:
    """OKS of poses paired one to one; nan where the truth labels nothing. Arguments as keypoint_terms."""
    return oks_of_terms(keypoint_terms(keypoints, truth, area, sigmas))


def oks_of_terms(terms: Float[np.ndarray, "N K"]) -> Float[np.ndarray, " N"]:
    """OKS of poses whose `keypoint_terms` these are; nan where the truth labels nothing."""
    labelled = (~np.isnan(terms)).sum(-1)
    total = np.nansum(terms, axis=-1)
    return np.divide(total, labelled, out=np.full(len(total), np.nan), where=labelled > 0)


def oks_of_pairs(
    keypoints: Float[np.ndarray, "D K 2"],
    truth: GroundTruth,
    sigmas: Float[np.ndarray, " K"],
    detection: Int[np.ndarray, " P"],
    target: Int[np.ndarray, " P"],
) -> Float[np.ndarray, " P"]:
    """OKS of the pairs (detection[p], target[p]), bit for bit as pycocotools has it.

    Args:
        keypoints: of all detections, image pixels; nan (not predicted) counts as lying at (0, 0), which is
            how a COCO result file states it and pycocotools reads it.
        truth: the annotations.
        sigmas: OKS constants.
        detection: index into keypoints.
        target: index into truth.
    """
    x, y = np.moveaxis(as_written(keypoints), -1, 0).copy()
    true_x, true_y, visible = np.moveaxis(truth.keypoints, -1, 0).copy()
    visible = visible > 0
    variances = (np.asarray(sigmas, float) * 2) ** 2
    area = (truth.area + EPSILON)[:, None]
    labelled = visible.sum(1)
    oks = np.empty(len(detection))
    # One block holds truths with the same number of labelled keypoints: their terms are then summed as rows
    # of that length, and the order of numpy's additions, thus the last bit, is that of pycocotools.
    by_count = np.argsort(labelled[target], kind="stable")
    bounds = np.searchsorted(labelled[target][by_count], np.arange(visible.shape[1] + 2))
    for count, (start, stop) in enumerate(itertools.pairwise(bounds)):
        for low in range(start, stop, BLOCK):
            pairs = by_count[low : min(low + BLOCK, stop)]
            d, g = detection[pairs], target[pairs]
            if count:
                dx, dy = x[d], y[d]
                dx -= true_x[g]
                dy -= true_y[g]
            else:
                left, top, width, height = truth.boxes[g].T[:, :, None]
                dx = _outside(x[d], left - width, left + width * 2)
                dy = _outside(y[d], top - height, top + height * 2)
            # In place, and in pycocotools' order of operations.
            dx *= dx
            dy *= dy
            dx += dy
            dx /= variances
            dx /= area[g]
            dx /= 2
            exponent = dx[visible[g]].reshape(len(pairs), count) if 0 < count < dx.shape[1] else dx
            np.exp(np.negative(exponent, out=exponent), out=exponent)
            oks[pairs] = exponent.sum(1) / exponent.shape[1]
    return oks


def _outside(
    value: Float[np.ndarray, "P K"], low: Float[np.ndarray, "P 1"], high: Float[np.ndarray, "P 1"]
) -> Float[np.ndarray, "P K"]:
    """Distance from the interval, 0 inside it."""
    return np.maximum(0.0, low - value) + np.maximum(0.0, value - high)


# Which poses are the same animal found twice? OKS non-maximum suppression, equal to mmpose's.


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
    # argsort reversed, so that of equal scores the later comes first; mmpose's order decides which stays.
    order = np.argsort(scores)[::-1]
    chosen = []
    while len(order):
        first, order = order[0], order[1:]
        chosen.append(first)
        squared = ((keypoints[order] - keypoints[first]) ** 2).sum(-1)
        terms = term(squared, sigmas, (areas[first] + areas[order])[:, None] / 2)
        # A keypoint that one of them does not have is no sign of sameness.
        oks = np.nan_to_num(terms, nan=0.0).sum(1) / len(sigmas)
        # float32, as mmpose keeps it: it decides at the threshold itself.
        order = order[oks.astype(np.float32) <= np.float32(threshold)]
    return np.array(chosen, int)


def rows_after_nms(
    predictions: Predictions,
    areas: Float[np.ndarray, " N"],
    sigmas: Float[np.ndarray, " K"],
    threshold: float,
) -> Int[np.ndarray, " M"]:
    """Rows of the poses kept by NMS, image by image in order of first appearance, categories together.

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


def crop_areas(model: PoseModel, found: Predictions) -> Float[np.ndarray, " N"]:
    """What CocoMetric takes: the crop's area; the pose's extent where the model does not tell its crop.

    Args:
        model: that found the poses.
        found: poses with their boxes.
    """
    size = model.input_size if isinstance(model, SizesInput) else None
    size = size or (model.codec.input_size if model.codec is not None else None)
    if size is None or not isinstance(model, CropsBoxes):
        return extent(found.keypoints)
    return np.array([np.prod(crop_region(tuple(box), size, model.padding)[1]) for box in found.box.tolist()])
