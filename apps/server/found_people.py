"""What a bottom-up model finds in a set, for Compare: all people, and one of them for each instance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluation import Predictions
from workbench.evaluation.evaluate import images_of
from workbench.evaluation.predict import category_of, forward_passes, predictions_of

if TYPE_CHECKING:
    from workbench.core import Prediction
    from workbench.core.capabilities import GroupingModel
    from workbench.data import PoseSet
    from workbench.evaluation import Evaluation

# Best OKS below which nobody is near an annotation: its box then says whom to show.
NEAR = 0.01


@dataclass(frozen=True, eq=False)
class Found:
    """One pass over the images of a set.

    Attributes:
        people: everybody found, image by image.
        rows: for each instance asked for, in their order, the person in its box; nan and score 0 for nobody.
    """

    people: Predictions
    rows: Predictions


def found_people(
    model: GroupingModel,
    pose_set: PoseSet,
    indices: Sequence[int],
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Found:
    """Everybody in the images of these instances, and the one in each instance's box.

    Args:
        model: bottom-up.
        pose_set: annotated.
        indices: of its instances; the images are those of `workbench.evaluation.evaluate.images_of`.
        progress: called with (done, total) images.
        cancelled: asked before each image.

    Raises:
        Cancelled: of workbench.evaluation, as asked for.
        ValueError: the set does not fit the model, or a map holds a number that is not finite.
    """
    asked: dict[int, list[int]] = {}
    for index in indices:
        asked.setdefault(pose_set.instances[index].image_id, []).append(index)
    inside: dict[int, Prediction] = {}
    ids, people = [], []
    images = images_of(pose_set, indices)
    for seen in forward_passes(model, pose_set, images, progress=progress, cancelled=cancelled):
        (here,) = model.group(seen.outputs, seen.batch)
        ids.append(seen.image_id)
        people.append(here)
        for index in asked.get(seen.image_id, ()):
            inside[index] = here.in_box(pose_set.instances[index].box)
    rows = [inside[index] for index in indices]
    instances = [pose_set.instances[index] for index in indices]
    return Found(
        predictions_of(ids, people, category_of(pose_set), len(pose_set.skeleton)),
        Predictions(
            np.array([i.image_id for i in instances], np.int64),
            np.array([i.category_id for i in instances], np.int64),
            np.array([i.box for i in instances], float),
            np.stack([np.asarray(p.keypoints, float) for p in rows]),
            np.stack([np.asarray(p.scores, float) for p in rows]),
            np.array([p.score if np.isfinite(p.keypoints).any() else 0.0 for p in rows], float),
        ),
    )


def nearest_rows(
    rows: Predictions, people: Predictions, evaluation: Evaluation, ids: np.ndarray
) -> Predictions:
    """The rows, each with the person whose OKS with its annotation is the highest, where one is near.

    Args:
        rows: of `found_people`.
        people: of `found_people`, as evaluated.
        evaluation: of the people.
        ids: annotation id of each row.
    """
    truth, matches = evaluation.ap.truth, evaluation.ap.matches
    best, person = np.zeros(len(truth)), np.zeros(len(truth), int)
    order = np.argsort(matches.pair_oks, kind="stable")
    # Written in rising order: the last that is written is the best.
    best[matches.pair_truth[order]] = matches.pair_oks[order]
    person[matches.pair_truth[order]] = matches.detection[matches.pair_detection[order]]
    place = {number: row for row, number in enumerate(truth.ids.tolist())}
    at = np.array([place[number] for number in ids.tolist()], int)
    near = best[at] >= NEAR
    taken = people.take(person[at[near]])
    columns = {}
    for name in ("keypoints", "scores", "score"):
        columns[name] = getattr(rows, name).copy()
        columns[name][near] = getattr(taken, name)
    return replace(rows, **columns)
