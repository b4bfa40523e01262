"""Reports of the rollout lab on both epochs: computed by one job, question by question, and cached."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from apps.pages.rollout.state import RolloutState
from workbench.cli import MISTAKES, sentence
from workbench.core.cache import LruCache, version_of
from workbench.core.capabilities import TakesSupport
from workbench.core.inspector import Inspector
from workbench.core.job import Job
from workbench.core.report import Report
from workbench.inspectors import get

if TYPE_CHECKING:
    from apps.server.context import Context
    from workbench.core import Run, Sample

QUESTIONS = (
    "overlay",
    "forced_and_free",
    "prefix",
    "corruption",
    "support",
    "calibration",
    "step_attention",
    "coordinates",
)
"""Inspectors in the order of the page: first the picture, then what the numbers are made of."""

# Both epochs of some twenty states: reports hold arrays of a few hundred kB.
CACHED_REPORTS = 400


class Lab:
    """Reports by question and epoch; a question that cannot be answered has the reason in its place."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._found: LruCache[Report | str] = LruCache(CACHED_REPORTS)
        self._runs: LruCache[Run] = LruCache(8)

    def start(self, state: RolloutState) -> Job:
        """Start, or find, the job that answers all that is still open.

        Raises:
            NotAvailable: the model is no sequence model.
            ValueError: the sample or the support does not fit the model.
        """
        from workbench.inspectors.sequence.rollout import sequence_model

        for epoch in state.epochs:
            sequence_model(self.run(state, epoch))
        # A queue of its own: a few passes over one image need not wait for a whole set's evaluation.
        return self.context.jobs.start(
            f"rollout {state.text()}", self.title(state), lambda job: self._answer(job, state), "rollout"
        )

    def job(self, state: RolloutState) -> Job | None:
        """The newest job of a state."""
        return self.context.jobs.latest(f"rollout {state.text()}")

    def title(self, state: RolloutState) -> str:
        """What the job does, for people."""
        run = self.context.registry.run(state.run)
        labels = " and ".join(run.epochs[i].label for i in state.epochs)
        return f"{run.title}, {labels}"

    def found(self, state: RolloutState, question: str, epoch: int) -> Report | str | None:
        """The report, the reason why there is none, or None while it is not computed."""
        key = self._key(state, question, epoch)
        return self._found.peek(key)

    def report(self, state: RolloutState, question: str, epoch: int) -> Report:
        """The report, computed now if it is not there.

        Raises:
            NotAvailable: the model cannot answer.
            ValueError: the question cannot be answered.
        """
        kept = self.found(state, question, epoch)
        return kept if isinstance(kept, Report) else self._made(state, question, epoch)

    def run(self, state: RolloutState, epoch: int) -> Run:
        """The free-running pass of one epoch over the sample, with the chosen support."""
        key = (*self._version(state, epoch), state.data, state.sample, state.support)
        return self._runs.get(key, lambda: self._passed(state, epoch))

    def others(self, state: RolloutState) -> list[Sample]:
        """An example of another image, whose support takes the place of the real one."""
        index = self.other(state)
        return [] if index is None else [self.context.registry.sets.sample(state.data, index)]

    def other(self, state: RolloutState) -> int | None:
        """Index of the first labelled sample of another image."""
        pose_set = self.context.registry.sets.get(state.data)
        mine = pose_set.instances[state.sample].image_id
        return next((i for i in pose_set.labelled if pose_set.instances[i].image_id != mine), None)

    def params(self, state: RolloutState, inspector: Inspector) -> Any:
        """The inspector's Params for this state."""
        given: dict[str, Any] = {"threshold": state.threshold, "normaliser": state.normaliser}
        given |= {"view": "crop", "token": state.keypoint, "step": state.keypoint or self._first(state)}
        fields = {f.name for f in dataclasses.fields(inspector.params)}
        return inspector.params(**{name: value for name, value in given.items() if name in fields})

    def _first(self, state: RolloutState) -> str:
        """The first annotated keypoint."""
        run = self.run(state, state.epochs[-1])
        shown = (run.truth[0, :, 2] > 0).argmax()
        return run.model.skeleton.keypoints[int(shown)]

    def _answer(self, job: Job, state: RolloutState) -> None:
        asked = [(question, epoch) for question in QUESTIONS for epoch in state.epochs]
        for done, (question, epoch) in enumerate(asked):
            job.progress(done, len(asked))
            job.checkpoint()
            if self.found(state, question, epoch) is None:
                key = self._key(state, question, epoch)
                self._found.get(key, lambda q=question, e=epoch: self._report_or_reason(state, q, e))
        job.progress(len(asked), len(asked))

    def _report_or_reason(self, state: RolloutState, question: str, epoch: int) -> Report | str:
        try:
            return self._made(state, question, epoch)
        except MISTAKES as mistake:
            return sentence(mistake)

    def _made(self, state: RolloutState, question: str, epoch: int) -> Report:
        inspector, run = get(question), self.run(state, epoch)
        params = self.params(state, inspector)
        if question == "support":
            return inspector.compute(run, params, self.others(state))  # type: ignore[call-arg]
        return inspector.compute(run, params)

    def _passed(self, state: RolloutState, epoch: int) -> Run:
        from workbench.core.run import run as forward

        registry = self.context.registry
        model = self._supported(registry.model(state.run, epoch).model, state)
        sample = registry.sets.sample(state.data, state.sample)
        title = f"{registry.run(state.run).title}, {registry.epoch(state.run, epoch).label}"
        return forward(model, [sample], title=title)

    def own_model(self, state: RolloutState, epoch: int) -> Any:
        """One epoch's model that no other page uses, with the chosen support."""
        return self._supported(self.context.registry.own_model(state.run, epoch).model, state)

    def _supported(self, model: Any, state: RolloutState) -> Any:
        if state.support is None:
            return model
        if not isinstance(model, TakesSupport):
            raise ValueError("support: this model takes no support example of its own; leave it empty")
        return model.supported_by([self.context.registry.sets.sample(state.data, state.support)])

    def _version(self, state: RolloutState, epoch: int) -> tuple[Any, ...]:
        return version_of(self.context.registry.epoch(state.run, epoch).path)

    def _key(self, state: RolloutState, question: str, epoch: int) -> tuple[Any, ...]:
        params = self.params(state, get(question))
        return (*self._version(state, epoch), state.data, state.sample, state.support, question, params)
