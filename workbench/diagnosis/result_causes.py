"""Causes in the poses of a result file: those of another model, keypoints held at one coordinate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Groups, NotAvailable, PoseModel
from workbench.core.errors import USER_ERRORS
from workbench.core.finding import Measurement
from workbench.core.report import counted, ends_text, signed_text
from workbench.diagnosis.box_causes import SAME_BOX, best_overlap, box_area, extents_stated
from workbench.diagnosis.case import Case, check_keypoints
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.evidence import Evidence, Measured, gain
from workbench.evaluation.evaluate import instance_oks, truth_of
from workbench.evaluation.keypoint_ap import keypoint_ap

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.predictions import Predictions

# Instances, or images, of which the model's own poses are compared with those of the file.
INSTANCES, IMAGES = 24, 8
# Poses are the same where so little lies between them, in roots of the instance's area; they are others
# where so much does, and so many times what the flip test changes.
SAME, APART, MORE_THAN_FLIP = 0.005, 0.03, 3.0
# Part of the keypoints that must lie on one coordinate, and how many times as many as on the next frequent
# one.
LEAST_SHARE, OFTENER = 0.03, 5.0
# Part of the held keypoints that must be labelled elsewhere.
LABELLED = 0.25
# Part of the poses in which one keypoint is held; keypoints on one of the other coordinates, in the mean.
EVERY, MOST_ON_ONE = 0.9, 4.0


class OfAnotherModel(Cause):
    """The poses of the result file are not those that the checkpoint beside it finds."""

    name, group, level = "results of another model", "evaluation", "forward"
    needs = ("model", "results", "data")
    refuted_by = "the command that made the results from this checkpoint, with the same boxes"

    def test(self, case: Case) -> Answer:
        case.results()  # told first where there are none: the evidence is of the model's poses then
        pose_set, model = case.pose_set(), case.model()
        apart = case.separated()
        found = apart.evidence.measure(apart.chosen).predictions
        check_keypoints(len(model.skeleton), pose_set, "the model")
        overlap = best_overlap(pose_set, found)
        stated = np.isfinite(found.box).all(1).any() and not extents_stated(found)
        if not isinstance(model, Groups) and stated and np.median(overlap) < SAME_BOX:
            raise NotAvailable(
                "the results are of other boxes than the annotated ones: poses differ by these"
            )
        rows = _looked_at(case, model)
        case.step()
        own, flipped = _own(model, pose_set, rows), _own(model, pose_set, rows, flip=True)
        away, usual = distance(own, found, pose_set, rows), distance(own, flipped, pose_set, rows)
        best = min(away, distance(flipped, found, pose_set, rows))
        distances = (
            f"on {counted(len(rows), 'instance')} the file's poses lie {best:.3f} from the checkpoint's, in "
            f"roots of the instance's area (median), where the flip test moves them by {usual:.3f}"
        )
        other = "" if best <= SAME else self._other(case, found, rows)
        if not other and best <= max(APART, MORE_THAN_FLIP * usual):
            return RuledOut(distances)
        change = gain(*(_measured(case, poses, rows) for poses in (found, own)))
        if not other and not (change.low > 0 or change.high < 0):
            return RuledOut(
                f"{distances}; mean OKS differs by {signed_text(change.oks)}, which may be chance"
            )
        return self.found(
            f"{distances}{other}; with the checkpoint's own poses mean OKS differs by "
            f"{signed_text(change.oks)} "
            f"{ends_text(change.low, change.high)}",
            fix="predict again with this checkpoint, or name the one that the results are of",
            numbers=(Measurement("distance of the poses", best, expected=usual),),
            confidence="measured" if other else "likely",
            severity="error" if other else "warning",
        )

    def _other(self, case: Case, found: Predictions, rows: Sequence[int]) -> str:
        """Which other epoch, or other checkpoint given, finds these poses, in words; "" for none."""
        for path in (*case.given.epochs, *case.given.others):
            if path == case.given.checkpoint:
                continue
            case.step()
            given = dataclasses.replace(case.given, checkpoint=path, epochs=())
            try:
                model = Case(given, case.options, case.causes, case.stepped).model()
            except (*USER_ERRORS, RuntimeError, NotAvailable):
                continue
            away = min(
                distance(_own(model, case.pose_set(), rows, flip), found, case.pose_set(), rows)
                for flip in (False, True)
            )
            if away <= SAME:
                return f"; those of {path.name} lie {away:.3f} away: the results are its"
        return ""


def _measured(case: Case, poses: Predictions, rows: Sequence[int]) -> Measured:
    """Poses, compared with these instances."""
    truth = truth_of(case.pose_set(), case.evidence().area_rule, rows)
    poses = poses.take(np.flatnonzero(np.isin(poses.image_id, truth.image_ids[truth.image])))
    result = keypoint_ap(truth, poses.detections(), case.evidence().sigmas)
    return Measured(result, instance_oks(poses, result), poses)


def _looked_at(case: Case, model: PoseModel) -> list[int]:
    """Instances whose poses are compared: of a bottom-up model all those of a few images."""
    pose_set = case.pose_set()
    if not isinstance(model, Groups):
        return case.in_order()[:INSTANCES]
    images = list(pose_set.labelled_of_image)
    chosen = images[:: max(1, len(images) // IMAGES)][:IMAGES]
    return [i for n in chosen for i in pose_set.labelled_of_image[n]]


def _own(model: PoseModel, pose_set: PoseSet, rows: Sequence[int], flip: bool = False) -> Predictions:
    """What the model finds."""
    if not isinstance(model, Groups):
        return Evidence(pose_set, rows, model, flip=flip).poses()
    from workbench.evaluation.predict import predict_people

    images = list(dict.fromkeys(pose_set.instances[i].image_id for i in rows))
    return predict_people(model, pose_set, images, flip=flip)  # type: ignore[arg-type]


def distance(a: Predictions, b: Predictions, pose_set: PoseSet, rows: Sequence[int]) -> float:
    """How far poses lie apart, in roots of the instance's area; the median over instances that both found.

    Args:
        a: poses.
        b: others; each is compared with the one of `a` that lies nearest to the same instance.
        pose_set: annotations.
        rows: instances.
    """
    found = []
    for i in rows:
        one = pose_set.instances[i]
        truth = np.array(one.truth, float)
        seen = truth[:, 2] > 0
        pair = []
        for poses in (a, b):
            here = poses.keypoints[poses.image_id == one.image_id]
            if len(here):
                away = np.nanmean(np.linalg.norm(here[:, seen] - truth[seen, :2], axis=-1), 1)
                pair.append(here[int(np.nanargmin(away))])
        if len(pair) == 2:
            size = max(np.sqrt(box_area(one.box)), 1.0)
            found.append(float(np.nanmedian(np.linalg.norm(pair[0] - pair[1], axis=-1))) / size)
    return float(np.median(found)) if found else float("nan")


class KeypointsHeld(Cause):
    """Many keypoints have no place of their own: written as (0, 0), or cut at a size not the image's."""

    name, group, level = "keypoints held at one coordinate", "output", "forward"
    needs = ("results", "data")
    refuted_by = "pictures in which these keypoints are there"

    def test(self, case: Case) -> Answer:
        found, pose_set = case.results(), case.pose_set()
        if not len(found):
            raise NotAvailable("no result is of the images and categories of the set")
        points = found.keypoints
        empty = (points == 0).all(-1) | np.isnan(points).any(-1)
        # A keypoint that no pose has is a cause of its own.
        empty &= empty.mean(0) < EVERY
        seen, held = [], np.zeros(points.shape[:2], bool)
        if empty.mean() >= LEAST_SHARE:
            seen.append(f"{empty.mean():.0%} of the keypoints have no place, or (0, 0)")
            held |= empty
        for axis, name in enumerate("xy"):
            value = points[..., axis]
            sizes = [(pose_set.images[n].width, pose_set.images[n].height) for n in found.image_id.tolist()]
            inside = value < np.array([size[axis] for size in sizes])[:, None] - 1
            for chosen_rows in (~empty & inside, value < 0):
                place, on_it = _most_frequent(value, chosen_rows)
                # What is cut lies at the largest place, what is marked as absent below 0.
                if on_it is not None and (place < 0 or place == value[chosen_rows].max()):
                    seen.append(f"{on_it.mean():.0%} of all {name} are exactly {place:g}")
                    held |= on_it
        lost = _labelled_there(found, held, pose_set)
        # Keypoints that nobody labelled may lie anywhere, also outside of the image.
        if not seen or lost < LABELLED * held.sum():
            return RuledOut("no coordinate is that of many keypoints")
        return self.found(
            f"{'; '.join(seen)}, in {int(held.any(1).sum())} of {counted(len(found), 'pose')}; "
            f"{counted(lost, 'keypoint that is', 'keypoints that are')} labelled elsewhere in their image "
            "get "
            "nothing so",
            fix="write the place that the network gives for every keypoint, whatever its score; cut "
            "coordinates at the size of their own image, or not at all",
            numbers=(Measurement("share of keypoints held", float(held.mean()), expected=0.0),),
        )


def _most_frequent(
    value: Float[np.ndarray, "P K"], chosen_rows: Bool[np.ndarray, "P K"]
) -> tuple[float, Bool[np.ndarray, "P K"] | None]:
    """The most frequent coordinate, and which keypoints have it, where these are strikingly many."""
    kept = value[chosen_rows & np.isfinite(value)]
    values, counts = np.unique(kept, return_counts=True)
    # Whole cells, or pixels, lie on few coordinates by themselves.
    if len(values) < 2 or counts.sum() - counts.max() > MOST_ON_ONE * (len(values) - 1):
        return 0.0, None
    most = int(counts.argmax())
    if counts[most] < max(LEAST_SHARE * value.size, OFTENER * np.delete(counts, most).max(initial=1)):
        return 0.0, None
    return float(values[most]), chosen_rows & (value == values[most])


def _labelled_there(found: Predictions, held: Bool[np.ndarray, "P K"], pose_set: PoseSet) -> int:
    """How many held keypoints are labelled, in the instance that the pose lies nearest to."""
    count = 0
    for row in np.flatnonzero(held.any(1)).tolist():
        rows = pose_set.labelled_of_image.get(int(found.image_id[row]), ())
        truths = [np.array(pose_set.instances[i].truth, float) for i in rows]
        rest = ~held[row]
        away = [
            np.linalg.norm(t[rest, :2] - found.keypoints[row][rest], axis=-1)[t[rest, 2] > 0] for t in truths
        ]
        near = [float(np.nanmedian(one)) if len(one) else np.inf for one in away]
        if near:
            count += int((truths[int(np.argmin(near))][held[row], 2] > 0).sum())
    return count


CAUSES: tuple[Cause, ...] = (KeypointsHeld(), OfAnotherModel())
