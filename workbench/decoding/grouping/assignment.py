"""Where does each heatmap peak? The highest cells of their surroundings, above a threshold, the best few.

Source: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py HeatmapParser.nms and top_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.decoding.grouping.settings import GroupingSettings

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one keypoint, highest value first.

    Attributes:
        points: (x, y), whole cells.
        values: of the heatmap there.
    """

    points: Int[np.ndarray, "M 2"]
    values: Float[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.values)


NONE = Detections(np.zeros((0, 2), int), np.zeros(0, np.float32))
"""A keypoint that was not detected at all."""


def detect(heatmaps: Float[np.ndarray, "K H W"], settings: GroupingSettings) -> tuple[Detections, ...]:
    """The detections of each keypoint; only nms_kernel, top_k and detection_threshold count here.

    The reference suppresses, takes the top k and drops what is at or below the threshold; as the threshold
    is never negative and suppressed cells hold zero, dropping first leaves the same cells.

    Args:
        heatmaps: finite, float32.
        settings: the three.
    """
    import cv2

    kernel = np.ones((settings.nms_kernel, settings.nms_kernel), np.uint8)
    # The reference compares in float64, where the float32 nearest to .1 is above .1.
    below = np.float32(settings.detection_threshold)
    if float(below) > settings.detection_threshold:
        below = np.nextafter(below, np.float32(-np.inf))
    highest = np.empty(heatmaps.shape[1:], np.float32)
    found = []
    for heatmap in heatmaps:
        heatmap = np.ascontiguousarray(heatmap)
        # Outside the map there is nothing: cv2's own border value for dilation is the lowest float.
        cv2.dilate(heatmap, kernel, dst=highest)
        cells = np.flatnonzero((heatmap == highest) & (heatmap > below))
        cells = _highest(cells, heatmap, highest, settings.top_k)
        y, x = np.divmod(cells, heatmap.shape[1])
        found.append(Detections(np.stack([x, y], -1), heatmap.ravel()[cells]))
    return tuple(found)


def _highest(
    cells: Int[np.ndarray, " M"],
    heatmap: Float[np.ndarray, "H W"],
    highest: Float[np.ndarray, "H W"],
    top_k: int,
) -> Int[np.ndarray, " top"]:
    """The top_k cells by value, highest first."""
    values = heatmap.ravel()[cells]
    order = np.argsort(-values, kind="stable")
    ranked = values[order[: top_k + 1]]
    if (ranked[1:] < ranked[:-1]).all():
        return cells[order[:top_k]]
    # Equal values have no order of their own; the reference has the one that torch.topk leaves them in, and
    # the order decides who is first. Perfect maps are full of ones.
    import torch

    suppressed = torch.from_numpy(np.where(heatmap == highest, heatmap, np.float32(0)).ravel())
    chosen = suppressed.topk(min(top_k, heatmap.size)).indices.numpy()
    return chosen[: len(cells)]


# What does grouping leave behind: the people, and how each keypoint came to whom.


Outcome = Literal["joined", "new", "overwrote", "dropped"]


@dataclass(frozen=True, eq=False)
class JointStep:
    """How the detections of one keypoint were dealt out. M detections, G people to join, L tag values.

    Attributes:
        joint: index of the keypoint.
        points: (x, y) of the detections, whole cells, highest value first.
        values: of the heatmap there.
        tags: read there.
        means: mean tag of each person that could be joined.
        distances: between each detection's tag and each person's mean.
        costs: what the assignment minimised; columns beyond G (1e10) stand for "nobody". Empty where there
            was nobody to join yet.
        columns: the column given to each detection; empty where nothing was assigned.
        people: index, in the result, of the person each detection ended with; None when it was dropped.
        outcomes: ``joined`` a person; ``new`` person; ``overwrote``: it should have made a new person, but
            one with the same first tag value stands already, so the reference writes it over that one;
            ``dropped``: too many people.
    """

    joint: int
    points: Int[np.ndarray, "M 2"]
    values: Float[np.ndarray, " M"]
    tags: Float[np.ndarray, "M L"]
    means: Float[np.ndarray, "G L"]
    distances: Float[np.ndarray, "M G"]
    costs: Float[np.ndarray, "M columns"]
    columns: Int[np.ndarray, " assigned"]
    people: tuple[int | None, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, eq=False)
class Grouping:
    """People found in the maps of one image, in the order in which they were first seen.

    Attributes:
        keypoints: (x, y, value), x and y in cells of the given maps; as the protocol leaves them before the
            affine back to the image: with the default centre_shift, the centre of the first cell is
            (.5, .5). nan, nan, 0 where the person lacks the keypoint (the reference has (0, 0) there).
        tags: read at the detected keypoints; nan where there was none, filled ones included.
        scores: of the people: mean of all K values before refine, missing ones counted as 0.
        filled: keypoints that refine gave.
        steps: one per keypoint, in the order they were dealt out; empty without trace.
        note: what a person should know of this result, such as why it is empty; "" when nothing.
    """

    keypoints: Float[np.ndarray, "P K 3"]
    tags: Float[np.ndarray, "P K L"]
    scores: Float[np.ndarray, " P"]
    filled: Bool[np.ndarray, "P K"]
    steps: tuple[JointStep, ...] = ()
    note: str = ""

    def __len__(self) -> int:
        return len(self.keypoints)


# Which detection goes to which person, all together at the least cost?


NOBODY = 1e10
"""Cost of joining nobody. Source: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py."""

# Sums with NOBODY in them are rounded to 2e-6; a lead of this much survives any order of adding up.
_LEAD = 1e-3


def padded(costs: Float[np.ndarray, "M G"]) -> Float[np.ndarray, "M columns"]:
    """Costs with as many columns for nobody as there are more detections than people."""
    missing = max(costs.shape[0] - costs.shape[1], 0)
    return np.concatenate([costs, np.full((len(costs), missing), NOBODY)], 1)


def assign(
    costs: Float[np.ndarray, "M columns"], people: int, solver: str = "scipy"
) -> Int[np.ndarray, " M"]:
    """The column of each detection, at the least total cost.

    Args:
        costs: at least as many columns as rows.
        people: the first so many columns stand for people, the others for nobody.
        solver: ``scipy`` or ``munkres``; they differ only where several assignments cost the same.
    """
    if solver == "scipy":
        from scipy.optimize import linear_sum_assignment

        return linear_sum_assignment(costs)[1]
    if (columns := _obvious(costs, people)) is not None:
        return columns
    from munkres import Munkres

    return np.array([column for _, column in sorted(Munkres().compute(costs.tolist()))], int)


@lru_cache
def solver_text(solver: str) -> str:
    """The solver and its release, for a protocol."""
    from importlib.metadata import version

    return f"{solver} {version(solver)}"


def _obvious(costs: Float[np.ndarray, "M columns"], people: int) -> Int[np.ndarray, " M"] | None:
    """The only cheapest assignment, where everybody's first choice is another one's; None where not."""
    rows = len(costs)
    if rows <= people:
        choice, clear = _first_choices(costs[:, :people])
        return choice if clear else None
    # More detections than people: every person is taken, so the people choose.
    choice, clear = _first_choices(costs[:, :people].T)
    if not clear:
        return None
    columns = np.empty(rows, int)
    left = np.ones(rows, bool)
    left[choice] = False
    columns[choice] = np.arange(people)
    columns[left] = np.arange(people, rows)
    return columns


def _first_choices(costs: Float[np.ndarray, "choosers offers"]) -> tuple[Int[np.ndarray, " choosers"], bool]:
    """The cheapest offer of each chooser; and whether they are all different and clearly the cheapest."""
    choice = costs.argmin(1)
    if len(np.unique(choice)) < len(choice):
        return choice, False
    if costs.shape[1] == 1:
        return choice, True
    first, second = np.partition(costs, 1, axis=1)[:, :2].T
    return choice, bool((second - first > _LEAD).all())


# To whom does each detection go? Keypoint after keypoint, by how near its tag is to each person's mean tag.


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
