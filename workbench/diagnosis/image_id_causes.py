"""Causes in the image ids of a result file: its poses stand under the ids of other images of the set."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, RuledOut, Undone
from workbench.diagnosis.evidence import Change
from workbench.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import PoseSet

# Images whose poses are compared with every other image; instances up to which all images are compared.
MOST_IMAGES, MOST_INSTANCES = 40, 3000
LEAST_IMAGES = 6
# Share of the images that must agree on one shift.
AGREE = 0.5
# A match of all images counts where the poses fit so well in the median, and their own images at most a part.
GOOD_FIT, OWN_SHARE = 0.5, 0.5
# Distance at which a keypoint fits by exp(-1/2), in roots of the box's area: as a sigma of .05 has in OKS.
NEAR = 0.1


@dataclass(frozen=True)
class OtherIds:
    """Under which ids the poses of a result file belong.

    Attributes:
        right: image id in the file -> id of the image that the poses fit.
        shift: places in the list of images by which the ids are moved; 0 where they are in no constant order.
        agreeing: images examined whose poses fit the image that `right` gives best.
        examined: images.
    """

    right: Mapping[int, int]
    shift: int
    agreeing: int
    examined: int


class OtherImages(Undone):
    """Poses under the ids of other images that the set has: a list that is off by one, or shuffled."""

    name, group = "results stand under other images' ids", "evaluation"
    needs = ("results", "data")
    refuted_by = "pictures of these ids on which the poses lie where the people or animals are"

    def changes(self, case: Case) -> Iterable[Change]:
        found = other_ids(case)
        if found is None:
            return
        words = (
            f"ids moved by {found.shift:+d} in the list of images" if found.shift else "ids of the best fit"
        )
        yield Change(
            self.name,
            words,
            "poses",
            lambda poses: _under(poses, found.right),
            fix="write image_id of the image that was predicted, not by a running index: "
            f"{_some(found.right)}",
            facts={"found": found},
        )

    def seen(self, case: Case, change: Change) -> str:
        found: OtherIds = change.facts["found"]
        how = f"all by {found.shift:+d} in the order of the ids" if found.shift else "in no constant order"
        return (
            f"the poses of {found.agreeing} of {found.examined} images examined fit the annotations of "
            f"another image better than those of their own, {how}: {_some(found.right)}"
        )

    def test(self, case: Case) -> Answer:
        if other_ids(case) is None:
            return RuledOut("the poses fit no other image of the set better than that of their id")
        return super().test(case)


def other_ids(case: Case) -> OtherIds | None:
    """Under which ids the results belong, where these are not their own.

    Raises:
        NotAvailable: there is no result file, or too few images.
    """
    given = case.evidence().given
    if given is None:
        raise NotAvailable("no result file was given")
    return case.once("other image ids", lambda: recovered_ids(given, case.pose_set()))


def recovered_ids(found: Predictions, pose_set: PoseSet) -> OtherIds | None:
    """The images that the poses fit best, where most of them fit another than their own.

    Args:
        found: poses of a result file.
        pose_set: the annotations.
    """
    labelled = list(pose_set.labelled_of_image)
    with_results = [n for n in labelled if (found.image_id == n).any()]
    if len(with_results) < LEAST_IMAGES:
        return None
    step = max(1, len(with_results) // MOST_IMAGES)
    examined = with_results[::step][:MOST_IMAGES]
    place = {image_id: column for column, image_id in enumerate(labelled)}
    fits = np.array([_fit(found, image_id, pose_set) for image_id in examined])
    best = [labelled[column] for column in fits.argmax(1)]
    own = np.array([fits[row, place[n]] for row, n in enumerate(examined)])
    if np.mean([b != n for b, n in zip(best, examined, strict=True)]) < AGREE:
        return None
    orders = (sorted(pose_set.images), list(pose_set.images), sorted(labelled), sorted(with_results))
    shifts = [_shift(order, examined, best) for order in orders]
    at = max(range(len(orders)), key=lambda i: shifts[i][1])
    (shift, count), order = shifts[at], orders[at]
    if shift and count >= AGREE * len(examined):
        right = {n: order[(i + shift) % len(order)] for i, n in enumerate(order)}
        return OtherIds(right, shift, count, len(examined))
    if len(pose_set.labelled) > MOST_INSTANCES:
        return None
    return _matched(found, pose_set, with_results, float(np.median(own)))


def _matched(
    found: Predictions, pose_set: PoseSet, with_results: Sequence[int], own: float
) -> OtherIds | None:
    """One image for each, where the poses fit these well and their own badly."""
    from scipy.optimize import linear_sum_assignment

    labelled = list(pose_set.labelled_of_image)
    fits = np.array([_fit(found, image_id, pose_set) for image_id in with_results])
    rows, columns = linear_sum_assignment(-fits)
    good = float(np.median(fits[rows, columns]))
    if good < GOOD_FIT or own > OWN_SHARE * good:
        return None
    right = {with_results[r]: labelled[c] for r, c in zip(rows, columns, strict=True)}
    moved = sum(a != b for a, b in right.items())
    return OtherIds(right, 0, moved, len(with_results))


def _shift(order: Sequence[int], examined: Sequence[int], best: Sequence[int]) -> tuple[int, int]:
    """The most frequent way from an image to its best fit in a list of images, and how often it is."""
    place, n = {image_id: i for i, image_id in enumerate(order)}, len(order)
    ways = Counter(
        (place[b] - place[a] + n // 2) % n - n // 2
        for a, b in zip(examined, best, strict=True)
        if a in place and b in place
    )
    return ways.most_common(1)[0] if ways else (0, 0)


def _fit(found: Predictions, image_id: int, pose_set: PoseSet) -> Float[np.ndarray, " images"]:
    """How well the poses of one id fit each annotated image, 0..1: as OKS with one sigma, both ways round."""
    rows = [i for own in pose_set.labelled_of_image.values() for i in own]
    truth = np.array([pose_set.instances[i].truth for i in rows], float)
    boxes = np.array([pose_set.instances[i].box for i in rows], float)
    size = np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1.0))
    starts = np.cumsum([0, *(len(own) for own in pose_set.labelled_of_image.values())])[:-1]
    seen = truth[..., 2] > 0
    poses = found.keypoints[found.image_id == image_id]
    away = np.linalg.norm(poses[:, None] - truth[None, ..., :2], axis=-1) / (NEAR * size[:, None])
    near = np.nan_to_num(np.exp(-(away**2) / 2)) * seen
    fit = near.sum(-1) / np.maximum(seen.sum(-1), 1)  # pose, instance
    of_poses = np.maximum.reduceat(fit, starts, axis=1).mean(0)
    counts = np.diff([*starts, len(rows)])
    of_instances = np.add.reduceat(fit.max(0), starts) / counts
    return (of_poses + of_instances) / 2


def _under(found: Predictions, right: Mapping[int, int]) -> Predictions:
    ids = np.array([right.get(n, n) for n in found.image_id.tolist()], found.image_id.dtype)
    return dataclasses.replace(found, image_id=ids)


def _some(right: Mapping[int, int]) -> str:
    pairs = [(a, b) for a, b in right.items() if a != b][:3]
    return ", ".join(f"{b} in place of {a}" for a, b in pairs)


CAUSES: tuple[OtherImages, ...] = (OtherImages(),)
