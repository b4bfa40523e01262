"""COCO's ten figures of a set of detected poses, exactly as pycocotools has them, in a fraction of the time.

AP is how well scores separate good poses from bad ones, AR how many people are found at all; M and L are
people of 32^2 to 96^2 and of more than 96^2 square pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluation.ground_truth import GroundTruth
from workbench.evaluation.keypoint_ap import (
    ABSENT,
    FIGURES,
    NOBODY,
    THRESHOLDS,
    Matches,
    curves,
    figures,
    match,
)
from workbench.evaluation.predictions import Detections

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class KeypointAP:
    """The ten figures and all they were made from.

    Attributes:
        stats: in the order of FIGURES; -1, as pycocotools writes it, where there is no such ground truth.
        precision: by threshold, recall, category and area range; -1 likewise.
        recall: by threshold, category and area range; -1 likewise.
        matches: which detection found which annotation.
        truth: the annotations.
        detections: the detections.
        sigmas: the OKS constants used.
        max_dets: how many detections counted per image and category.
    """

    stats: Float[np.ndarray, " 10"]
    precision: Float[np.ndarray, "T R C A"]
    recall: Float[np.ndarray, "T C A"]
    matches: Matches
    truth: GroundTruth
    detections: Detections
    sigmas: Float[np.ndarray, " K"]
    max_dets: int

    @property
    def figures(self) -> dict[str, float]:
        """The ten figures by name; nan where there is no such ground truth."""
        return _named(self.stats)

    @property
    def per_category(self) -> dict[int, dict[str, float]]:
        """The ten figures of each category that has annotations to be found, by category id."""
        rows = {}
        for c, category in enumerate(self.truth.category_ids.tolist()):
            if (self.recall[:, c] > ABSENT).any():
                span = slice(c, c + 1)
                rows[category] = _named(figures(self.precision[:, :, span], self.recall[:, span]))
        return rows

    def matched(self, threshold: float = 0.5) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
        """Indices into detections and truth of the pairs matched at one of the ten OKS thresholds.

        Raises:
            ValueError: not one of .5, .55 ... .95.
        """
        at = np.flatnonzero(np.isclose(THRESHOLDS, threshold))
        if not len(at):
            raise ValueError(f"threshold: expected one of .5, .55 ... .95, got {threshold}")
        partner = self.matches.partner[0, at[0]]
        found = partner != NOBODY
        return self.matches.detection[found], partner[found]


def keypoint_ap(
    truth: GroundTruth, detections: Detections, sigmas: Sequence[float], max_dets: int = 20
) -> KeypointAP:
    """Evaluate detected poses.

    Args:
        truth: annotations.
        detections: in any order; their order breaks ties of score.
        sigmas: OKS constants, one for each keypoint.
        max_dets: detections that count per image and category, the best scores first; COCO has 20.

    Raises:
        ValueError: numbers of keypoints differ, or a detection names an image or a category that the
            annotations do not have.
    """
    given = np.asarray(sigmas, float)
    counts = {
        name: held.keypoints.shape[1]
        for name, held in (("the annotations", truth), ("the detections", detections))
        if len(held)
    }
    if not given.size:
        raise ValueError("sigmas: none are known for these keypoints; OKS needs one for each: --sigmas")
    if set(counts.values()) - {len(given)}:
        raise ValueError(_mismatch(counts, len(given)))
    if not np.isfinite(given).all() or (given <= 0).any():
        raise ValueError(f"sigmas: expected numbers above 0, got {given.tolist()}")
    if max_dets < 1:
        raise ValueError(f"max_dets: expected at least 1, got {max_dets}")
    _check_known(detections.image_id, truth.image_ids, "image")
    _check_known(detections.category_id, truth.category_ids, "category")
    matches = match(truth, detections, given, max_dets)
    precision, recall = curves(truth, matches)
    return KeypointAP(
        figures(precision, recall), precision, recall, matches, truth, detections, given, max_dets
    )


def _named(stats: Float[np.ndarray, " 10"]) -> dict[str, float]:
    shown = np.where(stats == ABSENT, np.nan, stats)
    return dict(zip(FIGURES, shown.tolist(), strict=True))


def _mismatch(counts: dict[str, int], sigmas: int) -> str:
    held = " and ".join(f"{name} have {count}" for name, count in counts.items())
    return f"keypoints: {held}, and there are {sigmas} sigmas; they must be the same skeleton"


def _check_known(ids: np.ndarray, known: np.ndarray, what: str) -> None:
    # known is sorted; a bisection costs a tenth of a set difference.
    place = np.searchsorted(known, ids).clip(max=max(len(known) - 1, 0))
    unknown = np.unique(ids[known[place] != ids] if len(known) else ids)
    if len(unknown):
        raise ValueError(
            f"results: {what} {unknown[0]} is not in the annotations ({len(unknown)} such); "
            "are these the results of another data set?"
        )
