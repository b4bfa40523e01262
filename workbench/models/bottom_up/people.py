"""Who is in the image? Groups as people in image pixels, and the one of them that a box asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NAN, Prediction
from workbench.core.geometry import Box, apply

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.decoding.grouping import Grouping

NOWHERE = (NAN, NAN, NAN, NAN)


@dataclass(frozen=True, eq=False)
class People:
    """Everybody found in one image.

    Attributes:
        keypoints: (x, y) in image pixels; nan where the person lacks the keypoint.
        scores: of the keypoints: heatmap values; 0 where missing.
        score: of the people, by the protocol's rule: mean of all K values before missing ones were filled.
        boxes: (x0, y0, x1, y1), the extent of each person's keypoints; no box was ever detected.
        grouping: the same in cells of the maps, with its steps where they were asked for.
    """

    keypoints: Float[np.ndarray, "P K 2"]
    scores: Float[np.ndarray, "P K"]
    score: Float[np.ndarray, " P"]
    boxes: Float[np.ndarray, "P 4"]
    grouping: Grouping

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def of(cls, grouping: Grouping, to_image: Float[np.ndarray, "2 3"]) -> People:
        """Groups taken to the image.

        Args:
            grouping: in cells.
            to_image: affine map from those cells.
        """
        points = apply(to_image, grouping.keypoints[..., :2].astype(float))
        scores = grouping.keypoints[..., 2].astype(float)
        # fmin and fmax pass over nan; a person has at least one keypoint.
        boxes = np.concatenate([np.fmin.reduce(points, axis=1), np.fmax.reduce(points, axis=1)], axis=1)
        return cls(points, scores, grouping.scores.astype(float), boxes, grouping)

    def in_box(self, box: Box) -> Prediction:
        """The person that a box asks for; all nan where nobody is in it.

        Overlap of the box and the extent of a person's keypoints, times the share of them that lie inside: a
        single keypoint taken from a neighbour doubles an extent. What refine filled does not count, for it
        takes keypoints from everybody's heatmaps and gives a stray detection the extent of a real person.

        Args:
            box: (x0, y0, x1, y1) in image pixels.
        """
        detected = np.where(self.grouping.filled[..., None], np.nan, self.keypoints)
        extents = np.concatenate([np.fmin.reduce(detected, axis=1), np.fmax.reduce(detected, axis=1)], axis=1)
        inside = ((detected >= box[:2]) & (detected <= box[2:])).all(-1)  # nan is not inside
        overlap = overlaps(extents, box) * inside.sum(1) / np.isfinite(detected[..., 0]).sum(1).clip(min=1)
        if not (overlap > 0).any():
            K = self.keypoints.shape[1]
            return Prediction(np.full((K, 2), np.nan), np.zeros(K), box)
        best = int(overlap.argmax())
        return Prediction(self.keypoints[best], self.scores[best], box, float(self.score[best]))

    def predictions(self) -> tuple[Prediction, ...]:
        """Everybody, in the order in which they were found."""
        boxes = [(float(a), float(b), float(c), float(d)) for a, b, c, d in self.boxes]
        found = zip(self.keypoints, self.scores, boxes, self.score.tolist(), strict=True)
        return tuple(Prediction(points, scores, box, score) for points, scores, box, score in found)


def overlaps(boxes: Float[np.ndarray, "P 4"], box: Box) -> Float[np.ndarray, " P"]:
    """Intersection over union of each box with one box; 0 where they do not meet."""
    one = np.asarray(box, float)
    shared = np.minimum(boxes[:, 2:], one[2:]) - np.maximum(boxes[:, :2], one[:2])
    both = np.prod(shared.clip(min=0), axis=1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(one[2:] - one[:2])
    return both / np.maximum(area - both, np.finfo(float).tiny)
