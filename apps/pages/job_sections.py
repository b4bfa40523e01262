"""Sections of pages that answer by a job: started by a button, or by every change of their controls."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import gradio as gr
from gradio.components import Component

from apps.pages.controls import LatestQuestion, without_echo
from apps.pages.frame import sentence_html
from apps.pages.report_section import Answer, printing
from apps.pages.sections import (
    UPDATE_SECONDS,
    Download,
    add_heading,
    add_section,
    control_row,
    details_html,
    figure_update,
    hidden_text,
    html_block,
    job_html,
    one_sentence_errors,
    report_updates,
)
from apps.pages.subject import reason
from apps.server.encoding import sent_json
from apps.server.gradio_private import check_values
from workbench.cli import MISTAKES
from workbench.core.job import JobResults

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core.job import Job
    from workbench.core.report import Report

Asked = TypeVar("Asked")


class JobSection(ABC):
    """A section that is answered by a job, with its own controls, progress, Cancel and answer.

    On a page with a state (`LabPage`) `asked` below begins with the state as text, then come the values of
    the section's fields; on another page these are all. Of a keyed section `start` takes the values of the
    fields and returns a key, which is all that the other methods are asked with; "" before the first start.

    Attributes:
        name: of the section; with the page's prefix the id of its elements.
        title: heading; "" for none.
        question: beside it.
        handlers: names of the handlers: start, watch, cancel.
        automatic: every change of a field starts it, and the opening of the page.
        keyed: the page holds the key of what was started last, whatever its fields say now.
        patience: seconds that an automatic start waits for the end before the page shows progress instead.
        cancelled: what is said of a cancelled job.
        waiting: what is said where nothing was asked yet.
        wide_buttons: whether the buttons stand above the controls, and are added before them.
        identity: ids of the elements begin with it; the prefix and `name` by default.
        figure_id: of the figure, where it is not `name` with the prefix.
        line_id: of the sentence, where it is another one.
        answer_first: sentence, figure and details come before the status in what the handlers return.
        at_opening: an automatic section is asked as the page opens.
        after: JavaScript that runs after each answer of an automatic section.
        linked: names under which fields stand in the address: the numbers among those of a `LabPage`.
        components: what the section is asked with; set when it is added to a page.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    question: ClassVar[str] = ""
    handlers: ClassVar[tuple[str, str, str]]
    automatic: ClassVar[bool] = False
    keyed: ClassVar[bool] = False
    patience: ClassVar[float] = 0.5
    cancelled: ClassVar[str] = "Cancelled. Start it again with its button."
    waiting: ClassVar[str] = ""
    wide_buttons: ClassVar[bool] = False
    identity: ClassVar[str] = ""
    figure_id: ClassVar[str] = ""
    line_id: ClassVar[str] = ""
    answer_first: ClassVar[bool] = False
    at_opening: ClassVar[bool] = True
    after: ClassVar[str] = ""
    linked: ClassVar[tuple[str, ...]] = ()
    components: Sequence[Component] = ()

    @abstractmethod
    def add_fields(self) -> list[Component]:
        """Add the controls, or name controls of the page; `asked` holds their values, in this order."""

    def asking(self, fields: Sequence[Component]) -> Sequence[Component]:
        """The fields whose change starts an automatic section; all of them by default."""
        return fields

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        """Add the buttons that start; each with the fields that it sets to a text first."""
        return {}

    def add_below(self) -> list[Any]:
        """Add what stands below the report, or name further controls that an answer changes."""
        return []

    @abstractmethod
    def start(self, *asked: Any) -> str | None:
        """Start the job where there is no result; raises what the user did wrong."""

    @abstractmethod
    def job(self, *asked: Any) -> Job | None:
        """The newest job of what is asked."""

    @abstractmethod
    def result(self, *asked: Any) -> Any:
        """The result; None while there is none."""

    def status(self, job: Job | None, figure: str, *asked: Any) -> str:
        """HTML that says how far the job is; `figure` is the id of the section's figure."""
        return job_html(job, f"{figure}-job", self.cancelled)

    def updates(self, result: Any, download: Download, figure: str, *asked: Any) -> list[Any]:
        """Sentence, figure and details of a result; a report's by default."""
        return report_updates(
            result, "", lambda report: details_html(download, report.table(), "", {figure: ""})
        )

    def below(self, result: Any, *asked: Any) -> list[Any]:
        """Updates of `add_below`; the result is None while there is none."""
        return []

    def token(self, *asked: Any) -> str:
        """What `shown` finds the result by."""
        return json.dumps(list(asked))

    def values_of(self, state: str) -> list[Any]:
        """The values in a token of the page that came back from a browser.

        Raises:
            ValueError: the section cannot be asked with them.
        """
        values = sent_json(state, list)
        check_values(self.components, values)
        return values

    def shown(self, section: str, state: str) -> Answer:
        """What the section shows; `state` is a token.

        Raises:
            ValueError: there is no result.
        """
        found = self.result(*self.values_of(state))
        if found is None:
            raise ValueError(f"{self.title}: there is no result with these values yet; start it first")
        return Answer.of(self.title, found)


def job_key(name: str, *parts: Any) -> str:
    """Key of a job: its name, and a hash of what goes in as JSON."""
    return f"{name} {hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()}"


class Work(Protocol):
    """What starts jobs and keeps their results, by the same arguments."""

    def start(self, *asked: Any, **named: Any) -> Any:
        """Start, or find, the job."""

    def job(self, *asked: Any, **named: Any) -> Job | None:
        """The newest job."""

    def result(self, *asked: Any, **named: Any) -> Any:
        """The result; None while there is none."""


class WorkSection(JobSection):
    """A section whose jobs are those of another object.

    Attributes:
        work: the object.
    """

    work: Work

    @abstractmethod
    def arguments(self, *asked: Any) -> tuple[Any, ...]:
        """What the object is asked with."""

    def start(self, *asked: Any) -> None:
        self.work.start(*self.arguments(*asked))

    def job(self, *asked: Any) -> Job | None:
        return self.work.job(*self.arguments(*asked))

    def result(self, *asked: Any) -> Any:
        return self.work.result(*self.arguments(*asked))


class QuestionSection(JobSection, Generic[Asked]):
    """A report on what the controls say; answers are kept on the server under a key of what went in.

    Attributes:
        queue: name of the jobs' queue.
        size: answers kept.
        _controls: of the page, which the section is asked with.
        report_title: of the report in a document.
    """

    automatic = True
    cancelled = "Cancelled."
    queue: ClassVar[str] = "files"
    size: ClassVar[int] = 20
    report_title: ClassVar[str] = ""

    def __init__(self, context: Context, controls: Sequence[Component] = ()) -> None:
        self.context = context
        self._controls = controls
        self._results: JobResults[Answer] = JobResults(context.jobs, self.size)

    def add_fields(self) -> list[Component]:
        return list(self._controls)

    @abstractmethod
    def asked(self, *values: Any) -> Asked:
        """What the values of the fields ask for.

        Raises:
            ValueError: a value that cannot be; or another mistake of the user.
        """

    @abstractmethod
    def key(self, asked: Asked) -> str:
        """Names the answer; files that were rewritten are others."""

    @abstractmethod
    def work(self, asked: Asked, job: Job) -> Report:
        """The report."""

    @abstractmethod
    def job_title(self, asked: Asked) -> str:
        """What the job does, for people."""

    def code(self, asked: Asked) -> str:
        """Python that makes the same report; "" for none."""
        return ""

    def inputs(self, asked: Asked) -> Sequence[tuple[str, Path]]:
        """(kind, file) of what went in."""
        return ()

    def start(self, *asked: Any) -> None:
        request = self.asked(*asked)

        def made(job: Job) -> Answer:
            report = self.work(request, job)
            title = self.report_title or self.title or report.summary().partition(":")[0]
            return Answer.of(title, report, printing(self.code(request)), self.inputs(request))

        key = self.key(request)
        if self._results.result(key) is None:
            self._results.start(key, self.job_title(request), made, self.queue)

    def job(self, *asked: Any) -> Job | None:
        return self._results.job(self.key(self.asked(*asked)))

    def result(self, *asked: Any) -> Answer | None:
        return self._results.result(self.key(self.asked(*asked)))

    def updates(self, result: Answer, download: Download, figure: str, *asked: Any) -> list[Any]:
        report = result.reports[""]
        return report_updates(
            report, "", lambda one: details_html(download, one.table(), result.code, {figure: ""})
        )

    @staticmethod
    def link_points(updates: Sequence[Any], link: Callable[[Any], Any]) -> None:
        """Give each trace of the figure among `updates` what opens an epoch of it in Compare.

        Args:
            updates: of a section: sentence, figure, details.
            link: what the page's script needs, of a trace; None opens nothing.
        """
        drawn = updates[1].get("value")
        for trace in drawn.data if drawn is not None else ():
            trace.meta = {**(trace.meta or {}), "compare": link(trace)}

    def token(self, *asked: Any) -> str:
        return self.key(self.asked(*asked))

    def shown(self, section: str, state: str) -> Answer:
        found = self._results.result(state)
        if found is None:
            raise LookupError(f"{self.report_title or section}: no longer stored: compute it again")
        return found


@dataclass(frozen=True)
class JobHandlers:
    """Handlers of a job section.

    Attributes:
        task: the section.
        key: of `Context.reports`.
        figure: id of the figure.
        stated: whether `asked` begins with the page's state.
        echoed: position in `below` -> position in `asked`, of fields that an answer changes.
        below: number of the components below.
    """

    context: Context
    task: JobSection
    key: str
    figure: str
    stated: bool
    echoed: Mapping[int, int]
    below: int

    def start(self, *asked: Any) -> Any:
        """Start the job: the timer."""
        if self.stated and not (asked and asked[0]):
            raise ValueError(f"{self.task.title}: choose a run above that this page can answer for")
        key = self.task.start(*asked)
        return [key, gr.Timer(active=True)] if self.task.keyed else gr.Timer(active=True)

    def ask(self, *given: Any) -> list[Any]:
        """Start and wait a moment: all updates, and the id of the job that this page now waits for."""
        *asked, before = given
        try:
            self.task.start(*asked)
            job = self.task.job(*asked)
        except MISTAKES as mistake:
            return [*self._said(reason(mistake), asked), ""]
        former = next((one for one in self.context.jobs.all() if one.id == before), None)
        if former is not None and former.alive and former is not job:
            former.give_up()  # this page no longer wants its answer
        if job is not None:
            job.wait(self.task.patience)
        return [*self.watch(*asked), job.id if job is not None and job.alive else ""]

    def left(self, *given: Any) -> list[Any]:
        """A number was left: ask where its value is new. What was cancelled is not begun again by that."""
        *asked, before = given
        try:
            known = self.task.job(*asked) is not None or self.task.result(*asked) is not None
        except MISTAKES:
            known = False
        return [*self.watch(*asked), before] if known else self.ask(*given)

    def watch(self, *asked: Any) -> list[Any]:
        """Status, sentence, figure, details, what is below, timer, Cancel, Start again."""
        task = self.task
        if (self.stated or task.keyed) and not (asked and asked[0]):
            return self._updates(["", figure_update(None), ""], self._below(None, asked), self._opening())
        try:
            # The job before its result: the last update then comes after the job's end.
            job = task.job(*asked)
            alive = job is not None and job.alive
            result = None if alive else task.result(*asked)
            below = self._below(result, asked)
        except MISTAKES as mistake:
            # Of what nobody has asked for yet, nothing is said.
            return self._said(reason(mistake) if task.at_opening else "", asked)
        if result is not None:
            download = Download(self.key, task.name, task.token(*asked))
            return self._updates(task.updates(result, download, self.figure, *asked), below)
        if job is None or (task.automatic and job.state == "failed"):
            text = task.waiting if job is None else str(job.error)
            return self._said(sentence_html(text, "why"), asked)
        status = task.status(job, self.figure, *asked)
        return self._updates(["", figure_update(None), ""], below, status, alive, not alive)

    def _opening(self) -> str:
        """The status before anything was started."""
        return self.task.status(None, self.figure, "") if self.task.keyed else ""

    def _said(self, line: str, asked: Sequence[Any]) -> list[Any]:
        """Updates where there is nothing but a sentence."""
        return self._updates([line, figure_update(None), ""], self._below(None, asked))

    def _updates(
        self, shown: list[Any], below: list[Any], status: str = "", alive: bool = False, ended: bool = False
    ) -> list[Any]:
        """All updates, in the order of `add_job_section`'s outputs."""
        first = [*shown, status] if self.task.answer_first else [status, *shown]
        again = [gr.update(visible=ended)] * self.task.automatic
        return [*first, *below, gr.Timer(active=alive), gr.update(visible=alive), *again]

    def _below(self, result: Any, asked: Sequence[Any]) -> list[Any]:
        """Updates of what is below; a value that was asked with is not sent back."""
        if not self.below:
            return []
        try:
            updates = self.task.below(result, *asked)
        except MISTAKES:
            return [gr.skip()] * self.below
        for place, field in self.echoed.items():
            if isinstance(updates[place], dict):
                updates[place] = without_echo([updates[place]], [asked[field]])[0]
        return updates

    def cancel(self, *asked: Any) -> None:
        """Stop the job at its next step."""
        if (asked and asked[0]) or not (self.stated or self.task.keyed):
            job = self.task.job(*asked)
            if job is not None:
                job.cancel_for_user()


@dataclass(frozen=True)
class AddedSection:
    """A job section on its page.

    Attributes:
        section: its components.
        fields: of the section.
        asking: what asks it, for automatic ones.
        answers: the events of an answer, for automatic ones: the first is the named one.
        watched: the event of what is new while the job goes on, its last answer among them.
        key: of what a keyed section started last.
        timer: while it is active, the page asks what is new.
    """

    fields: list[Component]
    asking: LatestQuestion
    answers: list[Any]
    watched: Any
    key: gr.Textbox
    timer: gr.Timer


QUIET: dict[str, Any] = {"show_progress": "hidden"}


def add_job_section(
    context: Context, task: JobSection, prefix: str, page: str, state: gr.Textbox | None = None, key: str = ""
) -> AddedSection:
    """Add a job section to a page.

    Args:
        context: of this serving.
        task: the declaration.
        prefix: of element ids: ``rol``.
        page: address of the page.
        state: the page's state as text; None on a page without one.
        key: of `Context.reports`; ``page/name`` by default.
    """
    identity, key = task.identity or f"{prefix}-{task.name}", key or f"{page}/{task.name}"
    if task.title:
        add_heading(f"{identity}-head", task.title, task.question)
    fields, starts, status, stop, again = _controls_of(task, identity)
    figure = task.figure_id or identity
    section = add_section(identity, task.name, figure_id=task.figure_id, line_id=task.line_id)
    below = task.add_below()
    context.reports.update(dict.fromkeys((key, f"{page}/{task.name}"), task.shown))
    stated = [] if state is None else [state]
    asked: list[Any] = [*stated, *fields]
    echoed = {n: asked.index(one) for n, one in enumerate(below) if one in asked}
    handlers = JobHandlers(context, task, key, figure, bool(stated), echoed, len(below))
    timer = gr.Timer(UPDATE_SECONDS, active=False)
    shown = [*section.outputs, status] if task.answer_first else [status, *section.outputs]
    outputs = [*shown, *below, timer, stop, *again]
    watching, asking, started = LatestQuestion(), LatestQuestion(), hidden_text()
    task.components = watched_with = [started] if task.keyed else asked
    start_name, watch_name, cancel_name = task.handlers
    answers: list[Any] = []
    if task.automatic:
        triggers = [button.click for button in (*starts, *again)]
        answers = _add_asking(handlers, fields, triggers, asked, outputs, (asking, watching), section, page)
    else:
        _add_starts(handlers, starts, asked, [started, timer] if task.keyed else timer, start_name, watching)
    # Other values are another job: what is shown is no longer its answer.
    changes = [
        w.input
        for w in fields
        if isinstance(w, (gr.Number, gr.Textbox)) and not task.automatic and not task.keyed
    ]
    if task.automatic and not task.asking(fields):
        changes = [w.change for w in fields]  # type: ignore[attr-defined]
    watched = watching.on(
        [timer.tick, *(one.change for one in stated), *changes], handlers.watch, inputs=watched_with,
        outputs=outputs, api_name=watch_name, **QUIET,
    )  # fmt: skip
    if task.after:
        for event in (*answers, watched):
            event.success(None, None, None, js=task.after)
    watching.after(
        stop.click(one_sentence_errors(handlers.cancel), watched_with, None, api_name=cancel_name, **QUIET)
    )
    return AddedSection(fields, asking, answers, watched, started, timer)


def _add_asking(
    handlers: JobHandlers,
    fields: Sequence[Component],
    buttons: Sequence[Any],
    asked: Sequence[Any],
    outputs: Sequence[Any],
    questions: tuple[LatestQuestion, LatestQuestion],
    section: Any,
    page: str,
) -> list[Any]:
    """The changes that ask, and the numbers that are left; the events, the first of which has a name."""
    asking, watching = questions
    task, before = handlers.task, gr.Textbox("", visible="hidden", show_label=False)
    settings: dict[str, Any] = {"inputs": [*asked, before], "outputs": [*outputs, before]}
    settings |= {"concurrency_id": f"ask {page}", "concurrency_limit": 4}
    triggers = [event for one in task.asking(fields) for event in changes_of(one)]
    answers = [
        asking.on(
            [*triggers, *buttons], handlers.ask, api_name=task.handlers[0], show_progress="minimal",
            show_progress_on=[section.lines[0]], **settings,
        )
    ]  # fmt: skip
    numbers = [one for one in task.asking(fields) if isinstance(one, gr.Number) and _is_shown(one)]
    if numbers:
        blurs = [one.blur for one in numbers]  # type: ignore[attr-defined]
        answers.append(asking.on(blurs, handlers.left, api_visibility="private", **QUIET, **settings))
    for answered in answers:
        watching.after(answered)
    return answers


def _controls_of(
    task: JobSection, identity: str
) -> tuple[list[Component], Mapping[gr.Button, Any], gr.HTML, gr.Button, list[gr.Button]]:
    """Fields, buttons, status, Cancel and, of an automatic section, Start again."""

    def small(word: str, name: str, **more: Any) -> gr.Button:
        return gr.Button(
            word, min_width=90, scale=0, visible=False, elem_id=f"{identity}-{name}", **more
        )  # fmt: skip

    if task.automatic or task.keyed:
        fields, starts = task.add_fields(), task.add_buttons()
        opening = task.status(None, identity, "") if task.keyed else ""
        with gr.Row(elem_classes="wb-row-of-status"):
            status = html_block(f"{identity}-status", opening)
            stop = small("Cancel", "cancel", size="sm")
            again = [] if task.keyed else [small("Start again", "again", size="sm")]
        return fields, starts, status, stop, again
    starts = task.add_buttons() if task.wide_buttons else {}
    with control_row(f"wb-tight {identity}-fields"):
        fields = task.add_fields()
        starts = starts or task.add_buttons()
        stop = small("Cancel", "cancel")
    return fields, starts, html_block(f"{identity}-status"), stop, []


def _add_starts(
    handlers: JobHandlers,
    starts: Mapping[gr.Button, Sequence[tuple[Component, str]]],
    asked: list[Any],
    outputs: Any,
    name: str,
    watching: LatestQuestion,
) -> None:
    """The buttons that start the job."""
    for number, (button, values) in enumerate(starts.items()):
        # One button lends its name to HTTP clients, which name all values themselves.
        named: dict[str, Any] = {"api_visibility": "private"} if number else {"api_name": name}
        click = button.click(
            None, None, [field for field, _ in values], js=f"() => {json.dumps([v for _, v in values])}"
        ).success if values else button.click  # fmt: skip
        watching.after(
            click(
                one_sentence_errors(handlers.start), asked, outputs, concurrency_id="forward",
                concurrency_limit=2, **QUIET, **named,
            )
        )  # fmt: skip


def _is_shown(component: Any) -> bool:
    return component.visible != "hidden"


def changes_of(component: Any) -> list[Any]:
    """Events by which a user changes a control; typing into a text or a number is none before Enter."""
    if isinstance(component, gr.File):
        return [component.upload, component.clear]  # type: ignore[attr-defined]
    if isinstance(component, (gr.Number, gr.Textbox)):
        return [component.submit] if _is_shown(component) else []
    return [component.input]
