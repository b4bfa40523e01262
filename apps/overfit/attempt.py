"""One attempt to overfit: a session that a page can leave and come back to, and the bisection after it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.training.model_state import ModelState as Kept

from apps.overfit.choices import Choices as Wishes
from apps.overfit.choices import Made
from workbench.cli import MISTAKES, sentence
from workbench.core.job import Job, JobManager

if TYPE_CHECKING:
    from workbench.training.bisection import Trial
    from workbench.training.verdict import Verdict

ENDED = ("finished", "stopped", "failed")

# Each holds weights and optimizer; those that the user asked for are kept besides.
KEPT_SNAPSHOTS = 2


class Attempt:
    """Lives in the server, not in a page.

    Attributes:
        id: in the page's address.
        wishes: as the page had them.
        made: model, samples, plan.
        session: the loop.
        verdict: once it has ended with something to judge.
        trials: of the bisection.
        culprit: the switch that it named; "" none.
        why: what such a switch does.
        mended: what is so without it.
        wrong: what is wrong besides the verdict: a support without effect, errors that grow, a wrong log.
        trying: the switch that is taken away just now.
        mistake: why there is no verdict; one sentence.
    """

    def __init__(self, identity: str, wishes: Wishes, made: Made, folder: Path, jobs: JobManager) -> None:
        from workbench.training.checks import before_training
        from workbench.training.planned import new_session
        from workbench.training.verdict import Evidence

        self.id, self.wishes, self.made, self.folder, self._jobs = identity, wishes, made, folder, jobs
        found = before_training(made.model, made.samples, made.plan, wishes.device)
        wrong = made.recipe.wrong if made.recipe else ()
        self._before = (*(Evidence(text) for text in wrong), *found)
        self._first = Kept(made.model)
        self.session = new_session(
            made.model,
            made.samples,
            made.plan,
            folder=folder,
            pause_at=wishes.breakpoint(),
            device=wishes.device,
        )
        self.verdict: Verdict | None = None
        self.trials: Sequence[Trial] = ()
        self.culprit = self.why = self.mended = self.trying = self.mistake = ""
        self.wrong: tuple[str, ...] = ()
        self.job: Job | None = None
        self._concluded = False
        self._asked: set[int] = set()

    @property
    def state(self) -> str:
        """Of the session."""
        return self.session.status().state

    @property
    def bisecting(self) -> bool:
        """Whether the cause is being looked for."""
        return self.job is not None and self.job.alive

    @property
    def alive(self) -> bool:
        """Whether it still needs its device, or is about to."""
        return not self._concluded or self.bisecting

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What happened so far, one row per finished step."""
        return list(self.session.rows)

    def begin(self) -> None:
        """Run freely, and conclude when the loop ends, whether or not a page looks."""
        self.session.start()
        threading.Thread(target=self._conclude, daemon=True, name=f"overfit {self.id}").start()

    def snapshot(self) -> None:
        """Write the weights of this step, and keep them."""
        self._asked.add(self.session.status().step)
        self.session.snapshot()

    def cancel(self) -> None:
        """End the bisection."""
        if self.job:
            self.job.cancel()

    def snapshots(self) -> list[Path]:
        """Files, oldest first; the oldest that nobody asked for are removed."""
        from workbench.training.run_folder import snapshots

        files = snapshots(self.folder)
        # A snapshot is taken after the step under way: the asked one is the step's or the next.
        unasked = [f for f in files if not {_step(f), _step(f) - 1} & self._asked]
        for old in unasked[:-KEPT_SNAPSHOTS]:
            old.unlink(missing_ok=True)
        return [f for f in files if f not in unasked[:-KEPT_SNAPSHOTS]]

    def _conclude(self) -> None:
        self.session.join()
        try:
            from workbench.training.bisection import observed as seen_wrong
            from workbench.training.bisection import verdict_of

            verdict = verdict_of(self.session)
            seen = seen_wrong(self.made.model, self.made.samples, self.made.plan, self.rows)
            self.wrong = (*(one.text for one in self._before), *seen)
            self.verdict = verdict
        except MISTAKES as mistake:
            self.mistake = sentence(mistake).removeprefix("overfit: ")
        if self.verdict and self.state == "finished" and (self.wrong or not self.verdict.learned):
            self.bisect()
        self._concluded = True

    def bisect(self) -> None:
        """Look for the cause, as a job with progress that can be cancelled."""
        self.job = self._jobs.start(
            f"overfit bisection {self.id}", f"bisecting {self.made.title}", self._bisect, self.wishes.device
        )

    def _bisect(self, job: Job) -> None:
        from workbench.training.bisection import found_cause
        from workbench.training.switches import trial_steps

        plan = self.made.plan
        if self.verdict is None:
            raise ValueError("bisection: the session has no verdict yet")
        done, steps = 0, trial_steps(self.made.model, plan)

        def stepped(_: dict[str, Any]) -> None:
            nonlocal done
            done += 1
            job.progress(done, steps)

        def tried(switch: str) -> None:
            self.trying = switch

        job.progress(0, steps)
        found = found_cause(
            self._first,
            self.made.samples,
            plan,
            self.verdict,
            self.rows,
            self._before,
            device=self.wishes.device,
            on_trial=tried,
            on_row=stepped,
            stopped=job.cancelled,
        )
        self.trials, self.culprit = found.trials, found.culprit
        self.why, self.mended = found.why, found.mended
        if found.helped:
            self.wrong = (*self.wrong, found.helped)
        self.trying = ""
        job.checkpoint()


def _step(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])
