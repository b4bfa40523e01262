"""Public functions of the lower rooms say what their arguments are and which errors they raise."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trees import tree

ROOT = Path(__file__).parent.parent / "workbench"
ROOMS = ("core", "checkpoints", "models", "decoding", "evaluation", "training")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
DECLARED = ("capabilities.py", "model.py", "report.py")
"""In core: their protocols say once what a method takes; what implements it does not say it again."""
# Methods that another library calls, with arguments as it documents them.
FOREIGN = {"forward", "loss", "predict", "before_train_iter", "after_train_iter", "createIndex", "loadRes"}
DESCRIBED_AS_VALUES = {"property", "cached_property", "overload", "setter"}
NO_ERRORS = {"NotImplementedError", "AttributeError", "StopIteration"}
# Annotations of jaxtyping state shapes; an array without one is described in words.
WITH_SHAPE = re.compile(
    r"\b(Float|Int|Bool|UInt8|Shaped|Num)"
    r"\[(np\.ndarray|torch\.Tensor|Tensor)( \| (np\.ndarray|Tensor))?, '[^']*'\]"
)
ARRAY = re.compile(r"\b(ndarray|Tensor)\b")
SHAPE = re.compile(
    r"\[(\w+|\.\.\.)(( [*+] |, | )(\w+|\.\.\.|\w+/\d))*\]"  # [N, K, 2], [N, 4 planes, h, w], [N, C, H/4, W/4]
    r"|\b(shapes?|scalars?|px|pixels)\b"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.lru_cache(
    maxsize=8
)  # each file is asked for arguments and for shapes, and those in DECLARED each time
def functions(path: Path) -> tuple[tuple[str, Function, bool], ...]:
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

    return tuple(of(tree(path).body, ""))


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


def without_shape(path: Path) -> list[str]:
    """One line for each array or tensor whose shape neither its annotation nor the docstring states."""
    found = []
    for name, function, _ in functions(path):
        docstring = ast.get_docstring(function) or ""
        said, returned = (
            section(docstring, "Args"),
            section(docstring, "Returns") + section(docstring, "Yields"),
        )
        first = docstring.partition("\n\nArgs:")[0] if said else docstring
        entries = dict(re.findall(r"^ {4}(\w+): ((?:.|\n(?! {4}\w+:))*)", said, re.MULTILINE))
        given = function.args
        for one in (*given.posonlyargs, *given.args, *given.kwonlyargs):
            if is_bare(one.annotation) and not SHAPE.search(entries.get(one.arg) or first):
                found.append(f"{path.relative_to(ROOT)}: {name}: {one.arg} without a shape")
        if is_bare(function.returns) and not SHAPE.search(first + returned):
            found.append(f"{path.relative_to(ROOT)}: {name}: returns an array without a shape")
    return found


def is_bare(annotation: ast.expr | None) -> bool:
    """Whether an annotation names an array and no shape of it."""
    return annotation is not None and bool(ARRAY.search(WITH_SHAPE.sub("", ast.unparse(annotation))))


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


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ('def f(a: Tensor):\n    """Read a."""\n', "a without a shape"),
        ('def f(a: Tensor):\n    """Read a [N, K, 2]."""\n', ""),
        ('def f(a: Float[Tensor, "N K 2"]):\n    """Read a."""\n', ""),
        ('def f(a: Tensor):\n    """Read [N].\n\n    Args:\n        a: points.\n    """\n', "a without"),
        ('def f(a) -> dict[str, Tensor]:\n    """The parts."""\n', "returns an array without a shape"),
        ('def f(a) -> dict[str, Tensor]:\n    """The parts, scalars."""\n', ""),
        ('def f(a) -> np.ndarray:\n    """All.\n\n    Returns:\n        [n, 2], (x, y).\n    """\n', ""),
    ],
)
def test_an_array_without_a_shape_is_found(tmp_path, monkeypatch, code, words):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "file.py"
    file.write_text(code)
    found = "; ".join(without_shape(file))
    assert words in found
    assert bool(words) == bool(found)


def test_public_functions_state_their_arguments_the_shapes_of_arrays_and_errors():
    assert [line for path in FILES for line in (*lacking(path), *without_shape(path))] == []
