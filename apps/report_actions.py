"""What a reader takes away from a report: its picture, rows and facts, and the Python that makes it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence

import gradio as gr
from gradio.components import Component

from apps.pages.report_section import as_csv
from workbench.cli import MISTAKES, sentence
from workbench.core.report import Report, plain


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
