"""Every variant on every image, from one look at each: the network is asked once, its maps are read often."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable, Outputs
from workbench.decoding.grouping import Detections, detect, group
from workbench.evaluation import keypoint_ap
from workbench.evaluation.ablation.sweep import Ablation, Outcome
from workbench.evaluation.ablation.variants import TagMaps, Variant
from workbench.evaluation.evaluate import truth_of
from workbench.evaluation.oks import paired_oks
from workbench.evaluation.predict import (
    Looked,
    category_of,
    finds_people,
    looking,
    passes_over,
    predictions_of,
)
from workbench.models.bottom_up import Aggregation, BottomUp, Kept, People

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import PoseSet


def sweep(
    model: BottomUp,
    pose_set: PoseSet,
    variants: Sequence[Variant] | Callable[[Outputs], Sequence[Variant]],
    *,
    image_ids: Iterable[int] | None = None,
    flip: bool = True,
    title: str = "",
    question: str = "",
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Ablation:
    """AP and AR of every variant, the first one being what the others are compared with.

    Args:
        model: bottom-up; its rules do not matter, those of the variants do.
        pose_set: annotated images.
        variants: with names of their own; or what makes them from the first image's outputs.
        image_ids: of the set; all by default.
        flip: mirror every image as well; variants then choose whether that pass counts.
        title: what to call the model.
        question: what is varied, for titles.
        progress: called with (done, total) images.
        cancelled: asked before each image.

    Raises:
        NotAvailable: the model finds nobody by itself.
        ValueError: names twice, no variant, no instance that counts, or anything that the maps refuse.
    """
    if not finds_people(model):
        raise NotAvailable(
            "ablation: this model finds nobody by itself: it is top-down and has no tags and no grouping"
        )
    ids: list[int] = []
    chosen: Sequence[Variant] = ()
    people: list[list[People]] = []
    calls = looks = 0
    for looked in looking(model, pose_set, image_ids, flip=flip, progress=progress, cancelled=cancelled):
        if not ids:
            chosen = _named(variants(looked.outputs) if callable(variants) else variants)
            people = [[] for _ in chosen]
        ids.append(looked.image_id)
        for look in dict.fromkeys(variant.look for variant in chosen):
            seen = looked if not look else _exchanged(model, looked, flip)
            calls += 1 + len(seen.outputs.passes)
            looks += 1
            places = [n for n, variant in enumerate(chosen) if variant.look == look]
            for n, found in zip(places, read(model, seen, [chosen[n] for n in places]), strict=True):
                people[n].append(found)
    truth = truth_of(pose_set).on_images(ids)
    if truth.ignored.all():
        raise ValueError(f"{pose_set.name}: no instance counts in these {len(ids)} images, so there is no AP")
    category, K = category_of(pose_set), len(pose_set.skeleton)
    outcomes = []
    judged = any(variant.undoes for variant in chosen)
    for variant, found in zip(chosen, people, strict=True):
        detections = predictions_of(ids, found, category, K).detections()
        figures = keypoint_ap(truth, detections, pose_set.skeleton.sigmas).figures
        outcomes.append(
            Outcome(
                variant.name, variant.about, figures, sum(map(len, found)), variant.several,
                variant.undoes, variant.beside, _oks(pose_set, ids, found) if judged else None,
            )
        )  # fmt: skip
    return Ablation(
        title=title,
        question=question,
        data=pose_set.name,
        reference=outcomes[0],
        variants=tuple(outcomes[1:]),
        images=len(ids),
        forward_passes=looks,
        network_calls=calls,
    )


def _named(variants: Sequence[Variant]) -> Sequence[Variant]:
    names = [variant.name for variant in variants]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"sweep: expected variants with names of their own, got {names}")
    return variants


def _exchanged(model: BottomUp, looked: Looked, flip: bool) -> Looked:
    """The same image with red and blue exchanged, through the network again."""
    sample = looked.batch.samples[0]
    image = np.ascontiguousarray(sample.image[..., ::-1])
    return Looked(looked.image_id, *passes_over(model, dataclasses.replace(sample, image=image), flip))


def _oks(pose_set: PoseSet, ids: Sequence[int], found: Sequence[People]) -> Float[np.ndarray, " Q"]:
    """For every labelled person the OKS of the found one that is nearest; 0 where nobody was found."""
    nearest = []
    for image_id, people in zip(ids, found, strict=True):
        held = [pose_set.instances[i] for i in pose_set.labelled_of_image.get(image_id, ())]
        if not held:
            continue
        P, Q = len(people), len(held)
        truth = np.stack([np.asarray(one.truth, float) for one in held])
        area = np.array([one.area for one in held], float)
        pairs = np.tile(people.keypoints, (Q, 1, 1)), np.repeat(truth, P, 0), np.repeat(area, P)
        oks = paired_oks(*pairs, np.array(pose_set.skeleton.sigmas)).reshape(Q, P)
        nearest.append(np.nan_to_num(oks).max(1, initial=0.0))
    return np.concatenate(nearest) if nearest else np.zeros(0)


def _enlargement(aggregation: Aggregation) -> tuple[bool, bool, bool]:
    return aggregation.align_corners, aggregation.project, aggregation.inverse_affine


def read(model: BottomUp, looked: Looked, variants: Sequence[Variant]) -> list[People]:
    """The people of one image by each variant; maps and detections that variants share are made once."""
    found: dict[int, People] = {}
    settings: dict[Aggregation, None] = dict.fromkeys(variant.aggregation for variant in variants)
    kept: Kept = {}
    size = None
    # Those of one size and rule of enlargement one after the other, and no longer kept than for them.
    for aggregation in sorted(settings, key=_enlargement):
        if _enlargement(aggregation) != size:
            kept.clear()
            size = _enlargement(aggregation)
        maps = model.maps(looked.outputs, looked.batch, 0, aggregation, kept)
        tags = TagMaps(maps.tags, looked.image_id)
        detections: dict[tuple[float, ...], tuple[Detections, ...]] = {}
        for place, variant in enumerate(variants):
            if variant.aggregation != aggregation:
                continue
            rules = variant.grouping
            key = (rules.nms_kernel, rules.top_k, rules.detection_threshold)
            if key not in detections:
                detections[key] = detect(maps.heatmaps, rules)
            own = maps.tags if variant.tags is None else variant.tags(tags)
            groups = group(maps.heatmaps, own, rules, detections=detections[key])
            people = People.of(groups, maps.to_image)
            if variant.people is not None and looked.outputs.heatmaps is not None:
                stride = looked.batch.pixels.shape[-1] / looked.outputs.heatmaps.shape[-1]
                people = variant.people(people, stride, looked.batch.to_image[0])
            found[place] = people
    return [found[place] for place in range(len(variants))]
