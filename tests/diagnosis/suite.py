"""All cases of the suite.

Held-out ones were written before their results were seen, and are run as they stand. All sets of fresh ones
were written by somebody who had not seen the methods; benchmarks/diagnosis_notes.md says what was changed
since.
"""

from __future__ import annotations

import dataclasses

from tests.diagnosis import (
    cases_data,
    cases_files,
    cases_input,
    cases_labs,
    cases_own_networks,
    cases_scripts,
    cases_training,
    fifth_fresh_cases,
    fourth_fresh_cases,
    fresh_cases,
    held_out,
    later_fresh_cases,
    planting,
    second_systems,
    sixth_fresh_cases,
    third_fresh_cases,
    unplanned_cases,
)
from tests.diagnosis.systems import Case

_MORE = (cases_files, cases_input, cases_data, cases_labs, cases_training)
# Instances on which a strong fault is searched: half of diagnose's own number, so that the suite stays short.
FEW = 24


def _on_few(case: Case) -> Case:
    """The case with few instances, where its fault is strong and a model is asked.

    The suite's ViTPose has learned its instances by heart: half as many would be others, read badly.
    """
    if case.strength != "strong" or case.level != "forward" or case.system.startswith("vitpose"):
        return case

    def make(folder):
        targets, options = case.make(folder)
        return targets, {"sample": FEW, **options}

    return dataclasses.replace(case, make=make)


IN_SAMPLE: tuple[Case, ...] = (
    *planting.FAULTS,
    *(_on_few(case) for module in _MORE for case in module.FAULTS),
    *cases_scripts.FAULTS,
    *(_on_few(case) for case in second_systems.FAULTS),
    *cases_own_networks.FAULTS,
    *planting.CONTROLS,
    *cases_scripts.CONTROLS,
    *cases_training.CONTROLS,
    *second_systems.CONTROLS,
    *cases_own_networks.CONTROLS,
)
HELD_OUT: tuple[Case, ...] = (
    *held_out.FAULTS,
    *(_on_few(case) for module in _MORE for case in module.HELD_OUT),
    *(_on_few(case) for case in unplanned_cases.FAULTS),
    *held_out.CONTROLS,
    *cases_training.HELD_CONTROLS,
)
FRESH: tuple[Case, ...] = (*fresh_cases.FAULTS, *fresh_cases.CONTROLS)
LATER: tuple[Case, ...] = (*later_fresh_cases.FAULTS, *later_fresh_cases.CONTROLS)
THIRD: tuple[Case, ...] = (*third_fresh_cases.FAULTS, *third_fresh_cases.CONTROLS)
FOURTH: tuple[Case, ...] = (*fourth_fresh_cases.FAULTS, *fourth_fresh_cases.CONTROLS)
FIFTH: tuple[Case, ...] = (*fifth_fresh_cases.FAULTS, *fifth_fresh_cases.CONTROLS)
SIXTH: tuple[Case, ...] = (*sixth_fresh_cases.FAULTS, *sixth_fresh_cases.CONTROLS)
