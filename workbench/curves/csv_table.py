"""CSV logs: Lightning's metrics.csv, ultralytics' results.csv (names with spaces), and plain ones."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

from workbench.core.report import counted
from workbench.curves.json_lines import EPOCHS, ITERATIONS, SPLIT_NAMES, plain_rows, split_word
from workbench.curves.source import Source, as_number
from workbench.curves.table import Log

_MOST_COLUMNS = 2000
_COMMA = re.compile(r"^(-?\d+),(\d+)")


def is_csv(head: bytes, name: str) -> bool:
    """Whether the first line names columns with commas, semicolons or tabs between them."""
    first = head.decode("utf-8-sig", errors="replace").lstrip("\r\n").split("\n", 1)[0]
    parts = first.split(_delimiter(first))
    return len(parts) > 1 and not first.lstrip().startswith(("|", "#", "{")) and all(
        part.strip() and as_number(part.strip()) is None and len(part) < 200 for part in parts
    ) and (name.lower().endswith((".csv", ".tsv")) or _counts(parts))  # fmt: skip


def _counts(parts: list[str]) -> bool:
    return bool({part.strip().strip('"').lower() for part in parts} & {*EPOCHS, *ITERATIONS})


def read_csv(source: Source) -> Log:
    """The rows of a CSV; an empty cell is a figure that was not logged in this row.

    Raises:
        ValueError: no header, or too many rows of another length than the header.
    """
    words: set[str] = set()
    rows = plain_rows(_numbers(source, words), source)
    if not len(rows):
        raise ValueError(f"{source.name}: a header and no row of figures")
    if words:
        source.note(f"words and no numbers stand in {', '.join(sorted(words)[:5])}: left out")
    return Log(rows, tuple(source.notes))


def _numbers(source: Source, words: set[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line, numbers and split of each row; columns with something else are added to `words`."""
    names: list[str] = []
    delimiter = ","
    for number, line, whole in source.lines():
        if not line.strip():
            continue
        if not names:
            delimiter = _delimiter(line)
        try:
            cells = next(csv.reader([line], delimiter=delimiter))
        except (csv.Error, StopIteration):
            source.broken_line(number, "expected a row of a CSV", whole)
            continue
        source.budget.make(len(cells))
        if not names:
            names = _names(cells, source)
        elif len(cells) != len(names):
            source.broken_line(
                number, f"expected {len(names)} cells as the header has, got {len(cells)}", whole
            )
        elif [cell.strip() for cell in cells] == names:
            source.note(f"the header stands again in line {number}: training was started again there")
        else:
            source.good += 1
            filled = {n: c.strip() for n, c in zip(names, cells, strict=True) if c.strip()}
            if not whole:
                filled.pop(names[-1], None)
                source.cut_number(number, names[-1])
            if delimiter == ";":  # as spreadsheets of many countries write numbers: 0,031
                filled = {n: _COMMA.sub(r"\1.\2", c) for n, c in filled.items()}
            found: dict[str, Any] = {n: v for n, c in filled.items() if (v := as_number(c)) is not None}
            found |= {n: c for n, c in filled.items() if n.lower() in SPLIT_NAMES and split_word(c)}
            words |= filled.keys() - found.keys()
            yield number, found


def _names(cells: list[str], source: Source) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(names) > _MOST_COLUMNS:
        raise ValueError(f"{source.name}: {counted(len(names), 'column')}, which no log has")
    if len(set(names)) < len(names) or not all(names):
        twice = next((name for name in names if names.count(name) > 1), "")
        raise ValueError(
            f"{source.name}, line 1: expected a name for each column, each once; got {twice!r} twice"
        )
    if any(as_number(name) is not None for name in names):
        raise ValueError(f"{source.name}, line 1: expected the names of the columns, got numbers")
    return names


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)
