"""Causes that the checks of a data set find in its annotations."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.core import NotAvailable
from workbench.core.errors import available
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.report import counted, signed_text
from workbench.data.lints import within_a_pixel
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut
from workbench.diagnosis.evidence import Change, gain

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.lints import Located
    from workbench.data.pose_set import PoseSet

# What follows from a finding, where so many instances agree: keypoints outside of their image or in shares of
# it lie outside of their boxes.
SAME, _OF_KEYPOINTS = 0.8, ("annotated boxes", "keypoints outside the box")
FOLLOWS = {"annotated keypoints": _OF_KEYPOINTS, "keypoints outside the image": _OF_KEYPOINTS}
# Keypoints are stated from the corner of their box where less than this share lies in it as they stand, so
# much with the corner added, in so many instances of so many keypoints. In the demo's sets there is none.
LOST, HELD, LEAST_CORNERED, LEAST_SHARE, LEAST_KEYPOINTS = 0.75, 0.95, 5, 0.03, 4
MOVED = "annotated keypoints moved"
OF_CORNER = (*_OF_KEYPOINTS, "annotated keypoints", "keypoints outside the image")
# A check's finding is a consequence of another cause where undoing that leaves less than this share of it.
MOST_LEFT = 0.5


class Lints(Cause):
    """What the checks of the annotations find: boxes, areas, ids, axes, visibility, points outside."""

    name, group, needs = "annotations are inconsistent", "labels", ("data",)
    refuted_by = "the same numbers in the annotations as their authors published them"
    # Checks of which no other cause measures the effect.
    CHECKED: ClassVar[tuple[str, ...]] = (
        "annotated keypoints",
        "annotated boxes",
        "annotated areas",
        "annotation ids",
        "keypoints outside the image",
        "keypoints outside the box",
        "visibility",
        "counts",
        "crowd regions with keypoints",
    )

    FIXES: ClassVar[dict[str, str]] = {
        "boxes look like two corners": "convert x0, y0, x1, y1 to x, y, width, height",
        "boxes look like centre and size": "convert cx, cy, w, h to x, y, width, height: x = cx - w / 2, "
        "y = cy - h / 2",
        "boxes look like y, x": "exchange x with y and width with height in every box",
        "box(es)? lies? within 1 pixel": "multiply boxes by the width and height of their image",
        "box(es)? reach(es)? outside": "compare the boxes with their pictures: one amount for all says "
        "that they are of images of another crop or size",
        "box(es)? contains? less than half": "compare the boxes with their pictures, or make them "
        "anew from the labelled keypoints",
        "x and y of keypoints look exchanged": "exchange x and y of every keypoint",
        "they look normalised to the box size": "multiply keypoints by width and height of their box and "
        "add its corner",
        "look as if they count from the corner": "add x and y of the box to its keypoints",
        "look as if they count y from the lower": "replace y of every keypoint by the image's height - y",
        "boxes look as if they are thousandths": "multiply x and width by the image's width / 1000, y and "
        "height by its height / 1000",
        "keypoints look as if they are thousandths": "multiply keypoints by the size of their image / 1000",
        "look as if they are of an image": "scale keypoints, or boxes, to the size of the stored images",
    }

    def test(self, case: Case) -> Answer:
        from workbench.data.set_lint import lint

        # A set in which no keypoint counts as labelled is no ground for other causes, and may be one here.
        pose_set = case.read_set()
        located = [
            one
            for one in lint(pose_set, images=False).found
            if one.finding.severity != "remark" and one.finding.cause in self.CHECKED
        ]
        if cornered := from_corner(pose_set):
            others = [one.finding for one in located if one.finding.cause not in OF_CORNER]
            return [self._of_corner(case, pose_set, cornered), *_joined(others)]
        # What is said of visible keypoints counts for little where visibility itself is wrong.
        found = sorted(_explained(located), key=lambda finding: finding.cause != "visibility")
        if not found:
            case.pose_set()
            return RuledOut(
                f"boxes, areas, ids and keypoints of {counted(len(pose_set.labelled), 'labelled instance')} "
                "agree"
            )
        return [self._with_effect(case, self._with_fix(finding)) for finding in _joined(found)]

    def _of_corner(self, case: Case, pose_set: PoseSet, rows: Sequence[int]) -> Finding:
        """Keypoints that are stated from the corner of their box; what it costs where poses can be had."""
        change = Change(MOVED, "", "labels", lambda given: with_corner(given, rows))
        effect = None
        if case.reaches("forward"):
            with suppress(NotAvailable):
                evidence = case.evidence()
                back = gain(evidence.measure(), evidence.measure([change]), with_ap=True)
                effect = Effect("AP", back.AP, back.AP_low, back.AP_high, evidence.protocol())
        return Finding(
            MOVED,
            f"keypoints of at least {len(rows)} of {counted(len(pose_set.labelled), 'instance')} are stated "
            "from the corner of their box: with x and y of the box added they lie in it, as they stand less "
            f"than {LOST:.0%} of them",
            "add x and y of the box to the keypoints of these instances",
            (Measurement("instances stated from their box", len(rows), expected=0.0),),
            effect=effect,
            confidence="proved" if effect is not None and effect.low > 0 else "measured",
            refuted_by=self.refuted_by,
        )

    def vanishes_with(self, case: Case, finding: Finding) -> str:
        """A proved cause that says where the labels belong, and with which most of the finding goes.

        The amount by which labels are moved is an estimate: what lies at the border may stay outside.
        """
        apart = case.peek("separated")
        before = _behind(case.read_set())[finding.cause]
        for change in () if apart is None else apart.chosen:
            for way in change.facts.get("labels", ()):
                mended = case.once(
                    f"lint of {change.name}, {way.__name__}", lambda w=way: _behind(w(case.read_set()))
                )
                if mended[finding.cause] < MOST_LEFT * before:
                    return change.cause
        return ""

    def _with_effect(self, case: Case, finding: Finding) -> Finding:
        """With what areas of another unit cost: AP with .53 of the boxes' areas, where poses can be had."""
        if finding.cause != "annotated areas" or "of their boxes" not in finding.evidence:
            return finding
        effect = available(
            lambda: case.evidence().with_areas_of_boxes() if case.reaches("forward") else None, None
        )
        if effect is None:
            return finding
        text = f"{finding.evidence}; with .53 of the boxes' areas AP changes by {signed_text(effect.delta)}"
        proved = effect.low > 0
        return dataclasses.replace(
            finding,
            evidence=text,
            effect=effect,
            severity="error" if proved else finding.severity,
            confidence="proved" if proved else finding.confidence,
        )

    def _with_fix(self, finding: Finding) -> Finding:
        words = next((fix for text, fix in self.FIXES.items() if re.search(text, finding.evidence)), "")
        fix = finding.fix or words or "correct these annotations: workbench data lint lists them"
        return dataclasses.replace(finding, fix=fix, refuted_by=self.refuted_by)


def from_corner(pose_set: PoseSet) -> list[int]:
    """Labelled instances whose keypoints lie in their box once its corner is added; [] for a few of them."""
    found = []
    for row in pose_set.labelled:
        one = pose_set.instances[row]
        truth = np.asarray(one.truth, float)
        points, low, high = truth[truth[:, 2] > 0, :2], np.array(one.box[:2]), np.array(one.box[2:])
        if len(points) < LEAST_KEYPOINTS or within_a_pixel(points):
            continue
        as_stated, moved = (float(((p >= low) & (p <= high)).all(1).mean()) for p in (points, points + low))
        if as_stated < LOST and moved >= HELD:
            found.append(row)
    return found if len(found) >= max(LEAST_CORNERED, LEAST_SHARE * len(pose_set.labelled)) else []


def with_corner(pose_set: PoseSet, rows: Sequence[int]) -> PoseSet:
    """The set with the corner of the box added to the keypoints of some instances."""
    corner = {pose_set.instances[row].annotation_id: pose_set.instances[row].box[:2] for row in rows}

    def added(truth: Float[np.ndarray, "K 3"], number: Any) -> Float[np.ndarray, "K 3"]:
        return truth + np.array([*corner[number], 0]) * (truth[:, 2:] > 0)

    def entry_of(entry: dict[str, Any]) -> dict[str, Any]:
        if entry.get("id") not in corner:
            return entry
        points = added(np.asarray(entry["keypoints"], float).reshape(-1, 3), entry["id"])
        return {**entry, "keypoints": points.ravel().tolist()}

    instances = tuple(
        dataclasses.replace(one, truth=added(np.asarray(one.truth, float), one.annotation_id))
        if one.annotation_id in corner
        else one
        for one in pose_set.instances
    )
    raw = {**pose_set.raw, "annotations": [entry_of(e) for e in pose_set.raw.get("annotations", ())]}
    return dataclasses.replace(pose_set, raw=raw, instances=instances)


def _behind(pose_set: PoseSet) -> Counter[str]:
    """How many annotations are behind each cause that the checks find."""
    from workbench.data.set_lint import lint

    counts: Counter[str] = Counter()
    for one in lint(pose_set, images=False).found:
        counts[one.finding.cause] += len(one.instances)
    return counts


def _explained(located: Sequence[Located]) -> list[Finding]:
    """The findings without those that say of the same instances what follows from another one.

    Keypoints outside of their image, or in shares of it, lie outside of their box as well.
    """
    finding_of = {id(one): one.finding for one in located}
    for one in located:
        behind = set(one.instances)
        for other in located if behind else ():
            follows = one.finding.cause in FOLLOWS.get(other.finding.cause, ())
            if "boxes look like" in other.finding.evidence:  # all of them are of another form
                follows = one.finding.cause == "keypoints outside the box"
            if (
                follows
                and id(other) in finding_of
                and len(behind.intersection(other.instances)) >= SAME * len(behind)
            ):
                root = finding_of[id(other)]
                evidence = f"{root.evidence.rstrip('.')}; of the same instances: {one.finding.evidence}"
                finding_of[id(other)] = dataclasses.replace(root, evidence=evidence)
                del finding_of[id(one)]
                break
    return list(finding_of.values())


def _joined(findings: Sequence[Finding]) -> list[Finding]:
    """One finding for each cause, with the evidence of all that have its name."""
    joined: dict[str, Finding] = {}
    for finding in findings:
        first = joined.get(finding.cause)
        if first is not None:
            finding = dataclasses.replace(
                first,
                evidence=f"{first.evidence.rstrip('.')}; {finding.evidence}",
                numbers=(*first.numbers, *finding.numbers),
                severity=min((first.severity, finding.severity), key=("error", "warning").index),
            )
        joined[finding.cause] = finding
    return list(joined.values())


CAUSES: tuple[Cause, ...] = (Lints(),)
