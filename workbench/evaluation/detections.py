"""What was found? The poses of a COCO result file as arrays, checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.evaluation.ground_truth import check_finite, integers, quadruples, triplets

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Detections:
    """Detected poses, in the order given; the order breaks ties of score.

    Attributes:
        image_id: as in the annotation file.
        category_id: as in the annotation file.
        keypoints: (x, y) in image pixels; nan, where the model gave none, counts as (0, 0): `as_written`.
        score: of the whole pose; only its order matters.
        area: square pixels, of the given box or of the keypoints' extent; decides only whether an
            unmatched detection counts as a mistake in APM, APL, ARM and ARL.
        area_rule: ``box`` or ``extent``.
    """

    image_id: Int[np.ndarray, " D"]
    category_id: Int[np.ndarray, " D"]
    keypoints: Float[np.ndarray, "D K 2"]
    score: Float[np.ndarray, " D"]
    area: Float[np.ndarray, " D"]
    area_rule: str = "extent"

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def from_coco(cls, results: Sequence[Mapping[str, Any]]) -> Detections:
        """Read the list of a COCO result json.

        As pycocotools does, the first detection decides for all whether the area is that of ``bbox`` or the
        extent of the keypoints, undetected ones included.

        Raises:
            ValueError: it is no list of results, a key is missing, or a number is not finite.
        """
        if not isinstance(results, (list, tuple)):
            raise ValueError(f"results: expected a list of detections, got {_described(results)}")
        columns = {k: _column(results, k) for k in ("image_id", "category_id", "keypoints", "score")}
        keypoints = triplets(columns["keypoints"], "results")[..., :2]
        try:
            score = np.array(columns["score"], float).reshape(len(results))
        except (TypeError, ValueError, OverflowError):
            raise ValueError("results: expected score as one number for each detection") from None
        position = range(len(results))
        check_finite(keypoints, position, "results: keypoints of detection")
        check_finite(score, position, "results: score of detection")
        image_id = integers(columns["image_id"], "results: image_id")
        category_id = integers(columns["category_id"], "results: category_id")
        if len(results) and results[0].get("bbox"):
            boxes = quadruples(_column(results, "bbox"), "results")
            check_finite(boxes, position, "results: bbox of detection")
            return cls(image_id, category_id, keypoints, score, boxes[:, 2] * boxes[:, 3], "box")
        return cls(image_id, category_id, keypoints, score, extent(keypoints), "extent")


def as_written(keypoints: Float[np.ndarray, "D K 2"]) -> Float[np.ndarray, "D K 2"]:
    """A copy with (0, 0) for keypoints that the model did not give.

    A COCO result file has no other way to state a missing keypoint, and pycocotools takes the numbers as they
    are. The evaluator does the same with predictions in memory, so that they and their file give one figure.
    """
    points = np.array(keypoints, float)
    points[~np.isfinite(points).all(-1)] = 0.0
    return points


def extent(keypoints: Float[np.ndarray, "D K 2"]) -> Float[np.ndarray, " D"]:
    """Area of the smallest upright box around each pose, square pixels; nan keypoints are left out."""
    if not keypoints.size:
        return np.zeros(len(keypoints))
    # Keypoints first: numpy then compares long rows, five times faster than 17 numbers at a time.
    columns = np.ascontiguousarray(np.moveaxis(keypoints, 0, -1))
    # fmax and fmin pass over nan; a pose without any keypoint stays nan, and covers nothing.
    side = np.fmax.reduce(columns) - np.fmin.reduce(columns)
    return np.nan_to_num(side[0] * side[1], nan=0.0)


def _described(other: Any) -> str:
    """What came instead of a list, and what it may be."""
    if not isinstance(other, Mapping):
        return type(other).__name__
    hint = "; with annotations it is ground truth, not results" if "annotations" in other else ""
    return f"an object with {', '.join(map(str, other)) or 'nothing in it'}{hint}"


def _column(results: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """One value of every detection."""
    try:
        return list(map(itemgetter(key), results))
    except (KeyError, TypeError):
        wrong = next(i for i, r in enumerate(results) if not isinstance(r, Mapping) or key not in r)
        raise ValueError(
            f"results: detection {wrong} of {len(results)} has no {key!r}; "
            "expected image_id, category_id, keypoints and score in each"
        ) from None
