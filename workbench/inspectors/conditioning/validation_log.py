"""What did a trainer's own validation say, epoch by epoch? AP and AR out of the logs in a run's folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from workbench.core import NotAvailable
from workbench.inspectors.conditioning.training_log import Curve

# A printed line: "Epoch(val) [10][34/34]  coco/AP: 0.0805  coco/AP .5: ...  coco/AR: ..."; mmcv 0.x alike.
_EPOCH = re.compile(r"Epoch\(val\)\s*\[(\d{1,9})\]")
_FIGURE = re.compile(r"(?:^|[\s/,])(AP|AR): (-?\d{1,20}(?:\.\d{0,30})?(?:e[+-]?\d{1,3})?)(?![\w.])")
# A run of 10,000 epochs that prints every iteration leaves less.
_SIZE = 256 << 20
_LINE = 20_000


def curve_of(folder: Path, title: str = "") -> Curve:
    """AP and AR by epoch of a run, from all logs in its folder; of an epoch logged twice the later counts.

    Args:
        folder: of a run: mmengine's work_dir, with a dated folder for each start, or one with vis_data/.
        title: of the run; the folder's name by default.

    Raises:
        FileNotFoundError: no such folder.
        NotAvailable: no log, or none that holds AP and AR.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"curves: no folder {folder}")
    logs = logs_of(folder)
    if not logs:
        raise NotAvailable(
            f"no log lies beside the checkpoints of {title or folder.name}: expected vis_data/scalars.json "
            "or a .log, there or in a folder below"
        )
    return read_validation(logs, title or folder.resolve().name)


def read_validation(logs: Path | Sequence[Path], title: str = "") -> Curve:
    """AP and AR by epoch of mmengine's or mmcv's logs.

    Args:
        logs: JSON lines (``vis_data/scalars.json``), or the text that the trainer prints (``.log``); of an
            epoch in two of them the later one counts.
        title: of the run; the folder's name by default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is no JSON.
        NotAvailable: no line holds AP and AR.
    """
    files = [logs] if isinstance(logs, Path) else list(logs)
    found: dict[float, tuple[float, float]] = {}
    for path in files:
        if path.stat().st_size > _SIZE:
            raise ValueError(f"{path.name}: a log of more than {_SIZE >> 20} MB is refused")
        text = path.read_text(encoding="utf-8", errors="replace")
        found |= dict(_told_in_words(text) if path.suffix == ".log" else _told_in_json(text, path.name))
    if not found:
        raise NotAvailable(f"{files[-1].name}: no line holds AP and AR, so there are no curves")
    epochs, pairs = zip(*sorted(found.items()), strict=True)
    ap, ar = np.array(pairs, float).T
    return Curve(title or files[-1].parent.name, np.array(epochs, float), ap, ar)


def _told_in_json(text: str, file: str) -> Iterator[tuple[float, tuple[float, float]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, nested without end
            raise ValueError(f"{file}, line {number}: expected a JSON object per line") from None
        if not isinstance(told, dict):
            raise ValueError(f"{file}, line {number}: expected a JSON object per line")
        # mmengine puts the evaluator's prefix before the name ("coco/AP"), mmcv 0.x nothing.
        by_name = {name.rpartition("/")[2]: value for name, value in told.items()}
        # mmengine: validation rows count epochs in `step`; mmcv 0.x has "epoch".
        epoch, ap, ar = by_name.get("step", by_name.get("epoch")), by_name.get("AP"), by_name.get("AR")
        if _is_figure(epoch) and _is_figure(ap) and _is_figure(ar):
            yield float(epoch), (float(ap), float(ar))


def _is_figure(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number; a validation that failed logs nan."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _told_in_words(text: str) -> Iterator[tuple[float, tuple[float, float]]]:
    for line in text.splitlines():
        # Where a line is longer than any that a trainer prints, the rest of it is left alone.
        epoch = _EPOCH.search(line[:_LINE])
        figures = {name: float(value) for name, value in _FIGURE.findall(line[:_LINE])}
        if epoch and {"AP", "AR"} <= set(figures):
            yield float(epoch[1]), (figures["AP"], figures["AR"])


def logs_of(folder: Path) -> tuple[Path, ...]:
    """The logs beside a run's checkpoints, in the order of their starts; empty without one.

    Where a start left JSON lines its printed text, which says the same, is left out.
    """
    found: list[Path] = []
    starts = sorted(p for p in folder.iterdir() if p.is_dir() and p.name != "vis_data")
    for start in (folder, *starts):
        kept = sorted(start.glob("vis_data/*.json"))
        # mmengine writes everything into scalars.json and repeats the training rows in a dated file.
        whole = [path for path in kept if path.name == "scalars.json"] or kept
        found += whole or sorted((*start.glob("*.log.json"), *start.glob("*.log")))[-1:]
    return tuple(found)
