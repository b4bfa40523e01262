"""The Overfit page: can this network learn one image, and if not, what prevents it?"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from apps.pages.controls import LatestQuestion, with_names
from apps.pages.engine import DeclaredPage
from apps.pages.frame import sentence_html
from apps.pages.job_sections import QUIET
from apps.pages.links import read_link
from apps.pages.overfit.attempts import ENDED, Attempt, Attempts
from apps.pages.overfit.choices import (
    ADAPTER,
    DEMO,
    NAMES,
    Choices,
    choices_from,
    config_of_run,
    defaults_for,
    devices,
    families,
    preview,
)
from apps.pages.overfit.linked_settings import LINKED, settings_of_link, words_of
from apps.pages.overfit.own_photo import PhotoSection, own_photo
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
    DATA_NOTE,
    add_style,
    cancel_left_html,
    control_row,
    hidden_text,
    html_block,
    one_sentence_errors,
    query_js,
    root_block,
)
from apps.pages.subject import sample_name, sample_named
from apps.server.context import Context
from apps.server.encoding import sent_json, sent_words
from workbench.cli import MISTAKES, sentence
from workbench.core.report import plain

START = gr.update(interactive=True)
"""The button that starts, where nothing runs."""

RATES = 8
"""Number of buttons whose use depends on the state, in the page's order; see `_usable`."""

PHOTO = ("image", "annotation", "clicks")
"""Names of what an uploaded photo is started with, after the choices."""

SHOWN_WITH = ("family", "config", "data", "sample", "device", "steps", "config_training")
"""Choices that what Start would do depends on."""

CHECKED_WITH = tuple(name for name in NAMES if name not in SHOWN_WITH)
"""The other choices: Start refuses what is out of range, and so does the preview."""

PROPOSED = ("data", "sample", "steps", "learning_rate", "schedule")
"""Choices that another family changes."""

OF_CONFIG = ("learning_rate", "schedule", "weight_decay", "ema", "warm_up", "clip")
"""Choices whose place the config's own training takes."""

# Seconds between updates; one that finds nothing new sends some hundred bytes.
UPDATE_EVERY = 1.0

# What was awaited is shown while no session is: its answer may come late, after a start. Beside a session
# stands only what the next Start would refuse. The address follows the choices either way.
AWAITED_JS = """(session, text, drawn, refused, address, status, picture, note) => {
  if (address) window.wb.remember(JSON.parse(address));
  return session ? [status, picture, refused] : [text, drawn, note];
}"""


class OverfitPage(DeclaredPage):
    """A session that trains one network on one image, watched and controlled by the page."""

    path, prefix, title = "overfit", "ovf", "Overfit"
    question = "Can this network learn one image, and if not, what prevents it?"
    address = ("session", "run", "data", "sample", *LINKED)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.attempts = Attempts(context)

    # Handlers: functions of plain values, called by the page and by any HTTP client.

    @one_sentence_errors
    def start(self, *values: Any) -> list[Any]:
        """Start a session: its id, and what the timer, the keypoint's choice and the rate become.

        Args:
            *values: of NAMES and PHOTO; None takes the default of `Choices`.
        """
        given = dict(zip((*NAMES, *PHOTO), values, strict=True))
        given["data"] = given["data"] or self.default_data(given["family"] or Choices.family)
        own = own_photo(*(given.pop(name) for name in PHOTO))
        return self._restored_session(self.attempts.begin(choices_from(own, given)))

    def _restored_session(self, attempt: Attempt) -> list[Any]:
        names = keypoints_of(attempt.setup.model.skeleton)
        return [
            attempt.id, "", gr.Timer(active=True), gr.update(choices=names, value=FURTHEST),
            attempt.setup.plan.settings.learning_rate,
        ]  # fmt: skip

    def default_data(self, family: str | None) -> str:
        """The data set of a family when none is chosen."""
        from workbench.core import NotAvailable

        if family == ADAPTER:
            return self.context.registry.sets.ids()[0]
        try:
            from workbench.checkpoints.demo import demo_data

            return demo_data() if family == DEMO else "astronaut"
        except NotAvailable:
            return "astronaut"

    @one_sentence_errors
    def restored(self, query: str = "") -> list[Any]:
        """A session by its link: id, timer, keypoints, then the choices; a note on running sessions."""
        # Older links say the session alone.
        count = len(self.address)
        words = [*sent_json(query, list), *[None] * count][:count]
        identity, run, data, sample, *settings = sent_words(json.dumps(words), count)
        names = [name for _, name in families(self.context.settings.adapter)]
        refused = ""
        # Raised, a mistake would put "Error" into every control and leave nothing to choose from.
        try:
            if identity:
                attempt = self.attempts.get(str(identity))
                return [*self._restored_session(attempt), "", *self._offered(attempt.choices)]
        except MISTAKES as mistake:
            refused = sentence_html(sentence(mistake), "error")
        family = settings[0] if settings[0] in names else names[0]
        choices, wrong = read_link([run, data, sample], lambda linked: self._linked(family, *linked))
        chosen = settings_of_link(settings, names, bool(choices.config))
        choices = dataclasses.replace(choices, **chosen)
        refused += "".join(sentence_html(text, "error") for text in wrong)
        running = self.attempts.alive()
        notes = [
            f"a session on an uploaded photo is {a.state} on {a.setup.device}"
            if a.is_private
            else f"session {a.id} ({a.setup.title}) is {a.state} on {a.setup.device}: overfit?session={a.id}"
            for a in running
        ]
        if run and not refused and not choices.config:
            notes.insert(
                0,
                f"no config (.py) lies in the folder of {run} or above it, and its last checkpoint holds "
                "none: the network chosen below is trained, not that run's; name its config here",
            )
        note = refused + (sentence_html("; ".join(notes), "why") if notes else "")
        note += "".join(cancel_left_html(a.holding, "session") for a in running if a.holding is not None)
        # Nothing is said of the session: one that was started before this answer came would be lost.
        return [*[gr.skip()] * 5, note, *self._offered(choices)]

    def _linked(self, family: str, run: str | None, data: str | None, sample: str | None) -> Choices:
        """The choices of a link to this page: the config of a run, a data set, a sample by number or name."""
        data = data or self.default_data(family)
        samples = self.context.registry.sets.get(data)  # raises for a wrong name
        index = None if sample is None else sample_named(samples, sample)
        config = config_of_run(self.context, run) if run else ""
        return Choices(family=family, config=config, data=data, sample=index, config_training=bool(config))

    def _offered(self, chosen: Choices) -> list[Any]:
        offered = {
            "family": families(self.context.settings.adapter), "data": self.context.registry.sets.ids(),
            "device": devices(),
        }  # fmt: skip
        more: dict[str, dict[str, Any]] = {name: {"choices": choices} for name, choices in offered.items()}
        return [gr.update(value=getattr(chosen, name), **more.get(name, {})) for name in NAMES]

    def awaited(self, session: str = "", *values: Any) -> list[Any]:
        """Before a start: what Start would do, empty curves, the chosen image with its annotation.

        Args:
            session: id of the one that is shown; beside it only what Start would refuse is said.
            *values: of SHOWN_WITH, PHOTO and CHECKED_WITH.

        Returns:
            text, curves, picture, what Start would refuse beside a session, and the address as JSON.
        """
        given = dict.fromkeys((*SHOWN_WITH, *PHOTO, *CHECKED_WITH))
        given |= dict(zip(given, values, strict=False))
        if not given["data"]:
            return [gr.skip()] * 3 + ["", ""]
        shown: list[Any] = [gr.skip()] * 3
        photo = [given.pop(name) for name in PHOTO]
        refused = ""
        try:
            own = own_photo(*photo)
            choices = choices_from(own, {name: value for name, value in given.items() if value != ""})
            text, picture = preview(self.context, choices)
            shown = [sentence_html(text), curves([], ""), picture]
        except MISTAKES as mistake:
            refused = sentence_html(f"Start would refuse this: {sentence(mistake)}", "error")
            shown = [sentence_html(sentence(mistake), "error"), gr.skip(), ""]
        address = self._address(given, any(photo))
        return [*(shown if not session else [gr.skip()] * 3), refused, address]

    def _address(self, given: Mapping[str, Any], photo: bool) -> str:
        """Settings, data and sample as a link to this page names them, as JSON.

        Data and sample are left as they are beside a photo, and where there is no such sample.
        """
        names = families(self.context.settings.adapter)
        words: dict[str, Any] = words_of(given, names[0][1]) if names else {}
        if photo:
            return json.dumps(words)
        data, sample = given["data"], given["sample"]
        try:
            samples = self.context.registry.sets.get(data)
            named = None if sample is None else sample_name(samples, int(sample))
        except (*MISTAKES, IndexError):
            return json.dumps(words)
        return json.dumps({"data": data, "sample": named, **words})

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
            empty = [gr.skip(), curves([], ""), gr.skip(), gr.skip()]
            return [*empty, *[gr.skip()] * RATES, gr.Timer(active=False), "", START]
        try:
            attempt = self.attempts.get(session)
        except KeyError as gone:
            # Shown once in the status line: raised, it would come again with every tick.
            answer = [sentence_html(sentence(gone), "error"), *[gr.skip()] * (3 + RATES)]
            return [*answer, gr.Timer(active=False), "", START]
        attempt.ask()
        rows, state = attempt.run.rows, attempt.state
        at = next((row["step"] for row in reversed(rows) if row.get("pck") is not None), 0)
        job = attempt.job
        alive = attempt.alive  # read before what is drawn below, so that the last look follows the end
        before = sent_json(sent, list) or [None] * 4
        now = [[session, len(rows)], [session, at, keypoint], [session, alive, job and job.facts()], state]
        run = last_measured(attempt.run.session) if now[1] != before[1] else None
        return [
            status_html(attempt),
            curves(rows, session) if now[0] != before[0] and rows else gr.skip(),
            pictures(run, keypoint) if run else gr.skip(),
            verdict_html(attempt, self.context.settings.root) if now[2] != before[2] else gr.skip(),
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
        return [*(gr.update(interactive=bool(u)) for u in usable), gr.update(visible=attempt.bisecting)]

    def _action(self, act: Callable[[Attempt, Any], None], *names: str) -> Callable[..., None]:
        """The handler of a button that acts on a session."""

        def acted(session: str | None = None, value: float | None = None) -> None:
            act(self._attempt(session or ""), value)

        return with_names(one_sentence_errors(acted), ("session", *names))

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

    # Components and events.

    def build(self) -> None:
        """Add the page's components and events."""
        add_style(self.path)
        self.context.reports[self.path] = self.shown
        self._add_choices()
        self._photo = PhotoSection(self.context, self._choice["data"])
        self._add_session()
        self._watching = LatestQuestion()
        self._watching.on(
            [self._timer.tick, self._keypoint.input], self.watch, api_name="overfit_watch",
            inputs=[self._session, self._keypoint, self._sent],
            outputs=[
                self._status, self._figure, self._picture, self._verdict, *self._buttons, self._set_rate,
                self._cancel, self._timer, self._sent, self._start,
            ],
            concurrency_id="overfit", concurrency_limit=4, **QUIET,
        )  # fmt: skip
        self._add_opening_events()
        self._add_start_events()
        self._add_buttons_events()

    def _add_choices(self) -> None:
        """What is trained on what, how, and when it pauses; the button that starts."""
        from workbench.training.faults import FAULTS

        faults = [("none", ""), *((name, name) for name in FAULTS)]
        number: dict[str, Any] = {"cls": gr.Number}
        whole: dict[str, Any] = number | {"precision": 0}
        menu: dict[str, Any] = {"cls": gr.Dropdown, "allow_custom_value": True}
        schedules = {"cls": gr.Dropdown, "choices": ["constant", "cosine", "multistep"]}
        rows: tuple[dict[str, tuple[str, int, dict[str, Any]]], ...] = (
            {
                "family": ("family", 210, menu | {"choices": [], "value": None}),
                "config": (
                    "or config, or checkpoint with one (read only)", 310, {"cls": gr.Textbox, "scale": 2}
                ),
                "data": ("data", 200, menu | {"choices": [], "value": None, "scale": 2}),
                "sample": ("sample (first)", 110, whole | {"minimum": 0, "scale": 0}),
                "device": ("device", 90, menu | {"choices": ["cpu"], "scale": 0}),
            },
            {
                "steps": ("steps", 80, whole),
                "learning_rate": ("learning rate", 100, number),
                "schedule": ("schedule", 120, schedules),
                "weight_decay": ("weight decay", 100, number),
                "ema": ("EMA decay", 90, number),
                "warm_up": ("warm-up (default)", 130, whole | {"minimum": 0}),
                "clip": ("clip (default)", 100, number | {"minimum": 0}),
                "seed": ("seed", 70, whole | {"scale": 0}),
            },
            {
                "every": ("pause every n steps", 150, whole | {"minimum": 0}),
                "pck_falls": ("pause if PCK falls by", 150, number),
                "wait": ("longest pause, s", 120, number),
                "dropout": ("dropout", 90, {"cls": gr.Checkbox}),
                "config_training": (
                    "use the config's training", 200, {"cls": gr.Checkbox, "elem_id": "ovf-config-training"}
                ),
                "plant": ("plant a fault", 150, menu | {"choices": faults}),
            },
        )  # fmt: skip
        made: dict[str, Any] = {}
        for row in rows:
            with control_row():
                for name, (label, width, how) in row.items():
                    more = {"value": getattr(Choices, name), **how, "label": label, "min_width": width}
                    made[name] = more.pop("cls")(**more)
                if "family" in row:
                    self._start = gr.Button(
                        "Start", variant="primary", elem_id="ovf-start", min_width=90, scale=0
                    )
        self._choice = {name: made[name] for name in NAMES}

    def _add_session(self) -> None:
        """Status, buttons, verdict, curves and pictures, from top to bottom."""
        self._note, self._status = html_block("ovf-note"), html_block("wb-answer")
        with control_row("ovf-buttons"):
            self._buttons = [
                gr.Button(word, interactive=False)
                for word in ("Pause", "Step 1", "Step 10", "Resume", "Stop", "Snapshot")
            ]
            self._rate = gr.Number(1e-3, label="rate (paused)", min_width=110, scale=0)
            self._set_rate = gr.Button("Set", interactive=False)
            self._keypoint = gr.Dropdown(
                [FURTHEST], value=FURTHEST, label="keypoint", min_width=130, scale=0, allow_custom_value=True
            )
            gr.Button("Copy link").click(None, None, None, js=COPY_LINK)
            self._files = {kind: gr.Button(kind.upper(), min_width=50) for kind in ("csv", "json")}
        self._verdict = html_block("ovf-verdict")
        self._cancel = gr.Button("Cancel the bisection", size="sm", visible=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=500):
                self._figure = gr.Plot(show_label=False, container=False, elem_id="wb-figure")
            with gr.Column(scale=5, min_width=400):
                self._picture = html_block("ovf-picture")
        self._session, self._sent = hidden_text(), hidden_text()
        self._timer = gr.Timer(UPDATE_EVERY, active=False)
        self._restored = [self._session, self._sent, self._timer, self._keypoint, self._rate]

    def _add_opening_events(self) -> None:
        """What the page shows when it opens, and before a start."""
        choice, photo = self._choice, self._photo
        restored = root_block().load(
            self.restored, hidden_text(), [*self._restored, self._note, *choice.values()],
            api_name="overfit_restored", js=query_js(self.address), **QUIET,
        )  # fmt: skip
        self._watching.after(restored)
        awaiting, text, drawn = LatestQuestion(), hidden_text(), hidden_text()
        awaiting.after(restored)
        # Family and data change others first.
        changed = [choice[name].input for name in NAMES if name not in ("family", "data")]
        refused, address = hidden_text(), hidden_text()
        awaited = awaiting.on(
            [*changed, photo.clicks.change],
            with_names(self.awaited, ("session", *SHOWN_WITH, *PHOTO, *CHECKED_WITH)),
            inputs=[
                self._session, *(choice[name] for name in SHOWN_WITH), *photo.inputs,
                *(choice[name] for name in CHECKED_WITH),
            ],
            outputs=[text, gr.Plot(visible=False), drawn, refused, address], api_name="overfit_awaited",
            **QUIET,
        )  # fmt: skip
        shown = [self._status, self._picture, self._note]
        awaited.success(None, [self._session, text, drawn, refused, address, *shown], shown, js=AWAITED_JS)
        # The address named a run for its config; another config is no longer that run's.
        choice["config"].input(None, None, None, js="() => window.wb.remember({run: null})")
        choice["data"].change(None, choice["data"], None, js=DATA_NOTE)
        for event in photo.events:
            awaiting.after(event)
        other_family = LatestQuestion().on(
            [choice["family"].input], self.family, inputs=[choice["family"], choice["data"]],
            outputs=[choice[name] for name in PROPOSED], api_name="overfit_family", **QUIET,
        )  # fmt: skip
        awaiting.after(other_family)
        choice["config_training"].change(
            lambda own: [gr.update(interactive=not own)] * len(OF_CONFIG), choice["config_training"],
            [choice[name] for name in OF_CONFIG], api_visibility="private", **QUIET,
        )  # fmt: skip
        # Another set has other samples.
        awaiting.after(choice["data"].input(None, None, choice["sample"], js="() => null"))

    def _add_start_events(self) -> None:
        """Start, and what it clears."""
        started = self._start.click(
            with_names(self.start, (*NAMES, *PHOTO)), [*self._choice.values(), *self._photo.inputs],
            self._restored, api_name="overfit_start", show_progress_on=[self._status],
            concurrency_id="overfit start", concurrency_limit=2, trigger_mode="once",
        )  # fmt: skip
        # A second Start would only be refused: the first update after the end gives it back.
        started = started.success(
            lambda: ["", "", gr.update(interactive=False)], None, [self._note, self._verdict, self._start],
            api_visibility="private", **QUIET,
        )  # fmt: skip
        remember = "(session) => window.wb.remember({session})"
        self._watching.after(started.success(None, self._session, None, js=remember))

    def _add_buttons_events(self) -> None:
        """The buttons that act on a session, and the rows as files."""
        pause, step, steps, resume, stop, snapshot = self._buttons
        one = gr.Number(1, visible=False)
        acts: tuple[tuple[gr.Button, str, Callable[[Attempt, Any], None], dict[str, Any]], ...] = (
            (pause, "pause", lambda a, _: a.run.session.pause(), {}),
            (step, "step", lambda a, n: a.run.session.step(1 if n is None else int(n)), {"count": one}),
            (steps, "", lambda a, _: a.run.session.step(10), {}),
            (resume, "resume", lambda a, _: a.run.session.resume(), {}),
            (stop, "stop", lambda a, _: a.run.session.stop(), {}),
            (snapshot, "snapshot", lambda a, _: a.snapshot(), {}),
            (self._set_rate, "rate", Attempt.set_learning_rate, {"learning_rate": self._rate}),
            (self._cancel, "cancel", lambda a, _: a.cancel(), {}),
        )
        for button, name, act, more in acts:
            visible: Any = {"api_name": f"overfit_{name}"} if name else {"api_visibility": "private"}
            inputs = [self._session, *more.values()]
            done = button.click(self._action(act, *more), inputs, None, **QUIET, **visible)
            # What has ended no longer ticks; what was asked for may make it tick again.
            wake = done.success(
                lambda: gr.Timer(active=True), None, self._timer, api_visibility="private", **QUIET
            )
            self._watching.after(wake)
        payload = hidden_text()
        for kind, button in self._files.items():
            written = functools.partial(self.rows, kind=kind)
            saved = button.click(written, self._session, payload, api_name=f"overfit_{kind}", **QUIET)
            saved.success(None, payload, None, js=f"(text) => window.wb.save(text, 'overfit.{kind}')")
