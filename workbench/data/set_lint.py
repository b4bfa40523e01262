"""Lint of a data set: every check with its findings, and the annotations and images behind each finding.

The checks of `workbench.data.lints` and those of this file. What needs a model's predictions (the order of
the keypoints, exchanged sides) is added by `workbench.evaluation.probes.labels`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Finding, Measurement, ranked
from workbench.core.report import Report, counted, plain
from workbench.data.coco_entries import stated_mirror, stated_sigmas
from workbench.data.facts import (
    LEAST_LABELLED,
    farthest_outside,
    miscounted,
    never_labelled,
    outside_image,
    repeated_annotations,
)
from workbench.data.image_lints import located_in_images, located_sizes
from workbench.data.lints import Located, located, located_at, usual
from workbench.data.pose_set import missing_images
from workbench.data.visibility_lint import LABELLED_IS_ONE, visibility
from workbench.skeletons import mirror_by_names, skeleton_for

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.data.pose_set import PoseSet

CHECKS: dict[str, str] = {
    "mirror pairs": "left and right keypoints are partners, as their names and the file say",
    "sigmas": "OKS constants are positive, equal for both sides, and the published ones",
    "keypoint order": "keypoints stand in the order of their names (by a model's predictions)",
    "left/right swaps": "no instance has left and right exchanged",
    "annotated keypoints": "coordinates are in pixels, x before y",
    "keypoints outside the image": "labelled keypoints lie within their image",
    "keypoints outside the box": "visible keypoints lie in their box or near it",
    "annotated boxes": "boxes are x, y, width, height in pixels, and contain their pose",
    "annotated areas": "areas are positive and in square pixels",
    "visibility": "visibility is 0, 1 or 2 as COCO defines it",
    "keypoints never labelled": "every keypoint is labelled in some instance",
    "repeated poses": "no instance is annotated twice",
    "counts": "num_keypoints is the number of labelled keypoints",
    "crowd regions with keypoints": "crowd regions have no keypoints",
    "annotation ids": "no id is 0",
    "file read in another way than stated": "the file follows the COCO format",
    "missing images": "no image file is missing",
    "folder of the images": "the folder of the images is unambiguous",
    "images of another size": "every image has the size that the file states",
    "repeated images": "no image occurs twice",
    "turned images": "no image is rotated by its EXIF orientation",
    "images of several frames": "no image has a second frame or page",
}
"""Cause of a finding -> what holds where there is none."""

OF_IMAGES = ("images of another size", "repeated images", "turned images", "images of several frames")
_OF_POSES = (
    "annotated keypoints", "keypoints outside the image", "keypoints outside the box", "visibility",
    "keypoints never labelled", "repeated poses",
)  # fmt: skip
_OF_ANNOTATIONS = (
    *_OF_POSES, "annotated boxes", "annotated areas", "counts", "crowd regions with keypoints",
    "annotation ids",
)  # fmt: skip
WITH_MODEL = "it takes a model's predictions"

# So far (pixels) outside of a picture, in such a share of the instances, keypoints lie by a hand's error.
_HAND, _HANDS = 5.0, 0.1
# A visible keypoint farther outside than this share of the box's longer side is of another box.
_FAR = 0.5
# Single instances that a tool calls crowds are few in correct sets.
_LEAST_CROWDS, _MOST_CROWDS = 3, 0.02
# Two pairs of sides belong together if they point the same way in this share of at least so many instances.
_AGREE, _LEAST = 0.95, 40
# Sides nearer to each other than this share of the instance's extent do not tell which is which.
_WIDE = 0.12


@dataclass(frozen=True, eq=False)
class LintReport(Report):
    """Every check of a data set, with what it found.

    Attributes:
        name: of the set.
        skeleton: its name.
        instances: annotations with keypoints.
        images: that the set has; those that were left out as missing are not counted.
        found: findings with the annotations and images behind them, the most important first.
        not_checked: check -> why it was left out.
        image_names: file name of every image behind a finding.
    """

    name: str
    skeleton: str
    instances: int
    images: int
    found: tuple[Located, ...]
    not_checked: Mapping[str, str]
    image_names: Mapping[int | str, str]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings alone."""
        return tuple(one.finding for one in self.found)

    def summary(self) -> str:
        checked = len(CHECKS) - len(self.not_checked)
        head = (
            f"{self.name}: {checked} checks of {counted(self.instances, 'instance')} in "
            f"{counted(self.images, 'image')}"
        )
        if not self.found:
            return f"{head} found nothing wrong."
        errors = sum(one.finding.severity == "error" for one in self.found)
        worst = f", {errors} of them errors" if errors else ""
        count = counted(len(self.found), "finding")
        return f"{head} made {count}{worst}; first: {self.found[0].finding.evidence}."

    def text(self) -> str:
        """The summary, every finding with the first annotations behind it, and what was not checked."""
        lines = [self.summary()]
        for one in self.found:
            finding = one.finding
            fix = f"; {finding.fix}" if finding.fix else ""
            lines += ["", f"{finding.severity}: {finding.cause}: {finding.evidence}{fix}"]
            for word, ids in (("annotations", one.instances), ("images", one.images)):
                if ids:
                    more = f" and {len(ids) - 8} more" if len(ids) > 8 else ""
                    lines.append(f"  {word} {', '.join(map(str, ids[:8]))}{more}")
        causes = {one.finding.cause for one in self.found} | set(self.not_checked)
        lines += ["", *(f"holds: {text}" for cause, text in CHECKS.items() if cause not in causes)]
        lines += [f"not checked: {cause}: {why}" for cause, why in self.not_checked.items()]
        return "\n".join(lines)

    def plot(self) -> Figure:
        from workbench.figures import FINDING_COLOUR, QUIET_COLOUR
        from workbench.figures.bars import Bars, bars_figure

        counts = {cause: 0 for cause in CHECKS if cause not in self.not_checked}
        for one in self.found:
            cause = one.finding.cause
            counts[cause] = counts.get(cause, 0) + max(one.size, 1)
        values = np.array(list(counts.values()), float)
        colours = [FINDING_COLOUR if n else QUIET_COLOUR for n in values]
        notes = [CHECKS.get(cause, "") for cause in counts]
        axis = "annotations or images behind the findings; 1 for the set as a whole"
        column = Bars(axis, values, colours, notes=notes)
        figure = bars_figure(self.summary(), list(counts), [column])
        return figure.update_xaxes(dtick=1) if values.max(initial=0) <= 8 else figure

    def table(self) -> list[dict[str, Any]]:
        return [
            {key: getattr(one.finding, key) for key in ("severity", "cause", "evidence", "fix")}
            | {"instances": len(one.instances), "images": len(one.images)}
            for one in self.found
        ]

    def to_findings(self) -> tuple[Finding, ...]:
        return self.findings

    def to_json(self) -> dict[str, Any]:
        found = [
            {**one.finding.facts(), "instances": list(one.instances), "images": list(one.images)}
            for one in self.found
        ]
        facts = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "found"}
        holds = [c for c in CHECKS if c not in self.not_checked and c not in {f["cause"] for f in found}]
        return {"summary": self.summary(), **facts, "findings": found, "holds": holds}


def lint(
    pose_set: PoseSet,
    *,
    images: bool = True,
    beside: Sequence[Located] = (),
    checked: Sequence[str] = (),
    not_checked: Mapping[str, str] | None = None,
    with_model: str = WITH_MODEL,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LintReport:
    """Every check of a data set.

    Args:
        pose_set: the set.
        images: check the image files too; otherwise none is read.
        beside: findings made elsewhere, with a model's predictions.
        checked: causes that were examined there.
        not_checked: causes that could not be examined there, with the reason.
        with_model: why what takes predictions is left out, and what its reader can do.
        progress: called with (checks done, checks in all) before each; what it raises ends the lint.

    Raises:
        FileNotFoundError: images are to be checked and none of them is on the disk.
    """
    skipped: dict[str, str] = {}
    if "keypoint order" not in checked:
        skipped["keypoint order"] = (not_checked or {}).get("keypoint order", with_model)
    pairs = sum(k < partner for k, partner in enumerate(_partners(pose_set)))
    if "left/right swaps" not in checked and (pairs < 2 or len(usual(pose_set)) < _LEAST):
        what = f"{_LEAST} labelled instances" if pairs >= 2 else "two pairs of left and right keypoints"
        few = f"the set has fewer than {what}; with more it is checked alone, with fewer {with_model}"
        skipped["left/right swaps"] = (not_checked or {}).get("left/right swaps", few)
    if not pairs and not any(stated_mirror(*_categories(pose_set))):
        skipped["mirror pairs"] = "neither the names of the keypoints nor the file tell any"
    if not pose_set.skeleton.sigmas and not stated_sigmas(*_categories(pose_set))[1]:
        skipped["sigmas"] = "the file states none, and none are known for these keypoints"
    if 0 < len(pose_set.labelled) < LEAST_LABELLED:
        skipped["keypoints never labelled"] = f"the set has fewer than {LEAST_LABELLED} labelled instances"
    checks: list[Callable[[PoseSet], list[Located]]] = [located, *_OWN]
    found = list(beside)
    total = len(checks) + len(_ON_DISK) * images
    for done, check in enumerate(checks):
        progress(done, total)
        found += check(pose_set)
    if pose_set.skeleton.name.startswith(LABELLED_IS_ONE):
        skipped["visibility"] = "COCO-WholeBody gives 1 to all labelled points of faces and hands"
    absent = missing_images(pose_set)
    if not images:
        skipped |= dict.fromkeys(OF_IMAGES, "images were not to be looked at")
        skipped |= dict.fromkeys(("missing images", "folder of the images"), skipped[OF_IMAGES[0]])
    elif pose_set.images and len(absent) == len(pose_set.images):
        raise FileNotFoundError(
            f"{pose_set.name}: {pose_set.absent_text(absent.values())}; name the folder of the images with "
            "--images, or check the annotations alone with --no-images"
        )
    else:
        found += _missing(pose_set, absent)
        if doubt := pose_set.folder_doubt:
            found.append(Located(Finding("folder of the images", doubt, severity="warning")))
        for done, check in enumerate(_ON_DISK, len(checks)):
            progress(done, total)
            found += check(pose_set)
    progress(total, total)
    made = {one.finding.cause for one in found}
    skipped = {cause: why for cause, why in _nothing_there(pose_set).items() if cause not in made} | skipped
    order = {id(finding): n for n, finding in enumerate(ranked([one.finding for one in found]))}
    found.sort(key=lambda one: order[id(one.finding)])
    images_of = {pose_set.image_name(n): record.path.name for n, record in pose_set.images.items()}
    found = [one.in_own_ids(pose_set) for one in found]
    named = {n: images_of[n] for one in found for n in one.images if n in images_of}
    counts = len(pose_set), len(pose_set.images)
    return LintReport(pose_set.name, pose_set.skeleton.name, *counts, tuple(found), skipped, named)


def _nothing_there(pose_set: PoseSet) -> dict[str, str]:
    """Check -> why it had nothing to look at, of a set without labels, annotations or images."""
    nothing: dict[str, str] = {}
    if not pose_set.images:
        of_images = (*OF_IMAGES, "missing images", "folder of the images")
        nothing |= dict.fromkeys(of_images, "the file names no images")
    if not pose_set.instances:
        nothing |= dict.fromkeys(_OF_ANNOTATIONS, "the set has no annotations")
    elif not pose_set.labelled:
        nothing |= dict.fromkeys(_OF_POSES, "no keypoint of the set is labelled")
    return nothing


# Names, mirror pairs and sigmas.


def _partners(pose_set: PoseSet) -> tuple[int, ...]:
    """Each keypoint's partner on the other side: the skeleton's, otherwise the names'."""
    return tuple(pose_set.skeleton.mirror) or mirror_by_names(pose_set.skeleton.keypoints)


def _mirror(pose_set: PoseSet) -> list[Located]:
    skeleton = pose_set.skeleton
    named = mirror_by_names(skeleton.keypoints)
    sided = any(partner != k for k, partner in enumerate(named))
    stated, problem = stated_mirror(*_categories(pose_set))
    if problem:
        fix = "State one index for each keypoint under flip_indices, or pairs of them under flip_pairs."
        return [Located(Finding("mirror pairs", problem, fix))]
    found = []
    declared = stated or tuple(skeleton.mirror)
    silent = [partner == k for k, partner in enumerate(named)]  # no side in the name: the file may tell it
    named = tuple(
        p if _numbered(skeleton.keypoints, k, p) or (stated and silent[k] and silent[p]) else partner
        for k, (p, partner) in enumerate(zip(declared or named, named, strict=True))
    )
    if stated and skeleton.mirror and stated != tuple(skeleton.mirror):
        whose = "their names say" if tuple(skeleton.mirror) == named else f"{skeleton.name} has"
        found.append(("the file's mirror pairs", stated, tuple(skeleton.mirror), whose))
    elif declared and sided and declared != named:
        found.append(("the mirror pairs", declared, named, "their names say"))
    if not declared and sided:
        pairs = ", ".join(
            f"{skeleton.keypoints[k]} with {skeleton.keypoints[p]}" for k, p in enumerate(named) if k < p
        )
        text = (
            "no mirror pairs are known for these keypoints, so nothing can be flipped; their names tell "
            f"{counted(sum(k < p for k, p in enumerate(named)), 'pair')}"
        )
        return [Located(Finding("mirror pairs", text, f"Declare {pairs}.", severity="remark"))]
    made = []
    for what, wrong, right, source in found:
        off = [k for k in range(len(right)) if wrong[k] != right[k]]
        names = skeleton.keypoints
        some = ", ".join(f"{names[k]} with {names[wrong[k]]}" for k in off[:3])
        text = (
            f"{what} of {counted(len(off), 'keypoint')} are not those that {source}: {some}; mirrored images "
            "then exchange the wrong keypoints"
        )
        fix = f"Declare flip_indices = {list(right)}."
        made.append(
            Located(
                Finding("mirror pairs", text, fix, refuted_by="workbench probe flip: pairs found by test")
            )
        )
    return made


def _numbered(names: Sequence[str], one: int, other: int) -> bool:
    """Whether two names differ in a number alone (``face-0``, ``face-16``), which tells no side."""
    return len({re.sub(r"\d+", "", names[k]) for k in (one, other)}) == 1


def _categories(pose_set: PoseSet) -> tuple[list[Any], int]:
    """The categories that are read, and the number of their keypoints."""
    entries = pose_set.raw.get("categories", ())
    read = [e for e in entries if isinstance(e, Mapping) and e.get("id") in pose_set.categories]
    return read, len(pose_set.skeleton)


def _sigmas(pose_set: PoseSet) -> list[Located]:
    skeleton = pose_set.skeleton
    stated, problem = stated_sigmas(*_categories(pose_set))
    made = [Located(Finding("sigmas", problem, "State one sigma for each keypoint."))] if problem else []
    values, published = skeleton.sigmas, skeleton_for(skeleton.keypoints).sigmas
    if stated and published and not np.allclose(stated, published, rtol=0.02, atol=0):
        off = int(np.argmax(np.abs(np.array(stated) - published)))
        text = (
            f"the file's sigmas are not those published for {skeleton.name}: {skeleton.keypoints[off]} "
            f"has {stated[off]:g} instead of {published[off]:g}; AP is then another measure"
        )
        numbers = (Measurement(f"sigma of {skeleton.keypoints[off]}", stated[off], "", published[off]),)
        made.append(Located(Finding("sigmas", text, "Use the published ones.", numbers, severity="warning")))
    if values and max(values) > 0.5:
        text = f"sigmas lie between {min(values):g} and {max(values):g}; expected .01 to .3"
        made.append(Located(Finding("sigmas", text, "COCO's are .025 (eyes) to .107 (hips).")))
    mirror = _partners(pose_set)
    sided = [(k, p) for k, p in enumerate(mirror) if k < p] if values else []
    uneven = [k for k, p in sided if not np.isclose(values[k], values[p])]
    if uneven:
        k = uneven[0]
        names = skeleton.keypoints
        text = (
            f"{counted(len(uneven), 'pair has', 'pairs have')} another sigma on the left than on the right: "
            f"{names[k]} {values[k]:g}, {names[mirror[k]]} {values[mirror[k]]:g}"
        )
        # A published list that is uneven (AnimalPose's) is what others are judged by as well.
        own = bool(stated) or not skeleton.sigmas
        fix = "Give both sides the same sigma." if own else "Keep the published ones to compare with others."
        made.append(Located(Finding("sigmas", text, fix, severity="warning" if own else "remark")))
    return made


# Single annotations.


def _repeated(pose_set: PoseSet) -> list[Located]:
    found = repeated_annotations(pose_set)
    if not found:
        return []
    text = (
        f"{counted(len(found), 'annotation has', 'annotations have')} the id, or exactly the keypoints, of "
        "another one of their image"
    )
    return [located_at(Finding("repeated poses", text, "Remove the copies."), found)]


def _areas(pose_set: PoseSet) -> list[Located]:
    found = [a for a in usual(pose_set) if not np.isfinite(a.area)]
    if not found:
        return []
    text = (
        f"{counted(len(found), 'labelled instance has', 'labelled instances have')} no area, which OKS needs"
    )
    fix = "Evaluate with --no-area (.53 of the box, as CrowdPose and AIC do), which makes another AP."
    return [located_at(Finding("annotated areas", text, fix, severity="remark"), found)]


def _counts(pose_set: PoseSet) -> list[Located]:
    found = miscounted(pose_set)
    if not found:
        return []
    text = (
        f"{counted(len(found), 'annotation')} state a wrong num_keypoints, which pycocotools uses as stated"
    )
    return [
        located_at(
            Finding("counts", text, "Count labelled keypoints (visibility above 0).", severity="warning"),
            found,
        )
    ]


def _never_labelled(pose_set: PoseSet) -> list[Located]:
    text = never_labelled(pose_set)
    return [Located(Finding("keypoints never labelled", text, severity="warning"))] if text else []


def _crowds(pose_set: PoseSet) -> list[Located]:
    labelled = [a for a in pose_set.instances if a.num_keypoints]
    found = [a for a in labelled if a.iscrowd]
    if len(found) < max(_LEAST_CROWDS, _MOST_CROWDS * len(labelled)):
        return []
    text = (
        f"{len(found)} of {counted(len(labelled), 'instance')} with labelled keypoints are called crowds "
        "(iscrowd): evaluators leave them out, and so does training; COCO's crowds have no keypoints"
    )
    finding = Finding(
        "crowd regions with keypoints", text, "Set iscrowd to 0 for single instances.", severity="warning"
    )
    return [located_at(finding, found)]


def _outside(pose_set: PoseSet) -> list[Located]:
    chosen = usual(pose_set)
    counts = outside_image(pose_set, chosen)
    if not counts:
        return []
    total, of = sum(counts.values()), counted(len(counts), "instance")
    text = (
        f"{counted(total, 'labelled keypoint')} of {of} {'lies' if total == 1 else 'lie'} outside the image"
    )
    behind = [a for a in chosen if a.annotation_id in counts]
    # At the border of a picture an annotator's hand reaches over it.
    farthest = max(farthest_outside(pose_set, a) for a in behind)
    if farthest <= _HAND and len(behind) <= _HANDS * len(chosen):
        text += f", none by more than {_HAND:g} pixels, as annotators draw them"
        return [located_at(Finding("keypoints outside the image", text, severity="remark"), behind)]
    return [located_at(Finding("keypoints outside the image", text, severity="warning"), behind)]


def _outside_box(pose_set: PoseSet) -> list[Located]:
    behind, count = [], 0
    for a in usual(pose_set):
        x0, y0, x1, y1 = a.box
        if not a.has_size:
            continue
        side = max(x1 - x0, y1 - y0)
        x, y, seen = a.truth.T
        far = np.maximum.reduce([x0 - x, x - x1, y0 - y, y - y1]) > _FAR * side
        if (far & (seen == 2)).any():
            behind.append(a)
            count += int((far & (seen == 2)).sum())
    if not behind:
        return []
    text = (
        f"{counted(count, 'visible keypoint')} of {counted(len(behind), 'instance')} "
        f"{'lies' if count == 1 else 'lie'} more than half a box outside of the box: boxes or "
        "keypoints belong to somebody else"
    )
    return [located_at(Finding("keypoints outside the box", text, severity="warning"), behind)]


def _swaps(pose_set: PoseSet) -> list[Located]:
    """Instances in which one pair of sides points against the pairs that it goes with in all others."""
    pairs = [(k, p) for k, p in enumerate(_partners(pose_set)) if k < p]
    chosen = usual(pose_set)
    if len(pairs) < 2 or len(chosen) < _LEAST:
        return []
    truth = np.stack([a.truth for a in chosen])
    points = np.where(truth[..., 2:] > 0, truth[..., :2], np.nan)
    with np.errstate(invalid="ignore"):
        extent = np.fmax.reduce(points, 1) - np.fmin.reduce(points, 1)
    side = extent.max(1)
    across = np.stack([points[:, b] - points[:, a] for a, b in pairs], 1)  # [N, P, 2]
    length = np.linalg.norm(across, axis=-1)
    wide = length > _WIDE * side[:, None]
    unit = across / np.where(wide, length, np.nan)[..., None]
    cosine = np.einsum("npd,nqd->npq", unit, unit)
    clear = np.abs(cosine) > 0.5  # nan is not clear
    same = np.where(clear, cosine > 0, False)
    count = clear.sum(0)
    agree = np.divide(same.sum(0), count, out=np.zeros(count.shape), where=count > 0)
    together = (agree >= _AGREE) & (count >= _LEAST) & ~np.eye(len(pairs), dtype=bool)
    asked = clear & together
    against = (asked & ~same).sum(2), asked.sum(2)
    odd = (against[0] >= 2) & (against[0] == against[1])
    rows = np.flatnonzero(odd.any(1))
    if not len(rows):
        return []
    names = pose_set.skeleton.keypoints
    row = int(rows[0])
    pair = pairs[int(np.flatnonzero(odd[row])[0])]
    text = (
        f"{counted(len(rows), 'instance has', 'instances have')} left and right exchanged in some of their "
        "keypoints: in annotation "
        f"{chosen[row].annotation_id} {names[pair[0]]} and {names[pair[1]]} point against the other pairs, "
        f"which point the same way in {_AGREE:.0%} of the set"
    )
    finding = Finding(
        "left/right swaps", text, "Look at these annotations and exchange the sides.",
        refuted_by="the pictures: a body that is really twisted so", severity="warning", confidence="likely",
    )  # fmt: skip
    return [located_at(finding, [chosen[int(n)] for n in rows])]


# Image files.


def _missing(pose_set: PoseSet, absent: Mapping[int, Path]) -> list[Located]:
    if pose_set.left_out:
        text = pose_set.left_out_text()
        return [Located(Finding("missing images", text, severity="warning"), gone=len(pose_set.left_out))]
    if not absent:
        return []
    behind = tuple(a.annotation_id for a in pose_set.instances if a.image_id in absent)
    text = f"{pose_set.absent_text(absent.values())}; they have {counted(len(behind), 'annotation')}"
    fix = "Name the folder of the images with --images, or leave their annotations out."
    return [Located(Finding("missing images", text, fix), behind, tuple(absent))]


_OWN: tuple[Callable[[PoseSet], list[Located]], ...] = (
    _mirror, _sigmas, _repeated, _areas, _counts, _never_labelled, _crowds, _outside, _outside_box,
    visibility, _swaps,
)  # fmt: skip

_ON_DISK: tuple[Callable[[PoseSet], list[Located]], ...] = (located_sizes, located_in_images)
"""Checks that open the image files."""
