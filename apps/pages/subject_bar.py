"""The bar that chooses what is looked at; the same on all inspectors' pages, its state in their address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.subject import NO_BOX, Corners, Subject
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence

if TYPE_CHECKING:
    import numpy as np


OWN = "the model's own"


@dataclass(frozen=True)
class SubjectBar:
    """The bar's widgets."""

    run: gr.Dropdown
    epoch: gr.Dropdown
    data: gr.Dropdown
    sample: gr.Number
    decoder: gr.Dropdown
    image: gr.Image
    box: tuple[gr.Number, gr.Number, gr.Number, gr.Number]
    back: gr.Button
    forth: gr.Button
    drawn: gr.Image
    clear: gr.Button

    @property
    def inputs(self) -> list[Component]:
        """The widgets in the order of `subject_of`."""
        return [self.run, self.epoch, self.data, self.sample, self.decoder, self.image, *self.box]

    @property
    def asking(self) -> list[Component]:
        """Those whose change alone is a new question; run and data change others of the bar first."""
        return [self.epoch, self.decoder, self.sample, *self.box]

    @property
    def linked(self) -> list[Component]:
        """Those whose values stand in the address."""
        return [self.run, self.epoch, self.data, self.sample, self.decoder]


def subject_bar(context: Context) -> SubjectBar:
    """Add the bar to a page."""
    runs = [(r.title, r.id) for r in context.registry.runs()]
    with gr.Row(elem_classes="wb-bar"):
        run = gr.Dropdown(runs, value=None, label="run", allow_custom_value=True, min_width=150)
        epoch = gr.Dropdown([], value=None, label="epoch", allow_custom_value=True, min_width=110)
        data = gr.Dropdown([], value=None, label="data", allow_custom_value=True, min_width=150)
        back = gr.Button("‹", min_width=34, scale=0, elem_id="wb-back")
        sample = gr.Number(None, label="sample", precision=0, minimum=0, min_width=112, scale=0)
        forth = gr.Button("›", min_width=34, scale=0, elem_id="wb-forth")
        decoder = gr.Dropdown([(OWN, "")], value="", label="decoder", allow_custom_value=True, min_width=180)
    with gr.Accordion("An image of your own", open=False), gr.Row(elem_classes="wb-own"):
        image = gr.Image(
            type="filepath", show_label=False, sources=["upload", "clipboard"], height=240, buttons=[]
        )
        drawn = gr.Image(
            elem_id="wb-drawn", show_label=False, interactive=False, height=240, buttons=[], visible=False
        )
        with gr.Column(min_width=230):
            gr.Markdown(
                "Draw the box around one person or animal: click two opposite corners in the second picture, "
                "or enter image pixels. Empty: the whole image."
            )
            corners = []
            for pair in (("x0", "y0"), ("x1", "y1")):
                with gr.Row():
                    corners += [gr.Number(None, label=f"{name}, px", min_width=90) for name in pair]
            box = tuple(corners)
            clear = gr.Button("Back to the data set", size="sm")
    return SubjectBar(run, epoch, data, sample, decoder, image, box, back, forth, drawn, clear)  # type: ignore[arg-type]


def offered(context: Context, subject: Subject) -> list[Any]:
    """Updates for the linked widgets: what can be chosen, and what is."""
    registry = context.registry
    folder = registry.run(subject.run)
    try:
        decoders = registry.decoders(subject.run, subject.epoch)
        sets = registry.sets.fitting(registry.skeleton(subject.run, subject.epoch))
    except MISTAKES as mistake:
        # The page still stands: run and epoch can be changed, and the reason is said.
        gr.Warning(sentence(mistake))
        decoders, sets = [], []
    count = len(registry.sets.get(subject.data)) if subject.data else 0
    return [
        gr.update(choices=[(r.title, r.id) for r in registry.runs()], value=folder.id),
        gr.update(choices=[(e.label, e.index) for e in folder.epochs], value=subject.epoch),
        gr.update(choices=sets, value=subject.data),
        gr.update(value=subject.sample, maximum=max(0, count - 1), label=f"sample of {count}"),
        gr.update(choices=[(OWN, ""), *[(d, d) for d in decoders]], value=subject.decoder),
    ]


# A box around one person or animal in an image of one's own: as numbers, or by clicking two corners.


def next_corners(box: Corners, x: float, y: float) -> Corners:
    """The box after a click: the first sets a corner, the second the opposite one, a third begins anew."""
    x0, y0, x1, _ = box
    if x0 is None or y0 is None or x1 is not None:
        return x, y, None, None
    return min(x0, x), min(y0, y), max(x0, x), max(y0, y)


def say_notes(path: str) -> None:
    """Show what is to be said about how an image was read."""
    from html import escape

    from workbench.data.images import read_image_with_notes

    for note in read_image_with_notes(Path(path))[1]:
        gr.Info(escape(note))  # toasts are HTML, and a file's name is anybody's


def with_box(path: str, box: Corners) -> np.ndarray:
    """The image with the box, or its first corner, drawn on it; RGB.

    Raises:
        ValueError: the file is no image.
    """
    import cv2
    import numpy as np

    from workbench.data.images import read_image

    pixels = np.array(read_image(Path(path)))
    thick = max(2, round(max(pixels.shape[:2]) / 300))
    x0, y0, x1, y1 = box
    if x0 is None or y0 is None:
        return pixels
    first = (round(x0), round(y0))
    if x1 is None or y1 is None:
        cv2.drawMarker(pixels, first, (229, 72, 77), cv2.MARKER_CROSS, thick * 8, thick)
    else:
        cv2.rectangle(pixels, first, (round(x1), round(y1)), (229, 72, 77), thick)
    return pixels


def box_events(context: Context, bar: SubjectBar, name: str) -> list[Any]:
    """Handlers of the bar's own image; those returned change what is looked at."""
    del context

    def shown(path: str | None) -> list[Any]:
        if not path:
            return [gr.update(value=None, visible=False), *NO_BOX]
        try:
            say_notes(path)
            return [gr.update(value=with_box(path, NO_BOX), visible=True), *NO_BOX]
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake

    def clicked(event: gr.SelectData, path: str | None, *box: float | None) -> list[Any]:
        if not path:
            raise gr.Error("give an image first", print_exception=False)
        corners = next_corners(box, float(event.index[0]), float(event.index[1]))  # type: ignore[arg-type]
        return [gr.update(value=with_box(path, corners), visible=True), *corners]

    def cleared() -> list[Any]:
        return [None, gr.update(value=None, visible=False), *NO_BOX]

    drawn = [bar.drawn, *bar.box]
    return [
        bar.image.upload(shown, bar.image, drawn, api_name=f"{name}_image", show_progress="hidden"),
        bar.drawn.select(
            clicked, [bar.image, *bar.box], drawn, api_name=f"{name}_corner", show_progress="hidden"
        ),
        gr.on(
            [bar.clear.click, bar.image.clear], cleared, None, [bar.image, *drawn],
            api_name=f"{name}_no_image", show_progress="hidden",
        ),
    ]  # fmt: skip
