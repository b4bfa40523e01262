"""The files that decide how a model is built: modules beside an adapter, base files of a config."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from workbench.checkpoints.config_reader import text_of
from workbench.core.files import files_in, read_at_most
from workbench.core.python_text import tree_of

# Blanks of one line: `\s` would go on over all blank lines that follow, anew from each of them.
_IMPORTED = re.compile(rb"^[ \t]*(?:from|import)\s+\.?([A-Za-z_]\w*)", re.MULTILINE)
_BASES = 50
_MOST_CODE = 16 << 20  # bytes of one file
"""Base files that are followed at most, as the restricted reader does."""


def code_beside(adapter: Path) -> dict[str, Path]:
    """The adapter, the Python files beside it, and those of the packages there that one of them imports.

    What is imported from elsewhere is not seen.

    Args:
        adapter: the user's file.

    Returns:
        path relative to its folder -> file.
    """
    folder = adapter.parent
    found = {path.name: path for path in (adapter, *files_in(folder, "*.py"))}
    texts = (read_at_most(path, _MOST_CODE, "a Python file") for path in found.values())
    words = {word for text in texts for word in _IMPORTED.findall(text)}
    for package in sorted(name for name in map(bytes.decode, words) if (folder / name).is_dir()):
        found |= {path.relative_to(folder).as_posix(): path for path in files_in(folder / package, "**/*.py")}
    return found


def base_files(config: Path, root: Path | None) -> tuple[Path, ...]:
    """The files that a Python config names as its bases, and those that they name; the config is not run.

    Both styles are read: `_base_ = [...]`, and imports inside of `with read_base():`.

    Args:
        config: the file; what is no Python text has none.
        root: folder that the config and its base files must lie in, links followed: others are neither read
            nor named. None for a config that the user named on the command line.
    """

    def inside(path: Path) -> bool:
        return root is None or path.is_relative_to(root.resolve())

    found: dict[Path, None] = {}
    # A link may lead out of the root, the config itself among them.
    waiting = [path for path in (config.resolve(),) if inside(path)]
    while waiting and len(found) < _BASES:
        for path in _named_bases(waiting.pop()):
            if path not in found and inside(path) and path.is_file():
                found[path] = None
                waiting.append(path)
    return tuple(found)


def _named_bases(config: Path) -> Iterator[Path]:
    try:
        text = text_of(config)
        tree = tree_of(text) if config.suffix == ".py" and ("_base_" in text or "read_base" in text) else None
    except (OSError, ValueError, SyntaxError, MemoryError, RecursionError):
        return
    for statement in () if tree is None else tree.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "_base_":
            for node in ast.walk(statement.value):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\0" not in node.value:
                    yield (config.parent / node.value).resolve()
        elif isinstance(statement, ast.With):
            for line in statement.body:
                if isinstance(line, ast.ImportFrom) and line.module and 0 < line.level < _BASES:
                    folder = config.parents[min(line.level, len(config.parents)) - 1]
                    yield folder.joinpath(*line.module.split(".")).with_suffix(".py").resolve()
