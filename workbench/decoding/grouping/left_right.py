"""Does a network tell left from right, or put both keypoints of a pair on one place?

A network that is trained with mirrored images whose labels are not exchanged, or too shortly, answers with
one peak for both ankles. Its AP50 can be high all the same: half of the keypoints lie where they should. The
share of pairs that lie on one place in the prediction and apart in the truth tells it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

# Of a person's size, the longer side of the keypoints' extent: closer than NEAR is one place, farther than
# APART are two. Between them nothing is said.
NEAR, APART = 0.04, 0.12
# Fewer pairs prove nothing; of as many a healthy network puts a tenth on one place, where limbs cross.
LEAST_PAIRS, LEAST_SHARE = 8, 0.5
# Without a truth a side view looks alike, so that more is asked for.
LEAST_SHARE_WITHOUT_TRUTH = 0.8


@dataclass(frozen=True)
class Pairs:
    """Left/right pairs of the found people, counted.

    Attributes:
        count: pairs that are apart in the truth; without a truth all pairs of which both were found.
        together: of these, those found on one place.
        annotated: the truth was known.
        distance: median distance of a pair as found, as a share of the person's size; nan without pairs.
        true_distance: likewise in the truth.
    """

    count: int
    together: int
    annotated: bool
    distance: float
    true_distance: float

    @property
    def share(self) -> float:
        """Of the pairs, those on one place; nan without pairs."""
        return self.together / self.count if self.count else float("nan")

    @property
    def collapsed(self) -> bool:
        """Whether the network does not tell left from right."""
        least = LEAST_SHARE if self.annotated else LEAST_SHARE_WITHOUT_TRUTH
        return self.count >= LEAST_PAIRS and self.share >= least

    def text(self) -> str:
        """The finding and its evidence; "" where there is none."""
        if not self.collapsed:
            return ""
        if self.annotated:
            apart = (
                f"annotated apart are found on one place (median distance {self.distance:.2f} of a person's "
                f"size, true {self.true_distance:.2f})"
            )
        else:
            apart = f"are found on one place (median distance {self.distance:.2f} of a person's size)"
        return (
            f"left/right pairs collapsed: {self.share:.0%} of {self.count} pairs {apart}; the network does "
            "not tell left from right"
        )

    def facts(self) -> dict[str, float | int | bool | str | None]:
        """As plain data."""
        known = self.count > 0
        return {
            "pairs": self.count,
            "on_one_place": self.together,
            "share": self.share if known else None,
            "median_distance": self.distance if known else None,
            "median_true_distance": self.true_distance if known and self.annotated else None,
            "collapsed": self.collapsed,
            "text": self.text(),
        }


def pairs_of(
    found: Sequence[Float[np.ndarray, "P K 2"]],
    truth: Sequence[Float[np.ndarray, "Q K 3"]] | None,
    mirror: Sequence[int],
) -> Pairs:
    """Left/right pairs over several images.

    Args:
        found: (x, y) of each image's people; nan where there is none. Filled-in keypoints are left out by the
            caller or not: a filled one lies where the network says as well.
        truth: (x, y, visibility) of each image's annotated people; None where nothing is annotated.
        mirror: for each keypoint its partner.
    """
    left = [k for k, partner in enumerate(mirror) if k < partner]
    right = [mirror[k] for k in left]
    distances, trues = [np.zeros(0)], [np.zeros(0)]
    for n, people in enumerate(found):
        if not len(people) or not left:
            continue
        if truth is None:
            size = _size(people)[:, None]
            apart = np.linalg.norm(people[:, left] - people[:, right], axis=-1) / size
            distances.append(apart[np.isfinite(apart)])
            continue
        labelled = truth[n][..., 2] > 0
        true = np.where(labelled[..., None], truth[n][..., :2], np.nan)
        own = nearest_people(people, true)
        pairs, size = people[own], _size(true)[:, None]
        known = (own >= 0)[:, None]
        apart = np.where(known, np.linalg.norm(pairs[:, left] - pairs[:, right], axis=-1) / size, np.nan)
        should = np.linalg.norm(true[:, left] - true[:, right], axis=-1) / size
        counted = np.isfinite(apart) & (np.nan_to_num(should, nan=0) > APART)
        distances.append(apart[counted])
        trues.append(should[counted])
    distance, true_distance = np.concatenate(distances), np.concatenate(trues)
    return Pairs(
        len(distance),
        int((distance < NEAR).sum()),
        truth is not None,
        _median(distance),
        _median(true_distance),
    )


def nearest_people(found: Float[np.ndarray, "P K 2"], true: Float[np.ndarray, "Q K 2"]) -> np.ndarray:
    """For each annotated person the number of the found one that is it, -1 for none; nobody is taken twice.

    By the mean distance of the keypoints that both have; farther than a person's size is another one.
    """
    own = np.full(len(true), -1)
    if not len(found) or not len(true):
        return own
    apart = np.linalg.norm(true[:, None] - found[None], axis=-1)
    both = np.isfinite(apart)
    total, count = np.where(both, apart, 0).sum(-1), both.sum(-1)
    mean = np.divide(total, count, out=np.full(total.shape, np.inf), where=count > 0) / _size(true)[:, None]
    for _ in range(min(mean.shape)):
        who, whom = np.unravel_index(mean.argmin(), mean.shape)
        if not mean[who, whom] < 1:
            break
        own[who] = whom
        mean[who], mean[:, whom] = np.inf, np.inf
    return own


def _size(points: Float[np.ndarray, "P K 2"]) -> Float[np.ndarray, " P"]:
    """The longer side of each person's extent; infinite for one without two keypoints."""
    known = np.isfinite(points)
    high, low = np.where(known, points, -np.inf).max(1), np.where(known, points, np.inf).min(1)
    size = (high - low).max(-1)
    return np.where(size > 0, size, np.inf)


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")
