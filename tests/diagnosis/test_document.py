"""The report as one page without network, and the notebook that repeats it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from tests.conftest import ROOT
from workbench.checkpoints.demo import demo_checkpoints, demo_config, demo_log
from workbench.diagnosis import Cause, diagnose
from workbench.diagnosis.document import document, notebook


class Hostile(Cause):
    """Words of a file in its evidence."""

    name, group = "<script>alert(1)</script>", "file"

    def test(self, case):
        return self.found("a name with\x1b[31m colour & <b>", fix="do this\n-a = 1\n+a = 2")


def report():
    return diagnose(demo_checkpoints()[-1], causes=[Hostile()], level="files")


def test_the_page_stands_alone_and_runs_nothing_of_a_file():
    page = document(report())
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<pre>-a = 1\n+a = 2</pre>" in page


def test_the_notebook_is_valid_and_repeats_the_call():
    content = nbformat.reads(notebook(report()), as_version=4)
    nbformat.validate(content)
    code = "\n".join(cell.source for cell in content.cells if cell.cell_type == "code")
    compile(code, "notebook", "exec")
    assert str(demo_checkpoints()[-1]) in code
    assert "level='files'" in code


def executed(content, folder):
    """The notebook with its outputs, run by a kernel of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    manager = AsyncKernelManager(kernel_name="python3")
    client = NotebookClient(
        nbformat.reads(content, as_version=4),
        timeout=600,
        km=manager,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    return client.nb


def printed(book):
    outputs = [one for cell in book.cells for one in cell.get("outputs", ())]
    texts = [one.text for one in outputs if one.output_type == "stream"]
    return "\n".join(texts)


@pytest.mark.long
def test_the_notebook_runs_and_its_findings_are_those_of_the_report(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(demo_config().read_text().replace("max_norm=35", "max_norm=0.001"))
    made = diagnose([demo_log(), config], level="files")
    assert made.findings[0].cause == "gradient clipping too small"
    # The next experiment is a level higher; here the figures alone are looked at.
    book = nbformat.reads(notebook(made), as_version=4)
    at = next(i for i, cell in enumerate(book.cells) if cell.source.startswith("## Next experiment"))
    book.cells = book.cells[:at]
    told = printed(executed(nbformat.writes(book), tmp_path))
    assert "0 figures and 0 effects are the same" in told
    assert "gradient clipping too small" in told


@pytest.mark.long
def test_the_notebook_repeats_every_figure_and_applies_the_fix(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(demo_config().read_text().replace("bgr_to_rgb=True", "bgr_to_rgb=False"))
    made = diagnose([demo_checkpoints()[-1]], config=config, data="scenes-val", level="forward")
    assert made.findings[0].cause == "channel order"
    assert made.experiment["edits"] == {"model.data_preprocessor.bgr_to_rgb": True}
    told = printed(executed(notebook(made), tmp_path))
    assert f"{len(made.figures)} figures and 1 effects are the same" in told
    before, after = map(float, re.search(r"AP ([\d.]+) -> ([\d.]+)", told).groups())
    assert after > before
    assert before == pytest.approx(made.figures["AP"])


def test_paths_of_the_notebook_are_whole(monkeypatch):
    monkeypatch.chdir(demo_checkpoints()[-1].parent)
    made = diagnose(demo_checkpoints()[-1].name, level="files", causes=[Hostile()])
    assert Path(made.repeat["targets"][0]).is_absolute()
