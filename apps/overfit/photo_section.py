"""A photo of one's own on the Overfit page: uploaded, with a json, or with keypoints clicked on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from apps.overfit.own_photo import BOX, Clicks, OwnPhoto, as_coco, marked
from apps.pages.subject_bar import say_notes
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence
from workbench.core import Skeleton

# What the command that repeats an attempt calls the file: as the photo.
_FILE_NAME = "(text) => JSON.parse(text).images[0].file_name.replace(/\\.[^.]*$/, '') + '.json'"


@dataclass(frozen=True, eq=False)
class PhotoSection:
    """The section's widgets.

    Attributes:
        image: the upload.
        annotation: the json.
        clicks: what was clicked, as text.
        events: those after which something else is to be learned.
    """

    image: gr.Image
    annotation: gr.File
    clicks: gr.Textbox
    events: tuple[Any, ...]

    @property
    def inputs(self) -> list[Component]:
        """What Start is asked with, behind the other values."""
        return [self.image, self.annotation, self.clicks]


def photo_section(context: Context, data: gr.Dropdown) -> PhotoSection:
    """Add the section to the page.

    Args:
        context: of this serving.
        data: the set whose keypoints are clicked.
    """
    with gr.Accordion("A photo of your own", open=False, elem_id="ovf-own"), gr.Row(elem_classes="wb-own"):
        with gr.Column(min_width=230):
            # As it was uploaded: Gradio writes other modes anew, and turns the picture by its EXIF.
            image = gr.Image(
                type="filepath", image_mode=None, sources=["upload", "clipboard"], height=170, buttons=[],
                show_label=False,
            )  # fmt: skip
            annotation = gr.File(
                type="filepath", file_types=[".json"], label="COCO json (or click keypoints)", height=150
            )
        drawn = gr.Image(
            elem_id="ovf-drawn", show_label=False, interactive=False, height=300, buttons=[], visible=False
        )
        with gr.Column(min_width=230):
            gr.Markdown(
                "Upload a photo, then its annotation as a COCO json; or choose a keypoint of the chosen data "
                "and click its place on the second picture, one after the other. The box is two clicked "
                "corners, or lies around the keypoints. Nothing that a json names is opened but the photo."
            )
            keypoint = gr.Dropdown([BOX], value=BOX, label="click places", allow_custom_value=True)
            with gr.Row():
                remove = gr.Button("Remove this one", size="sm", min_width=90)
                save = gr.Button("Save annotation", size="sm", min_width=90)
            clear = gr.Button("Back to the data set", size="sm")
    clicks = gr.Textbox("", visible="hidden", show_label=False)
    payload = gr.Textbox(visible="hidden", show_label=False, elem_classes="ovf-payload")

    def skeleton(chosen: str | None) -> Skeleton:
        return context.registry.sets.skeleton(chosen or "astronaut")

    def choice(names: tuple[str, ...], made: Clicks) -> Any:
        """The choice of keypoints, the first that has no place yet chosen."""
        open_ = [name for name in names if name not in made.keypoints]
        return gr.update(choices=[*names, BOX], value=open_[0] if open_ else BOX)

    def refused(mistake: BaseException) -> gr.Error:
        return gr.Error(sentence(mistake), duration=None, print_exception=False)

    def shown(path: str | None, chosen: str | None) -> list[Any]:
        if not path:
            return [gr.update(value=None, visible=False), "", gr.skip()]
        try:
            say_notes(path)
            own = skeleton(chosen)
            picture = marked(Path(path), Clicks(), own)
        except MISTAKES as mistake:
            raise refused(mistake) from mistake
        return [gr.update(value=picture, visible=True), "", choice(own.keypoints, Clicks())]

    def clicked(
        event: gr.SelectData, path: str | None, text: str, what: str, chosen: str | None
    ) -> list[Any]:
        if not path:
            raise gr.Error("upload a photo first", print_exception=False)
        try:
            own, x, y = skeleton(chosen), float(event.index[0]), float(event.index[1])  # type: ignore[arg-type]
            if what not in (*own.keypoints, BOX):
                raise ValueError(f"{what!r:.80}: expected one of the keypoints of {own.name}, or {BOX!r}")
            made = Clicks.of_text(text).clicked(what, x, y)
            picture = marked(Path(path), made, own)
        except MISTAKES as mistake:
            raise refused(mistake) from mistake
        following = gr.skip() if what == BOX else choice(own.keypoints, made)
        return [gr.update(value=picture, visible=True), made.text(), following]

    def removed(path: str | None, text: str, what: str, chosen: str | None) -> list[Any]:
        if not path:
            raise gr.Error("upload a photo first", print_exception=False)
        try:
            made = Clicks.of_text(text).without(what)
            picture = marked(Path(path), made, skeleton(chosen))
        except MISTAKES as mistake:
            raise refused(mistake) from mistake
        return [gr.update(value=picture, visible=True), made.text(), gr.skip()]

    def saved(path: str | None, text: str, chosen: str | None) -> str:
        if not path:
            raise gr.Error("upload a photo first", print_exception=False)
        try:
            return as_coco(OwnPhoto(Path(path), clicks=Clicks.of_text(text)), skeleton(chosen))
        except MISTAKES as mistake:
            raise refused(mistake) from mistake

    def offered(chosen: str | None, text: str) -> Any:
        try:
            return choice(skeleton(chosen).keypoints, Clicks.of_text(text))
        except MISTAKES:
            return gr.skip()  # the page says what is wrong with the data where it says what Start would do

    def cleared() -> list[Any]:
        return [None, None, gr.update(value=None, visible=False), ""]

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    results = [drawn, clicks, keypoint]
    drawn.select(clicked, [image, clicks, keypoint, data], results, api_name="overfit_place", **quiet)
    remove.click(removed, [image, clicks, keypoint, data], results, api_name="overfit_unplace", **quiet)
    data.change(offered, [data, clicks], keypoint, api_name="overfit_places", **quiet)
    save.click(saved, [image, clicks, data], payload, api_name="overfit_annotation", **quiet).success(
        None, payload, None, js=f"(text) => window.wb.save(text, ({_FILE_NAME})(text))"
    )
    events = (
        image.upload(shown, [image, data], results, api_name="overfit_photo", **quiet),
        annotation.upload(lambda: "", None, clicks, api_visibility="private", **quiet),
        annotation.clear(lambda: "", None, clicks, api_visibility="private", **quiet),
        gr.on(
            [clear.click, image.clear], cleared, None, [image, annotation, drawn, clicks],
            api_name="overfit_no_photo", **quiet,
        ),
    )  # fmt: skip
    return PhotoSection(image, annotation, clicks, events)
