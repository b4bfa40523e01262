"""Words out of a file are shown as words: they begin no line, move no cursor, bring no markup."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
import torch

from tests.apps import painted
from workbench.cli import printed
from workbench.cli.output import Answer
from workbench.core.plain_text import printable, printable_lines

ESC, BIDI = "\x1b[2J\x1b]0;title\x07", "\u202egnp.exe"
HOSTILE = (
    f"1.0\ninert     none: harmless\r{ESC}{BIDI}<img src=x onerror=alert(1)><a href=http://evil.example>x</a>"
)
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text):
    """Nothing in a text moves the cursor, and no line of it was begun by a file."""
    assert not CONTROL.search(text), repr(text)
    assert not any(line.startswith("inert     none: harmless") for line in text.splitlines()), text


@pytest.fixture(scope="module")
def hostile_set(tmp_path_factory):
    """A set with hostile names of keypoints, category and image file."""
    folder = tmp_path_factory.mktemp("hostile")
    path = painted.write_data(folder, 2)
    facts = json.loads(path.read_text())
    names = facts["categories"][0]["keypoints"]
    facts["categories"][0] |= {"name": HOSTILE, "keypoints": [HOSTILE, *names[1:]]}
    path.write_text(json.dumps(facts))
    return path


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory):
    """A checkpoint with hostile words wherever text is told."""
    path = tmp_path_factory.mktemp("hostile") / f"epoch_1{ESC}.pth"
    net = torch.nn.Linear(2, 2)
    meta = {"mmengine_version": HOSTILE, "experiment_name": HOSTILE, HOSTILE: HOSTILE,
            "dataset_meta": {"dataset_name": HOSTILE, "keypoint_id2name": {0: HOSTILE}}}  # fmt: skip
    state = {**net.state_dict(), f"odd{HOSTILE}": torch.zeros(1)}
    torch.save({"state_dict": state, "meta": meta, "epoch": 3, HOSTILE: 0.5}, path)
    return path


@pytest.mark.parametrize("options", [(), ("--json",), ("--tensors",)])
def test_open(workbench, hostile_file, options):
    code, out, err = workbench("open", hostile_file, *options)
    assert code == 0, err
    harmless(out)
    harmless(err)
    if "--json" in options:
        # As data the words are what they were.
        assert json.loads(out)["file"] == str(hostile_file)
    else:
        assert r"\x1b" in out


@pytest.mark.parametrize(
    "words", [("load",), ("diff", "same"), ("look", "weights"), ("predict",), ("evaluate",)]
)
def test_verbs_that_need_a_model(workbench, hostile_file, hostile_set, words):
    more = [hostile_file] if "same" in words else ["--data", hostile_set] if words[-1] == "evaluate" else []
    _, out, err = workbench(words[0], *words[1:-1] if "same" in words else words[1:], hostile_file, *more)
    harmless(out)
    harmless(err)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_data(workbench, hostile_set, options):
    code, out, err = workbench("data", hostile_set, *options)
    assert code == 0, err
    harmless(out)
    harmless(err)


def test_a_name_that_is_not_there_is_printed_without_its_control_characters(workbench, tmp_path):
    code, _, err = workbench("open", tmp_path / f"absent{ESC}{BIDI}\nnext")
    assert code == 2
    harmless(err)
    assert len(err.strip().splitlines()) == 1


def test_figures_bring_no_links_and_no_markup_of_a_file():
    import plotly.graph_objects as go

    from workbench.figures import new_figure
    from workbench.figures.layout import on_same_axes

    figure = new_figure(HOSTILE, x=HOSTILE, y="keypoint <b>k</b>")
    names = np.array([HOSTILE, "nose"], object)
    figure.add_trace(
        go.Bar(x=names, y=[1, 2], name=HOSTILE, text=[HOSTILE, "1"], customdata=names[:, None],
               hovertemplate="%{x}<br><b>%{y}</b><extra></extra>")
    )  # fmt: skip
    figure.update_yaxes(tickvals=[1, 2], ticktext=[HOSTILE, "<sub>own</sub>"])
    figure.add_annotation(text=f"<b>{HOSTILE}</b>")
    for one in (figure, *on_same_axes(figure, figure)):
        written = json.loads(one.to_json())
        text = json.dumps(written, ensure_ascii=False)
        assert "<img" not in text
        assert "<a href" not in text
        assert "\\u001b" not in text
        assert "\u202e" not in text
        assert "%{x}<br><b>%{y}</b><extra></extra>" in text
        assert "<sub>own</sub>" in text


def test_an_html_report_is_free_of_a_files_markup(workbench, hostile_set, tmp_path):
    checkpoint = tmp_path / "<img src=x onerror=alert(1)>" / "epoch_1.pth"
    painted.write_checkpoint(checkpoint, 1, 0)
    adapter = painted.__file__
    out = tmp_path / "report.html"
    plain_set = painted.write_data(tmp_path / "plain <b>", 2)
    words = ["look", "overlay", checkpoint, "--adapter", adapter, "--data", plain_set, "--out", out]
    code, text, err = workbench(*words)
    assert code == 0, err
    harmless(text)
    written = out.read_text(encoding="utf-8")
    assert "<img src=x onerror" not in written


def test_one_line_stays_one_line():
    assert printable("a\nb\t\x1b\x9b\u202e\ud800é漢") == r"a\nb\t\x1b\x9b\u202e\ud800é漢"
    assert printable_lines("a\nb\x1b\r\nc") == "a\nb\\x1b\\r\nc"


def test_names_of_several_lines_are_one_line_each_however_many_there_are():
    """A search of the text for each of the names took a minute here."""
    names = [f"{i}\n{'x' * 300}" for i in range(12_000)]
    began = time.process_time()
    text = printed(
        Answer(
            {"tensors": names, "other": ["a\nb", "b\nc", "\r\nd"]}, "\n".join([*names, "a\nb\nc", "\r\nd\n"])
        )
    )
    assert time.process_time() - began < 5
    assert text == "\n".join([*(name.replace("\n", r"\n") for name in names), r"a\nb\nc", r"\r\nd" + "\n"])
