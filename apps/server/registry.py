"""The objects behind the ids that pages and URLs carry: runs, models, data sets, passes over one sample."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.server.data_sets import DataSets
from apps.server.folders import Epoch, RunFolder, ServedFolders, runs_below
from apps.server.reading import checked
from apps.server.settings import Settings
from workbench.checkpoints.model_code import base_files, code_beside
from workbench.cli import MISTAKES, sentence
from workbench.core import DecodeOptions, NotAvailable, Run, Sample, Skeleton, nearest
from workbench.core.files import files_in
from workbench.core.job import LruCache, Version, version_of

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint
    from workbench.checkpoints.identity import Identity
    from workbench.data.pose_set import PoseSet
    from workbench.models import LoadedModel


@dataclass(frozen=True)
class Description:
    """What a list of runs tells of one.

    Attributes:
        family: None where it cannot be told.
        reason: the evidence for the family, or why there is none or no skeleton.
        skeleton: the keypoints that the last epoch's model predicts; None where it cannot be built.
        codec: kind of that model's codec, ``heatmap`` or ``simcc``; "" where it declares none.
    """

    family: str | None
    reason: str
    skeleton: Skeleton | None = None
    codec: str = ""


DEMO = "demo"
"""Prefix of ids that name the built-in checkpoints when another root is served."""

PASS_BYTES = 256 << 20
"""Images that the forward passes which are kept may hold together: one that was uploaded may be of 225 MB."""

MADE_OF = (".py", ".npz", ".npy", "config.json", "pipeline.json")
"""Files beside a checkpoint that say how its model is built; logs and results, which grow, do not."""

MOST_MADE_OF = 200
"""A folder with more of them is a project or a data set, not a run."""

# A rescan finds epochs that a training run wrote meanwhile; every two seconds is soon enough.
RESCAN_SECONDS = 2.0


class Registry:
    """Process-wide and shared by all sessions; everything it hands out is read, never changed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.served = ServedFolders.of(settings.root, **_demo_folder(settings.root))
        self._scanned: tuple[float, tuple[RunFolder, ...]] = (-1e9, ())
        self.sets = DataSets(settings.data, settings.images, settings.reading)
        self._folders: LruCache[tuple[Path, ...]] = LruCache(500)
        self._parts: LruCache[tuple[Path, ...]] = LruCache(500)
        self._checkpoints: LruCache[Checkpoint] = LruCache(8)
        self._models: LruCache[LoadedModel] = LruCache(4)
        self._passes: LruCache[Run] = LruCache(24, _image_bytes, PASS_BYTES)
        self._families: LruCache[Identity | str] = LruCache(500)
        self._described: LruCache[Future[Description]] = LruCache(2000)
        # Runs are described here, not in a request: one that takes long holds up no other for long.
        self._describing = ThreadPoolExecutor(2, "describing runs")

    def runs(self) -> tuple[RunFolder, ...]:
        """Every run folder below the root, then the built-in ones."""
        scanned, found = self._scanned
        if time.monotonic() - scanned > RESCAN_SECONDS:
            found = tuple(
                run
                for name, folder in self.served.folders.items()
                for run in _demo_first(runs_below(folder, f"{name}:" if name else ""))
            )
            self._scanned = (time.monotonic(), found)
        return found

    def served_runs(self) -> list[RunFolder]:
        """The run folders below the root, without the built-in ones that are offered beside another root."""
        return [run for run in self.runs() if not run.id.startswith(f"{DEMO}:")]

    def run(self, identity: str) -> RunFolder:
        """The run folder of an id.

        Raises:
            Refused: the id leads out of the served folders.
            KeyError: there is no such run.
        """
        identity = str(identity)  # a request may hold anything
        for run in self.runs():
            if run.id == identity:
                return run
        if identity.startswith(("/", "~")) or ".." in Path(identity.partition(":")[2] or identity).parts:
            self.served.path(identity)
        known = [run.id for run in self.runs()]
        raise KeyError(f"no run {identity!r} below the served folder; nearest: {nearest(identity, known)}")

    def epoch(self, run: str, index: int) -> Epoch:
        """One checkpoint of a run.

        Raises:
            KeyError: the run has no such epoch.
            Refused: its file leads out of the served folders by now.
        """
        epochs = self.run(run).epochs
        if not 0 <= index < len(epochs):
            raise KeyError(f"{run} has epochs 0 to {len(epochs) - 1} by index, not {index}")
        self.served.identity(epochs[index].path)
        return epochs[index]

    def last_checkpoint(self, run: str) -> Path:
        """The file of a run's last epoch.

        Raises:
            KeyError: there is no such run.
        """
        return self.run(run).epochs[-1].path

    def config_file(self, run: str) -> Path | None:
        """The file that holds a run's config; it is read, never run.

        Returns:
            a .py in the run's folder or the folder above, as trainers write it; else the last checkpoint,
            where it holds a config; None without one.

        Raises:
            KeyError: there is no such run.
        """
        folder = self.run(run).folder
        root = self.settings.root.resolve()
        for path in files_in(folder, "*.py") or files_in(folder.parent, "*.py"):
            if path.resolve().is_relative_to(root):
                return path.resolve()
        last = self.last_checkpoint(run)
        try:
            return last if self.checkpoint(last).config_text else None
        except MISTAKES:  # a damaged file is refused where it is opened for itself
            return None

    def version(self, run: str, index: int) -> tuple[Version, ...]:
        """Changes when the file of an epoch does, or one beside it that its model is made of."""
        return self.version_of(self.epoch(run, index).path)

    def last_version(self, run: str) -> tuple[Version, ...]:
        """`version` of a run's last epoch.

        Raises:
            KeyError: there is no such run.
        """
        return self.version_of(self.last_checkpoint(run))

    def version_of(self, path: Path) -> tuple[Version, ...]:
        """Versions of a checkpoint file and of what its model may be made of: files beside it, own code.

        Raises:
            OSError: the checkpoint is not there.
        """
        found = [version_of(path)]
        for one in (*self._own_code(), *self._made_of(path.parent), *self._tensor_files(path)):
            with contextlib.suppress(OSError):  # it was removed meanwhile
                found.append(version_of(one))
        return tuple(found)

    def _own_code(self) -> tuple[Path, ...]:
        """The user's config with its base files, and the adapter with the modules beside it."""
        config, adapter = self.settings.config, self.settings.adapter
        found = [] if config is None else [config, *self._bases(config, None)]
        if adapter is not None and adapter.is_file():
            beside = [adapter, *files_in(adapter.parent, "*.py")][:MOST_MADE_OF]
            key = ("code", *(version_of(one) for one in beside))
            found += self._folders.get(key, lambda: tuple(code_beside(adapter).values()))[:MOST_MADE_OF]
        return tuple(found)

    def _bases(self, config: Path, root: Path | None) -> tuple[Path, ...]:
        """Base files of a config below a root, those of a base too; read again when one of them changed."""
        with contextlib.suppress(OSError):
            key = ("bases", version_of(config))
            known = self._folders.get(key, lambda: base_files(config, root))
            versions = tuple(version_of(one) for one in known if one.is_file())
            return self._folders.get((*key, versions), lambda: base_files(config, root))
        return ()

    def _made_of(self, folder: Path) -> tuple[Path, ...]:
        """Configs with their base files, text vectors and the like; listed again when the folder changed."""
        status = folder.stat()

        def listed() -> tuple[Path, ...]:
            return tuple(
                one for one in sorted(folder.iterdir()) if one.suffix in MADE_OF or one.name in MADE_OF
            )[:MOST_MADE_OF]

        found = self._folders.get((str(folder), status.st_mtime_ns, status.st_ctime_ns), listed)
        root = next((one for one in self.served.folders.values() if folder.is_relative_to(one)), folder)
        bases = (base for one in found if one.suffix == ".py" for base in self._bases(one, root))
        return (*found, *bases)

    def _tensor_files(self, path: Path) -> tuple[Path, ...]:
        """Other files that hold the tensors of an index of parts or of an ONNX graph."""
        if not path.name.endswith((".index.json", ".onnx")):
            return ()

        def listed() -> tuple[Path, ...]:
            try:
                return self.checkpoint(path).paths[1:]
            except MISTAKES:
                return ()  # whoever opens it says why

        return self._parts.get(version_of(path), listed)

    def checkpoint(self, path: Path) -> Checkpoint:
        """A checkpoint, opened lazily; nothing in it is executed.

        Raises:
            ValueError: it cannot be read, or not within the limits of `apps.server.reading`.
        """
        from workbench.checkpoints import open_checkpoint

        def opened() -> Checkpoint:
            with self.inside(path):
                checked(path)
                return open_checkpoint(path)

        return self._checkpoints.get(version_of(path), opened)

    def family(self, run: RunFolder) -> tuple[str | None, str]:
        """Family of a run's first checkpoint and the evidence; None and the reason if it cannot be told."""
        found = self._identified(run)
        return (None, found) if isinstance(found, str) else (found.family or None, "; ".join(found.evidence))

    def capabilities(self, run: RunFolder) -> tuple[str, ...]:
        """Names of the capabilities of a run's models, by the tensors of its first checkpoint."""
        found = self._identified(run)
        return () if isinstance(found, str) else found.capabilities

    def _identified(self, run: RunFolder) -> Identity | str:
        """What the first checkpoint's tensors tell, or the reason why they cannot be read."""

        def look() -> Identity | str:
            try:
                return self.checkpoint(run.epochs[0].path).identity
            except MISTAKES as mistake:
                return sentence(mistake)

        return self._families.get(self.version_of(run.epochs[0].path), look)

    def described(self, run: RunFolder) -> Future[Description]:
        """Family and keypoints of a run, worked out in the background and kept until its files change.

        Whatever goes wrong stays in the future: one run's file must not hide the others.
        """
        key = (run.id, self.version_of(run.epochs[0].path), self.version_of(run.epochs[-1].path))
        return self._described.get(key, lambda: self._describing.submit(self._describe, run))

    def maps(self, run: RunFolder) -> str:
        """The field of Outputs that a run's codec states: ``heatmaps``, ``simcc``; "" where not known."""
        if "Groups" in self.capabilities(run):  # bottom-up models give heatmaps, and declare no codec
            return "heatmaps"
        found = self.described(run)
        known = found.done() and found.exception() is None
        return {"heatmap": "heatmaps", "simcc": "simcc"}.get(found.result().codec, "") if known else ""

    def _describe(self, run: RunFolder) -> Description:
        family, reason = self.family(run)
        if family is None:
            return Description(None, reason)
        try:
            last = run.epochs[-1].index
            skeleton, codec = self.skeleton(run.id, last), self.model(run.id, last).model.codec
            return Description(family, reason, skeleton, codec.kind if codec else "")
        except MISTAKES as mistake:
            return Description(family, sentence(mistake))

    def close(self) -> None:
        """Begin nothing anew, and end what may take long."""
        self.sets.close()
        self._describing.shutdown(wait=False, cancel_futures=True)

    def model(self, run: str, index: int, data: str = "") -> LoadedModel:
        """The opened model of one epoch, on the settings' device.

        Args:
            run: a run's id.
            index: the epoch's index in it.
            data: id of the set that it is asked about: keypoints without names have those of the set, as
                for the verbs; "" where no set is asked about.
        """
        return self._named(self.model_of(self.epoch(run, index).path), data)

    def _named(self, loaded: LoadedModel, data: str) -> LoadedModel:
        return loaded.named_as(self.sets.get(data)) if data else loaded

    def model_of(self, path: Path) -> LoadedModel:
        """The opened model of a checkpoint file.

        A config inside it or beside it is read without running it; only what the command line named is code.
        """
        return self._models.get(self.version_of(path), lambda: self.opened(path))

    def own_model(self, run: str, index: int, data: str = "") -> LoadedModel:
        """The model of one epoch, as `model` gives it, opened for whoever asks alone: it may be trained."""
        return self._named(self.opened(self.epoch(run, index).path), data)

    def opened(self, path: Path, **changed: Any) -> LoadedModel:
        """A model of its own, opened as the settings say.

        Args:
            path: of the checkpoint.
            **changed: arguments of `open_model` that replace those of the settings.
        """
        from workbench.models import open_model

        names = ("config", "family", "adapter", "remap", "output", "assume", "allow_partial", "device")
        with self.inside(path):
            checked(path)
            return open_model(path, **{name: getattr(self.settings, name) for name in names} | changed)

    @contextlib.contextmanager
    def inside(self, *paths: Path) -> Iterator[None]:
        """Files of a run lead into the served folders, before they are read and once they were read.

        Files are listed seconds before: a program of this machine may have put a link in the place of one.

        Raises:
            Refused: one leads elsewhere.
        """
        for path in paths:
            self.served.identity(path)
        yield
        for path in paths:
            self.served.identity(path)

    def skeleton(self, run: str, index: int) -> Skeleton:
        """The keypoints that an epoch's model predicts."""
        return self.model(run, index).model.skeleton

    def judging(self, pose_set: PoseSet, runs: Sequence[RunFolder]) -> tuple[PoseSet, str]:
        """A set to judge result files on, and a note: without OKS sigmas it takes those of a run.

        Args:
            pose_set: the annotations.
            runs: the first of these whose model has the same keypoints, and sigmas, gives them.
        """
        from workbench.evaluation.protocol import judged_by

        if pose_set.skeleton.sigmas:
            return pose_set, ""
        for run in runs:
            with contextlib.suppress(*MISTAKES):  # of a run that cannot be built another one may help
                model = self.described(run).result().skeleton
                judged = pose_set if model is None else judged_by(pose_set, model)
                if judged.skeleton.sigmas:
                    return (
                        judged,
                        f"{pose_set.name} states no OKS sigmas: those of {run.title}'s model are used",
                    )
        return pose_set, ""

    def decoders(self, run: str, index: int) -> list[str]:
        """Decoders that read this epoch's output; none for a family with its own way."""
        from workbench.decoding import decoders_for

        codec = self.model(run, index).model.codec
        return [] if codec is None else decoders_for(codec)

    def default_run(self) -> RunFolder:
        """The run to show when nothing is chosen: the first one.

        Raises:
            NotAvailable: no folder below the root holds a checkpoint.
        """
        runs = self.runs()
        if not runs:
            raise NotAvailable(
                f"no checkpoint lies below {self.settings.root}; start the app on a folder with run folders"
            )
        return runs[0]

    def default_data(self, run: str, index: int) -> str:
        """The set to show a run on: the first whose keypoints are the model's; "" when none fits."""
        return next(iter(self.sets.fitting(self.skeleton(run, index))), "")

    def default_sample(self, run: str, index: int, data: str) -> int:
        """The sample to show: the one that a single-image run says it learned, else the first annotated."""
        pose_set = self.sets.get(data)
        learned = self.checkpoint(self.epoch(run, index).path).meta.get("sample")
        for i in pose_set.labelled:
            instance = pose_set.instances[i]
            if learned == f"{pose_set.images[instance.image_id].path.stem}/{instance.annotation_id}":
                return i
        return (pose_set.labelled or (0,))[0]

    def passed(
        self,
        run: str,
        index: int,
        samples: Sequence[Sample],
        key: tuple[Any, ...],
        record: Sequence[str] = (),
        options: DecodeOptions | None = None,
        flip: bool = False,
        data: str = "",
    ) -> Run:
        """One forward pass, kept; another decoder reads the same outputs again.

        Args:
            run: a run's id.
            index: the epoch's index in it.
            samples: what to look at.
            key: what stands for the samples, hashable: ``("scenes-val", 3)``.
            record: names of taps; ("*",) for all of the model's.
            options: how to read keypoints off the outputs.
            flip: look at the mirrored images, too.
            data: the set that the samples are of; "" for an image of the user's.
        """
        from workbench.core.run import redecode
        from workbench.core.run import run as forward

        epoch = self.epoch(run, index)

        def compute() -> Run:
            model = self.model(run, index, data).model
            taps = tuple(model.taps) if tuple(record) == ("*",) else tuple(record)
            title = f"{self.run(run).title}, {epoch.label}"
            return forward(model, samples, taps, title=title, flip=flip)

        images = tuple(version_of(Path(sample.path)) for sample in samples if sample.path)
        version = self.version_of(epoch.path), images
        result = self._passes.get((version, key, tuple(record), flip), compute)
        return redecode(result, options) if options and options != DecodeOptions() else result


def _image_bytes(run: Run) -> int:
    return sum(sample.image.nbytes for sample in run.samples)


def _demo_folder(root: Path) -> dict[str, Path]:
    """The built-in checkpoints beside another root, where they are there."""
    from workbench.checkpoints.demo import root as demo_root

    try:
        return {} if is_demo(root) else {DEMO: demo_root()}
    except NotAvailable:
        return {}


def is_demo(root: Path) -> bool:
    """Whether the served folder is that of the built-in checkpoints, and not a user's own."""
    from workbench.checkpoints.demo import root as demo_root

    try:
        return demo_root().resolve() == root.resolve()
    except NotAvailable:
        return False


def _demo_first(runs: tuple[RunFolder, ...]) -> list[RunFolder]:
    """The same runs, the one that the demo opens with before the others."""
    from workbench.checkpoints.demo import DEFAULT

    return sorted(runs, key=lambda run: run.folder.name != DEFAULT)
