"""The report as one page without network, and the notebook that repeats it."""

from __future__ import annotations

import ast
import dataclasses
import html
import re
from pathlib import Path

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
    import nbformat

    content = nbformat.reads(notebook(report()), as_version=4)
    nbformat.validate(content)
    code = "\n".join(cell.source for cell in content.cells if cell.cell_type == "code")
    compile(code, "notebook", "exec")
    assert str(demo_checkpoints()[-1]) in code
    assert "level='files'" in code
    shown = "".join(MarkdownIt().render(c.source) for c in content.cells if c.cell_type == "markdown")
    assert html.escape(Hostile.name) in shown
    assert not re.search("<(?!/?(h1|h2|p)>)", shown), "a word of a file is more than a word"


def test_a_line_break_in_a_name_forges_no_heading_of_the_notebook():
    import nbformat

    made = dataclasses.replace(report(), title="run\n# Nothing is wrong")
    first = nbformat.reads(notebook(made), as_version=4).cells[0].source
    assert first.startswith("# Diagnosis: run\\\\n# Nothing is wrong\n")


def executed(content):
    """Names of the notebook after its code has run here, cell by cell."""
    import nbformat

    names: dict = {}
    for cell in nbformat.reads(content, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "notebook", "exec"), names)
    return names


@pytest.mark.parametrize("named", [True, False])
def test_the_notebook_runs_no_config_that_was_only_read(named, tmp_path):
    import nbformat

    made = report()
    config = str(tmp_path / "config.py")
    made = dataclasses.replace(
        made,
        experiment={"config": config, "edits": {"model.data_preprocessor.bgr_to_rgb": True}},
        repeat={**made.repeat, **({"config": config} if named else {})},
        figures={"AP": 0.5, "AR": float("nan")},
    )
    cells = [cell.source for cell in nbformat.reads(notebook(made), as_version=4).cells]
    (call,) = [ast.parse(cell) for cell in cells if "config=mended" in cell]
    (again,) = [
        one for one in ast.walk(call) if isinstance(one, ast.Call) and "diagnose" in ast.dump(one.func)
    ]
    given = {one.arg: ast.unparse(one.value) for one in again.keywords}
    assert given["config"] == "mended"
    assert given.get("run_config") == (None if named else "False")
    (figures,) = [cell for cell in cells if cell.startswith("reported = ")]
    assert figures.startswith("reported = {'AP': 0.5}\n")


@pytest.mark.long
def test_the_notebook_repeats_every_figure_and_applies_the_fix(tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text(demo_config().read_text().replace("bgr_to_rgb=True", "bgr_to_rgb=False"))
    made = diagnose([demo_checkpoints()[-1]], config=config, data="scenes-val", level="forward")
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


def test_paths_of_the_notebook_are_whole(monkeypatch):
    monkeypatch.chdir(demo_checkpoints()[-1].parent)
    made = diagnose(demo_checkpoints()[-1].name, level="files", causes=[Hostile()])
    assert Path(made.repeat["targets"][0]).is_absolute()
