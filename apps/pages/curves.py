"""The Curves page: what the training logs of runs, uploads or a pasted text show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import gradio as gr
from gradio.components import Component

from apps.pages.engine import QuestionPage, add_link_button
from apps.pages.frame import sentence_html
from apps.pages.job_sections import JobSection, QuestionSection, job_key
from apps.pages.report_section import literal, path_literal
from apps.pages.sections import Download, add_heading, control_row, html_block
from apps.server.folders import Refused
from workbench.core import NotAvailable
from workbench.core.job import version_of
from workbench.core.plain_text import escaped

if TYPE_CHECKING:
    from apps.pages.report_section import Answer
    from apps.server.folders import RunFolder
    from workbench.core.finding import Finding
    from workbench.core.job import Job
    from workbench.curves import Curves
    from workbench.curves.report import CurvesReport

FIGURE = "wb-curves-figure"
# More cannot be told apart by their colours.
MOST_RUNS = 4
# Folders in which a trainer keeps checkpoints, one below its logs.
WEIGHTS = ("weights", "checkpoints", "checkpoint", "ckpt", "models")
# A point of a validation figure opens its epoch in Compare; what cannot be opened is told below the figure.
OPEN_EPOCH = f"""() => window.wb.onPoint("{FIGURE}", (point) => {{
  const link = (point.data.meta || {{}}).compare, said = document.querySelector("#wb-curves-click");
  if (!link) {{
    said.textContent = "No checkpoints of this curve are served, so its points open nothing.";
    return;
  }}
  const epoch = Math.round(point.x);
  if (!link.epochs.includes(epoch)) {{
    const there = link.epochs.join(", ");
    said.textContent = `No checkpoint of epoch ${{epoch}} is served; there are ${{there}}.`;
    return;
  }}
  const query = new URLSearchParams({{run: link.run, epoch: String(epoch)}});
  window.location.assign(new URL(`/?${{query}}`, window.location.origin));
}})"""


class CurvesPage(QuestionPage):
    """Curves of up to four runs, of uploads and of a pasted text, in one figure."""

    path, prefix, title = "curves", "wb", "Curves"
    question = "What stands out in the training curves, and at which epoch?"
    address, chosen_name = ("runs", "run", "series"), "curves_chosen"

    def add_controls(self) -> Mapping[str, Component]:
        with control_row():
            self._runs = gr.Dropdown(
                [], label="runs with a log (the first is the base)", multiselect=True, max_choices=MOST_RUNS,
                allow_custom_value=True, scale=3, min_width=320, elem_id="wb-curves-runs",
            )  # fmt: skip
            self._series = gr.Dropdown(
                [], label="series (empty: the usual ones)", multiselect=True, allow_custom_value=True,
                scale=2, min_width=240, elem_id="wb-curves-series",
            )  # fmt: skip
            add_link_button()
        return {"runs": self._runs, "series": self._series}

    def sections(self) -> Sequence[JobSection]:
        self._curves = TrainingCurves(self.context, [self._runs, self._series])
        return (self._curves,)

    def uploads(self) -> Mapping[str, Sequence[Component]]:
        return {"runs": self._curves.own}

    def chosen(self, words: Sequence[str | None]) -> list[Any]:
        """The runs and series that the address names; the first run with a log without one."""
        runs, run, series = words
        offered = [(one.title, one.id) for one in self.context.registry.runs() if self._curves.logs(one)]
        known = [identity for _, identity in offered]
        wanted = [name for name in (runs or run or "").split(",") if name][:MOST_RUNS]
        # A run without a log stays chosen: the page then says that it has none.
        value = wanted or known[:1]
        choices = [*offered, *((name, name) for name in value if name not in known)]
        names = [name for name in (series or "").split(",") if name]
        return [gr.update(choices=choices, value=value), gr.update(choices=names, value=names)]


@dataclass(frozen=True)
class Logs:
    """What is drawn.

    Attributes:
        runs: ids of runs.
        series: names; the usual ones when empty.
        files: uploaded logs.
        text: a pasted one.
    """

    runs: tuple[str, ...]
    series: tuple[str, ...]
    files: tuple[Path, ...]
    text: str


class TrainingCurves(QuestionSection[Logs]):
    """The curves, and what stands out in them."""

    name, figure_id, after = "curves", FIGURE, OPEN_EPOCH
    handlers = ("curves", "curves_watch", "curves_cancel")
    report_title = "Curves"
    patience = 5.0

    def add_fields(self) -> list[Component]:
        with gr.Accordion("A log of your own: upload files, or paste a log or a table", open=False), gr.Row():
            files = gr.File(
                label="logs (JSON lines, CSV, .log, TensorBoard events, .md)", file_count="multiple",
                height=150, elem_id="wb-curves-files",
            )  # fmt: skip
            with gr.Column(min_width=320):
                text = gr.Textbox(
                    label="paste a log, a CSV, or a table with a column called epoch", lines=5,
                    max_lines=12, elem_id="wb-curves-text",
                )  # fmt: skip
                self._show = gr.Button("Show the pasted text", size="sm", elem_id="wb-curves-show")
        self.own = files, text
        return [*self._controls, files, text]

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        return {self._show: ()}

    def add_below(self) -> list[Component]:
        html_block("wb-curves-click", '<span class="cur-hint"></span>')
        add_heading("wb-curves-flags-head", "What stands out?", "With place, evidence, and what to do")
        return [html_block("wb-curves-flags"), self._controls[1]]

    def below(self, result: Answer | None, *asked: Any) -> list[Any]:
        """Flags, and the series on offer."""
        if result is None:
            return ["", gr.skip()]
        report = _curves_of(result)
        offered = sorted({s.name for run in report.runs for s in run.series})
        return [flags_html(report, self._links(report, *asked)), gr.update(choices=offered)]

    def updates(self, result: Answer, download: Download, figure: str, *asked: Any) -> list[Any]:
        """Sentence, figure whose points know their run, and details."""
        updates, report = super().updates(result, download, figure), _curves_of(result)
        links = self._links(report, *asked)
        self.link_points(updates, lambda trace: links.get(report.runs[trace.meta["run"]].title))
        return updates

    def _links(self, report: CurvesReport, *asked: Any) -> dict[str, dict[str, Any]]:
        """Title -> what its points need to open an epoch: the run, and the epochs that are served."""
        found = {}
        for drawn, identity in zip(report.runs, self.asked(*asked).runs, strict=False):
            epochs = self.context.registry.run(identity).epochs
            found[drawn.title] = {"run": identity, "epochs": [e.epoch for e in epochs if e.epoch is not None]}
        return found

    def asked(
        self,
        runs: Sequence[str] | None = None,
        series: Sequence[str] | None = None,
        files: Sequence[str] | None = None,
        text: str | None = "",
    ) -> Logs:
        logs = Logs(
            tuple(runs or ())[:MOST_RUNS], tuple(series or ()), tuple(map(Path, files or ())), text or ""
        )
        if not (logs.runs or logs.files or logs.text.strip()):
            raise NotAvailable("choose a run with a log, upload logs, or paste one")
        return logs

    def key(self, asked: Logs) -> str:
        runs = [[identity, list(map(version_of, self._known_logs(identity)))] for identity in asked.runs]
        files = [[path.name, version_of(path)] for path in asked.files]
        return job_key("curves", runs, files, asked.text, asked.series)

    def job_title(self, asked: Logs) -> str:
        return f"logs of {', '.join([*asked.runs, *(path.name for path in asked.files)]) or 'the text'}"

    def work(self, asked: Logs, job: Job) -> CurvesReport:
        from workbench.curves import read_logs, read_runs, read_text
        from workbench.curves.report import CurvesReport, distinct

        found: list[Curves] = []
        for identity in asked.runs:
            logs = self._known_logs(identity)
            with self.context.registry.inside(*logs):
                found += read_logs(logs, self.context.registry.run(identity).title)
        for path in asked.files:
            job.checkpoint()
            # The folder of an upload is the server's: no name of the run.
            found += read_runs(path, path.name.split(".")[0] or path.name)
        if asked.text.strip():
            found += read_text(asked.text)
        report = CurvesReport(distinct(found), asked.series)
        report.check()
        return report

    def _known_logs(self, identity: str) -> tuple[Path, ...]:
        found = self.logs(self.context.registry.run(identity))
        if not found:
            raise NotAvailable(
                f"{identity}: no training log lies beside its checkpoints (vis_data/scalars.json, "
                "*.log.json, *.log, *.jsonl, metrics.csv, results.csv, TensorBoard events): upload one"
            )
        return found

    def logs(self, run: RunFolder) -> tuple[Path, ...]:
        """The logs of a run inside the served folder; links that lead out of it are left out."""
        from workbench.curves import run_logs

        served = self.context.registry.served
        folders = [run.folder] + ([run.folder.parent] if run.folder.name in WEIGHTS else [])
        for folder in folders:
            found = []
            for path in run_logs(folder):
                try:
                    served.identity(path)
                except Refused:
                    continue
                found.append(path)
            if found:
                return tuple(found)
        return ()

    def code(self, asked: Logs) -> str:
        """Of uploads and texts the reader has the file."""
        if not asked.runs:
            return (
                "from workbench.curves import read_runs\nfrom workbench.curves.report import CurvesReport\n"
                'from pathlib import Path\n\nCurvesReport(read_runs(Path("your log")))'
            )
        lines = []
        for identity in asked.runs:
            paths = ", ".join(f"Path({path_literal(path)})" for path in self._known_logs(identity))
            title = literal(self.context.registry.run(identity).title)
            lines.append(f"    *read_logs([{paths}], {title}),")
        names = f", ({', '.join(map(literal, asked.series))},)" if asked.series else ""
        return "\n".join(
            [
                "from pathlib import Path", "from workbench.curves import read_logs",
                "from workbench.curves.report import CurvesReport", "", "runs = (", *lines, ")",
                f"CurvesReport(runs{names})",
            ]
        )  # fmt: skip

    def inputs(self, asked: Logs) -> Sequence[tuple[str, Path]]:
        logs = [path for identity in asked.runs for path in self._known_logs(identity)]
        return [("log", path) for path in (*logs, *asked.files)]


def _curves_of(answer: Answer) -> CurvesReport:
    return answer.reports[""]  # type: ignore[return-value]


def flags_html(report: CurvesReport, links: dict[str, dict[str, Any]]) -> str:
    """Flags as a list, the most important first; an epoch with a checkpoint is a link to Compare."""
    flags = report.flags
    notes = [(run.title, note) for run in report.runs for note in run.notes]
    items = "".join(f"<li>{escaped(f'{who}: {note}')}</li>" for who, note in notes)
    head = f"<summary>How the logs were read ({len(notes)})</summary>"
    below = f'<details class="cur-notes">{head}<ul>{items}</ul></details>' if notes else ""
    if not flags:
        return sentence_html("Nothing stands out in these curves.") + below
    several = len(report.runs) > 1
    items = "".join(_flag(who if several else "", flag, links.get(who)) for who, flag in flags)
    return f'<ul class="cur-flags">{items}</ul>{below}'


def _flag(who: str, flag: Finding, link: dict[str, Any] | None) -> str:
    where = escaped(flag.where)
    words = flag.where.split()
    if link and words[:1] == ["epoch"]:
        numbers = [int(w.rstrip(",")) for w in words[1:] if w.rstrip(",").isdecimal()]
        served = [n for n in numbers if n in link["epochs"]][:2]
        if served:
            query = urlencode({"run": link["run"], "epochs": ",".join(map(str, served))})
            where = f'<a href="/?{escaped(query)}">{where}</a>'
    title = f"{escaped(who)}: " if who else ""
    fix = f"<p>{escaped(flag.fix[:1].upper() + flag.fix[1:])}.</p>" if flag.fix else ""
    return (
        f'<li class="cur-{flag.severity}"><b>{title}{escaped(flag.cause)}</b> <span>{where}</span>'
        f"<p>{escaped(flag.evidence)}.</p>{fix}</li>"
    )
