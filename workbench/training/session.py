"""A controllable training session: start, pause, step, resume, stop, snapshot, breakpoints.

The loop runs in a thread of its own; watchers read `status()` and `rows` and never wait for it. A finished
step is never lost: rows and snapshots are written before the session stops for any reason.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.core import NotAvailable, reason
from workbench.core.hooks import checking
from workbench.core.report import counted
from workbench.training.run_folder import RowWriter, newest_snapshot, only_session, read_rows, write_snapshot
from workbench.training.trainer import Diverged, Trainer

# torch's message on a GPU, and those of its CPU allocator.
MEMORY_MESSAGES = ("out of memory", "allocate memory", "not enough memory")


def out_of_memory(failure: BaseException) -> bool:
    """Whether an error means that memory ran out: Python's, a GPU's, or torch's CPU allocator's."""
    import torch

    if isinstance(failure, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(failure, RuntimeError) and any(text in str(failure).lower() for text in MEMORY_MESSAGES)


State = Literal["ready", "running", "paused", "waiting", "finished", "stopped", "failed"]

# Often enough to watch, rare enough to cost nothing: a part is some 10 kB.
FLUSH_SECONDS = 2.0
# Of a shorter step nobody waits for the end, and asking before each layer would take a share of it.
LONG_STEP = 0.5


class _StepLeft(Exception):  # noqa: N818 - no error: somebody stops the run
    """The run is stopped within a step."""


@dataclass(frozen=True)
class Breakpoint:
    """Condition under which the session waits for its user.

    Attributes:
        every: wait after every so many steps; 0 never.
        pck_falls: wait when the measured PCK (evaluation mode) falls by this much from its best; 0 never.
        wait: seconds to wait before the session continues by itself.
    """

    every: int = 0
    pck_falls: float = 0.0
    wait: float = 60.0

    def reached(self, row: dict[str, Any], best: float) -> str:
        """Reason to wait after a row; "" when there is none.

        Args:
            row: of the step just finished.
            best: highest PCK of the steps before.
        """
        if self.every and row["step"] % self.every == 0:
            return f"step {row['step']} is a multiple of {self.every}"
        pck = row.get("pck", math.nan)
        if self.pck_falls and best - pck >= self.pck_falls:
            return f"PCK fell from {best:.2f} to {pck:.2f}"
        return ""


@dataclass(frozen=True)
class Status:
    """Progress of a session.

    Attributes:
        state: ready, running, paused, waiting (at a breakpoint), finished, stopped, failed.
        step: finished steps.
        steps: steps in total.
        reason: why it waits or failed; one sentence.
        seconds_left: remaining time at the current speed; nan when it does not run.
    """

    state: State
    step: int
    steps: int
    reason: str = ""
    seconds_left: float = math.nan


class Session:
    """One run of a Trainer, in a thread.

    Attributes:
        trainer: the loop.
        rows: one per finished step.
        notes: damaged files in the run folder, one sentence each.
        failure: the error that ended the run; None where there was none.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: Path | None = None,
        pause_at: Breakpoint | None = None,
        on_row: Callable[[dict[str, Any]], None] | None = None,
        belongs: Callable[[], list[str]] | None = None,
    ) -> None:
        """Lock the run folder, if there is one, and resume its last snapshot.

        Args:
            trainer: the loop.
            folder: for rows and snapshots; None keeps everything in memory.
            pause_at: breakpoint; None never waits.
            on_row: called in the loop's thread after every step.
            belongs: looks whether the folder is this attempt's own, and may write a record into it. Called
                once it is locked: who is refused must change nothing in the folder of another. Returns notes.

        Raises:
            ValueError: another session uses the folder, its snapshot belongs to another model, or `belongs`
                says so.
        """
        self.trainer, self.folder, self.breakpoint, self.on_row = (
            trainer,
            folder,
            pause_at or Breakpoint(),
            on_row,
        )
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self._lock = contextlib.ExitStack()
        self._writer: RowWriter | None = None
        self._turn = threading.Condition()
        self._allowed = 0.0  # steps that may still be done; infinity while it runs freely
        self._state: State = "ready"
        self._reason = ""
        self.failure: Exception | None = None
        self._best = -math.inf
        self._snapshot_wanted = self._stop_wanted = self._pause_wanted = False
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        if folder is not None:
            self._lock.enter_context(only_session(folder))
            with contextlib.ExitStack() as undo:
                undo.callback(self._lock.close)
                notes = belongs() if belongs else []
                self._resume_from(folder)
                self.notes[:0] = notes
                undo.pop_all()

    def _resume_from(self, folder: Path) -> None:
        self._writer = RowWriter(folder / "rows")
        self.notes = self._writer.set_aside_damaged()
        # Rows are written before the snapshot of their step: without its row that step is done again.
        last = max((row["step"] or 0 for row in read_rows(folder / "rows")), default=0)
        state, notes = newest_snapshot(folder, last)
        if state is not None:
            self.trainer.restore(state)
        self._writer.forget_from(self.trainer.step_number + 1)
        self.rows = read_rows(folder / "rows")
        self.notes += notes
        done = self.trainer.step_number
        written = {row["step"] for row in self.rows if 0 < (row["step"] or 0) <= done}
        if missing := done - len(written):
            first = next(step for step in itertools.count(1) if step not in written)
            self.notes.append(
                f"rows: {counted(missing, 'step has', 'steps have')} no row, the first is step {first}; "
                "figures and curves are of the others"
            )
        wanted = {"loss": (float,), "seconds": (float,), "pck": (float, int, type(None))}
        for name, kinds in wanted.items():
            if any(not isinstance(row.get(name), kinds) for row in self.rows):
                raise ValueError(
                    f"{folder / 'rows'}: {name} is not a number in each row, as a training run writes it; "
                    "name another folder"
                )
        self._best = max((row["pck"] for row in self.rows if row.get("pck") is not None), default=-math.inf)

    def start(self) -> None:
        """Run until the end; also after a pause."""
        self._let(math.inf)

    resume = start

    def step(self, count: int = 1) -> None:
        """Do some steps and pause.

        Raises:
            ValueError: less than one.
        """
        if count < 1:
            raise ValueError(f"step: expected at least one, got {count}")
        self._let(count)

    def pause(self) -> None:
        """Pause after the current step."""
        with self._turn:
            self._allowed, self._pause_wanted = 0, True
            self._turn.notify_all()

    def stop(self) -> None:
        """End the run after the current step, or within a long one; rows and a snapshot are written."""
        with self._turn:
            self._stop_wanted = True
            self._turn.notify_all()
        self.join()

    def snapshot(self) -> None:
        """Write a snapshot after the current step, or at once while the session pauses."""
        with self._turn:
            self._snapshot_wanted = True
            self._turn.notify_all()

    def set_learning_rate(self, rate: float) -> None:
        """Change the peak learning rate from the next step on."""
        with self._turn:
            self.trainer.set_learning_rate(rate)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the loop has ended.

        Args:
            timeout: seconds; None waits for ever.

        Returns:
            False when the loop still runs after `timeout` seconds.
        """
        if self._thread is not None:
            # Not Thread.join: once interrupted by Ctrl-C it reports the thread as ended.
            return self._over.wait(timeout)
        self._lock.close()
        return True

    def status(self) -> Status:
        """Progress of the run; never waits for the loop."""
        recent = [row["seconds"] for row in self.rows[-20:]]
        done, steps = self.trainer.step_number, self.trainer.settings.steps
        left = (steps - done) * sum(recent) / len(recent) if recent and self._state == "running" else math.nan
        return Status(self._state, done, steps, self._reason, left)

    def _let(self, count: float) -> None:
        with self._turn:
            if self._state in ("finished", "stopped", "failed"):
                raise ValueError(f"training: this run is {self._state} and cannot go on; start another one")
            self._allowed, self._pause_wanted = count, False
            self._state, self._reason = "running", ""
            self._turn.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="training", daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        end: State = "failed"
        try:
            end = self._run()
        except (Diverged, ValueError, OSError, NotAvailable) as failure:
            self._reason, self.failure = str(failure), failure
        # A network or a loss of the user's own may raise any of these.
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            ImportError,
            LookupError,
            MemoryError,
            RuntimeError,
            TypeError,
        ) as failure:
            done, self.failure = self.trainer.step_number, failure
            self._reason = f"failed after step {done}: {type(failure).__name__}: {reason(failure)}"
            if out_of_memory(failure):
                self._reason = (
                    f"out of memory after step {done}: take fewer images or smaller ones, or a smaller "
                    "network; finished steps are saved"
                )
        finally:
            try:
                self._save(last=True)
            except OSError as full:
                # The disk may still be as full as when it ended the run.
                added = str(full) if not self._reason else "" if str(full) in self._reason else f"; {full}"
                end, self._reason = "failed", f"{self._reason}{added}"
            self._lock.close()
            with self._turn:
                self._state = end
                self._turn.notify_all()
            self._over.set()

    def _run(self) -> State:
        flushed = time.monotonic()
        while self.trainer.step_number < self.trainer.settings.steps:
            if not self._permitted():
                return "stopped"
            with self._turn:
                self._allowed -= 1
                by_hand = self._allowed < 1  # a single step is always measured
            try:
                with self._left_on_stop():
                    row = self._step(by_hand)
            except _StepLeft:
                return "stopped"
            every = self.trainer.settings.snapshot_every
            if every and row["step"] % every == 0:
                self._snapshot_wanted = True
            if self._writer and (self._snapshot_wanted or time.monotonic() - flushed > FLUSH_SECONDS):
                self._save()
                flushed = time.monotonic()
            over = row["step"] >= self.trainer.settings.steps  # nothing left to wait for
            if not over and (reason := self.breakpoint.reached(row, self._best)):
                self._wait_at(reason)
            self._best = max(self._best, row.get("pck", -math.inf))
        return "finished"

    def _step(self, by_hand: bool) -> dict[str, Any]:
        row = self.trainer.advance(measure=by_hand)
        try:
            # Who stops the run does not wait for two more passes, unless nothing was measured yet.
            if not (self._stop_wanted and self.rows):
                row |= self.trainer.measured(row["seconds"])
        finally:  # a finished step is recorded even when measuring it fails
            self._record(row)
        return row

    def _left_on_stop(self) -> contextlib.AbstractContextManager[None]:
        """Leave a long step within its passes when the run is stopped.

        Nothing of it remains: weights change after both passes, running statistics are restored when a pass
        fails, and random numbers belong to the number of the step. The first step is finished: it is judged.
        """
        settings = self.trainer.settings
        long = bool(self.rows) and self.rows[-1]["seconds"] > LONG_STEP
        if not long or settings.compile or settings.graphs or settings.keep_gradients:
            return contextlib.nullcontext()

        def check() -> None:
            if self._stop_wanted:
                raise _StepLeft

        return checking(check, backward=True)

    def _record(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self._writer:
            self._writer.add(row)
        if self.on_row:
            self.on_row(row)

    def _permitted(self) -> bool:
        """Wait until a step is allowed; false when the run is to stop."""
        with self._turn:
            while self._allowed < 1 and not self._stop_wanted:
                self._state = "paused"
                self._save()
                self._turn.wait()
                self.trainer.resumed()
            if not self._stop_wanted:
                self._state, self._reason = "running", ""
            return not self._stop_wanted

    def _wait_at(self, reason: str) -> None:
        """Wait for the user at a breakpoint, with a limit: an unattended run continues."""
        with self._turn:
            if self._allowed < 1 or self._stop_wanted:
                return
            allowed, self._allowed = self._allowed, 0
            self._state, self._reason = "waiting", reason
            self._save()
            asked = self._turn.wait_for(
                lambda: self._allowed > 0 or self._stop_wanted or self._pause_wanted, self.breakpoint.wait
            )
            self.trainer.resumed()
            if not asked:
                self._allowed = allowed

    def _save(self, last: bool = False) -> None:
        """Flush the rows, and write a snapshot where one is wanted or the loop pauses or ends."""
        if self._writer is None or self.folder is None:
            self._snapshot_wanted = False
            return
        self._writer.flush()
        if self.trainer.step_number and (self._snapshot_wanted or last or self._state != "running"):
            path = self.folder / f"step_{self.trainer.step_number:08d}.pth"
            if not path.is_file():
                write_snapshot(self.folder, self.trainer.state())
        self._snapshot_wanted = False
