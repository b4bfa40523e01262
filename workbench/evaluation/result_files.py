"""A COCO result list as others write it: ids as text, keypoints in the parts of COCO-WholeBody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.data.coco_dialects import PARTS, WHOLE, flat, keypoints_of_part

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet


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
    """
    if not isinstance(results, list):
        return results, 0
    kept = [r for r in results if not isinstance(r, Mapping) or r.get("category_id") in pose_set.categories]
    return (kept, len(results) - len(kept)) if kept else (results, 0)


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
    elif (keypoints := flat(entry.get("keypoints"))) is not entry.get("keypoints"):
        changes["keypoints"] = keypoints
    return {**entry, **changes} if changes else entry
