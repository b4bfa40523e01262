"""Ways to read a model's outputs: decoder, cells, flip test, scores; all of them from one forward pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import Batch, DecodeOptions, Groups, NotAvailable, Outputs, PoseModel
from workbench.core.capabilities import ShiftsHeatmaps
from workbench.core.flip import average_with_flip, no_mirror
from workbench.core.geometry import apply, inverse
from workbench.core.wrapping import Wrapper
from workbench.decoding import KEYPOINT_SCORES, decoders_for
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import DEFAULT, check_score_rule, pose_scores

if TYPE_CHECKING:
    from jaxtyping import Float


NO_FLIP, FLIP, SHIFTED = "no flip", "flip", "flip shifted"
"""Flip tests: none; mirrored maps as they are; mirrored maps moved by one cell."""

FLIPS = (NO_FLIP, FLIP, SHIFTED)

POSE_SCORES: Mapping[str, str] = {DEFAULT: "product", "mean": "mean", "min": "min", "max": "max"}
"""Pose score rules that are tried, and their names in variants: product is box score x mean over .2."""


@dataclass(frozen=True)
class Way:
    """One way to read the same outputs.

    Attributes:
        decoder: of DECODERS.
        cells: ``plain`` or ``UDP``: where cells lie in the input; "" for SimCC.
        flip: NO_FLIP, FLIP or SHIFTED.
        keypoint_score: of KEYPOINT_SCORES; "" for heatmaps, which have one peak.
        pose_score: a rule of SCORE_RULES.
    """

    decoder: str
    cells: str
    flip: str
    keypoint_score: str = ""
    pose_score: str = DEFAULT

    def changes(self, other: Way) -> tuple[str, ...]:
        """Names of the fields in which another way differs."""
        return tuple(
            f.name for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(other, f.name)
        )

    @property
    def reading(self) -> tuple[str, str, str]:
        """What decides the keypoints, without the scores."""
        return self.decoder, self.cells, self.flip

    @property
    def scores(self) -> tuple[str, str]:
        """What decides the scores."""
        return self.keypoint_score, self.pose_score

    def name(self, own: Way) -> str:
        """Short name; cells and scores are named where they are not the model's own."""
        parts = [self.decoder]
        parts += [f"{self.cells} cells"] if self.cells != own.cells else []
        parts += [self.flip]
        parts += [f"peak {self.keypoint_score}"] if self.keypoint_score != own.keypoint_score else []
        parts += [f"pose {POSE_SCORES.get(self.pose_score, self.pose_score)}"] * (
            self.pose_score != own.pose_score
        )
        return ", ".join(parts)


def own_way(model: PoseModel, flip: bool = False, score_rule: str = DEFAULT) -> Way:
    """How the model's outputs are read unless somebody asks for something else.

    Args:
        model: whose outputs are read.
        flip: average with the mirrored input.
        score_rule: of the pose.

    Raises:
        NotAvailable: it declares no codec, or finds people by itself.
        KeyError: no such pose score.
        ValueError: the pose score is the truth's, which no reading of the outputs gives.
    """
    check_score_rule(score_rule)
    if score_rule == "oracle":
        raise ValueError("decode: the pose score oracle is an upper bound and no reading; choose another")
    if isinstance(model, Groups):
        raise NotAvailable(
            "decode: this model is bottom-up: people come from its grouping, not from a decoder; "
            "`workbench ablate grouping` varies that"
        )
    if model.codec is None:
        raise NotAvailable(
            "decode: this model declares no codec and reads its output in its own way, so there is one "
            "reading; expected a model with heatmaps or SimCC vectors"
        )
    codec = model.codec
    simcc = codec.kind == "simcc"
    shifts = not simcc and isinstance(model, ShiftsHeatmaps) and bool(model.shift_heatmap)
    return Way(
        codec.decoder,
        "" if simcc else "UDP" if codec.udp else "plain",
        (SHIFTED if shifts else FLIP) if flip else NO_FLIP,
        "min" if simcc else "",
        score_rule,
    )


def ways_for(model: PoseModel, own: Way) -> tuple[list[Way], list[str]]:
    """Every way to read a model's outputs, its own first; and what was left out and why.

    Args:
        model: with a codec.
        own: from `own_way`.
    """
    assert model.codec is not None  # own_way refuses others
    simcc, left_out = model.codec.kind == "simcc", []
    flips = [NO_FLIP, FLIP] if simcc else [NO_FLIP, FLIP, SHIFTED]
    if simcc:
        left_out.append("shift: SimCC vectors have no cells to move; UDP cells: likewise")
    if why := no_mirror(model.skeleton):
        flips = [NO_FLIP]
        left_out.append(why)
    ways = [
        Way(decoder, cells, flip, keypoint, pose)
        for decoder in decoders_for(model.codec)
        for cells in ([""] if simcc else ["plain", "UDP"])
        for flip in flips
        for keypoint in (list(KEYPOINT_SCORES) if simcc else [""])
        for pose in dict.fromkeys([own.pose_score, *POSE_SCORES])
    ]
    return [own, *(way for way in ways if way != own)], left_out


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
        """Read one batch in every way; called by `predict` after each forward pass.

        Args:
            rows: indices of the instances.
            batch: that was passed.
            outputs: of the forward pass.
        """
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
