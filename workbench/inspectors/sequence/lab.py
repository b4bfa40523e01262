"""Everything the lab finds about one run of a sequence model, in one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core import NotAvailable, Run, Sample
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

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False)
class Rollout(Report):
    """The answers to the lab's questions; None where the model has no such thing, and then why.

    Attributes:
        title: of the model.
        steps: forced against free.
        prefix: truth for the first k tokens.
        corruption: one token moved.
        support: spoilt in several ways.
        types: of the tokens, and the end.
        coordinates: of loss, metric and picture.
        missing: question -> why it could not be asked.
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
        """What is wrong first, in one clause."""
        return forced_and_free.diagnosis(self.steps)

    def _further(self) -> list[str]:
        told = [self.steps.turns_on_rounding] if self.steps.turns_on_rounding else []
        if self.support is not None:
            told.append(f"the support is {self.support.verdict}")
        if not self.coordinates.agree:
            told.append(self.coordinates.summary())
        return told

    def plot(self) -> Figure:
        return self.steps.plot()

    def table(self) -> list[dict[str, Any]]:
        return self.steps.table()

    def to_json(self) -> dict[str, Any]:
        """The facts under the names of the command line."""
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
                "missing": self.missing,
            }
        )


def compute(run: Run, rule: PckRule | None = None, others: Sequence[Sample] = ()) -> Rollout:
    """Ask every question.

    Args:
        run: of a sequence model on samples with truth.
        rule: of PCK.
        others: examples of other images, whose support is put in place of the real one.

    Raises:
        NotAvailable: the model cannot be rolled out.
        ValueError: no keypoint is visible.
    """
    rule = rule or PckRule()
    knobs = {"threshold": rule.threshold, "normaliser": rule.normaliser}
    steps = forced_and_free.compute(run, forced_and_free.Params(**knobs))
    missing: dict[str, str] = {}
    return Rollout(
        title=run.title or "the model",
        steps=steps,
        prefix=prefix.compute(run, prefix.Params(**knobs)),
        corruption=_asked("corruption", missing, lambda: corruption.compute(run, corruption.Params())),
        support=_asked("support", missing, lambda: support.compute(run, support.Params(**knobs), others)),
        types=_asked("types", missing, lambda: calibration.compute(run, calibration.Params())),
        coordinates=coordinates.compute(run, coordinates.Params()),
        missing=missing,
    )


def _asked(question: str, missing: dict[str, str], ask: Any) -> Any:
    try:
        return ask()
    except NotAvailable as why:
        missing[question] = str(why)
        return None
