"""COCO result lists as others write them: ids as text, parts of COCO-WholeBody, -1 for what is absent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import counted
from workbench.data.coco_dialects import PARTS, WHOLE, flat, keypoints_of_part, part_places

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.predictions import Predictions


def minus_ones(predictions: Predictions, name: str) -> tuple[str, ...]:
    """What stands in a result file as -1, one sentence each: absent, or a number as any other?

    Args:
        predictions: as read.
        name: of the file.
    """
    places = (predictions.keypoints == -1).all(2)
    counts = (
        (int(places.sum()), "of keypoints, at (-1, -1)", "; an absent keypoint is written as 0, 0, 0"),
        (int((predictions.scores == -1).sum()), "of the scores of keypoints", ""),
        (int((predictions.score == -1).sum()), "of the scores of poses", "; leave absent poses out"),
    )
    return tuple(
        f"{name}: -1 {what}: {'once' if count == 1 else f'{count} times'}, counted as a number like any "
        f"other, as pycocotools does{advice}"
        for count, what, advice in counts
        if count
    )


def unranked(predictions: Predictions, name: str) -> tuple[str, ...]:
    """Poses whose scores do not rank them, and poses that are listed more than once, one sentence each.

    Args:
        predictions: as read.
        name: of the file.
    """
    score, count = predictions.score, len(predictions.score)
    if not count:
        return ()
    found = []
    if count > 1 and (score == score[0]).all():
        found.append(
            f"{name}: all {counted(count, 'pose has', 'poses have')} the score {score[0]:g}: their order in "
            "the file ranks them, and AP depends on it"
        )
    rows = np.column_stack(
        [predictions.image_id, predictions.category_id, predictions.keypoints.reshape(count, -1)]
    )
    again = count - len(np.unique(np.nan_to_num(rows, nan=-np.inf), axis=0))
    if again:
        found.append(
            f"{name}: {again} of {counted(count, 'pose')} repeat another one of their image exactly, and "
            "count as false"
        )
    return tuple(found)


def keypoint_count(results: Any) -> int | None:
    """How many keypoints a result list has, by its first entry; None when it does not say."""
    if not isinstance(results, Sequence) or not results or not isinstance(results[0], Mapping):
        return None
    first = results[0]
    if all(key in first for key, _ in PARTS.values()):
        return sum(count for _, count in PARTS.values())
    keypoints = flat(first.get("keypoints"))
    return len(keypoints) // 3 if isinstance(keypoints, list) else None


def results_of(pose_set: PoseSet, results: Any) -> Any:
    """The list with the ids of the set as whole numbers and the keypoints of its part, flat.

    What is no result is left for the reader of results to refuse. Nothing changes its argument.

    Args:
        pose_set: that the results are of.
        results: content of a COCO result file.

    Raises:
        ValueError: the parts of COCO-WholeBody are incomplete or of another length.
    """
    if not isinstance(results, list):
        return results
    return [_result(pose_set, entry, position) for position, entry in enumerate(results)]


def of_categories(pose_set: PoseSet, results: Any) -> tuple[Any, int]:
    """The results of the set's categories, and how many others there were.

    Results of other categories may have another number of keypoints. Where none is of the set's, all stay,
    for the evaluation to say so.

    Args:
        pose_set: whose categories are wanted.
        results: content of a COCO result file.
    """
    if not isinstance(results, list):
        return results, 0
    known = pose_set.categories

    def wanted(entry: Any) -> bool:
        number = entry.get("category_id") if isinstance(entry, Mapping) else None
        # What has no hash is no id: the reader of results refuses it.
        return not isinstance(entry, Mapping) or not isinstance(number, Hashable) or number in known

    chosen = [entry for entry in results if wanted(entry)]
    return (chosen, len(results) - len(chosen)) if chosen else (results, 0)


def _of_part(pose_set: PoseSet, keypoints: Any) -> Any:
    """Of a whole body's 133 keypoints in one list, those of the part that the set was opened for."""
    whole = 3 * len(part_places(WHOLE))
    if not pose_set.parts or pose_set.part == WHOLE or not isinstance(keypoints, list):
        return keypoints
    if len(keypoints) != whole:
        return keypoints
    places = part_places(pose_set.part)
    return keypoints[3 * places.start : 3 * places.stop]


def _result(pose_set: PoseSet, entry: Any, position: int) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    changes: dict[str, Any] = {}
    if isinstance(entry.get("image_id"), str):
        changes["image_id"] = pose_set.image_number(entry["image_id"])
    category = entry.get("category_id")
    if isinstance(category, str) and category.isascii() and category.isdigit() and len(category) <= 18:
        changes["category_id"] = int(category)
    part = pose_set.part
    if part != "body" and (part == WHOLE or PARTS[part][0] in entry) and PARTS["foot"][0] in entry:
        changes["keypoints"] = keypoints_of_part(entry, part, f"results, detection {position}")
        # xtcocotools takes a part's own score where there is one.
        changes["score"] = entry.get(f"{part}_score", entry.get("score"))
    else:
        keypoints = _of_part(pose_set, flat(entry.get("keypoints")))
        if keypoints is not entry.get("keypoints"):
            changes["keypoints"] = keypoints
    return {**entry, **changes} if changes else entry


# Poses of a result file: whose box is each from? COCO's format has no annotation id for them.


# Boxes are written with two or three decimals, and clipped to the image, pixels.
SAME_BOX = 0.02


def with_own_annotations(pose_set: PoseSet, predictions: Predictions) -> tuple[Predictions, str]:
    """The poses with the annotation whose box each was made from: files of any format are paired alike.

    A result file tells it by its boxes: each is an annotated one of the same image and category, no
    annotation has two poses, and each labelled instance with a box has one. Where this does not hold nothing
    is changed: an instance without a pose counts as missed there.

    Args:
        pose_set: the annotations.
        predictions: of this set.

    Returns:
        the predictions, and why their poses are paired by OKS instead; "" where each has its annotation.
    """
    if predictions.annotation_id is not None or not len(predictions):
        return predictions, ""
    if not np.isfinite(predictions.box).all():
        return predictions, "it has no box for each pose"
    annotated = defaultdict(list)
    for instance in pose_set.instances:
        if instance.has_size:
            annotated[instance.image_id, instance.category_id].append(instance)
    boxes = {place: np.array([a.box for a in found]) for place, found in annotated.items()}
    own, taken = np.zeros(len(predictions), np.int64), set()
    places = zip(predictions.image_id.tolist(), predictions.category_id.tolist(), strict=True)
    for row, place in enumerate(places):
        free = boxes.get(place, np.zeros((0, 4)))  # nan where one is taken
        same = np.abs(free - predictions.box[row]).max(1) <= SAME_BOX
        if not same.any():
            return predictions, "its boxes are not those of the annotations"
        first = int(same.argmax())
        free[first] = np.nan
        own[row] = annotated[place][first].annotation_id
        taken.add(own[row])
    without = sum(pose_set.instances[i].annotation_id not in taken for i in pose_set.labelled)
    if without:
        return predictions, (
            f"{without} of {counted(len(pose_set.labelled), 'annotated box has', 'annotated boxes have')} "
            "no pose in it"
        )
    return replace(predictions, annotation_id=own), ""


def pairing_note(name: str, why: str) -> str:
    """The sentence for a file whose poses are paired by OKS.

    Args:
        name: of the file.
        why: as `with_own_annotations` gives it.
    """
    return (
        f"{name}: poses are paired with annotations by falling OKS, one to one, because {why}; predictions "
        "written by --out are paired by annotation, so calibration, keypoints and changed instances of the "
        "same poses may differ from theirs (AP and AR do not)"
    )
