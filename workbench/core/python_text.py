"""Python read as text, from any thread: its syntax tree and its literals. Nothing is run."""

from __future__ import annotations

import ast
import threading
from typing import Any, Literal, overload

# Python 3.11 counts the depth of the tree under construction in one place for all threads. Where the garbage
# collector lets another thread run in between, and that one builds a tree too, both end in a SystemError.
_ONE_AT_A_TIME = threading.RLock()
_ATTEMPTS = 20  # other packages build trees as well, and do not wait


@overload
def tree_of(text: str) -> ast.Module: ...
@overload
def tree_of(text: str, mode: Literal["eval"]) -> ast.Expression: ...
def tree_of(text: str, mode: Literal["exec", "eval"] = "exec") -> ast.Module | ast.Expression:
    """The syntax tree of a Python text; from any thread.

    Args:
        text: statements, or one expression where the mode is "eval".
        mode: as in `ast.parse`.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as `ast.parse` raises them.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with _ONE_AT_A_TIME:
                return ast.parse(text) if mode == "exec" else ast.parse(text, mode="eval")
        except SystemError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError


def literal_of(text: str) -> Any:
    """The value of a Python literal: numbers, texts, tuples, lists, dicts, sets, True, False and None.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: no literal, as `ast.literal_eval` raises them.
    """
    return ast.literal_eval(tree_of(text.lstrip(" \t"), "eval"))
