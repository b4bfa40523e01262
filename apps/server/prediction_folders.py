"""Folders of predictions over many epochs for Compare: read from their Parquet files, without a model.

A folder as `workbench history` and `workbench sweep` write it is listed beside the runs. The OKS of every
instance in every epoch is sent once; the keypoints of one instance over all epochs are sent when it is shown.
So a browser moves through hundreds of epochs without asking the server again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.server.comparison import Asked, has_areas, sample_facts, stays_ended
from apps.server.encoding import skeleton_facts
from apps.server.folders import Epoch, Refused, RunFolder, folders_below, reading_inside, well_formed
from apps.server.registry import RESCAN_SECONDS, Registry
from apps.server.settings import Settings
from workbench.cli import MISTAKES, sentence
from workbench.core import nearest
from workbench.core.job import Job, JobManager, LruCache, version_of
from workbench.core.plain_text import printable
from workbench.data import cache_folder
from workbench.evaluation.history import History, query_epochs
from workbench.evaluation.image_index import FOLDER, NAME
from workbench.evaluation.keypoint_ap import FIGURES
from workbench.evaluation.manifest import MANIFEST, check_truth, read_manifest
from workbench.evaluation.oks import FOUND, paired_oks
from workbench.evaluation.predicted_part import part_of_history
from workbench.evaluation.protocol import judged_as

if TYPE_CHECKING:
    from jaxtyping import Float

    from workbench.data import PoseSet
    from workbench.data.pose_set import Instance
    from workbench.evaluation import Comparison, Evaluation, Interval, Predictions
    from workbench.evaluation.epoch_scores import EpochScores
    from workbench.evaluation.ground_truth import AreaRule

PREFIX = "predictions:"
"""Begins the id of a folder of predictions; the folder's id as that of a run follows."""

FAMILY = "predictions"
"""What the list of runs gives as family of such a folder."""

DEMO_ROOT, DEMO = "demo-predictions", "demo"
"""Folder of the cache with the demo's predictions, and the folder in it that holds the files."""

SWEPT = "sweeps"
"""Folder of the cache with the sweeps that the app was asked for, and the name that they are served under."""

LEAST = 2  # files: one epoch has nothing to be compared with
FILES_QUEUE = "predictions"


@dataclass(frozen=True, eq=False)
class PredictionFolder:
    """A folder of predictions as it is listed.

    Attributes:
        run: id, title and epochs, as of a run.
        history: None where it cannot be opened.
        keypoints: of each pose.
        data: name of the data set, as the manifest has it; "" without one.
        checkpoints: epoch -> (file name, SHA-256) of the checkpoint that predicted, as the manifest has it.
        reason: why it cannot be opened.
    """

    run: RunFolder
    history: History | None
    keypoints: int = 0
    data: str = ""
    checkpoints: dict[int, tuple[str, str]] | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Opened:
    """A folder of predictions on a data set.

    Attributes:
        folder: what is asked.
        pose_set: the annotations.
        indices: of the instances that were predicted, in the order of the set.
        part: which part of the set that is; "" for all.
        oks: of each instance in each epoch; nan where there is none.
        version: changes with any of the files.
        subject: changes with the data set and with the instances that count, not with new epochs.
    """

    folder: PredictionFolder
    pose_set: PoseSet
    indices: tuple[int, ...]
    part: str
    oks: Float[np.ndarray, "E N"]
    version: str
    subject: str


class PredictionFolders:
    """Answers the Compare page as `Comparisons` does, for folders of predictions."""

    def __init__(self, settings: Settings, registry: Registry, jobs: JobManager) -> None:
        self._settings, self._registry, self._jobs = settings, registry, jobs
        self._demo = (settings.cache or cache_folder()) / DEMO_ROOT
        self.swept = (settings.cache or cache_folder()) / SWEPT
        self._scanned: tuple[float, tuple[tuple[str, Path, tuple[Path, ...]], ...]] = (-1e9, ())
        self._listed: LruCache[PredictionFolder] = LruCache(200)
        self._opened: LruCache[Opened] = LruCache(4)
        self._tracks: LruCache[np.ndarray] = LruCache(256)
        self._scored: LruCache[EpochScores] = LruCache(20)
        self._evaluations: LruCache[tuple[Predictions, Evaluation]] = LruCache(8)
        self._intervals: LruCache[Interval] = LruCache(200)
        self._wished: dict[str, list[int]] = {}

    # What there is.

    def has(self, identity: str) -> bool:
        """Whether an id names a folder of predictions."""
        return identity.startswith(PREFIX)

    def all(self) -> list[PredictionFolder]:
        """Every folder below the served ones with the predictions of several epochs."""
        found = [self._look(*one) for one in self._scan()]
        return [one for one in found if one is not None]

    def get(self, identity: str) -> PredictionFolder:
        """The folder of an id.

        Raises:
            KeyError: there is none.
            ValueError: it cannot be opened.
            Refused: one of its files leads out of the served folders.
        """
        for name, path, files in self._scan():
            if name == identity and (found := self._look(name, path, files)) is not None:
                if found.history is None:
                    raise ValueError(found.reason)
                with self.reading(path):
                    return found
        known = [name for name, _, _ in self._scan()]
        raise KeyError(f"no predictions {identity!r} here; nearest: {nearest(identity, known)}")

    def listed(self) -> list[dict[str, Any]]:
        """The folders as `GET runs` lists runs."""
        return [
            {
                "id": one.run.id, "title": one.run.title, "family": FAMILY if one.history else None,
                "reason": one.reason, "data": self._fitting(one),
                "epochs": [
                    {"index": e.index, "epoch": e.epoch, "label": e.label, "file": e.path.name}
                    for e in one.run.epochs
                ],
            }
            for one in self.all()
        ]  # fmt: skip

    def make_demo(self, job: Job) -> None:
        """Write the demo run's predictions, which are listed where no others are served."""
        from workbench.cli.history import demo_history

        folder = self._demo / DEMO
        folder.mkdir(parents=True, exist_ok=True)

        def progress(done: int, total: int) -> None:
            job.progress(done, total)
            job.checkpoint()

        demo_history(folder, progress)
        self.look_again()

    def look_again(self) -> None:
        """See at once what has just been written."""
        self._scanned = (-1e9, ())

    def _scan(self) -> tuple[tuple[str, Path, tuple[Path, ...]], ...]:
        """Id, folder and files of every candidate."""
        scanned, found = self._scanned
        if time.monotonic() - scanned > RESCAN_SECONDS:
            found = tuple(one for name, root in self._roots().items() for one in _candidates(root, name))
            # The demo's are for who has none.
            if not found and self._demo.is_dir():
                found = tuple(_candidates(self._demo.resolve(), DEMO_ROOT))
            self._scanned = (time.monotonic(), found)
        return found

    def _roots(self) -> dict[str, Path]:
        """Served folders by name, with that of the sweeps."""
        swept = {SWEPT: self.swept.resolve()} if self.swept.is_dir() else {}
        return {**self._registry.served.folders, **swept}

    def reading(self, folder: Path) -> contextlib.AbstractContextManager[None]:
        """Refuse a folder of predictions with a link out of the served folders, see `reading_inside`."""
        root = next(
            one for one in (*self._roots().values(), self._demo.resolve()) if one in (folder, *folder.parents)
        )
        return reading_inside(root, folder, "*.parquet", MANIFEST, FOLDER, f"{FOLDER}/*.parquet")

    def _look(self, identity: str, path: Path, files: tuple[Path, ...]) -> PredictionFolder | None:
        """What a folder holds; None where its files are no predictions of epochs."""
        read_too = [one for one in (path / FOLDER / NAME, path / MANIFEST) if one.is_file()]
        state = (identity, *map(version_of, (*files, *read_too)))
        # A run's own folder of this name says nothing of the run; a served folder's parent is not named.
        own = path.name == "predictions" and path not in self._registry.served.folders.values()
        title = printable(f"{path.parent.name if own else path.name} (predictions)")
        empty = RunFolder(identity, title, path, ())

        def look() -> PredictionFolder:
            try:
                with self.reading(path):
                    # Epochs of other rules are shown, and marked.
                    history, manifest = query_epochs(path, mixed=True), _manifest(path)
            except Refused:
                raise  # links change nothing in the state: the refusal is not stored
            except FileNotFoundError:
                return PredictionFolder(empty, None)
            except MISTAKES as mistake:
                return PredictionFolder(empty, None, reason=sentence(mistake))
            counts = _first_with(history.keypoint_counts)
            if len(counts) > 1:
                described = ", ".join(f"epoch {epoch} has {K}" for K, epoch in counts.items())
                reason = (
                    f"{path.name}: epochs of different skeletons ({described} keypoints) are not "
                    "shown together"
                )
                return PredictionFolder(empty, None, reason=reason)
            differ = _differences(history)
            epochs = tuple(
                Epoch(i, number, f"epoch {number}{' ≠' if number in differ else ''}", file)
                for i, (number, file) in enumerate(history.files.items())
            )
            run = RunFolder(identity, title, path, epochs)
            return PredictionFolder(run, history, min(counts), *manifest)

        try:
            found = self._listed.get(state, look)
        except Refused as refused:
            found = PredictionFolder(empty, None, reason=sentence(refused))
        return found if found.history is not None or found.reason else None

    def _fitting(self, folder: PredictionFolder) -> list[str]:
        """Ids of the sets with as many keypoints, the one that the manifest names first."""
        sets, fitting = self._registry.sets, []
        for identity in sets.ids() if folder.history is not None else []:
            try:
                if len(sets.skeleton(identity)) == folder.keypoints:
                    fitting.append(identity)
            except MISTAKES:
                continue  # asked for by name, the set says what is wrong with it
        # A manifest has the name of a set without its ending.
        named = (folder.data, f"{folder.data}.json")
        return sorted(fitting, key=lambda one: not (folder.data and one.endswith(named)))

    def check_set(self, asked: Asked) -> None:
        """Raise ValueError where poses that name no annotation are of other annotations than the set's.

        Poses that name theirs are compared with it, and the images have to be the same; of others the
        manifest alone tells which set they are of.
        """
        from workbench.evaluation import truth_of
        from workbench.evaluation.epoch_scores import truth_digest

        history = self.get(asked.run).history
        if history is None or history.predicted_ids()[0] is not None:
            return
        sets = [self._registry.sets.get(asked.data, whole) for whole in (True, False)]
        rules: tuple[AreaRule, ...] = ("annotated", "box") if has_areas(sets[0]) else ("box",)
        digests = {truth_digest(truth_of(one, rule)) for one in sets for rule in rules}
        stated = (read_manifest(history.folder) or {}).get("truth_sha256")
        check_truth(history.folder, asked.data, stated if stated in digests else min(digests))

    def opened(self, asked: Asked) -> Opened:
        """A folder with its data set.

        Raises:
            KeyError: there is no such folder or set.
            ValueError: the poses belong to no annotation, or to none of this set.
        """
        from workbench.evaluation.forgetting import oks_over_epochs

        folder = self.get(asked.run)
        history = folder.history
        assert history is not None  # `get` refuses those without
        files = [version_of(path) for path in history.files.values()]
        words = json.dumps([files, self._registry.sets.version(asked.data)])
        version = hashlib.sha256(words.encode()).hexdigest()[:16]

        def opened() -> Opened:
            pose_set = judged_as(self._registry.sets.get(asked.data), history.protocols.values())
            with self.reading(history.folder):
                ids, images, oks = oks_over_epochs(history)
            place = {number: i for i, number in enumerate(ids.tolist())}
            part = part_of_history(pose_set, history)
            indices = pose_set.labelled if part.indices is None else part.indices
            columns = np.array([place.get(pose_set.instances[i].annotation_id, -1) for i in indices], int)
            # Other sets number their annotations alike: the images have to be the same, too.
            own = np.array([pose_set.instances[i].image_id for i in indices], int)
            if not (columns >= 0).any() or (images[columns] != own)[columns >= 0].any():
                raise ValueError(
                    f"the poses of {folder.run.title} belong to none of the annotations of {asked.data}; "
                    f"choose the set they were predicted on{f' ({folder.data})' if folder.data else ''}"
                )
            subject = json.dumps([self._registry.sets.version(asked.data), indices])
            digest = hashlib.sha256(subject.encode()).hexdigest()
            shown = np.where(columns >= 0, oks[:, columns], np.nan)
            return Opened(folder, pose_set, indices, part.sentence, shown, version, digest)

        return self._opened.get((asked.run, asked.data, version), opened)

    # What Compare asks.

    def begin(
        self, asked: Asked, first: Sequence[int] = (), anew: bool = False, *, page_opened: bool = False
    ) -> None:
        """Compute the figures that are missing, those of the epochs in `first` before the others.

        Args: as of `apps.server.comparison.Computing.begin`.

        Raises:
            KeyError: no such folder or data set.
            ValueError: they do not belong together.
        """
        opened = self.opened(asked)
        self._wished[asked.key] = list(first)
        last = self._jobs.latest(asked.key)
        if last is not None and stays_ended(last, anew, page_opened):
            return
        shown = [e for e in opened.folder.run.epochs if e.index in first]
        known = all(_evaluation_key(opened, e) in self._evaluations for e in shown)
        if opened.pose_set.skeleton.sigmas and not (known and opened.version in self._scored):
            title = f"figures of {opened.folder.run.title} on {asked.data}"
            self._jobs.start(asked.key, title, lambda job: self._work(job, asked), FILES_QUEUE, listed=True)

    def answer(self, asked: Asked, known: str = "") -> dict[str, Any]:
        """The facts of all epochs; without samples where the page says that it knows this version."""
        opened = self.opened(asked)
        job = self._jobs.latest(asked.key)
        alive = job.facts() if job is not None and job.alive else None
        history, pose_set, run = opened.folder.history, opened.pose_set, opened.folder.run
        assert history is not None
        protocol = next((one for one in history.protocols.values() if one is not None), None)
        differ = _differences(history)
        parts = [protocol.text() if protocol else "protocol not known"]
        if not pose_set.skeleton.sigmas:
            parts.insert(0, "no AP: OKS constants of these keypoints are not published")
        if job is not None and job.state == "failed":
            parts.append(f"AP of epochs that are not shown is missing: {job.error}")
        parts += [opened.part] if opened.part else []
        samples = None if known == opened.version else [sample_facts(pose_set, i) for i in opened.indices]
        served = {e.path.name for one in self._registry.runs() for e in one.epochs}
        return {
            "version": opened.version, "run": run.id, "data": asked.data,
            "title": f"{run.title} on {asked.data}", "job": alive, "predictions": True,
            "count": len(opened.indices), "total": len(pose_set.labelled),
            "decoder": protocol.decoder if protocol else "", "decoders": [], "score": "", "score_rules": (),
            "maps": None, "oks_threshold": FOUND,
            "protocol": (protocol.to_json() if protocol else {}), "protocol_text": "; ".join(parts),
            "differences": [f"epoch {number}: {', '.join(what)}" for number, what in differ.items()],
            "skeleton": skeleton_facts(pose_set.skeleton),
            "epochs": [self._epoch_facts(opened, e, served) for e in run.epochs],
            "samples": samples,
            "arrays": f"workbench/api/compare/arrays?{_query(asked)}&v={opened.version}",
        }  # fmt: skip

    def _epoch_facts(self, opened: Opened, epoch: Epoch, served: set[str]) -> dict[str, Any]:
        key = _evaluation_key(opened, epoch)
        evaluated, scored = self._evaluations.peek(key), self._scored.peek(opened.version)
        figures = evaluated[1].figures if evaluated else None
        if scored is not None:
            every = scored.figures.get(epoch.epoch or 0)
            figures = every and {name: every[name] for name in FIGURES}
        name, sha256 = (opened.folder.checkpoints or {}).get(epoch.epoch or 0, ("", ""))
        return {
            "index": epoch.index, "epoch": epoch.epoch, "label": epoch.label, "file": epoch.path.name,
            "ready": True, "error": None, "version": hashlib.sha256(str(key).encode()).hexdigest()[:16],
            "figures": figures, "per_keypoint": evaluated[1].table() if evaluated else None,
            "loaded_fraction": 1.0, "sha256": sha256 or None, "checkpoint": name in served,
        }  # fmt: skip

    def arrays(self, asked: Asked) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Annotations and the OKS of every instance in every epoch; keypoints are in `track`."""
        opened = self.opened(asked)
        truth = np.stack([opened.pose_set.instances[i].truth for i in opened.indices])
        head = {"epochs": [e.index for e in opened.folder.run.epochs], "samples": opened.indices}
        return head, {"truth": truth, "oks": opened.oks}

    def track(self, asked: Asked, sample: int) -> Float[np.ndarray, "E K 3"]:
        """One instance over all epochs: x, y in image pixels and score of each keypoint; nan without a pose.

        Raises:
            KeyError: no epoch has a pose of this sample.
        """
        opened = self.opened(asked)
        if sample not in opened.indices:
            raise KeyError(f"sample {sample} is not among the {len(opened.indices)} with predictions")
        instance = opened.pose_set.instances[sample]
        history = opened.folder.history
        assert history is not None

        def compute() -> np.ndarray:
            with self.reading(history.folder):
                poses = history.poses_of_image(instance.image_id)
            if poses.annotated.any():
                poses = poses.of_instance(instance.annotation_id)
            else:  # of a detector: the best pose of each epoch is written last
                N = len(poses)
                truth, area = np.tile(instance.truth, (N, 1, 1)), np.full(N, _area(instance))
                sigmas = np.array(opened.pose_set.skeleton.sigmas)
                poses = poses.take(
                    np.argsort(paired_oks(poses.keypoints, truth, area, sigmas), kind="stable")
                )
            found = np.full((len(history.files), len(opened.pose_set.skeleton), 3), np.nan)
            place = np.searchsorted(np.array(list(history.files)), poses.epoch)
            found[place] = np.concatenate([poses.keypoints, poses.scores[..., None]], 2)
            return found

        return self._tracks.get((opened.version, sample), compute)

    # Figures of the epochs.

    def _work(self, job: Job, asked: Asked) -> None:
        """Evaluate the epochs that the page shows, sort the poses by image, then score all epochs."""
        opened = self.opened(asked)
        for index in self._wished.get(asked.key, []):
            job.checkpoint()
            with contextlib.suppress(*MISTAKES):  # told of every epoch below
                self._evaluated(opened, self.epoch(opened, index))
        if opened.version in self._scored:
            return
        self._index(job, opened)
        history = opened.folder.history
        assert history is not None
        some = opened.indices if len(opened.indices) < len(opened.pose_set.labelled) else None
        job.step = "AP of every epoch"
        with self.reading(history.folder):
            found = history.score(
                opened.pose_set, area_rule=_area_rule(opened), indices=some, progress=job.progress,
                cancelled=job.cancelled,
            )  # fmt: skip
        self._scored.get(opened.version, lambda: found)

    def _index(self, job: Job, opened: Opened) -> None:
        """Make the copy sorted by image, from which one sample of hundreds of epochs comes at once."""
        history = opened.folder.history
        assert history is not None
        index = history.image_index
        if index is not None and index.epochs == history.files.keys():
            return
        job.step = "sorting the poses by image"
        with self.reading(history.folder):
            history.index_images(job.progress, job.cancelled)
        job.step = ""

    def _evaluated(self, opened: Opened, epoch: Epoch) -> tuple[Predictions, Evaluation]:
        """Predictions and evaluation of one epoch over the instances that have one."""
        from workbench.evaluation import Predictions, evaluate

        def compute() -> tuple[Predictions, Evaluation]:
            with self.reading(epoch.path.parent):
                found, protocol = Predictions.from_parquet(epoch.path)
            report = evaluate(
                opened.pose_set, found, protocol, indices=opened.indices, area_rule=_area_rule(opened)
            )
            return found, report

        return self._evaluations.get(_evaluation_key(opened, epoch), compute)

    def epoch(self, opened: Opened, index: int) -> Epoch:
        """One epoch by its index; raises KeyError where there is none."""
        epochs = opened.folder.run.epochs
        if not 0 <= index < len(epochs):
            raise KeyError(
                f"{opened.folder.run.title} has epochs 0 to {len(epochs) - 1} by index, not {index}"
            )
        return epochs[index]

    def interval(self, asked: Asked, a: int, b: int) -> dict[str, Any]:
        """Change of AP from epoch a to epoch b, with its paired bootstrap interval."""
        from workbench.evaluation import paired_bootstrap

        opened = self.opened(asked)
        if not opened.pose_set.skeleton.sigmas:
            raise ValueError(
                "interval: OKS constants of these keypoints are not published, so there is no AP"
            )
        first, second = (self._evaluated(opened, self.epoch(opened, i))[1] for i in (a, b))
        found = self._intervals.get((opened.version, a, b), lambda: paired_bootstrap(first.ap, second.ap))
        return {
            "a": a, "b": b, "delta": found.delta, "low": found.low, "high": found.high,
            "resamples": found.resamples, "level": found.level,
        }  # fmt: skip

    def side_by_side(self, asked: Asked, wanted: Sequence[int]) -> Comparison:
        """The epochs wanted, in that order, with intervals, gained and lost."""
        from workbench.evaluation.compare import comparison_of

        opened = self.opened(asked)
        epochs = [self.epoch(opened, index) for index in wanted]
        return comparison_of([e.label for e in epochs], [self._evaluated(opened, e)[1] for e in epochs])

    def evaluation(self, asked: Asked, index: int) -> Evaluation:
        """The evaluation of one epoch."""
        opened = self.opened(asked)
        return self._evaluated(opened, self.epoch(opened, index))[1]

    def rows(self, asked: Asked, wanted: Sequence[int]) -> tuple[tuple[int, ...], list[Predictions]]:
        """Samples of the set with a pose in every wanted epoch, and each epoch's keypoints in their order."""
        opened = self.opened(asked)
        found = [self._evaluated(opened, self.epoch(opened, index))[0] for index in wanted]
        places = [{n: i for i, n in enumerate(_ids(one))} for one in found]
        instances = opened.pose_set.instances
        chosen = [i for i in opened.indices if all(instances[i].annotation_id in place for place in places)]
        taken = [
            one.take([place[instances[i].annotation_id] for i in chosen])
            for one, place in zip(found, places, strict=True)
        ]
        return tuple(chosen), taken


def _candidates(root: Path, name: str) -> Iterator[tuple[str, Path, tuple[Path, ...]]]:
    """Id, folder and files of every folder below a root, served under a name, that may hold predictions."""
    for folder in folders_below(root):
        if len(files := _files(folder, root)) >= LEAST:
            below = well_formed(folder.relative_to(root).as_posix())
            yield f"{PREFIX}{f'{name}:' if name else ''}{below}", folder, files


def _files(folder: Path, root: Path) -> tuple[Path, ...]:
    """Parquet files of a folder; links that lead out of the root are left out."""
    if folder.name == FOLDER:  # made of the predictions beside it
        return ()
    found = (p for p in folder.glob("*.parquet") if p.is_file())
    return tuple(sorted(p for p in found if p.resolve().is_relative_to(root)))


def _first_with(keypoint_counts: dict[int, int]) -> dict[int, int]:
    """Number of keypoints -> the first epoch that has so many, in the order of the epochs."""
    first: dict[int, int] = {}
    for epoch, count in keypoint_counts.items():
        first.setdefault(count, epoch)
    return first


def _area(instance: Instance) -> float:
    """The annotated area, that of the box without one, square pixels."""
    x0, y0, x1, y1 = instance.box
    return instance.area if np.isfinite(instance.area) else (x1 - x0) * (y1 - y0)


def _manifest(folder: Path) -> tuple[str, dict[int, tuple[str, str]]]:
    """Name of the data set and the checkpoints that a manifest names; nothing where it is damaged."""
    try:
        manifest = read_manifest(folder) or {"epochs": []}
        named = {
            int(one["epoch"]): (str(one["checkpoint"]), str(one["checkpoint_sha256"]))
            for one in manifest["epochs"]
            if one.get("checkpoint") and one.get("checkpoint_sha256")
        }
        return str(manifest.get("data", "")), named
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", {}


def _differences(history: History) -> dict[int, list[str]]:
    """Epoch -> rules in which it differs from the first one."""
    first, *others = history.files
    base, found = history.protocols[first], {}
    for number in others:
        own = history.protocols[number]
        what = own.differs_from(base) if own and base else ["a protocol is not known"] if own or base else []
        if what:
            found[number] = what
    return found


def _ids(predictions: Predictions) -> list[int]:
    return [] if predictions.annotation_id is None else predictions.annotation_id.tolist()


def _area_rule(opened: Opened) -> AreaRule:
    return "annotated" if has_areas(opened.pose_set) else "box"


def _evaluation_key(opened: Opened, epoch: Epoch) -> tuple[Any, ...]:
    return (*version_of(epoch.path), opened.subject)


def _query(asked: Asked) -> str:
    from urllib.parse import urlencode

    return urlencode({"run": asked.run, "data": asked.data})
