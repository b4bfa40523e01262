"""The Errors page: which errors a result has, what each costs, and the instances behind every number."""

from __future__ import annotations

import hashlib
import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from apps.pages.controls import Looking
from apps.pages.error_pictures import card_html
from apps.pages.frame import Page, sentence_html
from apps.pages.report_section import literal, opening_of, path_literal, text_of, untitled
from apps.pages.sections import (
    COPY_LINK,
    UPDATE_SECONDS,
    Download,
    add_heading,
    add_section,
    add_style,
    control_row,
    details_html,
    figure_update,
    hidden_text,
    html_block,
    job_html,
    query_js,
    root_block,
    table_html,
)
from apps.pages.subject import epoch_name, epoch_named, reason
from apps.server.comparison import Asked, Unready
from workbench.cli import MISTAKES
from workbench.core.job import LruCache
from workbench.evaluation.errors import KINDS, REPAIRS, WORDS
from workbench.evaluation.errors_report import Errors

if TYPE_CHECKING:
    from apps.server.context import Context

FIGURE = "wb-errors-figure"
ADDRESS = ("run", "epoch", "data", "repair", "kind", "keypoint", "part")
ANY, ALL = "any keypoint", "all instances"
CARDS = 12  # instances shown at a time
LISTED = [name for name in WORDS if name != "good"]
_QUIET: dict[str, Any] = {"show_progress": "hidden"}
REMEMBER = """(run, epoch, data, repair, kind, keypoint, part) => {
  const named = (value, none) => (value && value !== none ? String(value) : null);
  window.wb.remember({run, epoch: named(epoch), data, repair: named(repair, "published"), kind: named(kind),
    keypoint: named(keypoint, "any keypoint"), part: named(part, "all instances")});
}"""
# A click on a bar lists the instances behind it.
CLICK = f"""() => {{
  const ready = (left) => {{
    const plot = document.querySelector("#{FIGURE} .js-plotly-plot");
    if (!plot || !plot.on) return left > 0 && setTimeout(() => ready(left - 1), 100);
    plot.removeAllListeners("plotly_click");
    plot.on("plotly_click", (event) => {{
      const point = event.points[0], kind = (point.data.meta || {{}}).kind;
      // The time makes a second click on the same bar a change as well.
      const told = JSON.stringify(
        {{kind: kind || point.customdata, keypoint: kind ? point.y : "", at: Date.now()}});
      const box = document.querySelector("#wb-errors-click textarea, #wb-errors-click input");
      const kinds = {{TEXTAREA: HTMLTextAreaElement, INPUT: HTMLInputElement}};
      Object.getOwnPropertyDescriptor(kinds[box.tagName].prototype, "value").set.call(box, told);
      box.dispatchEvent(new Event("input", {{bubbles: true}}));
      document.querySelector("#wb-errors-instances").scrollIntoView({{behavior: "smooth"}});
    }});
  }};
  ready(50);
}}"""


def page() -> Page:
    """The page's entry in the rail."""
    return Page("errors", "Errors", "Which errors cost most, and which instances have them?", build)


def build(context: Context) -> None:
    """Add the page's components and events."""
    ErrorsPage(context).build()


@dataclass(frozen=True)
class Wanted:
    """What is analysed.

    Attributes:
        run: id of a served run.
        epoch: its name in addresses; "" for the last.
        data: id of a served set.
        repair: rule of repairs.
        file: an uploaded result file, analysed instead of the run; "" for none.
    """

    run: str
    epoch: str
    data: str
    repair: str
    file: str = ""


class ErrorsPage:
    """Components and handlers; reports are kept on the server under a key of what they were made of."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reports: LruCache[Errors] = LruCache(8)
        context.downloads["errors"] = self.file

    # Components.

    def build(self) -> None:
        """Add components and events."""
        add_style("errors")
        choice: dict[str, Any] = {"value": None, "allow_custom_value": True}
        with control_row():
            run = gr.Dropdown([], label="run", min_width=200, elem_id="wb-errors-run", **choice)
            epoch = gr.Dropdown([], label="epoch", min_width=110, elem_id="wb-errors-epoch", **choice)
            data = gr.Dropdown([], label="data", min_width=160, elem_id="wb-errors-data", **choice)
            repair = gr.Dropdown(list(REPAIRS), value=REPAIRS[0], label="repair", min_width=170)
            share = gr.Button("Copy link", min_width=90, scale=0)
        share.click(None, None, None, js=COPY_LINK)
        with gr.Accordion("A result file of your own, on the data chosen above", open=False):
            file = gr.File(label="COCO result json", height=110, elem_id="wb-errors-file")
        with gr.Row(elem_classes="wb-row-of-status"):
            status = html_block("wb-errors-status")
            cancel = gr.Button("Cancel", min_width=90, scale=0, size="sm", visible=False)
        section = add_section("wb-errors", "errors", figure_id=FIGURE, line_id="wb-errors-line")
        add_heading("wb-errors-instances", "Instances", "Click a bar, or choose an error")
        with control_row("wb-tight"):
            kind = gr.Dropdown(
                [(WORDS[name], name) for name in LISTED], value="miss", label="error", min_width=200,
                elem_id="wb-errors-kind",
            )  # fmt: skip
            keypoint = gr.Dropdown([ANY], value=ANY, label="keypoint", min_width=170, allow_custom_value=True,
                                   elem_id="wb-errors-keypoint")  # fmt: skip
            part = gr.Dropdown([ALL], value=ALL, label="slice", min_width=230, allow_custom_value=True,
                               elem_id="wb-errors-part")  # fmt: skip
            back, forth = (gr.Button(word, min_width=34, scale=0) for word in ("‹", "›"))
        shown = html_block("wb-errors-cards")
        add_heading("wb-errors-slices", "Slices", "The same errors by size, keypoints, crowding, category")
        slices = html_block("wb-errors-tables")
        self._events(
            [run, epoch, data, repair], file, [kind, keypoint, part], (back, forth), cancel,
            [status, cancel, *section.outputs, slices], shown,
        )  # fmt: skip

    def _events(
        self, asked: list[Any], file: Any, chosen: list[Any], steps: Any, cancel: Any, shown: list[Any],
        cards: Any,
    ) -> None:  # fmt: skip
        key, click, first = (
            hidden_text(),
            gr.Textbox(visible="hidden", elem_id="wb-errors-click"),
            gr.State(0),
        )
        timer = gr.Timer(UPDATE_SECONDS, active=False)
        run, data = asked[0], asked[2]
        looking = Looking()
        outputs = [*asked[:3], key, timer, *shown, *chosen[1:], first, cards]
        begun = looking.on(
            [w.input for w in asked] + [file.upload, file.clear], self.begin,
            inputs=[*asked, file, *chosen], outputs=outputs, api_name="errors", show_progress="minimal",
        )  # fmt: skip
        loaded = root_block().load(
            self.restored, hidden_text(), [*asked, chosen[0], *outputs[3:]], js=query_js(ADDRESS),
            api_name="errors_restored", **_QUIET,
        )  # fmt: skip
        watched = looking.on(
            [timer.tick], self.watch, inputs=[*asked, file, *chosen], outputs=outputs,
            api_name="errors_watch", **_QUIET,
        )  # fmt: skip
        for event in (begun, loaded, watched):
            event.success(None, None, None, js=CLICK)
        begun.success(None, [*asked, *chosen], None, js=REMEMBER)
        listing: dict[str, Any] = {"outputs": [first, cards], **_QUIET}
        gr.on([w.input for w in chosen], self.listed, [key, *chosen, *asked], api_name="errors_instances",
              trigger_mode="always_last", **listing).success(
            None, [*asked, *chosen], None, js=REMEMBER)  # fmt: skip
        click.change(
            self.clicked, [click, key, chosen[2], *asked], [*chosen[:2], first, cards],
            api_name="errors_clicked", **_QUIET,
        ).success(None, [*asked, *chosen], None, js=REMEMBER)  # fmt: skip
        for button, by in zip(steps, (-CARDS, CARDS), strict=True):
            button.click(
                lambda at, *rest, by=by: self.listed(*rest, first=int(at or 0) + by),
                [first, key, *chosen, *asked], api_name=f"errors_{'back' if by < 0 else 'forth'}", **listing,
            )  # fmt: skip
        cancel.click(self.cancel, [run, data], None, api_name="errors_cancel", **_QUIET)

    # Handlers.

    def restored(self, query: str = "") -> list[Any]:
        """Controls as the address has them; the default run, its last epoch and first set without one."""
        words = (json.loads(query) if query else None) or [None] * len(ADDRESS)
        run, epoch, data, repair, kind, keypoint, part = words
        registry = self._context.registry
        try:
            run = registry.run(run).id if run else registry.default_run().id
        except MISTAKES as mistake:
            return [*[gr.skip()] * 5, "", gr.Timer(active=False), *self._nothing(reason(mistake))]
        kind = kind if kind in LISTED else "miss"
        repair = repair if repair in REPAIRS else REPAIRS[0]
        given = self.begin(run, epoch or "", data or "", repair, None, kind, keypoint or ANY, part or ALL)
        return [*given[:3], repair, kind, *given[3:]]

    def begin(
        self, run: str = "", epoch: str = "", data: str = "", repair: str = "", file: Any = None,
        kind: str = "miss", keypoint: str = ANY, part: str = ALL,
    ) -> list[Any]:  # fmt: skip
        """Controls, key, timer and everything below; starts the job where predictions are missing."""
        try:
            wanted, choices = self._wanted(run, epoch, data, repair, file)
        except MISTAKES as mistake:
            return [*[gr.skip()] * 3, "", gr.Timer(active=False), *self._nothing(reason(mistake))]
        try:
            if not wanted.file:
                asked = Asked(wanted.run, wanted.data)
                self._context.computing.begin(asked, [self._index(wanted)])
            return [*choices, *self._shown(wanted, kind, keypoint, part)]
        except Unready as waiting:
            job = self._context.computing.job(Asked(wanted.run, wanted.data))
            alive = job is not None and job.alive
            told = job_html(job, "errors-status", "Cancelled: choose the epoch again to go on.")
            status = [told or html.escape(str(waiting)), gr.update(visible=alive)]
            return [*choices, "", gr.Timer(active=alive), *status, *self._nothing("")[2:]]
        except MISTAKES as mistake:
            return [*choices, "", gr.Timer(active=False), *self._nothing(reason(mistake))]

    def watch(self, *values: Any) -> list[Any]:
        """The same once the job has made what is missing."""
        return self.begin(*values)

    def cancel(self, run: str = "", data: str = "") -> None:
        """Stop the job of a run on a set at its next step."""
        job = self._context.computing.job(Asked(run, data))
        if job is not None:
            job.cancel()

    def clicked(self, told: str = "", key: str = "", part: str = ALL, *asked: Any) -> list[Any]:
        """Error and keypoint of the bar that was clicked, and their instances."""
        bar = json.loads(told or "{}")
        kind, keypoint = bar.get("kind"), bar.get("keypoint") or ANY
        if kind not in LISTED:
            return [gr.skip()] * 4
        return [kind, keypoint, *self.listed(key, kind, keypoint, part, *asked)]

    def listed(
        self, key: str = "", kind: str = "miss", keypoint: str = ANY, part: str = ALL, *asked: Any,
        first: int = 0,
    ) -> list[Any]:  # fmt: skip
        """Number of the first instance shown, and the cards."""
        report = self._reports.peek(key) if key else None
        if report is None:
            return [0, sentence_html("There is nothing to list yet.", "why") if key else ""]
        wanted = Wanted(*(str(value or "") for value in [*asked, "", "", "", ""][:4]))
        try:
            return self._cards(report, wanted, kind, keypoint, part, first)
        except MISTAKES as mistake:
            return [0, reason(mistake)]

    def file(self, section: str, kind: str, state: str) -> str:
        """The report of a key as the text of a CSV or JSON file.

        Raises:
            LookupError: the server keeps it no longer.
        """
        found = self._reports.peek(state)
        if found is None:
            raise LookupError("these errors are no longer kept: show them again")
        return text_of(found, kind)

    # What is wanted, and the report on it.

    def _wanted(self, run: str, epoch: str, data: str, repair: str, file: Any) -> tuple[Wanted, list[Any]]:
        """What is analysed, and updates of run, epoch and data."""
        registry = self._context.registry
        folder = registry.run(run) if run else registry.default_run()
        names = [epoch_name(one) for one in folder.epochs]
        epoch = epoch if epoch in names else names[-1]
        index = epoch_named(folder, epoch)
        sets = registry.sets.fitting(registry.skeleton(folder.id, index))
        data = data if data in sets else (sets[0] if sets else "")
        if not data:
            raise ValueError("data: no data set with this model's keypoints is served; name one with --data")
        repair = repair if repair in REPAIRS else REPAIRS[0]
        updates = [
            gr.update(choices=[(one.title, one.id) for one in registry.runs()], value=folder.id),
            gr.update(choices=[(e.label, epoch_name(e)) for e in folder.epochs], value=epoch),
            gr.update(choices=sets, value=data),
        ]
        return Wanted(folder.id, epoch, data, repair, str(file or "")), updates

    def _index(self, wanted: Wanted) -> int:
        return epoch_named(self._context.registry.run(wanted.run), wanted.epoch)

    def _report(self, wanted: Wanted) -> tuple[str, Errors]:
        """The report and its key.

        Raises:
            Unready: the epoch is being predicted.
            ValueError: the result file does not fit, or there is no AP.
        """
        from workbench.evaluation.errors_report import errors

        pose_set = self._context.registry.sets.get(wanted.data)
        if wanted.file:
            version = hashlib.sha256(Path(wanted.file).read_bytes()).hexdigest()
            evaluation = None
        else:
            asked = Asked(wanted.run, wanted.data)
            evaluation = self._context.comparisons.evaluation(asked, self._index(wanted))
            version = str(self._context.registry.version(wanted.run, self._index(wanted)))
        sets = self._context.registry.sets.version(wanted.data)
        told = [wanted.run, wanted.epoch, wanted.data, wanted.repair, version, sets]
        key = hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()

        def made() -> Errors:
            found = evaluation or uploaded(Path(wanted.file), pose_set)
            return errors(found, pose_set, wanted.repair)  # type: ignore[arg-type]

        return key, self._reports.get(key, made)

    # Updates.

    def _shown(self, wanted: Wanted, kind: str, keypoint: str, part: str) -> list[Any]:
        key, report = self._report(wanted)
        names = [ANY, *report.skeleton.keypoints]
        parts = [ALL, *(f"{p.by}: {p.name}" for p in report.slices)]
        keypoint, part = keypoint if keypoint in names else ANY, part if part in parts else ALL
        details = details_html(
            Download("errors", "errors", key), report.table(), self._code(wanted), {FIGURE: ""}
        )
        return [
            key, gr.Timer(active=False), "", gr.update(visible=False), sentence_html(report.summary()),
            figure_update(untitled(report)), details, tables_html(report),
            gr.update(choices=names, value=keypoint), gr.update(choices=parts, value=part),
            *self._cards(report, wanted, kind, keypoint, part, 0),
        ]  # fmt: skip

    def _nothing(self, line: str) -> list[Any]:
        """Status, Cancel, sentence, figure, details, tables, keypoint, slice, first, cards."""
        hidden = gr.update(visible=False)
        return ["", hidden, line, hidden, "", "", gr.skip(), gr.skip(), 0, ""]

    def _cards(
        self, report: Errors, wanted: Wanted, kind: str, keypoint: str, part: str, first: int
    ) -> list[Any]:
        k = -1 if keypoint in ("", ANY) else report.skeleton.index(keypoint)
        parts = [f"{p.by}: {p.name}" for p in report.slices]
        rows = report.instances(kind, k, parts.index(part) if part in parts else -1)
        first = max(0, min(first, (len(rows) - 1) // CARDS * CARDS))
        of = f" of {keypoint}" if k >= 0 and kind in KINDS else ""
        among = f" in {part}" if part in parts else ""
        told = f"{len(rows):,} instances with {WORDS[kind]}{of}{among}"
        if not rows:
            return [0, sentence_html(f"No instance has {WORDS[kind]}{of}{among}.")]
        last = min(first + CARDS, len(rows))
        subject = {} if wanted.file else {"run": wanted.run, "epoch": wanted.epoch, "data": wanted.data}
        pose_set = self._context.registry.sets.get(wanted.data)
        cards = "".join(card_html(report, pose_set, row, subject) for row in rows[first:last])
        head = f"{told}; {first + 1} to {last}. Rings: annotation; dots: pose, coloured by error."
        return [first, f'<p class="err-head">{html.escape(head)}</p><div class="err-cards">{cards}</div>']

    def _code(self, wanted: Wanted) -> str:
        """The Python that makes the same report."""
        imports, opening = opening_of(self._context, wanted.data)
        lines = [imports, "from workbench.evaluation import Predictions, evaluate",
                 "from workbench.evaluation.errors_report import errors"]  # fmt: skip
        if wanted.file:
            lines += ["from workbench.data.coco import read_json", "", f"pose_set = {opening}",
                      f"results = read_json({literal(Path(wanted.file).name)})  # your own file: give its "
                      "path",
                      "found = Predictions.from_coco(results)"]  # fmt: skip
            more = ""
        else:
            path = self._context.registry.epoch(wanted.run, self._index(wanted)).path
            lines += ["from workbench.evaluation import predict, protocol_of_loaded",
                      "from workbench.models import open_model", "", f"pose_set = {opening}",
                      f"opened = open_model({path_literal(path)})",
                      "found = predict(opened.model, pose_set)"]  # fmt: skip
            more = ", protocol_of_loaded(opened)"
        how = "" if wanted.repair == REPAIRS[0] else f", {literal(wanted.repair)}"
        return "\n".join([*lines, f"errors(evaluate(pose_set, found{more}), pose_set{how})"])


def uploaded(path: Path, pose_set: Any) -> Any:
    """The evaluation of a result file on a set.

    Raises:
        ValueError: it is no result file, or of another set.
    """
    from apps.server.comparison import has_areas
    from workbench.data.coco import read_json
    from workbench.evaluation import Detections, Predictions, evaluate
    from workbench.evaluation.predictions import results_of

    items = results_of(pose_set, read_json(path))
    return evaluate(
        pose_set, Predictions.from_coco(items), detections=Detections.from_coco(items),
        area_rule="annotated" if has_areas(pose_set) else "box",
    )  # fmt: skip


def tables_html(report: Errors) -> str:
    """Slices, and annotated points by visibility, as tables of counts and shares."""
    parts = [_table("by", report.by_slice(), ("slice", "instances", "missed", "AP"))] if report.slices else []
    parts.append(_table("", report.by_visibility(), ("points",)))
    more = f"Points put outside of the image though annotated inside: {report.strayed:,}."
    return "".join(parts) + f'<p class="err-head">{html.escape(more)}</p>'


def _table(by: str, rows: Sequence[dict[str, Any]], heads: Sequence[str]) -> str:
    shown = []
    for row in rows:
        named = {head: _said(row[head]) for head in heads}
        name = f"{row[by]}: {row['slice']}" if by else row["points"]
        told = {
            ("slice" if by else "points"): name,
            **{h: v for h, v in named.items() if h not in ("slice", "points")},
        }
        shares = {k: f"{100 * row[k] / row['judged']:.1f} %" if row["judged"] else "-" for k in KINDS}
        shown.append({**told, "judged": f"{row['judged']:,}", **shares})
    return table_html(shown)


def _said(value: Any) -> Any:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value
