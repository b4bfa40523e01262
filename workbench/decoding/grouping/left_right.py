"""Left/right collapse: does a network place both keypoints of a pair at one position?

A network that was trained with mirrored images whose labels were not exchanged, or for too short a time,
gives one peak for both ankles. Its AP50 can still be high, because half of the keypoints are correct. The
share of pairs that coincide in the prediction but not in the ground truth shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.finding import Finding, Measurement
from workbench.core.report import counted
from workbench.core.statistics import finite_median

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Shares of a person's size (the longer side of the keypoints' extent): closer than NEAR is one position,
# farther than APART are two. Pairs between them are not counted.
NEAR, APART = 0.04, 0.12
# Smallest number of pairs, and smallest share at one position. In a healthy network a tenth coincides, where
# limbs cross.
LEAST_PAIRS, LEAST_SHARE = 8, 0.5
# Larger without ground truth, because a true side view looks the same.
LEAST_SHARE_WITHOUT_TRUTH = 0.8


@dataclass(frozen=True)
class Pairs:
    """Counts of left/right pairs of the found people.

    Attributes:
        count: pairs that are apart in the ground truth; without it, all pairs with both keypoints found.
        together: of these, the pairs found at one position.
        annotated: ground truth was available.
        distance: median distance of the found pairs, share of the person's size; nan without pairs.
        true_distance: likewise in the ground truth.
    """

    count: int
    together: int
    annotated: bool
    distance: float
    true_distance: float

    @property
    def share(self) -> float:
        """Share of the pairs found at one position; nan without pairs."""
        return self.together / self.count if self.count else float("nan")

    @property
    def collapsed(self) -> bool:
        """Whether the network does not distinguish left from right."""
        least = LEAST_SHARE if self.annotated else LEAST_SHARE_WITHOUT_TRUTH
        return self.count >= LEAST_PAIRS and self.share >= least

    def text(self) -> str:
        """The finding with its evidence and what to do; "" where there is none."""
        if not self.collapsed:
            return ""
        if self.annotated:
            apart = (
                f"that are apart in the ground truth were found at one position (median distance "
                f"{self.distance:.2f} of a person's size, true {self.true_distance:.2f})"
            )
        else:
            apart = f"were found at one position (median distance {self.distance:.2f} of a person's size)"
        return (
            f"left/right pairs collapsed: {self.share:.0%} of {counted(self.count, 'pair')} {apart}; the "
            "network does not distinguish left from right: check that training exchanges labels when it "
            "mirrors images"
        )

    def finding(self) -> Finding | None:
        """The collapse as a record; None where there is none."""
        if not self.collapsed:
            return None
        share = Measurement("share of left/right pairs at one position", self.share, expected=0.0)
        fix = "check that training exchanges labels when it mirrors images"
        return Finding(
            "left/right pairs collapsed",
            self.text(),
            fix,
            (share,),
            refuted_by="images seen from the front in which the pairs lie apart",
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
        found: (x, y) of each image's people, any unit that the ground truth has as well; nan where missing.
            Keypoints filled in by refine may be included.
        truth: (x, y, visibility) of each image's annotated people; None without annotation.
        mirror: index of each keypoint's partner.
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
        apart_enough = np.isfinite(apart) & (np.nan_to_num(should, nan=0) > APART)
        distances.append(apart[apart_enough])
        trues.append(should[apart_enough])
    distance, true_distance = np.concatenate(distances), np.concatenate(trues)
    return Pairs(
        len(distance),
        int((distance < NEAR).sum()),
        truth is not None,
        finite_median(distance),
        finite_median(true_distance),
    )


def nearest_people(
    found: Float[np.ndarray, "P K 2"], true: Float[np.ndarray, "Q K 2"]
) -> Int[np.ndarray, " Q"]:
    """Index of the found person that matches each annotated one; -1 for none. Each is used at most once.

    Greedy, by the mean distance of the keypoints that both have; no match beyond the person's size.

    Args:
        found: (x, y); nan where missing.
        true: (x, y); nan where unlabelled.
    """
    own = np.full(len(true), -1)
    if not len(found) or not len(true):
        return own
    apart = np.linalg.norm(true[:, None] - found[None], axis=-1)
    both = np.isfinite(apart)
    total, count = np.where(both, apart, 0).sum(-1), both.sum(-1)
    mean = np.divide(total, count, out=np.full(total.shape, np.inf), where=count > 0) / _size(true)[:, None]
    for _ in range(min(mean.shape)):
        annotated, nearest = np.unravel_index(mean.argmin(), mean.shape)
        if not mean[annotated, nearest] < 1:
            break
        own[annotated] = nearest
        mean[annotated], mean[:, nearest] = np.inf, np.inf
    return own


def _size(points: Float[np.ndarray, "P K 2"]) -> Float[np.ndarray, " P"]:
    """The longer side of each person's extent; infinite with fewer than two keypoints."""
    known = np.isfinite(points)
    high, low = np.where(known, points, -np.inf).max(1), np.where(known, points, np.inf).min(1)
    size = (high - low).max(-1)
    return np.where(size > 0, size, np.inf)
