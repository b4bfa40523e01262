"""Parts of pages: HTML blocks, job progress, report sections, and jobs that a button starts."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import gradio as gr
from gradio.components import Component
from gradio.context import Context as Building

from apps.pages.frame import sentence_html
from apps.pages.report_section import sheet, untitled
from workbench.cli import MISTAKES, sentence
from workbench.core.plain_text import escaped, escaped_lines
from workbench.core.report import Report

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.core.job import Job

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

STYLES = Path(__file__).parent / "static"

# Seconds between two updates of a page while its job runs.
UPDATE_SECONDS = 0.6

REMEMBER = "(address) => address && window.wb.remember(JSON.parse(address))"
"""JavaScript that writes a JSON object, name -> word, into the page's address."""

COPY_LINK = "() => window.wb.link(document.activeElement)"

DATA_NOTE = "(data) => window.wb.note(data)"
"""JavaScript that shows what is to be known of a data set; one in the page's address needs no such call."""


# Building blocks.


def html_block(elem_id: str = "", value: str = "", **more: Any) -> gr.HTML:
    """A component that shows HTML and nothing else."""
    return gr.HTML(value, elem_id=elem_id or None, apply_default_css=False, js_on_load=None, **more)


def hidden_text(value: str = "") -> gr.Textbox:
    """A text that the page holds and does not show."""
    return gr.Textbox(value, visible="hidden", show_label=False)


def add_style(name: str) -> None:
    """Add a style sheet of `static/` to the page."""
    html_block(value=f"<style>{(STYLES / f'{name}.css').read_text(encoding='utf-8')}</style>")


def root_block() -> gr.Blocks:
    """The app in which a page is being built.

    Raises:
        RuntimeError: outside gr.Blocks.
    """
    if Building.root_block is None:
        raise RuntimeError("a page is built inside gr.Blocks")
    return Building.root_block


def query_js(names: Sequence[str]) -> str:
    """JavaScript that reads these names from the page's address, as a JSON list."""
    return f"() => JSON.stringify(window.wb.query({json.dumps(list(names))}))"


def one_sentence_errors(handler: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Give a handler errors that are one sentence on the page and no traceback in the server's log."""

    @functools.wraps(handler)
    def handled(*values: Arguments.args, **named: Arguments.kwargs) -> Answer:
        try:
            return handler(*values, **named)
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake

    return handled


@contextlib.contextmanager
def control_row(classes: str = "") -> Iterator[None]:
    """A row of controls."""
    with gr.Row(elem_classes=f"wb-bar {classes}".strip()):
        yield


def sample_stepper(prefix: str) -> tuple[gr.Button, gr.Number, gr.Button]:
    """Back, the sample's number, forth: they stand on one line at every width.

    Args:
        prefix: of the buttons' ids.
    """
    with gr.Row(elem_classes="wb-stepper"):
        back = gr.Button("‹", min_width=34, scale=0, elem_id=f"{prefix}-back")
        sample = gr.Number(None, label="sample", precision=0, minimum=0, min_width=112, scale=0)
        forth = gr.Button("›", min_width=34, scale=0, elem_id=f"{prefix}-forth")
    return back, sample, forth


def job_html(job: Job | None, test_id: str = "job-status", cancelled: str = "Cancelled.") -> str:
    """What a job does, how far it is, and its remaining time; "" when it is done or there is none."""
    if job is None or job.state == "done":
        return ""
    if job.state == "failed":
        return sentence_html(f"{job.title}: {job.error}", "error")
    mark = f'class="wb-progress" data-testid="{test_id}"'
    if job.state == "cancelled":
        return f"<div {mark}>{escaped(cancelled)}</div>"
    left = job.seconds_left
    far = job.step or (f"{job.done} of {job.total}" if job.total else "running")
    text = f"waiting for its turn; {job.waits_for}" if job.waits_for else far
    text += f", {left:.0f} s left" if left is not None and left >= 1 else ""
    bar = f'<progress max="{max(1, job.total)}" value="{job.done}"></progress>'
    return f"<div {mark} data-job={job.id}>{escaped(f'{job.title}: {text}')}{bar}{_cancel_left(job)}</div>"


def _cancel_left(job: Job) -> str:
    """A button that ends what a job waits for, where no page is open any more that shows it."""
    first = next(iter(job.before), None) if job.state == "queued" else None
    return "" if first is None else cancel_left_html(first)


def cancel_left_html(job: Job, kind: str = "job") -> str:
    """A button that ends a job which no open page shows; "" while one does.

    Args:
        job: that is in the way.
        kind: what a person calls it.
    """
    if job.cancelled() or not job.left:
        return ""
    button = f'<button type="button" data-cancel-job="{job.id}">Cancel that {kind}</button>'
    return f'<span class="wb-buttons">No open page shows that {kind}. {button}</span>'


# Report sections.


def table_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of a report as an HTML table."""
    shown = sheet(rows)
    head = "".join(f"<th>{escaped(str(name))}</th>" for name in shown["headers"])
    body = "".join(
        "<tr>" + "".join(f"<td>{escaped(str(value))}</td>" for value in row) + "</tr>"
        for row in shown["data"]
    )
    return f'<div class="wb-rows"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


@dataclass(frozen=True)
class Download:
    """Where the server finds what a section's CSV and JSON buttons save.

    Attributes:
        page: key of `Context.reports`.
        section: of that page.
        state: the page's state as text.
    """

    page: str
    section: str
    state: str


def _marks(download: Download) -> str:
    return " ".join(f'data-{key}="{escaped(value)}"' for key, value in dataclasses.asdict(download).items())


def report_mark(download: Download) -> str:
    """Invisible HTML by which the page's Report button finds an answer that has no buttons of its own."""
    return f'<div class="wb-details" hidden {_marks(download)}></div>'


def buttons_html(
    download: Download, pictures: Mapping[str, str], code: str, link: bool = False, below: str = ""
) -> str:
    """PNG, CSV, JSON and Copy as code; `shell.js` acts on them.

    Args:
        download: what CSV and JSON save.
        pictures: id of a figure's element -> word beside PNG, "" for the only figure.
        code: Python that makes the same report; "" leaves its button out.
        link: whether Copy link comes first.
        below: HTML after the buttons; holds the code where it is shown.
    """
    name = f"{download.page}-{download.section}" if download.page != download.section else download.page
    buttons = ['<button type="button" data-link>Copy link</button>'] * link
    buttons += [
        f'<button type="button" data-picture="{figure}" '
        f'data-name="{"-".join(filter(None, (name, word)))}">{f"PNG {word}".strip()}</button>'
        for figure, word in pictures.items()
    ]
    buttons += [
        f'<button type="button" data-file="{kind}">{kind.upper()}</button>' for kind in ("csv", "json")
    ]
    buttons += ['<button type="button" data-copy>Copy as code</button>'] * bool(code)
    hidden = f"<pre hidden><code>{escaped_lines(code)}</code></pre>" if code and not below else ""
    shown = f'<div class="wb-buttons">{"".join(buttons)}</div>{hidden}{below}'
    return f'<div class="wb-details" {_marks(download)}>{shown}</div>'


def details_html(
    download: Download, rows: Sequence[Mapping[str, Any]], code: str, pictures: Mapping[str, str]
) -> str:
    """The buttons of a report, and below them its values and its code, folded.

    Args:
        download: what CSV and JSON save.
        rows: of the report.
        code: Python that makes the same report; "" leaves it out.
        pictures: as of `buttons_html`.
    """
    listing = f'<pre class="wb-code"><code>{escaped_lines(code)}</code></pre>' if code else ""
    summary = "Values, and the same in a notebook" if code else "Values"
    below = f"<details><summary>{summary}</summary>{table_html(rows)}{listing}</details>"
    return buttons_html(download, pictures, code, below=below)


@dataclass(frozen=True)
class Section:
    """The components of one report: a sentence and a figure, or two of each side by side, and the details.

    Attributes:
        name: of the section.
        columns: one for each figure where there are two; else empty.
        lines: the sentences.
        figures: the plots; their ids are `figure_ids`.
        details: downloads, values and code.
    """

    name: str
    columns: tuple[gr.Column, ...]
    lines: tuple[gr.HTML, ...]
    figures: tuple[gr.Plot, ...]
    details: gr.HTML

    @property
    def outputs(self) -> list[Component]:
        """In the order of `section_updates`."""
        return [*self.columns, *self.lines, *self.figures, self.details]  # type: ignore[list-item]


def add_heading(elem_id: str, title: str, question: str, link: str = "") -> None:
    """A section's title, and its question beside it.

    Args:
        elem_id: of the heading.
        title: shown large.
        question: shown small; may hold HTML.
        link: page that asks the question alone, "" for none.
    """
    alone = f' <a data-page="/{link}" href="/{link}">open alone</a>' if link else ""
    value = f'<h2 id="{elem_id}">{title}<small>{question}{alone}</small></h2>'
    html_block(value=value, elem_classes="wb-section wb-report-head")


def add_section(
    elem_id: str, name: str, letters: Sequence[str] = (), figure_id: str = "", line_id: str = ""
) -> Section:
    """Add the components of a report section below its heading.

    Args:
        elem_id: of the figure; with letters ``elem_id-A`` and so on; the sentence's ends in ``-line``.
        name: of the section.
        letters: of figures that stand side by side.
        figure_id: of the figure where it is another one.
        line_id: of the sentence where it is another one.
    """
    columns: list[gr.Column] = []
    lines: list[gr.HTML] = []
    figures: list[gr.Plot] = []

    def one(identity: str) -> None:
        lines.append(html_block(line_id or f"{identity}-line"))
        figures.append(
            gr.Plot(
                show_label=False, container=False, visible=False, elem_id=figure_id or identity,
                elem_classes="wb-report",
            )
        )  # fmt: skip

    if not letters:
        one(elem_id)
    else:
        with gr.Row(equal_height=False, elem_classes="wb-pair"):
            for letter in letters:
                with gr.Column(min_width=420) as column:
                    one(f"{elem_id}-{letter}")
                columns.append(column)
    details = html_block(f"{elem_id}-details")
    return Section(name, tuple(columns), tuple(lines), tuple(figures), details)


def figure_update(figure: Figure | None) -> Any:
    """Show a figure, or hide its place."""
    return gr.update(visible=False) if figure is None else gr.update(value=figure, visible=True)


def report_updates(found: Report | str | None, waiting: str, details: Callable[[Report], str]) -> list[Any]:
    """Updates of a section with one figure: the report, the reason why there is none, or that it is pending.

    Args:
        found: the report, the reason, or None while it is being computed.
        waiting: shown while it is being computed.
        details: downloads, values and code of the report.
    """
    if isinstance(found, Report):
        return [sentence_html(found.summary()), figure_update(untitled(found)), details(found)]
    return [sentence_html(found or waiting, "why"), figure_update(None), ""]
