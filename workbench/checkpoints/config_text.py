"""What does a config say, without running it? mmengine configs are Python; here they are only read.

A config inside a checkpoint or beside it is somebody else's program: mmengine's Config.fromfile would run it.
This reader knows literals, dict(), names, arithmetic and `_base_` files, and refuses the rest by line.
Source: the merging rules of mmengine@0.10.7 mmengine/config/config.py (_file2dict, _merge_a_into_b).
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from workbench.checkpoints.config_expressions import Evaluator
from workbench.checkpoints.config_merging import PLACEHOLDER, merged, with_base_values
from workbench.checkpoints.config_refusals import Refused, refuse

# The largest config that mmpose dumps has 60 kB.
_SIZE = 1 << 20
_BASES = 50
_BASE_VALUE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")
_FILE_VALUE = re.compile(r"\{\{\s*(fileDirname|fileBasenameNoExtension|fileBasename|fileExtname)\s*\}\}")
_ENVIRONMENT = re.compile(r"\{\{\s*\$")


def read_config(config: Path | str, root: Path | None = None) -> dict[str, Any]:
    """The values of a config, nothing of it being run.

    Args:
        config: a file (.py, .json or .toml) as Path, or the text of a Python config as str.
        root: folder that `_base_` files must lie in; the file's own folder by default. Text has no base files
            unless a root is given, which they are then relative to.

    Returns:
        top-level names -> values, base files merged as mmengine does.

    Raises:
        FileNotFoundError: the file, or a base file, is missing.
        ValueError: it would need to run code, or a base file lies outside root; the message names line and
            construct.
    """
    if isinstance(config, Path):
        root = (root or config.parent).resolve()
        return _file(config.resolve(), root, ())
    return _text(config, "config", None if root is None else root.resolve(), root and root.resolve(), ())


def _file(path: Path, root: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path in above:
        raise ValueError(f"{path.name} is its own base: {' -> '.join(p.name for p in (*above, path))}")
    if len(above) > _BASES:
        raise ValueError(f"{path.name}: base files are nested more than {_BASES} deep")
    if not path.is_file():
        raise FileNotFoundError(
            f"no config {path}" + (f", which {above[-1].name} names as base" if above else "")
        )
    if path.stat().st_size > _SIZE:
        raise ValueError(f"{path.name}: a config of {path.stat().st_size} bytes is refused")
    try:
        text = path.read_text("utf-8")
        if path.suffix == ".json":
            found = json.loads(text)
        elif path.suffix == ".toml":
            found = _toml(text, path.name)
        else:
            return _text(_with_file_values(text, path), path.name, path.parent, root, (*above, path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no text file") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds no names with values")
    return found


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        import tomllib  # type: ignore[import-not-found]
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # type: ignore[import-not-found,no-redef]
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is no TOML: {error}") from error


def _with_file_values(text: str, path: Path) -> str:
    values = {
        "fileDirname": path.parent.as_posix(),
        "fileBasename": path.name,
        "fileBasenameNoExtension": path.stem,
        "fileExtname": path.suffix,
    }
    return _FILE_VALUE.sub(lambda found: values[found[1]], text)


def _text(
    text: str, name: str, folder: Path | None, root: Path | None, above: tuple[Path, ...]
) -> dict[str, Any]:
    if len(text) > _SIZE:
        raise ValueError(f"{name}: a config of {len(text)} characters is refused")
    if _ENVIRONMENT.search(text):
        raise ValueError(f"{name} reads environment variables ({{{{$NAME}}}}), which is not allowed here")
    if _FILE_VALUE.search(text):
        raise ValueError(f"{name} uses {_FILE_VALUE.search(text)[0]}, but it is no file")  # type: ignore[index]
    wanted = list(dict.fromkeys(_BASE_VALUE.findall(text)))
    text = _BASE_VALUE.sub(lambda found: f'"{PLACEHOLDER.format(wanted.index(found[1]))}"', text)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        raise ValueError(f"{name} is no Python config: {line}{getattr(error, 'msg', error)}") from error
    try:
        base = _bases(tree, name, folder, root, above)
        own = _assigned(tree, base)
    except RecursionError as error:
        raise ValueError(f"{name} is nested deeper than any config") from error
    except Refused as error:
        raise ValueError(f"{name}, {error}") from error
    own = with_base_values(own, wanted, base, name)
    return merged(own, base)


def _bases(
    tree: ast.Module, name: str, folder: Path | None, root: Path | None, above: tuple[Path, ...]
) -> dict[str, Any]:
    """The values of all base files together."""
    found: dict[str, Any] = {}
    for statement in tree.body:
        if not (
            isinstance(statement, ast.Assign) and [ast.unparse(t) for t in statement.targets] == ["_base_"]
        ):
            continue
        named = Evaluator({}).value(statement.value)
        for one in [named] if isinstance(named, str) else named:
            if not isinstance(one, str) or folder is None or root is None:
                raise refuse(statement, "_base_ in a text without a folder of base files")
            path = (folder / one).resolve()
            if "::" in one or not path.is_relative_to(root):
                raise refuse(statement, f"the base file {one!r}, which lies outside {root.name},")
            values = _file(path, root, above)
            twice = found.keys() & values.keys()
            if twice:
                raise refuse(statement, f"base files that both set {sorted(twice)[0]!r}")
            found |= values
    return found


def _assigned(tree: ast.Module, base: dict[str, Any]) -> dict[str, Any]:
    """The names that a config binds, in order."""
    names: dict[str, Any] = {"_base_": base}
    evaluator = Evaluator(names)
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, ast.Pass):
            continue
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "mmengine.config"
            and [a.name for a in node.names] == ["read_base"]
        ):
            continue
        if isinstance(node, ast.With) and "read_base" in ast.unparse(node.items[0].context_expr):
            raise refuse(node, "a config of the new style, which imports its bases with read_base(),")
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            _bind(node.target, evaluator.value(node.value), evaluator)
        elif isinstance(node, ast.Assign):
            if [ast.unparse(t) for t in node.targets] == ["_base_"]:
                continue
            value = evaluator.value(node.value)
            for target in node.targets:
                _bind(target, value, evaluator)
        elif isinstance(node, ast.AugAssign):
            both = ast.BinOp(left=_loaded(node.target), op=node.op, right=node.value, lineno=node.lineno)
            found = evaluator.value(both)
            if isinstance(found, list):
                raise refuse(node, "a list that is changed in place")
            _bind(node.target, found, evaluator)
        else:
            raise refuse(node)
    return {name: value for name, value in names.items() if not name.startswith("__") and name != "_base_"}


def _loaded(target: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(target), mode="eval").body


def _bind(target: ast.expr, value: Any, evaluator: Evaluator) -> None:
    if isinstance(target, ast.Name):
        evaluator.names[target.id] = value
    elif (
        isinstance(target, (ast.Tuple, ast.List))
        and isinstance(value, (tuple, list))
        and len(value) == len(target.elts)
    ):
        for part, item in zip(target.elts, value, strict=True):
            _bind(part, item, evaluator)
    elif isinstance(target, (ast.Subscript, ast.Attribute)):
        # Python would change every name bound to the same dict; here each use of a name is a copy.
        raise refuse(target, "an assignment to an item or attribute")
    else:
        raise refuse(target, "an assignment of this kind")
