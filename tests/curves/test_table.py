"""Rows of a log as one table: where training was started again, and which rows are one series."""

from __future__ import annotations

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
