"""What the Rollout page answers: functions of plain values, called by the page and by any HTTP client."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from apps.overfit.handlers import in_one_sentence
from apps.pages.able_runs import SEQUENCE, runs_of
from apps.pages.events import without_echo
from apps.pages.frame import sentence_html
from apps.pages.report_section import as_csv, sheet, untitled
from apps.pages.rollout import sections, wishes
from apps.pages.rollout.bisection import Bisection, card
from apps.pages.rollout.cards import answer_html, facts_html, shown, status_html
from apps.pages.rollout.lab import QUESTIONS, Lab
from apps.pages.rollout.schedules import Training
from apps.pages.rollout.wishes import Wish
from apps.pages.subject import neighbour
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable

FIRST = "the first"


class Handlers:
    """The page's handlers over one server's lab."""

    def __init__(self, context: Context) -> None:
        self.context, self.lab = context, Lab(context)
        self.training, self.bisection = Training(self.lab), Bisection(self.lab)

    def restored(self, query: str = "") -> list[Any]:
        """Bar, wish and state as the address has them; what it lacks takes its default."""
        words = json.loads(query or "[]") or [None] * len(wishes.ADDRESS)
        try:
            values = wishes.from_address(self.context, words)
        except MISTAKES as mistake:
            values = [None] * 9
            gr.Warning(sentence(mistake))
        return self._begun(*values)

    def begin(
        self,
        run: str | None = None,
        epoch_a: float | None = None,
        epoch_b: float | None = None,
        data: str | None = None,
        sample: float | None = None,
        support: float | None = None,
        keypoint: str | None = None,
        threshold: float | None = None,
        normaliser: str | None = None,
    ) -> list[Any]:
        """Start on a wish: bar, wish, address, timer, and the sentence when it cannot be answered."""
        given = [run, epoch_a, epoch_b, data, sample, support, keypoint, threshold, normaliser]
        begun = self._begun(*given[:6], None if keypoint == FIRST else keypoint, threshold, normaliser)
        return [*without_echo(begun[:9], given), *begun[9:]]

    def _begun(self, *values: Any) -> list[Any]:
        """Bar's nine updates, wish, address, timer, sentence, status, and whether more stands below."""
        try:
            wish = wishes.wish_of(self.context, *values)
        except MISTAKES as mistake:
            return [*[gr.skip()] * 9, "", gr.skip(), *self._refused(mistake)]
        try:
            bar = self._offered(wish)
            self.lab.begin(wish)
        except MISTAKES as mistake:
            bar = self._offered(wish, bare=True)
            return [*bar, "", wishes.address_of(self.context, wish), *self._refused(mistake)]
        told = [wish.text(), wishes.address_of(self.context, wish), gr.Timer(active=True)]
        return [*bar, *told, "", gr.skip(), gr.update(visible=True)]

    def _refused(self, mistake: BaseException) -> list[Any]:
        """Timer, sentence, status, and nothing below."""
        return [gr.Timer(active=False), self._why(mistake), "", gr.update(visible=False)]

    def _why(self, mistake: BaseException) -> str:
        """The sentence in the answer's place; a model that cannot be asked leads to those that can."""
        text = sentence(mistake).removeprefix("rollout: ")
        if not isinstance(mistake, NotAvailable):
            return sentence_html(text, "error")
        can = [run.title for run in runs_of(self.context, SEQUENCE)]
        told = f"; these runs can: {', '.join(can)}" if can else ""
        return sentence_html(f"The lab cannot answer here: {text}{told}", "why")

    def _offered(self, wish: Wish, bare: bool = False) -> list[Any]:
        """Updates of the bar; `bare` leaves out what only an opened model tells."""
        registry = self.context.registry
        run, pose_set = registry.run(wish.run), registry.sets.get(wish.data)
        epochs = [(e.label, e.index) for e in run.epochs]
        names = () if bare else registry.skeleton(wish.run, wish.epochs[-1]).keypoints
        sets = [wish.data] if bare else registry.sets.fitting(registry.skeleton(wish.run, wish.epochs[-1]))
        count = len(pose_set)
        return [
            gr.update(choices=[(r.title, r.id) for r in registry.runs()], value=wish.run),
            gr.update(choices=epochs, value=wish.epochs[0]),
            gr.update(choices=epochs, value=wish.epochs[-1]),
            gr.update(choices=sets, value=wish.data),
            gr.update(value=wish.sample, label=f"sample of {count}"),
            gr.update(value=wish.support),
            gr.update(choices=[FIRST, *names], value=wish.keypoint or FIRST),
            gr.update(value=wish.threshold),
            gr.update(value=wish.normaliser),
        ]

    @in_one_sentence
    def walk(self, by: int, data: str | None = "", sample: float | None = 0) -> Any:
        """The next sample that has an annotation; while the set is not known yet, there is none."""
        if not data:
            return gr.skip()
        return neighbour(self.context, data, int(sample or 0), by)

    def watch(self, wish: str = "", sent: str = "") -> list[Any]:
        """What is new since `sent`: status, sentence, facts, sections, timer, Cancel, and a new `sent`."""
        if not wish:
            # An earlier wish may have been told meanwhile: nothing of it stays in sight.
            skipped = [gr.skip()] * (1 + sections.OUTPUTS * len(QUESTIONS))
            return ["", "", *skipped, gr.Timer(active=False), gr.update(visible=False), ""]
        asked, job = Wish.of_text(wish), self.lab.job(Wish.of_text(wish))
        alive = job is not None and job.alive
        # Looked at before what is found: the last look then comes after the end.
        before = json.loads(sent) if sent else {}
        known = before.get("known", {}) if before.get("wish") == wish else {}
        now, updates = {}, []
        for question in QUESTIONS:
            found = [self.lab.found(asked, question, epoch) for epoch in asked.epochs]
            now[question] = sum(report is not None for report in found)
            fresh = now[question] != known.get(question)
            updates += self._told(asked, question) if fresh else [gr.skip()] * sections.OUTPUTS
        new = now != known
        return [
            status_html(job),
            answer_html(self.lab, asked) or gr.skip() if new else gr.skip(),
            facts_html(self.lab, asked) if new else gr.skip(),
            *updates,
            gr.Timer(active=alive),
            gr.update(visible=alive),
            json.dumps({"wish": wish, "known": now}),
        ]

    def _told(self, wish: Wish, question: str) -> list[Any]:
        return sections.told(self.lab, wish, question)

    @in_one_sentence
    def cancel(self, wish: str = "") -> None:
        """Stop at the next question."""
        if wish and (job := self.lab.job(Wish.of_text(wish))):
            job.cancel()

    @in_one_sentence
    def file(self, question: str, kind: str, wish: str = "") -> str:
        """The reports of a question as the text of a file."""
        if not wish:
            raise ValueError("there is nothing to save yet: choose a sequence model above")
        return sections.as_file(self.lab, Wish.of_text(wish), question, kind)

    @in_one_sentence
    def train(self, wish: str = "", steps: float | None = None, rate: float | None = None) -> Any:
        """Start training with each schedule."""
        if not wish:
            raise ValueError("there is nothing to train yet: choose a sequence model above")
        self.training.begin(Wish.of_text(wish), int(steps or 0), float(rate or 0))
        return gr.Timer(active=True)

    @in_one_sentence
    def stop(self, wish: str = "", steps: float | None = None, rate: float | None = None) -> None:
        """Stop training at the next step."""
        if wish and (job := self.training.job(Wish.of_text(wish), int(steps or 0), float(rate or 0))):
            job.cancel()

    @in_one_sentence
    def training_file(self, wish: str = "", steps: float | None = None, rate: float | None = None) -> str:
        """The comparison of schedules as the text of a CSV file."""
        count, speed = int(steps or 0), float(rate or 0)
        found = self.training.found(Wish.of_text(wish), count, speed) if wish else None
        if found is None:
            raise ValueError("no schedules were trained with these settings yet: press Train")
        return as_csv(found.table())

    def taught(self, wish: str = "", steps: float | None = None, rate: float | None = None) -> list[Any]:
        """Status, sentence, figure, table, timer and Cancel of the schedules."""
        hidden = gr.update(visible=False)
        if not wish:
            return ["", "", hidden, hidden, gr.Timer(active=False), hidden]
        asked, count, speed = Wish.of_text(wish), int(steps or 0), float(rate or 0)
        job = self.training.job(asked, count, speed)
        alive = job is not None and job.alive
        report = self.training.found(asked, count, speed)
        if report is None:
            return [status_html(job), "", hidden, hidden, gr.Timer(active=alive), gr.update(visible=alive)]
        return [
            "", shown(report), gr.update(value=untitled(report), visible=True),
            gr.update(value=sheet(report.table()), visible=True), gr.Timer(active=False), hidden,
        ]  # fmt: skip

    @in_one_sentence
    def learn(self, wish: str = "", steps: float | None = None) -> Any:
        """Start learning the sample anew, to be bisected."""
        if not wish:
            raise ValueError("there is nothing to learn yet: choose a sequence model above")
        self.bisection.begin(Wish.of_text(wish), int(steps or 0))
        return gr.Timer(active=True)

    @in_one_sentence
    def unlearn(self, wish: str = "", steps: float | None = None) -> None:
        """Stop after the step under way."""
        if wish and (job := self.bisection.job(Wish.of_text(wish), int(steps or 0))):
            job.cancel()

    def learned(self, wish: str = "", steps: float | None = None) -> list[Any]:
        """Status, card, timer and Cancel of the attempt."""
        if not wish:
            return ["", "", gr.Timer(active=False), gr.update(visible=False)]
        asked, count = Wish.of_text(wish), int(steps or 0)
        job = self.bisection.job(asked, count)
        alive = job is not None and job.alive
        report = self.bisection.found(asked, count)
        told = ["", card(report)] if report and not alive else [status_html(job), ""]
        return [*told, gr.Timer(active=alive), gr.update(visible=alive)]
