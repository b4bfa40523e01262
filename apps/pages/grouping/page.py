"""The Grouping page: one image's stored output grouped live by other rules, every step, and AP on the set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import Context as Building

from apps.pages.controls import explained, hints_of, knob, named
from apps.pages.events import Looking
from apps.pages.frame import Page
from apps.pages.grouping.handlers import INSPECTOR, Handlers, next_image
from apps.pages.inspectors import as_file, subject_events
from apps.pages.subject import SUBJECT
from apps.pages.subject_bar import box_events, subject_bar
from apps.server.context import Context
from workbench.inspectors.grouping.replay import PictureParams

STYLE = Path(__file__).parents[1] / "static" / "grouping.css"
LOOK_EVERY = 0.5
NAMES = [f.name for f in dataclasses.fields(PictureParams)]
# As they stand on the page: what is moved, what is chosen and switched.
ROWS = (
    ("step", "detection_threshold", "tag_threshold", "nms_kernel", "top_k"),
    ("order", "layout", "rules", "resolutions", "adjust", "refine", "flip", "inverse_affine"),
)
# Above the picture: whom it shows.
SHOWN = ("person", "least_score")


def page() -> Page:
    """The page's entry in the rail; the inspectors' own pages stand under the same one."""
    question = "How do detections become people, and what do other rules change?"
    return Page("grouping", "Live grouping", question, build, parent="Grouping")


def build(context: Context) -> None:
    """Add the page's components and handlers."""
    handlers = Handlers(context)
    gr.HTML(f"<style>{STYLE.read_text(encoding='utf-8')}</style>", apply_default_css=False, js_on_load=None)
    bar = subject_bar(context)
    bar.decoder.visible = False  # grouping is how such a network is decoded
    made = _knobs()
    card = _html("grp-set")
    line = _html("wb-answer")
    with gr.Row(elem_classes="wb-bar grp-knobs grp-row-3"):
        made |= _made(SHOWN)
    made["person"].label, made["least_score"].label = "people drawn", "drawn from score"  # type: ignore[attr-defined]
    knobs = [made[name] for name in NAMES]
    with gr.Row(equal_height=False, elem_classes="grp-figures-row"):
        with gr.Column(scale=6, min_width=460):
            figure = gr.Plot(show_label=False, container=False, elem_id="wb-figure")
        with gr.Column(scale=5, min_width=380):
            tags = gr.Plot(show_label=False, container=False, elem_id="grp-tags")
    with gr.Row(elem_classes="wb-actions"):
        share, png, as_csv, as_json, copy, tags_png, cancel = (
            gr.Button(word, size="sm")
            for word in ("Copy link", "PNG", "CSV", "JSON", "Copy as code", "PNG of the tags", "Cancel AP")
        )
    steps = _html("grp-steps")
    _meanings()
    with gr.Accordion("The same in a notebook", open=False):
        code = gr.Code(language="python", show_label=False, interactive=False)
    state, address, wish, asked, before = (
        gr.Textbox("", visible="hidden", show_label=False) for _ in range(5)
    )
    timer = gr.Timer(LOOK_EVERY, active=False)

    inputs = [*bar.inputs, *knobs]
    offers = [knobs[NAMES.index(name)] for name in ("step", "person", "layout")]
    outputs: list[Component] = [line, figure, steps, tags, code, address, wish, *offers]
    regrouped = named(handlers.regrouped, params=PictureParams)
    settings: dict[str, Any] = {
        "show_progress": "hidden", "concurrency_id": "forward", "concurrency_limit": 2,
    }  # fmt: skip
    watched: dict[str, Any] = {
        "inputs": [asked, before], "outputs": [card, timer, cancel], "show_progress": "hidden",
        "concurrency_id": "grouping", "concurrency_limit": 4,
    }  # fmt: skip
    regrouping, looking = Looking(), Looking()
    looking.on([timer.tick], handlers.watch, api_name="grouping_watch", **watched)

    grouped = regrouping.on(
        [w.input for w in (bar.epoch, bar.sample, *bar.box, *knobs)],  # type: ignore[attr-defined]
        regrouped, inputs=inputs, outputs=outputs, api_name="grouping", **settings,
    )  # fmt: skip
    grouped = grouped.success(None, address, None, js="(t) => t && window.wb.remember(JSON.parse(t))")
    looking.after(
        grouped.success(
            handlers.begin, [wish, asked], [asked, before, timer], show_progress="hidden",
            api_name="grouping_ask", trigger_mode="always_last",
        )
    )  # fmt: skip
    root = Building.root_block
    if root is None:
        raise RuntimeError("a page is built inside gr.Blocks")
    keys = [*SUBJECT, *(f"k.{name}" for name in NAMES)]
    regrouping.after(
        root.load(
            handlers.restored, state, [*bar.linked, *knobs], api_name="grouping_restored",
            js=f"() => JSON.stringify(window.wb.query({json.dumps(keys)}))", show_progress="hidden",
        )
    )  # fmt: skip
    for event in subject_events(context, bar, "grouping", next_image):
        regrouping.after(event)
    for event in box_events(context, bar, "grouping"):
        regrouping.after(event)
    cancel.click(handlers.cancel, asked, None, api_name="grouping_cancel", show_progress="hidden")

    share.click(None, None, None, js="() => window.wb.copy(window.location.href, document.activeElement)")
    png.click(None, None, None, js="() => window.wb.picture('wb-figure', 'grouping')")
    tags_png.click(None, None, None, js="() => window.wb.picture('grp-tags', 'tag_values')")
    copy.click(None, code, None, js="(text) => window.wb.copy(text, document.activeElement)")
    for kind, button in (("csv", as_csv), ("json", as_json)):
        payload = gr.Textbox(visible="hidden", show_label=False)
        button.click(
            named(as_file, context, INSPECTOR, kind, params=PictureParams), inputs, payload,
            api_name=f"grouping_{kind}", show_progress="hidden",
        ).success(None, payload, None, js=f"(text) => window.wb.save(text, 'grouping.{kind}')")  # fmt: skip


def _made(names: Sequence[str]) -> dict[str, Component]:
    """The widgets of some fields."""
    hints, defaults = hints_of(PictureParams), {f.name: f.default for f in dataclasses.fields(PictureParams)}
    return {name: knob(name, hints[name], defaults[name]) for name in names}


def _knobs() -> dict[str, Component]:
    """The widgets of the rules, placed in rows of the page's own."""
    made: dict[str, Component] = {}
    for number, names in enumerate(ROWS, 1):
        with gr.Row(elem_classes=f"wb-bar grp-knobs grp-row-{number}"):
            made |= _made(names)
    with gr.Row(visible=False):  # this page looks at one sample
        made |= _made(["instance"])
    made["step"].label = "dealt out up to"  # type: ignore[attr-defined]
    made["nms_kernel"].label = "NMS kernel"  # type: ignore[attr-defined]
    return made


def _meanings() -> None:
    """What each knob does, in the words of its docstring."""
    told = explained(PictureParams)
    with gr.Accordion("What the knobs mean", open=False):
        gr.Markdown(
            "\n".join(f"- **{n.replace('_', ' ')}**: {told[n]}" for row in (*ROWS, SHOWN) for n in row)
        )


def _html(name: str) -> gr.HTML:
    return gr.HTML(elem_id=name, apply_default_css=False, js_on_load=None)
