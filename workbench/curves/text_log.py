"""What mmengine (1.x) and mmcv (0.x) print: ``Epoch(val)  [10][34/34]    coco/AP: 0.0805  coco/AR: 0.2``."""

from __future__ import annotations

import re
from dataclasses import replace

from workbench.curves.quantities import Split
from workbench.curves.rows import NAN, Row, Rows
from workbench.curves.source import Source
from workbench.curves.table import Log

_PLACE = re.compile(
    r"(?P<what>Epoch|Iter)\((?P<split>train|val)\)\s*\[\s*(?P<a>\d{1,9})(?:/\s*\d{1,9})?\]"
    r"(?:\s*\[\s*(?P<b>\d{1,9})(?:/\s*(?P<n>\d{1,9}))?\])?"
    r"|(?P<old>Epoch)\s*\[(?P<c>\d{1,9})\]\[(?P<d>\d{1,9})/(?P<m>\d{1,9})\]"
)
# "lr: 4.0e-03", "coco/AP .5: 0.261", "AP (M): -1.0"; a clock time and a word are no figures.
_FIGURE = re.compile(
    r"(?:^|[\s,])([A-Za-z_][\w/.@()-]{0,80}(?: \.\d{1,3}| \([A-Z]{1,3}\))?): "
    r"(-?\d{1,20}(?:\.\d{0,30})?(?:e[+-]?\d{1,3})?|nan|-?inf)(?![\w.:])"
)
# Where a line is longer than any that a trainer prints, the rest of it is left alone.
_LINE = 20_000
_HEAD = re.compile(rb"Epoch\((train|val)\)|Iter\((train|val)\)|Epoch \[\d|- mm(engine|pose|det|cv)[\w.]* - ")
_DROPPED = {"eta"}


def is_text_log(head: bytes, name: str) -> bool:
    """Whether lines of a trainer's console stand in it."""
    return _HEAD.search(head) is not None


def read_text_log(source: Source) -> Log:
    """The rows of a printed log; every line without figures of an epoch is text and passed over.

    Raises:
        ValueError: the file or a line is larger than any log's.
    """
    rows = Rows(source.name)
    for number, line, whole in source.lines():
        place = _PLACE.search(line[:_LINE])
        if place is None:
            continue
        figures = list(_FIGURE.finditer(line, place.end(), _LINE))
        source.budget.make(1 + len(figures))
        source.good += 1
        if not whole and figures and figures[-1].end() == len(line):
            source.cut_number(number, figures.pop()[1])
        elif not whole:
            source.note(f"line {number}, the last one, is cut off: what is not whole of it is left out")
        values = {found[1]: float(found[2]) for found in figures if found[1] not in _DROPPED}
        if values:
            rows.add(replace(_row(place, values), line=number))
    return Log(rows, tuple(source.notes))


def _row(place: re.Match[str], values: dict[str, float]) -> Row:
    if place["old"]:
        epoch, within, length = float(place["c"]), float(place["d"]), float(place["m"])
        return Row(values, epoch, (epoch - 1) * length + within, split="train")
    split: Split = "train" if place["split"] == "train" else "val"
    if place["what"] == "Iter":
        return Row(values, iteration=float(place["a"]), split=split)
    epoch = float(place["a"])
    if split == "val" or place["b"] is None or place["n"] is None:
        return Row(values, epoch, split=split)
    length = float(place["n"])
    return Row(values, epoch, (epoch - 1) * length + float(place["b"]) if length else NAN, split=split)
