"""The History page: predictions of all epochs from their files; from the curve to the single instance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import gradio as gr
from gradio.components import Component

from apps.pages.engine import QuestionPage, add_link_button
from apps.pages.job_sections import AddedSection, JobSection, QuestionSection, job_key
from apps.pages.links import say_of_link
from apps.pages.report_section import path_literal
from apps.pages.sections import add_heading, control_row, html_block, one_sentence_errors, root_block
from apps.pages.sweep_section import Sweeping
from apps.server.comparison import Asked, has_areas
from workbench.core import NotAvailable
from workbench.core.job import version_of
from workbench.core.plain_text import escaped
from workbench.core.report import counted
from workbench.evaluation.forgetting import HistoryReport, history_report
from workbench.evaluation.predicted_part import part_of_history
from workbench.evaluation.protocol import judged_as

if TYPE_CHECKING:
    from apps.pages.report_section import Answer
    from apps.server.prediction_folders import PredictionFolder
    from workbench.core.job import Job
    from workbench.data import PoseSet

FIGURE = "wb-history-figure"
NOTHING = (
    "No folder with predictions of several epochs is served. Write one with "
    "workbench history RUN --data DATA --out RUN/predictions or with the sweep below; Show a demo computes "
    "one for a built-in run"
)
# A point of the curve opens its epoch in Compare, as B beside the chosen A.
OPEN_EPOCH = f"""() => window.wb.onPoint("{FIGURE}", (point) => {{
  const link = (point.data.meta || {{}}).compare;
  if (!link) return;
  const epoch = String(Math.round(point.x));
  const epochs = link.a === epoch ? epoch : `${{link.a}},${{epoch}}`;
  const query = new URLSearchParams({{run: link.run, data: link.data, epochs}});
  window.location.assign(new URL(`/?${{query}}`, window.location.origin));
}})"""


class HistoryPage(QuestionPage):
    """AP over the epochs of a folder, what two epochs gained and lost, and one image over all of them."""

    path, prefix, title = "history", "wb", "History"
    question = "Which instances did each epoch gain or lose, and which are the worst?"
    address, chosen_name = ("run", "a", "b", "data", "image"), "history_chosen"
    linked = Sweeping.linked

    def add_controls(self) -> Mapping[str, Component]:
        choice: dict[str, Any] = {"value": None, "allow_custom_value": True}
        with control_row():
            run = gr.Dropdown([], label="predictions", min_width=220, elem_id="wb-history-run", **choice)
            a = gr.Dropdown([], label="epoch A", min_width=100, elem_id="wb-history-a", **choice)
            b = gr.Dropdown([], label="epoch B", min_width=100, elem_id="wb-history-b", **choice)
            data = gr.Dropdown([], label="data", min_width=160, scale=2, elem_id="wb-history-data", **choice)
            image = gr.Textbox(
                "", label="image id", placeholder="any image", min_width=170, max_lines=1,
                elem_id="wb-history-image",
            )  # fmt: skip
            add_link_button()
        self._demo = gr.Button(
            "Show a demo", size="sm", min_width=120, scale=0, visible=False, elem_id="wb-history-demo"
        )
        self._controls = [run, a, b, data, image]
        return dict(zip(self.address, self._controls, strict=True))

    def sections(self) -> Sequence[JobSection]:
        self._history = EpochHistory(self.context, self._controls)
        self._sweeping = Sweeping(self.context)
        return self._history, self._sweeping

    def add_events(self, added: Mapping[str, AddedSection]) -> None:
        """The demo's button, shown where no folder is served; it opens the page anew."""
        super().add_events(added)
        self._sweeping.link(added[Sweeping.name].fields)
        root_block().load(
            lambda: gr.update(visible=not self.context.predictions.listed()), None, self._demo,
            api_visibility="private", show_progress="hidden",
        )  # fmt: skip
        self._demo.click(
            one_sentence_errors(self.make_demo), None, None, api_name="history_demo", show_progress="hidden"
        ).success(None, None, None, js="() => window.location.assign(window.location.pathname)")

    def make_demo(self) -> None:
        """Make the demo's predictions as a job, and wait for it.

        Raises:
            ValueError: it was cancelled or failed.
        """
        title = "predictions of the demo's epochs"
        job = self.context.jobs.start("history demo", title, self.context.predictions.make_demo)
        job.wait()
        if job.state != "done":
            raise ValueError(f"{job.title}: {job.error or job.state}")

    def chosen(self, words: Sequence[str | None]) -> list[Any]:
        run, a, b, data, image = words
        offered = {one["id"]: one for one in self.context.predictions.listed()}
        gone = run if offered and run and run not in offered else None
        wanted = self._history.asked(None if gone else run, a, b, data, image)
        if gone:
            title = offered[wanted.run]["title"]
            say_of_link(f"The run {gone[:80]} of this link is not here; {title} is shown.")
        for name, word, shown in (("a", a, wanted.a), ("b", b, wanted.b), ("data", data, wanted.data)):
            if word and word != str(shown):
                say_of_link(f"{name}: {word[:80]!r} of this link is not here; {shown} is shown.")
        return self._history.choices(wanted)


@dataclass(frozen=True)
class Wanted:
    """What is asked.

    Attributes:
        run: id of a served folder of predictions.
        a: number of an epoch.
        b: number of another.
        data: id of a served set.
        image: id of an image; None for none.
    """

    run: str
    a: int
    b: int
    data: str
    image: int | None = None


class EpochHistory(QuestionSection[Wanted]):
    """The curve, and the lists of instances."""

    name, figure_id, after = "history", FIGURE, OPEN_EPOCH
    handlers = ("history", "history_watch", "history_cancel")
    report_title = "History of the epochs"
    patience = 3.0

    def add_below(self) -> list[Component]:
        add_heading("wb-history-lists-head", "Instances", "A click opens the instance in Compare")
        return [*self._controls[:4], html_block("wb-history-lists")]

    # What is asked.

    def asked(
        self,
        run: str | None = None,
        a: str | int | None = None,
        b: str | int | None = None,
        data: str | None = None,
        image: str | None = None,
    ) -> Wanted:
        offered = {one["id"]: one for one in self.context.predictions.listed()}
        if not offered:
            raise NotAvailable(NOTHING)
        identity = run or next((n for n, one in offered.items() if one["family"]), next(iter(offered)))
        folder = self.context.predictions.get(identity)
        known = list(_history(folder).files)
        sets = offered[identity]["data"]
        if not sets:
            raise ValueError(
                f"{folder.run.title}: no data set with {counted(folder.keypoints, 'keypoint')} is served; "
                "name one with --data"
            )
        text = (image or "").strip()
        if text and not (text.isdecimal() and len(text) < 19):
            raise ValueError(f"image id: expected a whole number, got {text[:40]!r}")
        return Wanted(
            identity, _epoch(a, known, known[0]), _epoch(b, known, known[-1]),
            data if data and data in sets else str(sets[0]), int(text) if text else None,
        )  # fmt: skip

    def choices(self, wanted: Wanted) -> list[Any]:
        """Updates of folder, A, B, data, image."""
        offered = self.context.predictions.listed()
        own = next(one for one in offered if one["id"] == wanted.run)
        numbers = [str(number) for number in _history(self.context.predictions.get(wanted.run)).files]
        return [
            gr.update(choices=[(one["title"], one["id"]) for one in offered], value=wanted.run),
            gr.update(choices=numbers, value=str(wanted.a)),
            gr.update(choices=numbers, value=str(wanted.b)),
            gr.update(choices=own["data"], value=wanted.data),
            gr.update(value="" if wanted.image is None else str(wanted.image)),
        ]

    def key(self, asked: Wanted) -> str:
        history = _history(self.context.predictions.get(asked.run))
        versions = list(map(version_of, history.files.values()))
        data = self.context.registry.sets.version(asked.data)
        return job_key("history", versions, data, dataclasses.astuple(asked))

    def job_title(self, asked: Wanted) -> str:
        return f"AP of the epochs of {asked.run.rpartition(':')[2]}"

    def work(self, asked: Wanted, job: Job) -> HistoryReport:
        self.context.predictions.check_set(Asked(asked.run, asked.data))
        folder = self.context.predictions.get(asked.run)
        history = _history(folder)
        pose_set = judged_as(self.context.registry.sets.get(asked.data), history.protocols.values())
        scored = history.scores is not None and history.scores.figures.keys() == history.files.keys()
        if not scored and pose_set.skeleton.sigmas:
            job.step = "AP of every epoch"
            with self.context.predictions.reading(history.folder):
                history.score(
                    pose_set, area_rule="annotated" if has_areas(pose_set) else "box",
                    indices=part_of_history(pose_set, history).indices, progress=job.progress,
                    cancelled=job.cancelled,
                )  # fmt: skip
        title = folder.run.title.removesuffix(" (predictions)")
        with self.context.predictions.reading(history.folder):
            return history_report(history, asked.a, asked.b, asked.image, title=title)

    def code(self, asked: Wanted) -> str:
        folder = path_literal(_history(self.context.predictions.get(asked.run)).folder)
        image = "" if asked.image is None else f", image_id={asked.image}"
        return "\n".join(
            [
                "from workbench.evaluation import query_epochs",
                "from workbench.evaluation.forgetting import history_report",
                "",
                f"history_report(query_epochs({folder}), {asked.a}, {asked.b}{image})",
            ]
        )

    def inputs(self, asked: Wanted) -> Sequence[tuple[str, Path]]:
        files = _history(self.context.predictions.get(asked.run)).files
        return [("predictions", files[epoch]) for epoch in dict.fromkeys((asked.a, asked.b))]

    # Updates.

    def updates(self, result: Answer, download: Any, figure: str, *asked: Any) -> list[Any]:
        """Sentence, figure whose points know their folder, and details."""
        updates, wanted = super().updates(result, download, figure, *asked), self.asked(*asked)
        link = {"run": wanted.run, "data": wanted.data, "a": str(wanted.a)}
        self.link_points(updates, lambda _: link)
        return updates

    def below(self, result: Answer | None, *asked: Any) -> list[Any]:
        """Folder, A, B, data; the lists."""
        wanted = self.asked(*asked)
        choices = self.choices(wanted)[:4]
        if result is None:
            return [*choices, ""]
        return [*choices, self._lists(_report_of(result), wanted)]

    def _lists(self, report: HistoryReport, wanted: Wanted) -> str:
        pose_set = self.context.registry.sets.get(wanted.data)
        a, b = report.a, report.b
        parts = [
            (
                f"Lost: found in epoch {a}, not in {b} ({_shown(report.lost, report.counts['lost'])})",
                report.lost,
            ),
            (
                f"Gained: found in epoch {b}, not in {a} ({_shown(report.gained, report.counts['gained'])})",
                report.gained,
            ),
            (f"Worst of epoch {b}", report.worst),
            (f"Keypoints that got worse from epoch {a} to {b}", report.regressions),
        ]
        shown = "".join(_list_html(title, rows, wanted, pose_set) for title, rows in parts)
        protocol = _history(self.context.predictions.get(wanted.run)).protocols[b]
        rules = f"<p>Protocol of epoch {b}: {escaped(protocol.text())}</p>" if protocol else ""
        return f'<div class="his-lists">{shown}</div>{rules}'


def _history(folder: PredictionFolder) -> Any:
    """The open folder; `PredictionFolders.get` refuses those that cannot be opened."""
    assert folder.history is not None
    return folder.history


def _report_of(answer: Answer) -> HistoryReport:
    report = answer.reports[""]
    assert isinstance(report, HistoryReport)
    return report


def _epoch(word: str | int | None, known: Sequence[int], default: int) -> int:
    """The epoch that a word names, where there is one."""
    text = str(word or "").strip()
    number = int(text) if text.isdecimal() and len(text) < 10 else None
    return number if number is not None and number in known else default


def _shown(rows: Sequence[Any], total: int) -> str:
    """How many there are, and how many of them the list has."""
    return str(total) if len(rows) >= total else f"the first {len(rows)} of {total}"


def _list_html(title: str, rows: Sequence[dict[str, Any]], wanted: Wanted, pose_set: PoseSet) -> str:
    """One list; each row links to the instance in Compare."""
    names = pose_set.skeleton.keypoints
    items = []
    for row in rows:
        record = pose_set.images.get(row["image_id"])
        name = f"{row['image_id'] if record is None else record.path.stem}/{row['annotation_id']}"
        words = {
            "run": wanted.run, "data": wanted.data, "sample": name,
            "epochs": f"{wanted.a},{wanted.b}" if wanted.a != wanted.b else str(wanted.b),
        }  # fmt: skip
        text = f"OKS {row['oks']:.3f}" if "oks" in row else f"{row['before']:.2f} → {row['after']:.2f}"
        if "keypoint" in row:
            keypoint = names[row["keypoint"]] if row["keypoint"] < len(names) else str(row["keypoint"])
            words["keypoint"] = keypoint
            text = f"{keypoint} {text}"
        link = escaped(f"/?{urlencode(words, safe=',/:')}")
        items.append(f'<li><a href="{link}">{escaped(name)}</a> <span>{escaped(text)}</span></li>')
    listed = f"<ol>{''.join(items)}</ol>" if items else "<p>none</p>"
    return f"<section><h3>{escaped(title)}</h3>{listed}</section>"
