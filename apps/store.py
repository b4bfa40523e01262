"""Predictions and raw outputs of (run, epoch, data set), computed once and kept on disk within a size cap."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from workbench.core.cache import version_of
from workbench.core.job import Cancelled, Job

from apps.server.output_cache import HEATMAPS, PEOPLE, PREDICTIONS, SIMCC_X, SIMCC_Y, TO_IMAGE, replace_folder
from apps.server.output_cache import StoredOutputs as Kept
from apps.server.registry import Registry
from apps.server.settings import Settings
from workbench.core import Batch, DecodeOptions, Outputs
from workbench.core.files import of_this_process, remove_folders_of_dead_processes

if TYPE_CHECKING:
    from workbench.data import PoseSet
    from workbench.models import LoadedModel

# Part of every key: folders of an older layout, or computed in an older way, are not read. 5: noise of a
# generator of its own, and everybody that a bottom-up model finds. 6: the model's own sigmas.
LAYOUT = 6

# How folders are called while they are filled.
BUILDING = "building-"

_log = logging.getLogger("workbench")

# Small batches: a job looks after each whether it was cancelled.
BATCH = 16

Progress = Callable[[int, int], None]


class Store:
    """What `Kept` folders exist, and how they come to be."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._open: dict[str, Kept] = {}
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
        told = self._settings
        code = [list(version_of(path)) for path in (told.config, told.adapter) if path is not None]
        version = version_of(self._registry.epoch(run, epoch).path)
        words = [
            LAYOUT,
            version,
            self._registry.sets.version(data),
            told.limit,
            code,
            told.remap,
            told.family,
            *([told.output, told.assume] if told.output or told.assume else []),
        ]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]

    def kept(self, run: str, epoch: int, data: str) -> Kept | None:
        """What was computed; None while it is not."""
        key = self.key(run, epoch, data)
        if not (self.folder / key / "facts.json").is_file():
            return None
        if key not in self._open:
            try:
                kept = Kept.read(self.folder / key)
                kept.check()
            except ValueError as damaged:
                self._discard(self.folder / key, damaged)
                return None
            self._open[key] = kept
        return self._open[key]

    def _discard(self, folder: Path, damaged: ValueError) -> None:
        """Remove a damaged computation, so that it is made anew, and say so in the server's log."""
        _log.warning("%s; it is computed again when it is asked for", damaged)
        shutil.rmtree(folder, ignore_errors=True)

    def ready(self, run: str, epoch: int, data: str, options: DecodeOptions) -> Kept | None:
        """What was computed and read by these rules; None while it is not."""
        kept = self.kept(run, epoch, data)
        return kept if kept is not None and kept.has(options) else None

    def decode(self, run: str, epoch: int, data: str, options: DecodeOptions) -> bool:
        """Read kept outputs by these rules; False where there are none to read.

        Raises:
            NotAvailable: outputs of this family are not of a form that decoders read.
        """
        kept = self.kept(run, epoch, data)
        if kept is None or (kept.facts["decoders"] and not kept.has_outputs):
            return False
        with self._decoding:
            if not kept.has(options):
                kept.decode(options, lambda: self._registry.model(run, epoch).model)
        return True

    def compute(
        self, job: Job, run: str, epoch: int, data: str, options: DecodeOptions, progress: Progress
    ) -> None:
        """Forward the whole set through one epoch's model where that is still to be done, and decode.

        Raises:
            Cancelled: the job was told to stop; what was written goes.
        """
        from workbench.evaluation.model_rules import check_same_keypoints

        if self.ready(run, epoch, data, options) or self.decode(run, epoch, data, options):
            return
        loaded = self._registry.model(run, epoch)
        # Before the set is opened: scenes that do not fit need not be drawn.
        check_same_keypoints(loaded.model.skeleton, self._registry.sets.skeleton(data), data)
        job.checkpoint()
        indices = self.indices(data)
        # One reading store of its own: pages read the same set meanwhile.
        pose_set = self._registry.sets.apart(data)
        self.folder.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=of_this_process(BUILDING), dir=self.folder))
        try:
            facts = _forward(loaded, pose_set, indices, building, job, progress)
            (building / "facts.json").write_text(json.dumps({**facts, "indices": indices}), encoding="utf-8")
            fresh = Kept.read(building)
            if not fresh.has(options):
                fresh.decode(options, lambda: loaded.model)
            key = self.key(run, epoch, data)
            replace_folder(building, self.folder / key)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        self._open.pop(key, None)
        self._make_room(key)

    def _make_room(self, newest: str) -> None:
        """Drop the oldest raw outputs until the cap holds; the newest stay, and so do all predictions."""
        folders = [p for p in self.folder.iterdir() if (p / "facts.json").is_file()]
        held = []
        for folder in sorted(folders, key=lambda p: p.stat().st_mtime):
            try:
                held.append(Kept.read(folder))
            except ValueError as damaged:
                self._discard(folder, damaged)
        sizes = [kept.output_bytes() for kept in held]
        total = sum(sizes)
        for kept, size in zip(held, sizes, strict=True):
            if total <= self._settings.cache_bytes:
                break
            if kept.folder.name != newest and size:
                kept.drop_outputs()
                total -= size


def _forward(
    loaded: LoadedModel,
    pose_set: PoseSet,
    indices: tuple[int, ...],
    folder: Path,
    job: Job,
    progress: Progress,
) -> dict[str, Any]:
    """Predict and write every array; the facts to keep beside them."""
    from apps.server.whole_images import found_people
    from workbench import evaluation
    from workbench.decoding import decoders_for
    from workbench.evaluation.people import finds_people

    arrays: dict[str, np.memmap] = {}
    places = {index: row for row, index in enumerate(indices)}

    def keep(name: str, rows: list[int], values: np.ndarray) -> None:
        if name not in arrays:
            shape = (len(indices), *values.shape[1:])
            path = folder / f"{name}.npy"
            arrays[name] = np.lib.format.open_memmap(path, mode="w+", dtype=values.dtype, shape=shape)
        arrays[name][rows] = values

    def keep_outputs(samples: list[int], batch: Batch, outputs: Outputs) -> None:
        rows = [places[i] for i in samples]
        # Every bit is kept: another decoder on these arrays gives what it gives on the network's output.
        if outputs.heatmaps is not None:
            keep(HEATMAPS, rows, outputs.heatmaps.numpy())
        elif outputs.simcc is not None:
            keep(SIMCC_X, rows, outputs.simcc[0].numpy())
            keep(SIMCC_Y, rows, outputs.simcc[1].numpy())
        else:
            return
        keep(TO_IMAGE, rows, np.asarray(batch.to_image, np.float64))

    whole = finds_people(loaded.model)
    watched: dict[str, Any] = {"progress": progress, "cancelled": job.cancelled}
    try:
        if whole:
            everybody = found_people(loaded.model, pose_set, indices, **watched)
            predictions, people = everybody.rows, everybody.people
        else:
            people = None
            predictions = evaluation.predict(
                loaded.model,
                pose_set,
                indices=indices,
                batch_size=BATCH,
                keep_outputs=keep_outputs,
                **watched,
            )
    except evaluation.Cancelled as stopped:
        raise Cancelled from stopped
    for array in arrays.values():
        array.flush()
    protocol = evaluation.protocol_of_loaded(loaded)
    predictions.to_parquet(folder / PREDICTIONS, protocol=protocol)
    if people is not None:
        people.to_parquet(folder / PEOPLE, protocol=protocol)
    codec = loaded.model.codec
    size = codec.input_size if codec else getattr(loaded.model, "input_size", (0, 0))
    skeleton = loaded.model.skeleton
    return {
        "judge": {
            "name": skeleton.name,
            "keypoints": skeleton.keypoints,
            "sigmas": skeleton.sigmas,
            "mirror": skeleton.mirror,
            "source": skeleton.source,
        },
        # Maps of whole images are large and of many sizes: the page asks for one when it shows one.
        "kind": "heatmap" if whole or HEATMAPS in arrays else "simcc" if SIMCC_X in arrays else None,
        "whole": whole,
        "decoder": codec.decoder if codec else "",
        "decoders": decoders_for(codec) if codec and arrays else [],
        "input_size": list(size) if isinstance(size, (tuple, list)) else [size, size],
        "udp": bool(codec and codec.udp),
        "split_ratio": codec.split_ratio if codec else 1.0,
    }
