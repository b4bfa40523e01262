"""The Checkpoint page: what is this file, how much of a model does it fill, what changed in it?"""

from __future__ import annotations

import functools
import json
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import Context as Building

from apps.pages import checkpoint_facts as page
from apps.pages.checkpoint_difference import Section
from apps.pages.events import Looking
from apps.pages.frame import sentence_html
from apps.pages.report_section import add_actions, sheet, untitled
from apps.pages.subject import epoch_named
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence


def chosen(context: Context, query: str) -> list[Any]:
    """File and file to compare with, as the address or the chosen epoch has them."""
    file, against, run, epoch = (json.loads(query) if query else None) or [None] * 4
    offered = page.files(context)
    try:
        if not file:
            folder = context.registry.run(run) if run else context.registry.default_run()
            index = epoch_named(folder, epoch) if epoch else folder.epochs[-1].index
            file = context.registry.served.identity(context.registry.epoch(folder.id, index).path)
        if not against:
            # What a person compares an epoch with is most often the one before.
            ids = [identity for _, identity in offered]
            place = ids.index(file) if file in ids else 0
            against = ids[max(0, place - 1)] if ids else None
    except MISTAKES as mistake:
        raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake
    return [gr.update(choices=offered, value=file), gr.update(choices=offered, value=against)]


def opened(context: Context, identity: str | None) -> list[Any]:
    """Sentence, facts, parts figure, config text, tensors of one file.

    Raises:
        gr.Error: it lies outside the served folder, is no checkpoint, or is damaged; one sentence.
    """
    try:
        if not identity:
            raise ValueError("choose a checkpoint, or type its path below the served folder")
        checkpoint = context.registry.checkpoint(page.file_of(context, identity))
        return [
            sentence_html(page.summary(checkpoint)),
            page.facts_html(page.facts(checkpoint)),
            page.parts_figure(checkpoint),
            checkpoint.config_text or "# this file holds no config",
            page.tensor_sheet(checkpoint),
        ]
    except MISTAKES as mistake:
        raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake


def loaded(context: Context, identity: str | None, remap: bool) -> list[Any]:
    """Sentence, figure, table and buttons of the loading gate; why not, when nothing can be loaded into."""
    hidden = [gr.update(visible=False)] * 3
    if not identity:
        return ["", *hidden]
    try:
        report = page.gate(context, page.file_of(context, identity), remap)
    except MISTAKES as mistake:
        return [page.reason(mistake), *hidden]
    return [
        sentence_html(report.summary()),
        gr.update(value=untitled(report), visible=True),
        gr.update(value=sheet(report.table()), visible=bool(report.table())),
        gr.update(visible=True),
    ]


def hashed(context: Context, identity: str | None) -> str:
    """The file's sha256, worked out when asked for.

    Raises:
        gr.Error: it cannot be read.
    """
    try:
        return context.registry.checkpoint(page.file_of(context, identity or "")).sha256()
    except MISTAKES as mistake:
        raise gr.Error(sentence(mistake), print_exception=False) from mistake


def build(context: Context) -> None:
    """Add the page's components and handlers."""
    offered = page.files(context)
    choice: dict[str, Any] = {"value": None, "allow_custom_value": True, "scale": 3, "min_width": 320}
    with gr.Row(elem_classes="wb-bar"):
        file = gr.Dropdown(offered, label="checkpoint, or its path below the served folder", **choice)
        against = gr.Dropdown(offered, label="compare with", **choice)
        share = gr.Button("Copy link", min_width=90, scale=0)
    line = _html("wb-answer")
    with gr.Row():
        with gr.Column(scale=1, min_width=420, elem_classes="wb-card"):
            facts = _html("wb-facts")
            with gr.Row(elem_classes="wb-quiet-row"):
                digest = gr.Textbox(
                    show_label=False, placeholder="sha256 of the file", interactive=False, scale=4
                )
                hash_it = gr.Button("sha256", size="sm", min_width=80, scale=0)
        with gr.Column(scale=1, min_width=420, elem_classes="wb-card"):
            parts = gr.Plot(show_label=False, container=False, elem_id="wb-parts")
    _heading("Does it fill its model?")
    remap = gr.Checkbox(False, label="apply the proposed renaming of keys", container=False)
    gate = _report("wb-gate")
    buttons = add_actions(
        "checkpoint_load", "wb-gate-figure", [file, remap],
        lambda i, r: page.gate(context, page.file_of(context, i or ""), r),
        lambda i, r: page.gate_code(context, page.file_of(context, i or ""), r),
    )  # fmt: skip
    _heading("What changed?")
    section = Section(context)
    section.build(file, against)
    with gr.Accordion("All tensors", open=False):
        tensors = gr.Dataframe(interactive=False, show_label=False, max_height=420)
    with gr.Accordion("Config inside the file (shown, never run)", open=False):
        config = gr.Code(language="python", show_label=False, interactive=False, max_lines=40)
    state = gr.Textbox(visible="hidden", show_label=False)

    told = [line, facts, parts, config, tensors]
    heavy: dict[str, Any] = {"show_progress": "minimal", "concurrency_id": "forward", "concurrency_limit": 2}
    remember = "(file, against) => window.wb.remember({file, against})"
    opening, loading = Looking(), Looking()

    shown = opening.on(
        [file.input], functools.partial(opened, context), inputs=file, outputs=told, api_name="checkpoint",  # type: ignore[attr-defined]
        show_progress="minimal",
    )  # fmt: skip
    # Facts stand already, they come at once; now the gate, which builds a model, and the difference.
    # Building takes seconds for a large model: the page says so in its place.
    shown = shown.success(
        lambda: ["", sentence_html("Building its model ...", "why")], None, [digest, gate[0]],
        api_visibility="private", show_progress="hidden", trigger_mode="multiple",
    )  # fmt: skip
    shown = shown.success(None, [file, against], None, js=remember)
    section.comparing.after(shown)
    loading.after(shown)
    loading.on(
        [remap.input], functools.partial(loaded, context), inputs=[file, remap], outputs=[*gate, buttons],
        api_name="checkpoint_load", **heavy,
    )  # fmt: skip
    against.input(None, [file, against], None, js=remember)

    blocks = Building.root_block
    if blocks is None:
        raise RuntimeError("a page is built inside gr.Blocks")
    opening.after(
        blocks.load(
            functools.partial(chosen, context),
            state,
            [file, against],
            js="() => JSON.stringify(window.wb.query(['file', 'against', 'run', 'epoch']))",
            api_name="checkpoint_chosen",
            show_progress="hidden",
        )
    )
    # A large file takes its time; its hash must not stand beside the facts of another chosen meanwhile.
    asked, found = (gr.Textbox(visible="hidden", show_label=False) for _ in range(2))
    hash_it.click(None, file, asked, js="(file) => file").success(
        functools.partial(hashed, context), asked, found, api_name="checkpoint_hash", show_progress="hidden"
    ).success(None, [file, asked, found], digest, js="(file, asked, found) => (file === asked ? found : '')")
    share.click(None, None, None, js="() => window.wb.copy(window.location.href, document.activeElement)")


def _html(name: str) -> gr.HTML:
    return gr.HTML(elem_id=name, apply_default_css=False, js_on_load=None)


def _heading(text: str) -> None:
    gr.HTML(f"<h2>{text}</h2>", elem_classes="wb-section", apply_default_css=False, js_on_load=None)


def _report(name: str) -> list[Component]:
    """Where a report goes: sentence, figure, table; the last two only when there is one."""
    return [
        _html(name),
        gr.Plot(show_label=False, container=False, visible=False, elem_id=f"{name}-figure"),
        gr.Dataframe(interactive=False, show_label=False, max_height=360, visible=False),
    ]
