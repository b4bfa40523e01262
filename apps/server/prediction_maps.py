"""Heatmaps of folders of predictions: computed from their checkpoints, for one sample when asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from apps.server.comparison import Asked, Unready
from apps.server.encoding import Left
from workbench.core import NotAvailable
from workbench.core.files import sha256_of
from workbench.core.job import Job, JobManager, LruCache, version_of
from workbench.evaluation.manifest import MANIFEST

if TYPE_CHECKING:
    from apps.server.folders import Epoch
    from apps.server.prediction_folders import Opened, PredictionFolders
    from apps.server.registry import Registry
    from apps.server.settings import Settings


class PredictionMaps:
    """What networks left for single samples, where the checkpoints lie below the served folder."""

    def __init__(
        self, folders: PredictionFolders, settings: Settings, registry: Registry, jobs: JobManager
    ) -> None:
        self._folders, self._settings, self._registry, self._jobs = folders, settings, registry, jobs
        self._hashes: LruCache[str] = LruCache(2000)
        self._left: LruCache[Left] = LruCache(64)

    def begin(self, asked: Asked, sample: int, wanted: Sequence[int]) -> dict[str, Any]:
        """Compute what the network leaves for one sample in some epochs.

        Returns:
            ``kind`` and ``ready``, the epochs whose maps are here.

        Raises:
            Unready: they are being computed.
            NotAvailable: an epoch's checkpoint is not below the served folder.
        """
        opened = self._folders.opened(asked)
        epochs = [self._folders.epoch(opened, index) for index in wanted]
        for epoch in epochs:
            self._named(opened, epoch)
        missing = [e for e in epochs if _maps_key(opened, e, sample) not in self._left]
        if not missing:
            maps = [self._left.peek(_maps_key(opened, e, sample)) for e in epochs]
            kinds = {"simcc" if one.maps is None else "heatmap" for one in maps if one is not None}
            return {"kind": min(kinds, default=None), "ready": [e.index for e in epochs]}
        key = f"maps {asked.key} {sample} {','.join(str(e.index) for e in epochs)}"
        last = self._jobs.latest(key)
        if last is not None and last.state == "failed":
            self._jobs.start(
                key, last.title, lambda job: self._forward(job, asked, sample, missing), listed=True
            )
            raise ValueError(last.error or "the heatmaps could not be computed")
        names = ", ".join(e.label for e in missing)
        job = self._jobs.start(
            key, f"heatmaps of {names}", lambda job: self._forward(job, asked, sample, missing),
            self._settings.device, listed=True,
        )  # fmt: skip
        raise Unready(job.facts())

    def _forward(self, job: Job, asked: Asked, sample: int, epochs: Sequence[Epoch]) -> None:
        opened = self._folders.opened(asked)
        for done, epoch in enumerate(epochs):
            job.progress(done, len(epochs))
            job.checkpoint()
            run, index = self._checkpoint(opened, epoch)
            found = self._registry.sets.sample(asked.data, sample)
            subject = self._registry.sets.sample_key(asked.data, sample)
            left = Left.of_run(self._registry.passed(run, index, [found], subject, data=asked.data))
            self._left.get(_maps_key(opened, epoch, sample), lambda left=left: left)
        job.progress(len(epochs), len(epochs))

    def left(self, asked: Asked, index: int, sample: int) -> Left:
        """What the network left for one sample in one epoch, computed before.

        Raises:
            LookupError: it is not computed, or no longer kept.
        """
        opened = self._folders.opened(asked)
        found = self._left.peek(_maps_key(opened, self._folders.epoch(opened, index), sample))
        if found is None:
            raise LookupError("this heatmap is not computed; POST to compare/maps computes it")
        return found

    def _named(self, opened: Opened, epoch: Epoch) -> tuple[str, str]:
        """File name and hash of an epoch's checkpoint, as the manifest has them."""
        named = (opened.folder.checkpoints or {}).get(epoch.epoch or 0)
        if named is None:
            raise NotAvailable(
                f"heatmaps of {epoch.label}: only predictions are here, {MANIFEST} names no checkpoint of it"
            )
        if not self._candidates(named[0]):
            raise NotAvailable(
                f"heatmaps of {epoch.label}: only predictions are here; its checkpoint {named[0]} is not "
                "below the served folder"
            )
        return named

    def _candidates(self, name: str) -> list[tuple[str, int]]:
        """Run and index of every served checkpoint of a name."""
        return [(r.id, e.index) for r in self._registry.runs() for e in r.epochs if e.path.name == name]

    def _checkpoint(self, opened: Opened, epoch: Epoch) -> tuple[str, int]:
        """The checkpoint that made an epoch's predictions, known by its hash."""
        name, digest = self._named(opened, epoch)
        for run, index in self._candidates(name):
            path = self._registry.epoch(run, index).path
            if self._hashes.get(version_of(path), lambda path=path: sha256_of(path)) == digest:
                return run, index
        raise NotAvailable(
            f"heatmaps of {epoch.label}: {name} is here with other content than the checkpoint that made "
            "these predictions (another SHA-256)"
        )


def _maps_key(opened: Opened, epoch: Epoch, sample: int) -> tuple[str, int, int]:
    return opened.version, epoch.index, sample
