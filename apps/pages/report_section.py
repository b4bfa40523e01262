"""The lines of Python that make the same report in a notebook."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from workbench.cli import MISTAKES, sentence
from workbench.core.files import csv_text
from workbench.core.report import Report, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from apps.pages.subject import Subject
    from apps.server.context import Context
    from workbench.core.inspector import Inspector


def report_code(context: Context, subject: Subject, inspector: Inspector, params: Any, more: str = "") -> str:
    """A few lines that open the same checkpoint, run the same sample and make the same report.

    Args:
        context: of this serving.
        subject: what is looked at.
        inspector: what is asked.
        params: its knobs.
        more: further arguments of its compute, in Python.
    """
    knobs = ", ".join(
        f"{f.name}={getattr(params, f.name)!r}"
        for f in dataclasses.fields(params)
        if getattr(params, f.name) != f.default
    )
    imports, sample = _sample(context, subject)
    record = {(): "", ("*",): ", record=model.taps"}.get(
        inspector.record, f", record={list(inspector.record)!r}"
    )
    options = f", options=DecodeOptions({subject.decoder!r})" if subject.decoder else ""
    path = path_literal(context.registry.epoch(subject.run, subject.epoch).path)
    flips = inspector.flips(context.registry.model(subject.run, subject.epoch).model)
    lines = [
        *imports,
        f"from {inspector.compute.__module__.rpartition('.')[0]} import {inspector.name}",
        "from workbench.models import open_model",
        *(["from workbench.core import DecodeOptions"] if subject.decoder else []),
        "from workbench.core.run import run",
        "",
        f"model = {opening_model(context, path)}.model",
        f"looked = run(model, [{sample}]{record}{options}{', flip=True' if flips else ''})",
        f"{inspector.name}.compute(looked, {inspector.name}.Params({knobs}){more and f', {more}'})",
    ]
    return "\n".join(lines)


def _sample(context: Context, subject: Subject) -> tuple[list[str], str]:
    if subject.image is not None:
        name = Path(subject.image).name
        box = subject.own_box
        told = repr(box) if box else "(0, 0, image.shape[1], image.shape[0])"
        return (
            [
                "from workbench.data.images import read_image",
                "from workbench.core import Sample",
                "",
                f"image = read_image({literal(name)})  # your own file: give its path",
                "",
            ],
            f"Sample(image, {told})",
        )
    imports, opening = opening_of(context, subject.data)
    return imports.splitlines(), f"{opening}.sample({subject.sample})"


def opening_of(context: Context, data: str) -> tuple[str, str]:
    """What opens a set in Python: the lines that import it, and the expression.

    Images that are missing are left out as on the page, so that the same number is the same sample.
    """
    from workbench.data import BUILTIN

    if data in BUILTIN:
        return "from workbench.data import builtin", f'builtin("{data}")'
    images = context.registry.sets.images
    more = "" if images is None else f", {path_literal(images)}"
    opening = f"read_coco({path_literal(context.registry.sets.file(data))}{more})"
    imports = "from workbench.data import read_coco"
    if context.registry.sets.get(data).left_out:
        opening = f"with_present_images({opening})"
        imports += "\nfrom workbench.data.pose_set import with_present_images"
    return imports, opening


def opening_model(context: Context, file: str) -> str:
    """The Python expression that opens a checkpoint as the app does.

    Args:
        context: of this serving; what its command line said about the models is repeated.
        file: a Python expression for the checkpoint's path.
    """
    told = context.settings
    said = {
        "config": told.config and path_literal(told.config),
        "family": told.family and literal(told.family),
        "adapter": told.adapter and path_literal(told.adapter),
        "remap": told.remap,
        "allow_partial": told.allow_partial,
        "output": list(told.output),
        "assume": list(told.assume),
    }
    more = "".join(f", {name}={value}" for name, value in said.items() if value)
    return f"open_model({file}{more})"


def told_path(path: Path) -> str:
    """The absolute path: the lines then run from any folder."""
    return path.resolve().as_posix()


def path_literal(path: Path) -> str:
    """The absolute path as a Python string."""
    return literal(told_path(path))


def literal(text: str) -> str:
    """A Python string literal of a text: a name out of a file or folder cannot end it and add code."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)


# What a reader takes away from a report: its picture, rows and facts, and the Python that makes it.


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


PAGE_TITLE_WIDTH = 76
"""Characters in a line of a figure's title that fit beside the rail of a page of 1024 pixels."""


def untitled(report: Report) -> Figure:
    """The report's figure; a title that says no more than the sentence above it is kept for files only."""
    from workbench.figures import as_title

    figure, title = report.plot(), as_title(report.summary())
    layout = figure.to_plotly_json()["layout"]
    own = layout.get("title", {}).get("text") or ""
    if own == title:
        figure.update_layout(meta={"title": title}, title_text="", margin_t=36)
    elif own:
        # On a narrow page a figure is narrower than its title's lines.
        lines = textwrap.wrap(own.replace("<br>", " "), PAGE_TITLE_WIDTH)
        more = len(lines) - own.count("<br>") - 1
        figure.update_layout(
            title_text="<br>".join(lines), margin_t=layout.get("margin", {}).get("t", 80) + 20 * more
        )
    return figure
