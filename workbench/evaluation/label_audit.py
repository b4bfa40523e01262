"""Which annotations do several models agree are wrong?

Models that are wrong at the same place accuse an annotation only where agreement cannot be their own mistake:
they are of different runs (the epochs of one run learned the same mistakes: they are one witness), they are
sure, each of them is rarely wrong at this keypoint elsewhere, and the place is not that of another annotated
keypoint, as in an inversion or a swap. How often they are surely wrong in other ways says how many of the
agreements to expect from their own mistakes: where these may be more than a few, nothing is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Finding, Measurement
from workbench.core.report import Report, counted, plain
from workbench.evaluation.calibration import pairs_of
from workbench.evaluation.file_runs import FileRun
from workbench.evaluation.keypoint_ap import AREA_RANGES
from workbench.evaluation.oks import keypoint_terms, paired_oks, term

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from plotly.graph_objects import Figure

    from workbench.core import Skeleton
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.evaluate import Evaluation
    from workbench.evaluation.ground_truth import GroundTruth
    from workbench.evaluation.predictions import Predictions

SWAPPED, SHIFTED, MISSING = "swapped sides", "shifted point", "missing person"

# A keypoint whose part of the OKS is below FAR lies far from its annotation, above NEAR it is right; two
# models whose part, measured between them, is above AGREE agree.
FAR, NEAR, AGREE = 0.1, 0.6, 0.4
# From this part of the OKS on a keypoint lies where another annotated one is: an inversion or a swap. Closer
# than NEAR, because eyes and ears are near each other in small people.
TAKEN = 0.8
# Models that find less than this median OKS of all instances are no judges.
JUDGE = 0.5
# Exchanged sides must bring a pose from below to above.
BELOW, ABOVE = 0.6, 0.75
# More other keypoints that any model puts far from their annotation are a bad pose, not a bad point.
OTHERS_FAR = 1
# Poses of several models are one person from this OKS on, and nobody's below STRANGE.
SAME, STRANGE = 0.7, 0.1
# Models are sure of a keypoint (pose) where their scores lie at this quantile of those that are right, in the
# mean over the models; a single one of them is not below UNSURE.
SURE, UNSURE = 0.3, 0.1
# A keypoint is judged where each model puts it far off in at most this part of the other instances, and whole
# poses where the sides seem exchanged in at most MANY of the others; of fewer than LEAST nothing is known.
MISTAKEN, MANY, LEAST = 0.1, 0.2, 20
# Agreements that are mistakes, for each sure mistake of one model alone: 0.75 where 3 of 5 mistakes are
# shared. Of the sure mistakes of two demo models on the drawn scenes, 28 to 55 of 100 were.
SHARED = 0.75
# Agreements are claims where at most this part of them may be the models' own mistakes.
EXPECTED = 0.5


@dataclass(frozen=True)
class Suspect:
    """One annotation that the models contradict together.

    Attributes:
        kind: SWAPPED, SHIFTED or MISSING.
        image_id: as in the annotation file.
        annotation_id: None for a missing person.
        keypoints: names of those concerned; () for a missing person.
        evidence: one sentence with its numbers.
        weight: how sure: the smallest agreement of the models, 0 to 1.
        place: (x, y) in image pixels where the models see it.
        claim: the models' own mistakes do not explain it; else it is only worth a look.
    """

    kind: str
    image_id: int | str
    annotation_id: int | str | None
    keypoints: tuple[str, ...]
    evidence: str
    weight: float
    place: tuple[float, float]
    claim: bool = True

    def finding(self) -> Finding:
        """As a finding, for lists with others."""
        who = "" if self.annotation_id is None else f", annotation {self.annotation_id}"
        return Finding(
            f"annotation: {self.kind}" if self.claim else "annotation to look at", self.evidence,
            "look at the image; correct what is wrong", (Measurement("agreement", self.weight),),
            severity="warning" if self.claim else "remark", confidence="likely" if self.claim else "possible",
            refuted_by="a person who sees the annotation lie right", where=f"image {self.image_id}{who}",
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class LabelAudit(Report):
    """What several models say about the annotations.

    Attributes:
        titles: of the models that judged.
        left_out: models that did not judge, with the reason.
        suspects: claims first, then the surest.
        annotations: looked at.
        independent: the models are known to be of different runs.
        by_names: only the names of their files tell the runs apart.
        unjudged: keypoints that the models place wrong too often, or that too few instances have.
        expected: kind -> agreements to be expected from the models' own mistakes.
    """

    titles: tuple[str, ...]
    left_out: tuple[str, ...]
    suspects: tuple[Suspect, ...]
    annotations: int
    independent: bool = True
    unjudged: tuple[str, ...] = ()
    expected: tuple[tuple[str, float], ...] = ()
    by_names: bool = False

    @property
    def claims(self) -> tuple[Suspect, ...]:
        """The suspects that the models' own mistakes do not explain."""
        return tuple(one for one in self.suspects if one.claim)

    def in_own_ids(self, pose_set: PoseSet) -> LabelAudit:
        """The same with the ids of the annotation file, which may be text."""
        suspects = (
            replace(
                one,
                image_id=pose_set.image_name(one.image_id),
                annotation_id=None
                if one.annotation_id is None
                else pose_set.instance_name(one.annotation_id),
            )
            for one in self.suspects
        )
        return replace(self, suspects=tuple(suspects))

    def summary(self) -> str:
        if len(self.titles) < 2:
            why = "; ".join(self.left_out)
            return f"Annotations were not audited: it takes two models that are good enough ({why})."
        given = f" (of {len(self.titles) + len(self.left_out)})" if self.left_out else ""
        who = f"{len(self.titles)} {'independent models' if self.independent else 'models'}{given}"
        if self.by_names:
            who += f" (different models by the names of their files: {', '.join(self.titles)})"
        if self.claims:
            text = (
                f"{who} agree that {len(self.claims)} of {counted(self.annotations, 'annotation')} may be "
                f"wrong: {_counted(self.claims)}. Look at them before you trust an AP."
            )
        else:
            text = f"{who} prove none of {counted(self.annotations, 'annotation')} wrong."
        if loose := [one for one in self.suspects if not one.claim]:
            text += f" Look at these, nothing is claimed: {_counted(loose)}; {self._why_no_claim(loose)}."
        elif not self.independent:
            text += f" {self._dependence().capitalize()}."
        if self.unjudged:
            text += (
                f" Not judged, because the models place them far off too often or too few are labelled: "
                f"{', '.join(self.unjudged)}."
            )
        if self.left_out:
            text += f" Left out as judges: {'; '.join(self.left_out)}."
        return text

    def _dependence(self) -> str:
        return (
            "epochs of one run are not independent: they share their mistakes, and agreement proves nothing; "
            "add a model of another run (files of one folder count as one run, unless their names differ in "
            "more than epoch and number)"
        )

    def _why_no_claim(self, loose: Sequence[Suspect]) -> str:
        if not self.independent:
            return self._dependence()
        kinds = [f"{n:.0f} of kind {kind}" for kind, n in self.expected if any(s.kind == kind for s in loose)]
        return f"the models' own mistakes may explain about {', '.join(kinds)}"

    def plot(self) -> Figure:
        """How many suspects of each kind."""
        from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, new_figure

        kinds = (SWAPPED, SHIFTED, MISSING)
        figure = new_figure(self.summary(), y="annotations")
        for claim, name, colour in ((True, "claimed", FINDING_COLOUR), (False, "to look at", QUIET_COLOUR)):
            own = [s.kind for s in self.suspects if s.claim == claim]
            counts = np.array([own.count(kind) for kind in kinds], np.float32)
            figure.add_bar(x=list(kinds), y=counts, name=name, marker={"color": colour})
        return figure.update_layout(barmode="stack")

    def table(self) -> list[dict[str, Any]]:
        return [
            {"kind": s.kind, "claim": s.claim, "image_id": s.image_id, "annotation_id": s.annotation_id,
             "keypoints": ", ".join(s.keypoints), "agreement": s.weight, "x": s.place[0], "y": s.place[1],
             "evidence": s.evidence}
            for s in self.suspects
        ]  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return plain(self.to_json())


def _counted(suspects: Sequence[Suspect]) -> str:
    kinds = [one.kind for one in suspects]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


@dataclass(frozen=True, eq=False)
class _Judge:
    """One model, brought into the order of the annotations.

    Attributes:
        rank: part of the right keypoints of this kind whose score it reaches, 0 to 1.
        far: the keypoint lies far from its annotation; False where nothing is labelled or predicted.
        strangers: rows of the predictions that belong to no annotation.
    """

    title: str
    run: str | FileRun
    predictions: Predictions
    keypoints: Float[np.ndarray, "G K 2"]
    terms: Float[np.ndarray, "G K"]
    oks: Float[np.ndarray, " G"]
    rank: Float[np.ndarray, "G K"]
    far: Bool[np.ndarray, "G K"]
    strangers: np.ndarray

    @property
    def middle(self) -> float:
        """Median OKS; 0 without an instance."""
        return float(np.nanmedian(self.oks)) if np.isfinite(self.oks).any() else 0.0


def label_audit(
    models: Sequence[tuple[str, Predictions, Evaluation]],
    skeleton: Skeleton,
    runs: Sequence[str | FileRun] | None = None,
) -> LabelAudit:
    """Annotations that several models contradict at the same place.

    Args:
        models: title, predictions and evaluation of each, on one set.
        skeleton: of the set: its mirror pairs say what swapped sides are.
        runs: name of the run that each model is of; None where nobody knows. The best model of each run
            judges; of a single run, or of unknown ones, all do, and nothing is claimed. Of models with the
            same poses one judges.

    Raises:
        ValueError: evaluations of different instances.
    """
    if not models:
        raise ValueError("audit: expected the predictions of two models or epochs, got none")
    truth, sigmas = models[0][2].ap.truth, models[0][2].ap.sigmas
    if any(not np.array_equal(truth.ids, one.ap.truth.ids) for _, _, one in models):
        raise ValueError("audit: expected evaluations of the same instances")
    names = [""] * len(models) if runs is None else list(runs)
    judges, left_out = _judges([_judge(*model, run) for model, run in zip(models, names, strict=True)])
    counting = int((~truth.ignored).sum())
    if len(judges) < 2:
        left_out += [f"{judge.title} is alone" for judge in judges]
        return LabelAudit((), tuple(left_out), (), counting)
    agreement = _agreement(judges, truth, sigmas)
    swapped, swaps = _swapped(judges, truth, sigmas, skeleton, agreement)
    shifted, shifts, unjudged = _shifted(
        judges, truth, sigmas, skeleton, agreement, {s.annotation_id for s in swapped}
    )
    missing, strangers = _missing(judges, truth, sigmas)
    independent = len({judge.run for judge in judges}) > 1
    expected = {SWAPPED: swaps, SHIFTED: shifts, MISSING: strangers}
    found = [
        replace(one, claim=independent and expected[one.kind] <= EXPECTED * len(own))
        for own in (swapped, shifted, missing)
        for one in own
    ]
    return LabelAudit(
        tuple(judge.title for judge in judges), tuple(left_out),
        tuple(sorted(found, key=lambda s: (not s.claim, -s.weight))), counting, independent,
        tuple(unjudged), tuple(expected.items()), independent and _by_names(judges),
    )  # fmt: skip


def _judges(judges: Sequence[_Judge]) -> tuple[list[_Judge], list[str]]:
    """Those good enough, the best of each run where there are several runs; why the others do not judge."""
    able: list[_Judge] = []
    out = [f"{j.title}: median OKS {j.middle:.2f}, below {JUDGE:g}" for j in judges if not j.middle >= JUDGE]
    for judge in (j for j in judges if j.middle >= JUDGE):
        twin = next((a for a in able if np.array_equal(a.keypoints, judge.keypoints, equal_nan=True)), None)
        if twin is None:
            able.append(judge)
        else:
            out.append(f"{judge.title}: the same poses as {twin.title}")
    if len({judge.run for judge in able}) < 2:
        return able, out
    best = {judge.run: judge for judge in sorted(able, key=lambda judge: judge.middle)}
    out += [f"{j.title}: of the same run as {best[j.run].title}" for j in able if best[j.run] is not j]
    return [judge for judge in able if best[judge.run] is judge], out


def _by_names(judges: Sequence[_Judge]) -> bool:
    """Whether all models that judge lie in one folder: only the names of their files tell them apart."""
    return len({judge.run.folder if isinstance(judge.run, FileRun) else judge.run for judge in judges}) < 2


def _judge(title: str, predictions: Predictions, evaluation: Evaluation, run: str | FileRun) -> _Judge:
    truth, sigmas = evaluation.ap.truth, evaluation.ap.sigmas
    G, K = truth.keypoints.shape[:2]
    points, scores = np.full((G, K, 2), np.nan), np.full((G, K), np.nan)
    rows, target = pairs_of(predictions, evaluation)
    points[target], scores[target] = predictions.keypoints[rows], predictions.scores[rows]
    terms = keypoint_terms(points, truth.keypoints, truth.area, sigmas)
    terms[truth.ignored] = np.nan
    oks = np.where(truth.ignored, np.nan, paired_oks(points, truth.keypoints, truth.area, sigmas))
    right = np.where(terms >= NEAR, scores, np.nan)
    rank = np.stack(
        [_ranks(own, c[np.isfinite(c)]) for own, c in zip(scores.T, right.T, strict=True)], axis=1
    )
    stranger = np.ones(len(predictions), bool)
    stranger[rows] = False
    far = (terms < FAR) & np.isfinite(points).all(2)
    return _Judge(title, run, predictions, points, terms, oks, rank, far, np.flatnonzero(stranger))


def _ranks(scores: Float[np.ndarray, " G"], right: Float[np.ndarray, " N"]) -> Float[np.ndarray, " G"]:
    """Which part of the scores that are right each score reaches, 0 to 1; 0 without a score."""
    if not len(right):
        return np.zeros(len(scores))
    return np.where(np.isnan(scores), 0.0, np.searchsorted(np.sort(right), scores, side="right") / len(right))


def _agreement(judges: Sequence[_Judge], truth: GroundTruth, sigmas: np.ndarray) -> Float[np.ndarray, "G K"]:
    """The smallest part of the OKS between any two models, as if one were the annotation; nan is none."""
    least = np.ones(truth.keypoints.shape[:2])
    for i, a in enumerate(judges):
        for b in judges[i + 1 :]:
            seen = np.concatenate([a.keypoints, np.full((*a.keypoints.shape[:2], 1), 2.0)], axis=2)
            least = np.minimum(least, np.nan_to_num(keypoint_terms(b.keypoints, seen, truth.area, sigmas)))
    return least


def _swapped(
    judges: Sequence[_Judge],
    truth: GroundTruth,
    sigmas: np.ndarray,
    skeleton: Skeleton,
    agreement: np.ndarray,
) -> tuple[list[Suspect], float]:
    """Poses that fit all models once left and right of the annotation are exchanged; chance agreements."""
    flip = list(skeleton.mirror) or list(range(len(skeleton)))
    moved = np.flatnonzero(np.array(flip) != np.arange(len(flip)))
    if not len(moved):
        return [], 0.0
    paired = truth.keypoints[:, moved]
    exchanged = truth.keypoints[:, flip][:, moved]
    poses = [judge.keypoints[:, moved] for judge in judges]
    own = [np.nan_to_num(paired_oks(p, paired, truth.area, sigmas[moved]), nan=1.0) for p in poses]
    other = [np.nan_to_num(paired_oks(p, exchanged, truth.area, sigmas[moved])) for p in poses]
    labelled = ((paired[..., 2] > 0).sum(1) >= 2) & ~truth.ignored
    each = (np.array(own) < BELOW) & (np.array(other) > ABOVE) & labelled
    together = each.all(0)
    # Where one model alone exchanges the sides it is its mistake: as many may be shared.
    alone = int((each.any(0) & ~together).sum())
    if together.sum() - 1 > MANY * max(int(labelled.sum()) - 1, 1):
        return [], _shared(alone)
    found = []
    for g in np.flatnonzero(together).tolist():
        points = [k for k in moved.tolist() if truth.keypoints[g, k, 2] > 0]
        low, high = max(one[g] for one in own), min(one[g] for one in other)
        found.append(
            _suspect(
                truth, g, SWAPPED, tuple(skeleton.keypoints[k] for k in points),
                f"the models' left and right fit the annotation with OKS {low:.2f} at most, and with sides "
                f"exchanged with {high:.2f} at least",
                float(agreement[g, points].mean()), judges[0].keypoints[g, points].mean(0),
            )
        )  # fmt: skip
    return found, _shared(alone)


def _shifted(
    judges: Sequence[_Judge],
    truth: GroundTruth,
    sigmas: np.ndarray,
    skeleton: Skeleton,
    agreement: np.ndarray,
    left_out: set[int | str | None],
) -> tuple[list[Suspect], float, list[str]]:
    """Single points that all models surely see at one free place; own mistakes; keypoints not judged."""
    counts = ~truth.ignored & ~np.isin(truth.ids, [one for one in left_out if one is not None])
    seen = (truth.keypoints[..., 2] > 0) & counts[:, None]
    far = np.array([judge.far & seen for judge in judges])
    rank = np.array([judge.rank for judge in judges])
    able = np.all([_able(one, seen, truth, skeleton) for one in far], axis=0)
    others = far.any(0).sum(1, keepdims=True) - far.any(0)
    good = able & (others <= OTHERS_FAR) & (seen.sum(1) >= 3)[:, None]
    free = good & ~np.array([_taken(judge.keypoints, truth, sigmas) for judge in judges])
    together = far.all(0) & (agreement >= AGREE)
    # No fault of the annotation: the other model finds the point there, or somewhere else.
    alone = int((far & ~together & free & (rank >= SURE)).sum())
    wrong = together & free.all(0) & (rank.mean(0) >= SURE) & (rank.min(0) >= UNSURE)
    found = [
        _shift(judges, truth, skeleton.keypoints[k], g, k, agreement[g, k])
        for g, k in np.argwhere(wrong).tolist()
    ]
    unjudged = seen.any(0) & ~able.any(0)
    return found, _shared(alone), [skeleton.keypoints[k] for k in np.flatnonzero(unjudged).tolist()]


def _shift(
    judges: Sequence[_Judge], truth: GroundTruth, name: str, g: int, k: int, agreement: float
) -> Suspect:
    places = np.array([judge.keypoints[g, k] for judge in judges])
    away = float(np.linalg.norm(places.mean(0) - truth.keypoints[g, k, :2]))
    among = float(np.max(np.linalg.norm(places - places.mean(0), axis=1)))
    evidence = (
        f"all models put {name} {away:.0f} px from the annotation and within {among:.1f} px of each other, "
        "with scores as on points that are right"
    )
    return _suspect(truth, g, SHIFTED, (name,), evidence, float(agreement), places.mean(0))


def _shared(alone: int) -> float:
    """How many mistakes all models share, at most, where so many are those of one model alone.

    One more than were seen, because none in a small set does not mean never.
    """
    return SHARED * (alone + 1)


def _taken(
    points: Float[np.ndarray, "G K 2"], truth: GroundTruth, sigmas: np.ndarray
) -> Bool[np.ndarray, "G K"]:
    """Whether a keypoint was put where another annotated one of the image lies, as in an inversion."""
    K = len(sigmas)
    found = np.zeros(points.shape[:2], bool)
    for image in np.unique(truth.image).tolist():
        own = np.flatnonzero(truth.image == image)
        marks = truth.keypoints[own].reshape(-1, 3)
        sizes = np.repeat(truth.area[own], K)
        for g in own.tolist():
            squared = ((points[g][:, None] - marks[None, :, :2]) ** 2).sum(2)
            near = term(squared, sigmas[:, None], sizes) > TAKEN
            near[np.arange(K), np.flatnonzero(own == g)[0] * K + np.arange(K)] = False
            found[g] = (near & (marks[:, 2] > 0)).any(1)
    return found


def _able(
    far: Bool[np.ndarray, "G K"], seen: Bool[np.ndarray, "G K"], truth: GroundTruth, skeleton: Skeleton
) -> Bool[np.ndarray, "G K"]:
    """Whether a model is rarely wrong at a keypoint (or its mirror) of the same visibility elsewhere."""
    flip = np.array(list(skeleton.mirror) or range(len(skeleton)))
    kind = np.minimum(np.arange(len(flip)), flip) + len(flip) * truth.keypoints[..., 2].astype(int)
    mistakes = np.bincount(kind[far], minlength=int(kind.max()) + 1)[kind] - far
    others = np.bincount(kind[seen], minlength=int(kind.max()) + 1)[kind] - 1
    return seen & (others >= LEAST) & (mistakes <= MISTAKEN * others)


def _suspect(
    truth: GroundTruth, g: int, kind: str, keypoints: tuple[str, ...], evidence: str, weight: float, place:
    np.ndarray
) -> Suspect:  # fmt: skip
    image = int(truth.image_ids[truth.image[g]])
    return Suspect(
        kind, image, int(truth.ids[g]), keypoints, evidence, weight, (float(place[0]), float(place[1]))
    )


def _missing(judges: Sequence[_Judge], truth: GroundTruth, sigmas: np.ndarray) -> tuple[list[Suspect], float]:
    """People whom every model finds, surely, where no annotation is; those that one alone finds.

    Nobody is missed by poses from the boxes of annotations.
    """
    if any(judge.predictions.annotation_id is not None for judge in judges):
        return [], 0.0
    sure = [_sure_strangers(judge, truth, sigmas) for judge in judges]
    lead, *others = judges
    found, matched = [], 0
    for row in sure[0]:
        poses = lead.predictions
        area = float(np.prod(np.nanmax(poses.keypoints[row], 0) - np.nanmin(poses.keypoints[row], 0)))
        if not area >= AREA_RANGES["medium"][0]:
            continue
        least = 1.0
        for judge, rows in zip(others, sure[1:], strict=True):
            own = [r for r in rows if judge.predictions.image_id[r] == poses.image_id[row]]
            least = min(
                least,
                max((_between(poses, row, judge.predictions, r, area, sigmas) for r in own), default=0.0),
            )
        if least >= SAME:
            matched += len(judges)
            place = np.nanmean(poses.keypoints[row], axis=0)
            found.append(
                Suspect(
                    MISSING, int(poses.image_id[row]), None, (),
                    f"every model finds a person here (OKS between them {least:.2f} at least, scores as of "
                    "people that are right), and no annotation is near",
                    least, (float(place[0]), float(place[1])),
                )
            )  # fmt: skip
    return found, _shared(max(sum(map(len, sure)) - matched, 0))


def _sure_strangers(judge: _Judge, truth: GroundTruth, sigmas: np.ndarray) -> list[int]:
    """Rows of poses that no annotation is near, with a score as of matched poses."""
    poses = judge.predictions
    matched = np.ones(len(poses), bool)
    matched[judge.strangers] = False
    bar = float(np.quantile(poses.score[matched], UNSURE)) if matched.any() else math.inf
    return [
        row for row in judge.strangers.tolist()
        if poses.score[row] >= bar and _best(poses, row, truth, sigmas) < STRANGE
    ]  # fmt: skip


def _between(a: Predictions, i: int, b: Predictions, j: int, area: float, sigmas: np.ndarray) -> float:
    """OKS of one pose as if the other were annotated."""
    seen = np.concatenate([a.keypoints[i], np.full((len(sigmas), 1), 2.0)], axis=1)
    seen[~np.isfinite(seen).all(1)] = 0.0
    return float(np.nan_to_num(paired_oks(b.keypoints[None, j], seen[None], np.array([area]), sigmas))[0])


def _best(poses: Predictions, row: int, truth: GroundTruth, sigmas: np.ndarray) -> float:
    """OKS of a pose with the nearest annotation of its image; 1 in the box of a crowd or of any person."""
    own = np.flatnonzero(truth.image_ids[truth.image] == poses.image_id[row])
    if not len(own):
        return 0.0
    points = np.repeat(poses.keypoints[None, row], len(own), axis=0)
    oks = np.nan_to_num(paired_oks(points, truth.keypoints[own], truth.area[own], sigmas))
    middle = np.nanmean(poses.keypoints[row], axis=0)
    low, size = truth.boxes[own, :2], truth.boxes[own, 2:]
    # In an annotated person's box it is a bad pose of that person before it is another person.
    return 1.0 if ((middle >= low) & (middle <= low + size)).all(1).any() else float(oks.max())
