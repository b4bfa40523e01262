"""Modules that have moved are found by their former names, with a warning."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import workbench


@pytest.mark.parametrize(("old", "new"), workbench.FORMER_NAMES.items())
def test_a_former_name_imports_the_module_and_says_the_new_name(old, new, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(FutureWarning, match=new):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__spec__ is not None
    assert module.__spec__.name == new


def test_an_unknown_module_of_a_former_package_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"workbench\.records\.nothing"):
        importlib.import_module("workbench.records.nothing")


def test_an_adapter_of_before_works_unchanged():
    code = "from workbench.records import Codec; from workbench.run import run; print(Codec.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "workbench.core.sample"
    assert "workbench.records is now workbench.core" in done.stderr
