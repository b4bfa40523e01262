"""Jobs: long work in a thread, with progress, remaining time and cancel; and a thread-safe LRU cache."""

from __future__ import annotations

import functools
import itertools
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from workbench.core.errors import USER_ERRORS, Cancelled, NotAvailable, sentence

Value = TypeVar("Value")

# A job that waits for a value computed by another thread checks this often whether it was cancelled.
POLL_SECONDS = 0.1


class LruCache(Generic[Value]):
    """At most `size` values; two threads that ask for the same key wait for one computation.

    Args:
        size: most values; the least recently used is dropped.
        weight: bytes of a value; the sum is kept at or below `most`.
        most: bytes in all.
    """

    def __init__(self, size: int, weight: Callable[[Value], int] = lambda _: 0, most: int = 0) -> None:
        self._size, self._weight, self._most, self._heavy = size, weight, most, 0
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, computed now if it is not there; what `make` raises is not cached.

        Args:
            key: of the value.
            make: computes the value.

        Raises:
            Cancelled: the job in whose thread this waits for another thread was cancelled.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        while not making.acquire(timeout=POLL_SECONDS):
            current_checkpoint()
        try:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            with self._lock:
                self._values[key] = value
                self._heavy += self._weight(value)
                while len(self._values) > self._size or self._heavy > self._most:
                    _, old = self._values.popitem(last=False)
                    self._heavy -= self._weight(old)
        finally:
            making.release()
        return value

    def peek(self, key: Hashable) -> Value | None:
        """The value of a key; None if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def forget(self, key: Hashable) -> None:
        """Drop a key: its value is computed again next time."""
        with self._lock:
            if key in self._values:
                self._heavy -= self._weight(self._values.pop(key))

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)


Version = tuple[str, int, int, int]
"""What `version_of` returns."""


def version_of(path: Path) -> Version:
    """Name, times of change and size of a file, as a cache key: a file rewritten in place is another one.

    Of checkpoints of one network the sizes are equal, and copying tools set the time of the content: the time
    at which the entry itself changed (ctime) tells them apart.
    """
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size, status.st_ctime_ns


# One record for long work: progress, remaining time, cancel; used by pages, notebooks and the command line.


LEFT_SECONDS = 90.0
"""A job that no page asks about for so long is left: a browser lets hidden pages ask once a minute."""

ASKS_SECONDS = 5.0
"""A page in sight asks several times in this time."""

asker: ContextVar[tuple[str, str]] = ContextVar("asker", default=("", ""))
"""Who asks for a job: a browser, "" where there is one user alone, and one of its pages, "" where unknown."""

State = Literal["queued", "running", "done", "failed", "cancelled"]
Result = TypeVar("Result")


@dataclass(eq=False)
class Job:
    """One piece of long work; written by its own thread, read by every page.

    Attributes:
        id: short, unique in this process.
        key: what it computes; two jobs of one key never run at the same time.
        title: what a person reads: ``rtmpose-demo on scenes-val``.
        state: queued, running, done, failed or cancelled.
        done: units finished.
        total: units in all; 0 while unknown.
        error: one sentence when it failed.
        step: what it does at the moment, in a few words; "" where progress says enough.
        listed: everybody may see and cancel it.
        exclusive: whoever needs what it holds is refused, and does not queue behind it.
        problem: the exception behind `error`.
    """

    id: str
    key: str
    title: str
    state: State = "queued"
    done: int = 0
    total: int = 0
    error: str | None = None
    step: str = ""
    listed: bool = False
    exclusive: bool = False
    problem: BaseException | None = field(default=None, repr=False)
    _askers: dict[tuple[str, str], float] = field(default_factory=dict, repr=False)
    _queue: list[Job] = field(default_factory=list, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False)
    _stoppers: list[Callable[[], None]] = field(default_factory=list, repr=False)
    _started: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")

    @property
    def seconds_left(self) -> float | None:
        """Remaining time in seconds at the speed so far; None while there is no speed."""
        if self.state != "running" or not self.done or not self.total:
            return None
        return (time.monotonic() - self._started) / self.done * max(0, self.total - self.done)

    @property
    def left(self) -> bool:
        """Whether the pages that asked how far it is are closed, or have not asked for `LEFT_SECONDS`."""
        return bool(self._askers) and self.alive and not self._waited_for()

    def _waited_for(self, others: Callable[[tuple[str, str]], bool] = lambda _: True) -> bool:
        """Whether somebody of these has asked how far it is within `LEFT_SECONDS`."""
        since = time.monotonic() - LEFT_SECONDS
        return any(others(who) and asked >= since for who, asked in tuple(self._askers.items()))

    def ask(self) -> None:
        """Whoever asks in this thread (`asker`) waits for it."""
        if not works_on_job():
            self._askers[asker.get()] = time.monotonic()

    def follow(self, former: Job) -> None:
        """Whoever waited for another job waits for this one, which goes on with its work."""
        self._askers.update(former._askers)

    def leave(self) -> None:
        """A page of this browser that asked is closed; another one that waits too will ask again."""
        browser = asker.get()[0]
        for who in [who for who in self._askers if who[0] == browser]:
            self._askers[who] = time.monotonic() - LEFT_SECONDS + ASKS_SECONDS

    def give_up(self) -> None:
        """The page that asks in this thread no longer waits for it; nobody else does: it ends."""
        if self._askers.pop(asker.get(), None) is not None and not self._waited_for():
            self.cancel()

    def cancel_for_user(self) -> None:
        """`cancel`, asked for by whoever asks in this thread.

        Raises:
            NotAvailable: another browser waits for it, too.
        """
        own = asker.get()[0]
        if self._waited_for(lambda who: who[0] not in ("", own)):
            raise NotAvailable(
                "another browser has a page open that waits for this computation, so it goes on; it can be "
                "cancelled once that page is closed"
            )
        self.cancel()

    @property
    def before(self) -> list[Job]:
        """Jobs of its queue that run or wait before it, the running one first."""
        queued = list(self._queue)
        place = next((n for n, one in enumerate(queued) if one is self), 0)
        return [one for one in queued[:place] if one.alive]

    @property
    def waits_for(self) -> str:
        """What it waits for, as a clause; "" where it does not wait.

        The title of a job that works on what one user sent is not named.
        """
        before = self.before if self.state == "queued" else []
        if not before:
            return ""
        first, *more = before
        left = first.seconds_left
        far = f"{first.done / first.total:.0%}" if first.total else ""
        facts = ", ".join(filter(None, (far, "" if left is None else f"{left:.0f} s left")))
        what = first.title if first.listed else "another job"
        others = f", {len(more)} more after it" if more else ""
        return f"{what} runs first{facts and f' ({facts})'}{others}"

    def progress(self, done: int, total: int) -> None:
        """Report how far it is, in units of the job's own.

        Args:
            done: units that are finished.
            total: units of the whole; 0 where that is not known.
        """
        self.done, self.total = done, total

    def cancelled(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stop.is_set()

    def checkpoint(self) -> None:
        """Stop here if the job was cancelled.

        Raises:
            Cancelled: somebody asked it to stop.
        """
        if self._stop.is_set():
            raise Cancelled

    def advance(self, done: int, total: int) -> None:
        """Stop here if the job was cancelled, else report how far it is: a callback for long work.

        Args:
            done: units that are finished.
            total: units of the whole; 0 where that is not known.

        Raises:
            Cancelled: somebody asked it to stop.
        """
        self.checkpoint()
        self.progress(done, total)

    def cancel(self) -> None:
        """Ask it to stop; it does at its next `checkpoint`, or within a call that can be `stopped_by`."""
        self._stop.set()
        for stop in tuple(self._stoppers):
            stop()
        if self.state == "queued":
            self.state = "cancelled"
            self._over.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end; whether it has ended.

        Args:
            seconds: at most so long; None for as long as it takes.
        """
        return self._over.wait(seconds)

    def facts(self) -> dict[str, Any]:
        """The job as the HTTP API sends it."""
        left = self.seconds_left
        return {
            "id": self.id,
            "title": self.title,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "seconds_left": None if left is None else round(left, 1),
            "error": self.error,
            "waits_for": self.waits_for,
        }


# Progress told as a share is counted in so many units.
UNITS = 1000


def shares_of(job: Job) -> Callable[[str, float], None]:
    """A callback of (what is being done, share that is done from 0 to 1) that reports to a job."""
    job.step = "begins"
    job.progress(0, UNITS)

    def report(what: str, share: float) -> None:
        job.step = what
        job.progress(int(share * UNITS), UNITS)

    return report


_current: ContextVar[Job | None] = ContextVar("current job", default=None)


def current_checkpoint() -> None:
    """`Job.checkpoint` of the job that this thread works on; does nothing in any other thread.

    For code that jobs and pages share and that may take long: drawing a data set, waiting for one.

    Raises:
        Cancelled: the job was cancelled.
    """
    job = _current.get()
    if job is not None:
        job.checkpoint()


def works_on_job() -> bool:
    """Whether this thread works on a job."""
    return _current.get() is not None


@contextmanager
def stopped_by(stop: Callable[[], None]) -> Iterator[None]:
    """Call a function from another thread as soon as the job of this thread is cancelled within the block.

    For one long call of a library that has no `current_checkpoint` inside; does nothing outside of a job.

    Args:
        stop: makes the library's call return or raise; called once or several times.
    """
    job = _current.get()
    if job is None:
        yield
        return
    job._stoppers.append(stop)
    try:
        if job.cancelled():  # before it stood in the list
            stop()
        yield
    finally:
        job._stoppers.remove(stop)


class JobManager:
    """All jobs of this process, of the ended ones the last 200."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._queues: dict[str, ThreadPoolExecutor] = {}
        self._lines: dict[str, list[Job]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def start(
        self, key: str, title: str, work: Callable[[Job], None], device: str = "cpu", *,
        listed: bool = False, exclusive: bool = False,
    ) -> Job:  # fmt: skip
        """Queue a job; a job of the same key that is still alive is returned instead.

        Args:
            key: what is computed.
            title: what a person reads.
            work: called with the job in the queue's thread.
            device: name of the queue; jobs of one queue run one after the other.
            listed: everybody may see and cancel it: it works on what is served, not on what one user sent.
            exclusive: whoever needs what it holds is refused: it can be cancelled once no open page shows it.
        """
        with self._lock:
            living = next((j for j in self._jobs.values() if j.key == key and j.alive), None)
            # A cancelled job is about to end: what is asked for now is new work.
            if living is not None and not living.cancelled():
                return living
            job = Job(f"job-{next(self._numbers)}", key, title, listed=listed, exclusive=exclusive)
            self._jobs[job.id] = job
            line = self._lines.setdefault(device, [])
            line[:] = [one for one in line if one.alive] + [job]
            job._queue = line
            for old in [j for j in self._jobs.values() if not j.alive][:-200]:
                del self._jobs[old.id]
            queue = self._queues.setdefault(device, ThreadPoolExecutor(1, f"jobs on {device}"))
            queue.submit(_begin, job, work).add_done_callback(functools.partial(_end, job))
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
        """The newest job of a key; whoever asks waits for it (`Job.ask`)."""
        found = next((j for j in reversed(list(self._jobs.values())) if j.key == key), None)
        if found is not None:
            found.ask()
        return found

    def waiting(self, job: Job) -> bool:
        """Whether another job waits for the end of this one."""
        return any(job in one.before for one in self.all() if one.state == "queued")

    def all(self) -> list[Job]:
        """Every job remembered, oldest first."""
        return list(self._jobs.values())

    def close(self) -> None:
        """Cancel every job and wait for none."""
        for job in self.all():
            if job.alive:
                job.cancel()
        for queue in self._queues.values():
            queue.shutdown(wait=False, cancel_futures=True)

    def wait(self, seconds: float) -> None:
        """Wait until no job runs, at most so long: a cancelled job removes the files it made."""
        end = time.monotonic() + seconds
        for job in self.all():
            job.wait(max(0.0, end - time.monotonic()))


class JobResults(Generic[Result]):
    """Results of one kind of job by key: what `start` is asked for is computed once and kept.

    Args:
        jobs: runs the jobs.
        size: results kept; the least recently used is dropped.
    """

    def __init__(self, jobs: JobManager, size: int = 20) -> None:
        self._jobs = jobs
        self._results: LruCache[Result] = LruCache(size)

    def start(self, key: str, title: str, work: Callable[[Job], Result], device: str = "cpu") -> Job:
        """Queue the computation of a key's result.

        Args:
            key: what is computed.
            title: what a person reads.
            work: returns the result; called with the job in the queue's thread.
            device: name of the queue.

        Returns:
            the new job, or the one of this key that is alive.
        """

        def run(job: Job) -> None:
            result = work(job)
            self._results.get(key, lambda: result)

        return self._jobs.start(key, title, run, device)

    def job(self, key: str) -> Job | None:
        """The newest job of a key."""
        return self._jobs.latest(key)

    def result(self, key: str) -> Result | None:
        """The result of a key; None while there is none."""
        return self._results.peek(key)


def _begin(job: Job, work: Callable[[Job], None]) -> None:
    job.checkpoint()
    job._started, job.state = time.monotonic(), "running"
    token = _current.set(job)
    try:
        work(job)
    finally:
        _current.reset(token)


def _end(job: Job, future: Future[None]) -> None:
    """Record how a job ended; a bug in a model's code ends its job and nothing else."""
    try:
        _record_end(job, future)
    finally:
        job._over.set()


def _record_end(job: Job, future: Future[None]) -> None:
    if future.cancelled():
        job.state = "cancelled"
        return
    error = job.problem = future.exception()
    if error is None:
        job.state = "cancelled" if job.cancelled() and job.done < job.total else "done"
    elif isinstance(error, Cancelled):
        job.state = "cancelled"
    else:
        bug = not isinstance(error, USER_ERRORS)
        job.error = f"{type(error).__name__}: {sentence(error)}" if bug else sentence(error)
        job.state = "failed"
        if bug:
            traceback.print_exception(error)
