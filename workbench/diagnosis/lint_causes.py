"""Causes that the checks of a data set find in its annotations."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from workbench.core import NotAvailable
from workbench.core.finding import Finding
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut

if TYPE_CHECKING:
    from workbench.data.lints import Located
    from workbench.data.pose_set import PoseSet

# What follows from a finding, where so many instances agree: keypoints outside of their image or in shares of
# it lie outside of their boxes.
SAME, _OF_KEYPOINTS = 0.8, ("annotated boxes", "keypoints outside the box")
FOLLOWS = {
    "annotated keypoints": _OF_KEYPOINTS,
    "keypoints outside the image": _OF_KEYPOINTS,
}
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
        "boxes lie within 1 pixel": "multiply boxes by the width and height of their image",
        "boxes reach outside their image": "compare the boxes with their pictures: one amount for all says "
        "that they are of images of another crop or size",
        "boxes contain less than half": "compare the boxes with their pictures, or make them anew from the "
        "labelled keypoints",
        "x and y of keypoints look exchanged": "exchange x and y of every keypoint",
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
        # What is said of visible keypoints counts for little where visibility itself is wrong.
        found = sorted(_explained(located), key=lambda finding: finding.cause != "visibility")
        if not found:
            case.pose_set()
            return RuledOut(
                f"boxes, areas, ids and keypoints of {len(pose_set.labelled)} labelled instances agree"
            )
        return [self._with_effect(case, self._with_fix(finding)) for finding in _joined(found)]

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
        try:
            effect = case.evidence().with_areas_of_boxes() if case.reaches("forward") else None
        except NotAvailable:
            effect = None
        if effect is None:
            return finding
        text = f"{finding.evidence}; with .53 of the boxes' areas AP changes by {effect.delta:+.3f}"
        proved = effect.low > 0
        return dataclasses.replace(
            finding,
            evidence=text,
            effect=effect,
            severity="error" if proved else finding.severity,
            confidence="proved" if proved else finding.confidence,
        )

    def _with_fix(self, finding: Finding) -> Finding:
        words = next((fix for text, fix in self.FIXES.items() if text in finding.evidence), "")
        fix = finding.fix or words or "correct these annotations: workbench data lint lists them"
        return dataclasses.replace(finding, fix=fix, refuted_by=self.refuted_by)


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
