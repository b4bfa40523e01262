"""What changed between two files: the Checkpoint page's last section, a job that can be cancelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.controls import LatestQuestion
from apps.pages.frame import sentence_html
from apps.pages.report_section import Answer, path_literal
from apps.pages.sections import Download, add_section, details_html, job_html, report_updates
from apps.pages.subject import file_of, reason
from workbench.cli import MISTAKES
from workbench.core.job import JobResults, version_of

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.checkpoints.difference import CheckpointDifference
    from workbench.core.job import Job

# A comparison of small files is there by then, and the page shows no progress that is gone at once.
PATIENCE_SECONDS = 0.4
UPDATE_SECONDS = 0.5

# A queue of its own: reading files must not wait for a network that is being evaluated or trained.
QUEUE = "files"

FIGURE = "wb-difference-figure"


class Section:
    """Components and handlers; the page says when to compare."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._results: JobResults[CheckpointDifference] = JobResults(context.jobs)
        context.reports["checkpoint/difference"] = self.shown

    def build(self, file: gr.Dropdown, against: gr.Dropdown) -> None:
        """Add the section's components."""
        with gr.Row(elem_classes="wb-row-of-status"):
            self.status = gr.HTML(elem_id="wb-difference-status", apply_default_css=False, js_on_load=None)
            self.stop, self.again = (
                gr.Button(
                    word, size="sm", min_width=90, scale=0, visible=False, elem_id=f"wb-difference-{name}"
                )
                for word, name in (("Cancel", "stop"), ("Compare", "again"))
            )
        section = add_section("wb-difference", "difference", figure_id=FIGURE, line_id="wb-difference")
        self.timer = gr.Timer(UPDATE_SECONDS, active=False)
        self.before = gr.Textbox("", visible="hidden", show_label=False)
        pair: list[Component] = [file, against]
        shown: list[Any] = [*section.outputs, self.status, self.timer, self.stop, self.again]
        self.looking, self.comparing = LatestQuestion(), LatestQuestion()
        quiet: dict[str, Any] = {"show_progress": "hidden"}
        self.looking.on(
            [self.timer.tick], self.watch, inputs=pair, outputs=shown, api_name="checkpoint_difference_watch",
            **quiet,
        )  # fmt: skip
        self.looking.after(
            self.stop.click(self.cancel, pair, shown, api_name="checkpoint_difference_cancel", **quiet)
        )
        # What this page compared before is no longer wanted.
        began = self.comparing.on(
            [against.input, self.again.click], self._compared, inputs=[*pair, self.before],  # type: ignore[attr-defined]
            outputs=[*shown, self.before], api_name="checkpoint_difference", **quiet,
        )  # fmt: skip
        self.looking.after(began)

    def compare(self, file: str | None, against: str | None, before: str = "") -> list[Any]:
        """What changed; or how far the comparison is, when it takes longer than a moment."""
        try:
            pair = self._files(file, against)
            self._cancel_former(before, pair)
            if self._results.result(key_of(*pair)) is None:
                self._start(*pair).wait(PATIENCE_SECONDS)
        except MISTAKES as mistake:
            return _refused(mistake)
        return self.watch(file, against)

    def _compared(self, file: str | None, against: str | None, before: str = "") -> list[Any]:
        """As `compare`, and what is `before` the next time."""
        return [*self.compare(file, against, before), json.dumps([file, against])]

    def watch(self, file: str | None, against: str | None) -> list[Any]:
        """Sentence, figure, details, progress, timer, Cancel, Compare."""
        try:
            key = key_of(*self._files(file, against))
            # The job before its result: the last update then comes after the job's end.
            job = self._results.job(key)
            alive = job is not None and job.alive
            report = self._results.result(key)
        except MISTAKES as mistake:
            return _refused(mistake)
        shown = ["", gr.update(visible=False), ""]
        if report is not None:
            download = Download("checkpoint/difference", "difference", json.dumps([file, against]))
            code = self.code(file, against)
            shown = report_updates(
                report, "", lambda found: details_html(download, found.table(), code, {FIGURE: ""})
            )
        status = "" if report is not None else _status(job)
        ended = report is None and not alive
        return [*shown, status, gr.Timer(active=alive), gr.update(visible=alive), gr.update(visible=ended)]

    def shown(self, section: str, state: str) -> Answer:
        """The comparison of the two files in `state`.

        Raises:
            LookupError: they are not compared yet.
        """
        pair = json.loads(state)
        found = self._results.result(key_of(*self._files(*pair)))
        if found is None:
            raise LookupError("the two files are not compared yet")
        inputs = [("checkpoint", path) for path in self._files(*pair)]
        return Answer.of("What changed?", found, self.code(*pair), inputs)

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
            job = self._results.job(key_of(*self._files(file, against)))
        except MISTAKES as mistake:
            return _refused(mistake)
        if job is not None and job.alive:
            job.cancel()
            job.wait(PATIENCE_SECONDS)
        return self.watch(file, against)

    def _start(self, a: Path, b: Path) -> Job:
        """Start, or find, the comparison of b with a."""
        from workbench.checkpoints.difference import compare_checkpoints

        checkpoint = self._context.registry.checkpoint
        for path in (a, b):
            checkpoint(path)  # what cannot be opened is reported at once, not by a job

        def work(job: Job) -> CheckpointDifference:
            def progress(done: int, total: int) -> None:
                job.progress(done, total)
                job.step = f"{done / 1e6:.0f} of {total / 1e6:.0f} M numbers"
                job.checkpoint()

            return compare_checkpoints(checkpoint(a), checkpoint(b), progress=progress)

        title = f"{a.parent.name}/{a.name} against {b.parent.name}/{b.name}"
        return self._results.start(key_of(a, b), title, work, QUEUE)

    def _files(self, file: str | None, against: str | None) -> tuple[Path, Path]:
        if not file or not against:
            raise ValueError("choose two checkpoints to compare")
        return (
            file_of(self._context, against),
            file_of(self._context, file),
        )

    def _cancel_former(self, before: str, pair: tuple[Path, Path]) -> None:
        """Cancel the comparison that this page waited for until another pair was chosen."""
        if not before:
            return
        try:
            old = self._files(*json.loads(before))
            job = self._results.job(key_of(*old))
        except MISTAKES:  # gone, or never a checkpoint: there is nothing to cancel
            return
        if job is not None and job.alive and old != pair:
            job.cancel()


def key_of(a: Path, b: Path) -> str:
    """Names a comparison; files that were rewritten are others.

    Raises:
        FileNotFoundError: one of them is gone.
    """
    return f"difference {version_of(a)} {version_of(b)}"


def _refused(mistake: BaseException) -> list[Any]:
    hidden = gr.update(visible=False)
    return [reason(mistake), hidden, "", "", gr.Timer(active=False), hidden, hidden]


def _status(job: Job | None) -> str:
    """How far the comparison is; why there is no answer, when it ended without one."""
    if job is None or job.state == "cancelled":
        return sentence_html("The comparison was cancelled; Compare starts it again.", "why")
    if job.state == "failed":
        return sentence_html(job.error or "", "error")
    return job_html(job)
