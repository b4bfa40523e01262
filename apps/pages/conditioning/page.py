"""The Conditioning page: what is wrong with neck, text and refiner of this network, and what does it cost?"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context as Building

from apps.pages.conditioning import experiments_section
from apps.pages.conditioning.examined import SECTIONS
from apps.pages.conditioning.experimenting import Experimenting
from apps.pages.conditioning.handlers import LIMITS, Handlers
from apps.pages.conditioning.sections import Section, section
from apps.pages.conditioning.wishes import ADDRESS, DEFAULT_LIMIT
from apps.pages.events import Looking
from apps.pages.frame import Page
from apps.server.context import Context

STYLE = Path(__file__).parents[1] / "static" / "conditioning.css"

# Seconds between looks at a job of half a minute.
LOOK_EVERY = 0.7


def page() -> Page:
    """The page's entry in the rail; the inspectors' own pages stand under the same one."""
    question = "What is wrong with neck, text and refiner, by evidence, and what does it cost?"
    return Page("conditioning", "Clinic", question, build, parent="Conditioning")


def build(context: Context) -> None:
    """Add the page's components and handlers."""
    handlers = Handlers(context)
    gr.HTML(f"<style>{STYLE.read_text(encoding='utf-8')}</style>", apply_default_css=False, js_on_load=None)
    bar, share, measure, cancel = _bar()
    status, why, verdict = (_html(name) for name in ("cnd-progress", "cnd-why", "cnd-card"))
    wish, address, sent, query = (gr.Textbox("", visible="hidden", show_label=False) for _ in range(4))
    with gr.Column(visible=False) as evidence:
        shown = [section(name) for name in SECTIONS]
        experiments_section.build(Experimenting(context), wish)
    timer = gr.Timer(LOOK_EVERY, active=False)

    outputs = [status, verdict, *(w for s in shown for w in s.outputs), timer, cancel, measure, sent]
    watched: dict[str, Any] = {
        "inputs": [wish, sent], "outputs": outputs, "show_progress": "hidden",
        "concurrency_id": "conditioning", "concurrency_limit": 4,
    }  # fmt: skip
    looking = Looking()
    looking.on([timer.tick], handlers.watch, api_name="conditioning_watch", **watched)
    starts: dict[str, Any] = {
        "outputs": [*bar, wish, address, timer, why, evidence], "show_progress": "hidden",
        "concurrency_id": "forward", "concurrency_limit": 2,
    }  # fmt: skip

    def then_look(event: Any) -> None:
        looking.after(
            event.success(None, address, None, js="(told) => told && window.wb.remember(JSON.parse(told))")
        )

    root = Building.root_block
    if root is None:
        raise RuntimeError("a page is built inside gr.Blocks")
    js = f"() => JSON.stringify(window.wb.query({json.dumps(list(ADDRESS))}))"
    then_look(root.load(handlers.restored, query, api_name="conditioning_restored", js=js, **starts))
    run, *others = bar
    beginning = Looking()
    then_look(
        beginning.on([w.input for w in others], handlers.begin, inputs=bar, api_name="conditioning", **starts)
    )
    # Another run has other epochs, and another run beside it: what is empty takes its default.
    beginning.after(run.input(None, None, others, js=f"() => Array({len(others)}).fill(null)"))
    looking.after(
        measure.click(
            handlers.again, wish, timer, api_name="conditioning_again", show_progress="hidden",
            concurrency_id="forward", concurrency_limit=2,
        )
    )  # fmt: skip
    cancel.click(handlers.cancel, wish, None, api_name="conditioning_cancel", show_progress="hidden")
    share.click(None, None, None, js="() => window.wb.copy(window.location.href, document.activeElement)")
    for one in shown:
        _keep(handlers, one, wish)


def _bar() -> tuple[list[Any], gr.Button, gr.Button, gr.Button]:
    """The widgets in the order of `Handlers.begin`, then Copy link, Measure, Cancel."""
    choice: dict[str, Any] = {"value": None, "allow_custom_value": True}
    with gr.Row(elem_classes="wb-bar cnd-line"):
        run = gr.Dropdown([], label="run", min_width=170, scale=2, **choice)
        epoch = gr.Dropdown([], label="epoch", min_width=130, **choice)
        data = gr.Dropdown([], label="data", min_width=140, **choice)
        limit = gr.Dropdown(
            LIMITS, value=DEFAULT_LIMIT, label="instances for AP", min_width=110, scale=0,
            allow_custom_value=True,
        )  # fmt: skip
        against = gr.Dropdown([], label="curves beside those of", min_width=170, scale=2, **choice)
        share = gr.Button("Copy link", min_width=90, scale=0)
        measure = gr.Button("Measure", min_width=90, scale=0, visible=False, elem_id="cnd-measure")
        cancel = gr.Button("Cancel", min_width=90, scale=0, visible=False, elem_id="cnd-cancel")
    return [run, epoch, data, limit, against], share, measure, cancel


def _keep(handlers: Handlers, one: Section, wish: gr.Textbox) -> None:
    """PNG, CSV, JSON and code of one section."""
    one.png.click(
        None, None, None, js=f"() => window.wb.picture('cnd-{one.name}', 'conditioning-{one.name}')"
    )
    for kind, (button, payload) in one.files.items():
        button.click(
            functools.partial(handlers.file, one.name, kind), wish, payload,
            api_name=f"conditioning_{one.name}_{kind}", show_progress="hidden",
        ).success(
            None, payload, None, js=f"(text) => window.wb.save(text, 'conditioning-{one.name}.{kind}')"
        )  # fmt: skip
    one.copy.click(None, one.code, None, js="(text) => window.wb.copy(text, document.activeElement)")


def _html(name: str) -> gr.HTML:
    return gr.HTML(elem_id=name, apply_default_css=False, js_on_load=None)
