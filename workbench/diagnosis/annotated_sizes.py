"""Causes in sizes of image files and annotations: files of another size, labels made on smaller copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.report import counted
from workbench.data.images import image_size, upright_size
from workbench.data.lints import within_a_pixel
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut, Undone
from workbench.diagnosis.evidence import Change, Evidence, gain
from workbench.diagnosis.image_file_causes import some_files
from workbench.diagnosis.set_causes import MOST_HEADERS

if TYPE_CHECKING:
    from workbench.data.pose_set import Instance, PoseSet
    from workbench.diagnosis.case import Case
    from workbench.evaluation.predictions import Predictions

# How many times smaller a copy may be.
FACTORS = (2, 3, 4, 5, 6, 8)
# Keypoints of an instance from which its extent counts; instances, and their share of the set.
LEAST_KEYPOINTS, LEAST_INSTANCES, LEAST_SHARE = 4, 8, 0.05
# Instances in the upper left corner beside those in each of the other corners: so many deviations of a count.
# In eleven healthy sets no corner has more than 9 of 230 instances, and the upper left one at most 4.
DEVIATIONS = 4.0
# A larger factor holds where it explains this share of what the smallest one does.
SAME = 0.8


@dataclass(frozen=True, eq=False)
class Previews:
    """Instances whose labels lie in the upper left corner, as on smaller copies of their pictures.

    Attributes:
        factor: sides of the picture by those of the copy.
        rows: of the instances in the set.
        others: instances in each of the other three corners of that size.
        of: instances that were looked at.
    """

    factor: int
    rows: tuple[int, ...]
    others: tuple[int, int, int]
    of: int

    def text(self) -> str:
        """What was seen, one clause."""
        return (
            f"labels of {len(self.rows)} of {counted(self.of, 'instance')} lie whole in the upper left "
            f"corner of 1/{self.factor} by 1/{self.factor} of their image, "
            f"{', '.join(map(str, self.others))} in the other corners of that size: these were made on "
            f"copies of 1/{self.factor} of the size"
        )


def previews_of(pose_set: PoseSet) -> Previews | None:
    """Instances that were labelled on smaller copies; None where no corner holds more than the others.

    Args:
        pose_set: whose images state their size.
    """
    rows, extents = [], []
    for row in pose_set.labelled:
        one = pose_set.instances[row]
        record = pose_set.images[one.image_id]
        truth = np.asarray(one.truth, float)
        seen = truth[truth[:, 2] > 0, :2]
        if record.width and record.height and len(seen) >= LEAST_KEYPOINTS and not within_a_pixel(seen):
            size = np.array([record.width, record.height], float)
            rows.append(row)
            extents.append((seen.min(0) / size, seen.max(0) / size))
    if not rows:
        return None
    low, high = (np.array([pair[side] for pair in extents]) for side in (0, 1))
    best: Previews | None = None
    for factor in FACTORS:
        near, far = high <= 1 / factor, low >= 1 - 1 / factor
        own = near.all(1)
        corners = [far[:, 0] & near[:, 1], near[:, 0] & far[:, 1], far.all(1)]
        others = (int(corners[0].sum()), int(corners[1].sum()), int(corners[2].sum()))
        least = max(LEAST_INSTANCES, LEAST_SHARE * len(rows), max(others) + DEVIATIONS * max(others) ** 0.5)
        if best is not None:
            least = max(least, SAME * len(best.rows))
        if own.sum() >= least:
            best = Previews(factor, tuple(np.array(rows)[own].tolist()), others, len(rows))
    return best


def enlarged(pose_set: PoseSet, rows: Collection[int], factor: float) -> PoseSet:
    """The set with keypoints, boxes and areas of some instances in the pixels of their pictures.

    Args:
        pose_set: in which they are of smaller copies.
        rows: of these instances.
        factor: sides of the picture by those of the copy.
    """
    changed = {row: _larger(pose_set.instances[row], factor) for row in rows}
    instances = tuple(changed.get(row, one) for row, one in enumerate(pose_set.instances))
    by_id = {one.annotation_id: one for one in changed.values()}

    def entry_of(entry: dict) -> dict:
        one = by_id.get(entry.get("id"))  # type: ignore[arg-type] - what is no id is none of these
        if one is None:
            return entry
        points = np.asarray(entry["keypoints"], float).reshape(-1, 3) * [factor, factor, 1]
        box = [factor * side for side in entry["bbox"]]
        return {**entry, "keypoints": points.ravel().tolist(), "bbox": box, "area": one.area}

    raw = {**pose_set.raw, "annotations": [entry_of(e) for e in pose_set.raw.get("annotations", ())]}
    return dataclasses.replace(pose_set, raw=raw, instances=instances)


def _larger(one: Instance, factor: float) -> Instance:
    """An instance with keypoints, box and area in the pixels of its picture."""
    truth = np.asarray(one.truth, float) * [factor, factor, 1]
    x0, y0, x1, y1 = one.box
    # An area larger than that of the box was stated for the picture already.
    stated = one.area > (x1 - x0) * (y1 - y0)
    return dataclasses.replace(
        one,
        truth=truth,
        box=(factor * x0, factor * y0, factor * x1, factor * y1),
        area=one.area if stated else one.area * factor**2,
    )


def cost_of(case: Case, found: Previews) -> Effect | None:
    """AP that comes back with the labels enlarged; None where no poses can be had."""
    if not case.reaches("forward"):
        return None
    try:
        evidence = case.evidence()
    except NotAvailable:
        return None
    larger = enlarged(evidence.pose_set, found.rows, found.factor)
    case.step()
    after = Evidence(larger, evidence.indices, evidence.model, evidence.given, stepped=case.step)
    back = gain(evidence.measure(), after.measure(), with_ap=True)
    return Effect("AP", back.AP, back.AP_low, back.AP_high, evidence.protocol())


class OtherSize(Undone):
    """Part of the image files has another size than they were annotated with."""

    name, group, level = "image files of another size than annotated", "input", "files"
    needs = ("data",)
    refuted_by = "annotations that were made on files of this size"

    def changes(self, case: Case) -> Iterable[Change]:
        if case.evidence().model is None and (other := _other_sizes(case)):
            yield self.change(
                f"poses of {counted(len(other), 'image')} scaled to the annotated size",
                "poses",
                lambda found: _scaled(found, other),
                fix=self._fix(case),
            )

    def seen(self, case: Case, change: Change) -> str:
        other, of = _other_sizes(case), len(case.pose_set().labelled_of_image)
        stored, annotated = next(iter(other.values()))
        return (
            f"{len(other)} of {counted(of, 'annotated image')} have another size than the annotations state, "
            f"such as {stored[0]}x{stored[1]} for {annotated[0]}x{annotated[1]} pixels (width x height)"
        )

    def _fix(self, case: Case) -> str:
        names = [case.pose_set().images[number].path.name for number in _other_sizes(case)]
        return f"give the files that were annotated, or scale their annotations: {some_files(names)}"

    def test(self, case: Case) -> Answer:
        other = _other_sizes(case)
        if not other and (turned := _sizes(case)):
            (stored, stated), of = next(iter(turned.values())), len(case.pose_set().labelled_of_image)
            return self.found(
                f"width and height of {len(turned)} of {counted(of, 'annotated image')} are exchanged in the "
                f"annotations: a file of {stored[0]}x{stored[1]} is stated as {stated[0]}x{stated[1]} pixels",
                fix="exchange width and height in the list of the images",
                numbers=(Measurement("images of exchanged sides", len(turned), expected=0.0),),
            )
        if not other:
            same = RuledOut("every image file that is there has the size that the annotations state")
            return self._on_previews(case) or same
        if case.reaches("forward") and (case.given.results or case.given.predictions):
            return super().test(case)
        evidence = self.seen(case, self.change("", "input", lambda model: model))
        return self.found(
            f"{evidence}: the keypoints would not match, so the set cannot be evaluated as it is",
            fix=self._fix(case),
            numbers=(Measurement("images of another size", len(other), expected=0.0),),
        )

    def _on_previews(self, case: Case) -> Finding | None:
        if (found := previews_of(case.pose_set())) is None:
            return None
        effect = cost_of(case, found)
        if effect is not None and not effect.low > 0:
            return None
        return self.found(
            found.text(),
            fix=f"multiply keypoints, boxes and areas of these instances by {found.factor}, or annotate anew",
            numbers=(Measurement("instances in the corner", len(found.rows), expected=max(found.others)),),
            effect=effect,
            confidence="measured" if effect is None else "proved",
        )


Size = tuple[int, int]


def _other_sizes(case: Case) -> dict[int, tuple[Size, Size]]:
    """Those of `_sizes` that are not the other's with width and height exchanged."""
    return {number: (one, other) for number, (one, other) in _sizes(case).items() if one != other[::-1]}


def _sizes(case: Case) -> dict[int, tuple[Size, Size]]:
    """Image id -> (width, height) of the file and of the annotations, where these differ.

    A picture that its EXIF turns may be annotated as it is stored.
    """

    def read() -> dict[int, tuple[Size, Size]]:
        pose_set, found = case.pose_set(), {}
        for number in list(pose_set.labelled_of_image)[:MOST_HEADERS]:
            record = pose_set.images[number]
            if not record.width or not record.height:
                continue
            try:
                if not pose_set.has_image(number):
                    continue
                height, width = upright_size(record.path)
            except (ValueError, OSError):
                continue
            stated = int(record.height), int(record.width)
            if stated not in ((height, width), image_size(record.path)):
                found[number] = (width, height), (int(record.width), int(record.height))
        return found

    return case.once("files of another size", read)


def _scaled(found: Predictions, sizes: dict[int, tuple[Size, Size]]) -> Predictions:
    points = found.keypoints.copy()
    for row, number in enumerate(found.image_id.tolist()):
        if number in sizes:
            stored, annotated = sizes[number]
            points[row] = points[row] * np.divide(annotated, stored)
    return dataclasses.replace(found, keypoints=points)


CAUSES: tuple[Cause, ...] = (OtherSize(),)
