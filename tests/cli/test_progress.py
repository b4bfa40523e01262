"""The progress bar of long verbs: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import importlib
import io
import os
import re
import signal
import sys
import threading
import time

import pytest

from tests.waiting import until
from workbench.cli.output import Progress, in_job, say


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


def test_names_in_a_bar_and_above_it_move_no_cursor_and_begin_no_line(monkeypatch, capsys):
    name = "run\x1b[2J\x1b]0;title\x07\u202e\nnext"
    shown = r"sweep over run\x1b[2J\x1b]0;title\x07\u202e\nnext:"
    monkeypatch.setattr(Progress, "PAUSE", 0.0)
    Progress(f"sweep over {name}")(2, 4)
    say(name)
    line, *said = capsys.readouterr().err.splitlines()
    assert line.startswith(shown)
    assert said == [r"run\x1b[2J\x1b]0;title\x07\u202e", "next"]
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    Progress(f"sweep over {name}")(4, 4)
    assert shown in screen.getvalue()
    assert "\x1b]" not in screen.getvalue()


def test_a_bar_that_is_first_drawn_late_tells_the_rate_since_the_work_began(monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    progress = Progress("sweep")
    progress._started -= 100
    progress(50, 100)
    assert re.search(r"50/100 \[(0[1-9]:\d\d)<\1", screen.getvalue())


def test_a_log_gets_a_line_now_and_then_with_the_rate(monkeypatch, capsys):
    progress = Progress("predicting")
    progress(1, 4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(Progress, "PAUSE", 0.0)
    progress(2, 4)
    line = capsys.readouterr().err
    assert line.startswith("predicting:")
    assert "2/4" in line


def test_work_in_a_job_gives_its_result_or_its_error(capsys):
    assert in_job("counting", lambda job: job.progress(3, 3) or "three") == "three"

    def wrong(job):
        raise ValueError("expected a number, got 'x'")

    with pytest.raises(ValueError, match="expected a number"):
        in_job("counting", wrong)
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def interruptible():
    """A shell that starts the suite in the background has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_cancels_the_job_and_says_what_is_kept(interruptible):
    seen = []

    def work(job):
        job.progress(1, 10)
        # To the thread that waits, as a terminal does; the other would take it, and the wait last to its end.
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        until(job.cancelled)
        seen.append("ended")

    with pytest.raises(KeyboardInterrupt, match="one of ten is in runs/a"):
        in_job("counting", work, "one of ten is in runs/a")
    assert seen == ["ended"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_the_drawing_of_scenes_and_leaves_no_part_of_them(interruptible, monkeypatch, tmp_path):
    from workbench.cli.options import opened

    sets, ended = importlib.import_module("workbench.data.opening"), []

    def write(folder, scenes, progress):
        (folder / "0.png").write_bytes(b"a scene")
        os.kill(os.getpid(), signal.SIGINT)
        end = time.monotonic() + 60
        while time.monotonic() < end:  # the thread that waits needs its turn on a busy machine
            progress(1, 10)
        ended.append("not cancelled")

    monkeypatch.setattr(sets, "write_scenes", write)
    monkeypatch.setattr(sets, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(sets, "cache_folder", lambda: tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        opened("scenes-val")
    assert ended == []
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_log_that_told_how_far_it_is_also_tells_that_it_is_done(monkeypatch, capsys):
    progress = Progress("sweep")
    monkeypatch.setattr(Progress, "PAUSE", 0.0)
    progress(1, 6)
    monkeypatch.setattr(Progress, "PAUSE", 60.0)
    progress(3, 6)
    progress(6, 6)
    progress(6, 6)
    lines = capsys.readouterr().err.splitlines()
    assert ["1/6" in lines[0], "100%" in lines[1], len(lines)] == [True, True, 2]


def test_the_progress_of_a_diagnosis_names_the_cause_that_is_tested(monkeypatch, capsys, tmp_path):
    from workbench.cli import main

    log = tmp_path / "log.jsonl"
    log.write_text("".join(f'{{"epoch": {e}, "loss": {1 / e}, "val/AP": {e / 10}}}\n' for e in range(1, 6)))
    monkeypatch.setattr(Progress, "PAUSE", 0.0)
    monkeypatch.setattr("workbench.cli.output.LOOK_SECONDS", 0.001)
    for _ in range(10):  # it takes some milliseconds, in which the thread that looks may not have its turn
        assert main(["diagnose", str(log), "--level", "files"]) in (0, 1)
        said = capsys.readouterr().err
        if "testing causes, now: " in said:
            break
    assert "testing causes, now: " in said
    assert said.splitlines()[-1].startswith("testing causes: 100%")


def test_an_adapter_that_leaves_with_a_reason_is_not_silent(capsys, tmp_path):
    from workbench.cli import main

    adapter = tmp_path / "mine.py"
    adapter.write_text("import sys\n\n\ndef load(checkpoint, device):\n    sys.exit('no licence')\n")
    assert main(["load", "--adapter", str(adapter)]) == 1
    assert capsys.readouterr().err.endswith("workbench: no licence\n")


def test_short_work_leaves_no_line_in_a_log(capsys):
    in_job("counting", lambda job: job.progress(3, 3))
    assert capsys.readouterr().err == ""
