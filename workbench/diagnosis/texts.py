"""Texts among the targets: an error message, pasted or in a file, and statements about a published recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.files import read_at_most

if TYPE_CHECKING:
    from workbench.doctor import Explanation

# The last line of a traceback: `RuntimeError: mat1 and mat2 ...`, with the module where there is one.
_RAISED = re.compile(r"^\s*(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)\b\s*(?::|$)")
_TRACEBACK = "Traceback (most recent call last)"
_PLACE = re.compile(r'^\s*File "([^"\n]{1,400})", line (\d{1,7})')
# Versions that a text pins or forbids: `mmcv==2.1.0`, `MMCV: 2.1.0`.
_VERSION = re.compile(
    r"\b(mmpose|mmcv(?:-lite)?|mmengine|mmdet|mmpretrain|torch(?:vision)?|numpy|xtcocotools|pycocotools|"
    r"transformers|setuptools)(?:\s{0,8}(?:==|>=|<=|<|:)\s{0,8}|\s{1,16})v?(\d{1,3}(?:\.\d{1,4}){1,3})",
    re.IGNORECASE,
)
# Longest line that is looked at.
_LINE = 2000
# Messages that the doctor explains are longer; a file of blank lines would be looked up line by line.
_LEAST_MESSAGE = 10
STATEMENTS = (".md", ".markdown")
"""Endings of texts in which statements about a recipe are looked for."""
# A file of so few lines that begins with no traceback is the message itself.
_SHORT = 60
# Bytes at the beginning and at the end of a long file or text in which a message is looked for.
_END = 1 << 17
# Bytes of code or of a text with statements.
_CODE = 1 << 20
# A text with fewer recognised statements is no audit.
LEAST_STATEMENTS = 5


@dataclass(frozen=True)
class ErrorText:
    """One error message.

    Attributes:
        message: its last line.
        source: name of the file, or ``the pasted message``.
        place: the innermost file and line of its traceback; "" without a traceback.
        versions: package -> version, as the text around it names them.
    """

    message: str
    source: str
    place: str = ""
    versions: tuple[tuple[str, str], ...] = ()


def is_message(text: str) -> bool:
    """Whether a target that is no file is an error message that somebody pasted."""
    return error_in(text, "") is not None


def error_in(text: str, source: str, whole: bool = True) -> ErrorText | None:
    """The last error message of a text; None where there is none.

    A message counts where it ends a traceback, where it is one that `workbench doctor` explains, or, with
    `whole`, where the text is little more than the message.

    Args:
        text: of a file, or what was pasted.
        source: where it is from, for people.
        whole: the text is a message, and not a document that may mention some.
    """
    if len(text) > 2 * _END:
        text = f"{text[:_END]}\n{text[-_END:]}"
    lines = [line[:_LINE] for line in text.splitlines()]
    raised = [i for i, line in enumerate(lines) if _RAISED.match(line)]
    if raised and (whole or any(_TRACEBACK in line for line in lines[: raised[-1]])):
        at = raised[-1]
    else:
        long = (i for i, line in enumerate(lines) if len(line.strip()) >= _LEAST_MESSAGE)
        known = [i for i in long if explained(lines[i]) is not None]
        if not known:
            return None
        # A document tells of the error first and of its remedies afterwards.
        at = known[-1] if whole else known[0]
    places = [found for line in lines[:at] if (found := _PLACE.match(line))]
    place = f"{Path(places[-1][1]).name}, line {places[-1][2]}" if places else ""
    return ErrorText(_clean(lines[at]), source, place, _versions(text))


def explained(message: str) -> Explanation | None:
    """What the doctor knows of a message; None for an unknown one."""
    from workbench.doctor import explain

    return explain(message)


def _clean(line: str) -> str:
    """A line without the marks of Markdown around it."""
    begin = r"^[\s>]*(?:[-*]\s+)?(?:\*\*[^*]{1,40}\*\*:?\s*)?`?"
    return re.sub(rf"{begin}|`?\s*$", "", line) or line.strip()


def _versions(text: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for name, version in _VERSION.findall(text):
        found.setdefault(name.lower(), version)
    return tuple(found.items())


def error_of_file(path: Path) -> ErrorText | None:
    """The error message in a text file; None where it holds none.

    Args:
        path: a log, a saved message or a document; of a long file its beginning and its end are read.

    Raises:
        OSError: it cannot be read.
    """
    text = _both_ends(path)
    document = path.suffix.lower() in (*STATEMENTS, ".csv")
    return error_in(text, path.name, whole=not document and text.count("\n") <= _SHORT)


def _both_ends(path: Path) -> str:
    """The text of a file; of a long one its beginning and its end."""
    with path.open("rb") as file:
        data = file.read(_END)
        rest = path.stat().st_size - len(data)
        if rest > 0:
            file.seek(-min(rest, _END), 2)
            data += b"\n" + file.read(_END)
    return data.decode("utf-8", errors="replace")


def source_text(path: Path) -> str:
    """The text of code or of statements, which have been found to be no longer than any are.

    Raises:
        OSError: it cannot be read.
        ValueError: it has grown since.
    """
    return read_at_most(path, _CODE, "code").decode("utf-8", errors="replace")


def makes_statements(path: Path) -> bool:
    """Whether a Markdown text makes statements about a recipe that is known here."""
    from workbench.recipes.claims_markdown import read_claims

    if path.suffix.lower() not in STATEMENTS:
        return False
    try:
        claims, named = read_claims(path)
    except (ValueError, OSError):
        return False
    return bool(named) and sum(bool(claim.key) for claim in claims) >= LEAST_STATEMENTS


def quoted_config(texts: Iterable[Path]) -> dict[str, Any]:
    """The config that Markdown texts quote as their author's own, its fragments joined; {} for none.

    Args:
        texts: with statements about a recipe.
    """
    from workbench.recipes.claims_markdown import content_of, own_configs
    from workbench.recipes.reading import read_text

    joined: dict[str, Any] = {}
    for path in texts:
        for line, text in own_configs(content_of(path)):
            try:
                values = read_text(text, f"config at line {line} of {path.name}.yaml").values
            except ValueError:
                continue  # a fragment that is no config
            _join(joined, values)
    return joined


def _join(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _join(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value
