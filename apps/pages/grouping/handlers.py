"""What the Grouping page answers: functions of plain values, called by the page and by any HTTP client."""

from __future__ import annotations

import dataclasses
import html
import json
import textwrap
from typing import TYPE_CHECKING, Any

import gradio as gr

from apps.overfit.handlers import in_one_sentence
from apps.pages.able_runs import TAGS, runs_of
from apps.pages.code import report_code
from apps.pages.controls import BAR, choices_of, offer, params_from
from apps.pages.frame import sentence_html
from apps.pages.grouping.cards import card_html
from apps.pages.grouping.on_set import OnSets
from apps.pages.grouping.strip import strip_html
from apps.pages.grouping.wishes import Wish
from apps.pages.inspectors import address_asked
from apps.pages.inspectors import restored as look_restored
from apps.pages.report_section import untitled
from apps.pages.subject import NO_BOX, SUBJECT, address_of, run_of, subject_of, subject_values
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable, Run
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
    from workbench.inspectors.grouping.grouping_steps import GroupingSteps

INSPECTOR = grouping_steps.INSPECTOR
# Higher would push the steps off the first screen.
HEIGHT = 450
# Characters of a 13 px title in the narrower column at 1280 px.
TITLE_WIDTH = 60


def _picture(report: GroupingSteps) -> Figure:
    """People carry their numbers, so the legend's room is the picture's."""
    return untitled(report).update_layout(height=HEIGHT, showlegend=False, margin={"t": 12, "b": 40})


def _narrow(report: Report) -> Figure:
    """A figure of half a page's width: its title has shorter lines."""
    title = html.escape(report.summary(), quote=False)
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


class Handlers:
    """The page's handlers over one server's stored outputs."""

    def __init__(self, context: Context) -> None:
        self.context, self.on_sets = context, OnSets(context)

    def restored(self, query: str = "") -> list[Any]:
        """Bar and knobs as the address has them; without any run named, the first one that has tags."""
        words: list[Any] = json.loads(query or "[]") or [None] * (
            len(SUBJECT) + len(dataclasses.fields(PictureParams))
        )
        if not words[0] and (able := self._able()):
            words[0] = able[0][0]
        if not words[3]:
            words[2], words[3] = self._crowd(words)
        return look_restored(self.context, INSPECTOR, json.dumps(words))

    def regrouped(self, *values: Any) -> list[Any]:
        """Sentence, people, steps, tags, code, address, wish, and what the image's knobs offer.

        Raises:
            gr.Error: a wrong value; one sentence.
        """
        offers = [gr.skip()] * 3
        try:
            subject = subject_of(self.context, *values[: len(BAR)])
            looked = run_of(self.context, subject, INSPECTOR)
            grouping_model(looked)
            # One sample is looked at: which one is in the bar already.
            params = dataclasses.replace(params_from(PictureParams, values[len(BAR) :], looked), instance="")
            replay = replayed(looked, params)
        except NotAvailable as reason:
            hidden = [gr.update(visible=False)] * 3
            address = address_asked(self.context, PictureParams, values)
            return [sentence_html(self._why(reason), "why"), *hidden, "", address, "", *offers]
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake
        report = grouping_steps.grouping_steps_of(replay, looked.samples[0], looked.model.skeleton, params)
        choices = choices_of(PictureParams, looked)
        order = [replay.name(step) for step in replay.steps]
        given = dict(
            zip((f.name for f in dataclasses.fields(PictureParams)), values[len(BAR) :], strict=True)
        )
        return [
            sentence_html(report.summary()),
            gr.update(value=_picture(report), visible=True),
            gr.update(value=strip_html(replay, report.drawn), visible=True),
            self._tags(looked, replay),
            report_code(self.context, subject, INSPECTOR, params),
            address_of(self.context, subject, params),
            Wish.of(subject, params).text(),
            offer([LAST, *order], params.step, given["step"]),
            offer(
                [EVERYBODY, *(f"person {p + 1}" for p in range(len(replay.people)))],
                params.person,
                given["person"],
            ),
            offer(choices["layout"], params.layout, given["layout"]),
        ]

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

    def begin(self, wish: str = "", before: str = "") -> list[Any]:
        """Ask for AP by the new rules: what is waited for now, what was shown before, the timer."""
        if not wish:
            return ["", before, gr.Timer(active=False)]
        try:
            self.on_sets.begin(Wish.of_text(wish), before)
        except MISTAKES as mistake:
            gr.Warning(sentence(mistake))
            return ["", before, gr.Timer(active=False)]
        return [wish, before, gr.Timer(active=True)]

    @in_one_sentence
    def watch(self, wish: str = "", before: str = "") -> list[Any]:
        """The card with AP, the timer, Cancel."""
        if not wish:
            return ["", gr.Timer(active=False), gr.update(visible=False)]
        asked = Wish.of_text(wish)
        job = self.on_sets.job(asked)
        alive = job is not None and job.alive  # before what was found: the last look comes after the end
        found, plain = self.on_sets.found(asked), self.on_sets.found(asked.plain())
        stale = (self._stale(asked, before) or plain) if found is None else None
        waiting = alive and found is None
        card = card_html(found, plain, job, asked.data, stale)
        return [card, gr.Timer(active=alive), gr.update(visible=waiting)]

    def _stale(self, asked: Wish, before: str) -> Any:
        """The answer before, of the same checkpoint and set."""
        if not before:
            return None
        old = Wish.of_text(before)
        same = (old.run, old.epoch, old.data) == (asked.run, asked.epoch, asked.data)
        return self.on_sets.found(old) if same else None

    @in_one_sentence
    def cancel(self, wish: str = "") -> None:
        """Stop at the next image."""
        if wish and (job := self.on_sets.job(Wish.of_text(wish))):
            job.cancel()

    def _crowd(self, words: list[Any]) -> tuple[str | None, str | None]:
        """Set and sample to begin with: the first image in which several people have to be told apart."""
        try:
            subject = subject_of(
                self.context, *subject_values(self.context, words[: len(SUBJECT)]), None, *NO_BOX
            )
            held = self.context.registry.sets.get(subject.data).labelled_of_image if subject.data else {}
        except MISTAKES:
            return words[2], None  # `restored` says what is wrong
        first = next((people[0] for people in held.values() if len(people) > 1), None)
        return subject.data or None, None if first is None else str(first)

    def _able(self) -> list[tuple[str, str]]:
        """Id and title of the runs whose files are bottom-up networks."""
        return [(run.id, run.title) for run in runs_of(self.context, TAGS)]

    def _why(self, reason: NotAvailable) -> str:
        able = [title for _, title in self._able()]
        told = f"; here these have tags: {', '.join(able)}" if able else ""
        return f"Grouping cannot answer here: {sentence(reason)}{told}"
