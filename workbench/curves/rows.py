"""The rows of a log, column by column: a log of 500,000 rows takes some tens of megabytes."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workbench.curves.quantities import Split

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

NAN = math.nan
# Series of one run: a log that names a new quantity in every row is no log.
MOST_SERIES = 2000
# Series of one log: exports of W&B and of sweeps have those of several runs.
MOST_NAMES = 20_000
# Between run and figure in a column's name: as people write it, and as W&B exports a chart.
RUN_MARKS = (": ", " - ")
# A row takes 57 bytes and 16 more for each figure; a TensorBoard file has a row for each scalar.
MOST_ROWS = 3_000_000
_SPLITS: tuple[Split, ...] = ("", "train", "val")


@dataclass(frozen=True, slots=True)
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
class Column:
    """What one name has in the rows that state one split.

    Attributes:
        rows: numbers of the rows, from 0, rising.
        values: one for each of them.
    """

    rows: Int[np.ndarray, " V"]
    values: Float[np.ndarray, " V"]


@dataclass
class _Growing:
    """A column while rows are added: 16 bytes a value, where a dict for each row takes some hundred."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


class Names:
    """The different names of a log, counted while it is read.

    Args:
        file: its name, for the error.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._count, self._marks = 0, RUN_MARKS

    def add(self, name: str) -> None:
        """Count a name that the log did not have before.

        Raises:
            ValueError: there are more than in any log; of one run, where not all of them tell a run.
        """
        self._count += 1
        self._marks = tuple(mark for mark in self._marks if mark in name)
        most = MOST_NAMES if self._marks else MOST_SERIES
        if self._count > most:
            raise ValueError(f"{self.file}: more than {most:,} different names, which no log has")


class Rows:
    """Rows of a log in the order of its lines.

    Args:
        file: its name, for the error.
        rows: the first ones; more can be added.

    Raises:
        ValueError: there are more different names than in any log.
    """

    def __init__(self, file: str, rows: Iterable[Row] = ()) -> None:
        self.file = file
        self._names = Names(file)
        self._columns: dict[tuple[str, Split], _Growing] = {}
        self._places = array("d"), array("d"), array("d")
        self._lines, self._starts = array("q"), array("q")
        self._splits = array("b")
        self._last: tuple[str, ...] = ("",)  # split and names of the row before
        self._appends: list[tuple[Callable[[int], None], Callable[[float], None]]] = []
        for row in rows:
            self.add(row)

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, row: Row) -> None:
        """Add a row behind the others.

        Raises:
            ValueError: there are more different names, or more rows, than in any log.
        """
        number = len(self._lines)
        if number >= MOST_ROWS:
            raise ValueError(f"{self.file}: more than {MOST_ROWS:,} rows of figures, which no log has")
        key = (row.split, *row.values)
        if key != self._last:  # most rows have the names of the one before
            columns = [self._columns.get((n, row.split)) or self._column(n, row.split) for n in row.values]
            self._last, self._appends = key, [(one.rows.append, one.values.append) for one in columns]
        for (add_row, add_value), value in zip(self._appends, row.values.values(), strict=True):
            add_row(number)
            add_value(value)
        epochs, iterations, withins = self._places
        epochs.append(row.epoch)
        iterations.append(row.iteration)
        withins.append(row.within)
        self._lines.append(row.line)
        self._starts.append(row.start)
        self._splits.append(_SPLITS.index(row.split))

    def _column(self, name: str, split: Split) -> _Growing:
        if not any((name, other) in self._columns for other in _SPLITS):
            self._names.add(name)
        return self._columns.setdefault((name, split), _Growing())

    def extend(self, others: Rows, start: int) -> None:
        """Add the rows of another start of the same run.

        Args:
            others: not changed.
            start: its number, 0 for the first.

        Raises:
            ValueError: there are more different names than in any log.
        """
        before = len(self)
        for (name, split), column in others.columns.items():
            own = self._columns.get((name, split)) or self._column(name, split)
            own.rows.frombytes((column.rows + before).tobytes())
            own.values.frombytes(column.values.tobytes())
        for own_places, places in zip(self._places, others._places, strict=True):
            own_places.extend(places)
        self._lines.extend(others._lines)
        self._starts.extend([start] * len(others))
        self._splits.extend(others._splits)

    def renamed(self, names: Mapping[str, str]) -> Rows:
        """The rows that have one of some names, with these alone.

        Args:
            names: name -> new name.
        """
        keys: list[tuple[str, Split]] = [
            (name, split) for name in names for split in _SPLITS if (name, split) in self._columns
        ]
        keys.sort(key=lambda key: self._columns[key].rows[0])
        used = np.unique(np.concatenate([np.array(self._columns[key].rows) for key in keys]))
        found = Rows(self.file)
        for name, split in keys:
            column, own = self._columns[name, split], found._column(names[name], split)
            own.rows.frombytes(np.searchsorted(used, np.array(column.rows)).astype(np.int64).tobytes())
            own.values.extend(column.values)
        found._set_places(self.epoch[used], self.iteration[used], self.within[used])
        found._lines = array("q", np.array(self._lines)[used].tobytes())
        found._starts = array("q", self.start[used].tobytes())
        found._splits = array("b", np.array(self._splits)[used].tobytes())
        return found

    @property
    def names(self) -> list[str]:
        """The names in the order in which the rows have them, each once."""
        return list(dict.fromkeys(name for name, _ in self._columns))

    @property
    def columns(self) -> dict[tuple[str, Split], Column]:
        """(name, split that the rows state) -> what they have, in the order of the first of them.

        No row can be added while these arrays are in use: they are views.
        """
        return {
            key: Column(np.frombuffer(one.rows, np.int64), np.frombuffer(one.values, np.float64))
            for key, one in self._columns.items()
        }

    @property
    def epoch(self) -> Float[np.ndarray, " R"]:
        """Epoch of each row; nan where it has none."""
        return np.array(self._places[0])

    @property
    def iteration(self) -> Float[np.ndarray, " R"]:
        """Optimiser steps since the start of training; nan where a row has none."""
        return np.array(self._places[1])

    @property
    def within(self) -> Float[np.ndarray, " R"]:
        """Iteration within the epoch; nan where a row does not count so."""
        return np.array(self._places[2])

    @property
    def start(self) -> Int[np.ndarray, " R"]:
        """Number of the start of training that wrote each row."""
        return np.array(self._starts)

    def states(self, split: Split) -> Bool[np.ndarray, " R"]:
        """Whether each row states this split.

        Args:
            split: "" for the rows that state none.
        """
        return np.array(self._splits) == _SPLITS.index(split)

    def line(self, row: int) -> int:
        """Number of a row's line in its file, from 1; 0 where the format has no lines.

        Args:
            row: its number, from 0.
        """
        return self._lines[row]

    def count_epochs_of(self, length: float) -> None:
        """Make of the iteration within the epoch one since the start of training.

        Args:
            length: iterations of an epoch.
        """
        with np.errstate(over="ignore"):  # a damaged log may count to 1e300
            iteration = (self.epoch - 1) * length + self.within
        self._set_places(self.epoch, iteration, np.full(len(self), NAN))

    def take_as_iterations(self, chosen: Bool[np.ndarray, " R"]) -> None:
        """Read the epochs of some rows as iterations, which the trainer wrote there."""
        epoch, iteration = self.epoch, self.iteration
        self._set_places(np.where(chosen, NAN, epoch), np.where(chosen, epoch, iteration), self.within)

    def _set_places(self, *places: Float[np.ndarray, " R"]) -> None:
        epoch, iteration, within = (array("d", place.tobytes()) for place in places)
        self._places = epoch, iteration, within
