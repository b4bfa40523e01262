"""To whom does each detection go? Keypoint after keypoint, by how near its tag is to each person's mean tag.

Source: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py match_by_tag; mmpose 1.3.2
codecs/associative_embedding.py _group_keypoints_by_tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workbench.decoding.grouping.assignment import Detections, JointStep, Outcome, assign, padded
from workbench.decoding.grouping.settings import GroupingSettings

if TYPE_CHECKING:
    from jaxtyping import Float


# Solvers add and subtract costs, which infinite ones do not survive; finite tags never cost as much.
_FARTHEST = 1e60


@dataclass(eq=False)
class Person:
    """Somebody on the way to being put together.

    Attributes:
        joints: keypoint -> (x, y, value, tag ...), float32.
        tags: that the mean is taken over; not always those in `joints`, see `deal`.
        mean: of tags.
    """

    joints: dict[int, Float[np.ndarray, " row"]] = field(default_factory=dict)
    tags: list[Float[np.ndarray, " L"]] = field(default_factory=list)
    mean: Float[np.ndarray, " L"] = field(default_factory=lambda: np.empty(0, np.float32))

    def take(self, joint: int, row: Float[np.ndarray, " row"], tag: Float[np.ndarray, " L"]) -> None:
        """One keypoint more."""
        self.joints[joint] = row
        self.tags.append(tag)
        # In float32, as the reference has it: the last bit decides at a threshold. What np.mean does, at a
        # quarter of its time: this is done once for every detection.
        self.mean = np.add.reduce(np.array(self.tags), 0) / np.float32(len(self.tags))


def deal(
    detections: Sequence[Detections],
    tags: Sequence[Float[np.ndarray, "M L"]],
    settings: GroupingSettings,
) -> tuple[list[Person], list[JointStep]]:
    """The people in the order in which they were first seen, and one step per keypoint.

    A person's key is the first tag value of the detection it began with. Two people cannot have equal keys:
    a detection that should begin a second one is written over the first one's keypoint, and the mean tag
    begins anew with it, as in the reference, whose people live in a dictionary.

    Args:
        detections: of each keypoint.
        tags: float32, read at those.
        settings: the order, the thresholds and limits, the costs.
    """
    people: dict[float, Person] = {}
    steps = []
    with np.errstate(over="ignore"):  # of means, see below
        for joint in settings.order(len(detections)):
            steps.append(_step(joint, detections[joint], tags[joint], people, settings))
    given = list(people.values())
    return (given[: settings.max_people] if settings.people_limit == "result" else given), steps


def _step(
    joint: int,
    found: Detections,
    tags: Float[np.ndarray, "M L"],
    people: dict[float, Person],
    settings: GroupingSettings,
) -> JointStep:
    """Deal out the detections of one keypoint among `people`, which grow."""
    rows = np.concatenate([found.points.astype(np.float32), found.values[:, None], tags], 1)
    keys = list(people)
    if settings.people_limit == "joining":
        keys = keys[: settings.max_people]
    # In float64, as the reference: its rows hold whole numbers beside tags.
    means = np.array([people[key].mean for key in keys], np.float32).reshape(len(keys), tags.shape[1])
    # A mean beyond float32 is infinitely far, as for the reference.
    with np.errstate(invalid="ignore"):
        distances = np.sqrt(np.square(tags.astype(float)[:, None] - means[None]).sum(2))
    distances[np.isnan(distances)] = np.inf
    costs, columns = np.empty((len(found), 0)), np.empty(0, int)
    full = (
        settings.ignore_too_much and settings.people_limit == "joining" and len(keys) == settings.max_people
    )
    if people and len(found) and not full:
        costs = distances
        if settings.use_detection_value:
            costs = np.round(distances) * 100 - found.values.astype(float)[:, None]
        costs = np.minimum(padded(costs), _FARTHEST)
        columns = assign(costs, len(keys), settings.solver)

    outcomes: list[Outcome] = []
    ended: list[float | None] = []
    for m in range(len(found)):
        if full:
            outcomes.append("dropped")
            ended.append(None)
            continue
        column = int(columns[m]) if len(columns) else len(keys)
        if column < len(keys) and distances[m, column] < settings.tag_threshold:
            key = keys[column]
            people[key].take(joint, rows[m], tags[m])
            outcomes.append("joined")
        else:
            key = float(tags[m, 0])
            outcomes.append("overwrote" if key in people else "new")
            person = people.setdefault(key, Person())
            person.tags.clear()
            person.take(joint, rows[m], tags[m])
        ended.append(key)
    places = {key: place for place, key in enumerate(people)}
    return JointStep(
        joint=joint,
        points=found.points,
        values=found.values,
        tags=tags,
        means=means,
        distances=distances,
        costs=costs,
        columns=columns,
        people=tuple(None if key is None else places[key] for key in ended),
        outcomes=tuple(outcomes),
    )
