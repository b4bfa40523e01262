"""Are the keypoints wrong, or only the order of the poses: AP under refined, raw and oracle scores?

AP needs scores that rank good poses above bad ones; where every score is the same, a network that finds every
keypoint still loses AP. So the same keypoints are ranked again, by the raw scores and by the true OKS (what a
perfect ranking would give). If the oracle gives the lost AP back it was ranking; if not, it is where the
keypoints lie.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.report import Report, plain
from workbench.evaluation import Evaluation, Interval, Predictions, evaluate, paired_bootstrap
from workbench.evaluation.protocol import pose_scores
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.ablation import RESAMPLES, Predicted
from workbench.inspectors.conditioning.variants import REFERENCE, TRAINED, UNREFINED

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.data.pose_set import PoseSet

ORACLE = "oracle"
# AP under perfect ranking by which another way must be better before localisation is blamed.
MATTERS = 0.02


@dataclass(frozen=True, eq=False)
class Ranked:
    """The keypoints of one way, ranked by one score.

    Attributes:
        keypoints: whose: ``as it is``, ``without refiner``, ``the way of training``.
        scores: whose: the same names, or ``oracle``.
        AP: with this ranking.
        AR: with this ranking.
        spread: standard deviation of the poses' scores over their mean; 0 where all are the same.
    """

    keypoints: str
    scores: str
    AP: float
    AR: float
    spread: float


@dataclass(frozen=True, eq=False)
class Ranking(Report):
    """The same keypoints under several scores.

    Attributes:
        title: of the model.
        rows: see Ranked.
        lost: AP that a perfect order of the poses would give back to the model as it is.
        given_back: what raw scores give back; None without a refiner at inference.
        elsewhere: what the best other way through these weights gives under perfect ranking; None without
            another way.
    """

    title: str
    rows: tuple[Ranked, ...]
    lost: float
    given_back: Interval | None
    elsewhere: Interval | None = None

    def of(self, keypoints: str, scores: str) -> Ranked:
        """One row.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if (row.keypoints, row.scores) == (keypoints, scores):
                return row
        raise KeyError(f"no AP of keypoints {keypoints!r} under scores {scores!r}")

    @property
    def verdict(self) -> str:
        """``ranking``, ``localisation``, ``both`` or ``neither`` fails.

        Ranking fails where raw scores give AP back for certain. Localisation fails where another way through
        the same weights is better for certain even with perfect ranking.
        """
        ranking = self.given_back is not None and self.given_back.low > 0
        # What a perfect order gives another way beyond this one is not the order's doing.
        other = self.elsewhere
        localisation = other is not None and other.low > 0 and other.delta > MATTERS
        return {(True, True): "both", (True, False): "ranking", (False, True): "localisation"}.get(
            (ranking, localisation), "neither"
        )

    def summary(self) -> str:
        here, oracle = self.of(REFERENCE, REFERENCE), self.of(REFERENCE, ORACLE)
        text = f"AP {here.AP:.3f} as ranked, {oracle.AP:.3f} with the same keypoints ranked perfectly"
        if self.given_back is not None:
            text += f", {self.of(REFERENCE, UNREFINED).AP:.3f} ranked by raw scores ({self.given_back})"
        said = {
            "ranking": "keypoints are where they should be, their order is broken: a ranking failure",
            "localisation": "another way through these weights places keypoints better: localisation fails",
            "both": "the order is broken, and other ways through the same weights place keypoints better",
            "neither": "neither the order nor the place is worse than these weights can do",
        }
        return f"{text}; {said[self.verdict]}"

    def plot(self) -> Figure:
        names = [f"{row.keypoints}, ranked by {_told(row)}" for row in self.rows]
        inks = [
            FINDING_COLOUR if (r.keypoints, r.scores) == (REFERENCE, REFERENCE)
            else RUN_COLOURS[2] if r.scores == ORACLE
            else RUN_COLOURS[0]
            for r in self.rows
        ]  # fmt: skip
        columns = [
            Bars("AP", np.array([r.AP for r in self.rows]), inks, span=(0, 1)),
            Bars("AR", np.array([r.AR for r in self.rows]), QUIET_COLOUR, span=(0, 1)),
            Bars(
                "spread of the poses' scores (std / mean)",
                np.array([r.spread for r in self.rows]),
                QUIET_COLOUR,
            ),
        ]
        return bars_figure(self.summary(), names, columns)

    def table(self) -> list[dict[str, Any]]:
        return [plain(dataclasses.asdict(row)) for row in self.rows]


def _told(row: Ranked) -> str:
    if row.scores == ORACLE:
        return "true OKS"
    if row.scores == UNREFINED and row.keypoints == REFERENCE:
        return "raw scores"
    return "its own scores"


def ranking(
    found: Predicted,
    pose_set: PoseSet,
    title: str = "",
    seed: int = 0,
    stepped: Callable[[], None] = lambda: None,
) -> Ranking:
    """AP of every way's keypoints under its own, raw and perfect scores.

    Args:
        found: see ablation.predicted.
        pose_set: the annotations.
        title: of the model.
        seed: of the bootstrap.
        stepped: called before every evaluation; what it raises ends the ranking.
    """
    rows: list[Ranked] = []
    evaluations: dict[tuple[str, str], Evaluation] = {}

    def add(keypoints: str, scores: str, predictions: Predictions) -> None:
        stepped()
        made = evaluate(pose_set, predictions, indices=found.indices)
        evaluations[keypoints, scores] = made
        mean = float(predictions.score.mean())
        spread = float(predictions.score.std()) / mean if mean > 0 else 0.0
        rows.append(Ranked(keypoints, scores, made.figures["AP"], made.figures["AR"], spread))

    for name in (REFERENCE, UNREFINED, TRAINED):
        if name not in found.predictions:
            continue
        own = found.predictions[name]
        add(name, name, own)
        if name == REFERENCE and UNREFINED in found.predictions:
            add(name, UNREFINED, dataclasses.replace(own, score=found.predictions[UNREFINED].score))
        add(name, ORACLE, _perfect(own, found.evaluations[name]))
    given_back = elsewhere = None
    if (REFERENCE, UNREFINED) in evaluations:
        given_back = paired_bootstrap(
            evaluations[REFERENCE, REFERENCE].ap, evaluations[REFERENCE, UNREFINED].ap,
            resamples=RESAMPLES, seed=seed,
        )  # fmt: skip
    mine = evaluations[REFERENCE, ORACLE]
    others = [made for (name, by), made in evaluations.items() if by == ORACLE and name != REFERENCE]
    if others:
        best = max(others, key=lambda made: made.figures["AP"])
        elsewhere = paired_bootstrap(mine.ap, best.ap, resamples=RESAMPLES, seed=seed)
    lost = mine.figures["AP"] - evaluations[REFERENCE, REFERENCE].figures["AP"]
    return Ranking(title or "the model", tuple(rows), lost, given_back, elsewhere)


def _perfect(predictions: Predictions, evaluation: Evaluation) -> Predictions:
    """The same poses scored by their true OKS."""
    truth = evaluation.ap.truth
    oks = dict(zip(truth.ids.tolist(), evaluation.oks.tolist(), strict=True))
    ids = predictions.annotation_id
    own = np.array([oks[i] for i in ([] if ids is None else ids.tolist())])
    return dataclasses.replace(
        predictions, score=pose_scores(ORACLE, predictions.scores, np.ones(len(own)), own)
    )
