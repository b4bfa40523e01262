"""Fixes as a change of text: a unified diff of the config, where the value stands in it.

The config is parsed and not run. A key path is written as the audit writes it:
``model.backbone.in_channels``, ``train_pipeline[2].padding``.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.checkpoints.config_reader import text_of
from workbench.core import NotAvailable
from workbench.core.python_text import tree_of
from workbench.diagnosis.case import Case
from workbench.diagnosis.evidence import Change

REMOVED = object()
"""In place of a value: the key is taken out."""

_PART = re.compile(r"([^.\[\]]+)|\[(\d{1,6})\]")
# Names that refer to other names, and keys within keys, beyond any config.
_DEPTH = 40


@dataclass(frozen=True)
class Span:
    """Where a value stands in a text.

    Attributes:
        start: offset of its first character.
        end: offset behind its last character.
        entry: offset of its key, or of the value where it has none.
        opening: for a key that is absent: offset behind the bracket of the mapping that should hold it; None
            for a key that is there.
        missing: parts of the path that are absent; () for a key that is there.
    """

    start: int
    end: int
    entry: int
    opening: int | None = None
    missing: tuple[str | int, ...] = ()


def config_diff(case: Case, edits: Mapping[str, Any]) -> str:
    """A unified diff of the config with other values.

    Where the place of a value in the text cannot be told, lines ``-key = old`` and ``+key = new``.

    Args:
        case: whose config counts.
        edits: key path -> value, or REMOVED.

    Returns:
        "" where there is no config, or nothing would change.
    """
    try:
        name, text = config_text(case)
    except (NotAvailable, ValueError):
        return ""
    changed = edited(text, edits, name)
    if changed is None:
        return "\n".join(_by_path(case, edits))
    lines = difflib.unified_diff(
        text.splitlines(), changed.splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=1
    )
    return "\n".join(lines)


def diff_of_change(case: Case, change: Change) -> str:
    """What undoes a cause in the config, or the line that does in an adapter; "" where no text is known.

    Args:
        case: whose config or adapter counts.
        change: that undoes the cause.
    """
    settings = _settings_of(change.name, str(change.facts.get("about", "")))
    if settings is None:
        return ""
    _, line = settings
    if case.options.adapter is not None:
        where = f"{case.options.adapter.name}, before load returns"
        return f"+    model = dataclasses.replace(model, {line})  # {where}"
    edits = edits_of_change(case, change)
    return config_diff(case, edits) if edits else ""


def edits_of_change(case: Case, change: Change) -> dict[str, Any]:
    """Key paths of the config with the values that undo a cause; {} where no key is known."""
    known = _settings_of(change.name, str(change.facts.get("about", "")))
    try:
        config = case.config()
    except NotAvailable:
        return {}
    settings = {} if known is None else known[0]
    return {path: value for key, value in settings.items() for path in _paths_to(config, key)}


def _settings_of(name: str, about: str) -> tuple[dict[str, Any], str] | None:
    """Keys of an mmpose config with their values, and fields of TopDown, that a change stands for."""
    from workbench.evaluation.probes.input import NORMALISATIONS

    if name == "red and blue exchanged":
        bgr = about.startswith("channels BGR")
        # OpenCV reads blue first; the preprocessor turns it for a network that wants red first.
        return {"bgr_to_rgb": not bgr}, f"bgr={bgr}"
    if name in NORMALISATIONS:
        mean, std = (tuple(map(float, values)) for values in NORMALISATIONS[name])
        return {"mean": list(mean), "std": list(std)}, f"mean={mean}, std={std}"
    if found := re.fullmatch(r"box padding ([\d.]+)", name):
        return {"GetBBoxCenterScale.padding": float(found[1])}, f"padding={float(found[1])}"
    if found := re.fullmatch(r"split ratio ([\d.]+)", name):
        ratio = float(found[1])
        codec = f"codec=dataclasses.replace(model.codec, split_ratio={ratio})"
        return {"simcc_split_ratio": ratio}, codec
    return None


def _paths_to(value: Any, key: str, path: str = "", depth: int = 0) -> Iterator[str]:
    """Every place of a config at which a key stands; `Type.key` wants it beside that type.

    A step of the type without the key is a place too: the key is added there.
    """
    kind, _, word = key.rpartition(".")
    if depth > _DEPTH:
        return
    if isinstance(value, Mapping):
        typed = not kind or str(value.get("type", "")).rpartition(".")[2] == kind
        if typed and (word in value or kind):
            yield f"{path}.{word}" if path else word
        for name, inner in value.items():
            yield from _paths_to(inner, key, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _paths_to(inner, key, f"{path}[{i}]", depth + 1)


def config_text(case: Case) -> tuple[str, str]:
    """Name and text of the config that counts.

    Raises:
        NotAvailable: there is none.
        ValueError: it is no text, or larger than any config.
    """
    path = case.config_path() or next(iter(case.given.configs), None)
    if path is not None:
        return path.name, text_of(path)
    text = case.checkpoint().config_text
    if not text:
        raise NotAvailable("no config was given, and the checkpoint holds none")
    return "config.py", text


def edited(text: str, edits: Mapping[str, Any], name: str = "config.py") -> str | None:
    """The text with other values; None where a key's place in it cannot be told.

    Args:
        text: Python, YAML or JSON.
        edits: key path -> value, or REMOVED.
        name: of the file: its ending says the language.

    Example:
        >>> print(edited("model = dict(padding=1.0)", {"model.padding": 1.25}))
        model = dict(padding=1.25)
    """
    find = _python_span if name.endswith(".py") else _yaml_span
    write = repr if name.endswith(".py") else json.dumps
    changes: list[tuple[int, int, str]] = []
    for path, value in edits.items():
        span = find(text, parts_of(path))
        if span is None:
            return None
        if value is REMOVED:
            changes += [] if span.missing else [_removal(text, span)]
        elif not span.missing:
            changes.append((span.start, span.end, write(value)))
        elif name.endswith(".py") and span.opening is not None:
            changes.append((span.opening, span.opening, _entry(span.missing, value)))
        else:
            return None
    # Two paths may lead to one place, by a name that several parts refer to.
    for start, end, new in sorted(set(changes), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def parts_of(path: str) -> tuple[str | int, ...]:
    """The keys and indices of a key path: ``a.b[2]`` -> ("a", "b", 2)."""
    return tuple(word or int(index) for word, index in _PART.findall(path))


def _entry(missing: tuple[str | int, ...], value: Any) -> str:
    """What is written behind the opening bracket for keys that are absent."""
    text = repr(value)
    for part in reversed(missing[1:]):
        text = f"dict({part}={text})"
    return f"{missing[0]}={text}, "


def _removal(text: str, span: Span) -> tuple[int, int, str]:
    """An entry with its comma; its whole line, where it stands alone on it."""
    start, end = span.entry, span.end
    rest = re.match(r"\s*,[ \t]*", text[end:])
    end += len(rest[0]) if rest else 0
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    if not text[line_start:start].strip() and not text[end:line_end].strip():
        return line_start, min(line_end + 1, len(text)), ""
    return start, end, ""


def _by_path(case: Case, edits: Mapping[str, Any]) -> list[str]:
    """Old and new values by key path, for a config in which the place of a key cannot be told."""
    lines = []
    for path, value in edits.items():
        old: Any = case.config()
        for part in parts_of(path):
            try:
                old = old[part]
            except (KeyError, IndexError, TypeError):
                old = REMOVED
                break
        lines += [f"-{path} = {old!r}"] if old is not REMOVED else []
        lines += [f"+{path} = {value!r}"] if value is not REMOVED else []
    return lines


# Python.


def _python_span(text: str, path: tuple[str | int, ...]) -> Span | None:
    try:
        tree = tree_of(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names = {
        target.id: node
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assigned = names.get(str(path[0])) if path else None
    if assigned is None:
        return None
    offsets = _Offsets(text)
    node: ast.expr = assigned.value
    entry = offsets.at(assigned.lineno, assigned.col_offset)
    for depth, part in enumerate(path[1:], 1):
        for _ in range(_DEPTH):
            if not (isinstance(node, ast.Name) and node.id in names):
                break
            node = names[node.id].value
        found = _child(node, part)
        if found is None:
            return _absent(node, path[depth:], offsets)
        line, column, node = found
        entry = offsets.at(line, column)
    start = offsets.at(node.lineno, node.col_offset)
    return Span(start, offsets.at(node.end_lineno or 0, node.end_col_offset or 0), entry)


def _child(node: ast.expr, part: str | int) -> tuple[int, int, ast.expr] | None:
    """Line and column of the entry of a key or an index, and its value."""
    if isinstance(part, int):
        if isinstance(node, (ast.List, ast.Tuple)) and part < len(node.elts):
            inner = node.elts[part]
            return inner.lineno, inner.col_offset, inner
        return None
    if isinstance(node, ast.Call):
        for word in node.keywords:
            if word.arg == part:
                return word.lineno, word.col_offset, word.value
    if isinstance(node, ast.Dict):
        for key, inner in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == part:
                return key.lineno, key.col_offset, inner
    return None


def _absent(node: ast.expr, missing: tuple[str | int, ...], offsets: _Offsets) -> Span | None:
    """The place behind ``dict(`` where keys that are absent can be written."""
    if not isinstance(node, ast.Call) or any(isinstance(part, int) for part in missing):
        return None
    behind = offsets.at(node.func.end_lineno or 0, node.func.end_col_offset or 0) + 1
    return Span(behind, behind, behind, behind, missing)


class _Offsets:
    """Offsets in a text of lines and columns as `ast` counts them: columns in bytes of UTF-8."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def at(self, line: int, column: int) -> int:
        """The offset in characters of a line from 1 and a column from 0."""
        before = self._lines[line - 1].encode()[:column]
        return self._starts[line - 1] + len(before.decode(errors="replace"))


# YAML, of which JSON is a part.


def _yaml_span(text: str, path: tuple[str | int, ...]) -> Span | None:
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    entry = 0
    for part in path:
        if isinstance(node, yaml.MappingNode) and isinstance(part, str):
            pair = next(((k, v) for k, v in node.value if k.value == part), None)
            if pair is None:
                return None
            entry, node = pair[0].start_mark.index, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            entry = node.start_mark.index
        else:
            return None
    return None if node is None else Span(node.start_mark.index, node.end_mark.index, entry)
