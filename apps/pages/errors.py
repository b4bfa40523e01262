"""The Errors page: which errors a result has, what each costs, and the instances behind every number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.controls import LatestQuestion
from apps.pages.engine import QuestionPage, add_link_button
from apps.pages.error_pictures import card_html, sample_parts
from apps.pages.frame import sentence_html
from apps.pages.job_sections import QUIET, AddedSection, JobSection, job_key
from apps.pages.links import say_of_link, word_of_link
from apps.pages.report_section import (
    Answer,
    literal,
    opening_model,
    opening_of,
    path_literal,
    printing,
    subject_inputs,
)
from apps.pages.sections import (
    Download,
    add_heading,
    control_row,
    details_html,
    hidden_text,
    html_block,
    report_updates,
    table_html,
)
from apps.pages.subject import epoch_name, epoch_named, reason
from apps.server.comparison import Asked, Unready, has_areas
from apps.server.encoding import sent_json
from workbench.cli import MISTAKES
from workbench.core.files import sha256_of
from workbench.core.job import LruCache
from workbench.core.plain_text import escaped
from workbench.evaluation.errors import KINDS, REPAIRS, SCORING, WORDS
from workbench.evaluation.errors_report import Errors

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core.job import Job
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation import Evaluation

FIGURE = "wb-errors-figure"
ANY, ALL = "any keypoint", "all instances"
CARDS = 12  # instances shown at a time
LISTED = [name for name in WORDS if name != "good"]
# A click on a bar lists the instances behind it.
CLICK = f"""() => window.wb.onPoint("{FIGURE}", (point) => {{
  const kind = (point.data.meta || {{}}).kind;
  // The time makes a second click on the same bar a change as well.
  const keypoint = kind ? point.y : "";
  const bar = JSON.stringify({{kind: kind || point.customdata, keypoint, at: Date.now()}});
  const box = document.querySelector("#wb-errors-click textarea, #wb-errors-click input");
  const kinds = {{TEXTAREA: HTMLTextAreaElement, INPUT: HTMLInputElement}};
  Object.getOwnPropertyDescriptor(kinds[box.tagName].prototype, "value").set.call(box, bar);
  box.dispatchEvent(new Event("input", {{bubbles: true}}));
  document.querySelector("#wb-errors-instances").scrollIntoView({{behavior: "smooth"}});
}})"""


class ErrorsPage(QuestionPage):
    """Errors of one epoch of a run, or of an uploaded result file."""

    path, prefix, title = "errors", "wb", "Errors"
    question = "Which kinds of error cost the most AP, and in which instances?"
    address = ("run", "epoch", "data", "repair", "kind", "keypoint", "part")
    chosen_name = "errors_restored"
    defaults = MappingProxyType({"repair": REPAIRS[0], "keypoint": ANY, "part": ALL})

    def add_controls(self) -> Mapping[str, Component]:
        choice: dict[str, Any] = {"value": None, "allow_custom_value": True}
        with control_row():
            run = gr.Dropdown([], label="run", min_width=200, scale=2, elem_id="wb-errors-run", **choice)
            epoch = gr.Dropdown([], label="epoch", min_width=130, elem_id="wb-errors-epoch", **choice)
            data = gr.Dropdown([], label="data", min_width=160, scale=2, elem_id="wb-errors-data", **choice)
            repair = gr.Dropdown(list(REPAIRS), value=REPAIRS[0], label="repair", min_width=170)
            add_link_button()
        # These stand below the figure, with the instances that they choose.
        later: dict[str, Any] = {"render": False, "allow_custom_value": True}
        kind = gr.Dropdown(
            [(WORDS[name], name) for name in LISTED], value="miss", label="error", min_width=200,
            elem_id="wb-errors-kind", render=False,
        )  # fmt: skip
        keypoint = gr.Dropdown(
            [ANY], value=ANY, label="keypoint", min_width=170, elem_id="wb-errors-keypoint", **later
        )
        part = gr.Dropdown([ALL], value=ALL, label="slice", min_width=230, elem_id="wb-errors-part", **later)
        self._subject, self._instances = [run, epoch, data, repair], [kind, keypoint, part]
        return dict(zip(self.address, [*self._subject, *self._instances], strict=True))

    def sections(self) -> Sequence[JobSection]:
        self._errors = ErrorsOfResult(self.context, self._subject, self._instances)
        return (self._errors,)

    def uploads(self) -> Mapping[str, Sequence[Component]]:
        return {"run": self._errors.own}

    def chosen(self, words: Sequence[str | None]) -> list[Any]:
        run, epoch, data, repair, kind, keypoint, part = words
        registry = self.context.registry
        folder = registry.run(run) if run else registry.default_run()
        wanted = self._errors.asked(folder.id, epoch, data)
        for word, shown, sentence in (
            (epoch, wanted.epoch, f"{folder.title} has no epoch {epoch!r}; epoch {wanted.epoch} is shown."),
            (data, wanted.data, f"{data!r} is not served for {folder.title}; {wanted.data} is shown."),
        ):
            if word and word != shown:
                say_of_link(sentence)
        return [
            *self._errors.choices(wanted),
            word_of_link("repair", repair, REPAIRS, REPAIRS[0]),
            word_of_link("kind", kind, LISTED, "miss"),
            keypoint or ANY,
            part or ALL,
        ]

    def add_events(self, added: Mapping[str, AddedSection]) -> None:
        """Another error, keypoint, slice or bar lists other instances; arrows show more of them."""
        section, asked, chosen = self._errors, added["errors"].fields, self._instances
        listing: dict[str, Any] = {"outputs": [section.first, section.cards], **QUIET}
        listing_anew = LatestQuestion()
        listed = listing_anew.on(
            [w.input for w in chosen], section.listed, inputs=asked, api_name="errors_instances",  # type: ignore[attr-defined]
            **listing,
        )  # fmt: skip
        # The cards of an answer are those of the error that was chosen when it was asked for.
        for event in (*added["errors"].answers, added["errors"].watched):
            listing_anew.after(event)
        clicked = section.click.change(
            section.clicked, [section.click, *asked], [*chosen[:2], section.first, section.cards],
            api_name="errors_clicked", **QUIET,
        )  # fmt: skip
        for event in (listed, clicked):
            self.remember(event)
        for button, by in zip(section.steps, (-CARDS, CARDS), strict=True):
            button.click(
                lambda at, *rest, by=by: section.listed(*rest, first=int(at or 0) + by),
                [section.first, *asked], api_name=f"errors_{'back' if by < 0 else 'forth'}", **listing,
            )  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What is analysed.

    Attributes:
        run: id of a served run.
        epoch: its name in addresses.
        data: id of a served set.
        repair: rule of repairs.
        file: an uploaded result file, analysed instead of the run; "" for none.
    """

    run: str
    epoch: str
    data: str
    repair: str
    file: str = ""


@dataclass(frozen=True)
class ErrorsAnswer(Answer):
    """Errors as the page shows them.

    Attributes:
        notes: what was assumed or left out, HTML; the page shows it, and a document before its pictures.
    """

    notes: str = ""


class ErrorsOfResult(JobSection):
    """The errors, and the instances behind them; predictions are shared with Compare."""

    name, figure_id, after = "errors", FIGURE, CLICK
    handlers = ("errors", "errors_watch", "errors_cancel")
    automatic = True
    cancelled = "Cancelled."

    def __init__(
        self, context: Context, subject: Sequence[Component], instances: Sequence[Component]
    ) -> None:
        self.context = context
        self._subject, self._instances = subject, instances
        self._reports: LruCache[ErrorsAnswer] = LruCache(8)

    def add_fields(self) -> list[Component]:
        with gr.Accordion("A result file of your own, on the data chosen above", open=False):
            file = gr.File(label="COCO result json", height=110, elem_id="wb-errors-file")
        self.own = [file]
        return [*self._subject, file, *self._instances]

    def asking(self, fields: Sequence[Component]) -> Sequence[Component]:
        return fields[:5]

    def add_below(self) -> list[Component]:
        add_heading("wb-errors-instances", "Instances", "Click a bar, or choose an error")
        with control_row("wb-tight"):
            for one in self._instances:
                one.render()
            self.steps = [gr.Button(word, min_width=34, scale=0) for word in ("‹", "›")]
        self.cards = html_block("wb-errors-cards")
        add_heading("wb-errors-slices", "Slices", "The same errors by size, keypoints, crowding, category")
        tables = html_block("wb-errors-tables")
        self.click = gr.Textbox(visible="hidden", elem_id="wb-errors-click")
        self.first = hidden_text("0")
        return [*self._subject[:3], tables, *self._instances[1:], self.first, self.cards]

    # What is wanted.

    def asked(
        self,
        run: str | None = None,
        epoch: str | None = None,
        data: str | None = None,
        repair: str | None = None,
        file: str | None = None,
        *_: Any,
    ) -> Wanted:
        """What is analysed; what the run does not have takes its default."""
        registry = self.context.registry
        folder = registry.run(run) if run else registry.default_run()
        names = [epoch_name(one) for one in folder.epochs]
        epoch = epoch if epoch in names else names[-1]
        sets = registry.sets.fitting(registry.skeleton(folder.id, epoch_named(folder, epoch)))
        data = data if data in sets else (sets[0] if sets else "")
        if not data:
            raise ValueError("data: no data set with this model's keypoints is served; name one with --data")
        return Wanted(folder.id, epoch, data, repair if repair in REPAIRS else REPAIRS[0], file or "")

    def choices(self, wanted: Wanted) -> list[Any]:
        """Updates of run, epoch and data."""
        registry = self.context.registry
        folder = registry.run(wanted.run)
        sets = registry.sets.fitting(registry.skeleton(folder.id, self._index(wanted)))
        return [
            gr.update(choices=[(one.title, one.id) for one in registry.runs()], value=folder.id),
            gr.update(choices=[(e.label, epoch_name(e)) for e in folder.epochs], value=wanted.epoch),
            gr.update(choices=sets, value=wanted.data),
        ]

    def _index(self, wanted: Wanted) -> int:
        return epoch_named(self.context.registry.run(wanted.run), wanted.epoch)

    def _waits(self, wanted: Wanted) -> bool:
        """Whether its epoch is neither predicted nor known to be broken."""
        asked = Asked(wanted.run, wanted.data)
        return not wanted.file and self._index(wanted) in [
            epoch.index for epoch in self.context.computing.missing(asked)
        ]

    # The job and the report.

    def start(self, *asked: Any) -> None:
        wanted = self.asked(*asked)
        if not self._waits(wanted):
            return
        compared = Asked(wanted.run, wanted.data)
        last = self.context.computing.job(compared)
        anew = last is not None and last.state == "cancelled"
        self.context.computing.begin(compared, [self._index(wanted)], anew)

    def job(self, *asked: Any) -> Job | None:
        wanted = self.asked(*asked)
        return self.context.computing.job(Asked(wanted.run, wanted.data)) if self._waits(wanted) else None

    def result(self, *asked: Any) -> ErrorsAnswer | None:
        try:
            return self._answer(self.asked(*asked))
        except Unready:
            return None

    def token(self, *asked: Any) -> str:
        return self._key(self.asked(*asked))

    def shown(self, section: str, state: str) -> Answer:
        found = self._reports.peek(state)
        if found is None:
            raise LookupError("these errors are no longer stored: compute them again")
        return found

    def _key(self, wanted: Wanted) -> str:
        if wanted.file:
            version = sha256_of(Path(wanted.file))
        else:
            version = str(self.context.registry.version(wanted.run, self._index(wanted)))
        sets = self.context.registry.sets.version(wanted.data, bool(wanted.file))
        return job_key("errors", wanted.run, wanted.epoch, wanted.data, wanted.repair, version, sets)

    def _answer(self, wanted: Wanted) -> ErrorsAnswer:
        """The report.

        Raises:
            Unready: the epoch is being predicted.
            ValueError: the result file does not fit, or there is no AP.
        """
        from workbench.evaluation.errors_report import errors

        key = self._key(wanted)  # of the files that are read from here on
        pose_set = self.context.registry.sets.get(wanted.data, bool(wanted.file))
        evaluation, note = None, ""
        if wanted.file:
            registry = self.context.registry  # a result file needs no run
            runs = [registry.run(wanted.run)] if wanted.run else registry.runs()
            pose_set, note = registry.judging(pose_set, runs)
        else:
            asked = Asked(wanted.run, wanted.data)
            evaluation = self.context.comparisons.evaluation(asked, self._index(wanted))

        def made() -> ErrorsAnswer:
            absent = (pose_set.left_out_text(),)
            found, notes = (evaluation, absent) if evaluation else uploaded(Path(wanted.file), pose_set)
            notes = tuple(filter(None, (*notes, note)))
            report = errors(found, pose_set, wanted.repair)  # type: ignore[arg-type]
            epochs = [] if wanted.file else [self._index(wanted)]
            inputs = list(subject_inputs(self.context, wanted.run, epochs, wanted.data))
            inputs += [("results", Path(wanted.file))] if wanted.file else []
            below = "".join(sentence_html(note) for note in notes)
            code = self._code(wanted, pose_set.skeleton.sigmas if note else ())

            def details() -> list[str]:
                shown = self.context.registry.sets.get(wanted.data, bool(wanted.file))
                return [below, *sample_parts(report, shown)]

            return ErrorsAnswer("Errors", {"": report}, code, tuple(inputs), details, below)

        return self._reports.get(key, made)

    # Updates.

    def updates(self, result: ErrorsAnswer, download: Download, figure: str, *asked: Any) -> list[Any]:
        *first, details = report_updates(
            result.reports[""], "", lambda one: details_html(download, one.table(), result.code, {figure: ""})
        )
        return [*first, result.notes + details]

    def below(self, result: Answer | None, *asked: Any) -> list[Any]:
        """Run, epoch, data, slices, keypoint, slice, number of the first card, cards."""
        wanted = self.asked(*asked)
        choices = self.choices(wanted)
        if result is None:
            return [*choices, "", gr.skip(), gr.skip(), "0", ""]
        report = _errors_of(result)
        kind, keypoint, part = [*asked[5:8], *("miss", ANY, ALL)[len(asked[5:8]) :]]
        names = [ANY, *report.skeleton.keypoints]
        parts = [ALL, *(f"{p.by}: {p.name}" for p in report.slices)]
        absent = [w for w, known in ((keypoint, names), (part, parts)) if w and w not in known]
        keypoint, part = keypoint if keypoint in names else ANY, part if part in parts else ALL
        first, cards = self._cards(report, wanted, kind, keypoint, part, 0)
        if absent:  # named by a link, or chosen for another run
            cards = sentence_html(f"not among these errors: {', '.join(absent)[:120]}", "why") + cards
        return [
            *choices, tables_html(report), gr.update(choices=names, value=keypoint),
            gr.update(choices=parts, value=part), first, cards,
        ]  # fmt: skip

    def clicked(self, point: str = "", *asked: Any) -> list[Any]:
        """Error and keypoint of the bar that was clicked, and their instances."""
        bar = sent_json(point, dict)
        kind, keypoint = bar.get("kind"), bar.get("keypoint") or ANY
        if not isinstance(kind, str) or kind not in LISTED:
            return [gr.skip()] * 4
        return [kind, keypoint, *self.listed(*asked[:5], kind, keypoint, *asked[7:])]

    def listed(self, *asked: Any, first: int = 0) -> list[Any]:
        """Number of the first instance shown, and the cards."""
        try:
            found = self._reports.peek(self.token(*asked))
            if found is None:
                return ["0", sentence_html("There is nothing to list yet.", "why")]
            kind, keypoint, part = asked[5:8]
            return self._cards(_errors_of(found), self.asked(*asked), kind, keypoint, part, first)
        except MISTAKES as mistake:
            return ["0", reason(mistake)]

    def _cards(
        self, report: Errors, wanted: Wanted, kind: str, keypoint: str, part: str, first: int
    ) -> list[Any]:
        k = -1 if keypoint in (None, "", ANY) else report.skeleton.index(keypoint)
        parts = [f"{p.by}: {p.name}" for p in report.slices]
        rows = report.instances(kind, k, parts.index(part) if part in parts else -1)
        first = max(0, min(first, (len(rows) - 1) // CARDS * CARDS))
        of = f" of {keypoint}" if k >= 0 and kind in KINDS else ""
        among = f" in {part}" if part in parts else ""
        text = f"{len(rows):,} instance{'s' * (len(rows) > 1)} with {WORDS[kind]}{of}{among}"
        if not rows:
            more = "; AP may still be lost by how poses of different images rank" if kind == SCORING else ""
            return ["0", sentence_html(f"No instance has {WORDS[kind]}{of}{among}{more}.")]
        last = min(first + CARDS, len(rows))
        subject = {} if wanted.file else {"run": wanted.run, "epoch": wanted.epoch, "data": wanted.data}
        pose_set = self.context.registry.sets.get(wanted.data, bool(wanted.file))
        cards = "".join(card_html(report, pose_set, row, subject) for row in rows[first:last])
        head = f"{text}; {first + 1} to {last}. Rings: annotation; dots: pose, coloured by error."
        return [str(first), f'<p class="err-head">{escaped(head)}</p><div class="err-cards">{cards}</div>']

    def _code(self, wanted: Wanted, sigmas: Sequence[float] = ()) -> str:
        """The Python that makes the same report; with OKS sigmas that the set of a result file lacks."""
        imports, opening = opening_of(self.context, wanted.data, bool(wanted.file))
        lines = [imports, "from workbench.evaluation import Predictions, evaluate",
                 "from workbench.evaluation.errors_report import errors"]  # fmt: skip
        annotated = self.context.registry.sets.get(wanted.data, bool(wanted.file))
        more = "" if has_areas(annotated) else ', area_rule="box"'
        if wanted.file:
            lines += ["from workbench.data.coco import read_json"]
            lines += ["from workbench.evaluation.protocol import judged_with"] if sigmas else []
            judged = f"judged_with({opening}, {sigmas!r})" if sigmas else opening
            lines += ["", f"pose_set = {judged}",
                      f"results = read_json({literal(Path(wanted.file).name)})  # your own file: give its "
                      "path",
                      "found = Predictions.from_coco(results)"]  # fmt: skip
        else:
            path = self.context.registry.epoch(wanted.run, self._index(wanted)).path
            model = opening_model(self.context, path_literal(path))
            lines += ["from workbench.evaluation import predict, protocol_of_loaded",
                      "from workbench.evaluation.protocol import judged_by",
                      "from workbench.models import open_model", "",
                      f"opened = {model}",
                      f"pose_set = judged_by({opening}, opened.model.skeleton)",
                      "found = predict(opened.model, pose_set)"]  # fmt: skip
            more = f", protocol_of_loaded(opened){more}"
        how = "" if wanted.repair == REPAIRS[0] else f", {literal(wanted.repair)}"
        return printing("\n".join([*lines, f"errors(evaluate(pose_set, found{more}), pose_set{how})"]))


def _errors_of(answer: Answer) -> Errors:
    return answer.reports[""]  # type: ignore[return-value]


def uploaded(path: Path, pose_set: PoseSet) -> tuple[Evaluation, tuple[str, ...]]:
    """The evaluation of a result file on a set, and what stands in the file as -1.

    Raises:
        ValueError: it is no result file, or of another set.
    """
    from workbench.data.coco import read_json
    from workbench.evaluation import Predictions, evaluate
    from workbench.evaluation.result_lists import minus_ones, results_of

    items = results_of(pose_set, read_json(path))
    poses = Predictions.from_coco(items, path.name)
    rule = "annotated" if has_areas(pose_set) else "box"
    return evaluate(pose_set, poses, area_rule=rule), minus_ones(poses, path.name)


def tables_html(report: Errors) -> str:
    """Slices, and annotated points by visibility, as tables of counts and shares."""
    parts = [_table("by", report.by_slice(), ("slice", "instances", "missed", "AP"))] if report.slices else []
    parts.append(_table("", report.by_visibility(), ("points",)))
    more = f"Points predicted outside the image but annotated inside: {report.strayed:,}."
    return "".join(parts) + f'<p class="err-head">{escaped(more)}</p>'


def _table(by: str, rows: Sequence[dict[str, Any]], heads: Sequence[str]) -> str:
    shown = []
    for row in rows:
        named = {head: _said(row[head]) for head in heads}
        name = f"{row[by]}: {row['slice']}" if by else row["points"]
        cells = {
            ("slice" if by else "points"): name,
            **{h: v for h, v in named.items() if h not in ("slice", "points")},
        }
        shares = {k: f"{100 * row[k] / row['judged']:.1f} %" if row["judged"] else "-" for k in KINDS}
        shown.append({**cells, "judged": f"{row['judged']:,}", **shares})
    return table_html(shown)


def _said(value: Any) -> Any:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value
