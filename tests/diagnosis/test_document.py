"""The report as one page without network, and the notebook that repeats it."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

import nbformat
import pytest
from markdown_it import MarkdownIt

from workbench.checkpoints.demo import demo_checkpoints, demo_config
from workbench.diagnosis import Cause, diagnose
from workbench.diagnosis.document import document, notebook


class Hostile(Cause):
    """Words of a file in its evidence."""

    name, group = "<script>alert(1)</script> ![pixel](https://evil.example/a.png) $x$ `y` \\", "file"

    def test(self, case):
        return self.found("a name with\x1b[31m colour & <b>", fix="do this\n-a = 1\n+a = 2")


def report():
    return diagnose(demo_checkpoints()[-1], causes=[Hostile()], level="files")


def test_the_page_stands_alone_and_runs_nothing_of_a_file():
    page = document(report())
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "http://" not in page
    assert 'src="https://' not in page
    assert 'href="https://' not in page
    assert "<pre>-a = 1\n+a = 2</pre>" in page


def test_the_notebook_is_valid_and_repeats_the_call():
    content = nbformat.reads(notebook(report()), as_version=4)
    nbformat.validate(content)
    code = "\n".join(cell.source for cell in content.cells if cell.cell_type == "code")
    compile(code, "notebook", "exec")
    assert str(demo_checkpoints()[-1]) in code
    assert "level='files'" in code
    shown = "".join(MarkdownIt().render(c.source) for c in content.cells if c.cell_type == "markdown")
    assert html.escape(Hostile.name) in shown
    assert not re.search("<(?!/?(h1|h2|p)>)", shown), "a word of a file is more than a word"


def executed(content):
    """Names of the notebook after its code has run here, cell by cell."""
    names: dict = {}
    for cell in nbformat.reads(content, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "notebook", "exec"), names)
    return names


@pytest.mark.long
@pytest.mark.parametrize("named", [True, False])
def test_the_notebook_repeats_every_figure_and_applies_the_fix(tmp_path, capsys, monkeypatch, named):
    """A config among the targets is read and never run, in the notebook neither."""
    (tmp_path / "planted_module.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "planted_module", raising=False)
    config = tmp_path / "config.py"
    text = demo_config().read_text().replace("bgr_to_rgb=True", "bgr_to_rgb=False")
    config.write_text(text + "\ncustom_imports = dict(imports=['planted_module'])\n")
    files = [demo_checkpoints()[-1], *([] if named else [config])]
    options = {"config": config} if named else {}
    made = diagnose(files, data="scenes-val", level="forward", **options)
    assert made.findings[0].cause == "channel order"
    assert made.experiment["edits"] == {"model.data_preprocessor.bgr_to_rgb": True}
    names = executed(notebook(made))
    assert "channel order" not in [finding.cause for finding in names["after"].findings]
    printed = capsys.readouterr().out
    assert f"{len(made.figures)} figures and 1 effects are the same" in printed
    assert "channel order" in printed
    before, after = map(float, re.search(r"AP ([\d.]+) -> ([\d.]+)", printed).groups())
    assert after > before
    assert before == pytest.approx(made.figures["AP"])
    assert ("planted_module" in sys.modules) == named


def test_paths_of_the_notebook_are_whole(monkeypatch):
    monkeypatch.chdir(demo_checkpoints()[-1].parent)
    made = diagnose(demo_checkpoints()[-1].name, level="files", causes=[Hostile()])
    assert Path(made.repeat["targets"][0]).is_absolute()
