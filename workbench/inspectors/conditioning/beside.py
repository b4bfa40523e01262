"""What the files beside a checkpoint tell: an earlier epoch, the common start, and the base run's epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.config_text import read_config
from workbench.inspectors.conditioning.weights import (
    AveragedAndRaw,
    Progress,
    averaged_and_raw,
    gain_of_average,
    progress,
)

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint
    from workbench.data.pose_set import PoseSet
    from workbench.inspectors.conditioning.findings import Finding
    from workbench.models import LoadedModel


@dataclass(frozen=True, eq=False)
class Beside:
    """What is known from other files.

    Attributes:
        progress: movement from the common start against the base run; None where a file is missing.
        averages: averaged and raw weights; None where the file has not both.
        missing: question -> why it could not be asked.
    """

    progress: Progress | None = None
    averages: AveragedAndRaw | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """What the files show to be wrong."""
        told = [report.finding() for report in (self.progress, self.averages) if report is not None]
        return [finding for finding in told if finding is not None]


def beside(
    own: Checkpoint | None,
    epochs: Sequence[Path] = (),
    base: Sequence[Path] = (),
    start: Path | None = None,
) -> Beside:
    """Look into the files beside a checkpoint.

    Args:
        own: the checkpoint that is looked at; None without a file.
        epochs: of its run, in their order.
        base: epochs of the base run, in their order; none without one.
        start: of both runs; by default what their configs load.

    Raises:
        FileNotFoundError: no such start.
    """
    if own is None:
        return Beside()
    if start is not None and not start.is_file():
        raise FileNotFoundError(f"--start: no file {start}")
    named = start or _loaded_first(own)
    found = _averages(own, epochs, named)
    if not base:
        return found
    if named is None:
        why = (
            "how far the head moved: the common start of both runs is not at hand (load_from of the config "
            f"is {_load_from(own) or 'not said'}); name it with --start FILE"
        )
        return dataclasses.replace(found, missing={**found.missing, "head": why})
    try:
        moved = progress(open_checkpoint(named), own, _as_old(own, base))
    except (ValueError, OSError) as error:
        return dataclasses.replace(
            found, missing={**found.missing, "head": f"how far the head moved: {error}"}
        )
    return dataclasses.replace(found, progress=moved)


def _averages(own: Checkpoint, epochs: Sequence[Path], named: Path | None) -> Beside:
    """What the two sets of weights of a file look like from an earlier epoch, or else from the start."""
    if not own.averages.averaged or not own.averages.raw:
        return Beside()
    place = own.path.resolve()
    before = [path for path in epochs if path.resolve() != place]
    try:
        earlier = _earlier(own, before) or ([open_checkpoint(named)] if named is not None else [])
        return Beside(averages=averaged_and_raw(own, earlier))
    except (ValueError, OSError) as error:
        return Beside(missing={"averages": f"averaged and raw weights: {error}"})


def measured(found: Beside, loaded: LoadedModel, pose_set: PoseSet, indices: Sequence[int]) -> Beside:
    """The same with what averaged and raw weights give on a data set, where the file has both."""
    if found.averages is None or not found.averages.differ:
        return found
    gain = gain_of_average(loaded, pose_set, indices)
    return dataclasses.replace(found, averages=dataclasses.replace(found.averages, gain=gain))


def _earlier(own: Checkpoint, others: Sequence[Path]) -> list[Checkpoint]:
    """The first and the last of the run's checkpoints that are older than this one."""
    if own.epoch is None:
        return []
    opened = [open_checkpoint(path) for path in others]
    older = [one for one in opened if one.epoch is not None and one.epoch < own.epoch]
    return older if len(older) < 2 else [older[0], older[-1]]


def _as_old(own: Checkpoint, base: Sequence[Path]) -> Checkpoint:
    """The base run's checkpoint of the same epoch, else its last."""
    last = open_checkpoint(base[-1])
    if own.epoch is None or last.epoch == own.epoch:
        return last
    opened = (open_checkpoint(path) for path in base[:-1])
    return next((checkpoint for checkpoint in opened if checkpoint.epoch == own.epoch), last)


def _load_from(own: Checkpoint) -> str:
    """The file that training started from, as the config inside the checkpoint says; "" for none."""
    if own.config_text is None:
        return ""
    try:
        return str(read_config(own.config_text).get("load_from") or "")
    except ValueError:
        return ""  # a config that is not read says nothing; opening the model has its own way


def _loaded_first(own: Checkpoint) -> Path | None:
    """That file, below the checkpoint's folder or the present one; None where it is not there."""
    named = Path(_load_from(own))
    if not named.name or named.is_absolute() or ".." in named.parts:
        return None
    for folder in (own.path.resolve().parent, Path.cwd()):
        found = (folder / named).resolve()
        if found.is_file() and found.is_relative_to(folder.resolve()):
            return found
    return None
