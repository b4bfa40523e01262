"""Two checkpoints compared as a job: it tells how far it is, and Cancel ends it within a million numbers."""

from __future__ import annotations

import html
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages import checkpoint_facts as page
from apps.pages.code import path_literal
from apps.pages.events import Looking
from apps.pages.frame import sentence_html
from apps.pages.report_section import add_actions, sheet, untitled
from workbench.cli import MISTAKES
from workbench.core.cache import LruCache, version_of
from workbench.core.job import Job

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.checkpoints.difference import CheckpointDifference
    from workbench.core.job import Job


# A line of its own: reading files must not wait for a network that is being evaluated or trained.
LINE = "files"


class Differing:
    """Comparisons by their two files, kept for whoever asks again."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._found: LruCache[CheckpointDifference] = LruCache(20)

    def key(self, a: Path, b: Path) -> str:
        """Names the job; files that were rewritten are others.

        Raises:
            FileNotFoundError: one of them is gone.
        """
        return f"difference {version_of(a)} {version_of(b)}"

    def begin(self, a: Path, b: Path) -> Job:
        """Start, or find, the comparison of b with a.

        Raises:
            ValueError: one of them is no checkpoint.
        """
        checkpoint = self._context.registry.checkpoint
        for path in (a, b):
            checkpoint(path)  # what cannot be opened is told at once, not by a job
        key, title = self.key(a, b), f"{a.parent.name}/{a.name} against {b.parent.name}/{b.name}"
        return self._context.jobs.start(key, title, lambda job: self._work(job, key, a, b), LINE)

    def job(self, a: Path, b: Path) -> Job | None:
        """The newest job of these two."""
        return self._context.jobs.latest(self.key(a, b))

    def found(self, a: Path, b: Path) -> CheckpointDifference | None:
        """The comparison; None while it is not made."""
        key = self.key(a, b)
        return self._found.get(key, _never) if key in self._found else None

    def _work(self, job: Job, key: str, a: Path, b: Path) -> None:
        from workbench.checkpoints.difference import compare_checkpoints

        def told(done: int, total: int) -> None:
            job.progress(done, total)
            job.checkpoint()

        checkpoint = self._context.registry.checkpoint
        found = compare_checkpoints(checkpoint(a), checkpoint(b), progress=told)
        self._found.get(key, lambda: found)


def _never() -> CheckpointDifference:
    raise LookupError("the comparison was forgotten while it was asked for; compare again")


# What changed between two files? The Checkpoint page's last section; a job that can be cancelled.


LOOK_EVERY = 0.5
# A comparison of small files is there by then, and the page shows no progress that is gone at once.
PATIENCE = 0.4


class Section:
    """Components and handlers; the page says when to compare."""

    def __init__(self, context: Context) -> None:
        self._context, self._differing = context, Differing(context)

    def build(self, file: gr.Dropdown, against: gr.Dropdown) -> None:
        """Add the section's components."""
        with gr.Row(elem_classes="wb-quiet-row"):
            self.line = gr.HTML(elem_id="wb-difference", apply_default_css=False, js_on_load=None)
            self.stop = gr.Button(
                "Cancel", size="sm", min_width=90, scale=0, visible=False, elem_id="wb-difference-stop"
            )
            self.again = gr.Button(
                "Compare", size="sm", min_width=90, scale=0, visible=False, elem_id="wb-difference-again"
            )
        self.figure = gr.Plot(
            show_label=False, container=False, visible=False, elem_id="wb-difference-figure"
        )
        self.table = gr.Dataframe(interactive=False, show_label=False, max_height=360, visible=False)
        self.actions = add_actions(
            "checkpoint_difference", "wb-difference-figure", [file, against], self.report, self.code
        )
        self.timer = gr.Timer(LOOK_EVERY, active=False)
        self.before = gr.Textbox("", visible="hidden", show_label=False)
        self.pair: list[Component] = [file, against]
        self.shown: list[Any] = [
            self.line, self.figure, self.table, self.actions, self.timer, self.stop, self.again,
        ]  # fmt: skip
        self.looking, self.comparing = Looking(), Looking()
        self.looking.on(
            [self.timer.tick], self.watch, inputs=self.pair, outputs=self.shown,
            api_name="checkpoint_difference_watch", show_progress="hidden",
        )  # fmt: skip
        self.looking.after(
            self.stop.click(
                self.cancel, self.pair, self.shown, api_name="checkpoint_difference_cancel",
                show_progress="hidden",
            )
        )  # fmt: skip
        # What this page compared before is no longer wanted.
        began = self.comparing.on(
            [against.input, self.again.click], self._compared, inputs=[*self.pair, self.before],  # type: ignore[attr-defined]
            outputs=[*self.shown, self.before], api_name="checkpoint_difference", show_progress="hidden",
        )  # fmt: skip
        self.looking.after(began)

    def compare(self, file: str | None, against: str | None, before: str = "") -> list[Any]:
        """What changed; or how far the comparison is, when it takes longer than a moment."""
        try:
            pair = self._files(file, against)
            self._give_up(before, pair)
            if self._differing.found(*pair) is None:
                job = self._differing.begin(*pair)
                end = time.monotonic() + PATIENCE
                while job.alive and time.monotonic() < end:
                    time.sleep(0.01)
        except MISTAKES as mistake:
            return _refused(mistake)
        return self.watch(file, against)

    def _compared(self, file: str | None, against: str | None, before: str = "") -> list[Any]:
        """As `compare`, and what is to be `before` the next time."""
        return [*self.compare(file, against, before), json.dumps([file, against])]

    def watch(self, file: str | None, against: str | None) -> list[Any]:
        """Sentence or progress, figure, table, their buttons, timer, Cancel, Compare."""
        try:
            pair = self._files(file, against)
            # Looked at before what is found: the last look then comes after the end.
            job = self._differing.job(*pair)
            alive = job is not None and job.alive
            report = self._differing.found(*pair)
        except MISTAKES as mistake:
            return _refused(mistake)
        if report is not None:
            shown = [
                sentence_html(report.summary()),
                gr.update(value=untitled(report), visible=True),
                gr.update(value=sheet(report.table()), visible=True),
                gr.update(visible=True),
            ]
        else:
            shown = [_status(job), *[gr.update(visible=False)] * 3]
        ended = report is None and not alive
        return [*shown, gr.Timer(active=alive), gr.update(visible=alive), gr.update(visible=ended)]

    def report(self, file: str | None, against: str | None) -> CheckpointDifference:
        """The comparison that is shown.

        Raises:
            LookupError: it is not made yet.
        """
        found = self._differing.found(*self._files(file, against))
        if found is None:
            raise LookupError("the two files are not compared yet")
        return found

    def code(self, file: str | None, against: str | None) -> str:
        """The Python that makes the same comparison."""
        a, b = (f"open_checkpoint({path_literal(path)})" for path in self._files(file, against))
        return (
            "from workbench.checkpoints import open_checkpoint\n"
            "from workbench.checkpoints.difference import compare_checkpoints\n\n"
            f"compare_checkpoints({a}, {b})"
        )

    def cancel(self, file: str | None, against: str | None) -> list[Any]:
        """End the comparison at its next piece."""
        try:
            job = self._differing.job(*self._files(file, against))
        except MISTAKES as mistake:
            return _refused(mistake)
        if job is not None and job.alive:
            job.cancel()
            end = time.monotonic() + PATIENCE
            while job.alive and time.monotonic() < end:
                time.sleep(0.01)
        return self.watch(file, against)

    def _files(self, file: str | None, against: str | None) -> tuple[Path, Path]:
        if not file or not against:
            raise ValueError("choose two checkpoints to compare")
        return page.file_of(self._context, against), page.file_of(self._context, file)

    def _give_up(self, before: str, pair: tuple[Path, Path]) -> None:
        """Cancel the comparison that this page waited for until another pair was chosen."""
        if not before:
            return
        try:
            old = self._files(*json.loads(before))
            job = self._differing.job(*old)
        except MISTAKES:  # gone, or never a checkpoint: there is nothing to cancel
            return
        if job is not None and job.alive and old != pair:
            job.cancel()


def _refused(mistake: BaseException) -> list[Any]:
    hidden = gr.update(visible=False)
    return [page.reason(mistake), hidden, hidden, hidden, gr.Timer(active=False), hidden, hidden]


def _status(job: Job | None) -> str:
    """How far, how long; why not, when it ended without an answer."""
    if job is None or job.state == "cancelled":
        return sentence_html("Cancelled; nothing was compared.", "why")
    if job.state == "failed":
        return sentence_html(job.error or "", "error")
    left = job.seconds_left
    told = f"{job.title}: "
    far = f"{job.done / 1e6:.0f} of {job.total / 1e6:.0f} M numbers"
    told += "waits for its turn" if job.state == "queued" else far
    told += f", {left:.0f} s left" if left is not None and left >= 1 else ""
    bar = f'<progress max="{max(1, job.total)}" value="{job.done}"></progress>'
    return f'<div class="wb-progress">{html.escape(told)}{bar}</div>'
