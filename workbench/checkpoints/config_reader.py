"""Restricted reader of mmengine configs: gives their values without running them.

A config inside a checkpoint or beside it is somebody else's Python program, which mmengine's Config.fromfile
would run. This reader knows literals, dict(), names, arithmetic and `_base_` files, and refuses the rest with
its line. Source: the merging rules of mmengine@0.10.7 mmengine/config/config.py (_file2dict,
_merge_a_into_b, _substitute_base_vars, _parse_lazy_import).

Configs of the new style, which import their bases inside `with read_base():` and their classes by name, are
read by `read_available` alone: an imported class becomes its dotted name, as mmengine writes it when it dumps
such a config.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.checkpoints.budget import Budget, TooExpensive
from workbench.checkpoints.config_values import (
    Evaluator,
    Refused,
    copied,
    plain_values,
    refuse,
    refuse_long_keys,
)
from workbench.core import reason
from workbench.core.files import read_at_most, require_file, resolved
from workbench.core.python_text import tree_of

# The largest config that mmpose dumps has 60 kB.
_SIZE = 1 << 18
_BASES = 50
# Of a module's dotted name.
_LONGEST = 200
# Charged per file, however little it holds.
_STEPS_OF_A_FILE = 100
_EXPECTED = "expected a config with model = dict(type=...)"
_BASE_VALUE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")
_FILE_VALUE = re.compile(r"\{\{\s*(fileDirname|fileBasenameNoExtension|fileBasename|fileExtname)\s*\}\}")
_ENVIRONMENT = re.compile(r"\{\{\s*\$")
# Replaces {{_base_.x}} in the text until the base files are read.
_PLACEHOLDER = "_base_value_{}_"
_MARK = re.compile(_PLACEHOLDER.format(r"(\d{1,9})"))


def read_config(config: Path | str, root: Path | None = None, budget: Budget | None = None) -> dict[str, Any]:
    """The values of a config; nothing in it is run.

    Args:
        config: a file (.py, .json or .toml) as Path, or the text of a Python config as str.
        root: folder that `_base_` files must lie in, links followed; None for the file's own folder. Text has
            no base files unless a root is given, which they are then relative to.
        budget: work and memory that may be spent; None for a new one. Configs that are read for one purpose
            share one.

    Returns:
        top-level name -> value, base files merged as mmengine does.

    Raises:
        FileNotFoundError: the file, or a base file, is missing.
        OSError: it cannot be read.
        ValueError: it would need to run code, a base file lies outside root, or it is larger than any real
            config; the message names line and construct.

    Example:
        >>> read_config("width = 192; input_size = (width, width * 4 // 3)")
        {'width': 192, 'input_size': (192, 256)}
    """
    name = config.name if isinstance(config, Path) else "config"
    reading = _Reading(budget or config_budget(name))
    if isinstance(config, Path):
        path = config.resolve()
        reading.root = (root or path.parent).resolve()
        return reading.file(path, ())
    reading.root = None if root is None else root.resolve()
    return reading.text(config, "config", reading.root, ())


def text_of(path: Path) -> str:
    """The text of a config file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than any real config, or no text.
    """
    data = read_at_most(path, _SIZE, "a config")
    try:
        # As Python reads its source files: line ends of any kind, a byte order mark or none.
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is no text in UTF-8: byte {error.start} is 0x{data[error.start]:02x}"
        ) from error


@dataclass(frozen=True)
class AvailableConfig:
    """What could be read of a config whose base files may be absent.

    Attributes:
        values: top-level name -> value.
        missing: base files that are not there, or lie outside the folder: their values are not among these.
    """

    values: dict[str, Any]
    missing: tuple[str, ...] = ()


def read_available(config: Path | str, root: Path | None = None, name: str = "config") -> AvailableConfig:
    """As `read_config`, for a config that is looked at and not used: new style too, base files if there.

    Args:
        config: a file (.py, .json, .toml, .yaml) as Path, or the text of a Python config as str.
        root: folder that base files must lie in; None for the file's own folder.
        name: of a text, for errors.

    Raises:
        OSError: the file cannot be read.
        ValueError: it would need to run code, or is larger than any real config.

    Example:
        >>> read_available("_base_ = ['../runtime.py']; width = 192")
        AvailableConfig(values={'width': 192}, missing=('../runtime.py',))
    """
    name = config.name if isinstance(config, Path) else name
    reading = _Reading(config_budget(name), partly=True)
    if isinstance(config, Path):
        path = config.resolve()
        reading.root = (root or path.parent).resolve()
        values = reading.file(path, ())
    else:
        reading.root = None if root is None else root.resolve()
        values = reading.text(config, name, reading.root, ())
    return AvailableConfig(values, tuple(dict.fromkeys(reading.missing)))


def config_budget(name: str) -> Budget:
    """The work and memory that reading configs may cost.

    Args:
        name: of the file they are read for, for error messages.
    """
    # The largest config that mmpose ships takes 3,000 steps.
    return Budget(name, "config", steps=300_000, nbytes=8 << 20)


@dataclass
class _Reading:
    """One config and all its base files: each is read once, and all are charged to one budget.

    Attributes:
        partly: read configs of the new style, and go on where a base file is absent.
        missing: base files that were absent.
    """

    budget: Budget
    root: Path | None = None
    partly: bool = False
    files: dict[Path, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def file(self, path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
        """The values of a file."""
        if path in above:
            raise ValueError(f"{path.name} is its own base: {' -> '.join(p.name for p in (*above, path))}")
        if path in self.files:
            return self.files[path]
        if len(self.files) > _BASES or len(above) > _BASES:
            raise ValueError(f"{path.name}: a config with more than {_BASES} base files is refused")
        require_file(path, f"no config {path}" + (f", which {above[-1].name} names as base" if above else ""))
        self.budget.step(_STEPS_OF_A_FILE)
        text = text_of(path)
        if path.suffix in (".json", ".toml") or (self.partly and path.suffix in (".yaml", ".yml")):
            found = self._plain(text, path)
        else:
            found = self.text(_with_file_values(text, path), path.name, path.parent, (*above, path))
        self.files[path] = found
        return found

    def _plain(self, text: str, path: Path) -> dict[str, Any]:
        """A file of another language that only holds values."""
        try:
            kind = "yaml" if path.suffix == ".yml" else path.suffix[1:]
            found = plain_values(text, kind, self.budget)
        except TooExpensive:
            raise
        except ValueError as error:
            raise ValueError(f"{path.name}: {_EXPECTED}, but it {error}") from error
        if not isinstance(found, dict):
            kind = "a list" if isinstance(found, list) else json.dumps(found, default=str)[:40]
            raise ValueError(f"{path.name}: {_EXPECTED}, got {kind}")
        return found

    def text(self, text: str, name: str, folder: Path | None, above: tuple[Path, ...]) -> dict[str, Any]:
        """The values of a Python config's text."""
        if len(text) > _SIZE:
            raise ValueError(f"{name}: a config of more than {_SIZE} characters is refused")
        if _ENVIRONMENT.search(text):
            raise ValueError(f"{name} reads environment variables ({{{{$NAME}}}}), which is not allowed here")
        if found := _FILE_VALUE.search(text):
            raise ValueError(f"{name} uses {found[0]}, but it is no file")
        wanted = {dotted: number for number, dotted in enumerate(dict.fromkeys(_BASE_VALUE.findall(text)))}
        text = _BASE_VALUE.sub(lambda found: f'"{_PLACEHOLDER.format(wanted[found[1]])}"', text)
        try:
            tree = tree_of(text)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            line = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
            raise ValueError(f"{name} is no Python config: {line}{reason(error)}") from error
        try:
            base = self._bases(tree, folder, above)
            new_style = _Imports(self, folder, above) if self.partly and _imports_bases(tree) else None
            own = _assigned(tree, base, self.budget, new_style)
            known = _with_absent(base, wanted) if self.missing else base
            own = with_base_values(own, list(wanted), known, name, self.budget)
            found = merged(own, base, self.budget)
        except RecursionError as error:
            raise ValueError(f"{name} is nested deeper than any config") from error
        except Refused as error:
            raise ValueError(f"{name}, {error}") from error
        try:
            refuse_long_keys(found)
        except ValueError as error:
            raise ValueError(f"{name} holds {error}") from error
        return found

    def _bases(self, tree: ast.Module, folder: Path | None, above: tuple[Path, ...]) -> dict[str, Any]:
        """The values of all base files together."""
        found: dict[str, Any] = {}
        for statement in tree.body:
            if not (isinstance(statement, ast.Assign) and _binds_base(statement)):
                continue
            named = Evaluator({}, self.budget).value(statement.value)
            if not isinstance(named, (str, list, tuple)):
                raise refuse(
                    statement, f"_base_ = {str(named)[:40]}, neither a file's name nor a list of them,"
                )
            for one in [named] if isinstance(named, str) else named:
                path = self._base(statement, folder, one)
                if path is None:
                    self.missing.append(str(one)[:200])
                    continue
                values = self.file(path, above)
                self.budget.step(len(values))
                twice = found.keys() & values.keys()
                if twice:
                    raise refuse(statement, f"base files that both set {str(min(twice, key=str))[:60]!r}")
                found |= values
        return found

    def _base(self, statement: ast.Assign, folder: Path | None, named: Any) -> Path | None:
        """The base file; None where it is absent and may be."""
        if not isinstance(named, str) or folder is None or self.root is None:
            if self.partly and isinstance(named, str):
                return None
            raise refuse(statement, "_base_ in a text without a folder of base files")
        try:
            path = resolved(folder / named)
            inside = "::" not in named and path.is_relative_to(self.root)
            if self.partly and not (inside and path.is_file()):
                return None
            path.is_file()
        except (OSError, ValueError) as error:  # too long, a NUL in it, links in a circle
            why = error.strerror if isinstance(error, OSError) else str(error)[:200]
            raise refuse(statement, f"the base file {named[:60]!r} ({why})") from error
        if not inside:
            raise refuse(statement, f"the base file {named[:200]!r}, which lies outside {self.root.name},")
        return path


def _with_file_values(text: str, path: Path) -> str:
    values = {
        "fileDirname": path.parent.as_posix(),
        "fileBasename": path.name,
        "fileBasenameNoExtension": path.stem,
        "fileExtname": path.suffix,
    }
    return _FILE_VALUE.sub(lambda found: values[found[1]], text)


def _binds_base(statement: ast.Assign) -> bool:
    target = statement.targets[0]
    return len(statement.targets) == 1 and isinstance(target, ast.Name) and target.id == "_base_"


def _with_absent(base: dict[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """The base values, and for each wanted one that is absent its own name in words."""
    found = dict(base)
    for dotted in wanted:
        inner, *keys = found, *dotted.split(".")
        for key in keys[:-1]:
            below = inner.get(key)
            inner[key] = dict(below) if isinstance(below, dict) else {}
            inner = inner[key]
        inner.setdefault(keys[-1], f"{{{{_base_.{dotted}}}}}")
    return found


# -- configs of the new style


def _imports_bases(tree: ast.Module) -> bool:
    """Whether mmengine would read it as a config of the new style, which it does by the same signs."""
    if any(isinstance(node, ast.Assign) and _binds_base(node) for node in tree.body):
        return False
    return any(
        isinstance(node, ast.With) or (isinstance(node, ast.ImportFrom) and node.module != "mmengine.config")
        for node in tree.body
    )


@dataclass
class _Imports:
    """What a config of the new style imports: values of base files, and names of classes."""

    reading: _Reading
    folder: Path | None
    above: tuple[Path, ...]
    classes: set[str] = field(default_factory=set)

    def bind(self, node: ast.stmt, evaluator: Evaluator) -> bool:
        """Bind what one statement imports; False where it is none of the new style."""
        if isinstance(node, ast.With):
            self._bases(node, evaluator)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                if alias.name == "*":
                    raise refuse(node, "a star import outside of read_base()")
                evaluator.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                self.classes.add(alias.asname or alias.name)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self._update(node.value, evaluator)
        else:
            return False
        return True

    def _bases(self, node: ast.With, evaluator: Evaluator) -> None:
        call = node.items[0].context_expr
        if len(node.items) > 1 or ast.unparse(call)[:40] not in ("read_base()", "mmengine.read_base()"):
            raise refuse(node)
        for line in node.body:
            if isinstance(line, ast.Pass):
                continue
            if not isinstance(line, ast.ImportFrom):
                raise refuse(line, "anything but `from ... import ...` inside of read_base()")
            values = self._values(line)
            for alias in line.names:
                if alias.name == "*":
                    self.reading.budget.step(1 + len(values))
                    evaluator.names.update({name: evaluator.copied(v, line) for name, v in values.items()})
                elif alias.name in values:
                    name = alias.asname or alias.name
                    evaluator.names[name] = evaluator.copied(values[alias.name], line)

    def _values(self, line: ast.ImportFrom) -> dict[str, Any]:
        """The values of the base file that a line imports from."""
        module = "." * line.level + (line.module or "")
        if len(module) > _LONGEST or line.level > _BASES:
            raise refuse(line, "a base file with a name of this length")
        path = self._path(line.level, (line.module or "").split("."))
        if path is None:
            self.reading.missing.append(module)
            return {}
        return self.reading.file(path, self.above)

    def _path(self, level: int, parts: list[str]) -> Path | None:
        """The file inside the root that mmengine would import; None without one."""
        root, folder = self.reading.root, self.folder
        if root is None or folder is None or not all(parts):
            return None
        folder = folder.resolve()
        # A package's own name is looked up in the folders above: nothing outside of the root is read.
        up = [folder, *folder.parents]
        for start in up[level - 1 : level] if level else up:
            path = resolved(start.joinpath(*parts).with_suffix(".py"))
            if path.is_relative_to(root) and path.is_file():
                return path
        return None

    def _update(self, call: ast.Call, evaluator: Evaluator) -> None:
        """``name.update(...)`` and ``name.merge(dict(...))`` on a dict that no other value holds."""
        method = call.func
        names = evaluator.names
        what = f"the call {ast.unparse(method)[:60]}(...)"
        if not isinstance(method, ast.Attribute) or not isinstance(method.value, ast.Name):
            raise refuse(call, what)
        name = method.value.id
        if self.reading.missing and name not in names:
            names[name] = {}  # it was to come from a base file that is absent
        if method.attr not in ("update", "merge") or not isinstance(names.get(name), dict):
            raise refuse(call, what)
        if name in evaluator.shared:
            raise refuse(call, f"a change of {name!r} after its use in another value")
        as_dict = ast.Call(func=ast.Name("dict", ast.Load()), args=call.args, keywords=call.keywords)
        given = evaluator.value(ast.copy_location(as_dict, call))
        if method.attr == "update":
            names[name] = {**names[name], **given}
        else:
            names[name] = merged(given, names[name], self.reading.budget)


def _assigned(
    tree: ast.Module, base: dict[str, Any], budget: Budget, new_style: _Imports | None = None
) -> dict[str, Any]:
    """The names that a config binds, in order."""
    names: dict[str, Any] = {"_base_": base}
    evaluator = Evaluator(names, budget)
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
        if new_style is not None and new_style.bind(node, evaluator):
            continue
        if isinstance(node, ast.With) and "read_base" in ast.unparse(node.items[0].context_expr):
            raise refuse(node, "a config of the new style, which imports its bases with read_base(),")
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            _bind(node.target, evaluator.value(node.value), evaluator)
        elif isinstance(node, ast.Assign):
            if _binds_base(node):
                continue
            value = evaluator.value(node.value)
            for n, target in enumerate(node.targets):
                # Of `a = b = []` each name gets a list of its own, as every use of a name is a copy.
                _bind(target, value if n == 0 else evaluator.copied(value, node), evaluator)
        elif isinstance(node, ast.AugAssign):
            both = ast.BinOp(left=_loaded(node.target), op=node.op, right=node.value, lineno=node.lineno)
            found = evaluator.value(both)
            if isinstance(found, list):
                raise refuse(node, "a list that is changed in place")
            _bind(node.target, found, evaluator)
        else:
            raise refuse(node)
    hidden = {"_base_"} if new_style is None else {"_base_", *new_style.classes}
    return {name: value for name, value in names.items() if not name.startswith("__") and name not in hidden}


def _loaded(target: ast.expr) -> ast.expr:
    return tree_of(ast.unparse(target), "eval").body


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


# -- a config over its base files


def with_base_values(
    value: Any, wanted: Sequence[str], base: dict[str, Any], name: str, budget: Budget
) -> Any:
    """The value with values of base files in place of the placeholders.

    Args:
        value: with placeholders.
        wanted: x of each {{_base_.x}}; the number in a placeholder is its index.
        base: values of all base files.
        name: of the config, for errors.
        budget: charged for the copies: each use of a base value is a copy of its own.

    Raises:
        ValueError: no such base value, one inside a text, a list as key, or the budget is spent.
    """
    if not wanted:
        return value

    def key(item: Any) -> Any:
        found = put(item)
        try:
            hash(found)
        except TypeError:
            raise ValueError(f"{name} uses a {type(found).__name__} of a base file as a key") from None
        return found

    def put(item: Any) -> Any:
        budget.step()
        if isinstance(item, dict):
            return {key(k): put(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return type(item)(put(v) for v in item)
        mark = _MARK.search(item) if isinstance(item, str) else None
        if mark is None or int(mark[1]) >= len(wanted):
            return item
        if mark[0] != item:
            # mmengine leaves a broken text behind in this case.
            raise ValueError(f"{name} uses {{{{_base_...}}}} inside a text; it must stand alone")
        return copied(_base_value(base, wanted[int(mark[1])], name), budget)

    return put(value)


def _base_value(base: dict[str, Any], dotted: str, name: str) -> Any:
    inner: Any = base
    for key in dotted.split("."):
        if not isinstance(inner, dict) or key not in inner:
            raise ValueError(f"{name} uses {{{{_base_.{dotted}}}}}, which no base file sets")
        inner = inner[key]
    return inner


def merged(own: dict[str, Any], base: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """A config over its base, as mmengine merges: dicts key by key unless `_delete_`, all else replaced.

    Args:
        own: values of the config.
        base: values of its base files.
        budget: charged for each key.

    Raises:
        ValueError: a dict would be merged into something that is none, or the budget is spent.
    """
    budget.step(1 + len(own) + len(base))
    found = dict(base)
    for key, value in own.items():
        if not isinstance(value, dict):
            found[key] = value
        elif key not in found or value.get("_delete_", False):
            found[key] = {k: v for k, v in value.items() if k != "_delete_"} if key in found else value
        elif isinstance(found[key], dict):
            found[key] = merged({k: v for k, v in value.items() if k != "_delete_"}, found[key], budget)
        else:
            raise ValueError(
                f"{key!r} is a dict over a {type(found[key]).__name__} of the base file; "
                "`_delete_=True` replaces it"
            )
    return found
