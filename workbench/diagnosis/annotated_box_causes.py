"""Causes in the annotated boxes that crops are cut by: of other pixels than the keypoints, or too small."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.core import Answers, Batch, PoseModel, Sample
from workbench.core.report import counted, pair_text
from workbench.core.wrapping import Wrapper
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, RuledOut, Undone
from workbench.diagnosis.evidence import Change

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import PoseSet

Box = tuple[float, float, float, float]

# Boxes and keypoints are of images of two sizes where fewer of the keypoints than this lie in their boxes,
# one line maps the boxes' centres to the keypoints', what it leaves is below so many box sizes, and its
# factor differs so much from 1. Coordinates that are shares of the image have a factor beyond the last two.
INSIDE, LEFT, OFF, LEAST_FACTOR, MOST_FACTOR = 0.5, 0.25, 0.1, 0.1, 10.0

# Keypoints that an instance needs for its extent to say where its box is.
LEAST_KEYPOINTS, LEAST_INSTANCES = 6, 8
# An offset counts from this share of the root of the box's area, and where most boxes have it.
LEAST_OFFSET = 0.06
# Keypoints span .6 to .95 of a box that holds the body: from this share on it is too small,
# and below the least one too large.
LEAST_SPAN, SPAN, USUAL_SPAN = 0.6, 1.05, 0.85
# A box cuts its pose where the keypoints span so many of its sides along x or y; in correct sets next to none
# does. Boxes of another shape than the body (squares of the shorter side) cut so large a share of the poses.
CUTS, MOST_CUT = 1.1, 0.3


@dataclass(frozen=True, eq=False)
class Reboxed(Wrapper):
    """A model that is given other boxes.

    Attributes:
        model: the inner model, one that sees crops.
        box_of: from annotation id and box to the box (x0, y0, x1, y1) in image pixels that is cropped.
    """

    model: PoseModel
    box_of: Callable[[int | None, Box], Box]
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """The inner model's input with the other boxes."""
        changed = []
        for sample in samples:
            H, W = sample.image.shape[:2]
            x0, y0, x1, y1 = self.box_of(sample.annotation_id, sample.box)
            box = max(x0, 0.0), max(y0, 0.0), min(x1, float(W)), min(y1, float(H))
            valid = box[2] > box[0] and box[3] > box[1]
            changed.append(dataclasses.replace(sample, box=box if valid else sample.box))
        return self.model.prepare(changed)


@dataclass(frozen=True, eq=False)
class Fit:
    """How annotated boxes lie to the extents of their labelled keypoints; medians over the instances.

    Attributes:
        offset: (x, y) from the extent's centre to the box's, image pixels.
        spread: (x, y), median distance from that.
        size: root of the box's area.
        span: the extent's sides by the box's, the mean of both axes.
        instances: compared.
        share: (x, y), the same offset in sides of the box.
        share_spread: (x, y), median distance from that, in pixels of a box of median size.
        cut: share of the instances whose extents span more than the box along x or y.
    """

    offset: Float[np.ndarray, " 2"]
    spread: Float[np.ndarray, " 2"]
    size: float
    span: float
    instances: int
    share: Float[np.ndarray, " 2"]
    share_spread: Float[np.ndarray, " 2"]
    cut: float

    @property
    def by_size(self) -> bool:
        """Whether boxes are moved by a share of their own size, and not by one amount of pixels."""
        return bool(self.share_spread.sum() < self.spread.sum())

    def text(self) -> str:
        """What was measured, in one clause."""
        return (
            f"the centres of {counted(self.instances, 'box', 'boxes')} lie "
            f"{pair_text(self.offset[0], self.offset[1], '+.0f')} pixels from those of their "
            f"keypoints' extents (x, "
            f"y; medians, spread "
            f"{self.spread[0]:.0f} and {self.spread[1]:.0f}), and the extents span {self.span:.2f} of the "
            f"box{self._cut()}"
        )

    def _cut(self) -> str:
        return f"; {self.cut:.0%} of the boxes cut their pose along x or y" if self.cut >= MOST_CUT else ""


@dataclass(frozen=True, eq=False)
class Frames:
    """The line from the pixels that boxes are stated in to those of the keypoints, along x and y.

    Attributes:
        factor: negative along a mirrored axis.
        offset: pixels of the keypoints.
        left: median distance of centres to the line by the root of a box's area.
        held: share of the keypoints that lie in their boxes.
    """

    factor: Float[np.ndarray, " 2"]
    offset: Float[np.ndarray, " 2"]
    left: float
    held: float

    def line(self) -> str:
        """The line, in words: ``times (2.00, 2.00) plus (0, 0) pixels``."""
        (a, b), (x, y) = self.factor, self.offset.round() + 0.0
        return f"times ({a:.2f}, {b:.2f}) plus ({x:.0f}, {y:.0f}) pixels"

    def text(self) -> str:
        """What was measured, in one clause."""
        return (
            f"{self.held:.0%} of the annotated keypoints lie in their boxes; the boxes' centres "
            f"{self.line()} are the keypoints' (x, y; {self.left:.2f} box sizes are left, median)"
        )


class AnnotatedBoxes(Undone):
    """Boxes of the annotations that do not lie around their keypoints."""

    name, group, needs = "annotated boxes do not fit their keypoints", "labels", ("model", "data")
    refuted_by = "boxes drawn over their pictures that hold the whole body"

    def changes(self, case: Case) -> Iterable[Change]:
        case.of_model()
        pose_set = case.pose_set()
        stated, fit = stated_boxes(pose_set), fit_of(pose_set)
        if (frames := frames_of(pose_set)) is not None:
            boxes = {number: _mapped(_corners(box), frames) for number, box in stated.items()}
            yield self._change(
                f"boxes {frames.line()}",
                f"make boxes and keypoints of the same image: boxes {frames.line()}",
                boxes,
                frames,
            )
            return
        for words, fix, convert in (
            ("boxes read as two corners", "convert x0, y0, x1, y1 to x, y, width, height", lambda b: b),
            (
                "boxes read as centre and size",
                "convert cx, cy, w, h to x, y, width, height: x = cx - w / 2, y = cy - h / 2",
                lambda b: np.concatenate([b[:2] - b[2:] / 2, b[:2] + b[2:] / 2]),
            ),
            (
                "boxes read as y, x, height, width",
                "exchange x with y and width with height in every box",
                lambda b: _corners(b[[1, 0, 3, 2]]),
            ),
        ):
            if _looks(pose_set, words.removeprefix("boxes read as ")):
                boxes = {number: convert(box) for number, box in stated.items()}
                yield self._change(words, fix, boxes)
        if fit is not None:
            yield from self._of_fit(pose_set, stated, fit)

    def _of_fit(
        self, pose_set: PoseSet, stated: dict[int, Float[np.ndarray, " 4"]], fit: Fit
    ) -> Iterable[Change]:
        """Boxes that are moved, of another size than the poses, or of another shape."""
        if is_moved(fit):
            yield self._moved(stated, fit)
        if not LEAST_SPAN <= fit.span <= SPAN:
            factor = fit.span / USUAL_SPAN
            boxes = {number: _scaled(_corners(box), factor) for number, box in stated.items()}
            yield self._change(
                f"boxes times {factor:.2f}",
                f"make the boxes of the annotations {factor:.2f} times as large about their centres; the "
                f"crop padding times {factor:.2f} makes up for the same",
                boxes,
                fit,
            )
        elif fit.cut >= MOST_CUT and not is_moved(fit):
            boxes = {**{n: _corners(box) for n, box in stated.items()}, **_around_poses(pose_set)}
            yield self._change(
                "boxes drawn around their keypoints",
                "make the boxes that cut their pose anew: around the labelled keypoints, "
                f"{1 / USUAL_SPAN:.2f} times as large; look for squares, or sides taken for each other",
                boxes,
                fit,
            )

    def _moved(self, stated: dict[int, Float[np.ndarray, " 4"]], fit: Fit) -> Change:
        """Boxes moved back by one amount of pixels, or by one share of their own sides."""
        x, y = 0.0 - fit.offset
        words, hint = f"{pair_text(x, y, '+.0f')} pixels", ""
        if fit.by_size:
            x, y = 0.0 - fit.share
            words = f"{pair_text(x, y, '+.0%')} of their sides"
            hint = "; look for a corner taken for a centre, or a scale about a wrong point"
        boxes = {}
        for number, box in stated.items():
            amount = -fit.share * np.maximum(box[2:], 0.0) if fit.by_size else -fit.offset
            boxes[number] = _corners(box) + np.tile(amount, 2)
        return self._change(
            f"boxes moved by {words}",
            f"move the boxes of the annotations by about {words} (x, y); exact but for the few pixels by "
            f"which a body's keypoints lie off the middle of a box{hint}",
            boxes,
            fit,
        )

    def _change(
        self, words: str, fix: str, boxes: dict[int, Float[np.ndarray, " 4"]], fit: Fit | Frames | None = None
    ) -> Change:
        def box_of(number: int | None, box: Box) -> Box:
            found = boxes.get(number) if number is not None else None
            if found is None:
                return box
            x0, y0, x1, y1 = map(float, found)
            return x0, y0, x1, y1

        return self.change(
            words, "input", lambda model: Reboxed(model, box_of), fix=fix, facts={"fit": fit},
            shown=True,
        )  # fmt: skip

    def seen(self, case: Case, change: Change) -> str:
        fit: Fit | Frames | None = change.facts["fit"]
        return "read in another form the boxes lie around their keypoints" if fit is None else fit.text()

    def test(self, case: Case) -> Answer:
        case.of_model()
        if not case.changes_of(self):
            return RuledOut("boxes lie around their keypoints, as they are stated")
        return super().test(case)


def fit_of(pose_set: PoseSet) -> Fit | None:
    """How boxes lie to their keypoints; None with too few instances that have enough keypoints.

    Args:
        pose_set: the annotations; boxes are taken as the file states them, before they are clipped.
    """
    box, points = _boxes_and_points(pose_set)
    if len(points) < LEAST_INSTANCES:
        return None
    least, most = _extents(points)
    sides = np.maximum(box[:, 2:] - box[:, :2], 1.0)
    away = (box[:, :2] + box[:, 2:] - least - most) / 2
    offset = np.median(away, axis=0)
    span, share = np.median((most - least) / sides, axis=0), np.median(away / sides, axis=0)
    return Fit(
        offset,
        np.median(np.abs(away - offset), axis=0),
        float(np.median(np.sqrt(sides.prod(1)))),
        float(span.mean()),
        len(points),
        share,
        np.median(np.abs(away / sides - share), axis=0) * np.median(sides, axis=0),
        float(((most - least) / sides > CUTS).any(1).mean()),
    )


def frames_of(pose_set: PoseSet) -> Frames | None:
    """The line from boxes to keypoints where they are of images of two sizes, or mirrored; else None.

    Args:
        pose_set: the annotations; boxes are taken as the file states them.
    """
    box, points = _boxes_and_points(pose_set)
    if len(points) < LEAST_INSTANCES:
        return None
    inside = [((seen >= b[:2]) & (seen <= b[2:])).all(-1).mean() for b, seen in zip(box, points, strict=True)]
    held = float(np.mean(inside))
    if held >= INSIDE:
        return None
    least, most = _extents(points)
    centres, wanted = (box[:, :2] + box[:, 2:]) / 2, (least + most) / 2
    lines = np.array([line_through(centres[:, axis], wanted[:, axis]) for axis in (0, 1)])
    factor, offset = lines[:, 0], lines[:, 1]
    size = np.median(np.sqrt(np.maximum(box[:, 2:] - box[:, :2], 1.0).prod(1))) * np.abs(factor).max()

    def left_by(factor: Float[np.ndarray, " 2"], offset: Float[np.ndarray, " 2"]) -> float:
        return float(np.median(np.linalg.norm(wanted - centres * factor - offset, axis=-1)) / size)

    # Bodies do not fill their boxes evenly: a power of two that explains the centres as well is the factor.
    plain = 2.0 ** np.round(np.log2(np.maximum(factor, LEAST_FACTOR)))
    if (np.abs(factor / plain - 1) < OFF).all() and (plain != 1).any() and left_by(plain, np.zeros(2)) < LEFT:
        factor, offset = plain, np.zeros(2)
    left = left_by(factor, offset)
    known = (np.abs(factor) > LEAST_FACTOR) & (np.abs(factor) < MOST_FACTOR)
    off = np.abs(factor - 1).max() > OFF
    return Frames(factor, offset, left, held) if known.all() and off and left < LEFT else None


def line_through(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Slope and offset through most of the points (Theil and Sen, on random pairs)."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, len(x), (2, 4000))
    far = np.abs(x[a] - x[b]) > 0.2 * max(float(np.ptp(x)), 1e-9)
    slope = float(np.median((y[a] - y[b])[far] / (x[a] - x[b])[far])) if far.any() else 1.0
    return slope, float(np.median(y - slope * x))


def _boxes_and_points(pose_set: PoseSet) -> tuple[Float[np.ndarray, "N 4"], list[Float[np.ndarray, "k 2"]]]:
    """Corners of the stated boxes, and the labelled keypoints in each, of instances with enough of them."""
    stated = stated_boxes(pose_set)
    boxes, points = [], []
    for i in pose_set.labelled:
        one = pose_set.instances[i]
        truth = np.asarray(one.truth, float)
        seen = truth[truth[:, 2] > 0, :2]
        if len(seen) >= LEAST_KEYPOINTS and one.annotation_id in stated:
            boxes.append(_corners(stated[one.annotation_id]))
            points.append(seen)
    return np.array(boxes).reshape(-1, 4), points


def _extents(
    points: Sequence[Float[np.ndarray, "k 2"]],
) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, "N 2"]]:
    """The least and the largest (x, y) of each instance's keypoints."""
    return np.array([seen.min(0) for seen in points]), np.array([seen.max(0) for seen in points])


def stated_boxes(pose_set: PoseSet) -> dict[int, Float[np.ndarray, " 4"]]:
    """The four numbers of each box as the file has them, by annotation id."""
    found = {}
    for entry in pose_set.raw.get("annotations", ()):
        box = entry.get("bbox")
        if isinstance(box, (list, tuple)) and len(box) == 4 and "id" in entry:
            found[entry["id"]] = np.asarray(box, float)
    return found


def is_moved(fit: Fit) -> bool:
    """One amount, large beside the box and beside how much it differs from one instance to the next."""
    return bool(((np.abs(fit.offset) > LEAST_OFFSET * fit.size) & (np.abs(fit.offset) > fit.spread)).any())


def _looks(pose_set: PoseSet, form: str) -> bool:
    """Whether the lint of the boxes says that they are in this form."""
    from workbench.data.set_lint import lint

    return any(
        finding.cause == "annotated boxes" and f"boxes look like {form}" in finding.evidence
        for finding in lint(pose_set, images=False).findings
    )


def _around_poses(pose_set: PoseSet) -> dict[int, Float[np.ndarray, " 4"]]:
    """Corners of a box of usual size around the keypoints of each instance with enough of them."""
    found = {}
    for i in pose_set.labelled:
        one = pose_set.instances[i]
        seen = one.truth[one.truth[:, 2] > 0, :2].astype(float)
        if len(seen) >= LEAST_KEYPOINTS:
            corners = np.concatenate([seen.min(0), seen.max(0)])
            found[one.annotation_id] = _scaled(corners, 1 / USUAL_SPAN)
    return found


def _corners(box: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 4"]:
    return np.concatenate([box[:2], box[:2] + box[2:]])


def _mapped(corners: Float[np.ndarray, " 4"], frames: Frames) -> Float[np.ndarray, " 4"]:
    ends = corners.reshape(2, 2) * frames.factor + frames.offset
    return np.concatenate([ends.min(0), ends.max(0)])


def _scaled(corners: Float[np.ndarray, " 4"], factor: float) -> Float[np.ndarray, " 4"]:
    centre, half = (corners[:2] + corners[2:]) / 2, (corners[2:] - corners[:2]) / 2 * factor
    return np.concatenate([centre - half, centre + half])


CAUSES: tuple[AnnotatedBoxes, ...] = (AnnotatedBoxes(),)
