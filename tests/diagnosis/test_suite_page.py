"""The suite's page: rows of a stopped run are read again, and the figures of its parts stay apart."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict

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
