"""Logs as JSON: a line per object (mmengine's scalars.json, mmcv 0.x, any JSONL), or one document.

A document is a list of objects, an object with such a list (``log_history`` of transformers'
trainer_state.json), or a list of numbers by name (``history`` of Keras).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from workbench.checkpoints.budget import LIMITS
from workbench.core.files import Twice, each_once, read_at_most
from workbench.curves.quantities import Split, is_coco, role_of, split_in
from workbench.curves.rows import NAN, Row, Rows
from workbench.curves.source import MOST_NAME, Source, as_number, short_name
from workbench.curves.table import Log

# Number of a line from 1, 0 where the format has no lines, and its values by name.
Numbered = tuple[int, Mapping[str, Any]]
# Rows by which the trainer is recognised.
_FIRST = 1000

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
    "training_iteration",  # Ray Tune: one for each report
    "batch",
)
# A file of lines may be longer: it is read line by line. Values of a document take 26 times as many bytes.
MOST_DOCUMENT = LIMITS.header
# One for all lines: `json.loads` makes a new one for each call with a hook.
_DECODER = json.JSONDecoder(object_pairs_hook=each_once)
# Book-keeping that is no curve.
_DROPPED = {"mode", "epoch", "iter", "step", "_timestamp", "_runtime", "_wandb"}
# Whose figures a row has: mmcv calls it mode, others so.
SPLIT_NAMES = ("mode", "split", "phase", "stage")
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
        rows = plain_rows(((0, one) for one in document), source)
        return Log(rows, tuple(source.notes))
    numbered = ((number, one) for number, one in _objects(source) if one)
    first = list(islice(numbered, _FIRST))
    objects = [one for _, one in first]
    if any("mode" in one and "epoch" in one for one in objects[:50]):
        read = _of_mmcv
    elif _by_mmengine(objects, source.name):
        read = _of_mmengine
    else:
        read = plain_rows
    return Log(read(chain(first, numbered), source), tuple(source.notes))


def _document(source: Source) -> list[dict[str, Any]] | None:
    """The rows of a file that is one JSON document; None of a file of lines, or of no log."""
    text = source.text
    if text is None:
        if source.path.stat().st_size > MOST_DOCUMENT:
            return None
        text = read_at_most(source.path, MOST_DOCUMENT, "a log").decode("utf-8-sig", errors="replace")
    try:
        found = _DECODER.decode(text)  # of a file of lines it stops after the first one
    except (ValueError, RecursionError):  # of a document with a name twice the lines are none
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
    return [_flat(one, source) for one in inside]


def _of_lists(columns: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Rows of lists of one length by name; None of anything else."""
    lists = {name: values for name, values in columns.items() if isinstance(values, list) and values}
    if not lists or len(lists) < len(columns) or len({len(values) for values in lists.values()}) > 1:
        return None
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _objects(source: Source) -> Iterable[tuple[int, Mapping[str, Any]]]:
    for number, line, whole in source.lines():
        if not line.strip():
            continue
        try:
            found = _DECODER.decode(line)
        except Twice as name:
            raise ValueError(f"{source.name}, line {number}: {name} stands twice in one object") from None
        except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, nested without end
            found = None
        if isinstance(found, dict):
            source.budget.make(len(found))
            source.good += 1
            yield number, _flat(found, source)
        else:
            source.broken_line(number, "expected a JSON object per line", whole)


def _flat(one: Mapping[str, Any], source: Source, depth: int = 3) -> dict[str, Any]:
    """Objects inside as names of several parts: ``{"loss": {"x": 1}}`` is ``loss/x``."""
    if set(map(type, one.values())) <= {float, int} and max(map(len, one), default=0) <= MOST_NAME:
        return dict(one)  # nearly all
    found: dict[str, Any] = {}
    for name, value in one.items():
        if len(name) > MOST_NAME:
            name = short_name(name)  # once, not before each of the names inside
        if isinstance(value, dict) and depth:
            source.budget.make(len(value))
            inside = {name_of(name, inner): v for inner, v in _flat(value, source, depth - 1).items()}
        else:
            inside = {name: figure_of(value)}
        if both := inside.keys() & found.keys():
            raise ValueError(f"{source.name}: two figures of one row are called {both.pop()!r:.80}")
        found |= inside
    return found


def name_of(outer: str, inner: str) -> str:
    """Two parts of a name as one, of at most `MOST_NAME` characters."""
    return short_name(f"{outer}/{inner}")


def figure_of(value: Any) -> Any:
    """A number, or a text that may be one; None for what no row needs: lists, objects, long texts.

    All rows of a log are in memory together.
    """
    if isinstance(value, str):
        return value if len(value) <= MOST_NAME else None
    return value if isinstance(value, (int, float)) else None


def _numbers(one: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, raw in one.items()
        if name not in _DROPPED and (value := raw if type(raw) is float else as_number(raw)) is not None
    }


def _place(one: Mapping[str, Any], *names: str) -> float:
    for name in names:
        value = as_number(one.get(name))
        # A place is compared and counted with: nan and infinity are none.
        if value is not None and math.isfinite(value) and value >= 0:
            return value
    return NAN


def _of_mmcv(numbered: Iterable[Numbered], source: Source) -> Rows:
    """Rows of mmcv 0.x, without its first line, which describes the machine.

    The log does not say how many iterations an epoch has: here it has as many as its last row says, which
    lies less than one logging interval before the epoch's end.
    """
    rows, length = Rows(source.name), NAN
    for line, one in numbered:
        if one.get("mode") not in ("train", "val"):
            continue
        split: Split = "train" if one["mode"] == "train" else "val"
        # In validation `iter` is the number of batches of the validation set.
        within = _place(one, "iter") if split == "train" else NAN
        length = _higher(length, within)
        rows.add(Row(_numbers(one), _place(one, "epoch"), within=within, split=split, line=line))
    rows.count_epochs_of(length)
    return rows


def _by_mmengine(objects: Sequence[Mapping[str, Any]], name: str) -> bool:
    if name == "scalars.json":
        return True
    rows = [one for one in objects if not one.keys() & {*SPLIT_NAMES[1:]}]
    training = any({"epoch", "iter", "step"} <= one.keys() for one in rows)
    validation = any(
        "step" in one and "epoch" not in one and any("/" in key and is_coco(key) for key in one)
        for one in rows
    )
    return training or validation


def _of_mmengine(numbered: Iterable[Numbered], source: Source) -> Rows:
    rows = Rows(source.name)
    last_epoch = last_step = NAN
    for line, one in numbered:
        if _is_training(one):
            epoch, step = _place(one, "epoch"), _place(one, "step")
            last_epoch, last_step = _higher(last_epoch, epoch), _higher(last_step, step)
            iteration = step if step >= 0 else _place(one, "iter")
            rows.add(Row(_numbers(one), epoch, iteration, split="train", line=line))
        else:
            rows.add(Row(_numbers(one), _place(one, "step", "epoch", "iter"), split="val", line=line))
    # Trained by iteration (log_metric_by_epoch=False), `step` counts those in validation too.
    place = rows.epoch
    by_iteration = rows.states("val") & (last_epoch + 1 < place) & (place <= last_step)
    if by_iteration.any():
        rows.take_as_iterations(by_iteration)
        source.note(
            f"{by_iteration.sum()} validation rows have a step beyond the last epoch ({last_epoch:g}): it is "
            "read as an iteration"
        )
    return rows


def _higher(one: float, other: float) -> float:
    """The higher of two places; nan only where both are."""
    return other if math.isnan(one) or other > one else one


def _is_training(one: Mapping[str, Any]) -> bool:
    return "epoch" in one or "lr" in one or "loss" in one


def plain_rows(numbered: Iterable[Numbered], source: Source) -> Rows:
    """Rows of a plain log: epoch and iteration by the usual names, else the number of the row.

    Args:
        numbered: number of each row's line, 0 where the format has none, and its values by name.
        source: gets a note where no column counts epochs or steps.
    """
    rows = Rows(source.name)
    for number, (line, one) in enumerate(numbered, 1):
        names = _roles(tuple(one)) if len(one) <= _MOST_CACHED else _roles.__wrapped__(tuple(one))
        epoch, iteration = _place(one, *names.epochs), _place(one, *names.iterations)
        if math.isnan(epoch) and math.isnan(iteration):
            iteration = float(number)
            source.note("no column is called epoch, step or iteration: rows are counted from 1")
        values = {name: value for name in names.figures if (value := as_number(one[name])) is not None}
        split: Split = ""
        for name in names.splits:
            split = split or split_word(one[name])
        if not split and len(values) <= _MOST_CACHED:
            split = _split_of(tuple(values))
        rows.add(Row(values, epoch, iteration, split=split, line=line))
    return rows


def split_word(value: Any) -> Split:
    """The split that a word names: ``train``, ``minival``; "" for any other word, such as ``warm-up``."""
    if not isinstance(value, str):
        return ""
    lowered = value.strip().lower()
    named: Split = "val" if any(word in lowered for word in ("val", "test")) else ""
    return split_in(lowered) or ("train" if lowered.startswith("train") else named)


@dataclass(frozen=True)
class _Names:
    """What the names of a row stand for.

    Attributes:
        epochs: those that count epochs, the most exact first.
        iterations: those that count iterations.
        splits: those that may name the split.
        figures: all others.
    """

    epochs: tuple[str, ...]
    iterations: tuple[str, ...]
    splits: tuple[str, ...]
    figures: tuple[str, ...]


# The rows of a log have few sets of names; of a row with thousands of names each would be large.
_MOST_CACHED = 200


@lru_cache(maxsize=200)
def _roles(names: tuple[str, ...]) -> _Names:
    lowered = {name.strip().lower(): name for name in names}
    return _Names(
        tuple(lowered[name] for name in EPOCHS if name in lowered),
        tuple(lowered[name] for name in ITERATIONS if name in lowered),
        tuple(lowered[name] for name in SPLIT_NAMES if name in lowered),
        tuple(
            name
            for name in names
            if name not in _DROPPED and name.strip().lower() not in (*EPOCHS, *ITERATIONS)
        ),
    )


@lru_cache(maxsize=200)
def _split_of(names: tuple[str, ...]) -> Split:
    """Training where a row has a learning rate and else losses and what is no figure."""
    roles = {role_of(name) for name in names}
    return "train" if "rate" in roles and roles <= {"loss", "rate", "other"} else ""
