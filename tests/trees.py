"""Python files of the project, read as text by the tests that look at code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from workbench.core.python_text import tree_of


def tree(path: Path, only: str = "") -> ast.Module:
    """Syntax tree of a file; an empty one where the regular expression `only` matches nothing in it.

    The trees of all five hundred files take seconds, and most tests look for something that few files have.
    """
    text = path.read_text(encoding="utf-8")
    return tree_of(text if re.search(only, text) else "")


def statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All statements at any depth, without the expressions in them, which are nine tenths of a tree."""
    for one in body:
        yield one
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(one, field, [])
            if isinstance(inner, list):  # the body of a lambda or of a conditional expression is none
                yield from statements(inner)
