"""Notebooks and their scripts say the same, and run from top to bottom without network.

Jupyter is imported where it is used: it takes 2 s, in each worker that collects these tests.
"""

from __future__ import annotations

import os

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "notebooks"
NAMES = tuple(sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")))
# Reports shown at least; panels show widgets instead.
SHOWN = {"overfit_panel": 1}


def read(name):
    import nbformat

    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def cells(notebook):
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_says_what_its_script_says(name):
    import jupytext

    script = jupytext.read(FOLDER / f"{name}.py")
    assert cells(script) == cells(read(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_output(name):
    code = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count]


def test_every_percent_script_has_its_notebook():
    scripts = [path.stem for path in FOLDER.glob("*.py") if "# %%" in path.read_text()]
    assert sorted(scripts) == sorted(NAMES)


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all of them: what takes longest in each is the import of the same libraries."""
    from jupyter_client.manager import AsyncKernelManager

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        # Beside a busy machine two threads that wait for each other take minutes, one takes seconds.
        patch.setenv("OMP_NUM_THREADS", "1")
        manager = AsyncKernelManager(kernel_name="python3")
        yield manager
        stop(manager)


def stop(manager):
    from nbclient.util import run_sync

    if manager.has_kernel:
        run_sync(manager.shutdown_kernel)(now=True)


# CI runs them; their code is that of pages and verbs, which the default suite runs.
@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom(name, kernel):
    import nbformat
    from nbclient import NotebookClient

    notebook = read(name)
    # No name of the notebook before is there: each has to import what it uses.
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    client = NotebookClient(notebook, km=kernel, timeout=240, resources={"metadata": {"path": str(FOLDER)}})
    ended = False
    try:
        client.execute()
        ended = True
    finally:
        if not ended:  # a cell may still run: the next notebook starts its own
            stop(kernel)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [out for cell in code for out in cell.outputs if "text/html" in out.get("data", {})]
    assert len(shown) >= SHOWN.get(name, 4), "reports show themselves"
    whole = nbformat.writes(notebook)
    # At most once per kernel, and all notebooks here share one; plotly.js alone has 4.5 MB.
    assert whole.count("plotly.js v") <= 1
    # A widget of plotly's own would bring it again, under another name.
    assert len(whole) < 9_000_000
