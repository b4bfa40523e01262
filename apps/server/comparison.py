"""Computing the epochs of a comparison: what is asked for, what is ready, the job that makes the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from apps.server.encoding import shown_scale, skeleton_facts
from apps.server.folders import Epoch, RunFolder
from apps.server.output_cache import Store, StoredOutputs
from apps.server.registry import Registry
from apps.server.settings import Settings
from workbench.cli import MISTAKES, sentence
from workbench.core import DecodeOptions, NotAvailable, nearest
from workbench.core.job import Job, JobManager, LruCache
from workbench.core.report import counted
from workbench.decoding import KEYPOINT_SCORES

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.evaluation import Comparison, Evaluation, Interval, Predictions, Protocol


SCORES = tuple(KEYPOINT_SCORES)


class Unready(Exception):  # noqa: N818 - an answer, no error
    """What was asked for is being computed, or its computing ended without it."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job["title"])
        self.job = job


@dataclass(frozen=True)
class Asked:
    """What is compared, as the address has it."""

    run: str
    data: str
    decoder: str = ""
    score: str = ""

    @property
    def options(self) -> DecodeOptions:
        """How keypoints are to be read.

        Raises:
            ValueError: there is no such decoder or score.
        """
        from workbench.decoding import DECODERS

        if self.decoder and self.decoder not in DECODERS:
            raise ValueError(f"no decoder {self.decoder!r}; nearest: {nearest(self.decoder, DECODERS)}")
        if self.score not in ("", *KEYPOINT_SCORES):
            raise ValueError(f"score: expected {', '.join(KEYPOINT_SCORES)}, got {self.score!r}")
        return DecodeOptions(self.decoder, self.score)  # type: ignore[arg-type]

    @property
    def key(self) -> str:
        """Names the job; another decoder is a job of its own, a short one where outputs are there."""
        return " ".join(("compare", self.run, "on", self.data, self.decoder, self.score)).strip()


def indices(text: str) -> list[int]:
    """Numbers from ``1,4``, each once: an address of 60 kB could name an epoch 30,000 times.

    Raises:
        ValueError: a part is no number.
    """
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError:
        raise ValueError(f"expected epoch indices such as 0,4, got {text!r}") from None


def stays_ended(job: Job, anew: bool, page_opened: bool) -> bool:
    """Whether a job ended without a result and is not to be started again.

    Args:
        job: the newest one of a comparison.
        anew: somebody asked for it after the end.
        page_opened: a page was just opened, and another one may have cancelled the job.
    """
    if job.alive or job.state == "done":
        return False
    return not anew and not (page_opened and job.state == "cancelled")


class Computing:
    """Starts jobs, and tells which epochs are ready, missing or broken."""

    def __init__(self, settings: Settings, registry: Registry, store: Store, jobs: JobManager) -> None:
        self._settings, self._registry, self._store, self._jobs = settings, registry, store, jobs
        # Which epochs a page waits for, by job; the newest wish is served first.
        self._wanted_first: dict[str, list[int]] = {}
        # Epochs that cannot be computed, by their key in the store and how they are read, and why: a decoder
        # that does not read a run's output says nothing about the other decoders.
        self._broken: dict[tuple[str, DecodeOptions], str] = {}

    def begin(
        self, asked: Asked, first: Sequence[int] = (), anew: bool = False, *, page_opened: bool = False
    ) -> None:
        """Start computing the epochs that are missing, those in `first` before the others.

        Args:
            asked: run, data set, decoder and score.
            first: indices of the epochs that the page waits for.
            anew: also after a cancelled or failed job.
            page_opened: also after a cancelled job, which another page may have ended.

        Raises:
            KeyError: no such run or data set.
            ValueError: no such decoder or score.
            NotAvailable: the decoder does not read this run's output.
            Unready: the last attempt was cancelled or failed, nothing is there, and it is not started again.
        """
        run = self.checked(asked)
        self._wanted_first[asked.key] = list(first)
        if anew:
            for epoch in run.epochs:
                self._broken.pop(self._key(asked, epoch), None)
        last = self._jobs.latest(asked.key)
        if last is not None and stays_ended(last, anew, page_opened):
            if not self.ready(asked):
                raise Unready(last.facts())
            return
        # What the page waits for is decoded at once where outputs are there: faster than a job's turn.
        for index in (i for i in first if any(e.index == i for e in self.missing(asked))):
            self._store.decode(asked.run, index, asked.data, asked.options)
        # Where all epochs failed already, the job ends at once and says why.
        if self.missing(asked) or not self.ready(asked):
            self._jobs.start(
                asked.key,
                f"{run.title} on {asked.data}",
                lambda job: self._work(job, asked),
                self._settings.device,
                listed=True,
            )

    def checked(self, asked: Asked) -> RunFolder:
        """The run that is asked about, once the question is found to make sense; computes nothing.

        Raises:
            KeyError: no such run or data set.
            ValueError: no such decoder or score.
            NotAvailable: the decoder does not read this run's output.
        """
        run, _ = self._registry.run(asked.run), asked.options
        self._registry.sets.skeleton(asked.data)
        self._check_decoder(asked)
        return run

    def plainly(self, asked: Asked) -> Asked:
        """The same question with the model's own decoder and score left out where they are named."""
        stored = self._any(asked)
        own = stored is not None and asked.decoder == stored.facts["decoder"]
        return replace(asked, decoder="" if own else asked.decoder, score=asked.score.removeprefix(SCORES[0]))

    def _any(self, asked: Asked) -> StoredOutputs | None:
        """What is kept of any epoch: output and decoders are the same in all of them."""
        epochs = self._registry.run(asked.run).epochs
        return next(filter(None, (self._store.stored(asked.run, e.index, asked.data) for e in epochs)), None)

    def _check_decoder(self, asked: Asked) -> None:
        """Refuse at once, where it is known already, what a job would find out in its turn."""
        stored = self._any(asked)
        if stored is not None and asked.decoder and asked.decoder not in stored.facts["decoders"]:
            known = ", ".join(stored.facts["decoders"]) or "none"
            raise NotAvailable(f"decoder {asked.decoder!r} does not read this output; these do: {known}")

    def job(self, asked: Asked) -> Job | None:
        """The newest job for what is asked."""
        return self._jobs.latest(asked.key)

    def unready(self, asked: Asked) -> Unready:
        """What to raise while nothing is there."""
        job = self.job(asked)
        if job is None:
            raise LookupError(f"{asked.run} on {asked.data} is not computed yet; POST to compare starts it")
        return Unready(job.facts())

    def _work(self, job: Job, asked: Asked) -> None:
        """Compute one missing epoch after the other."""
        run = self._registry.run(asked.run)
        finished = 0
        while missing := self.missing(asked):
            job.checkpoint()
            wanted_first = self._wanted_first.get(asked.key, [])
            epoch = min(
                missing,
                key=lambda e: wanted_first.index(e.index) if e.index in wanted_first else len(wanted_first),
            )

            def progress(done: int, count: int, before: int = finished, epochs: int = len(missing)) -> None:
                job.progress(before + done, before + count * epochs)

            key = self._key(asked, epoch)
            try:
                self._store.compute(job, run.id, epoch.index, asked.data, asked.options, progress)
            except MISTAKES as mistake:
                # One broken checkpoint must not hide the other epochs; it is told with its epoch.
                # A file that took the place of the broken one meanwhile is tried in turn.
                self._broken[key] = sentence(mistake)
            finished = job.done
        if not self.ready(asked):
            raise ValueError(next(iter(self.reasons(asked).values()), "no epoch could be computed"))

    def ready(self, asked: Asked) -> dict[int, StoredOutputs]:
        """Epoch index -> what was kept, of all epochs that are computed."""
        found = {
            e.index: self._store.ready(asked.run, e.index, asked.data, asked.options)
            for e in self._registry.run(asked.run).epochs
        }
        return {index: stored for index, stored in found.items() if stored is not None}

    def missing(self, asked: Asked) -> list[Epoch]:
        ready, broken = self.ready(asked), self.reasons(asked)
        epochs = self._registry.run(asked.run).epochs
        return [e for e in epochs if e.index not in ready and e.index not in broken]

    def _key(self, asked: Asked, epoch: Epoch) -> tuple[str, DecodeOptions]:
        return self._store.key(asked.run, epoch.index, asked.data), asked.options

    def reasons(self, asked: Asked) -> dict[int, str]:
        keys = {e.index: self._key(asked, e) for e in self._registry.run(asked.run).epochs}
        return {index: self._broken[key] for index, key in keys.items() if key in self._broken}


# Epochs of one run on one data set, side by side: what the Compare page is told of those that are ready.


# OKS below which a pose counts as lost: the loosest of the thresholds that AP averages over.
FOUND = 0.5


class Judged(NamedTuple):
    """One epoch by one way of reading: keypoints, rules, and figures where OKS has constants."""

    predictions: Predictions
    protocol: Protocol
    found: Evaluation | None


class Comparisons:
    """Answers from what is there."""

    def __init__(self, registry: Registry, computing: Computing) -> None:
        self._registry, self._computing = registry, computing
        self._judged: LruCache[Judged] = LruCache(500)
        self._intervals: LruCache[Interval] = LruCache(500)

    def answer(self, asked: Asked) -> dict[str, Any]:
        """The facts of all epochs that are ready.

        Raises:
            Unready: there is none yet.
        """
        run = self._registry.run(asked.run)
        # The job is looked at first: one that ends meanwhile is told as alive, and the page asks once more.
        job = self._computing.job(asked)
        alive = job.facts() if job is not None and job.alive else None
        ready = self._computing.ready(asked)
        if not ready:
            raise self._computing.unready(asked)
        pose_set = self._registry.sets.get(asked.data)
        sample_outputs = next(iter(ready.values()))
        judged = {index: self._judge(asked, k) for index, k in ready.items()}
        shown = next(iter(judged.values()))
        broken = self._computing.reasons(asked)
        simcc = sample_outputs.kind == "simcc"
        version = self._version(asked, ready)
        protocol = shown.found.protocol if shown.found else shown.protocol
        text = protocol.text()
        if shown.found is None:
            text = f"no AP: OKS constants of these keypoints are not published; {text}"
        if sample_outputs.facts["whole"]:
            text += "; each annotated person is shown with the found one of the highest OKS"
        if pose_set.left_out:
            names = [path.name for path in pose_set.left_out]
            text += f"; missing: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        if len(sample_outputs.indices) < len(pose_set.labelled):
            every = counted(len(pose_set.labelled), "instance")
            text += f", the first {len(sample_outputs.indices)} of {every}"
        return {
            "version": version,
            "run": run.id,
            "data": asked.data,
            "title": f"{run.title} on {asked.data}",
            "job": alive,
            "count": len(sample_outputs.indices),
            "total": len(pose_set.labelled),
            "decoder": protocol.decoder,
            "decoders": sample_outputs.facts["decoders"],
            "score": (asked.score or SCORES[0]) if simcc else "",
            "score_rules": SCORES if simcc else (),
            "maps": sample_outputs.kind,
            "oks_threshold": FOUND,
            "protocol": protocol.to_json(),
            "protocol_text": text,
            "skeleton": skeleton_facts(sample_outputs.judged_by(pose_set).skeleton),
            "epochs": [
                self._epoch_facts(e, judged.get(e.index), broken.get(e.index), _version_of(ready, e.index))
                for e in run.epochs
            ],
            "samples": [sample_facts(pose_set, index) for index in sample_outputs.indices],
            "arrays": f"workbench/api/compare/arrays?{_query(asked)}&v={version}",
        }

    def arrays(self, asked: Asked, wanted: Sequence[int]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Head and blocks of the PACK of all ready epochs, or of those wanted.

        Raises:
            Unready: none of them is ready.
        """
        ready = self._computing.ready(asked)
        shown = [i for i in ready if not wanted or i in wanted]
        if not shown:
            raise self._computing.unready(asked)
        pose_set = self._registry.sets.get(asked.data)
        samples = ready[shown[0]].indices
        judged = [self._judge(asked, ready[i]) for i in shown]
        instances = [pose_set.instances[i] for i in samples]
        blocks = {
            "predictions": np.stack(
                [np.concatenate([p.keypoints, p.scores[..., None]], 2) for p, _, _ in judged]
            ),
            "truth": np.stack([i.truth for i in instances]),
            "oks": np.stack([_oks_of(e, [i.annotation_id for i in instances]) for _, _, e in judged]),
            "scores": np.stack([p.score for p, _, _ in judged]),
        }
        return {"epochs": shown, "samples": samples}, blocks

    def interval(self, asked: Asked, a: int, b: int) -> dict[str, Any]:
        """Change of AP from epoch a to epoch b, with its paired bootstrap interval.

        Raises:
            Unready: one of them is not computed yet.
            ValueError: there is no AP to compare.
        """
        from workbench.evaluation import paired_bootstrap

        ready = self._computing.ready(asked)
        for index in (a, b):
            self._registry.epoch(asked.run, index)
        if a not in ready or b not in ready:
            raise self._computing.unready(asked)
        first, second = (self._judge(asked, ready[i]).found for i in (a, b))
        if first is None or second is None:
            raise ValueError(
                "interval: OKS constants of these keypoints are not published, so there is no AP"
            )
        key = (self._version(asked, {a: ready[a], b: ready[b]}), a, b)
        found = self._intervals.get(key, lambda: paired_bootstrap(first.ap, second.ap))
        return {
            "a": a, "b": b, "delta": found.delta, "low": found.low, "high": found.high,
            "resamples": found.resamples, "level": found.level,
        }  # fmt: skip

    def side_by_side(self, asked: Asked, wanted: Sequence[int]) -> Comparison:
        """The epochs wanted, in that order, with intervals, gained and lost.

        Raises:
            Unready: one of them is not computed yet.
            ValueError: fewer than two, or there is no AP to compare.
        """
        from workbench.evaluation.compare import comparison_of

        ready = self._computing.ready(asked)
        epochs = [self._registry.epoch(asked.run, index) for index in wanted]
        if not set(wanted) <= set(ready):
            raise self._computing.unready(asked)
        judged = [self._judge(asked, ready[index]).found for index in wanted]
        found = [evaluation for evaluation in judged if evaluation is not None]
        if len(found) < len(judged):
            raise ValueError("report: OKS constants of these keypoints are not published, so there is no AP")
        return comparison_of([e.label for e in epochs], found)

    def evaluation(self, asked: Asked, index: int) -> Evaluation:
        """The evaluation of one epoch.

        Raises:
            Unready: it is not computed yet.
            ValueError: it cannot be computed, or there is no AP.
        """
        ready, broken = self._computing.ready(asked), self._computing.reasons(asked)
        if index not in ready:
            if index in broken:
                raise ValueError(broken[index])
            raise self._computing.unready(asked)
        found = self._judge(asked, ready[index]).found
        if found is None:
            raise ValueError("errors: OKS constants of these keypoints are not published, so there is no AP")
        return found

    def rows(self, asked: Asked, wanted: Sequence[int]) -> tuple[tuple[int, ...], list[Predictions]]:
        """Samples of the set that were computed, and each wanted epoch's keypoints in their order.

        Raises:
            Unready: one of the epochs is not computed yet.
        """
        ready = self._computing.ready(asked)
        if not set(wanted) <= set(ready):
            raise self._computing.unready(asked)
        return ready[wanted[0]].indices, [self._judge(asked, ready[i]).predictions for i in wanted]

    def _judge(self, asked: Asked, stored: StoredOutputs) -> Judged:
        """Keypoints and figures of one epoch."""
        from apps.server.found_people import nearest_rows
        from workbench.evaluation import evaluate

        options = asked.options

        def compute() -> Judged:
            pose_set = stored.judged_by(self._registry.sets.get(asked.data))
            rows, protocol = stored.predictions(options)
            people = stored.people()
            if not pose_set.skeleton.sigmas:
                return Judged(rows, protocol, None)
            # What `workbench evaluate` asks its user to say with --no-area; the protocol states it.
            rule = "annotated" if has_areas(pose_set) else "box"
            judged = rows if people is None else people
            found = evaluate(pose_set, judged, protocol, indices=stored.indices, area_rule=rule)
            if people is not None:
                ids = np.array([pose_set.instances[i].annotation_id for i in stored.indices])
                rows = nearest_rows(rows, people, found, ids)
            return Judged(rows, protocol, found)

        return self._judged.get((stored.folder.name, asked.decoder, asked.score), compute)

    def _epoch_facts(
        self, epoch: Epoch, judged: Judged | None, broken: str | None, version: str
    ) -> dict[str, Any]:
        found = judged.found if judged else None
        return {
            "index": epoch.index,
            "epoch": epoch.epoch,
            "label": epoch.label,
            "file": epoch.path.name,
            "ready": judged is not None,
            "error": broken,
            "version": version,
            "figures": found.figures if found else None,
            "per_keypoint": found.table() if found else None,
            "loaded_fraction": judged.protocol.loaded_fraction if judged else None,
            "sha256": judged.protocol.sha256 if judged else None,
        }

    def _version(self, asked: Asked, ready: dict[int, StoredOutputs]) -> str:
        named = [asked.decoder, asked.score, *(stored.folder.name for stored in ready.values())]
        return hashlib.sha256("/".join(named).encode()).hexdigest()[:16]


def sample_facts(pose_set: PoseSet, index: int) -> dict[str, Any]:
    """One instance of a set as the page lists it."""
    instance = pose_set.instances[index]
    image = pose_set.images[instance.image_id]
    width, height = image.width, image.height
    if width is None or height is None:
        height, width = pose_set.image(instance.image_id).shape[:2]
    return {
        "index": index,
        "key": f"{image.path.stem}/{instance.annotation_id}",
        "image_id": instance.image_id,
        "width": width,
        "height": height,
        "scale": shown_scale(width, height),
        "box": instance.box,
        "area": instance.area,
        "category": pose_set.categories.get(instance.category_id, ""),
    }


def has_areas(pose_set: PoseSet) -> bool:
    """Whether every annotation of a set has an area; CrowdPose and AIC have none."""
    return bool(np.isfinite([instance.area for instance in pose_set.instances]).all())


def _oks_of(found: Evaluation | None, annotations: Sequence[int]) -> np.ndarray:
    """OKS of the annotations named, in their order; nan where there is none."""
    if found is None:
        return np.full(len(annotations), np.nan)
    oks_by_id = dict(zip(found.ap.truth.ids.tolist(), found.oks.tolist(), strict=True))
    return np.array([oks_by_id.get(i, np.nan) for i in annotations])


def _version_of(ready: dict[int, StoredOutputs], index: int) -> str:
    """Changes with the epoch's file and with nothing else; "" while it is not computed."""
    return hashlib.sha256(ready[index].folder.name.encode()).hexdigest()[:16] if index in ready else ""


def _query(asked: Asked) -> str:
    from urllib.parse import urlencode

    return urlencode({k: v for k, v in vars(asked).items() if v})
