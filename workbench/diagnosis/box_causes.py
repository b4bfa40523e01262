"""Causes in the boxes of a result file: a detector's in place of annotated ones, or the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Measurement
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.image_id_causes import OtherImages

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.predictions import Predictions

# A box is the annotated one from this IoU on: files round. An instance has a box from the second one on.
SAME_BOX, FOUND_BOX = 0.97, 0.5
# Share of instances from which something is said.
FEW = 0.02


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
        loose = float(np.median(rest)) if len(rest) else 0.0
        return self.found(
            f"the boxes are those of a detector: {int(missed.sum())} of {int(seen.sum())} annotated "
            f"instances have no box (IoU below {FOUND_BOX:g}), the others one of IoU {loose:.2f} (median); "
            f"without the instances that were not found AP changes by {effect.delta:+.3f}",
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
    try:
        config = case.config()
    except NotAvailable:
        return ""
    for part in ("test_dataloader", "val_dataloader"):
        loader = config.get(part)
        data = loader.get("dataset") if isinstance(loader, Mapping) else None
        if isinstance(data, Mapping) and data.get("bbox_file"):
            return str(data["bbox_file"])
    return ""


def extents_stated(found: Predictions) -> bool:
    """Whether the boxes of poses are the smallest ones around their keypoints, as some evaluators write."""
    points = found.keypoints
    with np.errstate(all="ignore"):
        low, high = np.nanmin(points, 1), np.nanmax(points, 1)
    around = np.concatenate([low, high], 1)
    size = np.maximum(high - low, 1.0)
    away = np.abs(found.box - around) / np.concatenate([size, size], 1)
    return bool(np.nanmedian(away) < 0.01)


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


CAUSES: tuple[Cause, ...] = (DetectedBoxes(),)
