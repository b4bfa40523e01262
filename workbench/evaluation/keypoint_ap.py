"""Keypoint AP, equal to pycocotools, vectorised: matching, precision and recall, the ten figures.

In each image and category the detections choose in order of score: the free annotation with the highest OKS
at or above the threshold, one that counts before one that is ignored, the later one of equals. Crowd
regions stay free.

Nearly every detection is near one annotation only, and then the choice is a race: at each threshold the
first detection near enough takes it, whatever the area range. Annotations for which a detection has an
alternative are fought for step by step, all images at the same time.

Source: cocodataset/cocoapi@8c9bcc3:PythonAPI/pycocotools/cocoeval.py, evaluateImg.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.report import counted
from workbench.evaluation.ground_truth import GroundTruth
from workbench.evaluation.oks import oks_of_pairs
from workbench.evaluation.predictions import Detections

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from workbench.evaluation.ground_truth import GroundTruth
    from workbench.evaluation.predictions import Detections


THRESHOLDS = np.linspace(0.5, 0.95, 10)
# A threshold of 1 must be reachable by an OKS that rounding left just below it.
HIGHEST = 1 - 1e-10
NOBODY = -1


def choices(
    detection: Int[np.ndarray, " P"],
    target: Int[np.ndarray, " P"],
    oks: Float[np.ndarray, " P"],
    cell: Int[np.ndarray, " D"],
    ignored: Bool[np.ndarray, "A G"],
    crowd: Bool[np.ndarray, " G"],
    levels: Float[np.ndarray, " T"] = THRESHOLDS,
) -> Int[np.ndarray, "A T D"]:
    """The annotation that each detection is matched with; NOBODY where there is none.

    Args:
        detection: of every pair; rising, and within a cell in order of score.
        target: the annotation of every pair; in the order of the file for each detection.
        oks: of every pair.
        cell: image and category of each detection.
        ignored: annotations that do not count, by area range.
        crowd: annotations that any number of detections may take.
        levels: OKS thresholds, rising.
    """
    thresholds = np.minimum(levels, HIGHEST)
    partner = np.full((len(ignored), len(thresholds), len(cell)), NOBODY)
    near = oks >= thresholds[0]
    detection, target, oks = detection[near], target[near], oks[near]
    alternatives = np.bincount(detection, minlength=len(cell))[detection] > 1
    contested = np.zeros(len(crowd), bool)
    contested[target[alternatives]] = True
    fight = contested[target]
    _race(partner, thresholds, detection[~fight], target[~fight], oks[~fight], crowd)
    _fight(partner, thresholds, detection[fight], target[fight], oks[fight], cell, ignored, crowd)
    return partner


def _race(
    partner: Int[np.ndarray, "A T D"],
    thresholds: Float[np.ndarray, " T"],
    detection: Int[np.ndarray, " P"],
    target: Int[np.ndarray, " P"],
    oks: Float[np.ndarray, " P"],
    crowd: Bool[np.ndarray, " G"],
) -> None:
    """Match detections that have one candidate annotation."""
    order = np.argsort(target, kind="stable")
    detection, target, oks = detection[order], target[order], oks[order]
    for t, threshold in enumerate(thresholds):
        near = oks >= threshold
        d, g = detection[near], target[near]
        takes = (np.diff(g, prepend=NOBODY) != 0) | crowd[g]
        partner[:, t, d[takes]] = g[takes]


def _fight(
    partner: Int[np.ndarray, "A T D"],
    thresholds: Float[np.ndarray, " T"],
    detection: Int[np.ndarray, " P"],
    target: Int[np.ndarray, " P"],
    oks: Float[np.ndarray, " P"],
    cell: Int[np.ndarray, " D"],
    ignored: Bool[np.ndarray, "A G"],
    crowd: Bool[np.ndarray, " G"],
) -> None:
    """Match detections that have several candidates: the n-th detections of all cells in one step."""
    chooser, first, count = np.unique(detection, return_index=True, return_counts=True)
    rank = np.arange(len(chooser)) - np.searchsorted(cell[chooser], cell[chooser])
    free = np.ones((*partner.shape[:2], len(crowd)), bool)
    for step in range(rank.max(initial=-1) + 1):
        now = np.flatnonzero(rank == step)
        # Ragged lists of candidates, padded to the longest: [n, width].
        place = np.arange(count[now].max())
        real = place < count[now][:, None]
        pair = np.where(real, first[now][:, None] + place, first[now][:, None])
        candidate = target[pair]
        value = np.where(real, oks[pair], -1.0)
        able = (value >= thresholds[:, None, None]) & (free[..., candidate] | crowd[candidate])
        skip = ignored[:, None, candidate]
        choice, chosen = _last_best(value, able & ~skip)
        second, spare = _last_best(value, able & skip)
        choice = np.where(chosen, choice, second)
        a, t, n = np.nonzero(chosen | spare)
        taken = candidate[n, choice[a, t, n]]
        partner[a, t, chooser[now[n]]] = taken
        free[a, t, taken] = False


def _last_best(
    value: Float[np.ndarray, "n width"], able: Bool[np.ndarray, "A T n width"]
) -> tuple[Int[np.ndarray, "A T n"], Bool[np.ndarray, "A T n"]]:
    """Position of the last maximum among the allowed values, and whether any is allowed."""
    masked = np.where(able, value, -1.0)
    last = masked.shape[-1] - 1 - masked[..., ::-1].argmax(-1)
    return last, np.asarray(able.any(-1))


# Which detection found which annotation? COCO's matching, for all images and categories at once.


# Square pixels, both ends included. COCO has no range for small people: they carry no keypoints.
AREA_RANGES = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


def size_classes(area: Float[np.ndarray, " G"]) -> dict[str, Bool[np.ndarray, " G"]]:
    """Name of each size class -> which areas belong to it; every area belongs to one.

    An area of exactly 96² counts in APM and APL alike; here it is medium.

    Args:
        area: square pixels.
    """
    low, high = AREA_RANGES["medium"]
    return {
        "small, below 32² px": area < low,
        "medium, 32² to 96² px": (area >= low) & (area <= high),
        "large, above 96² px": area > high,
    }


@dataclass(frozen=True, eq=False)
class Matches:
    """Matches of detections and annotations at ten OKS thresholds (T) and three area ranges (A).

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


def match(
    truth: GroundTruth,
    detections: Detections,
    sigmas: Float[np.ndarray, " K"],
    max_dets: int,
    levels: Float[np.ndarray, " T"] = THRESHOLDS,
) -> Matches:
    """Match every detection within max_dets of its image and category.

    Args:
        truth: annotations.
        detections: of images and categories that truth lists.
        sigmas: OKS constants.
        max_dets: how many detections count per image and category, the best scores first.
        levels: OKS thresholds, rising; COCO's ten by default.
    """
    images = len(truth.image_ids)
    cell = np.searchsorted(truth.category_ids, detections.category_id) * images
    cell += np.searchsorted(truth.image_ids, detections.image_id)
    # Stable: equal scores keep the order of the file, as pycocotools' mergesort leaves them.
    order = np.lexsort((-detections.score, cell))
    # Only cells that hold something are looked at: a file may list as many images and categories as it likes.
    first = np.searchsorted(cell[order], cell[order])
    order = order[np.arange(len(order)) - first < max_dets]
    cell = cell[order]

    truth_cell = truth.category * images + truth.image
    by_cell = np.argsort(truth_cell, kind="stable")
    truth_first = np.searchsorted(truth_cell[by_cell], cell)
    rivals = np.searchsorted(truth_cell[by_cell], cell, side="right") - truth_first
    start = np.r_[0, np.cumsum(rivals)]
    pair_detection = np.repeat(np.arange(len(order)), rivals)
    pair_truth = by_cell[np.arange(start[-1]) - start[pair_detection] + truth_first[pair_detection]]
    oks = oks_of_pairs(detections.keypoints, truth, sigmas, order[pair_detection], pair_truth)

    low, high = np.array(list(AREA_RANGES.values())).T[:, :, None]
    truth_ignored = truth.ignored | (truth.area < low) | (truth.area > high)
    partner = choices(pair_detection, pair_truth, oks, cell, truth_ignored, truth.crowd, levels)
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


# How much is found, and how much of what is found is right, as the score falls? COCO's curves.


RECALLS = np.linspace(0.0, 1.0, 101)
# pycocotools' mark for "no such ground truth". It stays in the raw curves, where it must equal theirs;
# whatever is shown has nan in its place.
ABSENT = -1.0
FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def curves(
    truth: GroundTruth, matches: Matches
) -> tuple[Float[np.ndarray, "T R C A"], Float[np.ndarray, "T C A"]]:
    """Precision at 101 recalls, and the highest recall; ABSENT where no annotation is evaluated.

    Args:
        truth: annotations.
        matches: of the detections, by threshold and area range.
    """
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
            counting = ~matches.ignored[a][:, order]
            hit = matches.hit[a][:, order] & counting
            precision[:, :, c, a], recall[:, c, a] = _curves(hit, counting, present[c, a])
    return precision, recall


def _present(truth: GroundTruth, matches: Matches) -> Int[np.ndarray, "C A"]:
    """Number of evaluated annotations, by category and area range."""
    C = len(truth.category_ids)
    counts = [np.bincount(truth.category[~skip], minlength=C) for skip in matches.truth_ignored]
    return np.stack(counts, axis=1)


def _curves(
    hit: Bool[np.ndarray, "T D"], counting: Bool[np.ndarray, "T D"], present: int
) -> tuple[Float[np.ndarray, "T R"], Float[np.ndarray, " T"]]:
    """Precision at the recalls, and the highest recall, of detections by falling score.

    Recall only rises, and precision is only at its best, at a hit: the others need no look.

    Args:
        hit: right.
        counting: right or wrong.
        present: how many there are to be found.
    """
    at = np.flatnonzero(hit)  # level by level
    bounds = np.searchsorted(at, np.arange(len(hit) + 1) * hit.shape[1])
    found = np.diff(bounds)
    right = np.arange(1.0, len(at) + 1) - np.repeat(bounds[:-1], found)
    wrong = np.cumsum(counting, axis=1).ravel()[at] - right
    best = right / (wrong + right + np.spacing(1))
    # Of each recall, the hit that reaches it.
    place = np.searchsorted(np.arange(1.0, found.max() + 1) / present, RECALLS, side="left")
    reached = np.searchsorted(place, found)
    precision = np.zeros((len(hit), len(RECALLS)))
    for t, (start, stop) in enumerate(itertools.pairwise(bounds)):
        falling = np.maximum.accumulate(best[start:stop][::-1])[::-1]
        precision[t, : reached[t]] = falling[place[: reached[t]]]
    return precision, found / present


def figures(
    precision: Float[np.ndarray, "T R C A"], recall: Float[np.ndarray, "T C A"]
) -> Float[np.ndarray, " 10"]:
    """The ten COCO figures, in the order of FIGURES; ABSENT where there is no such ground truth.

    Args:
        precision: by threshold, recall, category and area range.
        recall: the highest, by threshold, category and area range.
    """
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
    present = values[values > ABSENT]
    return float(present.mean()) if len(present) else ABSENT


# COCO's ten figures of a set of detected poses, exactly as pycocotools has them, in a fraction of the time.


@dataclass(frozen=True, eq=False)
class KeypointAP:
    """The ten figures and everything they were computed from.

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
        """The ten figures of each category with evaluated annotations, by category id."""
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
        name: rows.keypoints.shape[1]
        for name, rows in (("the annotations", truth), ("the detections", detections))
        if len(rows)
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
    listed = " and ".join(f"{name} have {count}" for name, count in counts.items())
    return f"keypoints: {listed}, and there are {counted(sigmas, 'sigma')}; they must be the same skeleton"


def _check_known(ids: np.ndarray, known: np.ndarray, what: str) -> None:
    # known is sorted; a bisection costs a tenth of a set difference.
    place = np.searchsorted(known, ids).clip(max=max(len(known) - 1, 0))
    unknown = np.unique(ids[known[place] != ids] if len(known) else ids)
    if len(unknown):
        raise ValueError(
            f"results: {what} {unknown[0]} is not in the annotations ({len(unknown)} such); "
            "are these the results of another data set?"
        )
