"""Mirror pairs of a model, found by test: which output of the mirrored image is which of the plain one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import PoseModel
from workbench.core.finding import Effect, Finding, Measurement
from workbench.core.report import counted
from workbench.core.statistics import finite_mean
from workbench.evaluation.probes.flip_passes import Passes
from workbench.evaluation.probes.intervention import NotTried
from workbench.evaluation.probes.judge import Judge
from workbench.evaluation.probes.probe_report import LEARNED
from workbench.skeletons import mirror_by_names

if TYPE_CHECKING:
    from jaxtyping import Float

# Distances between outputs are cut here, share of the box's longer side: a lost keypoint counts once.
_CUT = 0.3
# A pair is wrong if another partner is nearer by this share of the box's longer side.
_NEARER = 0.02
# Share of it that the mirrored image must reach with the pairs found: else the network, trained without
# flips, does not read mirrored images, and its nearest outputs are no partners.
_READS_MIRRORED = 0.5
# Value of a map at the partner's place, share of its peak, above which it has two peaks: .75 to 1 in small
# networks trained with wrong flips, below .5 in others, those of few steps among them.
_DOUBLED = 0.7


@dataclass(frozen=True)
class Pair:
    """One keypoint and its mirror partner.

    Attributes:
        keypoint: name.
        declared: name of the declared partner; "" where none is declared.
        found: name of the output that shows it in the mirrored image.
        distance_declared: mean distance in the mirrored image, share of the box's longer side.
        distance_found: of the partner that was found.
        wrong: the partner that was found is another one, beyond chance.
        doubled: value of its map at the partner's place, share of the peak; nan where not measured.
        decided: the mirrored images show which partner is right; False where a wrong one has no effect.
    """

    keypoint: str
    declared: str
    found: str
    distance_declared: float
    distance_found: float
    wrong: bool
    doubled: float
    decided: bool = True


def mirror_partners(
    model: PoseModel, judge: Judge, passes: Passes, declared: Sequence[int]
) -> tuple[list[Pair], tuple[int, ...]]:
    """Every keypoint's partner as found by test, and the pairs as an index for each keypoint.

    Args:
        model: whose skeleton declares the pairs.
        judge: with the labels.
        passes: the plain and the mirrored ones.
        declared: index of the declared partner of each keypoint.
    """
    K = len(declared)
    far = _far(judge, passes)
    cost = np.nanmean(np.where(np.isfinite(far), far, np.nan), 0) if len(far) else np.zeros((K, K))
    cost = np.nan_to_num(cost, nan=_CUT)
    found = _involution(cost, declared)
    doubled = [finite_mean(column) for column in passes.doubled.T]
    names = model.skeleton.keypoints
    made = []
    for k in range(K):
        wrong, decided = False, True
        if found[k] != declared[k]:
            change = np.nan_to_num(far[:, k, declared[k]] - far[:, k, found[k]])
            low, _ = judge.interval(change, np.ones(len(change)))
            wrong = bool(change.mean() > _NEARER and low > 0)
            decided = math.isfinite(low) or bool(change.mean() <= _NEARER)
        partner = names[declared[k]] if model.skeleton.mirror else ""
        made.append(
            Pair(names[k], partner, names[found[k]], float(cost[k, declared[k]]), float(cost[k, found[k]]),
                 wrong, doubled[k], decided)
        )  # fmt: skip
    # Only what is wrong beyond chance is proposed; both partners of a proposed pair change together.
    proposed = [found[k] if made[k].wrong or made[found[k]].wrong else declared[k] for k in range(K)]
    valid = all(proposed[proposed[k]] == k for k in range(K))
    return made, tuple(proposed) if valid else found


def unread_reason(judge: Judge, passes: Passes, declared: Sequence[int], found: Sequence[int]) -> str:
    """Why nothing is said of the pairs: the network does not read mirrored images; "" where it does.

    Args:
        judge: with the labels.
        passes: the plain and the mirrored ones.
        declared: index of the declared partner of each keypoint.
        found: index of the partner that was found.
    """
    plain = judge.value(passes.plain)
    if plain < LEARNED:
        return f"the network finds too little: {judge.measure} {plain:.3f} of the plain image"
    best = max(judge.value(passes.back[:, list(order)]) for order in (declared, found))
    if best >= _READS_MIRRORED * plain:
        return ""
    return (
        f"the network does not read mirrored images: {judge.measure} {plain:.3f} of the plain image and "
        f"{best:.3f} of the mirrored one, whatever the pairs, as after a training without flips; a flip test "
        "costs it something, and which pairs are right cannot be told from it"
    )


def unmirrored_sides(model: PoseModel, pairs: Sequence[Pair]) -> set[str]:
    """Keypoints of declared pairs, left and right by their names, that stay themselves when mirrored.

    Args:
        model: whose skeleton declares the pairs.
        pairs: every keypoint with its partner.
    """
    names = list(model.skeleton.keypoints)
    by_names = mirror_by_names(names)
    wrong = {p.keypoint for p in pairs if p.wrong and p.found == p.keypoint and p.declared}
    partners = {p.keypoint: p.declared for p in pairs}
    return {
        name
        for name in wrong
        if partners[name] in wrong and by_names and by_names[names.index(name)] == names.index(partners[name])
    }


def unmirrored_note(judge: Judge, passes: Passes, kept: set[str], declared: Sequence[int]) -> NotTried:
    """Why the pairs of these keypoints are not judged, with what the mirrored image gives in their order.

    Args:
        judge: with the labels.
        passes: the plain and the mirrored ones.
        kept: names of these keypoints.
        declared: index of the declared partner of each keypoint.
    """
    mirrored = judge.value(passes.back[:, list(declared)])
    return NotTried(
        "mirror pairs",
        f"{', '.join(sorted(kept))} stay themselves in the mirrored image, and their names are left and "
        "right: the network tells sides by their look, as after a training without flips, so the declared "
        "pairs are not called wrong; a flip test with them averages different keypoints "
        f"({judge.measure} of the mirrored image {mirrored:.3f}): train with flips, or leave it off",
    )


def _far(judge: Judge, passes: Passes) -> Float[np.ndarray, "N K K"]:
    """From each plain keypoint to each of the mirrored input, share of the box; nan where one is missing."""
    far = np.linalg.norm(passes.plain[:, :, None] - passes.back[:, None], axis=-1)
    return np.minimum(far / judge.lengths[:, None, None], _CUT)


def undecided_pairs(
    model: PoseModel, judge: Judge, passes: Passes, found: Sequence[int]
) -> tuple[set[int], list[NotTried]]:
    """Keypoints that mirror onto each other as well as onto themselves: a wrong pair has no effect.

    Args:
        model: whose skeleton declares the pairs.
        judge: with the labels.
        passes: the plain and the mirrored ones.
        found: index of the partner that was found.
    """
    far, names, said = _far(judge, passes), model.skeleton.keypoints, []
    alike: set[int] = set()
    seen = (judge.truth[..., 2] > 0)[..., None]
    labels = np.where(seen, judge.truth[..., :2], np.nan)
    for i, j in itertools.combinations(range(len(found)), 2):
        if (found[i], found[j]) not in ((i, j), (j, i)):
            continue
        nearer = far[:, i, j] + far[:, j, i] - far[:, i, i] - far[:, j, j]
        if abs(finite_mean(nearer)) / 2 < _NEARER:
            own, true = (
                finite_mean(np.linalg.norm(p[:, i] - p[:, j], axis=-1) / judge.lengths)
                for p in (passes.plain, labels)
            )
            said.append(f"{names[i]} and {names[j]} ({own:.3f} of the box apart, their labels {true:.3f})")
            alike |= {i, j}
    reason = (
        f"the outputs do not tell apart {', '.join(said)}: mirrored, each lies as near to itself as to "
        "the other, and a wrong pair of them would not be found; it takes a network that tells them "
        "apart, or people whose labels are further apart"
    )
    return alike, [NotTried("mirror pairs", reason)] if said else []


def _involution(cost: Float[np.ndarray, "K K"], declared: Sequence[int]) -> tuple[int, ...]:
    """The pairing of least total cost; where the best assignment has longer cycles, the declared one."""
    from scipy.optimize import linear_sum_assignment

    both = cost + cost.T
    # Equal costs keep the declared partner.
    both[np.arange(len(both)), list(declared)] -= 1e-6
    _, columns = linear_sum_assignment(both)
    found = [int(c) for c in columns]
    paired = [found[found[k]] == k for k in range(len(found))]
    mixed = [found[k] if paired[k] else declared[k] for k in range(len(found))]
    valid = all(mixed[mixed[k]] == k for k in range(len(mixed)))
    return tuple(mixed) if valid else tuple(declared)


def pair_findings(
    model: PoseModel,
    judge: Judge,
    passes: Passes,
    pairs: Sequence[Pair],
    declared: Sequence[int],
    found: Sequence[int],
) -> list[Finding]:
    """The wrong mirror partners in one finding; none where all are right.

    Args:
        model: whose skeleton declares them.
        judge: with the labels.
        passes: the plain and the mirrored ones.
        pairs: every keypoint with its partner.
        declared: index of the declared partner of each keypoint.
        found: index of the partner that was found.
    """
    wrong = [k for k, pair in enumerate(pairs) if pair.wrong]
    if not wrong:
        return []
    before, after = (judge.values(passes.back[:, list(order)]) for order in (declared, found))
    low, high = judge.interval(np.nan_to_num(after - before), np.isfinite(before).astype(float))
    delta = float(np.nanmean(after) - np.nanmean(before))
    names = model.skeleton.keypoints
    right = sorted({tuple(sorted((names[k], names[found[k]]))) for k in wrong})
    partners = ", ".join(f"{a} with {b}" if a != b else f"{a} with itself" for a, b in right)
    some = ", ".join(f"{names[k]} with {names[declared[k]]}" for k in wrong[:4])
    stated = "no mirror pairs are declared" if not model.skeleton.mirror else (
        f"{counted(len(wrong), 'keypoint has', 'keypoints have')} a wrong mirror partner "
        f"({some}{' ...' if len(wrong) > 4 else ''})"
    )  # fmt: skip
    far = (
        np.mean([pairs[k].distance_declared for k in wrong]),
        np.mean([pairs[k].distance_found for k in wrong]),
    )
    return [
        Finding(
            "mirror pairs",
            f"{stated}: in the mirrored image they are {far[0]:.3f} of the box away, the partners that were "
            f"found {far[1]:.3f}",
            f"Pair {partners}: mirror = {list(found)}.",
            (
                Measurement("distance to the declared partner", float(far[0]), "share of the box"),
                Measurement("distance to the partner found", float(far[1]), "share of the box"),
            ),
            Effect(f"{judge.measure} of the mirrored image", delta, low, high, judge.protocol),
            refuted_by="mirrored images of other poses in which the declared partners are nearer",
            severity="error" if model.skeleton.mirror else "warning",
            confidence="proved" if low > 0 else "measured",
        )
    ]


def doubled_findings(pairs: Sequence[Pair], judge: Judge) -> list[Finding]:
    """Maps with two peaks, as after a training whose flips exchange no keypoints; none where they have one.

    Args:
        pairs: every keypoint with its partner.
        judge: for its protocol.
    """
    known = [p for p in pairs if math.isfinite(p.doubled)]
    doubled = [p for p in known if p.doubled > _DOUBLED]
    if len(doubled) < 2 or len(doubled) < len(known) / 4:
        return []
    mean = float(np.mean([p.doubled for p in doubled]))
    return [
        Finding(
            "doubled mirror peaks",
            f"the maps of {len(doubled)} of {len(known)} sided keypoints have {mean:.0%} of their peak where "
            "the partner on the other side is labelled, in the plain image already",
            "Look at the flip augmentation of the training: mirrored images must exchange left and right "
            "keypoints (flip_indices of the data set's metainfo).",
            (Measurement("value at the partner's place", mean, "share of the peak", 0.0, judge.protocol),),
            refuted_by="a flip augmentation that exchanges left and right, and the same peaks all the same",
            assumption="the network is trained far enough to tell left from right",
            severity="warning",
            confidence="likely",
        )
    ]
