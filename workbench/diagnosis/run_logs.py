"""The log of a run that is diagnosed, and whether it is that of the checkpoint beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.core import NotAvailable
from workbench.core.finding import Finding
from workbench.core.report import counted
from workbench.diagnosis.case import Case

if TYPE_CHECKING:
    from workbench.checkpoints.checkpoint import Checkpoint
    from workbench.curves import Curves


def curves(case: Case) -> Curves:
    """The curves of the run's log; of the last run, where a text tells of several.

    Raises:
        NotAvailable: there is no log, it is damaged, or it is another run's.
    """
    return logged_runs(case)[-1]


def logged_runs(case: Case) -> tuple[Curves, ...]:
    """All runs of the log: a log of a trainer holds one, a text with tables may compare several.

    Raises:
        NotAvailable: there is no log, it is damaged, or it is another run's.
    """
    from workbench.curves import read_logs

    def read() -> tuple[Curves, ...]:
        folder, logs = case.given.folder, case.given.logs
        if not logs:
            raise NotAvailable("no log was given; add it, or the folder of the run")
        return read_logs(logs, folder.name if folder else logs[0].name if len(logs) == 1 else "the run")

    return case.once("curves", read)


def own_curves(case: Case) -> Curves:
    """The curves, where they are not of another run than the checkpoint.

    Raises:
        NotAvailable: they are.
    """
    found = curves(case)
    if why := contradiction(case):
        raise NotAvailable(why)
    return found


@dataclass(frozen=True)
class LogOrigin:
    """Whether a log is of the run that wrote a checkpoint.

    Attributes:
        run: ``same``, ``other``, or ``unknown`` where nothing that both hold could be compared.
        evidence: one sentence with its figures.
    """

    run: Literal["same", "other", "unknown"]
    evidence: str


def contradiction(case: Case) -> str:
    """Why the log is not this checkpoint's; "" where nothing says so."""
    try:
        origin = log_origin(case)
    except NotAvailable:
        return ""
    return origin.evidence if origin.run == "other" else ""


def log_origin(case: Case) -> LogOrigin:
    """Whether the log is of the checkpoint's run, by the figures and then by the counts that both hold.

    Raises:
        NotAvailable: there is no log, or no checkpoint that opens.
    """

    def compared() -> LogOrigin:
        logged, checkpoint = curves(case), case.checkpoint()
        beside = any(checkpoint.path.parent in log.parents for log in case.given.logs)
        return (
            _by_figures(checkpoint.history.series, logged)
            or _by_counts(checkpoint, logged, beside)
            or (LogOrigin("same", "the log lies in the folder of the checkpoint") if beside else None)
            or LogOrigin(
                "unknown",
                "the checkpoint and the log hold no figure, epoch or iteration that can be compared",
            )
        )

    return case.once("log origin", compared)


def _by_figures(held: Mapping[str, Sequence[float]], logged: Curves) -> LogOrigin | None:
    """By the first validation figure that both hold at least twice."""
    for name, values in held.items():
        series = logged.get(name.partition("/")[2] or name)
        if not name.startswith("val/") or series is None or len(values) < 2 or "time" in name:
            continue
        own = np.array(values, float)
        other = series.finite()[1][: len(own)]
        if len(other) < 2:
            continue
        near = np.isclose(own[: len(other)], other, atol=2e-4)
        if near.mean() < 0.5:
            return LogOrigin(
                "other",
                f"the log is of another run: {name} is {own[-1]:.4g} in the checkpoint and "
                f"{other[-1]:.4g} in the log",
            )
        return LogOrigin("same", f"{name} agrees in {near.mean():.0%} of {len(near)} validations")
    return None


def _by_counts(checkpoint: Checkpoint, logged: Curves, beside: bool) -> LogOrigin | None:
    """By where the log ends, and by how many iterations its epochs have; a text with tables may be a part."""
    from workbench.curves.reading import TEXT

    training = [s for s in logged.series if s.split != "val"]
    if not training or logged.format == TEXT:
        return None
    epochs = np.concatenate([series.epoch for series in training])
    iterations = np.concatenate([series.iteration for series in training])
    for what, rows, own in (
        ("epoch", epochs, checkpoint.epoch),
        ("iteration", iterations, checkpoint.iteration),
    ):
        places = np.unique(rows[np.isfinite(rows)])
        if not own or len(places) < 2:
            continue
        # Loggers write every so many iterations; a log that lies beside the checkpoint may be cut.
        if places[-1] + 2 * float(np.median(np.diff(places))) < own and not beside:
            return LogOrigin(
                "other",
                f"the log is of another run, or cut off: it ends at {what} {places[-1]:g}, and "
                f"{checkpoint.path.name} was written at {what} {own}",
            )
        break
    both = np.isfinite(epochs) & np.isfinite(iterations)
    if not checkpoint.epoch or not checkpoint.iteration or not both.any():
        return None
    epochs, iterations = epochs[both], iterations[both]
    per_epoch = checkpoint.iteration / checkpoint.epoch
    # The epoch of a row is the one that runs or the last finished one, counted from 0 or 1.
    denied = (iterations > (epochs + 1) * per_epoch) | (iterations < (epochs - 2) * per_epoch)
    length = f"an epoch has {counted(per_epoch, 'iteration', spec='g')} in {checkpoint.path.name}"
    if denied.mean() > 0.5:
        return LogOrigin(
            "other",
            f"the log is of another run: {length}, and epoch {epochs[-1]:g} lies at iteration "
            f"{iterations[-1]:g} in the log",
        )
    # Other runs on the same data have as many: this alone shows nothing.
    return None if beside else LogOrigin("unknown", f"{length} and in the log, but no figure stands in both")


def of_this_log(case: Case, finding: Finding) -> Finding:
    """A finding from a log; where nothing shows the log to be of the checkpoint's run, it says so.

    Args:
        case: after the log was read.
        finding: of a cause that reads the log.
    """
    try:
        origin = log_origin(case)
    except NotAvailable:
        return finding
    if origin.run != "unknown":
        return finding
    return dataclasses.replace(
        finding,
        evidence=f"of this log, which nothing shows to be of the checkpoint's run: {finding.evidence}",
        severity="warning" if finding.severity == "error" else finding.severity,
    )
