"""Cause in how poses are scored: the order of the scores does not rank the poses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, cast

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Finding, Measurement
from workbench.core.report import counted
from workbench.data.pose_set import PoseSet
from workbench.diagnosis.case import Case
from workbench.diagnosis.cause import Answer, Cause, RuledOut, Undone
from workbench.diagnosis.constant_outputs import check_varying
from workbench.diagnosis.evidence import Change
from workbench.diagnosis.label_causes import paired_rows
from workbench.evaluation.predictions import Predictions
from workbench.evaluation.protocol import pose_scores

# AP that tied scores must cost before they are an error.
LEAST_LOST = 0.05
# Rank correlation of score and OKS below which an order may be chance (healthy models: .38 up); orders drawn.
LITTLE_RANK, RANDOM_ORDERS, BY_CHANCE = 0.35, 20, "scores hardly tell good poses from bad"
# Poses on no instance, and their share of all, from which something is said.
LEAST_ALONE, SHARE_ALONE = 5, 0.05


class ScoreRule(Undone):
    """Poses are scored so that good ones do not come first, though a better score is at hand."""

    name, group = "score does not rank the poses", "output"
    refuted_by = "the same AP with poses ranked by their true OKS"
    symptom_of = ("scores flattened by the refiner", "untrained refiner", "keypoints held at one coordinate")

    RULES: ClassVar[dict[str, str]] = {
        "mean": "the mean of the keypoint scores",
        "min": "the lowest keypoint score",
        "bbox": "the box score",
    }

    def changes(self, case: Case) -> Iterable[Change]:
        for rule, words in self.RULES.items():
            yield self.change(
                f"poses ranked by {words}",
                "scores",
                lambda found, rule=rule: _rescored(found, rule),
                fix=f"score a pose by {words}, from the raw peaks of the network",
            )
        if _ranks_instances(case):
            return  # what ranks before them is on no instance: PosesOnNothing
        yield self.change(
            "poses ranked the other way round",
            "scores",
            lambda found: dataclasses.replace(
                found, score=found.score.min() + found.score.max() - found.score
            ),
            fix="write a score that is high for a good pose: these are low for good ones, as distances and "
            "losses are",
        )

    def test(self, case: Case) -> Answer:
        check_varying(case)
        answer = super().test(case)
        if not isinstance(answer, RuledOut):
            return answer
        return _ranking(self, case) or answer

    def waits_for(self, finding: Finding, others: Sequence[Finding]) -> str:
        """Poses that are wrong for another reason than the network's are not ranked by its scores."""
        wrong = next((one.cause for one in others if one.severity == "error"), "")
        waits = bool(wrong) and finding.evidence.startswith(BY_CHANCE)
        return f"undo '{wrong}' first: of poses that it spoils no score says much" if waits else ""


def _ranks_instances(case: Case) -> bool:
    """Whether the scores rank the poses that lie on instances by how good they are."""
    from scipy.stats import spearmanr

    known = _score_and_oks(case)
    if known is None or not np.ptp(known[0]) or not np.ptp(known[1]):
        return False
    return float(cast(Any, spearmanr(*known))[0]) >= LITTLE_RANK


def _score_and_oks(case: Case) -> tuple[np.ndarray, np.ndarray] | None:
    """Score and OKS of the poses on labelled instances; None of fewer than a dozen."""
    measured = case.evidence().measure()
    rows, instances = paired_rows(measured.predictions, case.pose_set())
    place = {int(number): i for i, number in enumerate(measured.ap.truth.ids)}
    ids = [one.annotation_id for one in instances]
    oks = np.array([measured.oks[place[n]] if n in place else np.nan for n in ids])
    known = np.isfinite(oks)
    return (measured.predictions.score[np.array(rows)][known], oks[known]) if known.sum() >= 12 else None


class PosesOnNothing(Undone):
    """Poses that lie on no annotated instance have higher scores than those that do."""

    name, group, needs = "poses on no instance rank first", "evaluation", ("results", "data")
    refuted_by = "instances at these places that the annotations leave out"

    def changes(self, case: Case) -> Iterable[Change]:
        found, pose_set = case.results(), case.pose_set()
        alone = _on_nothing(found, pose_set)
        if alone.sum() < LEAST_ALONE or alone.mean() < SHARE_ALONE or alone.all():
            raise NotAvailable(f"{int(alone.sum())} of {counted(len(alone), 'pose')} lie on no instance")
        scores = float(np.median(found.score[alone])), float(np.median(found.score[~alone]))
        if not scores[0] > scores[1]:
            raise NotAvailable(
                f"the poses on no instance have a score of {scores[0]:.2g} in the median, the others "
                f"{scores[1]:.2g}"
            )
        yield self.change(
            f"{counted(int(alone.sum()), 'pose')} left out whose middle is in no annotated box (their median "
            f"score is {scores[0]:.2g}, that of the others {scores[1]:.2g})",
            "scores",
            lambda poses: poses.take(np.flatnonzero(~_on_nothing(poses, pose_set))),
            fix="look at the detector behind these poses: a class that is no instance, a score of another "
            "column, boxes of another picture",
        )


def _on_nothing(found: Predictions, pose_set: PoseSet) -> np.ndarray:
    """Which poses have their middle in no box of their image's annotations, crowds among them."""
    boxes: dict[int, list[np.ndarray]] = {}
    for one in pose_set.instances:
        boxes.setdefault(one.image_id, []).append(np.array(one.box, float))
    known = np.isfinite(found.keypoints)
    middles = np.where(known, found.keypoints, 0).sum(1) / np.maximum(known.sum(1), 1)
    return np.array(
        [
            not any((box[:2] <= middle).all() and (middle <= box[2:]).all() for box in boxes.get(image, ()))
            for image, middle in zip(found.image_id.tolist(), middles, strict=True)
        ],
        bool,
    )


def _rescored(found: Predictions, rule: str) -> Predictions:
    box = np.ones(len(found))
    return dataclasses.replace(found, score=pose_scores(rule, np.nan_to_num(found.scores), box))


def _ranking(cause: Cause, case: Case) -> Answer | None:
    """What the order of the poses costs: AP of this order against the order by true OKS."""
    from scipy.stats import spearmanr

    measured = case.evidence().measure()
    rows, instances = paired_rows(measured.predictions, case.pose_set())
    if len(rows) < 12:
        return None
    found = measured.predictions.take(np.array(rows))
    place = {int(number): i for i, number in enumerate(measured.ap.truth.ids)}
    ids = [one.annotation_id for one in instances]
    oks = np.array([measured.oks[place[n]] if n in place else np.nan for n in ids])
    known = np.isfinite(oks)
    if known.sum() < 12:
        return None
    _, at, times = np.unique(np.round(found.score[known], 6), return_inverse=True, return_counts=True)
    tied, shared = 1 - len(times) / known.sum(), float((times[at] > 1).mean())
    ideal = dataclasses.replace(found, score=np.nan_to_num(oks))
    oracle = Change(cause.name, "poses ranked by their true OKS", "scores", lambda _: ideal)
    best = case.evidence().measure([oracle]).figures["AP"]
    lost = best - measured.figures["AP"]
    rank = (
        float(cast(Any, spearmanr(found.score[known], oks[known]))[0]) if np.ptp(found.score[known]) else 0.0
    )
    # Of poses of which none is right no order says anything.
    if np.ptp(found.score) == 0 and best >= LEAST_LOST:
        little = "; here that costs little" if lost < LEAST_LOST else ""
        unscored = _gives_coordinates_alone(case)
        return cause.found(
            f"all {counted(len(found), 'pose has', 'poses have')} the score {found.score[0]:.3g}, so their "
            f"order is chance{little}: ranked by true OKS AP would be {best:.3f} instead of "
            f"{measured.figures['AP']:.3f}",
            fix="write the score of each pose, for example the mean of its keypoints' peaks; a network that "
            "gives coordinates alone needs the detector's score or a confidence of its own",
            severity="remark" if unscored else "warning" if little or found.score[0] == 1 else "error",
        )
    if tied < 0.5 and lost >= LEAST_LOST and rank < LITTLE_RANK:
        return _by_chance(cause, case, found, rank, best)
    if tied < 0.5 or lost < LEAST_LOST:
        return None
    return cause.found(
        f"{shared:.0%} of the poses share their score with another; ranked by true OKS AP would be "
        f"{best:.3f} instead "
        f"of {measured.figures['AP']:.3f}: localisation is as it should be, the order of the poses is lost",
        fix="look for what flattens the scores before they are written (a softmax, a refiner, rounding)",
        numbers=(
            Measurement("share of tied scores", tied, expected=0.0),
            Measurement("rank correlation of score and OKS", rank),
            Measurement("AP ranked by true OKS", best),
        ),
    )


def _gives_coordinates_alone(case: Case) -> bool:
    """Whether the poses are those of a network without maps, which has no score that could be lost."""
    evidence = case.evidence()
    if evidence.model is None or evidence.model.codec is not None:
        return False
    outputs = evidence.forwards(rows=evidence.first)[0].outputs
    return set(outputs.given()) <= {"tokens"} and len(outputs.tokens) <= 1


def _by_chance(cause: Cause, case: Case, found: Predictions, rank: float, best: float) -> Answer:
    """Scores that say next to nothing of the poses, beside AP in random order and in the best one."""
    measured, random = case.evidence().measure(), np.random.default_rng(0)
    orders = []
    for _ in range(RANDOM_ORDERS):
        case.step()
        mixed = dataclasses.replace(found, score=random.permutation(found.score))
        drawn = Change(cause.name, "poses in random order", "scores", lambda _, mixed=mixed: mixed)
        orders.append(case.evidence().measure([drawn]).figures["AP"])
    return cause.found(
        f"{BY_CHANCE}: their rank correlation with OKS is {rank:.2f}; AP is "
        f"{measured.figures['AP']:.3f}, of poses in random order {min(orders):.3f} to {max(orders):.3f} in "
        f"{RANDOM_ORDERS} draws, and ranked by true OKS, which no score can surpass, {best:.3f}",
        fix="write the score that the network gives each pose (the mean of its keypoints' peaks, times the "
        "box's score), in the order of the poses",
        numbers=(
            Measurement("rank correlation of score and OKS", rank),
            Measurement("AP in random order, the best of the draws", max(orders)),
            Measurement("AP ranked by true OKS", best),
        ),
    )


CAUSES = (ScoreRule(), PosesOnNothing())
