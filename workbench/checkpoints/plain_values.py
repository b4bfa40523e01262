"""What values does a text in JSON or TOML hold? Read within a budget: neither parser has one of its own."""

from __future__ import annotations

import json
import sys
from typing import Any

from workbench.checkpoints.budget import Budget, TooExpensive

# How deep values of people's files are nested, at most.
DEPTH = 60
# No file of people counts further than this many bits.
BITS = 256
# Of `a.b.c = 1` in TOML: the parser's time grows with the square of the number of parts.
_PARTS = 40
_ENDS_A_KEY = frozenset("=,[]{}\n#")


def plain_values(text: str, kind: str, budget: Budget) -> Any:
    """The value that a text holds.

    Args:
        text: of the whole file; how long it may be is for the caller to say.
        kind: ``json`` or ``toml``.
        budget: what the values are charged to.

    Raises:
        ValueError: it is no such text, or holds more, deeper or larger values than any file of people.
    """
    try:
        found = _toml(text) if kind == "toml" else json.loads(text)
    except RecursionError as error:
        raise ValueError(f"is no {kind.upper()}: it is nested too deep") from error
    except ValueError as error:  # both libraries' own errors are ValueErrors
        raise ValueError(f"is no {kind.upper()} that can be read: {error}") from error
    try:
        return copied(found, budget)
    except TooExpensive:
        raise
    except ValueError as error:
        raise ValueError(f"holds {error}") from error


def copied(value: Any, budget: Budget, depth: int = DEPTH) -> Any:
    """A copy of a value, each of its parts charged; so is every part of a value that is used twice.

    Args:
        value: dictionaries, lists, tuples and what they hold.
        budget: what the copy is charged to.
        depth: how deep they may be nested.

    Raises:
        TooExpensive: nothing is left.
        ValueError: it is nested deeper, or holds a number beyond all use.
    """
    budget.step()
    if depth < 0:
        raise ValueError(f"a value nested more than {DEPTH} deep")
    if isinstance(value, int) and value.bit_length() > BITS:
        raise ValueError("a number of this size")
    if isinstance(value, dict):
        return {key: copied(item, budget, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(item, budget, depth - 1) for item in value)
    return value


def _toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # pyright: ignore[reportMissingImports]
    parts = 0
    for piece in text.split("."):
        # What a key cannot go on over begins a new count; so does an empty piece, as in "and so on ...".
        parts = 0 if not piece.strip() or not _ENDS_A_KEY.isdisjoint(piece) else parts + 1
        if parts > _PARTS:
            raise ValueError(f"a key of more than {_PARTS} parts")
    return tomllib.loads(text)
