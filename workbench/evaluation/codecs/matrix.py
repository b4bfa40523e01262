"""Codec matrix: the same outputs read in every way that the model's codec allows, with AP, error and bias.

The network is asked once for each crop, and once for its mirror image; decoders, flip test and score rules
then read what it left. Each variant is compared with the model's own reading by a paired bootstrap.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import PoseModel
from workbench.core.job import Cancelled
from workbench.core.statistics import finite_mean
from workbench.evaluation.bootstrap import Interval, paired_bootstraps
from workbench.evaluation.codecs.report import CodecMatrix, Variant
from workbench.evaluation.codecs.ways import BothPasses, Readings, Way, own_way, ways_for
from workbench.evaluation.evaluate import Evaluation, compared_pairs, evaluate
from workbench.evaluation.keypoint_ap import keypoint_ap
from workbench.evaluation.oks import checked_sigmas, crop_areas, keypoint_terms, rows_after_nms
from workbench.evaluation.predict import predict
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import DEFAULT, Protocol, nms_threshold, protocol_of
from workbench.models.naming import named_as

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.data.boxes import FoundBox
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.keypoint_ap import KeypointAP


def codec_matrix(
    model: PoseModel,
    pose_set: PoseSet,
    image_ids: Iterable[int] | None = None,
    *,
    boxes: Sequence[FoundBox] | None = None,
    boxes_from: str = "annotation",
    flip: bool = False,
    score_rule: str = DEFAULT,
    protocol: Protocol | None = None,
    title: str = "",
    batch_size: int = 16,
    resamples: int = 500,
    seed: int = 0,
    evaluator: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CodecMatrix:
    """AP, error and bias of every way to read a model's outputs, from one forward pass over a set.

    Args:
        model: top-down, with a codec.
        pose_set: annotated.
        image_ids: of the set; all by default.
        boxes: a detector's; the annotated ones by default.
        boxes_from: what to call them in the protocol.
        flip: the model's own reading averages with the mirrored image.
        score_rule: of the model's own reading.
        protocol: of the model's own reading; made of the other arguments by default.
        title: of the model.
        batch_size: crops in one forward pass.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        evaluator: area_rule, sigmas and max_dets of `evaluate`.
        progress: called with (done, total) crops.
        cancelled: asked before each batch.

    Raises:
        NotAvailable: the model has no codec, or is bottom-up.
        ValueError: the set does not fit the model, has no sigmas or areas, or holds nothing to predict.
        Cancelled: as asked for.
    """
    model = named_as(model, pose_set.skeleton, pose_set.name)
    own = own_way(model, flip, score_rule)
    ways, left_out = ways_for(model, own)
    if not (evaluator or {}).get("sigmas"):
        checked_sigmas(pose_set.skeleton, "decode")
    # Instances that are judged, and what is predicted of them: themselves, or a detector's boxes.
    judged, chosen = _chosen(pose_set, image_ids, boxes)
    read, reported = Readings(model, ways), _Progress(progress, cancelled, len(ways))
    given = predict(
        BothPasses(model), pose_set, indices=chosen, boxes=boxes, flip=bool(model.skeleton.mirror), nms=1.0,
        score_rule="bbox", batch_size=batch_size, keep_outputs=read.batch, progress=reported.predicted,
        cancelled=cancelled,
    )  # fmt: skip
    rules = protocol or protocol_of(model, boxes=boxes_from, flip=flip, score_rule=score_rule)
    judge = _Judge(model, pose_set, given, read, boxes is not None, dict(evaluator or {}))
    first = judge.evaluation(own, rules, judged)
    results = [first.ap]
    for way in ways[1:]:
        reported.judged(len(results))
        results.append(judge.figures(way, first))
    intervals = _intervals(ways, results, resamples, seed)
    reported.judged(len(ways))
    errors = judge.errors(own, first)
    variants = tuple(
        Variant(way.name(own), way, result.figures, *errors[way.reading], interval)
        for way, result, interval in zip(ways, results, intervals, strict=True)
    )
    return _report(judge, first, variants, results, title, left_out, resamples, seed)


def _intervals(
    ways: Sequence[Way], results: Sequence[KeypointAP], resamples: int, seed: int
) -> list[Interval | None]:
    """Intervals against the first way, of those that differ from it in the reading or in the scores alone."""
    intervals: list[Interval | None] = [None] * len(ways)
    if not math.isfinite(results[0].figures["AP"]):
        return intervals
    own = ways[0]
    simple = [
        i for i, way in enumerate(ways)
        if i and (way.reading == own.reading or way.scores == own.scores)
    ]  # fmt: skip
    found = paired_bootstraps(results[0], [results[i] for i in simple], resamples=resamples, seed=seed)
    for i, interval in zip(simple, found, strict=True):
        intervals[i] = interval
    return intervals


@dataclass
class _Progress:
    """Progress over the crops and, after them, the ways."""

    progress: Callable[[int, int], None] | None
    cancelled: Callable[[], bool] | None
    ways: int
    crops: int = 0

    def predicted(self, done: int, total: int) -> None:
        """So many crops went through the network."""
        self.crops = total
        if self.progress is not None:
            self.progress(done, total + self.ways)

    def judged(self, done: int) -> None:
        """So many ways have their figures.

        Raises:
            Cancelled: as asked for.
        """
        if self.cancelled is not None and self.cancelled():
            raise Cancelled(f"stopped after {done} of {self.ways} ways to read the outputs")
        if self.progress is not None:
            self.progress(self.crops + done, self.crops + self.ways)


def _chosen(
    pose_set: PoseSet, image_ids: Iterable[int] | None, boxes: Sequence[FoundBox] | None
) -> tuple[list[int] | None, list[int] | None]:
    """Instances that are judged, and indices of what is predicted; None for all."""
    if image_ids is None:
        return None, None
    ids = list(image_ids)
    judged = [i for n in ids for i in pose_set.labelled_of_image.get(n, ())]
    if boxes is None:
        return judged, judged
    return judged, [i for i, box in enumerate(boxes) if box.image_id in set(ids)]


@dataclass(frozen=True)
class _Judge:
    """Figures of ways, from what was read.

    Attributes:
        given: the model's poses; their score is the box's.
        detected: boxes are a detector's, so that NMS counts.
        evaluator: arguments of `evaluate`.
    """

    model: PoseModel
    pose_set: PoseSet
    given: Predictions
    read: Readings
    detected: bool
    evaluator: dict[str, Any]

    def points(self, reading: tuple[str, str, str]) -> Float[np.ndarray, "N K 2"]:
        """Keypoints in image pixels."""
        return np.concatenate(self.read.points[reading])

    def predictions(self, way: Way) -> Predictions:
        """All poses, read in one way."""
        return self.read.predictions(way, self.given)

    def kept(self, found: Predictions) -> np.ndarray:
        """Rows that NMS leaves; all of them for annotated boxes."""
        threshold = nms_threshold(None, annotated=not self.detected)
        if math.isnan(threshold):
            return np.arange(len(found))
        sigmas = np.array(self.pose_set.skeleton.sigmas)
        return rows_after_nms(found, crop_areas(self.model, found), sigmas, threshold)

    def evaluation(self, own: Way, protocol: Protocol, judged: list[int] | None) -> Evaluation:
        """The model's own reading, evaluated in full."""
        found = self.predictions(own)
        return evaluate(
            self.pose_set, found.take(self.kept(found)), protocol, indices=judged, **self.evaluator
        )

    def figures(self, way: Way, first: Evaluation) -> KeypointAP:
        """The COCO figures of another way, on the same annotations."""
        found = self.predictions(way)
        detections = found.take(self.kept(found)).detections()
        return keypoint_ap(first.ap.truth, detections, first.ap.sigmas.tolist(), first.ap.max_dets)

    def compared(self, own: Way, first: Evaluation) -> tuple[np.ndarray, np.ndarray, Bool[np.ndarray, "M K"]]:
        """Rows of poses and of annotations that are compared, and which keypoints the own reading finds."""
        found = self.predictions(own)
        kept = self.kept(found)
        rows, target = compared_pairs(found.take(kept), first.ap)
        rows, truth = kept[rows], first.ap.truth
        terms = keypoint_terms(
            found.keypoints[rows], truth.keypoints[target], truth.area[target], first.ap.sigmas
        )
        return rows, target, terms >= 0.5  # nan, where nothing is labelled, compares as False

    def errors(
        self, own: Way, first: Evaluation
    ) -> dict[tuple[str, str, str], tuple[float, float, tuple[float, float]]]:
        """By reading: mean error, mean error of found keypoints, their bias (x, y); image pixels."""
        rows, target, near = self.compared(own, first)
        truth = first.ap.truth.keypoints[target]
        labelled = truth[..., 2] > 0
        table = {}
        for reading in self.read.points:
            off = self.points(reading)[rows] - truth[..., :2]
            away = np.linalg.norm(off, axis=-1)
            table[reading] = (
                finite_mean(away[labelled]),
                finite_mean(away[near]),
                (finite_mean(off[near][:, 0]), finite_mean(off[near][:, 1])),
            )
        return table


def _report(
    judge: _Judge,
    first: Evaluation,
    variants: tuple[Variant, ...],
    results: Sequence[KeypointAP],
    title: str,
    left_out: Sequence[str],
    resamples: int,
    seed: int,
) -> CodecMatrix:
    own = variants[0].way
    rows, target, near = judge.compared(own, first)
    truth = np.full((len(judge.given), len(judge.pose_set.skeleton), 3), np.nan)
    found = np.zeros(truth.shape[:2], bool)
    truth[rows], found[rows] = first.ap.truth.keypoints[target], near
    report = CodecMatrix(
        title=title,
        data=judge.pose_set.name,
        protocol=first.protocol,
        skeleton=judge.pose_set.skeleton,
        variants=variants,
        left_out=tuple(left_out),
        images=len(first.ap.truth.image_ids),
        instances=len(judge.given),
        network_calls=judge.read.calls,
        readings={reading: judge.points(reading) for reading in judge.read.points},
        truth=truth,
        near=found,
        boxes=judge.given.box,
    )
    best = report.best
    if best is not None:
        # It is the best of many: an interval for all of them at once (Bonferroni) says whether that is luck.
        level = 1 - 0.05 / len(report.rivals)
        place = next(i for i, variant in enumerate(variants) if variant is best)
        (strict,) = paired_bootstraps(first.ap, [results[place]], resamples=resamples, seed=seed, level=level)
        report = dataclasses.replace(report, best_interval=strict)
    row = report.clearest()
    image_id = int(judge.given.image_id[row])
    return dataclasses.replace(report, shown=row, image=np.array(judge.pose_set.image(image_id)))
