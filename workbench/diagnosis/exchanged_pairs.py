"""Keypoints that are exchanged in part of the annotations, whichever they are: front and hind paws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float, Int

# Instances in which two keypoints lie apart, from which their exchange is looked at.
LEAST_INSTANCES = 20
# Share of these in which they fit only exchanged; in more of them the order of the whole set is another.
LEAST_PART, MOST_PART = 0.1, 0.6
# Pairs that are exchanged together, and the share of the instances in which they are so.
LEAST_TOGETHER, TOGETHER = 2, 0.7
# Times the error in other instances that keypoints may lie from their labels in those with an exchange.
ALIKE = 2.0


def turned(
    points: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    scale: Float[np.ndarray, " N"],
    pairs: Int[np.ndarray, "P 2"],
    apart_by: float,
) -> tuple[Bool[np.ndarray, "N P"], Bool[np.ndarray, "N P"]]:
    """Which pairs lie apart, so that they tell something, and which of these fit only exchanged.

    Args:
        points: of the poses, image pixels; nan where absent.
        truth: (x, y, visibility) of their annotations, image pixels.
        scale: root of each box's area, image pixels.
        pairs: of keypoints.
        apart_by: least distance of two labels, as a share of `scale`.
    """
    a, b = pairs[:, 0], pairs[:, 1]
    seen = (truth[:, a, 2] > 0) & (truth[:, b, 2] > 0)
    width = _away(truth[:, a], truth[:, b])
    same = _away(points[:, a], truth[:, a]) + _away(points[:, b], truth[:, b])
    other = _away(points[:, a], truth[:, b]) + _away(points[:, b], truth[:, a])
    # A pose that is wrong either way says nothing.
    apart = seen & (width > apart_by * scale[:, None]) & (np.minimum(same, other) < width) & np.isfinite(same)
    return apart, apart & (other < same)


def _away(a: Float[np.ndarray, "N P _"], b: Float[np.ndarray, "N P _"]) -> Float[np.ndarray, "N P"]:
    return np.linalg.norm(a[..., :2] - b[..., :2], axis=-1)


def pairs_in_part(
    points: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    scale: Float[np.ndarray, " N"],
    mirror: Sequence[int],
    apart_by: float,
) -> Int[np.ndarray, "P 2"]:
    """Pairs of keypoints that are exchanged together in part of the instances; none of left and right.

    Args:
        points: of the poses, image pixels; nan where absent.
        truth: (x, y, visibility) of their annotations, image pixels.
        scale: root of each box's area, image pixels.
        mirror: the partner of each keypoint; () where no sides are known.
        apart_by: see `turned`.
    """
    K, none = points.shape[1], np.zeros((0, 2), int)
    sides = {(k, m) for k, m in enumerate(mirror)}
    every = np.array([(a, b) for a in range(K) for b in range(a + 1, K) if (a, b) not in sides])
    if len(points) < LEAST_INSTANCES or not len(every):
        return none
    apart, other = turned(points, truth, scale, every, apart_by)
    count = apart.sum(0)
    share = np.where(count >= LEAST_INSTANCES, other.sum(0) / np.maximum(count, 1), 0.0)
    able = np.flatnonzero((share >= LEAST_PART) & (share <= MOST_PART))
    chosen: list[int] = []
    for pair in sorted(able.tolist(), key=lambda p: -share[p]):
        taken = {k for one in chosen for k in every[one].tolist()}
        if taken & set(every[pair].tolist()):
            continue
        # One mistake: where the first pair is exchanged the others are, and nowhere else.
        both = apart[:, pair] & apart[:, chosen[0]] if chosen else apart[:, pair]
        alike = other[:, pair] == other[:, chosen[0]] if chosen else both
        either = both & (other[:, pair] | (other[:, chosen[0]] if chosen else other[:, pair]))
        if not chosen or (either.any() and alike[either].mean() >= TOGETHER):
            chosen.append(pair)
    return every[chosen] if len(chosen) >= LEAST_TOGETHER else none


def is_of_labels(
    points: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 3"],
    scale: Float[np.ndarray, " N"],
    pairs: Int[np.ndarray, "P 2"],
    chosen: Bool[np.ndarray, " N"],
) -> bool:
    """Whether an exchange is one of the labels, and not a pose that the network put the wrong way round.

    Labels that are exchanged leave all other keypoints where they are, and the poses fit them as well as they
    fit elsewhere once they are put back; of an animal that was taken for one that looks the other way
    neither holds.

    Args:
        points: of the poses, image pixels; nan where absent.
        truth: (x, y, visibility) of their annotations, image pixels.
        scale: root of each box's area, image pixels.
        pairs: of keypoints that are exchanged.
        chosen: instances in which they are.
    """
    order = np.arange(points.shape[1])
    order[pairs] = pairs[:, ::-1]
    exchanged = np.isin(order, pairs.ravel())
    put_back = np.where(chosen[:, None, None], truth[:, order], truth)
    error = np.where(put_back[..., 2] > 0, _away(points, put_back) / scale[:, None], np.nan)
    for part in (exchanged, ~exchanged):
        own, others = error[chosen][:, part], error[~chosen][:, part]
        measured = np.isfinite(own).any() and np.isfinite(others).any()
        if measured and np.nanmedian(own) > ALIKE * np.nanmedian(others):
            return False
    return True
