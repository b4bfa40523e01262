"""Handlers of the Overfit page: functions of plain values, called by the page and by any HTTP client."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from apps.overfit.attempts import ENDED, Attempt, Attempts
from apps.overfit.choices import DEMO, Choices, config_of_run, defaults_for, devices, families, preview
from apps.overfit.own_photo import own_photo
from apps.overfit.views import (
    FURTHEST,
    curves,
    keypoints_of,
    last_measured,
    pictures,
    status_html,
    verdict_html,
)
from apps.pages.frame import sentence_html
from apps.pages.report_section import as_csv
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence
from workbench.core.report import plain

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

START = gr.update(interactive=True)
"""The button that starts, where nothing runs."""

RATES = 8
"""Number of buttons whose use depends on the state, in the page's order; see `_usable`."""


def in_one_sentence(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """A handler whose mistakes reach the page as one sentence."""

    @functools.wraps(function)
    def answer(*arguments: Arguments.args, **named: Arguments.kwargs) -> Answer:
        try:
            return function(*arguments, **named)
        except MISTAKES as mistake:
            raise gr.Error(sentence(mistake), duration=None, print_exception=False) from mistake

    return answer


class Handlers:
    """The page's handlers, on the attempts of one server."""

    def __init__(self, context: Context) -> None:
        self.context, self.attempts = context, Attempts(context)

    @in_one_sentence
    def start(
        self,
        family: str | None = None,
        config: str | None = None,
        data: str | None = None,
        sample: float | None = None,
        device: str | None = None,
        steps: float | None = None,
        learning_rate: float | None = None,
        schedule: str | None = None,
        weight_decay: float | None = None,
        ema: float | None = None,
        plant: str | None = None,
        every: float | None = None,
        pck_falls: float | None = None,
        wait: float | None = None,
        seed: float | None = None,
        warm_up: float | None = None,
        clip: float | None = None,
        dropout: bool | None = None,
        config_training: bool | None = None,
        image: str | None = None,
        annotation: str | None = None,
        clicks: str | None = None,
    ) -> list[Any]:
        """Start a session: its id, and what the timer, the keypoint's choice and the rate become.

        None takes the default of `Choices`.
        """
        whole = {"sample": sample, "steps": steps, "every": every, "seed": seed, "warm_up": warm_up}
        given: dict[str, Any] = {k: None if v is None else int(v) for k, v in whole.items()}
        given |= {"family": family, "config": config and config.strip(), "device": device}
        given |= {"data": data or self.default_data(family or Choices.family), "schedule": schedule}
        given |= {"learning_rate": learning_rate, "weight_decay": weight_decay, "ema": ema, "plant": plant}
        given |= {"pck_falls": pck_falls, "wait": wait, "clip": clip, "dropout": dropout}
        given |= {"config_training": config_training, "own": own_photo(image, annotation, clicks)}
        choices = Choices(**{name: value for name, value in given.items() if value is not None})
        return self._restored_session(self.attempts.begin(choices))

    def _restored_session(self, attempt: Attempt) -> list[Any]:
        names = keypoints_of(attempt.setup.model.skeleton)
        return [
            attempt.id, "", gr.Timer(active=True), gr.update(choices=names, value=FURTHEST),
            attempt.setup.plan.settings.learning_rate,
        ]  # fmt: skip

    def default_data(self, family: str | None) -> str:
        """The data set of a family when none is chosen."""
        from workbench.core import NotAvailable

        try:
            from workbench.checkpoints.demo import demo_data

            return demo_data() if family == DEMO else "astronaut"
        except NotAvailable:
            return "astronaut"

    @in_one_sentence
    def restored(self, query: str = "") -> list[Any]:
        """A session by its link: id, timer, keypoints, then the choices; a note on running sessions."""
        # Older links say the session alone.
        identity, run, data, sample = (*json.loads(query or "[null]"), None, None, None)[:4]
        if identity:
            attempt = self.attempts.get(identity)
            return [*self._restored_session(attempt), "", *self._offered(attempt.choices)]
        names = families(self.context.settings.adapter)
        choices = self._linked(names[0][1], run, data, sample)
        notes = [
            f"session {a.id} ({a.setup.title}) is {a.state} on {a.setup.device}: overfit?session={a.id}"
            for a in self.attempts.alive()
        ]
        note = sentence_html("; ".join(notes), "why")
        return ["", "", *[gr.skip()] * 3, note, *self._offered(choices)]

    def _linked(self, family: str, run: str | None, data: str | None, sample: str | None) -> Choices:
        """The choices of a link to this page: the config of a run, a data set, the number of a sample."""
        if data is not None:
            self.context.registry.sets.get(data)  # raises for a wrong name
        if sample is not None and not sample.isdecimal():
            raise ValueError(f"sample: expected a number from 0 on, got {sample!r}")
        config = config_of_run(self.context, run) if run else ""
        return Choices(
            family=family,
            config=config,
            data=data or self.default_data(family),
            sample=None if sample is None else int(sample),
            config_training=bool(config),
        )

    def _offered(self, w: Choices) -> list[Any]:
        values = [w.config, w.data, w.sample, w.device, w.steps, w.learning_rate, w.schedule]
        values += [w.weight_decay, w.ema, w.plant, w.every, w.pck_falls, w.wait, w.seed]
        values += [w.warm_up, w.clip, w.dropout, w.config_training]
        updates = [gr.update(value=v) for v in values]
        updates[1] = gr.update(choices=self.context.registry.sets.ids(), value=w.data)
        updates[3] = gr.update(choices=devices(), value=w.device)
        return [gr.update(choices=families(self.context.settings.adapter), value=w.family), *updates]

    def awaited(
        self,
        session: str = "",
        family: str | None = None,
        config: str | None = None,
        data: str | None = None,
        sample: float | None = None,
        device: str | None = None,
        steps: float | None = None,
        config_training: bool | None = None,
        image: str | None = None,
        annotation: str | None = None,
        clicks: str | None = None,
    ) -> list[Any]:
        """Before a start: what Start would do, empty curves, the chosen image with its annotation."""
        if session or not data:
            return [gr.skip()] * 3
        index = None if sample is None else int(sample)
        named = {"family": family, "config": config and config.strip(), "device": device}
        given: dict[str, Any] = {name: value for name, value in named.items() if value}
        given |= {"config_training": bool(config_training), "steps": int(steps or Choices.steps)}
        try:
            choices = Choices(data=data, sample=index, own=own_photo(image, annotation, clicks), **given)
            text, picture = preview(self.context, choices)
        except MISTAKES as mistake:
            return [sentence_html(sentence(mistake), "error"), gr.skip(), ""]
        return [sentence_html(text), curves([], ""), picture]

    @in_one_sentence
    def family(self, family: str = "", data: str = "") -> list[Any]:
        """Another family: data, sample, and its default steps, rate and schedule.

        A chosen data set stays, whatever its keypoints: what does not fit is shown before Start.
        """
        defaults = defaults_for(family)
        proposed = [defaults.steps, defaults.learning_rate, defaults.schedule]
        if data:
            return [gr.skip(), gr.skip(), *proposed]
        return [self.default_data(family), None, *proposed]

    def watch(self, session: str = "", keypoint: str = "", sent: str = "") -> list[Any]:
        """What is new since `sent`: status, curves, pictures, verdict, buttons, timer, and a new `sent`."""
        if not session:
            return [gr.skip()] * 4 + [gr.skip()] * RATES + [gr.Timer(active=False), "", START]
        try:
            attempt = self.attempts.get(session)
        except KeyError as gone:
            # Shown once in the status line: raised, it would come again with every tick.
            answer = [sentence_html(sentence(gone), "error"), *[gr.skip()] * (3 + RATES)]
            return [*answer, gr.Timer(active=False), "", START]
        rows, state = attempt.run.rows, attempt.state
        at = next((row["step"] for row in reversed(rows) if row.get("pck") is not None), 0)
        job = attempt.job
        alive = attempt.alive  # read before what is drawn below, so that the last look follows the end
        before = (json.loads(sent) if sent else []) or [None] * 4
        now = [[session, len(rows)], [session, at, keypoint], [session, alive, job and job.facts()], state]
        run = last_measured(attempt.run.session) if now[1] != before[1] else None
        return [
            status_html(attempt),
            curves(rows, session) if now[0] != before[0] and rows else gr.skip(),
            pictures(run, keypoint) if run else gr.skip(),
            verdict_html(attempt) if now[2] != before[2] else gr.skip(),
            *(self._usable(attempt, state) if [now[2], state] != before[2:] else [gr.skip()] * RATES),
            gr.Timer(active=alive),
            json.dumps(now),
            gr.update(interactive=not alive),
        ]

    def _usable(self, attempt: Attempt, state: str) -> list[Any]:
        """Pause, step 1, step 10, resume, stop, snapshot, set rate, cancel."""
        resting = state in ("paused", "waiting")
        runs = state not in ENDED
        usable = [runs and state != "paused", resting, resting, resting, runs, runs, resting]
        return [
            *(gr.update(interactive=bool(u)) for u in usable),
            gr.update(visible=attempt.bisecting),
        ]

    @in_one_sentence
    def pause(self, session: str = "") -> None:
        """Pause after the current step."""
        self._attempt(session).run.session.pause()

    @in_one_sentence
    def step(self, session: str = "", count: float = 1) -> None:
        """Do some steps and pause."""
        self._attempt(session).run.session.step(int(count or 0))

    @in_one_sentence
    def resume(self, session: str = "") -> None:
        """Continue."""
        self._attempt(session).run.session.resume()

    @in_one_sentence
    def stop(self, session: str = "") -> None:
        """End the session."""
        self._attempt(session).run.session.stop()

    @in_one_sentence
    def snapshot(self, session: str = "") -> None:
        """Write the weights."""
        self._attempt(session).snapshot()

    @in_one_sentence
    def rate(self, session: str = "", learning_rate: float | None = None) -> None:
        """Another learning rate, while it pauses."""
        attempt = self._attempt(session)
        if attempt.state not in ("paused", "waiting"):
            raise ValueError(f"the learning rate changes while the session pauses; it is {attempt.state}")
        attempt.run.session.set_learning_rate(float(learning_rate or 0))

    @in_one_sentence
    def cancel(self, session: str = "") -> None:
        """End the bisection."""
        self._attempt(session).cancel()

    @in_one_sentence
    def rows(self, session: str = "", kind: str = "csv") -> str:
        """Everything recorded so far, one row per step, as the text of a CSV or JSON file."""
        rows = self._attempt(session).run.rows
        if kind == "json":
            return json.dumps(plain(rows))
        columns = list(dict.fromkeys(name for row in rows for name in row))
        return as_csv([{name: row.get(name) for name in columns} for row in rows])

    def _attempt(self, session: str) -> Attempt:
        if not session:
            raise ValueError("there is no session on this page yet: press Start")
        return self.attempts.get(session)
