"""Where in the user's own file did it go wrong? One sentence with the line, whatever was raised."""

from __future__ import annotations

import linecache
import traceback
from pathlib import Path
from types import TracebackType

from workbench.core import NotAvailable, reason


class own_code:  # noqa: N801 - a context manager, named for what runs in it
    """Run somebody's own file: whatever it raises becomes a ValueError that names the line.

    NotAvailable passes as it is: the user's code may well say that it has no such thing.

    Args:
        path: the file whose lines matter.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, NotAvailable):
            return
        if isinstance(error, ValueError) and str(error).startswith(f"{self.path}, line"):
            return  # said already, by an inner block
        line = self._line(error, trace)
        # What says nothing of itself is at least shown: a lazy mmengine config refuses calls without a word.
        what = _said(error) or f"{type(error).__name__} at {linecache.getline(str(self.path), line).strip()}"
        raise ValueError(f"{self.path}, line {line}: {what}") from error

    def _line(self, error: Exception, trace: TracebackType | None) -> int:
        if isinstance(error, SyntaxError) and error.lineno:
            return error.lineno
        mine = [f.lineno or 0 for f in traceback.extract_tb(trace) if Path(f.filename) == self.path]
        return mine[-1] if mine else 1


def _said(error: Exception) -> str:
    kind, text = type(error).__name__, reason(error)
    return f"{kind}: {text}" if text != kind else ""
