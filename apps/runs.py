"""Which folders hold a training run's checkpoints, and in what order do its epochs come?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.checkpoints.checkpoint_files import epoch_of, training_order

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".onnx", ".pt2", ".tflite")
"""Endings of files that workbench.checkpoints opens."""

DEPTH = 4
"""Folders below the root that are searched: work_dirs/config/date/checkpoints is three."""


@dataclass(frozen=True)
class Epoch:
    """One checkpoint of a run.

    Attributes:
        index: position in the run.
        epoch: number in the file's name; None where it has none (``best.pth``).
        label: what a person reads: ``epoch 5``, ``best, epoch 180``.
        path: the file.
    """

    index: int
    epoch: int | None
    label: str
    path: Path


@dataclass(frozen=True)
class RunFolder:
    """A folder of checkpoints.

    Attributes:
        id: path below the served root; ``.`` for the root itself.
        title: what a person reads.
        folder: where it lies.
        epochs: in training order; ``best_*`` and files without a number last.
    """

    id: str
    title: str
    folder: Path
    epochs: tuple[Epoch, ...]


def epochs_in(folder: Path, root: Path) -> tuple[Epoch, ...]:
    """The checkpoints of one folder, in training order; links that lead out of the root are left out."""
    files = [
        p
        for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and p.is_file() and p.resolve().is_relative_to(root)
    ]

    return tuple(Epoch(i, *epoch_of(path), path) for i, path in enumerate(training_order(files)))


def folders_below(root: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The root and folders below it, sorted, hidden ones left out; links are not followed."""
    for here, names, _ in os.walk(root):
        level = len(Path(here).relative_to(root).parts)
        names[:] = sorted(n for n in names if not n.startswith((".", "__"))) if level < depth else []
        yield Path(here)


def runs_below(root: Path, prefix: str = "") -> tuple[RunFolder, ...]:
    """All run folders below a root, ids beginning with `prefix`."""
    found, root = [], root.resolve()
    for folder in folders_below(root):
        if epochs := epochs_in(folder, root):
            below = folder.relative_to(root).as_posix()
            title = root.name if below == "." else below
            found.append(RunFolder(prefix + below, title, folder, epochs))
    return tuple(found)
