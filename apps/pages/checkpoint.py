"""The Checkpoint page: what a file is, how much of its model it fills, and what changed in it."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import gradio as gr

from apps.pages import checkpoint_facts as facts_of
from apps.pages.checkpoint_difference import Section as DifferenceSection
from apps.pages.events import Looking
from apps.pages.frame import Page, sentence_html
from apps.pages.report_section import text_of
from apps.pages.sections import (
    COPY_LINK,
    Download,
    Section,
    add_heading,
    add_section,
    control_row,
    details_html,
    hidden_text,
    html_block,
    one_sentence_errors,
    query_js,
    report_updates,
    root_block,
)
from apps.pages.subject import epoch_named
from workbench.cli import MISTAKES, sentence

if TYPE_CHECKING:
    from apps.server.context import Context

ADDRESS = ("file", "against", "run", "epoch")
FILE_LABEL = "checkpoint, or its path below the served folder"
REMEMBER_FILES = "(file, against) => window.wb.remember({file, against})"
GATE_FIGURE = "wb-gate-figure"
QUIET: dict[str, Any] = {"show_progress": "hidden"}


def page() -> Page:
    """The page's entry in the rail."""
    question = "What is this file, does it fill its model, and what changed since another one?"
    return Page("checkpoint", "Checkpoint", question, build)


def chosen(context: Context, query: str) -> list[Any]:
    """File and file to compare with, as the address or the chosen epoch has them."""
    file, against, run, epoch = (json.loads(query) if query else None) or [None] * 4
    offered = facts_of.files(context)
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
        ValueError: it is no checkpoint, or damaged.
        Refused: it lies outside the served folders.
    """
    if not identity:
        raise ValueError("choose a checkpoint, or type its path below the served folder")
    checkpoint = context.registry.checkpoint(facts_of.file_of(context, identity))
    return [
        sentence_html(facts_of.summary(checkpoint)),
        facts_of.facts_html(facts_of.facts(checkpoint)),
        facts_of.parts_figure(checkpoint),
        checkpoint.config_text or "# this file holds no config",
        facts_of.tensor_sheet(checkpoint),
    ]


def loaded(context: Context, identity: str | None, remap: bool) -> list[Any]:
    """Sentence, figure and details of loading the file into its model, or why it cannot be loaded."""
    if not identity:
        return ["", gr.update(visible=False), ""]
    try:
        path = facts_of.file_of(context, identity)
        report = facts_of.gate(context, path, remap)
    except MISTAKES as mistake:
        return [facts_of.reason(mistake), gr.update(visible=False), ""]
    download = Download("checkpoint", "load", json.dumps([identity, remap]))
    code = facts_of.gate_code(context, path, remap)
    return report_updates(
        report, "", lambda found: details_html(download, found.table(), code, {GATE_FIGURE: ""})
    )


def load_text(context: Context, section: str, kind: str, state: str) -> str:
    """The report of loading as the text of a CSV or JSON file; `state` holds file and remap as JSON."""
    identity, remap = json.loads(state)
    return text_of(facts_of.gate(context, facts_of.file_of(context, identity or ""), bool(remap)), kind)


def hashed(context: Context, identity: str | None) -> str:
    """The file's sha256, computed on request."""
    return context.registry.checkpoint(facts_of.file_of(context, identity or "")).sha256()


def build(context: Context) -> None:
    """Add the page's components and events."""
    file, against = _controls(context)
    line = html_block("wb-answer")
    facts, parts = _file_card(context, file)
    add_heading(
        "wb-gate-head",
        "Does the file fill its model?",
        "Tensors of the file that have a place in the network",
    )
    remap = gr.Checkbox(False, label="apply the proposed renaming of keys", container=False)
    gate = add_section("wb-gate", "load", figure_id=GATE_FIGURE, line_id="wb-gate")
    add_heading("wb-difference-head", "What changed?", "Each tensor, compared with the other file's")
    section = DifferenceSection(context)
    section.build(file, against)
    with gr.Accordion("All tensors", open=False):
        tensors = gr.Dataframe(interactive=False, show_label=False, max_height=420)
    with gr.Accordion("Config inside the file (shown, never run)", open=False):
        config = gr.Code(language="python", show_label=False, interactive=False, max_lines=40)
    context.downloads["checkpoint"] = functools.partial(load_text, context)
    _events(context, file, against, remap, gate, section, [line, facts, parts, config, tensors])


def _controls(context: Context) -> tuple[gr.Dropdown, gr.Dropdown]:
    """The file, and the one to compare it with."""
    offered = facts_of.files(context)
    choice: dict[str, Any] = {"value": None, "allow_custom_value": True, "scale": 3, "min_width": 320}
    with control_row():
        file = gr.Dropdown(offered, label=FILE_LABEL, **choice)
        against = gr.Dropdown(offered, label="compare with", **choice)
        share = gr.Button("Copy link", min_width=90, scale=0)
    share.click(None, None, None, js=COPY_LINK)
    return file, against


def _file_card(context: Context, file: gr.Dropdown) -> tuple[gr.HTML, gr.Plot]:
    """Facts of the file with its hash on request, and a figure of its parts."""
    with gr.Row():
        with gr.Column(scale=1, min_width=420, elem_classes="wb-card"):
            facts = html_block("wb-facts")
            with gr.Row(elem_classes="wb-quiet-row"):
                digest = gr.Textbox(
                    show_label=False, placeholder="sha256 of the file", interactive=False, scale=4,
                    elem_id="wb-digest",
                )  # fmt: skip
                hash_it = gr.Button("sha256", size="sm", min_width=80, scale=0)
        with gr.Column(scale=1, min_width=420, elem_classes="wb-card"):
            parts = gr.Plot(show_label=False, container=False, elem_id="wb-parts")
    # A large file takes its time; its hash must not stand beside the facts of another chosen meanwhile.
    asked, found = hidden_text(), hidden_text()
    hash_it.click(None, file, asked, js="(file) => file").success(
        one_sentence_errors(functools.partial(hashed, context)),
        asked,
        found,
        api_name="checkpoint_hash",
        **QUIET,
    ).success(None, [file, asked, found], digest, js="(file, asked, found) => (file === asked ? found : '')")
    file.change(None, None, digest, js="() => ''")
    return facts, parts


def _events(
    context: Context,
    file: gr.Dropdown,
    against: gr.Dropdown,
    remap: gr.Checkbox,
    gate: Section,
    section: DifferenceSection,
    shown: list[Any],
) -> None:
    """Facts are shown at once; then the loading report, which builds a model, and the difference."""
    opening, loading = Looking(), Looking()
    event = opening.on(
        [file.input], one_sentence_errors(functools.partial(opened, context)), inputs=file, outputs=shown,  # type: ignore[attr-defined]
        api_name="checkpoint", show_progress="minimal",
    )  # fmt: skip
    # Building takes seconds for a large model: the page says so in its place.
    event = event.success(
        lambda: sentence_html("The model is being built ...", "why"), None, gate.lines[0],
        api_visibility="private", trigger_mode="multiple", **QUIET,
    )  # fmt: skip
    event = event.success(None, [file, against], None, js=REMEMBER_FILES)
    section.comparing.after(event)
    loading.after(event)
    loading.on(
        [remap.input], functools.partial(loaded, context), inputs=[file, remap], outputs=gate.outputs,  # type: ignore[attr-defined]
        api_name="checkpoint_load", show_progress="minimal", concurrency_id="forward", concurrency_limit=2,
    )  # fmt: skip
    against.input(None, [file, against], None, js=REMEMBER_FILES)
    opening.after(
        root_block().load(
            functools.partial(chosen, context), hidden_text(), [file, against], js=query_js(ADDRESS),
            api_name="checkpoint_chosen", **QUIET,
        )
    )  # fmt: skip
