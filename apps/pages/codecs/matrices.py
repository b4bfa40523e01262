"""State of the Codecs page, and its jobs: the codec matrix of a run, the encode-decode error of sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.pages.controls import YES
from apps.pages.epoch_page import ALL, EpochState, checked_subject
from apps.pages.job_sections import job_key
from apps.pages.subject import SEQUENCE, TAGS
from workbench.core.job import Job, JobResults

if TYPE_CHECKING:
    from apps.server.context import Context
    from apps.server.folders import RunFolder
    from workbench.evaluation.codecs import CodecErrors, CodecMatrix, Person, Setup


ADDRESS = ("run", "epoch", "data", "limit", "flip", "against", "epochs")
"""Names in the page's address; ``epochs`` is the list of other pages, whose last is the one to look at."""

BAR = ADDRESS[:-1]
"""Names of the controls' values."""

# Enough for an interval, done in half a minute on a small network.
DEFAULT_LIMIT = 40
LIMITS = [("20", 20), ("40", 40), ("100", 100), ("all", ALL)]
BEST = "the best"


@dataclass(frozen=True)
class CodecState(EpochState):
    """One state of the page, as `EpochState`: `limit` counts images, `against` is a variant.

    Attributes:
        flip: the model's own reading averages with the mirrored image.
    """

    limit: int = DEFAULT_LIMIT
    flip: bool = False


def decoding_runs(context: Context) -> list[RunFolder]:
    """The runs that can be asked, told from their tensors: models that find all keypoints of a box at once.

    Empty with an adapter: it opens every file, and what a file looks like says nothing then.
    """
    registry = context.registry
    if context.settings.adapter is not None:
        return []
    return [run for run in registry.runs() if not {TAGS, SEQUENCE} & set(registry.capabilities(run))]


def state_of(context: Context, *values: Any) -> CodecState:
    """The state for control values (BAR); what is missing takes its default.

    Raises:
        KeyError: no such run, epoch or data set.
        ValueError: a value that cannot be.
    """
    run, epoch, data, limit, flip, against = values
    able = decoding_runs(context)
    subject = checked_subject(context, run, able, epoch, data, limit, DEFAULT_LIMIT, "images")
    variant = "" if against in (None, BEST) else str(against)
    return CodecState(*subject, variant, str(flip).lower() in YES)


class Matrices:
    """Codec matrices by state."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._results: JobResults[CodecMatrix] = JobResults(context.jobs, 12)

    def start(self, state: CodecState, again: bool = False) -> None:
        """Start, or find, the job.

        Raises:
            NotAvailable: the model's output is not read by a decoder.
        """
        from workbench.evaluation.codecs.ways import own_way

        own_way(self.context.registry.model(state.run, state.epoch, state.data).model, state.flip)
        last = self.job(state)
        ended = last is not None and last.state in ("cancelled", "failed")
        if self.result(state) is None and (again or not ended):
            self._results.start(
                self._key(state), self._title(state), lambda job: self._work(job, state), "codecs"
            )

    def job(self, state: CodecState) -> Job | None:
        """The newest job of a state."""
        return self._results.job(self._key(state))

    def result(self, state: CodecState) -> CodecMatrix | None:
        """The matrix; None while there is none."""
        return self._results.result(self._key(state))

    def _key(self, state: CodecState) -> str:
        registry = self.context.registry
        versions = registry.version(state.run, state.epoch), registry.sets.version(state.data)
        return job_key("codec matrix", versions, state.data, state.limit, state.flip)

    def _title(self, state: CodecState) -> str:
        run = self.context.registry.run(state.run)
        return f"{run.title}, {run.epochs[state.epoch].label} on {state.data}, every decoder"

    def _work(self, job: Job, state: CodecState) -> CodecMatrix:
        from workbench.evaluation import check_counting, protocol_of_loaded
        from workbench.evaluation.codecs import codec_matrix
        from workbench.evaluation.protocol import judged_by

        registry = self.context.registry
        loaded = registry.model(state.run, state.epoch, state.data)
        # A set of its own: its images are read by this thread while pages read theirs.
        pose_set = registry.sets.apart(state.data)
        pose_set = judged_by(pose_set, loaded.model.skeleton)
        check_counting(pose_set)
        ids = None if state.limit == ALL else pose_set.first_images(state.limit)
        run = registry.run(state.run)
        return codec_matrix(
            loaded.model, pose_set, ids, flip=state.flip,
            protocol=protocol_of_loaded(loaded, flip=state.flip),
            title=f"{run.title}, {run.epochs[state.epoch].label}",
            progress=job.progress, cancelled=job.cancelled,
        )  # fmt: skip


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number, got {text!r}") from None


class ErrorMaps:
    """Encode-decode errors by sizes."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._results: JobResults[CodecErrors] = JobResults(context.jobs, 20)

    def asked(self, state: CodecState, *values: str | None) -> tuple[Setup, Person]:
        """Sizes for the values of `ErrorMapSection.add_fields`; what is empty is that of the run's own codec.

        Raises:
            ValueError: a text is no size or no number.
        """
        from workbench.decoding.codecs import size_of
        from workbench.evaluation.codecs import Person, Setup

        size, cells, sigma, split, person = (*[(v or "").strip() for v in values], *[""] * 5)[:5]
        codec = self.context.registry.model(state.run, state.epoch).model.codec
        own = codec if codec is not None and codec.kind == "heatmap" else None
        input_size = size_of(size) if size else (256, 192) if codec is None else codec.input_size
        maps = size_of(cells) if cells else None
        if own is not None and maps is None and input_size == own.input_size:
            maps = own.output_size
        width = _number("σ", sigma) if sigma else None
        if own is not None and width is None and maps == own.output_size:
            width = own.sigma[0]
        down, across = size_of(person) if person else (Person.height, Person.width)
        bins = _number("SimCC bins per px", split) if split else 2.0
        return Setup(input_size, maps, width, bins), Person(float(across), float(down))

    def start(self, state: CodecState, *values: str | None) -> None:
        """Start, or find, the job.

        Raises:
            ValueError: the sizes do not fit each other.
        """
        setup, person = self.asked(state, *values)
        for name in ("argmax", "simcc"):
            setup.codec(name)
        height, width = setup.input_size
        self._results.start(
            self._key(setup, person), f"encoding and decoding, input {width}x{height}",
            lambda job: self._work(job, setup, person), "codecs",
        )  # fmt: skip

    def job(self, state: CodecState, *values: str | None) -> Job | None:
        """The newest job of what was asked; None while what is typed is no size yet."""
        key = self._key_of(state, *values)
        return self._results.job(key) if key else None

    def result(self, state: CodecState, *values: str | None) -> CodecErrors | None:
        """The errors; None while there are none."""
        key = self._key_of(state, *values)
        return self._results.result(key) if key else None

    def _key_of(self, state: CodecState, *values: str | None) -> str:
        try:
            return self._key(*self.asked(state, *values))
        except ValueError:  # told by `start`
            return ""

    def _key(self, setup: Setup, person: Person) -> str:
        return f"codec errors {setup} {person}"

    def _work(self, job: Job, setup: Setup, person: Person) -> CodecErrors:
        from workbench.evaluation.codecs import codec_errors

        return codec_errors([setup], person=person, progress=job.progress, cancelled=job.cancelled)
