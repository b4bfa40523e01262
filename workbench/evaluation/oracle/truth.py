"""The annotated people of an image, and what the truth says of detections and of found people."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.geometry import apply
from workbench.decoding.grouping import Grouping, GroupingSettings, detect
from workbench.decoding.grouping.refinement import adjusted, fill_missing
from workbench.evaluation.oks import EPSILON, paired_oks

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import PoseSet
    from workbench.models.bottom_up import Maps

# A detection may be given to a person where it counts at least this much as the person's keypoint.
LEAST_TERM = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Annotated:
    """The people of one image that can be found.

    Attributes:
        truth: (x, y, visibility), image pixels.
        area: square pixels.
        sigmas: OKS constants.
    """

    truth: Float[np.ndarray, "P K 3"]
    area: Float[np.ndarray, " P"]
    sigmas: Float[np.ndarray, " K"]


def annotated_in(pose_set: PoseSet, image_id: int) -> Annotated:
    """The labelled people of one image.

    Raises:
        ValueError: one has no area.
    """
    held = [pose_set.instances[i] for i in pose_set.labelled_of_image.get(image_id, ())]
    area = np.array([person.area for person in held], float)
    if not np.isfinite(area).all():
        raise ValueError(f"{pose_set.name}: image {image_id} has a person without area; OKS needs it")
    K = len(pose_set.skeleton)
    truth = np.stack([person.truth for person in held]) if held else np.zeros((0, K, 3))
    return Annotated(truth.astype(float), area, np.array(pose_set.skeleton.sigmas))


def grouped_by_truth(maps: Maps, people: Annotated, settings: GroupingSettings) -> Grouping:
    """Each annotated person with the detection nearest to each of its keypoints, placed by the settings.

    Two people may share a detection: one peak is all that two keypoints in one place leave. A detection that
    is nobody's is dropped. What a person lacks is filled in as the settings say.
    """
    K = len(maps.heatmaps)
    P = len(people.truth)
    keypoints, present = np.zeros((P, K, 3), np.float32), np.zeros((P, K), bool)
    for k, found in enumerate(detect(maps.heatmaps, settings)):
        if not len(found):
            continue
        places = apply(maps.to_image, found.points.astype(float) + 0.5)
        squared = ((people.truth[:, None, k, :2] - places[None]) ** 2).sum(-1)
        term = np.exp(-squared / (2 * people.sigmas[k]) ** 2 / (people.area[:, None] + EPSILON) / 2)
        nearest = squared.argmin(1)
        given = (people.truth[:, k, 2] > 0) & (term[np.arange(P), nearest] >= LEAST_TERM)
        keypoints[given, k, :2] = found.points[nearest[given]]
        keypoints[given, k, 2] = found.values[nearest[given]]
        present[:, k] = given
    somebody = present.any(1)
    keypoints, present = keypoints[somebody], present[somebody]
    layout = settings.maps(K, len(maps.tags))
    tags = np.full((len(keypoints), K, maps.tags.shape[-1]), np.nan, np.float32)
    for p, k in np.argwhere(present):
        x, y = keypoints[p, k, :2].astype(int)
        tags[p, k] = maps.tags[layout[k], y, x]
    if settings.adjust and len(keypoints):
        keypoints = adjusted(keypoints, present, maps.heatmaps, settings)
    scores, given = keypoints[..., 2].mean(1), np.zeros_like(present)
    if settings.refine and len(keypoints):
        keypoints, given = fill_missing(
            keypoints, present, ~present, maps.heatmaps, maps.tags, layout, settings
        )
    keypoints[~(present | given), :2] = np.nan
    return Grouping(keypoints, tags, scores, given)


def best_oks(keypoints: Float[np.ndarray, "P K 2"], people: Annotated) -> Float[np.ndarray, " Q"]:
    """For each annotated person the OKS of the found one that is nearest; 0 where nobody was found."""
    return _every_oks(keypoints, people).max(0, initial=0.0)


def matched_oks(keypoints: Float[np.ndarray, "P K 2"], people: Annotated) -> Float[np.ndarray, " P"]:
    """OKS of each found person with the annotated one that it is; 0 for those who are nobody.

    Pairs are made from the best downwards and everybody is in one pair at most: a person found twice has its
    OKS once, and the weaker finding is a false positive that no ranking should put before a true one.
    """
    found, count = len(keypoints), len(people.truth)
    scores = np.zeros(found)
    if not found or not count:
        return scores
    oks = _every_oks(keypoints, people)
    for _ in range(min(found, count)):
        one, who = np.unravel_index(oks.argmax(), oks.shape)
        scores[one] = max(oks[one, who], 0.0)
        oks[one], oks[:, who] = -1.0, -1.0
    return scores


def _every_oks(keypoints: Float[np.ndarray, "P K 2"], people: Annotated) -> Float[np.ndarray, "P Q"]:
    found, count = len(keypoints), len(people.truth)
    pairs = np.repeat(keypoints, count, 0), np.tile(people.truth, (found, 1, 1)), np.tile(people.area, found)
    return np.nan_to_num(paired_oks(*pairs, people.sigmas)).reshape(found, count)
