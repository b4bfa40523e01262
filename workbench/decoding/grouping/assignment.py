"""Detections of each keypoint, and their assignment to people at the lowest cost.

Heatmap peaks become detections. Keypoint by keypoint, the detections are assigned to the people found so
far by the distance of their tags; a detection that is not assigned starts a new person.

Where only one assignment has the lowest cost, every solver finds it. Rounded distances often leave several,
and then the solver decides: on noisy tags that was 2.2 points of AP between two releases of the munkres
package. So the protocol names the solver and its release.

- ``scipy`` (default): scipy.optimize.linear_sum_assignment. With equal costs throughout, detection n goes to
  person n; the result depends on nothing but the costs.
- ``munkres``: the munkres package, which the reference and mmpose use.

Sources: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py HeatmapParser.nms, top_k, match_by_tag;
mmpose 1.3.2 codecs/associative_embedding.py _group_keypoints_by_tags; scipy.optimize.linear_sum_assignment
(Crouse, IEEE TAES 52(4), 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.decoding.grouping.settings import GroupingSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one keypoint, highest value first.

    Attributes:
        points: (x, y) in whole cells.
        values: of the heatmap at these cells.
    """

    points: Int[np.ndarray, "M 2"]
    values: Float[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.values)


NO_DETECTIONS = Detections(np.zeros((0, 2), int), np.zeros(0, np.float32))
"""Of a keypoint without any detection."""


def detect(heatmaps: Float[np.ndarray, "K H W"], settings: GroupingSettings) -> tuple[Detections, ...]:
    """The detections of each keypoint: local maxima above the threshold, the highest top_k.

    The reference suppresses, takes the top k and then applies the threshold. The threshold is never negative
    and suppressed cells are zero, so applying the threshold first gives the same cells.

    Args:
        heatmaps: finite, float32.
        settings: of them nms_kernel, top_k and detection_threshold.
    """
    import cv2

    kernel = np.ones((settings.nms_kernel, settings.nms_kernel), np.uint8)
    # The reference compares in float64, where the float32 closest to .1 is above .1.
    below = np.float32(settings.detection_threshold)
    if float(below) > settings.detection_threshold:
        below = np.nextafter(below, np.float32(-np.inf))
    dilated = np.empty(heatmaps.shape[1:], np.float32)
    found = []
    for heatmap in heatmaps:
        heatmap = np.ascontiguousarray(heatmap)
        if settings.nms_kernel == 1:
            highest, cells = heatmap, _high_cells(heatmap, below, settings.top_k)
        else:
            # cv2's border value for dilation is the lowest float, so that the border suppresses nothing.
            highest = cv2.dilate(heatmap, kernel, dst=dilated)
            cells = np.flatnonzero((heatmap == highest) & (heatmap > below))
        cells = _highest(cells, heatmap, highest, settings.top_k)
        y, x = np.divmod(cells, heatmap.shape[1])
        found.append(Detections(np.stack([x, y], -1), heatmap.ravel()[cells]))
    return tuple(found)


def _high_cells(heatmap: Float[np.ndarray, "H W"], below: np.float32, top_k: int) -> Int[np.ndarray, " M"]:
    """Cells above a threshold without suppression; of many those alone that may be among the top_k.

    The maxima of top_k + 1 rows are as many cells: what is lower than all of them cannot be among the top_k.
    """
    of_rows = heatmap.max(1)
    if len(of_rows) > top_k and (least := np.partition(of_rows, -top_k - 1)[-top_k - 1]) > below:
        return np.flatnonzero(heatmap >= least)
    return np.flatnonzero(heatmap > below)


def _highest(
    cells: Int[np.ndarray, " M"],
    heatmap: Float[np.ndarray, "H W"],
    highest: Float[np.ndarray, "H W"],
    top_k: int,
) -> Int[np.ndarray, " top"]:
    """The top_k cells by value, highest first."""
    values, count = heatmap.ravel()[cells], len(cells)
    if count > top_k + 1:  # sorting all of them takes longer than all else where nothing is suppressed
        near = values >= np.partition(values, -top_k - 1)[-top_k - 1]
        cells, values = cells[near], values[near]
    order = np.argsort(-values, kind="stable")
    ranked = values[order[: top_k + 1]]
    if (ranked[1:] < ranked[:-1]).all():
        return cells[order[:top_k]]
    # Equal values (perfect maps are full of ones) come in the order of torch.topk, as in the reference: the
    # order decides which person is first.
    import torch

    suppressed = torch.from_numpy(np.where(heatmap == highest, heatmap, np.float32(0)).ravel())
    chosen = suppressed.topk(min(top_k, heatmap.size)).indices.numpy()
    return chosen[:count]


Outcome = Literal["joined", "new", "overwrote", "dropped"]


@dataclass(frozen=True, eq=False)
class JointStep:
    """How the detections of one keypoint were assigned: M detections, G candidate people, L tag values.

    Attributes:
        joint: index of the keypoint.
        points: (x, y) of the detections, whole cells, highest value first.
        values: of the heatmap at these cells.
        tags: at these cells.
        means: mean tag of each candidate person.
        distances: between each detection's tag and each candidate's mean tag.
        costs: that the assignment minimised; columns beyond G (1e10) stand for "no person". Empty where there
            was no candidate yet.
        columns: assigned to each detection; empty where nothing was assigned.
        people: index, in the result, of the person each detection belongs to; None when it was dropped.
        outcomes: ``joined``: assigned to a person; ``new``: started a person; ``overwrote``: should have
            started a person, but one with the same first tag value exists, so that it replaced that person's
            keypoint, as in the reference; ``dropped``: too many people.
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
    """People found in the maps of one image, in the order of their first detection.

    Attributes:
        keypoints: (x, y, value), x and y in cells of the given maps; as the protocol leaves them before the
            affine back to the image: with the default centre_shift, the centre of the first cell is
            (.5, .5). nan, nan, 0 where the person lacks the keypoint (the reference has (0, 0) there).
        tags: at the detected keypoints; nan where not detected, filled keypoints included.
        scores: of the people: mean of all K values before refine, missing ones counted as 0.
        filled: keypoints filled in by refine.
        steps: one per keypoint, in joint order; empty without trace.
        note: notes for the user, such as why the result is empty; "" for none.
    """

    keypoints: Float[np.ndarray, "P K 3"]
    tags: Float[np.ndarray, "P K L"]
    scores: Float[np.ndarray, " P"]
    filled: Bool[np.ndarray, "P K"]
    steps: tuple[JointStep, ...] = ()
    note: str = ""

    def __len__(self) -> int:
        return len(self.keypoints)


NO_PERSON = 1e10
"""Cost of assigning a detection to no person.

Source: HRNet/HigherHRNet-Human-Pose-Estimation, lib/core/group.py.
"""

# Sums that contain NO_PERSON are rounded to 2e-6; this difference survives any order of summation.
_CLEAR = 1e-3


def with_no_person(costs: Float[np.ndarray, "M G"]) -> Float[np.ndarray, "M columns"]:
    """Costs with one "no person" column for each detection in excess of the people."""
    missing = max(costs.shape[0] - costs.shape[1], 0)
    return np.concatenate([costs, np.full((len(costs), missing), NO_PERSON)], 1)


def assign(
    costs: Float[np.ndarray, "M columns"], people: int, solver: str = "scipy"
) -> Int[np.ndarray, " M"]:
    """The column of each detection in the assignment of lowest total cost.

    Args:
        costs: at least as many columns as rows.
        people: number of columns that stand for people; the others stand for no person.
        solver: ``scipy`` or ``munkres``; they differ only where several assignments cost the same.
    """
    if solver == "scipy":
        from scipy.optimize import linear_sum_assignment

        return linear_sum_assignment(costs)[1]
    if (columns := _unambiguous(costs, people)) is not None:
        return columns
    from munkres import Munkres

    return np.array([column for _, column in sorted(Munkres().compute(costs.tolist()))], int)


@lru_cache
def solver_text(solver: str) -> str:
    """The solver and its release, for a protocol."""
    from importlib.metadata import version

    return f"{solver} {version(solver)}"


def _unambiguous(costs: Float[np.ndarray, "M columns"], people: int) -> Int[np.ndarray, " M"] | None:
    """The assignment where every first choice is different and clearly cheapest; None otherwise."""
    rows = len(costs)
    if rows <= people:
        choice, clear = _first_choices(costs[:, :people])
        return choice if clear else None
    # More detections than people: every person gets one, so the people choose.
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
    """The cheapest option of each row, and whether all are different and clearly the cheapest."""
    choice = costs.argmin(1)
    if len(np.unique(choice)) < len(choice):
        return choice, False
    if costs.shape[1] == 1:
        return choice, True
    first, second = np.partition(costs, 1, axis=1)[:, :2].T
    return choice, bool((second - first > _CLEAR).all())


# Solvers add and subtract costs, which must be finite; finite tags never reach this one.
_LARGEST_COST = 1e60


@dataclass(eq=False)
class Person:
    """A person during grouping.

    Attributes:
        joints: keypoint -> (x, y, value, tag ...), float32.
        tags: that the mean is taken over; not always those in `joints`, see `assign_detections`.
        mean: of tags.
    """

    joints: dict[int, Float[np.ndarray, " row"]] = field(default_factory=dict)
    tags: list[Float[np.ndarray, " L"]] = field(default_factory=list)
    mean: Float[np.ndarray, " L"] = field(default_factory=lambda: np.empty(0, np.float32))

    def take(self, joint: int, row: Float[np.ndarray, " row"], tag: Float[np.ndarray, " L"]) -> None:
        """Add one keypoint and update the mean tag.

        Args:
            joint: index of the keypoint.
            row: (x, y, value, tag ...).
            tag: taken into the mean.
        """
        self.joints[joint] = row
        self.tags.append(tag)
        # In float32, as in the reference: the last bit decides at a threshold. Same result as np.mean in a
        # quarter of its time; called once per detection.
        self.mean = np.add.reduce(np.array(self.tags), 0) / np.float32(len(self.tags))


def assign_detections(
    detections: Sequence[Detections], tags: Sequence[Float[np.ndarray, "M L"]], settings: GroupingSettings
) -> tuple[list[Person], list[JointStep]]:
    """The people in the order of their first detection, and one step per keypoint.

    As in the reference, people are stored in a dictionary by the first tag value of their first detection. A
    detection that should start a person with an existing key therefore replaces that person's keypoint, and
    the mean tag starts again with it.

    Args:
        detections: of each keypoint.
        tags: float32, at these detections.
        settings: joint order, thresholds, limits and costs.
    """
    people: dict[float, Person] = {}
    steps = []
    with np.errstate(over="ignore"):  # of distances, see _tag_distances
        for joint in settings.order(len(detections)):
            steps.append(_step(joint, detections[joint], tags[joint], people, settings))
    found = list(people.values())
    return (found[: settings.max_people] if settings.people_limit == "result" else found), steps


def _step(
    joint: int,
    found: Detections,
    tags: Float[np.ndarray, "M L"],
    people: dict[float, Person],
    settings: GroupingSettings,
) -> JointStep:
    """Assign the detections of one keypoint. New people are added to `people`."""
    keys = list(people)
    if settings.people_limit == "joining":
        keys = keys[: settings.max_people]
    # In float64, as in the reference, whose arrays hold pixel coordinates beside tags.
    means = np.array([people[key].mean for key in keys], np.float32).reshape(len(keys), tags.shape[1])
    distances = _tag_distances(tags, means)
    costs, columns = np.empty((len(found), 0)), np.empty(0, int)
    full = (
        settings.ignore_too_much and settings.people_limit == "joining" and len(keys) == settings.max_people
    )
    if people and len(found) and not full:
        costs = distances
        if settings.use_detection_value:
            costs = np.round(distances) * 100 - found.values.astype(float)[:, None]
        costs = np.minimum(with_no_person(costs), _LARGEST_COST)
        columns = assign(costs, len(keys), settings.solver)
    ends, outcomes = _add_to_people(
        joint, found, tags, people, keys, columns, distances < settings.tag_threshold, full
    )
    indices = {key: index for index, key in enumerate(people)}
    return JointStep(
        joint=joint,
        points=found.points,
        values=found.values,
        tags=tags,
        means=means,
        distances=distances,
        costs=costs,
        columns=columns,
        people=tuple(None if key is None else indices[key] for key in ends),
        outcomes=tuple(outcomes),
    )


def _tag_distances(
    tags: Float[np.ndarray, "M L"], means: Float[np.ndarray, "G L"]
) -> Float[np.ndarray, "M G"]:
    """Euclidean distances in float64; infinite where a mean overflowed float32, as in the reference."""
    with np.errstate(invalid="ignore"):
        distances = np.sqrt(np.square(tags.astype(float)[:, None] - means[None]).sum(2))
    distances[np.isnan(distances)] = np.inf
    return distances


def _add_to_people(
    joint: int,
    found: Detections,
    tags: Float[np.ndarray, "M L"],
    people: dict[float, Person],
    keys: Sequence[float],
    columns: Int[np.ndarray, " assigned"],
    near: Bool[np.ndarray, "M G"],
    full: bool,
) -> tuple[list[float | None], list[Outcome]]:
    """Give each detection to its person, or start a new one; the person's key and the outcome of each."""
    rows = np.concatenate([found.points.astype(np.float32), found.values[:, None], tags], 1)
    ends: list[float | None] = []
    outcomes: list[Outcome] = []
    for m in range(len(found)):
        if full:
            outcomes.append("dropped")
            ends.append(None)
            continue
        column = int(columns[m]) if len(columns) else len(keys)
        if column < len(keys) and near[m, column]:
            key = keys[column]
            people[key].take(joint, rows[m], tags[m])
            outcomes.append("joined")
        else:
            key = float(tags[m, 0])
            outcomes.append("overwrote" if key in people else "new")
            person = people.setdefault(key, Person())
            person.tags.clear()
            person.take(joint, rows[m], tags[m])
        ends.append(key)
    return ends, outcomes
