"""Mistakes that the code of a training shows by itself, each beside a twin in which nothing is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.diagnosis.planted_scripts import FAULTS, HEALTHY_TWINS, OTHER_CODE
from tests.diagnosis.planted_trainings import edited_script
from workbench.diagnosis.training_code import script_in


def causes_in(text):
    """Names of the faults that count, remarks aside."""
    compile(text, "train.py", "exec")
    script = script_in(text, Path("train.py"))
    return [fault.cause for fault in (script.faults if script else ()) if fault.severity != "remark"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_in_the_loop_is_named_alone(name):
    cause, *edits = FAULTS[name]
    assert causes_in(edited_script(*edits)) == [cause]


@pytest.mark.parametrize("name", HEALTHY_TWINS)
def test_a_loop_that_looks_like_a_mistake_and_has_none_is_left_alone(name):
    assert causes_in(edited_script(*HEALTHY_TWINS[name])) == []


@pytest.mark.parametrize("name", OTHER_CODE)
def test_code_around_the_loop_is_read_as_well(name):
    cause, text = OTHER_CODE[name]
    assert causes_in(text) == ([cause] if cause else [])


def test_a_part_that_is_frozen_with_weights_that_were_trained_before_is_a_remark():
    script = script_in(edited_script(*HEALTHY_TWINS["fine-tuned: stem frozen by its name"]), Path("train.py"))
    assert script is not None
    assert [(fault.cause, fault.severity) for fault in script.faults] == [
        ("optimizer misses parameters", "remark")
    ]
