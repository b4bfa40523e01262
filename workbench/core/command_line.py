"""Commands of a shell as text: what is shown and copied names files whose names others chose."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any

from workbench.core.plain_text import UNSHOWN

# A word as `command_line` writes it: with escapes, or as shlex quotes it.
_WORD = re.compile(r"\$'((?:[^'\\]|\\.)*)'|((?:[^\s'\"\\]|'[^']*'|\"[^\"]*\")+)", re.DOTALL)

_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(.))", re.DOTALL)


def command_line(words: Iterable[Any]) -> str:
    r"""A command as it is typed in bash or zsh; nothing of a word is run, or acts on the terminal.

    Control characters, which a terminal obeys when they are pasted, and those that change how a line reads
    are written as escapes, `$'\x1b'`. A path that begins as an option does is written with its folder.

    Args:
        words: the program, then its arguments; paths as paths, everything else by its text.

    Example:
        >>> command_line(["workbench", "open", PurePath("$(a).pth"), PurePath("-h")])
        "workbench open '$(a).pth' ./-h"
    """
    return " ".join(_quoted(_word(one)) for one in words)


def words_of(line: str) -> list[str]:
    """The words of a command that `command_line` wrote."""
    return [
        shlex.split(found[2])[0] if found[1] is None else _ESCAPED.sub(_plain, found[1])
        for found in _WORD.finditer(line)
    ]


def _word(one: Any) -> str:
    text = str(one)
    return f"./{text}" if isinstance(one, PurePath) and text.startswith("-") else text


def _quoted(word: str) -> str:
    return f"$'{''.join(_escapes(word))}'" if UNSHOWN.search(word) else shlex.quote(word)


def _escapes(word: str) -> Iterator[str]:
    for c in word:
        number = ord(c)
        if 0xDC80 <= number <= 0xDCFF:  # a byte of a file name that is no UTF-8, as Python holds it
            yield f"\\x{number - 0xDC00:02x}"
        elif UNSHOWN.match(c):
            yield f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}"
        else:
            yield f"\\{c}" if c in "\\'" else c


def _plain(escape: re.Match[str]) -> str:
    if escape[1]:
        number = int(escape[1], 16)
        return chr(number if number < 0x80 else number + 0xDC00)
    return chr(int(escape[2], 16)) if escape[2] else escape[3]
