"""Every format of training logs becomes the same table, with values by hand."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.curves.events import wandb_file
from workbench.core import NotAvailable
from workbench.curves import read_curves, read_runs, read_text, run_logs
from workbench.curves.quantities import role_of, short, split_in
from workbench.diagnosis.targets import kind_of, sorted_targets

HERE = Path(__file__).parent


def lines(*rows):
    return "\n".join(map(json.dumps, rows)) + "\n"


def points(curves, name, split=None):
    series = curves.get(name, split)
    assert series is not None, [s.label for s in curves.series]
    x, value = series.finite()
    return list(zip(x.tolist(), np.round(value, 6).tolist(), strict=True))


def written(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_step_of_mmengines_validation_rows_is_the_epoch(tmp_path):
    rows = lines(
        {"lr": 0.1, "loss": 2.0, "epoch": 1, "iter": 50, "step": 50},
        {"lr": 0.1, "loss": 1.0, "epoch": 2, "iter": 50, "step": 150},
        {"coco/AP": 0.25, "coco/AR": 0.3, "coco/AP (M)": -1.0, "step": 2},
    )
    curves = read_curves(written(tmp_path, "run/20251014_1/vis_data/scalars.json", rows).parents[2])
    assert (curves.title, curves.format) == ("run", "JSON lines")
    assert points(curves, "AP") == [(2, 0.25)]
    loss = curves.get("loss")
    assert (loss.split, loss.epoch.tolist(), loss.iteration.tolist()) == ("train", [1, 2], [50, 150])
    assert np.isnan(curves.get("AP (M)").value).all()
    assert "-1 stands for absent" in " ".join(curves.notes)


def test_a_validation_step_beyond_the_last_epoch_is_an_iteration_and_said(tmp_path):
    rows = lines(
        *({"lr": 0.1, "loss": 2.0, "epoch": 1, "iter": i, "step": i} for i in (100, 200, 300)),
        {"coco/AP": 0.25, "step": 300},
    )
    curves = read_curves(written(tmp_path, "scalars.json", rows))
    assert (curves.get("AP").unit, points(curves, "AP")) == ("iteration", [(300, 0.25)])
    assert "read as an iteration" in curves.notes[0]


def test_mmcv_says_train_and_val_and_counts_iterations_within_an_epoch(tmp_path):
    rows = lines(
        {"env_info": "x", "seed": 0},
        *(
            {"mode": "train", "epoch": e, "iter": i, "lr": 1e-5, "loss": e + i / 100}
            for e in (1, 2)
            for i in (50, 100)
        ),
        {"mode": "val", "epoch": 2, "iter": 407, "lr": 0.0, "AP": 0.7, "AP .5": 0.9},
    )
    curves = read_curves(written(tmp_path, "a.log.json", rows))
    assert points(curves, "loss") == [(1, 1.5), (1, 2.0), (2, 2.5), (2, 3.0)]
    assert curves.get("loss").drawn_x().tolist() == [0.5, 1.0, 1.5, 2.0]
    assert points(curves, "AP") == [(2, 0.7)]
    assert curves.title == "a"


def test_what_mmengine_and_mmcv_print_is_read(tmp_path):
    text = (
        "10/14 09:00:00 - mmengine - INFO - Epoch(train)  [2][20/42]  lr: 4.0e-03  eta: 1:02:03  loss: 0.5\n"
        "10/14 09:00:01 - mmengine - INFO - Epoch(val)  [2][34/34]    coco/AP: 0.0805  coco/AP (M): -1.0\n"
        "09:00:02,000 - mmpose - INFO - Epoch [3][50/100]\tlr: 4.9e-05, eta: 13:58:18, loss: 0.25\n"
        "09:00:02,000 - mmpose - INFO - Epoch(val) [3][34]\tAP: 0.2, AP .5: 0.4, AR: 0.3\n"
    )
    curves = read_curves(written(tmp_path, "a.log", text))
    assert points(curves, "loss") == [(2, 0.5), (3, 0.25)]
    assert curves.get("loss").iteration.tolist() == [62, 250]
    assert points(curves, "coco/AP") == [(2, 0.0805)]
    assert points(curves, "AP .5") == [(3, 0.4)]
    assert curves.get("eta") is None


def test_lightnings_csv_has_empty_cells(tmp_path):
    text = "epoch,lr,step,train_loss,val_AP,val_loss\n0,,49,1.5,,\n0,,99,,0.1,1.2\n1,,149,0.5,,\n"
    text += "1,0.01,199,,0.2,1.0\n"
    curves = read_curves(written(tmp_path, "lightning_logs/version_0/metrics.csv", text))
    assert points(curves, "train_loss") == [(0, 1.5), (1, 0.5)]
    assert points(curves, "AP") == [(0, 0.1), (1, 0.2)]
    assert curves.get("val_loss").split == "val"
    assert curves.get("train_loss").iteration.tolist() == [49, 149]
    assert curves.title == "lightning_logs"


def test_a_resumed_run_of_lightning_logs_into_a_version_of_its_own(tmp_path):
    # Rows as lightning 2.6.6 wrote them, with LearningRateMonitor, log(on_step=True, on_epoch=True).
    text = (
        "epoch,lr-SGD,step,train_loss_epoch,train_loss_step,val/PCK,val_AP,val_loss\n"
        ",0.05,0,,,,,\n0,,2,,3.113914966583252,,,\n0,,7,,,0.30673956871032715,0.4656667113304138,1.19656\n"
        "0,,7,3.2544891834259033,,,,\n1,,8,,1.058870553970337,,,\n1,,15,,,0.65498,0.7895939350128174,0.270958\n"
    )
    for version in (2, 9, 10):
        body = text if version == 10 else text.replace("0.78959", "0.11")
        written(tmp_path, f"lightning_logs/version_{version}/metrics.csv", body)
    curves = read_curves(tmp_path)
    assert points(curves, "AP") == [(0, 0.465667), (1, 0.789594)]
    assert points(curves, "train_loss_step") == [(0, 3.113915), (1, 1.058871)]
    assert points(curves, "lr-SGD") == [(0, 0.05)]
    assert curves.notes == (
        "the newest run of this folder; name the log of another run to read it: "
        "lightning_logs/version_2/metrics.csv, lightning_logs/version_9/metrics.csv",
    )


def test_ultralytics_names_stand_between_blanks(tmp_path):
    text = (
        "         epoch,         train/pose_loss,   metrics/mAP50-95(P),           val/pose_loss,   lr/pg0\n"
        "               1,              3.5,          0.125,              3.0,   0.001\n"
        "               2,              2.5,          0.250,              2.0,   0.002\n"
    )
    curves = read_curves(written(tmp_path, "results.csv", text))
    assert points(curves, "mAP50-95(P)") == [(1, 0.125), (2, 0.25)]
    assert curves.headline.name == "metrics/mAP50-95(P)"
    assert (curves.get("train/pose_loss").split, curves.get("val/pose_loss").split) == ("train", "val")
    assert role_of("lr/pg0") == "rate"


def test_rows_that_nothing_counts_are_counted_and_it_is_said(tmp_path):
    curves = read_curves(written(tmp_path, "a.jsonl", lines({"loss": 1.0}, {"loss": 0.5})))
    assert points(curves, "loss") == [(1, 1.0), (2, 0.5)]
    assert "rows are counted from 1" in curves.notes[0]
    # A resumed trial of Ray Tune goes on where it stopped.
    tuned = [{"loss": 1.0, "training_iteration": 7, "done": False}, {"loss": 0.5, "training_iteration": 8}]
    curves = read_curves(written(tmp_path, "result.json", lines(*tuned)))
    assert (points(curves, "loss"), curves.notes) == ([(7, 1.0), (8, 0.5)], ())


def test_a_table_of_blanks_or_bars_or_tabs_is_read():
    wanted = [(1, 0.5), (2, 0.75)]
    for text in (
        "epoch  loss  AP\n1  2.0  0.5\n2  1.0  0.75\n",
        "epoch loss AP\n1 2.0 0.5\n2 1.0 0.75\n",
        "epoch\tloss\tAP\n1\t2.0\t0.5\n2\t1.0\t0.75\n",
        "W.\n\n| Epoch | Loss | AP |\n|---|:-:|--:|\n| 1 | 2.0 | **50.0%** |\n| 2 | 1.0 | 75 % |\n\nM.\n",
        "```\nepoch loss AP\n1 2.0 0.5\n2 1.0 0.75\n```",
    ):
        (curves,) = read_text(text)
        assert points(curves, "AP") == wanted, text


def test_a_range_in_a_text_is_no_value_and_said():
    (curves,) = read_text(
        "| Epoch Range | PCK Range |\n|---|---|\n| 1-2 | 0% |\n| 3 | 50% |\n| 4-9 | 11-44% |\n"
    )
    assert points(curves, "PCK") == [(1, 0), (2, 0), (3, 0.5)]
    assert "PCK Range of epoch 4-9 is given as a range, 11-44%: left out" in curves.notes


def test_figures_without_a_leading_zero_are_read_and_words_are_told():
    (curves,) = read_text("epoch  AP  loss\n1  .5  1e-2\n2  .75  good\n3  .8  -\n")
    assert points(curves, "AP") == [(1, 0.5), (2, 0.75), (3, 0.8)]
    assert points(curves, "loss") == [(1, 0.01)]
    assert curves.notes == ("loss of epoch 2 is no number, 'good': left out",)
    (curves,) = read_text("Epoch 10: AP .08\nEpoch 20: AP .21\n")
    assert points(curves, "AP") == [(10, 0.08), (20, 0.21)]


@pytest.mark.parametrize(
    "text",
    [
        "epoch,A: AP,B: AP\n1,0.1,0.2\n2,0.3,0.35\n",
        "| epoch | A: AP | B: AP |\n|---|---|---|\n| 1 | 0.1 | 0.2 |\n| 2 | 0.3 | 0.35 |\n",
        '"epoch","A - AP","A - AP__MIN","A - AP__MAX","B - AP","B - AP__MIN","B - AP__MAX"\n'
        "1,0.1,0.1,0.1,0.2,0.2,0.2\n2,0.3,0.3,0.3,0.35,0.35,0.35\n",
    ],
)
def test_columns_that_name_runs_are_several_runs(text):
    runs = read_text(text, "both")
    assert [run.title for run in runs] == ["both: A", "both: B"]
    assert [[series.name for series in run.series] for run in runs] == [["AP"], ["AP"]]
    assert [run.series[0].value.tolist() for run in runs] == [[0.1, 0.3], [0.2, 0.35]]


def test_columns_of_one_run_with_a_colon_in_their_names_stay_one_run():
    (run,) = read_text("epoch,A: AP,B: loss\n1,0.1,0.2\n2,0.3,0.1\n")
    assert len(run.series) == 2


def test_a_cut_last_line_and_broken_lines_are_told(tmp_path):
    rows = lines(*({"epoch": e, "AP": e / 10} for e in (1, 2, 3)))
    curves = read_curves(written(tmp_path, "a.jsonl", rows[:-9]))
    assert points(curves, "AP") == [(1, 0.1), (2, 0.2)]
    assert "line 3, the last one, is cut off" in curves.notes[0]
    first, second, third = rows.splitlines()
    curves = read_curves(written(tmp_path, "b.jsonl", f"{first}\n{second[:9]}\n{third}\n"))
    assert points(curves, "AP") == [(1, 0.1), (3, 0.3)]
    assert curves.notes == ("line 2 left out: expected a JSON object per line",)
    curves = read_curves(written(tmp_path, "c.csv", "epoch,AP,lr\n1,0.1,0.01\n2,0.2,"))
    assert points(curves, "AP") == [(1, 0.1), (2, 0.2)]
    assert "line 3, the last one, has no line break: its last number (lr)" in curves.notes[0]


def test_a_scalars_json_without_the_folders_around_it_is_the_log_of_its_folder(tmp_path):
    written(tmp_path, "copied/scalars.json", lines({"coco/AP": 0.1, "step": 1}, {"coco/AP": 0.2, "step": 2}))
    assert points(read_curves(tmp_path / "copied"), "AP") == [(1, 0.1), (2, 0.2)]


def test_of_an_epoch_logged_twice_the_later_value_counts_and_it_is_said(tmp_path):
    rows = lines(*({"epoch": e, "AP": v} for e, v in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.25), (3, 0.35))))
    curves = read_curves(written(tmp_path, "a.jsonl", rows))
    assert points(curves, "AP") == [(1, 0.1), (2, 0.25), (3, 0.35)]
    assert "logged more than once, and the later value counts: at 2, 3" in curves.notes
    assert [(r.reached, r.begun) for r in curves.restarts] == [(3, 2)]
    twice = read_curves(written(tmp_path, "b.jsonl", lines(*({"epoch": e, "AP": 0.1} for e in (1, 2))) * 2))
    assert "two runs share a log" in twice.flags[0].fix


def test_the_starts_of_a_run_are_one_table(tmp_path):
    for name, epochs in (("20251014_1", (1, 2)), ("20251015_1", (2, 3))):
        rows = lines(*({"coco/AP": e / 10, "coco/AR": e / 10, "step": e} for e in epochs))
        written(tmp_path, f"run/{name}/vis_data/scalars.json", rows)
    curves = read_curves(tmp_path / "run")
    assert points(curves, "AP") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert "counting went back from epoch 2 to 2" not in " ".join(curves.notes)
    assert curves.files == tuple(f"2025101{day}_1/vis_data/scalars.json" for day in (4, 5))


def test_nan_stays_nan_and_is_counted(tmp_path):
    text = '{"epoch": 1, "loss": 1.0}\n{"epoch": 2, "loss": NaN}\n{"epoch": 3, "loss": Infinity}\n'
    curves = read_curves(written(tmp_path, "a.jsonl", text))
    assert points(curves, "loss") == [(1, 1.0)]
    assert curves.notes == (
        "not finite (nan or infinite) and left out: loss (2 times, first a.jsonl, line 2, epoch 2)",
    )
    (flag,) = curves.flags
    assert "nan or infinite 2 times, first at epoch 2" in flag.evidence


def test_minus_one_of_a_metric_is_absent_and_said_and_of_a_loss_it_is_a_value(tmp_path):
    rows = lines({"epoch": 1, "PCK": -1, "AP (M)": -1.0, "loss": -1}, {"epoch": 2, "PCK": 0.5, "loss": -2})
    curves = read_curves(written(tmp_path, "a.jsonl", rows))
    assert (points(curves, "PCK"), points(curves, "loss")) == ([(2, 0.5)], [(1, -1), (2, -2)])
    (note,) = curves.notes
    assert note.startswith("-1 stands for absent")
    assert "PCK (a.jsonl, line 1, epoch 1), AP (M) (a.jsonl, line 1, epoch 1)" in note


PRINTED = "10/14 09:00:00 - mmengine - INFO - Epoch(val)  [{e}][34/34]    coco/AR: 0.7000  coco/AP: {v:.4f}\n"
FORMS = {
    "a.csv": ("epoch,loss,AP\n", "{e},0.5,{v:.4f}\n"),
    "a.log": ("", PRINTED),
    "a.txt": ("epoch loss AP\n", "{e} 0.5 {v:.4f}\n"),
    "a.md": ("| epoch | loss | AP |\n|--|--|--|\n", "| {e} | 0.5 | {v:.4f} |\n"),
    "b.txt": ("", "Epoch {e}: AP {v:.4f}\n"),
    "a.jsonl": ("", '{{"epoch": {e}, "AP": {v:.4f}}}\n'),
}


NUMBERED = {
    **FORMS,
    "old.log.json": (
        '{{"env_info": "one GPU"}}\n',
        '{{"mode": "val", "epoch": {e}, "iter": 9, "AP": {v}}}\n',
    ),
    "scalars.json": ("", '{{"coco/AP": {v}, "step": {e}}}\n'),
    "prose.md": ("# Run\n```\nepoch 1: AP 0.3\n```\n\n| epoch | AP |\n|--|--|\n", "| {e} | {v} |\n"),
    "best.md": ("", "Best AP: {v} at epoch {e}\n"),
}


@pytest.mark.parametrize("name", NUMBERED)
def test_what_is_no_number_is_told_by_its_line(tmp_path, name):
    head, row = NUMBERED[name]
    lines_of_head = head.count("\n")
    in_words = name in ("b.txt", "best.md")  # a sentence with nan states nothing
    rows = {1: 0.1, 2: -1.0, 3: 0.3, 4: 0.4 if in_words else math.nan}
    text = head.format() + "".join(row.format(e=e, v=v) for e, v in rows.items())
    text = text.replace("nan", "NaN") if ".json" in name else text
    notes = " ".join(read_curves(written(tmp_path, name, text)).notes)
    assert f"AP ({name}, line {lines_of_head + 2}, epoch 2)" in notes
    assert (f"AP ({name}, line {lines_of_head + 4}, epoch 4)" in notes) is not in_words


@pytest.mark.parametrize("name", FORMS)
def test_a_log_cut_anywhere_in_its_last_line_gives_no_value_that_was_not_logged(tmp_path, name):
    head, row = FORMS[name]
    values = {e: 0.1 + e / 23.7 for e in range(1, 9)}
    whole = head + "".join(row.format(e=e, v=v) for e, v in values.items())
    logged = [(e, round(v, 4)) for e, v in values.items()]
    length = len(row.format(e=8, v=values[8]))
    for cut in range(1, length):
        path = written(tmp_path, name, whole[:-cut])
        (curves,) = read_runs(path)
        found = points(curves, "AP")
        assert found in (logged, logged[:-1]), cut
        assert not curves.flags, cut
        if cut == 1 and row.endswith(".4f}\n"):
            assert "has no line break" in curves.notes[-1]
            assert found == logged[:-1]
    # Pasted text ends as a person copied it; text from a pipe as a file does.
    (curves,) = read_text(whole[:-1])
    assert points(curves, "AP") == logged
    (curves,) = read_text(whole[:-1], piped=True)
    assert points(curves, "AP") == (logged[:-1] if row.endswith(".4f}\n") else logged)


def test_an_offline_run_of_wandb_and_its_resumed_start_are_one_table():
    """Files that wandb 0.31.0 wrote, by this script (each in a folder of the start)::

    import math, wandb
    for start, stop in ((1, 4), (3, 7)):  # stopped after epoch 4, resumed behind epoch 2
        settings = wandb.Settings(
            mode="offline", console="off", x_disable_stats=True, x_disable_meta=True, host="host"
        )
        run = wandb.init(project="p", id="resumed", resume="allow", dir="out", settings=settings)
        for epoch in range(start, stop + 1):
            loss = math.nan if epoch == 5 else 2 / epoch
            row = {"epoch": epoch, "train/loss": loss, "coco/AP": epoch / 10, "coco/AP (M)": -1}
            run.log({**row, "val": {"AR": 0.5}}, step=100 * epoch)
        run.finish()
    """
    curves = read_curves(HERE / "wandb_run")
    assert (curves.format, curves.title, len(curves.files)) == ("W&B offline run", "wandb_run", 2)
    assert {kind_of(HERE / "wandb_run" / file) for file in curves.files} == {("log", "")}
    assert points(curves, "AP") == [(e, e / 10) for e in range(1, 8)]
    assert points(curves, "loss") == [(e, round(2 / e, 6)) for e in (1, 2, 3, 4, 6, 7)]
    assert curves.get("loss").iteration.tolist() == [100, 200, 300, 400, 500, 600, 700]
    assert points(curves, "val/AR")[0] == (1, 0.5)
    assert np.isnan(curves.get("AP (M)").value).all()
    joined = " ".join(curves.notes)
    for words in (
        "later value counts: at 3, 4",
        "from epoch 4 to 3: training was started again",
        "nan or infin",
    ):
        assert words in joined


def test_the_link_of_wandb_to_its_latest_run_is_no_run_of_its_own(tmp_path):
    shutil.copytree(HERE / "wandb_run", tmp_path / "wandb")
    (tmp_path / "wandb" / "latest-run").symlink_to("offline-run-2")
    (tmp_path / "wandb" / "debug.log").write_text("2026-11-30 07:00:42 INFO MainThread:1 [setup.py] loaded\n")
    assert len(read_curves(tmp_path).files) == 2


def test_a_link_out_of_a_runs_folder_is_none_of_its_logs(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("a.log.json", "metrics.csv"):
        (tmp_path / name).write_text('{"mode": "train", "epoch": 1, "loss": 1}\n')
        (run / name).symlink_to(tmp_path / name)
    (run / "above").symlink_to(tmp_path)
    assert run_logs(run) == ()
    (run / "other.log.json").write_text('{"mode": "train", "epoch": 1, "loss": 1}\n')
    (run / "z.log.json").symlink_to("other.log.json")
    assert run_logs(run) == (run / "z.log.json",)  # one file, once


def test_the_dated_logs_of_all_starts_of_mmcv_are_one_run_and_a_single_start_is_as_before(tmp_path):
    for day, epochs in ((1, range(1, 5)), (2, range(3, 9))):
        rows = [{"mode": "train", "epoch": e, "iter": 10, "lr": 0.1, "loss": 1 / e} for e in epochs]
        rows += [{"mode": "val", "epoch": e, "iter": 9, "AP": e / 10} for e in epochs]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"2026010{day}_000000.log.json").write_text(text)
        found = read_curves(tmp_path).get("AP", "val")
        assert found is not None
        assert found.epoch.tolist() == list(range(1, max(epochs) + 1))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("log.txt", '{{"epoch": {0}, "train_loss": 0.{0}, "test_pck": 0.5}}'),  # DETR and its descendants
        ("train.log", "Epoch {0}/9 - loss: 0.{0} - val_pck: 0.5"),
    ],
)
def test_a_text_that_counts_epochs_is_the_log_of_its_folder_and_another_text_is_not(tmp_path, name, line):
    (tmp_path / name).write_text("".join(line.format(e) + "\n" for e in range(1, 6)))
    (tmp_path / "setup.log").write_text("Epoch is not mentioned here\nloaded 12 files\n")
    assert run_logs(tmp_path) == (tmp_path / name,)
    (tmp_path / name).unlink()
    assert run_logs(tmp_path) == ()


def test_records_of_wandb_over_several_blocks_damaged_and_cut_ones(tmp_path):
    rows = [{"epoch": e, "AP": e / 1000, "text": "x" * 900} for e in range(1, 101)]  # three blocks of 32 KiB
    whole = wandb_file(*rows)
    path = tmp_path / "run-a.wandb"
    path.write_bytes(whole)
    curves = read_curves(path)
    assert (points(curves, "AP"), curves.notes) == ([(e, e / 1000) for e in range(1, 101)], ())
    path.write_bytes(whole[:-1])
    curves = read_curves(path)
    assert (len(points(curves, "AP")), curves.notes) == (99, ("the last record is cut off and left out",))
    damaged = bytearray(whole)
    damaged[70_000] ^= 1
    path.write_bytes(damaged)
    curves = read_curves(path)
    assert 60 < len(points(curves, "AP")) < 75
    assert "damaged (checksum)" in curves.notes[0]
    path.write_bytes(whole[:7])
    with pytest.raises(NotAvailable, match="no line of history"):
        read_curves(path)
    damaged[20] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(
        ValueError, match=r"at byte 7 is damaged \(checksum\).*; no line of history is before"
    ):
        read_curves(path)
    given = sorted_targets([path])
    assert (given.damaged[0][0], given.notes) == (path.name, ())
    assert given.damaged[0][1].startswith("cannot be read: the record at byte 7 is damaged (checksum)")


def test_one_json_document_is_a_list_of_rows_or_lists_by_name(tmp_path):
    rows = [{"epoch": e, "step": 10 * e, "loss": 1 / e, "eval_AP": 0.1 * e} for e in (1, 2, 4)]
    state = {"best_metric": 0.4, "global_step": 40, "log_history": rows}  # transformers' trainer_state.json
    for name, found, indent in (("a.json", rows, None), ("b.json", rows, 1), ("c.json", state, 1)):
        curves = read_curves(written(tmp_path, name, json.dumps(found, indent=indent)))
        assert points(curves, "loss") == [(1, 1), (2, 0.5), (4, 0.25)]
        assert curves.best == (4, 0.4)
        (pasted,) = read_text(json.dumps(found, indent=indent))
        assert points(pasted, "loss") == points(curves, "loss")
    history = {"loss": [3, 2, 1], "val_loss": [3.5, 2.5, 2.75]}  # history of Keras
    curves = read_curves(written(tmp_path, "history.json", json.dumps(history)))
    assert points(curves, "loss", "val") == [(1, 3.5), (2, 2.5), (3, 2.75)]
    for other in ([{"image_id": 1, "score": 0.5}], {"images": [], "annotations": [{"id": 1}]}, [], {}):
        with pytest.raises((ValueError, NotAvailable)):
            read_curves(written(tmp_path, "other.json", json.dumps(other, indent=1) + "\n"))


def test_a_record_of_wandb_that_is_no_line_of_history_is_left_out(tmp_path, monkeypatch):
    """One of 250 MB took 800 MB and four minutes."""
    monkeypatch.setattr("workbench.curves.wandb_run._MOST_OF_A_RECORD", 2 << 20)
    rows = [{"epoch": 1, "AP": 0.1}, {"text": "x" * (2 << 20)}, {"epoch": 2, "AP": 0.2}]
    (tmp_path / "run-a.wandb").write_bytes(wandb_file(*rows))
    curves = read_curves(tmp_path / "run-a.wandb")
    assert points(curves, "AP") == [(1, 0.1), (2, 0.2)]
    assert curves.notes == ("a record of 2 MB, which no line of history has, is left out",)
    monkeypatch.setattr("workbench.curves.wandb_run._MOST_FIELDS", 50)
    (tmp_path / "run-b.wandb").write_bytes(wandb_file({f"value {n}": n for n in range(51)}))
    with pytest.raises(ValueError, match=r"another form \(more than 50 fields"):
        read_curves(tmp_path / "run-b.wandb")


def test_objects_in_a_row_of_wandb_are_columns(tmp_path):
    (tmp_path / "run-a.wandb").write_bytes(
        wandb_file(*({"epoch": e, "val": {"AP": e / 10, "by": {"nose": e}}} for e in (1, 2)))
    )
    curves = read_curves(tmp_path / "run-a.wandb")
    assert points(curves, "val/AP") == [(1, 0.1), (2, 0.2)]
    assert points(curves, "val/by/nose") == [(1, 1), (2, 2)]


def test_what_is_no_log_is_one_sentence(tmp_path):
    cases = (
        ("a.txt", b"Nothing here.\n", ValueError, "no figures by epoch"),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0", ValueError, "no log of a known format"),
        ("a.csv", b"epoch,AP\n", ValueError, "no row of figures"),
        ("b.csv", b"epoch,AP,AP\n1,2,3\n", ValueError, "each once"),
        ("a.jsonl", b"", ValueError, "empty"),
        ("epoch_1.pth", b"PK", NotAvailable, "name the log beside it"),
        ("a.json", b"[1, 2]\n", ValueError, "JSON object per line"),
        ("b.json", b'{"env_info": "x", "mode": "train", "epoch": 1}\n', NotAvailable, "no figures"),
    )
    for name, data, kind, words in cases:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(kind, match=words):
            read_runs(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotAvailable, match="no log in this folder"):
        read_runs(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such log"):
        read_runs(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "name", ["log.json", "train_log.json", "history.json", "checkpoint-20/trainer_state.json"]
)
def test_a_log_that_is_one_json_document_is_found_in_its_run_s_folder(tmp_path, name):
    rows = [{"epoch": 1, "step": 10, "loss": 0.5}, {"epoch": 2, "step": 20, "loss": 0.25}]
    path = tmp_path / "my run" / name
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"log_history": rows} if "state" in name else rows))
    (tmp_path / "my run" / "catalog.json").write_text(
        '[{"image_id": 1}]'
    )  # no log, whatever its name ends in
    (run,) = read_runs(tmp_path / "my run")
    assert run.title == "my run"
    assert list(run.get("loss").value) == [0.5, 0.25]
    assert kind_of(path) == ("log", "")


def test_names_tell_what_they_stand_for():
    names = {"coco/AP": "AP", "val/AP": "AP", "loss/fine": "loss/fine", "train_loss_epoch": "loss"}
    assert {name: short(name) for name in names} == names
    assert [split_in(n) for n in ("val_loss", "train/loss", "loss/train", "AP")] == [
        "val",
        "train",
        "train",
        "",
    ]
    roles = {"AP .5": "metric", "PCK@0.05": "metric", "NME": "error", "base_lr": "rate", "mse_loss": "loss",
             "time": "other", "grad_norm": "other", "acc_pose": "metric", "EPE": "error",
             "val_px": "error", "val/mean dist": "error", "px_loss": "loss", "dist_url": "other"}  # fmt: skip
    assert {name: role_of(name) for name in roles} == roles


def test_lines_of_a_trainer_written_by_hand_give_their_rows():
    text = (
        "### my run (2 GPUs)\nwarm-up done\n"
        "[ep  1/14] train-loss: 0.0335 ; lr=0.002\n[ep  2/14] train-loss: 0.0099 ; lr=0.002\n"
        "Ep  003 | it 000500/1000 | Loss=1.25e-2 | LR 5.0E-04 | 3.2 it/s\n"
        "Ep  003 | it 001000/1000 | Loss=1.00e-2 | LR 5.0E-04 | 3.1 it/s\n"
        "  --> VAL Ep 003  mAP: 31.20 %  mAR: 40.1 %\n"
        "Epoch 4: AP 0.5, PCK@0.2: 0.75\n"
        "Epoch 5 to 7: AP 0.1-0.2\n"
        "Epoch 2.5 was slow: loss 3\n"
    )
    (run,) = read_text(text)
    assert points(run, "loss", "train") == [(1, 0.0335), (2, 0.0099)]
    loss = run.get("Loss", "train")
    assert (loss.epoch.tolist(), loss.iteration.tolist()) == ([3, 3], [2500, 3000])
    assert loss.value.tolist() == [0.0125, 0.01]
    assert points(run, "mAP", "val") == [(3, 0.312)]
    assert points(run, "mAR", "val") == [(3, 0.401)]
    assert (points(run, "AP"), points(run, "PCK@0.2")) == ([(4, 0.5)], [(4, 0.75)])
    assert points(run, "lr") == [(1, 0.002), (2, 0.002)]


def test_a_table_with_decimal_commas_and_nested_objects_are_read(tmp_path):
    table = "epoch;train loss;val PCK@0.05\n1;0,0335;0,12\n2;0,0099;0,33\n"
    assert points(read_curves(written(tmp_path, "a.csv", table)), "val PCK@0.05") == [(1, 0.12), (2, 0.33)]
    rows = lines(
        {"step": 100, "stage": "train", "m": {"loss": {"kpt": 0.5, "vis": 0.1}}},
        {"step": 100, "stage": "val", "m": {"AP": 0.1, "deep": {"er": {"still": {"more": 1}}}}},
    )
    curves = read_curves(written(tmp_path, "b.jsonl", rows))
    assert points(curves, "loss/kpt", "train") == [(100, 0.5)]
    assert points(curves, "AP", "val") == [(100, 0.1)]


def test_a_csv_that_is_called_a_log_is_the_log_of_its_folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "predictions.csv").write_text("image,x\na.png,3\n")
    written(tmp_path / "run", "log.csv", "epoch,loss,val_AP\n1,1.0,0.25\n2,0.5,0.5\n")
    curves = read_curves(tmp_path / "run")
    assert (curves.title, points(curves, "AP")) == ("run", [(1, 0.25), (2, 0.5)])
