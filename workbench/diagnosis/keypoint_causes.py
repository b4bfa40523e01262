"""Causes in single keypoints: one that is absent, at one place or scored alike in every pose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Measurement
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.label_causes import paired_rows

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import Instance, PoseSet
    from workbench.evaluation.predictions import Predictions

# Poses, and poses in which the data set labels a keypoint, from which something is said of it.
LEAST_POSES, LEAST_LABELLED = 8, 4
# Spread of a keypoint's place relative to the box (or image): so small, and so small beside the others'.
FIXED, BESIDE_OTHERS = 0.01, 0.15
# Width over height of crops in published models; a place in the crop is one in the box of that shape.
CROP_SHAPES = (1.0, 3 / 4, 4 / 3)


class FixedKeypoint(Cause):
    """One keypoint is absent, at the same place or scored alike in every pose, while the others vary."""

    name, group, level, needs = "keypoint is the same in every pose", "output", "forward", ("poses", "data")
    refuted_by = "poses in which this keypoint varies as the others do"
    symptom_of = ("outputs are constant", "units with all weights zero", "layers with all weights zero")

    def test(self, case: Case) -> Answer:
        pose_set, evidence = case.pose_set(), case.evidence()
        told, labelled, poses = _alike(evidence.poses(), pose_set)
        if not told:
            return RuledOut(f"each of {labelled} keypoints varies over {poses} poses")
        names = pose_set.skeleton.keypoints
        listed = "; ".join(f"{names[k]} (keypoint {k}, counted from 0) is {told[k]}" for k in sorted(told))
        chosen = case.separated().chosen
        if chosen and not set(told) & set(_alike(evidence.measure(chosen).predictions, pose_set)[0]):
            return RuledOut(f"{listed} in {poses} poses; it varies once '{chosen[0].cause}' is undone")
        return self.found(
            f"{listed} in {poses} poses, while the other keypoints vary",
            fix="look at this keypoint's row of the output layer, and at the code that writes it",
            numbers=(Measurement("keypoints that do not vary", len(told), expected=0.0),),
        )


def _alike(found: Predictions, pose_set: PoseSet) -> tuple[dict[int, str], int, int]:
    """Labelled keypoints that do not vary and how, the count of labelled ones, and that of poses.

    Raises:
        NotAvailable: too few poses lie on annotated instances.
    """
    rows, instances = paired_rows(found, pose_set)
    if len(rows) < LEAST_POSES:
        raise NotAvailable(f"{len(rows)} poses lie on annotated instances, and {LEAST_POSES} are needed")
    found = found.take(rows)
    labelled = np.sum([np.asarray(one.truth)[:, 2] > 0 for one in instances], 0) >= LEAST_LABELLED
    told: dict[int, str] = {}
    for keypoint, how in (
        *_absent(found),
        *_at_one_place(found, instances, pose_set),
        *_scored_alike(found),
    ):
        if labelled[keypoint]:
            told.setdefault(keypoint, how)
    return told, int(labelled.sum()), len(rows)


def _absent(found: Predictions) -> Iterator[tuple[int, str]]:
    """Keypoints that no pose has; the other ones of the pose are there."""
    there = np.isfinite(found.keypoints).all(-1)
    zero = (found.keypoints == 0).all(-1)
    if not (there & ~zero).any():
        return
    for k in np.flatnonzero((~there).all(0)):
        yield int(k), "absent"
    for k in np.flatnonzero((zero | ~there).all(0) & zero.any(0)):
        yield int(k), "at (0, 0)"


def _at_one_place(
    found: Predictions, instances: Sequence[Instance], pose_set: PoseSet
) -> Iterator[tuple[int, str]]:
    points = np.asarray(found.keypoints, float)
    boxes = np.array([one.box for one in instances], float)
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    images = np.array([_size_of(pose_set, one) for one in instances])
    in_box = points - (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    width = [np.maximum(size[:, 0], size[:, 1] * shape)[:, None, None] for shape in CROP_SHAPES]
    places = {
        "of the image": [points / images[:, None], points / images.mean(0)],
        "of the box": [in_box / size[:, None], *(in_box / one for one in width)],
    }
    for where, ways in places.items():
        for place in ways:
            for k in _fixed(place):
                yield k, f"at the same place {where}"


def _size_of(pose_set: PoseSet, instance: Instance) -> tuple[float, float]:
    record = pose_set.images[instance.image_id]
    return float(record.width or np.nan), float(record.height or np.nan)


def _fixed(place: Float[np.ndarray, "N K 2"]) -> list[int]:
    """Keypoints whose place hardly varies although that of the others does."""
    known = np.asarray(np.isfinite(place).all(-1))
    enough = known.sum(0) >= LEAST_POSES
    spread = np.full(place.shape[1], np.nan)
    for k in np.flatnonzero(enough):
        # Of poses in a crowd a few are paired with a neighbour's box: a tenth at either end does not count.
        low, high = np.percentile(place[known[:, k], k], (10, 90), axis=0)
        spread[k] = (high - low).max() / 2
    if not enough.any():
        return []
    usual = float(np.nanmedian(spread))
    return [int(k) for k in np.flatnonzero(spread < min(FIXED, BESIDE_OTHERS * usual))]


def _scored_alike(found: Predictions) -> Iterator[tuple[int, str]]:
    """Keypoints with one score, where every other keypoint has several."""
    alike = np.ptp(found.scores, axis=0) == 0
    if np.isfinite(found.scores).all() and alike.sum() == 1:
        k = int(np.flatnonzero(alike)[0])
        yield k, f"scored {found.scores[0, k]:.3g}"


CAUSES: tuple[Cause, ...] = (FixedKeypoint(),)
