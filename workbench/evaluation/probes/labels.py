"""What do a model's predictions say about the labels of a set? The order of the keypoints, exchanged sides.

A model that is right about most instances shows which labels are not: if in the whole set the labels of one
keypoint lie where the model puts another one, the set has its keypoints in another order; if in one instance
left and right labels lie where the model puts the other side, this instance has its sides exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import PoseModel, Sample
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.report import counted
from workbench.data.lints import Located
from workbench.evaluation.probes.judge import Judge, labelled
from workbench.evaluation.probes.passes import parts_of, passed

if TYPE_CHECKING:
    from jaxtyping import Float

# Distances are cut here, share of the box's longer side: a lost keypoint counts once.
_CUT = 0.3
# Another label must be nearer by this share of the box's longer side.
_NEARER = 0.02
# The same where too few instances have both labels for an interval: more than keypoints that a weak model
# confuses, such as eyes, lie apart.
_FAR_NEARER = 0.1
# Exchanged sides: each prediction lies this near to the other side's label, and the labels lie so far apart;
# shares of the box's longer side.
_ON, _APART = 0.1, 0.2
# Pairs that a model takes for each other in more than this share of the set say something about the model.
_MOST = 0.1


@dataclass(frozen=True)
class LabelCheck:
    """What predictions say about labels.

    Attributes:
        order: for each keypoint of the model the index of the label that shows it; the identity where the
            order is right.
        findings: with the annotations behind them.
        not_checked: cause -> why it could not be examined.
    """

    order: tuple[int, ...]
    findings: tuple[Located, ...]
    not_checked: dict[str, str]


def check_labels(
    model: PoseModel, samples: Sequence[Sample], *, progress: Callable[[int, int], None] | None = None
) -> LabelCheck:
    """Keypoint order and exchanged sides, from a model's predictions.

    Args:
        model: of as many keypoints as the labels, whatever they are called.
        samples: of the set, labelled.
        progress: called with (done, total) samples.

    Raises:
        ValueError: no labelled samples, or another number of keypoints.
    """
    annotated = labelled(model, samples)
    judge = Judge.of(model, annotated, model.skeleton.sigmas, 0)
    points: list[np.ndarray] = []
    done = 0
    for part in parts_of(model, annotated):
        points.append(passed(model, part)[2])
        done += len(part)
        if progress is not None:
            progress(done, len(annotated))
    found = np.concatenate(points)
    order, misplaced = _order(model, judge, found)
    if not _good(judge, found[:, np.argsort(order)]):
        value = f"{judge.measure} {judge.value(found):.2f}"
        why = f"the model finds too little on this set ({value}) to judge its labels"
        return LabelCheck(order, (), dict.fromkeys(("keypoint order", "left/right swaps"), why))
    if misplaced is not None:
        return LabelCheck(order, (Located(misplaced),), {})
    swaps = _swaps(model, judge, annotated, found)
    return LabelCheck(order, () if swaps is None else (swaps,), {})


def _good(judge: Judge, found: Float[np.ndarray, "N K 2"]) -> bool:
    """The model puts at least half of the labelled keypoints within a tenth of the box."""
    far = np.linalg.norm(found - judge.truth[..., :2], axis=-1) / judge.lengths[:, None]
    seen = judge.truth[..., 2] > 0
    return bool((far[seen] < 0.1).mean() > 0.5)  # nan is not near


def _order(
    model: PoseModel, judge: Judge, found: Float[np.ndarray, "N K 2"]
) -> tuple[tuple[int, ...], Finding | None]:
    """The label that shows each output, by least total distance; and the finding where it is another one."""
    from scipy.optimize import linear_sum_assignment

    K = found.shape[1]
    far = np.linalg.norm(found[:, :, None] - judge.truth[:, None, :, :2], axis=-1)
    far = np.minimum(far / judge.lengths[:, None, None], _CUT)
    seen = np.broadcast_to((judge.truth[..., 2] > 0)[:, None], far.shape)
    far = np.where(np.isfinite(far), far, _CUT)
    count = seen.sum(0)
    cost = np.divide((far * seen).sum(0), count, out=np.full((K, K), _CUT), where=count > 0)
    tied = cost - 1e-6 * np.eye(K)  # equal costs keep the stated order
    _, columns = linear_sum_assignment(tied)
    order = list(range(K))
    for cycle in _cycles([int(c) for c in columns]):
        to = [int(columns[k]) for k in cycle]
        both = seen[:, cycle, cycle] & seen[:, cycle, to]
        change = np.where(both, far[:, cycle, cycle] - far[:, cycle, to], 0)
        low, _ = judge.interval(change.sum(1), both.sum(1).astype(float))
        gain = float(change.sum() / max(both.sum(), 1))
        # Eyes that a weak model puts on each other are no other order; nor are those of few instances.
        if gain > _NEARER and (low > 0 or (not math.isfinite(low) and gain > _FAR_NEARER)):
            for k, j in zip(cycle, to, strict=True):
                order[k] = j
    moved = [k for k in range(K) if order[k] != k]
    finding = _order_finding(model, judge, found, order, moved, cost) if moved else None
    return tuple(order), finding


def _cycles(order: Sequence[int]) -> list[list[int]]:
    """The cycles of a permutation that are longer than one."""
    seen: set[int] = set()
    found = []
    for start in range(len(order)):
        cycle, k = [], start
        while k not in seen:
            seen.add(k)
            cycle.append(k)
            k = order[k]
        if len(cycle) > 1:
            found.append(cycle)
    return found


def _order_finding(
    model: PoseModel,
    judge: Judge,
    found: Float[np.ndarray, "N K 2"],
    order: Sequence[int],
    moved: Sequence[int],
    cost: Float[np.ndarray, "K K"],
) -> Finding:
    inverse = np.argsort(order)
    before, after = judge.values(found), judge.values(found[:, inverse])
    low, high = judge.interval(np.nan_to_num(after - before), np.isfinite(before).astype(float))
    names = model.skeleton.keypoints
    some = ", ".join(f"{names[k]} is at position {order[k]}" for k in moved[:4])
    wrong, right = cost[moved, moved].mean(), cost[moved, [order[k] for k in moved]].mean()
    return Finding(
        "keypoint order",
        f"{counted(len(moved), 'keypoint stands', 'keypoints stand')} at another position than the model's: "
        f"{some}{' ...' if len(moved) > 4 else ''}; labels are {wrong:.3f} of the box from the predictions "
        f"as stated and {right:.3f} in the order that was found",
        f"Read the labels in the order {list(order)}: positions in the file, by the model's keypoints.",
        (
            Measurement("distance in the stated order", float(wrong), "share of the box"),
            Measurement("distance in the order found", float(right), "share of the box"),
        ),
        Effect(judge.measure, float(np.nanmean(after) - np.nanmean(before)), low, high, judge.protocol),
        refuted_by="another model of the same keypoints that agrees with the stated order",
        confidence="proved" if low > 0 else "measured",
    )


def _swaps(
    model: PoseModel, judge: Judge, samples: Sequence[Sample], found: Float[np.ndarray, "N K 2"]
) -> Located | None:
    """Instances whose left labels lie where the model puts the right keypoints, and the other way round."""
    pairs = [(a, b) for a, b in enumerate(model.skeleton.mirror) if a < b]
    if not pairs:
        return None
    left, right = (list(side) for side in zip(*pairs, strict=True))
    truth, scale = judge.truth, judge.lengths[:, None]

    def far(output: list[int], label: list[int]) -> np.ndarray:
        return np.linalg.norm(found[:, output] - truth[:, label, :2], axis=-1) / scale

    apart = np.linalg.norm(truth[:, left, :2] - truth[:, right, :2], axis=-1) / scale > _APART
    seen = (truth[:, left, 2] > 0) & (truth[:, right, 2] > 0) & apart
    crossed = (far(left, right) < _ON) & (far(right, left) < _ON) & seen  # nan is not near
    straight = (far(left, left) < _ON) & (far(right, right) < _ON) & seen
    judged = crossed.sum() + straight.sum()
    if not crossed.any() or crossed.sum() > _MOST * judged:
        return None  # none, or the model itself takes one side for the other
    # One pair alone is a model's usual mistake (crossed legs); several that agree, against none, are not.
    rows = np.flatnonzero((crossed.sum(1) >= 2) & (straight.sum(1) == 0))
    if not len(rows):
        return None
    names = model.skeleton.keypoints
    first = int(rows[0])
    some = ", ".join(names[left[p]] for p in np.flatnonzero(crossed[first])[:3])
    text = (
        f"{counted(len(rows), 'instance has', 'instances have')} left and right exchanged: in "
        f"{samples[first].key} the labels of {some} "
        f"lie where the model puts the other side, within {_ON:g} of the box; over the set "
        f"{straight.sum() / judged:.0%} of the sided keypoints lie on their own side"
    )
    finding = Finding(
        "left/right swaps", text, "Look at these annotations and exchange the sides.",
        refuted_by="the pictures, or another model that agrees with the labels", severity="warning",
        assumption="the model tells left from right in these pictures", confidence="likely",
    )  # fmt: skip
    behind = [samples[int(n)] for n in rows]
    return Located(
        finding,
        tuple(s.annotation_id for s in behind if s.annotation_id is not None),
        tuple(dict.fromkeys(s.image_id for s in behind)),
    )
