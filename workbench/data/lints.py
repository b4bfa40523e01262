"""Checks of a data set for annotations and images that would distort an evaluation.

Every finding says how many annotations or images it concerns, what an evaluator makes of them and what they
look like. Each check has a threshold that correct data sets do not reach: they get no finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.finding import Finding, Severity
from workbench.core.report import counted
from workbench.data.pose_set import stacked_truth

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from workbench.data.pose_set import Instance, PoseSet


@dataclass(frozen=True)
class Located:
    """A finding with the annotations and images behind it.

    Attributes:
        finding: what is wrong.
        instances: ids of the annotations; () where it is about the set as a whole or about images.
        images: ids of the images; of the annotations' images where there are annotations.
        gone: number of images that are no longer in the set, so that no id names them.
    """

    finding: Finding
    instances: tuple[int | str, ...] = ()
    images: tuple[int | str, ...] = ()
    gone: int = 0

    @property
    def size(self) -> int:
        """Number of annotations, or else of images, behind the finding; 0 where it is about the whole set."""
        return len(self.instances) or len(self.images) or self.gone

    def in_own_ids(self, pose_set: PoseSet) -> Located:
        """The same with the ids of the annotation file."""
        instances, images = map(pose_set.instance_name, self.instances), map(pose_set.image_name, self.images)
        return Located(self.finding, tuple(instances), tuple(images), self.gone)


# Square pixels. COCO labels keypoints from 32 x 32 pixels on; a pose within 2 x 2 cannot be labelled.
SMALLEST_AREA = 4.0
# Instances with so many keypoints, and so many of them, tell what areas are to boxes and poses. In correct
# sets the median of both is .3 to .9.
_RICH, _LEAST_RICH, _LEAST_SHARE, _MOST_SHARE = 6, 8, 0.15, 2.0
# Share of an instance's keypoints that lie in its box once they are in pixels; less do as they are.
_IN_BOX = 0.5
# Another reading of keypoints is named where boxes contain so much more of them, and in so many instances.
_FITS_BETTER, _LEAST_DISPLACED = 0.4, 5
# A box that reaches outside its image is around its pose where it holds this share of the visible keypoints
# and at most this share of its side is outside.
_AROUND, _MOST_OVER = 0.95, 0.5
# In smaller images, pixel coordinates cannot be distinguished from normalised ones.
_SMALL_IMAGE = 16
# Poses closer than this share of their extent, and 1.5 pixels, are one pose labelled twice.
_SAME_POSE, _SAME_PIXELS = 0.01, 1.5
# Poses of many keypoints that lie nearer than this share of their extent (root mean square; no keypoint
# farther than the second) were drawn twice by hand. Of 400 pairs of people and animals in one image, in drawn
# and published sets, the nearest are at .16. Smaller poses than so many pixels may agree by rounding.
_DRAWN_AGAIN, _FARTHEST, _LEAST_SIDE = 0.05, 0.15, 16
# Instances of which temporary arrays are made at once: those of 160,000 poses would take 40 MB each.
_BLOCK = 8192
# At most so many labelled instances of one image are compared with each other.
_MOST_COMPARED = 2000
# Up to so many, all pairs are cheaper than importing SciPy for a tree of their centres: 0.4 s.
_CROWD = 256


@dataclass(frozen=True)
class _Column:
    """The labelled instances of a set that are no crowd, as arrays."""

    keypoints: Float[np.ndarray, "N K 2"]
    labelled: Bool[np.ndarray, "N K"]
    visible: Bool[np.ndarray, "N K"]  # all labelled ones where the set does not mark visibility
    boxes: Float[np.ndarray, "N 4"]  # (x, y, width, height) as the file states, unclipped; nan where absent
    size: Float[np.ndarray, "N 2"]  # of the image: width, height; nan where unknown
    area: Float[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.area)

    @cached_property
    def extent(self) -> Float[np.ndarray, "N 4"]:
        """Corners (x0, y0, x1, y1) of the labelled keypoints of each instance."""
        found = np.empty((len(self), 4))
        for rows in _blocks(len(self)):
            points = np.where(self.labelled[rows, :, None], self.keypoints[rows], np.nan)
            found[rows, :2], found[rows, 2:] = np.nanmin(points, 1), np.nanmax(points, 1)
        return found


def lints(pose_set: PoseSet) -> tuple[str, ...]:
    """Findings about areas, ids, boxes, keypoints and repeated poses; () for a correct set."""
    return tuple(finding.evidence for finding in lint_findings(pose_set))


def lint_findings(pose_set: PoseSet) -> list[Finding]:
    """The same as records; conversions while reading (the set's notes) are remarks."""
    return [one.finding for one in located(pose_set)]


def located(pose_set: PoseSet) -> list[Located]:
    """The findings of `lint_findings` with the annotations behind them."""
    chosen = [a for a in pose_set.instances if a.num_keypoints and not a.iscrowd]
    notes = records("file read in another way than stated", pose_set.notes, "remark")
    found = [Located(finding) for finding in notes]
    if any(a.annotation_id == 0 for a in chosen):
        text = (
            "annotation id 0 never counts as found in pycocotools, which reads it as `no match`: number"
            " annotations from 1"
        )
        found += _at("annotation ids", [(text, np.array([a.annotation_id == 0 for a in chosen]))], chosen)
    if not chosen:
        return found
    column = _column(pose_set, chosen)
    found += _at("annotated areas", _areas(column), chosen)
    unit = _unit_keypoints(column)
    exchanged = [] if unit else _exchanged(column)
    of_keypoints, of_boxes = ([], []) if unit or exchanged else _displaced(column)
    exchanged += of_keypoints
    found += _at("annotated keypoints", unit + exchanged, chosen, "error")
    found += _at("annotated boxes", of_boxes or _boxes(column, not unit and not exchanged), chosen)
    if not unit and not exchanged and not any(one.finding.cause == "annotated boxes" for one in found):
        found += _at("annotated boxes", _loose(column), chosen, "remark")
    near = [] if unit else near_duplicates(pose_set, chosen)
    if near:
        text = (
            f"{counted(len(near), 'annotation nearly repeats', 'annotations nearly repeat')} the pose of "
            "another annotation of their image: a model"
            " that finds the person once misses the other"
        )
        repeated = set(map(id, near))
        rows = np.array([id(a) in repeated for a in chosen])
        found += _at("repeated poses", [(text, rows)], chosen)
    return found


def _at(
    cause: str,
    texts: Iterable[tuple[str, Bool[np.ndarray, " N"]]],
    chosen: Sequence[Instance],
    severity: Severity = "warning",
) -> list[Located]:
    """Sentences with the rows behind them as findings with ids."""
    found = []
    for text, rows in texts:
        behind = [a for a, here in zip(chosen, rows, strict=True) if here]
        found.append(located_at(Finding(cause, text, severity=severity), behind))
    return found


def located_at(finding: Finding, behind: Iterable[Instance]) -> Located:
    """The finding with these annotations."""
    behind = list(behind)
    images = tuple(dict.fromkeys(a.image_id for a in behind))
    return Located(finding, tuple(a.annotation_id for a in behind), images)


def records(cause: str, texts: Iterable[str], severity: Severity = "warning") -> list[Finding]:
    """One finding per sentence, all with the same cause."""
    return [Finding(cause, text, severity=severity) for text in texts]


def _column(pose_set: PoseSet, chosen: list[Instance]) -> _Column:
    stated = {
        e["id"]: e.get("bbox")
        for e in pose_set.raw.get("annotations", ())
        if isinstance(e, Mapping) and isinstance(e.get("id"), (int, float))
    }
    boxes, size = np.empty((len(chosen), 4)), np.empty((len(chosen), 2))
    for row, of_image, a in zip(boxes, size, chosen, strict=True):
        record = pose_set.images[a.image_id]
        of_image[:] = record.width or np.nan, record.height or np.nan
        x0, y0, x1, y1 = a.box
        row[:] = stated.get(a.annotation_id) or (x0, y0, x1 - x0, y1 - y0)
    K = len(pose_set.skeleton)
    seen = stacked_truth(chosen, K, 2, np.int8)
    return _Column(
        stacked_truth(chosen, K, slice(2)),
        seen > 0,
        seen == 2 if (seen == 2).any() else seen > 0,
        boxes,
        size,
        np.array([a.area for a in chosen], float),
    )


_LARGEST_AREA = 1e10  # square pixels; where AREA_RANGES of evaluation.keypoint_ap end, a room above this one
# Boxes so many times as large beside a pose as in the middle instance, in so many instances and such a share
# of them, hold something else; poses with such a share of the labelled keypoints of the middle one tell it.
_WIDER, _FEW_WIDE, _SHARE_WIDE, _MOST_LABELLED, _LEAST_LABELLED = 2.5, 3, 0.02, 0.8, 6
_Flagged = list[tuple[str, "Bool[np.ndarray, ' N']"]]


def _areas(column: _Column) -> _Flagged:
    area = column.area
    found: _Flagged = []
    known = np.isfinite(area)
    skipped = "which is in no area range: evaluators skip them"
    for words, at in (
        (f"a negative area, {skipped}", area < 0),
        (f"an area above {_LARGEST_AREA:g}, {skipped}", area > _LARGEST_AREA),
        ("area 0: only an exact pose reaches an OKS above 0", area == 0),
    ):
        if at.any():
            found.append((f"{counted(int(at.sum()), 'instance has', 'instances have')} {words}", at))
    small = known & (area > 0) & (area < SMALLEST_AREA)
    if small.sum() and small.sum() >= 0.8 * (known & (area > 0)).sum() and (area[small] <= 1).all():
        text = (
            f"{counted(int(small.sum()), 'instance has', 'instances have')} an area of at most 1 square "
            "pixel: areas look normalised; OKS needs square pixels"
        )
        found.append((text, small))
    elif small.any():
        text = (
            f"{counted(int(small.sum()), 'instance has', 'instances have')} an area below {SMALLEST_AREA:g} "
            "square pixels: almost no pose"
            " is close enough to count"
        )
        found.append((text, small))
    return found or _out_of_proportion(column)


def _out_of_proportion(column: _Column) -> _Flagged:
    """Areas that are of another unit than boxes and poses: both have to say so, as either may be wrong."""
    boxed = np.isfinite(column.boxes).all(1) & (column.boxes[:, 2:] > 0).all(1)
    rich = boxed & (column.labelled.sum(1) >= _RICH) & np.isfinite(column.area)
    if rich.sum() < _LEAST_RICH:
        return []
    extent = column.extent[rich]
    pose = np.maximum(extent[:, 2:] - extent[:, :2], 1.0).prod(1)
    area = column.area[rich]
    of_box, of_pose = np.median(area / column.boxes[rich, 2:].prod(1)), np.median(area / pose)
    if max(of_box, of_pose) >= _LEAST_SHARE and min(of_box, of_pose) <= _MOST_SHARE:
        return []
    text = (
        f"areas are {of_box:.3g} of their boxes and {of_pose:.3g} of the rectangles around their keypoints "
        f"(medians over {counted(int(rich.sum()), 'instance')}), where .3 to .9 is usual: they are of "
        "another unit or image size, and OKS is judged by them"
    )
    return [(text, rich)]


def within_a_pixel(points: Float[np.ndarray, "n 2"]) -> bool:
    """Whether keypoints lie within one pixel from the image's corner, as shares of its size do.

    Args:
        points: labelled keypoints of an instance, pixels.
    """
    return bool(len(points) > 1 and (points >= -0.5).all() and (points <= 1.5).all())


def _unit_keypoints(column: _Column) -> _Flagged:
    several = (column.labelled.sum(1) >= 2) & ~(column.size.max(1) < _SMALL_IMAGE)
    if not several.any():
        return []
    low, high = column.extent[several, :2].min(1), column.extent[several, 2:].max(1)
    unit = (low >= -0.5) & (high <= 1.5)
    rows = np.zeros(len(column), bool)
    rows[np.flatnonzero(several)[unit]] = True
    if unit.mean() < 0.8:
        # In part of the set a pose within a pixel may be one that is hardly labelled: its box decides.
        boxed = rows & np.isfinite(column.boxes).all(1)
        pixels = column.keypoints[boxed] * column.size[boxed][:, None]
        held = _share_inside(pixels, column.labelled[boxed], column.boxes[boxed]) >= _IN_BOX
        held &= _share_inside(column.keypoints[boxed], column.labelled[boxed], column.boxes[boxed]) < _IN_BOX
        rows[:] = False
        rows[np.flatnonzero(boxed)[held]] = True
        if not rows.any():
            return []
    where = "" if rows.all() else f"{int(rows.sum())} of "
    of_all = where + counted(len(column), "instance")
    shares = {}
    for name, frames in (("image", np.concatenate([0 * column.size, column.size], 1)), ("box", column.boxes)):
        points = frames[rows, None, :2] + column.keypoints[rows] * frames[rows, None, 2:]
        shares[name] = _share_inside(points, column.labelled[rows], column.boxes[rows]).mean()
    of = "box" if shares["box"] - shares["image"] >= _FITS_BETTER else "image"
    text = (
        f"all labelled keypoints of {of_all} lie within 1 pixel: they look"
        f" normalised to the {of} size; convert them to pixels"
    )
    return [(text, rows)]


def _displaced(column: _Column) -> tuple[_Flagged, _Flagged]:
    """Keypoints, and boxes, that fit the others only after a shift, in another unit or upside down."""
    boxes, size = column.boxes, column.size
    usable = np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1) & (column.labelled.sum(1) >= _RICH)
    usable &= np.isfinite(size).all(1) & (boxes > 1.5).any(1)  # of normalised boxes, `_boxes` says it
    if usable.sum() < _LEAST_DISPLACED:
        return [], []
    as_is = float(_share_inside(column.keypoints, column.labelled, boxes)[usable].mean())
    if as_is > 1 - _FITS_BETTER:
        return [], []  # nothing fits so much better
    points, labelled, boxes, size = (a[usable] for a in (column.keypoints, column.labelled, boxes, size))
    readings = _readings(points, boxes, size, column.extent[usable])
    inside: dict[tuple[str, str], float] = {}
    for name, read in readings.items():
        keypoints, frames = read()
        inside[name] = float(_share_inside(keypoints, labelled, frames).mean())
    best = max(inside, key=lambda name: inside[name])
    moved = inside[best] >= 0.8 and inside[best] - as_is >= _FITS_BETTER
    if not moved or (
        best[0] == "keypoints" and _layout(column, np.asarray(np.isfinite(column.boxes).all(1)))
    ):
        return [], []
    owner = "their boxes contain" if best[0] == "keypoints" else "they contain"
    text = (
        f"{best[0]} look as if they {best[1]}: {owner} {as_is:.0%} of the labelled keypoints as they are,"
        f" and {inside[best]:.0%} read so"
    )
    found: _Flagged = [(text, usable)]
    return (found, []) if best[0] == "keypoints" else ([], found)


def _readings(
    points: Float[np.ndarray, "N K 2"],
    boxes: Float[np.ndarray, "N 4"],
    size: Float[np.ndarray, "N 2"],
    extent: Float[np.ndarray, "N 4"],
) -> dict[tuple[str, str], Callable[[], tuple[Float[np.ndarray, "N K 2"], Float[np.ndarray, "N 4"]]]]:
    """What may be wrong, keypoints or boxes, and in which way -> makes both as they would be without it.

    Args:
        points: keypoints as stated.
        boxes: (x, y, width, height) as stated.
        size: (width, height) of the images.
        extent: corners of the labelled keypoints.
    """
    middle = np.maximum((extent[:, :2] + extent[:, 2:]) / 2, 1e-6)
    factor = float(np.median((boxes[:, :2] + boxes[:, 2:] / 2) / middle))
    twice = np.tile(size, 2)
    # Of two image sizes, the one that is not the image's is wrong: its coordinates end elsewhere.
    ends = [np.percentile(e / size, 95) for e in (extent[:, 2:], boxes[:, :2] + boxes[:, 2:])]
    boxes_end_elsewhere = abs(np.log(max(ends[1], 1e-6))) > abs(np.log(max(ends[0], 1e-6)))
    thousandths, lower = "are thousandths of the image's size", "count y from the lower edge of the image"
    scaled = "are of an image {:.3g} times as large as that of the {}"
    return {
        ("keypoints", "count from the corner of their box, and not of the image"): lambda: (
            points + boxes[:, None, :2], boxes,
        ),
        ("keypoints", f"{lower}, and not from the upper, or their boxes do"): lambda: (
            np.stack([points[..., 0], size[:, None, 1] - points[..., 1]], -1), boxes,
        ),
        ("keypoints", thousandths): lambda: (points * size[:, None] / 1000, boxes),
        ("boxes", thousandths): lambda: (points, boxes * twice / 1000),
        ("boxes", scaled.format(factor, "keypoints"))
        if boxes_end_elsewhere
        else ("keypoints", scaled.format(1 / factor, "boxes")): lambda: (points * factor, boxes),
    }  # fmt: skip


def _exchanged(column: _Column) -> _Flagged:
    """X and y look exchanged: boxes, or else images, contain the keypoints only when swapped."""
    boxed = np.asarray(np.isfinite(column.boxes).all(1)) & (column.boxes[:, 2:] > 0).all(1)
    images = np.concatenate([np.zeros_like(column.size), column.size], 1)
    frames = np.where(boxed[:, None], column.boxes, images)
    usable = np.isfinite(frames).all(1) & (column.labelled.sum(1) >= 2)
    if not usable.any():
        return []
    as_is = _share_inside(column.keypoints, column.labelled, frames)[usable]
    other = _share_inside(column.keypoints[..., ::-1], column.labelled, frames)[usable]
    if other.mean() < 0.8 or other.mean() - as_is.mean() < _FITS_BETTER or _boxes_are_turned(column, usable):
        return []
    what = "boxes" if boxed[usable].any() else "images"
    text = (
        f"x and y of keypoints look exchanged: their {what} contain {as_is.mean():.0%} of the labelled ones,"
        f" and {other.mean():.0%} with x and y swapped"
    )
    return [(text, usable)]


def _boxes_are_turned(column: _Column, usable: Bool[np.ndarray, " N"]) -> bool:
    """Of boxes and keypoints that fit only when swapped, the boxes lie outside of more images."""
    size, points, boxes = column.size[usable], column.extent[usable], column.boxes[usable]
    ends = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    out = [((one[:, 2:] > size + 2) | (one[:, :2] < -2)).any(1).sum() for one in (ends, points)]
    return bool(out[0] > 2 * out[1])


def _boxes(column: _Column, trusted: bool) -> _Flagged:
    """Findings about boxes; `trusted` when keypoints are in pixels and can be compared with them."""
    boxed = np.asarray(np.isfinite(column.boxes).all(1))
    if not boxed.any():
        return []
    boxes, size = column.boxes[boxed], column.size[boxed]
    unit = (boxes >= -0.5).all(1) & (boxes <= 1.5).all(1) & ~(size.max(1) < _SMALL_IMAGE)

    def rows(mask: Bool[np.ndarray, " M"]) -> Bool[np.ndarray, " N"]:
        every = np.zeros(len(column), bool)
        every[np.flatnonzero(boxed)[mask]] = True
        return every

    if unit.mean() >= 0.8:
        text = (
            f"{counted(int(unit.sum()), 'box lies', 'boxes lie')} within 1 pixel: they look normalised to "
            "the image size; crops and areas need pixels"
        )
        return [(text, rows(np.asarray(unit)))]
    if trusted and (layout := _layout(column, boxed)):
        return [(layout, boxed)]
    found: _Flagged = []
    outside, loose = _beyond_edge(column, boxed, trusted)
    outside &= ~loose
    if outside.any():
        reach = counted(int(outside.sum()), "box reaches outside its", "boxes reach outside their")
        text = f"{reach} image; crops use the part inside"
        found.append((text, rows(outside)))
    # Boxes of occluded people may cover only what is visible.
    inside = _share_inside(column.keypoints, column.visible, column.boxes)[boxed]
    positive = (boxes[:, 2:] > 0).all(1) & column.visible[boxed].any(1)
    empty = (inside < 0.5) & positive
    if trusted and empty.any():
        text = (
            f"{counted(int(empty.sum()), 'box contains', 'boxes contain')} less than half of the visible "
            "keypoints: a crop of such a"
            " box does not show the pose"
        )
        found.append((text, rows(empty)))
    wide = _wide(column)[boxed] & ~outside
    if trusted and max(_FEW_WIDE, _SHARE_WIDE * len(wide)) <= wide.sum() < 0.5 * len(wide):
        text = (
            f"{counted(int(wide.sum()), 'box is', 'boxes are')} more than {_WIDER:g} times as large beside "
            "their pose as the others"
            " are (in each side), around whole pictures or several instances: crops show the pose too small"
        )
        found.append((text, rows(wide)))
    return found


def _wide(column: _Column) -> Bool[np.ndarray, " N"]:
    """Boxes much larger beside their pose than those of most instances are.

    Only poses of which most keypoints are labelled tell how large the instance is.
    """
    low, high = column.extent[:, :2], column.extent[:, 2:]
    count = column.labelled.sum(1)
    rich = (count >= _MOST_LABELLED * np.median(count)) & (count >= _LEAST_LABELLED)
    room = np.sqrt((column.boxes[:, 2:] / np.maximum(high - low, 1.0)).prod(1))
    if not (rich & np.isfinite(room)).any():
        return np.zeros(len(column), bool)
    return rich & (room > _WIDER * np.median(room[rich & np.isfinite(room)]))


def _beyond_edge(
    column: _Column, boxed: Bool[np.ndarray, " N"], trusted: bool
) -> tuple[Bool[np.ndarray, " M"], Bool[np.ndarray, " M"]]:
    """Boxes that reach outside their image, and those of them that are only drawn loosely.

    Args:
        column: the annotations.
        boxed: which have a box.
        trusted: keypoints are in pixels and can be compared with the boxes.
    """
    boxes, size = column.boxes[boxed], column.size[boxed]
    over = np.maximum(np.maximum(boxes[:, :2] + boxes[:, 2:] - size, -boxes[:, :2]), 0.0)
    # A tolerance of a twentieth of the side, for rounding and boxes drawn slightly beyond the edge.
    outside = np.asarray((over > np.maximum(2.0, 0.05 * boxes[:, 2:])).any(1))
    # A box around its whole pose lies where it should: its margin, or what the edge cuts off, is outside.
    # One that is moved or of another size loses keypoints at its other end, or lies mostly outside.
    sides = np.maximum(boxes[:, 2:], 1.0)
    held = _share_inside(column.keypoints, column.visible, column.boxes)[boxed] >= _AROUND
    near = (over <= _MOST_OVER * sides).all(1)
    return outside, np.asarray(outside & held & near) if trusted else np.zeros(len(boxes), bool)


def _loose(column: _Column) -> _Flagged:
    """Boxes that reach outside their image around poses that they hold: said, and no fault by itself."""
    boxed = np.asarray(np.isfinite(column.boxes).all(1))
    if not boxed.any():
        return []
    _, loose = _beyond_edge(column, boxed, trusted=True)
    if not loose.any():
        return []
    every = np.zeros(len(column), bool)
    every[np.flatnonzero(boxed)[loose]] = True
    text = (
        f"{counted(int(loose.sum()), 'box reaches outside its', 'boxes reach outside their')} image and "
        f"{'holds its pose' if loose.sum() == 1 else 'hold their poses'}, as boxes that are drawn "
        "loosely or around what the edge cuts off; crops use the part inside"
    )
    return [(text, every)]


def _layout(column: _Column, boxed: Bool[np.ndarray, " N"]) -> str:
    """The finding that boxes fit the keypoints much better as corners, or as centre and size; else ""."""
    rich = boxed & (column.labelled.sum(1) >= 4)
    if not rich.any():
        return ""
    boxes, extent = column.boxes[rich], column.extent[rich]
    a, b = boxes[:, :2], boxes[:, 2:]
    readings = {"": (a, a + b), "corners": (a, b), "centres": (a - b / 2, a + b / 2)}
    readings["turned"] = (a[:, ::-1], (a + b)[:, ::-1])
    fits = {}
    for name, (low, high) in readings.items():
        valid = (high > low).all(1)
        overlap = _overlap(np.concatenate([low, high], 1), extent)
        fits[name] = float(np.median(np.where(valid, overlap, 0.0)))
    best = max(("corners", "centres", "turned"), key=lambda name: fits[name])
    # In correct sets the IoU of box and keypoints' extent is .4 to .8.
    if fits[best] < 0.3 or fits[best] - fits[""] < 0.12 or fits[best] < 1.25 * fits[""]:
        return ""
    spelled = {"corners": "two corners (x0, y0, x1, y1)", "centres": "centre and size (cx, cy, w, h)"}
    spelled["turned"] = "y, x, height, width"
    return (
        f"boxes look like {spelled[best]}: read as x, y, width, height they overlap the keypoints by"
        f" {fits['']:.2f}, read so by {fits[best]:.2f} (median IoU with the keypoints' extent)"
    )


def _share_inside(
    keypoints: Float[np.ndarray, "N K 2"], labelled: Bool[np.ndarray, "N K"], boxes: Float[np.ndarray, "N 4"]
) -> Float[np.ndarray, " N"]:
    """Share of each instance's labelled keypoints within its box (x, y, width, height), a tenth widened."""
    margin = np.maximum(2.0, 0.1 * boxes[:, 2:])
    low, high = boxes[:, :2] - margin, boxes[:, :2] + boxes[:, 2:] + margin
    inside = np.empty(len(boxes), int)
    for rows in _blocks(len(boxes)):
        points = keypoints[rows]
        between = (points >= low[rows, None]) & (points <= high[rows, None])
        inside[rows] = (between.all(-1) & labelled[rows]).sum(1)
    return inside / np.maximum(labelled.sum(1), 1)


def _blocks(count: int) -> Iterable[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def _overlap(one: Float[np.ndarray, "N 4"], other: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, " N"]:
    """IoU of boxes given by corners; a side of 0 counts as one pixel."""
    low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    common = np.clip(high - low, 0, None).prod(1)
    areas = [np.maximum(box[:, 2:] - box[:, :2], 1.0).prod(1) for box in (one, other)]
    return common / (areas[0] + areas[1] - common)


def near_duplicates(pose_set: PoseSet, chosen: list[Instance]) -> list[Instance]:
    """The annotations that repeat another pose of their image to about a pixel, or were drawn again by hand.

    Exact copies are none of them.
    """
    by_image: dict[tuple[int, int], list[Instance]] = defaultdict(list)
    for a in chosen:
        if a.num_keypoints >= 3:
            by_image[a.image_id, a.category_id].append(a)
    found: list[Instance] = []
    for here in by_image.values():
        if len(here) < 2:
            continue
        here = here[:_MOST_COMPARED]
        truth = np.stack([a.truth for a in here])
        seen = truth[..., 2] > 0
        points = np.where(seen[..., None], truth[..., :2], np.nan)
        side = (np.fmax.reduce(points, 1) - np.fmin.reduce(points, 1)).max(1)
        limit = np.minimum(np.maximum(_SAME_PIXELS, _SAME_POSE * side), 5 * _SAME_POSE * side)
        most = max(float(limit.max()), _DRAWN_AGAIN * float(side.max()))
        centres = (truth[..., :2] * seen[..., None]).sum(1) / seen.sum(1)[:, None]
        i, j = _near_pairs(centres, most)
        if not len(i):
            continue
        # Only poses with the same labelled keypoints that differ; exact copies are counted by facts.
        alike = (seen[i] == seen[j]).all(1) & (truth[i] != truth[j]).any((1, 2))
        apart = np.linalg.norm(points[i] - points[j], axis=-1)
        far, size = np.nanmax(apart, 1), np.minimum(side[i], side[j])
        same = far <= np.minimum(limit[i], limit[j])
        again = (np.sqrt(np.nanmean(apart**2, 1)) <= _DRAWN_AGAIN * size) & (far <= _FARTHEST * size)
        again &= (seen[i].sum(1) >= _RICH) & (size >= _LEAST_SIDE)
        found += [here[n] for n in np.unique(j[alike & (same | again)])]
    return found


def _near_pairs(centres: Float[np.ndarray, "N 2"], most: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows i < j of the pairs at most so far apart."""
    if len(centres) > _CROWD:
        from scipy.spatial import KDTree

        pairs = KDTree(centres).query_pairs(most, output_type="ndarray")
        return pairs[:, 0], pairs[:, 1]
    i, j = np.triu_indices(len(centres), 1)
    near = ((centres[i] - centres[j]) ** 2).sum(1) <= most**2
    return i[near], j[near]


def usual(pose_set: PoseSet) -> list[Instance]:
    """Annotations of single instances with labelled keypoints."""
    return [a for a in pose_set.instances if a.num_keypoints and not a.iscrowd]
