"""What is asked for and is not there: said with the reason, and with what is there instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NotAvailable(LookupError):  # noqa: N818 - reads as a claim: "heatmaps: not available"
    """Something was asked for that this model, run or file does not hold; the message says why."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names closest to `name`, for error messages: ``'blur, head'``."""
    known = list(known)
    return ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0)) or "none"
