"""Oracle of top-down models: AP with boxes, heatmaps and scores replaced by ground truth.

Boxes are replaced by the annotated ones; heatmaps (or SimCC vectors) by the target of the model's codec, read
by its own decoder, so that what the codec cannot express stays lost; scores by each pose's true OKS.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, DecodeOptions, Outputs, PoseModel
from workbench.core.geometry import apply, inverse, iou
from workbench.decoding.targets import as_outputs, target
from workbench.evaluation import Predictions, keypoint_ap, predict, protocol_of, truth_of
from workbench.evaluation.oks import checked_sigmas, crop_areas, rows_after_nms
from workbench.evaluation.oracle.flip_test import FlipTest, left_out
from workbench.evaluation.oracle.waterfall import Waterfall, annotated_in, best_oks, matched_oks, stepped
from workbench.evaluation.protocol import DEFAULT, nms_threshold, pose_scores

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.boxes import FoundBox
    from workbench.data.pose_set import PoseSet

BOXES = ("boxes", "annotated boxes")
HEATMAPS = ("heatmaps", "the codec's target at the annotated keypoints, read by the model's decoder")
SCORES = ("scores", "poses ranked by their true OKS")

# A box that overlaps an annotated one less than this is nobody's: its pose stays as the model gave it.
LEAST_OVERLAP = 0.3


@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """Poses in some boxes: the model's, and those decoded from the targets of the annotations.

    Attributes:
        given: by the model, before any NMS.
        true: keypoints read off the codec's targets, where there is an annotation; else the model's.
        replaced: which keypoints `true` replaced.
    """

    given: Predictions
    true: Float[np.ndarray, "N K 2"]
    replaced: Float[np.ndarray, "N K"]


def crops_waterfall(
    model: PoseModel,
    pose_set: PoseSet,
    image_ids: Iterable[int] | None = None,
    *,
    boxes: Sequence[FoundBox] | None = None,
    boxes_from: str = "annotation",
    flip: bool = False,
    title: str = "the model",
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Waterfall:
    """AP of a top-down model as its parts are replaced by ground truth.

    Args:
        model: top-down.
        pose_set: annotated.
        image_ids: of the set; all by default.
        boxes: a detector's; the annotated ones by default, and then boxes are no part that can be replaced.
        boxes_from: what to call them in the protocol.
        flip: average with the mirrored crops.
        title: of the model.
        batch_size: crops in one forward pass.
        progress: called with (done, total) crops.
        cancelled: asked before each batch.

    Raises:
        ValueError: the set does not fit the model, or has no sigmas or areas.
        Cancelled: as asked for.
    """
    checked_sigmas(pose_set.skeleton, "oracle")
    ids = list(pose_set.images if image_ids is None else image_ids)
    asked: dict[str, Any] = {"batch_size": batch_size, "progress": progress, "cancelled": cancelled}
    rules = {**asked, "flip": flip}
    labelled = [i for n in ids for i in pose_set.labelled_of_image.get(n, ())]
    in_boxes = [i for i, b in enumerate(boxes or ()) if b.image_id in set(ids)]
    annotated = _read(model, pose_set, labelled, None, rules)
    detected = annotated if boxes is None else _read(model, pose_set, in_boxes, boxes, rules)
    parts, missing = _parts(boxes is not None, model.codec is not None)
    truth = truth_of(pose_set).on_images(ids)

    def figures_of(found: Predictions, with_annotated: bool) -> dict[str, float]:
        threshold = nms_threshold(None, annotated=with_annotated)
        if not math.isnan(threshold):
            sigmas = np.array(pose_set.skeleton.sigmas)
            found = found.take(rows_after_nms(found, crop_areas(model, found), sigmas, threshold))
        return keypoint_ap(truth, found.detections(), pose_set.skeleton.sigmas).figures

    def figures(replaced: frozenset[str]) -> dict[str, float]:
        read = annotated if "boxes" in replaced else detected
        return figures_of(_replaced(read, replaced, pose_set), read is annotated)

    flip_test = None
    if flip:
        rows = labelled if boxes is None else in_boxes
        plain = predict(model, pose_set, indices=rows, boxes=boxes, nms=1.0, flip=False, **asked)
        gains = _best(plain, pose_set, ids) - _best(detected.given, pose_set, ids)
        without = figures_of(plain, detected is annotated)["AP"]
        flip_test = FlipTest(figures(frozenset())["AP"], without, gains)
    finding = flip_test and flip_test.finding()
    return Waterfall(
        title=title,
        kind="top-down",
        steps=stepped(parts, figures),
        missing=missing | left_out(flip_test, model),
        images=len(ids),
        people=int((~truth.ignored).sum()),
        forward_passes=(1 + flip) * (len(annotated.given) + (len(detected.given) if boxes is not None else 0))
        + flip * len(detected.given),
        protocol=protocol_of(model, boxes=boxes_from, flip=flip).text(),
        findings=() if finding is None else (finding,),
        measured={} if flip_test is None else {"flip_test": flip_test.facts()},
    )


def _parts(found_boxes: bool, drawn: bool) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The parts that can be replaced, and why the others cannot.

    Args:
        found_boxes: boxes are a detector's.
        drawn: targets can be drawn.
    """
    missing = {}
    if not found_boxes:
        missing["boxes"] = "annotated boxes are used already; name a detector's with --boxes"
    if not drawn:
        missing["heatmaps"] = "this family declares no codec, so no target can be drawn"
    return [*([BOXES] if found_boxes else []), *([HEATMAPS] if drawn else []), SCORES], missing


def _best(found: Predictions, pose_set: PoseSet, image_ids: Sequence[int]) -> Float[np.ndarray, " Q"]:
    """For each annotated person the highest OKS with a pose of the same image."""
    return np.concatenate(
        [best_oks(found.keypoints[found.image_id == n], annotated_in(pose_set, n)) for n in image_ids]
    )


def _read(
    model: PoseModel, pose_set: PoseSet, rows: list[int], boxes: Sequence[FoundBox] | None, rules: dict
) -> Read:
    """Predict, and beside each pose read the target of its annotation."""
    true: list[np.ndarray] = []

    def keep_targets(indices: list[int], batch: Batch, outputs: Outputs) -> None:
        del outputs
        truths = [_truth(pose_set, i, boxes) for i in indices]
        true.append(_of_targets(model, batch, np.stack(truths)))

    # Nothing is dropped here: each variant is thinned out by its own poses.
    given = predict(model, pose_set, indices=rows, boxes=boxes, nms=1.0, keep_outputs=keep_targets, **rules)
    drawn = np.concatenate(true)
    replaced = np.isfinite(drawn[..., 0])
    return Read(given, np.where(replaced[..., None], drawn, given.keypoints), replaced)


def _truth(pose_set: PoseSet, index: int, boxes: Sequence[FoundBox] | None) -> Float[np.ndarray, "K 3"]:
    """The annotation of an instance, or of whom a found box overlaps most; all 0 where it overlaps nobody."""
    if boxes is None:
        return np.asarray(pose_set.instances[index].truth, float)

    found = boxes[index]
    annotated = [pose_set.instances[i] for i in pose_set.labelled_of_image.get(found.image_id, ())]
    if annotated:
        shares = iou(np.array([person.box for person in annotated], float), np.array(found.box, float))
        if shares.max() >= LEAST_OVERLAP:
            return np.asarray(annotated[int(shares.argmax())].truth, float)
    return np.zeros((len(pose_set.skeleton), 3))


def _of_targets(
    model: PoseModel, batch: Batch, truth: Float[np.ndarray, "N K 3"]
) -> Float[np.ndarray, "N K 2"]:
    """Keypoints in image pixels that the model's decoder reads off its codec's targets; nan where none is."""
    import torch

    nothing = np.full((*truth.shape[:2], 2), np.nan)
    if model.codec is None:
        return nothing
    points = np.stack([apply(inverse(a), p) for a, p in zip(batch.to_image, truth[..., :2], strict=True)])
    made = target(model.codec, points, truth[..., 2])
    read = model.decode(as_outputs(made, torch.from_numpy), batch, DecodeOptions())
    H, W = model.codec.input_size
    inside = ((points >= -0.5) & (points <= (W - 0.5, H - 0.5))).all(-1) & (made["weights"] > 0)
    return np.where(inside[..., None], np.stack([p.keypoints for p in read]), nothing)


def _replaced(read: Read, replaced: frozenset[str], pose_set: PoseSet) -> Predictions:
    found = read.given
    if "heatmaps" in replaced:
        # A target's peak is as sure as can be.
        scores = np.where(read.replaced, 1.0, found.scores)
        found = dataclasses.replace(found, keypoints=read.true, scores=scores)
        found = dataclasses.replace(found, score=_scored(read, scores))
    if "scores" in replaced:
        score = np.zeros(len(found))
        for image_id in np.unique(found.image_id):
            here = found.image_id == image_id
            score[here] = matched_oks(found.keypoints[here], annotated_in(pose_set, int(image_id)))
        found = dataclasses.replace(found, score=score)
    return found


def _scored(read: Read, scores: Float[np.ndarray, "N K"]) -> Float[np.ndarray, " N"]:
    """Pose scores by the default rule, box scores as the model's own poses had them."""
    own = pose_scores(DEFAULT, read.given.scores, np.ones(len(scores)))
    box = np.divide(read.given.score, own, out=np.ones(len(scores)), where=own > 0)
    return pose_scores(DEFAULT, scores, box)
