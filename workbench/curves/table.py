"""Training curves of one run as one table: series by name and split, over epoch and iteration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.finding import Finding
from workbench.core.report import Report, plain
from workbench.curves.quantities import Split, is_coco, rank, role_of, short, split_in

if TYPE_CHECKING:
    from jaxtyping import Float
    from plotly.graph_objects import Figure

NAN = math.nan
# Series of one run: a log that names a new quantity in every row is no log.
MOST_SERIES = 2000
_LISTED = 6


@dataclass(frozen=True)
class Row:
    """One line of a log.

    Attributes:
        values: name -> number; nan and infinities as they are.
        epoch: as logged; nan where the line has none.
        iteration: optimiser steps since the start of training; nan where the line has none.
        within: iteration within the epoch, where a text counts so and does not say how many; nan otherwise.
        split: as the line states it, for names that state none; "" where only the names can tell.
        start: number of the start of training that wrote it, 0 for the first.
        line: its number in the file, from 1; 0 where the format has no lines.
    """

    values: Mapping[str, float]
    epoch: float = NAN
    iteration: float = NAN
    within: float = NAN
    split: Split = ""
    start: int = 0
    line: int = 0


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

    rows: Sequence[Row]
    notes: tuple[str, ...] = ()
    stated: tuple[Stated, ...] = ()
    title: str = ""


# Between run and figure in a column's name: as people write it, and as W&B exports a chart.
_OF_RUN = (": ", " - ")
# W&B's columns of the lowest and highest value behind a point of a chart.
_BOUNDS = ("__MIN", "__MAX")


def rows_by_run(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each run of a table whose columns are called ``RUN: FIGURE`` or ``RUN - FIGURE``.

    Several runs are read only where all columns are called so and each run has the same figures.

    Args:
        rows: of one log.

    Returns:
        run -> its rows, with the figures' plain names; all rows under "" where the columns name no runs.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    for mark in _OF_RUN:
        parts = {name: name.rpartition(mark) for name in names}
        of_run: dict[str, dict[str, str]] = {}
        for name, (run, _, figure) in parts.items():
            of_run.setdefault(run.strip(), {})[name] = figure.strip()
        figures = [sorted(of.values()) for of in of_run.values()]
        if len(of_run) > 1 and "" not in of_run and all(figures[0] == others for others in figures):
            break
    else:
        return {"": list(rows)}
    found: dict[str, list[Row]] = {}
    for run, of in of_run.items():
        plain = {name: figure for name, figure in of.items() if not figure.endswith(_BOUNDS)}
        own = [{figure: row.values[n] for n, figure in plain.items() if n in row.values} for row in rows]
        found[run] = [replace(row, values=values) for row, values in zip(rows, own, strict=True) if values]
    return found


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
            last = "" if best[0] == x[-1] else f", last {value[-1]:.3f} at {x[-1]:g}"
            text = f"{self.title}: best {short(judged.name)} {best[1]:.3f} at {judged.unit} {best[0]:g}{last}"
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

    def table(self) -> list[dict[str, Any]]:
        return [
            {"run": self.title, "name": s.name, "split": s.split, "epoch": plain(float(e)),
             "iteration": plain(float(i)), "value": plain(float(v))}
            for s in self.series
            for e, i, v in zip(s.epoch, s.iteration, s.value, strict=True)
        ]  # fmt: skip


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
class _Column:
    """One series while it grows; keyed by place, so that of two values at one place the later stays."""

    points: dict[tuple[float, float, float], float] = field(default_factory=dict)
    repeated: set[float] = field(default_factory=set)


def curves_of(log: Log, title: str, format: str, files: Sequence[str]) -> Curves:
    """Rows as series: sorted by place, of a place logged twice the later value, -1 of a metric as nan.

    Args:
        log: of a reader.
        title: of the run, where the log has none.
        format: name of the format.
        files: names of the files.
    """
    columns: dict[tuple[str, Split], _Column] = {}
    absent: dict[str, list[str]] = {}
    broken: dict[str, list[str]] = {}
    for row in log.rows:
        key = _key(row)
        for name, value in row.values.items():
            if value == -1 and (is_coco(name) or role_of(name) == "metric"):
                absent.setdefault(name, []).append(_where(row, files))
                value = NAN
            elif not math.isfinite(value):
                broken.setdefault(name, []).append(_where(row, files))
            place = (name, split_in(name) or row.split or _split_of(name))
            if place not in columns and len(columns) >= MOST_SERIES:
                raise ValueError(f"{files[-1]}: more than {MOST_SERIES} different names, which no log has")
            column = columns.setdefault(place, _Column())
            if key in column.points:
                column.repeated.add(key[0] if key[0] >= 0 else key[1])
            column.points[key] = value
    _join_unsplit(columns)
    restarts = _restarts(log.rows)
    notes = [*log.notes, *_repeated(columns), *_gone_back(restarts)]
    if absent:
        notes.append(f"-1 stands for absent (no such annotation) and is left out: {_counted(absent)}")
    if broken:
        notes.append(f"not finite (nan or infinite) and left out: {_counted(broken)}")
    series = tuple(_series(*place, column.points) for place, column in columns.items())
    return Curves(log.title or title, format, tuple(files), series, tuple(notes), log.stated, restarts)


def _join_unsplit(columns: dict[tuple[str, Split], _Column]) -> None:
    """Put what a name has without a split to the one split that it has elsewhere.

    A row of training that also states a validation figure does not tell the split of ``grad_norm``; the rows
    around it do.
    """
    splits: dict[str, list[Split]] = {}
    for name, split in columns:
        splits.setdefault(name, []).append(split)
    for name, found in splits.items():
        if len(found) == 2 and "" in found:
            column = columns.pop((name, ""))
            (split,) = set(found) - {""}
            columns[name, split].points |= column.points
            columns[name, split].repeated |= column.repeated


def _key(row: Row) -> tuple[float, float, float]:
    """Epoch, iteration and iteration within the epoch; -1 for what is absent: nan equals nothing."""
    iteration = row.iteration if math.isnan(row.within) else NAN
    epoch, step, within = (-1.0 if math.isnan(p) else p for p in (row.epoch, iteration, row.within))
    return epoch, step, within


def _split_of(name: str) -> Split:
    """What the name says, else what its kind suggests: metrics are measured in validation."""
    return split_in(name) or {"loss": "train", "rate": "train", "metric": "val", "error": "val"}.get(
        role_of(name), ""
    )  # type: ignore[return-value]


def _series(name: str, split: Split, points: Mapping[tuple[float, float, float], float]) -> Series:
    places = sorted(points)
    columns = np.array([[*place, points[place]] for place in places], float).reshape(-1, 4)
    columns[:, :3][columns[:, :3] < 0] = NAN
    epoch, iteration, _, value = columns.T
    series = Series(name, split, epoch, iteration, value)
    if series.unit == "epoch":
        return series
    order = np.argsort(series.x, kind="stable")
    return Series(name, split, epoch[order], iteration[order], value[order])


def _restarts(rows: Iterable[Row]) -> tuple[Restart, ...]:
    """Where training was started again: a quantity goes on in a new file, or below its own last place.

    Figures of an evaluation that ran after the training stand behind it in a log, at earlier places; no
    quantity goes back there.
    """
    found: dict[tuple[int, int], Restart] = {}
    # Split and unit -> start, how often counting went back in it, highest place.
    state: dict[tuple[Split, str], tuple[int, int, float]] = {}
    # The same and the name -> start and last place of each quantity.
    latest: dict[tuple[Split, str, str], tuple[int, float]] = {}
    for row in rows:
        for unit, place in (("epoch", row.epoch), ("iteration", row.iteration)):
            if math.isnan(place):
                continue
            names: list[tuple[Split, str, str]] = [(row.split, unit, name) for name in row.values]
            before = [latest[name] for name in names if name in latest]
            start, backs, highest = state.get((row.split, unit), (row.start, 0, -math.inf))
            if start != row.start and any(other != row.start for other, _ in before):
                start, backs = row.start, 0
                found.setdefault((start, backs), Restart(highest, place, unit))
            elif any(other == row.start and place < last for other, last in before):
                backs += 1
                found.setdefault((row.start, backs), Restart(highest, place, unit))
            state[row.split, unit] = (start, backs, max(highest, place))
            latest |= dict.fromkeys(names, (row.start, place))
    return tuple(found[mark] for mark in sorted(found))


def _gone_back(restarts: Sequence[Restart]) -> list[str]:
    return [
        f"counting went back from {r.unit} {r.reached:g} to {r.begun:g}: training was started again there"
        for r in [one for one in restarts if one.went_back][:_LISTED]
    ]


def _repeated(columns: Mapping[tuple[str, Split], _Column]) -> list[str]:
    places = sorted(set().union(*(column.repeated for column in columns.values()), set()))
    if not places:
        return []
    shown = ", ".join(f"{place:g}" for place in places[:_LISTED])
    more = f" and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
    return [f"logged more than once, and the later value counts: at {shown}{more}"]


def _where(row: Row, files: Sequence[str]) -> str:
    """Where a value stands: its file and line, and its epoch or iteration."""
    place = next(
        (f", {unit} {at:g}" for unit, at in (("epoch", row.epoch), ("iteration", row.iteration)) if at >= 0),
        "",
    )
    line = f", line {row.line}" if row.line else ""
    return files[min(row.start, len(files) - 1)] + line + place


def _counted(places: Mapping[str, Sequence[str]]) -> str:
    shown = [
        f"{name[:60]} ({where[0]})"
        if len(where) == 1
        else f"{name[:60]} ({times(len(where))}, first {where[0]})"
        for name, where in list(places.items())[:_LISTED]
    ]
    return ", ".join(shown) + (f" and {len(places) - _LISTED} more" if len(places) > _LISTED else "")


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"
