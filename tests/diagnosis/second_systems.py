"""Causes that stood in one system or at one strength, planted in a second one or at the other strength."""

from __future__ import annotations

from tests.diagnosis.cases_scripts import ROWS, WEAK
from tests.diagnosis.planted_trainers import (
    MODULE,
    MODULE_TWINS,
    OF_MODULE,
    OF_TRAINER,
    TRAINER,
    TRAINER_TWINS,
)
from tests.diagnosis.planted_trainings import code
from tests.diagnosis.systems import Case


def _code(system, text, name, cause, edits):
    is_weak = cause in (*WEAK, "optimizer is made anew in the loop") or "twenty" in name
    strength = "weak" if is_weak else "strong"
    row = ROWS.get(cause, "")
    return Case(f"{system}: {name}", system, code(text, *edits), (cause,), strength, "files", plants=row)


SCRIPTS: tuple[Case, ...] = (
    *(
        _code("own trainer class", TRAINER, name, cause, edits)
        for name, (cause, *edits) in OF_TRAINER.items()
    ),
    *(_code("lightning module", MODULE, name, cause, edits) for name, (cause, *edits) in OF_MODULE.items()),
)
FAULTS: tuple[Case, ...] = SCRIPTS
CONTROLS: tuple[Case, ...] = (
    *(
        Case(f"own trainer class: {name}", "own trainer class", code(TRAINER, *edits), level="files")
        for name, edits in TRAINER_TWINS.items()
    ),
    *(
        Case(f"lightning module: {name}", "lightning module", code(MODULE, *edits), level="files")
        for name, edits in MODULE_TWINS.items()
    ),
)
