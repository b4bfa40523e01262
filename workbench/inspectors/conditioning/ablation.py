"""What does each part of the conditioning cost or give, in AP on a data set, with intervals?

In every batch of the set each variant makes its pass, so that all see the same crops. Every difference is
paired: the same images, drawn with replacement, for both sides. `ranking` evaluates the same keypoints with
other scores, which separates a wrong order of the poses from wrong places of the keypoints. `reader` is what
`workbench sweep --ablations conditioning` reads every checkpoint with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.conditioning import REFERENCE, TRAINED, UNREFINED
from workbench.core.hooks import OnceComputed
from workbench.core.report import Report, counted, plain
from workbench.evaluation import (
    Cancelled,
    Evaluation,
    Interval,
    Predictions,
    evaluate,
    paired_bootstrap,
    predict,
    protocol_of,
)
from workbench.evaluation.bootstrap import no_interval_text
from workbench.evaluation.protocol import pose_scores
from workbench.evaluation.sweeps.readings import Reader, VariantName, labelled_rows
from workbench.figures import FINDING_COLOUR, QUIET_COLOUR, RUN_COLOURS
from workbench.figures.bars import Bars, bars_figure
from workbench.inspectors.conditioning.passes import Switched, switches_of
from workbench.inspectors.conditioning.switches import INKS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.core import PoseModel
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.protocol import Protocol
    from workbench.evaluation.sweeps.rules import SweepRules


RESAMPLES = 500
SHOWN = ("AP", "AP50", "AP75", "AR")


@dataclass(frozen=True)
class Variant:
    """A network with one part changed or taken away.

    Attributes:
        name: for people.
        against: name of the variant that it is compared with; "" for the reference.
        kind: what is changed, see workbench.core.conditioning.Switch.
    """

    name: str
    against: str
    kind: str


@dataclass(frozen=True, eq=False)
class Predicted:
    """The predictions of every variant on the same instances.

    Attributes:
        variants: the reference first.
        predictions: by the variant's name.
        evaluations: by the variant's name.
        indices: instances of the set.
    """

    variants: tuple[Variant, ...]
    predictions: Mapping[str, Predictions]
    evaluations: Mapping[str, Evaluation]
    indices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Row:
    """One variant on the set.

    Attributes:
        name: of the variant.
        against: the variant that it is compared with.
        kind: what is changed.
        figures: COCO's ten.
        interval: of the difference of AP.
    """

    name: str
    against: str
    kind: str
    figures: dict[str, float]
    interval: Interval

    def facts(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        return plain(
            {
                "name": self.name,
                "against": self.against,
                "kind": self.kind,
                **{k: v for k, v in self.figures.items() if k in SHOWN},
                "delta": self.interval.delta,
                "low": self.interval.low,
                "high": self.interval.high,
            }
        )


@dataclass(frozen=True, eq=False)
class PartsCost(Report):
    """Every variant against the one that it is compared with.

    Attributes:
        title: of the model.
        reference: evaluation of the model as it is.
        variants: one row each.
    """

    title: str
    reference: Evaluation
    variants: tuple[Row, ...]

    @property
    def best(self) -> Row | None:
        """The variant that gains most AP, with an interval above 0; None without one."""
        gains = [row for row in self.variants if row.interval.low > 0]
        return max(gains, key=lambda row: row.interval.delta, default=None)

    def of(self, name: str) -> Row | None:
        """The row of a variant."""
        return next((row for row in self.variants if row.name == name), None)

    def summary(self) -> str:
        figures = self.reference.figures
        # The training log's AP, which stands beside it, is that of another set or of all its instances.
        rules = self.reference.protocol
        text = (
            f"{self.title}: AP {figures['AP']:.3f}, AR {figures['AR']:.3f} as it is, measured on "
            f"{counted(rules.instances, 'instance')} of {rules.data}"
        )
        if self.variants and not any(row.interval.measured for row in self.variants):
            why = no_interval_text(self.variants[0].interval.units)
            return f"{text}; {why}, so no change of AP is certain: take more images"
        if self.best is None:
            return f"{text}; no change gives any AP back for certain (95 % intervals)"
        row = self.best
        text += f"; '{row.name}' gives {row.interval} AP against '{row.against}'"
        spare = [
            f"'{r.name}'"
            for r in self.variants
            if r.kind in ("text", "condition") and r.interval.low <= 0 <= r.interval.high
        ]
        if spare:
            text += f"; no certain change of AP with {', '.join(spare)}"
        return text

    def plot(self) -> Figure:
        names = [
            row.name if row.against == REFERENCE else f"{row.name} (vs {row.against})"
            for row in self.variants
        ]
        deltas = np.array([row.interval.delta for row in self.variants])
        inks = [INKS[row.kind] for row in self.variants]
        notes = [f"{row.interval} against {row.against}" for row in self.variants]
        low, high = (
            np.array([getattr(row.interval, end) for row in self.variants]) for end in ("low", "high")
        )
        ap, ar = (np.array([row.figures[name] for row in self.variants]) for name in ("AP", "AR"))
        change = "change of AP, 95 % interval"
        columns = [
            Bars("AP", ap, inks, notes=notes, span=(0, 1)),
            Bars(change, deltas, inks, whiskers=high - deltas, notes=notes),
            Bars("AR", ar, QUIET_COLOUR, notes=notes, span=(0, 1)),
        ]
        figure = bars_figure(self.summary(), names, columns, (1, 1.6, 1))
        # A bootstrap interval need not lie evenly about the difference.
        down = (deltas - low).astype(np.float32)
        return figure.update_traces(
            error_x={"symmetric": False, "arrayminus": down}, selector={"name": change}
        )

    def table(self) -> list[dict[str, Any]]:
        return [row.facts() for row in self.variants]

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        return plain(
            {
                "summary": self.summary(),
                "title": self.title,
                "reference": {"name": REFERENCE, **self.reference.figures},
                "variants": self.table(),
                "protocol": self.reference.protocol.to_json(),
            }
        )


def predicted(
    model: PoseModel,
    pose_set: PoseSet,
    indices: Iterable[int] | None = None,
    *,
    title: str = "",
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    backbone: OnceComputed | None = None,
) -> Predicted:
    """Predictions and figures of every variant.

    Args:
        model: conditioned.
        pose_set: annotated.
        indices: instances; all labelled ones by default.
        title: what to call the model in the protocol.
        batch_size: crops in one pass.
        progress: called with (passes done, passes in all).
        cancelled: asked before every pass.
        backbone: of this model, with what it gave for some of the instances already.

    Raises:
        NotAvailable: the model declares no condition.
        Cancelled: as asked for.
        ValueError: the model's keypoints are not the set's.
    """
    chosen = tuple(pose_set.labelled if indices is None else indices)
    if not chosen:
        raise ValueError(f"{pose_set.name}: no labelled instance to predict")
    switches = switches_of(model, tuple(pose_set.samples(list(chosen[:2]))))
    batches: dict[tuple[Any, ...], Any] = {}
    edited = {s.name: Switched(model, s, batches) for s in switches}
    parts: dict[str, list[Predictions]] = {name: [] for name in edited}
    starts = range(0, len(chosen), batch_size)
    done = 0
    # What the switches change lies behind the backbone, which runs once for each batch.
    shared = backbone or OnceComputed.of(model.module, batch_size)
    for start in starts:
        rows = chosen[start : start + batch_size]
        if shared is not None and backbone is None:
            shared.forget()
        for name, changed in edited.items():
            if progress is not None:
                progress(done, len(starts) * len(edited))
            if cancelled is not None and cancelled():
                raise Cancelled(f"stopped after {start} of {counted(len(chosen), 'instance')}")
            with nullcontext() if shared is None else shared.reused():
                found = predict(changed, pose_set, indices=rows, batch_size=batch_size)
            parts[name].append(found)
            done += 1
    if progress is not None:
        progress(done, done)
    together = {name: Predictions.joined(found) for name, found in parts.items()}
    rules = protocol_of(model, checkpoint=title)
    return Predicted(
        variants=tuple(Variant(s.name, s.against, s.kind) for s in switches),
        predictions=together,
        evaluations={n: evaluate(pose_set, p, rules, indices=chosen) for n, p in together.items()},
        indices=chosen,
    )


def ablation(
    found: Predicted, title: str = "", resamples: int = RESAMPLES, stepped: Callable[[], None] = lambda: None
) -> PartsCost:
    """Every variant against the one that it is compared with.

    Args:
        found: see `predicted`.
        title: of the model.
        resamples: of the bootstrap.
        stepped: called before every variant; what it raises ends the ablation.
    """
    rows = []
    for variant in found.variants:
        if variant.name == REFERENCE:
            continue
        stepped()
        here, there = found.evaluations[variant.name], found.evaluations[variant.against]
        interval = paired_bootstrap(there.ap, here.ap, resamples=resamples)
        rows.append(Row(variant.name, variant.against, variant.kind, here.figures, interval))
    return PartsCost(title or "the model", found.evaluations[REFERENCE], tuple(rows))


# Ranking. AP needs scores that rank good poses above bad ones: where every score is the same, a network that
# finds every keypoint still loses AP. So the same keypoints are ranked again by the raw scores, and by the
# true OKS (a perfect ranking). What the perfect ranking gives back was lost by ranking, the rest by place.


ORACLE = "oracle"
# AP under perfect ranking that another path must gain before localisation is blamed.
MATTERS = 0.02


@dataclass(frozen=True, eq=False)
class Ranked:
    """The keypoints of one variant, ranked by one score.

    Attributes:
        keypoints: of which variant: ``as it is``, ``without refiner``, ``training path``.
        scores: of which variant, or ``oracle``.
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
        lost: AP that a perfect order of the poses would give back.
        given_back: AP that raw scores give back; None without a refiner at inference.
        elsewhere: AP that the best other path through these weights gains under perfect ranking; None without
            another path.
        measured: on how many instances of which set; "" where that is not known.
    """

    title: str
    rows: tuple[Ranked, ...]
    lost: float
    given_back: Interval | None
    elsewhere: Interval | None = None
    measured: str = ""

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

        Ranking fails where raw scores give AP back for certain. Localisation fails where another path through
        the same weights is better for certain even with perfect ranking.
        """
        ranking = self.given_back is not None and self.given_back.low > 0
        # A gain of another path under a perfect order is not caused by the order.
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
        if self.measured:
            text += f", measured on {self.measured}"
        meaning = {
            "ranking": "AP is lost by the order of the poses: rank them by the raw scores",
            "localisation": "AP is lost by the place of the keypoints: another path through these weights "
            "places them better",
            "both": "AP is lost by the order of the poses and by the place of the keypoints: another path "
            "through these weights places them better",
            "neither": "no other score or path through these weights is better for certain",
        }
        return f"{text}; {meaning[self.verdict]}"

    def plot(self) -> Figure:
        names = [f"{row.keypoints}, ranked by {_ranked_by(row)}" for row in self.rows]
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


def _ranked_by(row: Ranked) -> str:
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
    """AP of every path's keypoints under its own, raw and perfect scores.

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
    measured = f"{counted(mine.protocol.instances, 'instance')} of {mine.protocol.data}"
    return Ranking(title or "the model", tuple(rows), lost, given_back, elsewhere, measured)


def _perfect(predictions: Predictions, evaluation: Evaluation) -> Predictions:
    """The same poses scored by their true OKS."""
    truth = evaluation.ap.truth
    oks = dict(zip(truth.ids.tolist(), evaluation.oks.tolist(), strict=True))
    ids = predictions.annotation_id
    own = np.array([oks[i] for i in ([] if ids is None else ids.tolist())])
    return dataclasses.replace(
        predictions, score=pose_scores(ORACLE, predictions.scores, np.ones(len(own)), own)
    )


def reader(model: PoseModel, pose_set: PoseSet, rules: SweepRules) -> Reader:
    """The reader of a conditioned model: one variant for each switch, the model as it is first.

    Raises:
        NotAvailable: the model declares no condition.
        ValueError: the flip test is asked for, or other ablations besides.
    """
    if len(rules.ablations) > 1:
        raise ValueError("ablation conditioning: changes the network itself, so it is swept alone")
    if rules.flip:
        raise ValueError("ablation conditioning: its passes go without the flip test; leave --flip out")
    return ConditioningReader(model, pose_set, rules)


@dataclass
class ConditioningReader:
    """Predictions of every switch of a conditioned model; see workbench.inspectors.conditioning.ablation."""

    model: PoseModel
    pose_set: PoseSet
    rules: SweepRules

    def __post_init__(self) -> None:
        self.rows = labelled_rows(self.pose_set, self.rules.limit)
        self._switches = switches_of(self.model, tuple(self.pose_set.samples(self.rows[:2])))
        self.variants = tuple(
            VariantName(s.name, f"compared with {s.against}" if s.against else "the model as it is")
            for s in self._switches
        )

    def read(self, rows: Sequence[int], cancelled: Callable[[], bool] | None = None) -> list[Predictions]:
        rules, size = self.rules, self.rules.batch_size
        shared: dict[tuple[Any, ...], Any] = {}
        parts: list[list[Predictions]] = [[] for _ in self._switches]
        # Batch by batch, so that all switches see one batch, which is then cropped once.
        for start in range(0, len(rows), size):
            for switch, own in zip(self._switches, parts, strict=True):
                if cancelled is not None and cancelled():
                    raise Cancelled("stopped; finished epochs are kept")
                changed = Switched(self.model, switch, shared)
                batch = rows[start : start + size]
                own.append(
                    predict(
                        changed, self.pose_set, indices=batch, options=rules.decoding,
                        score_rule=rules.score_rule, batch_size=size,
                    )
                )  # fmt: skip
        return [Predictions.joined(own) for own in parts]

    def protocol(self, number: int, own: Protocol) -> Protocol:
        # Another network and the same rules: figures of the variants are to be compared.
        name = self._switches[number].name
        return own if number == 0 else dataclasses.replace(own, checkpoint=f"{own.checkpoint}, {name}")
