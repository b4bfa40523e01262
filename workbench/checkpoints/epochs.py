"""In what order do checkpoints come? Epochs by number, as training wrote them; the best and last behind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

INDEX_ENDING = ".index.json"
"""Of a file that names the parts of one model."""

_NUMBER = re.compile(r"(?<![a-z])(?P<unit>epoch|ep|iter|step)[-_=]?(?P<number>\d+)", re.IGNORECASE)


def name_of(path: Path) -> str:
    """What a checkpoint is called without its endings; ``epoch_5`` of ``epoch_5.safetensors.index.json``."""
    if path.name.endswith(INDEX_ENDING):
        return Path(path.name.removesuffix(INDEX_ENDING)).stem
    return path.stem


def epoch_of(path: Path) -> tuple[int | None, str]:
    """Number and label that a checkpoint's file name tells."""
    name = name_of(path)
    found = _NUMBER.search(name)
    if found is None:
        trailing = re.fullmatch(r"(\d+)|.*?[-_.](\d+)", name)
        number = int(trailing.group(1) or trailing.group(2)) if trailing else None
        return number, name.replace("_", " ")
    number = int(found["number"])
    label = f"{_unit(found)} {number}"
    return number, f"best, {label}" if name.lower().startswith("best") else label


def training_order(paths: Iterable[Path]) -> list[Path]:
    """The files by the number in their names: epoch_5 before epoch_40.

    Epochs come before iterations and steps, which count something else; ``best_*``, ``last`` and the like,
    and files without a number, come behind the others.

    Example:
        >>> files = ["epoch_40.pth", "best_epoch_3.pth", "epoch_5.pth"]
        >>> [path.name for path in training_order(map(Path, files))]
        ['epoch_5.pth', 'epoch_40.pth', 'best_epoch_3.pth']
    """
    return sorted(paths, key=_order)


def as_typed(paths: Iterable[Path]) -> list[Path]:
    """Files of a command line: in the order given, unless a shell made it.

    A shell puts what a pattern matches in text order, epoch_40 before epoch_5. Files of one folder that came
    in that order are put in the order of training.
    """
    given = list(paths)
    by_text = sorted(given, key=lambda path: path.name)
    if len({path.parent for path in given}) == 1 and given == by_text:
        return training_order(given)
    return given


def _order(path: Path) -> tuple[bool, bool, str, int, str]:
    number, _ = epoch_of(path)
    behind = name_of(path).lower().startswith(("best", "last", "latest", "final"))
    found = _NUMBER.search(name_of(path))
    return behind, number is None, _unit(found) if found else "", number or 0, path.name


def _unit(found: re.Match[str]) -> str:
    return "epoch" if found["unit"].lower() in ("epoch", "ep") else found["unit"].lower()
