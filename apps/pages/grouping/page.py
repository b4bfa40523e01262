"""The Grouping page: one image's output grouped by other rules, step by step, and AP on the set."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from gradio.components import Component

from apps.pages.controls import BAR, LatestQuestion, choices_of, hints_of, knob, named, offer, params_from
from apps.pages.engine import DeclaredPage
from apps.pages.frame import sentence_html
from apps.pages.grouping.set_evaluation import SetEvaluations, SetRequest, card_html, figures_html
from apps.pages.inspectors import actions_html, add_file_handlers, add_question, address_asked, code_block
from apps.pages.inspectors import restored as look_restored
from apps.pages.job_sections import QUIET
from apps.pages.report_section import report_code, untitled
from apps.pages.sections import (
    UPDATE_SECONDS,
    add_style,
    control_row,
    hidden_text,
    html_block,
    one_sentence_errors,
    query_js,
    root_block,
)
from apps.pages.subject import (
    NO_BOX,
    SUBJECT,
    TAGS,
    address_of,
    run_of,
    runs_of,
    subject_bar,
    subject_of,
    subject_values,
)
from apps.server.context import Context
from apps.server.encoding import sent_json, sent_words
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable, Run
from workbench.core.inspector import field_descriptions
from workbench.core.plain_text import escaped
from workbench.figures.drawing import person_colour
from workbench.inspectors.grouping import grouping_steps, tag_values
from workbench.inspectors.grouping.replay import (
    EVERYBODY,
    LAST,
    PictureParams,
    Replay,
    grouping_model,
    replayed,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.core.report import Report
    from workbench.decoding.grouping import JointStep
    from workbench.inspectors.grouping.grouping_steps import GroupingSteps
    from workbench.inspectors.grouping.replay import Replay


# More do not fit a row; the CSV has all of them.
MOST = 10

_WORDS = {"joined": "joined", "new": "new", "overwrote": "over", "dropped": "dropped"}


def strip_html(replay: Replay, drawn: tuple[int, ...]) -> str:
    """The table of all steps; those after the one shown are pale, and detections of people not drawn."""
    head = "".join(
        f"<th>{word}</th>"
        for word in (
            "",
            "keypoint",
            "detections: heatmap value, tag, whom they joined",
            "tag distance to each person so far",
        )
    )
    rows = [_row(replay, number, step, drawn) for number, step in enumerate(replay.steps, 1)]
    near = f"{2 * replay.settings.tag_threshold:g}"
    legend = (
        "In the last column each row is a detection and each column a person found so far, by number. A cell "
        "is the distance between the detection's tag and the person's mean tag: full colour at 0, none from "
        f"{near} on (twice the tag threshold). Framed: the person that the detection joined. Pointing at a "
        "cell shows its cost: detections are assigned so that the sum of the costs is lowest."
    )
    return (
        f'<p class="grp-legend">{legend}</p><div class="grp-scroll"><table class="grp-strip"><thead>'
        f"<tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(replay: Replay, number: int, step: JointStep, drawn: tuple[int, ...]) -> str:
    marks = " ".join(
        ["grp-now"] * (number == replay.shown < len(replay.steps)) + ["grp-later"] * (number > replay.shown)
    )
    name = escaped(replay.name(step))
    chips = "".join(_chip(step, m, drawn) for m in range(min(len(step.values), MOST)))
    more = len(step.values) - MOST
    chips += f'<span class="grp-more">and {more} more</span>' if more > 0 else ""
    chips = chips or '<span class="grp-more">none above the threshold</span>'
    return (
        f'<tr class="{marks}" data-testid="step-{number}"><td>{number}</td><th>{name}</th><td>{chips}</td>'
        f"<td>{_matrix(replay, step)}</td></tr>"
    )


def _chip(step: JointStep, m: int, drawn: tuple[int, ...]) -> str:
    person, outcome = step.people[m], step.outcomes[m]
    ink = "var(--wb-quiet)" if person is None else person_colour(person)
    whom = "" if person is None else f"<b>{person + 1}</b>"
    how = _WORDS[outcome]
    near = "" if outcome != "joined" else f" at {step.distances[m, person or 0]:.2f}"
    tag = ", ".join(f"{t:.2f}" for t in step.tags[m])
    other = "" if person is None or person in drawn else " grp-other"
    number = "" if person is None else f" {person + 1}"
    note = f"detection {m + 1}: heatmap {step.values[m]:.3f}, tag {tag}, {how}{number}{near}"
    marks = f"grp-chip grp-{outcome}{other}"
    return (
        f'<span class="{marks}" style="--ink:{ink}" title="{escaped(note)}">'
        f"<i>{step.values[m]:.2f}</i> {step.tags[m][0]:.2f} <em>{how}</em> {whom}</span>"
    )


def _matrix(replay: Replay, step: JointStep) -> str:
    """Distances as a small shaded table: rows are detections, columns people; who was joined is framed."""
    M, G = min(len(step.values), MOST), min(len(step.means), MOST)
    if not M or not G:
        return ""
    threshold = max(replay.settings.tag_threshold, 1e-9)
    heads = "".join(f'<th style="color:{person_colour(g)}">{g + 1}</th>' for g in range(G))
    body = []
    for m in range(M):
        cells = []
        for g in range(G):
            distance = float(step.distances[m, g])
            # Full at 0, gone at twice the threshold.
            share = 100 * float(np.clip(1 - distance / (2 * threshold), 0, 1))
            mine = step.people[m] == g and step.outcomes[m] == "joined"
            cost = f", cost {step.costs[m, g]:.1f}" if step.costs.size else ""
            note = f"detection {m + 1}, person {g + 1}: distance {distance:.3f}{cost}"
            style = f"--near:{share:.0f}%;--ink:{person_colour(g)}"
            frame = "grp-mine" if mine else ""
            cells.append(f'<td class="{frame}" style="{style}" title="{note}">{_short(distance)}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f'<table class="grp-costs"><tr>{heads}</tr>{"".join(body)}</table>'


def _short(distance: float) -> str:
    return f"{distance:.2f}" if distance < 9.995 else f"{distance:.0f}"


# The Grouping page: one image's stored output grouped live by other rules, every step, and AP on the set.


INSPECTOR = grouping_steps.INSPECTOR
NAMES = [f.name for f in dataclasses.fields(PictureParams)]
# As they stand on the page: what is moved, what is chosen and switched.
ROWS = (
    ("step", "detection_threshold", "tag_threshold", "nms_kernel", "top_k"),
    ("order", "layout", "rules", "resolutions", "adjust", "refine", "flip", "inverse_affine"),
)
# Above the picture: whom it shows.
SHOWN = ("person", "least_score")
# Higher would push the steps off the first screen.
HEIGHT = 450
# Characters of a 13 px title in the narrower column at 1280 px.
TITLE_WIDTH = 44


def _picture(report: GroupingSteps) -> Figure:
    """People carry their numbers, so the legend's room is the picture's."""
    return untitled(report).update_layout(height=HEIGHT, showlegend=False, margin={"t": 12, "b": 40})


def _narrow(report: Report) -> Figure:
    """A figure of half a page's width: its title has shorter lines."""
    title = escaped(report.summary())
    lines = textwrap.wrap(title, TITLE_WIDTH)
    figure = report.plot().update_layout(height=HEIGHT, meta={"title": "<br>".join(lines)})
    return figure.update_layout(
        title={"text": "<br>".join(lines), "font": {"size": 13}}, margin={"t": 24 + 17 * len(lines)}
    )


def next_image(context: Context, data: str, sample: int, step: int) -> int:
    """The first labelled sample of the image after, or before, that of a sample; going round."""
    pose_set = context.registry.sets.get(data)
    images = list(pose_set.labelled_of_image)
    if not images:
        return sample
    here = pose_set.instances[sample].image_id if 0 <= sample < len(pose_set) else images[0]
    place = images.index(here) + step if here in images else 0
    return pose_set.labelled_of_image[images[place % len(images)]][0]


class GroupingPage(DeclaredPage):
    """One image's stored output grouped live by other rules, every step, and AP on the set."""

    path, prefix, title, parent = "grouping", "grp", "Live grouping", "Grouping"
    question = "Which detections are grouped into one person, and what changes with other grouping rules?"
    address = (*SUBJECT, *(f"k.{name}" for name in NAMES))

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.on_sets = SetEvaluations(context)

    def restored(self, query: str = "") -> list[Any]:
        """Bar and knobs as the address has them; without any run named, the first one that has tags."""
        words: list[Any] = sent_words(query, len(self.address))
        if not words[0] and (able := self._able()):
            words[0] = able[0][0]
        if not words[3]:
            words[2], words[3] = self._crowd(words)
        return look_restored(self.context, INSPECTOR, json.dumps(words))

    def regrouped(self, *values: Any) -> list[Any]:
        """Sentence, people, steps, tags, code, address, request, and what the image's knobs offer.

        Rules that cannot be (an even kernel) have the reason in the answer's place: figures of the rules
        before would stand below controls that say otherwise.

        Raises:
            gr.Error: a wrong subject; one sentence.
        """
        try:
            subject = subject_of(self.context, *values[: len(BAR)])
            looked = run_of(self.context, subject, INSPECTOR)
            grouping_model(looked)
        except NotAvailable as reason:
            return self._without_answer(self._why(reason), values)
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake
        try:
            # One sample is looked at: which one is in the bar already.
            params = dataclasses.replace(params_from(PictureParams, values[len(BAR) :], looked), instance="")
            replay = replayed(looked, params)
        except MISTAKES as mistake:
            return self._without_answer(f"Grouping cannot answer here: {sentence(mistake)}", values)
        report = grouping_steps.grouping_steps_of(replay, looked.samples[0], looked.model.skeleton, params)
        choices = choices_of(PictureParams, looked)
        order = [replay.name(step) for step in replay.steps]
        given = dict(zip(NAMES, values[len(BAR) :], strict=True))
        people = [EVERYBODY, *(f"person {p + 1}" for p in range(len(replay.people)))]
        code = report_code(self.context, subject, INSPECTOR, params)
        return [
            sentence_html(report.summary()),
            gr.update(value=_picture(report), visible=True),
            gr.update(value=strip_html(replay, report.drawn), visible=True),
            self._tags(looked, replay),
            code,
            address_of(self.context, subject, params),
            SetRequest.of(subject, params).text(),
            offer([LAST, *order], params.step, given["step"]),
            offer(people, params.person, given["person"]),
            offer(choices["layout"], params.layout, given["layout"]),
            actions_html("grouping", values, code, {"wb-figure": "", "grp-tags": "of the tags"}),
        ]

    def _without_answer(self, why: str, values: Sequence[Any]) -> list[Any]:
        """What `regrouped` gives where there is nothing to show."""
        address = address_asked(self.context, PictureParams, values)
        hidden, offers = [gr.update(visible=False)] * 3, [gr.skip()] * 3
        return [sentence_html(why, "why"), *hidden, "", address, "", *offers, ""]

    def _tags(self, looked: Run, replay: Replay) -> Any:
        """Tags of the annotated people as these rules read them."""
        rules = replay.settings
        try:
            report = tag_values.tag_values_of(
                looked, 0, replay.maps, rules, rules.tag_threshold, replay.people.keypoints
            )
        except NotAvailable:
            return gr.update(visible=False)  # an image of one's own has no annotation
        return gr.update(value=_narrow(report), visible=True)

    def begin(self, request: str = "", before: str = "") -> list[Any]:
        """Ask for AP by the new rules: what is waited for now, what was shown before, the timer."""
        if not request:
            return ["", before, gr.Timer(active=False)]
        try:
            self.on_sets.begin(SetRequest.of_text(request), before)
        except MISTAKES as mistake:
            gr.Warning(sentence(mistake))
            return ["", before, gr.Timer(active=False)]
        return [request, before, gr.Timer(active=True)]

    @one_sentence_errors
    def watch(self, request: str = "", before: str = "") -> list[Any]:
        """The card with AP, the timer, Cancel."""
        if not request:
            return ["", gr.Timer(active=False), gr.update(visible=False)]
        asked = SetRequest.of_text(request)
        job = self.on_sets.job(asked)
        alive = job is not None and job.alive  # before what was found: the last look comes after the end
        found, plain = self.on_sets.found(asked), self.on_sets.found(asked.plain())
        stale = (self._stale(asked, before) or plain) if found is None else None
        waiting = alive and found is None
        card = card_html(found, plain, job, asked.data, stale)
        return [card, gr.Timer(active=alive), gr.update(visible=waiting)]

    def _stale(self, asked: SetRequest, before: str) -> Any:
        """The answer before, of the same checkpoint and set."""
        if not before:
            return None
        old = SetRequest.of_text(before)
        same = (old.run, old.epoch, old.data) == (asked.run, asked.epoch, asked.data)
        return self.on_sets.found(old) if same else None

    @one_sentence_errors
    def cancel(self, request: str = "") -> None:
        """Stop at the next image."""
        if request and (job := self.on_sets.job(SetRequest.of_text(request))):
            job.cancel_for_user()

    def _crowd(self, words: list[Any]) -> tuple[str | None, str | None]:
        """Set and sample to begin with: the first image in which several people have to be told apart."""
        try:
            subject = subject_of(
                self.context, *subject_values(self.context, words[: len(SUBJECT)]), None, *NO_BOX
            )
            people_of = self.context.registry.sets.get(subject.data).labelled_of_image if subject.data else {}
        except MISTAKES:
            return words[2], None  # `restored` says what is wrong
        first = next((people[0] for people in people_of.values() if len(people) > 1), None)
        return subject.data or None, None if first is None else str(first)

    def _able(self) -> list[tuple[str, str]]:
        """Id and title of the runs whose files are bottom-up networks."""
        return [(run.id, run.title) for run in runs_of(self.context, TAGS)]

    def _why(self, reason: NotAvailable) -> str:
        able = [title for _, title in self._able()]
        others = f"; here these have tags: {', '.join(able)}" if able else ""
        return f"Grouping cannot answer here: {sentence(reason)}{others}"

    # Components and events.

    def build(self) -> None:
        """Bar, rules, AP, picture and tags side by side, steps; and the events."""
        add_style(self.path)
        bar = subject_bar(self.context)
        bar.decoder.visible = False  # grouping is how such a network is decoded
        made = _knobs()
        with gr.Row(elem_classes="wb-row-of-status"):
            card = html_block("grp-set")
            cancel = gr.Button("Cancel AP", size="sm", min_width=90, scale=0, visible=False)
        line = html_block("wb-answer")
        with control_row("grp-knobs grp-row-3"):
            made |= _made(SHOWN)
        made["person"].label, made["least_score"].label = "people drawn", "drawn from score"  # type: ignore[attr-defined]
        with gr.Row(equal_height=False, elem_classes="grp-figures-row"):
            with gr.Column(scale=6, min_width=460):
                figure = gr.Plot(show_label=False, container=False, elem_id="wb-figure")
            with gr.Column(scale=5, min_width=380):
                tags = gr.Plot(show_label=False, container=False, elem_id="grp-tags")
        actions, steps = html_block("wb-actions"), html_block("grp-steps")
        _add_meanings()
        code = code_block()
        controls = [made[name] for name in NAMES]
        address, request = hidden_text(), hidden_text()
        offers = [made[name] for name in ("step", "person", "layout")]
        inputs = [*bar.inputs, *controls]
        regrouping, grouped = add_question(
            self.context, bar, controls, "grouping", next_image,
            ask=named(self.regrouped, params=PictureParams), inputs=inputs,
            outputs=[line, figure, steps, tags, code, address, request, *offers, actions], address=address,
            concurrency_id="forward", concurrency_limit=2, **QUIET,
        )  # fmt: skip
        regrouping.after(
            root_block().load(
                self.restored, hidden_text(), [*bar.linked, *controls], api_name="grouping_restored",
                js=query_js(self.address), **QUIET,
            )
        )  # fmt: skip
        self._add_set_events(grouped, request, card, cancel)
        add_file_handlers(self.context, INSPECTOR, inputs, hidden_text(), "grouping")
        self.context.summaries["grouping"] = self._summary

    def _summary(self, text: str) -> list[str]:
        """AP on the set by the rules of an answer, for a report; nothing before it is known."""
        values = sent_json(text, list)
        subject = subject_of(self.context, *values[: len(BAR)])
        if subject.image is not None:
            return []
        asked = SetRequest.of(subject, params_from(PictureParams, values[len(BAR) :]))
        found = self.on_sets.found(asked)
        return [] if found is None else [figures_html(found, self.on_sets.found(asked.plain()), subject.data)]

    def _add_set_events(self, grouped: Any, request: gr.Textbox, card: gr.HTML, cancel: gr.Button) -> None:
        """AP on the set is asked for by the new rules, and shown as soon as it exists."""
        asked, before, timer = hidden_text(), hidden_text(), gr.Timer(UPDATE_SECONDS, active=False)
        watching = LatestQuestion()
        watching.on(
            [timer.tick], self.watch, inputs=[asked, before], outputs=[card, timer, cancel],
            api_name="grouping_watch", concurrency_id="grouping", concurrency_limit=4, **QUIET,
        )  # fmt: skip
        watching.after(
            grouped.success(
                self.begin, [request, asked], [asked, before, timer], api_name="grouping_ask",
                trigger_mode="always_last", **QUIET,
            )
        )  # fmt: skip
        cancel.click(self.cancel, asked, None, api_name="grouping_cancel", **QUIET)


def _made(names: Sequence[str]) -> dict[str, Component]:
    """The widgets of some fields."""
    hints, defaults = hints_of(PictureParams), {f.name: f.default for f in dataclasses.fields(PictureParams)}
    return {name: knob(name, hints[name], defaults[name]) for name in names}


def _knobs() -> dict[str, Component]:
    """The widgets of the rules, placed in rows of the page's own."""
    made: dict[str, Component] = {}
    for number, names in enumerate(ROWS, 1):
        with control_row(f"grp-knobs grp-row-{number}"):
            made |= _made(names)
    with gr.Row(visible=False):  # this page looks at one sample
        made |= _made(["instance"])
    made["step"].label = "grouped up to"  # type: ignore[attr-defined]
    made["nms_kernel"].label = "NMS kernel"  # type: ignore[attr-defined]
    return made


def _add_meanings() -> None:
    """What each knob does, in the words of its docstring."""
    meanings = field_descriptions(PictureParams)
    with gr.Accordion("What the controls mean", open=False):
        gr.Markdown(
            "\n".join(f"- **{n.replace('_', ' ')}**: {meanings[n]}" for row in (*ROWS, SHOWN) for n in row)
        )
