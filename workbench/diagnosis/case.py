"""Case: what a diagnosis was given, opened when it is first asked for, and the evidence that causes share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from workbench.checkpoints.loading import percent
from workbench.core import Conditioned, Groups, NotAvailable, PoseModel
from workbench.core.capabilities import RollsOut
from workbench.core.errors import USER_ERRORS, available, sentence
from workbench.core.hooks import count_inputs
from workbench.core.report import counted
from workbench.diagnosis.cause import LEVELS, SPENT, UNUSED, Cause, Level, Undone
from workbench.diagnosis.evidence import NEEDS_FORWARD, Change, Evidence, Mended, check_keypoints, spread
from workbench.diagnosis.input_budget import EVALUATIONS
from workbench.diagnosis.people_evidence import WHOLE_IMAGES, PeopleEvidence, remembering, whole_images
from workbench.diagnosis.separation import Separated, nothing_chosen, separated, varying
from workbench.diagnosis.targets import Given, sorted_targets
from workbench.diagnosis.texts import quoted_config

if TYPE_CHECKING:
    from workbench.checkpoints.checkpoint import Checkpoint
    from workbench.checkpoints.loading import LoadReport
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.predictions import Predictions
    from workbench.models import LoadedModel

Value = TypeVar("Value")

# Instances on which causes are searched, and the most on which the clinic tries switches: seconds on a CPU.
SAMPLE, CLINIC_INSTANCES = 48, 1024
# Share of a model's parameters below which a file is one of another model.
LEAST_LOADED = 0.05
# Multiples of this, less whole numbers, fill the unit interval evenly.
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Options:
    """How a case is to be examined.

    Attributes:
        against: a run or checkpoint to compare with.
        data: a COCO-format json or a built-in set.
        images: folder of its images.
        within: no image, and nothing in a run's folder, may lie outside of these folders, symbolic links
            resolved; no limit when empty.
        one_run: as of sorted_targets.
        bits, as_stored: as in ImageReading.
        config: of the model; named here it is the user's own code and is run.
        adapter: the user's own model as a Python file; it is run.
        claim: figure by name that the run should reach or was seen to reach: ``{"AP": .698}``.
        level: the most costly kind of test.
        budget: seconds; None for no limit.
        family: open the checkpoint as this family.
        output, assume: what an exported file does not state, as `open_model` takes it.
        skeleton: what the keypoints are.
        sigmas: OKS constants, one for each keypoint or one for all; () for the model's or the skeleton's.
        device: for the model.
        run_config: whether `config` is run; False reads it.
        sample: instances on which causes are searched; level ``evaluate`` then measures on the whole set.
        steps: of each overfit attempt at level ``train``; None for what networks of this kind need.
    """

    against: Path | None = None
    data: str | None = None
    images: Path | None = None
    within: tuple[Path, ...] = ()
    one_run: bool = False
    bits: int = 0
    as_stored: bool = False
    config: Path | None = None
    adapter: Path | None = None
    claim: Mapping[str, float] = field(default_factory=dict)
    level: Level = "evaluate"
    budget: float | None = None
    family: str | None = None
    output: tuple[str, ...] = ()
    assume: tuple[str, ...] = ()
    skeleton: str | None = None
    sigmas: tuple[float, ...] = ()
    device: str = "cpu"
    run_config: bool = True
    sample: int = SAMPLE
    steps: int | None = None


class Failed(NotAvailable):
    """Something is not there because making it failed, and not because a file is missing."""


class BudgetSpent(Exception):  # noqa: N818 - no error: the time that was allowed is over
    """The budget is spent; what is not tested yet stays untested."""


class Case:
    """One diagnosis: its files, and what was made of them so far. Everything is opened once.

    Args:
        given: the targets, by kind.
        options: how to examine them.
        causes: all that will be tested; those proved by undoing them are separated together.
        stepped: called before each piece of work; what it raises ends the diagnosis.
    """

    def __init__(
        self,
        given: Given,
        options: Options | None = None,
        causes: Sequence[Cause] = (),
        stepped: Callable[[], None] = lambda: None,
    ) -> None:
        self.given, self.options = given, options or Options()
        self.causes = tuple(causes)
        self.stepped = stepped
        self.started = time.monotonic()
        self.notes: list[str] = list(given.notes)
        self._cache: dict[str, Any] = {}
        self._unchanged: dict[str, str] = {}
        self._crop_seconds, self.forwarded = 0.0, 0
        self.answered = False  # once all causes are, nothing that takes time is begun any more

    def once(self, key: str, make: Callable[[], Value]) -> Value:
        """The value of a key, made at the first call; a failure is kept as well and raised again.

        Raises:
            NotAvailable: it cannot be made; the sentence says what is missing.
        """
        if key not in self._cache:
            try:
                self._cache[key] = make()
            except NotAvailable as error:
                self._cache[key] = error
            except (*USER_ERRORS, RuntimeError) as error:  # torch's, of shapes that do not fit
                self._cache[key] = Failed(sentence(error))
        kept = self._cache[key]
        if isinstance(kept, NotAvailable):
            raise kept
        return kept

    def peek(self, key: str) -> Any:
        """The value of a key if it was made; None where it was not, or could not be."""
        kept = self._cache.get(key)
        return None if isinstance(kept, NotAvailable) else kept

    def step(self) -> None:
        """Called before each piece of work.

        Raises:
            BudgetSpent: the time is over.
            NotAvailable: it is, and the report is being made.
        """
        self.stepped()
        if time.monotonic() - self.started > (self.options.budget or float("inf")):
            raise NotAvailable(SPENT) if self.answered else BudgetSpent

    def reaches(self, level: Level) -> bool:
        """Whether tests of this level are wanted."""
        return LEVELS.index(level) <= LEVELS.index(self.options.level)

    # The files.

    def checkpoint(self) -> Checkpoint:
        """The opened checkpoint that is examined."""
        from workbench.checkpoints import open_checkpoint

        if self.given.checkpoint is None:
            raise NotAvailable("no checkpoint was given; add one, or the folder of the run")
        files = list(self.given.parts) or self.given.checkpoint
        return self.once("checkpoint", lambda: open_checkpoint(files))

    def earlier(self) -> list[Checkpoint]:
        """Checkpoints of the same run before the examined one, oldest first; [] without any."""
        from workbench.checkpoints import open_checkpoint

        def opened() -> list[Checkpoint]:
            epochs = list(self.given.epochs)
            at = epochs.index(self.given.checkpoint) if self.given.checkpoint in epochs else 0
            found = []
            for path in epochs[:at]:
                try:
                    found.append(open_checkpoint(path))
                except USER_ERRORS as error:
                    self.notes.append(sentence(error))
            return found

        return self.once("earlier", opened)

    def against(self) -> Given:
        """What the run is compared with.

        Raises:
            NotAvailable: nothing was named.
        """
        named, others = self.options.against, self.given.others[:1]
        if named is None and not others:
            raise NotAvailable("nothing to compare with; name a run or checkpoint with --against")
        targets = others if named is None else (named,)
        return self.once("against", lambda: sorted_targets(targets, self.options.within))

    def config_path(self) -> Path | None:
        """The config that counts; None where only the checkpoint's own is left."""
        return self.options.config or self.given.named_config

    def model_config(self) -> Path | None:
        """The named config that builds the model; None where an adapter does, and the config is only read."""
        return None if self.options.adapter is not None else self.config_path()

    def config(self) -> Mapping[str, Any]:
        """The values of the config: the one named, the one beside the checkpoint, or the one inside it.

        Where there is no file, the parts that a given text shows as its author's own.
        """
        from workbench.checkpoints.config_reader import read_config
        from workbench.recipes import reading

        def read() -> Mapping[str, Any]:
            path = self.config_path() or next(iter(self.given.configs), None)
            if path is not None:
                found = reading.read(path)
                self.notes += [f"{path.name}: {note}" for note in found.notes]
                return found.values
            if self.given.checkpoint is None and (quoted := quoted_config(self.given.statements)):
                self.notes.append("the config is the one that the text quotes as its author's own")
                return quoted
            text = self.checkpoint().config_text
            if not text:
                raise NotAvailable("no config was given, and the checkpoint holds none; add --config")
            return read_config(text)

        return self.once("config", read)

    # The model.

    def as_given(self) -> LoadedModel:
        """The model with the weights as far as they fit, no tensor renamed."""
        return self.once("as given", self._open_as_given)

    def _open_as_given(self) -> LoadedModel:
        """With the named config; where it builds no model, with the one of the checkpoint, and a note."""
        try:
            found = self._open(remap=False)
            load = found.load if self.model_config() is not None else None
            if load is not None and not load.remap and load.loaded_fraction < LEAST_LOADED:
                share = percent(load.loaded_fraction)
                raise ValueError(f"it is another one's: {share} of its parameters come from the file")
            return found
        except (*USER_ERRORS, RuntimeError) as error:
            failure, path = sentence(error), self.model_config()
            if path is None or self.given.checkpoint is None or isinstance(error, NotAvailable):
                raise
            try:
                found = self._open(remap=False, config=None)
            except (*USER_ERRORS, RuntimeError):
                raise error from None
            self._cache["config failure"] = failure
            self.notes.append(
                f"{path.name} does not fit; the rest is tested with the checkpoint's own config"
            )
            return found

    def config_failure(self) -> str:
        """Why the named config builds no model although the checkpoint's own does; "" where it builds one.

        Raises:
            NotAvailable: no model can be built at all, or nothing was given to build one of.
        """
        self.as_given()
        return self._cache.get("config failure", "")

    def loaded(self) -> LoadedModel:
        """The model; where a renaming of tensors fills more of it, renamed."""

        def opened() -> LoadedModel:
            given = self.as_given()
            report = given.load
            if report is None or report.complete or not report.remap:
                return given
            return self._open(remap=True, config=None if self.config_failure() else self.model_config())

        return self.once("loaded", opened)

    def load_report(self) -> LoadReport:
        """How much of the model the file filled, no tensor renamed."""
        report = self.as_given().load
        if report is None:
            raise NotAvailable("loading: the file is the model, or the adapter gives no report")
        return report

    def _open(self, remap: bool, config: Path | Literal["named"] | None = "named") -> LoadedModel:
        from workbench.models import open_model

        options = self.options
        adapter = options.adapter
        if self.given.checkpoint is None and adapter is None:
            raise NotAvailable("no checkpoint and no adapter was given, so there is no model")
        self.step()
        named = options.config is not None
        found = open_model(
            list(self.given.parts) or self.given.checkpoint,
            config=self.model_config() if config == "named" else config,
            adapter=adapter,
            family=options.family,
            output=options.output,
            assume=options.assume,
            skeleton=options.skeleton,
            remap=remap,
            allow_partial=True,
            device=options.device,
            # A config among the targets is read; only one that was named as --config is the user's own code.
            run_config=named and options.run_config,
        )
        count_inputs(found.model.module, self._given)
        return found

    def _given(self, inputs: int) -> None:
        """Count what the network is given: crops or images, mirrored ones and other scales as well."""
        self.forwarded += inputs

    def evaluation_size(self) -> int:
        """What one evaluation of the set gives to the network: crops, or images of a bottom-up model.

        Raises:
            NotAvailable: there is no model or no data set.
        """
        pose_set = self.pose_set()
        return len(pose_set.images if isinstance(self.model(), Groups) else pose_set.labelled)

    def model(self) -> PoseModel:
        """The model, its keypoints named as the data set's where its file names none."""
        loaded = self.loaded()
        try:
            pose_set = self.read_set()
        except NotAvailable:
            return loaded.model
        return self.once("model", lambda: remembering(loaded.named_as(pose_set).model))

    def top_down(self) -> PoseModel:
        """The model, if it sees one crop at a time and finds all keypoints at once.

        Raises:
            NotAvailable: it does not.
        """
        model = self.model()
        if isinstance(model, (Groups, RollsOut)):
            kind = "a bottom-up model" if isinstance(model, Groups) else "a sequence model"
            raise NotAvailable(f"this is about top-down models; this is {kind}, which has tests of its own")
        return model

    # The data.

    def read_set(self) -> PoseSet:
        from workbench.data.images import ImageReading
        from workbench.data.opening import open_data_for, with_skeleton_named

        def read() -> PoseSet:
            name = self.options.data or next(iter(self.given.annotations), None)
            if name is None:
                raise NotAvailable("no data set was given; add --data (and --images)")
            options, K = self.options, None
            reading = ImageReading(options.bits, options.as_stored)
            with contextlib.suppress(NotAvailable):
                K = len(self.loaded().model.skeleton)
            try:
                found = open_data_for(name, K, options.images, within=options.within, reading=reading)
            except USER_ERRORS as error:
                self.notes.append(UNUSED + sentence(error))
                raise
            return with_skeleton_named(found, options.skeleton)

        return self.once("data", read)

    def pose_set(self) -> PoseSet:
        """The annotated data set, judged by the given sigmas, or by the model's where it has some.

        Raises:
            NotAvailable: there is none, or none of it is annotated.
        """
        from workbench.evaluation.protocol import judged_by, judged_with

        def judged() -> PoseSet:
            pose_set = self.read_set()
            if not pose_set.labelled:
                raise NotAvailable(
                    f"{pose_set.name}: no instance is annotated, so nothing can be compared with the truth"
                )
            if given := self.options.sigmas:
                self.notes.append(f"OKS is computed with the given sigmas, {', '.join(map(str, given[:8]))}")
                return judged_with(pose_set, given)
            return available(lambda: judged_by(pose_set, self.model().skeleton), pose_set)

        return self.once("pose set", judged)

    def all_results(self) -> Predictions:
        """Every pose of the result file, also those of images and categories that the set does not have.

        Raises:
            NotAvailable: there is none, or it does not fit the data set.
        """
        from workbench.data.coco import read_json
        from workbench.evaluation.exchange_formats import read_poses
        from workbench.evaluation.predictions import Predictions
        from workbench.evaluation.result_lists import minus_ones, results_of

        def read() -> Predictions:
            path = next(iter((*self.given.predictions, *self.given.results)), None)
            if path is None:
                raise NotAvailable("no result file was given")
            if self.given.predictions:
                found = read_poses(path)
            else:
                found = Predictions.from_coco(results_of(self.pose_set(), read_json(path)), path.name)
                if not len(found):
                    raise NotAvailable(f"{path.name}: there is not one pose in it")
            self.notes.extend(minus_ones(found, path.name))
            return found

        return self.once("all results", read)

    def results(self) -> Predictions:
        """The poses of the result file that count: of images and categories of the set.

        Raises:
            NotAvailable: there is none, or it does not fit the data set.
        """

        def read_results() -> Predictions:
            import numpy as np

            found, pose_set = self.all_results(), self.pose_set()
            known = np.isin(found.image_id, list(pose_set.images))
            known &= np.isin(found.category_id, list(pose_set.categories))
            return found.take(np.flatnonzero(known))

        return self.once("results", read_results)

    # The evidence.

    def chosen(self) -> list[int]:
        """The instances that are looked at."""
        return self.once("chosen", lambda: spread(self.pose_set(), self.options.sample))

    def in_order(self) -> list[int]:
        """All labelled instances, the sample first; the first n of them are spread over the set."""
        sample = self.chosen()
        rest = [i for i in self.pose_set().labelled if i not in set(sample)]
        places = sorted(range(len(rest)), key=lambda place: place * GOLDEN % 1)
        return [*sample, *(rest[place] for place in places)]

    def tried_on(self) -> Evidence:
        """The evidence on which changes are tried: as `evidence`, and people of a bottom-up model.

        Raises:
            NotAvailable: see `evidence`.
        """
        try:
            return self.evidence()
        except NotAvailable:
            if self.given.results or self.given.predictions or not isinstance(self.model(), Groups):
                raise
        return self.people(WHOLE_IMAGES)

    def people(self, count: int) -> PeopleEvidence:
        """What a bottom-up model finds in so many images, spread over the set."""
        chosen = whole_images(self.pose_set(), count)
        ids = list(self.pose_set().labelled_of_image if chosen is None else chosen)
        model = self.model()
        return self.once(
            f"people of {len(ids)}", lambda: PeopleEvidence(self.pose_set(), ids, model, self.step)
        )

    def evidence(self) -> Evidence:
        """Poses of the result file, or of the model, on the chosen instances, and what changes make of them.

        Raises:
            NotAvailable: neither can be had.
        """
        return self.once("evidence", self._evidence)

    def _evidence(self) -> Evidence:
        pose_set = self.pose_set()
        if self.given.results or self.given.predictions:
            found = self.results()
            check_keypoints(found.keypoints.shape[1], pose_set, "the result file")
            return Evidence(pose_set, pose_set.labelled, given=found, stepped=self.step)
        model = self.top_down()
        check_keypoints(len(model.skeleton), pose_set, "the model")
        kept = CLINIC_INSTANCES if isinstance(model, Conditioned) and self.reaches("evaluate") else 0
        evidence = Evidence(pose_set, self.chosen(), model, stepped=self.step, kept=kept)
        self.step()
        started = time.monotonic()
        evidence.measure()
        self._crop_seconds = (time.monotonic() - started) / len(evidence.indices)
        return evidence

    def measured(self) -> Evidence:
        """The evidence of which figures are reported: at level evaluate that of the whole set.

        With a budget, of as many instances as it allows; a note says so.

        Raises:
            NotAvailable: see `evidence`.
        """
        return self.once("measured", self._measured)

    def _measured(self) -> Evidence:
        sample, pose_set = self.evidence(), self.pose_set()
        count = len(pose_set.labelled)
        if sample.model is None or not self.reaches("evaluate") or len(sample.indices) >= count:
            return sample
        if self.options.budget is not None:
            left = self.options.budget - (time.monotonic() - self.started)
            fits = int(left / max(EVALUATIONS * self._crop_seconds, 1e-6))
            if fits <= len(sample.indices):
                self.notes.append(
                    f"the budget does not allow the whole set: figures are of {len(sample.indices)} of "
                    f"{counted(count, 'instance')}"
                )
                return sample
            if fits < count:
                self.notes.append(
                    f"the budget allows {fits} of {counted(count, 'instance')}: figures are of these"
                )
                count = fits
        order = self.in_order()[:count]
        whole = Evidence(pose_set, order, sample.model, stepped=self.step, within=sample)
        whole.measure()
        return whole

    def of_model(self) -> Evidence:
        """The same of the model.

        Raises:
            NotAvailable: the poses are those of a result file.
        """
        evidence = self.evidence()
        if evidence.model is None:
            raise NotAvailable("the poses are those of a result file; give the checkpoint without it as well")
        return evidence

    def changes_of(self, cause: Undone) -> list[Change]:
        """What would undo a cause in this case."""
        if not cause.of_people:
            self.evidence()
        return [change for change in self.all_changes() if change.cause == cause.name]

    def no_changes_of(self, cause: Undone) -> str:
        """Why nothing would undo a cause in this case; "" where the cause does not say."""
        self.all_changes()
        return self._unchanged.get(cause.name, "")

    def all_changes(self) -> list[Change]:
        """What would undo any cause in this case."""

        def gathered() -> list[Change]:
            people = isinstance(self.tried_on(), PeopleEvidence)
            found: list[Change] = []
            for cause in self.causes:
                if isinstance(cause, Undone) and self.reaches(cause.level) and cause.of_people >= people:
                    try:
                        found += cause.changes(self)
                    except NotAvailable as error:
                        self._unchanged[cause.name] = str(error)
            if people:
                return found
            kept, why = varying(self, found)
            self._unchanged |= why
            return kept

        return self.once("changes", gathered)

    def separated(self) -> Separated:
        """Which changes undo something, all causes of this kind tried at once."""
        return self.once("separated", lambda: separated(self, self.all_changes()))

    def mended(self, change: Change) -> Case:
        """The case as it would be with a change made for good; nothing is separated in it again.

        Args:
            change: that undoes a cause of this case.
        """
        made = Case(self.given, self.options, self.causes, self.stepped)
        same = ("checkpoint", "config", "as given", "loaded", "chosen", "curves", "model")
        made._cache |= {key: self._cache[key] for key in same if key in self._cache}
        evidence = Mended(self.evidence(), [change])
        made._cache |= {"data": self.read_set(), "evidence": evidence, "measured": evidence, "changes": []}
        made._cache["separated"] = nothing_chosen(evidence)
        if change.stage == "labels":
            made._cache["data"] = change.of(self.read_set())
        elif evidence.model is None:
            made._cache["all results"] = change.of(self.all_results())
        elif change.stage in (*NEEDS_FORWARD, "outputs"):
            made._cache["model"] = change.of(self.model())
        return made
