"""What a reader takes away from a report: its picture, rows and facts, and the Python that makes it."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from workbench.cli import MISTAKES, sentence
from workbench.core.files import csv_text
from workbench.core.report import Report, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def text_of(report: Report, kind: str) -> str:
    """The report as the text of a file: ``csv`` has every row, ``json`` every fact."""
    if kind == "json":
        return json.dumps(plain(report.to_json()), ensure_ascii=False, allow_nan=False)
    return as_csv(report.table())


def add_actions(
    name: str,
    figure: str,
    inputs: Sequence[Component],
    report: Callable[..., Report],
    code: Callable[..., str],
) -> gr.Row:
    """Buttons under a figure; the row that holds them, which stands only where there is a report.

    Args:
        name: what files and handlers are called.
        figure: id of the figure's element.
        inputs: what `report` and `code` are asked with.
        report: the report that is shown; what it raises is told in one sentence.
        code: lines of Python that make the same report.
    """
    with gr.Row(elem_classes="wb-actions", visible=False) as row:
        png, as_csv, as_json, copy = (gr.Button(w, size="sm") for w in ("PNG", "CSV", "JSON", "Copy as code"))
    png.click(None, None, None, js=f"() => window.wb.picture({json.dumps(figure)}, {json.dumps(name)})")
    given = list(inputs)
    for kind, button in (("csv", as_csv), ("json", as_json)):
        payload = gr.Textbox(visible="hidden", show_label=False)
        button.click(
            functools.partial(_in_one_sentence, lambda *values, kind=kind: text_of(report(*values), kind)),
            given, payload, api_name=f"{name}_{kind}", show_progress="hidden",
        ).success(None, payload, None, js=f"(text) => window.wb.save(text, '{name}.{kind}')")  # fmt: skip
    lines = gr.Textbox(visible="hidden", show_label=False)
    copy.click(
        functools.partial(_in_one_sentence, code), given, lines, api_name=f"{name}_code",
        show_progress="hidden",
    ).success(None, lines, None, js="(text) => window.wb.copy(text, document.activeElement)")  # fmt: skip
    return row


def _in_one_sentence(ask: Callable[..., str], *values: object) -> str:
    try:
        return ask(*values)
    except MISTAKES as mistake:
        raise gr.Error(sentence(mistake), print_exception=False) from mistake


# A report on the page: its rows as a table, its figure under the sentence that is its title.


# A page is read by people: more rows belong in the CSV, which has them all.
ROWS = 500


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as the text of a CSV file."""
    return csv_text(rows) if rows else "empty\r\n"


def sheet(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Headers and cells for gr.Dataframe; numbers rounded to what can be told apart by eye."""
    if not rows:
        return {"headers": ["nothing to list"], "data": []}
    headers = list(rows[0])
    return {
        "headers": [h.replace("_", " ") for h in headers],
        "data": [[cell(row.get(h)) for h in headers] for row in rows[:ROWS]],
    }


def cell(value: Any) -> Any:
    """One value as shown: four significant digits, a dash for what is unknown."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, (int, bool, str)):
        return value
    return str(value)


def untitled(report: Report) -> Figure:
    """The report's figure; a title that says no more than the sentence above it is kept for files only."""
    from workbench.figures import as_title

    figure, title = report.plot(), as_title(report.summary())
    if figure.to_plotly_json()["layout"].get("title", {}).get("text") == title:
        figure.update_layout(meta={"title": title}, title_text="", margin_t=36)
    return figure
