"""A sweep under way: what is finished, what is gathered, what is still to be predicted."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.files import csv_text, write_text
from workbench.evaluation.epoch_scores import truth_digest
from workbench.evaluation.evaluate import truth_of
from workbench.evaluation.manifest import write_manifest
from workbench.evaluation.predictions import read_predictions
from workbench.evaluation.sweeps.blocks import Block, Failed, Opened
from workbench.evaluation.sweeps.folder import FIGURES, TABLE, UNFINISHED, UnitWriter
from workbench.evaluation.sweeps.plan import FailedCheckpoint
from workbench.evaluation.sweeps.report import SweepReport
from workbench.evaluation.sweeps.rules import checkpoint_sha256, origin_of_unit

if TYPE_CHECKING:
    from workbench.evaluation.sweeps.blocks import Event, Unit
    from workbench.evaluation.sweeps.folder import SweepFolder
    from workbench.evaluation.sweeps.plan import Plan
    from workbench.evaluation.sweeps.rules import SweepRules, SweepSource


@dataclass
class SweepState:
    """A sweep under way.

    Attributes:
        plan: what is to be done.
        folder: where it is written.
        progress: called with (done, total) rows of this call.
        rows: of the table so far.
        failed: checkpoints that were passed over.
        waiting: checkpoints that are not finished.
        hashes: SHA-256 of the checkpoints, by title; of those that are finished or begun.
        resumed: checkpoints that an earlier call had finished.
    """

    plan: Plan
    folder: SweepFolder
    progress: Callable[[int, int], None] | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[FailedCheckpoint] = field(default_factory=list)
    waiting: list[Unit] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    resumed: int = 0
    _writers: dict[str, UnitWriter] = field(default_factory=dict)
    _done: int = 0

    @property
    def names(self) -> list[str]:
        """Of the variants."""
        return [variant.name for variant in self.plan.variants]

    def look(self) -> None:
        """Find out what an earlier call has finished."""
        self.failed += self.plan.failed
        for unit in self.plan.units:
            # Only a checkpoint that may be finished is hashed now: its file may be large.
            written = all(self.folder.file(n, unit).is_file() for n in range(len(self.names)))
            rows = self.folder.finished(unit, self._origins(unit)) if written else None
            if rows is None:
                self.waiting.append(unit)
            else:
                self.rows += rows
                self.resumed += 1
        self._tell()

    def _origins(self, unit: Unit) -> list[str]:
        sha256 = self._hash(unit)
        return [origin_of_unit(self.plan.identity, sha256, name) for name in self.names]

    def _hash(self, unit: Unit) -> str:
        if unit.title not in self.hashes:
            self.hashes[unit.title] = checkpoint_sha256(Path(unit.path))
        return self.hashes[unit.title]

    def begin(self, unit: Unit) -> int:
        """Prepare to take a checkpoint's blocks; rows that are there already, in memory or on disk."""
        if unit.title not in self._writers:
            origin = origin_of_unit(self.plan.identity, self._hash(unit), "")
            writer = UnitWriter(self.folder, unit, origin, self._origins(unit))
            self._writers[unit.title] = writer
            self._done += writer.rows
        return self._writers[unit.title].rows

    def take(self, unit: Unit, event: Event, rules: SweepRules) -> None:
        """Take what a worker says of a checkpoint; when its last row is there, write its files.

        Args:
            unit: the checkpoint.
            event: what the worker says.
            rules: of the sweep.
        """
        writer = self._writers[unit.title]
        if isinstance(event, Failed):
            self.failed.append(FailedCheckpoint(Path(unit.path).name, event.reason))
            self._done += self.plan.rows - writer.rows
            self._end(unit)
            return
        if isinstance(event, Opened):
            writer.opened = event
        elif isinstance(event, Block):
            writer.add(event)
            self._done += event.last - event.first
        self._tell()
        if writer.opened is not None and writer.rows == writer.opened.rows:
            counting = rules.counting(len(self.plan.truth.skeleton))
            self.rows += writer.finish(
                self.plan.truth, self.plan.counted, counting["sigmas"], counting["max_dets"]
            )
            self._end(unit)

    def _end(self, unit: Unit) -> None:
        del self._writers[unit.title]
        self.waiting.remove(unit)
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            total = self.plan.rows * (len(self.plan.units) - self.resumed)
            self.progress(min(self._done, total), total)

    def flush(self) -> None:
        """Write the rows of unfinished checkpoints."""
        for writer in self._writers.values():
            writer.flush()

    def _protocol(self, finished: Container[str]) -> str:
        """The reference's rules in words, as the first finished file states them."""
        done = next((unit for unit in self.plan.units if unit.title in finished), None)
        found = None if done is None else read_predictions(self.folder.file(0, done))[1]
        return "" if found is None else found.text()

    def report(self, source: SweepSource, seconds: float) -> SweepReport:
        """Write table and manifests; the report.

        Args:
            source: run and data.
            seconds: that the sweep took.
        """
        order = {unit.title: n for n, unit in enumerate(self.plan.units)}
        variants = {name: n for n, name in enumerate(self.names)}
        rows = sorted(self.rows, key=lambda row: (order[row["checkpoint"]], variants[row["variant"]]))
        report = SweepReport(
            run=Path(source.run).name,
            data=self.plan.truth.name,
            variants=tuple(self.names),
            rows=tuple(rows),
            failed=tuple(self.failed),
            resumed=self.resumed,
            seconds=seconds,
            folder=str(self.folder.root),
            protocol=self._protocol({row["checkpoint"] for row in rows}),
        )
        write_text(self.folder.root / TABLE, csv_text(report.wide_table(), end="\n"), follow=False)
        truth = truth_digest(truth_of(self.plan.truth, self.plan.area_rule))
        paths = {unit.title: Path(unit.path).name for unit in self.plan.units}
        for name, place in zip(self.names, self.folder.folders, strict=True):
            about = [
                {
                    "epoch": row["epoch"],
                    "checkpoint": paths[row["checkpoint"]],
                    "checkpoint_sha256": self.hashes[row["checkpoint"]],
                    "variant": name,
                    FIGURES: {k: v for k, v in row.items() if k not in ("epoch", "checkpoint", "variant")},
                }
                for row in rows
                if row["variant"] == name
            ]
            write_manifest(place, self.plan.truth.name, about, truth=truth)
        left = self.folder.root / UNFINISHED
        if left.is_dir() and not any(left.iterdir()):
            left.rmdir()
        return report
