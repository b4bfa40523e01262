"""The page engine: a page is a declaration of its title, question, controls, reports and jobs.

A `QuestionPage` has controls that stand in its address, and sections that answer by jobs of their own. A
`LabPage` asks many questions of one subject: each change of a control makes a new *state*, a frozen record
that stands in the address; one job computes what the state needs, and a timer shows every section as soon as
its report exists.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import gradio as gr
from gradio.components import Component

from apps.pages.controls import LatestQuestion, with_names, without_echo
from apps.pages.frame import Page, sentence_html
from apps.pages.job_sections import AddedSection, JobSection, add_job_section
from apps.pages.links import number_of_link, read_link, say_of_link
from apps.pages.report_section import Answer
from apps.pages.sections import (
    COPY_LINK,
    REMEMBER,
    STYLES,
    UPDATE_SECONDS,
    Section,
    add_style,
    hidden_text,
    html_block,
    job_html,
    one_sentence_errors,
    query_js,
    root_block,
)
from apps.server.encoding import sent_json, sent_words
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core.job import Job

State = TypeVar("State")

CANCELLED = "Cancelled. What was finished is shown below; Continue computes the rest."


@dataclass(frozen=True)
class Controls:
    """The controls of a page.

    Attributes:
        inputs: components in the order of `LabPage.state_from`.
        resets: control -> those that take their defaults again when it changes.
        steps: button, its name, what it gives: (handler, inputs, output) of buttons such as next sample.
    """

    inputs: Sequence[Any]
    resets: Mapping[Any, Sequence[Any]]
    steps: Sequence[tuple[gr.Button, str, Callable[..., Any], Sequence[Any], Any]] = ()


class DeclaredPage(ABC):
    """What every page of the engine declares.

    Attributes:
        path: address, prefix of its handlers' names, and name of its style sheet where it has one.
        prefix: of element ids.
        title: in the rail.
        question: under the title.
        parent: entry of the rail it stands under; "" at the top level.
        address: names in the page's address.
        linked: further names in it: those of the job sections' fields.
    """

    path: ClassVar[str]
    prefix: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    parent: ClassVar[str] = ""
    address: ClassVar[tuple[str, ...]]
    linked: ClassVar[tuple[str, ...]] = ()

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def build(self) -> None:
        """Add the page's components and events."""


OWN = "your-own"
"""What the address names in place of what was uploaded or pasted: a link holds no file."""


class QuestionPage(DeclaredPage):
    """A page whose sections answer by jobs of their own: of uploads, of texts, of what is served.

    Attributes:
        chosen_name: name of the handler that fills the controls from the address.
        defaults: name in the address -> value that is left out of it.
    """

    chosen_name: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, str]] = {}

    # The declaration.

    @abstractmethod
    def add_controls(self) -> Mapping[str, Component]:
        """Add the controls: name in the address -> control whose value stands there."""

    @abstractmethod
    def sections(self) -> Sequence[JobSection]:
        """The sections, in their order on the page."""

    def chosen(self, words: Sequence[str | None]) -> list[Any]:
        """Updates of the controls in the address, for its words in the order of `address`.

        Raises:
            ValueError: the address names something that is not there; or another mistake of the user.
        """
        return []

    def uploads(self) -> Mapping[str, Sequence[Component]]:
        """Name in the address -> fields of files and texts that replace its control, or add to its list."""
        return {}

    def first(self, loaded: Any) -> Any:
        """The event after which the sections are asked; `loaded` has filled the controls from the address."""
        return loaded

    def add_events(self, added: Mapping[str, AddedSection]) -> None:
        """Add events of the page's own; `added` holds the sections by name."""

    # Components and events.

    def build(self) -> None:
        if (STYLES / f"{self.path}.css").is_file():
            add_style(self.path)
        self._addressed = self.add_controls()
        added: dict[str, AddedSection] = {}
        for task in self.sections():
            key = self.path if task.automatic or task.keyed else ""
            added[task.name] = add_job_section(self.context, task, self.prefix, self.path, key=key)
            self._reported[task.name] = task
        if any(task.automatic or task.keyed for task in self._reported.values()):
            self.context.reports[self.path] = self.shown
        if self._addressed:
            self._add_address(added)
        self.add_events(added)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._reported: dict[str, JobSection] = {}

    def shown(self, section: str, state: str) -> Answer:
        """What a section shows; for files and reports."""
        if section not in self._reported:
            raise KeyError(f"{self.path}: no section {section!r}")
        return self._reported[section].shown(section, state)

    def remember(self, event: Any) -> None:
        """Write the controls, or that there is an upload, into the address once an event has succeeded."""
        names, fields = list(self._addressed), list(self._addressed.values())
        own: dict[int, list[int]] = {}
        for name, uploads in self.uploads().items():
            own[names.index(name)] = list(range(len(fields), len(fields) + len(uploads)))
            fields += uploads
        arguments = f"{json.dumps(names)}, window.wb.named(values, {json.dumps(own)}, {json.dumps(OWN)})"
        keep = f"(...values) => window.wb.keep({arguments}, {json.dumps(dict(self.defaults))})"
        event.success(None, fields, None, js=keep)

    def _add_address(self, added: Mapping[str, AddedSection]) -> None:
        """Controls are filled from the address when the page opens, and written into it when they change."""
        for event in (answer for one in added.values() for answer in one.answers):
            self.remember(event)
        loaded = root_block().load(
            self._filled, hidden_text(), list(self._addressed.values()), js=query_js(self.address),
            api_name=self.chosen_name, show_progress="hidden",
        )  # fmt: skip
        first = self.first(loaded)
        for name, one in added.items():
            if one.answers and self._reported[name].at_opening:
                one.asking.after(first)

    def _filled(self, query: str = "") -> list[Any]:
        words = sent_words(query, len(self.address))
        kept = [",".join(w for w in (word or "").split(",") if w != OWN) or None for word in words]
        if any(OWN in (word or "").split(",") for word in words):
            say_of_link(
                "what this link shows was uploaded or pasted, and a link holds no file: upload it again"
            )
        try:
            updates, refused = read_link(kept, self.chosen)
        except MISTAKES:  # without any word, too: the sections say why
            return [gr.skip()] * len(self._addressed)
        for text in refused:
            say_of_link(text)
        return updates


def add_link_button() -> None:
    """Add the button that copies the page's address."""
    share = gr.Button("Copy link", min_width=90, scale=0)
    share.click(None, None, None, js=COPY_LINK)


class LabPage(DeclaredPage, Generic[State]):
    """A page that asks many questions of one subject; one job answers them.

    Attributes:
        values: names of the controls' values, for HTTP clients.
        sections: names of the report sections, in order.
        overview_ids: ids of the HTML blocks above the sections.
    """

    values: ClassVar[tuple[str, ...]]
    sections: ClassVar[tuple[str, ...]]
    overview_ids: ClassVar[tuple[str, ...]] = ("wb-answer",)

    # The declaration.

    @abstractmethod
    def add_controls(self) -> Controls:
        """Add the controls."""

    @abstractmethod
    def add_sections(self) -> list[Section]:
        """Add the report sections, in the order of `sections`."""

    def job_sections(self) -> Sequence[JobSection]:
        """Jobs that a button starts, below the sections."""
        return ()

    @abstractmethod
    def values_from_address(self, words: list[Any]) -> list[Any]:
        """Values of the controls for the words of the address."""

    @abstractmethod
    def state_from(self, values: Sequence[Any]) -> State:
        """The state of the controls' values; what is missing takes its default."""

    @abstractmethod
    def read_state(self, text: str) -> State:
        """The state that `write_state` wrote."""

    def write_state(self, state: State) -> str:
        """The state as text, to be held by the page."""
        return json.dumps(dataclasses.asdict(state))  # type: ignore[call-overload]

    @abstractmethod
    def address_of(self, state: State) -> dict[str, str | None]:
        """Name -> word of the address; None leaves a name out."""

    @abstractmethod
    def choices(self, state: State, bare: bool = False) -> list[Any]:
        """Updates of the controls; `bare` leaves out what only an opened model tells."""

    @abstractmethod
    def start(self, state: State, again: bool = False) -> None:
        """Start, or find, the job; `again` also after a cancelled or failed one."""

    @abstractmethod
    def job(self, state: State) -> Job | None:
        """The newest job of a state."""

    @abstractmethod
    def complete(self, state: State) -> bool:
        """Whether nothing is left to compute."""

    @abstractmethod
    def overview(self, state: State) -> list[str]:
        """HTML of the blocks above the sections; "" leaves what is shown."""

    @abstractmethod
    def progress_of(self, state: State, section: str) -> Any:
        """A JSON value that changes when a section has something new to show."""

    @abstractmethod
    def section_updates(self, state: State, section: str) -> list[Any]:
        """Updates of a section's components."""

    @abstractmethod
    def answer(self, state: State, section: str) -> Answer:
        """What a section shows; raises ValueError where it shows nothing yet."""

    @abstractmethod
    def runs_that_can(self) -> list[str]:
        """Titles of the served runs that this page can answer for."""

    # Handlers.

    def _read(self, text: str) -> State:
        """The state in a text that came from a browser.

        Raises:
            ValueError: it is no state of this page.
        """
        try:
            return self.read_state(text)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise ValueError(f"expected a state of this page, got {text!r:.60}") from None

    def restored(self, query: str = "") -> list[Any]:
        """Controls, state and address as the page's address has them."""
        words = sent_words(query, len(self.address))
        try:
            values, refused = read_link(words, self._values_that_hold)
        except MISTAKES:  # without any word, too: the page says why
            values, refused = [None] * len(self._inputs), []
        for text in refused:
            say_of_link(text)
        return self._begun(values)

    def _values_that_hold(self, words: list[Any]) -> list[Any]:
        """Values of the controls for the words of the address; raises where no state can be made of them."""
        values = self.values_from_address(words)
        self.state_from(values)
        return values

    def begin(self, *given: Any) -> list[Any]:
        """Controls, state, address, timer, why not, status, whether sections are shown."""
        values = [*given, *[None] * (len(self._inputs) - len(given))]
        begun, count = self._begun(values), len(values)
        return [*without_echo(begun[:count], values), *begun[count:]]

    def _begun(self, values: Sequence[Any]) -> list[Any]:
        try:
            state = self.state_from(values)
        except MISTAKES as mistake:
            return [*[gr.skip()] * len(self._inputs), "", gr.skip(), *self._refused(mistake)]
        address = json.dumps(self.address_of(state))
        try:
            controls = self.choices(state)
            self.start(state)
        except MISTAKES as mistake:
            return [*self.choices(state, bare=True), "", address, *self._refused(mistake)]
        text = self.write_state(state)
        return [*controls, text, address, gr.Timer(active=True), "", gr.skip(), gr.update(visible=True)]

    def _refused(self, mistake: BaseException) -> list[Any]:
        """Timer, sentence, status; headings without anything below them are hidden."""
        return [gr.Timer(active=False), self._why_not(mistake), "", gr.update(visible=False)]

    def _why_not(self, mistake: BaseException) -> str:
        """One sentence; a model that cannot answer leads to the runs that can."""
        text = sentence(mistake).removeprefix(f"{self.path}: ")
        if not isinstance(mistake, NotAvailable):
            return sentence_html(text, "error")
        can = ", ".join(self.runs_that_can())
        return sentence_html(
            f"Not available for this run: {text}{can and f'. Runs it works for: {can}'}", "why"
        )

    def watch(self, text: str = "", sent: str = "") -> list[Any]:
        """What is new since `sent`: status, overview, sections, timer, Cancel, Continue, a new `sent`."""
        hidden = gr.update(visible=False)
        if not text:
            # An earlier state may have been shown meanwhile: nothing of it stays in sight.
            skipped = [gr.skip()] * sum(len(s.outputs) for s in self._sections)
            return ["", *[""] * len(self.overview_ids), *skipped, gr.Timer(active=False), hidden, hidden, ""]
        state = self._read(text)
        job = self.job(state)
        # The job before the reports: the last update then comes after the job's end.
        alive, complete = job is not None and job.alive, self.complete(state)
        before = sent_json(sent, dict)
        known = before.get("known") if before.get("state") == text else {}
        if not isinstance(known, dict):
            raise ValueError(f"expected what this page was sent, got {sent!r:.60}")
        now = {name: self.progress_of(state, name) for name in self.sections} | {"complete": complete}
        updates: list[Any] = []
        for section in self._sections:
            fresh = now[section.name] != known.get(section.name)
            skips = [gr.skip()] * len(section.outputs)
            updates += self.section_updates(state, section.name) if fresh else skips
        overview = self.overview(state) if now != known else [""] * len(self.overview_ids)
        if complete != self.complete(state):
            # The job ended meanwhile: an overview of its result would stand beside sections from before it.
            return self.watch(text, sent)
        status = "" if complete else job_html(job, f"{self.path}-status", CANCELLED)
        return [
            status,
            *(block or gr.skip() for block in overview),
            *updates,
            gr.Timer(active=alive),
            gr.update(visible=alive),
            gr.update(visible=not alive and not complete),
            json.dumps({"state": text, "known": now}),
        ]

    def resume(self, text: str = "") -> Any:
        """Continue what was cancelled, or what failed."""
        if text:
            self.start(self._read(text), again=True)
        return gr.Timer(active=bool(text))

    def cancel(self, text: str = "") -> None:
        """Stop at the job's next step."""
        if text and (job := self.job(self._read(text))):
            job.cancel_for_user()

    def shown(self, section: str, state: str) -> Answer:
        """What a section shows; for files and reports."""
        if not state:
            raise ValueError("there is nothing to save yet: choose a run that this page can answer for")
        return self.answer(self._read(state), section)

    # Components and events.

    def build(self) -> None:
        """Add the page's components and events."""
        add_style(self.path)
        controls = self.add_controls()
        self._inputs = list(controls.inputs)
        with gr.Row(elem_classes="wb-row-of-status"):
            status = html_block(f"{self.prefix}-status")
            cancel, again = (
                gr.Button(
                    word, min_width=90, scale=0, size="sm", visible=False, elem_id=f"{self.prefix}-{name}"
                )
                for word, name in (("Cancel", "cancel"), ("Continue", "again"))
            )
        why = html_block(f"{self.prefix}-why")
        overview = [html_block(identity) for identity in self.overview_ids]
        state, address, sent, query = (hidden_text() for _ in range(4))
        with gr.Column(visible=False) as below:
            self._sections = self.add_sections()
            for task in self.job_sections():
                added = add_job_section(self.context, task, self.prefix, self.path, state)
                if task.linked:
                    self._link_numbers(task, added)
        self.context.reports[self.path] = self.shown
        self.context.summaries[self.path] = lambda text: self.overview(self._read(text))
        timer = gr.Timer(UPDATE_SECONDS, active=False)
        shown = [w for s in self._sections for w in s.outputs]
        watching = LatestQuestion()
        watching.on(
            [timer.tick], self.watch, inputs=[state, sent],
            outputs=[status, *overview, *shown, timer, cancel, again, sent],
            api_name=f"{self.path}_watch", show_progress="hidden", concurrency_id=self.path,
            concurrency_limit=4,
        )  # fmt: skip
        begun = [*self._inputs, state, address, timer, why, status, below]
        self._add_events(controls, watching, begun, address, query)
        watching.after(
            again.click(
                one_sentence_errors(self.resume), state, timer, api_name=f"{self.path}_again",
                show_progress="hidden", concurrency_id="forward", concurrency_limit=2,
            )
        )  # fmt: skip
        cancel.click(
            one_sentence_errors(self.cancel), state, None, api_name=f"{self.path}_cancel",
            show_progress="hidden",
        )  # fmt: skip

    def _link_numbers(self, task: JobSection, added: AddedSection) -> None:
        """Numbers of a section are filled from the address, and written into it when they change."""
        names = task.linked
        numbers = [field for field in added.fields if isinstance(field, gr.Number)]
        usual: list[float] = [field.value for field in numbers]

        def filled(query: str = "") -> list[float]:
            words = sent_words(query, len(names))
            found = [
                number_of_link(name, word, value, one.minimum or 0, one.precision == 0)
                for name, word, value, one in zip(names, words, usual, numbers, strict=True)
            ]
            return found if len(found) > 1 else found[0]  # type: ignore[return-value] - one output, one value

        root_block().load(
            one_sentence_errors(filled), hidden_text(), numbers, js=query_js(names),
            api_visibility="private", show_progress="hidden",
        )  # fmt: skip
        # As JavaScript writes numbers: 0.001, not 1e-3.
        plain = {name: f"{number:g}" for name, number in zip(names, usual, strict=True)}
        keep = f"(...values) => window.wb.keep({json.dumps(names)}, values, {json.dumps(plain)})"
        for number in numbers:
            for event in (number.submit, number.blur):
                event(None, numbers, None, js=keep)

    def _add_events(
        self,
        controls: Controls,
        watching: LatestQuestion,
        begun: list[Any],
        address: gr.Textbox,
        query: gr.Textbox,
    ) -> None:
        """What a page does when it opens and when a control changes."""
        starts: dict[str, Any] = {
            "outputs": begun, "show_progress": "hidden", "concurrency_id": "forward", "concurrency_limit": 2,
        }  # fmt: skip

        def then_look(event: Any) -> None:
            watching.after(event.success(None, address, None, js=REMEMBER))

        then_look(
            root_block().load(
                self.restored, query, api_name=f"{self.path}_restored", js=query_js(self.address), **starts
            )
        )
        beginning = LatestQuestion()
        plain = [w for w in controls.inputs if w not in controls.resets]
        then_look(
            beginning.on(
                [w.input for w in plain],
                with_names(self.begin, self.values),
                inputs=self._inputs,
                api_name=self.path,
                **starts,
            )
        )
        # Another run has other epochs and samples: what is empty takes its default.
        for control, others in controls.resets.items():
            emptied = f"() => Array({len(others)}).fill(null)"
            beginning.after(control.input(None, None, list(others), js=emptied))
        for button, name, step, inputs, output in controls.steps:
            beginning.after(
                button.click(
                    one_sentence_errors(step), list(inputs), output, api_name=f"{self.path}_{name}",
                    show_progress="hidden",
                )
            )  # fmt: skip


def declared_page(kind: type[DeclaredPage]) -> Page:
    """The rail's entry of a page."""
    return Page(
        kind.path, kind.title, kind.question, lambda context: kind(context).build(), parent=kind.parent,
        address=(*kind.address, *kind.linked),
    )  # fmt: skip
