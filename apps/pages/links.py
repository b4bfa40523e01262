"""What a page makes of the words of a link: a wrong one is said and left out, the others are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import gradio as gr

from workbench.cli import MISTAKES, sentence
from workbench.core.errors import shortened

Read = TypeVar("Read")

# Whether words are only tried: what is said of them then is said when they are read.
_trying: ContextVar[bool] = ContextVar("trying words of a link", default=False)


def say_of_link(text: str) -> None:
    """Say what of a link is not shown, until it is closed: what is seen is not what the link was made for."""
    if not _trying.get():
        gr.Warning(shortened(text)[:300], duration=None)


def word_of_link(name: str, word: str | None, known: Sequence[str], default: str) -> str:
    """A word of a link that is one of some; the default where there is none, or another, which is said.

    Args:
        name: in the address.
        word: as the link has it.
        known: what it may be.
        default: what is shown without it.
    """
    if not word or word in known:
        return word or default
    say_of_link(f"{name}: expected one of {', '.join(known)}, got {word!r:.60}; {default} is shown.")
    return default


def whole_of_link(
    name: str, word: str | None, default: int | None, least: int = 0, most: int = 999_999_999
) -> int | None:
    """A whole number of a range in a link; the default where there is none. Another word is said."""
    if not word:
        return default
    if word.isascii() and word.isdecimal() and len(word) < 10 and least <= int(word) <= most:
        return int(word)
    shown = "none is stated" if default is None else f"{default} is shown"
    say_of_link(f"{name}: expected a whole number from {least} to {most}, got {word!r:.60}; {shown}.")
    return default


def number_of_link(name: str, word: str | None, default: float, least: float, whole: bool) -> float:
    """A number in a link; the default where there is none. Another word is said."""
    if not word:
        return default
    if whole:
        found = whole_of_link(name, word, int(default), int(least))
        return default if found is None else found
    try:
        number = float(word[:40])
    except ValueError:
        number = float("nan")
    if math.isfinite(number) and number >= least:
        return number
    say_of_link(f"{name}: expected a number from {least:g} on, got {word!r:.60}; {default:g} is shown.")
    return default


def read_link(words: Sequence[Any], read: Callable[[list[Any]], Read]) -> tuple[Read, list[str]]:
    """What `read` makes of a link's words, without those that it refuses.

    Words are tried in their order, each with those before it that held: an epoch is judged by its run, a
    sample by its set.

    Args:
        words: of the link; None where it has none.
        read: takes as many words, and raises where one is wrong.

    Returns:
        what was read, and a sentence for each word that was left out.

    Raises:
        ValueError: also without any word there is nothing to read; or another mistake of the user.
    """
    refused: list[str] = []
    kept = list(words)
    if _refusal(read, kept):
        kept = [None] * len(words)
        for place, word in enumerate(words):
            tried = [*kept[:place], word, *kept[place + 1 :]]
            if why := "" if word is None else _refusal(read, tried):
                refused.append(f"{why[:220]}; the default is shown instead")
            else:
                kept = tried
    return read(kept), list(dict.fromkeys(refused))


def _refusal(read: Callable[[list[Any]], Any], words: list[Any]) -> str:
    """Why these words cannot be read; "" where they can. What is said of them meanwhile is not shown."""
    token = _trying.set(True)
    try:
        read(words)
    except MISTAKES as mistake:
        return sentence(mistake)
    finally:
        _trying.reset(token)
    return ""
