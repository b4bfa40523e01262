"""Errors for what is not available: with the reason, and with what is available instead."""

from __future__ import annotations

import contextlib
import difflib
import linecache
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

Answer = TypeVar("Answer")
Other = TypeVar("Other")


class Cancelled(Exception):  # noqa: N818 - no error: somebody asked for it
    """The job was cancelled and ends."""


class NotAvailable(LookupError):  # noqa: N818 - reads as a claim: "heatmaps: not available"
    """Something was asked for that this model, run or file does not hold; the message says why."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def available(ask: Callable[[], Answer], otherwise: Other) -> Answer | Other:
    """What a call returns; another value where what it asks for is not available.

    Args:
        ask: the call.
        otherwise: returned where it raises NotAvailable.
    """
    try:
        return ask()
    except NotAvailable:
        return otherwise


class PartMissing(NotAvailable):
    """A file lacks tensors that every network of its layout has, so none can be built of it.

    Attributes:
        tensors: names of the missing ones, as far as they are known to be needed.
    """

    def __init__(self, where: str, layout: str, tensors: Iterable[str]) -> None:
        self.tensors = tuple(tensors)
        names = f"{', '.join(self.tensors)}, which {'tells' if len(self.tensors) == 1 else 'tell'}"
        super().__init__(f"{where}: no {names} the size of a {layout}; it is none, or a part")


class ReadingNote(UserWarning):
    """Something was read in a way that the user should know of: one sentence, shown beside the answer."""


def reason(error: BaseException) -> str:
    """What another library's error says, whole, on one line, control characters escaped.

    An error of the operating system is told with its file, a KeyError without the quotes of its repr.

    Returns:
        the text; the name of its class where it says nothing.
    """
    if isinstance(error, SyntaxError):
        text = error.msg or ""
    elif isinstance(error, KeyError) and len(error.args) == 1:
        text = str(error.args[0])
    else:
        text = str(error)  # of an OSError with its number, text and file; of others all arguments
    return _on_one_line(_ADVICE.sub("", text)) or type(error).__name__


# Python's words for a number of thousands of digits end in advice about Python's settings.
_ADVICE = re.compile(
    r"; use sys\.set_int_max_str_digits\(\) to increase the limit"
    r"( - Consider hexadecimal for huge integer literals to avoid decimal conversion limits)?"
)


def _on_one_line(text: str) -> str:
    """The text on one line: runs of white space become one blank, control characters are escaped."""
    line = " ".join(text.split())
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)


_COMPARED = 1000
"""Characters of a name that are compared with others: what is asked for may be megabytes long."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names closest to `name`, for error messages: ``'blur, head'``; of numbers the closest values.

    Args:
        name: what was asked for.
        known: what there is.
    """
    name, known = name[:_COMPARED], list(known)
    # Epoch 77 is nearer to 40 than to 7; Python refuses to read numbers of thousands of digits.
    if all(one.isascii() and one.isdigit() and len(one) < 20 for one in (name, *known)):
        return ", ".join(sorted(known, key=lambda one: abs(int(one) - int(name)))[:3]) or "none"
    return ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0)) or "none"


def beside(path: Path) -> str:
    """The names in the folder of a path closest to its own, for error messages: ``'; nearest: epoch_1.pth'``.

    Args:
        path: that does not exist; without its folder, or with an empty one, the answer is "".
    """
    try:
        names = [one.name for one in path.parent.iterdir()]
    except (OSError, ValueError):
        return ""
    return f"; nearest: {nearest(path.name, names)}" if names else ""


USER_ERRORS = (ValueError, LookupError, OSError)
"""What a user can cause: wrong values, missing names (`NotAvailable` is a LookupError), unreadable files."""


_LONGEST_WORD = 300
"""Characters of a word, in a sentence for a person: a digest has 128, a path seldom more than 200."""

_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")


def shortened(text: str) -> str:
    """A sentence with words of more than 300 characters cut in the middle: it may repeat what was given."""
    return _LONG_WORD.sub(lambda word: f"{word[0][:150]}…{word[0][-50:]}", text)


def sentence(error: BaseException) -> str:
    """An error as one line for a person; an error of the operating system begins with its file's name.

    Very long words are cut in the middle (`shortened`).
    """
    from workbench.core.plain_text import printable

    if isinstance(error, OSError) and error.filename and error.strerror:
        name = printable(str(error.filename))
        return shortened(f"{name}: {error.strerror[:1].lower()}{error.strerror[1:]}")
    return shortened(reason(error))


# Where the tracebacks of errors in a user's own code are collected; None while nobody asks for them.
_collected: list[str] | None = None

# A verb may meet the same error with every checkpoint and every image.
_MOST_TRACEBACKS = 20


@contextlib.contextmanager
def tracebacks_of_user_code() -> Iterator[list[str]]:
    """Collect the traceback of each error in a user's own code, of all threads, each text once.

    Verbs that go on after an error (the next checkpoint, the next cause) keep its sentence alone.
    """
    global _collected
    before, _collected = _collected, []
    try:
        yield _collected
    finally:
        _collected = before


def _collect(error: Exception) -> None:
    if _collected is not None and len(_collected) < _MOST_TRACEBACKS:
        text = "".join(traceback.format_exception(error))
        if text not in _collected:
            _collected.append(text)


class errors_of_user_code:  # noqa: N801 - a context manager, named for what runs in it
    """Run a user's file: whatever it raises becomes a ValueError that names the line.

    NotAvailable is not converted: the user's code may raise it itself. Nor is Cancelled, which ends a pass
    between two layers of the user's network.

    Args:
        path: the file whose lines matter.
        first_line: named where no line of the file was running, as when a config names a base that is absent;
            None to name no line then.
    """

    def __init__(self, path: Path, first_line: int | None = 1) -> None:
        self.path, self.first_line = path, first_line

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, (NotAvailable, Cancelled)):
            return
        if isinstance(error, ValueError) and str(error).startswith((f"{self.path}, line", f"{self.path}: ")):
            return  # an inner block has named the file
        _collect(error)
        line = self._line(error, trace)
        # An exception without a message shows its line: a lazy mmengine config raises such.
        what = (
            _described(error)
            or f"{type(error).__name__} at {linecache.getline(str(self.path), line or 0).strip()}"
        )
        place = f"{self.path}" if line is None else f"{self.path}, line {line}"
        raise ValueError(f"{place}: {what}") from error

    def _line(self, error: Exception, trace: TracebackType | None) -> int | None:
        if isinstance(error, SyntaxError) and error.lineno:
            return error.lineno
        mine = [f.lineno or 0 for f in traceback.extract_tb(trace) if Path(f.filename) == self.path]
        return mine[-1] if mine else self.first_line


def _described(error: Exception) -> str:
    kind, text = type(error).__name__, reason(error)
    return f"{kind}: {text}" if text != kind else ""
