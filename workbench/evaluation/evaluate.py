"""How good are these predictions? COCO's figures, every keypoint's and every category's, with their rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluation.evaluate import Evaluation, crowding
from workbench.evaluation.ground_truth import AreaRule, GroundTruth
from workbench.evaluation.keypoint_ap import KeypointAP, keypoint_ap
from workbench.evaluation.oks import keypoint_terms, paired_oks
from workbench.evaluation.pck import PCK, per_keypoint
from workbench.evaluation.predictions import Detections, Predictions
from workbench.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from workbench.data.pose_set import PoseSet

AREA_TEXT = {"annotated": "annotated", "box": ".53 of the box (xtcocotools use_area=False)"}


def evaluate(
    pose_set: PoseSet,
    predictions: Predictions,
    protocol: Protocol | None = None,
    *,
    indices: Iterable[int] | None = None,
    area_rule: AreaRule = "annotated",
    sigmas: Sequence[float] | None = None,
    max_dets: int = 20,
    pck: PCK | None = None,
    detections: Detections | None = None,
) -> Evaluation:
    """Compare predictions with the annotations of a data set.

    Args:
        pose_set: the annotations.
        predictions: of this set; those made from annotation boxes are also compared one by one.
        protocol: how they were made; what this function decides is filled in.
        indices: instances of the set that were predicted, when not all: see `truth_of`.
        area_rule: where the annotations' areas come from; ``box`` for sets without (CrowdPose).
        sigmas: OKS constants, when not the skeleton's own.
        max_dets: detections that count per image and category.
        pck: when a keypoint counts as right.
        detections: the same poses as a result file gives them, when that is where they come from: their areas
            are then exactly what pycocotools reads.

    Raises:
        ValueError: predictions and annotations do not fit, or areas or sigmas are missing.
    """
    truth = truth_of(pose_set, area_rule, indices)
    skeleton = pose_set.skeleton
    constants = skeleton.sigmas if sigmas is None else tuple(sigmas)
    found = predictions.detections() if detections is None else detections
    result = keypoint_ap(truth, found, constants, max_dets)
    counted = truth.ids[~truth.ignored]
    protocol = replace(
        protocol or Protocol(),
        max_dets=max_dets,
        data=pose_set.name,
        images=len(truth.image_ids),
        instances=len(counted),
        left_out=len(pose_set.left_out),
        unseen=_without_size(pose_set, counted) if predictions.annotation_id is not None else 0,
        sigmas=f"{skeleton.name}: {skeleton.source}" if sigmas is None else "given",
        area=AREA_TEXT[area_rule],
        detection_area=found.area_rule,
    )
    rows, target = _pairs(predictions, result)
    K = len(skeleton)  # empty files have arrays of no keypoints
    rule = pck or PCK()
    return Evaluation(
        ap=result,
        protocol=protocol,
        per_keypoint=tuple(
            per_keypoint(
                predictions.keypoints[rows].reshape(-1, K, 2),
                truth.keypoints[target].reshape(-1, K, 3),
                truth.area[target],
                truth.boxes[target],
                result.sigmas,
                skeleton.keypoints,
                rule,
            )
        ),
        pairing="each pose with its own annotation"
        if predictions.annotation_id is not None
        else "poses matched at OKS .5",
        pck=str(rule),
        oks=instance_oks(predictions, result),
        crowding=crowding(pose_set, result),
        skeleton=skeleton,
    )


def check_evaluable(
    pose_set: PoseSet,
    *,
    area_rule: AreaRule = "annotated",
    sigmas: Sequence[float] | None = None,
    max_dets: int = 20,
) -> None:
    """Raise what `evaluate` would raise whatever is predicted; asked before hours go into predicting."""
    constants = pose_set.skeleton.sigmas if sigmas is None else tuple(sigmas)
    keypoint_ap(truth_of(pose_set, area_rule), Detections.from_coco([]), constants, max_dets)


def _without_size(pose_set: PoseSet, counted: Int[np.ndarray, " G"]) -> int:
    """How many of the annotations that count have no box to crop."""
    crops = {i.annotation_id for i in pose_set.instances if i.has_size}
    return sum(int(number) not in crops for number in counted)


def images_of(pose_set: PoseSet, indices: Iterable[int]) -> tuple[int, ...]:
    """Ids of the images that a choice of instances is evaluated on, in the order of the set.

    All images of the set when everything in `PoseSet.labelled` is chosen, those without a labelled instance
    included: a detection there is a mistake like any other. Else the images of the chosen instances.
    """
    numbers = range(len(pose_set))
    chosen = {numbers[i] for i in indices}
    if chosen.issuperset(pose_set.labelled):
        return tuple(pose_set.images)
    seen = {pose_set.instances[i].image_id for i in chosen}
    return tuple(image_id for image_id in pose_set.images if image_id in seen)


def truth_of(
    pose_set: PoseSet, area_rule: AreaRule = "annotated", indices: Iterable[int] | None = None
) -> GroundTruth:
    """The annotations of a set as the evaluator reads them.

    Args:
        pose_set: the annotations.
        area_rule: as in evaluate.
        indices: instances that were predicted, when not all. Labelled instances that are not among them are
            left out. Everything else on the images of `images_of` stays, because nobody chooses it: crowd
            regions and people without labelled keypoints are still ignored when they are found, and people
            without a box that could be cropped still count as missed.
    """
    held = {i.annotation_id: i for i in pose_set.instances}
    items = [
        # What the set's reader made of ids counts: files in the wild hold 5.0, or leave a category out.
        {**entry, "id": own.annotation_id, "image_id": own.image_id, "category_id": own.category_id}
        for entry in pose_set.raw.get("annotations", ())
        if "keypoints" in entry and (own := held.get(entry["id"])) is not None
    ]
    if len(held) < len(pose_set.instances):
        ids = Counter(i.annotation_id for i in pose_set.instances)
        twice = ids.most_common(1)[0][0]
        raise ValueError(
            f"{pose_set.name}: annotation id {twice} occurs more than once, and nobody can tell which of them"
            f" a pose found; give each annotation an id of its own"
        )
    if len(items) != len(held):
        raise ValueError(f"{pose_set.name}: {len(held)} instances, but {len(items)} annotations in its json")
    categories = [{"id": number, "name": name} for number, name in pose_set.categories.items()]
    images = [{"id": number} for number in pose_set.images]
    truth = GroundTruth.from_coco(
        {"images": images, "annotations": items, "categories": categories}, area_rule
    )
    if indices is None:
        return truth
    numbers = range(len(pose_set))
    chosen = {numbers[i] for i in indices}
    left_out = [pose_set.instances[i].annotation_id for i in pose_set.labelled if i not in chosen]
    return truth.without(left_out).on_images(images_of(pose_set, chosen))


def instance_oks(predictions: Predictions, result: KeypointAP) -> Float[np.ndarray, " G"]:
    """OKS of every annotated instance, in the order of the ground truth; nan where nothing is labelled.

    Predictions made from its own box: of that one pose, nan when it was not predicted. Others: the best of
    all detections within max_dets in its image and category, 0 when there is none.
    """
    truth = result.truth
    labelled = (truth.keypoints[..., 2] > 0).any(1)
    if predictions.annotation_id is not None:
        oks = np.full(len(truth), np.nan)
        rows, target = own_annotations(predictions, truth)
        oks[target] = paired_oks(
            predictions.keypoints[rows], truth.keypoints[target], truth.area[target], result.sigmas
        )
        return oks
    oks = np.zeros(len(truth))
    np.maximum.at(oks, result.matches.pair_truth, result.matches.pair_oks)
    return np.where(labelled, oks, np.nan)


def pose_oks(
    predictions: Predictions, result: KeypointAP
) -> tuple[Float[np.ndarray, " N"] | None, Float[np.ndarray, "N K"] | None]:
    """OKS of each pose with its own annotation, and each keypoint's part; None without annotation boxes."""
    if predictions.annotation_id is None:
        return None, None
    truth = result.truth
    rows, target = own_annotations(predictions, truth)
    pairs = (predictions.keypoints[rows], truth.keypoints[target], truth.area[target], result.sigmas)
    oks, terms = np.full(len(predictions), np.nan), np.full(predictions.scores.shape, np.nan)
    oks[rows], terms[rows] = paired_oks(*pairs), keypoint_terms(*pairs)
    return oks, terms


def own_annotations(
    predictions: Predictions, truth: GroundTruth
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Rows of predictions and of truth that belong to one annotation."""
    if predictions.annotation_id is None or not len(truth):
        return np.zeros(0, int), np.zeros(0, int)
    order = np.argsort(truth.ids)
    place = np.searchsorted(truth.ids[order], predictions.annotation_id).clip(max=len(truth) - 1)
    target = order[place]
    rows = np.flatnonzero(truth.ids[target] == predictions.annotation_id)
    return rows, target[rows]


def _pairs(
    predictions: Predictions, result: KeypointAP
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Which pose is compared with which annotation, keypoint by keypoint; crowds are left out."""
    own = predictions.annotation_id is not None
    rows, target = own_annotations(predictions, result.truth) if own else result.matched(0.5)
    counted = ~result.truth.ignored[target]
    return rows[counted], target[counted]
