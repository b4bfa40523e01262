"""One file that cannot be read in time, or at all, is an entry with a sentence; the others are there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from apps.server.api import listed_runs
from apps.server.reading import _Reader, checked
from workbench.core import NotAvailable
from workbench.doctor.examination import _probe


def reader(script, seconds=5.0):
    return _Reader([sys.executable, "-c", f"import sys, json, signal, os\n{script}"], seconds)


def ended(found):
    assert found._process is not None
    found._end(found._process)


ECHO = "for line in sys.stdin: print(json.dumps('' if 'good' in line else 'bad'), flush=True)"


def test_what_the_other_process_says_is_the_reason(tmp_path):
    found = reader(ECHO)
    assert [found.reason(tmp_path / name) for name in ("good", "x", "good")] == ["", "bad", ""]
    ended(found)


def test_a_file_without_end_is_given_up_and_the_next_one_read(tmp_path):
    script = (
        f"first = sys.stdin.readline()\nif 'slow' in first: signal.pause()\nprint('\"\"', flush=True)\n{ECHO}"
    )
    found = reader(script, 0.5)
    started = time.monotonic()
    assert "longer than" in found.reason(tmp_path / "slow")
    assert time.monotonic() - started < 5
    found._seconds = 20
    assert found.reason(tmp_path / "good") == ""
    ended(found)


def test_a_file_that_ends_the_reader_is_told_and_the_next_one_read(tmp_path):
    script = (
        f"first = sys.stdin.readline()\nif 'bomb' in first: os._exit(9)\nprint('\"\"', flush=True)\n{ECHO}"
    )
    found = reader(script)
    assert "processor time" in found.reason(tmp_path / "bomb")
    assert found.reason(tmp_path / "good") == ""
    ended(found)


@pytest.mark.long
def test_the_processor_time_of_a_file_is_limited(tmp_path):
    """The process ends itself, whatever the machine is doing beside."""
    script = (
        "from apps.server import reading\nreading.PROCESSOR_SECONDS = 0\n"
        "sys.stdin.readline()\nreading.limit(1, 2 << 30)\n"
    )
    found = _Reader([sys.executable, "-c", f"import sys\n{script}while True: pass"], 60)
    assert "processor time" in found.reason(tmp_path / "x")


@pytest.mark.long
def test_nothing_in_the_current_folder_is_imported(root_folder, tmp_path, monkeypatch):
    trap = f"open({str(tmp_path / 'PWNED')!r}, 'a').write(__name__)\nraise ImportError\n"
    for name in ("apps", "json", "multiprocessing", "runpy", "torch", "typer"):
        (tmp_path / f"{name}.py").write_text(trap)
    monkeypatch.chdir(tmp_path)
    found = _Reader(seconds=60)
    assert found.reason(root_folder / "painted-run" / "epoch_1.pth") == ""
    ended(found)
    assert _probe("import json, torch; print(json.dumps({'found': torch.__name__}))").facts == {
        "found": "torch"
    }
    (tmp_path / "scripts").mkdir()  # as the installed script, whose folder Python puts first
    script = tmp_path / "scripts" / "workbench.start"
    script.write_text(
        "import multiprocessing\nfrom workbench import cli\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "spawn = multiprocessing.get_context('spawn')\n"
        "cli.main = lambda: max(ProcessPoolExecutor(1, spawn).map(abs, [-3]))\n"
        "if __name__ == '__main__':\n    cli.entry()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, script], env=environment, check=False).returncode == 3
    started = subprocess.run([sys.executable, "-m", "workbench", "--version"], env=environment, check=False)
    # Before 3.11 Python cannot be told to leave the folder out of `-m` itself, nor out of multiprocessing.
    assert started.returncode == 0 or sys.version_info < (3, 11)
    assert not (tmp_path / "PWNED").exists() or sys.version_info < (3, 11)


def test_a_good_checkpoint_passes(root_folder):
    checked(root_folder / "painted-run" / "epoch_1.pth")
    checked(root_folder / "zz-broken" / "epoch_2.pth")  # the reader here says what is wrong with it


def test_a_bug_in_a_reader_is_a_sentence_with_the_files_name(root_folder, monkeypatch):
    monkeypatch.setattr(
        "apps.server.reading._reader", lambda: reader("for _ in sys.stdin: print('\"odd\"', flush=True)")
    )
    monkeypatch.setattr("apps.server.reading._reasons", lambda: Forgetful())
    with pytest.raises(ValueError, match=r"^epoch_1\.pth: odd$"):
        checked(root_folder / "painted-run" / "epoch_1.pth")


class Forgetful:
    def get(self, _, make):
        return make()


@pytest.mark.parametrize(
    "wrong",
    [TypeError("'int' object is not iterable"), RecursionError("too deep"), MemoryError(), ValueError("x")],
)
def test_a_run_that_ends_in_any_error_is_an_entry_and_hides_no_other(context, monkeypatch, wrong):
    skeleton = context.registry.skeleton

    def failing(run, index):
        if run == "zz-broken":
            raise wrong
        return skeleton(run, index)

    monkeypatch.setattr(context.registry, "skeleton", failing)
    runs = {run["id"]: run for run in listed_runs(context)}
    assert runs["painted-run"]["data"][0] == "painted.json"
    assert runs["zz-broken"]["data"] == []
    assert str(wrong) in runs["zz-broken"]["reason"]


def test_a_run_that_takes_long_is_told_as_being_read(context, monkeypatch):
    skeleton, read_on = context.registry.skeleton, threading.Event()

    def slow(run, index):
        assert run != "zz-broken" or read_on.wait(60)
        return skeleton(run, index)

    monkeypatch.setattr(context.registry, "skeleton", slow)
    for run in context.registry.runs():
        if run.id != "zz-broken":
            context.registry.described(run).exception(60)
    monkeypatch.setattr("apps.server.api.NEXT_SECONDS", 0.1)
    runs = {run["id"]: run for run in listed_runs(context)}
    assert runs["painted-run"]["data"]
    assert "still being read" in runs["zz-broken"]["reason"]
    read_on.set()
    context.registry.described(context.registry.run("zz-broken")).exception(60)
    assert "still being read" not in {r["id"]: r for r in listed_runs(context)}["zz-broken"]["reason"]


def test_a_run_is_described_once(context, monkeypatch):
    listed_runs(context)

    def again(*_):
        raise NotAvailable("asked again")

    monkeypatch.setattr(context.registry, "skeleton", again)
    assert listed_runs(context)[0]["data"]
