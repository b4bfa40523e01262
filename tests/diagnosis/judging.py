"""How a diagnosis is judged against the planted cause: its rank, what it tells, and what is not true."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.diagnosis.systems import Case
from workbench.core.finding import Finding
from workbench.diagnosis import Diagnosis, diagnose


@dataclass(frozen=True)
class Outcome:
    """One case.

    Attributes:
        case: the case.
        rank: of the true cause among the findings, from 1; 0 where it is not there or does not tell what
            the case asks of it, or for a control.
        false: causes that were named and are not there; of a control also candidates.
        seconds: that the diagnosis took.
        report: the diagnosis.
        among: whether the true cause stands among the candidates, which are not proved.
    """

    case: Case
    rank: int
    false: tuple[str, ...]
    seconds: float
    report: Diagnosis
    among: bool = False

    @property
    def right(self) -> bool:
        """The true cause first, or nothing said of a control."""
        return self.rank == 1 if self.case.cause else not self.false


def judged(case: Case, **more: Any) -> Outcome:
    """Make the files of a case, diagnose them, and compare with what was planted."""
    with tempfile.TemporaryDirectory() as folder:
        targets, options = case.make(Path(folder))
        started = time.perf_counter()
        report = diagnose(targets, level=case.level, **{**options, **more})  # type: ignore[arg-type]
        seconds = time.perf_counter() - started
    # Remarks and warnings are no causes: they say what is worth a look.
    found = [finding for finding in report.findings if finding.severity != "remark"]
    named = [(rank, finding, untold(finding, case)) for rank, finding in enumerate(found, 1)]
    true = [rank for rank, finding, left in named if finding.cause in case.cause and not left]
    false = [f.cause for f in found if f.cause not in (*case.cause, *case.both)]
    if not true:
        false += [f"{f.cause}, without {left}" for _, f, left in named if f.cause in case.cause]
    candidates = [one.cause for group in report.candidates for one in group.causes]
    if not case.cause:
        false += [f"{cause}, as a candidate" for cause in candidates if cause not in case.both]
    among = any(cause in case.cause for cause in candidates)
    return Outcome(case, true[0] if true else 0, tuple(false), seconds, report, among)


def untold(finding: Finding, case: Case) -> str:
    """The first thing that the case asks of its finding and the finding does not tell; "" for none."""
    text = "\n".join((finding.evidence, finding.fix, finding.diff, finding.where))
    return next((wanted for wanted in case.says if re.search(wanted, text) is None), "")
