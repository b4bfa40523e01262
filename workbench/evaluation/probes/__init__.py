"""Probes: what is wrong with the input or the flip test of a model, found by trying the alternatives.

Every alternative is an `Intervention`, a wrapper around the model as it is opened. `probe` measures all of
them on the same labelled samples, paired, and returns a report with findings and with what was ruled out.
"""

from workbench.evaluation.probes.flip import FlipReport, probe_flip
from workbench.evaluation.probes.input import input_interventions, probe_input
from workbench.evaluation.probes.intervention import CAUSES, Intervention, NotTried
from workbench.evaluation.probes.probe_report import ProbeReport, Trial
from workbench.evaluation.probes.probing import probe

__all__ = [
    "CAUSES",
    "FlipReport",
    "Intervention",
    "NotTried",
    "ProbeReport",
    "Trial",
    "input_interventions",
    "probe",
    "probe_flip",
    "probe_input",
]
