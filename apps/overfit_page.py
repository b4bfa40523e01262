"""The Overfit page: can this network learn one image, and if not, what prevents it?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import Context as Building

from apps.overfit.handlers import Handlers
from apps.overfit.own_photo import photo_section
from apps.overfit.views import FURTHEST
from apps.pages.events import Looking
from apps.pages.frame import Page
from apps.server.context import Context

STYLE = Path(__file__).parent / "overfit" / "overfit.css"

# Seconds between looks; a look that finds nothing new sends some hundred bytes.
LOOK_EVERY = 1.0


def page() -> Page:
    """The page's entry in the rail."""
    return Page("overfit", "Overfit", "Can it learn one image, and if not, what prevents it?", build)


def build(context: Context) -> None:
    """Add the page's components and handlers."""
    handlers = Handlers(context)
    gr.HTML(f"<style>{STYLE.read_text(encoding='utf-8')}</style>", apply_default_css=False, js_on_load=None)
    choices, start = _choices()
    data, config_training = choices[2], choices[-1]
    photo = photo_section(context, data)
    note = gr.HTML(elem_id="ovf-note", apply_default_css=False, js_on_load=None)
    status = gr.HTML(elem_id="wb-answer", apply_default_css=False, js_on_load=None)
    with gr.Row(elem_classes="ovf-buttons wb-bar"):
        buttons = [
            gr.Button(word, interactive=False)
            for word in ("Pause", "Step 1", "Step 10", "Resume", "Stop", "Snapshot")
        ]
        rate = gr.Number(1e-3, label="learning rate (paused)", min_width=130, scale=0)
        set_rate = gr.Button("Set", interactive=False)
        keypoint = gr.Dropdown(
            [FURTHEST], value=FURTHEST, label="keypoint", min_width=150, scale=0, allow_custom_value=True
        )
        share = gr.Button("Copy link")
        files = {kind: gr.Button(kind.upper(), min_width=50) for kind in ("csv", "json")}
    verdict = gr.HTML(elem_id="ovf-verdict", apply_default_css=False, js_on_load=None)
    cancel = gr.Button("Cancel the bisection", size="sm", visible=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=500):
            figure = gr.Plot(show_label=False, container=False, elem_id="wb-figure")
        with gr.Column(scale=5, min_width=400):
            picture = gr.HTML(elem_id="ovf-picture", apply_default_css=False, js_on_load=None)
    session, sent, query = (gr.Textbox("", visible="hidden", show_label=False) for _ in range(3))
    timer = gr.Timer(LOOK_EVERY, active=False)

    outputs: list[Component] = [
        status,
        figure,
        picture,
        verdict,
        *buttons,
        set_rate,
        cancel,
        timer,
        sent,
        start,
    ]  # type: ignore[list-item]
    watched: dict[str, Any] = {
        "inputs": [session, keypoint, sent], "outputs": outputs, "show_progress": "hidden",
        "concurrency_id": "overfit", "concurrency_limit": 4,
    }  # fmt: skip
    looking = Looking()
    looking.on([timer.tick, keypoint.input], handlers.watch, api_name="overfit_watch", **watched)

    root = Building.root_block
    if root is None:
        raise RuntimeError("a page is built inside gr.Blocks")
    restored_session = [session, sent, timer, keypoint, rate]

    restored = root.load(
        handlers.restored, query, [*restored_session, note, *choices], api_name="overfit_restored",
        js="() => JSON.stringify(window.wb.query(['session', 'run', 'data', 'sample']))",
        show_progress="hidden",
    )  # fmt: skip
    looking.after(restored)
    awaiting = Looking()
    awaiting.after(restored)
    awaited = awaiting.on(
        [*(choices[n].input for n in (1, 3, 5)), config_training.input, photo.clicks.change],
        handlers.awaited, inputs=[session, *choices[:6], config_training, *photo.inputs],
        outputs=[status, figure, picture], api_name="overfit_awaited", show_progress="hidden",
    )  # fmt: skip
    # A session that was started meanwhile is shown again as a whole, in the place of what it began with.
    looking.after(awaited.success(None, [session, sent], sent, js="(session, sent) => (session ? '' : sent)"))
    for event in photo.events:
        awaiting.after(event)
    started = start.click(
        handlers.start, [*choices, *photo.inputs], restored_session, api_name="overfit_start",
        show_progress_on=[status], concurrency_id="overfit start", concurrency_limit=2, trigger_mode="once",
    )  # fmt: skip
    started = started.success(
        lambda: ["", "", gr.skip()], None, [note, verdict, figure], api_visibility="private",
        show_progress="hidden",
    )  # fmt: skip
    looking.after(started.success(None, session, None, js="(session) => window.wb.remember({session})"))
    # A second Start would only be refused: the first look after the end gives it back.
    started.success(
        lambda: gr.update(interactive=False), None, start, api_visibility="private", show_progress="hidden"
    )
    other_family = Looking().on(
        [choices[0].input], handlers.family, inputs=[choices[0], choices[2]],
        outputs=[*choices[2:4], *choices[5:8]], api_name="overfit_family", show_progress="hidden",
    )  # fmt: skip
    awaiting.after(other_family)
    # The config's own values take the place of these.
    replaced = [choices[n] for n in (6, 7, 8, 9, 15, 16)]
    config_training.change(
        lambda own: [gr.update(interactive=not own)] * len(replaced), config_training, replaced,
        api_visibility="private", show_progress="hidden",
    )  # fmt: skip
    # Another set has other samples.
    awaiting.after(choices[2].input(None, None, choices[3], js="() => null"))

    def on(button: gr.Button, handler: Callable[..., None], name: str, *more: Component) -> None:
        visible: Any = {"api_name": name} if name else {"api_visibility": "private"}
        done = button.click(handler, [session, *more], None, show_progress="hidden", **visible)
        # What has ended no longer ticks; what was asked for may make it tick again.
        wake = {"api_visibility": "private", "show_progress": "hidden"}
        looking.after(done.success(lambda: gr.Timer(active=True), None, timer, **wake))  # type: ignore[arg-type]

    pause, step, steps, resume, stop, snapshot = buttons
    count = gr.Number(1, visible=False)
    on(pause, handlers.pause, "overfit_pause")
    on(step, handlers.step, "overfit_step", count)
    on(steps, functools.partial(handlers.step, count=10), "")
    on(resume, handlers.resume, "overfit_resume")
    on(stop, handlers.stop, "overfit_stop")
    on(snapshot, handlers.snapshot, "overfit_snapshot")
    on(set_rate, handlers.rate, "overfit_rate", rate)
    on(cancel, handlers.cancel, "overfit_cancel")
    share.click(None, None, None, js="() => window.wb.copy(window.location.href, document.activeElement)")
    payload = gr.Textbox(visible="hidden", show_label=False, elem_classes="ovf-payload")
    for kind, button in files.items():
        button.click(
            functools.partial(handlers.rows, kind=kind), session, payload, api_name=f"overfit_{kind}",
            show_progress="hidden",
        ).success(
            None, payload, None, js=f"(text) => window.wb.save(text, 'overfit.{kind}')"
        )  # fmt: skip


def _choices() -> tuple[list[Any], gr.Button]:
    """The widgets in the order of `Handlers.start`, and the button that starts."""
    from workbench.training.faults import FAULTS

    faults = [("none", ""), *((name, name) for name in FAULTS)]
    with gr.Row(elem_classes="wb-bar"):
        family = gr.Dropdown([], value=None, label="family", min_width=175, allow_custom_value=True)
        config = gr.Textbox(
            "", label="or config below the served folder (read, not run)", min_width=320, scale=2
        )
        data = gr.Dropdown([], value=None, label="data", min_width=150, allow_custom_value=True)
        sample = gr.Number(None, label="sample (first)", precision=0, minimum=0, min_width=100, scale=0)
        device = gr.Dropdown(
            ["cpu"], value="cpu", label="device", min_width=90, scale=0, allow_custom_value=True
        )
        start = gr.Button("Start", variant="primary", elem_id="ovf-start", min_width=90, scale=0)
    with gr.Row(elem_classes="wb-bar"):
        steps = gr.Number(200, label="steps", precision=0, min_width=80)
        rate = gr.Number(1e-3, label="learning rate", min_width=90)
        schedule = gr.Dropdown(
            ["constant", "cosine", "multistep"], value="constant", label="schedule", min_width=120
        )
        decay = gr.Number(0.0, label="weight decay", min_width=80)
        ema = gr.Number(0.0, label="EMA decay", min_width=80)
        plant = gr.Dropdown(faults, value="", label="plant a fault", min_width=110, allow_custom_value=True)
        every = gr.Number(0, label="pause every n steps", precision=0, minimum=0, min_width=90)
        falls = gr.Number(0.0, label="or if PCK falls by", min_width=95)
        wait = gr.Number(60.0, label="for at most, s", min_width=70)
        seed = gr.Number(0, label="seed", precision=0, min_width=60)
        warm_up = gr.Number(None, label="warm-up (default)", precision=0, minimum=0, min_width=120)
        clip = gr.Number(None, label="clip (default)", minimum=0, min_width=80)
        dropout = gr.Checkbox(True, label="dropout", min_width=80)
        config_training = gr.Checkbox(
            False, label="use the config's training", min_width=185, elem_id="ovf-config-training"
        )
    choices = [family, config, data, sample, device, steps, rate, schedule, decay, ema, plant]
    return [*choices, every, falls, wait, seed, warm_up, clip, dropout, config_training], start
