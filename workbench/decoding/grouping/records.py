"""What does grouping leave behind: the people, and how each keypoint came to whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float, Int

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
