"""The Data page: what is wrong with a data set, annotation by annotation, and what training makes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from gradio.components import Component

from apps.pages.engine import QuestionPage, add_link_button
from apps.pages.frame import sentence_html
from apps.pages.job_sections import QUIET, AddedSection, JobSection, QuestionSection, job_key
from apps.pages.links import whole_of_link
from apps.pages.report_section import config_text, opening_of
from apps.pages.sections import (
    Download,
    add_heading,
    control_row,
    details_html,
    figure_update,
    hidden_text,
    html_block,
)
from apps.pages.subject import reason
from apps.server.gradio_private import uploaded
from workbench.cli import MISTAKES
from workbench.core import NotAvailable
from workbench.core.job import LruCache, version_of
from workbench.core.plain_text import escaped
from workbench.core.report import counted

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from apps.pages.report_section import Answer
    from apps.server.context import Context
    from workbench.core import Skeleton
    from workbench.core.job import Job
    from workbench.data.pose_set import Instance, PoseSet
    from workbench.data.set_lint import LintReport
    from workbench.training.augmentation_view import AugmentationReport

EXAMPLE = "example"
"""Value of the choice that shows the pipeline of a published recipe."""

# Annotations of one finding that are listed; all of them are in the JSON.
LISTED = 300
# Views of one drawing: draws times instances.
MOST_VIEWS = 64
DRAWN = MappingProxyType({"instances": 3, "draws": 8, "seed": 0})
"""Name in the address -> what is drawn without it."""
RANGES = MappingProxyType({"instances": (1, 12), "draws": (1, 32), "seed": (0, 999_999_999)})


class DataPage(QuestionPage):
    """Findings of one set with the annotations behind them, and draws of a training pipeline."""

    path, prefix, title = "data", "wb-data", "Data"
    question = "Is the data set correct, and what does the network see of it in training?"
    address, chosen_name = ("data", "config", "instances", "draws", "seed", "run"), "data_chosen"
    defaults = MappingProxyType({name: str(plain) for name, plain in DRAWN.items()})

    def add_controls(self) -> Mapping[str, Component]:
        with control_row():
            self._data = gr.Dropdown(
                [], label="data set", allow_custom_value=True, scale=3, min_width=280, elem_id="wb-data-set"
            )
            add_link_button()
        with gr.Accordion("Annotations of your own: upload a COCO json", open=False):
            self._upload = gr.File(
                label="COCO-format json (annotations are checked without images)",
                file_count="single", file_types=[".json"], height=120, elem_id="wb-data-file",
            )  # fmt: skip
        # Placed by the section that draws with them; they stand in the address beside the set.
        self._config = gr.Dropdown(
            [], label="config: of a run, or a published recipe", allow_custom_value=True, scale=3,
            min_width=260, elem_id="wb-data-config", render=False,
        )  # fmt: skip
        labels = {"instances": "instances", "draws": "draws of each", "seed": "seed"}
        self._numbers = {
            name: gr.Number(
                plain, label=labels[name], precision=0, minimum=RANGES[name][0], maximum=RANGES[name][1],
                min_width=100, scale=1, render=False,
            )
            for name, plain in DRAWN.items()
        }  # fmt: skip
        return {"data": self._data, "config": self._config, **self._numbers}

    def sections(self) -> Sequence[JobSection]:
        sets = Sets(self.context)
        self._lint = Lint(sets, self._data, self._upload)
        self._views = Views(sets, self._data, self._upload, self._config, list(self._numbers.values()))
        return self._lint, self._views

    def uploads(self) -> Mapping[str, Sequence[Component]]:
        return {"data": [self._upload], "config": self._views.own}

    def chosen(self, words: Sequence[str | None]) -> list[Any]:
        data, config, *numbers, run = words
        ids = self.context.registry.sets.ids()
        wanted = data or ids[0]
        offered = [("example: mmpose's recipe of RTMPose-m", EXAMPLE)]
        offered += [(f"run {one.title}", one.id) for one in self.context.registry.runs()]
        chosen = config or run or self._views.own_config(wanted) or EXAMPLE
        if chosen not in [value for _, value in offered]:
            offered.append((chosen, chosen))
        return [
            gr.update(choices=ids if wanted in ids else [*ids, wanted], value=wanted),
            gr.update(choices=offered, value=chosen),
            *(
                gr.update(value=whole_of_link(name, number, plain, *RANGES[name]))
                for (name, plain), number in zip(DRAWN.items(), numbers, strict=True)
            ),
        ]

    def add_events(self, added: Mapping[str, AddedSection]) -> None:
        """Another finding lists its annotations; a click on one shows it."""
        lint, asked = self._lint, [self._data, self._upload]
        lint.finding.input(  # type: ignore[attr-defined]
            lint.listed, [*asked, lint.finding], [lint.instances, lint.text, lint.picture],
            api_name="data_instances", show_progress="minimal", trigger_mode="always_last",
        )  # fmt: skip
        number = hidden_text()

        def clicked(event: gr.SelectData) -> str:
            row = event and event.row_value  # a request may come without a click
            return str(row[0]) if isinstance(row, list) and row else ""

        lint.instances.select(clicked, None, number, api_visibility="private", **QUIET)
        number.change(
            lint.one, [*asked, number], [lint.text, lint.picture], api_name="data_picture",
            show_progress="minimal",
        )  # fmt: skip


class Sets:
    """Served sets, and those that were uploaded."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._uploaded: LruCache[PoseSet] = LruCache(6)

    def version(self, data: str | None, upload: str | None) -> str:
        """A name that changes with the set.

        Raises:
            KeyError: no such set.
        """
        return (
            str(version_of(uploaded(upload))) if upload else self.context.registry.sets.version(self.id(data))
        )

    def get(self, data: str | None, upload: str | None) -> PoseSet:
        """The set.

        Raises:
            ValueError: the upload is no COCO file.
        """
        from workbench.data import read_coco

        if not upload:
            return self.context.registry.sets.get(self.id(data))
        path = uploaded(upload)
        return self._uploaded.get(
            str(version_of(path)), lambda: read_coco(path, path.parent, within=[path.parent])
        )

    def id(self, data: str | None) -> str:
        """Id of the set that is chosen, of the first without one."""
        return data or self.context.registry.sets.ids()[0]

    def file(self, data: str | None, upload: str | None) -> Path | None:
        """The annotation file; None of a built-in set."""
        from workbench.data import BUILTIN

        if upload:
            return uploaded(upload)
        identity = self.id(data)
        return None if identity in BUILTIN else self.context.registry.sets.file(identity)


@dataclass(frozen=True)
class OneSet:
    """What is checked: a served set, or an upload."""

    data: str | None
    upload: str | None


class Lint(QuestionSection[OneSet]):
    """Every check, and the annotations behind each finding."""

    name, figure_id = "lint", "wb-data-figure"
    title, question = "Findings", "Every check of annotations and images, and what it found"
    handlers = ("data_lint", "data_lint_watch", "data_lint_cancel")
    report_title = "Findings"

    def __init__(self, sets: Sets, data: gr.Dropdown, upload: gr.File) -> None:
        super().__init__(sets.context)
        self._sets, self._controls = sets, [data, upload]

    def add_fields(self) -> list[Component]:
        return [*self._controls]

    def add_below(self) -> list[Component]:
        findings = html_block("wb-data-findings")
        add_heading("wb-data-instances-head", "Annotations behind a finding", "Click one to see it")
        with gr.Row(equal_height=False, elem_id="wb-data-behind"):
            with gr.Column(scale=1, min_width=320):
                self.finding = gr.Dropdown([], label="finding", elem_id="wb-data-finding", visible=False)
                self.instances = gr.Dataframe(
                    headers=["annotation", "image", "file"], interactive=False, show_label=False,
                    max_height=360, elem_id="wb-data-instances", visible=False,
                )  # fmt: skip
            with gr.Column(scale=2, min_width=420):
                self.text = html_block("wb-data-told")
                self.picture = gr.Plot(
                    show_label=False, container=False, visible=False, elem_id="wb-data-picture"
                )
        return [findings, self.finding, self.instances, self.text, self.picture]

    def below(self, result: Answer | None, *asked: Any) -> list[Any]:
        """Findings, choice of findings, annotations of the first, what is said of one, its picture."""
        hidden = gr.update(visible=False)
        # An empty list and an empty table are not shown.
        nothing = [gr.update(choices=[], value=None, visible=False), gr.update(value=[], visible=False)]
        if result is None:
            return ["", *nothing, "", hidden]
        report = _lint_of(result)
        located = [(n, one) for n, one in enumerate(report.found) if one.instances or one.images]
        choices = [(f"{one.finding.cause}: {one.size}", n) for n, one in located]
        if not located:
            why = sentence_html("No finding names single annotations.", "why")
            return [findings_html(report), *nothing, why, hidden]
        first = located[0][0]
        rows, text, picture = self._annotations(report, first, *asked)
        return [
            findings_html(report), gr.update(choices=choices, value=first, visible=True),
            gr.update(value=rows, visible=True), text, picture,
        ]  # fmt: skip

    def updates(self, result: Answer, download: Download, figure: str, *asked: Any) -> list[Any]:
        """Without a finding the sentence says so, and no empty axes stand below it."""
        line, drawn, details = super().updates(result, download, figure, *asked)
        if _lint_of(result).found:
            return [line, drawn, details]
        return [line, figure_update(None), details_html(download, [], result.code, {})]

    def asked(self, data: str | None = None, upload: str | None = None) -> OneSet:
        return OneSet(data or None, upload or None)

    def key(self, asked: OneSet) -> str:
        return job_key("lint", self._sets.version(asked.data, asked.upload))

    def job_title(self, asked: OneSet) -> str:
        return f"checks of {'the upload' if asked.upload else self._sets.id(asked.data)}"

    def work(self, asked: OneSet, job: Job) -> LintReport:
        from workbench.data.set_lint import WITH_MODEL, lint

        def progress(done: int, total: int) -> None:
            job.advance(done, total)
            job.step = f"check {done + 1} of {total}"

        pose_set = self._sets.get(asked.data, asked.upload)
        how = (
            f"{WITH_MODEL}: the page Diagnose compares the order with a run's, choose run and data set there"
        )
        return lint(pose_set, images=not asked.upload, with_model=how, progress=progress)

    def code(self, asked: OneSet) -> str:
        imports, opening = "from workbench.data import read_coco", 'read_coco("your annotations.json")'
        if not asked.upload:
            imports, opening = opening_of(self.context, self._sets.id(asked.data))
        images = ", images=False" if asked.upload else ""
        return f"{imports}\nfrom workbench.data.set_lint import lint\n\nlint({opening}{images})"

    def inputs(self, asked: OneSet) -> Sequence[tuple[str, Path]]:
        file = self._sets.file(asked.data, asked.upload)
        return () if file is None else (("annotations", file),)

    def listed(self, data: str | None, upload: str | None, finding: int | None) -> list[Any]:
        """The annotations behind a finding, and the picture of the first."""
        hidden = gr.update(visible=False)
        try:
            found = self.result(data, upload)
            if found is None or finding is None or not 0 <= int(finding) < len(_lint_of(found).found):
                return [[], sentence_html("Choose a finding.", "why"), hidden]
            return self._annotations(_lint_of(found), int(finding), data, upload)
        except MISTAKES as mistake:
            return [[], reason(mistake), hidden]

    def _annotations(
        self, report: LintReport, finding: int, data: str | None, upload: str | None
    ) -> list[Any]:
        pose_set, one = self._sets.get(data, upload), report.found[finding]
        of = {pose_set.instance_name(a.annotation_id): a.image_id for a in pose_set.instances}
        listed = [(i, pose_set.image_name(of[i])) for i in one.instances if i in of]
        listed = (listed or [("", n) for n in one.images])[:LISTED]
        names = {pose_set.image_name(n): record.path.name for n, record in pose_set.images.items()}
        rows = [[str(i), str(n), names.get(n, "")] for i, n in listed]
        return [rows, *self.one(data, upload, rows[0][0] if rows else "")]

    def one(self, data: str | None, upload: str | None, number: str) -> list[Any]:
        """Sentence and picture of one annotation."""
        if not number:
            return ["", gr.update(visible=False)]
        try:
            pose_set = self._sets.get(data, upload)
            found = [
                a for a in pose_set.instances if str(pose_set.instance_name(a.annotation_id)) == str(number)
            ]
            if not found:
                raise KeyError(f"{pose_set.name} has no annotation {number}")
            figure, text = annotation_figure(pose_set, found[0])
        except MISTAKES as mistake:
            return [reason(mistake), gr.update(visible=False)]
        return [sentence_html(text), figure_update(figure)]


@dataclass(frozen=True)
class Draws:
    """What is drawn.

    Attributes:
        data: id of a set.
        config: id of a run, or EXAMPLE.
        file: an uploaded config.
        count: instances.
        draws: of each.
        seed: of the draws.
    """

    data: str | None
    config: str
    file: Path | None
    count: int
    draws: int
    seed: int


class Views(QuestionSection[Draws]):
    """Draws of a config's training pipeline."""

    name, title = "views", "What training sees"
    question = (
        "Training images as the config's pipeline draws them; keypoints under a dropped patch are crossed out"
    )
    handlers = ("data_views", "data_views_watch", "data_views_cancel")
    report_title = "What training sees"
    patience = 2.0

    def __init__(
        self, sets: Sets, data: gr.Dropdown, upload: gr.File, config: gr.Dropdown, numbers: list[gr.Number]
    ) -> None:
        super().__init__(sets.context)
        self._sets, self._data, self._upload, self._config = sets, data, upload, config
        self._numbers = numbers

    def add_fields(self) -> list[Component]:
        with control_row():
            self._config.render()
            for number in self._numbers:
                number.render()
            self._draw = gr.Button("Draw", min_width=90, scale=0, elem_id="wb-data-draw")
        with gr.Accordion("A config of your own: upload a file", open=False):
            file = gr.File(
                label="config (.py, .yaml, .json, .toml): it is read and never run", file_count="single",
                height=120, elem_id="wb-data-config-file",
            )  # fmt: skip
        self._asking, self.own = [self._config, file], [file]
        return [self._data, self._upload, self._config, file, *self._numbers]

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        return {self._draw: ()}

    def asking(self, fields: Sequence[Component]) -> Sequence[Component]:
        return self._asking

    def asked(
        self,
        data: str | None = None,
        upload: str | None = None,
        config: str | None = EXAMPLE,
        file: str | None = None,
        count: float | None = DRAWN["instances"],
        draws: float | None = DRAWN["draws"],
        seed: float | None = DRAWN["seed"],
    ) -> Draws:
        if upload:
            raise ValueError("an uploaded json has no images here: choose a data set above to draw from")
        numbers = max(1, int(count or 1)), max(1, int(draws or 1)), max(0, int(seed or 0))
        if numbers[0] * numbers[1] > MOST_VIEWS:
            raise ValueError(
                f"draw at most {MOST_VIEWS} pictures, got {counted(numbers[0], 'instance')} x "
                f"{counted(numbers[1], 'draw')}"
            )
        return Draws(data or None, config or EXAMPLE, uploaded(file) if file else None, *numbers)

    def key(self, asked: Draws) -> str:
        file = asked.file or (None if asked.config == EXAMPLE else self._file(asked.config))
        version = "" if file is None else str(version_of(file))
        numbers = (asked.count, asked.draws, asked.seed)
        return job_key("views", self._sets.version(asked.data, None), asked.config, version, *numbers)

    def job_title(self, asked: Draws) -> str:
        from workbench.recipes.demo import EXAMPLE_TITLE

        config = EXAMPLE_TITLE if asked.config == EXAMPLE else asked.config
        return f"draws of {asked.file.name if asked.file else config}"

    def work(self, asked: Draws, job: Job) -> AugmentationReport:
        from workbench.training.augmentation_view import training_views

        pose_set = self._sets.get(asked.data, None)
        values, title = self._values(asked, pose_set.skeleton)
        samples = pose_set.samples(list(pose_set.labelled)[: asked.count])
        return training_views(
            values, samples, pose_set.skeleton, draws=asked.draws, seed=asked.seed, title=title,
            progress=job.advance,
        )  # fmt: skip

    def own_config(self, data: str) -> str:
        """Id of the first run whose config trains on a set's keypoints; "" where none is known to."""
        from workbench.training.augmentation_view import trains_on

        registry = self.context.registry
        with contextlib.suppress(*MISTAKES):  # the set itself says what is wrong with it
            skeleton = registry.sets.skeleton(data)
            for run in registry.served_runs():
                with contextlib.suppress(*MISTAKES):
                    if trains_on(self._of_run(run.id), skeleton):
                        return run.id
        return ""

    def _of_run(self, run: str) -> Mapping[str, Any]:
        """The config of a run; read, not run."""
        from workbench.models.fresh import config_in

        file = self._file(run)
        with self.context.registry.inside(file):
            return config_in(file, self.context.settings.root)

    def _file(self, run: str) -> Path:
        file = self.context.registry.config_file(run)
        if file is None:
            raise NotAvailable(
                f"run {run}: no config lies in its folder or above it, and its last checkpoint holds none; "
                "upload the config below, or choose the example"
            )
        return file

    def _values(self, asked: Draws, skeleton: Skeleton) -> tuple[Any, str]:
        """Values and title of the uploaded or chosen config; it is read and not run."""
        from workbench.recipes.demo import EXAMPLE_TITLE, example_recipe
        from workbench.recipes.reading import read_text

        if asked.file is not None:
            return read_text(config_text(asked.file), asked.file.name).values, asked.file.name
        if asked.config == EXAMPLE:
            return example_recipe(skeleton), f"{EXAMPLE_TITLE}, not your own training"
        return self._of_run(asked.config), self.context.registry.run(asked.config).title

    def inputs(self, asked: Draws) -> Sequence[tuple[str, Path]]:
        file, found = self._sets.file(asked.data, None), []
        if file is not None:
            found.append(("annotations", file))
        if asked.file is not None:
            found.append(("config", asked.file))
        elif asked.config != EXAMPLE:
            found.append(("config", self._file(asked.config)))
        return found


def _lint_of(answer: Answer) -> LintReport:
    return answer.reports[""]  # type: ignore[return-value]


def findings_html(report: LintReport) -> str:
    """The findings as a table; what holds and what was not checked below it."""
    from workbench.data.set_lint import CHECKS

    causes = {one.finding.cause for one in report.found} | set(report.not_checked)
    holds = "".join(f"<li>{escaped(text)}</li>" for cause, text in CHECKS.items() if cause not in causes)
    open_ = "".join(f"<li>{escaped(cause)}: {escaped(why)}</li>" for cause, why in report.not_checked.items())
    below = (
        f'<details class="data-holds"><summary>What holds</summary><ul>{holds}</ul></details>'
        if holds
        else ""
    )
    below += f'<p class="data-open">Not checked:</p><ul class="data-open">{open_}</ul>' if open_ else ""
    if not report.found:
        return sentence_html("Nothing is wrong with what was checked.") + below
    rows = ""
    for one in report.found:
        finding, what = one.finding, "annotation" if one.instances else "image"
        behind = counted(one.size, what) if one.size else "the whole set"
        rows += (
            f'<tr class="data-{finding.severity}"><td><b>{finding.severity}</b></td>'
            f"<td>{escaped(finding.cause)}</td><td>{escaped(finding.evidence)}"
            f'<p class="data-fix">{escaped(finding.fix)}</p></td><td>{behind}</td></tr>'
        )
    head = "".join(
        f"<th>{name}</th>" for name in ("severity", "check", "what was found, what to do", "behind it")
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="data-rows">{table}</div>{below}'


def annotation_figure(pose_set: PoseSet, instance: Instance) -> tuple[Figure, str]:
    """One annotation on its image, and what is to be said of it.

    Args:
        pose_set: the set; an image that is not there is drawn grey, in the size that the file states.
        instance: of the set.
    """
    from workbench.figures import draw_skeleton, image_figure

    record = pose_set.images[instance.image_id]
    there = record.path.is_file()
    if there:
        image = pose_set.image(instance.image_id)
    else:
        points = instance.truth[:, :2]
        H = min(record.height or max(int(points[:, 1].max(initial=0)) + 20, 64), 8192)
        W = min(record.width or max(int(points[:, 0].max(initial=0)) + 20, 64), 8192)
        image = np.full((H, W, 3), 90, np.uint8)
    title = f"annotation {pose_set.instance_name(instance.annotation_id)} in {record.path.name}"
    figure = image_figure(image, title)
    seen = instance.truth[:, 2]
    figure.add_traces(
        draw_skeleton(
            instance.truth[:, :2], pose_set.skeleton, drawn=seen > 0, name="annotation",
            notes=tuple({0: "not labelled", 1: "hidden", 2: "visible"}[int(v)] for v in seen),
        )
    )  # fmt: skip
    if instance.has_size:
        x0, y0, x1, y1 = instance.box
        figure.add_shape(type="rect", x0=x0, y0=y0, x1=x1, y1=y1, line={"color": "#e5a00d", "width": 2})
    box = (
        f"box {instance.box[0]:.0f}, {instance.box[1]:.0f} to {instance.box[2]:.0f}, {instance.box[3]:.0f}"
        if instance.has_size
        else "no box"
    )
    text = (
        f"{title}: {int((seen > 0).sum())} of {counted(len(seen), 'keypoint')} labelled, {box}, area "
        f"{instance.area:.0f}"
    )
    return figure, text if there else f"{text}; the image is not here, so the annotation stands on grey"
