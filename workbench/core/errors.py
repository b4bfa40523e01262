"""What is asked for and is not there: said with the reason, and with what is there instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NotAvailable(LookupError):  # noqa: N818 - reads as a claim: "heatmaps: not available"
    """Something was asked for that this model, run or file does not hold; the message says why."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ReadingNote(UserWarning):
    """Something was read in a way that the user should know of: one sentence, shown beside the answer."""


def reason(error: BaseException) -> str:
    """What another library's error says, whole, on one line, control characters escaped.

    An error of the operating system is told with its file, a KeyError without the quotes of its repr.

    Args:
        error: as it was caught.

    Returns:
        the text; the name of its class where it says nothing.
    """
    if isinstance(error, SyntaxError):
        text = error.msg or ""
    elif isinstance(error, KeyError) and len(error.args) == 1:
        text = str(error.args[0])
    else:
        text = str(error)  # of an OSError with its number, text and file; of others all arguments
    return _on_one_line(text) or type(error).__name__


def _on_one_line(text: str) -> str:
    """The text on one line: runs of white space become one blank, control characters are escaped."""
    line = " ".join(text.split())
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names closest to `name`, for error messages: ``'blur, head'``."""
    known = list(known)
    return ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0)) or "none"


USER_ERRORS = (ValueError, LookupError, OSError)
"""What a user can cause: wrong values, missing names (`NotAvailable` is a LookupError), unreadable files."""


def sentence(error: BaseException) -> str:
    """An error as one line for a person; an error of the operating system begins with its file's name."""
    from workbench.core.report import printable

    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{printable(str(error.filename))}: {error.strerror[:1].lower()}{error.strerror[1:]}"
    return reason(error)
