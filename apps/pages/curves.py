"""The Curves page: what the training logs of runs, uploads or a pasted text show."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import gradio as gr

from apps.pages.controls import Looking
from apps.pages.frame import Page, sentence_html
from apps.pages.report_section import literal, path_literal, text_of
from apps.pages.sections import (
    COPY_LINK,
    Download,
    add_heading,
    add_section,
    add_style,
    control_row,
    details_html,
    hidden_text,
    html_block,
    query_js,
    report_updates,
    root_block,
)
from apps.pages.subject import reason
from apps.server.folders import Refused
from workbench.cli import MISTAKES
from workbench.core import NotAvailable
from workbench.core.job import LruCache, version_of

if TYPE_CHECKING:
    from apps.server.context import Context
    from apps.server.folders import RunFolder
    from workbench.core.finding import Finding
    from workbench.curves import Curves
    from workbench.curves.report import CurvesReport

FIGURE = "wb-curves-figure"
ADDRESS = ("runs", "run", "series")
# More cannot be told apart by their colours.
MOST_RUNS = 4
_QUIET: dict[str, Any] = {"show_progress": "hidden"}
# Folders in which a trainer keeps checkpoints, one below its logs.
WEIGHTS = ("weights", "checkpoints", "checkpoint", "ckpt", "models")
REMEMBER = (
    "(runs, series) => window.wb.remember({runs: (runs || []).join(','), series: (series || []).join(',')})"
)
# A point of a validation figure opens its epoch in Compare; what cannot be opened is told below the figure.
OPEN_EPOCH = f"""() => {{
  const ready = (left) => {{
    const plot = document.querySelector("#{FIGURE} .js-plotly-plot");
    if (!plot || !plot.on) return left > 0 && setTimeout(() => ready(left - 1), 100);
    plot.removeAllListeners("plotly_click");
    plot.on("plotly_click", (event) => {{
      const point = event.points[0], link = (point.data.meta || {{}}).compare;
      const said = document.querySelector("#wb-curves-click");
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
    }});
  }};
  ready(50);
}}"""


def page() -> Page:
    """The page's entry in the rail."""
    question = "How did training go: what stands out in its curves, and at which epoch?"
    return Page("curves", "Curves", question, build)


def build(context: Context) -> None:
    """Add the page's components and events."""
    CurvesPage(context).build()


class CurvesPage:
    """Components and handlers; reports are kept on the server under a key of what they were made of."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reports: LruCache[CurvesReport] = LruCache(20)
        context.downloads["curves"] = self.file

    def build(self) -> None:
        """Add components and events."""
        add_style("curves")
        with control_row():
            runs = gr.Dropdown(
                [], label="runs with a log, the first is the base", multiselect=True, max_choices=MOST_RUNS,
                allow_custom_value=True,
                scale=3, min_width=320, elem_id="wb-curves-runs",
            )  # fmt: skip
            series = gr.Dropdown(
                [], label="series, the usual ones when empty", multiselect=True, allow_custom_value=True,
                scale=2, min_width=240,
                elem_id="wb-curves-series",
            )  # fmt: skip
            share = gr.Button("Copy link", min_width=90, scale=0)
        share.click(None, None, None, js=COPY_LINK)
        with gr.Accordion("A log of your own: upload files, or paste a log or a table", open=False), gr.Row():
            files = gr.File(
                label="logs (JSON lines, CSV, .log, TensorBoard events, .md)", file_count="multiple",
                height=150, elem_id="wb-curves-files",
            )  # fmt: skip
            with gr.Column(min_width=320):
                text = gr.Textbox(
                    label="lines of a log, a CSV, or a table with a column called epoch", lines=5,
                    max_lines=12, elem_id="wb-curves-text",
                )  # fmt: skip
                show = gr.Button("Show the pasted text", size="sm", elem_id="wb-curves-show")
        section = add_section("wb-curves", "curves", figure_id=FIGURE, line_id="wb-curves-line")
        html_block("wb-curves-click", '<span class="cur-hint"></span>')
        add_heading("wb-curves-flags-head", "What stands out?", "With place, evidence, and what to do")
        flags = html_block("wb-curves-flags")
        self._events(runs, series, files, text, show, [*section.outputs, flags])

    def _events(
        self,
        runs: gr.Dropdown,
        series: gr.Dropdown,
        files: gr.File,
        text: gr.Textbox,
        show: gr.Button,
        shown: list[Any],
    ) -> None:
        looking, quiet = Looking(), _QUIET
        asked: list[Any] = [runs, series, files, text]
        event = looking.on(
            [runs.input, series.input, files.upload, files.clear, show.click],  # type: ignore[attr-defined]
            self.show, inputs=asked, outputs=[*shown, series], api_name="curves", show_progress="minimal",
        )  # fmt: skip
        event.success(None, [runs, series], None, js=REMEMBER).success(None, None, None, js=OPEN_EPOCH)
        looking.after(
            root_block().load(
                self.chosen, hidden_text(), [runs, series], js=query_js(ADDRESS), api_name="curves_chosen",
                **quiet,
            )
        )  # fmt: skip

    def chosen(self, query: str) -> list[Any]:
        """The runs and series that the address names; the first run with a log without one."""
        runs, run, series = (json.loads(query) if query else None) or [None] * 3
        offered = [(one.title, one.id) for one in self._context.registry.runs() if self._logs(one)]
        known = [identity for _, identity in offered]
        wanted = [name for name in (runs or run or "").split(",") if name][:MOST_RUNS]
        # A run without a log stays chosen: the page then says that it has none.
        value = wanted or known[:1]
        choices = [*offered, *((name, name) for name in value if name not in known)]
        names = [name for name in (series or "").split(",") if name]
        return [gr.update(choices=choices, value=value), gr.update(choices=names, value=names)]

    def show(
        self,
        runs: Sequence[str] | None = None,
        series: Sequence[str] | None = None,
        files: Sequence[str] | None = None,
        text: str = "",
    ) -> list[Any]:
        """Sentence, figure, details, flags, series on offer."""
        chosen, names = list(runs or [])[:MOST_RUNS], list(series or [])
        try:
            key, report = self._report(chosen, names, list(files or []), text or "")
        except MISTAKES as mistake:
            return [reason(mistake), gr.update(visible=False), "", "", gr.skip()]
        download = Download("curves", "curves", key)
        code = self._code(chosen, names)
        links = {run.title: self._compare(one) for run, one in zip(report.runs, chosen, strict=False)}
        updates = report_updates(
            report, "", lambda one: details_html(download, one.table(), code, {FIGURE: ""})
        )
        figure = updates[1].get("value")
        for trace in figure.data if figure is not None else ():
            title = report.runs[trace.meta["run"]].title
            trace.meta = {**trace.meta, "compare": links.get(title)}
        offered = sorted({s.name for run in report.runs for s in run.series})
        return [*updates, flags_html(report, links), gr.update(choices=offered)]

    def file(self, section: str, kind: str, state: str) -> str:
        """The curves of a key as the text of a CSV or JSON file.

        Raises:
            LookupError: the server keeps them no longer.
        """
        found = self._reports.peek(state)
        if found is None:
            raise LookupError("these curves are no longer kept: show them again")
        return text_of(found, kind)

    def _report(
        self, runs: list[str], series: list[str], files: list[str], text: str
    ) -> tuple[str, CurvesReport]:
        """The report and its key.

        Raises:
            NotAvailable: nothing was chosen, or a run has no log.
            ValueError: a log cannot be read.
        """
        from workbench.curves import read_logs, read_runs, read_text
        from workbench.curves.report import CurvesReport

        if not (runs or files or text.strip()):
            raise NotAvailable("choose a run with a log, upload logs, or paste one")
        logs = {identity: self._known_logs(identity) for identity in runs}
        told = [[identity, [version_of(p) for p in paths]] for identity, paths in logs.items()]
        told += [[Path(f).name, version_of(Path(f))] for f in files] + [text, series]
        key = hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()

        def made() -> CurvesReport:
            found: list[Curves] = []
            for identity, paths in logs.items():
                found += read_logs(paths, self._context.registry.run(identity).title)
            for one in files:
                found += read_runs(Path(one))
            if text.strip():
                found += read_text(text)
            report = CurvesReport(tuple(found), tuple(series))
            report.check()
            return report

        return key, self._reports.get(key, made)

    def _known_logs(self, identity: str) -> tuple[Path, ...]:
        found = self._logs(self._context.registry.run(identity))
        if not found:
            raise NotAvailable(
                f"{identity}: no training log lies beside its checkpoints (vis_data/scalars.json, "
                "*.log.json, *.log, *.jsonl, metrics.csv, results.csv, TensorBoard events): upload one"
            )
        return found

    def _logs(self, run: RunFolder) -> tuple[Path, ...]:
        """The logs of a run inside the served folder; links that lead out of it are left out."""
        from workbench.curves import run_logs

        served = self._context.registry.served
        folders = [run.folder] + ([run.folder.parent] if run.folder.name in WEIGHTS else [])
        for folder in folders:
            kept = []
            for path in run_logs(folder):
                try:
                    served.identity(path)
                except Refused:
                    continue
                kept.append(path)
            if kept:
                return tuple(kept)
        return ()

    def _compare(self, identity: str) -> dict[str, Any]:
        """What a point needs to open its epoch: the run, and the epochs whose checkpoints are served."""
        run = self._context.registry.run(identity)
        return {"run": identity, "epochs": [one.epoch for one in run.epochs if one.epoch is not None]}

    def _code(self, runs: Sequence[str], series: Sequence[str]) -> str:
        """The Python that makes the same report of runs; of uploads and texts the reader has the file."""
        if not runs:
            return (
                "from workbench.curves import read_runs\nfrom workbench.curves.report import CurvesReport\n"
                'from pathlib import Path\n\nCurvesReport(read_runs(Path("your log")))'
            )
        paths = [self._known_logs(identity) for identity in runs]
        titles = [self._context.registry.run(identity).title for identity in runs]
        lines = [
            f"    *read_logs([{', '.join(f'Path({path_literal(p)})' for p in logs)}], {literal(title)}),"
            for logs, title in zip(paths, titles, strict=True)
        ]
        names = f", ({', '.join(map(literal, series))},)" if series else ""
        return "\n".join(
            [
                "from pathlib import Path", "from workbench.curves import read_logs",
                "from workbench.curves.report import CurvesReport", "", "runs = (", *lines, ")",
                f"CurvesReport(runs{names})",
            ]
        )  # fmt: skip


def flags_html(report: CurvesReport, links: dict[str, dict[str, Any]]) -> str:
    """Flags as a list, the most important first; an epoch with a checkpoint is a link to Compare."""
    flags = report.flags
    notes = [(run.title, note) for run in report.runs for note in run.notes]
    told = "".join(f"<li>{html.escape(f'{who}: {note}')}</li>" for who, note in notes)
    head = f"<summary>How the logs were read ({len(notes)})</summary>"
    below = f'<details class="cur-notes">{head}<ul>{told}</ul></details>' if notes else ""
    if not flags:
        return sentence_html("Nothing stands out in these curves.") + below
    several = len(report.runs) > 1
    items = "".join(_flag(who if several else "", flag, links.get(who)) for who, flag in flags)
    return f'<ul class="cur-flags">{items}</ul>{below}'


def _flag(who: str, flag: Finding, link: dict[str, Any] | None) -> str:
    where = html.escape(flag.where)
    words = flag.where.split()
    if link and words[:1] == ["epoch"]:
        numbers = [int(w.rstrip(",")) for w in words[1:] if w.rstrip(",").isdigit()]
        served = [n for n in numbers if n in link["epochs"]][:2]
        if served:
            query = urlencode({"run": link["run"], "epochs": ",".join(map(str, served))})
            where = f'<a href="/?{html.escape(query)}">{where}</a>'
    title = f"{html.escape(who)}: " if who else ""
    fix = f"<p>{html.escape(flag.fix[:1].upper() + flag.fix[1:])}.</p>" if flag.fix else ""
    return (
        f'<li class="cur-{flag.severity}"><b>{title}{html.escape(flag.cause)}</b> <span>{where}</span>'
        f"<p>{html.escape(flag.evidence)}.</p>{fix}</li>"
    )
