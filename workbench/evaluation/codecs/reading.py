"""Read the outputs of a top-down model in several ways, batch by batch, from one forward pass each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Batch, DecodeOptions, Outputs, PoseModel
from workbench.core.flip import average_with_flip
from workbench.core.geometry import apply, inverse
from workbench.core.wrapping import Wrapper
from workbench.evaluation.codecs.ways import NO_FLIP, SHIFTED, Way
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import pose_scores

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass
class Readings:
    """Keypoints in image pixels and keypoint scores of all ways, batch by batch.

    Attributes:
        model: top-down, with a codec.
        ways: the model's own first.
        points: by decoder, cells and flip test; one array for each batch.
        scores: by flip test and keypoint score rule; one array for each batch.
        calls: inputs that the network was given, mirrored ones included.
    """

    model: PoseModel
    ways: Sequence[Way]
    points: dict[tuple[str, str, str], list[np.ndarray]] = field(default_factory=dict)
    scores: dict[tuple[str, str], list[np.ndarray]] = field(default_factory=dict)
    calls: int = 0

    def batch(self, rows: list[int], batch: Batch, outputs: Outputs) -> None:
        """Read one batch in every way; called by `predict` after each forward pass."""
        self.calls += len(rows) * (1 + len(outputs.passes))
        for flip in dict.fromkeys(way.flip for way in self.ways):
            seen = self._averaged(outputs, flip)
            for decoder in dict.fromkeys(way.decoder for way in self.ways):
                found = self.model.decode(seen, batch, DecodeOptions(decoder))
                points = np.stack([np.asarray(p.keypoints, float) for p in found])
                for cells in dict.fromkeys(way.cells for way in self.ways):
                    placed = (
                        points if cells == self.ways[0].cells else self._in_other_cells(points, batch, seen)
                    )
                    self.points.setdefault((decoder, cells, flip), []).append(placed)
            for rule in dict.fromkeys(way.keypoint_score for way in self.ways):
                found = self.model.decode(seen, batch, DecodeOptions(score=rule))  # type: ignore[arg-type]
                self.scores.setdefault((flip, rule), []).append(
                    np.stack([np.asarray(p.scores, float) for p in found])
                )

    def predictions(self, way: Way, given: Predictions) -> Predictions:
        """All poses so far, read in one way.

        Args:
            way: one of `ways`.
            given: the same poses as the model reads them; their score is the box's.
        """
        scores = np.concatenate(self.scores[way.flip, way.keypoint_score])
        return dataclasses.replace(
            given,
            keypoints=np.concatenate(self.points[way.reading]),
            scores=scores,
            score=pose_scores(way.pose_score, scores, given.score),
        )

    def _averaged(self, outputs: Outputs, flip: str) -> Outputs:
        plain = dataclasses.replace(outputs, passes={})
        if flip == NO_FLIP:
            return plain
        mirrored = outputs.passes["mirrored"]
        return average_with_flip(plain, mirrored, self.model.skeleton.mirror, flip == SHIFTED)

    def _in_other_cells(
        self, points: Float[np.ndarray, "N K 2"], batch: Batch, seen: Outputs
    ) -> Float[np.ndarray, "N K 2"]:
        """The same cells placed by the other rule: i / w of the crop's width, or i / (w - 1) for UDP."""
        assert self.model.codec is not None
        assert seen.heatmaps is not None
        h, w = seen.heatmaps.shape[-2:]
        own, other = (1, 0) if self.model.codec.udp else (0, 1)
        factor = np.array([(w - own) / (w - other), (h - own) / (h - other)])
        return np.stack(
            [apply(a, apply(inverse(a), p) * factor) for a, p in zip(batch.to_image, points, strict=True)]
        )


class BothPasses(Wrapper):
    """The model, looking at the mirrored images too, without averaging."""

    def all_passes(self, batch: Batch, flip: bool = False) -> Outputs:
        """Outputs of the images; those of the mirrored ones under ``mirrored``."""
        passes = {}
        if flip:
            mirrored = dataclasses.replace(batch, pixels=batch.pixels.flip(-1))
            passes = {"mirrored": self.model.forward(mirrored).detach()}
        return dataclasses.replace(self.model.forward(batch).detach(), passes=passes)
