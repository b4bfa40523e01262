"""Syntax trees and literals of Python texts, from many threads."""

from __future__ import annotations

import ast
import gc
import threading

import pytest

from tests.conftest import ROOT
from workbench.core.python_text import literal_of, tree_of


def test_trees_are_built_in_several_threads_while_garbage_is_collected():
    text = "\n".join(f"def f{i}(a, b=1):\n    return [x + {i} for x in range(a) if x]" for i in range(300))
    wanted, found = ast.dump(ast.parse(text)), []

    def callback(*_):
        sum(range(200))  # Python code: here another thread can go on

    def build(deep):
        if deep:
            build(deep - 1)
        else:
            found.extend(ast.dump(tree_of(text)) == wanted for _ in range(10))

    usual = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # Python's own; the suite looks for garbage less often
    gc.callbacks.append(callback)
    try:
        threads = [threading.Thread(target=build, args=(20 * number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.callbacks.remove(callback)
        gc.set_threshold(*usual)
    assert found == [True] * 30


def test_literals_and_what_is_none():
    assert literal_of(" {'shape': (2, 3), 'order': False}") == {"shape": (2, 3), "order": False}
    assert isinstance(tree_of("1 + 1", "eval"), ast.Expression)
    for text, error in (("open('x')", ValueError), ("1 +", SyntaxError), ("1\0", (ValueError, SyntaxError))):
        with pytest.raises(error):
            literal_of(text)


def test_no_other_file_builds_trees():
    files = [*(ROOT / "workbench").rglob("*.py"), *(ROOT / "apps").rglob("*.py")]
    users = [p.name for p in files if any(n in p.read_text() for n in ("ast.parse(", "ast.literal_eval("))]
    assert users == ["python_text.py"]
