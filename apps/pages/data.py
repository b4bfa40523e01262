"""The Data page: what is wrong with a data set, annotation by annotation, and what training makes of it."""

from __future__ import annotations

import hashlib
import html
import json
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from apps.pages.controls import Looking
from apps.pages.frame import Page, sentence_html
from apps.pages.report_section import literal, path_literal, text_of, untitled
from apps.pages.sections import (
    COPY_LINK,
    Download,
    add_heading,
    add_section,
    add_style,
    control_row,
    details_html,
    figure_update,
    hidden_text,
    html_block,
    query_js,
    report_updates,
    root_block,
)
from apps.pages.subject import reason
from workbench.cli import MISTAKES
from workbench.core.job import LruCache

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from apps.server.context import Context
    from workbench.core.report import Report
    from workbench.data.pose_set import Instance, PoseSet
    from workbench.data.set_lint import LintReport
    from workbench.training.augmentation_view import AugmentationReport

FIGURE, PICTURE = "wb-data-figure", "wb-data-views"
ADDRESS = ("data", "config", "run")
EXAMPLE = "example"
"""Value of the choice that shows the pipeline of a published recipe."""

# Annotations of one finding that are listed; all of them are in the JSON.
LISTED = 300
# Views of one drawing: draws times instances.
MOST_VIEWS = 64
_QUIET: dict[str, Any] = {"show_progress": "hidden"}
REMEMBER = "(data, config) => window.wb.remember({data, config})"

# The training pipeline of mmpose's RTMPose-m (rtmpose-m_8xb256-420e_coco-256x192), first stage.
RECIPE = """
dataset_type = "{kind}"
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale"),
    dict(type="RandomFlip", direction="horizontal"),
    dict(type="RandomHalfBody"),
    dict(type="RandomBBoxTransform", scale_factor=[0.6, 1.4], rotate_factor=80),
    dict(type="TopdownAffine", input_size=(192, 256)),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="Albumentation", transforms=[
        dict(type="Blur", p=0.1),
        dict(type="MedianBlur", p=0.1),
        dict(type="CoarseDropout", max_holes=1, max_height=0.4, max_width=0.4, min_holes=1,
             min_height=0.2, min_width=0.2, p=1.0),
    ]),
    dict(type="PackPoseInputs"),
]
train_dataloader = dict(dataset=dict(type=dataset_type, pipeline=train_pipeline))
"""


KINDS = {"coco-17": "CocoDataset", "ap10k-17": "AP10KDataset"}
"""Skeleton -> mmpose's data set whose keypoints these are; it says what a flip exchanges."""


def page() -> Page:
    """The page's entry in the rail."""
    return Page("data", "Data", "Is the data set right, and what does training make of it?", build)


def build(context: Context) -> None:
    """Add the page's components and events."""
    DataPage(context).build()


class DataPage:
    """Components and handlers; sets that were uploaded and reports are kept on the server."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sets: LruCache[PoseSet] = LruCache(6)
        self._reports: LruCache[LintReport | AugmentationReport] = LruCache(20)
        context.downloads["data"] = self.file

    def build(self) -> None:
        """Add components and events."""
        add_style("data")
        with control_row():
            data = gr.Dropdown(
                [], label="data set", allow_custom_value=True, scale=3, min_width=280, elem_id="wb-data-set"
            )
            share = gr.Button("Copy link", min_width=90, scale=0)
        share.click(None, None, None, js=COPY_LINK)
        with gr.Accordion("Annotations of your own: upload a COCO json", open=False):
            upload = gr.File(
                label="COCO-format json; its annotations are checked, its images are not here",
                file_count="single", file_types=[".json"], height=120, elem_id="wb-data-file",
            )  # fmt: skip
        add_heading(
            "wb-data-lint-head", "Findings", "Every check of annotations and images, and what it found"
        )
        section = add_section("wb-data", "lint", figure_id=FIGURE, line_id="wb-data-line")
        findings = html_block("wb-data-findings")
        add_heading("wb-data-instances-head", "Annotations behind a finding", "Click one to see it")
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320):
                finding = gr.Dropdown([], label="finding", elem_id="wb-data-finding")
                instances = gr.Dataframe(
                    headers=["annotation", "image", "file"], interactive=False, show_label=False,
                    max_height=360, elem_id="wb-data-instances",
                )  # fmt: skip
            with gr.Column(scale=2, min_width=420):
                told = html_block("wb-data-told")
                picture = gr.Plot(show_label=False, container=False, visible=False, elem_id="wb-data-picture")
        self._lint_events(data, upload, [*section.outputs, findings, finding, instances, told, picture])
        self._instance_events(data, upload, finding, instances, told, picture)
        self._views(data, upload)

    def _lint_events(self, data: gr.Dropdown, upload: gr.File, shown: list[Any]) -> None:
        self.linting = Looking()
        self.linting.on(
            [data.input, upload.upload, upload.clear], self.lint, inputs=[data, upload], outputs=shown,  # type: ignore[attr-defined]
            api_name="data_lint", show_progress="minimal", concurrency_id="files", concurrency_limit=2,
        )  # fmt: skip

    def _instance_events(
        self, data: gr.Dropdown, upload: gr.File, finding: gr.Dropdown, instances: gr.Dataframe, *shown: Any
    ) -> None:
        finding.input(  # type: ignore[attr-defined]
            self.listed, [data, upload, finding], [instances, *shown], api_name="data_instances",
            show_progress="minimal", trigger_mode="always_last",
        )  # fmt: skip
        number = hidden_text()

        def clicked(event: gr.SelectData) -> str:
            return str(event.row_value[0]) if event.row_value else ""

        instances.select(clicked, None, number, api_visibility="private", **_QUIET)
        number.change(
            self.picture,
            [data, upload, number],
            list(shown),
            api_name="data_picture",
            show_progress="minimal",
        )

    def _views(self, data: gr.Dropdown, upload: gr.File) -> None:
        add_heading(
            "wb-data-views-head", "What training sees",
            "Draws of a config's training pipeline, with keypoints; crossed out: under a dropped patch",
        )  # fmt: skip
        with control_row():
            config = gr.Dropdown(
                [], label="config: of a run, or a published recipe", allow_custom_value=True, scale=3,
                min_width=260, elem_id="wb-data-config",
            )  # fmt: skip
            count = gr.Number(
                3, label="instances", precision=0, minimum=1, maximum=12, min_width=100, scale=1
            )
            draws = gr.Number(
                8, label="draws of each", precision=0, minimum=1, maximum=32, min_width=100, scale=1
            )
            seed = gr.Number(0, label="seed", precision=0, minimum=0, min_width=90, scale=1)
            draw = gr.Button("Draw", min_width=90, scale=0, elem_id="wb-data-draw")
        with gr.Accordion("A config of your own: upload a file", open=False):
            file = gr.File(
                label="config (.py, .yaml, .json, .toml): it is read and never run", file_count="single",
                height=120, elem_id="wb-data-config-file",
            )  # fmt: skip
        section = add_section("wb-data-views", "views", figure_id=PICTURE, line_id="wb-data-views-line")
        asked: list[Any] = [data, upload, config, file, count, draws, seed]
        viewing = Looking()
        event = viewing.on(
            [draw.click, config.input, file.upload, file.clear], self.views, inputs=asked,  # type: ignore[attr-defined]
            outputs=section.outputs, api_name="data_views", show_progress="minimal", concurrency_id="files",
            concurrency_limit=2,
        )  # fmt: skip
        event.success(None, [data, config], None, js=REMEMBER)
        data.input(None, [data, config], None, js=REMEMBER)  # type: ignore[attr-defined]
        loaded = root_block().load(
            self.chosen, hidden_text(), [data, config], js=query_js(ADDRESS), api_name="data_chosen", **_QUIET
        )
        self.linting.after(loaded)
        viewing.after(loaded)

    # Handlers.

    def chosen(self, query: str) -> list[Any]:
        """Set and config as the address names them."""
        data, config, run = (json.loads(query) if query else None) or [None] * 3
        ids = self._context.registry.sets.ids()
        wanted = data or ids[0]
        offered = [("the recipe of RTMPose-m (mmpose)", EXAMPLE)]
        offered += [(f"run {one.title}", one.id) for one in self._context.registry.runs()]
        chosen = config or run or EXAMPLE
        if chosen not in [value for _, value in offered]:
            offered.append((chosen, chosen))
        return [
            gr.update(choices=ids if wanted in ids else [*ids, wanted], value=wanted),
            gr.update(choices=offered, value=chosen),
        ]

    def lint(self, data: str | None = None, upload: str | None = None) -> list[Any]:
        """Sentence, figure, details, findings, choice of findings, annotations, told, picture."""
        hidden = gr.update(visible=False)
        try:
            key, report = self._lint(data, upload)
            code = self._code(data, upload)
        except MISTAKES as mistake:
            return [reason(mistake), hidden, "", "", gr.update(choices=[], value=None), [], "", hidden]
        download = Download("data", "lint", key)
        updates = report_updates(
            report, "", lambda one: details_html(download, one.table(), code, {FIGURE: ""})
        )
        located = [(n, one) for n, one in enumerate(report.found) if one.instances or one.images]
        choices = [(f"{one.finding.cause}: {len(one.instances) or len(one.images)}", n) for n, one in located]
        first = located[0][0] if located else None
        listed = self.listed(data, upload, first) if located else [[], "", hidden]
        if not located:
            listed[1] = sentence_html("No finding names single annotations.", "why")
        return [*updates, findings_html(report), gr.update(choices=choices, value=first), *listed]

    def listed(self, data: str | None, upload: str | None, finding: int | None) -> list[Any]:
        """The annotations behind a finding, and the picture of the first."""
        hidden = gr.update(visible=False)
        try:
            _, report = self._lint(data, upload)
            pose_set = self._set(data, upload)[1]
            if finding is None or not 0 <= int(finding) < len(report.found):
                return [[], sentence_html("Choose a finding.", "why"), hidden]
            one = report.found[int(finding)]
            of = {a.annotation_id: a.image_id for a in pose_set.instances}
            rows = [[str(i), str(of[i]), _name(pose_set, of[i])] for i in one.instances[:LISTED] if i in of]
            rows = rows or [["", str(n), _name(pose_set, n)] for n in one.images[:LISTED]]
            shown = self.picture(data, upload, rows[0][0]) if rows and rows[0][0] else ["", hidden]
        except MISTAKES as mistake:
            return [[], reason(mistake), hidden]
        return [rows, *shown]

    def picture(self, data: str | None, upload: str | None, number: str) -> list[Any]:
        """Sentence and picture of one annotation."""
        if not number:
            return ["", gr.update(visible=False)]
        try:
            pose_set = self._set(data, upload)[1]
            found = [a for a in pose_set.instances if str(a.annotation_id) == str(number)]
            if not found:
                raise KeyError(f"{pose_set.name} has no annotation {number}")
            figure, told = annotation_figure(pose_set, found[0])
        except MISTAKES as mistake:
            return [reason(mistake), gr.update(visible=False)]
        return [sentence_html(told), figure_update(figure)]

    def views(
        self,
        data: str | None = None,
        upload: str | None = None,
        config: str | None = EXAMPLE,
        file: str | None = None,
        count: float | None = 3,
        draws: float | None = 8,
        seed: float | None = 0,
    ) -> list[Any]:
        """Sentence, picture and details of the training pipeline's draws."""
        from workbench.training.augmentation_view import training_views

        try:
            if upload:
                raise ValueError("an uploaded json has no images here: choose a data set above to draw from")
            name, pose_set = self._set(data, None)
            values, title, version = self._config(config or EXAMPLE, file, pose_set.skeleton.name)
            numbers = max(1, int(count or 1)), max(1, int(draws or 1)), max(0, int(seed or 0))
            if numbers[0] * numbers[1] > MOST_VIEWS:
                raise ValueError(
                    f"draw at most {MOST_VIEWS} pictures, got {numbers[0]} instances x {numbers[1]} draws"
                )
            chosen = list(pose_set.labelled)[: numbers[0]]
            key = _key("views", name, title, version, *numbers)
            report = self._reports.get(
                key,
                lambda: training_views(
                    values, pose_set.samples(chosen), pose_set.skeleton, draws=numbers[1], seed=numbers[2],
                    title=title,
                ),
            )  # fmt: skip
        except MISTAKES as mistake:
            return [reason(mistake), gr.update(visible=False), ""]
        details = details_html(Download("data", "views", key), report.table(), "", {PICTURE: ""})
        return [sentence_html(report.summary()), figure_update(untitled(report)), details]

    def file(self, section: str, kind: str, state: str) -> str:
        """The report of a key as the text of a CSV or JSON file.

        Raises:
            LookupError: the server keeps it no longer.
        """
        found: Report | None = self._reports.peek(state)
        if found is None:
            raise LookupError("this report is no longer kept: show it again")
        return text_of(found, kind)

    # What the handlers ask for.

    def _set(self, data: str | None, upload: str | None) -> tuple[str, PoseSet]:
        """A name that changes with the set, and the set."""
        if upload:
            from apps.server.gradio_private import uploaded
            from workbench.core.job import version_of
            from workbench.data import read_coco

            path = uploaded(upload)
            name = str(version_of(path))
            return name, self._sets.get(name, lambda: read_coco(path, path.parent, within=[path.parent]))
        sets = self._context.registry.sets
        identity = data or sets.ids()[0]
        return sets.version(identity), sets.get(identity)

    def _lint(self, data: str | None, upload: str | None) -> tuple[str, Any]:
        from workbench.data.set_lint import lint

        name, pose_set = self._set(data, upload)
        key = _key("lint", name)
        return key, self._reports.get(key, lambda: lint(pose_set, images=not upload))

    def _config(self, config: str, file: str | None, skeleton: str) -> tuple[Any, str, str]:
        """Values, title and version of the uploaded or chosen config; it is read and not run."""
        from apps.server.gradio_private import uploaded
        from workbench.core.job import version_of
        from workbench.recipes.reading import of_checkpoint, read_text

        if file:
            path = uploaded(file)
            if path.stat().st_size > 1 << 19:
                raise ValueError(f"{path.name} is larger than any config: 512 kB are read at most")
            try:
                text = path.read_text("utf-8-sig")
            except UnicodeDecodeError:
                raise ValueError(f"{path.name} is no text; expected a config") from None
            return read_text(text, path.name).values, path.name, _key(text)
        if config == EXAMPLE:
            text = RECIPE.replace("{kind}", KINDS.get(skeleton, KINDS["coco-17"]))
            return read_text(text, "RTMPose-m's recipe").values, "RTMPose-m's recipe", text
        registry = self._context.registry
        path = registry.epoch(config, registry.run(config).epochs[-1].index).path
        found = of_checkpoint(registry.checkpoint(path))
        return found.values, registry.run(config).title, str(version_of(path))

    def _code(self, data: str | None, upload: str | None) -> str:
        """The Python that makes the same report."""
        sets = self._context.registry.sets
        identity = data or sets.ids()[0]
        from workbench.data import BUILTIN

        if upload:
            name = '"your annotations.json"'
        else:
            name = literal(identity) if identity in BUILTIN else path_literal(sets.file(identity))
        images = ", images=False" if upload else ""
        return (
            "from workbench.data.opening import open_data\nfrom workbench.data.set_lint import lint\n\n"
            f"lint(open_data({name}){images})"
        )


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _name(pose_set: PoseSet, image_id: int) -> str:
    record = pose_set.images.get(image_id)
    return record.path.name if record is not None else ""


def findings_html(report: LintReport) -> str:
    """The findings as a table; what holds and what was not checked below it."""
    from workbench.data.set_lint import CHECKS

    causes = {one.finding.cause for one in report.found} | set(report.not_checked)
    holds = "".join(f"<li>{html.escape(text)}</li>" for cause, text in CHECKS.items() if cause not in causes)
    open_ = "".join(
        f"<li>{html.escape(cause)}: {html.escape(why)}</li>" for cause, why in report.not_checked.items()
    )
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
        finding, count = one.finding, len(one.instances)
        behind = f"{count} annotations" if count else f"{len(one.images)} images" if one.images else ""
        rows += (
            f'<tr class="data-{finding.severity}"><td><b>{finding.severity}</b></td>'
            f"<td>{html.escape(finding.cause)}</td><td>{html.escape(finding.evidence)}"
            f'<p class="data-fix">{html.escape(finding.fix)}</p></td><td>{behind}</td></tr>'
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
    title = f"annotation {instance.annotation_id} in {record.path.name}"
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
    told = (
        f"{title}: {int((seen > 0).sum())} of {len(seen)} keypoints labelled, {box}, area {instance.area:.0f}"
    )
    return figure, told if there else f"{told}; the image is not here, so the annotation stands on grey"
