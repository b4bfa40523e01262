"""What is wrong with the text in code of the user's own? Only what its two passes show when they are run."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from workbench.core import Conditioned, NotAvailable
from workbench.core.hooks import recording
from workbench.core.report import Report, figure_html, plain
from workbench.core.run import evaluating
from workbench.inspectors.conditioning import features_kept, refined_scores
from workbench.inspectors.conditioning import film as film_
from workbench.inspectors.conditioning import paths as paths_
from workbench.inspectors.conditioning.ablation import PartsCost, Predicted, Ranking, ablation, ranking
from workbench.inspectors.conditioning.evidence import gradient_groups, keypoint_names_text, text_effect
from workbench.inspectors.conditioning.findings import (
    DELETED,
    FLATTENED,
    MASKED,
    MISNAMED,
    ONE_VECTOR,
    ORDER,
    PARTED,
    RANDOM,
    SKIPPED,
    UNREAD,
    UNTRAINED,
    Evidence,
    Finding,
    findings,
)
from workbench.inspectors.conditioning.passes import (
    FEATURES,
    OUTPUTS,
    compared,
    conditioned,
    fused,
    refiner_of,
)
from workbench.inspectors.conditioning.paths import BOTH, TRAINING
from workbench.inspectors.conditioning.variants import TRAINED, UNFUSED, UNREFINED
from workbench.text.vectors import Similarity, similarity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.core import Run
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Interval
    from workbench.inspectors.conditioning.ablation import PartsCost, Ranking
    from workbench.inspectors.conditioning.evidence import GradientGroups, TextEffect
    from workbench.inspectors.conditioning.features_kept import FeaturesKept
    from workbench.inspectors.conditioning.film import Film
    from workbench.inspectors.conditioning.findings import Finding
    from workbench.inspectors.conditioning.paths import Paths
    from workbench.inspectors.conditioning.refined_scores import RefinedScores
    from workbench.inspectors.conditioning.training_log import Trends
    from workbench.inspectors.conditioning.weights import AveragedAndRaw, Beside, Progress
    from workbench.models.text_fusion import TextFusion
    from workbench.text.vectors import Similarity


Answer = TypeVar("Answer")

NOT_DECLARED = "what your own code does there is not measured: no capability declares {}"


def measured(run: Run) -> dict[str, Any]:
    """Fields of a Clinic but for its data set: findings, evidence, and what could not be asked.

    Raises:
        NotAvailable: there is no text to take away, or a pass cannot be run.
    """
    model: Any = run.model
    # Asked first: without text there is nothing to say about it.
    model.with_text(run.batch, lambda text: text)
    missing = {
        "scores": NOT_DECLARED.format("a refiner behind the head"),
        "gradients": NOT_DECLARED.format("the parts of the loss; see `workbench look gradients`"),
    }

    def ask(question: str, function: Callable[[], Answer]) -> Answer | None:
        try:
            return function()
        except NotAvailable as why:
            missing[question] = str(why)
            return None

    paths = compared(run)
    effect = ask("text effect", lambda: text_effect(run))
    film = ask("film", lambda: film_.compute(run, film_.Params()))
    # An adapter's text may be of any kind; only vectors with names can be looked at.
    text = getattr(model, "text", None)
    if "neck" not in model.text_taps:
        missing["neck"] = "nothing declares which part gives the features the text: text_taps['neck']"
    return {
        "findings": _findings(run, paths, effect, film),
        "paths": paths,
        "film": film,
        "effect": effect,
        "text": None if text is None else ask("text", lambda: _similarity(text)),
        "scores": None,
        "gradients": None,
        "missing": missing,
        "scope": "the text in your training and predict passes",
    }


def _similarity(text: Any) -> Similarity:
    return similarity(text)


def _findings(run: Run, paths: Paths, effect: TextEffect | None, film: Film | None) -> list[Finding]:
    model: Any = run.model
    tap = model.text_taps.get("neck", "")
    skipped = _skipped(paths, effect, tap)
    found = [skipped or _parted(paths), _unread(effect), _one_vector(film)]
    text = getattr(model, "text", None)
    if text is not None and (told := keypoint_names_text(text.keypoints, model.skeleton.keypoints)):
        advice = "write the vectors in the order of the skeleton's keypoints, with their names"
        found.append(Finding(MISNAMED, told, advice))
    return [finding for finding in found if finding is not None]


def _skipped(paths: Paths, effect: TextEffect | None, tap: str) -> Finding | None:
    """The neck, or all effect of the text, is there in training and not at inference."""
    gone = bool(tap) and paths.skipped(tap)
    silent = effect is not None and effect.changes("training") and not effect.changes("predict")
    if not silent and (not gone or (effect is not None and not effect.changes("training"))):
        return None
    alone = [n for n, w in zip(paths.names, paths.reached, strict=True) if w == TRAINING]
    inside = [n for n in alone if n == tap or n.startswith(f"{tap}.")]
    told = f"your training pass reaches {inside[0]}, your predict does not" if gone else _parting(paths)
    if effect is not None:
        told += f"; {effect.summary()}"
    return Finding(
        SKIPPED,
        f"measured on your code: {told}; keypoints end {100 * paths.moved:.1f} % of the box apart",
        "hand the text to the neck in your predict as your loss does (with the flip test, for both images)",
    )


def _parted(paths: Paths) -> Finding | None:
    """The passes differ in what the head is given or in what the network gives."""
    ends = [i for i, name in enumerate(paths.names) if name in (FEATURES, OUTPUTS)]
    if not any(paths.reached[i] != BOTH or paths.differences[i] > 0 for i in ends):
        return None
    return Finding(
        PARTED,
        f"measured on your code: {_parting(paths)}; keypoints end {100 * paths.moved:.1f} % of the box apart",
        "look at what your code does there only in training, or only in predict",
    )


def _parting(paths: Paths) -> str:
    first = paths.first
    if first is None:
        return "no tap differs"
    where = paths.reached[first]
    how = f"reached in {where}" if where != BOTH else f"by {100 * paths.differences[first]:.2g} %"
    return f"on the same input your training and predict passes part at {paths.names[first]}, {how}"


def _unread(effect: TextEffect | None) -> Finding | None:
    if effect is None or any(effect.changes(way) for way in ("training", "predict")):
        return None
    return Finding(
        UNREAD,
        f"measured on your code: {effect.change} changes neither features nor outputs, in the training pass "
        "nor in predict",
        "look for a gate at 0, or for the name under which your code reads the text: data samples carry it "
        "as global_text and local_text",
    )


def _one_vector(film: Film | None) -> Finding | None:
    if film is None or film.images < 2 or not film.at_inference:
        return None
    layer = film.layers[0]
    if not np.isfinite(layer.across_images) or layer.across_images > 1e-7:
        return None
    return Finding(
        ONE_VECTOR,
        f"measured on your code: γ at {layer.name} is the same for all {film.images} images (over channels "
        f"it varies by {layer.across_channels:.2g}), so conditioning carries nothing about the image",
        "describe what differs between images and give each image its own text, or take the neck away",
    )


# What the clinic says about one checkpoint: its findings, and the evidence in the order of such a case.


@dataclass(frozen=True, eq=False)
class Clinic(Report):
    """The verdict on one checkpoint, and what it rests on.

    Attributes:
        title: of the model.
        findings: by what they cost where that was measured, by experience otherwise.
        paths: training against inference.
        film: of the neck; None without one.
        scores: before and behind the refiner; None without one.
        gradients: of training's loss; None without annotations.
        ablation: on a data set; None when none was given.
        ranking: on a data set; None when none was given.
        features: behind the neck; None without one.
        text: how alike the keypoints' sentences are; None without text.
        curves: AP and AR of the run's log, and of the run it is compared with; None when none were given.
        missing: question -> why it could not be asked.
        effect: of taking the text away from code of the user's own; None for the workbench's modules.
        progress: how far each part moved from the start, against a base run; None without one.
        averages: the averaged and the raw weights of the file; None where it has not both.
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
    effect: TextEffect | None = None
    progress: Progress | None = None
    averages: AveragedAndRaw | None = None
    scope: str = "neck, text and refiner"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the findings."""
        return tuple(finding.name for finding in self.findings)

    @property
    def evidence(self) -> tuple[tuple[str, Report], ...]:
        """What the verdict rests on, as title and report, in the order in which such a case is solved."""
        told = (
            ("Do AP and AR go opposite ways?", self.curves),
            ("Is it the order of the poses, or the place of the keypoints?", self.ranking),
            ("Does inference go the way of training?", self.paths),
            ("Does the text change anything, in training and in predict?", self.effect),
            ("What do γ and β make of the features?", self.film),
            ("What is left of the features behind the neck?", self.features),
            ("What does one uncertain keypoint do to the scores of the others?", self.scores),
            ("What does each part cost or give?", self.ablation),
            ("Which parts does training's loss reach?", self.gradients),
            ("How far did each part move from the common start, against the base run?", self.progress),
            ("Do the sentences tell the keypoints apart?", self.text),
        )
        return tuple((title, report) for title, report in told if report is not None)

    def summary(self) -> str:
        if not self.findings:
            return f"{self.title}: nothing wrong found with {self.scope}; {self.paths.summary()}"
        sure = [f for f in self.findings if not f.assumption]
        told = ", ".join(f.name + (f" ({f.gives_back} AP)" if f.gives_back is not None else "") for f in sure)
        parts = [f"{len(sure)} finding{'s' * (len(sure) > 1)}: {told}"] if sure else []
        parts += [f"if {f.assumption}: {f.name}" for f in self.findings if f.assumption]
        return f"{self.title}: {'; '.join(parts)}"

    def plot(self) -> Figure:
        return self.paths.plot() if self.ablation is None else self.ablation.plot()

    def table(self) -> list[dict[str, Any]]:
        return [finding.facts() for finding in self.findings]

    def _repr_html_(self) -> str:
        pass

        return body(self)

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""

        def told(report: Report | None) -> dict[str, Any] | None:
            return None if report is None else report.to_json()

        return plain(
            {
                "summary": self.summary(),
                "title": self.title,
                "findings": self.table(),
                "curves": told(self.curves),
                "film": told(self.film),
                "features": None if self.features is None else _without_channels(self.features),
                "text": None if self.text is None else self.text.summary(),
                "paths": {k: v for k, v in self.paths.to_json().items() if k != "taps"},
                "scores": None if self.scores is None else _brief(self.scores),
                "gradients": told(self.gradients),
                "text_effect": told(self.effect),
                "progress": told(self.progress),
                "averages": None if self.averages is None else self.averages.facts(),
                "ablation": told(self.ablation),
                "ranking": told(self.ranking),
                "missing": self.missing,
            }
        )


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


# The clinic's answer as one HTML document that needs no network: the verdict, then all the evidence.


STYLE = (
    ":root{color-scheme:light dark} body{margin:1.5rem auto;max-width:1200px;padding:0 1rem;"
    "background:Canvas;color:CanvasText;font:14px/1.5 system-ui,sans-serif}"
)


def document(clinic: Clinic) -> str:
    """A page of its own."""
    title = html.escape(f"clinic: {clinic.title}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>{body(clinic, alone=True)}</body></html>\n"
    )


def body(clinic: Clinic, alone: bool = False) -> str:
    """What stands in the page, and in a notebook.

    Args:
        clinic: the report.
        alone: a document of its own, which carries plotly.js (4.5 MB) itself; a notebook's outputs share it.
    """
    items = "".join(
        f"<li><b>{html.escape(finding.name)}</b>"
        + (f" (assumed: {html.escape(finding.assumption)})" if finding.assumption else "")
        + (f" ({finding.gives_back} AP)" if finding.gives_back is not None else "")
        + f"<br>{html.escape(finding.evidence)}<br><i>Do:</i> {html.escape(finding.advice)}</li>"
        for finding in clinic.findings
    )
    parts = [f"<p>{html.escape(clinic.summary())}</p>", f"<ol>{items}</ol>" if items else ""]
    for number, (title, report) in enumerate(clinic.evidence):
        # Its title is the sentence above it. The library is 4 MB: once is enough.
        drawn = report.plot().update_layout(title_text="")
        figure = drawn.to_html(full_html=False, include_plotlyjs=number == 0) if alone else figure_html(drawn)
        parts.append(f"<h2>{html.escape(title)}</h2><p>{html.escape(report.summary())}</p>{figure}")
    for question, why in clinic.missing.items():
        parts.append(f"<p><b>{html.escape(question)}</b>: {html.escape(why)}</p>")
    if clinic.ablation is not None:
        parts.append(f"<p><small>{html.escape(clinic.ablation.reference.protocol.text())}</small></p>")
    return "".join(parts)


# What is wrong with this conditioned network, by evidence, and what does each defect cost?


AnswerClinic = TypeVar("Answer")


def clinic(
    run: Run,
    found: Predicted | None = None,
    pose_set: PoseSet | None = None,
    curves: Trends | None = None,
    files: Beside | None = None,
    stepped: Callable[[], None] = lambda: None,
) -> Clinic:
    """Ask every question that one checkpoint can answer.

    Args:
        run: of a model that reads text, on some samples; two or more of different subjects tell most.
        found: its variants on a data set, see ablation.predicted; None leaves out what defects cost.
        pose_set: the data set of `found`.
        curves: of the run's log, see validation_log.curve_of.
        files: what the files beside the checkpoint tell, see beside.
        stepped: called before every question; what it raises ends the clinic.

    Raises:
        NotAvailable: the model reads no text and has no refiner.
    """
    if isinstance(run.model, Conditioned):
        return _with_files(_of_own_code(run, found, pose_set, curves, stepped), files)
    model = conditioned(run.model)
    missing: dict[str, str] = {}

    def ask(question: str, function: Callable[[], AnswerClinic]) -> AnswerClinic | None:
        stepped()
        try:
            return function()
        except NotAvailable as why:
            missing[question] = str(why)
            return None

    seen = Evidence(
        paths=paths_.compute(run, paths_.Params()),
        film=ask("film", lambda: film_.compute(run, film_.Params())),
        scores=ask("scores", lambda: refined_scores.compute(run, refined_scores.Params())),
        gradients=ask("gradients", lambda: gradient_groups(run)),
        untouched=_untouched(model),
        shared=_shared(model, run),
        assumption=model.assumption,
        named=keypoint_names_text(model.text.keypoints, model.skeleton.keypoints) if model.text else "",
    )
    costs = None if found is None else ablation(found, run.title, stepped=stepped)
    order = None
    if found is not None and pose_set is not None:
        order = ranking(found, pose_set, run.title, stepped=stepped)
    verdict = Clinic(
        title=run.title or "the model",
        findings=_ranked(findings(seen), _giving_back(seen), costs, order),
        paths=seen.paths,
        film=seen.film,
        scores=seen.scores,
        gradients=seen.gradients,
        ablation=costs,
        ranking=order,
        missing=missing,
        features=ask("features", lambda: features_kept.compute(run, features_kept.Params())),
        text=ask("text", lambda: _similarity_of_clinic(model)),
        curves=curves,
    )
    return _with_files(verdict, files)


def _with_files(verdict: Clinic, files: Beside | None) -> Clinic:
    """The verdict with what other files tell, in its place among the findings."""
    if files is None:
        return verdict
    measured = [f for f in verdict.findings if f.gives_back is not None and f.gives_back.certain]
    rest = [f for f in verdict.findings if f not in measured] + files.findings
    return dataclasses.replace(
        verdict,
        findings=(*measured, *sorted(rest, key=lambda finding: ORDER.index(finding.name))),
        progress=files.progress,
        averages=files.averages,
        missing={**verdict.missing, **files.missing},
    )


def _of_own_code(
    run: Run,
    found: Predicted | None,
    pose_set: PoseSet | None,
    curves: Trends | None,
    stepped: Callable[[], None],
) -> Clinic:
    """The verdict on code of the user's own: what its two passes show."""
    pass

    seen = measured(run)
    costs = None if found is None else ablation(found, run.title, stepped=stepped)
    order = None
    if found is not None and pose_set is not None:
        order = ranking(found, pose_set, run.title, stepped=stepped)
    ranked = _ranked(seen.pop("findings"), {SKIPPED: TRAINED, PARTED: TRAINED}, costs, order)
    return Clinic(
        title=run.title or "the model", findings=ranked, ablation=costs, ranking=order, curves=curves, **seen
    )


def _similarity_of_clinic(model: TextFusion) -> Similarity:
    if model.text is None:
        raise NotAvailable(f"text: {model.no_text}")
    return similarity(model.text)


def _giving_back(seen: Evidence) -> dict[str, str]:
    """Defect -> the variant without it."""
    rows = {SKIPPED: TRAINED, UNTRAINED: UNREFINED}
    if seen.film is None or seen.film.at_inference:
        # Where inference skips the neck, taking it away takes nothing.
        rows |= {RANDOM: UNFUSED, DELETED: UNFUSED, MASKED: TRAINED}
    return rows


def _ranked(
    found: list[Finding], without: dict[str, str], costs: PartsCost | None, order: Ranking | None
) -> tuple[Finding, ...]:
    """What costs most first; what nobody measured after it, in the order of experience."""

    def given(name: str) -> Interval | None:
        if name == FLATTENED:
            return None if order is None else order.given_back
        row = without.get(name)
        found_row = None if costs is None or row is None else costs.of(row)
        return None if found_row is None else found_row.interval

    told = [dataclasses.replace(finding, gives_back=given(finding.name)) for finding in found]

    def place(finding: Finding) -> tuple[bool, float, int]:
        interval = finding.gives_back
        # An interval that holds 0 measures nothing.
        measured = interval is not None and interval.certain
        return not measured, -interval.delta if measured and interval else 0.0, ORDER.index(finding.name)

    return tuple(sorted(told, key=place))


def _untouched(model: TextFusion) -> bool:
    """Whether a refiner's normalisation layers are as they start: exactly ones and zeros."""
    from torch import nn

    refiner = refiner_of(model)
    if refiner is None:
        return False
    norms = [layer for layer in refiner.modules() if isinstance(layer, nn.LayerNorm)]
    return bool(norms) and all(
        bool((layer.weight == 1).all()) and bool((layer.bias == 0).all()) for layer in norms
    )


def _shared(model: TextFusion, run: Run) -> bool:
    """Whether two images that are given two subjects get one vector."""
    import torch

    try:
        way = fused(model)
    except NotAvailable:
        return False
    batch = model.prepare([run.samples[0]] * 2)
    subject = batch.extra["subject"].clone()
    drawn = np.random.default_rng(0).standard_normal(subject.shape[1]).astype(np.float32)
    subject[1] = torch.from_numpy(drawn)
    batch = dataclasses.replace(batch, extra={**batch.extra, "subject": subject})
    through = model.through(way)
    with (
        torch.no_grad(),
        recording(model.module, model.taps, ("text.subject",)) as read,
        evaluating(model.module),
    ):
        through.forward(batch)
    # Attention alone never reads the subject.
    return "text.subject" in read and bool((read["text.subject"][0] == read["text.subject"][1]).all())
