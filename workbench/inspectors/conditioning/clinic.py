"""What is wrong with this conditioned network, by evidence, and what does each defect cost?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from workbench.core import Conditioned, NotAvailable
from workbench.core.hooks import recording
from workbench.core.run import evaluating
from workbench.inspectors.conditioning import features_kept, refined_scores
from workbench.inspectors.conditioning import film as film_
from workbench.inspectors.conditioning import paths as paths_
from workbench.inspectors.conditioning.ablation import PartsCost, Predicted, Ranking, ablation, ranking
from workbench.inspectors.conditioning.clinic import Clinic
from workbench.inspectors.conditioning.evidence import gradient_groups, keypoint_names_text
from workbench.inspectors.conditioning.findings import (
    DELETED,
    FLATTENED,
    MASKED,
    ORDER,
    PARTED,
    RANDOM,
    SKIPPED,
    UNTRAINED,
    Evidence,
    Finding,
    findings,
)
from workbench.inspectors.conditioning.passes import conditioned, fused, refiner_of
from workbench.inspectors.conditioning.variants import TRAINED, UNFUSED, UNREFINED
from workbench.text.vectors import Similarity, similarity

if TYPE_CHECKING:
    from workbench.core import Run
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Interval
    from workbench.inspectors.conditioning.training_log import Trends
    from workbench.inspectors.conditioning.weights import Beside
    from workbench.models.text_fusion import TextFusion

Answer = TypeVar("Answer")


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

    def ask(question: str, function: Callable[[], Answer]) -> Answer | None:
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
        text=ask("text", lambda: _similarity(model)),
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
    from workbench.inspectors.conditioning.clinic import measured

    seen = measured(run)
    costs = None if found is None else ablation(found, run.title, stepped=stepped)
    order = None
    if found is not None and pose_set is not None:
        order = ranking(found, pose_set, run.title, stepped=stepped)
    ranked = _ranked(seen.pop("findings"), {SKIPPED: TRAINED, PARTED: TRAINED}, costs, order)
    return Clinic(
        title=run.title or "the model", findings=ranked, ablation=costs, ranking=order, curves=curves, **seen
    )


def _similarity(model: TextFusion) -> Similarity:
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
