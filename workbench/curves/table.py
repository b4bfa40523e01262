"""Training curves of one run as one table: series by name and split, over epoch and iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Finding
from workbench.core.report import ComputedRows, Report, plain
from workbench.curves.quantities import Split, is_coco, rank, role_of, short, split_in
from workbench.curves.rows import MOST_SERIES, NAN, RUN_MARKS, Column, Rows

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from plotly.graph_objects import Figure

_LISTED = 6


@dataclass(frozen=True)
class Stated:
    """A figure that a text states without giving the curve: ``Best AP: 0.7071 at epoch 240``.

    Attributes:
        kind: ``best``, ``final`` or ``reported``.
        name: of the quantity.
        value: in the unit of the text; percentages as fractions.
        epoch: nan where the text gives none.
        text: the words.
    """

    kind: str
    name: str
    value: float
    epoch: float = NAN
    text: str = ""


@dataclass(frozen=True)
class Log:
    """What a reader gives.

    Attributes:
        rows: in the order of the file.
        notes: what was left out or assumed, one sentence each.
        stated: figures that a text states in words.
        title: of the run, where the file names it.
    """

    rows: Rows
    notes: tuple[str, ...] = ()
    stated: tuple[Stated, ...] = ()
    title: str = ""


# W&B's columns of the lowest and highest value behind a point of a chart.
_BOUNDS = ("__MIN", "__MAX")


def rows_by_run(rows: Rows) -> dict[str, Rows]:
    """The rows of each run of a table whose columns are called ``RUN: FIGURE`` or ``RUN - FIGURE``.

    Several runs are read only where all columns are called so and each run has the same figures.

    Returns:
        run -> its rows, with the figures' plain names; all rows under "" where the columns name no runs.
    """
    for mark in RUN_MARKS:
        parts = {name: name.rpartition(mark) for name in rows.names}
        of_run: dict[str, dict[str, str]] = {}
        for name, (run, _, figure) in parts.items():
            of_run.setdefault(run.strip(), {})[name] = figure.strip()
        figures = [sorted(of.values()) for of in of_run.values()]
        if len(of_run) > 1 and "" not in of_run and all(figures[0] == others for others in figures):
            break
    else:
        return {"": rows}
    plain = {
        run: {name: figure for name, figure in of.items() if not figure.endswith(_BOUNDS)}
        for run, of in of_run.items()
    }
    return {run: rows.renamed(names) for run, names in plain.items()}


@dataclass(frozen=True, eq=False)
class Series:
    """One quantity of one split.

    Attributes:
        name: as logged.
        split: ``train`` or ``val``; "" where nothing tells.
        epoch: rising; nan where the log has none.
        iteration: optimiser steps; nan where the log has none.
        value: nan where the log has nan, or a metric is -1: COCO's word for "absent".
    """

    name: str
    split: Split
    epoch: Float[np.ndarray, " E"]
    iteration: Float[np.ndarray, " E"]
    value: Float[np.ndarray, " E"]

    @property
    def x(self) -> Float[np.ndarray, " E"]:
        """Where each value stands: its epoch, or its iteration where more values have that."""
        first, other = self.epoch, self.iteration
        if self.unit == "iteration":
            first, other = other, first
        return np.where(np.isfinite(first), first, other)

    @property
    def unit(self) -> str:
        """What `x` counts: that which more values have, epochs where both are known."""
        epochs, iterations = np.isfinite(self.epoch).sum(), np.isfinite(self.iteration).sum()
        return "epoch" if epochs and epochs >= iterations else "iteration"

    @property
    def label(self) -> str:
        """Name with its split, unless the name states it."""
        return self.name if not self.split or split_in(self.name) else f"{self.name} ({self.split})"

    def finite(self) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, " F"]]:
        """`x` and value of what is finite in both."""
        finite = np.isfinite(self.x) & np.isfinite(self.value)
        return self.x[finite], self.value[finite]

    def by_epoch(self) -> tuple[Float[np.ndarray, " U"], Float[np.ndarray, " U"]]:
        """Rising places without repetition, and the mean of the finite values at each."""
        x, value = self.finite()
        if not len(x):
            return x, value
        places, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        return places, np.bincount(inverse, value) / counts

    def in_epochs_of(self, other: Series) -> Series:
        """This series over epochs, where it is logged by iteration alone and another one says which is when.

        Row i belongs to the epoch whose evaluation is the next one at or after it. The series itself where it
        counts what the other one does, or where the other one does not tell.

        Args:
            other: with epochs, and for two of them or more the iteration too.
        """
        if self.unit == other.unit or other.unit != "epoch":
            return self
        both = np.isfinite(other.epoch) & np.isfinite(other.iteration)
        at, first = np.unique(other.iteration[both], return_index=True)
        epoch = other.epoch[both][first]
        if len(at) < 2 or np.any(np.diff(epoch) < 0) or epoch[-1] == epoch[0]:
            return self
        each = (epoch[-1] - epoch[0]) / (at[-1] - at[0])  # epochs per iteration, for what lies outside
        outside = self.iteration - np.clip(self.iteration, at[0], at[-1])
        place = np.interp(self.iteration, at, epoch) + each * outside
        # The evaluation of an epoch is logged with its last iteration.
        return replace(self, epoch=np.ceil(place - 1e-6))

    def drawn_x(self) -> Float[np.ndarray, " E"]:
        """`x` with the rows of one epoch spread over it: the last of them stands at the epoch's end."""
        x = self.x
        if self.unit != "epoch" or self.split != "train" or not len(x):
            return x
        same = np.unique(np.where(np.isfinite(x), x, -1.0), return_inverse=True, return_counts=True)
        _, inverse, counts = same
        if counts.max() < 2:
            return x
        first = np.r_[0, np.cumsum(counts)[:-1]]
        order = np.argsort(inverse, kind="stable")
        place = np.empty(len(x))
        place[order] = np.arange(len(x)) - first[inverse[order]]
        return x - 1 + (place + 1) / counts[inverse]


@dataclass(frozen=True, eq=False)
class Curves(Report):
    """One run.

    Attributes:
        title: of the run.
        format: of its logs.
        files: their names.
        series: in the order in which the log names them.
        notes: what was left out, assumed or repeated, one sentence each.
        stated: figures that a text states in words.
        restarts: where training was started again.
        flags: what the curves show, see workbench.curves.flags.
    """

    title: str
    format: str
    files: tuple[str, ...]
    series: tuple[Series, ...]
    notes: tuple[str, ...] = ()
    stated: tuple[Stated, ...] = ()
    restarts: tuple[Restart, ...] = ()
    flags: tuple[Finding, ...] = ()

    def get(self, name: str, split: Split | None = None) -> Series | None:
        """The series of a name, whole or without evaluator and split; None where there is none.

        Args:
            name: ``AP`` finds ``coco/AP``; a whole name goes first.
            split: of which one; any by default, validation first.
        """
        fitting = [s for s in self.series if name in (s.name, short(s.name)) and split in (None, s.split)]
        order = {"val": 0, "": 1, "train": 2}
        return min(fitting, key=lambda s: (s.name != name, order[s.split]), default=None)

    @property
    def headline(self) -> Series | None:
        """What the run is judged by: AP where it is logged, else PCK, another metric, a distance; or None."""
        judged = [s for s in self.series if s.split != "train" and rank(s.name) < 100 and len(s.finite()[1])]
        judged = judged or [s for s in self.series if rank(s.name) < 100 and len(s.finite()[1])]
        return min(judged, key=lambda s: rank(s.name), default=None)

    @property
    def loss(self) -> Series | None:
        """The training loss: the one called loss or total, else the first."""
        losses = [s for s in self.series if role_of(s.name) == "loss" and s.split != "val"]
        losses = [s for s in losses if len(s.finite()[1])]

        def order(series: Series) -> int:
            word = short(series.name).lower()
            return (
                0 if word in ("loss", "total_loss", "total loss", "loss_total") else 1 + ("total" not in word)
            )

        return min(losses, key=order, default=None)

    @property
    def best(self) -> tuple[float, float] | None:
        """(place, value) of the best headline value; None without one."""
        judged = self.headline
        if judged is None:
            return None
        x, value = judged.by_epoch()
        at = int(value.argmin() if role_of(judged.name) == "error" else value.argmax())
        return float(x[at]), float(value[at])

    def summary(self) -> str:
        judged, best = self.headline, self.best
        if judged is None or best is None:
            text = f"{self.title}: {len(self.series)} series and no validation figure"
        else:
            x, value = judged.by_epoch()
            last = "" if best[0] == x[-1] else f", last {_figure(value[-1])} at {x[-1]:g}"
            text = f"{self.title}: best {short(judged.name)} {_figure(best[1])}"
            text += f" at {judged.unit} {best[0]:g}{last}"
            text += "; 1 evaluation" if len(x) == 1 else f"; {len(x)} evaluations"
        if not self.flags:
            return f"{text}; nothing stands out"
        kinds = list(dict.fromkeys(flag.cause for flag in self.flags))
        more = f" and {len(kinds) - _LISTED} more" if len(kinds) > _LISTED else ""
        return f"{text}. Flags: {', '.join(kinds[:_LISTED])}{more}"

    def plot(self) -> Figure:
        """Losses, metrics and learning rate over the epochs, with the places that the flags name."""
        from workbench.curves.plot import plotted

        return plotted([self])

    def table(self) -> Sequence[dict[str, Any]]:
        return rows_of([self])


def rows_of(runs: Sequence[Curves]) -> Sequence[dict[str, Any]]:
    """Every value of some runs as a row, series after series."""
    parts = [(run.title, series) for run in runs for series in run.series]
    ends = np.cumsum([0, *(len(series.value) for _, series in parts)])

    def row(number: int) -> dict[str, Any]:
        part = int(np.searchsorted(ends, number, side="right")) - 1
        (title, series), i = parts[part], number - ends[part]
        numbers = {"epoch": series.epoch, "iteration": series.iteration, "value": series.value}
        shown = {name: plain(float(values[i])) for name, values in numbers.items()}
        return {"run": title, "name": series.name, "split": series.split, **shown}

    return ComputedRows(int(ends[-1]), row)


@dataclass(frozen=True)
class Restart:
    """Training was started again: resumed, or begun anew.

    Attributes:
        reached: highest epoch or iteration before.
        begun: first one after.
        unit: which of the two.
    """

    reached: float
    begun: float
    unit: str

    @property
    def went_back(self) -> bool:
        """Whether something is logged twice."""
        return self.begun < self.reached


@dataclass
class _Points:
    """One series before it is drawn: by rising place, each place once.

    Attributes:
        places: epoch, iteration and iteration within the epoch; -1 for what is absent: nan equals nothing.
        values: one for each; of a place that is logged twice the later one.
        repeated: epochs, or iterations where there are none, that are logged twice.
    """

    places: Float[np.ndarray, "V 3"]
    values: Float[np.ndarray, " V"]
    repeated: set[float]


def curves_of(log: Log, title: str, format: str, files: Sequence[str]) -> Curves:
    """Rows as series: sorted by place, of a place logged twice the later value, -1 of a metric as nan.

    Args:
        log: of a reader.
        title: of the run, where the log has none.
        format: name of the format.
        files: names of the files.
    """
    rows, columns = log.rows, log.rows.columns
    parts: dict[tuple[str, Split], list[Column]] = {}
    for (name, split), column in columns.items():
        parts.setdefault((name, split_in(name) or split or _split_of(name)), []).append(column)
        if len(parts) > MOST_SERIES:
            raise ValueError(f"{files[-1]}: more than {MOST_SERIES:,} different names, which no log has")
    keys = _keys(rows)
    found = {place: _points(place[0], own, keys) for place, own in parts.items()}
    _join_unsplit(found)
    restarts = _restarts(rows)
    notes = [*log.notes, *_repeated(found), *_gone_back(restarts), *_left_out(rows, files)]
    series = tuple(_series(*place, points) for place, points in found.items())
    return Curves(log.title or title, format, tuple(files), series, tuple(notes), log.stated, restarts)


def _keys(rows: Rows) -> Float[np.ndarray, "R 3"]:
    """Place of each row as `_Points` has it."""
    iteration = np.where(np.isnan(rows.within), rows.iteration, NAN)
    places = np.column_stack([rows.epoch, iteration, rows.within])
    return np.where(np.isnan(places), -1.0, places)


def _points(name: str, parts: Sequence[Column], keys: Float[np.ndarray, "R 3"]) -> _Points:
    numbers = np.concatenate([part.rows for part in parts])
    values = np.concatenate([part.values for part in parts])
    if len(parts) > 1:
        order = np.argsort(numbers, kind="stable")
        numbers, values = numbers[order], values[order]
    return _each_once(keys[numbers], np.where(_is_absent(name, values), NAN, values))


def _each_once(places: Float[np.ndarray, "V 3"], values: Float[np.ndarray, " V"]) -> _Points:
    """Points in the order of their places; of those at one place the last."""
    order = np.lexsort(places.T[::-1])
    places, values = places[order], values[order]
    same = (places[1:] == places[:-1]).all(1)
    twice = places[1:][same]
    repeated = set(np.where(twice[:, 0] >= 0, twice[:, 0], twice[:, 1]).tolist())
    last = np.r_[~same, True]
    return _Points(places[last], values[last], repeated)


def _is_absent(name: str, values: Float[np.ndarray, " V"]) -> Bool[np.ndarray, " V"]:
    """Where -1 stands for "no such annotation"."""
    return (values == -1) & (is_coco(name) or role_of(name) == "metric")


def _left_out(rows: Rows, files: Sequence[str]) -> list[str]:
    """What is absent or not finite: how often each name is, and where first."""
    absent: dict[str, list[np.ndarray]] = {}
    broken: dict[str, list[np.ndarray]] = {}
    for (name, _), column in rows.columns.items():
        none = _is_absent(name, column.values)
        for kind, where in ((absent, none), (broken, ~none & ~np.isfinite(column.values))):
            if where.any():
                kind.setdefault(name, []).append(column.rows[where])
    said = (
        "-1 stands for absent (no such annotation) and is left out",
        "not finite (nan or infinite) and left out",
    )
    return [
        f"{words}: {_counted(rows, kind, files)}"
        for words, kind in zip(said, (absent, broken), strict=True)
        if kind
    ]


def _join_unsplit(columns: dict[tuple[str, Split], _Points]) -> None:
    """Put what a name has without a split to the one split that it has elsewhere.

    A row of training that also states a validation figure does not tell the split of ``grad_norm``; the rows
    around it do.
    """
    splits: dict[str, list[Split]] = {}
    for name, split in columns:
        splits.setdefault(name, []).append(split)
    for name, found in splits.items():
        if len(found) == 2 and "" in found:
            added = columns.pop((name, ""))
            (split,) = set(found) - {""}
            own = columns[name, split]
            both = _each_once(
                np.concatenate([own.places, added.places]), np.concatenate([own.values, added.values])
            )
            columns[name, split] = _Points(both.places, both.values, own.repeated | added.repeated)


def _split_of(name: str) -> Split:
    """What the name says, else what its kind suggests: metrics are measured in validation."""
    return split_in(name) or {"loss": "train", "rate": "train", "metric": "val", "error": "val"}.get(
        role_of(name), ""
    )  # type: ignore[return-value]


def _series(name: str, split: Split, points: _Points) -> Series:
    epoch, iteration, _ = np.where(points.places < 0, NAN, points.places).T
    series = Series(name, split, epoch, iteration, points.values)
    if series.unit == "epoch":
        return series
    order = np.argsort(series.x, kind="stable")
    return Series(name, split, epoch[order], iteration[order], points.values[order])


def _restarts(rows: Rows) -> tuple[Restart, ...]:
    """Where training was started again: a quantity goes on in a new file, or below its own last place.

    Figures of an evaluation that ran after the training stand behind it in a log, at earlier places; no
    quantity goes back there.
    """
    marks: list[tuple[int, int, tuple[int, int], Restart]] = []
    starts = rows.start
    splits: set[Split] = {split for _, split in rows.columns}
    for order, (unit, places) in enumerate((("epoch", rows.epoch), ("iteration", rows.iteration))):
        counted = ~np.isnan(places)
        for split in splits:
            own = np.flatnonzero(counted & rows.states(split))
            back, other = np.zeros((2, len(rows)), bool)
            for (_, of), column in rows.columns.items():
                if of == split:
                    at = column.rows[counted[column.rows]]
                    again = starts[at[1:]] == starts[at[:-1]]
                    back[at[1:]] |= again & (places[at[1:]] < places[at[:-1]])
                    other[at[1:]] |= ~again
            highest = np.maximum.accumulate(places[own])
            start, backs = (starts[own[0]] if len(own) else 0), 0
            for n in np.flatnonzero(back[own] | other[own]):
                row = int(own[n])
                if start != starts[row] and other[row]:
                    start, backs = starts[row], 0
                elif back[row]:
                    backs += 1
                else:
                    continue
                mark = int(starts[row]), backs
                marks.append((row, order, mark, Restart(float(highest[n - 1]), float(places[row]), unit)))
    found: dict[tuple[int, int], Restart] = {}
    for _, _, mark, restart in sorted(marks, key=lambda one: one[:2]):
        found.setdefault(mark, restart)
    return tuple(found[mark] for mark in sorted(found))


def _gone_back(restarts: Sequence[Restart]) -> list[str]:
    return [
        f"counting went back from {r.unit} {r.reached:g} to {r.begun:g}: training was started again there"
        for r in [one for one in restarts if one.went_back][:_LISTED]
    ]


def _repeated(columns: Mapping[tuple[str, Split], _Points]) -> list[str]:
    places = sorted(set().union(*(column.repeated for column in columns.values()), set()))
    if not places:
        return []
    shown = ", ".join(f"{place:g}" for place in places[:_LISTED])
    more = f" and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
    return [f"logged more than once, and the later value counts: at {shown}{more}"]


def _where(rows: Rows, row: int, files: Sequence[str]) -> str:
    """Where a value stands: its file and line, and its epoch or iteration."""
    at = {"epoch": rows.epoch[row], "iteration": rows.iteration[row]}
    place = next((f", {unit} {value:g}" for unit, value in at.items() if value >= 0), "")
    line = f", line {rows.line(row)}" if rows.line(row) else ""
    return files[min(int(rows.start[row]), len(files) - 1)] + line + place


def _counted(rows: Rows, places: Mapping[str, Sequence[np.ndarray]], files: Sequence[str]) -> str:
    found = {name: np.concatenate(numbers) for name, numbers in places.items()}
    by_first = sorted(found, key=lambda name: found[name].min())
    shown = []
    for name in by_first[:_LISTED]:
        where = _where(rows, int(found[name].min()), files)
        count = len(found[name])
        shown.append(f"{name[:60]} ({where if count == 1 else f'{times(count)}, first {where}'})")
    return ", ".join(shown) + (f" and {len(places) - _LISTED} more" if len(places) > _LISTED else "")


def _figure(value: float) -> str:
    """With three decimals; one of 1e300 without its 301 digits."""
    return f"{value:.3f}" if abs(value) < 1e6 else f"{value:.3g}"


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"
