"""The Codecs page: one output read in every way, arrows between two of them, error maps of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.codecs import matrices as states
from apps.pages.codecs.matrices import (
    ADDRESS,
    ALL,
    BAR,
    BEST,
    LIMITS,
    CodecState,
    ErrorMaps,
    Matrices,
    decoding_runs,
)
from apps.pages.controls import NO, YES
from apps.pages.engine import Controls, add_link_button
from apps.pages.epoch_page import EpochPage
from apps.pages.frame import sentence_html
from apps.pages.job_sections import JobSection, WorkSection
from apps.pages.links import word_of_link
from apps.pages.report_section import literal, naming_of, opening_model, opening_of, path_literal
from apps.pages.sections import control_row
from workbench.core.plain_text import escaped
from workbench.core.report import signed_text
from workbench.evaluation.bootstrap import no_interval_text

if TYPE_CHECKING:
    from apps.server.context import Context
    from apps.server.folders import RunFolder
    from workbench.core.report import Report
    from workbench.evaluation.codecs import CodecMatrix


QUESTIONS: dict[str, tuple[str, str]] = {
    "matrix": (
        "Every way to read the outputs",
        "AP of each decoder, flip test and score rule, from one forward pass; * marks a difference from the "
        "model's own reading whose 95 % interval excludes 0",
    ),
    "arrows": ("Where keypoints move", "One instance, from the model's own reading to another one"),
}
"""Section -> title and question."""


class CodecsPage(EpochPage[CodecState]):
    """Codec matrix of one epoch of one run, and the encode-decode error of any size."""

    path, prefix, title, parent = "codecs", "cod", "Codecs", ""
    question = (
        "Which decoder, flip test and score rule are best, and how much error does the codec alone add?"
    )
    address, sections, values = ADDRESS, tuple(QUESTIONS), BAR
    questions, limits, state_type = QUESTIONS, LIMITS, CodecState
    waiting = dict.fromkeys(QUESTIONS, "waits for the predictions")
    overview_ids = ("wb-answer",)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.work = self.matrices = Matrices(context)

    def add_controls(self) -> Controls:
        with control_row():
            run, epoch, data, limit = self.add_subject("images")
            flip = gr.Dropdown(["no", "yes"], value="no", label="flip test", min_width=90, scale=0)
            against = gr.Dropdown(
                [BEST], value=None, label="arrows to", min_width=200, scale=2, allow_custom_value=True
            )
            add_link_button()
        inputs = [run, epoch, data, limit, flip, against]
        return Controls(inputs, {run: [epoch, data, against], data: [against]})

    def job_sections(self) -> Sequence[JobSection]:
        return (ErrorMapSection(self.context),)

    def values_from_address(self, words: list[Any]) -> list[Any]:
        given = dict(zip(self.address, words, strict=True))
        given["flip"] = word_of_link("flip", given["flip"], (*YES, *NO), "false")
        return super().values_from_address(list(given.values()))

    def state_from(self, values: Sequence[Any]) -> CodecState:
        return states.state_of(self.context, *values)

    def address_of(self, state: CodecState) -> dict[str, Any]:
        more = {"flip": "true" if state.flip else None, "against": state.against or None}
        return {**super().address_of(state), **more}

    def choices(self, state: CodecState, bare: bool = False) -> list[Any]:
        return [
            *super().choices(state, bare),
            gr.update(value="yes" if state.flip else "no"),
            gr.update(choices=[BEST, *self._names(state, bare)], value=state.against or BEST),
        ]

    def _names(self, state: CodecState, bare: bool) -> list[str]:
        """Names of the variants that arrows can be drawn to: the readings, under the own scores."""
        from workbench.evaluation.codecs.ways import own_way, ways_for

        if bare:
            return [state.against] if state.against else []
        model = self.context.registry.model(state.run, state.epoch, state.data).model
        own = own_way(model, state.flip)
        return [way.name(own) for way in ways_for(model, own)[0][1:] if way.scores == own.scores]

    def complete(self, state: CodecState) -> bool:
        return self.matrices.result(state) is not None

    def overview(self, state: CodecState) -> list[str]:
        found = self.matrices.result(state)
        return [""] if found is None else [verdict_html(found)]

    def progress_of(self, state: CodecState, section: str) -> Any:
        return self.complete(state)

    def found(self, state: CodecState, section: str) -> Report | str | None:
        """The matrix or its arrows; the reason why there are none; None while it is computed."""
        from workbench.evaluation.codecs import Moves

        found = self.matrices.result(state)
        if found is None or section == "matrix":
            return found
        names = [v.name for v in found.variants]
        if state.against and state.against not in names:
            return f"there is no variant {state.against!r} of this model; choose one above"
        best = found.best
        name = state.against or (best.name if best is not None else "")
        return Moves(found, name) if name else "no instance counts, so no variant is best"

    def code(self, state: CodecState, section: str) -> str:
        return code_of(self.context, state, section)

    def able_runs(self) -> list[RunFolder]:
        return decoding_runs(self.context)


def verdict_html(found: CodecMatrix) -> str:
    """What to do, in one line; findings and their fixes below it."""
    own, best = found.own, found.best
    if best is None:
        return sentence_html(found.summary(), "why")
    strict = found.best_interval
    doubt = "the interval includes 0"
    if strict is not None and not strict.measured:
        doubt = no_interval_text(strict.units)
    answer = {
        "own": (
            f"Keep the model's own reading, {own.name}: none of {len(found.rivals)} others has a higher AP."
        ),
        "within": (
            f"Keep the model's own reading, {own.name}: {best.name} has "
            f"{signed_text(best.ap - own.ap)} AP, and "
            f"{doubt}."
        ),
        "better": f"Read the outputs with {best.name}: AP {own.ap:.3f} becomes {best.ap:.3f}.",
    }[found.verdict]
    items = "".join(
        f'<li data-testid="codec-finding"><b>{escaped(one.cause)}</b>: {escaped(one.evidence)}. '
        f"<i>{escaped(one.fix)}</i></li>"
        for one in found.to_findings()
    )
    listed = f'<ul class="cod-findings">{items}</ul>' if items else ""
    return f'<div data-testid="codec-verdict">{sentence_html(answer)}{listed}</div>'


def code_of(context: Context, state: CodecState, section: str) -> str:
    """Python that makes the same report in a notebook."""
    imports, opening = opening_of(context, state.data)
    epoch = context.registry.epoch(state.run, state.epoch)
    opened = opening_model(context, path_literal(epoch.path))
    naming = naming_of(context, state.run, state.epoch, state.data, "pose_set")
    ids = "" if state.limit == ALL else f", pose_set.first_images({state.limit})"
    flip = ", flip=True" if state.flip else ""
    title = literal(f"{context.registry.run(state.run).title}, {epoch.label}")
    lines = [
        imports,
        "from workbench.evaluation import protocol_of_loaded",
        "from workbench.evaluation.codecs import codec_matrix",
        "from workbench.evaluation.protocol import judged_by",
        "from workbench.models import open_model",
        "",
        f"pose_set = {opening}",
        f"opened = {opened}{naming}",
        "pose_set = judged_by(pose_set, opened.model.skeleton)",
        f"rules = protocol_of_loaded(opened{flip})",
        f"matrix = codec_matrix(opened.model, pose_set{ids}{flip}, protocol=rules, title={title})",
        "matrix" if section == "matrix" else f"matrix.arrows({state.against!r})",
    ]
    return "\n".join(lines)


# Encoding and decoding alone, at sizes that the user gives.


class ErrorMapSection(WorkSection):
    """The encode-decode error of every codec at one size."""

    name, title = "errors", "Encoding and decoding alone"
    question = (
        "How much error do encoding and decoding alone add? Over the whole input and at its border, with the "
        "highest AP that each codec allows; sizes are width x height, such as 192x256"
    )
    handlers = ("codecs_measure", "codecs_measured", "codecs_unmeasure")

    def __init__(self, context: Context) -> None:
        self.work = ErrorMaps(context)

    def add_fields(self) -> list[Component]:
        fields = {
            "input, px": "the run's",
            "heatmap, cells": "the run's",
            "σ, cells": "the run's",
            "SimCC bins per px": "2",
            "person's box, px": "100x200",
        }
        components: list[Component] = []
        for label, placeholder in fields.items():
            components.append(gr.Textbox("", label=label, placeholder=placeholder, min_width=130, scale=0))
        return components

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        return {gr.Button("Measure", min_width=110, scale=0, elem_id="cod-measure"): ()}

    def arguments(self, state: str, *values: Any) -> tuple[Any, ...]:
        return CodecState.of_text(state), *values
