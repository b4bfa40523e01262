"""Training with each schedule of scheduled sampling, as a job: four times from the early epoch's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.pages.rollout.lab import Lab
from apps.pages.rollout.wishes import Wish
from workbench.core.cache import LruCache
from workbench.core.capabilities import step_counter
from workbench.core.job import Job

if TYPE_CHECKING:
    from workbench.inspectors.sequence.schedules import Schedules

MOST_STEPS = 2000


class Training:
    """Comparisons of schedules by what was asked, kept for whoever asks again."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._found: LruCache[Schedules] = LruCache(20)

    def key(self, wish: Wish, steps: int, rate: float) -> str:
        """Names the job."""
        asked = (wish.run, wish.epochs[0], wish.data, wish.sample, wish.support, wish.threshold)
        return f"schedules {asked} {steps} {rate:g}"

    def begin(self, wish: Wish, steps: int, rate: float) -> Job:
        """Start, or find, the job.

        Raises:
            NotAvailable: the model cannot be taught so.
            ValueError: steps or rate out of range.
        """
        from workbench.core import NotAvailable

        if not 4 <= steps <= MOST_STEPS:
            raise ValueError(f"schedules: expected 4 to {MOST_STEPS} steps, got {steps}")
        if not 0 < rate < 1:
            raise ValueError(f"schedules: expected a learning rate between 0 and 1, got {rate:g}")
        run = self._lab.looked(wish, wish.epochs[0])
        if step_counter(run.model.module) is None:
            raise NotAvailable("schedules: this network has no buffer 'taught' that counts training steps")
        jobs, device = self._lab.context.jobs, self._lab.context.settings.device
        title = f"{run.title}: {steps} steps with each schedule"
        return jobs.start(
            self.key(wish, steps, rate), title, lambda job: self._train(job, wish, steps, rate), device
        )

    def job(self, wish: Wish, steps: int, rate: float) -> Job | None:
        """The newest job of what was asked."""
        return self._lab.context.jobs.latest(self.key(wish, steps, rate))

    def found(self, wish: Wish, steps: int, rate: float) -> Schedules | None:
        """The comparison; None while it is not made."""
        key = self.key(wish, steps, rate)
        return self._found.get(key, _never) if key in self._found else None

    def _train(self, job: Job, wish: Wish, steps: int, rate: float) -> None:
        from workbench.inspectors.sequence.rollout import PckRule
        from workbench.inspectors.sequence.schedules import KINDS, compare
        from workbench.training.settings import Settings

        model = self._lab.own_model(wish, wish.epochs[0])  # the page goes on looking at the other one
        samples = [self._lab.context.registry.sets.sample(wish.data, wish.sample)]
        settings = Settings(
            steps=steps, learning_rate=rate, schedule="cosine", clip=1.0, measure_every=max(1, steps // 12)
        )
        job.progress(0, len(KINDS) * steps)

        def stepped() -> None:
            job.progress(job.done + 1, job.total)
            job.checkpoint()

        found = compare(model, samples, settings, rule=PckRule(wish.threshold), stepped=stepped)
        self._found.get(self.key(wish, steps, rate), lambda: found)


def _never() -> Schedules:
    raise LookupError("the comparison was forgotten while it was asked for; train again")
