"""Rows of a log as one table: where training was started again, and which rows are one series."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.curves.events import events
from tests.curves.test_reading import lines, points, written
from workbench.curves import read_curves


def test_figures_of_an_evaluation_after_the_training_are_no_restart(tmp_path):
    """A job that evaluates the checkpoints of a finished run adds to its log, or writes a file beside it."""
    training = [("train/loss", s, 1 / (s + 1)) for s in range(0, 100, 10)]
    judged = [("val/AP", s, s / 100) for s in (30, 60, 90)]
    for folder, files in (("one", [training + judged]), ("two", [training, judged])):
        for number, content in enumerate(files):
            path = tmp_path / folder / f"events.out.tfevents.{number}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(events(*content))
        curves = read_curves(tmp_path / folder)
        assert points(curves, "val/AP") == [(30, 0.3), (60, 0.6), (90, 0.9)]
        assert curves.restarts == ()
        assert "started again" not in " ".join(curves.notes)
    (tmp_path / "two" / "events.out.tfevents.2").write_bytes(events(("train/loss", 50, 0.5)))
    assert [(r.reached, r.begun) for r in read_curves(tmp_path / "two").restarts] == [(90, 50)]


def test_a_row_of_training_with_a_validation_figure_does_not_cut_a_series_in_two(tmp_path):
    rows = [{"step": s, "loss": 1.0, "lr": 0.1, "grad_norm": s} for s in range(1, 7)]
    rows[2]["val/AP"], rows[5]["val/AP"] = 0.1, 0.2
    curves = read_curves(written(tmp_path, "a.jsonl", lines(*rows)))
    assert [(s.name, s.split, len(s.value)) for s in curves.series] == [
        ("loss", "train", 6), ("lr", "train", 6), ("grad_norm", "train", 6), ("val/AP", "val", 2)
    ]  # fmt: skip
    assert points(curves, "grad_norm") == [(s, s) for s in range(1, 7)]


@pytest.mark.parametrize("named", ["phase", "Mode"])
def test_a_column_with_the_split_keeps_the_figures_of_training_and_validation_apart(tmp_path, named):
    """The losses of validation stood as those of training: they are later in the file."""
    rows = [(1, "train", 0.9), (1, "valid", 1.1), (2, "training", 0.5), (2, "minival", 0.8)]
    table = f"epoch,{named},loss\n" + "".join(f"{e},{word},{loss}\n" for e, word, loss in rows)
    objects = lines(*({"epoch": e, named: word, "loss": loss} for e, word, loss in rows))
    for name, text in (("a.csv", table), ("a.jsonl", objects)):
        curves = read_curves(written(tmp_path, name, text))
        assert {s.label: s.value.tolist() for s in curves.series} == {
            "loss (train)": [0.9, 0.5],
            "loss (val)": [1.1, 0.8],
        }
        assert curves.notes == ()


def test_a_stage_that_is_no_split_says_nothing_of_the_split(tmp_path):
    row = {"epoch": 1, "stage": "warm-up", "loss": 1.0}
    (series,) = read_curves(written(tmp_path, "a.jsonl", lines(row))).series
    assert series.label == "loss (train)"


def test_a_row_takes_the_memory_of_its_numbers(tmp_path):
    """500,000 rows of one number took 436 MB, .9 kB each; 16 bytes a value and 41 a row are in use now."""
    rows = [{"epoch": n // 100, "step": n, "loss": 1 / (n + 1), "val/AP": n / 20_000} for n in range(20_000)]
    log = written(tmp_path, "a.jsonl", lines(*rows))
    read_curves(written(tmp_path, "b.jsonl", lines(*rows[:10])))
    tracemalloc.start()
    try:
        curves = read_curves(log)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert points(curves, "val/AP")[-1][1] == rows[-1]["val/AP"]
    assert peak < 300 * len(rows)
