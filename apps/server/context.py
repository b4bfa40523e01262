"""What the pages share: settings, the objects behind ids, long jobs, computed predictions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.server.comparison import Comparisons, Computing
from apps.server.output_cache import Store
from apps.server.prediction_folders import PredictionFolders
from apps.server.prediction_maps import PredictionMaps
from apps.server.registry import Registry
from apps.server.settings import Settings
from workbench.core.job import JobManager, LruCache, version_of

if TYPE_CHECKING:
    from apps.pages.report_section import Answer
    from workbench.figures.document import Input

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
        reports: key -> function of a section's name and its state, that returns what the section shows;
            pages register it when they are built.
        summaries: key of `reports` -> HTML of what the page says above its sections, for a state; of pages
            that say more there than their sections do.
        titles: path of a page -> its title and question.
    """

    settings: Settings
    registry: Registry
    jobs: JobManager
    store: Store
    computing: Computing
    comparisons: Comparisons
    predictions: PredictionFolders
    prediction_maps: PredictionMaps
    answers: LruCache[list[Any]] = field(default_factory=lambda: LruCache(ANSWERS, _weight, ANSWER_BYTES))
    looks: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(LOOKS_AT_ONCE))
    reports: dict[str, Callable[[str, str], Answer]] = field(default_factory=dict)
    summaries: dict[str, Callable[[str], Sequence[str]]] = field(default_factory=dict)
    titles: dict[str, tuple[str, str]] = field(default_factory=dict)
    _inputs: LruCache[Input] = field(default_factory=lambda: LruCache(500))

    @classmethod
    def of(cls, settings: Settings) -> Context:
        """Everything a serving with these settings needs."""
        registry, jobs = Registry(settings), JobManager()
        store = Store(settings, registry)
        computing = Computing(settings, registry, store, jobs)
        predictions = PredictionFolders(settings, registry, jobs)
        maps = PredictionMaps(predictions, settings, registry, jobs)
        compared = Comparisons(registry, computing)
        return cls(settings, registry, jobs, store, computing, compared, predictions, maps)

    def input_of(self, kind: str, path: Path) -> Input:
        """Name, size and hash of a file that went into a report; hashed once for each version of it."""
        from workbench.figures.document import Input

        return self._inputs.get((kind, *version_of(path)), lambda: Input.of(kind, path))
