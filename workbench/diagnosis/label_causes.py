"""Causes in the labels: keypoint order, left and right, mirror pairs, sigmas."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Effect
from workbench.core.report import counted, signed_text
from workbench.diagnosis import exchanged_pairs
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, NotTestable, RuledOut, Undone
from workbench.diagnosis.evidence import Change, gain
from workbench.diagnosis.people_evidence import InOrder, PeopleEvidence, cycles, orders_of_maps
from workbench.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from workbench.data.pose_set import Instance, PoseSet

# A keypoint is far from its own label and near another's where the distance falls to less than this share.
NEARER = 0.6
# Instances that must vote for a permutation.
LEAST_VOTES = 8
# Left and right of a pair are told apart where they lie so far from each other, in roots of the box's area.
APART = 0.06
# Poses that take left for right in more pairs than this say nothing about the labels.
UNSURE = 0.1
# An instance has its sides exchanged where so many pairs can be told apart and nearly all lie the other way.
LEAST_PAIRS, LEAST_SHARE = 2, 0.85
# Instances of which such a share is exchanged have wrong labels; half of it where the other poses take
# left for right in next to no pair.
LEAST_SWAPPED, SURE = 0.12, 0.02


class OrderByName(Cause):
    """Model and data set name the same keypoints in another order."""

    name, group, needs = "keypoints named in another order", "labels", ("model", "data")
    refuted_by = "names that were mixed up while the channels are right: then AP is as it should be"

    def test(self, case: Case) -> Answer:
        model, pose_set = case.model().skeleton, case.pose_set().skeleton
        own, theirs = list(map(plain_name, model.keypoints)), list(map(plain_name, pose_set.keypoints))
        if len(own) != len(theirs):
            return self.found(
                f"the model predicts {counted(len(own), 'keypoint')} ({model.name}), the data set has "
                f"{len(theirs)} ({pose_set.name})",
                fix="choose the data set, or the head, that has the same keypoints",
            )
        if case.loaded().model is not case.model():
            raise NotAvailable(
                "the model's file gives its keypoints no names; they are called as in the data set"
            )
        if own == theirs or set(own) != set(theirs):
            same = "in the same order" if own == theirs else "under names of their own"
            return RuledOut(f"model and data set have {counted(len(own), 'keypoint')} {same}")
        moved = [k for k in range(len(own)) if own[k] != theirs[k]]
        return self.found(
            f"{len(moved)} of {counted(len(own), 'keypoint')} stand at another place, number {moved[0]} is "
            f"{model.keypoints[moved[0]]} in the model and {pose_set.keypoints[moved[0]]} in the data set",
            fix=f"reorder the channels by name: order = {[own.index(n) for n in theirs]}",
        )


def plain_name(name: str) -> str:
    """A keypoint's name in one spelling: lower case, ``left_`` and ``right_`` for ``l_`` and ``r_``."""
    words = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return re.sub(r"^(l|r)_", lambda m: {"l": "left_", "r": "right_"}[m[1]], words)


class KeypointOrder(Undone):
    """Keypoints are in another order than the labels; the order is recovered from the poses."""

    name, group = "keypoint order permuted", "labels"
    refuted_by = "another set of images that asks for another order"
    of_people = True

    def changes(self, case: Case) -> Iterable[Change]:
        evidence = case.tried_on()
        if isinstance(evidence, PeopleEvidence):
            yield from self._of_maps(case, evidence)
            return
        order = recovered_order(evidence.poses(), case.pose_set())
        if order is None:
            of_categories = list(self._of_categories(case, evidence.poses()))
            yield from of_categories or self._of_part(case, evidence.poses())
            return
        names = case.pose_set().skeleton.keypoints
        moved = [k for k in range(len(order)) if order[k] != k]
        yield self.change(
            "the recovered order",
            "poses",
            lambda found: _reordered(found, order),
            fix=f"read the channels in this order: {list(map(int, order))}, or correct the order in the "
            "annotations",
            facts={"moved": [(names[k], names[order[k]]) for k in moved]},
        )

    def _of_categories(self, case: Case, found: Predictions) -> Iterable[Change]:
        """Categories, such as species, whose labels have another order than those of the others."""
        pose_set = case.pose_set()
        if not (orders := orders_of_categories(found, pose_set)):
            return

        def reordered(given: Predictions) -> Predictions:
            rows, instances = paired_rows(given, pose_set)
            points, scores = given.keypoints.copy(), given.scores.copy()
            for row, one in zip(rows, instances, strict=True):
                if (order := orders.get(one.category_id)) is not None:
                    points[row], scores[row] = points[row, order], scores[row, order]
            return dataclasses.replace(given, keypoints=points, scores=scores)

        names = pose_set.skeleton.keypoints
        listed = {_category(pose_set, number): order.tolist() for number, order in orders.items()}
        yield self.change(
            f"the recovered order of {', '.join(listed)}",
            "poses",
            reordered,
            fix=f"correct the order of the annotated keypoints of these categories: {listed} says which of "
            "the others' keypoints stands at each place",
            least=0.005,
            facts={
                "moved": [
                    (names[k], names[order[k]])
                    for order in orders.values()
                    for k in range(len(order))
                    if order[k] != k
                ]
            },
        )

    def _of_part(self, case: Case, found: Predictions) -> Iterable[Change]:
        """Instances in which some keypoints, other than left and right, are exchanged in pairs."""
        pose_set = case.pose_set()
        points, truth, scale, ids = paired_points(found, pose_set)
        pairs = exchanged_pairs.pairs_in_part(points, truth, scale, pose_set.skeleton.mirror, APART)
        if not len(pairs):
            return
        part = sides_of(found, pose_set, pairs)
        chosen = np.isin(ids, list(part.swapped))
        of_labels = exchanged_pairs.is_of_labels(points, truth, scale, pairs, chosen)
        if not part.certain or part.turned > SURE or not of_labels:
            return
        order = np.arange(len(pose_set.skeleton))
        order[pairs] = pairs[:, ::-1]
        names = pose_set.skeleton.keypoints
        listed = ", ".join(f"{names[a]} and {names[b]}" for a, b in pairs.tolist())
        some = ", ".join(map(str, sorted(part.swapped)[:12]))
        yield self.change(
            f"{listed} exchanged in {len(part.swapped)} of {counted(part.instances, 'annotation')}",
            "labels",
            lambda given: _with_sides(given, part.swapped, order.tolist()),
            fix=f"exchange {listed} in annotations {some}{' ...' if len(part.swapped) > 12 else ''}; look at "
            "one of them first",
            least=0.005,
            facts={"moved": [(names[a], names[b]) for a, b in pairs.tolist()]},
        )

    def _of_maps(self, case: Case, evidence: PeopleEvidence) -> Iterable[Change]:
        """Maps are put in order before people are made of them: exchanged ones tear people apart."""
        if not (orders := orders_of_maps(evidence)):
            return
        names = case.pose_set().skeleton.keypoints
        moved = {(names[k], names[order[k]]) for order in orders.values() for k in np.arange(len(order))
                 if order[k] != k}  # fmt: skip
        listed = {field: order.tolist() for field, order in orders.items()}
        yield self.change(
            f"the recovered order of the maps ({', '.join(listed)})",
            "weights",
            lambda model: InOrder(model, orders),
            fix=f"read the channels in this order: {listed}",
            facts={"moved": sorted(moved)},
        )

    def seen(self, case: Case, change: Change) -> str:
        moved = change.facts["moved"]
        some = ", ".join(f"{name} is found where {other} is labelled" for other, name in moved[:3])
        return f"{counted(len(moved), 'keypoint is', 'keypoints are')} exchanged: {some}"

    def test(self, case: Case) -> Answer:
        if not case.changes_of(self):
            return RuledOut("no keypoint lies nearer to another keypoint's label than to its own")
        return super().test(case)


def recovered_order(found: Predictions, pose_set: PoseSet) -> Int[np.ndarray, " K"] | None:
    """The order of predicted channels that suits the labels best; None where it is the one they have.

    Args:
        found: one pose for each annotation.
        pose_set: the annotations.

    Returns:
        order[k]: the predicted channel that lies at keypoint k's label. A channel moves only where it clearly
        lies nearer to another label.
    """
    points, truth, scale, _ = paired_points(found, pose_set)
    return _order_of(points, truth, scale)


def orders_of_categories(found: Predictions, pose_set: PoseSet) -> dict[int, Int[np.ndarray, " K"]]:
    """Category -> order as of `recovered_order`; that of each half of its instances suits the other half.

    Only of categories whose order is not that of the others; an exchange of partners alone is one of sides.

    Args:
        found: one pose for each annotation.
        pose_set: the annotations.
    """
    _, instances = paired_rows(found, pose_set)
    category = np.array([one.category_id for one in instances])
    if len(set(category.tolist())) < 2:
        return {}
    points, truth, scale, _ = paired_points(found, pose_set)
    mirror, orders = np.array(pose_set.skeleton.mirror or range(points.shape[1])), {}
    for number in sorted(set(category.tolist())):
        own = np.flatnonzero(category == number)
        whole, halves = _order_of(points[own], truth[own], scale[own]), (own[::2], own[1::2])
        moved = () if whole is None else np.flatnonzero(whole != np.arange(len(mirror)))
        if whole is None or (whole[moved] == mirror[moved]).all():
            continue
        if all(
            _brings_nearer(_order_of(points[one], truth[one], scale[one]), points[other], truth[other])
            for one, other in (halves, halves[::-1])
        ):
            orders[number] = whole
    return orders


def _brings_nearer(
    order: Int[np.ndarray, " K"] | None, points: Float[np.ndarray, "N K 2"], truth: Float[np.ndarray, "N K 3"]
) -> bool:
    """Whether an order brings the keypoints that it moves nearer to the labels of these poses."""
    if order is None:
        return False
    moved = np.flatnonzero(order != np.arange(len(order)))
    seen = truth[:, moved, 2] > 0
    before = np.linalg.norm(points[:, moved] - truth[:, moved, :2], axis=-1)[seen]
    after = np.linalg.norm(points[:, order[moved]] - truth[:, moved, :2], axis=-1)[seen]
    return bool(len(before)) and bool(np.nanmedian(after) < NEARER * np.nanmedian(before))


def _category(pose_set: PoseSet, number: int) -> str:
    return str(pose_set.categories.get(number, number))


def _order_of(
    points: Float[np.ndarray, "N K 2"], truth: Float[np.ndarray, "N K 3"], scale: Float[np.ndarray, " N"]
) -> Int[np.ndarray, " K"] | None:
    """As `recovered_order`, of poses beside their annotations."""
    from scipy.optimize import linear_sum_assignment

    if len(points) < LEAST_VOTES:
        return None
    seen = truth[..., 2] > 0
    distance = np.linalg.norm(points[:, :, None] - truth[:, None, :, :2], axis=-1) / scale[:, None, None]
    distance[~np.broadcast_to(seen[:, None, :], distance.shape)] = np.nan
    K = distance.shape[1]
    cost, some = np.full((K, K), np.nan), np.isfinite(distance).any(0)
    cost[some] = np.nanmedian(distance[:, some], axis=0)  # predicted channel, label
    own = np.diag(cost).copy()
    cost = np.where(np.isfinite(cost), cost, np.nanmax(cost, initial=1.0) * 2)
    channel, label = linear_sum_assignment(cost)
    order = np.arange(K)
    order[label] = channel
    # Keep a move only where all channels of its cycle are clearly better off.
    for cycle in cycles(order):
        before, after = own[cycle].sum(), cost[order[cycle], cycle].sum()
        if not after < NEARER * before:
            order[cycle] = cycle
    return None if (order == np.arange(K)).all() else order


def paired_points(
    found: Predictions, pose_set: PoseSet
) -> tuple[
    Float[np.ndarray, "N K 2"], Float[np.ndarray, "N K 3"], Float[np.ndarray, " N"], Int[np.ndarray, " N"]
]:
    """Poses beside their annotations, the root of each box's area, and the annotation's id.

    Poses of a result file are paired with the annotation of their image whose centre is nearest, where there
    is one for each.
    """
    rows, held = paired_rows(found, pose_set)
    if not rows:
        K = len(pose_set.skeleton)
        return np.zeros((0, K, 2)), np.zeros((0, K, 3)), np.zeros(0), np.zeros(0, int)
    truth = np.stack([np.asarray(one.truth, float) for one in held])
    ids = np.array([one.annotation_id for one in held])
    return found.keypoints[rows], truth, np.array([_size(one.box) for one in held]), ids


def paired_rows(found: Predictions, pose_set: PoseSet) -> tuple[list[int], list[Instance]]:
    """Rows of poses and the annotation of each, as `paired_points` pairs them."""
    if found.annotation_id is None:
        return _nearest(found, pose_set)
    by_id = {i.annotation_id: i for i in pose_set.instances}
    pairs = [(row, by_id[n]) for row, n in enumerate(found.annotation_id.tolist()) if n in by_id]
    return [row for row, _ in pairs], [instance for _, instance in pairs]


def _nearest(found: Predictions, pose_set: PoseSet) -> tuple[list[int], list[Instance]]:
    rows, paired = [], []
    if not len(found):  # `np.split` makes one empty part of nothing
        return rows, paired
    placed = np.any(np.isfinite(found.keypoints).all(-1), axis=1)
    centres = np.full((len(found), 2), np.inf)
    centres[placed] = np.nanmean(found.keypoints[placed], 1)
    order = np.argsort(found.image_id, kind="stable")
    images, starts = np.unique(found.image_id[order], return_index=True)
    rows_of = dict(zip(images.tolist(), np.split(order, starts[1:]), strict=True))
    for image_id, indices in pose_set.labelled_of_image.items():
        here = rows_of.get(image_id, order[:0])
        left = centres[here]  # infinite once it is paired
        for i in indices:
            one = pose_set.instances[i]
            apart = left - ((one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2)
            away = np.einsum("ij,ij->i", apart, apart)
            best = int(np.argmin(away)) if len(away) else 0
            if not len(away) or not np.isfinite(away[best]):
                break
            left[best] = np.inf
            rows.append(int(here[best]))
            paired.append(one)
    return rows, paired


def _size(box: Sequence[float]) -> float:
    return float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1.0)))


def _reordered(found: Predictions, order: Int[np.ndarray, " K"]) -> Predictions:
    return dataclasses.replace(found, keypoints=found.keypoints[:, order], scores=found.scores[:, order])


class SidesInPart(Undone):
    """Left and right are exchanged in part of the annotations."""

    name, group = "left and right exchanged in part of the labels", "labels"
    refuted_by = "pictures of these instances on which left and right are annotated as they are"

    def changes(self, case: Case) -> Iterable[Change]:
        sides = _sides(case)
        if not sides.certain:
            return
        swapped, total, mirror = sides.swapped, sides.instances, case.pose_set().skeleton.mirror
        yield self.change(
            f"left and right exchanged in {len(swapped)} of {counted(total, 'annotation')}",
            "labels",
            lambda given: _with_sides(given, swapped, mirror),
            fix=f"exchange left and right in annotations {', '.join(map(str, sorted(swapped)[:12]))}"
            f"{' ...' if len(swapped) > 12 else ''}; look at one of them first",
            least=0.005,
            facts={"ids": sorted(swapped), "total": total},
        )

    def seen(self, case: Case, change: Change) -> str:
        share = len(change.facts["ids"]) / change.facts["total"]
        return f"{share:.0%} of the instances fit only with left and right exchanged"

    def test(self, case: Case) -> Answer:
        sides = _sides(case)
        if changes := case.changes_of(self):
            answer = super().test(case)
            # Instances of a few images: what undoing it gives back is not told from chance.
            if isinstance(answer, RuledOut) and sides.turned <= SURE and not case.separated().chosen:
                return self.found(
                    f"{self.seen(case, changes[0])}; in the other instances {sides.turned:.1%} of the pairs "
                    f"lie the other way; {answer.evidence}",
                    fix=changes[0].fix,
                    confidence="likely",
                )
            return answer
        if sides.turned > UNSURE:
            return NotTestable(
                f"the poses take left for right in {sides.turned:.0%} of the pairs that lie apart, "
                "all over the set: a model that tells sides better would show which labels are exchanged"
            )
        return RuledOut(
            f"{len(sides.swapped)} of {counted(sides.instances, 'instance')} fit only with left and right "
            "exchanged"
        )


@dataclass(frozen=True)
class Sides:
    """What poses say about left and right of the labels.

    Attributes:
        swapped: ids of the annotations that agree with their pose only with the sides exchanged.
        instances: whose sides can be told.
        turned: share of pairs that lie the other way in the other instances.
        chance: instances that would be turned as a whole if every pair were turned by chance.
    """

    swapped: frozenset[int]
    instances: int
    turned: float
    chance: float

    @property
    def certain(self) -> bool:
        """Whether there are more than a model that confuses sides now and then would give."""
        share = LEAST_SWAPPED if self.turned > SURE else LEAST_SWAPPED / 2
        enough = len(self.swapped) >= max(4, share * self.instances, 2 * self.chance + 2)
        return enough and self.turned <= UNSURE


def _sides(case: Case) -> Sides:
    """The sides of the labels.

    Raises:
        NotAvailable: the skeleton does not say what is left.
    """
    pose_set = case.pose_set()
    if not pose_set.skeleton.mirror:
        raise NotAvailable(f"{pose_set.skeleton.name} does not say what is left and what right")
    return case.once("sides", lambda: sides_of(case.evidence().poses(), pose_set))


def sides_of(found: Predictions, pose_set: PoseSet, pairs: Int[np.ndarray, "P 2"] | None = None) -> Sides:
    """Which annotations agree with their pose only with left and right exchanged.

    Counted are pairs whose two labels lie apart. A network that is unsure of sides gets some pairs of an
    instance wrong; a mistake in the labels turns all of them.

    Args:
        found: the poses.
        pose_set: the annotations.
        pairs: of keypoints that are exchanged; those of left and right by default.
    """
    points, truth, scale, ids = paired_points(found, pose_set)
    if pairs is None:
        pairs = np.array([(k, m) for k, m in enumerate(pose_set.skeleton.mirror) if k < m])
    if not len(points) or not len(pairs):
        return Sides(frozenset(), 0, 0.0, 0.0)
    apart, other = exchanged_pairs.turned(points, truth, scale, pairs, APART)
    count, turned = apart.sum(1), other.sum(1)
    able = count >= min(LEAST_PAIRS, len(pairs))
    swapped = able & (turned >= LEAST_SHARE * count)
    share = float(turned[~swapped].sum() / max(count[~swapped].sum(), 1))
    return Sides(
        frozenset(int(number) for number in ids[swapped]),
        int(able.sum()),
        share,
        float((share ** count[able]).sum()),
    )


def _with_sides(pose_set: PoseSet, swapped: frozenset[int], mirror: Sequence[int]) -> PoseSet:
    """The set with left and right of some annotations exchanged."""
    order = list(mirror)

    def turned(entry: dict) -> dict:
        if entry.get("id") not in swapped or "keypoints" not in entry:
            return entry
        points = np.asarray(entry["keypoints"], float).reshape(-1, 3)[order]
        return {**entry, "keypoints": points.ravel().tolist()}

    raw = {**pose_set.raw, "annotations": [turned(e) for e in pose_set.raw.get("annotations", ())]}
    instances = tuple(
        dataclasses.replace(i, truth=np.asarray(i.truth)[order]) if i.annotation_id in swapped else i
        for i in pose_set.instances
    )
    return dataclasses.replace(pose_set, raw=raw, instances=instances)


class Sigmas(Cause):
    """OKS constants of another skeleton than the one the keypoints are of."""

    name, group, level, needs = "sigmas of another skeleton", "labels", "forward", ("data", "poses")
    refuted_by = "a source for these sigmas and these keypoints"

    def test(self, case: Case) -> Answer:
        from workbench.skeletons import SKELETONS

        skeleton = case.pose_set().skeleton
        if not skeleton.sigmas:
            raise NotAvailable(f"no sigmas are known for {skeleton.name}")
        names = list(map(plain_name, skeleton.keypoints))
        known = next(
            (
                s
                for s in SKELETONS.values()
                if s.sigmas and sorted(map(plain_name, s.keypoints)) == sorted(names)
            ),
            None,
        )
        if known is None:
            raise NotAvailable(f"{skeleton.name} is no skeleton with published sigmas")
        own = dict(zip(map(plain_name, known.keypoints), known.sigmas, strict=True))
        right = np.array([own[name] for name in names])
        ratio = np.array(skeleton.sigmas) / right
        if np.allclose(ratio, 1, atol=0.02):
            return RuledOut(f"the sigmas are those published for {known.name} ({known.source})")
        evidence = case.tried_on()
        found = gain(evidence.measure(), evidence.with_sigmas(right.tolist()).measure(), with_ap=True)
        worst = int(np.abs(np.log(ratio)).argmax())
        return self.found(
            f"the sigmas of {skeleton.keypoints[worst]} and {int((np.abs(ratio - 1) > 0.02).sum()) - 1} "
            "others differ "
            f"from those published for {known.name}: {skeleton.sigmas[worst]:g} against {right[worst]:g}; "
            "with the "
            f"published ones AP changes by {signed_text(found.AP)}",
            fix=f"use sigmas = {[round(float(s), 3) for s in right]}",
            effect=Effect("AP", found.AP, found.AP_low, found.AP_high, evidence.protocol()),
            severity="error" if abs(found.AP) >= 0.02 else "warning",
        )


CAUSES: tuple[Cause, ...] = (OrderByName(), KeypointOrder(), SidesInPart(), Sigmas())
