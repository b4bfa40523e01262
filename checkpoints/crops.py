"""What does the trainer read? A built-in set as a COCO folder: whole images, or one crop per instance.

Reading a crop of 200 pixels costs a tenth of reading its scene, and training reads each a few dozen
times; on two cores that decides how long the demo takes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from workbench.data import PoseSet

REACH = 2.0  # crop side over box side: room for 1.25 padding x 1.3 scale x shift and some rotation
LONGEST = 224  # pixels; 128 px of input over 1.25 of box want 205 pixels for REACH


def write_images(pose_set: PoseSet, folder: Path) -> Path:
    """The set as it is: annotations.json and images/ as PNG; gives the folder."""
    raw = json.loads(json.dumps(pose_set.raw))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    pictures = {s.image_id: s.image for s in (pose_set.sample(i) for i in range(len(pose_set)))}
    raw["images"] = [image for image in raw["images"] if image["id"] in pictures]
    raw["annotations"] = [entry for entry in raw["annotations"] if entry["image_id"] in pictures]
    for image in raw["images"]:
        image["file_name"] = f"{image['id']:06d}.png"
        cv2.imwrite(str(folder / "images" / image["file_name"]), pictures[image["id"]][..., ::-1])
    (folder / "annotations.json").write_text(json.dumps(raw))
    return folder


def write_crops(pose_set: PoseSet, folder: Path, truncated: float = 0.0, seed: int = 0) -> Path:
    """One JPEG per labelled instance, with its annotation moved into the crop; gives the folder.

    Args:
        pose_set: where the instances come from.
        folder: becomes annotations.json and images/.
        truncated: share of crops cut off at a line through the body, as a photograph ends at the waist.
        seed: for the choice and place of the cuts.
    """
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, index in enumerate(pose_set.labelled, start=1):
        sample = pose_set.sample(index)
        assert sample.truth is not None, "labelled instances have truth"
        picture, truth, box = crop(sample.image, sample.truth, sample.box)
        if random.random() < truncated:
            picture, truth, box = cut_off(picture, truth, box, random)
        name = f"{number:06d}.jpg"
        cv2.imwrite(str(folder / "images" / name), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        height, width = picture.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        x0, y0, x1, y1 = box
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": sample.category_id,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": 0.5 * (x1 - x0) * (y1 - y0),  # only evaluation reads it, and crops are not evaluated
                "iscrowd": 0,
                "num_keypoints": int((truth[:, 2] > 0).sum()),
                "keypoints": [round(float(v), 3) for v in truth.ravel()],
            }
        )
    facts = {"images": images, "annotations": annotations, "categories": pose_set.raw["categories"]}
    (folder / "annotations.json").write_text(json.dumps(facts))
    return folder


def crop(
    image: np.ndarray, truth: np.ndarray, box: tuple[float, float, float, float]
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float, float]]:
    """Image, keypoints and box around one instance, at most LONGEST pixels; ends where the image ends."""
    x0, y0, x1, y1 = box
    half = 0.5 * REACH * max(x1 - x0, y1 - y0)
    cx, cy = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
    left, top = max(0, int(cx - half)), max(0, int(cy - half))
    part = image[top : int(np.ceil(cy + half)) + 1, left : int(np.ceil(cx + half)) + 1]
    factor = min(1.0, LONGEST / max(part.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in part.shape[:2])
    small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA) if factor < 1 else part
    # Pixel centres are integers, so a resize keeps (x + 1/2) in proportion, not x.
    scale = np.array([width / part.shape[1], height / part.shape[0]])
    moved = truth.astype(float).copy()
    moved[:, :2] = (truth[:, :2] - (left, top) + 0.5) * scale - 0.5
    moved[truth[:, 2] == 0] = 0
    a, b = (np.array([[x0, y0], [x1, y1]]) - (left, top)) * scale
    return small, moved, (float(a[0]), float(a[1]), float(b[0]), float(b[1]))


def cut_off(
    image: np.ndarray, truth: np.ndarray, box: tuple[float, float, float, float], random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float, float]]:
    """The crop ended at a line below the upper third of the body; keypoints beyond are unlabelled."""
    x0, y0, x1, y1 = box
    line = int(min(image.shape[0], max(8, y0 + (y1 - y0) * random.uniform(0.35, 0.85))))
    kept = truth.copy()
    kept[truth[:, 1] > line - 1] = 0
    if (kept[:, 2] > 0).sum() < 5:  # nothing left to learn from
        return image, truth, box
    # The box of what is left, as an annotator would draw it: the old sides, ended at the line.
    return image[:line], kept, (x0, y0, x1, float(min(y1, line - 1)))
