"""What does the model say about a whole data set? Batch by batch, with progress, stopped when asked to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from workbench.core import (
    Answers,
    Batch,
    DecodeOptions,
    NotAvailable,
    Outputs,
    PoseModel,
    Prediction,
    Sample,
    nearest,
)
from workbench.core.geometry import checked_box
from workbench.core.run import run
from workbench.data.pose_set import check_images
from workbench.evaluation.evaluate import images_of
from workbench.evaluation.oks import kept_by_nms, paired_oks
from workbench.evaluation.predict import Cancelled, check_wishes, finds_people, predict_people
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import (
    DEFAULT,
    SCORE_RULES,
    check_options,
    check_same_keypoints,
    crop_areas,
    nms_threshold,
    pose_scores,
)
from workbench.models.naming import named_as

if TYPE_CHECKING:
    from workbench.data.boxes import FoundBox
    from workbench.data.pose_set import PoseSet
    from workbench.models.bottom_up import BottomUp


def predict(
    model: PoseModel,
    pose_set: PoseSet,
    *,
    indices: Iterable[int] | None = None,
    boxes: Sequence[FoundBox] | None = None,
    flip: bool = False,
    options: DecodeOptions | None = None,
    score_rule: str = DEFAULT,
    nms: float | None = None,
    batch_size: int = 16,
    keep_outputs: Callable[[list[int], Batch, Outputs], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictions:
    """Keypoints of every instance of a set; of a bottom-up model, everybody it finds in the set's images.

    A bottom-up model is given no boxes: progress then counts images, and see workbench.evaluation.predict.

    Args:
        model: any family or adapter.
        pose_set: images, and annotation boxes unless others are given.
        indices: instances to predict from their annotated boxes; all labelled ones by default. With boxes:
            which of them. Of a bottom-up model: whose images are looked at (`images_of`); all by default.
        boxes: a detector's, in image pixels.
        flip: average with the mirrored image's output.
        options: how to read keypoints off the output.
        score_rule: see workbench.evaluation.protocol.
        nms: OKS above which the worse of two poses of an image is dropped; by default .9 for a detector's
            boxes and none for annotated ones. 1 drops nothing.
        batch_size: crops in one forward pass.
        keep_outputs: called after each batch with (indices, batch, outputs).
        progress: called with (done, total), first with 0.
        cancelled: asked before each batch.

    Raises:
        ValueError: the model's keypoints are not the set's, nothing to predict, or an image or a box is bad.
        FileNotFoundError: images are missing, see workbench.data.check_images.
        KeyError: no such score rule or decoder.
        Cancelled: as asked for.
        NotAvailable: outputs of a bottom-up model are to be kept by instance.
    """
    options = options or DecodeOptions()
    model = named_as(model, pose_set.skeleton, pose_set.name)
    if finds_people(model):
        check_wishes(boxes=boxes, options=options, score_rule=score_rule, nms=nms)
        if keep_outputs is not None:
            raise NotAvailable(
                "outputs by instance: a bottom-up model is asked image by image, not box by box, so nothing "
                "can be kept for each instance; workbench compare compares its epochs, and "
                "workbench.evaluation.predict.looking gives its passes"
            )
        wanted = None
        if indices is not None:
            wanted = images_of(pose_set, indices)
        return predict_people(
            cast("BottomUp", model), pose_set, wanted, flip=flip, progress=progress, cancelled=cancelled
        )
    check_same_keypoints(model.skeleton, pose_set.skeleton, pose_set.name)
    check_options(model, options)
    if score_rule not in SCORE_RULES:
        raise KeyError(f"no score rule {score_rule!r}; nearest: {nearest(score_rule, SCORE_RULES)}")
    if batch_size < 1:
        raise ValueError(f"batch size: expected at least 1, got {batch_size}")
    if flip and not model.skeleton.mirror:
        raise ValueError(
            f"flip: skeleton {model.skeleton.name} does not say which keypoints are left and right"
            + (f" ({model.skeleton.source})" if model.skeleton.source else "")
        )
    everything = pose_set.labelled if boxes is None else range(len(boxes))
    chosen = list(everything if indices is None else indices)
    if not chosen:
        why = "no labelled instance has a box" if boxes is None else "its images were given no box at all"
        raise ValueError(f"{pose_set.name}: nothing to predict, {why}")
    check_images(pose_set, _images_of(pose_set, boxes, chosen))
    threshold = nms_threshold(nms, annotated=boxes is None)
    if not math.isnan(threshold) and not pose_set.skeleton.sigmas:
        raise ValueError(f"NMS: no sigmas are known for {pose_set.skeleton.name}; OKS needs them")
    parts = []
    for start in range(0, len(chosen), batch_size):
        if progress is not None:
            progress(start, len(chosen))
        if cancelled is not None and cancelled():
            raise Cancelled(f"stopped after {start} of {len(chosen)}")
        rows = chosen[start : start + batch_size]
        samples = [pose_set.sample(i) if boxes is None else _sample(pose_set, boxes[i]) for i in rows]
        poses = answered(model, samples, options, flip) if keep_outputs is None else None
        if keep_outputs is not None:
            result = run(model, samples, options=options, flip=flip)
            keep_outputs(rows, result.batch, result.outputs)
            poses = result.predictions
        parts.append(_read(samples, poses or (), score_rule, pose_set))
    if progress is not None:
        progress(len(chosen), len(chosen))
    found = _joined(parts, annotated=boxes is None)
    if math.isnan(threshold):
        return found
    sigmas = np.array(pose_set.skeleton.sigmas)
    return found.take(kept_by_nms(found, crop_areas(model, found), sigmas, threshold))


def _images_of(pose_set: PoseSet, boxes: Sequence[FoundBox] | None, chosen: Sequence[int]) -> set[int]:
    return {pose_set.instances[i].image_id if boxes is None else boxes[i].image_id for i in chosen}


def _sample(pose_set: PoseSet, found: FoundBox) -> Sample:
    image = pose_set.image(found.image_id)
    key = f"{pose_set.images[found.image_id].path.stem}, box of score {found.score:.2f}"
    return Sample(
        image=image,
        box=checked_box(found.box, key),
        key=key,
        image_id=found.image_id,
        category_id=found.category_id,
        box_score=found.score,
    )


def answered(
    model: PoseModel, samples: Sequence[Sample], options: DecodeOptions, flip: bool
) -> tuple[Prediction, ...]:
    """Predictions of samples by one forward pass, without torch where the model can do without.

    Raises:
        ValueError: see workbench.core.run and Answers.answer.
    """
    if isinstance(model, Answers):
        return model.answer(samples, options, flip)
    return run(model, samples, options=options, flip=flip).predictions


def _read(
    samples: Sequence[Sample], poses: Sequence[Prediction], rule: str, pose_set: PoseSet
) -> Predictions:
    if len(poses) != len(samples):
        raise NotAvailable(f"evaluation: {len(poses)} poses for {len(samples)} boxes; one for each is needed")
    scores = np.stack([np.asarray(p.scores, float) for p in poses])
    keypoints = np.stack([np.asarray(p.keypoints, float) for p in poses])
    oks = None
    if rule == "oracle" and all(s.truth is not None for s in samples):
        truth = np.stack([np.asarray(s.truth, float) for s in samples])
        area = np.array([s.area for s in samples])
        if not np.isfinite(area).all() or not pose_set.skeleton.sigmas:
            raise ValueError("score rule oracle: needs annotated areas and known sigmas")
        oks = paired_oks(keypoints, truth, area, np.array(pose_set.skeleton.sigmas))
    box_score = np.array([s.box_score for s in samples], float)
    ids = [s.annotation_id for s in samples]
    return Predictions(
        np.array([s.image_id for s in samples], np.int64),
        np.array([s.category_id for s in samples], np.int64),
        np.array([s.box for s in samples], float),
        keypoints,
        scores,
        pose_scores(rule, scores, box_score, oks),
        None if None in ids else np.array(ids, np.int64),
    )


def _joined(parts: list[Predictions], annotated: bool) -> Predictions:
    names = ("image_id", "category_id", "box", "keypoints", "scores", "score")
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    ids = [part.annotation_id for part in parts if part.annotation_id is not None]
    return Predictions(**columns, annotation_id=np.concatenate(ids) if annotated else None)
