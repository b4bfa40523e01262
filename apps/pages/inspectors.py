"""The page of the inspectors: functions of plain values, called by the page and by any HTTP client."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.components.plot import PlotData

from apps.pages.controls import (
    BAR,
    LatestQuestion,
    Slots,
    choice_names,
    choices_of,
    knobs_for,
    named,
    offer,
    params_from,
)
from apps.pages.frame import Page, sentence_html
from apps.pages.links import read_link, say_of_link
from apps.pages.report_section import Answer, report_code, sheet, subject_inputs, text_of, untitled
from apps.pages.sections import REMEMBER, Download, buttons_html, hidden_text, html_block, root_block
from apps.pages.subject import (
    NO_BOX,
    SUBJECT,
    Subject,
    SubjectBar,
    able_runs,
    address_of,
    box_events,
    first_able,
    knob_values,
    neighbour,
    offered,
    run_of,
    subject_bar,
    subject_of,
    subject_values,
)
from apps.server.context import Context
from apps.server.encoding import sent_json, sent_words
from apps.server.gradio_private import check_values, uploaded
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable
from workbench.core.inspector import Inspector
from workbench.core.report import Report
from workbench.inspectors import ALL, folder_of, get


def report_of(context: Context, inspector: Inspector, *values: Any) -> tuple[Report, Any, Any]:
    """Report, params and run for the values of bar and knobs."""
    subject = subject_of(context, *values[: len(BAR)])
    looked = run_of(context, subject, inspector)
    params = params_from(inspector.params, values[len(BAR) :], looked)
    return inspector.report(looked, params), params, looked


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
    unchanged = [gr.update() for _ in choice_names(inspector.params)]
    try:
        with context.looks:
            report, params, looked = report_of(context, inspector, *values)
        given = dict(zip((f.name for f in dataclasses.fields(params)), values[len(BAR) :], strict=True))
        code = report_code(context, subject, inspector, params)
        return [
            sentence_html(report.summary()) + _replaced_html(inspector.params, params, given),
            # Written as JSON here and once: Gradio would do so in its event loop, again for every session.
            gr.update(value=PlotData(type="plotly", plot=str(untitled(report).to_json())), visible=True),
            gr.update(value=sheet(report.table()), visible=True),
            code,
            address_of(context, subject, params),
            *[
                offer(choices, getattr(params, name), given[name])
                for name, choices in choices_of(inspector.params, looked).items()
            ],
            actions_html(inspector.name, values, code, {"wb-figure": ""}),
        ]
    except NotAvailable as reason:
        able = ", ".join(run.title for run in able_runs(context, inspector))
        # The title says it.
        why = str(reason).removeprefix(f"{inspector.name}: ").removeprefix(f"{inspector.title.lower()}: ")
        text = f"{inspector.title} cannot answer here: {why}{able and f'; these runs can: {able}'}"
        address = address_asked(context, inspector.params, values)
        # Where no setting of the controls gives an answer, shell.css hides them.
        kind = "why wb-unmet" if _unmet(context, inspector, subject) else "why"
        return [sentence_html(text, kind), *[gr.update(visible=False)] * 2, "", address, *unchanged, ""]


def _replaced_html(kind: type, params: Any, given: Mapping[str, Any]) -> str:
    """Which choices are not offered for this model, and what is shown instead; "" where all are offered."""
    replaced = [
        f"{name.replace('_', ' ')} {given[name]!r:.60} is not offered here, {getattr(params, name)} is shown"
        for name in choice_names(kind)
        # Another sample has another instance.
        if name != "instance" and given[name] and given[name] != getattr(params, name)
    ]
    return sentence_html("; ".join(replaced), "why") if replaced else ""


def _unmet(context: Context, inspector: Inspector, subject: Subject) -> bool:
    """Whether the model itself cannot be asked, whatever the controls say."""
    try:
        return bool(inspector.needs.unmet_in(run_of(context, subject, inspector)))
    except MISTAKES:
        return False


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

    A word that names something that is not there is said, and its default taken: an error would write "Error"
    into every control and leave nothing to choose from.

    Args:
        context: of this serving.
        inspector: the page's.
        query: the address's words as a JSON list: those of `address.SUBJECT`, then the knobs.
    """
    fields = dataclasses.fields(inspector.params)
    count = len(SUBJECT) + len(fields)
    words = [*(sent_json(query, list) or []), *[None] * count][:count]
    (subject, knobs), refused = read_link(words, functools.partial(_linked, context, inspector))
    for text in refused:
        say_of_link(text)
    updates = [gr.update(value=knobs[f.name]) if f.name in knobs else gr.skip() for f in fields]
    return [*offered(context, subject), *updates]


def _linked(context: Context, inspector: Inspector, words: list[Any]) -> tuple[Subject, Mapping[str, Any]]:
    """What an address names: the subject, and the values of its knobs by name."""
    run, *others = words
    run = run or first_able(context, inspector)
    named = subject_values(context, [run, *others[: len(SUBJECT) - 1]])
    return subject_of(context, *named, None, *NO_BOX), knob_values(inspector.params, words[len(SUBJECT) :])


# One page for all inspectors: the controls come from the Params of the one that the address names.


LOOK = "Look"
PARENTS = {
    "attribution": "Attribution",
    "sequence": "Rollout",
    "grouping": "Grouping",
    "conditioning": "Conditioning",
}
"""Folder of inspectors -> entry of the navigation that their pages belong to."""

ROUTE = "look"
"""Route that all these pages share; their addresses are ``look-<name>``."""


def pages(parent: str = LOOK) -> list[Page]:
    """One entry per inspector, in the order of `workbench.inspectors.ALL`.

    Args:
        parent: the rail's entry that they stand under: those of the rollout lab under Rollout, those of the
            tag lab under Grouping, those of the clinic under Conditioning, the others under Look.
    """
    return [page for page in map(_page, map(get, ALL)) if page.parent == parent]


def _page(inspector: Inspector) -> Page:
    return Page(
        path=f"{ROUTE}-{inspector.name.replace('_', '-')}",
        title=inspector.title,
        question=inspector.question,
        build=build,
        parent=PARENTS.get(folder_of(inspector.name), LOOK),
        shared=ROUTE,
        address=(*SUBJECT, *(f"k.{field.name}" for field in dataclasses.fields(inspector.params))),
    )


class SharedPage:
    """Handlers of the page of all inspectors; `name` is that of the one that is shown.

    Args:
        context: of this serving.
        slots: the widgets of the controls.
    """

    def __init__(self, context: Context, slots: Slots) -> None:
        self.context, self.slots = context, slots
        self._names = {page.path: name for name in ALL for page in [_page(get(name))]}

    def _inspector(self, path: str) -> Inspector:
        """The inspector of an address; of another address of the page the first one."""
        return get(self._names.get(path, ALL[0]))

    @staticmethod
    def _address(text: str) -> tuple[str, list[Any], dict[str, Any]]:
        """Path of the page, words and controls of an address, as the page sends it.

        Raises:
            ValueError: it is no such address.
        """
        found = sent_json(text, dict)
        path, controls = found.get("page", ""), found.get("controls", {})
        if not isinstance(path, str) or not isinstance(controls, dict):
            raise ValueError(f"expected the address of a page, got {text!r:.60}")
        return path, sent_words(json.dumps(found.get("words") or []), len(SUBJECT)), controls

    def opened(self, address: str = "{}") -> list[Any]:
        """Name of the inspector, its controls at their defaults, and the column that holds them."""
        inspector = self._inspector(self._address(address)[0])
        controls = self.slots.shown_for(inspector.params)
        return [inspector.name, *controls, gr.update(visible=bool(dataclasses.fields(inspector.params)))]

    def restored(self, address: str = "{}") -> list[Any]:
        """Bar and controls as the address has them."""
        path, words, controls = self._address(address)
        inspector = self._inspector(path)
        names = [field.name for field in dataclasses.fields(inspector.params)]
        fields = [controls.get(name) for name in names]
        bar = restored(self.context, inspector, json.dumps([*words, *fields]))
        linked, knobs = bar[: len(bar) - len(fields)], bar[len(bar) - len(fields) :]
        return [*linked, *self.slots.spread(inspector.params, knobs)]

    def answer(self, name: str = "", *values: Any) -> list[Any]:
        """Sentence, figure, table, code, address, controls and buttons; nothing before the page is opened."""
        if not name:
            return [gr.skip()] * (6 + len(self.slots.components))
        inspector = get(name)
        bar, all_controls = values[: len(BAR)], values[len(BAR) :]
        chosen = [all_controls[number] for number in self.slots.numbers(inspector.params)]
        shown = answer(self.context, inspector, *bar, *chosen)
        offers = dict(zip(choice_names(inspector.params), shown[5:-1], strict=True))
        updates = [offers.get(field.name, gr.skip()) for field in dataclasses.fields(inspector.params)]
        return [*shown[:5], *self.slots.spread(inspector.params, updates), shown[-1]]


@dataclass(frozen=True)
class _Parts:
    """Components of the page; `actions` holds the buttons below the figure."""

    bar: SubjectBar
    column: gr.Column
    slots: Slots
    line: gr.HTML
    figure: gr.Plot
    actions: gr.HTML
    table: gr.Dataframe
    code: gr.Code


def build(context: Context) -> None:
    """Add the page's components and events."""
    parts = _components(context)
    page = SharedPage(context, parts.slots)
    name, address, query = (hidden_text() for _ in range(3))
    controls = parts.slots.components
    inputs = [*parts.bar.inputs, *controls]
    results = [parts.line, parts.figure, parts.table, parts.code, address]
    asking, _ = add_question(
        context, parts.bar, controls, ROUTE, neighbour, ask=page.answer, inputs=[name, *inputs],
        outputs=[*results, *controls, parts.actions], address=address, show_progress="minimal",
        # A cached answer costs nothing; what is computed waits for its turn in _answer.
        show_progress_on=[parts.line], concurrency_id="look", concurrency_limit=16,
    )  # fmt: skip
    read = f"() => JSON.stringify(window.wb.address({json.dumps(SUBJECT)}))"
    opened = root_block().load(
        page.opened, query, [name, *controls, parts.column], js=read, api_name="look_opened",
        show_progress="hidden",
    )  # fmt: skip
    asking.after(
        opened.success(
            page.restored, query, [*parts.bar.linked, *controls], js=read, api_name="look_restored",
            show_progress="hidden",
        )
    )  # fmt: skip


def publish(context: Context) -> None:
    """Add the handlers of all inspectors for HTTP clients: an answer by name, and its files."""
    bar, address, payload, code = subject_bar(context), hidden_text(), hidden_text(), hidden_text()
    line, actions = html_block(), html_block()
    results = [line, gr.Plot(), gr.Dataframe(), code, address, actions]
    for name in ALL:
        _publish(context, get(name), bar.inputs, results, payload)


def _publish(
    context: Context,
    inspector: Inspector,
    subject: Sequence[Component],
    results: Sequence[Component],
    payload: gr.Textbox,
) -> None:
    """The handlers of one inspector, with widgets of its own: clients read types and defaults from them.

    Args:
        context: of this serving.
        inspector: whose.
        subject: components of the subject bar.
        results: components of sentence, figure, table, code, address, and of the buttons.
        payload: a hidden text; it takes the handlers, which no event of a page calls.
    """
    names = [field.name for field in dataclasses.fields(inspector.params)]
    controls = dict(zip(names, knobs_for(inspector.params), strict=True))
    inputs = [*subject, *controls.values()]
    offers = [controls[name] for name in choice_names(inspector.params)]
    payload.submit(
        named(answer, context, inspector, params=inspector.params), inputs,
        [*results[:-1], *offers, results[-1]], api_name=inspector.name, show_progress="hidden",
        concurrency_id="look", concurrency_limit=16,
    )  # fmt: skip
    add_file_handlers(context, inspector, inputs, payload)


def _components(context: Context) -> _Parts:
    """Bar on top; controls on the left; sentence, figure, table and code on the right."""
    bar = subject_bar(context)
    with gr.Row(elem_classes="wb-work"):
        with gr.Column(scale=0, min_width=216, elem_classes="wb-knobs", visible=False) as column:
            slots = Slots([get(name).params for name in ALL])
        with gr.Column(scale=1, min_width=500):
            line = html_block("wb-answer")
            figure = gr.Plot(show_label=False, container=False, elem_id="wb-figure")
            actions = html_block("wb-actions")
            table = gr.Dataframe(
                interactive=False, show_label=False, max_height=420, elem_id="wb-table", visible=False
            )
            code = code_block()
    return _Parts(bar, column, slots, line, figure, actions, table, code)


def add_file_handlers(
    context: Context, inspector: Inspector, inputs: Sequence[Component], payload: gr.Textbox, name: str = ""
) -> None:
    """The CSV and the JSON of a report: for HTTP clients by name, for the page's buttons as downloads.

    Args:
        context: of this serving.
        inspector: of the page.
        inputs: of its handlers.
        payload: a hidden text; it takes the handlers, which no event of the page calls.
        name: prefix of the handlers' names and address of the page; the inspector's by default.
    """

    def shown(section: str, state: str) -> Answer:
        values = sent_json(state, list)
        check_values(inputs, values)
        place = BAR.index("image")
        if values[place]:
            values[place] = str(uploaded(values[place]))
        report, params, _ = report_of(context, inspector, *values)
        subject = subject_of(context, *values[: len(BAR)])
        data = "" if subject.image else subject.data
        files = subject_inputs(context, subject.run, [subject.epoch], data)
        return Answer.of(inspector.title, report, report_code(context, subject, inspector, params), files)

    context.reports[name or inspector.name] = shown
    for kind in ("csv", "json"):
        payload.submit(
            named(as_file, context, inspector, kind, params=inspector.params), list(inputs), payload,
            api_name=f"{name or inspector.name}_{kind}", show_progress="hidden",
        )  # fmt: skip


def actions_html(page: str, values: Sequence[Any], code: str, pictures: Mapping[str, str]) -> str:
    """Copy link, PNG, CSV, JSON and Copy as code of what is shown.

    Args:
        page: key of `Context.reports`.
        values: of bar and controls.
        code: Python that makes the same report.
        pictures: as of `sections.buttons_html`.
    """
    download = Download(page, page, json.dumps(list(values)))
    return buttons_html(download, pictures, code, link=True)


def code_block() -> gr.Code:
    """Add the Python that makes the same report, folded."""
    with gr.Accordion("The same in a notebook", open=False, elem_classes="wb-notebook"):
        return gr.Code(language="python", show_label=False, interactive=False)


Beside = Callable[[Context, str, int, int], int]
"""From data, sample and direction to the next sample."""


def add_question(
    context: Context, bar: SubjectBar, controls: Sequence[Component], name: str, beside: Beside, *,
    ask: Callable[..., Any], address: Component, **settings: Any,
) -> tuple[LatestQuestion, Any]:  # fmt: skip
    """Ask about the bar's subject whenever it or a control changes, and write it into the page's address.

    Args:
        context: of this serving.
        bar: the page's.
        controls: beside the bar.
        name: of the handler; the bar's handlers begin with it.
        beside: the next sample.
        ask: the handler.
        address: output of the handler, as JSON.
        **settings: inputs, outputs ... of `gr.on`.

    Returns:
        the question, for what else asks it, and the event of an answer.
    """
    asking = LatestQuestion()
    changes = [w.input for w in (*bar.asking, *controls)]  # type: ignore[attr-defined]
    changed = asking.on(changes, ask, api_name=name, **settings)
    for event in (*subject_events(context, bar, name, beside), *box_events(context, bar, name)):
        asking.after(event)
    return asking, changed.success(None, address, None, js=REMEMBER)


def subject_events(context: Context, bar: SubjectBar, name: str, beside: Beside) -> list[Any]:
    """Changes of the bar that change the bar itself: another run or set has other epochs and samples.

    Args:
        context: of this serving.
        bar: the page's.
        name: what the handlers' names begin with.
        beside: the next sample.
    """

    def guarded(*values: Any) -> list[Any]:
        try:
            return offered(context, subject_of(context, *values, None, None, None, None, None))
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake

    def other_run(run: str) -> list[Any]:
        _, *rest = guarded(run, None, None, None, "")
        return rest

    def other_data(run: str, epoch: int, data: str, decoder: str) -> Any:
        return guarded(run, epoch, data, None, decoder)[bar.linked.index(bar.sample)]

    def step(by: int, data: str | None, sample: float | None) -> Any:
        if not data:  # the page is still being filled
            return gr.skip()
        try:
            return beside(context, data, int(sample or 0), by)
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), print_exception=False) from mistake

    walk: list[Component] = [bar.data, bar.sample]
    # What was chosen is not sent back: another may have been chosen meanwhile.
    return [
        LatestQuestion().on(
            [bar.run.input], other_run, inputs=bar.run, outputs=bar.linked[1:],  # type: ignore[attr-defined]
            api_name=f"{name}_run", show_progress="hidden",
        ),
        LatestQuestion().on(
            [bar.data.input], other_data,  # type: ignore[attr-defined]
            inputs=[bar.run, bar.epoch, bar.data, bar.decoder], outputs=bar.sample,
            api_name=f"{name}_data", show_progress="hidden",
        ),
        *(
            button.click(
                functools.partial(step, by), walk, bar.sample, api_name=f"{name}_{way}",
                show_progress="hidden",
            )
            for button, by, way in ((bar.back, -1, "back"), (bar.forth, 1, "forth"))
        ),
    ]  # fmt: skip
