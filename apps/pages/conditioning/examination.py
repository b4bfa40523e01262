"""The clinic on one epoch: computed by one job, part by part, and cached."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from apps.pages.conditioning.state import ALL, ClinicState
from workbench.cli import MISTAKES, sentence
from workbench.core.cache import LruCache, version_of
from workbench.core.job import Job
from workbench.core.report import Report

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core import Run
    from workbench.inspectors.conditioning.clinic import Clinic
    from workbench.inspectors.conditioning.film import Film

SAMPLES = 8
"""One of each species, as far as there are."""

SECTIONS = (
    "trends", "ranking", "paths", "film", "epochs", "features", "refiner", "parts", "gradients", "text",
    "species",
)  # fmt: skip
"""What the page shows below the verdict, in the order in which the case is solved."""


class Examination:
    """Clinics by state; a part that cannot be computed has the reason in its place."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._quick: LruCache[Clinic] = LruCache(40)
        self._whole: LruCache[Clinic] = LruCache(40)
        self._films: LruCache[Film] = LruCache(200)
        self._reports: LruCache[Report | str] = LruCache(200)

    def start(self, state: ClinicState, again: bool = False) -> Job | None:
        """Start, or find, the job that answers what is still open; None when nothing is open.

        Raises:
            NotAvailable: the model reads no text.
            ValueError: the set does not fit the model.
        """
        from workbench.inspectors.conditioning.passes import reads_text

        reads_text(self.context.registry.model(state.run, state.epoch).model)
        last = self.job(state)
        if self.complete(state) is not None or (last is not None and last.state == "cancelled" and not again):
            return last
        # A queue of its own: the clinic need not wait for a whole set's evaluation.
        return self.context.jobs.start(
            self._job_key(state), self.title(state), lambda job: self._work(job, state), "conditioning"
        )

    def job(self, state: ClinicState) -> Job | None:
        """The newest job of a state."""
        return self.context.jobs.latest(self._job_key(state))

    def title(self, state: ClinicState) -> str:
        """What the job does, for people."""
        run = self.context.registry.run(state.run)
        return f"{run.title}, {run.epochs[state.epoch].label} on {state.data}"

    def clinic(self, state: ClinicState) -> Clinic | None:
        """What is known by now: with AP where the set was gone through, without before; None at first."""
        return self.complete(state) or self._quick.peek(self._key(state))

    def complete(self, state: ClinicState) -> Clinic | None:
        """With AP; None while the set was not gone through."""
        return self._whole.peek((*self._key(state), state.limit))

    def section(self, state: ClinicState, name: str) -> Report | str | None:
        """One section's report, the reason why there is none, or None while it is not computed."""
        clinic = self.clinic(state)
        if name == "trends":
            return self._trends(state)
        if clinic is None:
            return None
        if name in ("film", "refiner", "gradients", "features", "text"):
            field = {"refiner": "scores"}.get(name, name)
            return getattr(clinic, field) or clinic.missing.get(field, "there is nothing of the kind")
        if name == "paths":
            return clinic.paths
        if name in ("ranking", "parts"):
            whole = self.complete(state)
            if whole is None:
                return None
            return whole.ranking if name == "ranking" else whole.ablation
        return self._reports.peek((*self._run_key(state), name, state.epoch))

    def run(self, state: ClinicState, epoch: int) -> Run:
        """One pass of one epoch over the few samples."""
        from workbench.core.run import run as forward
        from workbench.inspectors.conditioning.passes import several

        loaded = self.context.registry.model(state.run, epoch)
        folder = self.context.registry.run(state.run)
        pose_set = self.context.registry.sets.get(state.data)
        title = f"{folder.title}, {folder.epochs[epoch].label}"
        return forward(loaded.model, several(pose_set, SAMPLES), title=title)

    def _work(self, job: Job, state: ClinicState) -> None:
        from workbench.inspectors.conditioning.clinic import clinic
        from workbench.inspectors.conditioning.over_epochs import over_epochs

        epochs = self.context.registry.run(state.run).epochs
        # The set takes almost all of the time; what comes before it counts as one step each.
        before = 1 + len(epochs)
        job.progress(0, before + 20)
        run = self.run(state, state.epoch)
        self._quick.get(self._key(state), lambda: clinic(run, stepped=job.checkpoint))
        job.progress(1, before + 20)
        self._keep(state, "species", lambda: _species(run))
        films = []
        for done, epoch in enumerate(epochs):
            job.checkpoint()
            job.progress(1 + done, before + 20)
            try:
                films.append(self._film(state, epoch.index))
            except MISTAKES:
                # A broken checkpoint is told by the pages that look at it; here it has no point in the curve.
                continue
        self._keep(state, "epochs", lambda: over_epochs(films))
        self._whole.get((*self._key(state), state.limit), lambda: self._measured(job, state, run, before))

    def _measured(self, job: Job, state: ClinicState, run: Run, before: int) -> Clinic:
        from workbench.inspectors.conditioning.ablation import predicted
        from workbench.inspectors.conditioning.clinic import clinic
        from workbench.inspectors.conditioning.passes import spread

        # A set of its own: its images are read by this thread while pages read theirs.
        pose_set = self.context.registry.sets.apart(state.data)
        found = predicted(
            run.model, pose_set, spread(pose_set, None if state.limit == ALL else state.limit),
            title=run.title, cancelled=job.cancelled,
            progress=lambda done, count: job.progress(before + done, before + count + 1),
        )  # fmt: skip
        return clinic(run, found, pose_set, stepped=job.checkpoint)

    def _film(self, state: ClinicState, epoch: int) -> Film:
        from workbench.inspectors.conditioning import film

        label = self.context.registry.epoch(state.run, epoch).label

        def made() -> Film:
            return dataclasses.replace(film.compute(self.run(state, epoch), film.Params()), title=label)

        return self._films.get((*self._version(state, epoch), state.data), made)

    def _keep(self, state: ClinicState, name: str, make: Any) -> None:
        def told() -> Report | str:
            try:
                return make()
            except MISTAKES as mistake:
                return sentence(mistake)

        self._reports.get((*self._run_key(state), name, state.epoch), told)

    def _trends(self, state: ClinicState) -> Report | str:
        """The curves of the run and of the one beside it, from their logs: read each time, they are short."""
        from workbench.inspectors.conditioning.training_log import Curve, Trends, curve_of

        curves: list[Curve] = []
        for identity in filter(None, (state.run, state.against)):
            run = self.context.registry.run(identity)
            try:
                curves.append(curve_of(run.folder, run.title))
            except MISTAKES as mistake:
                if not curves:
                    return sentence(mistake)
        return Trends(tuple(curves))

    def _version(self, state: ClinicState, epoch: int) -> tuple[Any, ...]:
        return version_of(self.context.registry.epoch(state.run, epoch).path)

    def _run_key(self, state: ClinicState) -> tuple[Any, ...]:
        return (*self._version(state, self.context.registry.run(state.run).epochs[-1].index), state.data)

    def _key(self, state: ClinicState) -> tuple[Any, ...]:
        return (*self._version(state, state.epoch), state.data)

    def _job_key(self, state: ClinicState) -> str:
        return f"conditioning {dataclasses.replace(state, against='').text()}"


def _species(run: Run) -> Report:
    """How alike the sentences of the text's subjects are.

    Raises:
        NotAvailable: there is no text, or it knows one subject alone.
    """
    from workbench.core import NotAvailable
    from workbench.inspectors.conditioning.passes import conditioned
    from workbench.text.vectors import similarity

    model = conditioned(run.model)
    if model.text is None:
        raise NotAvailable(f"text: {model.no_text}")
    return similarity(model.text, "subjects")
