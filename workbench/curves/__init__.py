"""Training logs of any trainer as one table: one reader per format, and what the curves say."""

from workbench.curves.flags import flags_between, flags_of
from workbench.curves.reading import FORMATS, logs_of, read_curves, read_logs, read_runs, read_text, run_logs
from workbench.curves.rows import Row, Rows
from workbench.curves.schedule import warm_up_of_data
from workbench.curves.table import Curves, Log, Restart, Series, Stated, curves_of

__all__ = [
    "FORMATS",
    "Curves",
    "Log",
    "Restart",
    "Row",
    "Rows",
    "Series",
    "Stated",
    "curves_of",
    "flags_between",
    "flags_of",
    "logs_of",
    "read_curves",
    "read_logs",
    "read_runs",
    "read_text",
    "run_logs",
    "warm_up_of_data",
]
