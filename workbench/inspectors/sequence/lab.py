"""All results of the rollout lab on one run of a sequence model, in one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import NotAvailable, Run, Sample
from workbench.core.finding import Finding, Measurement, ranked
from workbench.core.report import Report, plain
from workbench.inspectors.sequence import (
    calibration,
    coordinates,
    corruption,
    forced_and_free,
    prefix,
    support,
)
from workbench.inspectors.sequence.rollout import PckRule
from workbench.training.sequence_checks import LEAK_NAME

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


# The name that other models' keypoints have for it.
PERMUTED = "keypoint order permuted"
# Cause, fix and what would refute it.
MISPLACED = (
    PERMUTED,
    forced_and_free.REORDER,
    "answers that read exactly the tokens before their own keypoint",
)
LEAK = (
    LEAK_NAME,
    forced_and_free.SHIFT,
    "answers that stay when the true tokens of their own and later steps move",
)


@dataclass(frozen=True, eq=False)
class Rollout(Report):
    """The reports of the lab; None where the model lacks what a report needs.

    Attributes:
        title: of the model.
        steps: teacher-forced against free-running.
        prefix: PCK with the first k tokens true.
        corruption: effect of one wrong token.
        support: effect of other supports.
        types: token types and the end of the sequence.
        coordinates: of loss, metric and drawing.
        missing: report -> why it is not available.
    """

    title: str
    steps: forced_and_free.ForcedAndFree
    prefix: prefix.Prefix
    corruption: corruption.Corruption | None
    support: support.SupportUse | None
    types: calibration.TokenTypes | None
    coordinates: coordinates.Coordinates
    missing: dict[str, str]

    def summary(self) -> str:
        return "; ".join([f"{self.title}: {self.diagnosis()}", *self._further()])

    def diagnosis(self) -> str:
        """The main problem in one clause."""
        return forced_and_free.diagnosis(self.steps)

    def _further(self) -> list[str]:
        further = [self.steps.rounding_warning] if self.steps.rounding_warning else []
        if self.support is not None:
            further.append(f"the support is {self.support.verdict}")
        if not self.coordinates.agree:
            further.append(self.coordinates.summary())
        return further

    @property
    def leak_verdict(self) -> str:
        """What the movement of answers with their own true tokens means, in a few words."""
        if np.isnan(self.steps.leak):
            return "not measured"
        return LEAK[0] if self.steps.leaks else MISPLACED[0] if self.steps.order else "none"

    def to_findings(self) -> tuple[Finding, ...]:
        """Everything that is wrong, the most important first; () for a model without problems."""
        steps, found = self.steps, []
        pck = (
            Measurement("PCK, teacher-forced", steps.pck_forced, protocol=steps.rule),
            Measurement("PCK, free-running", steps.pck_free, protocol=steps.rule),
        )
        verdict = "" if self.support is None else self.support.verdict
        # What has not learned the keypoints shows nothing of what it needs for them.
        if self.support is not None and (
            verdict == "not read" or (verdict == "read, but not needed" and steps.learned)
        ):
            severity = "error" if verdict == "not read" else "warning"
            cause = f"support {verdict}"
            fix = "check that support features reach the decoder; train with several categories or orders"
            # First: without its support the network cannot know which keypoints are asked for.
            found.append(Finding(cause, self.support.summary(), fix, severity=severity))
        if steps.order or steps.leaks:
            cause, fix, refuted = MISPLACED if steps.order else LEAK
            found.append(Finding(cause, steps.summary(), fix, pck, refuted_by=refuted))
        elif steps.fails_on_its_own:
            fix, refuted = "train with scheduled sampling", "free-running PCK as high as teacher-forced PCK"
            found.append(Finding("exposure bias", steps.summary(), fix, pck, refuted_by=refuted))
        elif not steps.learned:
            fix = "train it longer, or overfit one image to find the cause"
            found.append(Finding("keypoints not learned", steps.summary(), fix, pck))
        if steps.rounding_warning:
            fix = "compare figures of one machine and one batch size only"
            # A limit of what can be compared, and no reason why a figure is low.
            cause = "results depend on rounding"
            found.append(Finding(cause, steps.rounding_warning, fix, severity="remark"))
        found += [
            Finding(claim.cause, claim.text(), claim.why)
            for claim in self.coordinates.claims
            if not claim.agrees
        ]
        return tuple(ranked(found))

    def plot(self) -> Figure:
        return self.steps.plot()

    def table(self) -> list[dict[str, Any]]:
        return self.steps.table()

    def to_json(self) -> dict[str, Any]:
        """The facts, with the keys of the command line."""
        uses = self.support
        return plain(
            {
                "summary": self.summary(),
                "title": self.title,
                "rule": self.steps.rule,
                "pck_can_be": self.steps.steps_of_pck,
                "pck_forced": self.steps.pck_forced,
                "pck_free": self.steps.pck_free,
                "gap": self.steps.gap,
                "leak": self.steps.leak,
                "leak_verdict": self.leak_verdict,
                "moved_by_rounding": None
                if self.steps.rounding is None
                else float(self.steps.rounding.max(initial=0)),
                "per_step": self.steps.per_step,
                "prefix": self.prefix.curve,
                "corruption": self.corruption.table() if self.corruption else None,
                "support": uses.by_kind if uses else None,
                "support_verdict": uses.verdict if uses else None,
                "support_moved": dict(zip(uses.kinds, uses.moved, strict=True)) if uses else None,
                "types": self.types.to_json() if self.types else None,
                "coordinates": self.coordinates.table(),
                "findings": [finding.facts() for finding in self.to_findings()],
                "missing": self.missing,
            }
        )


def compute(run: Run, rule: PckRule | None = None, others: Sequence[Sample] = ()) -> Rollout:
    """All reports of the lab.

    Args:
        run: of a sequence model on samples with ground truth.
        rule: of PCK.
        others: examples of other images, used as replaced support.

    Raises:
        NotAvailable: the model cannot be rolled out.
        ValueError: no keypoint is visible.
    """
    rule = rule or PckRule()
    rule_params = {"threshold": rule.threshold, "normaliser": rule.normaliser}
    steps = forced_and_free.compute(run, forced_and_free.Params(**rule_params))
    missing: dict[str, str] = {}
    return Rollout(
        title=run.title or "the model",
        steps=steps,
        prefix=prefix.compute(run, prefix.Params(**rule_params)),
        corruption=_available("corruption", missing, lambda: corruption.compute(run, corruption.Params())),
        support=_available(
            "support", missing, lambda: support.compute(run, support.Params(**rule_params), others)
        ),
        types=_available("types", missing, lambda: calibration.compute(run, calibration.Params())),
        coordinates=coordinates.compute(run, coordinates.Params()),
        missing=missing,
    )


def _available(question: str, missing: dict[str, str], computed: Callable[[], Any]) -> Any:
    try:
        return computed()
    except NotAvailable as why:
        missing[question] = str(why)
        return None
