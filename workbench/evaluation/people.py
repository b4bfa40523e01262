"""What does a bottom-up model say about a whole data set? Image by image: nobody's box is given to it.

The passes over an image can be kept and read by other rules later: `looking` makes them, `predictions_of`
takes the people that any rules found in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import Batch, DecodeOptions, Groups, Outputs, PoseModel, Sample
from workbench.core.job import Cancelled
from workbench.core.run import run
from workbench.core.wrapping import Wrapper
from workbench.data.pose_set import check_images
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import DEFAULT, check_same_keypoints

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet
    from workbench.models.bottom_up import BottomUp, People


@dataclass(frozen=True, eq=False)
class Looked:
    """What all passes over one image left.

    Attributes:
        image_id: as in the annotation file.
        batch: of this image alone.
        outputs: of all passes, on the CPU.
    """

    image_id: int
    batch: Batch
    outputs: Outputs


def finds_people(model: PoseModel) -> bool:
    """Whether a model finds all people of an image by itself."""
    return isinstance(model, Groups)


def looking(
    model: BottomUp,
    pose_set: PoseSet,
    image_ids: Iterable[int] | None = None,
    *,
    flip: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Looked]:
    """Every image once through the network, one by one; nothing is kept here.

    Args:
        model: bottom-up.
        pose_set: images, annotated or not: what is found where nobody is counts as well.
        image_ids: of the set; all by default.
        flip: the mirrored image is looked at, too.
        progress: called with (done, total), first with 0.
        cancelled: asked before each image.

    Raises:
        ValueError: the model's keypoints are not the set's, several categories, no image, or a bad one.
        Cancelled: as asked for.
    """
    category_of(pose_set)
    check_same_keypoints(model.skeleton, pose_set.skeleton, pose_set.name)
    chosen = list(pose_set.images if image_ids is None else image_ids)
    if not chosen:
        raise ValueError(f"{pose_set.name}: nothing to predict: no image")
    check_images(pose_set, chosen)
    for done, image_id in enumerate(chosen):
        if progress is not None:
            progress(done, len(chosen))
        if cancelled is not None and cancelled():
            raise Cancelled(f"stopped after {done} of {len(chosen)} images")
        yield Looked(image_id, *passes_over(model, _whole(pose_set, image_id), flip))
    if progress is not None:
        progress(len(chosen), len(chosen))


def passes_over(model: BottomUp, whole: Sample, flip: bool = False) -> tuple[Batch, Outputs]:
    """One image through the network, plainly, at the model's other scales, and with flip mirrored."""
    seen = run(_Passing(model), [whole], flip=flip)
    return seen.batch, seen.outputs


def predict_people(
    model: BottomUp,
    pose_set: PoseSet,
    image_ids: Iterable[int] | None = None,
    *,
    flip: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictions:
    """Everybody that the model finds in the images of a set, by the model's own rules; no NMS.

    Args:
        model: bottom-up.
        pose_set: images.
        image_ids: as in `looking`, as are the others.
        flip: average with the mirrored image.
        progress: called with (done, total).
        cancelled: asked before each image.
    """
    ids, found = [], []
    for looked in looking(model, pose_set, image_ids, flip=flip, progress=progress, cancelled=cancelled):
        ids.append(looked.image_id)
        found += model.group(looked.outputs, looked.batch)
    return predictions_of(ids, found, category_of(pose_set), len(pose_set.skeleton))


def predictions_of(
    image_ids: Sequence[int], people: Sequence[People], category_id: int, keypoints: int
) -> Predictions:
    """People of several images as predictions: box and area are the extent of their keypoints.

    Args:
        image_ids: of the images.
        people: of each, in the same order.
        category_id: of all of them.
        keypoints: K, for when nobody is found at all.
    """
    counts = [len(p) for p in people]
    empty = np.zeros((0, keypoints))

    def column(of: Callable[[People], Any], first: np.ndarray) -> np.ndarray:
        return np.concatenate([first, *(of(p) for p in people)])

    return Predictions(
        np.repeat(np.array(image_ids, np.int64), counts),
        np.full(sum(counts), category_id, np.int64),
        column(lambda p: p.boxes, np.zeros((0, 4))),
        column(lambda p: p.keypoints, np.zeros((0, keypoints, 2))),
        column(lambda p: p.scores, empty),
        column(lambda p: p.score, np.zeros(0)),
    )


def category_of(pose_set: PoseSet) -> int:
    """The one category of a set.

    Raises:
        ValueError: it has several; heatmaps and tags do not say which one somebody is of.
    """
    used = {i.category_id for i in pose_set.instances}
    categories = used or set(pose_set.categories)
    if len(categories) != 1:
        raise ValueError(
            f"{pose_set.name} has {len(categories)} categories; a bottom-up model does not say which one it "
            "found, so name one with --category"
        )
    return next(iter(categories))


def check_wishes(
    *, boxes: object, options: DecodeOptions, score_rule: str = DEFAULT, nms: float | None = None
) -> None:
    """Raise ValueError for a wish that a bottom-up model would pass over."""
    if boxes is not None:
        raise ValueError(
            "boxes: a bottom-up model looks at whole images and finds people by itself; leave --boxes and "
            "--detector out"
        )
    if options != DecodeOptions():
        raise ValueError("decoder and score: a bottom-up model groups detections; leave both out")
    if score_rule != DEFAULT:
        raise ValueError(
            "pose score: a bottom-up model scores people by its grouping (mean of all keypoint values before "
            "missing ones are filled); leave --pose-score out"
        )
    if nms is not None and nms < 1:
        raise ValueError(
            "nms: a bottom-up model finds nobody twice, and its protocol has no NMS; leave it out"
        )


def _whole(pose_set: PoseSet, image_id: int) -> Sample:
    from workbench.data.boxes import whole_image

    pixels = pose_set.image(image_id)
    record = pose_set.images[image_id]
    return Sample(pixels, whole_image(pixels), key=record.path.stem, image_id=image_id, path=str(record.path))


class _Passing(Wrapper):
    """A bottom-up model whose outputs are not decoded: they are grouped by other rules later."""

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple:
        return ()
