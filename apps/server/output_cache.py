"""One epoch's predictions and raw outputs on one data set, on disk: forwarded once, decoded by any rule.

Predictions are small and stay. Outputs (heatmaps, SimCC vectors) are large: the store's cap may take them
away, and then another decoder needs a forward pass again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.server.found_people import found_people
from apps.server.output_check import (
    HEATMAPS,
    PEOPLE,
    PREDICTIONS,
    SIMCC_X,
    SIMCC_Y,
    TO_IMAGE,
    check_facts,
    check_files,
    judge_of,
    open_array,
    read_rows,
)
from apps.server.registry import Registry
from apps.server.settings import Settings
from workbench.core import Batch, DecodeOptions, NotAvailable, Outputs, PoseModel
from workbench.core.capabilities import SizesInput
from workbench.core.files import (
    RECORD_SIZE,
    check_own_folder,
    of_this_process,
    read_at_most,
    remove_entry,
    remove_folders_of_dead_processes,
)
from workbench.core.job import Cancelled, Job, current_checkpoint
from workbench.evaluation import Predictions

if TYPE_CHECKING:
    from workbench.core import PoseModel
    from workbench.data import PoseSet
    from workbench.evaluation import Predictions, Protocol
    from workbench.models import LoadedModel


# Samples decoded at once: 32 heatmap stacks of 17 x 64 x 48 are 7 MB.
CHUNK = 32


@dataclass(frozen=True, eq=False)
class StoredOutputs:
    """A folder with what one forward pass over a set left.

    Attributes:
        folder: where it lies; its name is the computation's key.
        indices: of the samples in the set, in the order of all arrays.
        facts: ``kind`` (heatmap, simcc or None), ``decoder`` (the model's own), ``decoders`` (those that
            read the outputs), ``input_size``, ``udp``, ``split_ratio``; ``whole``: found in whole images;
            ``judge``: names and sigmas of the model's keypoints.
    """

    folder: Path
    indices: tuple[int, ...]
    facts: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> StoredOutputs:
        """Open a finished folder.

        Raises:
            ValueError: its description is damaged; names the file.
        """
        path = folder / "facts.json"
        try:
            check_own_folder(folder)
            facts = json.loads(read_at_most(path, RECORD_SIZE, "a description"))
            indices = tuple(facts.pop("indices"))
            check_facts(facts, indices)
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError, OSError) as reason:
            raise ValueError(f"{path} is damaged ({type(reason).__name__})") from reason
        return cls(folder, indices, facts)

    def check(self) -> None:
        """Read through what was kept: every page of predictions, size and kind of every array.

        Raises:
            ValueError: a file is damaged; names it.
        """
        check_files(self.folder, self.facts, len(self.indices))

    def check_rows(self, pose_set: PoseSet, indices: tuple[int, ...]) -> None:
        """Compare with the samples that were asked for.

        Raises:
            ValueError: the rows are of others.
        """
        path = self.folder / PREDICTIONS
        wanted = [pose_set.instances[index].image_id for index in indices]
        if self.indices != indices or read_rows(path, len(indices)).image_id.tolist() != wanted:
            raise ValueError(f"{path} is damaged (of other samples)")

    @property
    def kind(self) -> str | None:
        """What the network leaves: ``heatmap``, ``simcc`` or None."""
        return self.facts["kind"]

    def judged_by(self, pose_set: PoseSet) -> PoseSet:
        """The set with the sigmas that came with the model, as `workbench evaluate` judges it."""
        from workbench.evaluation.protocol import judged_by

        return judged_by(pose_set, judge_of(self.facts))

    @property
    def has_outputs(self) -> bool:
        """The raw outputs are still there."""
        return (self.folder / f"{TO_IMAGE}.npy").is_file()

    def array(self, name: str) -> np.ndarray:
        """One array, read from disk where it is touched; float32 but to_image [N, 2, 3] float64."""
        return open_array(self.folder / f"{name}.npy")

    def row(self, sample: int) -> int:
        """Where a sample of the set stands in the arrays.

        Raises:
            KeyError: it was not among those computed.
        """
        if sample not in self.indices:
            raise KeyError(f"sample {sample} is not among the {len(self.indices)} computed ones")
        return self.indices.index(sample)

    def file(self, options: DecodeOptions) -> Path:
        """Where the keypoints read by these rules are, or will be."""
        if options == DecodeOptions():
            return self.folder / PREDICTIONS
        return self.folder / f"predictions-{options.decoder or 'own'}-{options.score or 'own'}.parquet"

    def has(self, options: DecodeOptions) -> bool:
        """Keypoints were read by these rules before."""
        return self.file(options).is_file()

    def predictions(self, options: DecodeOptions) -> tuple[Predictions, Protocol]:
        """Keypoints as these rules read them, and the rules in full."""
        from workbench.evaluation import Predictions, Protocol

        predictions, protocol = Predictions.from_parquet(self.file(options))
        return predictions, protocol or Protocol()

    def people(self) -> Predictions | None:
        """Everybody that a bottom-up model found in the images; None for a model that is given boxes."""
        from workbench.evaluation import Predictions

        return Predictions.from_parquet(self.folder / PEOPLE)[0] if self.facts["whole"] else None

    def decode(self, options: DecodeOptions, model: Callable[[], PoseModel]) -> None:
        """Read keypoints off the kept outputs by other rules and keep them; no forward pass.

        Args:
            options: the decoder and the score.
            model: gives a model of any epoch of the run: decoding looks at its codec, never at its weights.

        Raises:
            NotAvailable: outputs of this family are not of a form that decoders read.
        """
        import torch

        from workbench.evaluation import protocol_of
        from workbench.evaluation.protocol import DEFAULT, pose_scores

        if not self.facts["decoders"]:
            raise NotAvailable("another decoder: this family's output has its own way of being read")
        height, width = self.facts["input_size"]
        reader, found = model(), []
        to_image = np.array(self.array(TO_IMAGE))
        for start in range(0, len(self.indices), CHUNK):
            current_checkpoint()
            rows = slice(start, start + CHUNK)
            # Decoding reads no pixels: one zero stands for all of them.
            pixels = torch.zeros(1, 1, 1, 1).expand(len(to_image[rows]), 3, height, width)
            found += reader.decode(self._outputs(rows), Batch(pixels, to_image[rows]), options)
        scores = np.stack([np.asarray(p.scores, float) for p in found])
        own, protocol = self.predictions(DecodeOptions())
        predictions = replace(
            own,
            keypoints=np.stack([np.asarray(p.keypoints, float) for p in found]),
            scores=scores,
            score=pose_scores(DEFAULT, scores, np.ones(len(scores))),
        )
        rules = protocol_of(reader, options=options)
        read_by = replace(protocol, decoder=rules.decoder, keypoint_score=rules.keypoint_score)
        predictions.to_parquet(self.file(options), protocol=read_by)

    def _outputs(self, rows: slice) -> Outputs:
        import torch

        def tensor(name: str) -> Any:
            return torch.from_numpy(np.array(self.array(name)[rows]))

        if self.kind == "heatmap":
            return Outputs(heatmaps=tensor(HEATMAPS))
        return Outputs(simcc=(tensor(SIMCC_X), tensor(SIMCC_Y)))

    def output_bytes(self) -> int:
        """Size of the raw outputs."""
        return sum(path.stat().st_size for path in self.folder.glob("*.npy"))

    def drop_outputs(self) -> None:
        """Make room: the raw outputs go, the predictions stay."""
        # to_image first: it is what says that the others are there.
        for path in sorted(self.folder.glob("*.npy"), key=lambda p: p.stem != TO_IMAGE):
            path.unlink(missing_ok=True)


def replace_folder(building: Path, target: Path) -> None:
    """Move a finished folder to its place, whole or not at all; one that stands there goes."""
    remove_entry(target)
    building.rename(target)


# Predictions and raw outputs of (run, epoch, data set), computed once and kept on disk within a size cap.


# Part of every key: folders of an older layout, or computed in an older way, are not read. 5: noise of a
# generator of its own, and everybody that a bottom-up model finds. 6: the model's own sigmas.
LAYOUT = 6

# How folders are called while they are filled.
BUILDING = "building-"

_log = logging.getLogger("workbench")

Progress = Callable[[int, int], None]


class Store:
    """What `StoredOutputs` folders exist, and how they come to be."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._open: dict[str, StoredOutputs] = {}
        self._decoding = threading.Lock()
        remove_folders_of_dead_processes(self.folder, BUILDING)

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        from workbench.data import cache_folder

        return self._settings.cache or cache_folder() / "outputs"

    def indices(self, data: str) -> tuple[int, ...]:
        """The samples of a set that are computed: its annotated ones, up to the limit."""
        return self._registry.sets.get(data).labelled[: self._settings.limit]

    def key(self, run: str, epoch: int, data: str) -> str:
        """Names one computation; changes with the checkpoint, the data, the model's code, the limit."""
        settings = self._settings
        version = self._registry.version(run, epoch)
        words = [
            LAYOUT,
            version,
            self._registry.sets.version(data),
            settings.limit,
            settings.remap,
            settings.family,
            *([settings.output, settings.assume] if settings.output or settings.assume else []),
        ]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]

    def stored(self, run: str, epoch: int, data: str) -> StoredOutputs | None:
        """What was computed; None while it is not."""
        key = self.key(run, epoch, data)
        if not os.path.lexists(self.folder / key):
            return None
        if not (self.folder / key / PREDICTIONS).is_file():  # removed meanwhile
            self._open.pop(key, None)
        if key not in self._open:
            try:
                stored = StoredOutputs.read(self.folder / key)
                stored.check()
                stored.check_rows(self._registry.sets.get(data), self.indices(data))
            except ValueError as damaged:
                self._discard(self.folder / key, damaged)
                return None
            self._open[key] = stored
        return self._open[key]

    def _discard(self, folder: Path, damaged: ValueError) -> None:
        """Remove a damaged computation, so that it is made anew, and say so in the server's log."""
        _log.warning("%s; it is computed again when it is asked for", damaged)
        with contextlib.suppress(OSError):  # whoever computes it again says why it cannot be removed
            remove_entry(folder)

    def ready(self, run: str, epoch: int, data: str, options: DecodeOptions) -> StoredOutputs | None:
        """What was computed and read by these rules; None while it is not."""
        stored = self.stored(run, epoch, data)
        return stored if stored is not None and stored.has(options) else None

    def decode(self, run: str, epoch: int, data: str, options: DecodeOptions) -> bool:
        """Read kept outputs by these rules; False where there are none to read.

        Raises:
            NotAvailable: outputs of this family are not of a form that decoders read.
        """
        stored = self.stored(run, epoch, data)
        if stored is None or (stored.facts["decoders"] and not stored.has_outputs):
            return False
        with self._decoding:
            if not stored.has(options):
                stored.decode(options, lambda: self._registry.model(run, epoch, data).model)
        return True

    def compute(
        self, job: Job, run: str, epoch: int, data: str, options: DecodeOptions, progress: Progress
    ) -> None:
        """Forward the whole set through one epoch's model where that is still to be done, and decode.

        Where one of the files is replaced while they are read, nothing is computed: ask again. One that is
        replaced later leaves what was computed to the old file.

        Raises:
            Cancelled: the job was told to stop; what was written goes.
        """
        from workbench.evaluation.protocol import check_same_keypoints

        if self.ready(run, epoch, data, options) or self.decode(run, epoch, data, options):
            return
        key = self.key(run, epoch, data)
        loaded = self._registry.model(run, epoch)
        # Before the set is opened: scenes that do not fit need not be drawn.
        check_same_keypoints(loaded.model.skeleton, self._registry.sets.skeleton(data), data)
        job.checkpoint()
        indices = self.indices(data)
        # One reading store of its own: pages read the same set meanwhile.
        pose_set = self._registry.sets.apart(data)
        # From here on nothing is read of these files: what is computed is theirs, whatever they become.
        if key != self.key(run, epoch, data):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=of_this_process(BUILDING), dir=self.folder))
        try:
            facts = _forward(loaded, pose_set, indices, building, job, progress)
            (building / "facts.json").write_text(json.dumps({**facts, "indices": indices}), encoding="utf-8")
            fresh = StoredOutputs.read(building)
            if not fresh.has(options):
                fresh.decode(options, lambda: loaded.model)
            replace_folder(building, self.folder / key)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        self._open.pop(key, None)
        self._make_room(key)

    def _make_room(self, newest: str) -> None:
        """Drop the oldest raw outputs until the cap holds; the newest stay, and so do all predictions."""
        folders = [p for p in self.folder.iterdir() if (p / "facts.json").is_file()]
        stored = []
        for folder in sorted(folders, key=lambda p: p.stat().st_mtime):
            try:
                stored.append(StoredOutputs.read(folder))
            except ValueError as damaged:
                self._discard(folder, damaged)
        sizes = [outputs.output_bytes() for outputs in stored]
        total = sum(sizes)
        for outputs, size in zip(stored, sizes, strict=True):
            if total <= self._settings.cache_bytes:
                break
            if outputs.folder.name != newest and size:
                outputs.drop_outputs()
                total -= size


class _Arrays:
    """The arrays of a set of samples, written batch by batch as files of a folder.

    Args:
        folder: where.
        indices: samples of the set; row n of each array is that of the n-th.
    """

    def __init__(self, folder: Path, indices: tuple[int, ...]) -> None:
        self._folder, self._count = folder, len(indices)
        self._places = {index: row for row, index in enumerate(indices)}
        self._arrays: dict[str, np.memmap] = {}

    def write_outputs(self, samples: list[int], batch: Batch, outputs: Outputs) -> None:
        """Write what the network gave for some samples.

        Every bit is kept: another decoder on these arrays gives what it gives on the network's output.
        """
        rows = [self._places[i] for i in samples]
        if outputs.heatmaps is not None:
            self._write(HEATMAPS, rows, outputs.heatmaps.numpy())
        elif outputs.simcc is not None:
            self._write(SIMCC_X, rows, outputs.simcc[0].numpy())
            self._write(SIMCC_Y, rows, outputs.simcc[1].numpy())
        else:
            return
        self._write(TO_IMAGE, rows, np.asarray(batch.to_image, np.float64))

    def _write(self, name: str, rows: list[int], values: np.ndarray) -> None:
        if name not in self._arrays:
            shape, path = (self._count, *values.shape[1:]), self._folder / f"{name}.npy"
            self._arrays[name] = np.lib.format.open_memmap(path, mode="w+", dtype=values.dtype, shape=shape)
        self._arrays[name][rows] = values

    def finish(self) -> str | None:
        """Write everything to disk; which kind of output there is: heatmap, simcc, None."""
        for array in self._arrays.values():
            array.flush()
        if HEATMAPS in self._arrays:
            return "heatmap"
        return "simcc" if SIMCC_X in self._arrays else None


def _forward(
    loaded: LoadedModel,
    pose_set: PoseSet,
    indices: tuple[int, ...],
    folder: Path,
    job: Job,
    progress: Progress,
) -> dict[str, Any]:
    """Predict and write every array; the facts to keep beside them."""
    from workbench import evaluation
    from workbench.evaluation.predict import finds_people

    arrays, people = _Arrays(folder, indices), None
    watched: dict[str, Any] = {"progress": progress, "cancelled": job.cancelled}
    try:
        if finds_people(loaded.model):
            everybody = found_people(loaded.model, pose_set, indices, **watched)
            predictions, people = everybody.rows, everybody.people
        else:
            predictions = evaluation.predict(
                loaded.model, pose_set, indices=indices, keep_outputs=arrays.write_outputs, **watched
            )
    except evaluation.Cancelled as stopped:
        raise Cancelled from stopped
    kind = arrays.finish()
    protocol = evaluation.protocol_of_loaded(loaded)
    predictions.to_parquet(folder / PREDICTIONS, protocol=protocol)
    if people is not None:
        people.to_parquet(folder / PEOPLE, protocol=protocol)
    return _facts(loaded, kind, whole=people is not None)


def _facts(loaded: LoadedModel, kind: str | None, whole: bool) -> dict[str, Any]:
    """What is kept beside the arrays.

    Args:
        loaded: the model.
        kind: of the arrays; None where there are none.
        whole: found in whole images, of which no arrays are kept.
    """
    from workbench.decoding import decoders_for

    codec, skeleton = loaded.model.codec, loaded.model.skeleton
    own_size = loaded.model.input_size if isinstance(loaded.model, SizesInput) else (0, 0)
    size = codec.input_size if codec else own_size
    return {
        "judge": {
            "name": skeleton.name,
            "keypoints": skeleton.keypoints,
            "sigmas": skeleton.sigmas,
            "mirror": skeleton.mirror,
            "source": skeleton.source,
        },
        # Maps of whole images are large and of many sizes: the page asks for one when it shows one.
        "kind": "heatmap" if whole else kind,
        "whole": whole,
        "decoder": codec.decoder if codec else "",
        "decoders": decoders_for(codec) if codec and kind else [],
        "input_size": list(size) if isinstance(size, (tuple, list)) else [size, size],
        "udp": bool(codec and codec.udp),
        "split_ratio": codec.split_ratio if codec else 1.0,
    }
