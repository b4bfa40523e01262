"""The files of a diagnosis: one page that needs no network, and a notebook that repeats the measurements."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from workbench.core.finding import Finding
from workbench.core.plain_text import escaped, json_text, preformatted, printable
from workbench.diagnosis.candidates import Candidates
from workbench.diagnosis.report import Diagnosis
from workbench.figures.document import drawn, html_document

STYLE = ".tag{font-size:.8em;border:1px solid;border-radius:4px;padding:0 .4em;margin-left:.4em;opacity:.75}"


def document(report: Diagnosis) -> str:
    """The diagnosis as one HTML document."""
    return html_document(f"diagnosis: {report.title}", [body(report, figure=True)], STYLE)


def body(report: Diagnosis, figure: bool = False) -> str:
    """The content of the document, and of the page.

    Args:
        report: the diagnosis.
        figure: with the figure of effects, of a document.
    """
    parts = [f'<div class="answer">{"".join(f"<p>{escaped(s)}</p>" for s in report.sentences())}</div>']
    if report.subject:
        parts.append(f"<p>What it is: {escaped(report.subject)}.</p>")
    if report.findings:
        parts.append(f"<ol>{''.join(_item(finding, report.groups) for finding in report.findings)}</ol>")
    parts += [_alike(group) for group in report.candidates]
    if figure and any(finding.effect is not None for finding in report.findings):
        parts += ["<h2>What undoing each cause gives back</h2>", drawn(report.plot())]
    if report.ruled_out:
        parts.append(_listed("Ruled out", ("cause", "what was seen"), report.ruled_out.items()))
    if report.not_testable:
        parts.append(
            _listed("Could not be tested", ("cause", "what is missing"), report.not_testable.items())
        )
    parts += [f"<p>Note: {escaped(note)}</p>" for note in report.notes]
    if report.worth_adding:
        parts.append(
            "<h2>Worth adding</h2><ul>"
            + "".join(f"<li>{escaped(t)}</li>" for t in report.worth_adding)
            + "</ul>"
        )
    if report.commands:
        rows = ((one.shows, one.line) for one in report.commands)
        parts.append(_listed("To see more", ("what it shows", "command"), rows, code=True))
    protocol = f" Protocol: {report.protocol}." if report.protocol else ""
    cost = f"{report.seconds:.1f} s, level {report.level}, with {report.given}.{protocol}"
    parts.append(f"<p><small>{escaped(cost)}</small></p>")
    return "".join(parts)


def _item(finding: Finding, groups: Mapping[str, str]) -> str:
    tags = [groups.get(finding.cause, ""), finding.severity, finding.confidence]
    marks = "".join(f'<span class="tag">{escaped(tag)}</span>' for tag in tags if tag)
    lines = [f"<b>{escaped(finding.cause)}</b>{marks}"]
    if finding.effect is not None:
        lines.append(f"Undoing it gives back {escaped(finding.effect.text())}.")
    lines.append(escaped(finding.evidence))
    if finding.assumption:
        lines.append(f"<i>Only if</i> {escaped(finding.assumption)}")
    if finding.fix:
        lines.append(f"<i>Do:</i> {_fix(finding.fix)}")
    if finding.diff:
        lines.append(preformatted(finding.diff))
    if finding.refuted_by:
        lines.append(f"<i>Refuted by:</i> {escaped(finding.refuted_by)}")
    return f"<li>{'<br>'.join(lines)}</li>"


def _alike(group: Candidates) -> str:
    """Causes that what was given does not distinguish, with the measurement that does."""
    items = "".join(
        f"<li><b>{escaped(one.cause)}</b>{f'<br>{escaped(one.evidence)}' if one.evidence else ''}"
        f"<br><i>Distinguished by:</i> {escaped(one.measurement)}</li>"
        for one in group.causes
    )
    return (
        "<h2>Possible causes that what was given does not distinguish</h2>"
        f"<p>{escaped(group.symptom)}</p><ul>{items}</ul>"
    )


def _fix(text: str) -> str:
    """A fix, its diff set apart where it has one."""
    first, _, rest = text.partition("\n")
    return escaped(first) + (preformatted(rest) if rest else "")


def _listed(title: str, heads: tuple[str, str], rows: Iterable[tuple[str, str]], code: bool = False) -> str:
    begin, end = ("<code>", "</code>") if code else ("", "")
    lines = "".join(
        f"<tr><td>{escaped(cause)}</td><td>{begin}{escaped(why)}{end}</td></tr>" for cause, why in rows
    )
    head = "".join(f"<th>{text}</th>" for text in heads)
    return f"<details><summary>{title}</summary><table><tr>{head}</tr>{lines}</table></details>"


def notebook(report: Diagnosis) -> str:
    """A Jupyter notebook that makes the diagnosis again and shows the next experiment.

    Args:
        report: the diagnosis; `repeat` holds its arguments.
    """
    given = _arguments(report.repeat)
    effects = {f.cause: round(f.effect.delta, 6) for f in report.findings if f.effect is not None}
    # nan is no name of Python, and equal to nothing.
    effects = {cause: value for cause, value in effects.items() if math.isfinite(value)}
    figures = {name: round(value, 6) for name, value in report.figures.items() if math.isfinite(value)}
    cells = [
        _markdown(f"# Diagnosis: {_plain(printable(report.title))}", "", *map(_plain, report.sentences())),
        _code(
            "from workbench.diagnosis import diagnose", "", f"report = diagnose(\n    {given},\n)", "report"
        ),
        _markdown("## The figures are those of the report"),
        _code(
            f"reported = {figures!r}",
            f"effects = {effects!r}",
            "again = {f.cause: f.effect.delta for f in report.findings if f.effect is not None}",
            "for name, value in reported.items():",
            "    assert abs(report.figures[name] - value) < 1e-5, (name, report.figures[name], value)",
            "for cause, value in effects.items():",
            "    assert abs(again[cause] - value) < 1e-5, (cause, again[cause], value)",
            "print(f'{len(reported)} figures and {len(effects)} effects are the same')",
        ),
        _markdown("## Every finding with its numbers"),
        _code("import pandas as pd", "", "pd.DataFrame(report.table())"),
        _code(
            "for finding in report.findings:",
            "    print(finding.cause)",
            "    for number in finding.numbers:",
            "        print(f'  {number.name}: {number.value:.4g} {number.unit}')",
        ),
        _markdown("## What was ruled out"),
        _code("pd.DataFrame(report.ruled_out.items(), columns=['cause', 'what was seen'])"),
    ]
    if report.candidates:
        cells += [
            _markdown("## Possible causes that what was given does not distinguish"),
            _code(
                "for group in report.candidates:",
                "    print(group.symptom)",
                "    for one in group.causes:",
                "        print(f'  {one.cause}: {one.measurement}')",
            ),
        ]
    cells += _next_experiment(report)
    content = {
        "cells": cells,
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json_text(content, indent=1) + "\n"


def _arguments(repeat: Mapping[str, Any]) -> str:
    return ",\n    ".join(f"{name}={value!r}" for name, value in repeat.items())


# The level that comes after each, for the next experiment.
_NEXT = {"files": "forward", "forward": "evaluate", "evaluate": "train"}


def _next_experiment(report: Diagnosis) -> list[dict[str, Any]]:
    """The fix applied and measured, where it is a change of a config; else the next level of tests."""
    first = report.findings[0] if report.findings else None
    if first is not None and report.experiment:
        edits, source = dict(report.experiment["edits"]), report.experiment["config"]
        repeated = {name: value for name, value in report.repeat.items() if name != "config"}
        # A config that was read and not run is not run here either.
        read = {} if "config" in report.repeat else {"run_config": False}
        mended = _arguments({**repeated, **read})
        return [
            _markdown("## Next experiment: the fix, applied and measured", "", _plain(first.fix)),
            _code(
                "import tempfile",
                "from pathlib import Path",
                "from workbench.diagnosis.fixes import edited",
                "",
                f"source = Path({source!r})",
                "mended = Path(tempfile.mkdtemp()) / source.name",
                f"text = edited(source.read_text(), {edits!r}, source.name)",
                "mended.write_text(text)",
                f"after = diagnose(\n    config=mended,\n    {mended},\n)",
                "print('AP', report.figures.get('AP'), '->', after.figures.get('AP'))",
                f"[f.cause for f in after.findings]  # without {first.cause!r} where the fix is right",
            ),
        ]
    level = _NEXT.get(str(report.repeat.get("level", "")))
    if level is None:
        return []
    why = f"It would refute {first.cause!r}: {first.refuted_by}" if first is not None else "More is tested."
    return [
        _markdown(f"## Next experiment: tests of level {level}", "", _plain(why)),
        _code(f"after = diagnose(\n    {_arguments({**report.repeat, 'level': level})},\n)", "after"),
    ]


def _plain(text: str) -> str:
    """Text for Markdown: a name out of a file is no tag, link, picture or formula."""
    return re.sub(r"([\\`*\[\]<>&$])", r"\\\1", text)


def _markdown(*lines: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": _identity(lines), "metadata": {}, "source": "\n".join(lines)}


def _code(*lines: str) -> dict[str, Any]:
    source = "\n".join(lines)
    return {
        "cell_type": "code", "id": _identity(lines), "metadata": {}, "execution_count": None, "outputs": [],
        "source": source,
    }  # fmt: skip


def _identity(lines: Iterable[str]) -> str:
    """An id of a cell, the same each time."""
    import hashlib

    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
