"""The page's last section: a button for each experiment runs it as a job; its arms are compared."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.overfit.handlers import in_one_sentence
from apps.pages.conditioning.experimenting import Experimenting
from apps.pages.conditioning.wishes import Wish
from apps.pages.events import Looking
from apps.pages.frame import sentence_html
from apps.pages.report_section import sheet, untitled
from workbench.core.files import csv_text
from workbench.core.report import plain

if TYPE_CHECKING:
    from workbench.core.job import Job

LOOK_EVERY = 1.0
# A minute or two on a CPU.
STEPS, MOST = 40, 80
NOTHING = "choose a run with text above"


class Bench:
    """Handlers of the section."""

    def __init__(self, experimenting: Experimenting) -> None:
        self.experimenting = experimenting

    @in_one_sentence
    def run(
        self, wish: str = "", name: str = "", steps: float | None = None, most: float | None = None
    ) -> Any:
        """Start an experiment."""
        if not wish:
            raise ValueError(f"there is nothing to try yet: {NOTHING}")
        self.experimenting.begin(*_asked(wish, name, steps, most))
        return gr.Timer(active=True)

    def watch(
        self, wish: str = "", name: str = "", steps: float | None = None, most: float | None = None
    ) -> list[Any]:
        """Status, sentence, figure, table, timer, Cancel."""
        bare = [gr.update(visible=False), gr.update(value=None)]
        if not wish:
            return ["", "", *bare, gr.Timer(active=False), gr.update(visible=False)]
        asked = _asked(wish, name, steps, most)
        job = self.experimenting.job(*asked)
        # Looked at before what is found: the last look then comes after the end.
        alive = job is not None and job.alive
        report = self.experimenting.found(*asked)
        shown = ["", *bare]
        if report is not None:
            figure = gr.update(value=untitled(report), visible=True)
            shown = [sentence_html(report.summary()), figure, gr.update(value=sheet(report.table()))]
        doing = self.experimenting.doing.get(self.experimenting.key(*asked), "")
        return [_status(job, doing), *shown, gr.Timer(active=alive), gr.update(visible=alive)]

    @in_one_sentence
    def cancel(
        self, wish: str = "", name: str = "", steps: float | None = None, most: float | None = None
    ) -> None:
        """Stop at the next step."""
        if wish and (job := self.experimenting.job(*_asked(wish, name, steps, most))):
            job.cancel()

    @in_one_sentence
    def file(
        self, kind: str, wish: str = "", name: str = "", steps: float | None = None, most: float | None = None
    ) -> str:
        """The comparison as the text of a file."""
        report = self.experimenting.found(*_asked(wish, name, steps, most)) if wish else None
        if report is None:
            raise ValueError("there is nothing to save yet: run the experiment first")
        if kind == "json":
            return json.dumps(plain(report.to_json()), ensure_ascii=False, allow_nan=False)
        return csv_text(report.table())


def build(experimenting: Experimenting, wish: gr.Textbox) -> None:
    """Add the section's components and handlers."""
    from workbench.training.experiments import EXPERIMENTS

    bench = Bench(experimenting)
    gr.HTML(
        '<h2 id="cnd-experiments-head">Experiments<small>Short trainings from the same start, judged on the '
        "same images; the run beside gives the weights that all arms begin with</small></h2>",
        elem_classes="wb-section cnd-section", apply_default_css=False, js_on_load=None,
    )  # fmt: skip
    name = gr.Textbox("both-ways", visible="hidden", show_label=False)
    with gr.Row(elem_classes="cnd-experiments"):
        starts = {
            e.name: gr.Button(f"{e.name}\n{e.question}", elem_id=f"cnd-run-{e.name}", min_width=220)
            for e in EXPERIMENTS.values()
        }
    with gr.Row(elem_classes="wb-bar cnd-line cnd-trial"):
        steps = gr.Number(STEPS, label="steps per arm", precision=0, minimum=1, min_width=110)
        most = gr.Number(MOST, label="instances (0: all)", precision=0, minimum=0, min_width=110)
        stop = gr.Button("Cancel", min_width=90, scale=0, visible=False, elem_id="cnd-stop")
        png, as_csv, as_json = (gr.Button(word, min_width=60, scale=0) for word in ("PNG", "CSV", "JSON"))
    status, line = (
        gr.HTML(elem_id=f"cnd-experiments-{part}", apply_default_css=False, js_on_load=None)
        for part in ("status", "line")
    )
    figure = gr.Plot(
        show_label=False, container=False, visible=False, elem_id="cnd-experiments", elem_classes="cnd-figure"
    )
    with gr.Accordion("Values", open=False):
        table = gr.Dataframe(interactive=False, show_label=False, max_height=360)
    timer, asked = gr.Timer(LOOK_EVERY, active=False), [wish, name, steps, most]
    outputs: list[Component] = [status, line, figure, table, timer, stop]  # type: ignore[list-item]
    looking = Looking()
    for number, (chosen, button) in enumerate(starts.items()):
        # One of the buttons lends its name to HTTP clients, who say themselves which experiment they want.
        told: dict[str, Any] = {"api_visibility": "private"} if number else {"api_name": "experiment_run"}
        named = button.click(None, None, name, js=f"() => {json.dumps(chosen)}")
        looking.after(named.success(bench.run, asked, timer, show_progress="hidden", **told))
    # Another epoch or experiment is another comparison: what stands here is no longer its answer.
    looking.on(
        [timer.tick, wish.change, steps.input, most.input], bench.watch, inputs=asked, outputs=outputs,
        api_name="experiment_watch", show_progress="hidden",
    )  # fmt: skip
    stop.click(bench.cancel, asked, None, api_name="experiment_cancel", show_progress="hidden")
    png.click(None, None, None, js="() => window.wb.picture('cnd-experiments', 'experiment')")
    for kind, button in (("csv", as_csv), ("json", as_json)):
        payload = gr.Textbox(visible="hidden", show_label=False)
        button.click(
            lambda *values, kind=kind: bench.file(kind, *values), asked, payload,
            api_name=f"experiment_{kind}", show_progress="hidden",
        ).success(None, payload, None, js=f"(text) => window.wb.save(text, 'experiment.{kind}')")  # fmt: skip


def _asked(wish: str, name: str, steps: float | None, most: float | None) -> tuple[Wish, str, int, int]:
    return Wish.of_text(wish), name or "both-ways", int(steps or 0), int(most or 0)


def _status(job: Job | None, doing: str) -> str:
    """What runs, how far, how long; "" when nothing does."""
    if job is None or job.state == "done":
        return ""
    if job.state == "failed":
        return sentence_html(f"{job.title}: {job.error}", "error")
    if job.state == "cancelled":
        return '<div class="cnd-status">Cancelled; its button begins anew.</div>'
    left = job.seconds_left
    told = "waits for its turn" if job.state == "queued" else doing or "begins"
    told += f", {left:.0f} s left" if left is not None and left >= 1 else ""
    bar = f'<progress max="{max(1, job.total)}" value="{job.done}"></progress>'
    return f'<div class="cnd-status">{html.escape(f"{job.title}: {told}")}{bar}</div>'
