"""What a reader takes away from a report: the Python that makes it again, its rows and facts, a document."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli import MISTAKES, sentence
from workbench.core.command_line import command_line, words_of
from workbench.core.files import csv_text
from workbench.core.plain_text import UNSHOWN
from workbench.core.python_text import tree_of
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
    naming = naming_of(context, subject.run, subject.epoch, subject.of_set, "pose_set")
    opened_set = ["", f"pose_set = {sample.rpartition('.sample(')[0]}"] if naming else []
    if naming:
        sample = f"pose_set.sample({subject.sample})"
    record = {(): "", ("*",): ", record=model.taps"}.get(
        inspector.record, f", record={list(inspector.record)!r}"
    )
    options = f", options=DecodeOptions({subject.decoder!r})" if subject.decoder else ""
    path = path_literal(context.registry.epoch(subject.run, subject.epoch).path)
    flips = inspector.flips(context.registry.model(subject.run, subject.epoch, subject.of_set).model)
    lines = [
        *imports,
        f"from {inspector.compute.__module__.rpartition('.')[0]} import {inspector.name}",
        "from workbench.models import open_model",
        *(["from workbench.core import DecodeOptions"] if subject.decoder else []),
        "from workbench.core.run import run",
        *(opened_set or [""]),
        f"model = {opening_model(context, path)}{naming}.model",
        f"looked = run(model, [{sample}]{record}{options}{', flip=True' if flips else ''})",
        f"{inspector.name}.compute(looked, {inspector.name}.Params({knobs}){more and f', {more}'})",
    ]
    return printing("\n".join(lines))


def printing(code: str) -> str:
    """Code whose expressions, the reports, are printed as well: a script then shows what a notebook does.

    Args:
        code: Python; a command of the shell, and "" where there is none, are left as they are.
    """
    try:
        body = tree_of(code).body
    except SyntaxError:
        return code
    reports = [one for one in body if isinstance(one, ast.Expr)]
    if not reports:
        return code
    lines = code.split("\n")
    for node in reversed(reports):
        lines[node.lineno - 1] = f"report = {lines[node.lineno - 1]}"
        lines.insert(node.end_lineno or node.lineno, "print(report)")
    return "\n".join([*lines, "report"])


def _sample(context: Context, subject: Subject) -> tuple[list[str], str]:
    if subject.image is not None:
        name = Path(subject.image).name
        box = subject.own_box
        text = repr(box) if box else "(0, 0, image.shape[1], image.shape[0])"
        reading = context.settings.reading
        name_of, opening = ("ImageReading", f"{reading!r}.pixels") if reading.notes() else ("read_image",) * 2
        return (
            [
                f"from workbench.data.images import {name_of}",
                "from workbench.core import Sample",
                "",
                f"image = {opening}({literal(name)})  # your own file: give its path",
                "",
            ],
            f"Sample(image, {text})",
        )
    imports, opening = opening_of(context, subject.data)
    return imports.splitlines(), f"{opening}.sample({subject.sample})"


def opening_of(context: Context, data: str, whole: bool = False) -> tuple[str, str]:
    """What opens a set in Python: the lines that import it, and the expression.

    Images that are missing are left out as on the page, so that the same number is the same sample;
    not of a `whole` set, as a result file is judged on.
    """
    from workbench.data import BUILTIN

    if data in BUILTIN:
        return "from workbench.data import builtin", f'builtin("{data}")'
    images = context.registry.sets.images
    more = "" if images is None else f", {path_literal(images)}"
    imports, reading = "from workbench.data import read_coco", context.settings.reading
    if reading.notes():
        more += f", reading={reading!r}"
        imports += "\nfrom workbench.data.images import ImageReading"
    opening = f"read_coco({path_literal(context.registry.sets.file(data))}{more})"
    if context.registry.sets.get(data, whole).left_out:
        opening = f"with_present_images({opening})"
        imports += "\nfrom workbench.data.pose_set import with_present_images"
    return imports, opening


def opening_model(context: Context, file: str, **changed: Any) -> str:
    """The Python expression that opens a checkpoint as the app does.

    Args:
        context: of this serving; what its command line said about the models is repeated.
        file: a Python expression for the checkpoint's path.
        **changed: flags of `open_model` that replace those of the command line.
    """
    settings = context.settings
    stated = {
        "config": settings.config and path_literal(settings.config),
        "family": settings.family and literal(settings.family),
        "adapter": settings.adapter and path_literal(settings.adapter),
        "remap": settings.remap,
        "allow_partial": settings.allow_partial,
        "output": list(settings.output),
        "assume": list(settings.assume),
    }
    more = "".join(f", {name}={value}" for name, value in (stated | changed).items() if value)
    return f"open_model({file}{more})"


def naming_of(context: Context, run: str, epoch: int, data: str, name: str) -> str:
    """What stands after `opening_model` where a set names the model's keypoints; "" where none does.

    Args:
        context: of this serving.
        run: the model's.
        epoch: the model's.
        data: id of the set; "" for none.
        name: of the Python variable that holds the set.
    """
    registry = context.registry
    if not data or registry.model(run, epoch, data).model is registry.model(run, epoch).model:
        return ""
    return f".named_as({name})"


def absolute_path(path: Path) -> str:
    """The absolute path: the lines then run from any folder."""
    return path.resolve().as_posix()


def command_in(folder: Path, command: str) -> str:
    """A command as it is typed in a folder: paths below the folder are relative to it, others stay whole.

    Args:
        folder: where it will be run.
        command: of the shell, with absolute paths.
    """
    start = folder.resolve()
    words = [Path(word) if word.startswith("/") else word for word in words_of(command)]
    return command_line(
        one.relative_to(start) if isinstance(one, Path) and one.is_relative_to(start) else one
        for one in words
    )


def path_literal(path: Path) -> str:
    """The absolute path as a Python string."""
    return literal(absolute_path(path))


def literal(text: str) -> str:
    """A Python string literal of a text: a name out of a file or folder cannot end it and add code.

    Nor can it look like code: signs that change the direction of text, and halves of characters, are escapes.
    """
    return UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


# What is read at most of an uploaded text, bytes; a config has at most 256 kB.
MOST_TEXT = 1 << 19


def config_text(path: Path) -> str:
    """The text of an uploaded config.

    Raises:
        ValueError: it is too large, or no text.
    """
    with path.open("rb") as file:
        data = file.read(MOST_TEXT + 1)
    if len(data) > MOST_TEXT:
        raise ValueError(f"{path.name} is larger than any config: {MOST_TEXT} bytes are read at most")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is no text; expected a .py, .yaml, .json or .toml config, or statements in .md "
            "(a checkpoint is audited as a run of the served folder)"
        ) from error


# What a reader takes away from a page: rows and facts of a report as a file, and all of it as one document.


def text_of(report: Report, kind: str) -> str:
    """The report as the text of a file: ``csv`` has every row, ``json`` every fact."""
    if kind == "json":
        return json.dumps(plain(report.to_json()), ensure_ascii=False, allow_nan=False)
    return as_csv(report.table())


def report_there(found: Report | str | None, title: str) -> Report:
    """The report of a section.

    Raises:
        ValueError: there is none, but the reason, or None while it is computed.
    """
    if not isinstance(found, Report):
        raise ValueError(f"{title}: {found or 'not computed yet, wait for the job above'}")
    return found


@dataclass(frozen=True)
class Answer:
    """What one section of a page shows.

    Attributes:
        title: of the section.
        reports: label -> report; "" labels the only one.
        code: Python that makes them again; "" where none does.
        inputs: (kind, file) of what went in; kinds as of `figures.document.Input`.
        details: makes further HTML of a document, as pictures of samples; called for documents only.
    """

    title: str
    reports: Mapping[str, Report]
    code: str = ""
    inputs: tuple[tuple[str, Path], ...] = ()
    details: Callable[[], Sequence[str]] = tuple

    @classmethod
    def of(
        cls, title: str, report: Report, code: str = "", inputs: Iterable[tuple[str, Path]] = ()
    ) -> Answer:
        """An answer of one report."""
        return cls(title, {"": report}, code, tuple(inputs))

    def text(self, kind: str) -> str:
        """The reports as the text of a CSV or JSON file; of several, every row and fact with its label."""
        if list(self.reports) == [""]:
            return text_of(self.reports[""], kind)
        if kind == "json":
            return json.dumps(plain({k: r.to_json() for k, r in self.reports.items()}), ensure_ascii=False)
        return as_csv([{"epoch": label, **row} for label, r in self.reports.items() for row in r.table()])

    def parts(self) -> list[str]:
        """As parts of a document."""
        from workbench.core.plain_text import escaped
        from workbench.figures.document import code_parts, report_parts

        parts = [f"<h2>{escaped(self.title)}</h2>"]
        for label, report in self.reports.items():
            parts += report_parts(report, label, level=3)
        return [*parts, *self.details(), *code_parts(self.code)]


def subject_inputs(
    context: Context, run: str, epochs: Iterable[int], data: str
) -> tuple[tuple[str, Path], ...]:
    """The files behind epochs of a run and a data set; a built-in set has none."""
    from workbench.data import BUILTIN

    found = [("checkpoint", context.registry.epoch(run, epoch).path) for epoch in dict.fromkeys(epochs)]
    if data and data not in BUILTIN:
        found.append(("annotations", context.registry.sets.file(data)))
    return tuple(found)


NOTHING = "there is nothing to report yet: this page shows no finished answer"


def page_document(context: Context, page: str, items: Sequence[tuple[str, str, str]], address: str) -> str:
    """What a page shows now as one HTML document, made as that of `workbench report`.

    Args:
        context: of this serving.
        page: path of the page.
        items: (key of `Context.reports`, section, state) of every section with an answer.
        address: of the page below the server, with its query.

    Raises:
        KeyError: no such page.
        NotAvailable: there is no answer yet.
    """
    from workbench.core import NotAvailable
    from workbench.core.plain_text import escaped
    from workbench.figures.document import html_document, made_parts

    title, question = context.titles[page]
    parts: list[str] = [f'<p class="quiet">{escaped(question)}</p>']
    inputs: dict[tuple[str, Path], None] = {}
    answers, reasons, answered = [], [], dict[tuple[str, str], None]()
    for key, section, state in dict.fromkeys(items):
        try:
            answers.append(context.reports[key](section, state))
            answered[key, state] = None
        except MISTAKES as mistake:
            reasons.append(sentence(mistake))
    if not answers:
        raise NotAvailable(f"{title}: {'; '.join(dict.fromkeys(reasons)) or NOTHING}")
    for key, state in (one for one in answered if one[0] in context.summaries):
        try:
            parts += context.summaries[key](state)
        except MISTAKES as mistake:
            reasons.append(sentence(mistake))
    for answer in answers:
        parts += answer.parts()
        inputs |= dict.fromkeys(answer.inputs)
    parts += [f"<p>Left out: {escaped(reason)}</p>" for reason in dict.fromkeys(reasons)]
    read = [context.input_of(kind, path) for kind, path in inputs]
    commands = [command_line(["workbench", "app", context.settings.root]), f"page {address}"]
    return html_document(f"{title}: report", [*parts, *made_parts(read, commands)])


# A report on the page: its rows as a table, its figure under the sentence that is its title.


# A page is read by people: more rows belong in the CSV, which has them all.
ROWS = 500


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the text of a CSV file."""
    return csv_text(rows) if rows else "empty\r\n"


def sheet(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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
