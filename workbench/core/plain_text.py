"""Words out of files as text that is only read: on a line, in a block of lines, in HTML, in JSON."""

from __future__ import annotations

import html
import json
import re
from typing import Any

# Control characters, and those that change the direction of text, hide, or are half of a character: a
# terminal or a page obeys them instead of showing them.
UNSHOWN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""One line of text out of a file, control characters written as escapes such as ``\n`` and ``\x1b``.

    To be used wherever words of a file are printed: a version such as ``1.0<newline>inert none`` would else
    forge a line of the report.
    """
    return UNSHOWN.sub(_escape, text)


def printable_lines(text: str) -> str:
    """The same for several lines: newlines stay."""
    return "\n".join(map(printable, text.split("\n")))


def escaped(text: str) -> str:
    """Words out of a file as HTML, on one line."""
    return html.escape(printable(text))


def escaped_lines(text: str) -> str:
    """The same for several lines; tabs stay too."""
    return html.escape("\t".join(map(printable_lines, text.split("\t"))))


def preformatted(text: str) -> str:
    """Code, a diff or commands as HTML, line by line."""
    return f"<pre>{escaped_lines(text)}</pre>"


def json_text(facts: Any, indent: int = 2) -> str:
    """Plain data as JSON that people can read: control characters are escapes, also those of direction.

    Args:
        facts: see `workbench.core.report.plain`.
        indent: of each level.
    """
    text = json.dumps(facts, indent=indent, ensure_ascii=False, allow_nan=False)
    # Outside of strings JSON here is ASCII, so what is left of control characters is inside of one.
    return re.sub(r"[^\x20-\x7e\n]", lambda c: c[0] if c[0].isprintable() else json.dumps(c[0])[1:-1], text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
