"""The examples in docstrings do what they say. They are small, and work offline in an empty folder."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "workbench").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
# What a newcomer calls first: each shows how.
ENTRY_POINTS = (
    ("workbench.checkpoints", "open_checkpoint"),
    ("workbench.checkpoints.loading", "load_state"),
    ("workbench.models", "open_model"),
    ("workbench.data.opening", "open_data"),
    ("workbench.decoding", "decode"),
    ("workbench.evaluation.predict", "predict"),
    ("workbench.evaluation.sweeps.sweep", "sweep"),
    ("workbench.training.overfit", "overfit"),
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_of_a_module_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testmod(importlib.import_module(module), optionflags=options)
    assert found.attempted, "an example that doctest does not find"
    assert not found.failed


@pytest.mark.parametrize(("module", "name"), ENTRY_POINTS)
def test_every_entry_point_has_an_example(module, name):
    assert ">>> " in (getattr(importlib.import_module(module), name).__doc__ or "")
