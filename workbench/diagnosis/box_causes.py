"""Causes in which instances a result file has: a detector's boxes for annotated ones, some left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable
from workbench.core.errors import available
from workbench.core.finding import Finding, Measurement
from workbench.core.report import counted, signed_text
from workbench.core.statistics import finite_median
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.image_id_causes import OtherImages
from workbench.diagnosis.set_causes import annotated_again

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.data.pose_set import Instance, PoseSet
    from workbench.evaluation.predictions import Predictions

# A box is the annotated one from this IoU on: files round. An instance has a box from the second one on.
SAME_BOX, FOUND_BOX = 0.97, 0.5
# Share of instances from which something is said.
FEW = 0.02
# Instances of a category that has none, and the part of all missing ones that they make up.
LEAST, FOLLOWS = 5, 0.5
# Part of the instances without a pose, in images with poses, that a largest number of poses has to explain.
MOST_OF = 0.8
# Instances on the wrong side of a size, in parts of those that are missing or of the others.
MIXED = 0.2
LEAST_IMAGES = 3
# A distance, in sides of a box, beyond which nothing suppresses anything; share without a pose that is much.
FAR, MANY = 100.0, 0.15


class DetectedBoxes(Cause):
    """The poses are of a detector's boxes, which miss instances; figures with annotated boxes are higher."""

    name, group, level = "detected boxes in place of annotated ones", "evaluation", "forward"
    needs = ("results with their boxes", "data")
    refuted_by = "a result file of the same model with the annotated boxes and the same figure"

    def test(self, case: Case) -> Answer:
        pose_set, found = case.pose_set(), case.all_results()
        # A pose under a wrong category has a box like any other.
        found = found.take(np.flatnonzero(np.isin(found.image_id, list(pose_set.images))))
        if not np.isfinite(found.box).all(1).any():
            raise NotAvailable("the results state no boxes (bbox)")
        if extents_stated(found):
            raise NotAvailable("the boxes of the results are the extents of their keypoints, not those used")
        if any(change.cause == OtherImages.name for change in case.separated().chosen):
            raise NotAvailable("the results stand under other images' ids: boxes cannot be compared before")
        best, detections = best_overlap(pose_set, found), _bbox_file(case)
        # Images without any result are another cause.
        seen = np.isin([pose_set.instances[i].image_id for i in pose_set.labelled], found.image_id)
        if not seen.any():
            raise NotAvailable("no annotated image has results")
        if np.mean(best[seen] > SAME_BOX) > 1 - FEW:
            alike = f"the results have the annotated boxes (IoU {np.median(best[seen]):.2f} in the median)"
            if not detections:
                return RuledOut(alike)
            return self.found(
                f"{alike}, but the config evaluates with detected boxes ({detections}): the figure is higher "
                "than the published ones, which are with a detector",
                fix="predict the boxes of the detection file that the config names (bbox_file)",
                confidence="likely",
            )
        return self._detected(case, best, seen)

    def _detected(self, case: Case, best: np.ndarray, seen: np.ndarray) -> Answer:
        pose_set, evidence = case.pose_set(), case.evidence()
        missed = seen & (best < FOUND_BOX)
        gone = {pose_set.instances[i].annotation_id for i in np.array(pose_set.labelled)[missed].tolist()}
        effect = evidence.without_others([a for a in pose_set.instances if a.annotation_id not in gone])
        rest = best[seen & ~missed]
        if len(rest) and np.mean(rest > SAME_BOX) > 1 - FEW and left_out(case) is not None:
            return RuledOut(
                "the boxes that have a pose are the annotated ones; see 'instances without a pose' "
                "for the others"
            )
        loose = float(np.median(rest)) if len(rest) else 0.0
        return self.found(
            f"the boxes are those of a detector: {int(missed.sum())} of "
            f"{counted(int(seen.sum()), 'annotated instance')} have no box (IoU below {FOUND_BOX:g}), the "
            f"others one of IoU {loose:.2f} (median); "
            f"without the instances that were not found AP changes by {signed_text(effect.delta)}",
            fix="compare with figures of the same boxes; with annotated boxes the model alone is measured",
            numbers=(
                Measurement("share of instances without a box", float(missed[seen].mean()), expected=0.0),
                Measurement("IoU of the other boxes, median", loose, expected=1.0),
            ),
            effect=effect,
            confidence="proved" if effect.low > 0 else "measured",
            severity="error" if missed[seen].mean() > FEW else "warning",
        )


def _bbox_file(case: Case) -> str:
    """The detections that the config evaluates with; "" for none."""
    config = available(case.config, {})
    for part in ("test_dataloader", "val_dataloader"):
        loader = config.get(part)
        data = loader.get("dataset") if isinstance(loader, Mapping) else None
        if isinstance(data, Mapping) and data.get("bbox_file"):
            return str(data["bbox_file"])
    return ""


def extents_stated(found: Predictions) -> bool:
    """Whether the boxes of poses are the smallest ones around their keypoints, as some evaluators write."""
    rows = np.isfinite(found.keypoints).any((1, 2))
    points = found.keypoints[rows]
    low, high = np.nanmin(points, 1), np.nanmax(points, 1)
    around = np.concatenate([low, high], 1)
    size = np.maximum(high - low, 1.0)
    away = np.abs(found.box[rows] - around) / np.concatenate([size, size], 1)
    return bool(finite_median(away) < 0.01)


def best_overlap(pose_set: PoseSet, found: Predictions) -> np.ndarray:
    """For each labelled instance the IoU of its box with the nearest box of the results; 0 without any."""
    rows = {int(n): found.box[found.image_id == n] for n in np.unique(found.image_id).tolist()}
    best = []
    for i in pose_set.labelled:
        boxes, own = rows.get(pose_set.instances[i].image_id), np.array(pose_set.instances[i].box)
        if boxes is None:
            best.append(0.0)
            continue
        side = np.clip(np.minimum(boxes[:, 2:], own[2:]) - np.maximum(boxes[:, :2], own[:2]), 0, None)
        common = side.prod(1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (own[2:] - own[:2]).prod()
        best.append(float(np.nan_to_num(common / np.maximum(areas - common, 1e-9)).max()))
    return np.array(best)


@dataclass(frozen=True)
class LeftOut:
    """Which labelled instances have no pose, and by which rule.

    Attributes:
        rule: in words; "" where none explains it.
        missing: of the labelled instances, in their order.
        fix: what to do.
        is_cause: whether the rule says why they have none, and not only that there are many.
    """

    rule: str
    missing: Bool[np.ndarray, " L"]
    fix: str
    is_cause: bool = True


class InstancesLeftOut(Cause):
    """Instances have no pose in the result file, because something left them out."""

    name, group, level = "instances without a pose", "evaluation", "forward"
    needs = ("results", "data")
    refuted_by = "a model that really finds none of these instances"

    def test(self, case: Case) -> Answer:
        found = left_out(case)
        if found is None:
            return RuledOut("no rule (most poses of an image, category, size) explains what has no pose")
        pose_set, evidence = case.pose_set(), case.evidence()
        gone = {
            pose_set.instances[i].annotation_id for i in np.array(pose_set.labelled)[found.missing].tolist()
        }
        effect = evidence.without_others([a for a in pose_set.instances if a.annotation_id not in gone])
        share = float(found.missing.mean())
        return self.found(
            f"{int(found.missing.sum())} of {counted(len(found.missing), 'annotated instance')} have no "
            f"pose: {found.rule}; without them AP changes by {signed_text(effect.delta)}",
            fix=found.fix,
            numbers=(Measurement("share of instances without a pose", share, expected=0.0),),
            effect=effect,
            severity="error" if found.is_cause else "warning",
            confidence="proved" if effect.low > 0 and found.is_cause else "measured",
        )

    def waits_for(self, finding: Finding, others: Sequence[Finding]) -> str:
        """Other boxes explain that there are many, as long as no rule says more."""
        boxes = any(one.cause == DetectedBoxes.name for one in others)
        return f"see '{DetectedBoxes.name}'" if boxes and finding.severity == "warning" else ""


def left_out(case: Case) -> LeftOut | None:
    """The rule by which instances have no pose; None where all have one, or no rule explains it."""

    def ruled() -> LeftOut | None:
        found, pose_set = case.all_results(), case.pose_set()
        found = found.take(np.flatnonzero(np.isin(found.image_id, list(pose_set.images))))
        if not len(found):
            return None
        missing = without_pose(found, pose_set, annotated_again(case))
        if missing.sum() < LEAST_IMAGES:
            return None
        return next(_rules(found, pose_set, missing), None)

    return case.once("left out", ruled)


def without_pose(
    found: Predictions, pose_set: PoseSet, copies: Collection[int] = ()
) -> Bool[np.ndarray, " L"]:
    """Labelled instances for which no pose is left when each pose takes the nearest instance.

    Args:
        found: the poses.
        pose_set: with the instances.
        copies: `id` of annotations that repeat another one: one pose is all that a copy and its original get.
    """
    from scipy.optimize import linear_sum_assignment

    missing = []
    known = np.isfinite(found.keypoints)
    middles = np.where(known, found.keypoints, 0).sum(1) / np.maximum(known.sum(1), 1)
    for image_id, labelled in pose_set.labelled_of_image.items():
        rows = [i for i in labelled if id(pose_set.instances[i]) not in copies]
        missing += [(i, False) for i in labelled if i not in rows]
        if not rows:
            continue
        own = np.array([np.array(pose_set.instances[i].box).reshape(2, 2).mean(0) for i in rows])
        poses = middles[found.image_id == image_id]
        away = np.linalg.norm(own[:, None] - poses[None], axis=-1)
        taken = set(linear_sum_assignment(away)[0].tolist()) if len(poses) else set()
        missing += [(i, n not in taken) for n, i in enumerate(rows)]
    return np.array([gone for _, gone in sorted(missing)], bool)


def _rules(found: Predictions, pose_set: PoseSet, missing: Bool[np.ndarray, " L"]) -> Iterator[LeftOut]:
    """Rules that explain what has no pose, the plainest first."""
    instances = [pose_set.instances[i] for i in sorted(pose_set.labelled)]
    categories = np.array([one.category_id for one in instances])
    seen = set(found.category_id.tolist())
    if len(seen) > 1 and seen <= set(pose_set.categories):
        none = [c for c in np.unique(categories) if c not in seen and (categories == c).sum() >= LEAST]
        of_these = np.isin(categories, none)
        if none and of_these[missing].mean() >= FOLLOWS:
            names = ", ".join(str(pose_set.categories.get(c, c)) for c in none)
            yield LeftOut(
                f"category {names} has {counted(int(of_these.sum()), 'instance')} and no result at all",
                of_these,
                "predict every category of the annotations, or evaluate on those that were predicted",
            )
    yield from _cut_off(found, pose_set, missing)
    sizes = {"an area": [one.area for one in instances], "a box": [box_area(one.box) for one in instances]}
    for what, given in sizes.items():
        size = np.array(given, float)
        if np.isfinite(size).all() and (cut := _cut(size, missing)) is not None:
            yield LeftOut(
                f"nearly all instances of {what} below {cut:.0f} square pixels have none, and "
                "nearly all others one",
                missing,
                "predict small instances too, or say from which size on figures count",
            )
    yield from _beside_others(instances, missing)
    yield from _many(found, instances, missing)


def _beside_others(instances: Sequence[Instance], missing: Bool[np.ndarray, " L"]) -> Iterator[LeftOut]:
    """Those that stand close to one that has a pose: a suppression that is too strict removes them."""
    boxes = np.array([one.box for one in instances], float).reshape(-1, 2, 2)
    images = np.array([one.image_id for one in instances])
    middles, sides = boxes.mean(1), np.sqrt(np.maximum((boxes[:, 1] - boxes[:, 0]).prod(1), 1e-9))
    nearest = np.full(len(boxes), FAR)
    for image_id in np.unique(images):
        rows = np.flatnonzero(images == image_id)
        away = np.linalg.norm(middles[rows][:, None] - middles[rows], axis=-1) / sides[rows][:, None]
        np.fill_diagonal(away, FAR)
        away[:, missing[rows]] = FAR  # what has no pose suppresses nothing
        nearest[rows] = np.minimum(away.min(1), FAR)
    cut = _cut(nearest, missing)
    if cut is not None and cut < FAR:
        yield LeftOut(
            f"nearly all of them stand within {cut:.2g} box sides of an instance that has one, and nearly no "
            "two poses stand closer",
            missing,
            "remove fewer poses as repeated: NMS of boxes at an IoU of .65, of poses at an OKS of .9",
        )


def _many(
    found: Predictions, instances: Sequence[Instance], missing: Bool[np.ndarray, " L"]
) -> Iterator[LeftOut]:
    """A large part of the instances of images that have poses, whatever they are like."""
    seen = {*found.image_id.tolist()}
    among = np.array([one.image_id in seen for one in instances])
    if missing[among].mean() >= MANY:
        yield LeftOut(
            f"{int(missing[among].sum())} in images that have poses, near to others and far, large and "
            f"small; the lowest score of a pose is {float(np.nanmin(found.score)):.2g}",
            missing & among,
            "look at what finds the instances: the recall of the detector's boxes, thresholds on the scores "
            "of boxes and poses, what is removed as repeated",
            is_cause=False,
        )


def _cut_off(found: Predictions, pose_set: PoseSet, missing: Bool[np.ndarray, " L"]) -> Iterator[LeftOut]:
    """The best few poses of an image, or of a category in an image, alone."""
    instances = [pose_set.instances[i] for i in sorted(pose_set.labelled)]
    images, categories = found.image_id.tolist(), found.category_id.tolist()
    for of, wanted, given in (
        ("", [one.image_id for one in instances], images),
        (
            " of one category",
            [(one.image_id, one.category_id) for one in instances],
            list(zip(images, categories, strict=True)),
        ),
    ):
        have, there = Counter[object](given), Counter[object](wanted)
        most = max(have.values())
        more = [place for place, count in there.items() if count > most and place in have]
        # Poses that are lost otherwise leave as few in some images by chance.
        lost = sum(count - have[place] for place, count in there.items() if 0 < have[place] < count)
        explained = sum(there[place] - most for place in more) > MOST_OF * lost
        if len(more) >= LEAST_IMAGES and explained and all(have[place] == most for place in more):
            yield LeftOut(
                f"no image has more than {most} pose{'s' * (most > 1)}{of}, and all {len(more)} that hold "
                f"more instances{of} have exactly {most}: the rest was cut off",
                missing,
                f"write every pose of an image, not the best {most} alone; COCO counts the best 20",
            )


def box_area(box: Sequence[float]) -> float:
    """Square pixels of (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    return float((x1 - x0) * (y1 - y0))


def _cut(size: Float[np.ndarray, " L"], missing: Bool[np.ndarray, " L"]) -> float | None:
    """The size below which instances are missing and above which they are not; None where none tells them."""
    if missing.sum() < LEAST or (~missing).sum() < LEAST:
        return None
    order = np.argsort(size, kind="stable")
    below = np.r_[0, np.cumsum(missing[order])] + (~missing).sum() - np.r_[0, np.cumsum(~missing[order])]
    at = int(below.argmax())
    wrong = len(size) - int(below[at])
    few = MIXED * min(missing.sum(), (~missing).sum())
    return float(size[order][min(at, len(size) - 1)]) if at and wrong <= few else None


CAUSES: tuple[Cause, ...] = (DetectedBoxes(), InstancesLeftOut())
