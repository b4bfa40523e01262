"""The worked examples of CONTRIBUTING.md do what it says, each executed from its text."""

from __future__ import annotations

import importlib
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tests import toy
from tests.test_layers import LEVELS
from workbench.checkpoints import identity, open_checkpoint, opening
from workbench.core import Codec, Outputs
from workbench.core.run import run
from workbench.data import builtin
from workbench.decoding import decode, decoders
from workbench.models import open_model

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```(?:python|toml)\n# ([^\n]+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))

with_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def entry(table: str, names: dict, brackets: str = "()"):
    """The one line that an example adds to a table, evaluated where the table stands."""
    return eval(brackets[0] + BLOCKS[table] + brackets[1], names)


def executed(name: str, names: dict) -> dict:
    """What is defined once the block is executed as part of the module that it is named after."""
    exec(compile("from __future__ import annotations\n" + BLOCKS[name], name, "exec"), names)
    return names


def module(name: str) -> ModuleType:
    """The block as a module of its own."""
    made = ModuleType(Path(name).stem)
    executed(name, vars(made))
    return made


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A folder in which the example package is installed."""
    folder = tmp_path_factory.mktemp("site")
    project = with_toml.loads(BLOCKS["pyproject.toml"])["project"]
    info = folder / f"my_pose-{project['version']}.dist-info"
    info.mkdir()
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(about)
    points = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
        for group, named in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points))
    (folder / "my_pose").mkdir()
    (folder / "my_pose/__init__.py").touch()
    for name in ("family", "brightness"):
        (folder / f"my_pose/{name}.py").write_text(BLOCKS[f"my_pose/{name}.py"])
    return folder


@pytest.fixture
def installed(package, monkeypatch):
    """The example package, found in this process for as long as the test runs."""
    monkeypatch.syspath_prepend(package)
    identity.registered_families.cache_clear()
    yield
    monkeypatch.undo()
    identity.registered_families.cache_clear()
    for name in ("my_pose", "my_pose.family", "my_pose.brightness"):
        sys.modules.pop(name, None)


def test_every_block_of_code_is_executed_here():
    assert list(BLOCKS) == [
        "pyproject.toml",
        "my_pose/family.py",
        "my_pose/brightness.py",
        "apps/pages/runs.py",
        "apps/server/application.py, in all_pages()",
        "workbench/checkpoints/flat_file.py",
        "workbench/checkpoints/opening.py, in FORMATS",
        "workbench/decoding/decoders.py",
        "workbench/decoding/decoders.py, in DECODERS",
    ]
    assert len(re.findall(r"^```(?:python|toml)$", TEXT, re.MULTILINE)) == len(BLOCKS)


def test_the_table_of_rooms_is_the_one_that_is_enforced():
    table = TEXT.partition("| room |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == list(LEVELS)


def test_every_file_that_is_named_is_there():
    examples = {name.partition(",")[0] for name in BLOCKS}
    named = set(re.findall(r"\b((?:workbench|apps|tests)/[\w/]+(?:\.py|/))", TEXT)) - examples
    assert len(named) > 10
    assert not {name for name in named if not (ROOT / name).exists()}


def test_the_family_opens_its_checkpoint_and_runs(installed, tmp_path):
    weight = torch.zeros(2, 3, 4, 4)
    path = tmp_path / "mine.pth"
    torch.save({"my_maps.weight": weight, "my_maps.bias": torch.tensor([0.25, 0.75])}, path)
    found = open_checkpoint(path).identity
    assert (found.family, found.record, found.keypoints) == ("My maps", "mine", 2)
    opened = open_model(path)
    assert (opened.family, opened.loaded_fraction) == ("mine", 1.0)
    prediction = run(opened.model, [builtin("astronaut").sample(0)]).predictions[0]
    assert prediction.keypoints.shape == (2, 2)
    assert prediction.scores.tolist() == [0.25, 0.75]


def test_the_inspector_measures_the_mean_of_the_input(installed):
    inspector = importlib.import_module("my_pose.brightness").INSPECTOR
    made = toy.a_run("heatmaps")
    report = inspector.report(made)
    assert report.means == pytest.approx([float(pixels.mean()) for pixels in made.batch.pixels])
    assert report.summary() == f"0 of {len(report.means)} inputs are dark (mean below -1)"
    assert len(report.table()) == len(report.means)
    assert report.plot().layout.yaxis.title.text == "mean of the input"


@pytest.mark.long
def test_the_command_line_answers_with_the_inspector(package):
    path = os.pathsep.join([str(package), str(ROOT)])
    words = [sys.executable, "-m", "workbench", "look", "brightness", "--demo", "--json"]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["inspector"] == "brightness"
    assert facts["summary"].endswith("inputs are dark (mean below -1)")


def test_the_page_is_among_the_pages_and_adds_its_components(tmp_path, monkeypatch):
    import gradio as gr

    from apps.server import application
    from apps.server.context import Context
    from apps.server.settings import Settings

    pages = application.all_pages()
    line = entry("apps/server/application.py, in all_pages()", {"runs": module("apps/pages/runs.py")})
    monkeypatch.setattr(application, "all_pages", lambda: [*pages, *line])
    (tmp_path / "my_run").mkdir()
    torch.save({"weight": torch.zeros(1)}, tmp_path / "my_run/epoch_1.pth")
    context = Context.of(Settings(root=tmp_path, port=0, cache=tmp_path / "cache"))
    app = application.blocks(context)
    context.jobs.close()
    context.registry.close()
    assert ("runs", "Runs", False) in app.pages
    (table,) = (
        block for block in app.blocks.values() if block.page == "runs" and isinstance(block, gr.Dataframe)
    )
    assert table.value["data"][0] == ["my_run", 1]  # the demo runs follow
    assert "runs" in [event.api_name for event in app.fns.values()]


@pytest.fixture
def flat_format(monkeypatch):
    """The example's line, in front of the other formats."""
    names = {**vars(opening), **vars(module("workbench/checkpoints/flat_file.py"))}
    line = entry("workbench/checkpoints/opening.py, in FORMATS", names)
    monkeypatch.setattr(opening, "FORMATS", (*line, *opening.FORMATS))


def test_the_format_is_opened(flat_format, tmp_path):
    path = tmp_path / "model.flat"
    header = json.dumps({"a.weight": [2, 2], "a.bias": [2]}).encode()
    path.write_bytes(b"FLAT\n" + header + b"\n" + struct.pack("<6f", 1, 2, 3, 4, 5, 6))
    checkpoint = open_checkpoint(path)
    assert (checkpoint.container, checkpoint.format) == ("flat", "flat")
    assert checkpoint.read("a.weight").tolist() == [[1, 2], [3, 4]]
    assert checkpoint.read("a.bias").tolist() == [5, 6]


@pytest.mark.parametrize(
    "header",
    ['{"a": [3, 3]}', '{"a": [-1]}', '{"a": ["b"]}', '{"a": 1}', "[1]", "{", "[" * 100_000, '{"a": [1e9]}'],
    ids=lambda header: header[:16],
)
def test_a_damaged_file_of_the_format_is_refused_in_one_sentence(flat_format, tmp_path, header):
    path = tmp_path / "model.flat"
    path.write_bytes(b"FLAT\n" + header.encode() + b"\n" + bytes(24))
    with pytest.raises(ValueError, match=r"model\.flat is damaged: "):
        open_checkpoint(path)


def test_the_decoder_finds_the_centre_of_two_cells(monkeypatch):
    names = executed("workbench/decoding/decoders.py", dict(vars(decoders)))
    line = entry("workbench/decoding/decoders.py, in DECODERS", names, "{}")
    monkeypatch.setattr(decoders, "DECODERS", {**decoders.DECODERS, **line})
    maps = np.full((1, 2, 16, 12), -0.1, np.float32)  # the second map has no peak
    maps[0, 0, 5, 3] = maps[0, 0, 5, 4] = 0.5
    codec = Codec("heatmap", input_size=(64, 48), output_size=(16, 12), decoder="centroid")
    keypoints, scores = decode(Outputs(heatmaps=maps), codec)
    assert keypoints[0, 0].tolist() == [14, 20]  # 3.5 and 5 cells of 4 pixels
    assert np.isnan(keypoints[0, 1]).all()
    assert scores[0, 0] == 0.5
