"""The diagnosis suite: planted causes and healthy controls; `make diagnosis-suite` writes diagnosis.md.

`python -m benchmarks.diagnosis [NAME ...]` runs the cases whose names hold one of the words. A whole run
keeps each row as it finishes, beside the page: a run that was stopped goes on where it was, and `--again`
begins anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.diagnosis_coverage import table
from benchmarks.diagnosis_items import cases_table, controls_table, items_table
from benchmarks.run import machine
from tests.diagnosis import suite
from tests.diagnosis.judging import Outcome, judged
from tests.diagnosis.systems import Case
from workbench.core.errors import USER_ERRORS, sentence
from workbench.diagnosis.cause import LEVELS

PAGE = Path(__file__).with_suffix(".md")
NOTES = Path(__file__).with_name("diagnosis_notes.md")
"""What people wrote about the cases that were missed, put on the page as it is."""

TUNED, HELD_OUT, FRESH, LATER = "in-sample", "held-out", "fresh", "later fresh"
THIRD, FOURTH, FIFTH, SIXTH = "third fresh", "fourth fresh", "fifth fresh", "sixth fresh"
FAILURES = (*USER_ERRORS, RuntimeError, TypeError, AttributeError)
"""What ends one case and not the whole run: a fault of the suite or of diagnose, told in the case's row."""
CASES: dict[str, tuple[Case, ...]] = {
    TUNED: suite.IN_SAMPLE,
    HELD_OUT: suite.HELD_OUT,
    FRESH: suite.FRESH,
    LATER: suite.LATER,
    THIRD: suite.THIRD,
    FOURTH: suite.FOURTH,
    FIFTH: suite.FIFTH,
    SIXTH: suite.SIXTH,
}


@dataclass(frozen=True)
class Row:
    """One judged case, as the page shows it.

    Attributes:
        part: a key of CASES.
        name: of the case.
        system: in which it was planted.
        strength: strong, weak or "".
        level: of the diagnosis.
        causes: the true one in the words of a finding; () for a control.
        rank: of the true cause among the findings; 0 where it was not found, and for a control.
        said: causes that were named and are not there.
        seconds: of the diagnosis, wall.
        cpu: of the diagnosis, processor.
        among: whether the true cause stands among the candidates that are named together.
    """

    part: str
    name: str
    system: str
    strength: str
    level: str
    causes: tuple[str, ...]
    rank: int
    said: tuple[str, ...]
    seconds: float
    cpu: float
    among: bool = False

    @property
    def right(self) -> bool:
        """The true cause first, or nothing said of a control."""
        return self.rank == 1 if self.causes else not self.said


def main(argv: list[str] | None = None) -> int:
    """Run the cases; 1 where a cause was missed or something false was said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="parts of names; all cases by default")
    parser.add_argument("--out", type=Path, help="the page; by default it is written when all cases run")
    parser.add_argument("--full", action="store_true", help="print every report")
    parser.add_argument(
        "--again", action="store_true", help="leave rows of a stopped run alone and begin anew"
    )
    parser.add_argument(
        "--part", default="1/1", help="2/3: the second of three processes; their rows are joined"
    )
    options = parser.parse_args(argv)
    own, parts = map(int, options.part.split("/"))
    out = options.out or (None if options.words else PAGE)
    stopped_run = None if out is None else out.with_suffix(".rows.jsonl")
    if options.again and stopped_run is not None:
        stopped_run.unlink(missing_ok=True)
    done = read_rows(stopped_run) if stopped_run is not None and not options.words else {}
    chosen = [
        (part, case)
        for part, cases in CASES.items()
        for case in cases
        if not options.words or any(word in case.name for word in options.words)
    ]
    rows = []
    for number, (part, case) in enumerate(chosen, 1):
        row = done.get((part, case.name))
        if row is None and number % parts != own % parts:
            continue
        if row is None:
            row, text = judged_row(part, case)
            if stopped_run is not None:
                with stopped_run.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
            if options.full:
                print(text, "\n", flush=True)
        rows.append(row)
        print(f"{number}/{len(chosen)} {line(row)}", flush=True)
    if out is not None and len(rows) == len(chosen):
        out.write_text(page(rows), encoding="utf-8")
        if stopped_run is not None:
            stopped_run.unlink(missing_ok=True)
    for part in CASES:
        print(part, totals([row for row in rows if row.part == part]))
    return int(not all(row.right for row in rows))


def read_rows(path: Path) -> dict[tuple[str, str], Row]:
    """Rows of a run that was stopped; {} where there is none. A line that was cut off is left out."""
    found = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            facts = json.loads(text)
        except ValueError:
            continue
        row = Row(**{**facts, "causes": tuple(facts["causes"]), "said": tuple(facts["said"])})
        found[row.part, row.name] = row
    return found


def judged_row(part: str, case: Case) -> tuple[Row, str]:
    """The row of a case and its report; where planting or diagnosis fails, a row that says so.

    Args:
        part: a key of CASES.
        case: that is run.
    """
    began = time.process_time()
    try:
        outcome = judged(case)
    except FAILURES as error:
        failed = f"the run failed ({type(error).__name__}: {sentence(error)})"
        facts = (part, case.name, case.system, case.strength, case.level, case.cause)
        return Row(*facts, 0, (failed,), 0.0, round(time.process_time() - began, 1)), failed
    return row_of(part, outcome, time.process_time() - began), outcome.report.text()


def row_of(part: str, outcome: Outcome, cpu: float) -> Row:
    """What the page shows of an outcome.

    Args:
        part: a key of CASES.
        outcome: of a case.
        cpu: processor seconds.
    """
    case = outcome.case
    return Row(
        part,
        case.name,
        case.system,
        case.strength,
        case.level,
        case.cause,
        outcome.rank,
        outcome.false,
        round(outcome.seconds, 1),
        round(cpu, 1),
        outcome.among,
    )


def line(row: Row) -> str:
    """One row as a line."""
    verdict = f"rank {row.rank}" if row.causes else "control"
    said = "; ".join(row.said) or "-"
    mark = "ok  " if row.right and not row.said else "MISS" if not row.right else "more"
    took = f"{row.seconds:5.1f} s, {row.cpu:4.1f} s cpu"
    return f"{mark} {verdict:8} {took}  {row.system}: {row.name}  | also said: {said}"


def totals(rows: Sequence[Row]) -> str:
    """The figures of a part, one line."""
    planted = [row for row in rows if row.causes]
    controls = [row for row in rows if not row.causes]
    first = sum(row.rank == 1 for row in planted)
    share = f" ({first / len(planted):.0%})" if planted else ""
    three = sum(1 <= row.rank <= 3 for row in planted)
    missed = [row for row in planted if row.rank == 0]
    among = sum(row.among for row in missed)
    candidates = f" ({among} of them among candidates)" if among else ""
    return (
        f"{len(planted)} planted: true cause first {first}{share}, in the first three {three}, missed "
        f"{len(missed)}{candidates}, nothing else said {sum(not row.said for row in planted)}; "
        f"{len(controls)} controls: nothing false said {sum(not row.said for row in controls)}"
    )


def cost(rows: Sequence[Row]) -> str:
    """Processor seconds by level, one line."""
    lines = []
    for level in LEVELS:
        values = sorted(row.cpu for row in rows if row.level == level)
        if values:
            middle, most = values[len(values) // 2], values[-1]
            lines.append(f"{level} {middle:.1f} (most {most:.1f}, {len(values)} cases)")
    return f"Processor seconds of one diagnosis, median: {'; '.join(lines)}."


def page(rows: Sequence[Row]) -> str:
    """The whole diagnosis.md."""
    lines = [
        "# Diagnosis suite",
        "",
        "Written by `make diagnosis-suite`. Causes are planted as users have them: in a checkpoint, config,",
        "adapter, annotations, image files, result file or log; controls are healthy. Thresholds were set",
        "while the in-sample cases were looked at. The held-out cases have other seeds, strengths, runs or",
        "pictures; what was changed since their first run is said below. Machine:",
        machine(),
        "All sets of fresh cases were written by somebody who had not seen the methods; what their first",
        "runs showed and what was changed since is said below, too.",
        "",
    ]
    for part in CASES:
        lines.append(f"- {part}: {totals([row for row in rows if row.part == part])}.")
    lines += ["", cost(rows), ""]
    if NOTES.is_file():
        lines += [NOTES.read_text(encoding="utf-8").strip(), ""]
    for part in CASES:
        lines += [
            f"## {part.capitalize()}",
            "",
            "| system | planted | strength | level | true cause | rank | also said | seconds | cpu |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *(cells(row) for row in rows if row.part == part),
            "",
        ]
    planted = [case for cases in CASES.values() for case in cases]
    judged = {row.name: row for row in rows}
    lines += ["## The list of causes, item by item", "", *items_table(planted, judged), ""]
    lines += ["## Healthy controls, by kind", "", *controls_table(planted, judged), ""]
    lines += ["## The five cases", "", *cases_table(), ""]
    lines += ["## What is planted where", "", *table(planted)]
    return "\n".join(lines).rstrip() + "\n"


def cells(row: Row) -> str:
    """One row of the page's table."""
    missed = "missed, among candidates" if row.among else "missed"
    rank = str(row.rank or missed) if row.causes else "-"
    cause = " or ".join(row.causes) or "none (control)"
    return (
        f"| {row.system} | {row.name} | {row.strength or '-'} | {row.level} | {cause} | {rank} "
        f"| {'; '.join(row.said) or '-'} | {row.seconds:.1f} | {row.cpu:.1f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
