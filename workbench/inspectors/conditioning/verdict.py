"""What the clinic says about one checkpoint: its findings, and the evidence in the order of such a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.report import Report, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.inspectors.conditioning.ablation import PartsCost, Ranking
    from workbench.inspectors.conditioning.evidence import GradientGroups, TextEffect
    from workbench.inspectors.conditioning.features_kept import FeaturesKept
    from workbench.inspectors.conditioning.film import Film
    from workbench.inspectors.conditioning.findings import Finding
    from workbench.inspectors.conditioning.paths import Paths
    from workbench.inspectors.conditioning.refined_scores import RefinedScores
    from workbench.inspectors.conditioning.training_log import Trends
    from workbench.inspectors.conditioning.weights import AveragedAndRaw, Progress
    from workbench.text.vectors import Similarity


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
        from workbench.inspectors.conditioning.clinic import body

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
