"""AP of other grouping settings on images whose outputs are stored. No forward pass."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.decoding.grouping import group
from workbench.evaluation import keypoint_ap, truth_of
from workbench.evaluation.predict import Looked, category_of, predictions_of
from workbench.inspectors.grouping.replay import Params, aggregation_of, grouping_of
from workbench.models.bottom_up import People

if TYPE_CHECKING:
    from workbench.core.capabilities import GroupingModel
    from workbench.data import PoseSet
    from workbench.models.bottom_up import Aggregation, Maps


# More threads do not help: memory bandwidth is the limit.
_THREADS = 4


@dataclass(frozen=True)
class SetFigures:
    """Figures of some grouping settings on some images.

    Attributes:
        figures: COCO's ten, by name; nan where no annotation counts.
        found: number of people found.
        annotated: number of annotated people that count.
        images: number of images.
    """

    figures: dict[str, float]
    found: int
    annotated: int
    images: int


class MapCache:
    """Thread-safe cache of aggregated maps, of limited size.

    Enlarging maps to the input's size takes longer than grouping them, and most settings do not change the
    maps.

    Args:
        room: capacity in bytes; further maps are computed again each time.
    """

    def __init__(self, room: int) -> None:
        self._room, self._taken = room, 0
        self._of: tuple[Any, ...] = ()
        self._maps: dict[int, Maps] = {}
        self._lock = threading.Lock()

    def begin(self, whose: tuple[Any, ...]) -> None:
        """Clear the cache if its maps belong to another model, set or aggregation."""
        with self._lock:
            if whose != self._of:
                self._of, self._taken, self._maps = whose, 0, {}

    def of(self, model: GroupingModel, looked: Looked, aggregation: Aggregation) -> Maps:
        """The maps of one image; cached while there is room."""
        with self._lock:
            whose, found = self._of, self._maps.get(looked.image_id)
        if found is not None:
            return found
        maps = model.maps(looked.outputs, looked.batch, 0, aggregation)
        size = maps.heatmaps.nbytes + maps.tags.nbytes
        with self._lock:
            if whose == self._of and looked.image_id not in self._maps and self._taken + size <= self._room:
                self._maps[looked.image_id] = maps
                self._taken += size
        return maps


@dataclass(frozen=True)
class _ModelOnly:
    """The part of a run that the choices of the parameters need."""

    model: GroupingModel


def evaluate_settings(
    model: GroupingModel,
    stored: Sequence[Looked],
    pose_set: PoseSet,
    params: Params,
    progress: Callable[[int], None] | None = None,
    maps: MapCache | None = None,
    whose: tuple[Any, ...] = (),
) -> SetFigures:
    """Group every stored output with these parameters, and evaluate on those images.

    Args:
        model: of the outputs.
        stored: outputs, from `workbench.evaluation.predict`.
        pose_set: the annotations.
        params: `instance` and `step` are not used.
        progress: called with the number of images done, before each.
        maps: cache that is shared between calls.
        whose: key of the cached maps besides the aggregation: checkpoint and set.

    Raises:
        ValueError: no outputs are stored, or the parameters do not fit.
    """
    if not stored:
        raise ValueError("AP: no outputs are stored; run the model on some images first")
    bare: Any = _ModelOnly(model)
    rules, aggregation = grouping_of(params, bare, model), aggregation_of(params, model)
    maps = maps or MapCache(0)
    maps.begin((*whose, aggregation))

    def found_in(looked: Looked) -> People:
        own = maps.of(model, looked, aggregation)
        return People.of(group(own.heatmaps, own.tags, rules), own.to_image)

    ids, people = [looked.image_id for looked in stored], []
    # torch, numpy and cv2 release the interpreter lock while they compute.
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    try:
        waiting = [pool.submit(found_in, looked) for looked in stored]
        for n, one in enumerate(waiting):
            if progress is not None:
                progress(n)
            people.append(one.result())
    finally:
        pool.shutdown(cancel_futures=True)
    truth = truth_of(pose_set).on_images(ids)
    found = predictions_of(ids, people, category_of(pose_set), len(pose_set.skeleton))
    figures = keypoint_ap(truth, found.detections(), pose_set.skeleton.sigmas).figures
    return SetFigures(figures, len(found), int((~truth.ignored).sum()), len(ids))
