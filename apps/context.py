"""What the pages share: settings, the objects behind ids, long jobs, computed predictions."""

from __future__ import annotations

from dataclasses import dataclass

from apps.comparison import Comparisons
from apps.computing import Computing
from apps.jobs import JobManager
from apps.registry import Registry
from apps.settings import Settings
from apps.store import Store


@dataclass(frozen=True, eq=False)
class Context:
    """One serving of the workbench."""

    settings: Settings
    registry: Registry
    jobs: JobManager
    store: Store
    computing: Computing
    comparisons: Comparisons

    @classmethod
    def of(cls, settings: Settings) -> Context:
        """Everything a serving with these settings needs."""
        registry, jobs = Registry(settings), JobManager()
        store = Store(settings, registry)
        computing = Computing(settings, registry, store, jobs)
        return cls(settings, registry, jobs, store, computing, Comparisons(registry, computing))
