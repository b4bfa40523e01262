"""The suite's page: rows of a stopped run are read again, and in-sample and held-out figures stay apart."""

from __future__ import annotations

import json
from dataclasses import asdict

from benchmarks.diagnosis import CASES, HELD_OUT, TUNED, Row, page, read_rows, totals


def row(part, name, causes=("a cause",), rank=1, said=()):
    return Row(part, name, "rtmpose", "weak", "files", causes, rank, said, 1.0, 0.5)


def test_a_row_that_was_cut_off_is_left_out_and_the_others_count(tmp_path):
    path = tmp_path / "rows.jsonl"
    whole = row(TUNED, "one", said=("another",))
    path.write_text(json.dumps(asdict(whole)) + '\n{"part": "in-sample", "na')
    assert read_rows(path) == {(TUNED, "one"): whole}
    assert read_rows(tmp_path / "absent.jsonl") == {}


def test_both_parts_have_figures_of_their_own():
    rows = [
        row(TUNED, "one"),
        row(TUNED, "two"),
        row(HELD_OUT, "three", rank=0),
        row(HELD_OUT, "four", (), 0),
    ]
    text = page(rows)
    assert "- in-sample: 2 planted: true cause first 2 (100%)" in text
    assert "- held-out: 1 planted: true cause first 0 (0%), in the first three 0, missed 1" in text
    assert "| rtmpose | three | weak | files | a cause | missed | - |" in text
    assert "1 controls: nothing false said 1" in totals(rows)


def test_no_case_is_in_both_parts_and_names_are_unique():
    names = [case.name for cases in CASES.values() for case in cases]
    assert len(set(names)) == len(names)
    controls = [case for case in CASES[TUNED] if not case.cause]
    assert len(controls) >= 20
