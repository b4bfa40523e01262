"""What the pages share: settings, the objects behind ids, long jobs, computed predictions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from apps.server.comparison import Comparisons, Computing
from apps.server.output_cache import Store
from apps.server.prediction_folders import PredictionFolders
from apps.server.registry import Registry
from apps.server.settings import Settings
from workbench.core.job import JobManager, LruCache

ANSWERS, ANSWER_BYTES = 500, 128 << 20
"""Answers of pages that are kept, and how much of them."""

# More at a time take longer each: a forward pass uses all cores.
LOOKS_AT_ONCE = 2


def _weight(answer: list[Any]) -> int:
    """Bytes of an answer, its figure first."""
    return len(str(answer))


@dataclass(frozen=True, eq=False)
class Context:
    """One serving of the workbench.

    Attributes:
        answers: of the inspectors' pages, by what they were asked with.
        looks: held while one of them is computed.
        downloads: page -> function of section, "csv" or "json" and the page's state, that returns the file's
            text; pages register it when they are built.
    """

    settings: Settings
    registry: Registry
    jobs: JobManager
    store: Store
    computing: Computing
    comparisons: Comparisons
    predictions: PredictionFolders
    answers: LruCache[list[Any]] = field(default_factory=lambda: LruCache(ANSWERS, _weight, ANSWER_BYTES))
    looks: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(LOOKS_AT_ONCE))
    downloads: dict[str, Callable[[str, str, str], str]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Context:
        """Everything a serving with these settings needs."""
        registry, jobs = Registry(settings), JobManager()
        store = Store(settings, registry)
        computing = Computing(settings, registry, store, jobs)
        predictions = PredictionFolders(settings, registry, jobs)
        return cls(settings, registry, jobs, store, computing, Comparisons(registry, computing), predictions)
