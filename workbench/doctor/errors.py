"""Explanations of error messages: their cause, whether installed versions are to blame, what to do."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MATRICES = re.compile(r"mat1 and mat2 shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)")
_ARGUMENT = re.compile(r"got an unexpected keyword argument '(\w+)'")


@dataclass(frozen=True)
class Explanation:
    """The explanation of an error message.

    Attributes:
        cause: in one or two sentences.
        version: whether installed versions are to blame.
        do: what to do.
    """

    cause: str
    version: bool
    do: str


def explain(message: str) -> Explanation | None:
    """The explanation of an error message; None for an unknown message.

    Args:
        message: as printed, the whole traceback or its last line.
    """
    if found := _MATRICES.search(message):
        return _matrices(*(int(number) for number in found.groups()))
    if found := _ARGUMENT.search(message):
        return _argument(found[1])
    for known in _known():
        if re.search(known["pattern"], message, re.IGNORECASE):
            return Explanation(known["cause"], known["version"], known["do"])
    return None


def _matrices(rows: int, columns: int, width: int, out: int) -> Explanation:
    """Why a [rows, columns] input does not fit a layer with `width` input and `out` output features."""
    layer = f"Linear({width}, {out})"
    height = width // columns if columns and width % columns == 0 else 0
    if height < 2 or rows % height:
        cause = (
            f"{layer} takes {width} features but got {columns}: two parts of different width were "
            "combined, such as the backbone of one model size and the head of another, or the input size "
            "differs from the config."
        )
        do = (
            "Compare in_channels of the head with the output channels of the backbone; "
            "`workbench load FILE --config CFG` lists shapes that differ."
        )
        return Explanation(cause, False, do)
    maps = rows // height
    cause = (
        f"{rows} = {maps}·{height} and {height}·{columns} = {width}: {maps} maps of {height}x{columns} cells "
        f"reached {layer} without being flattened; torch took the last axis alone ({columns}) as features."
    )
    do = (
        f"Flatten the maps before that layer: x.flatten(2) makes [N, {maps}, {height}, {columns}] into "
        f"[N, {maps}, {width}]. mmpose's own RTMCCHead does so; compare the head with it, or use its config "
        "unchanged."
    )
    return Explanation(cause, False, do)


def _argument(key: str) -> Explanation:
    cause = (
        f"A config gives a class the key {key!r}, which it does not take: often a key of another part of the "
        "model (in_channels belongs to the head, not to CSPNeXt), or of another mmpose version."
    )
    do = "`workbench load FILE --config CFG` names every key that does not belong and the nearest that does."
    return Explanation(cause, False, do)


def _known() -> list[dict[str, Any]]:
    # Python 3.10 has no tomllib; tomli is the same under another name.
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return toml.loads(Path(__file__).with_name("errors.toml").read_text(encoding="utf-8"))["error"]
