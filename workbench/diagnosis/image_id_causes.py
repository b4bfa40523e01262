"""Causes in the ids and names of images: poses, or annotations, stand under those of other images."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable
from workbench.core.report import counted
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, RuledOut, Undone
from workbench.diagnosis.evidence import Change, Evidence, Measured
from workbench.diagnosis.image_file_causes import Edited
from workbench.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from workbench.data.pose_set import Instance, PoseSet

# Images whose poses are compared with every other image; instances up to which all images are compared.
MOST_IMAGES, MOST_INSTANCES = 40, 3000
LEAST_IMAGES = 6
# Share of the images that must agree on one shift.
AGREE = 0.5
# A match of all images counts where the poses fit so well in the median, and their own images at most a part.
GOOD_FIT, OWN_SHARE = 0.5, 0.5
# Results of a part of the images: so many poses, and so large a part of all, must fit another image well and
# their own at most by OWN_SHARE of that; in no constant order also about as well as the others fit theirs.
LEAST_MOVED, LEAST_PART, AS_WELL = 6, 0.05, 0.8
# Poses that lie on no label have less mean OKS than this; moved ones gain so much each.
LOST_OKS, LEAST_OF_PART = 0.2, 0.1
# Mean OKS from which poses lie on the labels of their own images.
FITS = 0.45
# Distance at which a keypoint fits by exp(-1/2), in roots of the box's area: as a sigma of .05 has in OKS.
NEAR = 0.1


@dataclass(frozen=True)
class OtherIds:
    """Under which ids the poses of a result file belong.

    Attributes:
        right: image id in the file -> id of the image that the poses fit.
        shift: places in the list of images by which the ids are moved; 0 where they are in no constant order.
        agreeing: images (of a part: poses) examined that fit the image that `right` gives best.
        examined: images (of a part: poses).
        part: where only some poses are moved: image id and keypoints of each of these -> where it belongs.
    """

    right: Mapping[int, int]
    shift: int
    agreeing: int
    examined: int
    part: Mapping[tuple[int, bytes], int] | None = None

    def of(self, poses: Predictions) -> Predictions:
        """The poses under the ids of the images that they fit."""
        ids = poses.image_id.tolist()
        if self.part is None:
            moved = [self.right.get(n, n) for n in ids]
        else:
            moved = [
                self.part.get((n, points.tobytes()), n)
                for n, points in zip(ids, poses.keypoints, strict=True)
            ]
        return dataclasses.replace(poses, image_id=np.array(moved, poses.image_id.dtype))


class OtherImages(Undone):
    """Poses under the ids of other images that the set has: a list that is off by one, or shuffled."""

    name, group = "results stand under other images' ids", "evaluation"
    needs = ("results", "data")
    refuted_by = "pictures of these ids on which the poses lie where the people or animals are"

    def changes(self, case: Case) -> Iterable[Change]:
        for found in other_ids(case):
            how = "ids of the best fit"
            if found.shift:
                of = "" if found.part is None else f" of {counted(found.agreeing, 'pose')}"
                how = f"ids{of} moved by {found.shift:+d} in the list of images"
            yield self.change(
                how,
                "poses",
                found.of,
                fix="write image_id of the image that was predicted, not by a running index: "
                f"{_some(found.right)}",
                facts={"found": found},
            )

    def seen(self, case: Case, change: Change) -> str:
        found: OtherIds = change.facts["found"]
        if found.part is not None:
            how = f", most of them {found.shift:+d} in the order of the ids" if found.shift else ""
            return (
                f"{found.agreeing} of {counted(found.examined, 'pose')} fit the annotations of another image "
                f"and not those of their own{how}: {_some(found.right)}"
            )
        how = f"all by {found.shift:+d} in the order of the ids" if found.shift else "in no constant order"
        return (
            f"the poses of {found.agreeing} of {counted(found.examined, 'image')} examined fit the "
            f"annotations of another image better than those of their own, {how}: {_some(found.right)}"
        )

    def test(self, case: Case) -> Answer:
        if not other_ids(case):
            return RuledOut("the poses fit no other image of the set better than that of their id")
        return super().test(case)


class OtherPictures(Undone):
    """Annotations under the file names of other images: a list that was sorted otherwise, or off by one."""

    name, group = "annotations stand under other images", "labels"
    needs = ("model", "data")
    refuted_by = "pictures under these names on which the labels lie where the people or animals are"

    def changes(self, case: Case) -> Iterable[Change]:
        evidence, pose_set = case.of_model(), case.pose_set()
        oks, in_part = evidence.measure().mean_oks, self._breaks_off(evidence, pose_set)
        if oks >= FITS and not in_part:
            raise NotAvailable(f"mean OKS is {oks:.2f}: the poses lie on the labels of their own images")
        if len(pose_set.images) < LEAST_IMAGES:
            return
        for how, right in other_orders(pose_set).items():
            change = self._change(pose_set, f"the images {how}", right)
            if oks < FITS:
                yield change
            if in_part and how.startswith("one place"):
                yield from self._of_part(evidence, pose_set, change, how)

    def _change(self, pose_set: PoseSet, name: str, right: Mapping[int, int]) -> Change:
        return self.change(
            name,
            "input",
            lambda model: Edited(model, lambda s: pose_set.image(right[s.image_id])),
            fix="write the file name of the image that was annotated, not of a list in another order: "
            f"{_some(right)}",
            least=0.05,
            facts={"right": right},
        )

    def _breaks_off(self, evidence: Evidence, pose_set: PoseSet) -> bool:
        """Whether poses lie on their labels on one side of a place in the list of images alone."""
        oks, place = _in_list(evidence.measure(), pose_set)
        parts = [(oks[place < cut], oks[place >= cut]) for cut in np.unique(place)]
        return any(
            min(len(a), len(b)) >= LEAST_MOVED
            and min(a.mean(), b.mean()) < min(LOST_OKS, OWN_SHARE * max(a.mean(), b.mean()))
            for a, b in parts
        )

    def _of_part(self, evidence: Evidence, pose_set: PoseSet, change: Change, how: str) -> Iterable[Change]:
        """The same up to a place in the list of images, or from it on: an image was lost there, or put in."""
        before, place = _in_list(evidence.measure(), pose_set)
        gained = _in_list(evidence.measure([change]), pose_set)[0] - before
        sums = {
            (cut, after): float(gained[(place >= cut) == after].sum())
            for cut in np.unique(place)[1:].tolist()
            for after in (True, False)
        }
        (cut, after), most = max(sums.items(), key=lambda pair: pair[1])
        own = (place >= cut) == after
        if own.sum() < LEAST_MOVED or most < LEAST_OF_PART * own.sum():
            return
        ids, right = sorted(pose_set.images), change.facts["right"]
        moved = {n: right[n] if (i >= cut) == after else n for i, n in enumerate(ids)}
        where = (
            f"from {pose_set.images[ids[cut]].path.name} on"
            if after
            else (f"before {pose_set.images[ids[cut]].path.name}")
        )
        yield self._change(pose_set, f"the images {where} {how}", moved)

    def seen(self, case: Case, change: Change) -> str:
        images, right = case.pose_set().images, change.facts["right"]
        moved = [(a, b) for a, b in right.items() if a != b]
        some = ", ".join(f"those of {images[a].path.name} fit {images[b].path.name}" for a, b in moved[:2])
        return (
            f"annotations of {len(moved)} of {counted(len(right), 'image')} fit another image than the named "
            f"one: {some}"
        )

    def test(self, case: Case) -> Answer:
        if (reason := case.no_changes_of(self)) and case.of_model().measure().mean_oks >= FITS:
            return RuledOut(reason)
        return super().test(case)


def _in_list(measured: Measured, pose_set: PoseSet) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """OKS of the instances that count, and the place of the image of each in the list of images."""
    place = {number: i for i, number in enumerate(sorted(pose_set.images))}
    truth = measured.ap.truth
    images = np.array(truth.image_ids)[truth.image[~truth.ignored]]
    return measured.counted, np.array([place[number] for number in images.tolist()])


def other_orders(pose_set: PoseSet) -> dict[str, dict[int, int]]:
    """Ways in which file names may belong: in words, and image id -> id of the image that was annotated.

    Args:
        pose_set: images of one id order; a way in which an image has another size than annotated is none.
    """
    ids = sorted(pose_set.images)
    count, names = len(ids), [pose_set.images[n].path.name for n in ids]
    ways: dict[str, Sequence[int]] = {
        "in the order of their names as numbers": sorted(range(count), key=lambda i: _by_number(names[i])),
        "in the order of their names as text": sorted(range(count), key=lambda i: names[i]),
        "one place further on": [(i + 1) % count for i in range(count)],
        "one place back": [(i - 1) % count for i in range(count)],
        "exchanged in pairs": [i ^ 1 if i ^ 1 < count else i for i in range(count)],
        "backwards": range(count)[::-1],
    }
    for first in (0, 1):
        as_text = sorted(range(count), key=lambda i: str(i + first))
        ways[f"numbered from {first} as text"] = as_text
        ways[f"numbered from {first}, not as text"] = sorted(range(count), key=lambda i: as_text[i])
    found: dict[str, dict[int, int]] = {}
    for how, places in ways.items():
        right = {ids[i]: ids[place] for i, place in enumerate(places)}
        sizes = ((pose_set.images[a], pose_set.images[b]) for a, b in right.items())
        fit = all((a.width, a.height) == (b.width, b.height) for a, b in sizes)
        if fit and right not in found.values() and any(a != b for a, b in right.items()):
            found[how] = right
    return found


def _by_number(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10."""
    return [(int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def other_ids(case: Case) -> list[OtherIds]:
    """Under which ids the results may belong, where these are not their own: of whole images, of some poses.

    Raises:
        NotAvailable: there is no result file, or too few images.
    """
    given = case.evidence().given
    if given is None:
        raise NotAvailable("no result file was given")

    def recovered() -> list[OtherIds]:
        whole = recovered_ids(given, case.pose_set())
        if whole is not None and len(case.pose_set().labelled) > MOST_INSTANCES:
            return [whole]
        return [one for one in (whole, recovered_poses(given, case.pose_set())) if one is not None]

    return case.once("other image ids", recovered)


def moved_away(case: Case) -> int:
    """How many annotated images have no result under their own id, and some under another one."""
    try:
        found = other_ids(case)
    except NotAvailable:
        return 0
    seen = set(case.results().image_id.tolist())
    there = [set(one.of(case.results()).image_id.tolist()) - seen for one in found]
    return max((len(new & set(case.pose_set().labelled_of_image)) for new in there), default=0)


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
    orders = _orders(pose_set, with_results)
    shift, count, order = _constant(orders, examined, best)
    if shift and count >= AGREE * len(examined):
        right = {n: order[(i + shift) % len(order)] for i, n in enumerate(order)}
        return OtherIds(right, shift, count, len(examined))
    if len(pose_set.labelled) > MOST_INSTANCES:
        return None
    return _matched(found, pose_set, with_results, float(np.median(own)))


def recovered_poses(found: Predictions, pose_set: PoseSet) -> OtherIds | None:
    """Where the poses belong that fit another image and not their own.

    Args:
        found: poses of a result file.
        pose_set: the annotations.

    Raises:
        NotAvailable: the set is so large that poses are not compared with all of it.
    """
    if len(pose_set.labelled) > MOST_INSTANCES:
        raise NotAvailable(
            "the poses of whole images fit their own; whether some poses stand under other ids is looked at "
            f"in sets of up to {MOST_INSTANCES} instances"
        )
    labelled = list(pose_set.labelled_of_image)
    if len(labelled) < 2:
        return None  # there is no other image that a pose could fit
    place = {image_id: column for column, image_id in enumerate(labelled)}
    rows = np.flatnonzero(np.isin(found.image_id, labelled))
    instances, starts = _instances(pose_set)
    chunks = np.array_split(rows, 1 + len(rows) // 256)
    near = [np.maximum.reduceat(_near(found.keypoints[c], instances), starts, axis=1) for c in chunks]
    fits, ids = np.concatenate(near), found.image_id[rows]
    own = fits[np.arange(len(rows)), [place[n] for n in ids.tolist()]]
    column = fits.argmax(1)
    best = fits[np.arange(len(rows)), column]
    away = (best >= GOOD_FIT) & (own <= OWN_SHARE * best)
    if away.sum() < max(LEAST_MOVED, LEAST_PART * len(rows)):
        return None
    origin, target = ids[away].tolist(), [labelled[c] for c in column[away]]
    shift, count, order = _constant(_orders(pose_set, sorted(set(ids.tolist()))), origin, target)
    if shift and count >= AGREE * len(origin):
        steps = {n: order[(i + shift) % len(order)] for i, n in enumerate(order)}
        away[np.flatnonzero(away)[[steps.get(a) != b for a, b in zip(origin, target, strict=True)]]] = False
    elif np.median(best[away]) < AS_WELL * np.median(own[~away]):
        return None
    else:
        shift = 0
    part = {
        (int(ids[i]), found.keypoints[rows[i]].tobytes()): labelled[column[i]] for i in np.flatnonzero(away)
    }
    return OtherIds({n: b for (n, _), b in part.items()}, shift, len(part), len(rows), part)


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


def _orders(pose_set: PoseSet, with_results: Sequence[int]) -> tuple[list[int], ...]:
    """Lists of images along which ids may be moved."""
    labelled = sorted(pose_set.labelled_of_image)
    return sorted(pose_set.images), list(pose_set.images), labelled, sorted(with_results)


def _constant(
    orders: Sequence[list[int]], examined: Sequence[int], best: Sequence[int]
) -> tuple[int, int, list[int]]:
    """The shift on which most images agree, how many do, and in which order of images it is counted."""
    shifts = [_shift(order, examined, best) for order in orders]
    at = max(range(len(orders)), key=lambda i: shifts[i][1])
    return (*shifts[at], orders[at])


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
    instances, starts = _instances(pose_set)
    fit = _near(found.keypoints[found.image_id == image_id], instances)
    of_poses = np.maximum.reduceat(fit, starts, axis=1).mean(0)
    of_instances = np.add.reduceat(fit.max(0), starts) / np.diff([*starts, len(instances)])
    return (of_poses + of_instances) / 2


def _instances(pose_set: PoseSet) -> tuple[list[Instance], Int[np.ndarray, " images"]]:
    """Labelled instances image by image, and the first one of each image."""
    by_image = pose_set.labelled_of_image.values()
    starts = np.cumsum([0, *(len(own) for own in by_image)])[:-1]
    return [pose_set.instances[i] for own in by_image for i in own], starts


def _near(points: Float[np.ndarray, "P K 2"], instances: Sequence[Instance]) -> Float[np.ndarray, "P I"]:
    """How well poses fit instances, 0..1."""
    truth = np.array([one.truth for one in instances], float)
    boxes = np.array([one.box for one in instances], float)
    size = np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1.0))
    seen = truth[..., 2] > 0
    apart = points[:, None] - truth[None, ..., :2]
    squared = np.einsum("pikd,pikd->pik", apart, apart) / (NEAR * size[:, None]) ** 2
    near = np.nan_to_num(np.exp(-squared / 2)) * seen
    return near.sum(-1) / np.maximum(seen.sum(-1), 1)


def _some(right: Mapping[int, int]) -> str:
    pairs = [(a, b) for a, b in right.items() if a != b][:3]
    return ", ".join(f"{b} in place of {a}" for a, b in pairs)


CAUSES: tuple[Undone, ...] = (OtherImages(), OtherPictures())
