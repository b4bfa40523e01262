"""Files appear whole or not at all; what a killed process left is removed."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench.core.files import (
    csv_text,
    inner_folder,
    locked_folder,
    read_at_most,
    remove_abandoned_folders,
    replacing,
    require_file,
    resolved,
    write_text,
)
from workbench.data.image_folders import is_within

LONG_AGO = 1_000_000_000


def test_names_of_strangers_are_no_formulas_in_a_spreadsheet():
    rows = [
        {"keypoint": "=cmd|' /C calc'!A1", "@x": -2.5, "interval": "+0.010 [-0.002, +0.020]"},
        {"keypoint": "+1+cmd|x", "@x": None, "interval": "-"},
        {"keypoint": "left knee", "@x": float("nan"), "interval": "-1+cmd"},
        {"keypoint": "＝1+1", "@x": "＋1", "interval": "－1"},
        {"keypoint": "＠SUM(1)", "@x": "\n=1+1", "interval": "1\n=1"},
    ]
    assert list(csv.reader(io.StringIO(csv_text(rows), newline=""))) == [
        ["keypoint", "'@x", "interval"],
        ["'=cmd|' /C calc'!A1", "-2.5", "+0.010 [-0.002, +0.020]"],
        ["'+1+cmd|x", "", "-"],
        ["left knee", "nan", "'-1+cmd"],
        ["'＝1+1", "'＋1", "'－1"],
        ["'＠SUM(1)", r"'\n=1+1", r"1\n=1"],
    ]
    assert csv_text([]) == "\r\n"


def test_a_name_that_is_no_utf8_can_be_written_about(tmp_path):
    """`diagnose --out` of such a folder ended, after its minutes, in an error of the codec."""
    assert write_text(tmp_path / "a.json", json.dumps("run\udcff", ensure_ascii=False)).read_bytes() == (
        b'"run\\udcff"'
    )
    assert json.loads((tmp_path / "a.json").read_text()) == "run\udcff"


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    target = write_text(tmp_path / "a.json", "old")

    def interrupted():
        with replacing(target) as part:
            part.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_is_told_with_the_name_of_the_target(tmp_path):
    # A limit on the size of a file fails the write in the system call, as a full disk does.
    program = (
        "import resource, signal, sys; from pathlib import Path; from workbench.core.files import "
        "write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (99, 99))\n"
        "try: write_text(Path(sys.argv[1]), 'x' * 1000)\n"
        "except OSError as e: print(e.filename, e.strerror)"
    )
    target = tmp_path / "a.html"
    done = subprocess.run(
        [sys.executable, "-c", program, str(target)],
        capture_output=True,
        text=True,
        check=True,
        cwd=os.getcwd(),
    )
    assert done.stdout.startswith(str(target))
    assert "too large" in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_link_is_followed_and_the_mode_of_the_file_is_kept(tmp_path):
    real = write_text(tmp_path / "real.txt", "old")
    real.chmod(0o640)
    (tmp_path / "link.txt").symlink_to(real)
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (real.read_text(), real.stat().st_mode & 0o777) == ("new", 0o640)


def test_the_lock_of_a_folder_makes_no_file_elsewhere(tmp_path):
    """A link of its name came with the folder."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), locked_folder(tmp_path / "run", "busy"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_links_in_a_circle_are_one_sentence_on_every_python(tmp_path):
    (tmp_path / "circle.csv").symlink_to(tmp_path / "other.csv")
    (tmp_path / "other.csv").symlink_to(tmp_path / "circle.csv")
    with pytest.raises(OSError, match="symbolic links"):
        write_text(tmp_path / "circle.csv", "a")
    assert not is_within(tmp_path / "circle.csv", [tmp_path])
    assert resolved(tmp_path / "absent.csv") == tmp_path.resolve() / "absent.csv"


def test_a_folder_of_the_programs_own_name_is_not_written_through_a_link_that_leads_out(tmp_path):
    run, foreign = tmp_path / "run", tmp_path / "foreign"
    foreign.mkdir()
    assert inner_folder(run, "rows") == run / "rows"
    (run / "rows").rmdir()
    (run / "rows").symlink_to(foreign)
    with pytest.raises(OSError, match=r"rows is a link to .*foreign, outside of .*run: nothing is written"):
        inner_folder(run, "rows")
    (run / "parts").symlink_to(foreign)
    with pytest.raises(OSError, match="nothing is written through it"):
        inner_folder(run, "parts", "epoch_1")
    # A link inside of the folder, and a folder that the user named as a link, are the user's own.
    (run / "kept").mkdir()
    (run / "inside").symlink_to(run / "kept")
    assert inner_folder(run, "inside").is_dir()
    (tmp_path / "named").symlink_to(run)
    assert inner_folder(tmp_path / "named", "images").is_dir()
    assert (run / "images").is_dir()


def test_a_training_run_a_sweep_and_a_copy_of_a_set_write_nothing_through_a_link(tmp_path):
    from workbench.data import builtin
    from workbench.data.opening import export
    from workbench.training.run_folder import RowWriter

    run, foreign = tmp_path / "run", tmp_path / "foreign"
    run.mkdir()
    foreign.mkdir()
    for name in ("rows", "images"):
        (run / name).symlink_to(foreign)
    with pytest.raises(OSError, match="rows is a link to"):
        RowWriter(run / "rows")
    with pytest.raises(OSError, match="images is a link to"):
        export(builtin("astronaut"), run)
    assert list(foreign.iterdir()) == []


def test_what_is_no_regular_file_is_written_directly():
    with replacing("/dev/null") as part:
        assert str(part) == "/dev/null"


def test_partial_files_of_killed_processes_go_and_those_of_running_ones_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, used, young = (
        tmp_path / f".a.{number}.part.json" for number in (dead.pid, os.getppid(), dead.pid + 10**7)
    )
    other = tmp_path / f".b.{dead.pid}.part.json"
    huge, odd = tmp_path / f".a.{10**20}.part.json", tmp_path / ".a.².part.json"
    for path in (left, used, young, other, huge, odd):
        path.touch()
    for path in (left, used, other, huge, odd):
        os.utime(path, (LONG_AGO, LONG_AGO))
    write_text(tmp_path / "a.json", "{}")
    remaining = {used.name, young.name, other.name, odd.name}
    assert {p.name for p in tmp_path.iterdir()} == {"a.json", *remaining}


def test_abandoned_folders_go_and_folders_in_use_stay(tmp_path):
    for name in (".scenes-1-old", ".scenes-1-new", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        os.utime(tmp_path / name / "file", (LONG_AGO, LONG_AGO))
        os.utime(tmp_path / name, (LONG_AGO, LONG_AGO))
    os.utime(tmp_path / ".scenes-1-new" / "file", (time.time(), time.time()))
    remove_abandoned_folders(tmp_path, ".scenes-1-*")
    assert sorted(os.listdir(tmp_path)) == [".scenes-1-new", "other"]


@pytest.mark.parametrize(
    "verb",
    [
        ("ablate", "grouping", "--demo", "--out", "x.html"),
        ("look", "weights", "--demo", "--out", "x.html"),
        ("oracle", "--demo", "--out", "x.html"),
        ("diff", "--demo", "--out", "x.html"),
        ("distill", "--demo", "--out", "x.html"),
        ("rollout", "--demo", "--out", "x.html"),
        ("evaluate", "--demo", "--out", "x.json"),
        ("predict", "--demo", "--out", "x.json"),
        ("group", "--demo", "--out", "x.png"),
        ("film", "--demo", "--out", "x.html"),
        ("paths", "--demo", "--out", "x.html"),
        ("clinic", "--demo", "--out", "x.html"),
        ("experiment", "--demo", "--out", "x.html"),
        ("text", "--demo", "--out", "x.npz"),
        ("data", "scenes-val", "--out", "x"),
    ],
    ids=" ".join,
)
def test_every_verb_finds_an_unwritable_folder_before_it_works(verb, workbench, tmp_path, monkeypatch):
    # A process may be allowed everything (root), so the folder is made unwritable by the system call itself.
    import tempfile

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    import workbench.models as models

    def too_early(*_, **__):
        raise AssertionError("worked before it looked at --out")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    if verb[0] in ("evaluate", "predict"):  # the model says first what can be written, or is refused itself
        monkeypatch.setattr("workbench.core.run.run", too_early)
    else:
        monkeypatch.setattr(models, "open_model", too_early)
    monkeypatch.chdir(tmp_path)
    code, out, err = workbench(*verb)
    assert (code, out) == (2, "")
    assert "nothing can be written into" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_every_verb_refuses_a_pipe_without_a_reader_and_a_socket_before_it_works(
    workbench, tmp_path, monkeypatch
):
    import workbench.models as models

    def too_early(*_, **__):
        raise AssertionError("worked before it looked at --out")

    monkeypatch.setattr(models, "open_model", too_early)
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.json")
    os.mkfifo("pipe.html")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket.json")
    for verb, pipe in [("evaluate", "pipe.json"), ("predict", "pipe.json"), ("codec", "pipe.html")]:
        code, out, err = workbench(verb, "--demo", "--out", pipe)
        assert (code, out) == (2, "")
        assert f"{pipe}: no program reads from this pipe" in err
        code, out, err = workbench(verb, "--demo", "--out", "socket.json")
        assert (code, out) == (2, "")
        assert "socket.json: a socket cannot be written as a file" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_that_nobody_reads_is_refused_and_one_with_a_reader_is_written(tmp_path):
    pipe = tmp_path / "out.json"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no program reads from this pipe") as refused:
        write_text(pipe, "a")
    assert refused.value.filename == str(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        for _ in range(500):  # until the other program has opened it
            try:
                write_text(pipe, "a")
                break
            except OSError:
                time.sleep(0.02)
        assert reader.communicate(timeout=20)[0] == b"a"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no file that is always full")
def test_a_full_device_is_named(tmp_path):
    (tmp_path / "out.json").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as refused:
        write_text(tmp_path / "out.json", "a")
    assert refused.value.filename == str(tmp_path / "out.json")


def test_a_small_file_takes_no_room_for_the_largest_one(tmp_path):
    import tracemalloc

    path = tmp_path / "a.json"
    path.write_bytes(b"12345")
    tracemalloc.start()
    try:
        assert read_at_most(path, 1 << 30, "a file") == b"12345"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert read_at_most(path, 5, "a file") == b"12345"
    with pytest.raises(ValueError, match="a file of more than 4 bytes"):
        read_at_most(path, 4, "a file")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="this system has no /proc")
def test_a_file_without_a_stated_size_is_read_whole():
    assert os.stat("/proc/self/status").st_size == 0
    assert b"Threads:" in read_at_most(Path("/proc/self/status"), 1 << 16, "a file")


def test_what_stands_where_a_file_is_wanted_is_said_truly(tmp_path):
    whole, pipe, nothing = tmp_path / "a.json", tmp_path / "pipe.json", tmp_path / "lost.json"
    whole.write_text("{}")
    os.mkfifo(pipe)
    nothing.symlink_to(tmp_path / "gone.json")
    linked = tmp_path / "linked.json"
    linked.symlink_to(whole)
    for path in (whole, linked):
        require_file(path, "no such file")
    for path, said in (
        (tmp_path, "no map (a folder is there)"),
        (pipe, "no map (what is there is no regular file)"),
        (nothing, "no map"),
        (tmp_path / "absent", "no map"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            require_file(path, "no map")
        assert str(caught.value) == said
