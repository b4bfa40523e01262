"""The bar that chooses what is looked at; the same on all inspectors' pages, its state in their address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from apps.pages.subject import Subject
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence

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
