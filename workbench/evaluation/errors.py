"""What is wrong with each keypoint of a detected pose? Good, jitter, inversion, swap or miss.

Every detection that lies on an annotation (OKS of .1 or more, COCO's matching) is compared keypoint by
keypoint. The keypoint similarity is one keypoint's part of the OKS, exp(-d^2 / (2 sigma)^2 / area / 2). It
is taken with the annotated keypoint itself, with its mirror partner of the same instance, and with the same
keypoint and its partner of every other instance of the image, each with its own area. The largest of them,
the own one first where some are equal, decides:

- miss: the largest is below .5.
- good: it is the keypoint's own, .85 or more. (At exactly .85 the authors' code has neither good nor jitter.)
- jitter: it is the keypoint's own, below .85.
- inversion: it is that of the mirror partner of the same instance.
- swap: it is that of another instance.

Source: Ronchi and Perona 2017, Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation, section 3;
matteorr/coco-analyze@9eb8a0a:pycocotools/cocoanalyze.py, _find_kpt_errors. Slices of the set (size, labelled
keypoints, boxes that overlap by an IoU above .1): section 4; analysisAPI/occlusionAndCrowdingSensitivity.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from workbench.evaluation.ground_truth import GroundTruth, check_pairs, others_overlapping
from workbench.evaluation.keypoint_ap import (
    NOBODY,
    KeypointAP,
    Matches,
    curves,
    figures,
    keypoint_ap,
    match,
    size_classes,
)
from workbench.evaluation.oks import term
from workbench.evaluation.predictions import Detections, as_written, extent

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from workbench.data.pose_set import PoseSet


Kind = Literal["good", "jitter", "inversion", "swap", "miss"]
KINDS: tuple[Kind, ...] = get_args(Kind)
GOOD, JITTER, INVERSION, SWAP, MISS = range(5)
UNLABELLED = -1

SCORING, FALSE_POSITIVE, FALSE_NEGATIVE = "scoring", "background_false_positive", "background_false_negative"
UNDETECTED = "undetected"

WORDS: Mapping[str, str] = {
    "good": "good", "jitter": "jitter", "inversion": "inversion", "swap": "swap", "miss": "miss",
    SCORING: "scoring", FALSE_POSITIVE: "background false positive",
    FALSE_NEGATIVE: "background false negative", UNDETECTED: "undetected instance",
}  # fmt: skip
"""Kind of error -> its name for people."""

LOCATED = 0.1
"""OKS from which on a detection lies on an annotation at all, and its keypoints are judged."""

FOUND, EXACT = 0.5, 0.85
"""Keypoint similarity from which on a keypoint is on a body part, and from which on it is placed well."""

Repair = Literal["published", "coco-analyze", "exact"]
"""Where a wrong keypoint is put.

published: at the distance from its annotation where the similarity is .85 (jitter), .5 (miss), or what it was
with the wrong part (inversion, swap). coco-analyze: as the authors' code has it, at half of that distance (it
takes sigma where the similarity has 2 sigma). exact: on the annotation.
"""
REPAIRS: tuple[Repair, ...] = get_args(Repair)


@dataclass(frozen=True, eq=False)
class Localisation:
    """The keypoints of M detections that lie on an annotation.

    Attributes:
        detection: index into the detections.
        truth: index into the ground truth.
        oks: of the pair.
        kind: index into KINDS; UNLABELLED where the annotation has no such keypoint.
        similarity: the largest keypoint similarity; nan where not labelled.
        own: the similarity with the keypoint itself; nan where not labelled.
        other: of a swap the annotation that the keypoint lies on, index into the ground truth; NOBODY
            otherwise.
    """

    detection: Int[np.ndarray, " M"]
    truth: Int[np.ndarray, " M"]
    oks: Float[np.ndarray, " M"]
    kind: Int[np.ndarray, "M K"]
    similarity: Float[np.ndarray, "M K"]
    own: Float[np.ndarray, "M K"]
    other: Int[np.ndarray, "M K"]

    def ambiguous(self, kind: Kind) -> int:
        """Keypoints of a kind that lie on their own place as well (EXACT), as where two hooves meet."""
        return int(((self.kind == KINDS.index(kind)) & (self.own >= EXACT)).sum())

    def counts(self, rows: Bool[np.ndarray, " M"] | None = None) -> Int[np.ndarray, "K 5"]:
        """Keypoints of each kind, of all detections or some."""
        kind = self.kind if rows is None else self.kind[rows]
        return np.stack([(kind == number).sum(0) for number in range(len(KINDS))], axis=1)


def localise(result: KeypointAP, mirror: Collection[int]) -> Localisation:
    """Judge every labelled keypoint of the detections that lie on an annotation.

    Args:
        result: of the evaluator; detections within its max_dets are judged.
        mirror: for each keypoint the index of its left-right partner; empty where nobody knows it, and then
            nothing is called an inversion.
    """
    truth, K = result.truth, len(result.sigmas)
    found = match(truth, result.detections, result.sigmas, result.max_dets, np.array([LOCATED]))
    partner = found.partner[0, 0]
    labelled = (truth.keypoints[..., 2] > 0).any(1)
    # One more for NOBODY, -1: there may be no annotation at all.
    counted = np.append(labelled & ~truth.ignored, False)
    chosen = np.flatnonzero((partner != NOBODY) & counted[partner])
    detection, target = found.detection[chosen], partner[chosen]
    M = len(chosen)
    kind = np.full((M, K), UNLABELLED)
    similarity, own, other = np.full((M, K), np.nan), np.full((M, K), np.nan), np.full((M, K), NOBODY)
    points = as_written(result.detections.keypoints[detection]).reshape(M, K, 2)
    by_image = np.argsort(truth.image, kind="stable")
    first = np.searchsorted(truth.image[by_image], np.arange(len(truth.image_ids) + 1))
    image = truth.image[target]
    order = np.argsort(image, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(image[order])) + 1) if M else []:
        i = image[rows[0]]
        people = by_image[first[i] : first[i + 1]]
        kind[rows], similarity[rows], own[rows], other[rows] = _judged(
            points[rows], np.searchsorted(people, target[rows]), people, truth, result.sigmas, mirror
        )
    return Localisation(detection, target, _oks_of(found)[chosen], kind, similarity, own, other)


def _judged(
    points: Float[np.ndarray, "m K 2"],
    own: Int[np.ndarray, " m"],
    people: Int[np.ndarray, " n"],
    truth: GroundTruth,
    sigmas: Float[np.ndarray, " K"],
    mirror: Collection[int],
) -> tuple[
    Int[np.ndarray, "m K"], Float[np.ndarray, "m K"], Float[np.ndarray, "m K"], Int[np.ndarray, "m K"]
]:
    """Kinds, largest and own similarities, and swapped-with annotations of the detections of one image."""
    m = np.arange(len(points))
    plain = _similarities(points, truth.keypoints[people], truth.area[people], sigmas)
    partners = list(mirror)
    inverted = np.full_like(plain, -1.0)
    if partners:
        inverted = _similarities(points, truth.keypoints[people][:, partners], truth.area[people], sigmas)
    mine, mirrored = plain[m, own], inverted[m, own]
    plain[m, own] = inverted[m, own] = -1.0
    others, others_mirrored = plain.max(1), inverted.max(1)
    best = np.maximum.reduce([mine, mirrored, others, others_mirrored])
    # Of equals the first counts: own, others, own mirrored, others mirrored.
    kind = np.full(mine.shape, SWAP)
    kind[(mirrored == best) & (others < best)] = INVERSION
    kind[mine == best] = JITTER
    kind[(mine == best) & (best >= EXACT)] = GOOD
    kind[best < FOUND] = MISS
    labelled = truth.keypoints[people][own][..., 2] > 0
    kind[~labelled] = UNLABELLED
    where = np.where(others >= others_mirrored, plain.argmax(1), inverted.argmax(1))
    swapped = np.where(kind == SWAP, people[where], NOBODY)
    largest, own_one = (np.where(labelled, np.maximum(v, 0.0), np.nan) for v in (best, mine))
    return kind, largest, own_one, swapped


def _similarities(
    points: Float[np.ndarray, "m K 2"],
    truth: Float[np.ndarray, "n K 3"],
    area: Float[np.ndarray, " n"],
    sigmas: Float[np.ndarray, " K"],
) -> Float[np.ndarray, "m n K"]:
    """Keypoint similarity of every detection with every annotation; -1 where not labelled."""
    squared = ((points[:, None] - truth[None, ..., :2]) ** 2).sum(-1)
    return np.where(truth[..., 2] > 0, term(squared, sigmas, area[:, None]), -1.0)


def _oks_of(matches: Matches) -> Float[np.ndarray, " D"]:
    """OKS of each detection with the annotation it takes; nan where it takes none."""
    partner = matches.partner[0, 0]
    oks = np.full(len(partner), np.nan)
    same = partner[matches.pair_detection] == matches.pair_truth
    oks[matches.pair_detection[same]] = matches.pair_oks[same]
    return oks


# What would each repair give back?


def repaired(
    result: KeypointAP, found: Localisation, kinds: Collection[Kind], how: Repair = "published"
) -> Detections:
    """The detections with the keypoints of some kinds of error repaired; everything else as it was.

    Args:
        result: of the evaluator.
        found: of `localise`.
        kinds: which errors are repaired.
        how: where a repaired keypoint is put.
    """
    numbers = [KINDS.index(kind) for kind in kinds if kind != "good"]
    wrong = np.isin(found.kind, numbers)
    truth = result.truth
    similarity = np.select(
        [found.kind == JITTER, found.kind == MISS], [EXACT, FOUND], np.nan_to_num(found.similarity, nan=1.0)
    )
    # The similarity has (2 sigma)^2, so this is the distance at which it has the wanted value.
    squares = {"published": 8.0, "coco-analyze": 2.0, "exact": 0.0}[how]
    with np.errstate(divide="ignore"):
        logs = -np.log(similarity.clip(np.finfo(float).tiny, 1.0))
    away = np.sqrt(logs * squares * truth.area[found.truth][:, None]) * result.sigmas
    # A set without annotations has no keypoints either, whatever the skeleton.
    wanted = truth.keypoints[found.truth].reshape(*found.kind.shape, 3)[..., :2]
    goal = wanted + np.stack([away, np.zeros_like(away)], -1)
    # An empty result has no keypoints, whatever the skeleton.
    points = as_written(result.detections.keypoints).reshape(len(result.detections), len(result.sigmas), 2)
    points[found.detection] = np.where(wrong[..., None], goal, points[found.detection])
    return replace(result.detections, keypoints=points)


def ap_of(result: KeypointAP, detections: Detections) -> float:
    """AP of other detections by the rules of a result; nan where there is nothing to be found.

    Args:
        result: whose truth and rules are used.
        detections: of the same images.
    """
    return keypoint_ap(result.truth, detections, result.sigmas.tolist(), result.max_dets).figures["AP"]


def optimal_scores(result: KeypointAP) -> Float[np.ndarray, " D"]:
    """Scores that rank the detections as well as possible: their best OKS, less for double ones.

    Each detection gets its largest OKS with an annotation that counts, 0 where there is none. Then, image by
    image, the highest lowers the others by exp(-2 OKS^2) of their OKS with it (soft non-maximum suppression).

    Source: as localise, find_score_errors and _soft_nms.

    Raises:
        ValueError: an image has more detections than can be compared with each other.
    """
    truth, detections = result.truth, result.detections
    best = np.zeros(len(detections))
    cell = np.stack([detections.image_id, detections.category_id], 1)
    _, group, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    check_pairs(count**2, len(detections), "detections")
    check_pairs(np.bincount(truth.image) ** 2, len(truth), "annotations")
    if len(detections):
        every = match(truth, detections, result.sigmas, len(detections))
        counts = ~truth.ignored[every.pair_truth]
        np.maximum.at(best, every.detection[every.pair_detection[counts]], every.pair_oks[counts])
    points = as_written(detections.keypoints)
    areas = extent(points)
    order = np.argsort(group.ravel(), kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group.ravel()[order])) + 1) if len(order) else []:
        left = rows
        while len(left) > 1:
            left = left[np.argsort(-best[left], kind="stable")]
            top, left = left[0], left[1:]
            squared = ((points[left] - points[top]) ** 2).sum(-1)
            oks = term(squared, result.sigmas, (areas[left] + areas[top])[:, None] / 2).mean(1)
            best[left] *= np.exp(-(oks**2) / 0.5)
    return best


def without_background(result: KeypointAP) -> float:
    """AP when the detections without an annotation, at each OKS threshold, are left out."""
    matches = result.matches
    silent = replace(matches, ignored=matches.ignored | (matches.partner == NOBODY))
    precision, recall = curves(result.truth, silent)
    value = float(figures(precision, recall)[0])
    return value if value >= 0 else float("nan")


# Errors of whole instances.


@dataclass(frozen=True)
class ScoringError:
    """An annotation with several detections of which the best one does not have the highest score.

    Attributes:
        truth: index into the ground truth.
        highest: detection with the highest score.
        best: detection with the largest OKS.
        oks: of `highest` and of `best`.
        scores: of `highest` and of `best`.
    """

    truth: int
    highest: int
    best: int
    oks: tuple[float, float]
    scores: tuple[float, float]


def scoring_errors(result: KeypointAP) -> tuple[ScoringError, ...]:
    """Annotations for which a worse detection is ranked above a better one.

    In each image and category the annotations are asked in the order of their best OKS; each takes its best
    detection at OKS .5 or more that is not taken.

    Source: matteorr/coco-analyze@9eb8a0a:analysisAPI/scoringErrors.py. That loop ends at the first
    annotation without a free detection; here the remaining ones are asked as well.
    """
    truth, matches = result.truth, result.matches
    near = (matches.pair_oks >= FOUND) & ~truth.ignored[matches.pair_truth]
    detection, target, oks = matches.pair_detection[near], matches.pair_truth[near], matches.pair_oks[near]
    best = np.zeros(len(truth))
    np.maximum.at(best, target, oks)
    found, taken = [], np.zeros(len(matches.detection), bool)
    order = np.argsort(target, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(target[order])) + 1) if len(order) else []
    for rows in sorted(groups, key=lambda rows: -best[target[rows[0]]]):
        free = rows[~taken[detection[rows]]]
        if not len(free):
            continue
        free = free[np.argsort(-matches.score[detection[free]], kind="stable")]
        top = int(oks[free].argmax())
        taken[detection[free[top]]] = True
        if top:
            pair = [int(detection[free[0]]), int(detection[free[top]])]
            highest, chosen = (int(matches.detection[d]) for d in pair)
            similar = (float(oks[free[0]]), float(oks[free[top]]))
            scores = (float(matches.score[pair[0]]), float(matches.score[pair[1]]))
            found.append(ScoringError(int(target[free[0]]), highest, chosen, similar, scores))
    return tuple(found)


def background(result: KeypointAP) -> tuple[Int[np.ndarray, " F"], Int[np.ndarray, " N"]]:
    """Detections without an annotation, and annotations without a detection, at OKS .5.

    Returns:
        indices into the detections (within max_dets), and into the ground truth (ignored ones left out).
    """
    matches, truth = result.matches, result.truth
    partner = matches.partner[0, 0]
    alone = matches.detection[(partner == NOBODY) & ~matches.ignored[0, 0]]
    missed = ~truth.ignored
    missed[partner[partner != NOBODY]] = False
    return alone, np.flatnonzero(missed)


# Shares of the skeleton's keypoints at which the published groups end: 5, 10, 15 and 17 of 17.
_LABELLED = (0.3, 0.6, 0.9, 1.0)

VISIBILITY = ("visible", "occluded", "outside the image")
"""Groups of annotated points, each point in one: outside the image, else by its visibility flag."""


@dataclass(frozen=True, eq=False)
class Slice:
    """Some of the annotated instances.

    Attributes:
        by: what the set is divided by: size, labelled keypoints, crowding or category.
        name: of the part.
        members: which of the G annotations belong to it; ignored ones never do.
    """

    by: str
    name: str
    members: Bool[np.ndarray, " G"]


def slices(truth: GroundTruth) -> tuple[Slice, ...]:
    """All slices that hold an instance; a division into a single part is left out."""
    counted = ~truth.ignored
    parts = [Slice("size", name, members) for name, members in size_classes(truth.area).items()]
    K = truth.keypoints.shape[1]
    labelled = (truth.keypoints[..., 2] > 0).sum(1)
    low = 1
    for share in _LABELLED:
        high = round(share * K)
        if high >= low:
            name = f"{low} to {high} labelled" if high > low else f"{high} labelled"
            parts.append(Slice("labelled keypoints", name, (labelled >= low) & (labelled <= high)))
        low = high + 1
    overlaps = others_overlapping(truth)
    for name, least, most in (("alone", 0, 0), ("1 or 2 overlap", 1, 2), ("3 or more overlap", 3, np.inf)):
        parts.append(Slice("crowding", name, (overlaps >= least) & (overlaps <= most)))
    for c, name in enumerate(truth.category_names):
        parts.append(Slice("category", name, truth.category == c))
    filled = [Slice(p.by, p.name, p.members & counted) for p in parts if (p.members & counted).any()]
    several = {p.by for p in filled if sum(other.by == p.by for other in filled) > 1}
    return tuple(p for p in filled if p.by in several)


def visibility(truth: GroundTruth, pose_set: PoseSet) -> Int[np.ndarray, "G K"]:
    """The group of VISIBILITY that each annotated point belongs to; -1 where it is not labelled.

    A point is outside where it lies beyond the outermost pixels' edges (x from -.5 to width - .5). Images
    whose size nobody states have no outside.

    Args:
        truth: annotations.
        pose_set: that they are of.
    """
    sizes = np.array([_size(pose_set, int(number)) for number in truth.image_ids]).reshape(-1, 2)
    v = truth.keypoints[..., 2]
    group: Any = np.where(v >= 2, 0, 1)
    if len(truth):
        group[np.asarray(outside(truth.keypoints[..., :2], sizes[truth.image]))] = 2
    return np.where(v > 0, group, -1)


def outside(points: Float[np.ndarray, "N K 2"], sizes: Float[np.ndarray, "N 2"]) -> Bool[np.ndarray, "N K"]:
    """Which points lie outside images of these sizes (width, height); none where a size is nan.

    Args:
        points: (x, y), image pixels.
        sizes: pixels.
    """
    known: Any = np.isfinite(sizes).all(1)
    return known[:, None] & ((points < -0.5) | (points > sizes[:, None] - 0.5)).any(-1)


def image_sizes(truth: GroundTruth, pose_set: PoseSet) -> Float[np.ndarray, "G 2"]:
    """(width, height) of each annotation's image, pixels; nan where nobody states it.

    Args:
        truth: annotations.
        pose_set: that they are of.
    """
    sizes = np.array([_size(pose_set, int(number)) for number in truth.image_ids]).reshape(-1, 2)
    return sizes[truth.image]


def _size(pose_set: PoseSet, image_id: int) -> tuple[float, float]:
    record = pose_set.images.get(image_id)
    if record is None or record.width is None or record.height is None:
        return np.nan, np.nan
    return float(record.width), float(record.height)
