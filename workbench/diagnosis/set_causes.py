"""Causes in the data set: training images in it, instances annotated twice, pictures turned by EXIF."""

from __future__ import annotations

import dataclasses
import filecmp
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.core import Answers, Batch, NotAvailable, PoseModel, Sample
from workbench.core.errors import available
from workbench.core.finding import Measurement
from workbench.core.report import counted
from workbench.core.wrapping import Wrapper
from workbench.data.facts import repeated_annotations
from workbench.data.image_folders import is_within
from workbench.data.image_lints import duplicate_images, mirrored_images
from workbench.data.images import read_image, turned_by_exif
from workbench.data.lints import near_duplicates
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut, Undone
from workbench.diagnosis.evidence import Change
from workbench.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import ImageRecord, Instance, PoseSet

# Pictures of which headers are read; those of training images that are compared by content.
MOST_HEADERS, MOST_COMPARED = 5000, 1500
# The same pose in another picture: from so many labelled keypoints on, whose places differ by less than this
# share of the pose's size in sum; a keypoint without a label stands so far away.
MANY_POINTS, SAME_SHAPE, UNLABELLED = 6, 0.05, 9.0
# Patches of this side are of one picture from this correlation on; grey levels that vary less are plain.
PATCH, PLAIN, SAME_PATCH = 32, 3.0, 0.9


class RepeatedAnnotations(Cause):
    """The same instance is annotated twice: one of the two can only be missed."""

    name, group, needs = "instances annotated twice", "labels", ("data",)
    refuted_by = "pictures with two instances at the same place"

    def test(self, case: Case) -> Answer:
        pose_set = case.pose_set()
        labelled = [a for a in pose_set.instances if a.num_keypoints and not a.iscrowd]
        copies = repeated_annotations(pose_set)
        behind = annotated_again(case)
        if not behind:
            return RuledOut(
                f"none of {counted(len(labelled), 'labelled instance')} repeats another one of its image"
            )
        kept = tuple(a for a in pose_set.instances if id(a) not in behind)
        effect = None
        try:
            if case.reaches("forward"):
                effect = case.evidence().without_others(kept)
        except NotAvailable:
            pass
        share = len(behind) / max(len(labelled), 1)
        proved = effect is not None and effect.low > 0
        return self.found(
            f"{len(behind)} of {counted(len(labelled), 'annotation')} repeat the pose of another one of "
            f"their image, {len(copies)} of them exactly",
            fix="remove the copies: annotations "
            f"{', '.join(str(a.annotation_id) for a in pose_set.instances if id(a) in behind)[:80]}",
            numbers=(Measurement("share of annotations that repeat another", share, expected=0.0),),
            effect=effect,
            severity="error" if share >= 0.02 else "warning",
            confidence="proved" if proved else "measured",
        )


def annotated_again(case: Case) -> frozenset[int]:
    """`id` of the annotations of the case's set that repeat another one of their image."""

    def repeating() -> frozenset[int]:
        pose_set = case.pose_set()
        labelled = [a for a in pose_set.instances if a.num_keypoints and not a.iscrowd]
        return frozenset(
            id(a) for a in (*repeated_annotations(pose_set), *near_duplicates(pose_set, labelled))
        )

    return case.once("annotated again", repeating)


class TrainingImages(Cause):
    """Images that the model was trained on are among those it is validated on."""

    name, group, needs = "training images in the validation set", "labels", ("data", "training annotations")
    refuted_by = "two different pictures of one name"

    def test(self, case: Case) -> Answer:
        pose_set, config = case.pose_set(), _config(case)
        train = _training_set(case, config, pose_set)
        leaked, how = leaked_images(pose_set, train, case)
        total = len(pose_set.labelled_of_image)
        leaked &= set(pose_set.labelled_of_image)
        if not leaked:
            return RuledOut(
                f"none of {counted(total, 'annotated image')} is among the {len(train.images)} of "
                f"{train.name}"
            )
        share = len(leaked) / max(total, 1)
        figures, numbers = _scores_of(case, leaked)
        return self.found(
            f"{len(leaked)} of {counted(total, 'annotated image')} are among the "
            f"{counted(len(train.images), 'training image')} of {train.name} ({how}){figures}",
            fix="leave these images out of the training or of the validation, and evaluate again: the figure "
            "is too good by what was learned by heart",
            numbers=(Measurement("share of validation images in training", share, expected=0.0), *numbers),
        )


def _config(case: Case) -> Mapping[str, Any]:
    return available(case.config, {})


def annotation_files(config: Mapping[str, Any], loader: str) -> list[str]:
    """The annotation files that a loader of a config names, with its data_root; nested sets included."""
    found = []

    def look(value: Any) -> None:
        if isinstance(value, Mapping):
            if isinstance(value.get("ann_file"), str):
                found.append(str(Path(str(value.get("data_root") or "")) / value["ann_file"]))
            for key in ("dataset", "datasets"):
                look(value.get(key))
        elif isinstance(value, (list, tuple)):
            for one in value:
                look(one)

    look(config.get(loader))
    return found


def _training_set(case: Case, config: Mapping[str, Any], pose_set: PoseSet) -> PoseSet:
    """Annotations of the training: a second annotation file among the targets, or the config's, near by.

    A path in a config is followed only within the folder of the config or of the annotations: what a file
    says must not lead elsewhere.
    """
    from workbench.data.coco import read_coco
    from workbench.data.image_folders import readable_folders

    own = case.options.data or next(iter(case.given.annotations), None)
    others = [path for path in case.given.annotations if own is None or Path(own).resolve() != path.resolve()]
    folders = [path.parent for path in (case.config_path(), *case.given.configs) if path is not None]
    folders += [Path(own).parent] if own is not None and Path(own).is_file() else []
    for name in annotation_files(config, "train_dataloader"):
        for folder in folders:
            path = folder / name
            if path.is_file() and is_within(path, (folder,)):
                others.append(path)
    if not others:
        raise NotAvailable(
            "the annotations of the training were not found; name them as a further target beside --data"
        )
    images = others[0].parent / "images"
    folder, within = images if images.is_dir() else None, case.options.within
    within = within or readable_folders(others[0], None)  # `images` is a name that nobody gave
    return case.once("training set", lambda: read_coco(others[0], folder, within=within))


def leaked_images(pose_set: PoseSet, train: PoseSet, case: Case) -> tuple[set[int], str]:
    """Ids of images of a set that are among the training images, and how that was told.

    By content where the files are there: equal bytes, or equal thumbnails, mirrored ones too, or the same
    pose on the same pixels for a picture that was cut or scaled. Else by name, where the same name also has
    an annotation with the same keypoints: sets that number their files share names.

    Args:
        pose_set: of the validation.
        train: of the training.
        case: stepped now and then.
    """
    here = [r for r in pose_set.images.values() if pose_set.has_image(r.id)]
    there = [r for r in train.images.values() if train.has_image(r.id)]
    if here and there:
        sizes: dict[int, list[ImageRecord]] = defaultdict(list)
        for record in there:
            sizes[record.path.stat().st_size].append(record)
        leaked = set()
        for record in here:
            case.step()
            alike = sizes.get(record.path.stat().st_size, ())
            if any(filecmp.cmp(record.path, other.path, shallow=False) for other in alike):
                leaked.add(record.id)
        if len(here) + len(there) <= MOST_COMPARED:
            again = set(duplicate_images([*(r.path for r in there), *(r.path for r in here)]))
            within = set(duplicate_images([r.path for r in here]))
            leaked |= {r.id for r in here if r.path in again - within}
            turned = set(mirrored_images([r.path for r in here], [r.path for r in there]))
            mirrored = {r.id for r in here if r.path in turned} - leaked
            if mirrored:
                how = f"the same content, {len(mirrored)} of them mirrored"
                return leaked | mirrored, how
        cut = _cut_out(pose_set, train, case) - leaked
        return leaked | cut, f"the same content{f', {len(cut)} of them cut or scaled' if cut else ''}"
    poses = defaultdict(set)
    for one in train.instances:
        poses[train.images[one.image_id].path.name].add(one.truth.tobytes())
    leaked = {
        one.image_id
        for one in pose_set.instances
        if one.num_keypoints and one.truth.tobytes() in poses.get(pose_set.images[one.image_id].path.name, ())
    }
    return leaked, "the same file name and keypoints; the images themselves are not there to compare"


def _cut_out(pose_set: PoseSet, train: PoseSet, case: Case) -> set[int]:
    """Ids of images of which the training set has a part, or another size: the same pose on the same pixels.

    Keypoints relative to each other tell a pose of many points from every other; the pictures around the two
    decide.
    """
    from scipy.spatial import KDTree

    known, poses = _shapes(train)
    looked_for, own = _shapes(pose_set)
    if not known or not looked_for:
        return set()
    found: set[int] = set()
    near = np.atleast_1d(KDTree(poses).query(own, distance_upper_bound=SAME_SHAPE)[1])
    for instance, at in zip(looked_for, map(int, near), strict=True):
        if at < len(known) and instance.image_id not in found:
            case.step()
            one, other = pose_set.images[instance.image_id].path, train.images[known[at].image_id].path
            if _same_pixels(_around(one, instance.truth), _around(other, known[at].truth)):
                found.add(instance.image_id)
    return found


def _shapes(pose_set: PoseSet) -> tuple[list[Instance], Float[np.ndarray, "N D"]]:
    """Instances with enough labelled keypoints whose picture is there, and their poses of one place and size.

    A keypoint without a label is far away from every other place, so that poses of other keypoints differ.
    """
    chosen = [
        one for one in pose_set.instances
        if (one.truth[:, 2] > 0).sum() >= MANY_POINTS and pose_set.has_image(one.image_id)
    ]  # fmt: skip
    rows = []
    for one in chosen:
        seen = one.truth[:, 2] > 0
        points = np.asarray(one.truth[:, :2], float) - one.truth[seen, :2].mean(0)
        points /= max(np.sqrt((points[seen] ** 2).sum(1).mean()), 1e-6)
        rows.append(np.where(seen[:, None], points, UNLABELLED).ravel())
    return chosen, np.array(rows)


def _around(path: Path, truth: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "S S"]:
    """Grey levels of the rectangle around a pose's keypoints, of one size."""
    import cv2

    image, points = read_image(path), truth[truth[:, 2] > 0, :2]
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    affine = np.array([[(x1 - x0) / PATCH, 0, x0], [0, (y1 - y0) / PATCH, y0]])
    flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, affine, (PATCH, PATCH), flags=flags).mean(2)


def _same_pixels(one: Float[np.ndarray, "S S"], other: Float[np.ndarray, "S S"]) -> bool:
    """Whether two patches are of one picture; plain ones tell nothing."""
    if min(one.std(), other.std()) < PLAIN:
        return False
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) > SAME_PATCH


def _scores_of(case: Case, leaked: set[int]) -> tuple[str, tuple[Measurement, ...]]:
    """Mean OKS of leaked and of other images, where poses can be had."""
    try:
        if not case.reaches("forward"):
            return "", ()
        measured = case.evidence().measure()
    except NotAvailable:
        return "", ()
    counts = ~measured.ap.truth.ignored
    inside = np.isin(measured.ap.truth.image[counts], list(leaked))
    if not inside.any() or inside.all():
        return "", ()
    known, rest = float(measured.counted[inside].mean()), float(measured.counted[~inside].mean())
    return f"; mean OKS is {known:.3f} on them and {rest:.3f} on the others", (
        Measurement("mean OKS on training images", known),
        Measurement("mean OKS on the others", rest),
    )


class TurnedImages(Undone):
    """Pictures are turned by their EXIF orientation on one side only: in the labels, or in the poses."""

    name, group = "EXIF rotation not applied", "input"
    refuted_by = "labels that lie right on the pictures as they are stored"

    def changes(self, case: Case) -> Iterable[Change]:
        turned = _turned(case)
        if not turned:
            raise NotAvailable("no picture of the set is turned by its EXIF orientation")
        total = len(case.pose_set().images)
        facts = {"count": len(turned), "total": total}
        if case.evidence().model is None:
            yield self.change(
                f"poses of {counted(len(turned), 'image')} turned as EXIF says", "poses",
                lambda found: _upright(found, turned),
                fix="read images with their EXIF rotation (cv2.imread does; PIL needs exif_transpose)",
                facts=facts,
            )  # fmt: skip
            return
        paths = frozenset(str(case.pose_set().images[number].path) for number in turned)
        yield self.change(
            f"{counted(len(turned), 'image')} read as they are stored, as they were annotated", "input",
            lambda model: Unturned(model, paths),
            fix="remove the EXIF orientation from these files, or turn their annotations: the two "
            "contradict each other",
            facts=facts,
        )  # fmt: skip

    def seen(self, case: Case, change: Change) -> str:
        total = counted(change.facts["total"], "image")
        return f"{change.facts['count']} of {total} have an EXIF orientation"

    def test(self, case: Case) -> Answer:
        case.evidence()
        if not _turned(case):
            return RuledOut("no picture of the set is turned by its EXIF orientation")
        return super().test(case)


@dataclass(frozen=True)
class Turn:
    """How one picture is turned.

    Attributes:
        orientation: EXIF's number, 2 to 8.
        height: of the stored picture, pixels.
        width: of the stored picture, pixels.
    """

    orientation: int
    height: int
    width: int


def _turned(case: Case) -> dict[int, Turn]:
    """Image id -> its turn, for annotated images that have one."""

    def read() -> dict[int, Turn]:
        from workbench.data.images import exif_orientation

        pose_set, found = case.pose_set(), {}
        for number in list(pose_set.labelled_of_image)[:MOST_HEADERS]:
            path = pose_set.images[number].path
            try:
                sizes = turned_by_exif(path) if pose_set.has_image(number) else None
            except (ValueError, OSError):
                continue
            if sizes is not None:
                found[number] = Turn(exif_orientation(path), *sizes[0])
        return found

    return case.once("turned images", read)


def _upright(found: Predictions, turned: Mapping[int, Turn]) -> Predictions:
    """Poses with those of turned images taken from stored to upright pixels."""
    points = found.keypoints.copy()
    for row, number in enumerate(found.image_id.tolist()):
        if number in turned:
            points[row] = upright_points(points[row], turned[number])
    return dataclasses.replace(found, keypoints=points)


def upright_points(points: Float[np.ndarray, "K 2"], turn: Turn) -> Float[np.ndarray, "K 2"]:
    """Pixels (x, y) of the stored picture, in the upright one.

    Source: EXIF 2.3, tag 0x0112: which side of the scene the first row and the first column show.
    """
    x, y = points[..., 0], points[..., 1]
    w, h = turn.width - 1, turn.height - 1
    pairs = {2: (w - x, y), 3: (w - x, h - y), 4: (x, h - y), 5: (y, x), 6: (h - y, x),
             7: (h - y, w - x), 8: (y, w - x)}  # fmt: skip
    return np.stack(pairs[turn.orientation], -1)


@dataclass(frozen=True, eq=False)
class Unturned(Wrapper):
    """A model that sees some pictures as they are stored, without their EXIF rotation.

    Attributes:
        model: the inner model.
        paths: files that are read so, where the stored picture has the size of the annotated one.
    """

    model: PoseModel
    paths: frozenset[str]
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """The inner model's batch, of the stored pictures."""
        return self.model.prepare([self._stored(sample) for sample in samples])

    def _stored(self, sample: Sample) -> Sample:
        if sample.path not in self.paths:
            return sample
        image = read_image(sample.path, upright=False)
        return dataclasses.replace(sample, image=image) if image.shape == sample.image.shape else sample


CAUSES: tuple[Cause, ...] = (RepeatedAnnotations(), TrainingImages(), TurnedImages())
