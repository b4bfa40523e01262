"""Which samples does the clinic look at: a few of several species, or many spread over a set?"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from workbench.core import Sample
    from workbench.data.pose_set import PoseSet


def several(pose_set: PoseSet, count: int) -> tuple[Sample, ...]:
    """Labelled samples, one of each category in turn, so that they differ in their text.

    Raises:
        ValueError: nothing is labelled.
    """
    by_category: dict[int, list[int]] = defaultdict(list)
    for i in pose_set.labelled:
        by_category[pose_set.instances[i].category_id].append(i)
    in_turn = [i for i in chain(*zip_longest(*by_category.values())) if i is not None]
    if not in_turn:
        raise ValueError(f"{pose_set.name}: no labelled instance")
    return tuple(pose_set.samples(in_turn[:count]))


def spread(pose_set: PoseSet, limit: int | None) -> list[int]:
    """Labelled instances, evenly through the set: all of them, or about `limit`.

    Raises:
        ValueError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected at least 1 instance, got {limit}")
    labelled = list(pose_set.labelled)
    if limit is None or limit >= len(labelled):
        return labelled
    return [labelled[int(i)] for i in np.linspace(0, len(labelled) - 1, limit).round()]
