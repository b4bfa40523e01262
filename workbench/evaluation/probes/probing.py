"""probe: every intervention on the same labelled samples, paired with the model as it is opened.

A cause is named if an alternative raises the mean OKS (PCK where there are no sigmas or areas) by more than
`LEAST` and the interval of the difference lies above 0. Shifts of a pixel or less hardly change the OKS. They
are judged by the errors themselves: the share of the shift that the labelled keypoints ask for, 0 where they
ask for none and 1 where they ask for exactly this one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import PoseModel, Sample
from workbench.core.finding import Effect, Finding, Measurement, Severity
from workbench.evaluation.compare import paired_bootstrap
from workbench.evaluation.evaluate import evaluate
from workbench.evaluation.predict import predict
from workbench.evaluation.probes.intervention import CAUSES, Intervention, NotTried
from workbench.evaluation.probes.judge import LEVEL, Judge, labelled
from workbench.evaluation.probes.passes import Pass, measured
from workbench.evaluation.probes.probe_report import ProbeReport, Trial

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.keypoint_ap import KeypointAP

Make = Callable[[PoseModel, Sequence[Sample]], tuple[list[Intervention], list[NotTried]]]

ALIKE = 0.005
"""Gains that differ by less are the same: ImageNet's and CLIP's numbers make nearly the same input."""


def probe(
    model: PoseModel,
    samples: Iterable[Sample],
    interventions: Sequence[Intervention] | Make,
    *,
    title: str = "",
    question: str = "input",
    rounds: int = 1,
    sigmas: Sequence[float] | None = None,
    seed: int = 0,
    evaluated: Callable[[PoseModel], KeypointAP] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    made: Sequence[Pass] | None = None,
) -> ProbeReport:
    """Measure every intervention on the same samples, paired with the model as it is opened.

    Args:
        model: any family or adapter, as it is opened.
        samples: with ground truth in the model's keypoints; areas and the skeleton's sigmas give OKS, without
            them PCK is measured.
        interventions: the alternatives; or what makes them for a model, see `input_interventions`. Only then
            several rounds are possible.
        title: what to call the model and the data.
        question: what is probed, for the summary.
        rounds: after a finding, the rest is tried again on the model with that finding mended, this often.
        sigmas: OKS constants; the model's own by default.
        seed: of the bootstrap.
        evaluated: AP of a model on the same set, see `ap_of`; asked twice for each finding,
            which then states both and the interval of their difference.
        progress: called with (done, total) alternatives times samples.
        cancelled: asked before each batch.
        made: passes of the model over the samples, all of which are labelled, where there are some already;
            for one round.

    Raises:
        ValueError: no labelled samples.
        Cancelled: as asked for.
    """
    judged = labelled(model, samples)
    judge = Judge.of(model, judged, model.skeleton.sigmas if sigmas is None else sigmas, seed)
    trials: list[Trial] = []
    findings: list[Finding] = []
    skipped: dict[NotTried, None] = {}
    mended: list[str] = []
    value = math.nan
    for number in range(1, max(1, rounds) + 1):
        chosen, no = interventions(model, judged) if callable(interventions) else (list(interventions), [])
        chosen = [one for one in chosen if one.cause not in mended]
        if len({one.name for one in chosen}) < len(chosen):
            raise ValueError("probe: expected interventions with different names")
        skipped |= dict.fromkeys(no)
        base, alternatives, no = measured(model, judged, chosen, progress, cancelled, made)
        skipped |= dict.fromkeys(no)
        trialled = [judge.trial(one, base, found, number) for one, found in alternatives]
        values = {one.name: judge.values(found) for one, found in alternatives}
        value = judge.value(base) if number == 1 else value
        trials += trialled
        best, close = _best(trialled, values, judge)
        if best is None:
            break
        findings.append(_finding(best, close, judge))
        if evaluated is not None:
            better = next(one for one in chosen if one.name == best.name).apply(model)
            findings[-1] = with_ap(findings[-1], evaluated(model), evaluated(better), LEVEL, seed)
        mended.append(best.cause)
        if not callable(interventions) or best.fine:
            break  # a fine shift is named only where nothing else is left
        model = next(one for one in chosen if one.name == best.name).apply(model)
    return ProbeReport(
        title or "the model",
        question,
        judge.measure,
        value,
        len(judged),
        len(judge.clusters),
        tuple(trials),
        tuple(skipped),
        tuple(findings),
        judge.protocol,
    )


Values = Mapping[str, "Float[np.ndarray, ' N']"]


def _best(trials: Sequence[Trial], values: Values, judge: Judge) -> tuple[Trial | None, list[Trial]]:
    """The alternative to name, and the best ones of other causes that cannot be told from it.

    The best of each cause, in the order of suspicion; one of a later cause only if it is better beyond
    chance.
    A fine shift only where it gives more than all that is coarse.
    """
    firsts = []
    coarse = [t for t in trials if t.better and not t.fine]
    for cause in sorted({t.cause for t in coarse}, key=_suspicion):
        own = [t for t in coarse if t.cause == cause]
        # Of those that give as much the first.
        firsts.append(next(t for t in own if t.delta > max(o.delta for o in own) - ALIKE))

    def beats(one: Trial, other: Trial) -> bool:
        change = np.nan_to_num(values[one.name] - values[other.name])
        low, _ = judge.interval(change, np.ones(len(change)))
        return low > 0 if math.isfinite(low) else one.delta > other.delta + ALIKE

    # Of several fine shifts that the labels ask for, the one that they ask for most exactly.
    fine = min(
        (t for t in trials if t.better and t.fine),
        key=lambda t: abs(math.log(max(t.share, 1e-6))),
        default=None,
    )
    if not firsts:
        return fine, []
    best = firsts[0]
    for one in firsts[1:]:
        best = one if beats(one, best) else best
    if fine is not None and fine.delta > best.delta:
        return fine, []  # misplaced keypoints are mended a little by many things
    return best, [one for one in firsts if one is not best and not beats(best, one)]


def _suspicion(cause: str) -> int:
    return CAUSES.index(cause) if cause in CAUSES else len(CAUSES)


def _finding(best: Trial, close: Sequence[Trial], judge: Judge) -> Finding:
    severity: Severity = "error" if best.delta >= 0.05 else "warning"
    numbers = [
        Measurement(f"{judge.measure} as opened", best.base, protocol=judge.protocol),
        Measurement(f"{judge.measure} with {best.name}", best.value, protocol=judge.protocol),
    ]
    after = "" if best.round == 1 else ", the findings before it mended"
    opened = f"{judge.measure} is {best.base:.3f} as the model is opened{after}"
    evidence = f"{opened}, and {best.value:.3f} with {best.name}"
    if best.fine:
        evidence = (
            f"keypoints lie off by {best.share:.2f} ({best.share_low:.2f} to {best.share_high:.2f}) of "
            f"{best.name}, which moves them by {best.pixels:.2f} input pixels on average{after}"
        )
        numbers.append(Measurement("share of the shift in the errors", best.share, expected=0.0))
    return Finding(
        best.cause,
        evidence,
        best.fix,
        tuple(numbers),
        Effect(judge.measure, best.delta, best.low, best.high, judge.protocol),
        refuted_by=f"other labelled images on which {best.name} is not better",
        assumption=f"not {' or '.join(f'{t.cause} ({t.name}: {t.value:.3f})' for t in close)}"
        if close
        else "",
        severity=severity,
        confidence="proved" if math.isfinite(best.low) and not close else "likely",
    )


# AP with its interval beside a finding, where the set is large enough for one.


ENOUGH = 100
"""Instances from which AP is worth its name: below, one instance moves it by a hundredth."""


def ap_of(pose_set: PoseSet, indices: Sequence[int]) -> Callable[[PoseModel], KeypointAP] | None:
    """What evaluates a model on some instances of a set; None where they are too few, or lack sigmas.

    Args:
        pose_set: with images.
        indices: of the instances that are probed.
    """
    areas = np.array([pose_set.instances[i].area for i in indices], float)
    if len(indices) < ENOUGH or not pose_set.skeleton.sigmas or not (areas > 0).all():
        return None

    def evaluated(model: PoseModel) -> KeypointAP:
        return evaluate(pose_set, predict(model, pose_set, indices=indices), indices=indices).ap

    return evaluated


def with_ap(finding: Finding, before: KeypointAP, after: KeypointAP, level: float, seed: int) -> Finding:
    """The finding with AP of both models and the interval of the difference.

    Args:
        finding: not changed.
        before: of the model as it was.
        after: with the finding mended.
        level: of the interval.
        seed: of the bootstrap.
    """
    change = paired_bootstrap(before, after, level=level, seed=seed)
    protocol = f"annotated boxes, no flip, {level:.0%} paired bootstrap over images"
    values = {
        "AP as opened": before.figures["AP"],
        "AP mended": after.figures["AP"],
        "AP gained": change.delta,
        "AP gained, lower end": change.low,
        "AP gained, upper end": change.high,
    }
    numbers = tuple(Measurement(name, float(v), protocol=protocol) for name, v in values.items())
    evidence = f"{finding.evidence}; AP {before.figures['AP']:.3f} and {after.figures['AP']:.3f} ({change})"
    return dataclasses.replace(finding, evidence=evidence, numbers=(*finding.numbers, *numbers))
