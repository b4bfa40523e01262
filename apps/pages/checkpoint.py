"""What the Checkpoint page answers: facts of a file, how much of a model it fills, what changed in it."""

from __future__ import annotations

import functools
import html
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from apps.pages.checkpoint_difference import Section as DifferenceSection
from apps.pages.checkpoint_port import Section as PortSection
from apps.pages.controls import LatestQuestion
from apps.pages.frame import Page, sentence_html
from apps.pages.report_section import Answer, literal, path_literal, sheet
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
from apps.pages.subject import epoch_named, file_of, files, reason
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from apps.server.context import Context
    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.loading import LoadReport


def summary(checkpoint: Checkpoint) -> str:
    """What the file is, in one sentence."""
    identity = checkpoint.identity
    what = " ".join(part for part in (identity.family, identity.variant) if part) or "unknown network"
    when = "" if checkpoint.epoch is None else f", epoch {checkpoint.epoch}"
    # What the run was judged by comes before what it was trained with.
    judged = sorted(checkpoint.metrics.items(), key=lambda item: "AP" not in item[0] and "PCK" not in item[0])
    metrics = "".join(f", {name} {value:.4g}" for name, value in judged[:2])
    validated = any(name.startswith(("val/", "best_score")) for name, _ in judged[:2])
    note = f" ({checkpoint.metrics_note})" if validated and checkpoint.metrics_note else ""
    return (
        f"{what}: {checkpoint.parameters / 1e6:.2f} M parameters in {checkpoint.format}{when}{metrics}{note}."
    )


def facts(checkpoint: Checkpoint) -> list[tuple[str, str | list[str]]]:
    """(name, value or values) of everything the file says; what it does not say is left out."""
    identity = checkpoint.identity
    size = sum(path.stat().st_size for path in checkpoint.paths)
    keypoints = checkpoint.dataset_meta.get("keypoint_id2name") or {}
    told: list[tuple[str, Any]] = [
        ("file", f"{', '.join(p.name for p in checkpoint.paths)}, {size / 1e6:.1f} MB"),
        ("format", f"{checkpoint.format} ({checkpoint.container})"),
        ("family", " ".join(part for part in (identity.family, identity.variant) if part)),
        ("because", list(identity.evidence)),
        ("published", identity.expected),
        ("epoch", "" if checkpoint.epoch is None else str(checkpoint.epoch)),
        ("iteration", "" if checkpoint.iteration is None else str(checkpoint.iteration)),
        ("metrics", [f"{k} {v:.4g}" for k, v in checkpoint.metrics.items()]),
        ("of which epoch", checkpoint.metrics_note),
        (
            "tensors",
            f"{len(checkpoint.tensors)}, {', '.join(f'{n} {t}' for t, n in checkpoint.dtypes.items())}",
        ),
        ("parameters", f"{checkpoint.parameters:,}"),
        ("counted once", [f"{name}: weights that others hold too" for name in checkpoint.shared[:20]]),
        ("not read", checkpoint.unread_text),
        ("left in the file", [f"{text}, not read" for text in checkpoint.left]),
        ("checksums", str(checkpoint.facts.get("checksums", ""))),
        ("wrapper", " ".join(part for part in (checkpoint.wrapper, checkpoint.prefix) if part)),
        ("average", checkpoint.ema),
        ("optimiser", checkpoint.optimizer or ""),
        ("data set", _data_set(checkpoint, len(keypoints))),
        ("versions", [f"{k} {v}" for k, v in checkpoint.versions.items()]),
        ("not run", [f"{name}" for name in checkpoint.inert]),
    ]
    return [(name, value) for name, value in told if value]


def _data_set(checkpoint: Checkpoint, keypoints: int) -> str:
    name = str(checkpoint.dataset_meta.get("dataset_name", ""))
    return f"{name}, {keypoints} keypoints" if keypoints else name


def facts_html(told: Iterable[tuple[str, str | list[str]]]) -> str:
    """The facts as a table; names and values come from a file, so all of it is escaped."""
    rows = []
    for name, value in told:
        shown = "<br>".join(html.escape(v) for v in value) if isinstance(value, list) else html.escape(value)
        rows.append(f"<tr><th scope='row'>{html.escape(name)}</th><td>{shown}</td></tr>")
    return f'<table class="wb-facts">{"".join(rows)}</table>'


def parts_figure(checkpoint: Checkpoint) -> Figure:
    """Parameters by first part of the name."""
    import plotly.graph_objects as go

    from workbench.figures import RUN_COLOURS, new_figure

    parts = checkpoint.parts()
    largest = sorted(parts, key=lambda name: parts[name])[-14:]
    most = largest[-1] if largest else "nothing"
    share = parts[most] / max(1, sum(parts.values())) if largest else 0
    figure = new_figure(
        f"{most} holds {share:.0%} of the parameters",
        x="parameters, millions",
        height=130 + 26 * max(3, len(largest)),
    )
    figure.add_trace(
        go.Bar(
            x=np.array([parts[name] / 1e6 for name in largest], np.float32),
            y=largest,
            orientation="h",
            marker={"color": RUN_COLOURS[0]},
            hovertemplate="%{y}: %{x:.3f} M<extra></extra>",
        )
    )
    return figure


def tensor_sheet(checkpoint: Checkpoint) -> dict[str, Any]:
    """All tensors: name, shape, type, number of elements."""
    return sheet(
        [
            {
                "tensor": name,
                "shape": " x ".join(map(str, info.shape)) or "1",
                "type": info.dtype,
                "elements": info.numel,
            }
            for name, info in checkpoint.tensors.items()
        ]
    )


def gate(context: Context, path: Path, remap: bool) -> LoadReport:
    """How much of its model the file fills.

    Raises:
        NotAvailable: nothing tells how to build the model, or the file is the model itself.
        ValueError: its config cannot be read.
    """
    from workbench.models import open_model

    told = context.settings
    loaded = open_model(
        path, config=told.config, family=told.family, adapter=told.adapter, remap=remap or told.remap,
        output=told.output, assume=told.assume, allow_partial=True, device=told.device,
    )  # fmt: skip
    if loaded.load is None:
        raise NotAvailable(
            f"{path.name} is its own model ({loaded.family}): there is nothing to load it into"
        )
    return loaded.load


def gate_code(context: Context, path: Path, remap: bool) -> str:
    """The Python that makes the same report of loading."""
    told = context.settings
    words = [path_literal(path)]
    words += [f"{n}={path_literal(p)}" for n, p in (("config", told.config), ("adapter", told.adapter)) if p]
    words += [f"family={literal(told.family)}"] if told.family else []
    words += ["remap=True"] if remap or told.remap else []
    words += [f"{n}={list(w)}" for n, w in (("output", told.output), ("assume", told.assume)) if w]
    return (
        f"from workbench.models import open_model\n\nopen_model({', '.join(words)}, allow_partial=True).load"
    )


__all__ = [
    "MISTAKES",
    "facts",
    "facts_html",
    "file_of",
    "files",
    "gate",
    "gate_code",
    "parts_figure",
    "reason",
]


# The Checkpoint page: what a file is, how much of its model it fills, what changed in it, and where two part.


ADDRESS = ("file", "against", "run", "epoch")
FILE_LABEL = "checkpoint, or its path below the served folder"
REMEMBER_FILES = "(file, against) => window.wb.remember({file, against})"
GATE_FIGURE = "wb-gate-figure"
QUIET: dict[str, Any] = {"show_progress": "hidden"}


def page() -> Page:
    """The page's entry in the rail."""
    question = "What is this file, does it fill its model, and where does it differ from another one?"
    return Page("checkpoint", "Checkpoint", question, build)


def chosen(context: Context, query: str) -> list[Any]:
    """File and file to compare with, as the address or the chosen epoch has them."""
    file, against, run, epoch = (json.loads(query) if query else None) or [None] * 4
    offered = files(context)
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
    checkpoint = context.registry.checkpoint(file_of(context, identity))
    return [
        sentence_html(summary(checkpoint)),
        facts_html(facts(checkpoint)),
        parts_figure(checkpoint),
        checkpoint.config_text or "# this file holds no config",
        tensor_sheet(checkpoint),
    ]


def loaded(context: Context, identity: str | None, remap: bool) -> list[Any]:
    """Sentence, figure and details of loading the file into its model, or why it cannot be loaded."""
    if not identity:
        return ["", gr.update(visible=False), ""]
    try:
        path = file_of(context, identity)
        report = gate(context, path, remap)
    except MISTAKES as mistake:
        return [reason(mistake), gr.update(visible=False), ""]
    download = Download("checkpoint", "load", json.dumps([identity, remap]))
    code = gate_code(context, path, remap)
    return report_updates(
        report, "", lambda found: details_html(download, found.table(), code, {GATE_FIGURE: ""})
    )


def shown(context: Context, section: str, state: str) -> Answer:
    """The report of loading; `state` holds file and remap as JSON."""
    identity, remap = json.loads(state)
    path = file_of(context, identity or "")
    report, code = gate(context, path, bool(remap)), gate_code(context, path, bool(remap))
    return Answer.of("Does the file fill its model?", report, code, [("checkpoint", path)])


def hashed(context: Context, identity: str | None) -> str:
    """The file's sha256, computed on request."""
    return context.registry.checkpoint(file_of(context, identity or "")).sha256()


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
    PortSection(context).build(file, against)
    with gr.Accordion("All tensors", open=False):
        tensors = gr.Dataframe(interactive=False, show_label=False, max_height=420)
    with gr.Accordion("Config inside the file (shown, never run)", open=False):
        config = gr.Code(language="python", show_label=False, interactive=False, max_lines=40)
    context.reports["checkpoint"] = functools.partial(shown, context)
    _events(context, file, against, remap, gate, section, [line, facts, parts, config, tensors])


def _controls(context: Context) -> tuple[gr.Dropdown, gr.Dropdown]:
    """The file, and the one to compare it with."""
    offered = files(context)
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
    opening, loading = LatestQuestion(), LatestQuestion()
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
