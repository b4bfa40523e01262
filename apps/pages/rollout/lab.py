"""State of the Rollout page: run, early and late epoch, sample, support, keypoint, and the rule of PCK."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.pages.job_sections import job_key
from apps.pages.subject import (
    SEQUENCE,
    Subject,
    epoch_name,
    epoch_named,
    runs_of,
    sample_name,
    sample_named,
    subject_of,
)
from apps.server.encoding import record_of
from workbench.cli import MISTAKES, sentence
from workbench.core.capabilities import TakesSupport
from workbench.core.inspector import Inspector
from workbench.core.job import Job, JobResults, LruCache
from workbench.core.report import Report, counted
from workbench.data import BUILTIN
from workbench.inspectors import get
from workbench.inspectors.sequence.rollout import PckRule

if TYPE_CHECKING:
    from apps.server.context import Context
    from apps.server.folders import RunFolder
    from workbench.core import Run, Sample
    from workbench.core.job import Job
    from workbench.inspectors.sequence.schedules import Schedules
    from workbench.training.overfit import OverfitReport


# As `workbench rollout --demo` has it; before its sister runs, and not before a user's own.
DEMO = "cape-demo-defects"

ADDRESS = ("run", "epochs", "epoch", "data", "sample", "support", "keypoint", "threshold", "normaliser")
"""Names in the page's address; ``epochs`` as Compare writes them, ``epoch`` when a link names one alone."""

VALUES = ("run", "epoch_a", "epoch_b", "data", "sample", "support", "keypoint", "threshold", "normaliser")
"""Names of the controls' values for HTTP clients."""

NORMALISERS = ("longer side", "diagonal", "root of area")
DEFAULT_THRESHOLD = 0.2


@dataclass(frozen=True)
class RolloutState:
    """One state of the page.

    Attributes:
        run: a run's id.
        epochs: indices of A and B in it; one number when they are the same.
        data: id of a set.
        sample: index of the query in it.
        support: index of the support example in it; None makes the query its own.
        keypoint: whose token is moved and whose step is drawn; the first annotated one when empty.
        threshold: of PCK.
        normaliser: of PCK.
    """

    run: str
    epochs: tuple[int, ...]
    data: str
    sample: int
    support: int | None = None
    keypoint: str = ""
    threshold: float = DEFAULT_THRESHOLD
    normaliser: str = NORMALISERS[0]

    @property
    def rule(self) -> PckRule:
        """The rule of PCK; raises ValueError for an impossible one."""
        return PckRule(self.threshold, self.normaliser)  # type: ignore[arg-type] - PckRule refuses others

    def subject(self, epoch: int) -> Subject:
        """What an inspector's page would look at."""
        return Subject(self.run, epoch, self.data, self.sample)

    def text(self) -> str:
        """The state as JSON, to be held by the page."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_text(cls, text: str) -> RolloutState:
        """Back from `text`."""
        return record_of(cls, text)


def state_of(context: Context, *values: Any) -> RolloutState:
    """The state for control values in the order of `VALUES`; what is missing takes its default.

    Raises:
        KeyError: no such run, epoch, data set or sample.
        ValueError: a value that cannot be.
    """
    run, a, b, data, sample, support, keypoint, threshold, normaliser = values
    run = run or default_run(context)
    last = context.registry.run(run).epochs[-1].index
    late = subject_of(context, run, last if b in (None, "") else b, data, sample, None, None, *[None] * 4)
    early = 0 if a in (None, "") else subject_of(context, run, a, data, sample, None, None, *[None] * 4).epoch
    state = RolloutState(
        run=late.run,
        epochs=tuple(dict.fromkeys((early, late.epoch))),
        data=late.data,
        sample=late.sample,
        support=None if support in (None, "") else int(support),
        keypoint=str(keypoint or ""),
        threshold=DEFAULT_THRESHOLD if threshold in (None, "") else float(threshold),
        normaliser=str(normaliser or NORMALISERS[0]),
    )
    if not state.data:
        raise ValueError("choose a data set: none that is served has the keypoints of this model")
    _ = state.rule
    count = len(context.registry.sets.get(state.data))
    for index in (state.sample, state.support):
        if index is not None and not 0 <= index < count:
            raise KeyError(f"{state.data} has samples 0 to {count - 1}, not {index}")
    return state


def sequence_runs(context: Context) -> list[RunFolder]:
    """The served runs of sequence models."""
    return runs_of(context, SEQUENCE)


def default_run(context: Context) -> str:
    """The run to show when none is named: the first sequence model, else the first of all."""
    if found := sequence_runs(context):
        beside = [run for run in found if run.folder == found[0].folder.with_name(DEMO)]
        return (beside or found)[0].id
    return context.registry.default_run().id


def from_address(context: Context, words: list[Any]) -> list[Any]:
    """Control values for the words of the address, which are in the order of ADDRESS."""
    run, epochs, epoch, data, sample, support, keypoint, threshold, normaliser = words
    folder = context.registry.run(run or default_run(context))
    named = [epoch_named(folder, word) for word in dict.fromkeys((epochs or "").split(",")) if word]
    if not named and epoch:
        named = [epoch_named(folder, epoch)]
    # One epoch that is named alone is the late one: what came before it is what it is compared with.
    a, b = (named[0], named[-1]) if len(named) > 1 else (None, named[0] if named else None)
    if (sample or support) and not data:  # of the set that the page would open
        data = context.registry.default_data(folder.id, folder.epochs[-1].index if b is None else b)
    pose_set = context.registry.sets.get(data) if data else None
    query, helper = (sample_named(pose_set, w) if pose_set and w else None for w in (sample, support))
    return [folder.id, a, b, data, query, helper, keypoint, threshold, normaliser]


def address_of(context: Context, state: RolloutState) -> dict[str, Any]:
    """Name -> word of the page's address; None leaves a name out."""
    run, pose_set = context.registry.run(state.run), context.registry.sets.get(state.data)
    names = [epoch_name(run.epochs[i]) for i in state.epochs]
    plain = RolloutState(state.run, state.epochs, state.data, state.sample)
    return {
        "run": state.run,
        "epochs": ",".join(names),
        # The rail carries this one along: the other pages then open the late epoch.
        "epoch": names[-1],
        "data": state.data,
        "sample": sample_name(pose_set, state.sample),
        "support": None if state.support is None else sample_name(pose_set, state.support),
        "keypoint": state.keypoint or None,
        "threshold": None if state.threshold == plain.threshold else state.threshold,
        "normaliser": None if state.normaliser == plain.normaliser else state.normaliser,
    }


# Reports of the rollout lab on both epochs: computed by one job, question by question, and cached.


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
        found = self.found(state, question, epoch)
        return found if isinstance(found, Report) else self._made(state, question, epoch)

    def run(self, state: RolloutState, epoch: int) -> Run:
        """The free-running pass of one epoch over the sample, with the chosen support."""
        key = (*self.versions(state, epoch), state.sample, state.support)
        return self._runs.get(key, lambda: self._run_of(state, epoch))

    def versions(self, state: RolloutState, epoch: int) -> tuple[Any, ...]:
        """Change when the files of an epoch or of the data set do."""
        registry = self.context.registry
        return registry.version(state.run, epoch), state.data, registry.sets.version(state.data)

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

    def _run_of(self, state: RolloutState, epoch: int) -> Run:
        from workbench.core.run import run as forward

        registry = self.context.registry
        model = self._supported(registry.model(state.run, epoch, state.data).model, state)
        sample = registry.sets.sample(state.data, state.sample)
        title = f"{registry.run(state.run).title}, {registry.epoch(state.run, epoch).label}"
        return forward(model, [sample], title=title)

    def own_model(self, state: RolloutState, epoch: int) -> Any:
        """One epoch's model that no other page uses, with the chosen support."""
        return self._supported(self.context.registry.own_model(state.run, epoch, state.data).model, state)

    def _supported(self, model: Any, state: RolloutState) -> Any:
        if state.support is None:
            return model
        if not isinstance(model, TakesSupport):
            raise ValueError("support: this model takes no support example of its own; leave it empty")
        return model.supported_by([self.context.registry.sets.sample(state.data, state.support)])

    def _key(self, state: RolloutState, question: str, epoch: int) -> tuple[Any, ...]:
        params = self.params(state, get(question))
        return (*self.versions(state, epoch), state.sample, state.support, question, params)


# Trainings that the Rollout page starts on request: scheduled sampling, and retraining with a bisection.


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
        versions = self._lab.versions(state, state.epochs[0])
        return job_key("schedules", versions, state.sample, state.support, state.threshold, steps, rate)

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
            f"{run.title}: {counted(steps, 'step')} with each schedule",
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
        versions = self._lab.versions(state, state.epochs[-1])
        return job_key("bisection", versions, state.sample, state.support, steps)

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
                "bisection: this checkpoint does not say how its network was made, so it cannot be trained "
                "again from initial weights; use workbench overfit --adapter"
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
        from workbench.cli.rollout import repeat_command

        settings, registry = self._lab.context.settings, self._lab.context.registry
        own = state.data not in BUILTIN
        given = {
            "data": registry.sets.file(state.data).absolute() if own else state.data,
            "images": settings.images.absolute() if own and settings.images else None,
            "instance": registry.sets.sample(state.data, state.sample).key,
            "adapter": settings.adapter and settings.adapter.absolute(),
            "remap": settings.remap,
            "bits": settings.reading.bits if own else 0,
            "as-stored": own and settings.reading.as_stored,
        }
        return repeat_command([registry.epoch(state.run, state.epochs[-1]).path.absolute()], given, steps)
