"""Which annotations do several models, or epochs, agree are wrong?

A model that is wrong alone says nothing of the annotation. Where all of them put a keypoint at the same
place, with scores as high as on keypoints that are right, and the annotation lies far from it, the
annotation is a
suspect: sides swapped, a point shifted, or a person whom nobody annotated. Epochs of one run learned from
the same annotations and share their mistakes: such a finding is likely, not proved, and a person has to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Finding, Measurement
from workbench.core.report import Report, plain
from workbench.evaluation.calibration import pairs_of
from workbench.evaluation.keypoint_ap import AREA_RANGES
from workbench.evaluation.oks import keypoint_terms, paired_oks

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

    from workbench.core import Skeleton
    from workbench.evaluation.evaluate import Evaluation
    from workbench.evaluation.ground_truth import GroundTruth
    from workbench.evaluation.predictions import Predictions

SWAPPED, SHIFTED, MISSING = "swapped sides", "shifted point", "missing person"

# A keypoint whose part of the OKS is below FAR lies far from its annotation; two models whose part, measured
# between them, is above NEAR agree.
FAR, NEAR = 0.1, 0.6
# Models that find less than this median OKS of all instances are no judges, and none of a keypoint of
# which they find less than this median part: two that miss by far agree by chance now and then.
JUDGE = 0.5
# Exchanged sides must bring a pose from below to above.
BELOW, ABOVE = 0.6, 0.75
# Keypoints that lie far from their annotation in most of a pose are a bad pose, not a bad point.
MOST_FAR = 0.34
# Poses of several models are one person from this OKS on, and nobody's below STRANGE.
SAME, STRANGE = 0.7, 0.1
# At least half of the models must reach this quantile of their scores of keypoints (poses) that are right.
SURE = 0.1


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
    """

    kind: str
    image_id: int
    annotation_id: int | None
    keypoints: tuple[str, ...]
    evidence: str
    weight: float
    place: tuple[float, float]

    def finding(self) -> Finding:
        """As a finding, for lists with others."""
        who = "" if self.annotation_id is None else f", annotation {self.annotation_id}"
        return Finding(
            f"annotation: {self.kind}", self.evidence, "look at the image; correct what is wrong",
            (Measurement("agreement", self.weight),), severity="warning", confidence="likely",
            refuted_by="a person who sees the annotation lie right", where=f"image {self.image_id}{who}",
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class LabelAudit(Report):
    """What several models say about the annotations.

    Attributes:
        titles: of the models that judged.
        left_out: models that are too weak to judge, with the reason.
        suspects: the surest first.
        annotations: looked at.
    """

    titles: tuple[str, ...]
    left_out: tuple[str, ...]
    suspects: tuple[Suspect, ...]
    annotations: int

    def summary(self) -> str:
        if len(self.titles) < 2:
            why = "; ".join(self.left_out)
            return f"Annotations were not audited: it takes two models that are good enough ({why})."
        if not self.suspects:
            return f"{len(self.titles)} models contradict none of {self.annotations} annotations together."
        kinds = [one.kind for one in self.suspects]
        told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        return (
            f"{len(self.titles)} models agree that {len(self.suspects)} of {self.annotations} "
            "annotations may be wrong: "
            f"{told}. Look at them before you trust an AP."
        )

    def plot(self) -> Figure:
        """How many suspects of each kind."""
        import plotly.graph_objects as go

        from workbench.figures import FINDING_COLOUR, new_figure

        kinds = (SWAPPED, SHIFTED, MISSING)
        counts = np.array([sum(s.kind == kind for s in self.suspects) for kind in kinds], np.float32)
        figure = new_figure(self.summary(), y="annotations")
        return figure.add_trace(go.Bar(x=list(kinds), y=counts, marker={"color": FINDING_COLOUR}))

    def table(self) -> list[dict[str, Any]]:
        return [
            {"kind": s.kind, "image_id": s.image_id, "annotation_id": s.annotation_id,
             "keypoints": ", ".join(s.keypoints), "agreement": s.weight, "x": s.place[0], "y": s.place[1],
             "evidence": s.evidence}
            for s in self.suspects
        ]  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return plain(self.to_json())


@dataclass(frozen=True, eq=False)
class _Judge:
    """One model, brought into the order of the annotations."""

    title: str
    keypoints: Float[np.ndarray, "G K 2"]
    scores: Float[np.ndarray, "G K"]
    terms: Float[np.ndarray, "G K"]
    oks: Float[np.ndarray, " G"]
    sure: Float[np.ndarray, " K"]
    strangers: Float[np.ndarray, " S"]


def label_audit(models: Sequence[tuple[str, Predictions, Evaluation]], skeleton: Skeleton) -> LabelAudit:
    """Annotations that all models contradict at the same place.

    Args:
        models: title, predictions and evaluation of each, on one set.
        skeleton: of the set: its mirror pairs say what swapped sides are.

    Raises:
        ValueError: evaluations of different instances.
    """
    if not models:
        raise ValueError("audit: expected the predictions of two models or epochs, got none")
    first = models[0][2].ap
    if any(not np.array_equal(first.truth.ids, one.ap.truth.ids) for _, _, one in models):
        raise ValueError("audit: expected evaluations of the same instances")
    judges, left_out = [], []
    for title, predictions, evaluation in models:
        judge = _judge(title, predictions, evaluation)
        middle = float(np.nanmedian(judge.oks)) if np.isfinite(judge.oks).any() else 0.0
        if middle < JUDGE:
            left_out.append(f"{title}: median OKS {middle:.2f}, below {JUDGE:g}")
        else:
            judges.append(judge)
    counted = int((~first.truth.ignored).sum())
    if len(judges) < 2:
        left_out += [f"{judge.title} is alone" for judge in judges]
        return LabelAudit((), tuple(left_out), (), counted)
    sigmas = first.sigmas
    agreement = _agreement(judges, first.truth, sigmas)
    swapped = _swapped(judges, first.truth, sigmas, skeleton, agreement)
    found = [
        *swapped,
        *_shifted(judges, first.truth, skeleton, agreement, {s.annotation_id for s in swapped}),
    ]
    by_title = {title: (predictions, one) for title, predictions, one in models}
    found += _missing([(j, *by_title[j.title]) for j in judges], sigmas)
    suspects = sorted(found, key=lambda s: -s.weight)
    return LabelAudit(tuple(j.title for j in judges), tuple(left_out), tuple(suspects), counted)


def _judge(title: str, predictions: Predictions, evaluation: Evaluation) -> _Judge:
    truth, sigmas = evaluation.ap.truth, evaluation.ap.sigmas
    G, K = truth.keypoints.shape[:2]
    points, scores = np.full((G, K, 2), np.nan), np.full((G, K), np.nan)
    rows, target = pairs_of(predictions, evaluation)
    points[target], scores[target] = predictions.keypoints[rows], predictions.scores[rows]
    terms = np.where(
        truth.ignored[:, None], np.nan, keypoint_terms(points, truth.keypoints, truth.area, sigmas)
    )
    oks = np.where(truth.ignored, np.nan, paired_oks(points, truth.keypoints, truth.area, sigmas))
    right = np.where(terms >= NEAR, scores, np.nan)
    sure = np.array(
        [np.quantile(c[np.isfinite(c)], SURE) if np.isfinite(c).any() else np.inf for c in right.T]
    )
    found = np.zeros(len(predictions), bool)
    found[rows] = True
    return _Judge(title, points, scores, terms, oks, sure, np.flatnonzero(~found))


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
) -> list[Suspect]:
    """Poses that fit all models once left and right of the annotation are exchanged."""
    flip = list(skeleton.mirror) or list(range(len(skeleton)))
    moved = np.flatnonzero(np.array(flip) != np.arange(len(flip)))
    if not len(moved):
        return []
    exchanged = truth.keypoints[:, flip]
    other = [
        paired_oks(j.keypoints[:, moved], exchanged[:, moved], truth.area, sigmas[moved]) for j in judges
    ]
    own = [
        paired_oks(j.keypoints[:, moved], truth.keypoints[:, moved], truth.area, sigmas[moved])
        for j in judges
    ]
    low, high = np.max(np.nan_to_num(own, nan=1.0), axis=0), np.min(np.nan_to_num(other), axis=0)
    found = []
    for g in np.flatnonzero((low < BELOW) & (high > ABOVE) & ~truth.ignored).tolist():
        labelled = [k for k in moved.tolist() if truth.keypoints[g, k, 2] > 0]
        if len(labelled) < 2:
            continue
        middle = judges[0].keypoints[g, labelled].mean(0)
        found.append(
            _suspect(
                truth, g, SWAPPED, tuple(skeleton.keypoints[k] for k in labelled),
                f"the models' left and right fit the annotation with OKS {low[g]:.2f} at most, and with "
                "sides exchanged "
                f"with {high[g]:.2f} at least",
                float(agreement[g, labelled].mean()), middle,
            )
        )  # fmt: skip
    return found


def _shifted(
    judges: Sequence[_Judge],
    truth: GroundTruth,
    skeleton: Skeleton,
    agreement: np.ndarray,
    left_out: set[int | None],
) -> list[Suspect]:
    """Single points that all models see at one other place, with sure scores, in poses that fit otherwise."""
    far = np.all([np.nan_to_num(j.terms, nan=1.0) < FAR for j in judges], axis=0)
    sure = np.mean([np.nan_to_num(j.scores, nan=-np.inf) >= j.sure for j in judges], axis=0) >= 0.5
    labelled = (truth.keypoints[..., 2] > 0).sum(1)
    few = far.sum(1) <= np.maximum(MOST_FAR * labelled, 1)
    able = np.all([_medians(j.terms) >= JUDGE for j in judges], axis=0)
    found = []
    wrong = far & sure & (agreement >= NEAR) & able & (few & ~truth.ignored)[:, None]
    for g, k in np.argwhere(wrong).tolist():
        if int(truth.ids[g]) in left_out or labelled[g] < 3:
            continue
        places = np.array([j.keypoints[g, k] for j in judges])
        away = float(np.linalg.norm(places.mean(0) - truth.keypoints[g, k, :2]))
        among = float(np.max(np.linalg.norm(places - places.mean(0), axis=1)))
        found.append(
            _suspect(
                truth, g, SHIFTED, (skeleton.keypoints[k],),
                f"all models put {skeleton.keypoints[k]} {away:.0f} px from the annotation and within "
                f"{among:.1f} px "
                "of each other, with scores as on points that are right",
                float(agreement[g, k]), places.mean(0),
            )
        )  # fmt: skip
    return found


def _medians(terms: Float[np.ndarray, "G K"]) -> Float[np.ndarray, " K"]:
    """Median part of the OKS of each keypoint; 0 where it is labelled nowhere."""
    return np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else 0.0 for c in terms.T])


def _suspect(
    truth: GroundTruth, g: int, kind: str, keypoints: tuple[str, ...], evidence: str, weight: float, place:
    np.ndarray
) -> Suspect:  # fmt: skip
    image = int(truth.image_ids[truth.image[g]])
    return Suspect(
        kind, image, int(truth.ids[g]), keypoints, evidence, weight, (float(place[0]), float(place[1]))
    )


def _missing(judges: Sequence[tuple[_Judge, Predictions, Evaluation]], sigmas: np.ndarray) -> list[Suspect]:
    """People whom every model finds, surely, where no annotation is; not with boxes of annotations."""
    if any(predictions.annotation_id is not None for _, predictions, _ in judges):
        return []
    (lead, poses, evaluation), *others = judges
    bars = [_sure_pose(judge, predictions) for judge, predictions, _ in judges]
    found = []
    for row in lead.strangers.tolist():
        if poses.score[row] < bars[0] or _best(poses, row, evaluation.ap.truth, sigmas) >= STRANGE:
            continue
        area = float(np.prod(np.nanmax(poses.keypoints[row], 0) - np.nanmin(poses.keypoints[row], 0)))
        if not area >= AREA_RANGES["medium"][0]:
            continue
        least = 1.0
        for (judge, theirs, _), bar in zip(others, bars[1:], strict=True):
            own = [r for r in judge.strangers.tolist()
                   if theirs.image_id[r] == poses.image_id[row] and theirs.score[r] >= bar]  # fmt: skip
            least = min(least, max((_between(poses, row, theirs, r, area, sigmas) for r in own), default=0.0))
        if least >= SAME:
            place = np.nanmean(poses.keypoints[row], axis=0)
            found.append(
                Suspect(
                    MISSING, int(poses.image_id[row]), None, (),
                    f"every model finds a person here (OKS between them {least:.2f} at least, scores as "
                    "of people that "
                    "are right), and no annotation is near",
                    least, (float(place[0]), float(place[1])),
                )
            )  # fmt: skip
    return found


def _sure_pose(judge: _Judge, predictions: Predictions) -> float:
    """The score that people who are right reach in nine cases of ten."""
    strange = np.zeros(len(predictions), bool)
    strange[judge.strangers] = True
    right = predictions.score[~strange]
    return float(np.quantile(right, SURE)) if len(right) else np.inf


def _between(a: Predictions, i: int, b: Predictions, j: int, area: float, sigmas: np.ndarray) -> float:
    """OKS of one pose as if the other were annotated."""
    seen = np.concatenate([a.keypoints[i], np.full((len(sigmas), 1), 2.0)], axis=1)
    seen[~np.isfinite(seen).all(1)] = 0.0
    return float(np.nan_to_num(paired_oks(b.keypoints[None, j], seen[None], np.array([area]), sigmas))[0])


def _best(poses: Predictions, row: int, truth: GroundTruth, sigmas: np.ndarray) -> float:
    """OKS of a pose with the nearest annotation of its image, crowds and unlabelled people by their boxes."""
    own = np.flatnonzero(truth.image_ids[truth.image] == poses.image_id[row])
    if not len(own):
        return 0.0
    points = np.repeat(poses.keypoints[None, row], len(own), axis=0)
    oks = np.nan_to_num(paired_oks(points, truth.keypoints[own], truth.area[own], sigmas))
    middle = np.nanmean(poses.keypoints[row], axis=0)
    low, size = truth.boxes[own, :2], truth.boxes[own, 2:]
    inside = ((middle >= low) & (middle <= low + size)).all(1)
    unlabelled = truth.ignored[own]
    return 1.0 if (inside & unlabelled).any() else float(oks.max())
