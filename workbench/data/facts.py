"""Counts of a data set, and the findings that matter for an evaluation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, counted
from workbench.data.image_lints import image_lints
from workbench.data.lints import lints
from workbench.data.pose_set import Instance, PoseSet, stacked_truth

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False)
class DataFacts(Report):
    """Counts of a keypoint data set.

    Attributes:
        name: of the set.
        source: where it came from.
        skeleton: its name.
        keypoints: names, in order.
        categories: annotated instances per category name.
        images: in the file.
        annotated_images: with at least one instance.
        absent_images: named in the file and not on the disk.
        instances: annotations with keypoints.
        labelled: of these, those that can be scored: labelled keypoints, a box, no crowd.
        crowds: regions marked as crowd.
        empty: instances without a labelled keypoint, crowds not counted.
        without_box: instances without a box.
        without_size: instances whose box has no size within the image.
        without_area: labelled instances without an area.
        duplicates: annotations that repeat the keypoints of another of the same image, or its id.
        miscounted: annotations whose num_keypoints is not the number of labelled keypoints.
        outside: labelled keypoints outside their image.
        visible, hidden, unlabelled: share of the labelled instances, per keypoint.
        mirror: left/right pairs are known, so images can be flipped.
        sigmas: OKS constants are known, so AP can be computed.
        findings: what to check, one sentence each.
    """

    name: str
    source: str
    skeleton: str
    keypoints: tuple[str, ...]
    categories: dict[str, int]
    images: int
    annotated_images: int
    absent_images: tuple[str, ...]
    instances: int
    labelled: int
    crowds: int
    empty: int
    without_box: int
    without_size: int
    without_area: int
    duplicates: int
    miscounted: int
    outside: int
    visible: Float[np.ndarray, " K"]
    hidden: Float[np.ndarray, " K"]
    unlabelled: Float[np.ndarray, " K"]
    mirror: bool
    sigmas: bool
    findings: tuple[str, ...]

    def summary(self) -> str:
        kinds = (
            f" in {counted(len(self.categories), 'category', 'categories')}"
            if len(self.categories) > 1
            else ""
        )
        count = f"; findings: {len(self.findings)}" if self.findings else ""
        return (
            f"{self.name}: {self.labelled} of {counted(self.instances, 'instance')}{kinds} can be scored, "
            f"{self.skeleton}, {self.annotated_images} of {counted(self.images, 'image')} annotated{count}."
        )

    def plot(self) -> Figure:
        from workbench.figures import new_figure

        title = f"{self.name}: labelled keypoints of {counted(self.labelled, 'instance')}"
        figure = new_figure(title, x="share of instances", height=140 + 22 * len(self.keypoints))
        rows = np.arange(len(self.keypoints), dtype=np.float32)
        shares = (("visible", self.visible, "#3d8fdc"), ("hidden", self.hidden, "#d9772b"))
        for name, share, colour in (*shares, ("unlabelled", self.unlabelled, "rgba(128,136,148,.35)")):
            hover = "%{customdata}: %{x:.1%} " + name + "<extra></extra>"
            figure.add_bar(
                x=share.astype(np.float32), y=rows, orientation="h", name=name, marker_color=colour,
                customdata=np.array(self.keypoints), hovertemplate=hover,
            )  # fmt: skip
        figure.update_layout(barmode="stack")
        figure.update_xaxes(range=[0, 1], tickformat=".0%")
        figure.update_yaxes(tickvals=rows, ticktext=list(self.keypoints), autorange="reversed")
        return figure

    def table(self) -> list[dict[str, Any]]:
        columns = zip(self.keypoints, self.visible, self.hidden, self.unlabelled, strict=True)
        return [
            {"keypoint": name, "visible": float(v), "hidden": float(h), "unlabelled": float(u)}
            for name, v, h, u in columns
        ]


def data_facts(pose_set: PoseSet, *, images: bool = False) -> DataFacts:
    """Counts and findings of a data set.

    Args:
        pose_set: the set.
        images: check the images as well; otherwise no image is read.
    """
    chosen = [pose_set.instances[i] for i in pose_set.labelled]
    K = len(pose_set.skeleton)
    seen = stacked_truth(chosen, K, 2, np.int8)
    shares = [(seen == v).mean(0) if chosen else np.full(K, np.nan) for v in (0, 1, 2)]
    named = Counter(a.category_id for a in pose_set.instances)
    without_box = sum(not np.isfinite(a.box).all() for a in pose_set.instances)
    counts = {
        "images": len(pose_set.images),
        "annotated_images": len({a.image_id for a in pose_set.instances}),
        "instances": len(pose_set),
        "labelled": len(chosen),
        "crowds": sum(a.iscrowd for a in pose_set.instances),
        "empty": sum(not a.num_keypoints and not a.iscrowd for a in pose_set.instances),
        "without_box": without_box,
        "without_size": sum(not a.has_size for a in pose_set.instances) - without_box,
        "without_area": sum(not np.isfinite(a.area) for a in chosen),
        "duplicates": len(repeated_annotations(pose_set)),
        "miscounted": len(miscounted(pose_set)),
        "outside": sum(outside_image(pose_set, chosen).values()),
    }
    missing = pose_set.absent_images()
    absent = tuple(map(str, missing))
    mirror, sigmas = bool(pose_set.skeleton.mirror), bool(pose_set.skeleton.sigmas)
    return DataFacts(
        name=pose_set.name,
        source=pose_set.source,
        skeleton=pose_set.skeleton.name,
        keypoints=pose_set.skeleton.keypoints,
        categories={name: named[number] for number, name in pose_set.categories.items() if named[number]},
        absent_images=absent,
        visible=shares[2],
        hidden=shares[1],
        unlabelled=shares[0],
        mirror=mirror,
        sigmas=sigmas,
        findings=(
            *_findings(counts, pose_set.absent_text(missing) if missing else "", mirror, sigmas),
            *filter(None, [never_labelled(pose_set)]),
            *lints(pose_set),
            *(image_lints(pose_set) if images else ()),
        ),
        **counts,
    )


_MISCOUNTED = "annotations state a wrong num_keypoints, which pycocotools uses as stated"
_OUTSIDE = "labelled keypoints lie outside their image"
_DUPLICATES = "annotations repeat another one"
_SINGULARS = {
    "annotations": "annotation", "keypoints": "keypoint", "instances": "instance", "boxes": "box",
    "state": "states", "lie": "lies", "repeat": "repeats", "have": "has", "are": "is", "their": "its",
}  # fmt: skip
_PLURALS = re.compile(rf"\b({'|'.join(_SINGULARS)})\b")


def counted_findings(pose_set: PoseSet) -> tuple[str, ...]:
    """What the counts of a set say that changes an evaluation of given results, beside its `lints`.

    Args:
        pose_set: the annotations; no image is read.
    """
    chosen = [pose_set.instances[i] for i in pose_set.labelled]
    counts = {
        _DUPLICATES: len(repeated_annotations(pose_set)),
        _MISCOUNTED: len(miscounted(pose_set)),
        _OUTSIDE: sum(outside_image(pose_set, chosen).values()),
    }
    return tuple(_agreeing(count, text) for text, count in counts.items() if count)


def _agreeing(count: int, text: str) -> str:
    """A count and its sentence, which is written for several."""
    head, colon, rest = text.partition(":")
    if count == 1:
        head = _PLURALS.sub(lambda found: _SINGULARS[found[0]], head)
    return f"{count} {head}{colon}{rest}"


def _findings(counts: dict[str, int], absent: str, mirror: bool, sigmas: bool) -> tuple[str, ...]:
    sentences = {
        "without_area": "instances have no area: OKS needs another rule (area of boxes), which changes AP",
        "empty": "instances have no labelled keypoint and are not scored",
        "without_box": "instances have no box: use a detector or whole images for them",
        "without_size": "boxes have no area inside their image and are left out",
        "duplicates": _DUPLICATES,
        "miscounted": _MISCOUNTED,
        "outside": _OUTSIDE,
    }
    findings = [_agreeing(counts[key], text) for key, text in sentences.items() if counts[key]]
    if absent:
        findings.insert(0, f"{absent}; name the folder of the images with --images")
    if not counts["labelled"]:
        findings.insert(0, "no instance can be scored")
    if not sigmas:
        findings.append(
            "no OKS sigmas are known for these keypoints: PCK can be computed, AP only with --sigmas"
        )
    if not mirror:
        findings.append("left/right pairs are not known: no flip test and no flip in training")
    return tuple(findings)


# Single annotations: repeated, miscounted, outside of their image. `data_facts` counts them.


def repeated_annotations(pose_set: PoseSet) -> list[Instance]:
    """Annotations that have the id of an earlier one, or exactly the keypoints of one of the same image.

    An image that is listed twice, under two ids, is the same one.
    """
    found, ids, poses = [], set(), set()
    files = {number: str(image.path) for number, image in pose_set.images.items()}
    for a in pose_set.instances:
        if a.annotation_id in ids:
            found.append(a)
        ids.add(a.annotation_id)
        # The digest, as the bytes of 160,000 poses take 70 MB.
        pose = (files.get(a.image_id, a.image_id), blake2b(a.truth.tobytes(), digest_size=16).digest())
        if a.num_keypoints and pose in poses:
            found.append(a)
        if a.num_keypoints:
            poses.add(pose)
    return found


# In fewer instances a keypoint may be labelled in none by chance.
LEAST_LABELLED = 20


def never_labelled(pose_set: PoseSet) -> str:
    """A sentence on the keypoints that no instance labels; "" for none, and where few instances are there."""
    labelled = [pose_set.instances[i].truth[:, 2] > 0 for i in pose_set.labelled]
    absent = np.flatnonzero(~np.logical_or.reduce(labelled)) if len(labelled) >= LEAST_LABELLED else []
    if not len(absent):
        return ""
    names = ", ".join(pose_set.skeleton.keypoints[k] for k in absent[:6])
    more = f" and {len(absent) - 6} more" if len(absent) > 6 else ""
    is_are = "is" if len(absent) == 1 else "are"
    return (
        f"{len(absent)} of {counted(len(pose_set.skeleton), 'keypoint')} {is_are} labelled in none of "
        f"{counted(len(labelled), 'instance')} ({names}{more}): no figure on this set judges "
        f"{'it' if len(absent) == 1 else 'them'}, and training on it does not teach "
        f"{'it' if len(absent) == 1 else 'them'}"
    )


def miscounted(pose_set: PoseSet) -> list[Instance]:
    """Annotations whose num_keypoints is not the number of their labelled keypoints, crowds aside."""
    stated = {e.get("id"): e.get("num_keypoints") for e in pose_set.raw.get("annotations", [])}
    return [
        a
        for a in pose_set.instances
        if not a.iscrowd and stated.get(a.annotation_id) not in (None, a.num_keypoints)
    ]


def outside_image(pose_set: PoseSet, chosen: Iterable[Instance]) -> dict[int, int]:
    """Labelled keypoints outside their image, by annotation id; images of unknown size hold everything.

    Args:
        pose_set: the set.
        chosen: annotations to look at.
    """
    found: dict[int, int] = {}
    for a in chosen:
        x, y, seen = a.truth.T
        record = pose_set.images[a.image_id]
        if record.width is None or record.height is None:
            continue
        count = int(((seen > 0) & ((x < 0) | (y < 0) | (x > record.width) | (y > record.height))).sum())
        if count:
            found[a.annotation_id] = found.get(a.annotation_id, 0) + count
    return found


def farthest_outside(pose_set: PoseSet, one: Instance) -> float:
    """How far (pixels) a labelled keypoint of an instance lies outside its image; 0 where none does.

    Args:
        pose_set: the set.
        one: annotation to look at.
    """
    record = pose_set.images[one.image_id]
    if record.width is None or record.height is None:
        return 0.0
    x, y, _ = one.truth[one.truth[:, 2] > 0].T
    return float(np.maximum.reduce([-x, -y, x - record.width, y - record.height, 0 * x]).max(initial=0.0))
