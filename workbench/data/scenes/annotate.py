"""What is the truth about a drawn scene? Keypoints, boxes, outlines and areas, counted pixel by pixel.

A keypoint is visible (2) when neither its own body nor a figure in front covers its pixel, hidden (1)
when one does, and unlabelled (0) when it lies outside the picture. Boxes, outlines and areas are those
of the pixels that can be seen. (Single blades of grass, one pixel wide, hide nothing.)
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from workbench.core import Skeleton
from workbench.data.scenes.animals import SPECIES
from workbench.data.scenes.composition import Actor, Scene

# Fewer pixels than this show no animal to anybody; such a sliver gets no annotation.
FEWEST_PIXELS = 150
FEWEST_KEYPOINTS = 3


def scene_annotations(scene: Scene, skeleton: Skeleton, categories: dict[str, int]) -> list[dict[str, Any]]:
    """COCO annotations, without ids, of the actors of some kinds, farthest first.

    Args:
        scene: a finished one.
        skeleton: names the marks to write.
        categories: kind of actor -> category id; others are part of the picture only.
    """
    found = []
    for i, actor in enumerate(scene.actors):
        if actor.kind not in categories or actor.seen is None:
            continue
        hidden = np.zeros(actor.cover.shape, bool)
        for other in scene.actors[i + 1 :]:
            hidden |= other.cover > 0.5
        visible = (actor.cover > 0.5) & ~hidden
        truth = _keypoints(actor, skeleton, hidden)
        labelled = int((truth[:, 2] > 0).sum())
        if visible.sum() < FEWEST_PIXELS or labelled < FEWEST_KEYPOINTS:
            continue
        rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        found.append(
            {
                "category_id": categories[actor.kind],
                "bbox": [int(v) for v in box],
                "area": int(visible.sum()),
                "iscrowd": 0,
                "num_keypoints": labelled,
                "keypoints": [v for x, y, seen in truth.tolist() for v in (x, y, int(seen))],
                "segmentation": _outlines(visible),
            }
        )
    return found


def species_categories() -> dict[str, int]:
    """Category id per species."""
    return {species.name: i + 1 for i, species in enumerate(SPECIES)}


def _keypoints(actor: Actor, skeleton: Skeleton, hidden: np.ndarray) -> np.ndarray:
    """(x, y, visibility) in pixels of the picture, rounded to a hundredth."""
    H, W = hidden.shape
    fine = actor.cover.shape[0] * 2, actor.cover.shape[1] * 2
    truth = np.zeros((len(skeleton), 3))
    for k, name in enumerate(skeleton.keypoints):
        point, depth = actor.figure.marks[name]
        x, y, z = actor.view.project([point])[0]
        # A pixel of the picture is the mean of two by two fine ones: their centres are half a fine pixel off.
        column, row = (x - 0.5) / 2, (y - 0.5) / 2
        if not (-0.5 <= column < W - 0.5 and -0.5 <= row < H - 0.5):
            continue
        i, j = min(max(round(y), 0), fine[0] - 1), min(max(round(x), 0), fine[1] - 1)
        behind = _surface(actor, i, j) - z > depth * actor.view.scale
        covered = hidden[min(max(round(row), 0), H - 1), min(max(round(column), 0), W - 1)]
        inside = np.clip([column, row], 0, [W - 1, H - 1])
        truth[k] = (*np.round(inside, 2), 1 if behind or covered else 2)
    return truth


def _surface(actor: Actor, row: int, column: int) -> float:
    """Height of the figure's own surface at a fine pixel; far below where it has none."""
    seen = actor.seen
    if seen is None:
        return -np.inf
    row, column = row - seen.top, column - seen.left
    if not (0 <= row < seen.height.shape[0] and 0 <= column < seen.height.shape[1]):
        return -np.inf
    return float(seen.height[row, column])


def _outlines(visible: np.ndarray) -> list[list[int]]:
    """Polygons around the visible pixels, COCO's flat lists of x and y."""
    contours, _ = cv2.findContours(visible.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    return [[int(v) for v in contour.reshape(-1)] for contour in contours if len(contour) >= 3]
