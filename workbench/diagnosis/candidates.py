"""Candidates: causes that explain one symptom equally well, and the measurement that distinguishes them.

A candidate is never proved. It needs positive evidence of a symptom (a gain that two changes give alike, a
curve that shows a fault, a figure below the expected one), and only causes that were not ruled out are named.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.core.finding import Finding
from workbench.core.report import counted

if TYPE_CHECKING:
    from workbench.diagnosis.case import Case
    from workbench.diagnosis.separation import Separated
    from workbench.evaluation.keypoint_ap import KeypointAP

# Resamples of the interval of the run's own figure.
RESAMPLES = 500
# Confidences of what was measured, and not only read from a curve.
SURE = ("proved", "measured")
# Causes of one missing file that are named; the rest is counted.
NAMED = 4


@dataclass(frozen=True)
class Candidate:
    """One cause that explains a symptom.

    Attributes:
        cause: its name, as a finding has it.
        evidence: what was measured of it; "" where it was not tested.
        measurement: the file to give, or the command to run, that supports or excludes it.
    """

    cause: str
    evidence: str
    measurement: str


@dataclass(frozen=True)
class Candidates:
    """Causes that explain one symptom, and that what was given does not distinguish.

    Attributes:
        symptom: what was measured, one sentence with its numbers.
        causes: two or more, or the one that was not ruled out.
    """

    symptom: str
    causes: tuple[Candidate, ...]

    def text(self) -> str:
        """The symptom and the names of its causes, one sentence."""
        names = [one.cause for one in self.causes]
        listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
        return f"{self.symptom.rstrip('.')}: {listed}"


_OVERFIT = (
    "run `workbench diagnose CHECKPOINT --data SET --level train`: one image that is learned excludes it"
)
_CONFIG = "give the training config (--config)"
_TWO_EPOCHS = "give an earlier epoch beside the checkpoint"
EXPLAINED_BY: Mapping[str, tuple[tuple[str, str], ...]] = {
    "training loss does not fall": (
        ("learning rate is ten times off its recipe's", f"{_CONFIG}: its rate is compared with the recipe's"),
        ("no gradient reaches the network", "give a log with the gradient norm, or the training script"),
        ("layers that never learned", f"{_TWO_EPOCHS}: weights that moved exclude it"),
        ("training data and labels do not belong together", _OVERFIT),
    ),
    "not finite": (
        ("learning rate is ten times off its recipe's", f"{_CONFIG}: its rate is compared with the recipe's"),
        ("half precision overflows in training", "give a log with the loss scale; train in float32"),
        ("gradient clipping too small or absent", f"{_CONFIG}, and a log with the gradient norm"),
        ("annotations are inconsistent", "give the training annotations (--data TRAIN.json)"),
    ),
    "best is not last": (
        ("overfitting", "give the losses of training and validation in one log: only that of training falls"),
        ("the learning rate stays too high", f"{_CONFIG}: its schedule is compared with the log's rate"),
        ("the validation changed", "evaluate both epochs anew: run `workbench compare BEST LAST --data SET`"),
    ),
    "loss falls while the metric does not": (
        ("overfitting", "evaluate on training images: run `workbench evaluate CHECKPOINT --data TRAIN.json`"),
        ("validated on other data or with another input", "give checkpoint and set (--data, --images)"),
        ("targets encoded otherwise than outputs are decoded", f"{_CONFIG}: both codecs are compared"),
    ),
    "keypoints not learned": (
        ("support not read", "run `workbench diagnose CHECKPOINT --data SET --level train`"),
        ("the training was too short", "give the training log: a loss that falls up to its end supports it"),
        ("no gradient reaches the network", "give a log with the gradient norm, or the training script"),
    ),
    "outputs are constant": (
        ("layers that never learned", f"{_TWO_EPOCHS}: weights that moved exclude it"),
        ("value range", "give the code of the input (--adapter) or the config (--config)"),
        ("weights only partly loaded", f"{_CONFIG}, by which names are compared"),
    ),
}
"""Symptom, by the name of its finding -> causes that have it, each with what distinguishes it."""


def of_symptoms(
    findings: Sequence[Finding], ruled_out: Collection[str], symptom_of: Mapping[str, Sequence[str]]
) -> list[Candidates]:
    """Candidates of findings that are symptoms, where no cause of theirs was found.

    Args:
        findings: of the diagnosis.
        ruled_out: causes that were tested and are not there.
        symptom_of: cause -> causes that explain it.
    """
    found = []
    errors = {one.cause for one in findings if one.severity != "remark"}
    # What only a curve shows is explained by an error that was measured in the run itself.
    measured = any(
        one.severity == "error" and one.confidence in SURE and one.cause not in EXPLAINED_BY
        for one in findings
    )
    for finding in findings:
        known = EXPLAINED_BY.get(finding.cause, ())
        explained = {name for name, _ in known} | set(symptom_of.get(finding.cause, ()))
        if finding.severity == "remark" or not known or explained & errors or _is_undone(finding):
            continue
        if measured and finding.confidence not in SURE:
            continue
        left = [Candidate(name, "", tells) for name, tells in known if name not in ruled_out]
        if left:
            found.append(Candidates(f"{finding.cause} ({finding.evidence.rstrip('.')})", tuple(left)))
    return found


def _is_undone(finding: Finding) -> bool:
    return finding.effect is not None and finding.effect.delta > 0 and finding.effect.low > 0


def of_separation(
    apart: Separated | None, named: Collection[str], refuted_by: Mapping[str, str]
) -> list[Candidates]:
    """Changes that give back as much as a chosen one, and nothing on top of it.

    Args:
        apart: the separation; None where nothing was separated.
        named: causes that stand in the report as findings.
        refuted_by: cause -> which observation would refute it.
    """
    found: list[Candidates] = []
    if apart is None:
        return found
    for change in apart.chosen:
        same = [change, *apart.alike.get(change, ())]
        if len(same) < 2 or change.cause not in named:
            continue
        gains = [(one, apart.alone[one]) for one in same if one in apart.alone]
        listed = tuple(
            Candidate(
                one.cause,
                f"{one.name} gives {gain.text()}",
                f"it is refuted by {refuted_by.get(one.cause, 'other images with another result')}",
            )
            for one, gain in gains
        )
        if len(listed) > 1:
            symptom = (
                f"mean OKS {apart.base.mean_oks:.3f} rises alike with each of "
                f"{counted(len(listed), 'cause')} undone, and the others give nothing on top of the first"
            )
            found.append(Candidates(symptom, listed))
    return found


def of_claim(case: Case, not_testable: Mapping[str, str]) -> list[Candidates]:
    """What may explain a figure below the expected one where no cause was found: what could not be tested.

    Args:
        case: after all tests.
        not_testable: cause -> what is missing.
    """
    evidence, claimed = case.peek("measured") or case.peek("evidence"), case.options.claim.get("AP")
    if evidence is None or claimed is None:
        return []
    measured = evidence.measure().ap
    own, high = measured.figures["AP"], _upper_end(measured)
    if not high < claimed:
        return []
    missing: dict[str, list[str]] = {}
    for cause, needs in not_testable.items():
        if any(word in needs for word in _OBTAINABLE):
            missing.setdefault(needs, []).append(cause)
    listed = tuple(Candidate(_some(names), "", needs) for needs, names in missing.items())
    if not listed:
        return []
    symptom = (
        f"AP is {own:.3f} (at most {high:.3f} in 95 % of the resamples) of the expected {claimed:.3f}, and "
        "every cause that could be tested was ruled out; causes that are left"
    )
    return [Candidates(symptom, listed)]


_OBTAINABLE = ("no log was given", "no config was given", "earlier epoch", "not found; name", "--level")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _upper_end(measured: KeypointAP) -> float:
    """The upper end of the interval of 95 % of an AP; of too few images, what is beyond doubt above it."""
    from workbench.evaluation.bootstrap import (
        counting_images,
        drawn_images,
        percentile_interval,
        resampled_ap,
    )
    from workbench.evaluation.probes.probe_report import DOUBTLESS

    draws = resampled_ap(measured, drawn_images(measured, measured, RESAMPLES, 0.95, seed=0))
    high = percentile_interval(draws, 0.95, counting_images(measured))[1]
    # Without an interval, a step that none of chance makes; nan of an evaluation without annotations.
    return high if math.isfinite(high) else measured.figures["AP"] + DOUBTLESS
