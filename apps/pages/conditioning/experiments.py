"""Experiments of the Conditioning page: short trainings from the same start, compared by one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from apps.pages.conditioning.state import ClinicState
from apps.pages.sections import JobSection, hidden_text
from workbench.core.cache import version_of
from workbench.core.job import JobResults

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core.job import Job
    from workbench.training.experiments.results import ExperimentReport

MOST_STEPS = 5000
# A minute or two on a CPU.
STEPS, INSTANCES = 40, 80
FIRST = "both-ways"
# Progress of a job is told in whole units.
UNITS = 1000


class Experiments:
    """Experiments as jobs, their reports by key."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._results: JobResults[ExperimentReport] = JobResults(context.jobs, 30)

    def key(self, state: ClinicState, name: str, steps: int, most: int) -> str:
        """Names the job; the run beside gives the weights that all arms begin with."""
        version = version_of(self.context.registry.epoch(state.run, state.epoch).path)
        return f"experiment {name} {version} {state.data} {state.against} {steps} {most}"

    def start(self, state: ClinicState, name: str, steps: int, most: int) -> Job:
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
        run = self.context.registry.run(state.run)
        title = f"{run.title}, {run.epochs[state.epoch].label}: {experiment.name}"
        return self._results.start(
            self.key(state, name, steps, most),
            title,
            lambda job: self._work(job, state, name, steps, most),
            self.context.settings.device,
        )

    def job(self, state: ClinicState, name: str, steps: int, most: int) -> Job | None:
        """The newest job of what was asked."""
        return self._results.job(self.key(state, name, steps, most))

    def result(self, state: ClinicState, name: str, steps: int, most: int) -> ExperimentReport | None:
        """The comparison; None while there is none."""
        return self._results.result(self.key(state, name, steps, most))

    def start_of(self, state: ClinicState) -> Path | None:
        """The checkpoint whose backbone and head every arm begins with: the last one of the run beside."""
        return self.context.registry.run(state.against).epochs[-1].path if state.against else None

    def _work(self, job: Job, state: ClinicState, name: str, steps: int, most: int) -> ExperimentReport:
        from workbench.training.experiments import experiment_named
        from workbench.training.experiments.arms import origin_of
        from workbench.training.experiments.running import Course, Watch, halves, run_experiment

        job.step = "begins"
        job.progress(0, UNITS)

        def watched(what: str, share: float) -> None:
            job.step = what
            job.progress(int(share * UNITS), UNITS)

        # A model of its own: others look at the registry's while this one is taken apart.
        loaded = self.context.registry.model(state.run, state.epoch)
        origin = origin_of(loaded, self.start_of(state), config=self.context.settings.config)
        material = halves(self.context.registry.sets.apart(state.data), most)
        return run_experiment(
            experiment_named(name), origin, material, Course(steps), Watch(watched, job.cancelled)
        )


class ExperimentSection(JobSection):
    """A button for each experiment; the arms of the one that was run last are compared."""

    name, title = "experiments", "Experiments"
    question = (
        "Short trainings from the same start, evaluated on the same images. The run to compare with "
        "gives the initial weights of all arms."
    )
    wide_buttons = True
    handlers = ("experiment_run", "experiment_watch", "experiment_cancel")

    def __init__(self, context: Context) -> None:
        self._experiments = Experiments(context)

    def add_fields(self) -> list[Component]:
        steps = gr.Number(STEPS, label="steps per arm", precision=0, minimum=1, min_width=110)
        most = gr.Number(INSTANCES, label="instances (0: all)", precision=0, minimum=0, min_width=110)
        return [self._name, steps, most]

    def add_buttons(self) -> Mapping[gr.Button, Sequence[tuple[Component, str]]]:
        from workbench.training.experiments import EXPERIMENTS

        self._name = hidden_text(FIRST)
        with gr.Row(elem_classes="cnd-experiments"):
            return {
                gr.Button(f"{e.name}\n{e.question}", elem_id=f"cnd-run-{e.name}", min_width=220): (
                    (self._name, e.name),
                )
                for e in EXPERIMENTS.values()
            }

    def start(self, state: str, *values: Any) -> None:
        self._experiments.start(*self._asked(state, *values))

    def job(self, state: str, *values: Any) -> Job | None:
        return self._experiments.job(*self._asked(state, *values))

    def result(self, state: str, *values: Any) -> ExperimentReport | None:
        return self._experiments.result(*self._asked(state, *values))

    def _asked(
        self, state: str, name: str = "", steps: float | None = None, most: float | None = None
    ) -> tuple[ClinicState, str, int, int]:
        return ClinicState.of_text(state), name or FIRST, int(steps or 0), int(most or 0)
