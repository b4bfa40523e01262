"""The lab's reports on both epochs: made by a job, question by question, and kept for whoever asks again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from apps.pages.rollout.wishes import Wish
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
KEPT = 400


class Lab:
    """Reports by question and epoch; a question that cannot be answered keeps the reason instead."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._found: LruCache[Report | str] = LruCache(KEPT)
        self._runs: LruCache[Run] = LruCache(8)

    def begin(self, wish: Wish) -> Job:
        """Start, or find, the job that answers all that is still open.

        Raises:
            NotAvailable: the model is no sequence model.
            ValueError: the sample or the support does not fit the model.
        """
        from workbench.inspectors.sequence.rollout import sequence_model

        for epoch in wish.epochs:
            sequence_model(self.looked(wish, epoch))
        # A line of its own: a few passes over one image need not wait for a whole set's evaluation.
        return self.context.jobs.start(
            f"rollout {wish.text()}", self.title(wish), lambda job: self._answer(job, wish), "rollout"
        )

    def job(self, wish: Wish) -> Job | None:
        """The newest job of a wish."""
        return self.context.jobs.latest(f"rollout {wish.text()}")

    def title(self, wish: Wish) -> str:
        """What the job does, for people."""
        run = self.context.registry.run(wish.run)
        labels = " and ".join(run.epochs[i].label for i in wish.epochs)
        return f"{run.title}, {labels}"

    def found(self, wish: Wish, question: str, epoch: int) -> Report | str | None:
        """The report, the reason why there is none, or None while it is not made."""
        key = self._key(wish, question, epoch)
        return self._found.get(key, str) if key in self._found else None

    def report(self, wish: Wish, question: str, epoch: int) -> Report:
        """The report, made now where it is not there.

        Raises:
            NotAvailable: the model cannot answer.
            ValueError: the wish cannot be answered.
        """
        kept = self.found(wish, question, epoch)
        return kept if isinstance(kept, Report) else self._made(wish, question, epoch)

    def looked(self, wish: Wish, epoch: int) -> Run:
        """The free-running pass of one epoch over the sample, with the support that was wished for."""
        key = (*self._version(wish, epoch), wish.data, wish.sample, wish.support)
        return self._runs.get(key, lambda: self._passed(wish, epoch))

    def others(self, wish: Wish) -> list[Sample]:
        """An example of another image, whose support is put in place of the real one."""
        index = self.other(wish)
        return [] if index is None else [self.context.registry.sets.sample(wish.data, index)]

    def other(self, wish: Wish) -> int | None:
        """Index of the first labelled sample of another image."""
        pose_set = self.context.registry.sets.get(wish.data)
        mine = pose_set.instances[wish.sample].image_id
        return next((i for i in pose_set.labelled if pose_set.instances[i].image_id != mine), None)

    def params(self, wish: Wish, inspector: Inspector) -> Any:
        """The inspector's knobs as the page has them."""
        given: dict[str, Any] = {"threshold": wish.threshold, "normaliser": wish.normaliser}
        given |= {"view": "crop", "token": wish.keypoint, "step": wish.keypoint or self._first(wish)}
        fields = {f.name for f in dataclasses.fields(inspector.params)}
        return inspector.params(**{name: value for name, value in given.items() if name in fields})

    def _first(self, wish: Wish) -> str:
        """The first annotated keypoint."""
        run = self.looked(wish, wish.epochs[-1])
        shown = (run.truth[0, :, 2] > 0).argmax()
        return run.model.skeleton.keypoints[int(shown)]

    def _answer(self, job: Job, wish: Wish) -> None:
        asked = [(question, epoch) for question in QUESTIONS for epoch in wish.epochs]
        for done, (question, epoch) in enumerate(asked):
            job.progress(done, len(asked))
            job.checkpoint()
            if self.found(wish, question, epoch) is None:
                key = self._key(wish, question, epoch)
                self._found.get(key, lambda q=question, e=epoch: self._told(wish, q, e))
        job.progress(len(asked), len(asked))

    def _told(self, wish: Wish, question: str, epoch: int) -> Report | str:
        try:
            return self._made(wish, question, epoch)
        except MISTAKES as mistake:
            return sentence(mistake)

    def _made(self, wish: Wish, question: str, epoch: int) -> Report:
        inspector, run = get(question), self.looked(wish, epoch)
        params = self.params(wish, inspector)
        if question == "support":
            return inspector.compute(run, params, self.others(wish))  # type: ignore[call-arg]
        return inspector.compute(run, params)

    def _passed(self, wish: Wish, epoch: int) -> Run:
        from workbench.core.run import run as forward

        registry = self.context.registry
        model = self._supported(registry.model(wish.run, epoch).model, wish)
        sample = registry.sets.sample(wish.data, wish.sample)
        title = f"{registry.run(wish.run).title}, {registry.epoch(wish.run, epoch).label}"
        return forward(model, [sample], title=title)

    def own_model(self, wish: Wish, epoch: int) -> Any:
        """One epoch's model that nobody else looks at, with the support that was wished for."""
        return self._supported(self.context.registry.own_model(wish.run, epoch).model, wish)

    def _supported(self, model: Any, wish: Wish) -> Any:
        if wish.support is None:
            return model
        if not isinstance(model, TakesSupport):
            raise ValueError("support: this model takes no support example of its own; leave it empty")
        return model.supported_by([self.context.registry.sets.sample(wish.data, wish.support)])

    def _version(self, wish: Wish, epoch: int) -> tuple[Any, ...]:
        return version_of(self.context.registry.epoch(wish.run, epoch).path)

    def _key(self, wish: Wish, question: str, epoch: int) -> tuple[Any, ...]:
        params = self.params(wish, get(question))
        return (*self._version(wish, epoch), wish.data, wish.sample, wish.support, question, params)
