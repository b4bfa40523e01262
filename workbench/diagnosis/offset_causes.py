"""Causes that move all keypoints by one amount: in the image (labels), or in the crop (a decoder)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable
from workbench.diagnosis.annotated_box_causes import frames_of
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, RuledOut, Undone
from workbench.diagnosis.constant_outputs import check_varying
from workbench.diagnosis.evidence import Change, Evidence, with_points
from workbench.evaluation.probes.intervention import Moved

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.predictions import Predictions

# Less than this many input pixels is measured by the half-pixel probe.
LEAST_PIXELS = 1.0
# Two halves of the instances must agree on the amount up to this share of it.
HALVES = 0.35
LEAST_INSTANCES = 8
# An amount that leaves more than this share of the distance to the labels explains nothing.
LESS = 0.95
# Share of the labelled keypoints that crops must hold for an amount to mean anything.
HELD = 0.5


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
        crop, image = (f"({0.0 - x:+.1f}, {0.0 - y:+.1f})" for x, y in (self.crop, self.image))
        return (
            f"keypoints lie off by {crop} input pixels or {image} image pixels (x, y; medians); their median "
            f"distance to the labels falls from {self.before:.1f} input pixels to {self.left_by_image:.1f} "
            f"with one amount in the image, to {self.left_by_crop:.1f} with one in the crop"
        )


class LabelsMoved(Undone):
    """All labels of the set are moved by one amount of image pixels, or are of an image of another size."""

    name, group = "annotated keypoints moved", "labels"
    refuted_by = "pictures on which the labels lie where they should"
    needs = ("model", "data")

    def changes(self, case: Case) -> Iterable[Change]:
        case.of_model()
        if (frames := frames_of(case.pose_set())) is not None:
            yield Change(
                self.name,
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
        x, y = offset.image
        yield Change(
            self.name,
            f"keypoints moved by ({x:+.1f}, {y:+.1f}) image pixels",
            "poses",
            lambda found: with_points(found, found.keypoints + np.array((x, y))),
            fix=f"move the annotated keypoints by ({0.0 - x:+.1f}, {0.0 - y:+.1f}) pixels (x, y), or undo "
            "what cropped or padded the images after they were annotated",
            facts={"offset": offset, "labels": _moved_back(np.array((x, y)))},
        )

    def seen(self, case: Case, change: Change) -> str:
        return change.facts["offset"].text()

    def test(self, case: Case) -> Answer:
        case.of_model()
        if frames_of(case.pose_set()) is not None:
            return super().test(case)
        offset = constant_offset(case)
        if offset is None:
            return RuledOut("the poses ask for no constant shift of a pixel or more")
        if not offset.in_image:
            return RuledOut(f"the amount is one of the crop, not of the image: {offset.text()}")
        return super().test(case)


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
    """The change that moves keypoints by the measured amount in the crop, where it explains the most.

    Args:
        case: of a model.
        cause: that it undoes.
    """
    offset = constant_offset(case)
    if offset is None or offset.in_image:
        return
    x, y = offset.crop
    yield Change(
        cause,
        f"keypoints moved by ({x:+.1f}, {y:+.1f}) input pixels",
        "outputs",
        lambda model: Moved(model, shift=(x, y)),
        fix=f"move decoded keypoints by ({x:+.1f}, {y:+.1f}) input pixels (x, y), or undo what moves the "
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
        truth, affines = _truth(evidence)
        H, W = evidence.forwards()[0].batch.pixels.shape[-2:]
        inside = inverted(affines, truth[..., :2])
        within = np.all((inside >= 0) & (inside <= np.array([W, H])), axis=-1)
        held = float(within[truth[..., 2] > 0].mean())
        if held < HELD:
            raise NotAvailable(f"{held:.0%} of the labelled keypoints lie in the crops: mend the boxes first")
        return offset_of(evidence.poses().keypoints, truth, affines)

    return case.once("constant offset", measured)


def distances(evidence: Evidence, found: Predictions) -> Float[np.ndarray, "N K"]:
    """Distances of a model's poses from their labels in input pixels; nan where nothing is labelled.

    Args:
        evidence: of the model.
        found: its poses, in the order of `evidence.forwards`.
    """
    truth, affines = _truth(evidence)
    away = np.einsum("nij,nkj->nki", np.linalg.inv(affines[:, :, :2]), truth[..., :2] - found.keypoints)
    return np.where(truth[..., 2] > 0, np.linalg.norm(away, axis=-1), np.nan)


def inverted(
    to_image: Float[np.ndarray, "N 2 3"], points: Float[np.ndarray, "N K 2"]
) -> Float[np.ndarray, "N K 2"]:
    """Points of images in pixels of their inputs."""
    away = points - to_image[:, None, :, 2]
    return np.einsum("nij,nkj->nki", np.linalg.inv(to_image[:, :, :2]), away)


def _truth(evidence: Evidence) -> tuple[Float[np.ndarray, "N K 3"], Float[np.ndarray, "N 2 3"]]:
    """Labels of the instances, and the affines from input to image pixels."""
    parts = evidence.forwards()
    rows = [row for one in parts for row in one.rows]
    truth = np.stack([evidence.pose_set.instances[row].truth for row in rows]).astype(float)
    return truth, np.concatenate([one.batch.to_image for one in parts])


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


def _agreed(away: Float[np.ndarray, "N K 2"], seen: Bool[np.ndarray, "N K"]) -> Float[np.ndarray, " 2"]:
    """The median along x and along y; 0 along an axis on which two halves of the instances disagree."""
    whole = np.median(away[seen], axis=0)
    halves = [np.median(away[start::2][seen[start::2]], axis=0) for start in (0, 1)]
    return np.where(np.abs(halves[0] - halves[1]) <= HALVES * np.abs(whole), whole, 0.0)


CAUSES: tuple[LabelsMoved, ...] = (LabelsMoved(),)
