"""Computing the epochs of a comparison: what is asked for, what is ready, the job that makes the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workbench.core.job import Job, JobManager

from apps.server.api import Unready
from apps.server.folders import Epoch, RunFolder
from apps.server.output_cache import Store
from apps.server.output_cache import StoredOutputs as Kept
from apps.server.registry import Registry
from apps.server.settings import Settings
from workbench.cli import MISTAKES, sentence
from workbench.core import DecodeOptions, NotAvailable, nearest

SCORES = ("min", "mean")


@dataclass(frozen=True)
class Asked:
    """What is compared, as the address has it."""

    run: str
    data: str
    decoder: str = ""
    score: str = ""

    @property
    def options(self) -> DecodeOptions:
        """How keypoints are to be read.

        Raises:
            ValueError: there is no such decoder or score.
        """
        from workbench.decoding import DECODERS

        if self.decoder and self.decoder not in DECODERS:
            raise ValueError(f"no decoder {self.decoder!r}; nearest: {nearest(self.decoder, DECODERS)}")
        if self.score not in ("", *SCORES):
            raise ValueError(f"score: expected min or mean, got {self.score!r}")
        return DecodeOptions(self.decoder, self.score)  # type: ignore[arg-type]

    @property
    def key(self) -> str:
        """Names the job; another decoder is a job of its own, a short one where outputs are there."""
        return " ".join(("compare", self.run, "on", self.data, self.decoder, self.score)).strip()


def indices(text: str) -> list[int]:
    """Numbers from ``1,4``.

    Raises:
        ValueError: a part is no number.
    """
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"expected epoch indices such as 0,4, got {text!r}") from None


class Computing:
    """Starts jobs, and tells which epochs are ready, missing or broken."""

    def __init__(self, settings: Settings, registry: Registry, store: Store, jobs: JobManager) -> None:
        self._settings, self._registry, self._store, self._jobs = settings, registry, store, jobs
        # Which epochs a page waits for, by job; the newest wish is served first.
        self._wished: dict[str, list[int]] = {}
        # Epochs that cannot be computed, by their key in the store, and why.
        self._broken: dict[str, str] = {}

    def begin(self, asked: Asked, first: Sequence[int] = (), anew: bool = False) -> None:
        """Start computing the epochs that are missing, those in `first` before the others.

        Raises:
            KeyError: no such run or data set.
            ValueError: no such decoder or score.
            NotAvailable: the decoder does not read this run's output.
            Unready: the last attempt was cancelled or failed, nothing is there, and `anew` is not set.
        """
        run = self.checked(asked)
        self._wished[asked.key] = list(first)
        if anew:
            for epoch in run.epochs:
                self._broken.pop(self._store.key(run.id, epoch.index, asked.data), None)
        last = self._jobs.latest(asked.key)
        if last is not None and not last.alive and last.state != "done" and not anew:
            if not self.ready(asked):
                raise Unready(last.facts())
            return
        # What the page waits for is decoded at once where outputs are there: faster than a job's turn.
        for index in (i for i in first if any(e.index == i for e in self.missing(asked))):
            self._store.decode(asked.run, index, asked.data, asked.options)
        if self.missing(asked):
            self._jobs.start(
                asked.key,
                f"{run.title} on {asked.data}",
                lambda job: self._work(job, asked),
                self._settings.device,
            )

    def checked(self, asked: Asked) -> RunFolder:
        """The run that is asked about, once the question is found to make sense; computes nothing.

        Raises:
            KeyError: no such run or data set.
            ValueError: no such decoder or score.
            NotAvailable: the decoder does not read this run's output.
        """
        run, _ = self._registry.run(asked.run), asked.options
        self._registry.sets.skeleton(asked.data)
        self._check_decoder(asked)
        return run

    def plainly(self, asked: Asked) -> Asked:
        """The same question with the model's own decoder and score left out where they are named."""
        kept = self._any(asked)
        own = kept is not None and asked.decoder == kept.facts["decoder"]
        return replace(asked, decoder="" if own else asked.decoder, score=asked.score.removeprefix(SCORES[0]))

    def _any(self, asked: Asked) -> Kept | None:
        """What is kept of any epoch: output and decoders are the same in all of them."""
        epochs = self._registry.run(asked.run).epochs
        return next(filter(None, (self._store.kept(asked.run, e.index, asked.data) for e in epochs)), None)

    def _check_decoder(self, asked: Asked) -> None:
        """Refuse at once, where it is known already, what a job would find out in its turn."""
        kept = self._any(asked)
        if kept is not None and asked.decoder and asked.decoder not in kept.facts["decoders"]:
            known = ", ".join(kept.facts["decoders"]) or "none"
            raise NotAvailable(f"decoder {asked.decoder!r} does not read this output; these do: {known}")

    def job(self, asked: Asked) -> Job | None:
        """The newest job for what is asked."""
        return self._jobs.latest(asked.key)

    def unready(self, asked: Asked) -> Unready:
        """What to raise while nothing is there."""
        job = self.job(asked)
        if job is None:
            raise LookupError(f"{asked.run} on {asked.data} is not computed yet; POST to compare starts it")
        return Unready(job.facts())

    def _work(self, job: Job, asked: Asked) -> None:
        """Compute one missing epoch after the other."""
        run = self._registry.run(asked.run)
        finished = 0
        while missing := self.missing(asked):
            job.checkpoint()
            wished = self._wished.get(asked.key, [])
            epoch = min(missing, key=lambda e: wished.index(e.index) if e.index in wished else len(wished))

            def progress(done: int, count: int, before: int = finished, epochs: int = len(missing)) -> None:
                job.progress(before + done, before + count * epochs)

            try:
                self._store.compute(job, run.id, epoch.index, asked.data, asked.options, progress)
            except MISTAKES as mistake:
                # One broken checkpoint must not hide the other epochs; it is told with its epoch.
                self._broken[self._store.key(run.id, epoch.index, asked.data)] = sentence(mistake)
            finished = job.done
        if not self.ready(asked):
            raise ValueError(next(iter(self.reasons(asked).values()), "no epoch could be computed"))

    def ready(self, asked: Asked) -> dict[int, Kept]:
        """Epoch index -> what was kept, of all epochs that are computed."""
        found = {
            e.index: self._store.ready(asked.run, e.index, asked.data, asked.options)
            for e in self._registry.run(asked.run).epochs
        }
        return {index: kept for index, kept in found.items() if kept is not None}

    def missing(self, asked: Asked) -> list[Epoch]:
        ready, broken = self.ready(asked), self.reasons(asked)
        epochs = self._registry.run(asked.run).epochs
        return [e for e in epochs if e.index not in ready and e.index not in broken]

    def reasons(self, asked: Asked) -> dict[int, str]:
        keys = {
            e.index: self._store.key(asked.run, e.index, asked.data)
            for e in self._registry.run(asked.run).epochs
        }
        return {index: self._broken[key] for index, key in keys.items() if key in self._broken}
