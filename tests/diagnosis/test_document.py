"""The report as one page without network, and the notebook that repeats it."""

from __future__ import annotations

import nbformat

from workbench.checkpoints.demo import demo_checkpoints
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
