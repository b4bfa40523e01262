"""The Diagnose page: why is a run worse than it should be? Files are dropped, or a served run is chosen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gradio as gr
from gradio.components import Component

from apps.pages.engine import QuestionPage
from apps.pages.frame import sentence_html
from apps.pages.job_sections import QUIET, AddedSection, JobSection, job_key
from apps.pages.links import say_of_link
from apps.pages.report_section import Answer, printing
from apps.pages.sections import (
    Download,
    control_row,
    figure_update,
    hidden_text,
    job_html,
    one_sentence_errors,
    report_mark,
)
from workbench.cli import MISTAKES
from workbench.cli.diagnose import claims_of, seconds_of
from workbench.core.errors import available
from workbench.core.files import files_in
from workbench.core.job import JobResults, LruCache, version_of
from workbench.core.plain_text import escaped
from workbench.core.report import counted
from workbench.diagnosis.texts import is_message

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core.job import Job
    from workbench.diagnosis import Diagnosis
    from workbench.diagnosis.cause import Cause, Level
    from workbench.diagnosis.diagnosing import Answered

NO_RUN, NO_DATA, NO_OTHER = "the files dropped here", "no data set", "no other run"
LEVELS: tuple[tuple[str, str], ...] = (
    ("files alone, seconds", "files"),
    ("a few forward passes", "forward"),
    ("the whole data set", "evaluate"),
    ("and short trainings", "train"),
)
# What a report asks for, in the words of the command line, and the control of the page that takes it.
CONTROLS = {
    "(--data, --images)": "(above: data set)",
    "(--claim AP=.70)": "(above: expected figure)",
    "add --data (and --images)": "choose one above",
    "add --claim AP=.70": "fill in the expected figure above",
    "add --claim AP=.42 with": "fill in the expected figure above:",
    **{f"give --level {level}": f"choose the tests &quot;{title}&quot; above" for title, level in LEVELS},
}
WAITING = (
    "Choose a run, or drop files, such as all those of a run's folder: checkpoints, config, log, results, "
    "annotations, code, an error message. "
    "Then press Diagnose."
)
MORE = (
    "This is what the files alone show. Press Diagnose for tests that run the model on images: they prove a "
    "cause by undoing it."
)
OPENING_BUDGET = "60s"
"""Time for what the page opens with: several epochs of a large model are read in it."""
MOST_FILES = 2000
"""Files of a run's folder whose changes make a diagnosis another one."""

SAVED = (
    ("Report (HTML)", "html", "diagnosis.html"),
    ("Notebook", "notebook", "diagnosis.ipynb"),
    ("Facts (JSON)", "json", "diagnosis.json"),
)
"""Label, name and file of what a finished diagnosis is saved as."""


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
        version: changes with the data set.
    """

    targets: tuple[Path, ...]
    names: tuple[str, ...]
    data: str = ""
    against: Path | None = None
    claim: str = ""
    level: str = "forward"
    budget: float | None = None
    message: str = ""
    version: str = ""

    def key(self) -> str:
        """Names the diagnosis; files that were rewritten are others, of the runs' folders too."""
        given = (*self.targets, *([self.against] if self.against else []))
        files = [
            version_of(one) for path in given for one in (files_in(path, "*", "*/*") or [path])[:MOST_FILES]
        ]
        return job_key("diagnose", *dataclasses.astuple(self), files)


class DiagnosePage(QuestionPage):
    """Causes of a bad result with their evidence, from files or a run of the served folder."""

    path, prefix, title = "diagnose", "dgn", "Diagnose"
    question = "Why is this run worse than it should be, and what proves it?"
    address, chosen_name = ("run", "data", "against"), "diagnose_linked"

    def add_controls(self) -> Mapping[str, Component]:
        runs = [(run.title, run.id) for run in self.context.registry.runs()]
        sets = self.context.registry.sets.ids()
        chosen, on, other = first_choice(self.context)

        def chooser(choices: Sequence[Any], value: str, label: str, name: str, width: int) -> gr.Dropdown:
            return gr.Dropdown(choices, value=value, label=label, elem_id=f"dgn-{name}", min_width=width)

        def text(label: str, placeholder: str, name: str, width: int) -> gr.Textbox:
            more: dict[str, Any] = {"elem_id": f"dgn-{name}", "min_width": width}
            return gr.Textbox("", label=label, placeholder=placeholder, **more)

        with gr.Row(elem_classes="dgn-what"):
            dropped = gr.File(
                file_count="multiple", type="filepath", height=150, elem_id="dgn-files",
                label="checkpoint, config, log, results, annotations, code, error message",
            )  # fmt: skip
            with gr.Column(min_width=320):
                run = chooser([NO_RUN, *runs], chosen, "run of the served folder", "run", 200)
                data = chooser([NO_DATA, *sets], on, "data set", "data", 200)
        with control_row("dgn-how"):
            against = chooser([(NO_OTHER, ""), *runs], other, "compare with", "against", 200)
            claim = text("expected figure", "AP=.698", "claim", 120)
            level = chooser(LEVELS, "forward", "tests", "level", 200)
            budget = text("budget", "10m", "budget", 90)
            message = text("or paste an error message", "RuntimeError: ...", "message", 200)
            self._start = gr.Button(
                "Diagnose", variant="primary", min_width=120, scale=0, elem_id="dgn-start"
            )
        self._controls: list[Component] = [dropped, run, data, against, claim, level, budget, message]
        return {"run": run, "data": data, "against": against}

    def sections(self) -> Sequence[JobSection]:
        self._section = Diagnosing(self.context, self._controls, self._start)
        return (self._section,)

    def chosen(self, words: Sequence[str | None]) -> list[Any]:
        """Run, data and run to compare with, as a link names them; without one the first choice stays."""
        run, data, against = words
        runs, sets = [one.id for one in self.context.registry.runs()], self.context.registry.sets.ids()
        named = ((run, runs), (against, runs), (data, sets))
        if unknown := [f"{name:.80}" for name, known in named if name and name not in known]:
            say_of_link(f"the link names what is not served here: {', '.join(unknown)}")
        if run not in runs:
            return [gr.skip(), data if data in sets else gr.skip(), against if against in runs else gr.skip()]
        on = data if data in sets else data_of(self.context, run)
        # What the page would compare its own first choice with is no base of another run.
        first, _, base = first_choice(self.context)
        return [run, on, against if against in runs else base if run == first else ""]

    def first(self, loaded: Any) -> Any:
        self._loaded = loaded
        return loaded

    def add_events(self, added: Mapping[str, AddedSection]) -> None:
        """What the page opens with, the set of a chosen run, what dropped files undo, what is saved."""
        dropped, run, data, against, *_ = self._controls
        asked = [added["diagnose"].key, added["diagnose"].timer]
        self._loaded.success(
            self._section.opening, [run, data, against], asked, api_visibility="private", **QUIET
        )
        run.input(  # type: ignore[attr-defined]
            lambda one: gr.skip() if one in ("", NO_RUN) else data_of(self.context, one), run, data,
            api_name="diagnose_data", trigger_mode="always_last", **QUIET,
        )  # fmt: skip
        dropped.upload(  # type: ignore[attr-defined]
            # The answer that is shown is not the dropped files' one.
            lambda: [NO_RUN, NO_DATA, "", "", gr.Timer(active=True)], None, [run, data, against, *asked],
            api_name="diagnose_dropped", **QUIET,
        )  # fmt: skip
        payload = hidden_text()
        for (_, name, file), button in zip(SAVED, self._section.buttons, strict=True):
            saved = button.click(
                one_sentence_errors(getattr(self._section, name)), added["diagnose"].key, payload,
                api_name=f"diagnose_{name}", **QUIET,
            )  # fmt: skip
            saved.success(None, payload, None, js=f"(text) => window.wb.save(text, {json.dumps(file)})")


class Diagnosing(JobSection):
    """The diagnosis as a job; what it found so far is shown while it runs."""

    name, identity, line_id, figure_id = "diagnose", "dgn", "dgn-answer", "dgn-figure"
    handlers = ("diagnose", "diagnose_watch", "diagnose_cancel")
    keyed = True
    cancelled = "Cancelled. Diagnose starts it again."
    waiting = "This diagnosis is no longer stored; press Diagnose again."

    def __init__(self, context: Context, controls: Sequence[Component], start: gr.Button) -> None:
        self._context, self._controls, self._start = context, [*controls], start
        self._results: JobResults[Diagnosis] = JobResults(context.jobs)
        # Key of a running diagnosis -> what its tests said so far, as HTML.
        self._so_far: dict[str, str] = {}
        self._inputs: LruCache[tuple[tuple[str, Path], ...]] = LruCache(20)

    def add_fields(self) -> list[Component]:
        return self._controls

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        return {self._start: ()}

    def add_below(self) -> list[Any]:
        with gr.Row(visible=False, elem_classes="dgn-files-row") as saving:
            self.buttons = [
                gr.Button(word, size="sm", min_width=120, scale=0, elem_id=f"dgn-{name}")
                for word, name, _ in SAVED
            ]
        return [saving]

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
            None if not against else self._context.registry.run(against).folder,
            claim or "",
            level or "forward",
            seconds_of(budget) if budget else None,
            message,
            self._context.registry.sets.version(data) if data not in (None, "", NO_DATA) else "",
        )

    def _targets(self, files: Any, run: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        listed = files if isinstance(files, list) else [files] if files else []
        if listed:  # what was dropped counts, whatever run is chosen beside it
            paths = tuple(Path(str(one)) for one in listed)
            return paths, tuple(path.name for path in paths)
        if run and run != NO_RUN:
            folder = self._context.registry.run(run).folder
            return (folder,), (folder.name,)
        return (), ()

    def start(self, *asked: Any) -> str:
        """Start the diagnosis: its key."""
        request = self.asked(*asked)
        key = request.key()

        def work(job: Job) -> Diagnosis:
            def testing(cause: Cause, answers: Answered) -> None:
                job.step = f"{job.done} of {counted(job.total, 'cause')} tested; now: {cause.name}"
                self._so_far[key] = so_far_html(answers)

            try:
                return self._diagnosed(request, job, testing)
            finally:
                self._so_far.pop(key, None)

        self._inputs.get(key, lambda: self._inputs_of(request))
        names = ", ".join(request.names) or "the error message"
        self._results.start(key, f"diagnosis of {names}", work)
        return key

    def opening(self, run: str, data: str, against: str) -> list[Any]:
        """Key and timer of what the page opens with: what the files of the chosen run alone tell."""
        try:
            key = self.start(None, run, data, against, "", "files", OPENING_BUDGET)
        except MISTAKES:  # nothing is chosen yet: the page says what to do
            return [gr.skip()] * 2
        return [key, gr.Timer(active=True)]

    def _inputs_of(self, asked: Asked) -> tuple[tuple[str, Path], ...]:
        """(kind, file) of what goes in: dropped files, the checkpoints of both runs, the annotations."""
        from workbench.data import BUILTIN

        epochs = {run.folder: [one.path for one in run.epochs] for run in self._context.registry.runs()}
        found = [("file", path) for path in asked.targets if path.is_file()]
        for folder in (*asked.targets, asked.against):
            found += [("checkpoint", path) for path in epochs.get(folder, ())] if folder else []
        if asked.data and asked.data not in BUILTIN:
            found.append(("annotations", self._context.registry.sets.file(asked.data)))
        return tuple(found)

    def _diagnosed(self, asked: Asked, job: Job, testing: Callable[[Cause, Answered], None]) -> Diagnosis:
        from workbench.data import BUILTIN
        from workbench.diagnosis import diagnose

        registry, data, images = self._context.registry, None, None
        if asked.data:
            data = asked.data if asked.data in BUILTIN else registry.sets.file(asked.data)
            images = None if asked.data in BUILTIN else registry.sets.images
        # What a browser sent is read and never run; what the command line named is the server's own.
        settings = self._context.settings
        around, own = {path.parent for path in asked.targets}, {}
        if asked.targets and asked.targets[0].is_dir():
            around = {*registry.served.folders.values()}
            own = {"config": settings.config, "adapter": settings.adapter, "family": settings.family}
        found = diagnose(
            [*asked.targets, *([asked.message] if asked.message else [])],
            data=data,
            images=images,
            within=(*registry.sets.allowed(asked.data), *sorted(around)),
            against=asked.against,
            claim=claims_of([asked.claim] if asked.claim else None),
            level=cast("Level", asked.level),
            budget=asked.budget,
            one_run=True,
            progress=job.progress,
            testing=testing,
            cancelled=job.cancelled,
            device=settings.device,
            bits=settings.reading.bits,
            as_stored=settings.reading.as_stored,
            **own,
        )
        return by_names(found, [path for path in asked.targets if path.is_file()])

    def job(self, *asked: Any) -> Job | None:
        return self._results.job(*asked)

    def result(self, *asked: Any) -> Diagnosis | None:
        return self._results.result(*asked)

    def status(self, job: Job | None, figure: str, *asked: Any) -> str:
        """How far it is and what it found so far; before a start what is chosen and what to do."""
        if not asked[0]:
            return sentence_html(explained(first_choice(self._context)[0]), "why")
        so_far = self._so_far.get(asked[0], "") if job is not None and job.alive else ""
        return job_html(job, "diagnose-job", self.cancelled) + so_far

    def updates(self, result: Diagnosis, download: Download, figure: str, *asked: Any) -> list[Any]:
        """The answer with its evidence; a figure where an effect was measured."""
        from workbench.diagnosis.document import body

        measured = any(finding.effect is not None for finding in result.findings)
        drawn = figure_update(result.plot().update_layout(title_text="") if measured else None)
        more = sentence_html(MORE, "why") if result.repeat.get("level") == "files" else ""
        text = body(result)
        for option, control in CONTROLS.items():
            text = text.replace(option, control)
        return [f'{more}<div class="dgn-report">{text}</div>{report_mark(download)}', drawn, ""]

    def below(self, result: Diagnosis | None, *asked: Any) -> list[Any]:
        return [gr.update(visible=result is not None)]

    def token(self, *asked: Any) -> str:
        return asked[0]

    def html(self, key: str = "") -> str:
        """The report as one HTML file."""
        from workbench.diagnosis.document import document

        return document(self._done(key))

    def notebook(self, key: str = "") -> str:
        """The notebook that repeats it."""
        from workbench.diagnosis.document import notebook

        return notebook(self._done(key))

    def json(self, key: str = "") -> str:
        """The facts as JSON."""
        from workbench.cli.output import as_text

        return as_text(self._done(key).to_json())

    def shown(self, section: str, state: str) -> Answer:
        """The diagnosis; `state` is its key."""
        report = self._done(state)
        given = ", ".join(f"{name}={value!r}" for name, value in report.repeat.items())
        code = printing(f"from workbench.diagnosis import diagnose\n\ndiagnose({given})")
        return Answer.of("Diagnosis", report, code, self._inputs.peek(state) or ())

    def _done(self, key: str) -> Diagnosis:
        report = self._results.result(key)
        if report is None:
            raise ValueError("there is no finished diagnosis yet; press Diagnose first")
        return report


def so_far_html(answers: Answered) -> str:
    """What a running diagnosis found and ruled out so far, the newest first; "" where it did neither."""
    from workbench.diagnosis.candidates import Candidates
    from workbench.diagnosis.cause import NotTestable, RuledOut

    found, ruled_out = [], []
    for cause, answer in answers.items():
        if isinstance(answer, RuledOut):
            ruled_out.append(f"<li>{escaped(f'{cause.name}: {answer.evidence}')}</li>")
        elif not isinstance(answer, (NotTestable, Candidates)):
            found += [f"<li>{escaped(f'{one.cause}: {one.evidence}')}</li>" for one in answer]
    parts = [
        f"<h2>{word} so far ({len(items)})</h2><ul>{''.join(reversed(items))}</ul>"
        for word, items in (("Found", found), ("Ruled out", ruled_out))
        if items
    ]
    return f'<div class="dgn-report" data-testid="diagnose-so-far">{"".join(parts)}</div>' if parts else ""


def by_names(report: Diagnosis, dropped: Sequence[Path]) -> Diagnosis:
    """The report with dropped files by their names: the folders of an upload mean nothing to its reader.

    Args:
        report: the diagnosis.
        dropped: the files; of two with one name both stay as they are.
    """
    if len({path.name for path in dropped}) < len(dropped):
        return report
    folders = dict.fromkeys(str(one) for path in dropped for one in (path.parent, path.parent.resolve()))

    def short(text: str) -> str:
        for folder in folders:
            text = text.replace(f"{folder}/", "")
        return text

    title = report.title
    for path in dropped:
        title = title.removeprefix(f"{path.parent.name}, ")
    return dataclasses.replace(
        report,
        title=title,
        commands=tuple(dataclasses.replace(one, line=short(one.line)) for one in report.commands),
        repeat={**report.repeat, "targets": [short(one) for one in report.repeat["targets"]]},
        experiment={k: short(v) if isinstance(v, str) else v for k, v in report.experiment.items()},
    )


def first_choice(context: Context) -> tuple[str, str, str]:
    """Run, data set and run to compare with that the page opens with; NO_RUN where none is served.

    The user's first run; where only demo runs are served, the one that is worse than its base.
    """
    from workbench.checkpoints.demo import demo_runs
    from workbench.cli.diagnose import BASE, DEMO

    served = list(context.registry.runs())
    if not served:
        return NO_RUN, NO_DATA, ""
    demos = available(lambda: {path.resolve() for path in demo_runs()}, set())
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


def explained(run: str) -> str:
    """What to do on the page as it opens; the controls say what is chosen, a link may change it later."""
    if run == NO_RUN:
        return WAITING
    return (
        "Press Diagnose to find out why the run chosen above is worse than expected. A second run, chosen "
        "under 'compare with', is used as its base. Or drop files of your own."
    )
