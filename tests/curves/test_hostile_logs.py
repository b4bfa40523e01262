"""No log, however damaged, ends in anything but curves or one sentence, soon and in little memory."""

from __future__ import annotations

import json
import os
import struct
import time
import tracemalloc

import numpy as np
import pytest

from tests.curves.events import events, first, framed, part, scalar, varint, wandb_file
from tests.mutation import read_all, survivors
from workbench.core import NotAvailable
from workbench.curves import read_runs
from workbench.curves.report import CurvesReport
from workbench.curves.rows import MOST_NAMES, MOST_SERIES, Row, Rows
from workbench.curves.table import rows_by_run

DOCUMENTED = (ValueError, NotAvailable)
JSON_LINES = "".join(
    json.dumps(row) + "\n"
    for row in (
        {"lr": 0.1, "loss": 2.0, "epoch": 1, "iter": 50, "step": 50},
        {"coco/AP": 0.25, "coco/AR": 0.3, "step": 1},
        {"lr": 0.1, "loss": 1.0, "epoch": 2, "iter": 50, "step": 100},
        {"coco/AP": 0.35, "coco/AR": 0.4, "step": 2},
    )
)
MMCV = "".join(
    json.dumps({"mode": m, "epoch": e, "iter": 50, "lr": 0.1, "loss": 1 / e, "AP": 0.1 * e}) + "\n"
    for e in (1, 2, 3)
    for m in ("train", "val")
)
PRINTED = "".join(
    f"10/14 09:00:00 - mmengine - INFO - Epoch(val)  [{e}][34/34]    coco/AP: 0.{e}805  coco/AR: 0.{e}9\n"
    for e in range(1, 6)
)
CSV = "epoch,step,train_loss,val_AP\n" + "".join(f"{e},{e * 10},{1 / e},0.{e}\n" for e in range(1, 9))
TABLE = "# V2\n\n| Epoch | AP |\n|---|---|\n| 1 | 10% |\n| 2-3 | 20% |\n\n"
TABLE += "Best AP: 0.3 at epoch 3\nEpoch 4: AP 0.25\n"
EVENTS = events(*((tag, step, 1 / step) for step in range(1, 24) for tag in ("loss", "val/AP")))
SAMPLES = {
    "scalars.json": JSON_LINES.encode(),
    "a.log.json": MMCV.encode(),
    "a.log": PRINTED.encode(),
    "metrics.csv": CSV.encode(),
    "a.md": TABLE.encode(),
    "events.out.tfevents.1.a": EVENTS,
}


def used(path):
    """All that the verb does with a log."""
    report = CurvesReport(read_runs(path))
    json.dumps(report.to_json(), allow_nan=False)
    return report.text()


@pytest.mark.parametrize("name", SAMPLES)
def test_mutated_logs_end_in_curves_or_one_sentence(tmp_path, name):
    for _ in survivors(SAMPLES[name], tmp_path / name, used, count=80, errors=DOCUMENTED):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_many_mutated_logs_end_in_curves_or_one_sentence(tmp_path, name):
    for seed in range(1, 8):
        for _ in survivors(SAMPLES[name], tmp_path / name, used, count=400, seed=seed, errors=DOCUMENTED):
            pass


HOSTILE = {
    "nested.json": b'{"a": ' * 100_000,
    "digits.json": b'{"epoch": 1, "AP": ' + b"9" * 5000 + b"}\n",
    "large.json": b'{"epoch": 1e400, "step": 1e400, "AP": 1e308, "AR": -1e308}\n' * 3,
    "negative.json": b'{"epoch": -5, "AP": 0.5}\n{"epoch": -5, "AP": 0.6}\n',
    "names.csv": ("epoch," + ",".join(f"a{i}" for i in range(3000)) + "\n").encode(),
    "bars.md": b"| epoch " * 100_000,
    "ranges.md": b"| epoch | AP |\n|-|-|\n" + b"| 1-999999999 | 0.5 |\n" * 1000,
    "dashes.txt": b"-" * 1_000_000,
    "blanks.log": b"- mmengine - INFO - Epoch(val) [1][1/1]" + b" " * 1_000_000,
    "words.txt": b"Best " + b"a " * 500_000 + b": 1\n",
    "figures.txt": (b"Epoch 1: " + b"a 0 " * 497 + b"\n") * 4000,
    "record.tfevents": struct.pack("<Q", 1 << 62) + bytes(64),
    "field.tfevents": first() + framed(b"\x2a" + varint(1 << 60) + b"x"),
    "varint.tfevents": first() + framed(b"\xff" * 40),
    "summary.tfevents": first() + framed(part(5, part(1, b"\x0a" + varint(1 << 40)))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_log_costs_no_time_and_ends_in_one_sentence(tmp_path, name):
    read_all(tmp_path / name, used, iter([HOSTILE[name]]), errors=DOCUMENTED)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "run-a.wandb"])
def test_a_long_name_is_not_made_again_for_each_value_below_it(tmp_path, name):
    """A line of 630 kB took 8 GB; a record of 3 MB 6.6 s. Lists in rows are not in memory together."""
    inner = {str(n): 1 for n in range(500)}
    rows = [{"step": n, "a" * 200_000: inner, "list": [[]] * 50_000, "AP": 0.5} for n in (1, 2, 3)]
    content = {
        "a.jsonl": lambda: "".join(f"{json.dumps(row)}\n" for row in rows).encode(),
        "a.json": lambda: json.dumps(rows).encode(),
        "run-a.wandb": lambda: wandb_file(*rows),
    }
    (tmp_path / name).write_bytes(content[name]())
    tracemalloc.start()
    try:
        (curves,) = read_runs(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    names = [s.name for s in curves.series]
    # All begin with the same 200 characters; one curve of them would have 500 figures at each step.
    assert len(set(names)) == len(names) == 501
    assert {len(name) for name in names} == {200, 2}
    assert names[-1] == "AP"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "run-a.wandb", "events.out.tfevents.1.a"])
def test_two_long_names_that_end_differently_are_two_series(tmp_path, name):
    rows = [{"step": n, "x" * 250 + "/loss": float(n), "x" * 250 + "/AP": 0.5} for n in (1, 2, 3)]
    content = {
        "a.jsonl": lambda: "".join(f"{json.dumps(row)}\n" for row in rows).encode(),
        "a.json": lambda: json.dumps(rows).encode(),
        "run-a.wandb": lambda: wandb_file(*rows),
        "events.out.tfevents.1.a": lambda: (
            first()
            + b"".join(
                framed(
                    part(5, part(1, part(1, key.encode()) + b"\x15" + struct.pack("<f", value)))
                    + b"\x10"
                    + varint(int(row["step"]))
                )
                for row in rows
                for key, value in row.items()
                if key != "step"
            )
        ),
    }
    (tmp_path / name).write_bytes(content[name]())
    (curves,) = read_runs(tmp_path / name)
    assert sorted(list(s.value) for s in curves.series) == [[0.5] * 3, [1, 2, 3]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"step": 1, "AP": 0.1, "AP": 0.9}', "line 1: 'AP' stands twice"),
        ('{"step": 1, "val/AP": 0.1, "val": {"AP": 0.9}}', "two figures of one row are called 'val/AP'"),
    ],
)
def test_a_figure_that_stands_twice_in_a_row_is_refused(tmp_path, row, said):
    (tmp_path / "a.jsonl").write_text(f"{row}\n" * 2)
    with pytest.raises(ValueError, match=said):
        read_runs(tmp_path / "a.jsonl")


def test_pipes_in_a_folder_are_no_logs(tmp_path):
    (tmp_path / "vis_data").mkdir()
    for name in ("vis_data/scalars.json", "a.log", "a.log.json", "results.csv", "events.out.tfevents.1.a"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(NotAvailable, match="no log in this folder"):
        read_runs(tmp_path)
    (tmp_path / "metrics.csv").write_text(CSV)
    assert read_runs(tmp_path)[0].files == ("metrics.csv",)


def test_a_log_that_names_something_new_in_each_row_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"epoch": i, f"n{i}": 1}) + "\n" for i in range(MOST_SERIES + 1)))
    with pytest.raises(ValueError, match=f"more than {MOST_SERIES:,} different names"):
        read_runs(path)


def test_too_many_names_are_refused_where_the_next_one_stands():
    """A log of a few hundred records with thousands of names each was read whole before it was refused."""
    rows = Rows("a.jsonl")
    for name in range(MOST_SERIES):
        for split in ("", "train"):  # one name, whatever the rows state
            rows.add(Row({f"n{name}": 1.0}, split=split))
    with pytest.raises(ValueError, match=f"more than {MOST_SERIES:,} different names"):
        rows.add(Row({"another": 1.0}))


def test_the_tags_of_an_event_file_are_counted_while_it_is_read(tmp_path):
    path = tmp_path / "events.out.tfevents.1.a"
    tags = ["epoch", *(f"t{i}" for i in range(MOST_SERIES + 1))]
    path.write_bytes(events(*((tag, 1, 1.0) for tag in tags)) + framed(b"\x2a\xff"))
    with pytest.raises(ValueError, match=f"more than {MOST_SERIES:,} different names"):
        read_runs(path)
    path.write_bytes(events(*((tag, 1, 1.0) for tag in tags[:-1])))
    assert len(read_runs(path)[0].series) == MOST_SERIES


def test_an_export_has_the_names_of_several_runs():
    rows = Rows("a.csv")
    for run in range(MOST_NAMES // 10):
        rows.add(Row({f"run-{run} - loss {k}": 1.0 for k in range(10)}))
    assert len(rows_by_run(rows)) == MOST_NAMES // 10
    with pytest.raises(ValueError, match=f"more than {MOST_NAMES:,} different names"):
        rows.add(Row({"run-0 - another": 1.0}))
    with pytest.raises(ValueError, match=f"more than {MOST_SERIES:,} different names"):
        rows.add(Row({"of no run": 1.0}))


def test_names_of_a_log_cannot_move_the_cursor(tmp_path, workbench):
    path = tmp_path / "a.jsonl"
    path.write_text('{"epoch": 1, "AP\\u001b[2J\\nflags: none": 0.5}\n{"epoch": 2, "AP": 0.5}\n')
    code, out, _ = workbench("curves", path)
    assert code == 0
    assert "\x1b" not in out
    assert not any(line.startswith("flags: none") and i < 4 for i, line in enumerate(out.splitlines()))


@pytest.mark.parametrize("start", ["best", "epoch 1 a", "AP: 1", "| epoch | AP |\n| 1"])
def test_wide_gaps_in_lines_cost_no_time(tmp_path, start):
    """Each took .3 to .6 s; the figures between the lines are read."""
    path = tmp_path / "notes.txt"
    path.write_text("Epoch 10: AP 0.25\n" + f"{start}{' ' * 1900}!\n" * 500)
    began = time.process_time()
    try:
        runs = read_runs(path)
    except DOCUMENTED:
        runs = []
    assert time.process_time() - began < 5
    assert start.startswith("|") or runs


def test_a_log_with_more_rows_than_any_is_refused(tmp_path, monkeypatch):
    """Eight bytes of a file make a row of 73 in memory, and 12 a scalar, of which one record holds 5,000."""
    from workbench.curves import rows, tensorboard

    monkeypatch.setattr(rows, "MOST_ROWS", 20)
    monkeypatch.setattr(tensorboard, "MOST_ROWS", 20)
    files = {
        "a.jsonl": ('{"loss": 1}\n' * 21).encode(),
        "a.csv": b"epoch,loss\n" + b"1,2\n" * 21,
        "events.out.tfevents.1.a": first() + framed(b"\x10\x01" + part(5, scalar("loss", 1.0) * 21)),
        "events.out.tfevents.2.a": first() + framed(b"") * 21,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=r"more than 20 (rows|scalars|records).*, which no log has"):
            read_runs(tmp_path / name)


def test_series_become_lists_only_where_somebody_asks_for_json(tmp_path, workbench):
    """As lists the figures of 500,000 rows took most of 391 MB, though nobody printed them."""
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"epoch": 1, "val/AP": 0.25}\n{"epoch": 2, "val/AP": NaN}\n{"epoch": 3, "val/AP": 1e300}\n'
    )
    report = CurvesReport(read_runs(path))
    assert [type(one["value"]) for one in report.facts()["series"]] == [np.ndarray]
    code, out, _ = workbench("curves", path, "--json")
    assert (code, json.loads(out)) == (0, report.to_json())
    assert json.loads(out)["series"][0]["value"] == [0.25, None, 1e300]
    code, out, _ = workbench("curves", path)
    assert "best AP 1e+300 at epoch 3" in out


LONG = {
    "scalars.json": lambda i: f'{{"epoch": {i}, "step": {i}, "loss": 0.5}}',
    "a.jsonl": lambda i: f'{{"epoch": {i}, "loss": 0.5}}',
    "a.csv": lambda i: "epoch,loss" if i == 0 else f"{i},0.5",
    "a.log": lambda i: f"Epoch(train) [{i}][10/10] loss: 0.5",
    "b.log": lambda i: "Epoch(train) [1][10/10] loss: 0.5" if i == 0 else "nothing",
}


@pytest.mark.parametrize("name", LONG)
def test_reading_a_long_log_ends_when_its_job_is_cancelled(tmp_path, name):
    """Cancel did nothing until a log of 100 MB was read whole, a minute later."""
    from workbench.core.job import JobManager
    from workbench.curves import read_runs

    (tmp_path / name).write_text("\n".join(map(LONG[name], range(20_000))) + "\n")
    assert read_runs(tmp_path / name)
    jobs, read = JobManager(), []

    def work(job):
        job.cancel()
        read.append(read_runs(tmp_path / name))

    job = jobs.start(name, name, work)
    assert job.wait(30)
    assert (job.state, read) == ("cancelled", [])


def test_rows_of_a_long_log_are_made_when_they_are_asked_for(tmp_path):
    """The page shows 500 of them, and made a dict for each of a million: 1.5 GB of memory."""
    import tracemalloc

    from apps.pages.sections import table_html
    from workbench.curves import read_runs
    from workbench.curves.report import CurvesReport

    (tmp_path / "a.csv").write_text(
        "epoch,loss,AP\n" + "".join(f"{i},{i / 8},0.5\n" for i in range(1, 20_001))
    )
    report = CurvesReport(read_runs(tmp_path / "a.csv"))
    rows = report.table()
    assert len(rows) == 40_000
    loss = [row for row in rows if row["name"] == "loss"]
    assert [row["epoch"] for row in loss] == list(range(1, 20_001))
    assert [row["value"] for row in loss] == [i / 8 for i in range(1, 20_001)]
    assert (rows[-1], rows[40_000 - 1 :]) == (rows[39_999], [rows[39_999]])
    with pytest.raises(IndexError):
        rows[40_000]
    tracemalloc.start()
    try:
        shown = table_html(report.table())
        assert tracemalloc.get_traced_memory()[1] < 4e6  # a dict for each takes 14 MB
    finally:
        tracemalloc.stop()
    assert shown.count("<tr>") == 501
