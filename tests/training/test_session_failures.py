"""What ends a session early: one sentence, and no finished step lost."""

from __future__ import annotations

import dataclasses
import errno

import pytest
import torch

from tests.training.test_session import SHORT, losses, trainer
from workbench.training.run_folder import read_rows, read_snapshot, snapshots
from workbench.training.session import Session, out_of_memory


def test_out_of_memory_is_one_sentence_and_keeps_what_was_finished(tmp_path, monkeypatch):
    session = Session(trainer(), tmp_path)
    forward = session.trainer.model.forward
    statistics = session.trainer.model.module[1].running_mean
    copies = []

    def short(batch):
        if session.trainer.step_number == 5 and session.trainer.model.module.training:
            copies.append(statistics.clone())
            forward(batch)  # moves the running statistics before it fails
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")
        return forward(batch)

    monkeypatch.setattr(session.trainer.model, "forward", short)
    session.start()
    session.join(30)
    status = session.status()
    assert status.state == "failed"
    assert status.reason.startswith("out of memory after step 5: take fewer images")
    assert "\n" not in status.reason
    assert len(read_rows(tmp_path / "rows")) == read_snapshot(snapshots(tmp_path)[-1])["step"] == 5
    assert torch.equal(statistics, copies[0])


@pytest.mark.parametrize(
    "said",
    ["[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory", "CUDA OUT OF MEMORY"],
)
def test_out_of_memory_is_known_by_whatever_says_it(said):
    assert out_of_memory(RuntimeError(said))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_step_whose_measurement_fails_is_still_kept(tmp_path, monkeypatch):
    session = Session(trainer(), tmp_path)

    def short():
        if session.trainer.step_number == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.5

    monkeypatch.setattr(session.trainer, "pck", short)
    session.start()
    session.join(30)
    assert session.status().reason.startswith("out of memory after step 4")
    assert [row["step"] for row in read_rows(tmp_path / "rows")] == [1, 2, 3, 4]
    again = Session(trainer(), tmp_path)
    assert (again.status().step, len(again.rows)) == (4, 4)
    again.stop()


def test_a_disk_too_full_for_rows_stops_the_run_says_so_and_keeps_the_rows_in_memory(tmp_path, monkeypatch):
    def full(*_args, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    session = Session(trainer(), tmp_path)
    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    session.start()
    session.join(30)
    assert session.status().state == "failed"
    assert "No space left" in session.status().reason
    assert len(session.rows) == session.status().step >= 1
    monkeypatch.undo()
    session._writer.flush()
    assert len(read_rows(tmp_path / "rows")) == len(session.rows)


@pytest.mark.parametrize(
    ("settings", "device", "message"),
    [
        ({"graphs": True}, "cpu", "CUDA graphs need a GPU"),
        ({}, "tpu", "expected device cpu or cuda"),
        ({}, "cuda:99", "no GPU cuda:99 here"),
    ],
)
def test_what_a_device_cannot_do_is_refused(settings, device, message):
    with pytest.raises(ValueError, match=message):
        trainer(dataclasses.replace(SHORT, **settings), device=device)


def test_half_precision_learns_too():
    session = Session(trainer(dataclasses.replace(SHORT, amp=True)))
    session.start()
    session.join(30)
    assert session.status().state == "finished"
    assert losses(session.rows)[-1] < losses(session.rows)[0]


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x40\x85R.",  # a gigabyte of 35 bytes
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
        b"\x80\x02)" + b"q\x00h\x00h\x00\x86" * 40 + b"}q\x01h\x00K\x01s.",  # a key that is never hashed
    ],
)
def test_a_strangers_snapshot_is_refused_before_torch_reads_it(tmp_path, monkeypatch, content):
    import zipfile

    path = tmp_path / "step_00000001.pth"
    with zipfile.ZipFile(path, "w") as parts:
        parts.writestr("archive/data.pkl", content)
        parts.writestr("archive/version", "3")
    monkeypatch.setattr("torch.load", lambda *given, **named: pytest.fail("torch reads it"))
    with pytest.raises(ValueError, match=r"step_00000001\.pth"):
        read_snapshot(path)


def test_rows_of_other_kinds_than_a_runs_are_refused(tmp_path):
    """A text where a score belongs, and a time in a zone that does not exist."""
    import pyarrow
    import pyarrow.parquet

    rows = tmp_path / "rows"
    rows.mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"step": [0], "pck": ["high"]}), rows / "steps-0.parquet")
    with pytest.raises(ValueError, match="loss is not a number in each row"):
        Session(trainer(), tmp_path)
    zone = pyarrow.array([1], pyarrow.timestamp("us", tz="Nowhere/Bad"))
    pyarrow.parquet.write_table(pyarrow.table({"step": [0], "x": zone}), rows / "steps-0.parquet")
    with pytest.raises(ValueError, match="training rows"):
        read_rows(rows)


@pytest.mark.parametrize("kind", [KeyError, AssertionError, ZeroDivisionError])
def test_an_error_in_a_users_code_ends_the_run_in_one_sentence(monkeypatch, capsys, kind):
    session = Session(trainer())

    def failing(batch):
        raise kind("no such thing")

    monkeypatch.setattr(session.trainer.model, "forward", failing)
    session.start()
    session.join(30)
    assert session.status().reason == f"failed after step 0: {kind.__name__}: no such thing"
    assert isinstance(session.failure, kind)
    assert "Traceback" not in capsys.readouterr().err
