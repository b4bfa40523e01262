"""From maps to people, step by step: detect, deal out, place, score, fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.grouping.dealing import Person, deal
from workbench.grouping.detections import Detections, detect
from workbench.grouping.filling import filled
from workbench.grouping.placing import adjusted
from workbench.grouping.records import Grouping, JointStep
from workbench.grouping.settings import HIGHERHRNET, GroupingSettings
from workbench.records import NotAvailable

if TYPE_CHECKING:
    from jaxtyping import Float


def group(
    heatmaps: Float[np.ndarray, "K H W"],
    tags: Float[np.ndarray, "T H W L"] | None,
    settings: GroupingSettings = HIGHERHRNET,
    trace: bool = False,
    detections: Sequence[Detections] | None = None,
) -> Grouping:
    """The people in the maps of one image.

    Args:
        heatmaps: one per keypoint; arrays or CPU tensors, read as float32, left as they are.
        tags: of the same height and width; L values per cell (the flip test gives two), [T, H, W] for one.
        settings: by which rules; the reference protocol by default.
        trace: keep how each detection was dealt out.
        detections: of the same maps, from `detect`, when several groupings share them.

    Returns:
        Empty, with a note that says why, where no map exceeds the detection threshold.

    Raises:
        NotAvailable: there are no tags.
        ValueError: shapes or the tag layout do not fit, or a map holds a number that is not finite.
    """
    if tags is None:
        raise NotAvailable(
            "grouping: these outputs hold heatmaps and no tag maps; they tell where keypoints are, and not "
            "whose they are"
        )
    heatmaps, tags = checked(heatmaps, tags)
    K = len(heatmaps)
    layout = settings.maps(K, len(tags))
    order = settings.order(K)
    found = detect(heatmaps, settings) if detections is None else tuple(detections)
    read = [tags[layout[k], d.points[:, 1], d.points[:, 0]] for k, d in enumerate(found)]
    people, steps = deal(found, read, settings)
    keypoints, tag_values, present = _as_arrays(people, K, tags.shape[-1])
    if settings.adjust:
        keypoints = adjusted(keypoints, present, heatmaps, settings)
    scores = keypoints[:, :, 2].mean(1)
    given = np.zeros_like(present)
    if settings.refine and len(people):
        keypoints, given = filled(keypoints, present, heatmaps, tags, layout, settings)
    keypoints[~(present | given), :2] = np.nan
    note = _note(heatmaps, found, steps, settings, order)
    return Grouping(keypoints, tag_values, scores, given, tuple(steps) if trace else (), note)


def checked(heatmaps: Any, tags: Any) -> tuple[Float[np.ndarray, "K H W"], Float[np.ndarray, "T H W L"]]:
    """Both as float32 arrays that fit each other and hold finite numbers.

    Raises:
        ValueError: they do not.
    """
    heatmaps, tags = np.asarray(heatmaps, np.float32), np.asarray(tags, np.float32)
    if heatmaps.ndim != 3 or heatmaps.size == 0:
        raise ValueError(f"heatmaps: expected keypoints x height x width, got shape {heatmaps.shape}")
    if tags.ndim == 3:
        tags = tags[..., None]
    if tags.ndim != 4 or tags.size == 0:
        raise ValueError(f"tags: expected maps x height x width x values, got shape {tags.shape}")
    if tags.shape[1:3] != heatmaps.shape[1:]:
        raise ValueError(
            f"tags: expected maps of {heatmaps.shape[2]} x {heatmaps.shape[1]} cells as the heatmaps, got "
            f"{tags.shape[2]} x {tags.shape[1]}; bring them to one size first"
        )
    for what, maps in (("heatmap", heatmaps), ("tag map", tags)):
        if not np.isfinite(maps).all():
            broken = ~np.isfinite(maps).reshape(len(maps), -1).all(1)
            raise ValueError(
                f"{what} {np.flatnonzero(broken)[0]} holds a number that is not finite ({broken.sum()} of "
                f"{len(maps)} do): the weights diverged or the input did; nobody can be found in it"
            )
    return heatmaps, tags


def _as_arrays(people: Sequence[Person], K: int, L: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keypoints [P, K, 3], zeros where missing, as the references reckon; tags [P, K, L]; present [P, K]."""
    keypoints = np.zeros((len(people), K, 3), np.float32)
    tags = np.full((len(people), K, L), np.nan, np.float32)
    present = np.zeros((len(people), K), bool)
    for p, person in enumerate(people):
        for joint, row in person.joints.items():
            keypoints[p, joint], tags[p, joint] = row[:3], row[3:]
            present[p, joint] = True
    return keypoints, tags, present


def _note(
    heatmaps: Float[np.ndarray, "K H W"],
    found: Sequence[Detections],
    steps: Sequence[JointStep],
    settings: GroupingSettings,
    order: Sequence[int],
) -> str:
    """What a person should know of the result; "" when nothing."""
    if not any(map(len, found)):
        k = int(heatmaps.reshape(len(heatmaps), -1).max(1).argmax())
        return (
            f"nobody found: no heatmap exceeds the detection threshold {settings.detection_threshold:g}; the "
            f"highest value is {heatmaps[k].max():.3g}, of keypoint {k}"
        )
    notes = []
    several = [step for step in steps if len(step.values) > 1]
    if several and all(np.ptp(step.tags) == 0 for step in several):
        notes.append(
            "all detections of a keypoint carry one tag: the tags tell nobody apart, and the protocol "
            "keeps one person"
        )
    over = sum(step.outcomes.count("overwrote") for step in steps)
    if over:
        notes.append(f"{over} detections were written over others, because their first tag values are equal")
    dropped = sum(step.outcomes.count("dropped") for step in steps)
    if dropped:
        notes.append(f"{dropped} detections were dropped: there are {settings.max_people} people already")
    cut = [step.joint for step in steps if len(step.values) == settings.top_k > 1]
    if cut:
        notes.append(
            f"{len(cut)} of {len(order)} keypoints reach the limit of {settings.top_k} detections: there may "
            "be more people"
        )
    return "; ".join(notes)
