"""Two checkpoints compared as a job: it tells how far it is, and Cancel ends it within a million numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core.cache import LruCache as Shelf
from workbench.core.cache import version_of
from workbench.core.job import Job

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.checkpoints.difference import CheckpointDifference

# A line of its own: reading files must not wait for a network that is being evaluated or trained.
LINE = "files"


class Differing:
    """Comparisons by their two files, kept for whoever asks again."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._found: Shelf[CheckpointDifference] = Shelf(20)

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
