"""What an inspector's page answers: functions of plain values, called by the pages and by any HTTP client."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.components.plot import PlotData

from apps.pages.able_runs import able_runs
from apps.pages.code import report_code
from apps.pages.controls import BAR, choice_names, choices_of, offer, params_from
from apps.pages.frame import sentence_html
from apps.pages.report_section import sheet, text_of, untitled
from apps.pages.subject import (
    NO_BOX,
    SUBJECT,
    Subject,
    address_of,
    knob_values,
    run_of,
    subject_of,
    subject_values,
)
from apps.pages.subject_bar import offered
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable
from workbench.core.report import Inspector, Report


def report_of(context: Context, inspector: Inspector, *values: Any) -> tuple[Report, Any, Any]:
    """Report, params and run for the values of bar and knobs."""
    subject = subject_of(context, *values[: len(BAR)])
    looked = run_of(context, subject, inspector)
    params = params_from(inspector.params, values[len(BAR) :], looked)
    return inspector.compute(looked, params), params, looked


def answer(context: Context, inspector: Inspector, *values: Any) -> list[Any]:
    """Sentence, figure, table, code, address, and what the Choice knobs offer for this run.

    A model that cannot answer says why in the sentence's place.

    Raises:
        gr.Error: a wrong value, a missing file; one sentence.
    """
    try:
        subject = subject_of(context, *values[: len(BAR)])
        key = (
            inspector.name,
            subject,
            tuple(map(str, values)),
            context.registry.version(subject.run, subject.epoch),
        )
        data = context.registry.sets.version(subject.data) if subject.data else ""
        found = context.answers.get((*key, data), lambda: _answer(context, inspector, subject, values))
        # Gradio takes the updates that it is given apart; what is kept must stay whole.
        return [dict(one) if isinstance(one, dict) else one for one in found]
    except MISTAKES as mistake:
        raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake


def _answer(context: Context, inspector: Inspector, subject: Subject, values: Sequence[Any]) -> list[Any]:
    """An answer made anew; `LOOKS_AT_ONCE` at a time, the others wait for their turn."""
    kept = [gr.update() for _ in choice_names(inspector.params)]
    try:
        with context.looks:
            report, params, looked = report_of(context, inspector, *values)
        given = dict(zip((f.name for f in dataclasses.fields(params)), values[len(BAR) :], strict=True))
        return [
            sentence_html(report.summary()),
            # Written as JSON here and once: Gradio would do so in its event loop, again for every session.
            gr.update(value=PlotData(type="plotly", plot=str(untitled(report).to_json())), visible=True),
            gr.update(value=sheet(report.table()), visible=True),
            report_code(context, subject, inspector, params),
            address_of(context, subject, params),
            *[
                offer(choices, getattr(params, name), given[name])
                for name, choices in choices_of(inspector.params, looked).items()
            ],
        ]
    except NotAvailable as reason:
        able = ", ".join(run.title for run in able_runs(context, inspector))
        told = f"{inspector.title} cannot answer here: {reason}{able and f'; these runs can: {able}'}"
        address = address_asked(context, inspector.params, values)
        return [sentence_html(told, "why"), *[gr.update(visible=False)] * 2, "", address, *kept]


def address_asked(context: Context, params: type, values: Sequence[Any]) -> Any:
    """The address of what was asked and cannot be answered: link and rail keep to it all the same."""
    try:
        return address_of(
            context, subject_of(context, *values[: len(BAR)]), params_from(params, values[len(BAR) :])
        )
    except MISTAKES:
        return gr.skip()


def as_file(context: Context, inspector: Inspector, kind: str, *values: Any) -> str:
    """The report as the text of a JSON or CSV file.

    Raises:
        gr.Error: there is no report; one sentence.
    """
    try:
        report, _, _ = report_of(context, inspector, *values)
    except MISTAKES as mistake:
        raise gr.Error(sentence(mistake), print_exception=False) from mistake
    return text_of(report, kind)


def restored(context: Context, inspector: Inspector, query: str) -> list[Any]:
    """Bar and knobs as the address has them; what it lacks takes its default.

    Args:
        context: of this serving.
        inspector: the page's.
        query: the address's words as a JSON list: those of `address.SUBJECT`, then the knobs.

    Raises:
        gr.Error: the address names something that is not there.
    """
    fields = dataclasses.fields(inspector.params)
    words: list[Any] = json.loads(query or "[]") or [None] * (len(SUBJECT) + len(fields))
    if not words[0] and (able := able_runs(context, inspector)):
        words[0] = able[0].id  # the first visit opens on a run that can answer
    try:
        subject = subject_of(context, *subject_values(context, words[: len(SUBJECT)]), None, *NO_BOX)
        knobs = knob_values(inspector.params, words[len(SUBJECT) :])
    except MISTAKES as mistake:
        raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake
    updates = [gr.update(value=knobs[f.name]) if f.name in knobs else gr.skip() for f in fields]
    return [*offered(context, subject), *updates]
