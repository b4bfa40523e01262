"""Notebooks and their scripts say the same, and run from top to bottom without network."""

from __future__ import annotations

import os

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

FOLDER = ROOT / "notebooks"
NAMES = tuple(sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")))
# Reports shown at least; panels show widgets instead.
SHOWN = {"overfit_panel": 1}


def cells(notebook):
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_says_what_its_script_says(name):
    script = jupytext.read(FOLDER / f"{name}.py")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert cells(script) == cells(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_output(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count]


def test_every_percent_script_has_its_notebook():
    scripts = [path.stem for path in FOLDER.glob("*.py") if "# %%" in path.read_text()]
    assert sorted(scripts) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom(name, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # A kernel beside a busy machine: two threads that wait for each other take minutes, one takes seconds.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [out for cell in code for out in cell.outputs if "text/html" in out.get("data", {})]
    assert len(shown) >= SHOWN.get(name, 4), "reports show themselves"
