"""The Diagnose page: why is a run worse than it should be? Files are dropped, or a served run is chosen."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gradio as gr

from apps.pages.controls import LatestQuestion
from apps.pages.frame import Page, sentence_html
from apps.pages.report_section import Answer
from apps.pages.sections import (
    UPDATE_SECONDS,
    Download,
    add_style,
    control_row,
    figure_update,
    hidden_text,
    html_block,
    job_html,
    one_sentence_errors,
    query_js,
    report_mark,
    root_block,
)
from workbench.cli import MISTAKES
from workbench.cli.diagnose import claims_of, seconds_of
from workbench.core import NotAvailable
from workbench.core.job import JobResults, LruCache, version_of
from workbench.diagnosis.texts import is_message

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core.job import Job
    from workbench.diagnosis import Diagnosis
    from workbench.diagnosis.cause import Cause, Level
    from workbench.diagnosis.diagnosing import Answered

QUESTION = "Why is this run worse than it should be, and what proves it?"
NO_RUN, NO_DATA, NO_OTHER = "the files dropped here", "no data set", "no other run"
LEVELS: tuple[tuple[str, str], ...] = (
    ("files alone, seconds", "files"),
    ("a few forward passes", "forward"),
    ("the whole data set", "evaluate"),
    ("and short trainings", "train"),
)
WAITING = (
    "Choose a run, or drop files: checkpoint, config, log, results, annotations, code, an error message. "
    "Then press Diagnose."
)


def page() -> Page:
    """The page's record."""
    return Page("diagnose", "Diagnose", QUESTION, build)


@dataclass(frozen=True)
class Asked:
    """What a diagnosis is made of.

    Attributes:
        targets: files and folders on the server.
        names: of the targets, as their user knows them.
        data: id of a served set; "" for none.
        against: folder of another run; None for none.
        claim: as `--claim` has it; "" for none.
        level: of the tests.
        budget: seconds.
        message: an error message; "" for none.
    """

    targets: tuple[Path, ...]
    names: tuple[str, ...]
    data: str = ""
    against: Path | None = None
    claim: str = ""
    level: str = "forward"
    budget: float | None = None
    message: str = ""

    def key(self) -> str:
        """Names the diagnosis; files that were rewritten are others."""
        files = [version_of(path) for path in self.targets if path.is_file()]
        told = [
            [str(p) for p in self.targets],
            files,
            self.data,
            str(self.against),
            self.claim,
            self.level,
            self.budget,
            self.message,
        ]
        return "diagnose " + hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]


ADDRESS = ("run", "data", "against")
"""Names in the page's address."""


class Handlers:
    """What the page's buttons do."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.results: JobResults[Diagnosis] = JobResults(context.jobs)
        # Key of a running diagnosis -> what its tests said so far, as HTML.
        self._so_far: dict[str, str] = {}
        self._inputs: LruCache[tuple[tuple[str, Path], ...]] = LruCache(20)

    def asked(
        self,
        files: Any,
        run: str,
        data: str,
        against: str,
        claim: str,
        level: str,
        budget: str,
        message: str = "",
    ) -> Asked:
        """What the controls ask for.

        Raises:
            ValueError: nothing to examine, or a value that is none.
        """
        targets, names = self._targets(files, run)
        message = (message or "").strip()
        if message and not is_message(message):
            raise ValueError("error message: expected the last line of an error, such as 'ValueError: ...'")
        if not targets and not message:
            raise ValueError("choose a run, drop at least one file, or paste an error message")
        claims_of([claim] if claim else None)
        return Asked(
            targets,
            names,
            "" if data in (None, NO_DATA) else data,
            None if not against else self.context.registry.run(against).folder,
            claim or "",
            level or "forward",
            seconds_of(budget) if budget else None,
            message,
        )

    def _targets(self, files: Any, run: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        listed = files if isinstance(files, list) else [files] if files else []
        if listed:  # what was dropped counts, whatever run is chosen beside it
            paths = tuple(Path(str(one)) for one in listed)
            return paths, tuple(path.name for path in paths)
        if run and run != NO_RUN:
            folder = self.context.registry.run(run).folder
            return (folder,), (folder.name,)
        return (), ()

    def start(self, *values: Any) -> list[Any]:
        """Start the diagnosis: its key, the timer, and what was said before goes."""
        asked = self.asked(*values)
        key = asked.key()

        def work(job: Job) -> Diagnosis:
            def testing(cause: Cause, answers: Answered) -> None:
                job.step = f"{job.done} of {job.total} causes tested; now: {cause.name}"
                self._so_far[key] = so_far_html(answers)

            try:
                return self._diagnosed(asked, job, testing)
            finally:
                self._so_far.pop(key, None)

        self._inputs.get(key, lambda: self._inputs_of(asked))
        names = ", ".join(asked.names) or "the error message"
        self.results.start(key, f"diagnosis of {names}", work)
        return [key, gr.Timer(active=True)]

    def _inputs_of(self, asked: Asked) -> tuple[tuple[str, Path], ...]:
        """(kind, file) of what goes in: dropped files, the checkpoints of both runs, the annotations."""
        from workbench.data import BUILTIN

        epochs = {run.folder: [one.path for one in run.epochs] for run in self.context.registry.runs()}
        found = [("file", path) for path in asked.targets if path.is_file()]
        for folder in (*asked.targets, asked.against):
            found += [("checkpoint", path) for path in epochs.get(folder, ())] if folder else []
        if asked.data and asked.data not in BUILTIN:
            found.append(("annotations", self.context.registry.sets.file(asked.data)))
        return tuple(found)

    def _diagnosed(self, asked: Asked, job: Job, testing: Callable[[Cause, Answered], None]) -> Diagnosis:
        from workbench.data import BUILTIN
        from workbench.diagnosis import diagnose

        registry, data, images = self.context.registry, None, None
        if asked.data:
            data = asked.data if asked.data in BUILTIN else registry.sets.file(asked.data)
            images = None if asked.data in BUILTIN else registry.sets.images
        # What a browser sent is read and never run; what the command line named is the server's own.
        settings = self.context.settings
        own: dict[str, Any] = {}
        if asked.targets and asked.targets[0].is_dir():
            own = {"config": settings.config, "adapter": settings.adapter, "family": settings.family}
        return diagnose(
            [*asked.targets, *([asked.message] if asked.message else [])],
            data=data,
            images=images,
            against=asked.against,
            claim=claims_of([asked.claim] if asked.claim else None),
            level=cast("Level", asked.level),
            budget=asked.budget,
            progress=job.progress,
            testing=testing,
            cancelled=job.cancelled,
            device=settings.device,
            **own,
        )

    def watch(self, key: str = "") -> list[Any]:
        """Status, answer, figure, timer, Cancel, downloads."""
        hidden = gr.update(visible=False)
        if not key:
            chosen = explained(self.context, *first_choice(self.context))
            return [sentence_html(chosen, "why"), "", hidden, gr.Timer(active=False), hidden, hidden]
        job = self.results.job(key)
        alive = job is not None and job.alive
        report = None if alive else self.results.result(key)
        if report is None:
            status = job_html(job, "diagnose-job", "Cancelled. Diagnose starts it again.")
            status += self._so_far.get(key, "") if alive else ""
            if job is None:
                status = sentence_html("This diagnosis is no longer kept; press Diagnose again.", "why")
            return [status, "", hidden, gr.Timer(active=alive), gr.update(visible=alive), hidden]
        from workbench.diagnosis.document import body

        measured = any(finding.effect is not None for finding in report.findings)
        figure = figure_update(report.plot().update_layout(title_text="") if measured else None)
        mark = report_mark(Download("diagnose", "diagnose", key))
        shown = f'<div class="dgn-report">{body(report)}</div>{mark}'
        return ["", shown, figure, gr.Timer(active=False), hidden, gr.update(visible=True)]

    def cancel(self, key: str = "") -> None:
        """Stop the diagnosis at its next step."""
        job = self.results.job(key) if key else None
        if job is not None:
            job.cancel()

    def document(self, key: str = "") -> str:
        """The report as one HTML file."""
        from workbench.diagnosis.document import document

        return document(self._done(key))

    def notebook(self, key: str = "") -> str:
        """The notebook that repeats it."""
        from workbench.diagnosis.document import notebook

        return notebook(self._done(key))

    def facts(self, key: str = "") -> str:
        """The facts as JSON."""
        from workbench.cli.output import as_text

        return as_text(self._done(key).to_json())

    def shown(self, section: str, state: str) -> Answer:
        """The diagnosis; `state` is its key."""
        report = self._done(state)
        given = ", ".join(f"{name}={value!r}" for name, value in report.repeat.items())
        code = f"from workbench.diagnosis import diagnose\n\ndiagnose({given})"
        return Answer.of("Diagnosis", report, code, self._inputs.peek(state) or ())

    def _done(self, key: str) -> Diagnosis:
        report = self.results.result(key)
        if report is None:
            raise ValueError("there is no finished diagnosis yet; press Diagnose first")
        return report


def so_far_html(answers: Answered) -> str:
    """What a running diagnosis found and ruled out so far, the newest first; "" where it did neither."""
    from workbench.diagnosis.cause import NotTestable, RuledOut

    found, ruled_out = [], []
    for cause, answer in answers.items():
        if isinstance(answer, RuledOut):
            ruled_out.append(f"<li>{html.escape(f'{cause.name}: {answer.evidence}')}</li>")
        elif not isinstance(answer, NotTestable):
            found += [f"<li>{html.escape(f'{one.cause}: {one.evidence}')}</li>" for one in answer]
    parts = [
        f"<h2>{word} so far ({len(items)})</h2><ul>{''.join(reversed(items))}</ul>"
        for word, items in (("Found", found), ("Ruled out", ruled_out))
        if items
    ]
    return f'<div class="dgn-report" data-testid="diagnose-so-far">{"".join(parts)}</div>' if parts else ""


def first_choice(context: Context) -> tuple[str, str, str]:
    """Run, data set and run to compare with that the page opens with; NO_RUN where none is served.

    The user's first run; where only demo runs are served, the one that is worse than its base.
    """
    from workbench.checkpoints.demo import demo_runs
    from workbench.cli.diagnose import BASE, DEMO

    served = list(context.registry.runs())
    if not served:
        return NO_RUN, NO_DATA, ""
    try:
        demos = {path.resolve() for path in demo_runs()}
    except NotAvailable:
        demos = set()
    own = [run.id for run in served if run.folder.resolve() not in demos]
    runs = {run.title: run.id for run in served}
    run = next(iter(own), None) or runs.get(DEMO) or served[0].id
    return run, data_of(context, run), (runs.get(BASE) or "") if run == runs.get(DEMO) else ""


def data_of(context: Context, run: str) -> str:
    """The set that a run is judged on; NO_DATA where none fits."""
    try:
        epochs = context.registry.run(run).epochs
        return context.registry.default_data(run, epochs[-1].index) or NO_DATA
    except MISTAKES:
        return NO_DATA


def explained(context: Context, run: str, data: str, against: str) -> str:
    """What the page opens with, in words, and what to do."""
    if run == NO_RUN:
        return WAITING
    titles = {one.id: one.title for one in context.registry.runs()}
    said = f"Chosen: {titles.get(run, run)}"
    said += f" on {data}" if data != NO_DATA else ", without a data set"
    said += (
        f", compared with {titles.get(against, against)}, the run that it was made from" if against else ""
    )
    return f"{said}. Press Diagnose to see why it is not better, or drop files of your own."


def build(context: Context) -> None:
    """Add the page's components."""
    add_style("diagnose")
    handlers = Handlers(context)
    context.reports["diagnose"] = handlers.shown
    controls, start, stop = _controls(context)
    status = html_block("dgn-status", sentence_html(explained(context, *first_choice(context)), "why"))
    answer = html_block("dgn-answer")
    figure = gr.Plot(
        show_label=False, container=False, visible=False, elem_id="dgn-figure", elem_classes="wb-report"
    )
    with gr.Row(visible=False, elem_classes="dgn-files-row") as saving:
        buttons = [
            (gr.Button(word, size="sm", min_width=120, scale=0, elem_id=f"dgn-{name}"), make, file, name)
            for word, name, file, make in (
                ("Report (HTML)", "html", "diagnosis.html", handlers.document),
                ("Notebook", "notebook", "diagnosis.ipynb", handlers.notebook),
                ("Facts (JSON)", "json", "diagnosis.json", handlers.facts),
            )
        ]
    _wire(handlers, controls, start, stop, (status, answer, figure, saving), buttons)
    dropped, run, data, against, *_ = controls
    data_of_run(context, run, data, against)
    # Files that are dropped are not the chosen run's: its choices go.
    dropped.upload(
        lambda: [NO_RUN, NO_DATA, ""], None, [run, data, against], api_name="diagnose_dropped",
        show_progress="hidden",
    )  # fmt: skip


def _controls(context: Context) -> tuple[tuple[Any, ...], gr.Button, gr.Button]:
    """The controls in the order of `Handlers.asked`, the button that starts, and the one that cancels."""
    runs = [(run.title, run.id) for run in context.registry.runs()]
    sets = context.registry.sets.ids()
    chosen, on, other = first_choice(context)
    with gr.Row(elem_classes="dgn-what"):
        dropped = gr.File(
            file_count="multiple", type="filepath", height=150, elem_id="dgn-files",
            label="checkpoint, config, log, results, annotations, code, error message",
        )  # fmt: skip
        with gr.Column(min_width=320):
            run = gr.Dropdown(
                [NO_RUN, *runs], value=chosen, label="run of the served folder", elem_id="dgn-run",
                min_width=200,
            )  # fmt: skip
            data = gr.Dropdown(
                [NO_DATA, *sets], value=on, label="data set", elem_id="dgn-data", min_width=200
            )
    with control_row("dgn-how"):
        against = gr.Dropdown(
            [(NO_OTHER, ""), *runs], value=other, label="compare with", elem_id="dgn-against", min_width=170
        )
        claim = gr.Textbox(
            "", label="expected figure", placeholder="AP=.698", elem_id="dgn-claim", min_width=120
        )
        level = gr.Dropdown(list(LEVELS), value="forward", label="tests", elem_id="dgn-level", min_width=200)
        budget = gr.Textbox("", label="budget", placeholder="10m", elem_id="dgn-budget", min_width=90)
        message = gr.Textbox(
            "", label="or paste an error message", placeholder="RuntimeError: ...", elem_id="dgn-message",
            min_width=200,
        )  # fmt: skip
        start = gr.Button("Diagnose", variant="primary", min_width=120, scale=0, elem_id="dgn-start")
        stop = gr.Button("Cancel", min_width=90, scale=0, visible=False, elem_id="dgn-cancel")
    return (dropped, run, data, against, claim, level, budget, message), start, stop


def _wire(
    handlers: Handlers, controls: Sequence[Any], start: gr.Button, stop: gr.Button, shown: Sequence[Any],
    buttons: Sequence[tuple[gr.Button, Any, str, str]],
) -> None:  # fmt: skip
    """Connect buttons, timer and downloads."""
    status, answer, figure, saving = shown
    key, payload = hidden_text(), hidden_text()
    timer = gr.Timer(UPDATE_SECONDS, active=False)
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    outputs = [status, answer, figure, timer, stop, saving]
    began = start.click(
        one_sentence_errors(handlers.start), list(controls), [key, timer], api_name="diagnose", **quiet
    )
    looking = LatestQuestion()
    looking.on([timer.tick], handlers.watch, inputs=key, outputs=outputs, api_name="diagnose_watch", **quiet)
    looking.after(began)
    stop.click(handlers.cancel, key, None, api_name="diagnose_cancel", **quiet)
    for button, make, file, name in buttons:
        button.click(
            one_sentence_errors(make), key, payload, api_name=f"diagnose_{name}", **quiet
        ).success(None, payload, None, js=f"(text) => window.wb.save(text, {json.dumps(file)})")  # fmt: skip


def data_of_run(context: Context, run: gr.Dropdown, data: gr.Dropdown, against: gr.Dropdown) -> None:
    """Choose the set that a chosen run is judged on, and what a link names."""

    def chosen(identity: str) -> Any:
        if not identity or identity == NO_RUN:
            return gr.skip()
        return data_of(context, identity)

    def linked(query: str) -> list[Any]:
        words = (json.loads(query) if query else None) or [None] * len(ADDRESS)
        runs = {one.id for one in context.registry.runs()}
        named, wanted, other = words
        unknown = [name for name in (named, other) if name and name not in runs]
        unknown += [wanted] if wanted and wanted not in context.registry.sets.ids() else []
        if unknown:
            gr.Warning(f"the link names {unknown[0]}, which is not served here")
        if named not in runs:
            return [gr.skip(), gr.skip(), gr.skip()]
        known = wanted if wanted in context.registry.sets.ids() else chosen(named)
        return [named, known, other if other in runs else gr.skip()]

    run.input(chosen, run, data, api_name="diagnose_data", show_progress="hidden", trigger_mode="always_last")
    root_block().load(
        linked, hidden_text(), [run, data, against], js=query_js(ADDRESS), api_name="diagnose_linked",
        show_progress="hidden",
    )  # fmt: skip
