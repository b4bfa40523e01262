"""Causes in single keypoints: one that is the same in every pose, or that is moved against its labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workbench.core import NotAvailable
from workbench.core.errors import available
from workbench.core.finding import Effect, Measurement
from workbench.core.report import counted, signed_text
from workbench.diagnosis.annotated_box_causes import line_through
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut, Undone
from workbench.diagnosis.crop_labels import check_crops
from workbench.diagnosis.evidence import Change, gain
from workbench.diagnosis.label_causes import paired_rows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.data.pose_set import Instance, PoseSet
    from workbench.diagnosis.evidence import Stage
    from workbench.evaluation.predictions import Predictions

# Poses, and poses in which the data set labels a keypoint, from which something is said of it.
LEAST_POSES, LEAST_LABELLED = 8, 4
# Spread of a keypoint's place relative to the box (or image): so small, and so small beside the others'.
FIXED, BESIDE_OTHERS = 0.01, 0.15
# Width over height of crops in published models; a place in the crop is one in the box of that shape.
CROP_SHAPES = (1.0, 3 / 4, 4 / 3)
# A keypoint may be moved where its median distance to the labels is so many times that of the others, and by
# this share of the root of the box's area more. Undone, at most so much of it is left, in the half of the
# instances from which it was not read, and about as much as the others have, or next to nothing of it.
FARTHER, FARTHER_BY, LEFT, AS_OTHERS, NEXT_TO_NOTHING = 2.0, 0.02, 0.5, 1.6, 0.25
# Or where the median of its offsets is so large beside their own spread, and so many roots of the box's area.
# Undone, more is left of them: the keypoint is hard to find as well.
SHIFTED, SHIFTED_BY, LEFT_OF_SHIFTED = 1.2, 0.06, 0.7
# Instances with this keypoint labelled, a half of which is enough to read off how it is moved.
LEAST_SEEN = 12
# Factors so near to 1 are 1; smaller and larger ones than these are no mistake of a program.
ONE, LEAST_FACTOR, MOST_FACTOR = 0.06, 0.2, 5.0
# Shares of the way to another keypoint: less is chance among so many ways, more is that keypoint itself.
LEAST_SHARE, MOST_SHARE = 0.2, 0.8
# A way as simple as another is taken even where it leaves so many times as much.
SIMPLER = 1.1
# Labels, or poses, lie outside their boxes: so many of them, and so many times as many as of the other.
OUTSIDE, MORE_OUTSIDE, MARGIN = 0.2, 2.0, 0.1


class FixedKeypoint(Cause):
    """One keypoint is absent, at the same place or scored alike in every pose, while the others vary."""

    name, group, level, needs = "keypoint is the same in every pose", "output", "forward", ("poses", "data")
    refuted_by = "poses in which this keypoint varies as the others do"
    symptom_of = ("outputs are constant", "units with all weights zero", "layers with all weights zero")

    def test(self, case: Case) -> Answer:
        fixed, poses = fixed_keypoints(case)
        pose_set = case.pose_set()
        if fixed and case.evidence().model is not None:
            check_crops(case.evidence())
        if not fixed:
            return RuledOut(f"each labelled keypoint of {pose_set.name} varies over {counted(poses, 'pose')}")
        names, evidence = pose_set.skeleton.keypoints, case.evidence()
        listed = "; ".join(f"{names[k]} (keypoint {k}, counted from 0) is {fixed[k]}" for k in sorted(fixed))
        chosen = case.separated().chosen
        if chosen and not set(fixed) & set(_fixed_in(evidence.measure(chosen).predictions, pose_set)[0]):
            return RuledOut(
                f"{listed} in {counted(poses, 'pose')}; it varies once '{chosen[0].cause}' is undone"
            )
        cost = gain(evidence.measure(), evidence.measure([left_out(fixed)]), with_ap=True)
        effect = Effect("AP", cost.AP, cost.AP_low, cost.AP_high, evidence.protocol())
        which = "it" if len(fixed) == 1 else "them"
        return self.found(
            f"{listed} in {counted(poses, 'pose')}, while the other keypoints vary; evaluated without "
            f"{which}, AP changes by {effect.text()}",
            fix="look at this keypoint's row of the output layer, and at the code that writes it",
            numbers=(Measurement("keypoints that do not vary", len(fixed), expected=0.0),),
            effect=effect,
            confidence="proved" if effect.delta > 0 and effect.low > 0 else "measured",
        )


def fixed_keypoints(case: Case) -> tuple[dict[int, str], int]:
    """Labelled keypoints that are the same in every pose, each with how, and the number of poses.

    Raises:
        NotAvailable: too few poses lie on annotated instances.
    """
    return case.once("fixed keypoints", lambda: _fixed_in(case.evidence().poses(), case.pose_set()))


def _fixed_in(found: Predictions, pose_set: PoseSet) -> tuple[dict[int, str], int]:
    rows, instances = paired_rows(found, pose_set)
    if len(rows) < LEAST_POSES:
        raise NotAvailable(
            f"{counted(len(rows), 'pose lies', 'poses lie')} on annotated instances, and {LEAST_POSES} are "
            "needed"
        )
    found = found.take(np.array(rows))
    labelled = np.sum([np.asarray(one.truth)[:, 2] > 0 for one in instances], 0) >= LEAST_LABELLED
    fixed: dict[int, str] = {}
    places = (*_absent(found), *_at_one_place(found, instances, pose_set), *_scored_alike(found))
    for keypoint, how in places:
        if labelled[keypoint]:
            fixed.setdefault(keypoint, how)
    return fixed, len(rows)


def left_out(keypoints: Iterable[int]) -> Change:
    """The change that leaves keypoints out of the evaluation: their labels count as not labelled."""
    chosen = sorted(keypoints)

    def without(truth: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "K 3"]:
        truth[chosen, 2] = 0
        return truth

    return Change("", "without these keypoints", "labels", lambda given: _relabelled(given, without))


def _relabelled(
    pose_set: PoseSet, edit: Callable[..., Float[np.ndarray, "K 3"]], boxed: bool = False
) -> PoseSet:
    """The set with the keypoints of every annotation changed.

    Args:
        pose_set: the annotations.
        edit: from keypoints (x, y, visibility), and the instance where `boxed`, to keypoints; it may write
            into what it is given.
        boxed: see `edit`.
    """
    instances = tuple(
        dataclasses.replace(one, truth=edit(np.array(one.truth, float), *([one] if boxed else [])))
        for one in pose_set.instances
    )
    truth = {one.annotation_id: one.truth for one in instances}
    raw = {
        **pose_set.raw,
        "annotations": [
            {**entry, "keypoints": np.asarray(truth[entry["id"]]).ravel().tolist()}
            if "keypoints" in entry and entry.get("id") in truth
            else entry
            for entry in pose_set.raw.get("annotations", ())
        ],
    }
    return dataclasses.replace(pose_set, raw=raw, instances=instances)


def _absent(found: Predictions) -> Iterator[tuple[int, str]]:
    """Keypoints that no pose has; the other ones of the pose are there."""
    there = np.isfinite(found.keypoints).all(-1)
    zero = (found.keypoints == 0).all(-1)
    if not (there & ~zero).any():
        return
    for k in np.flatnonzero((~there).all(0)):
        yield int(k), "absent"
    for k in np.flatnonzero((zero | ~there).all(0) & zero.any(0)):
        yield int(k), "at (0, 0)"


def _at_one_place(
    found: Predictions, instances: Sequence[Instance], pose_set: PoseSet
) -> Iterator[tuple[int, str]]:
    points = np.asarray(found.keypoints, float)
    boxes = np.array([one.box for one in instances], float)
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    images = np.array([_size_of(pose_set, one) for one in instances])
    in_box = points - (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    width = [np.maximum(size[:, 0], size[:, 1] * shape)[:, None, None] for shape in CROP_SHAPES]
    places = {
        "of the image": [points / images[:, None], points / images.mean(0)],
        "of the box": [in_box / size[:, None], *(in_box / one for one in width)],
    }
    for where, ways in places.items():
        for place in ways:
            for k in _fixed(place):
                yield k, f"at the same place {where}"


def _size_of(pose_set: PoseSet, instance: Instance) -> tuple[float, float]:
    record = pose_set.images[instance.image_id]
    return float(record.width or np.nan), float(record.height or np.nan)


def _fixed(place: Float[np.ndarray, "N K 2"]) -> list[int]:
    """Keypoints whose place hardly varies although that of the others does."""
    known = np.asarray(np.isfinite(place).all(-1))
    enough = known.sum(0) >= LEAST_POSES
    spread = np.full(place.shape[1], np.nan)
    for k in np.flatnonzero(enough):
        # Of poses in a crowd a few are paired with a neighbour's box: a tenth at either end does not count.
        low, high = np.percentile(place[known[:, k], k], (10, 90), axis=0)
        spread[k] = (high - low).max() / 2
    if not enough.any():
        return []
    usual = float(np.nanmedian(spread))
    return [int(k) for k in np.flatnonzero(spread < min(FIXED, BESIDE_OTHERS * usual))]


def _scored_alike(found: Predictions) -> Iterator[tuple[int, str]]:
    """Keypoints with one score, where every other keypoint has several."""
    alike = np.ptp(found.scores, axis=0) == 0
    if np.isfinite(found.scores).all() and alike.sum() == 1:
        k = int(np.flatnonzero(alike)[0])
        yield k, f"scored {found.scores[0, k]:.3g}"


@dataclass(frozen=True)
class Way:
    """A way in which a keypoint may be moved: from where the poses have it to where the labels do.

    Attributes:
        exchanged: x and y.
        factor: of x and y.
        offset: of x and y, pixels of the image, or shares of the box.
        shape: width over height of the frame around the box; 0 for its own width and height; None for the
            pixels of the image.
    """

    exchanged: bool = False
    factor: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    shape: float | None = None

    def __call__(
        self,
        points: Float[np.ndarray, "N 2"],
        boxes: Float[np.ndarray, "N 4"],
        others: Float[np.ndarray, "N K 2"],
        back: bool = False,
    ) -> Float[np.ndarray, "N 2"]:
        """Points moved, each with its box (x0, y0, x1, y1); from labels to poses where `back`.

        Args:
            points: of one keypoint.
            boxes: of the same instances.
            others: all keypoints of the same instances.
            back: from labels to poses.
        """
        del others
        centre, size = frame(boxes, self.shape)
        places, factor, offset = (points - centre) / size, np.array(self.factor), np.array(self.offset)
        if back:
            places = (places - offset) / factor
        places = places[..., ::-1] if self.exchanged else places
        if not back:
            places = places * factor + offset
        return places * size + centre

    def text(self, names: Sequence[str] = ()) -> str:
        """What is done to the poses, in a few words."""
        del names
        said = ["x and y exchanged"] if self.exchanged else []
        unit = " pixels" if self.shape is None else " of the box's size"
        for axis, factor, offset in zip("xy", self.factor, self.offset, strict=True):
            if factor == -1:
                said.append(f"{axis} mirrored")
            elif factor != 1:
                said.append(f"{axis} times {factor:.3g}")
            if abs(offset) > (1.0 if self.shape is None else 0.01) and factor != -1:
                said.append(f"{axis} moved by {signed_text(offset, '+.3g')}{unit}")
        return " and ".join(said)

    @property
    def terms(self) -> int:
        """How much it takes to say it: fewer terms are the simpler explanation."""
        return self.exchanged + sum(f != 1 for f in self.factor) + sum(o != 0 for o in self.offset)


@dataclass(frozen=True)
class Towards:
    """Another way: a share of the way to another keypoint, as where the neck is put at the withers.

    Attributes:
        keypoint: the other one.
        share: of the way to it.
    """

    keypoint: int
    share: float
    terms: ClassVar[int] = 2

    def __call__(
        self,
        points: Float[np.ndarray, "N 2"],
        boxes: Float[np.ndarray, "N 4"],
        others: Float[np.ndarray, "N K 2"],
        back: bool = False,
    ) -> Float[np.ndarray, "N 2"]:
        """As `Way`; where the other keypoint is not known the point stays."""
        del boxes
        to = others[:, self.keypoint]
        moved = (points - self.share * to) / (1 - self.share) if back else points + self.share * (to - points)
        return np.where(np.isfinite(to).all(-1, keepdims=True), moved, points)

    def text(self, names: Sequence[str] = ()) -> str:
        """What is done to the poses, in a few words."""
        to = names[self.keypoint] if names else f"keypoint {self.keypoint}"
        return f"moved by {self.share:.2g} of the way to {to}"


def frame(
    boxes: Float[np.ndarray, "N 4"], shape: float | None
) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, "N 2"]]:
    """Origin and unit of a frame, as `Way.shape` has it, for each box."""
    if shape is None:
        return np.zeros((len(boxes), 2)), np.ones((len(boxes), 2))
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    if shape:
        size = np.repeat(np.maximum(size[:, :1], size[:, 1:] * shape), 2, axis=1)
    return (boxes[:, :2] + boxes[:, 2:]) / 2, size


@dataclass(frozen=True)
class MovedKeypoint:
    """One keypoint that lies elsewhere than its labels, in the same way in every pose.

    Attributes:
        keypoint: its index.
        way: from poses to labels.
        before: median distance to the labels, in roots of the box's area.
        left: the same once it is moved, of the instances from which the way was not read.
        others: the same of the other keypoints.
        in_poses: whether its poses may be wrong: as many of them lie outside their boxes as labels do.
        in_labels: whether its labels may be wrong.
    """

    keypoint: int
    way: Way | Towards
    before: float
    left: float
    others: float
    in_poses: bool
    in_labels: bool


def moved_keypoints(case: Case) -> list[MovedKeypoint]:
    """Keypoints that lie elsewhere than their labels, in the same way in every pose; the others do not."""

    def looked() -> list[MovedKeypoint]:
        pose_set, found = case.pose_set(), case.evidence().poses()
        rows, instances = paired_rows(found, pose_set)
        if len(rows) < LEAST_SEEN:
            raise NotAvailable(
                f"{counted(len(rows), 'pose lies', 'poses lie')} on annotated instances, and {LEAST_SEEN} "
                "are needed"
            )
        fixed, _ = fixed_keypoints(case)
        return [
            one
            for one in moved_against(
                found.keypoints[rows],
                np.array([one.truth for one in instances], float),
                np.array([one.box for one in instances], float),
                pose_set.skeleton.mirror,
            )
            if one.keypoint not in fixed
        ]

    return case.once("moved keypoints", looked)


def moved_against(
    points: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    boxes: Float[np.ndarray, "N 4"],
    mirror: Sequence[int] = (),
) -> list[MovedKeypoint]:
    """Keypoints that one rule brings to their labels, less than half of them.

    Args:
        points: of poses, (x, y) in image pixels.
        truth: labels of the same instances (x, y, visibility).
        boxes: of the same instances (x0, y0, x1, y1).
        mirror: the partner of each keypoint; () where none is known.
    """
    root = np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1.0))
    seen = (truth[..., 2] > 0) & np.isfinite(points).all(-1)
    away = np.linalg.norm(points - truth[..., :2], axis=-1) / root[:, None]
    known = [k for k in range(points.shape[1]) if seen[:, k].sum() >= LEAST_SEEN]
    median = {k: float(np.median(away[seen[:, k], k])) for k in known}
    others = float(np.median(list(median.values()))) if known else 0.0
    far = [k for k in known if median[k] > FARTHER * others and median[k] > others + FARTHER_BY]
    offsets = (truth[..., :2] - points) / root[:, None, None]
    shifted = [k for k in known if _shifted(offsets[seen[:, k], k])]
    far = sorted({*far, *shifted})
    if len(far) >= len(known) / 2:
        return []
    found = []
    for k in far:
        at = np.flatnonzero(seen[:, k])
        p, t, b, r = points[at, k], truth[at, k, :2], boxes[at], root[at]
        test = np.arange(len(at)) % 2 == 1
        tried = [*_ways(p, t, b, ~test), *_ways_between(points[at], t, k, ~test)]
        ways = [(way, np.linalg.norm(way(p, b, points[at]) - t, axis=-1) / r) for way in tried]
        least = min(float(np.median(left[test])) for _, left in ways)
        way, left = min(
            ((way, float(np.median(left[test]))) for way, left in ways),
            key=lambda pair: (pair[1] > SIMPLER * least, pair[0].terms, pair[1]),
        )
        # A wrist is harder to find than an eye: the same part of the other side tells how hard.
        partner = mirror[k] if len(mirror) and mirror[k] not in far else k
        usual = max(others, FARTHER_BY, median.get(partner, 0.0) if partner != k else 0.0)
        enough = max(AS_OTHERS * usual, NEXT_TO_NOTHING * median[k])
        if left > min((LEFT_OF_SHIFTED if k in shifted else LEFT) * median[k], enough):
            continue
        margin = MARGIN * (b[:, 2:] - b[:, :2])
        out = [float(((q < b[:, :2] - margin) | (q > b[:, 2:] + margin)).any(1).mean()) for q in (p, t)]
        in_labels = not (out[0] > OUTSIDE and out[0] > MORE_OUTSIDE * out[1])
        in_poses = not (out[1] > OUTSIDE and out[1] > MORE_OUTSIDE * out[0])
        found.append(MovedKeypoint(k, way, median[k], left, others, in_poses, in_labels))
    return found


def _shifted(offsets: Float[np.ndarray, "n 2"]) -> bool:
    """Whether a keypoint lies off to one side in nearly every instance, however far off it is in each.

    Healthy models have offsets of up to 1.4 spreads where they are small (.04), and of .8 where they are not.
    """
    usual = np.median(offsets, 0)
    spread = 1.4826 * np.median(np.abs(offsets - usual), 0)
    return bool(((np.abs(usual) > SHIFTED_BY) & (np.abs(usual) > SHIFTED * spread)).any())


def _ways(
    points: Float[np.ndarray, "N 2"],
    truth: Float[np.ndarray, "N 2"],
    boxes: Float[np.ndarray, "N 4"],
    read: Bool[np.ndarray, " N"],
) -> Iterator[Way]:
    """Ways from points to labels, read off a part of the instances."""
    for shape in (None, 0.0, *CROP_SHAPES):
        yield Way(exchanged=True, shape=shape)
        centre, size = frame(boxes[read], shape)
        p, t = (points[read] - centre) / size, (truth[read] - centre) / size
        lines = [_line(p[:, axis], t[:, axis]) for axis in (0, 1)]
        shifts = [float(np.median(t[:, axis] - p[:, axis])) for axis in (0, 1)]
        yield Way(offset=(shifts[0], shifts[1]), shape=shape)
        mirrors = [(-1.0, float(np.median(t[:, axis] + p[:, axis]))) for axis in (0, 1)]
        for x, y in ((mirrors[0], (1.0, 0.0)), ((1.0, 0.0), mirrors[1]), mirrors, lines):
            yield Way(factor=(x[0], y[0]), offset=(x[1], y[1]), shape=shape)
        for axis in (0, 1):
            # One axis alone; the other one stays.
            pair = [(1.0, 0.0), (1.0, 0.0)]
            for one in (lines[axis], (1.0, shifts[axis])):
                pair[axis] = one
                yield Way(factor=(pair[0][0], pair[1][0]), offset=(pair[0][1], pair[1][1]), shape=shape)


def _ways_between(
    points: Float[np.ndarray, "N K 2"], truth: Float[np.ndarray, "N 2"], k: int, read: Bool[np.ndarray, " N"]
) -> Iterator[Towards]:
    """Ways to each other keypoint, by the share that part of the instances has in the median."""
    for other in range(points.shape[1]):
        way, off = points[read, other] - points[read, k], truth[read] - points[read, k]
        length = (way**2).sum(-1)
        known = np.isfinite(length) & (length > 1.0)
        if other == k or known.sum() < LEAST_POSES / 2:
            continue
        share = float(np.median((way * off).sum(-1)[known] / length[known]))
        if LEAST_SHARE < share < MOST_SHARE:
            yield Towards(other, share)


def _line(p: Float[np.ndarray, " n"], t: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Factor and offset from points to labels; no factor where the labels hardly depend on the points."""
    factor, offset = line_through(p, t)
    left, spread = np.median(np.abs(t - factor * p - offset)), np.median(np.abs(t - np.median(t)))
    if left > LEFT * spread or not LEAST_FACTOR < abs(factor) < MOST_FACTOR:
        factor = 1.0
    # Read on noisy points, a factor near 1 (or -1) is 1.
    factor = float(np.sign(factor)) if abs(abs(factor) - 1) < ONE else factor
    return factor, float(np.median(t - factor * p))


class KeypointMoved(Undone):
    """One keypoint is written otherwise than the others: axes exchanged, mirrored, scaled, moved."""

    name, group = "one keypoint placed wrongly", "output"
    refuted_by = "labels of this keypoint that are off in the same way, seen on their pictures"

    def changes(self, case: Case) -> Iterable[Change]:
        moved = [one for one in moved_keypoints(case) if one.in_poses]
        if not moved:
            return
        pose_set = case.pose_set()

        def mended(found: Predictions) -> Predictions:
            rows, instances = paired_rows(found, pose_set)
            boxes, points = np.array([one.box for one in instances], float), found.keypoints.copy()
            for one in moved:
                points[rows, one.keypoint] = one.way(points[rows, one.keypoint], boxes, found.keypoints[rows])
            return dataclasses.replace(found, keypoints=points)

        yield self._change(case, moved, "poses", mended)

    def _change(self, case: Case, moved: Sequence[MovedKeypoint], stage: Stage, of: Callable) -> Change:
        names = case.pose_set().skeleton.keypoints
        ways = ", ".join(f"{one.way.text(names)} in the poses of {names[one.keypoint]}" for one in moved)
        return self.change(
            ways, stage, of, fix=self._fix(ways), least=0.005, needs_ap=0.0001, facts={"moved": moved}
        )

    def _fix(self, ways: str) -> str:
        return f"write this keypoint as the others are written: {ways}"

    def seen(self, case: Case, change: Change) -> str:
        names = case.pose_set().skeleton.keypoints
        return "; ".join(
            f"{names[one.keypoint]} (keypoint {one.keypoint}, counted from 0) lies {one.before:.3f} from its "
            f"label, the others {one.others:.3f} (medians, in roots of the box's area); with "
            f"{one.way.text(names)} it lies {one.left:.3f} from it, in instances from which that was not read"
            for one in change.facts["moved"]
        )

    def test(self, case: Case) -> Answer:
        if not moved_keypoints(case):
            return RuledOut("no keypoint lies much farther from its labels than the others by one rule")
        if not case.changes_of(self):
            return RuledOut(self._not_here(case))
        return super().test(case)

    def _not_here(self, case: Case) -> str:
        return "the labels of the keypoint in question lie outside their boxes, and its poses inside"


class KeypointMislabelled(KeypointMoved):
    """One keypoint is annotated otherwise than the others: axes exchanged, mirrored, scaled, moved."""

    name, group = "one keypoint annotated wrongly", "labels"
    refuted_by = "pictures on which the labels of this keypoint lie where they should"

    def changes(self, case: Case) -> Iterable[Change]:
        moved = [one for one in moved_keypoints(case) if one.in_labels]
        if not moved:
            return

        def edit(truth: Float[np.ndarray, "K 3"], instance: Instance) -> Float[np.ndarray, "K 3"]:
            box = np.array([instance.box], float)
            labels = np.where(truth[:, 2:] > 0, truth[:, :2], np.nan)[None]
            for one in moved:
                if truth[one.keypoint, 2] > 0:
                    at = truth[one.keypoint, :2][None]
                    truth[one.keypoint, :2] = one.way(at, box, labels, back=True)[0]
            return truth

        yield self._change(case, moved, "labels", lambda given: _relabelled(given, edit, boxed=True))

    def _fix(self, ways: str) -> str:
        return f"look at some labels of this keypoint and correct them; they fit with {ways}"

    def _not_here(self, case: Case) -> str:
        return "the poses of the keypoint in question lie outside their boxes, and its labels inside"


def beyond_single_keypoints(case: Case, changes: Iterable[Change]) -> Iterator[Change]:
    """The changes, without those that undo nothing but what is wrong with single keypoints.

    Args:
        case: whose keypoints are looked at.
        changes: of poses or outputs.
    """
    single = available(
        lambda: {*fixed_keypoints(case)[0], *(one.keypoint for one in moved_keypoints(case))}, set()
    )
    if not single:
        yield from changes
        return
    evidence, without = case.evidence(), left_out(single)
    rest = evidence.measure([without])
    for change in changes:
        helps = gain(evidence.measure(), evidence.measure([change])).certain(change)
        if not helps or gain(rest, evidence.measure([without, change])).certain(change):
            yield change


CAUSES: tuple[Cause, ...] = (FixedKeypoint(), KeypointMoved(), KeypointMislabelled())
