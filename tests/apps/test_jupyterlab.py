"""The grouping notebook in JupyterLab's own page: its cells run, its panel's slider moves people and AP."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.apps.console import Console
from tests.conftest import ROOT
from tests.waiting import until

# JupyterLab loads its own pages and starts a kernel, which imports torch.
PATIENCE = 120_000
# Of the notebook: the cells that open the model, look at an image, and show the panel.
PANEL = ("demo_checkpoints(", "looked = run(", "GroupingPanel(")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address and token of a JupyterLab with settings of its own; a copy of the cells lies in its folder."""
    pytest.importorskip("jupyterlab")
    import nbformat

    home = tmp_path_factory.mktemp("jupyter")
    work = home / "work"
    work.mkdir()
    notebook = nbformat.read(ROOT / "notebooks/grouping_lab.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if any(mark in cell.source for mark in PANEL)]
    assert len(notebook.cells) == len(PANEL)
    nbformat.write(notebook, work / "panel.ipynb")
    settings = home / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    # Nothing is asked of the network, and no box asks whether it should be.
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    own = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")} | {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, where = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    words = [
        "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={work}",
        "--LabApp.extension_manager=readonly", "--ServerApp.terminals_enabled=False",
    ]  # fmt: skip
    with (home / "log.txt").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *words], env={**os.environ, **own}, stdout=log, stderr=log
        )
    try:

        def log_text():
            return (home / "log.txt").read_text()

        def answering():
            assert server.poll() is None, log_text()
            return answers(f"{where}/api?token={token}")

        until(answering, PATIENCE / 1000, 0.2, seen=log_text)
        yield where, token
    finally:
        server.terminate()
        server.wait(20)


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=2) as reply:
            return reply.status == 200
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


# Slow: a server, a kernel and a page of their own. tests/apps/test_grouping_panel.py sets the same knobs.
@pytest.mark.slow
@pytest.mark.browser
def test_a_slider_of_the_panel_changes_people_and_ap(lab, chromium):
    where, token = lab
    opened = chromium.new_context(viewport={"width": 1280, "height": 1000})
    page = opened.new_page()
    console = Console(page)
    page.goto(f"{where}/lab/tree/panel.ipynb?token={token}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=PATIENCE)
    # Before its kernel is there, the page asks which one to take.
    page.locator("text=/Python 3.*Idle/").first.wait_for(timeout=PATIENCE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator("li[data-command='runmenu:run-all']").click()
    summary = page.locator(".widget-html", has_text="people found").first
    summary.wait_for(timeout=PATIENCE)
    page.locator(".jp-OutputArea .js-plotly-plot").first.wait_for(timeout=PATIENCE)
    before = summary.inner_text()
    assert re.search(r"AP \d\.\d{3} \(\+0\.000\) on 3 images", before), before
    slider = page.locator(".widget-hslider", has_text="detection threshold").locator(".noUi-handle")
    slider.focus()
    page.keyboard.press("End")
    page.wait_for_function(
        "before => [...document.querySelectorAll('.widget-html')].some(e => "
        "e.innerText.includes('people found') && e.innerText !== before)",
        arg=before,
        timeout=PATIENCE,
    )
    after = summary.inner_text()
    # At the top of the range no heatmap is high enough: nobody, and AP 0.
    assert re.search(r"AP 0\.000 \([+-]\d\.\d{3}\) on 3 images of [\w-]+: 0 people found", after), after
    # The picture follows, drawn by the one plotly.js of the notebook.
    page.locator(".jupyter-widgets .js-plotly-plot", has_text="0 people found").wait_for(timeout=PATIENCE)
    console.closing()
    opened.close()
    assert not console.errors
