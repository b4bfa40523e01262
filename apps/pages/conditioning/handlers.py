"""What the Conditioning page answers: functions of plain values, for the page and for any HTTP client."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from apps.overfit.handlers import in_one_sentence
from apps.pages.conditioning import sections, wishes
from apps.pages.conditioning.cards import status_html, verdict_html
from apps.pages.conditioning.examined import SECTIONS, Examined
from apps.pages.conditioning.wishes import ALL, NONE, Wish
from apps.pages.events import without_echo
from apps.pages.frame import sentence_html
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence
from workbench.core import NotAvailable
from workbench.inspectors.conditioning.training_log import logs_of

BAR = 5
LIMITS = [("32", 32), ("64", 64), ("128", 128), ("all", ALL)]


class Handlers:
    """The page's handlers over one server's clinic."""

    def __init__(self, context: Context) -> None:
        self.context, self.examined = context, Examined(context)

    def restored(self, query: str = "") -> list[Any]:
        """Bar, wish and state as the address has them; what it lacks takes its default."""
        words = json.loads(query or "[]") or [None] * len(wishes.ADDRESS)
        try:
            values = wishes.from_address(self.context, words)
        except MISTAKES as mistake:
            gr.Warning(sentence(mistake))
            values = [None] * BAR
        return self._begun(values)

    def begin(
        self,
        run: str | None = None,
        epoch: float | None = None,
        data: str | None = None,
        limit: float | None = None,
        against: str | None = None,
    ) -> list[Any]:
        """Start on a wish: bar, wish, address, timer, why not, and whether evidence is shown."""
        given = [run, epoch, data, limit, against]
        begun = self._begun(given)
        return [*without_echo(begun[:BAR], given), *begun[BAR:]]

    @in_one_sentence
    def again(self, wish: str = "") -> Any:
        """Go on with what was cancelled, or with what failed: the timer."""
        if wish:
            self.examined.begin(Wish.of_text(wish), anew=True)
        return gr.Timer(active=bool(wish))

    def _begun(self, values: list[Any]) -> list[Any]:
        # Headings without anything below them are no answer.
        hidden = gr.update(visible=False)
        try:
            wish = wishes.wish_of(self.context, *values)
        except MISTAKES as mistake:
            return [*[gr.skip()] * BAR, "", gr.skip(), gr.Timer(active=False), self._why(mistake), hidden]
        address = wishes.address_of(self.context, wish)
        try:
            bar = self._offered(wish)
            self.examined.begin(wish)
        except MISTAKES as mistake:
            bare = self._offered(wish, bare=True)
            return [*bare, "", address, gr.Timer(active=False), self._why(mistake), hidden]
        return [*bar, wish.text(), address, gr.Timer(active=True), "", gr.update(visible=True)]

    def _why(self, mistake: BaseException) -> str:
        """The sentence in the verdict's place; a model that cannot be asked leads to those that can."""
        text = sentence(mistake).removeprefix("conditioning: ")
        if not isinstance(mistake, NotAvailable):
            return sentence_html(text, "error")
        can = [run.title for run in wishes.conditioned_runs(self.context)]
        told = f"; here these can: {', '.join(can)}" if can else ""
        return sentence_html(f"The clinic cannot answer here: {text}{told}", "why")

    def _offered(self, wish: Wish, bare: bool = False) -> list[Any]:
        """Updates of the bar; `bare` leaves out what only an opened model tells."""
        registry = self.context.registry
        run = registry.run(wish.run)
        sets = [wish.data] if bare else registry.sets.fitting(registry.skeleton(wish.run, wish.epoch))
        others = [(r.title, r.id) for r in registry.runs() if r.id != wish.run and logs_of(r.folder)]
        limits = (
            LIMITS
            if wish.limit in [count for _, count in LIMITS]
            else [*LIMITS, (str(wish.limit), wish.limit)]
        )
        return [
            gr.update(choices=[(r.title, r.id) for r in registry.runs()], value=wish.run),
            gr.update(choices=[(e.label, e.index) for e in run.epochs], value=wish.epoch),
            gr.update(choices=sets, value=wish.data),
            gr.update(choices=limits, value=wish.limit),
            gr.update(choices=[(NONE, NONE), *others], value=wish.against or NONE),
        ]

    def watch(self, wish: str = "", sent: str = "") -> list[Any]:
        """What is new since `sent`: status, verdict, sections, timer, Cancel, Measure, and a new `sent`."""
        count = sections.OUTPUTS * len(SECTIONS)
        if not wish:
            empty = ["", *[gr.update(visible=False), gr.update(value=None), ""]]
            blank = empty * len(SECTIONS) if sent else [gr.skip()] * count
            hidden = [gr.update(visible=False)] * 2
            return ["", "" if sent else gr.skip(), *blank, gr.Timer(active=False), *hidden, ""]
        asked = Wish.of_text(wish)
        job = self.examined.job(asked)
        # Looked at before what is found: the last look then comes after the end.
        alive = job is not None and job.alive
        before = json.loads(sent) if sent else {}
        known = before.get("known", {}) if before.get("wish") == wish else {}
        clinic, whole = self.examined.clinic(asked), self.examined.whole(asked) is not None
        now: dict[str, Any] = {"verdict": [clinic is not None, whole]}
        updates: list[Any] = []
        for name in SECTIONS:
            found = self.examined.section(asked, name)
            now[name] = found is not None
            fresh = now[name] != known.get(name)
            updates += sections.told(self.examined, asked, name) if fresh else [gr.skip()] * sections.OUTPUTS
        verdict = verdict_html(clinic, whole) if now["verdict"] != known.get("verdict") else gr.skip()
        ended = not alive and not whole
        return [
            status_html(job, whole),
            verdict,
            *updates,
            gr.Timer(active=alive),
            gr.update(visible=alive),
            gr.update(visible=ended),
            json.dumps({"wish": wish, "known": now}),
        ]

    @in_one_sentence
    def cancel(self, wish: str = "") -> None:
        """Stop at the next pass."""
        if wish and (job := self.examined.job(Wish.of_text(wish))):
            job.cancel()

    @in_one_sentence
    def file(self, name: str, kind: str, wish: str = "") -> str:
        """A section as the text of a file."""
        if not wish:
            raise ValueError("there is nothing to save yet: choose a run with text above")
        return sections.as_file(self.examined, Wish.of_text(wish), name, kind)
