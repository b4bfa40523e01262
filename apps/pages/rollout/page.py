"""The Rollout page: what does a sequence model lose when it has to read its own answers, early and late?"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import Context as Building

from apps.pages.events import Looking
from apps.pages.frame import Page
from apps.pages.rollout.handlers import FIRST, Handlers
from apps.pages.rollout.lab import QUESTIONS
from apps.pages.rollout.sections import Section, section
from apps.pages.rollout.wishes import ADDRESS
from apps.server.context import Context

STYLE = Path(__file__).parents[1] / "static" / "rollout.css"

# Seconds between looks at a job of a few seconds.
LOOK_EVERY = 0.6
NORMALISERS = ["longer side", "diagonal", "root of area"]


def page() -> Page:
    """The page's entry in the rail; the inspectors' own pages stand under the same one."""
    question = "What does a sequence model lose when it has to read its own answers, early and late?"
    return Page("rollout", "Two epochs", question, build, parent="Rollout")


def build(context: Context) -> None:
    """Add the page's components and handlers."""
    handlers = Handlers(context)
    gr.HTML(f"<style>{STYLE.read_text(encoding='utf-8')}</style>", apply_default_css=False, js_on_load=None)
    bar, back, forth, share, cancel = _bar()
    status, why, answer = _html("rol-status"), _html("rol-why"), _html("wb-answer")
    with gr.Column() as below:
        facts = _html("rol-facts")
        asked = [section(question) for question in QUESTIONS]
    wish, address, sent, query = (gr.Textbox("", visible="hidden", show_label=False) for _ in range(4))
    timer = gr.Timer(LOOK_EVERY, active=False)

    begun = [*bar, wish, address, timer, why, status, below]
    watched: dict[str, Any] = {
        "inputs": [wish, sent],
        "outputs": [status, answer, facts, *(w for s in asked for w in s.outputs), timer, cancel, sent],
        "show_progress": "hidden", "concurrency_id": "rollout", "concurrency_limit": 4,
    }  # fmt: skip
    looking = Looking()
    looking.on([timer.tick], handlers.watch, api_name="rollout_watch", **watched)
    remember = "(told) => told && window.wb.remember(JSON.parse(told))"
    starts: dict[str, Any] = {
        "outputs": begun, "show_progress": "hidden", "concurrency_id": "forward", "concurrency_limit": 2,
    }  # fmt: skip

    def then_look(event: Any) -> None:
        looking.after(event.success(None, address, None, js=remember))

    root = Building.root_block
    if root is None:
        raise RuntimeError("a page is built inside gr.Blocks")
    js = f"() => JSON.stringify(window.wb.query({json.dumps(list(ADDRESS))}))"
    then_look(root.load(handlers.restored, query, api_name="rollout_restored", js=js, **starts))
    run, epoch_a, epoch_b, data, sample, *_ = bar
    beginning = Looking()
    then_look(
        beginning.on(
            [w.input for w in (epoch_a, epoch_b, *bar[4:])], handlers.begin, inputs=bar, api_name="rollout",
            **starts,
        )
    )  # fmt: skip
    # Another run has other epochs and samples, another set other samples: what is empty takes its default.
    for chosen, others in ((run, bar[1:]), (data, bar[4:])):
        emptied = f"() => Array({len(others)}).fill(null)"
        beginning.after(chosen.input(None, None, others, js=emptied))
    for button, by, name in ((back, -1, "back"), (forth, 1, "forth")):
        walked = button.click(
            functools.partial(handlers.walk, by), [data, sample], sample, api_name=f"rollout_{name}",
            show_progress="hidden",
        )  # fmt: skip
        beginning.after(walked)
    cancel.click(handlers.cancel, wish, None, api_name="rollout_cancel", show_progress="hidden")
    share.click(None, None, None, js="() => window.wb.copy(window.location.href, document.activeElement)")
    for one in asked:
        _keep(handlers, one, wish)
    with below:
        _schedules(handlers, wish)
        _bisection(handlers, wish)


def _bar() -> tuple[list[Any], gr.Button, gr.Button, gr.Button, gr.Button]:
    """The widgets in the order of `Handlers.begin`, then back, forth, Copy link, Cancel."""
    choice: dict[str, Any] = {"value": None, "allow_custom_value": True}
    with gr.Row(elem_classes="wb-bar"):
        run = gr.Dropdown([], label="run", min_width=190, **choice)
        epoch_a = gr.Dropdown([], label="epoch A", min_width=130, **choice)
        epoch_b = gr.Dropdown([], label="epoch B", min_width=130, **choice)
        data = gr.Dropdown([], label="data", min_width=140, **choice)
        back = gr.Button("‹", min_width=34, scale=0, elem_id="rol-back")
        sample = gr.Number(None, label="sample", precision=0, minimum=0, min_width=112, scale=0)
        forth = gr.Button("›", min_width=34, scale=0, elem_id="rol-forth")
        keypoint = gr.Dropdown([FIRST], label="keypoint", min_width=130, **choice)
    with gr.Row(elem_classes="wb-bar rol-line"):
        support = gr.Number(
            None, label="support", precision=0, minimum=0, min_width=175, scale=0,
            placeholder="the sample itself",
        )  # fmt: skip
        threshold = gr.Number(0.2, label="PCK: closer than", minimum=0, step=0.05, min_width=110, scale=0)
        normaliser = gr.Dropdown(
            NORMALISERS, value=NORMALISERS[0], label="share of the box's", min_width=150, scale=0
        )
        share = gr.Button("Copy link", min_width=90, scale=0)
        cancel = gr.Button("Cancel", min_width=90, scale=0, visible=False, elem_id="rol-cancel")
    bar = [run, epoch_a, epoch_b, data, sample, support, keypoint, threshold, normaliser]
    return bar, back, forth, share, cancel


def _keep(handlers: Handlers, one: Section, wish: gr.Textbox) -> None:
    """PNG, CSV, JSON and code of one section."""
    for letter, button in zip("AB", one.pngs, strict=True):
        holder = f"rol-{one.question}-{letter}"
        button.click(None, None, None, js=f"() => window.wb.picture('{holder}', '{one.question}-{letter}')")
    for kind, (button, payload) in one.files.items():
        button.click(
            functools.partial(handlers.file, one.question, kind), wish, payload,
            api_name=f"rollout_{one.question}_{kind}", show_progress="hidden",
        ).success(
            None, payload, None, js=f"(text) => window.wb.save(text, 'rollout-{one.question}.{kind}')"
        )  # fmt: skip
    one.copy.click(None, one.code, None, js="(text) => window.wb.copy(text, document.activeElement)")


def _schedules(handlers: Handlers, wish: gr.Textbox) -> None:
    """Scheduled sampling: trained here on request, because it takes its time."""
    gr.HTML(
        '<h2 id="rol-schedules">Scheduled sampling<small>Which way of teaching closes the gap? '
        "Epoch A learns this sample on, with each schedule from the same weights.</small></h2>",
        elem_classes="wb-section rol-section", apply_default_css=False, js_on_load=None,
    )  # fmt: skip
    with gr.Row(elem_classes="wb-bar rol-line"):
        steps = gr.Number(60, label="steps of each", precision=0, minimum=4, min_width=110, scale=0)
        rate = gr.Number(1e-3, label="learning rate", min_width=110, scale=0)
        start = gr.Button("Train with each schedule", min_width=190, scale=0, elem_id="rol-train")
        stop = gr.Button("Cancel", min_width=90, scale=0, visible=False, elem_id="rol-stop")
        as_csv = gr.Button("CSV", min_width=60, scale=0)
        png = gr.Button("PNG", min_width=60, scale=0)
    status, line = _html("rol-schedules-status"), _html("rol-schedules-line")
    figure = gr.Plot(
        show_label=False, container=False, visible=False, elem_id="rol-schedules-figure",
        elem_classes="rol-figure",
    )  # fmt: skip
    with gr.Accordion("Values", open=False):
        table = gr.Dataframe(interactive=False, show_label=False, max_height=360)
    timer, asked = gr.Timer(LOOK_EVERY, active=False), [wish, steps, rate]
    outputs: list[Component] = [status, line, figure, table, timer, stop]  # type: ignore[list-item]
    begun = start.click(
        handlers.train, asked, timer, api_name="rollout_train", concurrency_id="forward",
        concurrency_limit=2, show_progress="hidden",
    )  # fmt: skip
    looking = Looking()
    looking.after(begun)
    # Another epoch, sample or number of steps is another training: what stands here is no longer its answer.
    looking.on(
        [timer.tick, wish.change, steps.input, rate.input], handlers.taught, inputs=asked, outputs=outputs,
        api_name="rollout_taught", show_progress="hidden",
    )  # fmt: skip
    stop.click(handlers.stop, asked, None, api_name="rollout_stop", show_progress="hidden")
    payload = gr.Textbox(visible="hidden", show_label=False, elem_classes="rol-payload")
    as_csv.click(handlers.training_file, asked, payload, api_name="rollout_schedules_csv").success(
        None, payload, None, js="(text) => window.wb.save(text, 'rollout-schedules.csv')"
    )
    png.click(None, None, None, js="() => window.wb.picture('rol-schedules-figure', 'rollout-schedules')")


def _bisection(handlers: Handlers, wish: gr.Textbox) -> None:
    """The overfit bisector on what epoch B's code would do: on request, because it trains."""
    gr.HTML(
        '<h2 id="rol-bisection">Which switch?<small>Epoch B\'s network learns this sample anew from first '
        "weights, its defects on; then one switch at a time is taken away.</small></h2>",
        elem_classes="wb-section rol-section", apply_default_css=False, js_on_load=None,
    )  # fmt: skip
    with gr.Row(elem_classes="wb-bar rol-line"):
        steps = gr.Number(400, label="steps of each attempt", precision=0, minimum=4, min_width=150, scale=0)
        start = gr.Button("Learn anew and bisect", min_width=190, scale=0, elem_id="rol-learn")
        stop = gr.Button("Cancel", min_width=90, scale=0, visible=False, elem_id="rol-unlearn")
    status, answer = _html("rol-bisection-status"), _html("rol-bisection-card")
    timer, asked = gr.Timer(LOOK_EVERY, active=False), [wish, steps]
    outputs: list[Component] = [status, answer, timer, stop]  # type: ignore[list-item]
    begun = start.click(
        handlers.learn, asked, timer, api_name="rollout_learn", concurrency_id="forward",
        concurrency_limit=2, show_progress="hidden",
    )  # fmt: skip
    looking = Looking()
    looking.after(begun)
    looking.on(
        [timer.tick, wish.change, steps.input], handlers.learned, inputs=asked, outputs=outputs,
        api_name="rollout_learned", show_progress="hidden",
    )  # fmt: skip
    stop.click(handlers.unlearn, asked, None, api_name="rollout_unlearn", show_progress="hidden")


def _html(name: str) -> gr.HTML:
    return gr.HTML(elem_id=name, apply_default_css=False, js_on_load=None)
