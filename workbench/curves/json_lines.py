"""Logs as JSON: a line per object (mmengine's scalars.json, mmcv 0.x, any JSONL), or one document.

A document is a list of objects, an object with such a list (``log_history`` of transformers'
trainer_state.json), or a list of numbers by name (``history`` of Keras).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from workbench.checkpoints.budget import LIMITS
from workbench.curves.quantities import Split, is_coco, role_of
from workbench.curves.source import Source, as_number
from workbench.curves.table import NAN, Log, Row

# What counts in a plain log, most exact first.
EPOCHS = ("epoch", "epochs", "ep", "current_epoch")
ITERATIONS = (
    "trainer/global_step",
    "global_step",
    "iteration",
    "iter",
    "iters",
    "step",
    "steps",
    "it",
    "_step",
    "batch",
)
# A file of lines may be longer: it is read line by line. Values of a document take 26 times as many bytes.
MOST_DOCUMENT = LIMITS.header
# Characters of a name. A long one before many others would be made again for each of them.
_NAME = 200
# Book-keeping that is no curve.
_DROPPED = {"mode", "epoch", "iter", "step", "_timestamp", "_runtime", "_wandb"}
# Other trainers than mmengine and mmcv name the split so.
_SPLIT_KEYS = {"split", "phase", "stage"}
_OBJECT = re.compile(rb'^\s*(\[\s*)?\{\s*("|\})')


def is_json_lines(head: bytes, name: str) -> bool:
    """Whether a JSON object or a list of them begins, or the name says so."""
    return _OBJECT.match(head) is not None or name.lower().endswith((".json", ".jsonl"))


def read_json_lines(source: Source) -> Log:
    """The rows of a file of JSON lines.

    mmengine counts epochs in ``step`` of its validation rows, which have no ``epoch``; its training rows have
    epoch, iteration in the epoch, and ``step``. mmcv 0.x says ``mode``, and counts ``iter`` within an epoch.

    Raises:
        ValueError: no line, or too many lines, hold no JSON object.
    """
    document = _document(source)
    if document is not None:
        return Log(list(plain_rows(document, source)), tuple(source.notes))
    numbered = [(number, one) for number, one in _objects(source) if one]
    lines, objects = [number for number, _ in numbered], [one for _, one in numbered]
    if any("mode" in one and "epoch" in one for one in objects[:50]):
        rows: Iterable[Row | None] = _of_mmcv(objects)
    elif _by_mmengine(objects, source.name):
        rows = _of_mmengine(objects, source)
    else:
        rows = plain_rows(objects, source)
    return Log(at_lines(rows, lines), tuple(source.notes))


def _document(source: Source) -> list[dict[str, Any]] | None:
    """The rows of a file that is one JSON document; None of a file of lines, or of no log."""
    text = source.text
    if text is None:
        with source.path.open("rb") as file:
            raw = file.read(MOST_DOCUMENT + 1)
        if len(raw) > MOST_DOCUMENT:
            return None
        text = raw.decode("utf-8-sig", errors="replace")
    try:
        found = json.loads(text)  # of a file of lines it stops after the first one
    except (ValueError, RecursionError):
        return None
    inside = found
    if isinstance(found, dict):
        inside = next(
            (found[name] for name in ("log_history", "history", "logs", "log") if name in found), found
        )
    if isinstance(inside, dict):
        inside = _of_lists(inside)
    if not isinstance(inside, list) or not inside or not all(isinstance(one, dict) for one in inside):
        return None
    # Annotations and results are lists of objects too, and count neither epochs nor iterations.
    counts = any({str(name).strip().lower() for name in one} & {*EPOCHS, *ITERATIONS} for one in inside)
    if not counts and inside is not found:
        counts = any(role_of(name) in ("loss", "metric", "error") for name in inside[0])
    if not counts:
        return None
    source.budget.make(sum(len(one) for one in inside))
    return [dict(_flat(one, source)) for one in inside]


def _of_lists(columns: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Rows of lists of one length by name; None of anything else."""
    lists = {name: values for name, values in columns.items() if isinstance(values, list) and values}
    if not lists or len(lists) < len(columns) or len({len(values) for values in lists.values()}) > 1:
        return None
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def at_lines(rows: Iterable[Row | None], lines: Iterable[int]) -> list[Row]:
    """The rows with the numbers of their lines; None is a line without figures."""
    return [replace(row, line=line) for row, line in zip(rows, lines, strict=True) if row is not None]


def _objects(source: Source) -> Iterable[tuple[int, Mapping[str, Any]]]:
    for number, line, whole in source.lines():
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, nested without end
            found = None
        if isinstance(found, dict):
            source.budget.make(len(found))
            source.good += 1
            yield number, dict(_flat(found, source))
        else:
            source.broken_line(number, "expected a JSON object per line", whole)


def _flat(one: Mapping[str, Any], source: Source, depth: int = 3) -> Iterator[tuple[str, Any]]:
    """Objects inside as names of several parts: ``{"loss": {"x": 1}}`` is ``loss/x``."""
    for name, value in one.items():
        if isinstance(value, dict) and depth:
            source.budget.make(len(value))
            yield from ((name_of(name, inner), v) for inner, v in _flat(value, source, depth - 1))
        else:
            yield name[:_NAME], figure_of(value)


def name_of(outer: str, inner: str) -> str:
    """Two parts of a name as one, without what no name has behind its first characters."""
    return f"{outer[:_NAME]}/{inner[:_NAME]}"[:_NAME]


def figure_of(value: Any) -> Any:
    """A number, or a text that may be one; None for what no row needs: lists, objects, long texts.

    All rows of a log are in memory together.
    """
    if isinstance(value, str):
        return value if len(value) <= _NAME else None
    return value if isinstance(value, (int, float)) else None


def _numbers(one: Mapping[str, Any]) -> dict[str, float]:
    return {
        name[:_NAME]: value
        for name, raw in one.items()
        if name not in _DROPPED and (value := as_number(raw)) is not None
    }


def _place(one: Mapping[str, Any], *names: str) -> float:
    for name in names:
        value = as_number(one.get(name))
        # A place is compared and counted with: nan and infinity are none.
        if value is not None and math.isfinite(value) and value >= 0:
            return value
    return NAN


def _of_mmcv(objects: list[Mapping[str, Any]]) -> Iterator[Row | None]:
    """Rows of mmcv 0.x; None for its first line, which describes the machine.

    The log does not say how many iterations an epoch has: here it has as many as its last row says, which
    lies less than one logging interval before the epoch's end.
    """
    training = [one for one in objects if one.get("mode") == "train"]
    length = max((_place(one, "iter") for one in training if "iter" in one), default=NAN)
    for one in objects:
        if one.get("mode") not in ("train", "val"):
            yield None
            continue
        split: Split = "train" if one["mode"] == "train" else "val"
        epoch = _place(one, "epoch")
        # In validation `iter` is the number of batches of the validation set.
        within = _place(one, "iter") if split == "train" else NAN
        yield Row(_numbers(one), epoch, (epoch - 1) * length + within, split=split)


def _by_mmengine(objects: list[Mapping[str, Any]], name: str) -> bool:
    if name == "scalars.json":
        return True
    rows = [one for one in objects[:1000] if not _SPLIT_KEYS & one.keys()]
    training = any({"epoch", "iter", "step"} <= one.keys() for one in rows)
    validation = any(
        "step" in one and "epoch" not in one and any("/" in key and is_coco(key) for key in one)
        for one in rows
    )
    return training or validation


def _of_mmengine(objects: list[Mapping[str, Any]], source: Source) -> list[Row]:
    last_epoch = max((_place(one, "epoch") for one in objects if _is_training(one)), default=NAN)
    last_step = max((_place(one, "step") for one in objects if _is_training(one)), default=NAN)
    rows, by_iteration = [], 0
    for one in objects:
        if _is_training(one):
            rows.append(Row(_numbers(one), _place(one, "epoch"), _place(one, "step", "iter"), split="train"))
            continue
        place = _place(one, "step", "epoch", "iter")
        # Trained by iteration (log_metric_by_epoch=False), `step` counts those in validation too.
        if last_epoch + 1 < place <= last_step:
            by_iteration += 1
            rows.append(Row(_numbers(one), iteration=place, split="val"))
        else:
            rows.append(Row(_numbers(one), place, split="val"))
    if by_iteration:
        source.note(
            f"{by_iteration} validation rows have a step beyond the last epoch ({last_epoch:g}): it is read "
            "as an iteration"
        )
    return rows


def _is_training(one: Mapping[str, Any]) -> bool:
    return "epoch" in one or "lr" in one or "loss" in one


def plain_rows(objects: Iterable[Mapping[str, Any]], source: Source) -> Iterable[Row]:
    """Rows of a plain log: epoch and iteration by the usual names, else the number of the row.

    Args:
        objects: name -> value of each row.
        source: told where no column counts.
    """
    said = False
    for number, one in enumerate(objects, 1):
        lowered = {name.strip().lower(): value for name, value in one.items()}
        epoch, iteration = _place(lowered, *EPOCHS), _place(lowered, *ITERATIONS)
        if math.isnan(epoch) and math.isnan(iteration):
            iteration = float(number)
            if not said:
                said = True
                source.note("no column is called epoch, step or iteration: rows are counted from 1")
        values = {
            name: value
            for name, value in _numbers(one).items()
            if name.strip().lower() not in (*EPOCHS, *ITERATIONS)
        }
        yield Row(values, epoch, iteration, split=_split(one, values))


def _split(one: Mapping[str, Any], values: Mapping[str, float]) -> Split:
    for key in ("mode", *_SPLIT_KEYS):
        word = one.get(key)
        if isinstance(word, str):
            return "train" if word.lower().startswith("train") else "val"
    return "train" if values and all(role_of(n) in ("loss", "rate", "other") for n in values) and any(
        role_of(n) == "rate" for n in values
    ) else ""  # fmt: skip
