"""Figures in a text: tables (Markdown or columns of blanks) and sentences such as ``Epoch 10: AP 0.0805``.

What is read is what such a text states plainly. A range ("11-44%") is no value and is left out; so is every
sentence that no pattern here fits. Percentages become fractions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from workbench.core.report import counted
from workbench.curves.json_lines import EPOCHS, ITERATIONS
from workbench.curves.quantities import Split, role_of, short, split_in
from workbench.curves.rows import NAN, Row, Rows
from workbench.curves.source import Source
from workbench.curves.table import Log, Stated

# A page of prose has some hundred lines; a pasted log is longer and has a reader of its own.
MOST_LINES = 50_000
_LINE = 2000
# Characters of all lines together: sentences are read at half a megabyte a second.
MOST_TEXT = 2_000_000
_NUMBER = r"[-+]?(?:\d{1,12}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,3})?"
_VALUE = re.compile(rf"^({_NUMBER})\s*(%?)(?![\w.])")
# A value in a sentence, and no range after it.
_FIGURE = rf"{_NUMBER}(?![\d.])\s*%?(?!\s*(?:-|\u2013|\u2014|to)\s*\d)"
_RANGE = re.compile(rf"^({_NUMBER})\s*%?\s*(?:-|\u2013|\u2014|to)\s*({_NUMBER})\s*%?$")
_NAME = r"[A-Za-z][\w@./]*(?:[ -][\w@./]+){0,2}"
# "[ep  1/14] train-loss: 0.03 ; lr=0.002", "--> VAL Ep 001  mAP: 31.2 %": a line that begins with its place.
_PLACE = re.compile(
    r"^\W*(?:(?P<split>train|val|valid|validation|eval|test)\w*\W+)?(?:epoch|ep)\b[\s#:=]*(?P<epoch>\d{1,9})"
    r"(?![.\d])(?:\s*/\s*\d{1,9})?(?P<rest>\s*[\]\[|;,:)\s].*)$",
    re.IGNORECASE,
)
_WITHIN = re.compile(
    r"\b(?:it|iters?|iteration|steps?|batch)\b[\s#:=]*(\d{1,9})(?:\s*/\s*(\d{1,9}))?", re.IGNORECASE
)
_SPLIT_WORD = r"(?:(?:train|val|valid|validation|eval|test)[ _/-])?"
_FIGURES = re.compile(
    rf"(?<![\w./@-])(?P<name>{_SPLIT_WORD}[A-Za-z][\w@./]{{0,60}}(?: ?@[\d.:]{{1,9}})?)(?:\s*[:=]\s*|\s+)"
    rf"(?P<value>{_FIGURE}|nan|[-+]?inf)(?![\w/])",
    re.IGNORECASE,
)
_EPOCH_LINE = re.compile(rf"\bepoch (\d{{1,9}}):?\s+({_NAME}?)\s*[:=]?\s+({_FIGURE})", re.IGNORECASE)
_STATED = re.compile(
    rf"^\W*(?P<before>{_NAME} )?(?P<kind>best|final|last)\b ?(?P<name>{_NAME})?\s*"
    rf"(?:\(\s*epoch (?P<inner>\d{{1,9}})\s*\)\s*)?[:=]\s*(?P<value>{_FIGURE})(?P<rest>.*)$",
    re.IGNORECASE,
)
_AT = re.compile(r"\bepoch\s+(\d{1,9})", re.IGNORECASE)
_FIGURE_LINE = re.compile(rf"^\W*(?P<name>{_NAME})\s*[:=]\s*(?P<value>{_FIGURE})(?:\s*\([^)]*\))?\s*$")
_RULE = re.compile(r"^[\s|:=+-]+$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_HEADING = re.compile(r"^(#{1,6})\s+(.+)$")
# What a number that is cut off may end with.
_LONGEST = 40
_LAST_NUMBER = re.compile(r"[-+.\deE]*[.\d][-+eE]*$")
# No table has wider gaps, and the time of several expressions grows with the square of one.
_BLANKS = re.compile(r"(\s{40})\s+")
_MARKS = re.compile(r"\*\*|__|`")
# Columns of words, and cells that say that there is no figure.
_WORDS = {"notes", "note", "comment", "comments", "remark", "remarks"}
_NOT_FINITE = {"nan": NAN, "inf": math.inf, "+inf": math.inf, "-inf": -math.inf}
_ABSENT = {"", "-", "--", "\u2013", "\u2014", "n/a", "na", "none", "?"}
_FIRST_COLUMNS = {"metric", "measure", "quantity", "figure"}
_EPOCH_NAMES = {*EPOCHS, "epoch range", "epoch(s)"}


@dataclass
class _Run:
    """What is found of one run."""

    points: dict[tuple[str, float], float] = field(default_factory=dict)
    lines: dict[tuple[str, float], int] = field(default_factory=dict)
    stated: list[Stated] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


# Header, rows with the numbers of their lines, headings above.
_Table = tuple[list[str], list[tuple[int, list[str]]], list[str]]


def read_pasted(source: Source) -> list[Log]:
    """The runs of a text: one, or one for each column of a comparison that the headings name as well.

    Raises:
        ValueError: it holds no figures that are read, or is too long.
    """
    lines = _plain_lines(source)
    tables, rest = _tables(lines, source)
    labels = _labels(tables)
    runs: dict[str, _Run] = {label: _Run() for label in labels} or {"": _Run()}
    for header, body, headings in tables:
        _read_table(header, body, _run_of(headings, labels), runs, labels, source)
    for number, line, headings in rest:
        run = runs.get(_run_of([*headings, line], labels) or "")
        if run is not None:
            _read_sentence(number, line, run)
    found = {label: run for label, run in runs.items() if run.points or run.stated or run.rows}
    if not found:
        raise ValueError(
            f"{source.name}: no figures by epoch; expected a log, a table with a column called epoch, or "
            "lines such as 'Epoch 10: AP 0.08'"
        )
    return [_log(run, label, source) for label, run in found.items()]


def _log(run: _Run, label: str, source: Source) -> Log:
    for stated in run.stated:
        if not math.isnan(stated.epoch):
            run.points.setdefault((stated.name, stated.epoch), stated.value)
    rows = [
        Row({name: value}, epoch, line=run.lines.get((name, epoch), 0))
        for (name, epoch), value in sorted(run.points.items(), key=lambda p: p[0][1])
    ]
    return Log(Rows(source.name, [*run.rows, *rows]), tuple(source.notes), tuple(run.stated), label)


def _plain_lines(source: Source) -> list[str]:
    """Lines without Markdown's emphasis; code blocks are left empty, unless all of the text is one."""
    lines, inside, fenced, length = [], False, [], 0
    for number, line, whole in source.lines():
        length += min(len(line), _LINE)
        if number > MOST_LINES or length > MOST_TEXT:
            raise ValueError(
                f"{source.name}: more than {MOST_LINES} lines or {MOST_TEXT // 1_000_000} MB and no log "
                "that is known"
            )
        source.budget.make()
        tail = line[-_LONGEST:]
        if not whole and (cut := _LAST_NUMBER.search(tail)) is not None:
            source.cut_number(number)
            line = line[: len(line) - len(tail) + cut.start()] + "-"  # as an absent cell
        fence = _FENCE.match(line) is not None
        inside ^= fence
        plain = "" if fence else _BLANKS.sub(r"\1", _MARKS.sub("", line[:_LINE])).rstrip()
        lines.append("" if inside else plain)
        fenced.append(plain if inside else "")
    return lines if any(line.strip() for line in lines) else fenced


def _tables(lines: Sequence[str], source: Source) -> tuple[list[_Table], list[tuple[int, str, list[str]]]]:
    """Tables, and all other lines with their numbers and their headings."""
    tables, rest, headings, at = [], [], [], 0
    while at < len(lines):
        line = lines[at]
        heading = _HEADING.match(line)
        if heading:
            headings = [*headings[: len(heading[1]) - 1], heading[2].strip()]
            at += 1
            continue
        header, end = _table_at(lines, at)
        if header:
            body = [(n + 1, _cells(lines[n])) for n in range(at + 1, end) if not _RULE.match(lines[n])]
            whole = [(number, row) for number, row in body if len(row) == len(header)]
            if len(whole) < len(body):
                source.note(
                    f"{counted(len(body) - len(whole), 'row')} of a table have another number of cells: left "
                    "out"
                )
            tables.append((header, whole, list(headings)))
            at = end
            continue
        rest.append((at + 1, line, list(headings)))
        at += 1
    return tables, rest


def _table_at(lines: Sequence[str], at: int) -> tuple[list[str], int]:
    """The header of a table that begins here, and the line after its end; no header where none begins."""
    header = _cells(lines[at])
    piped = lines[at].lstrip().startswith("|")
    named = [cell.lower() for cell in header]
    if len(header) < 2 or not (
        named[0] in _EPOCH_NAMES | _FIRST_COLUMNS or {*named} & {*EPOCHS, *ITERATIONS}
    ):
        return [], at
    end = at + 1
    while end < len(lines) and lines[end].strip() and lines[end].lstrip().startswith("|") == piped:
        if not piped and _VALUE.match(lines[end].strip()) is None:
            break
        end += 1
    return (header, end) if end > at + 1 else ([], at)


def _cells(line: str) -> list[str]:
    """Cells of a row: between bars, tabs, commas or runs of blanks."""
    text = line.strip()
    if text.startswith("|"):
        return [cell.strip() for cell in text.strip("|").split("|")]
    for mark in ("\t", ";", ","):
        if mark in text:
            return [cell.strip() for cell in text.split(mark)]
    wide = re.split(r"\s{2,}", text)
    return wide if len(wide) > 1 else text.split()


def _labels(tables: Sequence[_Table]) -> list[str]:
    """Names of runs: columns of a table of metrics, apart from those of differences."""
    for header, body, _ in tables:
        if header[0].lower() in _FIRST_COLUMNS:
            columns = [
                name
                for i, name in enumerate(header[1:], 1)
                if not any(
                    row[i].startswith("+") or (row[i].startswith("-") and row[i] != "-1") for _, row in body
                )
            ]
            return columns if len(columns) > 1 else []
    return []


def _run_of(texts: Sequence[str], labels: Sequence[str]) -> str | None:
    """The one run whose name stands in the nearest of the texts; None where none or several do."""
    for text in reversed(texts):
        words = {word.lower() for word in re.split(r"[^A-Za-z0-9]+", text)}
        named = [label for label in labels if label.lower() in words]
        if named:
            return named[0] if len(named) == 1 else None
    return None if labels else ""


def _read_table(
    header: list[str], body: list[tuple[int, list[str]]], run: str | None, runs: dict[str, _Run],
    labels: list[str], source: Source,
) -> None:  # fmt: skip
    if header[0].lower() in _FIRST_COLUMNS:
        for _, row in body:
            for label, cell in zip(header[1:], row[1:], strict=True):
                value = value_of(cell)
                if label in runs and value is not None:
                    runs[label].stated.append(Stated("reported", row[0], value, text=f"{row[0]}: {cell}"))
        return
    place = next(i for i, name in enumerate(header) if name.lower() in {*_EPOCH_NAMES, *ITERATIONS})
    target = runs.get(run) if run is not None else None
    if target is None:
        if labels:
            source.note("a table by epoch stands under no heading that names one run: left out")
        return
    for number, row in body:
        epochs = _epochs(row[place])
        for name, cell in zip(header, row, strict=True):
            if name == header[place] or not epochs or not cell:
                continue
            value = value_of(cell)
            if _RANGE.match(_first(cell)):
                source.note(f"{name} of epoch {row[place]} is given as a range, {_first(cell)}: left out")
            elif name.lower() in _WORDS:
                continue
            elif value is None and cell.strip().lower() not in _ABSENT:
                source.note(f"{name} of epoch {row[place]} is no number, {cell[:40]!r}: left out")
            elif value is not None:
                for epoch in epochs:
                    target.points[(_quantity(name), epoch)] = value
                    target.lines[(_quantity(name), epoch)] = number


def _quantity(name: str) -> str:
    """``PCK Range`` is a column of PCK."""
    return re.sub(r"\s+range$", "", name, flags=re.IGNORECASE)


def _first(cell: str) -> str:
    return cell.partition("(")[0].strip()


def _epochs(cell: str) -> list[float]:
    """One epoch, or both ends of a range: what holds from the first to the last holds at both."""
    ends = _RANGE.match(cell)
    if ends:
        return [float(ends[1]), float(ends[2])]
    one = _VALUE.match(cell)
    return [float(one[1])] if one and float(one[1]) >= 0 else []


def value_of(cell: str) -> float | None:
    """The number that a cell begins with, a percentage as a fraction; None for words and ranges."""
    text = _first(cell) or cell.strip()
    found = _VALUE.match(text)
    if found is None or _RANGE.match(text):
        return _NOT_FINITE.get(text.lower())
    return float(found[1]) / 100 if found[2] else float(found[1])


def _read_sentence(number: int, line: str, run: _Run) -> None:
    best = _STATED.match(line)
    if best is not None and (value := value_of(best["value"])) is not None:
        name = _stated_name(best)
        if name:
            epoch = float(best["inner"] or next(iter(_AT.findall(best["rest"])), NAN))
            kind = "best" if best["kind"].lower() == "best" else "final"
            run.lines.setdefault((name, epoch), number)
            run.stated.append(Stated(kind, name, value, epoch, line.strip(" -*")))
        return
    place = _PLACE.match(line)
    if place is not None and (row := _row_of(place)).values:
        run.rows.append(replace(row, line=number))
        return
    point = _EPOCH_LINE.search(line)
    name = _judged_name(point[2]) if point is not None else ""
    if point is not None and name and (value := value_of(point[3])) is not None:
        run.points.setdefault((name, float(point[1])), value)
        run.lines.setdefault((name, float(point[1])), number)
        return
    figure = _FIGURE_LINE.match(line)
    if figure is not None and role_of(figure["name"]) in ("metric", "error"):
        value = value_of(figure["value"])
        if value is not None:
            run.stated.append(Stated("reported", figure["name"], value, text=line.strip(" -*")))


def begins_with_epoch(line: str) -> bool:
    """Whether a line states figures of the epoch that it begins with."""
    place = _PLACE.match(line[:_LINE])
    return place is not None and bool(_row_of(place).values)


def _row_of(place: re.Match[str]) -> Row:
    """The figures of a line that begins with its epoch; no values where it states none that are known."""
    values: dict[str, float] = {}
    for found in _FIGURES.finditer(place["rest"]):
        name = re.sub(r"^(\w+)[ -]", r"\1_", found["name"])
        value = value_of(found["value"])
        if value is not None and role_of(name) != "other":
            values.setdefault(name, value)
    split: Split = "" if place["split"] is None else split_in(place["split"])
    within = _WITHIN.search(place["rest"])
    epoch, number = float(place["epoch"]), NAN if within is None else float(within[1])
    iteration = (epoch - 1) * float(within[2]) + number if within is not None and within[2] else NAN
    return Row(values, epoch, iteration, NAN if math.isfinite(iteration) else number, split)


def _judged_name(words: str) -> str:
    """The part of some words that names a quantity: ``had AP`` is AP; "" where none does."""
    parts = words.split()
    for i, part in enumerate(parts):
        if role_of(part) in ("metric", "error", "loss"):
            return " ".join(parts[i:]) if role_of(" ".join(parts)) != "loss" else words
    return words if role_of(words) in ("metric", "error", "loss") else ""


def _stated_name(best: re.Match[str]) -> str:
    """The quantity of a stated figure; ``Base Model Best: 70.71% AP`` has it behind the number."""
    name = _judged_name((best["name"] or "").strip())
    if name:
        return name
    behind = re.match(rf"\s*({_NAME})", best["rest"])
    return _judged_name(behind[1].split()[0]) if behind else ""


def comparable(name: str) -> str:
    """One spelling for COCO's figures in texts: ``AP@0.5``, ``AP50`` and ``AP .5`` are the same."""
    word = short(name).replace(" ", "").replace("@", "").upper()
    return re.sub(r"^(M?A[PR])0?\.?([57])(0|5)?$", lambda m: f"{m[1]}{m[2]}{m[3] or '0'}", word)
