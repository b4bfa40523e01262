"""The progress bar of long verbs: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import io
import sys

from workbench.cli.output import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_whose_words_may_change(monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    progress = Progress("predicting")
    progress(0, 4)
    progress.what = "evaluating"
    progress(4, 4)
    assert "predicting:   0%" in screen.getvalue()
    assert "evaluating: 100%" in screen.getvalue()
    assert "4/4" in screen.getvalue()


def test_a_log_gets_a_line_now_and_then_with_the_rate(monkeypatch, capsys):
    progress = Progress("predicting")
    progress(1, 4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(Progress, "PAUSE", 0.0)
    progress(2, 4)
    line = capsys.readouterr().err
    assert line.startswith("predicting:")
    assert "2/4" in line
