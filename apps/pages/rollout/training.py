"""Trainings that the Rollout page starts on request: scheduled sampling, and retraining with a bisection."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from workbench.core.job import JobResults

if TYPE_CHECKING:
    from apps.pages.rollout.lab import Lab
    from apps.pages.rollout.state import RolloutState
    from workbench.core.job import Job
    from workbench.inspectors.sequence.schedules import Schedules
    from workbench.training.overfit import OverfitReport

SCHEDULE_STEPS = 2000
"""Most steps for each schedule."""

RETRAINING_STEPS = 5000
"""Most steps for each attempt."""


class ScheduleTraining:
    """Training with each schedule of scheduled sampling, four times from the early epoch's weights."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._results: JobResults[Schedules] = JobResults(lab.context.jobs)

    def key(self, state: RolloutState, steps: int, rate: float) -> str:
        """Names the job."""
        asked = (state.run, state.epochs[0], state.data, state.sample, state.support, state.threshold)
        return f"schedules {asked} {steps} {rate:g}"

    def start(self, state: RolloutState, steps: int, rate: float) -> Job:
        """Start, or find, the job.

        Args:
            state: of the page; epoch A is trained.
            steps: of each schedule.
            rate: learning rate.

        Raises:
            NotAvailable: the network does not count its training steps.
            ValueError: steps or rate out of range.
        """
        from workbench.core import NotAvailable
        from workbench.core.capabilities import step_counter

        if not 4 <= steps <= SCHEDULE_STEPS:
            raise ValueError(f"schedules: expected 4 to {SCHEDULE_STEPS} steps, got {steps}")
        if not 0 < rate < 1:
            raise ValueError(f"schedules: expected a learning rate between 0 and 1, got {rate:g}")
        run = self._lab.run(state, state.epochs[0])
        if step_counter(run.model.module) is None:
            raise NotAvailable("schedules: this network has no buffer 'taught' that counts training steps")
        return self._results.start(
            self.key(state, steps, rate),
            f"{run.title}: {steps} steps with each schedule",
            lambda job: self._train(job, state, steps, rate),
            self._lab.context.settings.device,
        )

    def job(self, state: RolloutState, steps: int, rate: float) -> Job | None:
        """The newest job of these values."""
        return self._results.job(self.key(state, steps, rate))

    def result(self, state: RolloutState, steps: int, rate: float) -> Schedules | None:
        """The comparison; None while there is none."""
        return self._results.result(self.key(state, steps, rate))

    def _train(self, job: Job, state: RolloutState, steps: int, rate: float) -> Schedules:
        from workbench.inspectors.sequence.rollout import PckRule
        from workbench.inspectors.sequence.schedules import KINDS, compare
        from workbench.training.settings import Settings

        model = self._lab.own_model(state, state.epochs[0])  # the page goes on showing the other one
        samples = [self._lab.context.registry.sets.sample(state.data, state.sample)]
        settings = Settings(
            steps=steps, learning_rate=rate, schedule="cosine", clip=1.0, measure_every=max(1, steps // 12)
        )
        job.progress(0, len(KINDS) * steps)

        def stepped() -> None:
            job.progress(job.done + 1, job.total)
            job.checkpoint()

        return compare(model, samples, settings, rule=PckRule(state.threshold), stepped=stepped)


class Retraining:
    """The late epoch's network trained on its sample from initial weights, and bisected."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._results: JobResults[OverfitReport] = JobResults(lab.context.jobs)

    def key(self, state: RolloutState, steps: int) -> str:
        """Names the job."""
        return f"bisection {(state.run, state.epochs[-1], state.data, state.sample, state.support)} {steps}"

    def start(self, state: RolloutState, steps: int) -> Job:
        """Start, or find, the job.

        Args:
            state: of the page; epoch B's network is trained.
            steps: of each attempt.

        Raises:
            NotAvailable: the checkpoint does not say how its network was made.
            ValueError: steps out of range.
        """
        from workbench.core import NotAvailable
        from workbench.core.capabilities import Reinitialises

        if not 4 <= steps <= RETRAINING_STEPS:
            raise ValueError(f"bisection: expected 4 to {RETRAINING_STEPS} steps, got {steps}")
        if not isinstance(self._lab.run(state, state.epochs[-1]).model, Reinitialises):
            raise NotAvailable(
                "bisection: only a checkpoint of cape says how its network was made; for another model use "
                "workbench overfit --adapter"
            )
        return self._results.start(
            self.key(state, steps),
            f"{self._lab.title(state)}: retrained",
            lambda job: self._learn(job, state, steps),
            self._lab.context.settings.device,
        )

    def job(self, state: RolloutState, steps: int) -> Job | None:
        """The newest job of these values."""
        return self._results.job(self.key(state, steps))

    def result(self, state: RolloutState, steps: int) -> OverfitReport | None:
        """The attempt; None while there is none."""
        return self._results.result(self.key(state, steps))

    def _learn(self, job: Job, state: RolloutState, steps: int) -> OverfitReport:
        from workbench.training.overfit import overfit
        from workbench.training.plan import Plan
        from workbench.training.sequences import untrained_copy
        from workbench.training.settings import SEQUENCE
        from workbench.training.switches import trial_steps

        lab = self._lab
        model = untrained_copy(lab.own_model(state, state.epochs[-1]))
        plan = Plan(dataclasses.replace(SEQUENCE, steps=steps, measure_every=max(1, min(25, steps // 4))))
        job.progress(0, steps + trial_steps(model, plan))
        report = overfit(
            model,
            [lab.context.registry.sets.sample(state.data, state.sample)],
            plan,
            title=f"{lab.title(state)}, retrained",
            command=self._command(state, steps),
            device=lab.context.settings.device,
            on_step=lambda: job.progress(job.done + 1, job.total),
            stopped=job.cancelled,
        )
        job.checkpoint()
        return report

    def _command(self, state: RolloutState, steps: int) -> str:
        registry = self._lab.context.registry
        path = registry.epoch(state.run, state.epochs[-1]).path
        key = registry.sets.sample(state.data, state.sample).key
        return f"workbench rollout {path} --data {state.data} --instance {key} --bisect {steps}"
