"""The suite's page: rows of a stopped run are read again, and the figures of its parts stay apart."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import asdict
from pathlib import Path

from benchmarks import diagnosis_items
from benchmarks.diagnosis import CASES, FRESH, HELD_OUT, TUNED, Row, judged_row, page, read_rows, totals
from benchmarks.diagnosis_coverage import CONTAINERS, KINDS, coverage, kind_of, verdicts
from tests.diagnosis.judging import judged
from tests.diagnosis.systems import Case
from workbench.diagnosis import all_causes


def row(part, name, causes=("a cause",), rank=1, said=()):
    return Row(part, name, "rtmpose", "weak", "files", causes, rank, said, 1.0, 0.5)


def test_a_row_that_was_cut_off_is_left_out_and_the_others_count(tmp_path):
    path = tmp_path / "rows.jsonl"
    whole = row(TUNED, "one", said=("another",))
    path.write_text(json.dumps(asdict(whole)) + '\n{"part": "in-sample", "na')
    assert read_rows(path) == {(TUNED, "one"): whole}
    assert read_rows(tmp_path / "absent.jsonl") == {}


def test_every_part_has_figures_of_its_own():
    rows = [
        row(TUNED, "one"),
        row(TUNED, "two"),
        row(HELD_OUT, "three", rank=0),
        row(HELD_OUT, "four", (), 0),
        row(FRESH, "five", rank=2),
    ]
    text = page(rows)
    assert "- in-sample: 2 planted: true cause first 2 (100%)" in text
    assert "- held-out: 1 planted: true cause first 0 (0%), in the first three 0, missed 1" in text
    assert "- fresh: 1 planted: true cause first 0 (0%), in the first three 1, missed 0" in text
    assert "| rtmpose | three | weak | files | a cause | missed | - |" in text
    assert "1 controls: nothing false said 1" in totals(rows)


def test_a_case_that_fails_is_a_row_that_says_so():
    def make(folder):
        raise ValueError("expected an image, got a text")

    found, _ = judged_row(TUNED, Case("broken", "rtmpose", make, ("a cause",), "weak", "files"))
    assert (found.rank, found.said) == (0, ("the run failed (ValueError: expected an image, got a text)",))
    assert not found.right


def test_no_case_is_in_two_parts_and_names_are_unique():
    names = [case.name for cases in CASES.values() for case in cases]
    assert len(set(names)) == len(names)
    controls = [case for case in CASES[TUNED] if not case.cause]
    assert len(controls) >= 20


def test_every_cause_is_planted_in_two_systems_at_two_strengths_or_says_why_not():
    rows = coverage(case for cases in CASES.values() for case in cases)
    assert {row.kind.cause: row.lacks for row in rows if row.lacks} == {}
    assert {row.kind.cause: row.outdated for row in rows if row.outdated} == {}


def test_every_registered_cause_and_every_verdict_of_a_lab_has_a_row():
    listed = {name for kind in KINDS for name in (kind.cause, *kind.names)}
    assert verdicts() - listed == set()
    assert {cause.name for cause in all_causes()} - listed == set(CONTAINERS)
    assert len({kind.cause for kind in KINDS}) == len(KINDS)


def test_every_planted_case_has_a_row_and_a_strength():
    planted = [case for cases in CASES.values() for case in cases if case.cause]
    assert [case.name for case in planted if kind_of(case) is None] == []
    assert [case.name for case in planted if case.strength not in ("strong", "weak")] == []


def test_a_finding_that_does_not_tell_what_its_case_asks_for_is_a_miss():
    case = next(case for case in CASES[TUNED] if case.name == "config: clipping at .001")
    assert judged(case).rank == 1
    outcome = judged(dataclasses.replace(case, says=(*case.says, "clipped at 7")))
    assert (outcome.rank, outcome.false) == (0, ("gradient clipping too small, without clipped at 7",))


def test_every_item_of_the_list_is_planted_or_says_why_not():
    cases = [case for part in CASES.values() for case in part]
    items = diagnosis_items.ITEMS
    assert {item.name: found for item in items if (found := diagnosis_items.lacks(item, cases))} == {}
    kinds = {kind.cause for kind in KINDS}
    assert {name for item in items for name in item.kinds} <= kinds
    # No pattern is empty by a renamed case, unless the row itself says why nothing is planted.
    empty = [item.name for item in items if item.only and not diagnosis_items.listed(item, cases)]
    assert empty == []


def test_the_items_in_fewer_systems_or_strengths_are_no_faults_or_have_no_strength():
    cases = [case for part in CASES.values() for case in part]
    first = diagnosis_items.items_table(cases, {})[0]
    assert "85 items: 78 in two systems or more and at both strengths, 3 that are there or not" in first
    others = [item.name for item in diagnosis_items.ITEMS if not diagnosis_items.listed(item, cases)]
    assert others == [
        "part of the network that loses most", "support read, but not needed", "results depend on rounding",
        "conditions of classes exchanged",
    ]  # fmt: skip


def test_items_count_what_was_judged_and_name_what_was_not_first():
    part = [case for case in CASES[TUNED] if case.name in ("red and blue", "vitpose: no mean", "0 to 1")]
    rows = {"red and blue": row(TUNED, "red and blue"), "0 to 1": row(TUNED, "0 to 1", rank=2)}
    lines = {line.split(" | ")[1]: line for line in diagnosis_items.items_table(part, rows) if " | " in line}
    assert "| channel order | rtmpose: strong | 1 | 1 | - |" in lines["channel order"]
    assert "| rtmpose: strong; vitpose: weak | 2, 1 run | 0 | 0 to 1 |" in lines["mean and std"]


def test_every_control_is_of_a_kind_and_every_kind_has_some():
    controls = [case.name for part in CASES.values() for case in part if not case.cause]
    patterns = diagnosis_items.CONTROLS.values()
    assert [name for name in controls if not any(re.search(kind, name) for kind in patterns)] == []
    assert [kind for kind in patterns if not any(re.search(kind, name) for name in controls)] == []


def test_the_five_cases_are_closed_by_tests_that_are_there():
    text = Path(__file__).with_name("test_cases.py").read_text()
    named = [name for tests in diagnosis_items.FIVE_CASES.values() for name in tests]
    assert [name for name in named if f"def {name}(" not in text] == []
