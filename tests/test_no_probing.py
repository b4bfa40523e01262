"""No code asks a model by hasattr or getattr what it can do; it asks by isinstance with a capability."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

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
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        is_probe = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
        if not is_probe or not isinstance(node.args[1], ast.Constant):
            continue
        if node.args[1].value in OF_MODELS:
            found.append((node.lineno, str(node.args[1].value)))
    return found


@pytest.mark.parametrize("code", ["hasattr(model, 'rollout')", "getattr(run.model, 'note', '')"])
def test_a_probe_is_found(tmp_path, code):
    file = tmp_path / "probing.py"
    file.write_text(f"x = 1\nif {code}:\n    pass\n")
    assert len(probes(file)) == 1


def test_no_model_is_probed_outside_the_adapters_boundary():
    found = {str(path.relative_to(ROOT)): probes(path) for path in FILES}
    assert {place: lines for place, lines in found.items() if lines and place not in BOUNDARY} == {}
