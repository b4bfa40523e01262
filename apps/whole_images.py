"""What does an epoch that finds everybody say of each annotated person? Whom it found in their box.

Compare walks from instance to instance. A bottom-up model is given no boxes and grouped image by image; here
every annotated box then asks for the person in it. Whoever was found beside the annotated ones has no row, so
AP of these rows is not that of the whole protocol, which `workbench evaluate` and `workbench compare` give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from workbench.evaluation import Predictions, Protocol
from workbench.evaluation.people import looking

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.models.bottom_up import BottomUp
    from workbench.records import PoseModel, Prediction

BOXES = "annotated: each asks for one of the people found in the whole image"


def found_in_boxes(
    model: PoseModel,
    pose_set: PoseSet,
    indices: Sequence[int],
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictions:
    """One row for each instance, in their order; all nan with score 0 where nobody was found.

    Args:
        model: bottom-up.
        pose_set: annotated.
        indices: of its instances.
        progress: called with (done, total) images.
        cancelled: asked before each image.

    Raises:
        Cancelled: of workbench.evaluation, as asked for.
        ValueError: the set does not fit the model, or a map holds a number that is not finite.
    """
    bottom_up = cast("BottomUp", model)
    asked: dict[int, list[int]] = {}
    for index in indices:
        asked.setdefault(pose_set.instances[index].image_id, []).append(index)
    found: dict[int, Prediction] = {}
    for seen in looking(bottom_up, pose_set, list(asked), progress=progress, cancelled=cancelled):
        (people,) = bottom_up.group(seen.outputs, seen.batch)
        for index in asked[seen.image_id]:
            found[index] = people.in_box(pose_set.instances[index].box)
    rows = [found[index] for index in indices]
    instances = [pose_set.instances[index] for index in indices]
    return Predictions(
        np.array([i.image_id for i in instances], np.int64),
        np.array([i.category_id for i in instances], np.int64),
        np.array([i.box for i in instances], float),
        np.stack([np.asarray(p.keypoints, float) for p in rows]),
        np.stack([np.asarray(p.scores, float) for p in rows]),
        np.array([p.score if np.isfinite(p.keypoints).any() else 0.0 for p in rows], float),
    )


def as_matched(protocol: Protocol) -> Protocol:
    """The model's rules, and what boxes were used for."""
    return replace(protocol, boxes=BOXES)
