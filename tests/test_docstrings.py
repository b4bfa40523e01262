"""Public functions of the lower rooms say what their arguments are and which errors they raise."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "workbench"
ROOMS = ("core", "checkpoints", "models", "decoding", "evaluation", "training")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
DECLARED = ("capabilities.py", "model.py", "report.py")
"""In core: their protocols say once what a method takes; what implements it does not say it again."""
# Methods that another library calls, with arguments as it documents them.
FOREIGN = {"forward", "loss", "predict", "before_train_iter", "after_train_iter", "createIndex", "loadRes"}
DESCRIBED_AS_VALUES = {"property", "cached_property", "overload", "setter"}
NO_ERRORS = {"NotImplementedError", "AttributeError", "StopIteration"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[tuple[str, Function, bool]]:
    """Name, function, and whether it is a method, of all public ones in a file."""

    def of(body: list[ast.stmt], before: str) -> Iterator[tuple[str, Function, bool]]:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from of(node.body, f"{before}{node.name}.")
                continue
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            if not DESCRIBED_AS_VALUES & set(map(_name, node.decorator_list)):
                yield before + node.name, node, bool(before)

    return of(ast.parse(path.read_text(encoding="utf-8")).body, "")


def _name(node: ast.expr) -> str:
    node = node.func if isinstance(node, ast.Call) else node
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def arguments(function: Function) -> list[str]:
    """Names, without self and cls."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    more = [one for one in (given.vararg, given.kwarg) if one]
    return [one.arg for one in (*named, *more) if one.arg not in ("self", "cls")]


def raised(function: Function) -> set[str]:
    """Errors that a function itself raises, and lets out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            return
        if isinstance(node, ast.Try):  # a part of the handlers' own; what they catch is not told apart
            for one in (*node.handlers, *node.orelse, *node.finalbody):
                visit(one)
            return
        if isinstance(node, ast.Raise) and node.exc is not None:
            found.add(_name(node.exc))
        for child in ast.iter_child_nodes(node):
            visit(child)

    for node in function.body:
        visit(node)
    return {name for name in found if name[:1].isupper()} - NO_ERRORS


def section(docstring: str, title: str) -> str:
    """The text below a title; "" where there is none."""
    parts = re.split(r"^(\w+):$", docstring, flags=re.MULTILINE)
    return next((text for name, text in zip(parts[1::2], parts[2::2], strict=True) if name == title), "")


def lacking(path: Path) -> list[str]:
    """One line for each function whose docstring leaves out an argument or its errors."""
    declaring = [ROOT / "core" / file for file in DECLARED]
    declared = {
        name.rpartition(".")[2] for file in declaring for name, _, method in functions(file) if method
    }
    found = []
    for name, function, method in functions(path):
        inherited = method and name.rpartition(".")[2] in (declared | FOREIGN) and path not in declaring
        docstring = ast.get_docstring(function) or ""
        if inherited or (method and not docstring):  # a method whose name says it needs no second sentence
            continue
        names = arguments(function)
        said = section(docstring, "Args")
        absent = [one for one in names if not re.search(rf"\b{one.lstrip('_')}\b", said)]
        elsewhere = re.search(r"[Aa]rguments (as|of)|for the arguments", docstring)
        if (len(names) > 1 or said) and absent and not elsewhere:
            found.append(f"{path.relative_to(ROOT)}: {name}: Args without {', '.join(absent)}")
        extra = [one for one in re.findall(r"^ {4}\*{0,2}(\w+):", said, re.MULTILINE) if one not in names]
        if extra:
            found.append(
                f"{path.relative_to(ROOT)}: {name}: Args of {', '.join(extra)}, which it does not take"
            )
        stated = section(docstring, "Raises") or docstring.startswith("Raise ")
        if raised(function) and not stated:
            found.append(f"{path.relative_to(ROOT)}: {name}: raises {', '.join(sorted(raised(function)))}")
    return found


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ('def f(a, b):\n    """One line."""\n', "Args without a, b"),
        ('def f(a, b):\n    """One.\n\n    Args:\n        a: x.\n    """\n', "Args without b"),
        ('def f(a):\n    """One.\n\n    Args:\n        c: x.\n    """\n', "Args of c"),
        ('def f(a):\n    """One."""\n    raise ValueError("x")\n', "raises ValueError"),
        ('class C:\n    def f(self, a, b):\n        """One line."""\n', "Args without a, b"),
    ],
)
def test_a_docstring_that_leaves_something_out_is_found(tmp_path, monkeypatch, code, words):
    (tmp_path / "core").mkdir()
    for name in DECLARED:
        (tmp_path / "core" / name).write_text("")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "file.py"
    file.write_text(code)
    assert words in "; ".join(lacking(file))


def test_public_functions_say_their_arguments_and_errors():
    assert [line for path in FILES for line in lacking(path)] == []
