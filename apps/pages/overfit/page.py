"""Handlers of the Overfit page: functions of plain values, called by the page and by any HTTP client."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from apps.pages.controls import LatestQuestion
from apps.pages.frame import Page, sentence_html
from apps.pages.overfit.attempts import ENDED, Attempt, Attempts
from apps.pages.overfit.choices import DEMO, Choices, config_of_run, defaults_for, devices, families, preview
from apps.pages.overfit.own_photo import PhotoSection, own_photo, photo_section
from apps.pages.overfit.views import (
    FURTHEST,
    curves,
    keypoints_of,
    last_measured,
    pictures,
    status_html,
    verdict_html,
)
from apps.pages.report_section import Answer, as_csv
from apps.pages.sections import (
    COPY_LINK,
    hidden_text,
    html_block,
    one_sentence_errors,
    query_js,
    root_block,
)
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence
from workbench.core.report import plain

START = gr.update(interactive=True)
"""The button that starts, where nothing runs."""

RATES = 8
"""Number of buttons whose use depends on the state, in the page's order; see `_usable`."""


class Handlers:
    """The page's handlers, on the attempts of one server."""

    def __init__(self, context: Context) -> None:
        self.context, self.attempts = context, Attempts(context)

    @one_sentence_errors
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

    @one_sentence_errors
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

    @one_sentence_errors
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

    @one_sentence_errors
    def pause(self, session: str = "") -> None:
        """Pause after the current step."""
        self._attempt(session).run.session.pause()

    @one_sentence_errors
    def step(self, session: str = "", count: float = 1) -> None:
        """Do some steps and pause."""
        self._attempt(session).run.session.step(int(count or 0))

    @one_sentence_errors
    def resume(self, session: str = "") -> None:
        """Continue."""
        self._attempt(session).run.session.resume()

    @one_sentence_errors
    def stop(self, session: str = "") -> None:
        """End the session."""
        self._attempt(session).run.session.stop()

    @one_sentence_errors
    def snapshot(self, session: str = "") -> None:
        """Write the weights."""
        self._attempt(session).snapshot()

    @one_sentence_errors
    def rate(self, session: str = "", learning_rate: float | None = None) -> None:
        """Another learning rate, while it pauses."""
        attempt = self._attempt(session)
        if attempt.state not in ("paused", "waiting"):
            raise ValueError(f"the learning rate changes while the session pauses; it is {attempt.state}")
        attempt.run.session.set_learning_rate(float(learning_rate or 0))

    @one_sentence_errors
    def cancel(self, session: str = "") -> None:
        """End the bisection."""
        self._attempt(session).cancel()

    @one_sentence_errors
    def rows(self, session: str = "", kind: str = "csv") -> str:
        """Everything recorded so far, one row per step, as the text of a CSV or JSON file."""
        rows = self._attempt(session).run.rows
        if kind == "json":
            return json.dumps(plain(rows))
        columns = list(dict.fromkeys(name for row in rows for name in row))
        return as_csv([{name: row.get(name) for name in columns} for row in rows])

    def shown(self, section: str, state: str) -> Answer:
        """The report of a session that has ended; `state` is its id."""
        from workbench.data import BUILTIN

        attempt = self._attempt(state)
        if attempt.run.verdict is None:
            raise ValueError("the session has not ended: its report comes with the verdict")
        data = attempt.choices.data
        served = data and data not in BUILTIN and attempt.choices.own is None
        inputs = [("annotations", self.context.registry.sets.file(data))] if served else []
        return Answer.of("Overfit", attempt.run.report(), attempt.setup.command, inputs)

    def _attempt(self, session: str) -> Attempt:
        if not session:
            raise ValueError("there is no session on this page yet: press Start")
        return self.attempts.get(session)


# The Overfit page: can this network learn one image, and if not, what prevents it?


STYLE = Path(__file__).with_name("overfit.css")

# Seconds between looks; a look that finds nothing new sends some hundred bytes.
LOOK_EVERY = 1.0


def page() -> Page:
    """The page's entry in the rail."""
    return Page("overfit", "Overfit", "Can it learn one image, and if not, what prevents it?", build)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Components of the page.

    Attributes:
        choice: the choices by name, in the order of `Handlers.start`.
        buttons: pause, step 1, step 10, resume, stop, snapshot.
        session: id of the session that is shown.
        sent: what `Handlers.watch` sent last.
    """

    choice: dict[str, Any]
    start: gr.Button
    photo: PhotoSection
    note: gr.HTML
    status: gr.HTML
    buttons: list[gr.Button]
    rate: gr.Number
    set_rate: gr.Button
    keypoint: gr.Dropdown
    share: gr.Button
    files: dict[str, gr.Button]
    verdict: gr.HTML
    cancel: gr.Button
    figure: gr.Plot
    picture: gr.HTML
    session: gr.Textbox
    sent: gr.Textbox
    timer: gr.Timer

    @property
    def choices(self) -> list[Any]:
        """The choices in the order of `Handlers.start`."""
        return list(self.choice.values())

    @property
    def restored(self) -> list[Any]:
        """What a session that is started or linked to sets."""
        return [self.session, self.sent, self.timer, self.keypoint, self.rate]


HIDDEN: dict[str, Any] = {"show_progress": "hidden"}


def build(context: Context) -> None:
    """Add the page's components and handlers."""
    handlers = Handlers(context)
    context.reports["overfit"] = handlers.shown
    parts = _components(context)
    watched = [parts.status, parts.figure, parts.picture, parts.verdict, *parts.buttons, parts.set_rate]
    looking = LatestQuestion()
    looking.on(
        [parts.timer.tick, parts.keypoint.input], handlers.watch, api_name="overfit_watch",
        inputs=[parts.session, parts.keypoint, parts.sent],
        outputs=[*watched, parts.cancel, parts.timer, parts.sent, parts.start],
        concurrency_id="overfit", concurrency_limit=4, **HIDDEN,
    )  # fmt: skip
    _opening_events(handlers, parts, looking)
    _start_events(handlers, parts, looking)
    _button_events(handlers, parts, looking)
    _file_events(handlers, parts)


def _components(context: Context) -> _Parts:
    """Choices, photo, status, buttons, verdict, curves and pictures, from top to bottom."""
    html_block(value=f"<style>{STYLE.read_text(encoding='utf-8')}</style>")
    with gr.Row(elem_classes="wb-bar"):
        subject, start = _subject_choices()
    with gr.Row(elem_classes="wb-bar"):
        training = _training_choices()
    with gr.Row(elem_classes="wb-bar"):
        checks = _check_choices()
    named = subject | training | checks
    photo = photo_section(context, named["data"])
    note, status = html_block("ovf-note"), html_block("wb-answer")
    with gr.Row(elem_classes="ovf-buttons wb-bar"):
        buttons = [
            gr.Button(word, interactive=False)
            for word in ("Pause", "Step 1", "Step 10", "Resume", "Stop", "Snapshot")
        ]
        rate = gr.Number(1e-3, label="learning rate (paused)", min_width=150, scale=0)
        set_rate = gr.Button("Set", interactive=False)
        keypoint = gr.Dropdown(
            [FURTHEST], value=FURTHEST, label="keypoint", min_width=150, scale=0, allow_custom_value=True
        )
        share = gr.Button("Copy link")
        files = {kind: gr.Button(kind.upper(), min_width=50) for kind in ("csv", "json")}
    verdict = html_block("ovf-verdict")
    cancel = gr.Button("Cancel the bisection", size="sm", visible=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=500):
            figure = gr.Plot(show_label=False, container=False, elem_id="wb-figure")
        with gr.Column(scale=5, min_width=400):
            picture = html_block("ovf-picture")
    session, sent = hidden_text(), hidden_text()
    timer = gr.Timer(LOOK_EVERY, active=False)
    choice = {name: named[name] for name in STARTED_WITH}
    return _Parts(
        choice, start, photo, note, status, buttons, rate, set_rate, keypoint, share, files, verdict, cancel,
        figure, picture, session, sent, timer,
    )  # fmt: skip


def _opening_events(handlers: Handlers, parts: _Parts, looking: LatestQuestion) -> None:
    """What the page shows when it opens, and before a start."""
    choice, photo = parts.choice, parts.photo
    query = hidden_text()
    restored = root_block().load(
        handlers.restored, query, [*parts.restored, parts.note, *parts.choices],
        api_name="overfit_restored", js=query_js(("session", "run", "data", "sample")), **HIDDEN,
    )  # fmt: skip
    looking.after(restored)
    awaiting = LatestQuestion()
    awaiting.after(restored)
    shown_with = [choice[name] for name in ("family", "config", "data", "sample", "device", "steps")]
    changed = [choice[name].input for name in ("config", "sample", "steps", "config_training")]
    awaited = awaiting.on(
        [*changed, photo.clicks.change], handlers.awaited,
        inputs=[parts.session, *shown_with, choice["config_training"], *photo.inputs],
        outputs=[parts.status, parts.figure, parts.picture], api_name="overfit_awaited", **HIDDEN,
    )  # fmt: skip
    # A session that was started meanwhile is shown again as a whole, in the place of what it began with.
    looking.after(
        awaited.success(
            None, [parts.session, parts.sent], parts.sent, js="(session, sent) => (session ? '' : sent)"
        )
    )
    for event in photo.events:
        awaiting.after(event)
    proposed = [choice[name] for name in ("data", "sample", "steps", "learning_rate", "schedule")]
    other_family = LatestQuestion().on(
        [choice["family"].input], handlers.family, inputs=[choice["family"], choice["data"]],
        outputs=proposed, api_name="overfit_family", **HIDDEN,
    )  # fmt: skip
    awaiting.after(other_family)
    # The config's own values take the place of these.
    replaced = [
        choice[name] for name in ("learning_rate", "schedule", "weight_decay", "ema", "warm_up", "clip")
    ]
    choice["config_training"].change(
        lambda own: [gr.update(interactive=not own)] * len(replaced), choice["config_training"], replaced,
        api_visibility="private", **HIDDEN,
    )  # fmt: skip
    # Another set has other samples.
    awaiting.after(choice["data"].input(None, None, choice["sample"], js="() => null"))


def _start_events(handlers: Handlers, parts: _Parts, looking: LatestQuestion) -> None:
    """Start, and what it clears."""
    started = parts.start.click(
        handlers.start, [*parts.choices, *parts.photo.inputs], parts.restored, api_name="overfit_start",
        show_progress_on=[parts.status], concurrency_id="overfit start", concurrency_limit=2,
        trigger_mode="once",
    )  # fmt: skip
    started = started.success(
        lambda: ["", "", gr.skip()], None, [parts.note, parts.verdict, parts.figure],
        api_visibility="private", **HIDDEN,
    )  # fmt: skip
    looking.after(started.success(None, parts.session, None, js="(session) => window.wb.remember({session})"))
    # A second Start would only be refused: the first look after the end gives it back.
    started.success(
        lambda: gr.update(interactive=False), None, parts.start, api_visibility="private", **HIDDEN
    )


def _button_events(handlers: Handlers, parts: _Parts, looking: LatestQuestion) -> None:
    """The buttons that act on a session."""

    def on(button: gr.Button, handler: Callable[..., None], name: str, *more: Component) -> None:
        visible: Any = {"api_name": name} if name else {"api_visibility": "private"}
        done = button.click(handler, [parts.session, *more], None, **HIDDEN, **visible)
        # What has ended no longer ticks; what was asked for may make it tick again.
        wake = done.success(
            lambda: gr.Timer(active=True), None, parts.timer, api_visibility="private", **HIDDEN
        )
        looking.after(wake)

    pause, step, steps, resume, stop, snapshot = parts.buttons
    on(pause, handlers.pause, "overfit_pause")
    on(step, handlers.step, "overfit_step", gr.Number(1, visible=False))
    on(steps, functools.partial(handlers.step, count=10), "")
    on(resume, handlers.resume, "overfit_resume")
    on(stop, handlers.stop, "overfit_stop")
    on(snapshot, handlers.snapshot, "overfit_snapshot")
    on(parts.set_rate, handlers.rate, "overfit_rate", parts.rate)
    on(parts.cancel, handlers.cancel, "overfit_cancel")


def _file_events(handlers: Handlers, parts: _Parts) -> None:
    """The link, and the rows as files."""
    parts.share.click(None, None, None, js=COPY_LINK)
    payload = gr.Textbox(visible="hidden", show_label=False, elem_classes="ovf-payload")
    for kind, button in parts.files.items():
        button.click(
            functools.partial(handlers.rows, kind=kind), parts.session, payload, api_name=f"overfit_{kind}",
            **HIDDEN,
        ).success(
            None, payload, None, js=f"(text) => window.wb.save(text, 'overfit.{kind}')"
        )  # fmt: skip


# Names of the choices in the order of `Handlers.start`.
STARTED_WITH = (
    "family", "config", "data", "sample", "device", "steps", "learning_rate", "schedule", "weight_decay",
    "ema", "plant", "every", "pck_falls", "wait", "seed", "warm_up", "clip", "dropout", "config_training",
)  # fmt: skip


def _subject_choices() -> tuple[dict[str, Any], gr.Button]:
    """What is trained on what, and the button that starts."""
    choices = {
        "family": gr.Dropdown([], value=None, label="family", min_width=175, allow_custom_value=True),
        "config": gr.Textbox(
            "", label="or config below the served folder (read, not run)", min_width=320, scale=2
        ),
        "data": gr.Dropdown([], value=None, label="data", min_width=150, allow_custom_value=True),
        "sample": gr.Number(None, label="sample (first)", precision=0, minimum=0, min_width=110, scale=0),
        "device": gr.Dropdown(
            ["cpu"], value="cpu", label="device", min_width=90, scale=0, allow_custom_value=True
        ),
    }
    return choices, gr.Button("Start", variant="primary", elem_id="ovf-start", min_width=90, scale=0)


def _training_choices() -> dict[str, Any]:
    """How it is trained."""
    schedules = ["constant", "cosine", "multistep"]
    return {
        "steps": gr.Number(200, label="steps", precision=0, min_width=80),
        "learning_rate": gr.Number(1e-3, label="learning rate", min_width=100),
        "schedule": gr.Dropdown(schedules, value="constant", label="schedule", min_width=120),
        "weight_decay": gr.Number(0.0, label="weight decay", min_width=100),
        "ema": gr.Number(0.0, label="EMA decay", min_width=90),
        "warm_up": gr.Number(None, label="warm-up (default)", precision=0, minimum=0, min_width=130),
        "clip": gr.Number(None, label="clip (default)", minimum=0, min_width=100),
        "seed": gr.Number(0, label="seed", precision=0, min_width=70, scale=0),
    }


def _check_choices() -> dict[str, Any]:
    """When it pauses by itself, dropout, the training of a config, and a fault planted on purpose."""
    from workbench.training.faults import FAULTS

    faults = [("none", ""), *((name, name) for name in FAULTS)]
    return {
        "every": gr.Number(0, label="pause every n steps", precision=0, minimum=0, min_width=150),
        "pck_falls": gr.Number(0.0, label="pause if PCK falls by", min_width=150),
        "wait": gr.Number(60.0, label="longest pause, s", min_width=120),
        "dropout": gr.Checkbox(True, label="dropout", min_width=90),
        "config_training": gr.Checkbox(
            False, label="use the config's training", min_width=200, elem_id="ovf-config-training"
        ),
        "plant": gr.Dropdown(faults, value="", label="plant a fault", min_width=150, allow_custom_value=True),
    }
