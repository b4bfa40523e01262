"""The benchmarks import without measuring, keep the row's form, and write a table that can be read."""

from __future__ import annotations

import importlib

import pytest

from benchmarks import cli_start, run, slider, sprite
from benchmarks.row import Row, ratio

ROW: Row = {"what": "a|b", "ours": "1 s", "peer": "other 2 s", "ratio": "2x", "target": "< 3 s", "met": True}


@pytest.mark.parametrize("name", run.MODULES)
def test_every_benchmark_has_rows(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").rows)


def test_a_ratio_says_how_many_times_less():
    assert ratio(3.0, 1.5) == "2x"
    assert ratio(1.0, 3.0) == "0.333x"
    assert ratio(1.0, 0.0) == "-"


def test_the_table_has_one_line_per_row_and_names_the_machine():
    text = run.as_markdown({"first": [ROW], "second": [{**ROW, "met": False}]})
    lines = text.splitlines()
    assert sum(line.startswith(("| first", "| second")) for line in lines) == 2
    assert "a\\|b" in text, "a bar in a cell would end it"
    assert "**no**" in text
    assert run.processor() in text
    assert "torch" in text


def test_a_missed_target_is_the_exit_code(monkeypatch, capsys, tmp_path):
    fake = type("Module", (), {"rows": staticmethod(lambda: [{**ROW, "met": False}])})
    monkeypatch.setattr(run.importlib, "import_module", lambda name: fake)
    assert run.main(["sprite", "--out", str(tmp_path / "results.md")]) == 1
    assert "**no**" in (tmp_path / "results.md").read_text()
    assert "**no**" in capsys.readouterr().out


def test_a_wrong_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["spirte"])
    assert "spirte" in capsys.readouterr().err


def test_seventeen_large_maps_travel_in_a_sprite_below_the_target():
    (row,) = sprite.rows()
    assert row["met"]
    assert "400 kB" in row["target"]


def test_the_maps_of_the_sprite_are_no_easy_ones():
    maps = sprite.maps()
    assert maps.shape == (17, 256, 192)
    assert maps.std() > 0.01
    assert (maps == sprite.maps()).all()


def test_a_bare_interpreter_starts_and_is_timed(monkeypatch):
    monkeypatch.setattr(cli_start, "RUNS", 1)
    assert 0 < cli_start.seconds("-c", "pass") < 10


def test_without_a_browser_the_slider_says_what_it_wants(monkeypatch):
    monkeypatch.setattr(slider, "BROWSERS", ("no-such-browser",))
    with pytest.raises(OSError, match="one of no-such-browser"):
        slider.slid("http://127.0.0.1:1", [0])


def test_a_server_that_never_computes_is_given_up(monkeypatch):
    monkeypatch.setattr(slider, "PATIENCE", 0.1)
    with pytest.raises(OSError, match="not computed"):
        slider.computed("http://127.0.0.1:1/")
