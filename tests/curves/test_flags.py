"""What curves show: planted cases are found, healthy ones stay silent, and the real logs too."""

from __future__ import annotations

import itertools
import json
import time

import numpy as np
import pytest

from workbench.curves import flags, mistakes, read_curves, read_runs, read_text, schedule, warm_up_of_data
from workbench.curves.flags import flags_of
from workbench.curves.report import CurvesReport
from workbench.curves.table import Curves, Series


def run(folder, rows, name="a.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_curves(path)


def kinds(curves):
    return [flag.cause for flag in curves.flags]


def healthy(epochs=40):
    """AP that rises to a level, a loss that falls and a cosine schedule with a short warm-up."""
    rows = []
    for e in range(1, epochs + 1):
        rate = 0.001 * min(e / 3, 0.5 * (1 + np.cos(np.pi * e / (epochs + 1))))
        ap = 0.7 * (1 - np.exp(-e / 10)) + 0.002 * np.sin(3.0 * e)
        rows.append(
            {"epoch": e, "loss": np.exp(-e / 20) + 0.2, "lr": rate, "val/AP": ap, "val/AR": ap + 0.05}
        )
    return rows


def test_a_healthy_run_shows_nothing(tmp_path):
    curves = run(tmp_path, healthy())
    assert curves.flags == ()
    assert "nothing stands out" in curves.summary()


def test_the_best_epoch_and_the_last_are_told_apart(tmp_path):
    rows = healthy()
    rows[-1]["val/AP"] = 0.5
    rows[-1]["val/AR"] = 0.55
    (flag,) = [f for f in run(tmp_path, rows).flags if f.cause == flags.BEST_NOT_LAST]
    assert flag.where.startswith("epoch 3")
    assert flag.severity == "warning"


def test_a_loss_that_falls_while_the_metric_does_not_is_found(tmp_path):
    rows = [{"epoch": e, "loss": 1 / e, "AP": 0.3 - 0.005 * e if e > 5 else 0.06 * e} for e in range(1, 31)]
    curves = run(tmp_path, rows)
    (flag,) = [f for f in curves.flags if f.cause == flags.LOSS_WITHOUT_METRIC]
    assert flag.where == "epoch 5 to 30"
    assert flag.numbers[0].value == pytest.approx((1 / 5 - 1 / 30) / (1 / 5))


def by_step(change, epochs=20, each=12):
    """Rows as TensorBoard and W&B hold them: loss and rate by iteration, the metric at each epoch's end."""
    rows = []
    for i in range(epochs * each):
        at = (i + 1) / each
        row = {"iteration": i, "loss": 0.8 * np.exp(-at / 4) + 0.05 + 0.005 * np.sin(5.0 * i)}
        row["lr"] = 5e-4 * (1 + np.cos(np.pi * i / (epochs * each)))
        if (i + 1) % each == 0:
            row |= {"epoch": int(at), "val/PCK": 0.85 * (1 - np.exp(-at / 5)) + 0.004 * np.sin(3.0 * at)}
        change(row, at)
        rows.append(row)
    return rows


def flat(row, at):
    if "val/PCK" in row:
        row["val/PCK"] = 0.12 + 0.004 * np.sin(3.0 * at)


def overfitted(row, at):
    if "val/PCK" in row:
        row["val/PCK"] = 0.7 * (1 - np.exp(-at / 2)) - 0.012 * max(at - 7, 0)


def spiked(row, at):
    row["lr"] *= 30 if 10 < at <= 11 else 1
    row["loss"] += 0.7 * np.exp(10 - at) if at > 10 else 0
    if "val/PCK" in row and at > 10:
        row["val/PCK"] *= 1 - 0.85 * np.exp((11 - at) / 3)


def restarted_warm(row, at):
    row["lr"] = 5e-4 * (1 + np.cos(np.pi * ((at - 1e-9) % 5) / 5))


def warm_for_long(row, at):
    row["lr"] = 1e-5 if at <= 2 else 1e-3 if at <= 14 else 1e-4 if at < 18 else 1e-5


@pytest.mark.parametrize(
    ("change", "cause", "where", "says"),
    [
        (flat, flags.LOSS_WITHOUT_METRIC, "epoch 1 to 20", "PCK stays between 0.116 and 0.124 in all 20"),
        (overfitted, flags.LOSS_WITHOUT_METRIC, "epoch 7 to 20", "(-73%), PCK goes from 0.67"),
        (spiked, schedule.RATE_RISE, "epoch 11", "PCK 0.731 at 10, 0.114 at 11"),
    ],
)
def test_a_loss_by_iteration_is_compared_with_a_metric_by_epoch(tmp_path, change, cause, where, says):
    found = run(tmp_path, by_step(change)).flags
    (flag,) = [flag for flag in found if flag.cause == cause]
    assert (flag.where, flag.severity) == (where, "warning")
    assert says in flag.evidence
    # The rate explains that what was learned is lost.
    assert schedule.BEGUN_ANEW not in [flag.cause for flag in found]


def nothing(row, at):
    row |= {"loss": 0.0, "val/PCK": 0.0} if "val/PCK" in row else {"loss": 0.0}


def test_a_loss_of_0_does_not_fall(tmp_path):
    assert flags.LOSS_WITHOUT_METRIC not in kinds(run(tmp_path, by_step(nothing)))


@pytest.mark.parametrize("change", [lambda row, at: None, restarted_warm, warm_for_long])
def test_a_healthy_log_by_iteration_shows_no_more_than_its_schedule(tmp_path, change):
    found = run(tmp_path, by_step(change)).flags
    assert {flag.cause for flag in found} <= {schedule.RATE_STEP}


def noisy(seed):
    """A level run whose logged losses are of single batches; AP is best by chance before the end."""
    random = np.random.default_rng(seed)
    for s in range(50, 3001, 50):
        loss = (0.15 + 0.8 * np.exp(-s / 400)) * np.exp(random.normal(0, 0.3))
        yield {"step": s, "loss": loss, "pck": 0.7 * (1 - np.exp(-s / 400)) + random.normal(0, 0.004)}


@pytest.mark.parametrize("seed", [15, 27, 40])
def test_losses_of_single_batches_that_differ_by_chance_do_not_fall(tmp_path, monkeypatch, seed):
    assert flags.LOSS_WITHOUT_METRIC not in kinds(run(tmp_path, noisy(seed)))
    monkeypatch.setattr(flags, "BY_CHANCE", 0)
    assert flags.LOSS_WITHOUT_METRIC in kinds(run(tmp_path, noisy(seed)))


@pytest.mark.parametrize(("lost", "found"), [(0.4, True), (0.1, False)])
def test_a_metric_that_loses_much_of_its_best_is_found_where_the_loss_falls_by_little(tmp_path, lost, found):
    rows = healthy()
    best = rows[23]["val/AP"]
    for number, row in enumerate(rows[24:], 1):
        row["val/AP"] = best * (1 - lost * number / 16)
        row["val/AR"] = row["val/AP"] + 0.05
        # The loss falls by a tenth behind the best epoch.
        row["loss"] = rows[23]["loss"] * (1 - 0.1 * number / 16)
    named = [flag for flag in run(tmp_path, rows).flags if flag.cause == flags.LOSS_WITHOUT_METRIC]
    assert [flag.where for flag in named] == (["epoch 24 to 40"] if found else [])


def test_one_low_evaluation_at_the_end_is_no_loss_without_metric(tmp_path):
    rows = healthy()
    for number, row in enumerate(rows[24:], 1):
        row["loss"] = rows[23]["loss"] * (1 - 0.1 * number / 16)
    rows[-1]["val/AP"], rows[-1]["val/AR"] = 0.2, 0.25
    assert flags.LOSS_WITHOUT_METRIC not in kinds(run(tmp_path, rows))


def test_ap_and_ar_that_go_opposite_ways_are_found(tmp_path):
    rows = healthy()
    rows[20]["val/AP"] -= 0.05
    rows[20]["val/AR"] += 0.03
    (flag,) = [f for f in run(tmp_path, rows).flags if f.cause == flags.AGAINST]
    assert "21" in flag.where
    assert flag.evidence.startswith("from epoch 20 to 21 AP changes by -0.0")


@pytest.mark.parametrize(
    ("of_ar", "first"), [(0.03, flags.AGAINST), (-0.1, flags.LOSS_WITHOUT_METRIC)], ids=["rises", "falls"]
)
def test_ap_that_falls_in_one_step_in_which_ar_rises_is_said_first(of_ar, first, tmp_path):
    rows = healthy()
    for number, row in enumerate(rows[20:]):
        row["loss"] = rows[20]["loss"] * (1 - 0.01 * number)
        row["val/AP"] = rows[19]["val/AP"] - 0.15 - 0.001 * number
        row["val/AR"] = rows[19]["val/AR"] + of_ar
    rows[30]["val/AP"] -= 0.02  # a small step the other way explains nothing
    rows[30]["val/AR"] += 0.02
    asked = (flags.AGAINST, flags.LOSS_WITHOUT_METRIC)
    assert next(one for one in kinds(run(tmp_path, rows)) if one in asked) == first


def test_a_jump_is_found_and_noise_is_not(tmp_path):
    chance = np.random.default_rng(0)
    noisy = [{"epoch": e, "AP": 0.5 + chance.normal(0, 0.02)} for e in range(1, 60)]
    assert flags.JUMP not in kinds(run(tmp_path, noisy))
    jump = [{"epoch": e, "AP": (0.3 if e < 20 else 0.5) + 0.001 * e} for e in range(1, 40)]
    (flag,) = [f for f in run(tmp_path, jump).flags if f.cause == flags.JUMP]
    assert flag.where == "epoch 19 to 20"


@pytest.mark.parametrize(
    ("at", "where"), [(20, "epoch 20 to 22"), (38, "epoch 38 to 40"), (39, "epoch 39 to 40")]
)
def test_one_evaluation_that_falls_out_is_a_jump_also_at_the_end(tmp_path, at, where):
    rows = [{"epoch": e, "AP": 0.3 + 0.005 * e - 0.2 * (e == at + 1)} for e in range(1, 41)]
    (flag,) = [f for f in run(tmp_path, rows).flags if f.cause == flags.JUMP]
    assert flag.where == where


def test_a_jump_at_a_step_of_the_learning_rate_is_told_as_that_step(tmp_path):
    rows = [
        {"epoch": e, "lr": 1e-3 if e < 20 else 1e-4, "AP": (0.3 if e < 20 else 0.5) + 0.001 * e}
        for e in range(1, 40)
    ]
    found = run(tmp_path, rows).flags
    assert [f.cause for f in found] == [schedule.RATE_STEP]
    assert found[0].where == "epoch 20"
    assert "from 0.001 to 0.0001" in found[0].evidence


def test_a_late_start_says_whether_warm_up_was_still_on(tmp_path):
    rows = [
        {"epoch": e, "lr": 0.001 * min(e / 12, 1.0), "AP": 0.0 if e <= 10 else 0.05 * (e - 10)}
        for e in range(1, 21)
    ]
    found = run(tmp_path, rows).flags
    (late,) = [f for f in found if f.cause == flags.LATE_START]
    assert late.where == "epoch 1 to 10"
    assert "the learning rate rises until epoch 12" in late.evidence
    assert schedule.LONG_WARM_UP in [f.cause for f in found]


def test_warm_up_is_counted_against_the_data():
    found = warm_up_of_data(669, 16, 1000, 300)
    assert found is not None
    assert "42 iterations per epoch: a warm-up of 1000 iterations lasts 24 epochs of 300" in found.evidence
    assert warm_up_of_data(118_287, 256, 1000, 210) is None  # COCO: 463 iterations per epoch
    with pytest.raises(ValueError, match="at least 1 image"):
        warm_up_of_data(0, 16, 1000)


def test_a_resume_with_a_new_schedule_is_found(tmp_path):
    rate = [0.001 * 0.8**e for e in range(20)]
    rows = [{"epoch": e + 1, "lr": rate[e], "loss": 1 / (e + 1)} for e in range(20)]
    again = [{"epoch": 16 + e, "lr": 0.001 * 0.8**e, "loss": 1 / (e + 1)} for e in range(10)]
    (flag,) = [f for f in run(tmp_path, rows + again).flags if f.cause == schedule.RESTARTED]
    assert flag.where == "epoch 16"
    true = [{"epoch": 16 + e, "lr": 0.001 * 0.8 ** (15 + e), "loss": 1 / (15 + e)} for e in range(10)]
    assert schedule.RESTARTED not in kinds(run(tmp_path, rows + true))


def test_epochs_counted_from_one_again_are_found(tmp_path):
    rows = [{"epoch": e, "loss": 1 / e} for e in (1, 2, 3, 4, 1, 2)]
    assert schedule.BEGUN_ANEW in kinds(run(tmp_path, rows))


def test_a_plateau_is_found_only_where_nothing_moves(tmp_path):
    rows = [{"epoch": e, "AP": min(0.047 * e, 0.47)} for e in range(1, 31)]
    (flag,) = run(tmp_path, rows).flags
    assert (flag.cause, flag.where) == (flags.PLATEAU, "epoch 10 to 30")
    few = [{"epoch": e, "AP": min(0.0094 * e, 0.376)} for e in range(10, 101, 10)]
    assert [(f.cause, f.where) for f in run(tmp_path, few).flags] == [(flags.PLATEAU, "epoch 40 to 100")]
    rising = [{"epoch": e, "AP": 0.01 * e} for e in range(1, 31)]
    assert run(tmp_path, rising).flags == ()


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    rows = [{"epoch": e, "loss": float("nan") if e == 3 else 1 / e} for e in range(1, 6)]
    (flag,) = run(tmp_path, rows).flags
    assert (flag.cause, flag.severity, flag.where) == (flags.NOT_FINITE, "error", "epoch 3")


def test_a_validation_loss_that_rises_away_is_found(tmp_path):
    rows = [{"epoch": e, "train_loss": 1 / e, "val_loss": 0.3 + 0.02 * e} for e in range(1, 21)]
    assert kinds(run(tmp_path, rows)) == [flags.GAP]


def test_percentages_are_judged_as_fractions(tmp_path):
    rows = [{**row, "val/AP": 100 * row["val/AP"], "val/AR": 100 * row["val/AR"]} for row in healthy()]
    assert run(tmp_path, rows).flags == ()


def test_an_ap_that_is_written_with_one_digit_is_not_called_a_share_of_keypoints(tmp_path):
    values = (0.3, 0.4, 0.5, 0.5, 0.6, 0.7, 0.7, 0.8, 0.7, 0.8)
    for name, found in (("val/AP", []), ("val/PCK", [flags.COARSE])):
        rows = [{"epoch": e, "loss": 1 / e, name: v} for e, v in enumerate(values, 1)]
        assert [kind for kind in kinds(run(tmp_path, rows)) if kind == flags.COARSE] == found


def test_a_loss_that_does_not_fall_is_named_unless_the_run_learned_all_the_same(tmp_path):
    def flagged(loss, **figures):
        rows = [{"epoch": e, "loss": loss(e)} | {k: v(e) for k, v in figures.items()} for e in range(1, 11)]
        return [f.evidence for f in run(tmp_path, rows).flags if f.cause == mistakes.NOT_FALLING]

    rises = "the training loss rises from 0.175 to 0.575 over 10 rows"
    assert flagged(lambda e: 0.1 + 0.05 * e, PCK=lambda e: 0.3 + 0.003 * e) == [rises]
    assert flagged(lambda e: 0.1 + 0.05 * e) == [rises]
    assert "stays where it is, from 0.5 to 0.5" in flagged(lambda e: 0.5, PCK=lambda e: 0.01)[0]
    assert flagged(lambda e: 0.5, PCK=lambda e: 1 + 0.1 * e)[0]  # per cent: 2 of 100 were reached
    assert flagged(lambda e: 0.5, NME=lambda e: 0.9)[0]  # an error of .9 is nothing that was reached
    assert flagged(lambda e: 0.5, PCK=lambda e: 0.05 * e) == []
    assert flagged(lambda e: 1 / e) == []


def test_the_text_of_seed_000_gives_its_true_flags(shared):
    base, v2 = read_runs(shared / "seeds" / "000.md")
    assert kinds(base) == [flags.BEST_BELOW]
    assert "0.7071 at epoch 240, but 0.7085 stands at epoch 250" in base.flags[0].evidence
    found = {flag.cause: flag for flag in v2.flags}
    assert found.keys() == {flags.BEST_NOT_LAST, flags.LATE_START, flags.JUMP}
    assert found[flags.BEST_NOT_LAST].where == "epoch 280"
    assert found[flags.LATE_START].where == "epoch 10"
    assert found[flags.JUMP].where == "epoch 150 to 160"
    (between,) = flags.flags_between(v2, base)
    assert between.cause == flags.AGAINST
    assert [round(m.value, 4) for m in between.numbers] == [-0.082, 0.0304]


def test_the_text_of_seed_003_gives_its_true_flags(shared):
    (curves,) = read_runs(shared / "seeds" / "003.md")
    found = {flag.cause: flag for flag in curves.flags}
    assert found.keys() == {flags.BEST_NOT_LAST, flags.LOSS_WITHOUT_METRIC, flags.JUMP, flags.COARSE}
    assert found[flags.BEST_NOT_LAST].where == "epoch 15"
    assert found[flags.LOSS_WITHOUT_METRIC].where == "epoch 15 to 50"
    assert found[flags.JUMP].where == "epoch 9 to 10"
    assert "multiples of 1/9" in found[flags.COARSE].evidence


def test_the_real_vitpose_logs_give_no_false_flag(shared):
    for name, last in (("vitpose-b", 0.75797), ("vitpose-b-simple", 0.75526)):
        curves = read_curves(shared / "data" / "vitpose_logs" / f"{name}.log.json")
        ap = curves.get("AP")
        assert (len(ap.value), ap.epoch[-1], ap.value[-1]) == (21, 210, last)
        assert curves.best == (210, last)
        # The step at epoch 170 of 210 is real: the lowest layer's rate, which the log rounds to 0.
        assert [(f.cause, f.where) for f in curves.flags] == [(schedule.RATE_STEP, "epoch 171")]


def test_a_stated_best_equal_to_the_highest_value_is_no_flag():
    (curves,) = read_text("Best AP: 0.75 at epoch 2\n\nepoch AP\n1 0.5\n2 0.75\n3 0.7499\n")
    assert flags.BEST_BELOW not in kinds(curves)


def test_the_report_gives_series_and_flags_as_plain_data(tmp_path):
    facts = CurvesReport((run(tmp_path, healthy()),)).to_json()
    json.dumps(facts, allow_nan=False)
    names = {s["name"] for s in facts["series"]}
    assert {"loss", "val/AP", "val/AR", "lr"} == names
    assert facts["flags"] == []


def test_runs_that_count_differently_are_told_and_the_first_with_ap_and_ar_is_the_base(tmp_path):
    def ended(name, ap, ar):
        return run(tmp_path, [{"epoch": e, "AP": ap * e, "AR": ar * e} for e in (1, 2)], f"{name}.jsonl")

    by_iteration = run(tmp_path, [{"step": s, "loss": 1 / s} for s in (1, 2, 3)], "steps.jsonl")
    report = CurvesReport((by_iteration, ended("base", 0.3, 0.3), ended("new", 0.2, 0.35)))
    assert report.undrawn == ["steps"]
    assert "Not drawn, as the others count epochs: steps (iterations)" in report.summary()
    assert [who for who, flag in report.flags if flag.cause == flags.AGAINST] == ["new"]
    drawn = report.plot().data
    assert {trace.meta["run"] for trace in drawn} == {1, 2}
    assert {trace.yaxis for trace in drawn} == {"y"}


def test_a_long_log_is_drawn_with_its_peaks():
    from workbench.curves.plot import MOST_POINTS, thinned

    value = np.zeros(100_000)
    value[54_321] = 5.0
    x, drawn = thinned(np.arange(100_000.0), value)
    assert len(x) <= MOST_POINTS
    assert drawn.max() == 5.0


def test_weights_that_are_lost_while_the_counting_goes_on_are_found(tmp_path):
    rows, first = healthy(), healthy()
    for row, old in zip(rows[24:], first, strict=False):
        row.update({name: old[name] for name in ("loss", "val/AP", "val/AR")})
    (flag,) = [f for f in run(tmp_path, rows).flags if f.cause == schedule.BEGUN_ANEW]
    assert flag.where == "epoch 24 to 25"
    assert flag.numbers[0].value == pytest.approx(rows[23]["val/AP"])


def test_evaluations_that_never_differ_are_of_other_weights(tmp_path):
    rows = healthy()
    for row in rows[15:]:
        row["val/AP"], row["val/AR"] = rows[15]["val/AP"], rows[15]["val/AR"]
    (flag,) = [f for f in run(tmp_path, rows).flags if f.severity != "remark"]
    assert flag.cause == mistakes.STANDS_STILL
    assert flag.numbers[0].value == 25


@pytest.mark.parametrize(("last", "found"), [(39, []), (20, [schedule.ENDED_EARLY])])
def test_a_schedule_that_ends_before_the_run_is_found(tmp_path, last, found):
    rows = healthy()
    for row in rows:
        row["lr"] = 1e-5 + 1e-3 * (1 + np.cos(np.pi * min(row["epoch"] / last, 1))) / 2
    assert [f.cause for f in run(tmp_path, rows).flags if f.severity != "remark"] == found


@pytest.mark.parametrize(("swing", "found"), [(0.0, []), (0.5, [mistakes.IN_ORDER])])
def test_a_loss_that_repeats_itself_in_every_epoch_is_found(tmp_path, swing, found):
    random = np.random.default_rng(0)
    rows = []
    for e, n in itertools.product(range(1, 21), range(1, 9)):
        loss = (np.exp(-e / 20) + random.normal(1, 0.03)) * (1 - swing * n / 8)
        rows.append({"epoch": e, "step": 8 * (e - 1) + n, "loss": loss})
    assert kinds(run(tmp_path, rows)) == found


def test_a_spike_of_one_evaluation_says_nothing_of_those_behind_it(tmp_path):
    rows = healthy()
    rows[20]["val/AP"] += 0.15
    rows[20]["val/AR"] += 0.15
    found = kinds(run(tmp_path, rows))
    assert flags.LOSS_WITHOUT_METRIC not in found
    assert flags.JUMP in found


def test_the_negative_loss_of_a_likelihood_falls(tmp_path):
    rows = [{"epoch": e, "loss": 3 - 2 * e} for e in range(1, 13)]
    assert kinds(run(tmp_path, rows)) == []
    rising = [{"epoch": e, "loss": 2 * e - 30} for e in range(1, 13)]
    assert kinds(run(tmp_path, rising)) == [mistakes.NOT_FALLING]


def test_a_collapsed_network_repeats_its_figures_and_is_no_frozen_copy(tmp_path):
    rows = [dict(row, loss=1.0 + 0.06 * (e % 2)) if e > 14 else row for e, row in enumerate(healthy())]
    for row in rows[15:]:
        row["val/AP"], row["val/AR"] = 0.001, 0.01
    assert mistakes.STANDS_STILL not in kinds(run(tmp_path, rows))


@pytest.mark.parametrize(("rise", "accused"), [(0.0, True), (0.1, False)])
def test_a_pck_that_never_rose_is_that_of_a_constant_pose(tmp_path, rise, accused):
    rows = [{"epoch": e, "loss": 0.012, "val/PCK": 0.15 + rise * e / 20} for e in range(1, 21)]
    assert (mistakes.NOT_FALLING in kinds(run(tmp_path, rows))) is accused


def test_a_resume_without_its_weights_is_found_where_the_rate_begins_low_again(tmp_path):
    """The metric falls in the same epoch as the rate: that is no step that explains it."""
    rows = healthy()
    for e, row in enumerate(rows[25:], 1):
        row["lr"], row["loss"] = 1e-4 * min(e, 10), float(np.exp(-e / 20) + 0.2)
        row["val/AP"] = 0.7 * (1 - np.exp(-(e + 1) / 10)) + 0.05
        row["val/AR"] = row["val/AP"] + 0.05
    found = kinds(run(tmp_path, rows))
    assert mistakes.BEGUN_ANEW in found
    assert flags.JUMP in found


def test_a_printed_nan_is_read():
    lines = [f"Epoch {e}/9 - loss: {'nan' if e > 5 else 1 / e} - val_pck: 0.{e}" for e in range(1, 10)]
    (curves,) = read_text("\n".join(lines))
    assert flags.NOT_FINITE in kinds(curves)


def test_a_log_of_200_000_single_batches_is_judged_in_linear_time():
    """Loops over pairs of rows took minutes here; the limit leaves room for a machine under load."""
    count = 200_000
    rows = np.arange(count, dtype=float)
    none = np.full(count, np.nan)
    loss = Series("loss", "train", none, rows, 1 / (rows + 1))
    repeated = Series("loss", "train", rows // 4, rows, 1 + rows % 4)
    metric = Series("acc", "val", none, rows, rows / count)
    still = Series("acc", "val", none, rows, np.minimum(rows / 100, 0.5) + 1e-5 * (rows % 2))
    start = time.process_time()
    found = [flags_of(Curves("x", "", ("x",), of)) for of in ((loss, metric), (loss, still), (repeated,))]
    assert time.process_time() - start < 10
    causes = [{flag.cause for flag in one} for one in found]
    assert "late start" in causes[0]
    assert "plateau" in causes[1]
    assert "training data not shuffled" in causes[2]


def batches(count, places=(), seed=0):
    """A loss and a PCK of single batches, both noisy; weights are lost at `places`, and learned again."""
    random, at = np.random.default_rng(seed), np.arange(count)
    since = at - np.max([np.where(at >= place, place, 0) for place in (0, *places)], axis=0)
    loss = (2 * np.exp(-5 * since / count) + 0.1) * np.exp(random.normal(0, 0.1, count))
    pck = (0.05 + 0.8 * (1 - np.exp(-6 * since / count))) * np.exp(random.normal(0, 0.1, count))
    # Batches that are hard for the metric alone: their loss does not go back.
    pck[10 : count // 2 : 7] *= 0.5
    return [{"iteration": i + 1, "loss": loss[i], "val/PCK": pck[i]} for i in range(count)]


def test_lost_weights_are_found_wherever_they_are_lost_and_noise_is_none(tmp_path):
    rows = batches(9000, places=(8000,))
    pck = np.array([row["val/PCK"] for row in rows])
    assert (pck[1:8000] < mistakes.LOST * pck[:7999]).sum() > 500  # hard batches before the place
    (flag,) = mistakes.begun_again(run(tmp_path, rows))
    assert flag.where == "iteration 8000 to 8001"
    for noise, seed in itertools.product((0.3, 0.5), range(3)):
        random = np.random.default_rng(seed)
        hard = np.exp(random.normal(0, noise, 600))
        rows = [
            {
                "iteration": i + 1,
                "loss": (2 - i / 1200) * hard[i],
                "val/PCK": min(1, (0.2 + i / 1200) / hard[i]),
            }
            for i in range(600)
        ]
        assert mistakes.begun_again(run(tmp_path, rows)) == []


def test_later_values_above_a_limit_are_counted():
    random = np.random.default_rng(0)
    for count in (1, 2, 3, 8, 13, 64, 100):
        values = random.integers(0, 6, count).astype(float)
        starts, limits = random.integers(0, count + 1, 30), random.integers(-1, 7, 30).astype(float)
        expected = [(values[start:] > limit).sum() for start, limit in zip(starts, limits, strict=True)]
        assert mistakes._later_above(values, starts, limits).tolist() == expected
