"""How a diagnosis is judged against the planted cause: its rank, and what was said that is not true."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.diagnosis.systems import Case
from workbench.diagnosis import Diagnosis, diagnose


@dataclass(frozen=True)
class Outcome:
    """One case.

    Attributes:
        case: the case.
        rank: of the true cause among the findings, from 1; 0 where it is not there, or for a control.
        false: causes that were named and are not there.
        seconds: that the diagnosis took.
        report: the diagnosis.
    """

    case: Case
    rank: int
    false: tuple[str, ...]
    seconds: float
    report: Diagnosis

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
    named = [f.cause for f in report.findings if f.severity != "remark"]
    true = [rank for rank, cause in enumerate(named, 1) if cause in case.cause]
    false = tuple(c for c in named if c not in (*case.cause, *case.both))
    return Outcome(case, true[0] if true else 0, false, seconds, report)
