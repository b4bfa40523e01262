"""What did a model say about a data set? Arrays, one row for each pose, and the formats they travel in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.evaluation.predictions import Detections, as_written, extent

if TYPE_CHECKING:
    from pathlib import Path

    from jaxtyping import Float, Int

    from workbench.evaluation.protocol import Protocol


@dataclass(frozen=True, eq=False)
class Predictions:
    """Poses in the order in which they were predicted.

    Attributes:
        image_id: as in the annotation file.
        category_id: as in the annotation file.
        box: (x0, y0, x1, y1) in image pixels that the crop was made from, without padding; nan if unknown.
        keypoints: (x, y) in image pixels; nan where the model gave none.
        scores: of keypoints, as the model gives them.
        score: of the pose, by the protocol's score rule.
        annotation_id: the annotation whose box was used; None when the boxes are no annotations'.
    """

    image_id: Int[np.ndarray, " N"]
    category_id: Int[np.ndarray, " N"]
    box: Float[np.ndarray, "N 4"]
    keypoints: Float[np.ndarray, "N K 2"]
    scores: Float[np.ndarray, "N K"]
    score: Float[np.ndarray, " N"]
    annotation_id: Int[np.ndarray, " N"] | None = None

    def __post_init__(self) -> None:
        N, K = self.keypoints.shape[:2]
        wanted = {
            "image_id": (N,),
            "category_id": (N,),
            "box": (N, 4),
            "keypoints": (N, K, 2),
            "scores": (N, K),
            "score": (N,),
            "annotation_id": (N,),
        }
        for name, shape in wanted.items():
            held = getattr(self, name)
            if held is not None and held.shape != shape:
                raise ValueError(f"predictions: expected {name} of shape {shape}, got {held.shape}")

    def __len__(self) -> int:
        return len(self.score)

    def take(self, rows: Int[np.ndarray, " M"] | Sequence[int]) -> Predictions:
        """Some of the poses, in the order asked for."""
        chosen = np.asarray(rows, int)
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v[chosen] for name, v in held.items() if v is not None})

    def detections(self) -> Detections:
        """Exactly what `Detections.from_coco` reads from `to_coco`: missing keypoints, areas and all."""
        points, box = as_written(self.keypoints), self._written_box()
        area = extent(points) if box is None else np.prod(box[:, 2:] - box[:, :2], axis=1)
        rule = "extent" if box is None else "box"
        return Detections(self.image_id, self.category_id, points, self.score, area, rule)

    def _written_box(self) -> Float[np.ndarray, "N 4"] | None:
        """Boxes for a result file: all rows have one or none has; None where no box is known.

        A row without a box (a pose without any keypoint) covers nothing.
        """
        known = np.isfinite(self.box).all(axis=1, keepdims=True)
        if not known.any():
            return None
        return np.where(known, self.box, 0.0)

    def to_coco(self) -> list[dict[str, Any]]:
        """A COCO result list, as pycocotools and CocoMetric read it.

        A keypoint that the model did not give is written 0, 0, 0, which is how COCO spells "not there".
        """
        given = np.isfinite(self.keypoints).all(axis=2, keepdims=True)
        triplets = np.where(given, np.concatenate([self.keypoints, self.scores[..., None]], axis=2), 0.0)
        results = [
            {"image_id": image, "category_id": category, "keypoints": row, "score": score}
            for image, category, row, score in zip(
                self.image_id.tolist(),
                self.category_id.tolist(),
                triplets.reshape(len(self), -1).tolist(),
                self.score.tolist(),
                strict=True,
            )
        ]
        box = self._written_box()
        if box is not None:
            sizes = np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1)
            for result, box in zip(results, sizes.tolist(), strict=True):
                result["bbox"] = box
        return results

    @classmethod
    def from_coco(cls, results: Sequence[Mapping[str, Any]]) -> Predictions:
        """Read a COCO result list; the third number of each keypoint is its score.

        A keypoint 0, 0, 0 is one that the model did not give: nan, as in every prediction in memory.

        Raises:
            ValueError: as Detections.from_coco.
        """
        found = Detections.from_coco(results)
        N, K = found.keypoints.shape[:2]
        scores = np.array([r["keypoints"] for r in results], float).reshape(N, K, 3)[..., 2]
        box = np.full((N, 4), np.nan)
        if found.area_rule == "box":
            box = np.array([r["bbox"] for r in results], float)
            box[:, 2:] += box[:, :2]
        absent = (found.keypoints == 0).all(2) & (scores == 0)
        points = np.where(absent[..., None], np.nan, found.keypoints)
        return cls(found.image_id, found.category_id, box, points, scores, found.score)

    def to_parquet(self, path: Path, *, epoch: int | None = None, **more: Any) -> Path:
        """Write one Parquet file; see workbench.evaluation.predictions.write_predictions."""
        from workbench.evaluation.predictions import write_predictions

        return write_predictions(path, self, epoch=epoch, **more)

    @classmethod
    def from_parquet(cls, path: Path) -> tuple[Predictions, Protocol | None]:
        """Read what to_parquet wrote: the predictions, and their protocol where one was given."""
        from workbench.evaluation.predictions import read_predictions

        return read_predictions(path)
