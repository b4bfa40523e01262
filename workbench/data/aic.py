"""AI Challenger's own annotation list, in COCO's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.data.coco_entries import numbers

# Source: mmpose 1.3.2 configs/_base_/datasets/aic.py.
AIC_KEYPOINTS = (
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
    "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck",
)  # fmt: skip


def is_aic(raw: Any) -> bool:
    """Whether a json's content is such a list."""
    return (
        isinstance(raw, list)
        and bool(raw)
        and all(isinstance(e, Mapping) and "keypoint_annotations" in e for e in raw[:100])
    )


def from_aic(entries: list[Any], where: str) -> dict[str, Any]:
    """AI Challenger's own list: one entry an image, people by name. Boxes there are corners.

    Source: AIChallenger/AI_Challenger_2017 Evaluation/keypoint_eval/README.md.
    """
    images, annotations = [], []
    for i, entry in enumerate(entries):
        label = f"{where}, image {i}"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("image_id"), str):
            raise ValueError(f"{label}: expected image_id, human_annotations and keypoint_annotations")
        poses, boxes = entry.get("keypoint_annotations"), entry.get("human_annotations") or {}
        if not isinstance(poses, Mapping) or not isinstance(boxes, Mapping):
            raise ValueError(
                f"{label}: expected people by name under keypoint_annotations and human_annotations"
            )
        images.append({"id": i + 1, "file_name": f"{entry['image_id']}.jpg"})
        for name, pose in poses.items():
            values = numbers(pose, 3 * len(AIC_KEYPOINTS), f"{label}, {name}: keypoints").reshape(-1, 3)
            # 1 visible, 2 hidden, 3 not there or not to be told.
            values[:, 2] = [{1.0: 2.0, 2.0: 1.0}.get(v, 0.0) for v in values[:, 2].tolist()]
            values[values[:, 2] == 0] = 0
            person: dict[str, Any] = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": 1}
            person |= {"keypoints": values.ravel().tolist(), "iscrowd": 0}
            if name in boxes:
                x0, y0, x1, y1 = numbers(boxes[name], 4, f"{label}, {name}: box").tolist()
                person["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            annotations.append(person)
    category = {"id": 1, "name": "person", "keypoints": list(AIC_KEYPOINTS)}
    return {"images": images, "annotations": annotations, "categories": [category]}
