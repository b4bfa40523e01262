"""Any inspector as a page of its own: the knobs come from its Params, the answer from its Report."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.context import Context as Building

from apps.pages.controls import choice_names, knobs_for, named
from apps.pages.events import Looking
from apps.pages.frame import Page
from apps.pages.inspectors import answer, as_file, restored
from apps.pages.subject import SUBJECT, neighbour, subject_of
from apps.pages.subject_bar import SubjectBar, box_events, offered, subject_bar
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence
from workbench.core.report import Inspector
from workbench.inspectors import ALL, ROOMS, get

LOOK = "Look"
PARENTS = {
    "workbench.inspectors.sequence": "Rollout",
    "workbench.inspectors.grouping": "Grouping",
    "workbench.inspectors.conditioning": "Conditioning",
}
"""Room of inspectors -> the rail's entry that they stand under."""


def pages(parent: str = LOOK) -> list[Page]:
    """One page per inspector, in the order of `workbench.inspectors.ALL`.

    Args:
        parent: the rail's entry that they stand under: those of the rollout lab under Rollout, those of the
            tag lab under Grouping, those of the clinic under Conditioning, the others under Look.
    """
    return [page for page in map(_page, map(get, ALL)) if page.parent == parent]


def _page(inspector: Inspector) -> Page:
    return Page(
        path=f"look-{inspector.name.replace('_', '-')}",
        title=inspector.title,
        question=inspector.question,
        build=functools.partial(build, inspector=inspector),
        parent=PARENTS.get(ROOMS.get(inspector.name, ""), LOOK),
    )


def build(context: Context, inspector: Inspector) -> None:
    """Add the page's components and handlers."""
    bar = subject_bar(context)
    names = [f.name for f in dataclasses.fields(inspector.params)]
    with gr.Row(elem_classes="wb-work"):
        with gr.Column(scale=0, min_width=216, elem_classes="wb-knobs", visible=bool(names)):
            knobs = knobs_for(inspector.params)
        with gr.Column(scale=1, min_width=500):
            line = gr.HTML(elem_id="wb-answer", apply_default_css=False, js_on_load=None)
            figure = gr.Plot(show_label=False, container=False, elem_id="wb-figure")
            with gr.Row(elem_classes="wb-actions"):
                share, png, as_csv, as_json, copy = (
                    gr.Button(word, size="sm") for word in ("Copy link", "PNG", "CSV", "JSON", "Copy as code")
                )
            table = gr.Dataframe(
                interactive=False, show_label=False, max_height=420, elem_id="wb-table", visible=False
            )
            with gr.Accordion("The same in a notebook", open=False):
                code = gr.Code(language="python", show_label=False, interactive=False)
    state = gr.Textbox(visible="hidden", show_label=False)
    address = gr.Textbox(visible="hidden", show_label=False)
    inputs = [*bar.inputs, *knobs]
    offers = [knobs[names.index(name)] for name in choice_names(inspector.params)]
    outputs = [line, figure, table, code, address, *offers]
    keys = [*SUBJECT, *(f"k.{name}" for name in names)]

    compute = named(answer, context, inspector, params=inspector.params)
    settings: dict[str, Any] = {
        "show_progress": "minimal",
        "show_progress_on": [line],
        # What was answered before costs nothing; what is computed waits for its turn in apps.pages.inspectors.
        "concurrency_id": "look",
        "concurrency_limit": 16,
    }
    remember = "(told) => told && window.wb.remember(JSON.parse(told))"

    looking = Looking()
    changed = looking.on(
        [w.input for w in (bar.epoch, bar.decoder, bar.sample, *bar.box, *knobs)],  # type: ignore[attr-defined]
        compute, inputs=inputs, outputs=outputs, api_name=inspector.name, **settings,
    )  # fmt: skip
    changed.success(None, address, None, js=remember)

    page = Building.root_block
    if page is None:
        raise RuntimeError("a page is built inside gr.Blocks")
    query = f"() => JSON.stringify(window.wb.query({json.dumps(keys)}))"
    looking.after(
        page.load(
            functools.partial(restored, context, inspector), state, [*bar.linked, *knobs], js=query,
            api_name=f"{inspector.name}_restored", show_progress="hidden",
        )
    )  # fmt: skip
    for event in subject_events(context, bar, inspector.name):
        looking.after(event)
    for event in box_events(context, bar, inspector.name):
        looking.after(event)

    share.click(None, None, None, js="() => window.wb.copy(window.location.href, document.activeElement)")
    png.click(None, None, None, js=f"() => window.wb.picture('wb-figure', {json.dumps(inspector.name)})")
    copy.click(None, code, None, js="(text) => window.wb.copy(text, document.activeElement)")
    for kind, button in (("csv", as_csv), ("json", as_json)):
        payload = gr.Textbox(visible="hidden", show_label=False)
        button.click(
            named(as_file, context, inspector, kind, params=inspector.params), inputs, payload,
            api_name=f"{inspector.name}_{kind}", show_progress="hidden",
        ).success(
            None, payload, None, js=f"(text) => window.wb.save(text, '{inspector.name}.{kind}')"
        )  # fmt: skip


def subject_events(
    context: Context,
    bar: SubjectBar,
    name: str,
    beside: Callable[[Context, str, int, int], int] = neighbour,
) -> list[Any]:
    """Changes of the bar that change the bar itself: another run or set has other epochs and samples.

    Args:
        context: of this serving.
        bar: the page's.
        name: what the handlers' names begin with.
        beside: from data, sample and direction to the next sample.
    """

    def guarded(*values: Any) -> list[Any]:
        try:
            return offered(context, subject_of(context, *values, None, None, None, None, None))
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake

    def other_run(run: str) -> list[Any]:
        _, *rest = guarded(run, None, None, None, "")
        return rest

    def other_data(run: str, epoch: int, data: str, decoder: str) -> Any:
        return guarded(run, epoch, data, None, decoder)[bar.linked.index(bar.sample)]

    def step(by: int, data: str | None, sample: float | None) -> Any:
        if not data:  # the page is still being filled
            return gr.skip()
        try:
            return beside(context, data, int(sample or 0), by)
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), print_exception=False) from mistake

    walk: list[Component] = [bar.data, bar.sample]
    # What was chosen is not sent back: another may have been chosen meanwhile.
    return [
        Looking().on(
            [bar.run.input], other_run, inputs=bar.run, outputs=bar.linked[1:],  # type: ignore[attr-defined]
            api_name=f"{name}_run", show_progress="hidden",
        ),
        Looking().on(
            [bar.data.input], other_data,  # type: ignore[attr-defined]
            inputs=[bar.run, bar.epoch, bar.data, bar.decoder], outputs=bar.sample,
            api_name=f"{name}_data", show_progress="hidden",
        ),
        *(
            button.click(
                functools.partial(step, by), walk, bar.sample, api_name=f"{name}_{way}",
                show_progress="hidden",
            )
            for button, by, way in ((bar.back, -1, "back"), (bar.forth, 1, "forth"))
        ),
    ]  # fmt: skip
