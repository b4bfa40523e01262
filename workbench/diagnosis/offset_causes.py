"""Causes that move all keypoints by one amount: in the image (labels), or in the crop (a decoder)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.core.report import counted, pair_text, signed_text
from workbench.diagnosis.annotated_box_causes import Fit, fit_of, frames_of, is_moved
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, RuledOut, Undone
from workbench.diagnosis.constant_outputs import check_varying
from workbench.diagnosis.crop_labels import check_crops, labels_in_images
from workbench.diagnosis.decoder_causes import OtherDecoder
from workbench.diagnosis.evidence import Change, with_points
from workbench.diagnosis.label_causes import paired_points, paired_rows
from workbench.diagnosis.people_evidence import PeopleEvidence
from workbench.evaluation.probes.intervention import Moved

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.data.pose_set import Instance, PoseSet
    from workbench.evaluation.predictions import Predictions

# Less than this many input pixels is measured by the half-pixel probe.
LEAST_PIXELS = 1.0
# Two halves of the instances must agree on the amount up to this share of it.
HALVES = 0.35
LEAST_INSTANCES = 8
# An amount that leaves more than this share of the distance to the labels explains nothing.
LESS = 0.95
# Images fall into two groups where the amounts of the groups are this many times as far apart as images are
# from their own group's (median). One cloud cut in two has 2 (normal) to 4 (even).
APART = 6.0
# Images of the smaller group, and its share.
LEAST_IMAGES, LEAST_SHARE = 3, 0.08
# Shares of the images at which a search for the groups begins.
CUTS = (0.2, 0.5, 0.8)
# Rounds of a fit by least distances, and of that search.
ROUNDS = 30


@dataclass(frozen=True)
class Offset:
    """By how much keypoints have to be moved to lie at their labels, one amount for all.

    Attributes:
        image: (x, y) in pixels of the image.
        crop: (x, y) in pixels of the network's input.
        left_by_image: median distance to the labels once they are moved in the image; input pixels.
        left_by_crop: the same once they are moved in the crop.
        before: the same as they are.
    """

    image: tuple[float, float]
    crop: tuple[float, float]
    left_by_image: float
    left_by_crop: float
    before: float

    @property
    def in_image(self) -> bool:
        """Whether one amount in image pixels explains more than one in pixels of the crop."""
        return self.left_by_image < self.left_by_crop

    def text(self) -> str:
        """What was measured, in one clause."""
        crop, image = (pair_text(-x, -y) for x, y in (self.crop, self.image))
        return (
            f"keypoints lie off by {crop} input pixels or {image} image pixels (x, y; medians); their median "
            f"distance to the labels falls from {self.before:.1f} input pixels to {self.left_by_image:.1f} "
            f"with one amount in the image, to {self.left_by_crop:.1f} with one in the crop"
        )


@dataclass(frozen=True)
class OfPeople:
    """By how much people that a bottom-up model finds have to be moved to lie at their labels.

    Attributes:
        amount: (x, y) in pixels of the image.
        fit: how the annotated boxes lie to the labels.
    """

    amount: tuple[float, float]
    fit: Fit

    def text(self) -> str:
        """What was measured, in one clause."""
        x, y = self.amount
        return (
            f"labels lie {pair_text(x, y)} pixels (x, y; medians) from the people that are found in whole "
            f"images, and from their boxes as well: {self.fit.text()}"
        )


class LabelsMoved(Undone):
    """All labels of the set are moved by one amount of image pixels, or are of an image of another size."""

    name, group = "annotated keypoints moved", "labels"
    refuted_by = "pictures on which the labels lie where they should"
    needs = ("model", "data")
    of_people = True

    def changes(self, case: Case) -> Iterable[Change]:
        if isinstance(case.tried_on(), PeopleEvidence):
            if (found := _of_people(case)) is not None:
                yield self._moved(found.amount, found)
            return
        case.of_model()
        if (frames := frames_of(case.pose_set())) is not None:
            yield self.change(
                f"keypoints {frames.line()}",
                "poses",
                lambda found: with_points(found, found.keypoints * frames.factor + frames.offset),
                fix="make the annotated keypoints and boxes of the same image: the keypoints lie where those "
                f"of the image do {frames.line()}",
                facts={"offset": frames},
            )
            return
        offset = constant_offset(case)
        if offset is None or not offset.in_image:
            return
        check_reading(case)
        yield self._moved(offset.image, offset)

    def _moved(self, amount: tuple[float, float], seen: Offset | OfPeople) -> Change:
        """Poses moved to where the labels are."""
        x, y = amount
        return self.change(
            f"keypoints moved by {pair_text(x, y)} image pixels",
            "poses",
            lambda found: with_points(found, found.keypoints + np.array((x, y))),
            fix=f"move the annotated keypoints by {pair_text(-x, -y)} pixels (x, y), or undo "
            "what cropped or padded the images after they were annotated",
            facts={"offset": seen, "labels": _moved_back(np.array((x, y)))},
        )

    def seen(self, case: Case, change: Change) -> str:
        return change.facts["offset"].text()

    def test(self, case: Case) -> Answer:
        if isinstance(case.tried_on(), PeopleEvidence):
            if not case.changes_of(self):
                return RuledOut(
                    "people that are found and annotated boxes ask for no common shift of the labels"
                )
            return super().test(case)
        case.of_model()
        if frames_of(case.pose_set()) is not None:
            return super().test(case)
        offset = constant_offset(case)
        if offset is None:
            return RuledOut("the poses ask for no constant shift of a pixel or more")
        if not offset.in_image:
            return RuledOut(f"the amount is one of the crop, not of the image: {offset.text()}")
        return super().test(case)


def _of_people(case: Case) -> OfPeople | None:
    """The amount by which labels lie off both from the people that are found and from their own boxes.

    Maps that are read a cell off move people alone: only boxes that agree with them accuse the labels.
    """
    pose_set = case.pose_set()
    points, truth, _, _ = paired_points(case.tried_on().poses(), pose_set)
    amount, fit = offset_of_results(points, truth), fit_of(pose_set)
    if amount is None or fit is None or not is_moved(fit):
        return None
    # The centre of a box is that of the body, not quite that of its keypoints.
    apart = np.abs(fit.offset + np.array(amount))
    near = np.maximum(HALVES * np.linalg.norm(amount), 2 * fit.spread)
    return OfPeople(amount, fit) if (apart <= near).all() else None


def _moved_back(amount: Float[np.ndarray, " 2"]) -> tuple[Callable[[PoseSet], PoseSet], ...]:
    """The set with its labels where the images say: of keypoints alone, and of boxes as well.

    Args:
        amount: (x, y) from where labels should lie to where they do, image pixels.
    """

    def moved(pose_set: PoseSet, boxes: bool) -> PoseSet:
        instances = []
        for one in pose_set.instances:
            truth = np.array(one.truth, float)
            truth[truth[:, 2] > 0, :2] -= amount
            x0, y0, x1, y1 = np.array(one.box) - np.tile(amount, 2) * boxes
            instances.append(dataclasses.replace(one, truth=truth, box=(x0, y0, x1, y1)))
        entries = [_entry_moved(entry, amount, boxes) for entry in pose_set.raw.get("annotations", ())]
        raw = {**pose_set.raw, "annotations": entries}
        return dataclasses.replace(pose_set, instances=tuple(instances), raw=raw)

    def keypoints(pose_set: PoseSet) -> PoseSet:
        return moved(pose_set, False)

    def keypoints_and_boxes(pose_set: PoseSet) -> PoseSet:
        return moved(pose_set, True)

    return keypoints, keypoints_and_boxes


def _entry_moved(entry: dict[str, Any], amount: Float[np.ndarray, " 2"], boxes: bool) -> dict[str, Any]:
    moved = dict(entry)
    if "keypoints" in entry:
        points = np.asarray(entry["keypoints"], float).reshape(-1, 3).copy()
        points[points[:, 2] > 0, :2] -= amount
        moved["keypoints"] = points.ravel().tolist()
    if boxes and "bbox" in entry:
        x, y, w, h = entry["bbox"]
        moved["bbox"] = [x - amount[0], y - amount[1], w, h]
    return moved


def crop_offset(case: Case, cause: str) -> Iterable[Change]:
    """The change that moves keypoints by the measured amount in the crop, where it explains the most."""
    offset = constant_offset(case)
    if offset is None or offset.in_image:
        return
    x, y = offset.crop
    yield Change(
        cause,
        f"keypoints moved by {pair_text(x, y)} input pixels",
        "outputs",
        lambda model: Moved(model, shift=(x, y)),
        fix=f"move decoded keypoints by {pair_text(x, y)} input pixels (x, y), or undo what moves the "
        "output (a rolled or padded map, a head of another origin)",
        facts={"offset": offset},
    )


def constant_offset(case: Case) -> Offset | None:
    """The amount by which all keypoints are off; None where it is less than a pixel or not the same all over.

    Raises:
        NotAvailable: the poses are not those of a model.
    """
    evidence = case.of_model()

    def measured() -> Offset | None:
        check_varying(case)
        check_crops(evidence)
        truth, affines = labels_in_images(evidence)
        return offset_of(evidence.poses().keypoints, truth, affines)

    return case.once("constant offset", measured)


def check_reading(case: Case) -> None:
    """Raise NotAvailable where the decoder is assumed and another one finds keypoints nearer to their labels.

    Maps of an exported file that are read with the wrong cells move all keypoints, as moved labels do.
    """
    codec = case.model().codec
    if codec is None or not codec.assumed:
        return
    if any(True for _ in OtherDecoder().changes(case)):
        raise NotAvailable(
            f"the file does not say how its outputs are read ({codec.decoder} is assumed), and another "
            "decoder brings keypoints nearer as well: settle the decoder first"
        )


def offset_of(
    points: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    to_image: Float[np.ndarray, "N 2 3"],
) -> Offset | None:
    """The amount by which keypoints are off; None where there is none.

    Args:
        points: predicted, (x, y) in image pixels.
        truth: (x, y, visibility) in image pixels.
        to_image: from input pixels to image pixels.
    """
    seen = (truth[..., 2] > 0) & np.isfinite(points).all(-1)
    if len(points) < LEAST_INSTANCES or not seen[::2].any() or not seen[1::2].any():
        return None
    image = truth[..., :2] - points
    inverse = np.linalg.inv(to_image[:, :, :2])
    crop = np.einsum("nij,nkj->nki", inverse, image)
    by_crop, by_image = _agreed(crop, seen), _agreed(image, seen)
    pixels = float(np.median(np.abs(np.linalg.det(inverse))) ** 0.5)
    if max(np.abs(by_crop).max(), np.abs(by_image).max() * pixels) < LEAST_PIXELS:
        return None
    of_image = np.einsum("nij,j->ni", inverse, by_image)[:, None]

    def left(moved: Float[np.ndarray, "#N #K 2"] | float) -> float:
        return float(np.median(np.linalg.norm(crop - moved, axis=-1)[seen]))

    def pair(amount: Float[np.ndarray, " 2"]) -> tuple[float, float]:
        return float(amount[0]), float(amount[1])

    found = Offset(pair(by_image), pair(by_crop), left(of_image), left(by_crop), left(0.0))
    return found if min(found.left_by_image, found.left_by_crop) < LESS * found.before else None


def offset_of_results(
    points: Float[np.ndarray, "N K 2"], truth: Float[np.ndarray, "N K 3"]
) -> tuple[float, float] | None:
    """The amount of image pixels by which poses of a result file have to be moved; None where there is none.

    Args:
        points: (x, y) in image pixels.
        truth: (x, y, visibility) of the annotation of each.
    """
    seen = (truth[..., 2] > 0) & np.isfinite(points).all(-1)
    if len(points) < LEAST_INSTANCES or not seen[::2].any() or not seen[1::2].any():
        return None
    x, y = _agreed(truth[..., :2] - points, seen)
    return (float(x), float(y)) if max(abs(x), abs(y)) >= LEAST_PIXELS else None


def box_offset(case: Case, cause: str) -> Iterable[Change]:
    """The change that moves poses of a result file by what goes with the shape of their box.

    So does a margin of a letterbox that was not taken off. Each half of the poses is moved by what the other
    half asks for.
    """
    pose_set = case.pose_set()
    found = case.evidence().poses()
    rows, held = paired_rows(found, pose_set)
    if len(rows) < 2 * LEAST_INSTANCES:
        return
    away = _away(found, rows, held)
    known = np.isfinite(away).all(1)
    shape = _shape_of([one.box for one in held])
    halves = [known & (np.arange(len(rows)) % 2 == n) for n in (0, 1)]
    if min(half.sum() for half in halves) < LEAST_INSTANCES:
        return
    fits = [_nearest_fit(shape[half], away[half]) for half in halves]
    moved = [shape @ fit for fit in fits]
    whole = (moved[0] + moved[1]) / 2
    varying = np.abs(whole - np.median(whole, axis=0)).mean(axis=0)
    apart = np.abs(moved[0] - moved[1]).mean(axis=0)
    if not (varying >= LEAST_PIXELS).any() or (apart > HALVES * np.maximum(varying, LEAST_PIXELS)).any():
        return
    place = {one.annotation_id: n for n, one in enumerate(held)}

    def undone(found: Predictions) -> Predictions:
        points = found.keypoints.copy()
        for row, one in zip(*paired_rows(found, pose_set), strict=True):
            points[row] += moved[1 - place.get(one.annotation_id, 0) % 2][place.get(one.annotation_id, 0)]
        return with_points(found, points)

    fit = (fits[0] + fits[1]) / 2
    words = "; ".join(
        f"{axis} by {' '.join(parts)}"
        for axis, own in zip("xy", fit.T, strict=True)
        if (
            parts := [
                f"{signed_text(k, '+.2f')} * {what}"
                for k, what in zip(own[1:], _SHAPE, strict=True)
                if abs(k) > 0.05
            ]
        )
    )
    yield Change(
        cause,
        f"keypoints moved by what goes with the box ({words})",
        "poses",
        undone,
        fix="take off the margin that made the input of the box (a letterbox) before keypoints are scaled "
        "back: poses are off by an amount that goes with the width and height of their box",
        least=0.03,
    )  # fmt: skip


_SHAPE = ("the shorter side", "what it is higher than wide", "what it is wider than high")


def _shape_of(boxes: Sequence[Sequence[float]]) -> Float[np.ndarray, "N 4"]:
    """1, the shorter side, and by how much a box (x0, y0, x1, y1) is higher than wide and wider than high."""
    x0, y0, x1, y1 = np.array(boxes, float).T
    w, h = x1 - x0, y1 - y0
    return np.stack([np.ones_like(w), np.minimum(w, h), np.maximum(h - w, 0), np.maximum(w - h, 0)], 1)


def _nearest_fit(given: Float[np.ndarray, "N F"], wanted: Float[np.ndarray, "N 2"]) -> Any:
    """Coefficients [F, 2] of the linear function with the least sum of distances (reweighted squares)."""
    weight = np.ones(len(given))
    fit = np.zeros((given.shape[1], 2))
    for _ in range(ROUNDS):
        root = np.sqrt(weight)[:, None]
        fit = np.linalg.lstsq(given * root, wanted * root, rcond=None)[0]
        weight = 1 / np.maximum(np.linalg.norm(wanted - given @ fit, axis=1), LEAST_PIXELS)
    return fit


def _away(found: Predictions, rows: Sequence[int], held: Sequence[Instance]) -> Float[np.ndarray, "N 2"]:
    """From each pose to its labels in image pixels, the median over labelled keypoints; nan without any."""
    truth = np.stack([np.asarray(one.truth, float) for one in held])
    points = found.keypoints[list(rows)]
    seen = (truth[..., 2] > 0) & np.isfinite(points).all(-1)
    away = np.where(seen[..., None], truth[..., :2] - points, np.nan)
    return np.stack([np.nanmedian(one, axis=0) if yes.any() else np.full(2, np.nan)
                     for one, yes in zip(away, seen, strict=True)])  # fmt: skip


def two_offsets(case: Case, cause: str) -> Iterable[Change]:
    """The change that moves poses of two groups of images, each by an amount of its own."""
    pose_set, found = case.pose_set(), case.evidence().poses()
    rows, held = paired_rows(found, pose_set)
    if len(rows) < LEAST_INSTANCES:
        return
    away, images = _away(found, rows, held), np.array([one.image_id for one in held])
    amounts = {n: np.nanmedian(own, axis=0) for n in dict.fromkeys(images.tolist())
               if np.isfinite(own := away[images == n]).any()}  # fmt: skip
    groups = groups_of(np.array(list(amounts.values())).reshape(-1, 2))
    if groups is None:
        return
    second, centres, apart = groups
    moved = {n: centres[int(b)] for n, b in zip(amounts, second, strict=True)}
    (x, y), (u, v) = centres
    names = [pose_set.images[n].path.name for n, b in zip(amounts, second, strict=True) if b]
    yield Change(
        cause,
        f"keypoints of {counted(int(second.sum()), 'image')} moved by {pair_text(u, v)} pixels, of the "
        f"other {int((~second).sum())} by {pair_text(x, y)}",
        "poses",
        lambda found: with_points(
            found,
            found.keypoints
            + np.array([moved.get(n, (0.0, 0.0)) for n in found.image_id.tolist()]).reshape(-1, 1, 2),
        ),
        fix="look for what cropped or padded part of the images before they were predicted, and add its "
        f"corner to their keypoints: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}",
        least=0.03,
        facts={
            "told": f"images fall into two groups, whose keypoints lie off by {pair_text(-x, -y)} and "
            f"{pair_text(-u, -v)} pixels (x, y), {apart:.0f} times as far apart as images are from their "
            "own group's"
        },
    )


def groups_of(
    amounts: Float[np.ndarray, "N 2"],
) -> tuple[Bool[np.ndarray, " N"], Float[np.ndarray, "2 2"], float] | None:
    """Which amounts belong to the smaller one of two groups, both centres, and how far these are apart.

    Args:
        amounts: (x, y) by which keypoints of each image are off.

    Returns:
        None where they are one group. The centres stand the larger group's first; their distance is in
        median distances of an image from its own.
    """
    cuts = (amounts[:, axis] > np.quantile(amounts[:, axis], share) for axis in (0, 1) for share in CUTS)
    found = [group for second in cuts if (group := _settled(amounts, second)) is not None]
    best = max(found, key=lambda one: one[2], default=None)
    return best if best is not None and best[2] >= APART else None


def _settled(
    amounts: Float[np.ndarray, "N 2"], second: Bool[np.ndarray, " N"]
) -> tuple[Bool[np.ndarray, " N"], Float[np.ndarray, "2 2"], float] | None:
    """As `groups_of`, from a first guess on; each amount goes to the nearer median until none changes."""
    least = max(LEAST_IMAGES, LEAST_SHARE * len(amounts))
    for _ in range(ROUNDS):
        if min(second.sum(), (~second).sum()) < least:
            return None
        centres = np.stack([np.median(amounts[~second], axis=0), np.median(amounts[second], axis=0)])
        far = np.linalg.norm(amounts[:, None] - centres, axis=-1)
        before, second = second, far[:, 1] < far[:, 0]
        if (before == second).all():
            own = far.min(1)
            spread = max(*(float(np.median(own[one])) for one in (second, ~second)), LEAST_PIXELS / 2)
            apart = float(np.linalg.norm(centres[0] - centres[1])) / spread
            larger = second.sum() > len(second) / 2
            return (~second, centres[::-1], apart) if larger else (second, centres, apart)
    return None


def _agreed(away: Float[np.ndarray, "N K 2"], seen: Bool[np.ndarray, "N K"]) -> Float[np.ndarray, " 2"]:
    """The median along x and along y; 0 along an axis on which two halves of the instances disagree."""
    whole = np.median(away[seen], axis=0)
    halves = [np.median(away[start::2][seen[start::2]], axis=0) for start in (0, 1)]
    return np.where(np.abs(halves[0] - halves[1]) <= HALVES * np.abs(whole), whole, 0.0)


CAUSES: tuple[LabelsMoved, ...] = (LabelsMoved(),)
