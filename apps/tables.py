"""A report on the page: its rows as a table, its figure under the sentence that is its title."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.core.files import csv_text
from workbench.core.report import Report

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# A page is read by people: more rows belong in the CSV, which has them all.
ROWS = 500


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as the text of a CSV file."""
    return csv_text(rows) if rows else "empty\r\n"


def sheet(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Headers and cells for gr.Dataframe; numbers rounded to what can be told apart by eye."""
    if not rows:
        return {"headers": ["nothing to list"], "data": []}
    headers = list(rows[0])
    return {
        "headers": [h.replace("_", " ") for h in headers],
        "data": [[cell(row.get(h)) for h in headers] for row in rows[:ROWS]],
    }


def cell(value: Any) -> Any:
    """One value as shown: four significant digits, a dash for what is unknown."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, (int, bool, str)):
        return value
    return str(value)


def untitled(report: Report) -> Figure:
    """The report's figure; a title that says no more than the sentence above it is kept for files only."""
    from workbench.figures import as_title

    figure, title = report.plot(), as_title(report.summary())
    if figure.to_plotly_json()["layout"].get("title", {}).get("text") == title:
        figure.update_layout(meta={"title": title}, title_text="", margin_t=36)
    return figure
