"""Long work on the server: named, with progress, cancelled for real, and not bound to any page.

One job runs at a time on a device; the others wait in their order. A job is a function that takes
the Job, tells its progress and asks now and then whether it was cancelled.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.cli import MISTAKES, sentence

State = Literal["queued", "running", "done", "failed", "cancelled"]


class Cancelled(Exception):  # noqa: N818 - no error: somebody asked for it
    """The job was told to stop, and does."""


@dataclass(eq=False)
class Job:
    """One piece of long work; changed by its own thread, read by every page.

    Attributes:
        id: short, unique in this process.
        key: what it computes; two jobs of one key are never alive together.
        title: what a person reads: ``rtmpose-demo on scenes-val``.
        done: units finished.
        total: units in all; 0 while unknown.
        error: one sentence when it failed.
    """

    id: str
    key: str
    title: str
    state: State = "queued"
    done: int = 0
    total: int = 0
    error: str | None = None
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _started: float = 0.0

    @property
    def alive(self) -> bool:
        return self.state in ("queued", "running")

    @property
    def seconds_left(self) -> float | None:
        """Time left at the pace so far; None while there is no pace."""
        if self.state != "running" or not self.done or not self.total:
            return None
        return (time.monotonic() - self._started) / self.done * max(0, self.total - self.done)

    def progress(self, done: int, total: int) -> None:
        """Tell how far it is."""
        self.done, self.total = done, total

    def cancelled(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stop.is_set()

    def checkpoint(self) -> None:
        """Stop here when asked to.

        Raises:
            Cancelled: somebody asked.
        """
        if self._stop.is_set():
            raise Cancelled

    def cancel(self) -> None:
        """Ask it to stop; it does at its next batch."""
        self._stop.set()
        if self.state == "queued":
            self.state = "cancelled"

    def facts(self) -> dict[str, Any]:
        """The job as the API tells it."""
        left = self.seconds_left
        return {
            "id": self.id,
            "title": self.title,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "seconds_left": None if left is None else round(left, 1),
            "error": self.error,
        }


_current: ContextVar[Job | None] = ContextVar("current job", default=None)


def current_checkpoint() -> None:
    """`Job.checkpoint` of the job that this thread works on; does nothing in any other thread.

    For code that jobs and pages share, and that may take long: drawing a data set, waiting for one.

    Raises:
        Cancelled: somebody asked the job to stop.
    """
    job = _current.get()
    if job is not None:
        job.checkpoint()


class JobManager:
    """All jobs of this process."""

    def __init__(self, keep: int = 200) -> None:
        self._jobs: dict[str, Job] = {}
        self._lines: dict[str, ThreadPoolExecutor] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._keep = keep

    def start(self, key: str, title: str, work: Callable[[Job], None], device: str = "cpu") -> Job:
        """Put work in line; a job of the same key that is still alive is returned instead."""
        with self._lock:
            living = next((j for j in self._jobs.values() if j.key == key and j.alive), None)
            # One told to stop is on its way out: what comes now is new work.
            if living is not None and not living.cancelled():
                return living
            job = Job(f"job-{next(self._numbers)}", key, title)
            self._jobs[job.id] = job
            for old in [j for j in self._jobs.values() if not j.alive][: -self._keep]:
                del self._jobs[old.id]
            line = self._lines.setdefault(device, ThreadPoolExecutor(1, f"jobs on {device}"))
            line.submit(_begin, job, work).add_done_callback(functools.partial(_end, job))
            return job

    def get(self, identity: str) -> Job:
        """The job of that id.

        Raises:
            KeyError: there is none.
        """
        if identity not in self._jobs:
            raise KeyError(f"no job {identity!r}")
        return self._jobs[identity]

    def latest(self, key: str) -> Job | None:
        """The newest job of a key."""
        return next((j for j in reversed(list(self._jobs.values())) if j.key == key), None)

    def all(self) -> list[Job]:
        """Every job remembered, oldest first."""
        return list(self._jobs.values())

    def close(self) -> None:
        """Ask every job to stop and wait for none."""
        for job in self.all():
            if job.alive:
                job.cancel()
        for line in self._lines.values():
            line.shutdown(wait=False, cancel_futures=True)

    def wait(self, seconds: float) -> None:
        """Wait until no job runs, at most so long: a job that was told to stop removes what it made."""
        end = time.monotonic() + seconds
        while any(job.alive for job in self.all()) and time.monotonic() < end:
            time.sleep(0.02)


def _begin(job: Job, work: Callable[[Job], None]) -> None:
    job.checkpoint()
    job._started, job.state = time.monotonic(), "running"
    token = _current.set(job)
    try:
        work(job)
    finally:
        _current.reset(token)


def _end(job: Job, future: Future[None]) -> None:
    """Write down how a job ended; a bug in a model's code ends its job and nothing else."""
    if future.cancelled():
        job.state = "cancelled"
        return
    error = future.exception()
    if error is None:
        job.state = "cancelled" if job.cancelled() and job.done < job.total else "done"
    elif isinstance(error, Cancelled):
        job.state = "cancelled"
    else:
        bug = not isinstance(error, MISTAKES)
        job.error = f"{type(error).__name__}: {sentence(error)}" if bug else sentence(error)
        job.state = "failed"
        if bug:
            traceback.print_exception(error)
