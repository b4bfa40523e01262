"""What do other rules reach on the images whose outputs are kept? No forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.evaluation import keypoint_ap, truth_of
from workbench.evaluation.people import Looked, category_of, predictions_of
from workbench.tags.knobs import Params, aggregation_of, grouping_of

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.models.bottom_up import BottomUp


@dataclass(frozen=True)
class Reached:
    """What some rules reach on some images.

    Attributes:
        figures: COCO's ten, by name; nan where there is nothing to be found.
        found: people.
        annotated: people that count.
        images: looked at.
    """

    figures: dict[str, float]
    found: int
    annotated: int
    images: int


@dataclass(frozen=True)
class _Bare:
    """As much of a run as the knobs' choices ask for."""

    model: BottomUp


def reached(
    model: BottomUp,
    kept: Sequence[Looked],
    pose_set: PoseSet,
    params: Params,
    progress: Callable[[int], None] | None = None,
) -> Reached:
    """Group every kept output by the knobs, and evaluate on those images.

    Args:
        model: whose outputs they are.
        kept: from `workbench.evaluation.people.looking`.
        pose_set: the annotations.
        params: the rules; `instance` and `step` do not matter.
        progress: called with the number of images done, before each.

    Raises:
        ValueError: nothing is kept, or the rules do not fit.
    """
    if not kept:
        raise ValueError("AP: no outputs are kept; look at some images first")
    bare: Any = _Bare(model)
    rules = grouping_of(params, bare, model), aggregation_of(params, model)
    ids, people = [], []
    for n, looked in enumerate(kept):
        if progress is not None:
            progress(n)
        ids.append(looked.image_id)
        people += model.group(looked.outputs, looked.batch, *rules)
    truth = truth_of(pose_set).on_images(ids)
    found = predictions_of(ids, people, category_of(pose_set), len(pose_set.skeleton))
    figures = keypoint_ap(truth, found.detections(), pose_set.skeleton.sigmas).figures
    return Reached(figures, len(found), int((~truth.ignored).sum()), len(ids))
