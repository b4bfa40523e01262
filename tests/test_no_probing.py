"""No code asks a model by hasattr what it can do, or casts it: isinstance asks for a capability."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from tests.trees import statements, tree

ROOT = Path(__file__).parent.parent
FILES = sorted(path for room in ("workbench", "apps") for path in (ROOT / room).rglob("*.py"))

# Attributes that only models (or networks) have: every probe for one of them is an error.
OF_MODELS = {
    "rollout", "supported_by", "token_types", "objective", "logged", "switches", "group", "grouping",
    "aggregation", "all_passes", "answer", "padding", "input_size", "shift_heatmap", "shift_coordinates",
    "tags", "text", "text_taps", "reading", "training_pass", "predict_pass", "with_condition", "conditioning",
    "taught", "defects", "note", "attention", "model", "teaching", "skeleton", "codec", "taps", "module",
}  # fmt: skip
# The boundary: what a user's own file returned is checked there, once.
BOUNDARY = {"workbench/models/adapter.py"}


def probes(path: Path) -> list[tuple[int, str]]:
    """Line and attribute of every hasattr, and every getattr with a default, for a name in OF_MODELS."""
    found = []
    for node in ast.walk(tree(path, only=r"\b(has|get)attr\b")):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        is_probe = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
        if not is_probe or not isinstance(node.args[1], ast.Constant):
            continue
        if node.args[1].value in OF_MODELS:
            found.append((node.lineno, str(node.args[1].value)))
    return found


def classes(*paths: Path) -> set[str]:
    """Names of all classes that files define."""
    bodies = [tree(path, only=r"\bclass\b").body for path in paths]
    return {node.name for body in bodies for node in statements(body) if isinstance(node, ast.ClassDef)}


@functools.cache
def models() -> set[str]:
    """What a model is: the capabilities, and the classes of all families."""
    families = (ROOT / "workbench/models").rglob("*.py")
    return {"PoseModel", *classes(ROOT / "workbench/core/capabilities.py", *families)}


def casts(path: Path) -> list[tuple[int, str]]:
    """Line and type of every cast to a capability or to a class of a family, as a name or as a text."""
    found = []
    for node in ast.walk(tree(path, only=r"\bcast\b")):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        wanted = node.args[0]
        text = str(wanted.value) if isinstance(wanted, ast.Constant) else ast.unparse(wanted)
        if called == "cast":
            found += [(node.lineno, name) for name in re.findall(r"\w+", text) if name in models()]
    return found


@pytest.mark.parametrize(
    "code", ['cast("BottomUp", model)', "cast(Groups, model)", 'typing.cast("RollsOut | None", case.model())']
)
def test_a_cast_is_found(tmp_path, code):
    file = tmp_path / "casting.py"
    file.write_text(f"x = 1\ny = {code}\nz = cast('Tensor', x)\n")
    assert [line for line, _ in casts(file)] == [2]


def test_no_model_is_cast_to_a_capability_or_a_family():
    found = {str(path.relative_to(ROOT)): casts(path) for path in FILES}
    assert {place: lines for place, lines in found.items() if lines} == {}


@pytest.mark.parametrize("code", ["hasattr(model, 'rollout')", "getattr(run.model, 'note', '')"])
def test_a_probe_is_found(tmp_path, code):
    file = tmp_path / "probing.py"
    file.write_text(f"x = 1\nif {code}:\n    pass\n")
    assert len(probes(file)) == 1


def test_no_model_is_probed_outside_the_adapters_boundary():
    found = {str(path.relative_to(ROOT)): probes(path) for path in FILES}
    assert {place: lines for place, lines in found.items() if lines and place not in BOUNDARY} == {}
