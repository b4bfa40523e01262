"""What is wrong with a conditioned network, by evidence, and what does each defect cost?

`examine` does everything for one checkpoint: the command line, the page and notebooks call it. `clinic` makes
the findings out of passes and predictions that exist already.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.core import NotAvailable
from workbench.core.conditioning import TRAINED, UNFUSED, UNREFINED
from workbench.core.finding import Effect, Finding
from workbench.core.hooks import OnceComputed
from workbench.core.plain_text import escaped
from workbench.core.report import Report, figure_html, plain
from workbench.core.run import run as forward
from workbench.figures.document import drawn, html_document
from workbench.inspectors.conditioning import features_kept, refined_scores
from workbench.inspectors.conditioning import film as film_
from workbench.inspectors.conditioning import paths as paths_
from workbench.inspectors.conditioning.ablation import (
    PartsCost,
    Predicted,
    Ranking,
    ablation,
    predicted,
    ranking,
)
from workbench.inspectors.conditioning.evidence import (
    ConditionEffect,
    GradientGroups,
    condition_effect,
    exchanged_halves,
    gradient_groups,
    keypoint_names_text,
    shared_condition,
    text_of,
    untouched_refiner,
)
from workbench.inspectors.conditioning.exchanged_classes import exchanged_classes
from workbench.inspectors.conditioning.findings import (
    CONDITION_SKIPPED,
    DELETED,
    FLATTENED,
    MASKED,
    ORDER,
    PARTED,
    RANDOM,
    SKIPPED,
    UNTRAINED,
    WORTH_HAVING,
    Evidence,
    facts_of,
    findings,
)
from workbench.inspectors.conditioning.passes import conditioning_of, several
from workbench.inspectors.conditioning.weights import measured
from workbench.text.vectors import Similarity, similarity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.core import PoseModel, Run
    from workbench.core.conditioning import Conditioning
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Interval
    from workbench.inspectors.conditioning.features_kept import FeaturesKept
    from workbench.inspectors.conditioning.film import Film
    from workbench.inspectors.conditioning.paths import Paths
    from workbench.inspectors.conditioning.refined_scores import RefinedScores
    from workbench.inspectors.conditioning.training_log import Trends
    from workbench.inspectors.conditioning.weights import AveragedAndRaw, OtherFiles, Progress
    from workbench.models import LoadedModel

Answer = TypeVar("Answer")
SAMPLES = 8
"""How many samples are looked at, of different categories as far as there are."""


@dataclass(frozen=True, eq=False)
class Clinic(Report):
    """The findings on one checkpoint, and the evidence behind them.

    Attributes:
        title: of the model.
        findings: first those whose cost was measured, by cost; then the others, by experience.
        paths: training against inference.
        film: γ and β; None where they are not declared.
        scores: before and after the refiner; None without one.
        gradients: of the training loss; None without annotations.
        ablation: on a data set; None when none was given.
        ranking: on a data set; None when none was given.
        missing: question -> why it could not be answered.
        features: after the conditioned part; None where they are not declared.
        text: how similar the keypoints' sentences are; None without text.
        curves: AP and AR of the run's log, and of the run it is compared with; None when none were given.
        effect: of taking the condition away; None without one.
        progress: how far each part moved from the start, against a base run; None without one.
        averages: the averaged and the raw weights of the file; None if it does not hold both.
        scope: what was looked at, in words.
    """

    title: str
    findings: tuple[Finding, ...]
    paths: Paths
    film: Film | None
    scores: RefinedScores | None
    gradients: GradientGroups | None
    ablation: PartsCost | None
    ranking: Ranking | None
    missing: dict[str, str]
    features: FeaturesKept | None = None
    text: Similarity | None = None
    curves: Trends | None = None
    effect: ConditionEffect | None = None
    progress: Progress | None = None
    averages: AveragedAndRaw | None = None
    scope: str = "the condition and the refiner"

    @property
    def names(self) -> tuple[str, ...]:
        """Causes of the findings."""
        return tuple(finding.cause for finding in self.findings)

    @property
    def evidence(self) -> tuple[tuple[str, Report], ...]:
        """The evidence as question and report, in the order in which such a case is solved."""
        asked = (
            ("Do AP and AR change in opposite directions?", self.curves),
            ("Is AP lost by the order of the poses, or by the place of the keypoints?", self.ranking),
            ("Do the training pass and the inference pass compute the same?", self.paths),
            ("Does the condition change anything, in training and in predict?", self.effect),
            ("What do γ and β do to the features?", self.film),
            ("How much of the features remains after conditioning?", self.features),
            ("What does one uncertain keypoint do to the scores of the others?", self.scores),
            ("What does each part cost or give?", self.ablation),
            ("Which parts does the training loss reach?", self.gradients),
            ("How far did each part move from the common start, against the base run?", self.progress),
            ("Do the sentences distinguish the keypoints?", self.text),
        )
        return tuple((title, report) for title, report in asked if report is not None)

    def summary(self) -> str:
        if not self.findings:
            return f"{self.title}: nothing wrong found with {self.scope}; {self.paths.summary()}"
        sure = [f for f in self.findings if not f.assumption]
        listed = ", ".join(f"{f.cause}{_cost(f)}" for f in sure)
        parts = [f"{len(sure)} finding{'s' * (len(sure) > 1)}: {listed}"] if sure else []
        parts += [f"if {f.assumption}: {f.cause}" for f in self.findings if f.assumption]
        return f"{self.title}: {'; '.join(parts)}"

    def plot(self) -> Figure:
        return self.paths.plot() if self.ablation is None else self.ablation.plot()

    def table(self) -> list[dict[str, Any]]:
        return [facts_of(finding) for finding in self.findings]

    def _repr_html_(self) -> str:
        return body(self)

    def to_findings(self) -> tuple[Finding, ...]:
        return self.findings

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
        return plain(
            {
                "summary": self.summary(),
                "title": self.title,
                "findings": self.table(),
                "curves": _facts(self.curves),
                "film": _facts(self.film),
                "features": None if self.features is None else _without_channels(self.features),
                "text": None if self.text is None else self.text.summary(),
                "paths": {k: v for k, v in self.paths.to_json().items() if k != "taps"},
                "scores": None if self.scores is None else _brief(self.scores),
                "gradients": _facts(self.gradients),
                "text_effect": _facts(self.effect),
                "progress": _facts(self.progress),
                "averages": None if self.averages is None else self.averages.facts(),
                "ablation": _facts(self.ablation),
                "ranking": _facts(self.ranking),
                "missing": self.missing,
            }
        )


def _facts(report: Report | None) -> dict[str, Any] | None:
    return None if report is None else report.to_json()


def _without_channels(features: FeaturesKept) -> dict[str, Any]:
    return {
        "summary": features.summary(),
        "channels": len(features.before),
        "deleted": features.deleted,
        "rank_before": features.rank_before,
        "rank_after": features.rank_after,
    }


def _brief(scores: RefinedScores) -> dict[str, Any]:
    return {
        "summary": scores.summary(),
        "uncertain": scores.uncertain.mean(),
        "all_sure": scores.all_sure,
        "one_doubted": scores.one_doubted,
        "flattens": scores.flattens,
        "touched": {"training": scores.touched[0], "inference": scores.touched[1]},
        "keypoints": scores.table(),
    }


def _cost(finding: Finding) -> str:
    return f" ({finding.effect.text()})" if finding.effect is not None else ""


def document(clinic: Clinic) -> str:
    """The findings and all the evidence as one HTML document that needs no network."""
    return html_document(f"clinic: {clinic.title}", [body(clinic, alone=True)])


def body(clinic: Clinic, alone: bool = False) -> str:
    """The content of the document, and of a notebook's output.

    Args:
        clinic: the report.
        alone: a document of its own, which contains plotly.js; a notebook's outputs share it.
    """
    items = "".join(
        f"<li><b>{escaped(finding.cause)}</b>"
        + (f" (only if {escaped(finding.assumption)})" if finding.assumption else "")
        + escaped(_cost(finding))
        + f"<br>{escaped(finding.evidence)}<br><i>Do:</i> {escaped(finding.fix)}</li>"
        for finding in clinic.findings
    )
    parts = [f"<p>{escaped(clinic.summary())}</p>", f"<ol>{items}</ol>" if items else ""]
    for title, report in clinic.evidence:
        # Its title is the sentence above it.
        figure = drawn(report.plot()) if alone else figure_html(report.plot().update_layout(title_text=""))
        parts.append(f"<h2>{escaped(title)}</h2><p>{escaped(report.summary())}</p>{figure}")
    for question, reason in clinic.missing.items():
        parts.append(f"<p><b>{escaped(question)}</b>: {escaped(reason)}</p>")
    if clinic.ablation is not None:
        parts.append(f"<p><small>{escaped(clinic.ablation.reference.protocol.text())}</small></p>")
    return "".join(parts)


def examine(
    loaded: LoadedModel,
    pose_set: PoseSet,
    indices: Sequence[int] | None = None,
    *,
    samples: int = SAMPLES,
    curves: Trends | None = None,
    files: OtherFiles | None = None,
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    stepped: Callable[[], None] = lambda: None,
    backbone: OnceComputed | None = None,
) -> Clinic:
    """Everything that can be found out about one checkpoint.

    Args:
        loaded: an opened checkpoint of a conditioned model.
        pose_set: annotated.
        indices: instances on which the cost of each defect is measured; None measures none.
        samples: how many samples the passes are compared on.
        curves: of the run's log, see training_log.curve_of.
        files: what the files beside the checkpoint show, see weights.read_other_files.
        title: of the model; by default the checkpoint's.
        progress: called with (passes over the set done, passes in all).
        cancelled: asked before every pass over the set.
        stepped: called before every question; what it raises ends the examination.
        backbone: of the model, with what it gave for some of the instances already.

    Raises:
        NotAvailable: the model declares no condition.
        Cancelled: as asked for.
        ValueError: the model's keypoints are not the set's.
    """
    name = title or loaded.title
    conditioning_of(loaded.model, needed=False)
    run = forward(loaded.model, several(pose_set, samples), title=name)
    found = None
    if indices is not None:
        found = predicted(
            loaded.model, pose_set, indices, title=name, progress=progress, cancelled=cancelled,
            backbone=backbone,
        )  # fmt: skip
        files = None if files is None else measured(files, loaded, pose_set, indices)
    report = clinic(run, found, pose_set, curves, files, stepped)
    if indices is None or report.effect is None or not report.effect.changes("predict"):
        return report
    return _with_classes(report, loaded.model, pose_set, indices, stepped)


def _with_classes(
    report: Clinic, model: PoseModel, pose_set: PoseSet, indices: Sequence[int], stepped: Callable[[], None]
) -> Clinic:
    """The report with the categories whose conditions are exchanged, before what has no certain effect."""
    try:
        found = exchanged_classes(model, pose_set, indices, conditioning_of(model).noun, stepped)
    except NotAvailable as reason:
        return dataclasses.replace(report, missing={**report.missing, "classes": str(reason)})
    if found is None:
        return report
    return dataclasses.replace(report, findings=(found, *report.findings))


def clinic(
    run: Run,
    found: Predicted | None = None,
    pose_set: PoseSet | None = None,
    curves: Trends | None = None,
    files: OtherFiles | None = None,
    stepped: Callable[[], None] = lambda: None,
) -> Clinic:
    """Answer every question about one checkpoint and name its defects.

    Args:
        run: of a conditioned model on some samples; two or more of different categories show most.
        found: its switches on a data set, see ablation.predicted; None leaves out what defects cost.
        pose_set: the data set of `found`.
        curves: of the run's log, see training_log.curve_of.
        files: what the files beside the checkpoint show, see weights.read_other_files.
        stepped: called before every question; what it raises ends the clinic.

    Raises:
        NotAvailable: the model declares no condition, or a pass needs one that is not at hand.
    """
    record = conditioning_of(run.model, needed=False)
    missing: dict[str, str] = {}

    def ask(question: str, function: Callable[[], Answer]) -> Answer | None:
        stepped()
        try:
            return function()
        except NotAvailable as reason:
            missing[question] = str(reason)
            return None

    backbone = OnceComputed.of(run.model.module, len(run.samples))
    with nullcontext() if backbone is None else backbone.reused():
        seen = _seen(run, record, ask)
        features = ask("features", lambda: features_kept.compute(run, features_kept.Params()))
    if not record.part:
        missing["neck"] = "the part that gives the features the condition is not declared (conditioning.part)"
    costs = None if found is None else ablation(found, run.title, stepped=stepped)
    order = None
    if found is not None and pose_set is not None:
        order = ranking(found, pose_set, run.title, stepped=stepped)
    report = Clinic(
        title=run.title or "the model",
        findings=_ranked(findings(seen), _giving_back(seen), costs, order),
        paths=seen.paths,
        film=seen.film,
        scores=seen.scores,
        gradients=seen.gradients,
        ablation=costs,
        ranking=order,
        missing=missing,
        features=features,
        text=ask("text", lambda: _similarity(run.model)) if record.noun == "text" else None,
        curves=curves,
        effect=seen.effect,
        scope=f"the {record.noun}{' and the refiner' if record.refiner is not None else ''}",
    )
    return with_files(report, files)


def _seen(run: Run, record: Conditioning, ask: Callable[[str, Callable[[], Any]], Any]) -> Evidence:
    """What the passes over the run's samples show; they share the backbone's."""
    text = text_of(run.model)
    return Evidence(
        record=record,
        paths=paths_.compute(run, paths_.Params()),
        film=ask("film", lambda: film_.compute(run, film_.Params())),
        effect=ask("text effect" if record.noun == "text" else "effect", lambda: condition_effect(run)),
        scores=ask("scores", lambda: refined_scores.compute(run, refined_scores.Params())),
        gradients=ask("gradients", lambda: gradient_groups(run)),
        untouched=untouched_refiner(run.model),
        refiner="" if record.refiner is None else run.model.taps[record.refiner.layers],
        shared=shared_condition(run),
        halves=exchanged_halves(run),
        categories=len({sample.category_id for sample in run.samples}),
        misnamed="" if text is None else keypoint_names_text(text.keypoints, run.model.skeleton.keypoints),
    )


def with_files(report: Clinic, files: OtherFiles | None) -> Clinic:
    """The report with what other files show, in its place among the findings.

    Args:
        report: of a checkpoint.
        files: see weights.read_other_files; None leaves the report unchanged.
    """
    if files is None:
        return report
    why = "" if files.averages is None else files.averages.undecided
    undecided = {"averages": why} if why else {}
    costly = [f for f in report.findings if _certain(f.effect)]
    rest = [f for f in report.findings if f not in costly] + files.findings
    return dataclasses.replace(
        report,
        findings=(*costly, *sorted(rest, key=lambda finding: ORDER.index(finding.cause))),
        progress=files.progress,
        averages=files.averages,
        missing={**report.missing, **files.missing, **undecided},
    )


def _similarity(model: PoseModel) -> Similarity:
    text = text_of(model)
    if text is None:
        raise NotAvailable(f"text: {conditioning_of(model, needed=False).unavailable or 'there is none'}")
    return similarity(text)


def _giving_back(seen: Evidence) -> dict[str, tuple[str, ...]]:
    """Cause -> names of the switches without it, the first that there is counts."""
    rows: dict[str, tuple[str, ...]] = dict.fromkeys((SKIPPED, CONDITION_SKIPPED, PARTED), (TRAINED,))
    rows[UNTRAINED] = (UNREFINED,)
    if seen.film is None or seen.film.at_inference:
        # Where inference skips the condition, taking it away changes nothing.
        removed = (UNFUSED, f"without {seen.record.noun}")
        rows |= {RANDOM: removed, DELETED: removed, MASKED: (TRAINED,)}
    return rows


def _ranked(
    found: list[Finding], without: dict[str, tuple[str, ...]], costs: PartsCost | None, order: Ranking | None
) -> tuple[Finding, ...]:
    """What costs most first; what was not measured after it, in the order of experience."""

    def interval_of(cause: str) -> Interval | None:
        if cause == FLATTENED:
            return None if order is None else order.given_back
        names = () if costs is None else without.get(cause, ())
        rows = [row for name in names if costs is not None and (row := costs.of(name)) is not None]
        return rows[0].interval if rows else None

    def with_effect(finding: Finding) -> Finding:
        interval = interval_of(finding.cause)
        if interval is None or costs is None:
            return finding
        protocol = costs.reference.protocol.text()
        effect = Effect("AP", interval.delta, interval.low, interval.high, protocol)
        return dataclasses.replace(finding, effect=effect)

    def position(finding: Finding) -> tuple[bool, float, int]:
        effect = finding.effect
        # An interval that holds 0 measures nothing.
        certain = _certain(effect)
        return not certain, -effect.delta if certain and effect else 0.0, ORDER.index(finding.cause)

    # What would refute a finding may have been measured: then it is none.
    standing = [one for one in map(with_effect, found) if not _refuted(one)]
    return tuple(sorted(standing, key=position))


def _refuted(finding: Finding) -> bool:
    """Whether AP falls for certain without the layer that would do harm."""
    effect = finding.effect
    return finding.refuted_by == WORTH_HAVING and effect is not None and effect.high < 0


def _certain(effect: Effect | None) -> bool:
    """Whether an interval lies on one side of 0."""
    return effect is not None and (effect.low > 0 or effect.high < 0)
