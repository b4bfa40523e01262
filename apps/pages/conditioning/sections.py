"""One part of the evidence on the Conditioning page: question, sentence, figure, table, files and code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.conditioning.wishes import ALL
from apps.pages.frame import sentence_html
from apps.pages.report_section import sheet, text_of, untitled
from workbench.core.report import Report

if TYPE_CHECKING:
    from apps.pages.conditioning.examined import Examined
    from apps.pages.conditioning.wishes import Wish

QUESTIONS: dict[str, tuple[str, str]] = {
    "trends": ("Curves", "Do AP and AR change in opposite directions?"),
    "ranking": ("Ranking or localisation", "AP of the same keypoints under refined, raw and perfect scores"),
    "paths": ("Training and inference", "The same weights and input, tap by tap"),
    "effect": (
        "Effect of the condition",
        "Does it change anything, in training and in predict?",
    ),
    "film": ("γ and β", "What do scale and shift do to the features?"),
    "epochs": ("γ, β and gate over training", "Do they ever differ between images?"),
    "features": ("Features", "How much is left after conditioning?"),
    "refiner": ("Refiner", "What does one uncertain keypoint do to the scores of the others?"),
    "parts": ("With and without", "What does each part cost or give?"),
    "gradients": ("Gradients", "Which parts does the training loss reach?"),
    "progress": (
        "Movement of the weights",
        "How far from the common start, against the other run?",
    ),
    "text": (
        "Sentences of the keypoints",
        "Do they distinguish the keypoints? The nearest of each in the table",
    ),
    "species": ("Sentences of the subjects", "Does naming the species say anything about the image?"),
}
"""Section -> title and question."""

ALONE = {
    "paths": "paths", "film": "film", "features": "features-kept", "refiner": "refined-scores",
}  # fmt: skip
"""Section -> page of its inspector, which asks it of one sample."""

OUTPUTS = 4
"""How many values `told` gives."""


@dataclass(frozen=True)
class Section:
    """The widgets of one section."""

    name: str
    line: gr.HTML
    figure: gr.Plot
    table: gr.Dataframe
    code: gr.Code
    png: gr.Button
    files: dict[str, tuple[gr.Button, gr.Textbox]]
    copy: gr.Button

    @property
    def outputs(self) -> list[Component]:
        """In the order of `told`."""
        return [self.line, self.figure, self.table, self.code]  # type: ignore[list-item]


def section(name: str) -> Section:
    """Add one section to the page."""
    title, question = QUESTIONS[name]
    link = ""
    if name in ALONE:
        link = f' <a data-page="/look-{ALONE[name]}" href="/look-{ALONE[name]}">one sample alone</a>'
    gr.HTML(
        f'<h2 id="cnd-{name}-head">{title}<small>{question}{link}</small></h2>',
        elem_classes="wb-section cnd-section", apply_default_css=False, js_on_load=None,
    )  # fmt: skip
    line = gr.HTML(elem_id=f"cnd-{name}-line", apply_default_css=False, js_on_load=None)
    figure = gr.Plot(
        show_label=False, container=False, visible=False, elem_id=f"cnd-{name}", elem_classes="cnd-figure"
    )
    with gr.Row(elem_classes="wb-actions"):
        png = gr.Button("PNG", size="sm")
        files = {
            kind: (gr.Button(kind.upper(), size="sm"), gr.Textbox(visible="hidden", show_label=False))
            for kind in ("csv", "json")
        }
        copy = gr.Button("Copy as code", size="sm")
    with gr.Accordion("Values, and the same in a notebook", open=False):
        table = gr.Dataframe(interactive=False, show_label=False, max_height=360)
        code = gr.Code(language="python", show_label=False, interactive=False)
    return Section(name, line, figure, table, code, png, files, copy)


def told(examined: Examined, wish: Wish, name: str) -> list[Any]:
    """Sentence, figure, table, code of one section."""
    found = examined.section(wish, name)
    if not isinstance(found, Report):
        waiting = "waits for the passes over the set" if name in ("ranking", "parts") else "is being examined"
        line = sentence_html(found if isinstance(found, str) else f"… {waiting}", "why")
        return [line, gr.update(visible=False), gr.update(value=None), code_of(examined, wish, name)]
    return [
        sentence_html(found.summary()),
        gr.update(value=untitled(found), visible=True),
        gr.update(value=sheet(found.table())),
        code_of(examined, wish, name),
    ]


def as_file(examined: Examined, wish: Wish, name: str, kind: str) -> str:
    """A section's report as the text of a JSON or CSV file.

    Raises:
        ValueError: it is not made yet, or cannot be.
    """
    found = examined.section(wish, name)
    if not isinstance(found, Report):
        raise ValueError(f"{QUESTIONS[name][0]}: {found or 'not examined yet, wait for the job above'}")
    return text_of(found, kind)


_ASK = {
    "paths": ("from workbench.inspectors.conditioning import paths", "paths.compute(looked, paths.Params())"),
    "effect": (
        "from workbench.inspectors.conditioning.evidence import condition_effect",
        "condition_effect(looked)",
    ),
    "film": ("from workbench.inspectors.conditioning import film", "film.compute(looked, film.Params())"),
    "features": (
        "from workbench.inspectors.conditioning import features_kept",
        "features_kept.compute(looked, features_kept.Params())",
    ),
    "refiner": (
        "from workbench.inspectors.conditioning import refined_scores",
        "refined_scores.compute(looked, refined_scores.Params())",
    ),
    "gradients": (
        "from workbench.inspectors.conditioning.evidence import gradient_groups",
        "gradient_groups(looked)",
    ),
    "ranking": (
        "from workbench.inspectors.conditioning.ablation import ranking",
        "ranking(found, pose_set)",
    ),
    "parts": ("from workbench.inspectors.conditioning.ablation import ablation", "ablation(found)"),
    "text": ("from workbench.text.vectors import similarity", "similarity(model.text)"),
    "species": ("from workbench.text.vectors import similarity", 'similarity(model.text, "subjects")'),
}


def code_of(examined: Examined, wish: Wish, name: str) -> str:
    """Python that makes the same report in a notebook."""
    from apps.pages.code import opening_model, opening_of, path_literal
    from apps.pages.conditioning.examined import SAMPLES
    from workbench.inspectors.conditioning.training_log import logs_of

    context = examined.context
    run = context.registry.run(wish.run)
    if name == "trends":
        folders = [context.registry.run(i).folder for i in (wish.run, wish.against) if i]
        curves = ", ".join(f"curve_of(Path({path_literal(folder)}))" for folder in folders if logs_of(folder))
        return (
            "from pathlib import Path\n\n"
            "from workbench.inspectors.conditioning.training_log import Trends\n"
            "from workbench.inspectors.conditioning.training_log import curve_of\n\n"
            f"Trends(({curves},))"
        )
    if name == "progress":
        return _progress_code(examined, wish)
    imports, opening = opening_of(context, wish.data)
    start = f"{imports}\nfrom workbench.inspectors.conditioning.passes import several, spread\n"
    start += "from workbench.models import open_model\nfrom workbench.core.run import run\n"
    if name == "epochs":
        files = ", ".join(path_literal(e.path) for e in run.epochs)
        opened = opening_model(context, "file")
        return (
            f"{start}from workbench.inspectors.conditioning import film\n"
            "from workbench.inspectors.conditioning.over_epochs import over_epochs\n\n"
            f"samples = several({opening}, {SAMPLES})\nloaded = [{opened} for file in ({files},)]\n"
            "runs = [run(one.model, samples, title=one.title) for one in loaded]\n"
            "over_epochs([film.compute(looked, film.Params()) for looked in runs])"
        )
    ask, call = _ASK[name]
    opened = opening_model(context, path_literal(run.epochs[wish.epoch].path))
    if name in ("text", "species"):
        return f"{ask}\nfrom workbench.models import open_model\n\nmodel = {opened}.model\n{call}"
    lines = [start + ask, "", f"pose_set = {opening}", f"model = {opened}.model"]
    if "found" in call:
        limit = "None" if wish.limit == ALL else wish.limit
        lines.insert(1, "from workbench.inspectors.conditioning.ablation import predicted")
        lines.append(f"found = predicted(model, pose_set, spread(pose_set, {limit}))")
    else:
        lines.append(f"looked = run(model, several(pose_set, {SAMPLES}))")
    return "\n".join([*lines, call])


def _progress_code(examined: Examined, wish: Wish) -> str:
    from apps.pages.code import path_literal

    registry = examined.context.registry
    epochs, base = (
        ", ".join(f"Path({path_literal(e.path)})" for e in registry.run(name).epochs) if name else ""
        for name in (wish.run, wish.against)
    )
    own = path_literal(registry.epoch(wish.run, wish.epoch).path)
    return (
        "from pathlib import Path\n\n"
        "from workbench.checkpoints import open_checkpoint\n"
        "from workbench.inspectors.conditioning.weights import read_other_files\n\n"
        f"read_other_files(open_checkpoint(Path({own})), [{epochs}], [{base}]).progress"
    )
