"""Overfit attempts of the server: sessions that a page can leave and come back to, at most one per device."""

from __future__ import annotations

import secrets
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from apps.pages.overfit.choices import Choices, setup_of
from apps.server.context import Context
from workbench.cli import MISTAKES, sentence
from workbench.core.job import POLL_SECONDS, Job, JobManager

if TYPE_CHECKING:
    from workbench.training.overfit import OverfitSetup

ENDED = ("finished", "stopped", "failed")

# Each holds weights and optimizer state; those that the user requested are kept besides.
KEPT_SNAPSHOTS = 2

# Each ended attempt keeps two networks in memory and some snapshots on disk.
KEPT_ATTEMPTS = 6


class Attempt:
    """One attempt; it lives in the server, not in a page.

    Attributes:
        id: in the page's address.
        choices: of the page.
        setup: model, samples, plan.
        folder: of its rows and snapshots.
        run: session, verdict and cause.
        training: the session as a job; None before it starts.
        job: the bisection; None before it starts.
        trying: the switch that is removed in the current trial.
        mistake: why there is no verdict; one sentence.
    """

    def __init__(
        self, identity: str, choices: Choices, setup: OverfitSetup, folder: Path, jobs: JobManager
    ) -> None:
        from workbench.training.overfit import OverfitRun

        self.id, self.choices, self.setup, self.folder, self._jobs = identity, choices, setup, folder, jobs
        self.run = OverfitRun(setup, folder=folder, pause_at=choices.breakpoint())
        self.training: Job | None = None
        self.job: Job | None = None
        self.trying = self.mistake = ""
        self._concluded = False
        self._requested: set[int] = set()

    @property
    def state(self) -> str:
        """State of the session."""
        return self.run.session.status().state

    @property
    def bisecting(self) -> bool:
        """Whether the bisection runs."""
        return self.job is not None and self.job.alive

    @property
    def alive(self) -> bool:
        """Whether it still needs its device, or is about to."""
        return not self._concluded or self.bisecting

    @property
    def holding(self) -> Job | None:
        """What holds the device: the bisection, or the training before it."""
        return self.job or self.training

    @property
    def is_left(self) -> bool:
        """Whether no open page shows it any more: whoever needs its device may end it."""
        return self.holding is not None and self.holding.left

    def ask(self) -> None:
        """Whoever asks in this thread shows it."""
        if self.holding is not None:
            self.holding.ask()

    @property
    def is_private(self) -> bool:
        """Whether it shows an uploaded photo: its address is then known to its own page alone."""
        return self.choices.own is not None

    def begin(self) -> None:
        """Start the session; the verdict follows when it ends, whether or not a page watches."""
        self.run.session.start()
        title, device = f"overfitting {self.setup.title}", f"sessions on {self.setup.device}"
        self.training = self._jobs.start(
            f"overfit session {self.id}", title, self._train, device, exclusive=True
        )
        self.ask()
        threading.Thread(target=self._conclude, daemon=True, name=f"overfit {self.id}").start()

    def snapshot(self) -> None:
        """Write the weights of the current step, and keep them."""
        self._requested.add(self.run.session.status().step)
        self.run.session.snapshot()

    def set_learning_rate(self, rate: float | None) -> None:
        """Another learning rate, while it pauses.

        Raises:
            ValueError: it does not pause.
        """
        if self.state not in ("paused", "waiting"):
            raise ValueError(f"the learning rate changes while the session pauses; it is {self.state}")
        self.run.session.set_learning_rate(float(rate or 0))

    def cancel(self) -> None:
        """End the bisection."""
        if self.job:
            self.job.cancel()

    def snapshots(self) -> list[Path]:
        """Files, oldest first; old ones that nobody requested are deleted."""
        from workbench.training.run_folder import snapshots

        files = snapshots(self.folder)
        # A snapshot is written after the current step: a requested one is of that step or the next.
        others = [f for f in files if not {_step(f), _step(f) - 1} & self._requested]
        for old in others[:-KEPT_SNAPSHOTS]:
            old.unlink(missing_ok=True)
        return [f for f in files if f not in others[:-KEPT_SNAPSHOTS]]

    def _train(self, job: Job) -> None:
        while not self.run.session.join(POLL_SECONDS):
            if job.cancelled():
                self.run.session.stop()
        job.checkpoint()

    def _conclude(self) -> None:
        self.run.session.join()
        try:
            self.run.judge()
        except MISTAKES as mistake:
            self.mistake = sentence(mistake).removeprefix("overfit: ")
        # Whoever needed the device ended it: nobody looks for the cause.
        ended = self.training is not None and self.training.cancelled()
        if self.run.needs_cause and not ended:
            title, device = f"bisecting {self.setup.title}", self.setup.device
            self.job = self._jobs.start(
                f"overfit bisection {self.id}", title, self._bisect, device, exclusive=True
            )
            if self.training is not None:
                self.job.follow(self.training)
        self._concluded = True

    def _bisect(self, job: Job) -> None:
        def tried(switch: str) -> None:
            self.trying = switch

        job.progress(0, self.run.trial_steps)
        self.run.find_cause(
            on_trial=tried, on_step=lambda: job.progress(job.done + 1, job.total), stopped=job.cancelled
        )
        self.trying = ""
        job.checkpoint()


def _step(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])


class Attempts:
    """All attempts of the server by id, shared by its pages."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._attempts: dict[str, Attempt] = {}
        self._starting: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, choices: Choices) -> Attempt:
        """Start an attempt.

        Raises:
            ValueError: another attempt uses the device, or the choices do not fit together.
            LookupError: no such family, set or sample.
            OSError: the config lies outside the served folder, or nothing can be written.
        """
        with self._lock:
            self._check_free(choices.device)
            self._starting.add(choices.device)
        try:
            identity = secrets.token_hex(8)
            folder, setup = self._folder() / identity, setup_of(self._context, choices)
            attempt = Attempt(identity, choices, setup, folder, self._context.jobs)
            with self._lock:
                self._attempts[identity] = attempt
                for old in [a for a in self._attempts.values() if not a.alive][:-KEPT_ATTEMPTS]:
                    del self._attempts[old.id]
                    shutil.rmtree(old.folder, ignore_errors=True)
            attempt.begin()
        finally:
            with self._lock:
                self._starting.discard(choices.device)
        return attempt

    def get(self, identity: str) -> Attempt:
        """The attempt of an id.

        Raises:
            KeyError: the server does not hold it (any more).
        """
        if identity not in self._attempts:
            raise KeyError(
                f"no overfit session {identity!r} on this server: it belongs to an earlier server, or "
                f"{KEPT_ATTEMPTS} newer ones have ended; start another one"
            )
        return self._attempts[identity]

    def alive(self) -> list[Attempt]:
        """Those that run, pause, or are being bisected."""
        return [attempt for attempt in list(self._attempts.values()) if attempt.alive]

    def _check_free(self, device: str) -> None:
        if device in self._starting:
            raise ValueError(f"{device} is taken: another overfit session is just starting on it")
        for attempt in self.alive():
            if attempt.setup.device == device:
                now = attempt.run.session.status()
                doing = "bisecting" if attempt.bisecting else f"{now.state} at step {now.step} of {now.steps}"
                if attempt.is_private and attempt.is_left:
                    raise ValueError(
                        f"{device} is taken by a session on an uploaded photo that no open page shows "
                        f"({doing}): reload this page and cancel it there, or wait until it ends"
                    )
                if attempt.is_private:
                    raise ValueError(
                        f"{device} is taken by a session on an uploaded photo ({doing}): stop it on its own "
                        "page, or wait until it ends"
                    )
                raise ValueError(
                    f"{device} is taken by session {attempt.id} ({attempt.setup.title}, {doing}): stop it, "
                    f"or open it at overfit?session={attempt.id}"
                )

    def _folder(self) -> Path:
        from workbench.data import cache_folder

        return (self._context.settings.cache or cache_folder()) / "overfit"
