"""The experiments as jobs: arms trained for a short while from the same start, judged side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apps.pages.conditioning.wishes import Wish
from workbench.core.cache import LruCache, version_of
from workbench.core.job import Cancelled, Job

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.training.experiments.results import ExperimentReport

MOST_STEPS = 5000
# Progress of a job is told in whole units.
UNITS = 1000


class Experimenting:
    """Experiments by what was asked, kept for whoever asks again."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._found: LruCache[ExperimentReport] = LruCache(30)
        # What each job does just now, by its key.
        self.doing: dict[str, str] = {}

    def key(self, wish: Wish, name: str, steps: int, most: int) -> str:
        """Names the job; the run beside gives the weights that all arms begin with."""
        version = version_of(self.context.registry.epoch(wish.run, wish.epoch).path)
        return f"experiment {name} {version} {wish.data} {wish.against} {steps} {most}"

    def begin(self, wish: Wish, name: str, steps: int, most: int) -> Job:
        """Start, or find, the job.

        Raises:
            KeyError: no such experiment.
            ValueError: steps or instances out of range.
        """
        from workbench.training.experiments import experiment_named

        experiment = experiment_named(name)
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"experiment: expected 1 to {MOST_STEPS} steps, got {steps}")
        if most < 0:
            raise ValueError(f"experiment: expected 1 or more instances, or 0 for all, got {most}")
        run = self.context.registry.run(wish.run)
        title = f"{run.title}, {run.epochs[wish.epoch].label}: {experiment.name}"
        jobs, device = self.context.jobs, self.context.settings.device
        return jobs.start(
            self.key(wish, name, steps, most),
            title,
            lambda job: self._work(job, wish, name, steps, most),
            device,
        )

    def job(self, wish: Wish, name: str, steps: int, most: int) -> Job | None:
        """The newest job of what was asked."""
        return self.context.jobs.latest(self.key(wish, name, steps, most))

    def found(self, wish: Wish, name: str, steps: int, most: int) -> ExperimentReport | None:
        """The comparison; None while it is not made."""
        key = self.key(wish, name, steps, most)
        return self._found.get(key, _never) if key in self._found else None

    def start_of(self, wish: Wish) -> Path | None:
        """The checkpoint whose backbone and head every arm begins with: the last one of the run beside."""
        return self.context.registry.run(wish.against).epochs[-1].path if wish.against else None

    def _work(self, job: Job, wish: Wish, name: str, steps: int, most: int) -> None:
        from workbench.evaluation import Cancelled as Stopped
        from workbench.training.experiments import experiment_named
        from workbench.training.experiments.arms import origin_of
        from workbench.training.experiments.running import Course, Watch, halves, run_experiment

        key = self.key(wish, name, steps, most)
        job.progress(0, UNITS)

        def told(what: str, share: float) -> None:
            self.doing[key] = what
            job.progress(int(share * UNITS), UNITS)

        # A model of its own: others look at the registry's while this one is taken apart.
        loaded = self.context.registry.model(wish.run, wish.epoch)
        origin = origin_of(loaded, self.start_of(wish), config=self.context.settings.config)
        material = halves(self.context.registry.sets.apart(wish.data), most)
        try:
            report = run_experiment(
                experiment_named(name), origin, material, Course(steps), Watch(told, job.cancelled)
            )
        except Stopped:
            raise Cancelled from None
        finally:
            self.doing.pop(key, None)
        self._found.get(key, lambda: report)


def _never() -> ExperimentReport:
    raise LookupError("the experiment was forgotten while it was asked for; run it again")
