"""State of the Conditioning page: run and epoch, data set, number of instances, a run to compare with."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.pages.epoch_page import ALL, EpochState, checked_subject
from apps.pages.subject import TEXT, runs_of
from workbench.cli import MISTAKES, sentence
from workbench.core.job import Job, LruCache, version_of
from workbench.core.report import Report
from workbench.inspectors.conditioning.training_log import logs_of

if TYPE_CHECKING:
    from apps.server.context import Context
    from apps.server.folders import RunFolder
    from workbench.core import PoseModel, Run
    from workbench.inspectors.conditioning.clinic import Clinic
    from workbench.inspectors.conditioning.film import Film
    from workbench.inspectors.conditioning.weights import OtherFiles
    from workbench.models import LoadedModel


ADDRESS = ("run", "epoch", "data", "limit", "against", "epochs")
"""Names in the page's address; ``epochs`` is the list of other pages, whose last is the one to look at."""

BAR = ADDRESS[:-1]
"""Names of the controls' values."""

NONE = "none"
# Enough for an interval, done in half a minute on a small network.
DEFAULT_LIMIT = 64
LIMITS = [("32", 32), ("64", 64), ("128", 128), ("all", ALL)]


@dataclass(frozen=True)
class ClinicState(EpochState):
    """One state of the page, as `EpochState`.

    `limit` counts instances for AP, spread over the set; `against` is the run whose curves stand beside.
    """

    limit: int = DEFAULT_LIMIT


def conditioned_runs(context: Context) -> list[RunFolder]:
    """The runs whose checkpoints read text, told from their tensors."""
    return runs_of(context, TEXT)


def state_of(context: Context, *values: Any) -> ClinicState:
    """The state for control values (run, epoch, data, limit, against); what is missing takes its default.

    Raises:
        KeyError: no such run, epoch or data set.
        ValueError: a value that cannot be.
    """
    run, epoch, data, limit, against = values
    registry = context.registry
    able = conditioned_runs(context)
    subject = checked_subject(context, run, able, epoch, data, limit, DEFAULT_LIMIT, "instances")
    if against is None:
        against = _beside(context, registry.run(subject[0]))
    elif against in ("", NONE):
        against = ""
    else:
        registry.run(against)
    return ClinicState(*subject, against)


def _beside(context: Context, run: RunFolder) -> str:
    """Of the runs with curves and without text the one whose name is nearest to this one's; "" for none."""
    reads = {other.id for other in conditioned_runs(context)}
    others = [
        r for r in context.registry.runs() if r.id not in reads and r.id != run.id and logs_of(r.folder)
    ]

    def shared(other: RunFolder) -> int:
        pairs = zip(other.folder.name, run.folder.name, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    best = max(others, key=shared, default=None)
    return best.id if best is not None and (shared(best) or len(others) == 1) else ""


# The clinic on one epoch: computed by one job, part by part, and cached.


SAMPLES = 8
"""One of each species, as far as there are."""

SECTIONS = (
    "trends", "ranking", "paths", "effect", "film", "epochs", "features", "refiner", "parts", "gradients",
    "progress", "text", "species",
)  # fmt: skip
"""What the page shows below the verdict, in the order in which the case is solved."""


_NO_PART = "this model has no such part"
FIELDS: dict[str, tuple[str, str, str]] = {
    "effect": ("effect", "text effect", _NO_PART),
    "film": ("film", "film", _NO_PART),
    "features": ("features", "features", _NO_PART),
    "refiner": ("scores", "scores", _NO_PART),
    "gradients": ("gradients", "gradients", _NO_PART),
    "progress": ("progress", "head", "choose a run to compare with above: its weights are the base"),
    "text": ("text", "text", "the condition of this model is no text"),
}
"""Section -> field of the clinic, question under which it says why it is missing, sentence otherwise."""


class Examination:
    """Clinics by state; a part that cannot be computed has the reason in its place."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._quick: LruCache[Clinic] = LruCache(40)
        self._whole: LruCache[Clinic] = LruCache(40)
        self._files: LruCache[OtherFiles] = LruCache(40)
        self._films: LruCache[Film] = LruCache(200)
        self._reports: LruCache[Report | str] = LruCache(200)

    def start(self, state: ClinicState, again: bool = False) -> Job | None:
        """Start, or find, the job that answers what is still open; None when nothing is open.

        Raises:
            NotAvailable: the model declares no condition.
            ValueError: the set does not fit the model.
        """
        from workbench.inspectors.conditioning.passes import conditioning_of

        conditioning_of(self.context.registry.model(state.run, state.epoch).model, needed=False)
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
        """What is known by now: with AP once the set was predicted, without before; None at first."""
        return self.complete(state) or self._with_files(state, self._quick.peek(self._key(state)))

    def complete(self, state: ClinicState) -> Clinic | None:
        """With AP; None until the set was predicted."""
        found = self._whole.peek((*self._key(state), state.limit))
        return self._with_files(state, found)

    def _with_files(self, state: ClinicState, found: Clinic | None) -> Clinic | None:
        """With what the checkpoint's other files show; None until these were read."""
        from workbench.inspectors.conditioning.clinic import with_files

        files = self._files.peek(self._files_key(state))
        return None if found is None or files is None else with_files(found, files)

    def section(self, state: ClinicState, name: str) -> Report | str | None:
        """One section's report, the reason why there is none, or None while it is not computed."""
        clinic = self.clinic(state)
        if name == "trends":
            return self._trends(state)
        if clinic is None:
            return None
        if name in FIELDS:
            field, question, otherwise = FIELDS[name]
            return getattr(clinic, field) or clinic.missing.get(question, otherwise)
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

        loaded = self.context.registry.model(state.run, epoch, state.data)
        pose_set = self.context.registry.sets.get(state.data)
        return forward(loaded.model, several(pose_set, SAMPLES), title=self._title(state, epoch))

    def _work(self, job: Job, state: ClinicState) -> None:
        from workbench.inspectors.conditioning.clinic import examine
        from workbench.inspectors.conditioning.film import over_epochs

        epochs = self.context.registry.run(state.run).epochs
        # The set takes almost all of the time; what comes before it counts as one step each.
        before = 1 + len(epochs)
        job.progress(0, before + 20)
        loaded = self.context.registry.model(state.run, state.epoch, state.data)
        pose_set, title = self.context.registry.sets.get(state.data), self._title(state, state.epoch)
        self._quick.get(
            self._key(state), lambda: examine(loaded, pose_set, title=title, stepped=job.checkpoint)
        )
        self._files.get(self._files_key(state), lambda: self._other_files(state, loaded))
        job.progress(1, before + 20)
        self._keep(state, "species", lambda: _species(loaded.model))
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
        self._whole.get((*self._key(state), state.limit), lambda: self._measured(job, state, before))

    def _measured(self, job: Job, state: ClinicState, before: int) -> Clinic:
        from workbench.evaluation.protocol import judged_by
        from workbench.inspectors.conditioning.clinic import examine
        from workbench.inspectors.conditioning.passes import spread

        loaded = self.context.registry.model(state.run, state.epoch, state.data)
        # A set of its own: its images are read by this thread while pages read theirs. With the model's own
        # sigmas, as the verb judges it.
        pose_set = judged_by(self.context.registry.sets.apart(state.data), loaded.model.skeleton)
        return examine(
            loaded, pose_set,
            spread(pose_set, None if state.limit == ALL else state.limit),
            title=self._title(state, state.epoch), cancelled=job.cancelled, stepped=job.checkpoint,
            progress=lambda done, count: job.progress(before + done, before + count + 1),
        )  # fmt: skip

    def _other_files(self, state: ClinicState, loaded: LoadedModel) -> OtherFiles:
        """What the run's other epochs and the run beside it show, as the verb reads them."""
        from workbench.evaluation.protocol import judged_by
        from workbench.inspectors.conditioning.passes import spread
        from workbench.inspectors.conditioning.weights import OtherFiles, measured, read_other_files

        registry = self.context.registry
        epochs, base = ([e.path for e in registry.run(name).epochs] if name else [] for name in
                        (state.run, state.against))  # fmt: skip
        try:
            found = read_other_files(loaded.checkpoint, epochs, base)
            pose_set = judged_by(registry.sets.apart(state.data), loaded.model.skeleton)
            return measured(
                found, loaded, pose_set, spread(pose_set, None if state.limit == ALL else state.limit)
            )
        except MISTAKES as mistake:
            return OtherFiles(missing={"head": sentence(mistake)})

    def _title(self, state: ClinicState, epoch: int) -> str:
        folder = self.context.registry.run(state.run)
        return f"{folder.title}, {folder.epochs[epoch].label}"

    def _files_key(self, state: ClinicState) -> tuple[Any, ...]:
        # All epochs of the run are read, and those of the run beside.
        runs = [self.context.registry.run(name) for name in (state.run, state.against) if name]
        epochs = tuple(version_of(epoch.path) for run in runs for epoch in run.epochs)
        return (*self._key(state), state.limit, state.against, epochs)

    def _film(self, state: ClinicState, epoch: int) -> Film:
        from workbench.inspectors.conditioning import film

        label = self.context.registry.epoch(state.run, epoch).label

        def made() -> Film:
            return dataclasses.replace(film.compute(self.run(state, epoch), film.Params()), title=label)

        registry = self.context.registry
        key = registry.version(state.run, epoch), state.data, registry.sets.version(state.data)
        return self._films.get(key, made)

    def _keep(self, state: ClinicState, name: str, make: Any) -> None:
        def report_or_reason() -> Report | str:
            try:
                return make()
            except MISTAKES as mistake:
                return sentence(mistake)

        self._reports.get((*self._run_key(state), name, state.epoch), report_or_reason)

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

    def _run_key(self, state: ClinicState) -> tuple[Any, ...]:
        registry = self.context.registry
        return registry.last_version(state.run), state.data, registry.sets.version(state.data)

    def _key(self, state: ClinicState) -> tuple[Any, ...]:
        registry = self.context.registry
        version = registry.version(state.run, state.epoch)
        return version, state.data, registry.sets.version(state.data)

    def _job_key(self, state: ClinicState) -> str:
        return f"conditioning {state.text()}"


def _species(model: PoseModel) -> Report:
    """How similar the sentences of the text's subjects are.

    Raises:
        NotAvailable: there is no text, or it knows one subject alone.
    """
    from workbench.core import NotAvailable
    from workbench.inspectors.conditioning.evidence import text_of
    from workbench.text.vectors import similarity

    text = text_of(model)
    if text is None:
        raise NotAvailable("text: this model has no sentence vectors")
    return similarity(text, "subjects")
