"""The diagnosis suite: planted causes and healthy controls; `make diagnosis-suite` writes diagnosis.md.

`python -m benchmarks.diagnosis [NAME ...]` runs the cases whose names hold one of the words.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.run import machine
from tests.diagnosis.judging import Outcome, judged
from tests.diagnosis.planting import CONTROLS, FAULTS

PAGE = Path(__file__).with_suffix(".md")


def main(argv: list[str] | None = None) -> int:
    """Run the cases; 1 where a cause was missed or something false was said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="parts of names; all cases by default")
    parser.add_argument("--out", type=Path, help="the page; by default it is written when all cases run")
    parser.add_argument("--full", action="store_true", help="print every report")
    options = parser.parse_args(argv)
    chosen = [c for c in (*FAULTS, *CONTROLS) if not options.words or any(w in c.name for w in options.words)]
    outcomes = []
    for case in chosen:
        outcome = judged(case)
        outcomes.append(outcome)
        print(line(outcome), flush=True)
        if options.full:
            print(outcome.report.text(), "\n", flush=True)
    out = options.out or (None if options.words else PAGE)
    if out is not None:
        out.write_text(page(outcomes), encoding="utf-8")
    print(totals(outcomes))
    return int(not all(outcome.right for outcome in outcomes))


def line(outcome: Outcome) -> str:
    """One outcome as a line."""
    case = outcome.case
    verdict = f"rank {outcome.rank}" if case.cause else "control"
    said = "; ".join(outcome.false) or "-"
    mark = "ok  " if outcome.right and not outcome.false else "MISS" if not outcome.right else "more"
    return f"{mark} {verdict:8} {outcome.seconds:5.1f} s  {case.system}: {case.name}  | also said: {said}"


def totals(outcomes: Sequence[Outcome]) -> str:
    """The figures of the whole suite, one line."""
    planted = [o for o in outcomes if o.case.cause]
    controls = [o for o in outcomes if not o.case.cause]
    first = sum(o.rank == 1 for o in planted)
    three = sum(1 <= o.rank <= 3 for o in planted)
    quiet = sum(not o.false for o in controls)
    clean = sum(not o.false for o in planted)
    return (
        f"{len(planted)} planted: true cause first {first}, in the first three {three}, missed "
        f"{sum(o.rank == 0 for o in planted)}, nothing else said {clean}; {len(controls)} controls: nothing "
        f"false said {quiet}"
    )


def page(outcomes: Sequence[Outcome]) -> str:
    """The whole diagnosis.md."""
    lines = [
        "# Diagnosis suite",
        "",
        "Written by `make diagnosis-suite`. Causes are planted in the demo runs as users have them: in a",
        "checkpoint, a config, an adapter, annotations or a result file; controls are healthy. Machine:",
        machine(),
        "",
        totals(outcomes) + ".",
        "",
        "| system | planted | strength | level | true cause | rank | also said | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for o in outcomes:
        rank = str(o.rank or "missed") if o.case.cause else "-"
        cause = " or ".join(o.case.cause) or "none (control)"
        said = "; ".join(o.false) or "-"
        lines.append(
            f"| {o.case.system} | {o.case.name} | {o.case.strength or '-'} | {o.case.level} | {cause} "
            f"| {rank} | {said} | {o.seconds:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
