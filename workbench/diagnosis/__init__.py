"""Why is a run worse than it should be? Causes, each with a test; findings, ranked by their evidence."""

from __future__ import annotations

from workbench.diagnosis.case import Case, Options
from workbench.diagnosis.cause import Cause, NotTestable, RuledOut, Undone, all_causes
from workbench.diagnosis.diagnosing import diagnose
from workbench.diagnosis.evidence import Change
from workbench.diagnosis.report import Diagnosis

__all__ = [
    "Case",
    "Cause",
    "Change",
    "Diagnosis",
    "NotTestable",
    "Options",
    "RuledOut",
    "Undone",
    "all_causes",
    "diagnose",
]
