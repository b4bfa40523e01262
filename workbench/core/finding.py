"""Finding: one record for everything that is found wrong with a model, a training, a log or a data set.

Used by the clinic, the overfit bisector, the rollout and grouping inspectors, and the data lints, so that all
findings can be listed, ranked and read in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from workbench.core.report import plain, signed_text

Severity = Literal["error", "warning", "remark"]
"""How bad it is. error: figures are wrong, or the model cannot work. warning: figures suffer. remark: worth a
look, and not wrong in itself."""

Confidence = Literal["proved", "measured", "likely", "possible"]
"""Why it is believed. proved: an intervention removed the symptom. measured: the symptom itself was measured.
likely: the evidence fits this cause better than others. possible: it fits several causes."""

WITH_FLIP_TEST = " with flip test"
"""Ends the measure of an effect on figures with the flip test, where the run's figure is without it."""

_SEVERITY: tuple[Severity, ...] = ("error", "warning", "remark")
_CONFIDENCE: tuple[Confidence, ...] = ("proved", "measured", "likely", "possible")


@dataclass(frozen=True)
class Measurement:
    """One number of the evidence.

    Attributes:
        name: what was measured: ``score after the refiner``.
        value: nan where it could not be measured.
        unit: ``pixels``, ``share of the box``; "" for a plain number.
        expected: what it should be; nan where nothing is expected of it.
        protocol: how it was measured: data, boxes, flip, decoder, number of samples; "" where the finding's
            report says so for all of its numbers.
    """

    name: str
    value: float
    unit: str = ""
    expected: float = math.nan
    protocol: str = ""


@dataclass(frozen=True)
class Effect:
    """What an intervention that removes the cause gave back.

    Attributes:
        measure: ``AP``, ``PCK@0.05``.
        delta: with the cause removed, less with the cause; positive means that the cause costs so much.
        low: lower end of the interval; nan where none was drawn.
        high: upper end of the interval; nan where none was drawn.
        protocol: by which rules both were measured.
    """

    measure: str
    delta: float
    low: float = math.nan
    high: float = math.nan
    protocol: str = ""

    def text(self) -> str:
        """``AP +0.031 (0.022 to 0.040)``."""
        interval = f" ({self.low:.3f} to {self.high:.3f})" if math.isfinite(self.low + self.high) else ""
        return f"{self.measure} {signed_text(self.delta)}{interval}"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth a look.

    Attributes:
        cause: short name of the cause, the same wherever it is found: ``neck skipped in predict``.
        evidence: what was seen, one sentence with its numbers.
        fix: what to do, one sentence; "" where no fix is known.
        numbers: the numbers of the evidence, for tables and JSON; () where the sentence is all there is.
        effect: what removing the cause gave back; None where no intervention measured it.
        refuted_by: which observation would refute the finding; "" where it is a plain fact.
        assumption: what it rests on that was not looked at; "" for nothing.
        severity: how bad it is.
        confidence: why it is believed.
        where: at which place it was seen: an epoch, a file, a module; "" for the whole subject.
        diff: the fix as a change of text: a unified diff of the config, or lines of code with - and + before
            them; "" where it is no change of text.
    """

    cause: str
    evidence: str
    fix: str = ""
    numbers: tuple[Measurement, ...] = ()
    effect: Effect | None = None
    refuted_by: str = ""
    assumption: str = ""
    severity: Severity = "error"
    confidence: Confidence = "measured"
    where: str = ""
    diff: str = ""

    def text(self) -> str:
        """One line: cause, evidence, effect and fix."""
        parts = [f"{self.cause}: {self.evidence}"]
        parts += [f"removing it gives {self.effect.text()}"] if self.effect is not None else []
        parts += [f"only if {self.assumption}"] if self.assumption else []
        parts += [self.fix] if self.fix else []
        return "; ".join(parts)

    def facts(self) -> dict[str, Any]:
        """The finding as plain data for JSON: nan as None, records as dicts."""
        return plain(self)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Findings, the most important first: by severity, then by measured effect, then by confidence.

    Findings that are equal in all three keep their order.
    """

    def key(one: Finding) -> tuple[int, float, int]:
        effect = one.effect.delta if one.effect is not None and math.isfinite(one.effect.delta) else 0.0
        return _SEVERITY.index(one.severity), -effect, _CONFIDENCE.index(one.confidence)

    return sorted(findings, key=key)
