"""What is wrong with this conditioned network, by evidence, and what does each defect cost?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from workbench.conditioning import film as film_
from workbench.conditioning import paths as paths_
from workbench.conditioning import refined_scores
from workbench.conditioning.ablation import PartsCost, Predicted, ablation
from workbench.conditioning.findings import (
    FLATTENED,
    ORDER,
    SKIPPED,
    UNTRAINED,
    Evidence,
    Finding,
    findings,
)
from workbench.conditioning.gradient_groups import GradientGroups, gradient_groups
from workbench.conditioning.passes import conditioned, fused, refiner_of
from workbench.conditioning.ranking import Ranking, ranking
from workbench.conditioning.variants import TRAINED, UNREFINED
from workbench.hooks import recording
from workbench.records import NotAvailable
from workbench.report import Report, plain
from workbench.run import evaluating

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Interval
    from workbench.models.text_fusion import TextFusion
    from workbench.records import Run

Answer = TypeVar("Answer")


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
        missing: question -> why it could not be asked.
    """

    title: str
    findings: tuple[Finding, ...]
    paths: paths_.Paths
    film: film_.Film | None
    scores: refined_scores.RefinedScores | None
    gradients: GradientGroups | None
    ablation: PartsCost | None
    ranking: Ranking | None
    missing: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the findings."""
        return tuple(finding.name for finding in self.findings)

    def summary(self) -> str:
        if not self.findings:
            return f"{self.title}: nothing wrong found with neck, text and refiner; {self.paths.summary()}"
        told = ", ".join(
            f.name + (f" ({f.gives_back} AP)" if f.gives_back is not None else "") for f in self.findings
        )
        count = len(self.findings)
        return f"{self.title}: {count} finding{'s' * (count > 1)}: {told}"

    def plot(self) -> Figure:
        return self.paths.plot() if self.ablation is None else self.ablation.plot()

    def table(self) -> list[dict[str, Any]]:
        return [finding.facts() for finding in self.findings]

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""

        def told(report: Report | None) -> dict[str, Any] | None:
            return None if report is None else report.to_json()

        return plain(
            {
                "summary": self.summary(),
                "title": self.title,
                "findings": self.table(),
                "film": told(self.film),
                "paths": {k: v for k, v in self.paths.to_json().items() if k != "taps"},
                "scores": None if self.scores is None else _brief(self.scores),
                "gradients": told(self.gradients),
                "ablation": told(self.ablation),
                "ranking": told(self.ranking),
                "missing": self.missing,
            }
        )


def _brief(scores: refined_scores.RefinedScores) -> dict[str, Any]:
    return {
        "summary": scores.summary(),
        "uncertain": scores.uncertain.mean(),
        "all_sure": scores.all_sure,
        "one_doubted": scores.one_doubted,
        "flattens": scores.flattens,
        "keypoints": scores.table(),
    }


def clinic(run: Run, found: Predicted | None = None, pose_set: PoseSet | None = None) -> Clinic:
    """Ask every question that one checkpoint can answer.

    Args:
        run: of a model that reads text, on some samples; two or more of different subjects tell most.
        found: its variants on a data set, see ablation.predicted; None leaves out what defects cost.
        pose_set: the data set of `found`.

    Raises:
        NotAvailable: the model reads no text and has no refiner.
    """
    model = conditioned(run.model)
    missing: dict[str, str] = {}

    def ask(question: str, function: Callable[[], Answer]) -> Answer | None:
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
    )
    costs = None if found is None else ablation(found, run.title)
    order = None if found is None or pose_set is None else ranking(found, pose_set, run.title)
    return Clinic(
        title=run.title or "the model",
        findings=_ranked(findings(seen), costs, order),
        paths=seen.paths,
        film=seen.film,
        scores=seen.scores,
        gradients=seen.gradients,
        ablation=costs,
        ranking=order,
        missing=missing,
    )


def _ranked(found: list[Finding], costs: PartsCost | None, order: Ranking | None) -> tuple[Finding, ...]:
    """What costs most first; what nobody measured after it, in the order of experience."""

    def given(name: str) -> Interval | None:
        if name == FLATTENED:
            return None if order is None else order.given_back
        row = {SKIPPED: TRAINED, UNTRAINED: UNREFINED}.get(name)
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
