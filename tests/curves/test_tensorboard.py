"""TensorBoard's event files become the table of a run; damage is found by its checksums."""

from __future__ import annotations

import time

import pytest

from tests.curves.events import events, first, framed, part, record, scalar
from tests.curves.test_reading import points
from workbench.curves import read_curves
from workbench.curves.tensorboard import masked_crc


def test_crc_32c_has_the_value_of_the_standard():
    # RFC 3720, B.4: 32 bytes of zeros have the CRC-32C 0x8A9136AA; then TFRecord's rotation and offset.
    crc = 0x8A9136AA
    assert masked_crc(bytes(32)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("tensor", [False, True])
def test_tensorboard_scalars_are_read_with_their_steps(tmp_path, tensor):
    many = [("train/loss", step, 1 / step) for step in range(1, 40)]
    path = tmp_path / "lightning_logs" / "version_0" / "events.out.tfevents.1.host"
    path.parent.mkdir(parents=True)
    path.write_bytes(events(*many, ("val/AP", 39, 0.5), ("epoch", 39, 3), tensor=tensor))
    curves = read_curves(path)
    assert (curves.format, curves.title) == ("TensorBoard events", "lightning_logs")
    assert points(curves, "loss")[1] == (2, 0.5)
    assert points(curves, "AP") == [(3, 0.5)]  # the scalar called epoch says where step 39 lies


def test_mmengines_events_count_validation_by_epochs(tmp_path):
    path = tmp_path / "events.out.tfevents.1.host"
    training = [("loss", step, 1 / step) for step in range(20, 201, 20)]
    path.write_bytes(events(*training, ("coco/AP", 1, 0.25), ("coco/AP", 2, 0.5)))
    curves = read_curves(path)
    assert (curves.get("AP").unit, points(curves, "AP")) == ("epoch", [(1, 0.25), (2, 0.5)])
    assert curves.get("loss").unit == "iteration"
    assert "read as epochs" in " ".join(curves.notes)


def test_events_of_other_trainers_count_validation_by_iterations(tmp_path):
    path = tmp_path / "events.out.tfevents.1.host"
    values = [
        (name, s, s / 400) for s in range(10, 201, 10) for name in ("loss", "coco/AP")[: 1 if s % 50 else 2]
    ]
    path.write_bytes(events(*values))
    curves = read_curves(path)
    assert (curves.get("AP").unit, [x for x, _ in points(curves, "AP")]) == ("iteration", [50, 100, 150, 200])
    assert curves.notes == ()


def test_a_series_of_which_few_values_have_an_epoch_is_counted_in_iterations(tmp_path):
    path = tmp_path / "events.out.tfevents.1.host"
    train = [("train/loss", s, 1 / s) for s in range(1, 31)]
    path.write_bytes(
        events(
            *train[:15],
            ("val/AP", 15, 0.1),
            ("epoch", 15, 0),
            *train[15:],
            ("val/AP", 30, 0.2),
            ("epoch", 30, 1),
        )
    )
    curves = read_curves(path)
    assert (curves.get("loss").unit, curves.get("loss").x.tolist()) == ("iteration", list(range(1, 31)))
    assert points(curves, "AP") == [(0, 0.1), (1, 0.2)]


def test_a_damaged_or_cut_event_file_gives_what_is_before_and_says_so(tmp_path):
    whole = events(*(("loss", step, 1.0) for step in range(1, 30)))
    one = len(events(("loss", 1, 1.0))) - len(first())
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(whole[:-5])
    curves = read_curves(path)
    assert len(points(curves, "loss")) == 28
    assert "cut off" in curves.notes[0]
    damaged = bytearray(whole)
    damaged[-2 * one - 6] ^= 1
    path.write_bytes(bytes(damaged))
    curves = read_curves(path)
    assert len(points(curves, "loss")) == 26
    assert "damaged (checksum)" in curves.notes[0]


def test_checksums_of_records_of_any_length_are_verified(tmp_path):
    """Each of another length; the one that is damaged is found, and all before it are read."""
    tags = ["t" * n for n in (1, 90, 3, 60, 2, 7, 30)]
    records = [record(step, scalar(tag, float(step))) for step, tag in enumerate(tags)]
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(first() + b"".join(records))
    whole = read_curves(path)
    assert [points(whole, tag)[0][1] for tag in tags] == list(range(7))
    for number in range(1, 7):
        damaged = [bytearray(one) for one in records]
        damaged[number][20] ^= 1
        path.write_bytes(first() + b"".join(damaged))
        curves = read_curves(path)
        assert {one.name for one in curves.series} == set(tags[:number])
        assert f"record {number + 2} " in curves.notes[0]


@pytest.mark.long
def test_checksums_of_long_records_take_seconds(tmp_path):
    """20 MB of 300 records, none as long as another: 5 s one by one, 65,536 steps together."""
    records = [framed(b"\x10\x01" + part(6, bytes(65_000 + n))) for n in range(300)]
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(first() + b"".join(records) + record(1, scalar("loss", 1.0)))
    began = time.process_time()
    assert points(read_curves(path), "loss") == [(1, 1.0)]
    assert time.process_time() - began < 3.5
