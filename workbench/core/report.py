"""Report: what every inspector returns, and how its facts become JSON, tables and HTML."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from workbench.core.files import csv_text
from workbench.core.plain_text import escaped

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from workbench.core.finding import Finding


PRINTED_ROWS = 50
"""Rows of a report's table that `print` shows."""


class ComputedRows(Sequence[dict[str, Any]]):
    """Rows of a table, each made when it is asked for: a dict for each row of a long log takes gigabytes.

    Args:
        count: of the rows.
        row: the row of a number from 0.

    Example:
        >>> rows = ComputedRows(3, lambda i: {"epoch": i})
        >>> len(rows), rows[-1], rows[:2]
        (3, {'epoch': 2}, [{'epoch': 0}, {'epoch': 1}])
    """

    def __init__(self, count: int, row: Callable[[int], dict[str, Any]]) -> None:
        self._numbers, self._row = range(count), row

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self._row(number) for number in self._numbers[index]]
        return self._row(self._numbers[index])


class Report(ABC):
    """Base of the frozen dataclasses that inspectors return. They hold arrays, never models."""

    @abstractmethod
    def summary(self) -> str:
        """One sentence a person can act on; no line break."""

    @abstractmethod
    def plot(self) -> Figure:
        """The report, drawn on a new plotly figure whose title says the finding."""

    @abstractmethod
    def table(self) -> Sequence[dict[str, Any]]:
        """Rows of plain values, same keys in every row."""

    def to_json(self) -> dict[str, Any]:
        """The report's facts as plain data: arrays as lists, nan as None; pictures are left out."""
        facts = {
            f.name: plain(getattr(self, f.name))
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if not f.metadata.get("picture")
        }
        return {"summary": self.summary(), **facts}

    def to_findings(self) -> tuple[Finding, ...]:
        """What is wrong, the most important first; () for a report that judges nothing."""
        return ()

    def __str__(self) -> str:
        """What `print` shows: the summary, and the first rows of the table as comma-separated values."""
        table = self.table()
        lines = csv_text(table[:PRINTED_ROWS], "\n").splitlines() if table else []
        more = len(table) - PRINTED_ROWS
        return "\n".join([self.summary(), "", *lines, *([f"... and {more} more rows"] if more > 0 else [])])

    def _repr_html_(self) -> str:
        return f"<p>{escaped(self.summary())}</p>{figure_html(self.plot())}"


def figure_html(figure: Figure) -> str:
    """A figure as HTML for a notebook's output; plotly.js (4.5 MB) is embedded once per notebook.

    The first figure of a kernel carries plotly.js, later ones use it. The cell that carried it does so again
    when it is run again: its old output is gone. Outside of IPython every figure carries it.
    """
    if _carries_plotly():
        return figure.to_html(full_html=False, include_plotlyjs=True)
    name = f"figure-{uuid.uuid4().hex}"
    # "<" could close the script element from inside a string.
    data = str(figure.to_json()).replace("<", "\\u003c")
    return f"""<div id="{name}"></div><script>(function () {{
  const figure = {data}, started = Date.now();
  (function draw() {{
    const place = document.getElementById("{name}");
    if (!place) return;
    if (window.Plotly) {{
      place.textContent = "";
      window.Plotly.newPlot(place, figure.data, figure.layout, {{responsive: true}});
      return;
    }}
    if (Date.now() - started > 3000)
      place.textContent = "This figure waits for plotly.js, which the notebook's first figure carries: " +
        "scroll to it, or restart the kernel and run all cells.";
    setTimeout(draw, 200);
  }})();
}})();</script>"""


def plotly_script() -> str:
    """plotly.js as HTML for a notebook's output; "" where a figure of the notebook carries it already."""
    if not _carries_plotly():
        return ""
    from plotly.offline import get_plotlyjs

    return f'<script type="text/javascript">{get_plotlyjs()}</script>'


# The cell whose output carries plotly.js, and its execution; None before the first figure.
_carrier: tuple[Any, int] | None = None


def _carries_plotly() -> bool:
    global _carrier
    # Asked for and not imported: the library serves scripts without IPython as well.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return True
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = (parent.get("metadata") or {}).get("cellId")
    now = (cell, shell.execution_count)
    if _carrier is None or (now[0] is not None and now[0] == _carrier[0] and now[1] != _carrier[1]):
        _carrier = now
        return True
    return False


PICTURE = {"picture": True}
"""Metadata of a report's field that holds pixels or whole maps: drawn and kept, but no part of its JSON."""


def rows(**columns: Any) -> list[dict[str, Any]]:
    """Columns of equal length as the rows of a table, in plain values."""
    names = list(columns)
    return [
        {name: plain(value) for name, value in zip(names, values, strict=True)}
        for values in zip(*columns.values(), strict=True)
    ]


def counted(count: float | str | None, one: str, several: str = "", spec: str = "") -> str:
    """A count with its noun, and with the verb where it is given: ``1 box reaches``, ``2 boxes reach``.

    Args:
        count: how many; None where it is not known, words such as "3 of 40" where they tell more.
        one: the words for one.
        several: those for another number; one with an s by default.
        spec: how the number is written, such as ``,`` or ``g``.
    """
    if count is None:
        return f"an unknown number of {several or one + 's'}"
    return f"{count:{spec}} {one if count in (1, '1') else several or one + 's'}"


def ends_text(low: float, high: float, spec: str = "+.3f") -> str:
    """The ends of an interval in parentheses; ``(no interval)`` where they are nan, as of a few images.

    Args:
        low: lower end.
        high: upper end.
        spec: how they are written.
    """
    if not math.isfinite(low + high):
        return "(no interval)"
    return f"({signed_text(low, spec)} to {signed_text(high, spec)})"


def signed_text(value: float | None, spec: str = "+.3f") -> str:
    """A number as a format writes it, without a minus before nothing but zeros: ``+0.000``, ``0%``.

    Args:
        value: any number; `format`'s ``z`` would do the same, and Python 3.10 does not have it. None, which
            facts have in place of nan, and nan itself are ``-``: nothing was measured.
        spec: how it is written.
    """
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:{spec}}"
    return re.sub(r"-(?=[0.%]+$)", "+" if spec.startswith("+") else "", text)


def pair_text(x: float, y: float, spec: str = "+.1f") -> str:
    """A displacement (x, y) in parentheses, as `signed_text` writes its parts: ``(+0.5, -1.0)``.

    Args:
        x: to the right.
        y: down.
        spec: how both are written.
    """
    return f"({signed_text(x, spec)}, {signed_text(y, spec)})"


def plain(value: Any) -> Any:
    """A value as JSON knows it: arrays become lists, nan and infinities None, records dicts."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return str(value)
