"""The prediction loop: a model's keypoints on a data set, batch by batch, with progress and cancel.

A top-down model predicts the boxes of a data set (`predict`), a bottom-up model whole images. Its forward
passes can be kept and read by other rules later: `forward_passes` makes them, `predictions_of` takes the
people that any rules found in them. `predict_pictures` predicts pictures of no data set.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import numpy as np

from workbench.core import Answers, Batch, DecodeOptions, NotAvailable, Outputs, PoseModel, Prediction, Sample
from workbench.core.capabilities import GroupingModel
from workbench.core.errors import ReadingNote
from workbench.core.flip import no_mirror
from workbench.core.geometry import checked_box
from workbench.core.job import Cancelled
from workbench.core.report import counted
from workbench.core.run import run
from workbench.core.wrapping import Wrapper
from workbench.data.pose_set import check_images
from workbench.decoding.grouping.algorithm import not_finite, not_finite_text
from workbench.evaluation.evaluate import images_of
from workbench.evaluation.oks import checked_sigmas, crop_areas, paired_oks, rows_after_nms
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import (
    BATCH_SIZE,
    DEFAULT,
    check_options,
    check_same_keypoints,
    check_score_rule,
    nms_threshold,
    pose_scores,
)
from workbench.models.naming import named_as

if TYPE_CHECKING:
    from workbench.data.boxes import FoundBox
    from workbench.data.pose_set import PoseSet
    from workbench.models.bottom_up import People


Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Looked:
    """Outputs of all forward passes over one image.

    Attributes:
        image_id: as in the annotation file.
        batch: of this image alone.
        outputs: of all passes, on the CPU.
    """

    image_id: int
    batch: Batch
    outputs: Outputs


def finds_people(model: PoseModel) -> TypeGuard[GroupingModel]:
    """Whether a model finds all people of an image by itself."""
    return isinstance(model, GroupingModel)


def forward_passes(
    model: GroupingModel,
    pose_set: PoseSet,
    image_ids: Iterable[int] | None = None,
    *,
    flip: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Looked]:
    """Outputs of every image, one by one; nothing is stored here.

    Args:
        model: bottom-up.
        pose_set: images, annotated or not: what is found where nobody is counts as well.
        image_ids: of the set; all by default.
        flip: the mirrored image is looked at, too.
        progress: called with (done, total), first with 0.
        cancelled: asked before each image.

    Raises:
        ValueError: the model's keypoints are not the set's, several categories, no image, or a bad one.
        Cancelled: as asked for.
    """
    category_of(pose_set)
    check_same_keypoints(model.skeleton, pose_set.skeleton, pose_set.name)
    chosen = list(pose_set.images if image_ids is None else image_ids)
    if not chosen:
        raise ValueError(f"{pose_set.name}: nothing to predict: no image")
    check_images(pose_set, chosen)
    broken: dict[str, int] = {}
    for (image_id,) in _in_batches(chosen, 1, progress, cancelled, " images"):
        looked = Looked(image_id, *passes_over(model, _whole(pose_set, image_id), flip))
        if text := _not_finite_maps(looked.outputs):
            broken[text] = broken.get(text, 0) + 1
        yield looked
    for text, count in broken.items():
        warnings.warn(
            f"{text} in {count} of {counted(len(chosen), 'image')}: keypoints that read it are left out "
            "there, and the rest is grouped",
            ReadingNote,
            stacklevel=2,
        )


def _not_finite_maps(outputs: Outputs) -> str:
    """Which heatmaps and tag maps of one image hold numbers that are not finite; "" where none does."""
    found: dict[str, np.ndarray] = {}
    for one in (outputs, *outputs.passes.values()):
        for what, maps in (("heatmap", one.heatmaps), ("heatmap", one.coarse), ("tag map", one.tags)):
            if maps is not None:
                bad = not_finite(np.asarray(maps[0], np.float32))
                found[what] = bad | found[what] if what in found else bad
    return " and ".join(not_finite_text(what, bad) for what, bad in found.items() if bad.any())


def passes_over(model: GroupingModel, whole: Sample, flip: bool = False) -> tuple[Batch, Outputs]:
    """Outputs of one image: the main pass, the model's other scales, and with flip the mirrored passes.

    Args:
        model: bottom-up.
        whole: the image as a sample.
        flip: with the mirrored passes.
    """
    seen = run(_Passing(model), [whole], flip=flip)
    return seen.batch, seen.outputs


def predict_people(
    model: GroupingModel,
    pose_set: PoseSet,
    image_ids: Iterable[int] | None = None,
    *,
    flip: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictions:
    """Everybody that the model finds in the images of a set, by the model's own rules; no NMS.

    Args:
        model: bottom-up.
        pose_set: images.
        image_ids: as in `forward_passes`, as are the others.
        flip: average with the mirrored image.
        progress: called with (done, total).
        cancelled: asked before each image.
    """
    ids, found = [], []
    for looked in forward_passes(
        model, pose_set, image_ids, flip=flip, progress=progress, cancelled=cancelled
    ):
        ids.append(looked.image_id)
        found += model.group(looked.outputs, looked.batch)
    return predictions_of(ids, found, category_of(pose_set), len(pose_set.skeleton))


def predictions_of(
    image_ids: Sequence[int], people: Sequence[People], category_id: int, keypoints: int
) -> Predictions:
    """People of several images as predictions: box and area are the extent of their keypoints.

    Args:
        image_ids: of the images.
        people: of each, in the same order.
        category_id: of all of them.
        keypoints: K, for when nobody is found at all.
    """
    counts = [len(p) for p in people]
    empty = np.zeros((0, keypoints))

    def column(of: Callable[[People], Any], first: np.ndarray) -> np.ndarray:
        return np.concatenate([first, *(of(p) for p in people)])

    return Predictions(
        np.repeat(np.array(image_ids, np.int64), counts),
        np.full(sum(counts), category_id, np.int64),
        column(lambda p: p.boxes, np.zeros((0, 4))),
        column(lambda p: p.keypoints, np.zeros((0, keypoints, 2))),
        column(lambda p: p.scores, empty),
        column(lambda p: p.score, np.zeros(0)),
    )


def category_of(pose_set: PoseSet) -> int:
    """The one category of a set.

    Raises:
        ValueError: it has several; heatmaps and tags do not say which one somebody is of.
    """
    used = {i.category_id for i in pose_set.instances}
    categories = used or set(pose_set.categories)
    if len(categories) != 1:
        raise ValueError(
            f"{pose_set.name} has {counted(len(categories), 'category', 'categories')}; a bottom-up model "
            "does not say which one it found, so name one with --category"
        )
    return next(iter(categories))


def check_reading_options(
    *, boxes: object, options: DecodeOptions, score_rule: str = DEFAULT, nms: float | None = None
) -> None:
    """Raise ValueError for an option that a bottom-up model would ignore.

    Args:
        boxes: detected boxes, if any.
        options: of decoding.
        score_rule: of the pose.
        nms: threshold of the suppression of poses found twice; None without.
    """
    if boxes is not None:
        raise ValueError(
            "boxes: a bottom-up model looks at whole images and finds people by itself; leave --boxes and "
            "--detector out"
        )
    if options != DecodeOptions():
        raise ValueError("decoder and score: a bottom-up model groups detections; leave both out")
    if score_rule != DEFAULT:
        raise ValueError(
            "pose score: a bottom-up model scores people by its grouping (mean of all keypoint values before "
            "missing ones are filled); leave --pose-score out"
        )
    if nms is not None and nms < 1:
        raise ValueError(
            "nms: a bottom-up model finds nobody twice, and its protocol has no NMS; leave it out"
        )


def _whole(pose_set: PoseSet, image_id: int) -> Sample:
    from workbench.data.boxes import whole_image

    pixels = pose_set.image(image_id)
    record = pose_set.images[image_id]
    return Sample(pixels, whole_image(pixels), key=record.path.stem, image_id=image_id, path=str(record.path))


class _Passing(Wrapper):
    """A bottom-up model whose outputs are not decoded: they are grouped by other rules later."""

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple:
        return ()


# What does the model say about a whole data set? Batch by batch, with progress, stopped when asked to.


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
    batch_size: int = BATCH_SIZE,
    keep_outputs: Callable[[list[int], Batch, Outputs], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictions:
    """Predict the keypoints of every instance of a data set; of a bottom-up model, of everybody it finds.

    A bottom-up model gets whole images and no boxes; progress then counts images.

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

    Example:
        >>> from workbench.data import builtin
        >>> from workbench.evaluation import evaluate, predict
        >>> from workbench.models.fresh import new_model
        >>> pose_set = builtin("astronaut")
        >>> model, title = new_model("hrnet", skeleton=pose_set.skeleton)
        >>> predictions = predict(model, pose_set)
        >>> predictions.keypoints.shape  # poses, keypoints, (x, y) in image pixels
        (1, 17, 2)
        >>> round(evaluate(pose_set, predictions).figures["AP"], 2)  # untrained weights
        0.0
    """
    options = options or DecodeOptions()
    model = named_as(model, pose_set.skeleton, pose_set.name)
    if finds_people(model):
        check_reading_options(boxes=boxes, options=options, score_rule=score_rule, nms=nms)
        if keep_outputs is not None:
            raise NotAvailable(
                "outputs by instance: a bottom-up model predicts image by image, not box by box, so nothing "
                "can be kept for each instance; workbench compare compares its epochs, and "
                "workbench.evaluation.predict.forward_passes gives its forward passes"
            )
        wanted = None if indices is None else images_of(pose_set, indices)
        return predict_people(model, pose_set, wanted, flip=flip, progress=progress, cancelled=cancelled)
    _check_rules(model, pose_set, options, score_rule, flip, batch_size)
    chosen = list((pose_set.labelled if boxes is None else range(len(boxes))) if indices is None else indices)
    if not chosen:
        why = "no instance was chosen" if boxes is None else "its images were given no box at all"
        why = (pose_set.unscored_text() or why) if boxes is None else why
        raise ValueError(f"{pose_set.name}: nothing to predict, {why}")
    check_images(pose_set, _images_of(pose_set, boxes, chosen))
    threshold = nms_threshold(nms, annotated=boxes is None)
    if not math.isnan(threshold):
        checked_sigmas(pose_set.skeleton, "NMS")
    parts = []

    def sample(i: int) -> Sample:
        return pose_set.sample(i) if boxes is None else _sample(pose_set, boxes[i])

    for rows, samples in (
        part
        for batch in _in_batches(chosen, batch_size, progress, cancelled)
        for part in _within_memory(batch, sample)
    ):
        if keep_outputs is None:
            poses = answered(model, samples, options, flip)
        else:
            result = run(model, samples, options=options, flip=flip)
            keep_outputs(rows, result.batch, result.outputs)
            poses = result.predictions
        parts.append(poses_of(samples, poses, score_rule, pose_set))
    found = Predictions.joined(parts)
    if math.isnan(threshold):
        return found
    sigmas = np.array(pose_set.skeleton.sigmas)
    return found.take(rows_after_nms(found, crop_areas(model, found), sigmas, threshold))


def predict_pictures(
    model: PoseModel,
    pictures: Iterable[tuple[Item, Sequence[Sample]]],
    *,
    flip: bool = False,
    options: DecodeOptions | None = None,
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[Item, list[Prediction]]]:
    """Predict pictures that belong to no data set, scored as mmpose scores instances.

    Pictures are gathered until their samples fill a batch. One without samples has no prediction.

    Args:
        model: any family or adapter.
        pictures: anything that names a picture, with one sample for each of its boxes; for a bottom-up model
            with one sample whose box is the whole image.
        flip: average with the mirrored image's output.
        options: how to read keypoints off the output.
        batch_size: samples in one forward pass.

    Yields:
        what names the picture, and the predictions of its samples; of a bottom-up model, everybody it finds,
        with its own scores.

    Raises:
        ValueError: a bottom-up model is given a decoder.
    """
    options = options or DecodeOptions()
    if finds_people(model):
        check_reading_options(boxes=None, options=options)
        for item, (whole, *_) in pictures:
            batch, outputs = passes_over(model, whole, flip)
            yield item, list(model.group(outputs, batch)[0].predictions())
        return
    waiting: list[tuple[Item, Sequence[Sample]]] = []
    for picture in pictures:
        waiting.append(picture)
        samples = [sample for _, own in waiting for sample in own]
        if len(samples) >= batch_size or _image_bytes(samples) >= BATCH_BYTES:
            yield from _predicted_pictures(model, waiting, flip, options, batch_size)
            waiting = []
    yield from _predicted_pictures(model, waiting, flip, options, batch_size)


def _predicted_pictures(
    model: PoseModel,
    pictures: Sequence[tuple[Item, Sequence[Sample]]],
    flip: bool,
    options: DecodeOptions,
    batch_size: int,
) -> Iterator[tuple[Item, list[Prediction]]]:
    samples = [sample for _, own in pictures for sample in own]
    found: list[Prediction] = []
    for part in _in_batches(samples, batch_size):
        poses = answered(model, part, options, flip)
        scores = np.stack([np.asarray(p.scores, float) for p in poses])
        rated = pose_scores(DEFAULT, scores, np.array([s.box_score for s in part]))
        found += [replace(p, score=float(score)) for p, score in zip(poses, rated, strict=True)]
    for item, own in pictures:
        yield item, found[: len(own)]
        found = found[len(own) :]


def _in_batches(
    items: Sequence[Item],
    size: int,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    unit: str = "",
) -> Iterator[list[Item]]:
    """Items batch by batch, with progress (done, total) before each and at the end.

    Raises:
        Cancelled: `cancelled` said so, before a batch.
    """
    for start in range(0, len(items), size):
        if progress is not None:
            progress(start, len(items))
        if cancelled is not None and cancelled():
            raise Cancelled(f"stopped after {start} of {len(items)}{unit}")
        yield list(items[start : start + size])
    if progress is not None:
        progress(len(items), len(items))


BATCH_BYTES = 128 << 20
"""A batch ends early where its images take more: a file of 72 kB may hold 74 million pixels."""


def _within_memory(
    rows: Sequence[int], sample: Callable[[int], Sample]
) -> Iterator[tuple[list[int], list[Sample]]]:
    """Rows and their samples, in parts whose images take about `BATCH_BYTES` at most."""
    part: list[int] = []
    samples: list[Sample] = []
    for row in rows:
        part.append(row)
        samples.append(sample(row))
        if _image_bytes(samples) >= BATCH_BYTES:
            yield part, samples
            part, samples = [], []
    if part:
        yield part, samples


def _image_bytes(samples: Iterable[Sample]) -> int:
    """Of their images, one that several samples share counted once."""
    return sum({id(one.image): one.image.nbytes for one in samples}.values())


def _check_rules(
    model: PoseModel, pose_set: PoseSet, options: DecodeOptions, score_rule: str, flip: bool, batch_size: int
) -> None:
    check_same_keypoints(model.skeleton, pose_set.skeleton, pose_set.name)
    check_options(model, options)
    check_score_rule(score_rule)
    if batch_size < 1:
        raise ValueError(f"batch size: expected at least 1, got {batch_size}")
    if flip and (why := no_mirror(model.skeleton)):
        raise ValueError(why)


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

    Args:
        model: that is asked.
        samples: with image and box.
        options: of decoding.
        flip: average with the mirrored input.

    Raises:
        ValueError: see workbench.core.run and Answers.answer.
    """
    if isinstance(model, Answers):
        return model.answer(samples, options, flip)
    return run(model, samples, options=options, flip=flip).predictions


def poses_of(
    samples: Sequence[Sample], poses: Sequence[Prediction], rule: str, pose_set: PoseSet
) -> Predictions:
    """Poses of some samples as predictions, scored.

    Args:
        samples: with their boxes.
        poses: one for each.
        rule: see workbench.evaluation.protocol.
        pose_set: whose sigmas the rule ``oracle`` takes.

    Raises:
        NotAvailable: not one pose for each sample.
        ValueError: the rule ``oracle`` without areas or sigmas.
    """
    if len(poses) != len(samples):
        raise NotAvailable(
            f"evaluation: {counted(len(poses), 'pose')} for {counted(len(samples), 'box', 'boxes')}; one for "
            "each is needed"
        )
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
