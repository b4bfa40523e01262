"""What do other rules reach on the images whose outputs are kept? No forward pass."""

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
    from workbench.data import PoseSet
    from workbench.models.bottom_up import Aggregation, BottomUp, Maps


# More gain nothing: memory is the limit.
_THREADS = 4


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


class KeptMaps:
    """Maps ready to be grouped, of the images that fit into some memory; the others' are made anew.

    Enlarging maps to the input's size takes longer than grouping them, and most rules leave them as they are.

    Args:
        room: bytes.
    """

    def __init__(self, room: int) -> None:
        self._room, self._taken = room, 0
        self._of: tuple[Any, ...] = ()
        self._held: dict[int, Maps] = {}
        self._lock = threading.Lock()

    def begin(self, whose: tuple[Any, ...]) -> None:
        """Drop what belongs to another model, set or aggregation."""
        with self._lock:
            if whose != self._of:
                self._of, self._taken, self._held = whose, 0, {}

    def of(self, model: BottomUp, looked: Looked, aggregation: Aggregation) -> Maps:
        """The maps of one image; kept while there is room."""
        with self._lock:
            whose, found = self._of, self._held.get(looked.image_id)
        if found is not None:
            return found
        maps = model.maps(looked.outputs, looked.batch, 0, aggregation)
        size = maps.heatmaps.nbytes + maps.tags.nbytes
        with self._lock:
            if whose == self._of and looked.image_id not in self._held and self._taken + size <= self._room:
                self._held[looked.image_id] = maps
                self._taken += size
        return maps


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
    maps: KeptMaps | None = None,
    whose: tuple[Any, ...] = (),
) -> Reached:
    """Group every kept output by the knobs, and evaluate on those images.

    Args:
        model: whose outputs they are.
        kept: from `workbench.evaluation.predict.looking`.
        pose_set: the annotations.
        params: the rules; `instance` and `step` do not matter.
        progress: called with the number of images done, before each.
        maps: kept from one call to the next, and filled here.
        whose: what they belong to besides the rules: checkpoint and set.

    Raises:
        ValueError: nothing is kept, or the rules do not fit.
    """
    if not kept:
        raise ValueError("AP: no outputs are kept; look at some images first")
    bare: Any = _Bare(model)
    rules, aggregation = grouping_of(params, bare, model), aggregation_of(params, model)
    maps = maps or KeptMaps(0)
    maps.begin((*whose, aggregation))

    def found_in(looked: Looked) -> People:
        own = maps.of(model, looked, aggregation)
        return People.of(group(own.heatmaps, own.tags, rules), own.to_image)

    ids, people = [looked.image_id for looked in kept], []
    # torch, numpy and cv2 let other threads run while they work.
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    try:
        waiting = [pool.submit(found_in, looked) for looked in kept]
        for n, one in enumerate(waiting):
            if progress is not None:
                progress(n)
            people.append(one.result())
    finally:
        pool.shutdown(cancel_futures=True)
    truth = truth_of(pose_set).on_images(ids)
    found = predictions_of(ids, people, category_of(pose_set), len(pose_set.skeleton))
    figures = keypoint_ap(truth, found.detections(), pose_set.skeleton.sigmas).figures
    return Reached(figures, len(found), int((~truth.ignored).sum()), len(ids))
