"""A run can be paused, stepped, killed and resumed, and loses no finished step."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.tiny import Tiny, picture
from tests.waiting import remains, until
from workbench.training.bisection import run_to_end
from workbench.training.plan import FILE, Plan, new_session
from workbench.training.run_folder import read_rows, read_snapshot, snapshots
from workbench.training.session import Breakpoint, Session
from workbench.training.settings import Settings
from workbench.training.trainer import Diverged, Trainer

SHORT = Settings(steps=12, learning_rate=3e-3, measure_every=4)


def trainer(settings=SHORT, **more):
    return Trainer(Tiny(dropout=0.2), [picture()], settings, **more)


def losses(rows):
    return [row["loss"] for row in rows]


def test_it_learns_one_picture():
    session = Session(trainer(Settings(steps=150, learning_rate=3e-3, measure_every=50)))
    session.start()
    assert session.join(60)
    assert session.status().state == "finished"
    assert session.rows[-1]["pck"] == 1.0


def test_stepping_pausing_and_resuming_gives_bitwise_the_losses_of_one_go():
    straight = Session(trainer())
    straight.start()
    straight.join(30)
    session = Session(trainer())
    session.step(3)
    until(lambda: session.status().state == "paused")
    assert session.status().step == 3
    session.step(1)
    until(lambda: len(session.rows) == 4)
    session.resume()
    session.join(30)
    assert losses(session.rows) == losses(straight.rows)


def test_the_pass_of_a_measurement_is_continued_and_changes_no_loss():
    """Two passes a measurement: that in training mode is the next step's own, dropout and statistics too."""
    rare, often = (trainer(dataclasses.replace(SHORT, measure_every=every)) for every in (100, 2))
    calls = []
    often.model.module.register_forward_hook(lambda module, *_: calls.append(module.training))
    rows = [(rare.step(), often.step()) for _ in range(SHORT.steps)]
    assert losses(row for row, _ in rows) == losses(row for _, row in rows)
    assert all(
        torch.equal(a, b) for a, b in zip(*(t.state()["model"].values() for t in (rare, often)), strict=True)
    )
    # Measured after 1, 2, 4 ... 12, step 2 is watched by hooks and goes its own way, and 12 is the last.
    assert (calls.count(True), calls.count(False)) == (SHORT.steps + 2, 7)


CHANGES = {"in place": lambda tensor: tensor.mul_(2), "by its data": lambda tensor: tensor.data.mul_(2)}
"""Ways to change a tensor; the second leaves no mark on it."""


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("part", ["parameters", "buffers"])
def test_a_step_after_a_measurement_begins_with_what_was_changed_meanwhile(part, change):
    """Values by a run that measured nothing before the change."""
    changed = []
    for every in (100, 4):
        one = trainer(dataclasses.replace(SHORT, measure_every=every))
        for _ in range(4):
            one.step()
        with torch.no_grad():
            for tensor in getattr(one.model.module, part)():
                change(tensor)
        ended = [one.step()["loss"] for _ in range(2)]
        changed.append(ended + [tensor.double().sum().item() for tensor in one.state()["model"].values()])
    assert changed[0] == changed[1]


@pytest.mark.parametrize("more", [{}, {"ema": 0.9}, {"optimizer": "sgd", "clip": 1.0, "schedule": "cosine"}])
def test_resuming_from_a_snapshot_gives_bitwise_the_same_losses(tmp_path, more):
    settings = dataclasses.replace(SHORT, **more)
    straight = Session(trainer(settings))
    straight.start()
    straight.join(30)
    first = Session(trainer(settings), tmp_path)
    first.step(5)
    until(lambda: first.status().state == "paused")
    first.stop()
    again = Session(trainer(settings), tmp_path)
    assert again.status().step == 5
    again.start()
    again.join(30)
    assert losses(again.rows) == losses(straight.rows)
    assert losses(read_rows(tmp_path / "rows")) == losses(straight.rows)


@pytest.mark.parametrize("moment", ["forward", "backward", "measuring"])
def test_a_long_step_that_is_stopped_is_left_and_leaves_nothing(tmp_path, monkeypatch, moment):
    """Stop waited for the end of a step of HRNet: .8 s of processor time."""
    monkeypatch.setattr("workbench.training.session.LONG_STEP", 0.0)
    straight = Session(trainer())
    straight.start()
    straight.join(30)
    first = Session(trainer(), tmp_path)
    *_, second, last = [m for m in first.trainer.model.module.modules() if not list(m.children())]

    def stop(module, *_):
        # The third step is left, or the measurement of the fourth, after which the step stands.
        if (len(first.rows) == 2 and moment != "measuring") or (len(first.rows) == 3 and not module.training):
            first._stop_wanted = True

    (last if moment == "backward" else second).register_forward_hook(stop)
    first.start()
    assert first.join(30)
    assert (first.status().state, first.status().step) == ("stopped", 4 if moment == "measuring" else 2)
    again = Session(trainer(), tmp_path)
    again.start()
    again.join(30)
    assert losses(again.rows) == losses(straight.rows)
    assert losses(read_rows(tmp_path / "rows")) == losses(straight.rows)


def test_rows_can_be_read_while_it_runs(tmp_path):
    session = Session(trainer(Settings(steps=100000, measure_every=1000, snapshot_every=5)), tmp_path)
    session.start()
    until(lambda: len(read_rows(tmp_path / "rows")) >= 5)
    assert session.status().state == "running"
    session.stop()
    assert session.status().state == "stopped"


def test_a_breakpoint_waits_for_the_user_and_goes_on_by_itself():
    session = Session(trainer(), pause_at=Breakpoint(every=5, wait=0.2))
    session.start()
    until(lambda: session.status().state == "waiting")
    assert "multiple of 5" in session.status().reason
    assert session.join(30)
    assert session.status().state == "finished"


def test_a_fallen_pck_is_a_breakpoint():
    point = Breakpoint(pck_falls=0.2)
    assert point.reached({"step": 7, "pck": 0.5}, best=0.8) == "PCK fell from 0.80 to 0.50"
    assert not point.reached({"step": 7}, best=0.8)


def test_the_learning_rate_changes_while_paused():
    session = Session(trainer())
    session.step(2)
    until(lambda: session.status().state == "paused")
    session.set_learning_rate(1e-4)
    session.step(1)
    until(lambda: len(session.rows) == 3)
    assert session.rows[-1]["lr/0"] == pytest.approx(1e-4)
    with pytest.raises(ValueError, match="positive"):
        session.set_learning_rate(-1)
    session.stop()


def test_weights_that_are_changed_while_paused_are_those_of_the_next_step():
    ended = []
    for change in CHANGES.values():
        session = Session(trainer())
        session.step(4)
        until(lambda s=session: s.status().state == "paused")
        with torch.no_grad():
            for weight in session.trainer.model.module.parameters():
                change(weight)
        session.step(2)
        until(lambda s=session: len(s.rows) == 6)
        session.stop()
        ended.append(losses(session.rows))
    assert ended[0] == ended[1]


def test_a_loss_that_is_not_a_number_stops_with_one_sentence_and_keeps_what_was_done(tmp_path):
    session = Session(
        trainer(Settings(steps=50, learning_rate=1e30, optimizer="sgd", measure_every=100)), tmp_path
    )
    session.start()
    session.join(30)
    status = session.status()
    assert status.state == "failed"
    assert "learning rate" in status.reason
    assert len(read_rows(tmp_path / "rows")) == status.step >= 1
    assert all(torch.isfinite(p).all() for p in read_snapshot(snapshots(tmp_path)[-1])["model"].values())


def test_two_sessions_cannot_share_a_folder(tmp_path):
    first = Session(trainer(), tmp_path)
    with pytest.raises(ValueError, match="another training session"):
        Session(trainer(), tmp_path)
    first.stop()
    Session(trainer(), tmp_path).stop()


def test_who_is_refused_a_folder_in_use_changes_nothing_in_it(tmp_path):
    """Before the first snapshot nothing but the record says whose folder it is."""
    first = new_session(Tiny(), [picture()], Plan(SHORT), folder=tmp_path)
    record = (tmp_path / FILE).read_bytes()
    other = Plan(dataclasses.replace(SHORT, seed=5))
    with pytest.raises(ValueError, match="another training session"):
        new_session(Tiny(), [picture()], other, folder=tmp_path)
    assert (tmp_path / FILE).read_bytes() == record
    first.step(2)
    until(lambda: first.status().state == "paused")
    first.stop()
    with pytest.raises(ValueError, match=r"another attempt's \(seed differ\)"):
        new_session(Tiny(), [picture()], other, folder=tmp_path)
    again = new_session(Tiny(), [picture()], Plan(SHORT), folder=tmp_path)
    assert again.status().step == 2
    again.stop()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_a_full_disk_stops_the_run_says_so_and_keeps_every_finished_step(tmp_path):
    session = Session(trainer(Settings(steps=12, measure_every=8, snapshot_every=4)), tmp_path)
    (tmp_path / "step_00000008.half").symlink_to("/dev/full")
    session.start()
    session.join(30)
    assert session.status().state == "failed"
    assert session.status().reason == (
        "snapshot step_00000008.pth could not be written: No space left on device; what was written before "
        f"is kept in {tmp_path}"
    )
    assert len(read_rows(tmp_path / "rows")) == session.status().step == 8
    # There was room again at the end: the same folder goes on from here.
    assert read_snapshot(snapshots(tmp_path)[-1])["step"] == 8


def test_a_snapshot_of_another_model_is_refused(tmp_path):
    first = Session(trainer(), tmp_path)
    first.step(1)
    until(lambda: first.status().state == "paused")
    first.stop()
    other = Tiny()
    other.module[7] = torch.nn.Conv2d(16, 3, 3, 1, 1)
    with pytest.raises(ValueError, match="another model"):
        Session(Trainer(other, [picture()], SHORT), tmp_path)


def test_what_cannot_be_learned_from_is_refused():
    blind = dataclasses.replace(picture(), truth=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="no keypoint is visible"):
        Trainer(Tiny(), [blind], SHORT)
    with pytest.raises(ValueError, match="has 5 keypoints, the model 3"):
        Trainer(Tiny(), [dataclasses.replace(picture(), truth=np.ones((5, 3)))], SHORT)
    with pytest.raises(ValueError, match="no annotation"):
        Trainer(Tiny(), [dataclasses.replace(picture(), truth=None)], SHORT)
    with pytest.raises(ValueError, match="learning_rate"):
        Settings(learning_rate=0)


def test_diverged_leaves_the_weights_alone():
    one = trainer()
    with torch.no_grad():
        one._fixed[0].pixels.fill_(float("nan"))
    before = [p.clone() for p in one.model.module.parameters()]
    with pytest.raises(Diverged, match="step 1"):
        one.step()
    assert all(torch.equal(a, b) for a, b in zip(before, one.model.module.parameters(), strict=True))


def test_a_pause_at_a_breakpoint_holds_beyond_its_wait():
    session = Session(trainer(), pause_at=Breakpoint(every=5, wait=0.2))
    session.start()
    until(lambda: session.status().state == "waiting")
    session.pause()
    until(lambda: session.status().state == "paused")
    remains(lambda: session.status().step == 5, 0.4)
    session.stop()


def test_whoever_steps_by_hand_sees_a_measurement_at_every_stop():
    session = Session(trainer(dataclasses.replace(SHORT, measure_every=100)))
    session.step(3)
    until(lambda: session.status().state == "paused")
    assert [row.get("pck") is not None for row in session.rows] == [True, False, True]
    outputs, (prediction,) = session.trainer.seen
    assert outputs.heatmaps.shape == (1, 3, 16, 16)
    assert prediction.keypoints.shape == (3, 2)
    session.stop()


def test_who_stops_does_not_wait_for_the_measurement_of_the_step_under_way():
    session = Session(trainer(dataclasses.replace(SHORT, measure_every=1)))
    measured, plain = [], session.trainer.measured

    def measuring(seconds):
        measured.append(session.trainer.step_number)
        return plain(seconds)

    def stopping(measure):
        if session.trainer.step_number == 2:
            session._stop_wanted = True
        return advance(measure)

    advance, session.trainer.measured = session.trainer.advance, measuring
    session.trainer.advance = stopping
    session.start()
    assert session.join(60)
    assert (session.status().state, measured) == ("stopped", [1, 2])
    assert ["pck" in row for row in session.rows] == [True, True, False]


def test_a_network_left_in_evaluation_mode_between_two_steps_goes_on_learning_in_training_mode():
    plain, looked_at = trainer(), trainer()
    for _ in range(3):
        plain.step()
        looked_at.step()
        looked_at.model.module.eval()
    assert looked_at.step()["loss"] == plain.step()["loss"]


def until_step_8(folder):
    """A run of 8 steps with snapshots after 4 and 8, stopped; the whole one's losses."""
    settings = dataclasses.replace(SHORT, snapshot_every=4)
    straight = Session(trainer(settings))
    straight.start()
    assert straight.join(30)
    first = Session(trainer(settings), folder)
    first.step(8)
    until(lambda: first.status().state == "paused")
    first.stop()
    return settings, losses(straight.rows)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_one_bit(path):
    """In the middle of a tensor: torch itself reads it without a word."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip_one_bit, empty])
def test_a_damaged_newest_snapshot_falls_back_to_the_one_before(tmp_path, damage):
    settings, expected = until_step_8(tmp_path)
    newest = snapshots(tmp_path)[-1]
    assert newest.name == "step_00000008.pth"
    damage(newest)
    again = Session(trainer(settings), tmp_path)
    assert again.status().step == 4
    assert any("step_00000008.pth" in note for note in again.notes)
    again.start()
    assert again.join(30)
    assert losses(again.rows) == expected
    assert read_snapshot(newest)["step"] == 8, "the damaged one is replaced"


def in_its_place_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, Path.unlink, in_its_place_a_folder])
@pytest.mark.parametrize("which", [0, -1])
def test_a_part_of_the_rows_that_is_damaged_or_gone_is_done_again_or_named(tmp_path, damage, which):
    """The last loss and PCK are those of the last step, not of the step that has the last row."""
    settings, expected = until_step_8(tmp_path)
    part = sorted((tmp_path / "rows").glob("*.parquet"))[which]
    damage(part)
    again = Session(trainer(settings), tmp_path)
    assert any(part.name in note for note in again.notes) == (damage is cut)
    if which:
        assert any("step_00000008.pth.unused" in note for note in again.notes)
    else:
        assert any("no row, the first is step 1;" in note for note in again.notes)
    again.start()
    assert again.join(30)
    if which and damage is in_its_place_a_folder:  # no row can be written there
        assert (again.status().state, "Is a directory" in again.status().reason) == ("failed", True)
        return
    assert losses(again.rows)[-4:] == expected[-4:]
    assert len(again.rows) == len(expected) or not which


def equal_rows(path):
    """4 million equal rows: 36 kB in the file, 64 MB in memory."""
    import pyarrow
    import pyarrow.parquet

    zeros = np.zeros(4_000_000)
    table = pyarrow.table({"step": zeros.astype(np.int64), "loss": zeros})
    pyarrow.parquet.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 100_000
    return "refused as a bomb"


def text_for_step(path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"step": ["one"], "loss": [1.0]}), path)
    return "expected a column `step` of whole numbers"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("steps-00000002.parquet", equal_rows),
        ("steps-00000002.parquet", text_for_step),
        ("steps-x.parquet", text_for_step),
    ],
)
def test_a_part_that_no_run_wrote_is_set_aside_and_not_read(tmp_path, name, make):
    (tmp_path / "rows").mkdir()
    why = make(tmp_path / "rows" / name)
    if name == "steps-x.parquet":
        why = "expected steps-NUMBER.parquet"
    with pytest.raises(ValueError, match=f"{name}: {why}|{name}: would unfold"):
        read_rows(tmp_path / "rows")
    session = Session(trainer(), tmp_path)
    assert session.rows == []
    assert any(name in note and why in note for note in session.notes)
    assert (tmp_path / "rows" / f"{name}.damaged").is_file()


def test_a_compressed_snapshot_is_a_bomb_and_set_aside(tmp_path):
    until_step_8(tmp_path)
    newest = snapshots(tmp_path)[-1]
    with zipfile.ZipFile(newest) as whole:
        parts = {part.filename: whole.read(part) for part in whole.infolist()}
    with zipfile.ZipFile(newest, "w", zipfile.ZIP_DEFLATED) as packed:
        for inside, content in parts.items():
            packed.writestr(inside, content)
    with pytest.raises(ValueError, match="got a compressed archive"):
        read_snapshot(newest)
    assert Session(trainer(dataclasses.replace(SHORT, snapshot_every=4)), tmp_path).status().step == 4


@pytest.mark.parametrize(
    "wrong", [{"step": "x"}, {"model": 3}, {"optimizer": None}, {"optimizer": {}}, {"factor": None}]
)
def test_a_snapshot_of_odd_values_is_one_sentence(wrong):
    state = trainer().state()
    with pytest.raises(ValueError, match="another model or other settings"):
        trainer().restore({**state, **wrong})


@pytest.mark.parametrize("step", [-1, 7, 10**30, True, 8.0, "8", None])
def test_a_snapshot_of_another_step_than_its_name_says_is_set_aside(tmp_path, step):
    until_step_8(tmp_path)
    newest = snapshots(tmp_path)[-1]
    torch.save({**torch.load(newest, weights_only=True), "step": step}, newest)
    session = Session(trainer(dataclasses.replace(SHORT, snapshot_every=4)), tmp_path)
    assert (session.status().step, len(session.rows)) == (4, 4)
    assert any(newest.name in note for note in session.notes)
    session.stop()


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]"])
def test_a_damaged_record_of_the_attempt_is_named_and_made_anew(tmp_path, content):
    plan = Plan(dataclasses.replace(SHORT, snapshot_every=4))
    first = new_session(Tiny(), [picture()], plan, folder=tmp_path)
    first.step(4)
    until(lambda: first.status().state == "paused")
    first.stop()
    record = tmp_path / FILE
    whole = record.read_bytes()
    record.write_bytes(content)
    again = new_session(Tiny(), [picture()], plan, folder=tmp_path)
    assert again.status().step == 4
    assert any(str(record) in note for note in again.notes)
    assert record.read_bytes() == whole
    again.stop()


def test_an_interrupted_wait_stops_the_loop_and_keeps_what_was_done(tmp_path):
    session = Session(trainer(Settings(steps=100_000, measure_every=1000)), tmp_path)

    def pressed():
        if len(session.rows) > 2:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        run_to_end(session, pressed)
    assert session.status().state == "stopped"
    assert len(read_rows(tmp_path / "rows")) == len(session.rows) == session.status().step
    assert snapshots(tmp_path)
