"""One question of the Rollout page: both epochs' answers beside each other, and how to keep them."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.report_section import as_csv, sheet, untitled
from apps.pages.rollout.cards import shown
from workbench.core.report import Report, plain
from workbench.inspectors import get

if TYPE_CHECKING:
    from apps.pages.rollout.lab import Lab
    from apps.pages.rollout.wishes import Wish


@dataclass(frozen=True)
class Section:
    """The widgets of one question; index 0 is epoch A, 1 is B."""

    question: str
    columns: tuple[gr.Column, gr.Column]
    lines: tuple[gr.HTML, gr.HTML]
    figures: tuple[gr.Plot, gr.Plot]
    table: gr.Dataframe
    code: gr.Code
    pngs: tuple[gr.Button, gr.Button]
    files: dict[str, tuple[gr.Button, gr.Textbox]]
    copy: gr.Button

    @property
    def outputs(self) -> list[Component]:
        """In the order of `told`."""
        return [*self.columns, *self.lines, *self.figures, self.table, self.code, self.pngs[0]]  # type: ignore[list-item]


# Half the page's width: pictures need less height there than they plan for.
HEIGHTS = {"overlay": 460, "step_attention": 300, "forced_and_free": 360, "prefix": 360, "calibration": 320}

OUTPUTS = 9
"""How many values `told` gives."""


def section(question: str) -> Section:
    """Add one question to the page."""
    inspector = get(question)
    alone = f"look-{question.replace('_', '-')}"
    gr.HTML(
        f'<h2 id="rol-{question}">{inspector.title}<small>{inspector.question} '
        f'<a class="rol-alone" data-page="/{alone}" href="/{alone}">open alone</a></small></h2>',
        elem_classes="wb-section rol-section", apply_default_css=False, js_on_load=None,
    )  # fmt: skip
    columns, lines, figures = [], [], []
    with gr.Row(equal_height=False, elem_classes="rol-pair"):
        for letter in "AB":
            with gr.Column(min_width=420) as column:
                line = gr.HTML(
                    elem_id=f"rol-{question}-{letter}-line", apply_default_css=False, js_on_load=None
                )
                figure = gr.Plot(
                    show_label=False, container=False, visible=False, elem_id=f"rol-{question}-{letter}",
                    elem_classes="rol-figure",
                )  # fmt: skip
            columns.append(column)
            lines.append(line)
            figures.append(figure)
    with gr.Row(elem_classes="wb-actions"):
        pngs = tuple(gr.Button(f"PNG {letter}", size="sm") for letter in "AB")
        files = {
            kind: (
                gr.Button(kind.upper(), size="sm"),
                gr.Textbox(visible="hidden", show_label=False, elem_classes="rol-payload"),
            )
            for kind in ("csv", "json")
        }
        copy = gr.Button("Copy as code", size="sm")
    with gr.Accordion("Values, and the same in a notebook", open=False):
        table = gr.Dataframe(interactive=False, show_label=False, max_height=360)
        code = gr.Code(language="python", show_label=False, interactive=False)
    return Section(question, tuple(columns), tuple(lines), tuple(figures), table, code, pngs, files, copy)  # type: ignore[arg-type]


def told(lab: Lab, wish: Wish, question: str) -> list[Any]:
    """Updates of a section's widgets with what is known by now."""
    found = [lab.found(wish, question, epoch) for epoch in wish.epochs]
    two = len(found) == 2
    drawn = [untitled(report) if isinstance(report, Report) else None for report in found]
    if len(drawn) == 2 and drawn[0] is not None and drawn[1] is not None:
        from workbench.figures.layout import on_same_axes

        drawn = list(on_same_axes(drawn[0], drawn[1]))
    if two:
        for figure in filter(None, drawn):
            figure.update_layout(height=HEIGHTS.get(question, figure.layout.height))  # type: ignore[attr-defined]
    labels = [lab.context.registry.epoch(wish.run, epoch).label for epoch in wish.epochs]
    if not two:  # one epoch has the whole width, in B's place
        found, drawn, labels = [None, *found], [None, *drawn], ["", *labels]
    lines = [
        f'<div class="rol-epoch">{letter} {html.escape(label)}</div>{shown(report)}' if two else shown(report)
        for letter, label, report in zip("AB", labels, found, strict=True)
    ]
    figures = [gr.update(visible=False) if f is None else gr.update(value=f, visible=True) for f in drawn]
    rows = sheet(rows_of(lab, wish, question))
    return [
        gr.update(visible=two), gr.update(visible=True), *lines, *figures, gr.update(value=rows),
        code_of(lab, wish, question), gr.update(visible=two),
    ]  # fmt: skip


def rows_of(lab: Lab, wish: Wish, question: str) -> list[dict[str, Any]]:
    """Both epochs' tables as one."""
    rows = []
    for epoch in wish.epochs:
        report = lab.found(wish, question, epoch)
        if isinstance(report, Report):
            label = lab.context.registry.epoch(wish.run, epoch).label
            rows += [{"epoch": label, **row} for row in report.table()]
    return rows


def as_file(lab: Lab, wish: Wish, question: str, kind: str) -> str:
    """Both epochs' reports as the text of a JSON or CSV file; made now where they are not there.

    Raises:
        NotAvailable: the model cannot answer.
        ValueError: the wish cannot be answered.
    """
    reports = {
        lab.context.registry.epoch(wish.run, epoch).label: lab.report(wish, question, epoch)
        for epoch in wish.epochs
    }
    if kind == "json":
        return json.dumps(plain({k: r.to_json() for k, r in reports.items()}), ensure_ascii=False)
    return as_csv([{"epoch": label, **row} for label, report in reports.items() for row in report.table()])


def code_of(lab: Lab, wish: Wish, question: str) -> str:
    """Python that makes the same reports in a notebook."""
    from apps.pages.code import opening_of, report_code

    inspector = get(question)
    more = ""
    if question == "support" and (other := lab.other(wish)) is not None:
        more = f"[{opening_of(lab.context, wish.data)[1]}.sample({other})]"
    codes = [
        report_code(lab.context, wish.subject(epoch), inspector, lab.params(wish, inspector), more)
        for epoch in wish.epochs
    ]
    if wish.support is not None:
        example = f"{opening_of(lab.context, wish.data)[1]}.sample({wish.support})"
        codes = [c.replace(").model\n", f").model.supported_by([{example}])\n") for c in codes]
    return "\n\n".join(codes)
